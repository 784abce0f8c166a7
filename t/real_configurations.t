# Configurations as real sites have them load with the warnings that the manual lists, and deliver. They are rebuilt
# in our own words, in t/real/: a Bitrix site in two dialects, a player on a small machine, a certificate authority.
#
# Proves directives.md: old-configurations.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

sub started {
    my ($name) = @_;
    my $text = do { local (@ARGV, $/) = "$FindBin::Bin/real/$name.conf"; <> };
    return Test::Nginx::PushStream->new(workers => 2)->http($text)->run;
}

# The directives that nginx warns about, each once.
sub warned {
    my ($t) = @_;
    my %seen;
    return join ' ', sort grep { !$seen{$_}++ }
        map { /"(?:set )?\$?push_stream_(\w+)"/ ? $1 : "other: $_" } $t->output =~ /\[warn\] (.*)/g;
}

# ---- Bitrix

for my $site (
    ['bitrix-0.3.4', 'channel_id channels_path content_type keepalive max_channel_id_length'
        . ' max_message_buffer_length max_reserved_memory memory_cleanup_timeout'
        . ' min_message_buffer_timeout publisher_admin websocket'],
    ['bitrix-0.4.0', ''],
) {
    my ($name, $warnings) = @$site;
    my $t = started($name);
    is(warned($t), $warnings, "$name: what it warns about");

    # A page may listen only to what the site has published to.
    is($t->get('/bitrix/sub?CHANNEL_ID=abc')->status, 403, "$name: an unknown channel is refused");
    is($t->publish('/bitrix/pub?CHANNEL_ID=abc', '{"n":1}')->status, 200, "$name: the site publishes");
    my $poll = $t->get('/bitrix/sub?CHANNEL_ID=abc&time=Thu,%2001%20Jan%201970%2000:00:00%20GMT&tag=0');
    my $frame = qr/"id":1,"channel":"abc","tag":"1","time":"[^"]+ GMT",(?:"eventid":"",)?"text":\{"n":1\}/;
    like($poll->body, $frame, "$name: a poll gets what is stored");

    my $waiting = $t->poll('/bitrix/sub?CHANNEL_ID=abc', since => $poll);
    my $socket = $t->websocket('/bitrix/ws?CHANNEL_ID=abc');
    is($socket->status, 101, "$name: a socket opens");
    ok($t->wait_for(sub { ($t->get('/bitrix/stat?CHANNEL_ID=abc')->body // '') =~ /"subscribers": "?2/ }, 'both'),
        "$name: both listen");
    $t->publish('/bitrix/pub?CHANNEL_ID=abc', '{"n":2}');
    like($waiting->body, qr/"text":\{"n":2\}/, "$name: the poll is answered");
    is($socket->text, '{"id":2,"text":{"n":2}}', "$name: so is the socket");
    is($t->delete('/bitrix/pub?CHANNEL_ID=abc')->status, 200, "$name: the site deletes the channel");
    $t->finish;
}

# ---- a player

my $t = started('player');
is(warned($t), '', 'player: no warning');
my @pages = map { $t->websocket('/ws/volume/playback') } 1 .. 3;
ok($t->wait_for(sub { ($t->get('/push-stats?id=volume')->body // '') =~ /"subscribers": "?3/ }, 'three pages'),
    'player: three pages listen to two channels');
$t->publish('/pub?id=volume', '{"val":40}');
is($_->text, '{"id":1,"channel":"volume","text":{"val":40}}', 'player: a program sets the volume') for @pages;
$t->finish;

# ---- an authority

$t = started('authority');
is(warned($t), '', 'authority: no warning');
my $events = $t->subscribe('/ev/sub/3f9c7a');
$t->publish('/ev/pub/3f9c7a', 'signed', 'Event-Type' => 'request-signed', port => 8081);
$events->read_until(qr/data: signed/);
like($events->so_far, qr/event: request-signed\r?\ndata: signed/, 'authority: EventSource gets an event with its type');
my $poll = $t->get('/lp/sub/3f9c7a', 'If-Modified-Since' => 'Thu, 01 Jan 1970 00:00:00 GMT');
is($poll->body, 'signed', 'authority: an old browser polls it');
is($t->post('/lp/pub/3f9c7a', 'x')->status, 404, 'authority: nobody publishes on the port of subscribers');

$t->done;
