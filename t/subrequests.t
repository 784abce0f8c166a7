# What ends by itself may be part of another response: polls, statistics and publishers in a subrequest.
#
# Streams may not; see the log for that. For auth_request nginx's manual decides: a 2xx lets in, and no byte of
# that answer goes out.
#
# Proves directives.md: subrequests.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;
use Test::Nginx::PushStream::Http2;

my $has_addition = Test::Nginx::PushStream->has_feature('http_addition_module');
my $has_auth     = Test::Nginx::PushStream->has_feature('http_auth_request_module');
my $has_http2    = Test::Nginx::PushStream->has_feature('http_v2_module');

my $optional = '';
$optional .= <<'EOC' if $has_addition;
        location = /before { push_stream_subscriber long-polling; push_stream_channels_path before; push_stream_message_template "~text~;"; }
        location = /after  { push_stream_subscriber polling; push_stream_channels_path a.b1; }
        location /added    { alias %%TESTDIR%%/page.txt; add_before_body /before; add_after_body /after; addition_types *; }
        location /inside   { push_stream_subscriber; add_before_body /before; addition_types *; }
EOC
$optional .= <<'EOC' if $has_auth;
        location = /gate-gate  { push_stream_subscriber polling; push_stream_channels_path gate; push_stream_allowed_origins "*"; }
        location = /gate-bell  { push_stream_subscriber long-polling; push_stream_channels_path bell; }
        location = /gate-brief { push_stream_subscriber long-polling; push_stream_channels_path brief; push_stream_longpolling_connection_ttl 500ms; }
        location = /gate-large { push_stream_subscriber polling; push_stream_channels_path large.b10; push_stream_header_template HEAD; }
        location = /gate-limit { push_stream_subscriber polling; push_stream_channels_path unheard; push_stream_authorized_channels_only on; }
        location = /gate-info  { push_stream_publisher; push_stream_channels_path a; }
        location = /gate-gone  { push_stream_publisher; push_stream_channels_path unheard; }
        location = /gate-stats { push_stream_channels_statistics; push_stream_channels_path ""; }
        location = /gate-sub   { push_stream_subscriber; push_stream_channels_path a.b1; }
EOC
if ($has_auth) {
    $optional .= "location /door/$_ { auth_request /gate-$_; auth_request_set \$seen \$sent_http_cache_control; add_header X-Seen \$seen; alias %%TESTDIR%%/page.txt; }\n"
        for qw(gate bell brief large limit info gone stats sub);
}
my $server2 = $has_http2 ? 'listen 127.0.0.1:%%PORT_8082%% http2;' : '';

my $t = Test::Nginx::PushStream->new(workers => 2)->http(<<"EOC" . <<'EOC' . $optional . "    }\n")->run();
    push_stream_shared_memory_size 8m;
    log_format f '\$request_uri \$uri \$status \$push_stream_mode \$push_stream_messages_sent \$push_stream_close_reason';
    access_log %%TESTDIR%%/access.log f;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        $server2
