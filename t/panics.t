# A panic costs only the one subscriber or request that it was about. The worker lives on, and all others get
# every message once and in order.
#
# PUSH_STREAM_ONLY=text runs only the cases with this text in their names.
#
# Proves promises.md: deaths-and-changes, counters.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;
use Test::Nginx::PushStream::Metrics qw(scrape);
use JSON::PP qw(decode_json);

plan(skip_all => 'the module was built without the feature "faults"') unless Test::Nginx::PushStream->has_faults;

my $t = Test::Nginx::PushStream->new(workers => 2, faults => 1)->http(<<'EOC')->run();
    log_format end "$arg_n=$push_stream_close_reason;";
    access_log %%TESTDIR%%/access.log end;
    push_stream_shared_memory_size 64m;
    push_stream_channels_path $arg_id;
    push_stream_message_template "~channel~~id~;";
    push_stream_store_messages on;
    push_stream_subscriber_max_buffered 64m;
    client_header_timeout 1h;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub      { push_stream_publisher admin; client_max_body_size 1m; client_body_buffer_size 1m; }
        location /sub      { push_stream_subscriber; push_stream_footer_template "FOOT"; }
        location /big      { push_stream_subscriber; push_stream_message_template "~channel~~id~;~text~"; }
        location /ordered  { push_stream_subscriber; push_stream_cursor on; }
        location /filtered { push_stream_subscriber; push_stream_force_filters on; }
        location /pinged   { push_stream_subscriber; push_stream_ping_message_interval 100ms; }
        location /short    { push_stream_subscriber; push_stream_subscriber_connection_ttl 100ms;
                             push_stream_footer_template "FOOT"; }
        location /lp       { push_stream_subscriber long-polling; }
        location /lp-short { push_stream_subscriber long-polling; push_stream_longpolling_connection_ttl 100ms; }
        location /ws       { push_stream_subscriber websocket; push_stream_websocket_allow_publish on; }
        location /stats    { push_stream_channels_statistics; }
        location /audit    { push_stream_audit on; }
        location /metrics  { push_stream_metrics on; }
    }
EOC
$t->expect_log(qr/\[alert\] .* push stream: panic in ".+": asked for by a test: /);

my $WEBSOCKET = 'Test::Nginx::PushStream::WebSocket';
my $number = 0;
my @workers = $t->worker_pids;
my ($one, $two) = @workers;

# ---- subscribers

# A connection to this worker. Many are made at a time, while the other worker stands still.
my %connections;

sub connection {
    my ($worker) = @_;
    my $made = $connections{$worker} //= [];
    if (!@$made) {
        my @others = grep { $_ != $worker } $t->worker_pids;
        $t->freeze(@others);
        @$made = map { $t->client } 1 .. 50;
        $t->wait_for(sub { $t->worker_of($made->[-1]) }, 'the last one to be accepted');
        $t->thaw(@others);
    }
    return shift @$made;
}

