# The README shows a file that runs, commands that do what it says, and figures that other documents have.
#
# Proves none of them: README.md, docs/compared.md and docs/guide/production.md.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $root = "$FindBin::Bin/..";
sub slurp { local (@ARGV, $/) = "$root/$_[0]"; return scalar <> }

my $readme = slurp('README.md');
my ($shown) = $readme =~ /^```nginx\n(.*?)^```$/ms;
my $basic = slurp('nginx-conf/basic.conf');
is($shown, $basic =~ s/\A(?:#.*\n)+\n//r, 'the configuration is nginx-conf/basic.conf');

# ---- the commands below it

my ($http) = $basic =~ /^http \{\n(.*)^\}/ms;
my $t = Test::Nginx::PushStream->new->http($http =~ s/127\.0\.0\.1:9080/127.0.0.1:%%PORT_8080%%/gr)->run;
my ($commands) = $readme =~ /^```\n(curl .*?)^```$/ms;
my ($listen, $publish, $statistics) = $commands =~ m{(?:^|')[^']*?http://127\.0\.0\.1:9080([^'\s]*)}mg;
is_deeply([$listen, $publish, $statistics], ['/sub/news', '/pub?id=news', '/channels-stats'], 'there are three commands');
my $stream = $t->subscribe($listen);
is($t->publish($publish, 'hello')->body, qq({"channel": "news", "published_messages": 1, "stored_messages": 0, "subscribers": 1}\r\n), 'one publishes');
is($stream->read_until(qr/hello/), 'hello', 'one prints the message');
like($t->get($statistics)->body, qr/"published_messages": 1\b.*"by_worker"/s, 'one shows statistics');
$t->finish;

# ---- figures: each has been measured

my $measured = join "\n", map { slurp("docs/$_") } qw(benchmarks.md testing.md);
my %is_measured = map { tr/,//dr => 1 } $measured =~ /(?<![\d.])(\d[\d,]*(?:\.\d+)?)/g;
my ($why) = $readme =~ /^## Why this one\n(.*?)^## /ms;
my ($speed) = slurp('docs/compared.md') =~ /^## Speed and memory[^\n]*\n(.*?)^The last line is/ms;
for (['README.md', $why], ['docs/compared.md', join "\n", map {/^\|(?:.*?)\|(.*)/} split /\n/, $speed]) {
    my ($name, $text) = @$_;
    my @figures = map { tr/,//dr } $text =~ /(?<![\w.-])(\d[\d,]*(?:\.\d+)?)(?: (?:µs|bytes|s\b|deliveries|workers killed|for)| \|)/g;
    ok(@figures >= 7, "$name has figures");
    is_deeply([grep { !$is_measured{$_} } @figures], [], "$name: they were measured");
}

done_testing();
