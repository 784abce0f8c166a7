# The answer to a poll that asks for much comes in portions: a client that does not read costs the worker one
# of them. A client that reads gets all that the answer announces, or sees that its connection was cut.
#
# Proves protocol.md: polling, slow-readers, jsonp (array), resuming (order, upper bound).

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;
use Test::Nginx::PushStream::Http2;
use Compress::Raw::Zlib qw(WANT_GZIP);
use JSON::PP qw(decode_json);

my $http2 = Test::Nginx::PushStream->has_feature('http_v2_module');
my $t = Test::Nginx::PushStream->new->http(<<'EOC' . ($http2 ? <<'EOC' : ''))->run();
    push_stream_shared_memory_size 32m;
    push_stream_channels_path $arg_id;
    push_stream_max_messages_stored_per_channel 400;
    push_stream_message_template "~channel~ ~id~ ~text~";
    push_stream_header_template "HEAD\n";
    push_stream_footer_template "FOOT\n";
    client_body_buffer_size 64k;
    gzip_types text/plain;
    log_format ours '$request_uri $push_stream_messages_sent $push_stream_close_reason';
    access_log %%TESTDIR%%/access.log ours;
    server {
        listen 127.0.0.1:%%PORT_8080%% sndbuf=16k;
        location /pub    { push_stream_publisher admin; push_stream_store_messages on; access_log off; }
        location /long   { push_stream_subscriber long-polling; }
        location /poll   { push_stream_subscriber polling; }
        location /whole  { push_stream_subscriber polling; chunked_transfer_encoding off; }
        location /mode   { push_stream_subscriber; }
        location /zipped { push_stream_subscriber polling; default_type text/plain; gzip on; }
        location /array  { push_stream_subscriber polling; push_stream_message_template "[~id~,~text~]";
                           push_stream_header_template ""; push_stream_footer_template ""; }
        location /stats  { push_stream_channels_statistics; access_log off; }
        location /audit  { push_stream_audit on; access_log off; }
    }
EOC
    server {
        listen 127.0.0.1:%%PORT_8082%% http2;
        location /poll { push_stream_subscriber polling; }
    }
EOC
my ($here, $there) = $t->worker_pids;

my %last;    # id of a channel's last message
my @since = ('If-Modified-Since' => 'Thu, 01 Jan 1970 00:00:00 GMT', 'If-None-Match' => 'W/0');
sub text { return sprintf('%05d ', $_[0]) . 'x' x 9_993 . "\n" }
sub old { my ($id, $from, $to) = @_; return join '', map { "$id $_ " . text($_) } $from .. $to }

sub fill {
    my ($id, $count, $text) = @_;
    $text //= \&text;
    my $n = $last{$id} // 0;
    $last{$id} = $n + $count;
    my $done = $t->publish_many('', sub { $n++ < $last{$id} ? ("/pub?id=$id", $text->($n)) : () }, worker => $there, depth => 4);
    is_deeply($done, { 200 => $count }, "$count messages in $id");
}

sub still { my ($uri, @how) = @_; return $t->subscribe_still($uri, worker => $here, @how) }

# Lines of the access log.
sub logged {
    my ($re) = @_;
    open my $file, '<', $t->dir . '/access.log' or die "access.log: $!";
    return scalar grep { $_ =~ $re } <$file>;
}

# Messages that are kept only because somebody is to read them.
sub pinned { return decode_json($t->get('/audit')->body)->{kinds}{messages_being_read}{count} }

# 6 MB each, for twenty that take none of it.
fill(a => 300);
fill(b => 300);
my $before = $t->memory_of($here);
my @still = map { still($_ % 2 ? '/long?id=a/b' : '/poll?id=a/b', @since) } 1 .. 20;
my $each = ($t->memory_of($here) - $before) / @still;
cmp_ok($each, '<', 1_500_000, 'a poll that is not read costs a portion') or diag "$each bytes each";
is(pinned(), 0, 'and holds nothing');
is($t->stats->{subscribers}, 0, 'it waits for nothing, so it is no subscriber');

# Nothing that is published now belongs to it, and what it announces is what the next one needs.
my $place = $still[0];
my $newest = $t->get('/poll?id=b.b1');
fill(a => 1);
$_->client->resume for @still[0, 1];
for my $poll (@still[0, 1]) {
    ok($poll->body(60) eq "HEAD\n" . old(a => 1, 300) . old(b => 1, 300) . "FOOT\n", 'who reads gets everything announced');
    ok($poll->complete, 'in order');
    is($poll->header($_), $newest->header($_), "up to the newest of both channels: $_") for qw(Last-Modified Etag);
}
my $next = $t->poll('/long?id=a/b', since => $place);
is($next->body, "HEAD\n" . old(a => 301, 301) . "FOOT\n", 'the next one goes on behind it');
is($t->poll('/poll?id=a/b', since => $next, client => $place)->status, 304, 'on the same connection as well');
$_->close for @still;
ok($t->wait_for(sub { logged(qr{/long\?id=a/b 600 answered}) }, 'the access log'), 'the log counts its messages');
ok($t->wait_for(sub { logged(qr{\?id=a/b \d+ client}) == 18 }, 'the access log'), 'and tells who left before');