# A new subscriber: its connection (s), what it is (kind), its name in the access log (n), its channel, and the
# id of the first message that it gets. `id` may name several channels, and old messages.
sub add {
    my ($kind, $id, %o) = @_;
    my ($first, $still) = (delete $o{first} // 1, delete $o{still});
    my $n = $kind . ++$number;
    my $uri = "/$kind?id=$id&n=$n";
    $o{client} = connection(delete $o{worker}) if $o{worker} && !$o{rcvbuf};
    my $s = $kind eq 'ws' ? $t->websocket($uri, %o) : $kind =~ /^lp/ ? $t->poll($uri, %o) : $t->subscribe($uri, %o);
    $s->client->pause if $still;
    return { n => $n, kind => $kind, s => $s, channel => $id =~ s/[.\/].*//r, first => $first, texts => '' };
}

# Streams and WebSockets of this channel in both workers.
sub both {
    my ($channel) = @_;
    return map { my $worker = $_; map { add($_, $channel, worker => $worker) } qw(sub ws) } @workers;
}

sub three { my ($kind) = @_; return sub { map { add($kind, $_[0], worker => $one) } 1 .. 3 } }

# A client that reads nothing, behind whose socket something waits.
sub slow {
    my ($channel) = @_;
    my $slow = add('big', $channel, worker => $one, rcvbuf => 4096, still => 1);
    fill($channel) for 1 .. 15;
    return $slow;
}

sub fill { my ($channel) = @_; $t->publish("/pub?id=$channel", 'x' x 400_000); return }

# Has it ended, and not as it does in good order?
sub is_cut {
    my ($sub) = @_;
    my $s = $sub->{s};
    return $s->closed && $s->client->buffered !~ /\x88/ if $sub->{kind} eq 'ws' && ($s->status // 0) == 101;
    $s = $s->exchange if $sub->{kind} eq 'ws';
    $s->wait_end;
    return !$s->complete || $s->status == 500;
}

# The reason for which it ended, from the access log.
sub reason {
    my ($sub) = @_;
    my $reason;
    $t->wait_for(sub { ($reason) = slurp('access.log') =~ /^$sub->{n}=(.*);$/m; defined $reason },
        "a line about $sub->{n}");
    return $reason;
}

# The ids of the messages that it has got, up to this one.
sub ids_until {
    my ($sub, $last) = @_;
    my ($s, $channel) = @$sub{qw(s channel)};
    if ($sub->{kind} eq 'ws') {
        while ($sub->{texts} !~ /\Q$channel\E$last;/) {
            my $text = $s->text // last;
            $sub->{texts} .= $text;
        }
        return join ' ', $sub->{texts} =~ /\Q$channel\E(\d+);/g;
    }
    $s->client->until(sub { $s->so_far =~ /\Q$channel\E$last;/ || $s->client->eof }, "message $last");
    return join ' ', $s->so_far =~ /\Q$channel\E(\d+);/g;
}

# ---- the server

sub publish { my ($channel) = @_; $t->publish("/pub?id=$channel", 'x'); return }

sub subscribers { my ($id) = @_; return ($t->stats("/stats?id=$id") // {})->{subscribers} // 0 }
sub published   { my ($id) = @_; return ($t->stats("/stats?id=$id") // {})->{published_messages} // 0 }

# The names of the callbacks that have panicked since the log had this length.
sub panicked_in {
    my ($from) = @_;
    return map { /panic in "([^"]+)"/ ? $1 : $_ } grep { /\[alert\]/ } split /\n/, substr $t->log, $from;
}

# What is wrong in the zone when everything stands still, and backlogs that are kept.
sub audit {
    my ($audit, @wrong);
    $t->wait_for(sub {
        $audit = decode_json($t->get('/audit')->body);
        push @wrong, @{ $audit->{violations} };
        return $audit->{compared} && !$audit->{kinds}{interests_backlog}{count};
    }, 'a zone that stands still and keeps nothing', 10);
    my $kept = $audit->{kinds}{interests_backlog}{count};
    return join "\n", @wrong, $kept ? "$kept backlogs are kept" : ();
}

sub slurp {
    my ($name) = @_;
    open my $file, '<', $t->dir . "/$name" or return '';
    local $/;
    return scalar(<$file>) // '';
}

# ---- a panic

# Subscribers of another channel, who notice nothing of all that follows.
my @bystanders = both('other-');

# One panic, when a worker reaches this point for the `times`th time (1) while `act` runs. Around it are
# subscribers of the same channel in both workers, who must not notice. Options:
#   subs     code that makes more subscribers of the channel
#   early    the panic may come before `act`
#   act      code that is given the channel and those subscribers; it may return others that it has made
#   cut      how many of all these are cut off (0); who it is depends on whose turn comes first
#   among    code that says, of a subscriber, that it may be one of those
#   in       the name of the callback in the log, as a pattern
#   ends     those that are not cut off end as well, in good order
#   alone    nobody else has the channel
#   check    code that looks at the channel, the subscribers, and those that were cut off
sub panics {
    my ($point, $story, %o) = @_;
    my $name = "$point ($story)";
    return if $ENV{PUSH_STREAM_ONLY} && index($name, $ENV{PUSH_STREAM_ONLY}) < 0;
    my $log = length $t->log;
    my $channel = 'c' . ++$number . '-';
    my @others = $o{alone} ? () : both($channel);
    $t->fail_at($point, $o{times} // 1) if $o{early};
    my @subs = $o{subs} ? $o{subs}->($channel) : ();
    my $expected = @others + @subs;
    $t->wait_for(sub { subscribers($channel) == $expected }, "$expected subscribers") unless $o{early};
    $t->fail_at($point, $o{times} // 1) unless $o{early};
    push @subs, grep { ref } $o{act}->($channel, @subs);
    ok($t->wait_for(sub { $t->faults_left($point) == 0 }, "a panic at $point", 10), "$name: it panics");
    $_->{s}->client->resume for @subs;

    my $cut = $o{cut} // 0;
    my @may = grep { !$o{among} || $o{among}->($_) } @subs, $o{ends} ? () : @others;
    my $end = $o{ends} ? @may : $cut;
    my @cut;
    ok($t->wait_for(sub { @cut = grep { hears_end($_) } @may; @cut >= $end }, "$end to end"), "$name: $end end") if $end;
    @cut = grep { is_cut($_) } @cut if $cut;
    is(scalar @cut, $cut, "$name: $cut cut off") if $cut || !$o{ends};
    is(join(' ', map { reason($_) } @cut), join(' ', ('error') x @cut), "$name: the access log says why") if $cut;
    $o{check}->($channel, \@subs, \@cut) if $o{check};

    my %gone = map { $_->{n} => 1 } @cut, $o{ends} ? @subs : ();
    my @stay = grep { !$gone{ $_->{n} } } @others, @subs;
    my $count = @stay;
    ok($t->wait_for(sub { subscribers($channel) == $count }, "$count subscribers"), "$name: the others are counted");
    # Whatever was published once must be on its way: nothing else wakes anybody now.
    my $before = published($channel);
    my @wrong = wrong(@stay, @bystanders);
    my @late = map { add('sub', $channel, worker => $_, first => $before + 1) } @workers;
    for my $worker (@workers, @workers) {
        my $line = connection($worker);
        $t->publish("/pub?id=$_", 'later', client => $line) for $channel, 'other-';
        $line->close;
    }
    push @wrong, wrong(@stay, @late, @bystanders);
    is(join("\n", @wrong), '', "$name: all others get everything once, in order");
    is(join(' ', $t->worker_pids), join(' ', @workers), "$name: the workers live on");
    like(join(' ', panicked_in($log)), qr/\A(?:$o{in})\z/, "$name: the log says it once");
    $_->{s}->close for @others, @subs, @late;
    ok($t->wait_for(sub { $t->stats->{subscribers} == @bystanders && !subscribers($channel) }, 'nobody', 10),
        "$name: nobody is left");
    is(audit(), '', "$name: the zone is in order");
    $t->delete("/pub?id=$channel");
    return;
}

# Has the response ended, or the connection?
sub hears_end {
    my ($sub) = @_;
    my $s = $sub->{kind} eq 'ws' ? $sub->{s}->exchange : $sub->{s};
    return $s->client->eof || $s->complete;
}

# A line for each of these that has not got what was published since it came.
sub wrong {
    my %last;
    return map {
        my $last = $last{ $_->{channel} } //= published($_->{channel});
        my $got = $last >= $_->{first} ? ids_until($_, $last) : '';
        my $want = join ' ', $_->{first} .. $last;
        $got eq $want ? () : "$_->{n}: \"$got\", not \"$want\"";
    } grep { $_->{kind} !~ /^lp/ } @_;
}

sub is_of { my (@kinds) = @_; my %kinds = map { $_ => 1 } @kinds; return sub { $kinds{ $_[0]{kind} } } }


# ---- live messages

my @one = (cut => 1);
panics('send', 'of one of many', @one, in => 'fan out|write', times => 4, act => \&publish, subs => three('sub'));
panics('flush', 'through all filters', @one, in => 'write', times => 2, act => \&publish, subs => three('filtered'));
panics('await_writable', 'a socket that is full', @one, in => 'write', act => sub { fill($_[0]) for 1 .. 15; return },
    subs => sub { add('big', $_[0], worker => $one, rcvbuf => 4096, still => 1) });
panics('buffered_max', 'more for a full socket', @one, in => 'fan out', act => sub { fill($_[0]) }, subs => \&slow,
    among => is_of('big'));

panics('on_writable', 'a socket that takes more', @one, in => 'on_writable', subs => \&slow,
    act => sub { $_[1]{s}->client->resume; return });

panics('batch', 'before anybody has it', cut => 3, in => 'fan out', act => \&publish, subs => three('sub'), alone => 1,
    among => is_of('sub'));
panics('ended', 'a deleted channel', cut => 1, in => 'unsubscribe', subs => three('sub'), alone => 1, ends => 1,
    act => sub { $t->delete("/pub?id=$_[0]"); return });

# The place of a message says that nothing older of its channels is still to come: that is asked for each of them.
panics('oldest_unread', 'a stream of two channels with cursors', @one, in => 'settle', times => 2, act => \&publish,
    subs  => sub { my ($channel) = @_; map { add('ordered', "$channel/p$channel", worker => $one) } 1 .. 3 },
    among => is_of('ordered'));

# ---- times

panics('ping_text', 'a ping', @one, in => 'on_due', times => 2, act => sub { }, subs => three('pinged'));
panics('depart', 'the end of a time', @one, in => 'depart', times => 2, act => sub { }, subs => three('short'), ends => 1,
    early => 1);
panics('resume_from', 'the end of a poll', @one, in => 'on_due', times => 2, act => sub { }, subs => three('lp-short'),
    ends => 1, early => 1);
panics('tick', 'the sweep', in => 'on_\w+_tick', act => sub { });

# ---- polls

panics('layout', 'the answer to a poll', @one, in => 'write', times => 2, act => \&publish, subs => three('lp'),
    ends => 1);
panics('depart', 'the answer to a poll', @one, in => 'depart', times => 2, act => \&publish, subs => three('lp'), ends => 1);
panics('write_down', 'the answer to a poll', in => 'write_down', times => 2, act => \&publish, subs => three('lp'),
    ends => 1);
panics('has_older', 'a poll of two channels', @one, in => 'write', times => 2, act => \&publish, ends => 1,
    subs => sub { my ($channel) = @_; map { add('lp', "$channel/p$channel", worker => $one) } 1 .. 3 });

# ---- WebSockets

sub say_x_to_all { my ($channel, @subs) = @_; $_->{s}->send_text('x') for grep { $_->{kind} eq 'ws' } @subs; return }
sub say_x { my ($channel, @subs) = @_; $subs[0]{s}->send_text('x'); return }

panics('on_frames', 'before reading', @one, in => 'on_frames', act => \&say_x, subs => three('ws'));
panics('receive', 'while reading', @one, in => 'on_frames', act => \&say_x, subs => three('ws'));
panics('websocket_publish', 'while publishing', @one, in => 'on_frames', act => \&say_x, subs => three('ws'));
# Its own message comes first, then its close frame.
panics('send', 'to another one, before the last frame of a client', @one, in => 'fan out|write', ends => 1, among => is_of('ws'),
    subs => sub { my ($channel) = @_; map { add('ws', $channel, worker => $one) } 1, 2 },
    alone => 1,
    act   => sub {
        my ($channel, undef, $ws) = @_;
        my @frames = ([ 1, 'x' ], [ 8, pack 'n', 1000 ]);
        $ws->{s}->send_raw(join '', map { $WEBSOCKET->can('frame_bytes')->(@$_, mask => "\1\2\3\4") } @frames);
        return;
    },
    check => sub {
        my ($channel, $subs) = @_;
        is($subs->[1]{s}->text, "${channel}1;", 'the client gets its own message');
        is($subs->[1]{s}->rest, $WEBSOCKET->can('close_hex')->(1000), 'and then its close frame');
    });

# ---- requests

for my $kind (qw(sub ws lp)) {
    for my $point (qw(admitted subscribed opened schedule)) {
        panics($point, "a new $kind", @one, in => 'subscriber::handle', among => is_of($kind),
            act => sub { add($kind, $_[0], worker => $one) });
    }
}

sub ten { my ($channel) = @_; $t->publish("/pub?id=$channel", 'old') for 1 .. 10; return }

for my $kind (qw(sub ws lp)) {
    panics('backlog', "for a new $kind", @one, in => 'subscriber::handle', times => 3, subs => \&ten,
        among => is_of($kind), act => sub { add($kind, "$_[0].b9") });
}
panics('read_on', 'for a new subscriber', @one, in => 'subscriber::handle', among => is_of('big'),
    subs => sub { fill($_[0]) for 1 .. 3; return },
    act  => sub { add('big', "$_[0].b9") });
panics('read_on', 'behind a full socket', @one, in => 'on_writable|on_flush', times => 5, among => is_of('big'),
    subs => sub {
        my ($channel) = @_;
        fill($channel) for 1 .. 30;
        my $slow = add('big', "$channel.b30", worker => $one, rcvbuf => 4096, still => 1);
        $t->get('/stats', worker => $one);    # it has been served
        return $slow;
    },
    act => sub { $_[1]{s}->client->resume; return });

# ---- publishers

panics('publish', 'before it is published', in => 'publisher::on_body', act => sub {
    is($t->post("/pub?id=$_[0]", 'x', worker => $one)->status, 500, 'the publisher is told');
    return;
});
panics('published', 'after it was published', in => 'publisher::on_body', act => sub {
    is($t->post("/pub?id=$_[0]", 'x', worker => $one)->status, 500, 'the publisher is told');
    return;
});

# ---- ends

sub leave { my ($channel, @subs) = @_; $_->{s}->close for @subs; return }
panics('on_readable', 'a client that leaves', in => 'on_readable', act => \&leave, subs => three('sub'), ends => 1);
panics('leave', 'a client that leaves', in => 'leave', act => \&leave, subs => three('sub'), ends => 1);
panics('write_down', 'a client that leaves', in => 'write_down', act => \&leave, subs => three('sub'), ends => 1);

# ---- again and again

# Whatever panics each time, the worker does not turn in circles: others have their turns, and in the end nobody
# is left.
sub always {
    my ($point, $act) = @_;
    my $name = "$point, each time";
    return if $ENV{PUSH_STREAM_ONLY} && index($name, $ENV{PUSH_STREAM_ONLY}) < 0;
    my $channel = 'c' . ++$number . '-';
    my $log = length $t->log;
    my @subs = map { add($_, $channel, worker => $one) } qw(sub filtered ws lp sub filtered ws lp);
    $t->wait_for(sub { subscribers($channel) == @subs }, 'subscribers');
    $t->fail_at($point, 'always');
    $act->($channel, @subs);
    ok($t->wait_for(sub { panicked_in($log) }, 'a panic'), "$name: it panics");
    # Its worker still serves requests.
    my $line = connection($one);
    is($t->get('/stats', client => $line)->status, 200, "$name: others have their turn") for 1 .. 3;
    $line->close;
    $_->{s}->close for @subs;
    $t->wait_for(sub { my $before = panicked_in($log); $t->get('/stats') for 1 .. 5; $before == panicked_in($log) },
        'the last panic');
    $t->fail_at($point, 0);
    cmp_ok(scalar(my @all = panicked_in($log)), '<=', 20 * @subs, "$name: no more panics than there are reasons");
    ok($t->wait_for(sub { $t->stats->{subscribers} == @bystanders && !subscribers($channel) }, 'nobody', 10),
        "$name: nobody is left");
    is(join("\n", wrong(@bystanders)), '', "$name: others get everything");
    is(join(' ', $t->worker_pids), join(' ', @workers), "$name: the workers live on");
    is(audit(), '', "$name: the zone is in order");
    $t->delete("/pub?id=$channel");
    return;
}

always($_, \&publish) for qw(send flush layout batch depart write_down);
always($_, \&leave)   for qw(on_readable leave write_down);
always('on_frames', \&say_x_to_all);
always('ended', sub { $t->delete("/pub?id=$_[0]") });

# ---- the end of a worker

# At the end of a worker each subscriber gets its last bytes, but for one.
sub last_panic {
    my ($point, $in, $how, $end, @kinds) = @_;
    my $name = "$point ($how)";
    return if $ENV{PUSH_STREAM_ONLY} && index($name, $ENV{PUSH_STREAM_ONLY}) < 0;
    my $log = length $t->log;
    my @subs = map { my $worker = $_; map { add($_, 'last', worker => $worker) } @kinds } $t->worker_pids;
    $t->wait_for(sub { subscribers('last') == @subs }, 'subscribers');
    $t->fail_at($point, 3);
    $_->close for map { splice @$_ } values %connections;
    ok($end->(), "$name: the workers end");
    my @cut = grep { is_cut($_) } @subs;
    is(scalar @cut, 1, "$name: one is cut off");
    is(join(' ', map { reason($_) } @cut), 'error', "$name: the access log says why");
    is(join(' ', panicked_in($log)), $in, "$name: the log says it once");
    return;
}

my $reload = sub { return $t->reload(wait_old => 1) };
$_->{s}->close for @bystanders;

# All that were let in have ended, and have been counted as that, whatever has panicked.
sub sum {
    my ($series, $name) = @_;
    my $sum = 0;
    $sum += $series->{$_} for grep { /\Anginx_push_stream_$name(?:\{|\z)/ } keys %$series;
    return $sum;
}
my $series;
$t->wait_for(sub { $series = scrape($t); !sum($series, 'subscribers') && !sum($series, 'subscriptions') },
    'counters without a subscriber', 10);
is(sum($series, $_), 0, "the metrics know no $_ any more") for qw(subscribers subscriptions buffered_bytes);
is(sum($series, 'disconnects_total'), sum($series, 'accepted_subscribers_total'), 'all that were let in have ended once');
is(sum($series, 'worker_deaths_total'), 0, 'no worker died');
last_panic('dismiss', 'dismiss', 'a reload', $reload, qw(sub ws lp));
last_panic('layout',  'dismiss', 'a reload', $reload, qw(sub ws lp));
# A WebSocket has its close frame by then.
last_panic('depart', 'depart', 'a reload', $reload, qw(sub lp));
is(audit(), '', 'the zone is in order') unless $ENV{PUSH_STREAM_ONLY};
last_panic('dismiss', 'dismiss', 'a stop', sub { return $t->stop }, qw(sub ws lp));

$t->done();