EOC
        push_stream_channels_path $arg_id;
        default_type text/plain;
        types { text/html html; text/plain txt; }
        location /pub    { push_stream_publisher admin; push_stream_store_messages on; }
        location /live   { push_stream_publisher; }
        location /info   { push_stream_publisher; }
        location /sub    { push_stream_subscriber; }
        location /ev     { push_stream_subscriber eventsource; }
        location /ws     { push_stream_subscriber websocket; }
        location /poll   { push_stream_subscriber polling; push_stream_header_template "<"; push_stream_footer_template ">";
                           push_stream_message_template "~text~;"; }
        location /lp     { push_stream_subscriber long-polling; push_stream_message_template "~text~;"; }
        location /hasty  { push_stream_subscriber long-polling; push_stream_message_template "~text~;"; send_timeout 500ms; }
        location /logged { push_stream_subscriber polling; log_subrequest on; }
        location /ttl    { push_stream_subscriber long-polling; push_stream_longpolling_connection_ttl 500ms; }
        location /stats  { push_stream_channels_statistics; }
        location /audit  { push_stream_audit on; }
        location /ssi/   { ssi on; alias %%TESTDIR%%/; subrequest_output_buffer_size 64k; }
        location /mirror { mirror /pub; mirror_request_body on; proxy_pass http://127.0.0.1:%%PORT_8080%%/live; }
        location /echo   { mirror /lp; alias %%TESTDIR%%/page.txt; }
        location /echosub { mirror /sub; alias %%TESTDIR%%/page.txt; }
EOC

my %pages;
sub page {
    my ($text) = @_;
    my $name = $pages{$text} //= 'page' . (1 + keys %pages) . '.html';
    $t->write_file($name, $text);
    return "/ssi/$name";
}
sub include { my ($uri, $more) = @_; return qq{<!--# include virtual="$uri"} . ($more // '') . ' -->' }

$t->write_file('page.txt', "the page\n");
my $epoch = 'If-Modified-Since';
my @all = ($epoch => 'Thu, 01 Jan 1970 00:00:00 GMT');
$t->publish('/pub?id=a', $_) for qw(one two);

sub subscribers { return $t->stats->{subscribers} }

# ---- polls in a page

my $page = page('[' . include('/poll?id=a.b5') . '|' . include('/poll?id=none') . '|' . include('/lp?id=a.b1') . ']');
my $c = $t->client;
for my $round (1, 2) {
    my $answer = $t->get($page, client => $c);
    is($answer->status, 200, "a page with polls, round $round");
    is($answer->body, '[<one;two;>||two;]', 'each answer in its place, 304 being nothing');
    is($answer->header($_), undef, "and no $_ of theirs") for qw(Etag Expires Cache-Control);
}
is($t->get($page, -version => '1.0')->body, '[<one;two;>||two;]', 'over HTTP/1.0');
is($t->get(page('[' . include('/poll?id=a.b1&callback=f') . ']'))->body, '[<f([two;]);>]', 'a callback');
is($t->get(page('[' . include('/poll?id=a.b1', ' set="x"') . '<!--# echo var="x" encoding="none" -->]'))->body, '[<two;>]', 'kept in a variable');

# ---- a poll that waits

my $waiting = $t->start('GET', page('[' . include('/lp?id=w') . ']' . include('/poll?id=a.b1') . '.'));
$t->wait_subscribers('/stats?id=w', 1);
$t->publish('/pub?id=w', 'now');
is($waiting->body, '[now;]<two;>.', 'the page goes on when the message comes');
is(subscribers(), 0, 'and nobody is subscribed any more');

my $both = $t->start('GET', page('[' . include('/lp?id=x') . '|' . include('/lp?id=y') . ']'));
$t->wait_subscribers("/stats?id=$_", 1) for qw(x y);
$t->publish('/pub?id=y', 'second');
$t->wait_subscribers('/stats?id=y', 0);
unlike($both->so_far, qr/second/, 'the second of two polls has its message first');
$t->publish('/pub?id=x', 'first');
is($both->body, '[first;|second;]', 'and comes behind the first all the same');

$both = $t->start('GET', page('[' . include('/lp?id=x') . '|' . include('/hasty?id=y') . ']'));
$t->wait_subscribers("/stats?id=$_", 1) for qw(x y);
$t->publish('/pub?id=y', 'second');
$t->get('/ttl?id=clock') for 1 .. 3;    # longer than the send_timeout of the second
$t->publish('/pub?id=x', 'first');
is($both->body, '[first;|second;]', 'the time that the second has for writing does not end the first');

is($t->get(page('[' . include('/ttl?id=z') . ']'))->body, '[]', 'a poll whose time is over is nothing');
my $deleted = $t->start('GET', page('[' . include('/lp?id=d') . ']'));
$t->wait_subscribers('/stats?id=d', 1);
$t->delete('/pub?id=d');
is($deleted->body, '[Channel deleted;]', 'its channel is deleted');

# A short answer is copied, a long one lent.
my $long = 'x' x 5000;
$waiting = $t->start('GET', page('[' . include('/lp?id=long') . '|' . include('/poll?id=a.b1') . ']'));
$t->wait_subscribers('/stats?id=long', 1);
$t->publish('/pub?id=long', $long);
is($waiting->body, "[$long;|<two;>]", 'a long message, after a wait');
is($t->get(page('[' . include('/poll?id=long.b1') . '|' . include('/poll?id=a.b1') . ']'))->body, "[<$long;>|<two;>]", 'and at once');

my $kept = $t->client;
my $poll = $t->start('GET', page('[' . include('/lp?id=k') . ']'), client => $kept);
$t->wait_subscribers('/stats?id=k', 1);
$t->publish('/pub?id=k', 'x');
is($poll->body, '[x;]', 'on a connection that goes on');
is($t->get('/poll?id=a.b1', client => $kept)->body, '<two;>', 'and serves the next request');

# the client leaves while polls wait, active and not
my $gone = $t->start('GET', page('[' . include('/lp?id=g') . '|' . include('/lp?id=h') . ']'));
$t->wait_subscribers("/stats?id=$_", 1) for qw(g h);
$gone->close;
ok($t->wait_for(sub { subscribers() == 0 }, 'no subscriber'), 'a client that leaves takes all polls of its page with it');
$t->publish("/live?id=$_", 'nobody is there') for qw(g h);

# ---- much at once

my $large = join ',', 1 .. 20_000;
my $expected = join '', map { "$_:$large;" } 1 .. 10;
$t->publish('/pub?id=large', "$_:$large", 'Content-Type' => 'text/plain') for 1 .. 10;
is(length $expected, length $t->get('/lp?id=large.b10')->body, 'more than a portion') or diag 'the premise';
for my $version ('1.1', '1.0') {
    my $slow = $t->start('GET', page('[' . include('/lp?id=wait') . '|' . include('/lp?id=large.b10') . '|' . include('/poll?id=a.b1') . ']'),
        -version => $version, rcvbuf => 4096, close => 1);
    $t->wait_subscribers('/stats?id=wait', 1);
    $t->publish('/live?id=wait', 'go');
    my $body = $slow->body;
    is(length $body, length("[go;||<two;>]") + length $expected, "HTTP/$version: portions behind a poll that waits: length");
    ok($body eq "[go;|$expected|<two;>]", 'and content');
}

my $too_much = $t->get(page('[' . include('/lp?id=large.b10', ' set="x"') . ']'));
ok(!$too_much->complete, 'more than a variable holds ends the page');
ok($t->wait_log(qr/\[error\] .*too big subrequest response.* subrequest: "\/lp"/), 'for a reason that nginx gives');

# ---- the others

like($t->get(page('[' . include('/stats?id=a') . ']'))->body, qr/\A\[\{"channel": "a", .*\}\r\n\]\z/, 'statistics');
like($t->get(page('[' . include('/info?id=a') . ']'))->body, qr/\A\[\{"channel": "a", .*\}\r\n\]\z/, 'channel info');
is($t->get(page('[' . include('/info?id=unheard') . ']'))->body, '[]', 'of no channel');
is($t->get(page('[' . include('/lp') . ']'))->body, '[]', 'a refusal');
for (1, 2) {
    my $audit = $t->get(page('[' . include('/audit') . ']' . include('/poll?id=a.b1')), client => $kept)->body;
    like($audit, qr/\A\[\{.*"violations".*\}\s*\]<two;>\z/s, 'an audit that takes several turns');
}

my $mirrored = $t->subscribe('/sub?id=m');
is($t->post('/mirror?id=m', 'twice', client => $kept)->status, 200, 'a publish that is mirrored to a publisher');
is($mirrored->read_until(qr/twicetwice/), 'twicetwice', 'is published by both');
$mirrored->close;
for my $uri ('/echo?id=e', '/echosub?id=e') {
    is($t->get($uri, client => $kept)->body, "the page\n", "$uri: nobody waits for what nobody reads");
    is($t->get('/poll?id=a.b1', client => $kept)->body, '<two;>', 'and the connection goes on');
}
ok($t->wait_for(sub { subscribers() == 0 }, 'no subscriber'), 'nobody is subscribed');

# ---- streams

for my $mode (qw(sub ev ws)) {
    my $answer = $t->get(page('[' . include("/$mode?id=a") . ']' . include('/poll?id=a.b1')), client => $kept);
    like($answer->body, qr/\A\[.*500 Internal Server Error.*\]<two;>\z/s, "$mode: refused in the page");
}
like($t->log, qr/\[warn\] .*push stream: request refused with 500, "a stream cannot be part of another response".*, subrequest: "\/echosub"|subrequest: "\/sub"/,
    'and the log says why');
is(subscribers(), 0, 'nobody is subscribed');
is($t->get(page('[' . include('/sub?id=a.b1') . ']'), 'X-Nginx-PushStream-Mode' => 'polling')->body, '[two]', 'but a stream that is polled is no stream');

# ---- addition

SKIP: {
    skip 'nginx without the addition filter', 1 unless $has_addition;
    my $added = $t->start('GET', '/added');
    $t->wait_subscribers('/stats?id=before', 1);
    $t->publish('/live?id=before', 'before');
    is($added->body, "before;the page\ntwo", 'a page waits for what comes before it');
    my $stream = $t->start('GET', '/inside?id=i');
    $t->wait_subscribers("/stats?id=$_", 1) for qw(before i);
    $t->publish('/live?id=i', 'message');
    $t->publish('/live?id=before', 'before');
    is($stream->read_until(qr/message/), 'before;message', 'so does a stream');
    $stream->close;
    my $left = $t->start('GET', '/inside?id=i');
    $t->wait_subscribers("/stats?id=$_", 1) for qw(before i);
    $left->close;
    ok($t->wait_for(sub { subscribers() == 0 }, 'no subscriber'), 'its client leaves');
}

# ---- auth_request

SKIP: {
    skip 'nginx without auth_request', 1 unless $has_auth;
    my $connection = $t->client;
    my $let_in = sub {
        my ($answer, $what) = @_;
        is($answer->status, 200, "$what: lets in");
        is($answer->body, "the page\n", "$what: to the page");
        is($answer->header('Content-Length'), 9, "$what: and to nothing else");
        is(join(' ', sort grep { !/^(?:Server|Date|Last-Modified|ETag|Accept-Ranges)$/ } $answer->header_names),
            'Connection Content-Length Content-Type X-Seen', "$what: no header of the answer goes out");
        is($answer->header('X-Seen'), 'no-cache, no-store, must-revalidate', "$what: but its headers can be read");
    };
    $t->publish('/pub?id=gate', 'open');
    for my $round (1, 2) {
        $let_in->($t->get('/door/gate', client => $connection, @all), "a poll with a message, round $round");
        is($t->get('/door/gate')->status, 500, 'a poll without: 304 is neither yes nor no');
    }
    $let_in->($t->get('/door/large', client => $connection), 'a poll with many');
    $let_in->($t->get('/door/info', client => $connection), 'channel info');
    $let_in->($t->get('/door/stats', client => $connection), 'statistics');
    is($t->get('/door/gone')->status, 500, 'no channel is neither yes nor no');
    is($t->get('/door/limit', client => $connection)->status, 403, 'a refusal refuses');
    is($t->get('/door/sub')->status, 500, 'a stream is no answer');
    is($t->get('/door/brief')->status, 500, 'a long poll whose time is over is none');
    my $bell = $t->start('GET', '/door/bell', client => $connection);
    $t->wait_subscribers('/stats?id=bell', 1);
    $t->publish('/live?id=bell', 'ring');
    $let_in->($bell, 'a long poll that waits for its message');
    my $tired = $t->start('GET', '/door/bell');
    $t->wait_subscribers('/stats?id=bell', 1);
    $tired->close;
    ok($t->wait_for(sub { subscribers() == 0 }, 'no subscriber'), 'its client leaves');
    is($t->post('/door/gate', 'x' x 100_000, client => $connection, @all)->status, 405, 'a request with a body is let in, to nginx');
    $let_in->($t->get('/door/gate', client => $connection, @all), 'and the connection is sound');
}

# ---- HTTP/2

SKIP: {
    skip 'nginx without HTTP/2', 1 unless $has_http2;
    my $h2 = Test::Nginx::PushStream::Http2->new($t->client(port => 8082));
    my $id = $h2->request(GET => page('[' . include('/lp?id=w') . '|' . include('/lp?id=large.b10') . ']'));
    $t->wait_subscribers('/stats?id=w', 1);
    $h2->widen($id, 10_000_000);
    $t->publish('/live?id=w', 'now');
    $h2->wait_ended($id);
    my $body = $h2->data($id, 0);
    ok($body eq "[now;|$expected]", 'HTTP/2: a poll that waits, and portions');
    $h2->{client}->close;
}

my $logged_page = page('<' . include('/logged?id=a.b1') . '>');
is($t->get($logged_page)->body, '<two>', 'a subrequest that is logged');

# ---- the end of a worker

for my $how ('reload', 'stop') {
    my $page = $t->start('GET', page('[' . include('/lp?id=q') . '|' . include('/lp?id=r') . ']'));
    $t->wait_subscribers("/stats?id=$_", 1) for qw(q r);
    $how eq 'reload' ? $t->reload : $t->stop;
    is($page->body, '[|]', "$how: the polls of a page end, and the page with them");
}

# what the log says of a request is about that request
my @logged = split /\n/, do { local (@ARGV, $/) = $t->dir . '/access.log'; <> };
is(join("\n", grep { m{^/(?:ssi|added|door|echo|mirror)} && !m{^$logged_page } && !/ - - -$/ } @logged), '', 'a page is no subscriber');
like(join("\n", @logged), qr{^$logged_page /logged 200 polling 1 answered$}m, 'a subrequest with a line of its own is one');

$t->done();
