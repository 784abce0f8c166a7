# Polling: answers at once, with messages or with 304, and is never counted as a subscriber.
#
# Proves protocol.md: polling, resuming (inputs), subscriber-requests (channels are created), notices.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    push_stream_store_messages on;
    push_stream_events_channel_id events;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher; }
        location /poll  { push_stream_subscriber polling; push_stream_header_template "H"; push_stream_footer_template "F"; }
        location /args  { push_stream_subscriber polling;
                          push_stream_last_received_message_time $arg_time;
                          push_stream_last_received_message_tag $arg_tag; }
        location /stats { push_stream_channels_statistics; }
    }
EOC

my $none = $t->get('/poll?id=a');
is($none->status, 304, 'nothing to send');
ok(!defined $none->header('Last-Modified') && !defined $none->header('Etag'), 'and nothing said, nothing echoed');
is($none->body, '', 'no body');
is($t->stats('/stats?id=a')->{subscribers}, 0, 'the channel exists, without subscribers');

my $echo = $t->get('/poll?id=a', 'If-Modified-Since' => 'Thu, 26 Nov 2020 10:00:00 GMT', 'If-None-Match' => 'W/7');
is($echo->header('Last-Modified'), 'Thu, 26 Nov 2020 10:00:00 GMT', 'the time is echoed');
is($echo->header('Etag'), 'W/7', 'and the tag');

$t->publish('/pub?id=a', $_) for 'one', 'two';
is($t->get('/poll?id=a')->status, 304, 'old messages come only if asked for');
my $all = $t->get('/poll?id=a', 'If-Modified-Since' => 'Thu, 26 Nov 2020 10:00:00 GMT');
is($all->status, 200, 'asked for');
is($all->body, 'HonetwoF', 'all since then, in one answer');
my $then = $t->get('/poll?id=a', since => $all);
is($then->status, 304, 'and then nothing more');
is($then->header('Etag'), $all->header('Etag'), 'at the same place');

$t->publish('/pub?id=a', 'three');
is($t->get('/poll?id=a', since => $all)->body, 'HthreeF', 'until something comes');

my $time = $all->header('Last-Modified') =~ s/ /%20/gr;
my $tag  = $all->header('Etag') =~ s/W\///r;
is($t->get("/args?id=a&time=$time&tag=$tag")->body, 'three', 'the same by arguments');
is($t->get('/args?id=a', since => $all)->status, 304, 'then the headers are not looked at');

# a gap must not open between channels: the cursor is one for all of them
$t->publish('/pub?id=b', 'b1');
my $both = $t->get('/poll?id=a/b', since => $all);
is($both->body, 'Hthreeb1F', 'several channels, in request order');
is($t->get('/poll?id=a/b', since => $both)->status, 304, 'nothing twice');
is($t->get('/poll?id=a/b/c.b9', since => $both)->status, 304, 'a new channel has nothing');

is($t->stats->{subscribers}, 0, 'never counted');
my $events = $t->stats('/stats?id=events');
is($events->{published_messages}, 3, 'three channels were created, nobody subscribed');
$t->done();
