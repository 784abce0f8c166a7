# Last-Event-Id resumes behind the message with that event id.
#
# Proves protocol.md: resuming (event id).

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub  { push_stream_publisher; push_stream_store_messages on; }
        location /sub  { push_stream_subscriber; push_stream_message_template "~text~;"; }
    }
EOC

$t->publish('/pub?id=z', 'END');
sub replay {
    my ($path, @headers) = @_;
    my $s = $t->subscribe("/sub?id=$path/z.b1", @headers);
    my $got = $s->read_until(qr/END;/) // 'nothing';
    $s->close;
    return $got =~ s/END;//r;
}

$t->publish('/pub?id=a', 'A', 'Event-Id' => 'e1');
$t->publish('/pub?id=a', 'B', 'Event-Id' => 'e 2');
$t->publish('/pub?id=a', 'C');
$t->publish('/pub?id=a', 'D', 'Event-Id' => 'e3');
$t->publish('/pub?id=a', 'E', 'Event-Id' => 'e1');
$t->publish('/pub?id=a', 'F');

is(replay('a', 'Last-Event-Id' => 'e 2'), 'C;D;E;F;', 'behind the event id');
is(replay('a', 'Last-Event-Id' => 'e1'), 'B;C;D;E;F;', 'the oldest message with that id decides');
is(replay('a', 'Last-Event-Id' => 'e3'), 'E;F;', 'the last but two');
is(replay('a', 'Last-Event-Id' => $_), '', "not found: $_") for 'zz', 'e', 'E1', 'e11', 'e 2 3';
is(replay('a', 'Last-Event-Id' => ''), '', 'an empty one is none');
is(replay('a', 'LAST-EVENT-ID' => 'e3'), 'E;F;', 'any case of the name');

my $past = 'Sun, 06 Nov 1994 08:49:37 GMT';
is(replay('a', 'Last-Event-Id' => 'e3', 'If-Modified-Since' => $past), 'A;B;C;D;E;F;',
    'with a time the message that satisfies either comes first');
my $future = $t->http_date(time + 1000);
is(replay('a', 'Last-Event-Id' => 'e3', 'If-Modified-Since' => $future), 'E;F;', 'found before the time is reached');
is(replay('a', 'Last-Event-Id' => 'zz', 'If-Modified-Since' => $past), 'A;B;C;D;E;F;', 'not found, the time counts');
is(replay('a.b2', 'Last-Event-Id' => 'e 2'), 'E;F;', 'a backtrack overrules it');

$t->publish('/pub?id=b', 'G', 'Event-Id' => 'e3');
$t->publish('/pub?id=b', 'H');
is(replay('b/a', 'Last-Event-Id' => 'e3'), 'H;E;F;', 'each channel on its own');

# live messages follow at once
my $s = $t->subscribe('/sub?id=a', 'Last-Event-Id' => 'e3');
$t->publish('/pub?id=a', 'live');
is(join('|', map { $s->next_chunk } 1 .. 3), 'E;|F;|live;', 'then live, each a chunk');

$t->done();
