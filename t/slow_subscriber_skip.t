# A subscriber that is too slow loses messages instead of its connection, with push_stream_slow_subscriber skip: it
# is told how many of which channel, and gets the newest ones.
#
# Proves directives.md: push_stream_slow_subscriber, variables ($push_stream_messages_skipped).
# Proves protocol.md: slow-readers (skip), gaps-told-in-the-stream (slow).

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;
use Test::Nginx::PushStream::Http2;
use Compress::Raw::Zlib qw(WANT_GZIP);
use JSON::PP qw(decode_json);

my $has_tls = eval { require IO::Socket::SSL; 1 };
my $has_h2 = Test::Nginx::PushStream->has_feature('http_v2_module');
my $t = Test::Nginx::PushStream->new->http(<<'EOC' =~ s/^(.*TLS: )/$has_tls ? '' : '#'/gemr =~ s/^(.*H2: )/$has_h2 ? '' : '#'/gemr);
    log_format slow "$uri sent=$push_stream_messages_sent skipped=$push_stream_messages_skipped $push_stream_close_reason;";
    access_log %%TESTDIR%%/access.log slow;
    push_stream_shared_memory_size 32m;
    push_stream_channels_path $arg_id;
    push_stream_max_messages_stored_per_channel 300;
    push_stream_cursor on;
    push_stream_slow_subscriber skip;
    push_stream_subscriber_max_buffered 100k;
    push_stream_message_template "~channel~ ~id~ ~text~\n";
    client_body_buffer_size 64k;
    gzip_types text/plain;
    TLS: ssl_certificate %%TESTDIR%%/cert.pem;
    TLS: ssl_certificate_key %%TESTDIR%%/key.pem;
    server {
        listen 127.0.0.1:%%PORT_8080%% sndbuf=16k;
        TLS: listen 127.0.0.1:%%PORT_8443%% ssl sndbuf=16k;
        H2: listen 127.0.0.1:%%PORT_8082%% http2;
        location /pub    { push_stream_publisher admin; push_stream_store_messages on; }
        location /live   { push_stream_publisher admin; }
        location /sub    { push_stream_subscriber; push_stream_header_template "HEAD\n"; push_stream_footer_template "FOOT\n"; }
        location /json   { push_stream_subscriber; push_stream_message_format json; }
        location /pad    { push_stream_subscriber; push_stream_padding_by_user_agent "pad,0,20000"; push_stream_user_agent pad; }
        location /filter { push_stream_subscriber; push_stream_force_filters on; }
        location /zip    { push_stream_subscriber; default_type text/plain; gzip on; }
        location /rate   { push_stream_subscriber; limit_rate 400k; }
        location /ev     { push_stream_subscriber eventsource; push_stream_message_template "~channel~ ~id~ ~text~"; }
        location /evjson { push_stream_subscriber eventsource; push_stream_message_format json; }
        location /ws     { push_stream_subscriber websocket; }
        location /wsjson { push_stream_subscriber websocket; push_stream_message_format json; }
        location /quick  { push_stream_subscriber; push_stream_message_template "~id~"; }
        location /silent { push_stream_subscriber; push_stream_cursor off; }
        location /cut    { push_stream_subscriber; push_stream_slow_subscriber disconnect; }
        location /stats  { push_stream_channels_statistics; }
    }
EOC
if ($has_tls) {
    my $dir = $t->dir;
    system("openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout $dir/key.pem -out $dir/cert.pem >$dir/openssl.log 2>&1") == 0
        or die 'openssl cannot make a certificate';
    chmod 0644, "$dir/key.pem";
}
$t->run;
my ($here) = $t->worker_pids;

my %last;    # id of a channel's last message
sub text { return sprintf('%06d ', $_[0]) . 'x' x 9_993 }

# So many messages of 10 KB to a channel, ten at a time, for all that comes in one round is
# given to everybody. Somebody who is quick says when a round is over.
my %quick;

