# Which level decides between a message template and messages as JSON, what contradicts itself, and words for JSON
# that do not exist.
#
# Proves directives.md: push_stream_message_format, push_stream_message_template, start-up-checks.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;
use Test::Nginx::PushStream::Config;

my $c = Test::Nginx::PushStream::Config->new;
my $sub = 'push_stream_subscriber;';
my $json = 'push_stream_message_format json;';
my $both = qr/push_stream_message_template and push_stream_message_format json exclude each other in \S+:\d+/;

for my $level (qw(http server location)) {
    my $at = sub { my ($lines) = @_; my %conf = (location => $sub); $conf{$level} .= $lines; return \%conf };
    $c->refuses($at->("$json push_stream_message_template a;"),
        qr/"push_stream_message_template" directive cannot be used: $both/, "JSON, then a template in $level");
    $c->refuses($at->("push_stream_message_template a; $json"),
        qr/"push_stream_message_format" directive cannot be used: $both/, "a template, then JSON in $level");
    $c->accepts($at->('push_stream_message_format template; push_stream_message_template a;'), "both mean a template in $level");
}
$c->accepts({ http => 'push_stream_message_template "";', location => "$sub $json" }, 'JSON needs no template');
$c->refuses({ http => $json, location => "$sub push_stream_message_template '';" },
    qr/push_stream_message_template cannot be blank/, 'an inner template does');

for my $word (qw(~json:id~ ~json:texts~ ~JSON:time~ ~json:~ ~json:text)) {
    $c->refuses("$sub push_stream_message_template '<~text~ $word';",
        qr/\[error\] .*push stream module: invalid push_stream_message_template value: \Q$word\E, accepted words \(~json:text~, ~json:channel~, ~json:event-id~, ~json:event-type~\) in \S+:\d+/,
        "refuses $word");
}
$c->accepts("$sub push_stream_message_template '~json:text~ ~JSON:Event-Id~ ~~json:channel~ ~json:event-type~ ~json~ json:x';", 'takes the words');

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 1m;
    push_stream_channels_path a;
    push_stream_store_messages on;
    push_stream_message_template '<~text~>';
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub { push_stream_publisher; }
        location /template { push_stream_subscriber polling; }
        location /in/ {
            push_stream_message_format json;
            location /in/json     { push_stream_subscriber polling; }
            location /in/template { push_stream_subscriber polling; push_stream_message_template '[~text~]'; }
            location /in/outer    { push_stream_subscriber polling; push_stream_message_format template; }
        }
    }
EOC
$t->publish('/pub', 'x');
my $all = sub { $t->get($_[0], 'If-Modified-Since' => 'Thu, 01 Jan 1970 00:00:00 GMT')->body };
is($all->('/template'), '<x>', 'a template of http');
like($all->('/in/json'), qr/\A\{"id":1,.*"text":"x"\}\n\z/, 'JSON of the inner level');
is($all->('/in/template'), '[x]', 'a template of a level inside that');
is($all->('/in/outer'), '<x>', 'the word template brings the outer template back');
$t->finish;

$c->done;
