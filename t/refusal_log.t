# Each refused request leaves its reason in the error log; many refusals of a kind share one line a second.
#
# Proves directives.md: refusals (the error log).

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new(workers => 1)->http(<<'EOC')->run();
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    push_stream_max_channel_id_length 8;
    push_stream_max_subscribers_per_channel 1;
    push_stream_max_number_of_channels 3;
    push_stream_max_number_of_wildcard_channels 2;
    push_stream_wildcard_channel_prefix w_;
    push_stream_events_channel_id events;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher; push_stream_store_messages on; }
        location /sub   { push_stream_subscriber; }
        location /poll  { push_stream_subscriber polling; }
        location /known { push_stream_subscriber; push_stream_authorized_channels_only on; }
        location /ws    { push_stream_subscriber websocket; }
        location /stats { push_stream_channels_statistics; }
        location /empty { push_stream_subscriber; push_stream_channels_path $nothing; set $nothing ""; }
        location /quiet { push_stream_subscriber; error_log %%TESTDIR%%/quiet.log error; }
    }
EOC

# Lines about refusals: [ level, number of requests, status, text, rest ].
sub lines {
    my ($log) = @_;
    my @found;
    for (split /\n/, $log // $t->log) {
        if (/\[(\w+)\] \S+ push stream: (\d+) more requests? (?:was|were) refused with (\d+), "([^"]*)"$/) {
            push @found, [ $1, $2, $3, $4, '' ];
        } elsif (/\[(\w+)\] \S+ \*\d+ push stream: request refused with (\d+), "([^"]*)"(.*?)(?:, and (\d+) more before)?, (client: .*)/) {
            push @found, [ $1, 1 + ($5 // 0), $2, $3 . $4, $6 ];
        } elsif (/refused with/) {
            push @found, [ 'unreadable', 0, 0, $_, '' ];
        }
    }
    return @found;
}

sub counted {
    my ($text) = @_;
    my $sum = 0;
    $sum += $_->[1] for grep { $_->[3] eq $text } lines();
    return $sum;
}

# ---- each reason

my $held = $t->subscribe('/sub?id=a');
my $other = $t->subscribe('/sub?id=b');
my @handshake = (Upgrade => 'websocket', Connection => 'Upgrade', 'Sec-WebSocket-Key' => 'YnJpZ2h0LWtleS0wMDAwMQ==');
my @reasons = (
    [ 403, 'Channel id not authorized for this method.', sub { $t->post('/pub?id=ALL', 'x') }, 'POST /pub?id=ALL HTTP/1.1' ],
    [ 400, 'Channel id is too large.', sub { $t->get('/stats?id=123456789') }, 'GET /stats?id=123456789 HTTP/1.1' ],
    [ 400, 'Empty post requests are not allowed.', sub { $t->post('/pub?id=a', '') }, 'POST /pub?id=a HTTP/1.1' ],
    [ 403, 'Number of channels were exceeded.', sub { $t->get('/poll?id=c') }, 'GET /poll?id=c HTTP/1.1' ],
    [ 403, 'Only internal routines can change events channel.', sub { $t->post('/pub?id=events', 'x') }, 'POST /pub?id=events HTTP/1.1' ],
    [ 403, 'Subscriber could not create channels.', sub { $t->get('/known?id=c') }, 'GET /known?id=c HTTP/1.1' ],
    [ 403, 'Subscribers limit per channel has been exceeded.', sub { $t->get('/sub?id=a') }, 'GET /sub?id=a HTTP/1.1' ],
    [ 403, 'Subscribed too much wildcard channels.', sub { $t->get('/sub?id=w_1') }, 'GET /sub?id=w_1 HTTP/1.1' ],
    [ 403, 'Subscription to events channel is not allowed.', sub { $t->websocket('/ws?id=events')->frame }, 'GET /ws?id=events HTTP/1.1' ],
    [ 400, "Don't have at least one of the mandatory headers: Connection, Upgrade, Sec-WebSocket-Key and Sec-WebSocket-Version",
        sub { $t->get('/ws?id=a') }, 'GET /ws?id=a HTTP/1.1' ],
    [ 400, 'Version not supported. Supported versions: 8, 13',
        sub { $t->get('/ws?id=a', @handshake, 'Sec-WebSocket-Version' => 7) }, 'GET /ws?id=a HTTP/1.1' ],
    [ 400, 'a handshake has no body',
        sub { $t->start('GET', '/ws?id=a', @handshake, 'Sec-WebSocket-Version' => 13, body => 'x')->wait_end }, 'GET /ws?id=a HTTP/1.1' ],
    [ 400, 'invalid callback name', sub { $t->get('/poll?id=a&callback=-') }, 'GET /poll?id=a&callback=- HTTP/1.1' ],
    [ 405, 'method not allowed', sub { $t->request('PATCH', '/sub?id=a') }, 'PATCH /sub?id=a HTTP/1.1' ],
    [ 400, 'No channel id provided.', sub { $t->get('/sub?id=/') }, 'GET /sub?id=/ HTTP/1.1' ],
);
for (@reasons) {
    my ($status, $text, $do, $request) = @$_;
    $do->();
    my ($line, @more) = grep { $_->[3] eq $text } lines();
    is("@$line[0 .. 2]", "info 1 $status", "a line: $text") or next;
    like($line->[4], qr/\Aclient: 127\.0\.0\.1, server: , request: "\Q$request\E"/, 'with the request');
    is(scalar @more, 0, 'and only one');
}

# ---- the configuration gives no channel

$t->get('/empty');
my ($line) = grep { $_->[0] ne 'info' } lines();
is("@$line[0 .. 3]", 'warn 1 400 No channel id provided., because "push_stream_channels_path" is empty', 'an empty path is worth a warning');
like($line->[4], qr/request: "GET \/empty HTTP/, 'with the request');

# ---- what is no refusal, or not asked for

my $before = () = lines();
is($t->get('/stats?id=none')->status, 404, 'a channel that does not exist');
is($t->options('/sub')->status, 200, 'OPTIONS');
is($t->get('/quiet?id=/')->status, 400, 'a refusal in a location with a log of its own');
is(scalar(() = lines()), $before, 'are not in the log');
is(-s $t->dir . '/quiet.log', 0, 'and that log does not take lines of this level');

# ---- many of a kind

my ($text, $n) = ('Channel id is too large.', 200);
my $from = time;
my $statuses = $t->publish_many('/pub?id=123456789', $n);
is($statuses->{400}, $n, "$n requests are refused");
ok($t->wait_for(sub { counted($text) == $n + 1 }, 'the log to count them all'), 'the log counts all of them')
    or diag counted($text);
my $seconds = time - $from + 2;
my $printed = () = grep { $_->[3] eq $text } lines();
cmp_ok($printed, '<=', $seconds + 1, 'in no more lines than seconds');
is(join("\n", map { $_->[3] } grep { $_->[0] eq 'unreadable' } lines()), '', 'all lines have the form that this file reads');

$t->done();