sub fill {
    my ($path, $id, $count) = @_;
    my $quick = $quick{$id} //= $t->subscribe("/quick?id=$id", worker => $here);
    for (my $left = $count; $left > 0; $left -= 10) {
        my $n = $last{$id} // 0;
        $last{$id} = $n + ($left < 10 ? $left : 10);
        my $done = $t->publish_many('', sub { $n++ < $last{$id} ? ("$path?id=$id", text($n)) : () }, depth => 10);
        $t->wait_for(sub { (($quick->chunks)[-1] // 0) == $last{$id} }, 'the quick one to have it', 30);
    }
    return;
}

sub end_of { my ($id) = @_; $last{$id}++; return $t->publish("/live?id=$id", "end of $id") }

# One of the lines, events or frames: [channel, id, text], and for a gap [channel, -4, missed].
sub item {
    my ($form, $part) = @_;
    if ($form eq 'events') {
        my ($gap) = $part =~ /\Aevent: gap\ndata: (.*)\n\z/;
        if (!defined $gap) { $part =~ s/\Aid: \S+\n(?=data: )// or return "no place: " . substr $part, 0, 80 }
        $part =~ s/\A(?:event: gap\n)?data: (.*)\n\z/$1/ or return 'no event: ' . substr $part, 0, 80;
        if (defined $gap && $part !~ /\A\{"id":-4,/) { $part = "x -4 $part" }
    }
    my ($channel, $id, $text) = $part =~ /\A(\w+) (-?\d+) (.*)\z/s;
    if ($part =~ /\A\{"id"/) {
        my $message = eval { decode_json($part) } or return 'no JSON: ' . substr $part, 0, 80;
        ($channel, $id, $text) = @$message{qw(channel id text)};
    }
    return 'no message: ' . substr $part, 0, 80 unless defined $id;
    return [$channel, $id, $text] if $id != -4;
    my $gap = eval { decode_json($text) } or return "no JSON: $text";
    return "no gap: $text" unless join(',', sort keys %$gap) eq 'channel,missed,reason' && $gap->{reason} eq 'slow';
    return "of $channel: $text" unless $channel eq 'x' || $channel eq $gap->{channel};
    return [$gap->{channel}, -4, $gap->{missed}];
}

# What is wrong with the items: nothing is torn, all is in order, each hole is told, up to the end of each channel.
# Then how many messages came, how many are missing, and how many gaps were told.
sub judge {
    my ($items, %from) = @_;
    my (%had, %told);
    my ($got, $missed, $gaps, @wrong) = (0, 0, 0);
    for my $item (@$items) {
        if (!ref $item) { push @wrong, $item; next }
        my ($channel, $id, $text) = @$item;
        $had{$channel} //= ($from{$channel} // 1) - 1;
        if ($id == -4) { $told{$channel} += $text; $missed += $text; $gaps++; next }
        next if $id == -1;
        my $expected = $had{$channel} + 1 + (delete $told{$channel} // 0);
        push @wrong, "$channel $id instead of $expected" if $id != $expected;
        push @wrong, "$channel $id is spoilt" if $text ne text($id) && $text ne "end of $channel";
        $had{$channel} = $id;
        $got++;
    }
    push @wrong, map {"$_ ends at $had{$_} of $last{$_}"} grep { $had{$_} != $last{$_} } keys %had;
    return (join('; ', @wrong[0 .. ($#wrong > 3 ? 3 : $#wrong)]), $got, $missed, $gaps);
}

sub line {
    my ($uri) = @_;
    my $line;
    $t->wait_for(sub {
        open my $file, '<', $t->dir . '/access.log' or return 0;
        ($line) = grep { index($_, "$uri ") == 0 } <$file>;
        return defined $line && $line =~ /;$/;
    }, "a line about $uri");
    return ($line // '') =~ s/\S+ (.*);\n?\z/$1/r;
}

# In every mode, and through everything that nginx can put in between: one that stands still while 3 MB come.
my @ways = qw(/sub /sub/old /json /pad /filter /filter/old /zip /rate /ev /evjson /ws /wsjson);
push @ways, '/sub/tls', '/ev/tls', '/ws/tls' if $has_tls;
my %way;
for my $way (@ways) {
    my @how = (worker => $here, rcvbuf => 4096);
    push @how, version => '1.0' if $way =~ /old/;
    push @how, port => 8443, tls => 1 if $way =~ /tls/;
    push @how, 'Accept-Encoding' => 'gzip' if $way eq '/zip';
    $way{$way} = $way =~ m{^/ws} ? $t->websocket("$way?id=a", @how) : $t->subscribe("$way?id=a", @how);
    $way{$way}->client->pause;
}
my $before = $t->memory_of($here);
fill('/live', a => 100) for 1 .. 3;
my $each = ($t->memory_of($here) - $before) / @ways;
cmp_ok($each, '<', 500_000, 'each costs no more than its bound and what nginx holds') or diag "$each bytes";
is($t->stats('/stats?id=a')->{subscribers}, @ways + 1, 'nobody is cut off');
ok($t->wait_log(qr/\[warn\].*push stream: \d+ messages? (?:was|were) skipped for subscribers that are too slow/), 'the log says it');
my $lines = () = $t->log =~ /skipped for subscribers/g;
cmp_ok($lines, '<', 60, 'and not for each message');
end_of('a');
for my $way (@ways) {
    my ($s, @items) = $way{$way};
    $s->client->resume;
    if ($way =~ m{^/ws}) {
        while (my $frame = $s->frame(30)) {
            push @items, item('frame', $frame->{payload} =~ s/\n\z//r);
            last if $frame->{payload} =~ /end of a/;
        }
    }
    elsif ($way =~ m{^/ev}) {
        my $all = $s->read_until(qr/end of a.*\n\n/, 30) // '';
        $all =~ s/\A: \n// and $all =~ s/\Aid: \S+\n\n// or push @items, "no head: " . substr $all, 0, 80;
        push @items, map { item('events', "$_\n") } split /\n\n/, $all;
    }
    else {
        my $all;
        if ($way eq '/zip') {
            my ($inflate) = Compress::Raw::Zlib::Inflate->new(-WindowBits => WANT_GZIP, -ConsumeInput => 0);
            my $seen = 0;
            $all = '';
            $t->wait_for(sub {
                my $more = substr $s->so_far, $seen;
                $seen += length $more;
                $inflate->inflate($more, my $out) if length $more;
                $all .= $out // '';
                return $all =~ /end of a\n/;
            }, 'all that was compressed', 30);
        }
        else { $all = $s->read_until(qr/end of a.*\n/, 30) // '' }
        $all =~ s/\AHEAD\n//;
        push @items, map { item('lines', $_) } grep { !/\A\r?\z/ } map {s/\r//gr} split /\n/, $all;
        my @chunks = $s->chunks;
        my @torn = grep { !/\n\z/ } @chunks;
        is("@torn[0 .. ($#torn > 0 ? 0 : $#torn)]", '', "$way: a chunk is a whole message") if @chunks && $way ne '/zip';
    }
    my ($wrong, $got, $missed, $gaps) = judge(\@items);
    is($wrong, '', "$way: all is whole, in order, and what is missing is told") or diag "$got came, $missed missing";
    is($got + $missed, 301, "$way: exactly");
    cmp_ok($missed, '>', 100, "$way: it was skipped") if $way ne '/zip';
    $s->close;
    is(line($way =~ s{\?.*}{}r), "sent=$got skipped=$missed client", "$way: in the log");
}
$t->wait_subscribers('/stats?id=a', 1);

# Over HTTP/2 the window is what a client takes.
if ($has_h2) {
    my $h2 = Test::Nginx::PushStream::Http2->new($t->client(port => 8082, worker => $here), window => 50_000);
    my $stream = $h2->request(GET => '/sub/h2?id=h');
    $t->wait_subscribers('/stats?id=h', 1);
    fill('/live', h => 200);
    end_of('h');
    $h2->widen($stream, 3_000_000);
    my $all = '';
    $t->wait_for(sub { ($all = $h2->data($stream, length($all) + 1)) =~ /end of h\n/ }, 'the end over HTTP/2', 30);
    my ($wrong, $got, $missed) = judge([map { item('lines', $_) } split /\n/, $all =~ s/\AHEAD\n//r]);
    is($wrong, '', 'HTTP/2: all is whole, in order, and told');
    ok($missed > 100 && $got + $missed == 201, 'HTTP/2: exactly') or diag "$got, $missed";
    $h2->reset($stream);
}

# Two channels: each is told of its own, in one order of publishing, also when it stalls again.
my $two = $t->subscribe_still('/sub/two?id=b/c', worker => $here);
my $got = '';
for my $round (1 .. 3) {
    fill('/live', b => 40);
    fill('/live', c => 20);
    next if $round == 3;
    # It takes a part of what waits.
    $two->client->resume;
    $got .= $two->read_until(qr/ x{9000}/, 30) // '';
    $two->client->pause;
}
end_of($_) for 'b', 'c';
$two->client->resume;
$got .= $two->read_until(qr/end of c\n/, 30) // '';
my ($wrong, $came, $missed, $gaps) = judge([map { item('lines', $_) } split /\n/, $got =~ s/\AHEAD\n//r]);
is($wrong, '', 'two channels: in order, each hole is told in its channel');
is($came + $missed, 182, 'exactly');
cmp_ok($gaps, '>=', 2, 'a gap for each');
# A channel that is deleted: the notice is not skipped, nor the end.
fill('/live', b => 1);
$two->read_until(qr/x\n/, 30);
$two->client->pause;
fill('/live', b => 100);
$t->delete("/pub?id=$_") for 'b', 'c';
$two->client->resume;
my $end = $two->read_until(qr/FOOT\n/, 30) // '';
like($end, qr/^(?:b|c) -2 Channel deleted\n/m, 'the notice of a deletion comes');
ok($two->complete || $two->wait_end, 'and the orderly end');

# Old messages that are gone before they were taken: it goes on behind them.
fill('/pub', o => 300);
my $old = $t->subscribe_still('/sub/lag?id=o.b300', worker => $here);
fill('/pub', o => 290);
end_of('o');
$old->client->resume;
($wrong, $came, $missed) = judge([map { item('lines', $_) } split /\n/, ($old->read_until(qr/end of o\n/, 30) // '') =~ s/\AHEAD\n//r]);
is($wrong, '', 'a long backlog: what is gone of it is told as well');
is($came + $missed, 591, 'exactly');
$old->close;

# Whoever comes back with the last place gets what came behind it once, and no gap for what was told.
fill('/pub', r => 10);
my $first = $t->subscribe_still('/ev/back?id=r', worker => $here);
fill('/pub', r => 100);
end_of('r');
$first->client->resume;
my $events = $first->read_until(qr/end of r\n\n/, 30) // '';
$first->close;
my ($place) = (reverse $events =~ /^id: (\S+)$/mg);
like($events, qr/^event: gap$/m, 'a gap is told');
fill('/pub', r => 2);
my $again = $t->subscribe('/ev/again?id=r', 'Last-Event-Id' => $place);
my $next = $again->read_until(qr/x\n\n.*x\n\n/s, 30) // '';
is_deeply([$next =~ /^data: r (\d+) /mg], [112, 113], 'what is new, once');
unlike($next, qr/gap/, 'and no gap');
is($again->header('X-Nginx-PushStream-Gap'), undef, 'nor in the header');
$again->close;

# Without cursors nothing is told in the stream.
my $silent = $t->subscribe_still('/silent/s?id=s', worker => $here);
fill('/live', s => 100);
end_of('s');
$silent->client->resume;
my $all = $silent->read_until(qr/end of s\n/, 30) // '';
my @ids = $all =~ /^s (-?\d+) /mg;
ok(@ids < 60 && $ids[-1] == 101 && $ids[0] == 1, 'cursors off: it skips') or diag "@ids";
is(scalar(grep { $_ < 0 } @ids), 0, 'and is told nothing');
$silent->close;
is(line('/silent/s'), 'sent=' . @ids . ' skipped=' . (101 - @ids) . ' client', 'but the log is');

# The default is as before.
my $cut = $t->subscribe_still('/cut/off?id=d', worker => $here);
fill('/live', d => 100);
$t->wait_subscribers('/stats?id=d', 1);
like(line('/cut/off'), qr/skipped=0 slow\z/, 'disconnect ends it');
$cut->client->resume;
ok($cut->closed, 'and it sees that');

$t->done();