# In all ways a poll can come.
my $want = "HEAD\n" . old(a => 1, 301) . "FOOT\n";
my %way = (
    'HTTP/1.0'     => still('/poll?id=a.b301', version => '1.0'),
    'long-polling' => still('/mode?id=a.b301', 'X-Nginx-PushStream-Mode' => 'long-polling'),
    'polling'      => still('/mode?id=a.b301', 'X-Nginx-PushStream-Mode' => 'polling'),
);
my $zipped = still('/zipped?id=a.b301', 'Accept-Encoding' => 'gzip');
fill(numbers => 400, sub { '"' . 'n' x 5_000 . $_[0] . '"' });
my $array = still('/array?id=numbers.b400&callback=cb');
for my $way (sort keys %way) {
    $way{$way}->client->resume;
    ok($way{$way}->body(60) eq $want, $way);
    ok($way{$way}->complete, "$way: in order");
}
$_->client->resume for $zipped, $array;
my ($inflate) = Compress::Raw::Zlib::Inflate->new(-WindowBits => WANT_GZIP);
my $packed = $zipped->body(60);
$inflate->inflate($packed, my $plain);
ok($plain eq $want, 'gzip');
SKIP: {
    Test::More::skip('nginx has no HTTP/2', 1) unless $http2;
    my $h2 = Test::Nginx::PushStream::Http2->new($t->client(port => 8082), window => 1000);
    my $poll = $h2->request(GET => '/poll?id=a.b301');
    is(length $h2->data($poll, 1000), 1000, 'no more than the window');
    $h2->widen($_, 10_000_000) for 0, $poll;
    $h2->wait_ended($poll);
    ok($h2->data($poll, 0) eq $want, 'HTTP/2');
}
my ($json) = $array->body(60) =~ /\Acb\((.*)\);\z/s;
is_deeply([ map { $_->[0] } @{ decode_json($json // '[]') } ], [ 1 .. 400 ], 'one array for a callback');

# As before, what fits into one portion is one chunk.
fill(many => 400, sub { "m$_[0]\n" });
my $many = $t->get('/poll?id=many.b400');
is($many->body, "HEAD\n" . join('', map { "many $_ m$_\n" } 1 .. 400) . "FOOT\n", 'a short answer');
is(scalar $many->chunks, 1, 'is one chunk');

# What is gone before it was taken is not passed over in silence, however the body's end is known.
sub cut_off {
    my ($id, $why, $take_away) = @_;
    my $path = "/poll?id=$id.b300";
    my %slow = (chunked => still($path), 'HTTP/1.0' => still($path, version => '1.0'),
        'not chunked' => still("/whole?id=$id.b300"));
    $take_away->();
    is(pinned(), 0, "$why: nobody holds it");
    for my $way (sort keys %slow) {
        my $slow = $slow{$way};
        $slow->client->resume;
        ok($slow->closed(30), "$why, $way: its reader is cut off");
        ok($way eq 'chunked' ? $slow->broken : $slow->client->was_reset, 'and sees that something is missing');
        my $got = $slow->so_far;
        ok(length $got && index("HEAD\n" . old($id => 1, 300), $got) == 0, 'after all up to some message');
    }
    ok($t->wait_for(sub { 3 == logged(qr/id=$id.b300 \d+ slow/) }, 'the access log'), 'it is logged as too slow');
}
cut_off(b => 'evicted', sub { fill(b => 390) });
fill(c => 300);
cut_off(c => 'deleted', sub { $t->delete('/pub?id=c') });

# A worker that ends has promised it: to who reads, and who does not sees that something is missing.
fill(e => 300);
my $leaving = still('/long?id=e.b300', @since);
$t->reload;
$leaving->client->resume;
ok($leaving->body(60) eq "HEAD\n" . old(e => 1, 300) . "FOOT\n", 'reload: all, and the footer');
ok($leaving->complete, 'in order');
for my $signal (qw(TERM KILL)) {
    ($here, $there) = $t->worker_pids;
    my @left = (still('/poll?id=e.b300', version => '1.0'), still('/whole?id=e.b300'));
    if ($signal eq 'KILL') { $t->kill_worker($here) }
    else {
        kill $signal, $here;
        $t->wait_for(sub { !$t->is_running($here) }, 'the worker to end');
    }
    $_->client->resume for @left;
    is(scalar(grep { $_->closed && $_->client->was_reset } @left), 2, "$signal: a reset for who cannot tell otherwise");
}
$t->done();
