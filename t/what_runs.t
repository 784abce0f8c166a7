# A start writes one line that says which module runs: version, commit, and the nginx it was built for. The same
# text is in the module's file, and the version and the commit in statistics.
#
# Proves none of them: docs/guide/install.md, "What runs".

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new(workers => 2)->http(<<'EOC')->run;
    push_stream_shared_memory_size 1m;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /stats { push_stream_channels_statistics; push_stream_channels_path $arg_id; }
    }
EOC

my $says = qr/ngx_http_push_stream_module (\S+), commit ([0-9a-f]{40}), built for nginx ([0-9.]+)/;
my $line = qr/\[notice\] [^\n]*: push stream: $says\n/;
my ($version, $commit, $nginx) = $t->log =~ $line or diag $t->log;

sub lines { my @lines = $t->log =~ /^.*\[notice\].* built for nginx .*$/mg; return scalar @lines }

is($nginx, Test::Nginx::PushStream::nginx_version(), 'built for the nginx that runs');
my $stats = $t->get('/stats');
is($stats->header('X-Nginx-PushStream-Tag'), $version, 'the version is that of statistics');
is($stats->header('X-Nginx-PushStream-Commit'), $commit, 'so is the commit');
is(lines(), 1, 'one line, not one for each worker');

my $module = do { local (@ARGV, $/) = Test::Nginx::PushStream::module_path(); <> };
is(join(' ', $module =~ /\0$says\0/), "$version $commit $nginx", 'the file says the same, on a line of its own');

$t->reload;
is(lines(), 2, 'a reload says again which module goes on');

$t->done;
