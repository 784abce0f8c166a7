# The system's clock is set an hour forward and back, twice: messages keep their order, live as long as they should,
# and a subscriber that resumes gets what it missed, once.
#
# Proves protocol.md: resuming (places), expiry.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;
use Time::HiRes qw(time);

my $t = Test::Nginx::PushStream->new(workers => 2, clock => 1)->http(<<'EOC')->run();
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    push_stream_store_messages on;
    push_stream_message_ttl 30s;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher; }
        location /sub   { push_stream_subscriber; push_stream_message_template "~id~=~text~;"; }
        location /poll  { push_stream_subscriber polling; push_stream_message_template "~id~=~text~;"; }
        location /lp    { push_stream_subscriber long-polling; push_stream_message_template "~id~=~text~;";
                          push_stream_longpolling_connection_ttl 1s; }
        location /stats { push_stream_channels_statistics; }
    }
EOC

my $stream = $t->subscribe('/sub?id=a');
my $place = $t->get('/poll?id=a', 'If-Modified-Since' => 'Thu, 26 Nov 2020 10:00:00 GMT');
my $n = 0;

sub publish_and_resume {
    my ($when) = @_;
    for (1 .. 3) {
        $n++;
        $t->publish('/pub?id=a', "m$n");
        is($stream->read_until(qr/;/), "$n=m$n;", "message $n, $when, comes live");
    }
    my $next = $t->get('/poll?id=a', since => $place);
    is($next->body, join('', map { "$_=m$_;" } $n - 2 .. $n), "a poll that resumes gets the three of them, $when");
    my $all = join '', map { "$_=m$_;" } 1 .. $n;
    is($t->subscribe('/sub?id=a.b99')->read_until(qr/=m$n;/), $all, "all are still there, $when");
    # A poll that finds nothing announces a place too.
    my $waited = $t->get('/lp?id=a', since => $next);
    is($waited->status, 304, "then nothing comes, $when");
    $place = $waited;
    return;
}

my $began = time;
publish_and_resume('before the clock is set');
for my $round (1, 2) {
    $t->set_clock(3600);
    publish_and_resume("an hour forward, round $round");
    cmp_ok($t->epoch($place->header('Last-Modified')), '>', time + 3500, 'nginx believes that clock');
    $t->set_clock(0);
    publish_and_resume("set back, round $round");
}
$t->set_clock(-3600);
publish_and_resume('an hour back');
$t->set_clock(0);

$t->set_clock(-3600);
$t->wait_for(sub { $t->stats('/stats?id=a')->{stored_messages} == 0 }, 'all of them to expire', 60);
cmp_ok(time - $began, '>=', 30, 'not before their time, and the clock keeps none of them');
is($t->get('/poll?id=a', since => $place)->status, 304, 'nothing is left');
$t->publish('/pub?id=a', 'last');
is($t->get('/poll?id=a', since => $place)->body, ++$n . '=last;', 'what comes later can be had from there');

$t->done();
