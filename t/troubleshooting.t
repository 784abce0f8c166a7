# Each symptom of docs/guide/troubleshooting.md that a configuration causes appears with it, and is gone with the cure.
#
# Proves none of them: docs/guide/troubleshooting.md. Other suites prove the sections to which it links.

use FindBin;
use lib "$FindBin::Bin/lib";
use JSON::PP;
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new(workers => 1)->http(<<'EOC')->run;
    push_stream_shared_memory_size 1m;
    push_stream_store_messages on;

    map $http_origin $known {
        default                          '';
        "~^https://.*\.example\.com$"    $http_origin;
    }
    map $http_last_event_id $place {
        ''      $arg_last;
        default $http_last_event_id;
    }
    map "$http_if_modified_since" $first {
        ''      .b10;
        default '';
    }

    server {
        listen 127.0.0.1:%%PORT_8080%%;

        location /pub    { push_stream_publisher admin; push_stream_channels_path $arg_id; }
        location /normal { push_stream_publisher; push_stream_channels_path $arg_id; }
        location /passing { push_stream_publisher; push_stream_channels_path $arg_id; push_stream_store_messages off; }

        # $1, and a map with a regular expression
        location ~ ^/taken/(.+)$            { push_stream_subscriber polling; push_stream_channels_path $1.b1;
                                              push_stream_allowed_origins $known; set $before $known; }
        location ~ ^/named/(?<channel>.+)$  { push_stream_subscriber polling; push_stream_channels_path $channel.b1;
                                              push_stream_allowed_origins $known; set $before $known; }

        location /strict { push_stream_subscriber; push_stream_channels_path $arg_id; push_stream_authorized_channels_only on; }

        # what a cache may keep
        location /kept   { push_stream_subscriber polling; push_stream_channels_path $arg_id.b1; expires 1h; }
        location /fresh  { push_stream_subscriber polling; push_stream_channels_path $arg_id.b1; expires 1h;
                           location /fresh/off { expires off; push_stream_subscriber polling; push_stream_channels_path $arg_id.b1; } }

        # the place in the address of an EventSource
        location /again  { push_stream_subscriber eventsource; push_stream_channels_path $arg_id;
                           push_stream_last_received_message_time $arg_time; push_stream_last_received_message_tag $arg_tag; }
        location /once   { push_stream_subscriber eventsource; push_stream_channels_path $arg_id; push_stream_cursor on;
                           push_stream_last_received_message_time $arg_time; push_stream_last_received_message_tag $arg_tag;
                           push_stream_last_event_id $place; }

        # a backtrack in the path of a poll
        location /same   { push_stream_subscriber polling; push_stream_channels_path $arg_id.b10; push_stream_message_template "~text~\n"; }
        location /next   { push_stream_subscriber polling; push_stream_channels_path $arg_id$first; push_stream_message_template "~text~\n"; }

        # JSON
        location /broken { push_stream_subscriber polling; push_stream_channels_path $arg_id.b1;
                           push_stream_message_template '{"text":"~text~"}'; }
        location /valid  { push_stream_subscriber polling; push_stream_channels_path $arg_id.b1;
                           push_stream_message_template '{"text":~json:text~}'; }

        # empty lines, and marks between messages
        location /lines  { push_stream_subscriber eventsource; push_stream_channels_path $arg_id.b1;
                           location /lines/kept { push_stream_subscriber eventsource; push_stream_channels_path $arg_id.b1;
                                                  push_stream_eventsource_blank_lines keep; } }
        location /joined { push_stream_subscriber polling; push_stream_channels_path $arg_id.b2; }
    }
EOC

$t->publish('/pub?id=news', $_) for qw(one two);
my @origin = (Origin => 'https://www.example.com');

# ---- publishing

is($t->post('/pub?id=news', '')->explain, 'Empty post requests are not allowed.', 'an empty body');
is($t->post('/pub', 'x')->explain, 'No channel id provided.', 'an empty path');
is($t->delete('/normal?id=news')->status, 405, 'DELETE where the location is not for it');

# ---- nothing arrives

