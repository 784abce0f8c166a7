# Each answer has one Expires and one Cache-Control, in the places where nginx and other modules look for
# them, so nginx's directive "expires" replaces them. Refusals and the 101 of a WebSocket keep the module's
# own.
#
# Proves protocol.md: common-headers.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my @ours  = ('Thu, 01 Jan 1970 00:00:01 GMT', 'no-cache, no-store, must-revalidate');
my $date  = qr/\A\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT\z/;
my %level = (
    none   => [ '',                              @ours ],
    off    => [ 'expires off;',                  @ours ],
    past   => [ 'expires -1;',                   $date, 'no-cache' ],
    hour   => [ 'expires 1h;',                   $date, 'max-age=3600' ],
    epoch  => [ 'expires epoch;',                'Thu, 01 Jan 1970 00:00:01 GMT', 'no-cache' ],
    max    => [ 'expires max;',                  'Thu, 31 Dec 2037 23:55:55 GMT', 'max-age=315360000' ],
    chosen => [ 'expires $chosen;',              $date, 'max-age=60' ],
);
my $locations = join '', map { <<"EOC" =~ s/LEVEL/$_/gr } sort keys %level;
        location /LEVEL/ {
            $level{$_}[0]
            add_header X-Seen "\$sent_http_expires|\$sent_http_cache_control" always;
            location /LEVEL/pub   { push_stream_publisher admin; push_stream_store_messages on; }
            location /LEVEL/sub   { push_stream_subscriber; push_stream_header_template H; }
            location /LEVEL/ev    { push_stream_subscriber eventsource; }
            location /LEVEL/poll  { push_stream_subscriber polling; }
            location /LEVEL/lp    { push_stream_subscriber long-polling; push_stream_longpolling_connection_ttl 1s; }
            location /LEVEL/ws    { push_stream_subscriber websocket; }
            location /LEVEL/stats { push_stream_channels_statistics; }
            location /LEVEL/audit { push_stream_audit on; }
        }
EOC

my $t = Test::Nginx::PushStream->new->http(<<"EOC")->run();
    push_stream_shared_memory_size 1m;
    push_stream_channels_path \$arg_id;
    map \$arg_id \$chosen { default 1m; }
    log_format f '\$request_uri \$status \$sent_http_expires|\$sent_http_cache_control';
    access_log %%TESTDIR%%/access.log f;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
$locations
        location /add  { push_stream_subscriber polling; add_header Cache-Control private; }
        location /gz   { push_stream_channels_statistics; gzip on; gzip_types application/json; gzip_min_length 1; gzip_proxied expired; }
        location /from { add_header X-Accel-Redirect /none/poll?id=a; add_header Cache-Control private; return 200; }
        location /via  { proxy_pass http://127.0.0.1:%%PORT_8080%%/from; }
    }
EOC

sub has {
    my ($answer, $status, $expires, $control, $name) = @_;
    is($answer->status, $status, "$name: status");
    my @expires = $answer->header_all('Expires');
    my @control = $answer->header_all('Cache-Control');
    ref $expires ? like("@expires", $expires, "$name: Expires") : is("@expires", $expires, "$name: Expires");
    is(join(' + ', @control), $control, "$name: Cache-Control");
    my ($seen) = $answer->header_all('X-Seen');
    is($seen, "@expires|@control", "$name: the variables say the same") if $status != 101;
    return;
}

for my $level (sort keys %level) {
    my ($directive, @theirs) = @{ $level{$level} };
    my $at = "/$level";
    # answers on which "expires" acts
    has($t->post("$at/pub?id=a", 'x'), 200, @theirs, "$level: a publish");
    has($t->options("$at/pub?id=a"), 200, @theirs, "$level: OPTIONS to a publisher");
    has($t->get("$at/pub?id=a"), 200, @theirs, "$level: channel info");
    has($t->get("$at/stats"), 200, @theirs, "$level: statistics");
    has($t->get("$at/audit"), 200, @theirs, "$level: an audit");
    my %since = ('If-Modified-Since' => 'Thu, 01 Jan 1970 00:00:00 GMT');
    for my $mode (qw(poll lp)) {
        has($t->get("$at/$mode?id=a", %since), 200, @theirs, "$level: $mode with messages");
        has($t->get("$at/$mode?id=a"), 304, @theirs, "$level: $mode without");
    }
    has($t->get("$at/sub?id=a", %since, 'X-Nginx-PushStream-Mode' => 'polling'), 200, @theirs, "$level: a stream polled");
    for my $mode (qw(sub ev)) {
        my $s = $t->subscribe("$at/$mode?id=b");
        has($s, 200, @theirs, "$level: $mode");
        $s->close;
    }
    my $waiting = $t->poll("$at/lp?id=c");
    $t->wait_subscribers("$at/stats?id=c", 1);
    $t->publish("$at/pub?id=c", 'y');
    has($waiting, 200, @theirs, "$level: a long poll that waited");
    has($t->delete("$at/pub?id=c"), 200, @theirs, "$level: a deletion");

    # refusals
    has($t->get("$at/pub?id=none"), 404, @ours, "$level: no channel");
    has($t->post("$at/pub", 'x'), 400, @ours, "$level: no channel id");
    has($t->post("$at/pub?id=ALL", 'x'), 403, @ours, "$level: a channel that nobody may have");
    has($t->request('PATCH', "$at/$_?id=a"), 405, @ours, "$level: another method at $_") for qw(pub stats sub poll);
    has($t->get("$at/sub"), 400, @ours, "$level: a subscriber without a channel");
    has($t->get("$at/lp?id=a&callback=-"), 400, @ours, "$level: an impossible callback");
    has($t->get("$at/ws?id=a"), 400, @ours, "$level: no handshake");
    my $ws = $t->websocket("$at/ws?id=a");
    has($ws->exchange, 101, @ours, "$level: a WebSocket");
    $ws->close;
}

# ---- the log sees them too

my @logged;
$t->wait_for(sub {
    @logged = split /\n/, do { local (@ARGV, $/) = $t->dir . '/access.log'; <> };
    return 7 == grep { m{/ws\?id=a 101 } } @logged;
}, 'the log of each WebSocket');
for my $level (sort keys %level) {
    my ($directive, @theirs) = @{ $level{$level} };
    my ($poll) = grep { m{^/$level/poll\?id=a 304 } } @logged;
    like($poll, qr/\Q$theirs[1]\E$/, "$level: the log knows the Cache-Control of a poll");
    my ($socket) = grep { m{^/$level/ws\?id=a 101 } } @logged;
    is($socket, "/$level/ws?id=a 101 $ours[0]|$ours[1]", "$level: and those of a WebSocket");
}

# ---- others add to them, look at them, or were there before

my $added = $t->get('/add?id=a');
is(join(' + ', $added->header_all('Cache-Control')), "$ours[1] + private", 'add_header adds a value to the list');
is(join(' + ', $added->header_all('Expires')), $ours[0], 'and nothing else');
is($t->get('/gz', Via => '1.1 proxy', 'Accept-Encoding' => 'gzip')->header('Content-Encoding'), 'gzip',
    'gzip_proxied sees that the answer has expired');
my $redirected = $t->get('/via');
is($redirected->status, 304, 'an application redirects to a poll');
is(join(' + ', $redirected->header_all('Cache-Control')), 'private', 'what it has set already stays');
is(join(' + ', $redirected->header_all('Expires')), $ours[0], 'what it has not set is set');

$t->done();
