# push_stream_last_received_message_time, _tag and push_stream_last_event_id take the place of the headers.
#
# Proves protocol.md: resuming (inputs), values-from-the-request.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    push_stream_message_template "~text~;";
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher; push_stream_store_messages on; }
        location /info  { push_stream_subscriber; push_stream_message_template "~time~|~tag~"; }
        location /args  { push_stream_subscriber;
                          push_stream_last_received_message_time $arg_time;
                          push_stream_last_received_message_tag  $arg_tag;
                          push_stream_last_event_id              $arg_event; }
        location /if    { push_stream_subscriber;
                          if ($arg_time) { push_stream_last_received_message_time $arg_time; }
                          if ($arg_event) { push_stream_last_event_id $arg_event; } }
        location /other { push_stream_subscriber; push_stream_last_event_id $http_x_last; }
    }
EOC

$t->publish('/pub?id=z', 'END');
sub replay {
    my ($uri, @headers) = @_;
    $uri =~ s/id=a/id=a%2Fz.b1/;
    my $s = $t->subscribe($uri, @headers);
    my $got = $s->read_until(qr/END;/) // 'nothing';
    $s->close;
    return $got =~ s/END;//r;
}

$t->publish('/pub?id=a', 'A', 'Event-Id' => 'e 1');
$t->publish('/pub?id=a', 'B');
$t->publish('/pub?id=a', 'C');
my ($time, $tag) = split /\|/, $t->subscribe('/info?id=a.b1')->next_chunk;
my $past = 'Thu, 01 Jan 1970 00:00:00 GMT';
sub arg { my ($text) = @_; return $text =~ s/([^A-Za-z0-9])/sprintf '%%%02X', ord $1/ger }

is(replay('/args?id=a'), '', 'nothing given');
is(replay('/args?id=a&time=' . arg($past)), 'A;B;C;', 'a time by argument, decoded once');
is(replay('/args?id=a&time=' . arg($time) . "&tag=$tag"), '', 'time and tag of the last message');
is(replay('/args?id=a&time=' . arg($time) . '&tag=W%2F' . $tag), '', 'tag with W/');
is(replay('/args?id=a&event=e%201'), 'B;C;', 'an event id by argument');
is(replay('/args?id=a', 'If-Modified-Since' => $past, 'If-None-Match' => 'W/0', 'Last-Event-Id' => 'e 1'), '',
    'headers are not consulted where a directive is set, even if it is empty');
is(replay('/args?id=a&event=e%201', 'Last-Event-Id' => 'zz'), 'B;C;', 'nor where it is not');

is(replay('/if?id=a', 'If-Modified-Since' => $past), 'A;B;C;', 'outside of the if the header counts');
is(replay('/if?id=a&time=' . arg($t->http_date(time + 1000)), 'If-Modified-Since' => $past), '', 'inside the directive');
is(replay('/if?id=a&event=e%201'), 'B;C;', 'another if');

is(replay('/other?id=a', 'X-Last' => 'e%201'), 'B;C;', 'any variable, decoded once');
is(replay('/other?id=a', 'If-Modified-Since' => $past), 'A;B;C;', 'the other headers still count');

$t->done();