is($t->get('/taken/news', @origin)->explain, 'No channel id provided.', 'a map has taken the place of $1');
is($t->get('/named/news', @origin)->body, 'two', 'a named group keeps its own');
is($t->get('/strict?id=empty')->explain, 'Subscriber could not create channels.', 'a channel without stored messages');
$t->publish('/passing?id=empty', 'x');
is($t->get('/strict?id=empty')->explain, 'Subscriber could not create channels.', 'a message that is not stored is not enough');
$t->publish('/pub?id=empty', 'x');
my $stream = $t->subscribe('/strict?id=empty');
is($stream->status, 200, 'a stored one is');
$stream->close;
$t->publish('/pub?id=a%20b', 'x');
is($t->post('/pub?id=a+b', 'x')->body =~ /"channel": "([^"]+)"/ && $1, 'a+b', 'a plus is no space');
unlike($t->get('/kept?id=news')->header('Cache-Control'), qr/no-store/, 'an inherited "expires" lets a browser keep answers');
like($t->get('/fresh/off?id=news')->header('Cache-Control'), qr/no-store/, '"expires off" does not');

# ---- twice

my $time = 'time=Thu,%2001%20Jan%201970%2000:00:01%20GMT';
sub events { my ($where, $until, @more) = @_;
    my $events = $t->subscribe($where, @more);
    my $text = $events->read_until($until);
    $events->close;
    return $text }
my $first = events("/again?id=news&$time", qr/data: two\n\n/);
like(events("/again?id=news&$time", qr/data: two\n\n/, 'Last-Event-ID' => 'x'), qr/data: one/, 'a time in the address brings old events again');
my ($cursor) = events("/once?id=news&$time", qr/data: two\n\n/) =~ /^id: (.*)\ndata: two$/m;
$t->publish('/pub?id=news', 'three');
unlike(events("/once?id=news&$time", qr/data: three\n\n/, 'Last-Event-ID' => $cursor), qr/data: (?:one|two)/, 'with a cursor it does not');

for (['/same', "one\ntwo\nthree\n"], ['/next', undef]) {
    my ($where, $again) = @$_;
    my $last = $t->get("$where?id=news");
    is($last->body, "one\ntwo\nthree\n", "$where: the first poll");
    my $next = $t->get("$where?id=news", since => $last);
    is($next->status == 304 ? undef : $next->body, $again, "$where: the second one");
}

# ---- wrong text

$t->publish('/pub?id=quoted', qq(say "hi"\n\nand go\n));
ok(!eval { decode_json($t->get('/broken?id=quoted')->body) }, 'a quote in "~text~" breaks JSON');
is(decode_json($t->get('/valid?id=quoted')->body)->{text}, qq(say "hi"\n\nand go\n), '~json:text~ does not');
is(() = events('/lines?id=quoted', qr/and go\n/) =~ /^data:/mg, 2, 'empty lines are left out');
is(() = events('/lines/kept?id=quoted', qr/and go\ndata: \n/) =~ /^data:/mg, 4, 'or kept');
is($t->get('/joined?id=news')->body, 'twothree', 'messages run into each other without a mark');

# ---- a full zone

my $answers = $t->publish_many('/pub?id=full', 5000, body => 'x' x 1000, until => sub { $_[0] == 500 });
ok($answers->{500}, 'a full zone refuses a publish with 500');
ok($t->wait_log(qr/\[error\] [^\n]*push stream: the zone is full/), 'and the log says so');
$t->finish;

# ---- installing

sub refusal { my ($text, %o) = @_; my ($ok, $said) = Test::Nginx::PushStream->new(%o)->try_config($text); return $ok ? 'accepted' : $said }

my $server = 'server { listen 127.0.0.1:%%PORT_8080%%; location /pub { push_stream_publisher; push_stream_channels_path a; } }';
like(refusal($server), qr/push_stream_shared_memory_size must be set/, 'no size of the zone');
like(refusal("push_stream_shared_memory_size 1m; $server", module => 0), qr/unknown directive "push_stream_shared_memory_size"/, 'the module is not loaded');
like(refusal("push_stream_shared_memory_size 1m; $server", main => 'load_module ' . Test::Nginx::PushStream::module_path() . ';'),
    qr/module "ngx_http_push_stream_module" is already loaded/, 'it is loaded twice');

done_testing();
