# The audit of the zone: who may see it, what it reports, and that it finds nothing wrong: under traffic,
# after workers were killed, and after everything has expired.
#
# Proves directives.md: push_stream_audit, push_stream_audit_allow; promises.md: deaths-and-changes.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;
use JSON::PP qw(decode_json);

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 4m;
    push_stream_channel_inactivity_time 1s;
    push_stream_message_ttl 1h;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub    { push_stream_publisher admin; push_stream_channels_path $arg_id; push_stream_store_messages on; }
        location /pass   { push_stream_publisher; push_stream_channels_path $arg_id; }
        location /sub    { push_stream_subscriber; push_stream_channels_path $arg_id; }
        location /stats  { push_stream_channels_statistics; push_stream_channels_path $arg_id; }
        location /audit  { push_stream_audit on; }
        location /others { push_stream_audit on; push_stream_audit_allow 127.1.0.0/16 10.0.0.1 unix:; }
        location /these  { push_stream_audit on; push_stream_audit_allow 10.0.0.1; push_stream_audit_allow 127.0.0.0/8; }
        location /all    { push_stream_audit on; push_stream_audit_allow all; }
        location /denied { push_stream_audit on; push_stream_audit_allow all; deny all; }
    }
EOC

my %cache = $t->cache_headers;

sub audit {
    my $r = $t->get('/audit', @_);
    is($r->status, 200, 'an audit') if $r->status != 200;
    return decode_json($r->body);
}

# Nothing is wrong, and in some try nothing moved meanwhile.
sub clean {
    my ($when) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my ($audit, @wrong);
    $t->wait_for(sub { $audit = audit(); push @wrong, @{ $audit->{violations} }; $audit->{compared} },
        'a zone that stands still');
    is_deeply(\@wrong, [], "$when: nothing is wrong");
    ok($audit->{compared}, "$when: counters and lists were compared");
    my $sum = 0;
    $sum += $_->{bytes} for values %{ $audit->{kinds} };
    is($sum, $audit->{bytes}, "$when: every byte is accounted for");
    return $audit;
}

# who may
my $r = $t->get('/audit');
is($r->status, 200, 'this machine sees it');
is($r->header('Content-Type'), 'application/json', 'Content-Type');
is($r->header($_), $cache{$_}, $_) for sort keys %cache;
$t->is_refusal($t->get('/others'), 403, undef, 'not in the list');
is($t->get($_)->status, 200, "$_ is in the list") for qw(/these /all);
is($t->get('/denied')->status, 403, 'deny applies besides');
$t->expect_log(qr/access forbidden by rule/);
$t->is_refusal($t->request($_, '/audit', body => 'x'), 405, undef, "$_ is refused", Allow => 'GET')
    for qw(POST PUT DELETE OPTIONS HEAD PATCH);

# an empty zone
my $empty = clean('empty');
is($empty->{kinds}{$_}{count}, 0, "no $_") for
    qw(messages_stored messages_in_trash messages_staged content_blocks channels_live interests_live);
is_deeply([ sort map { $_->{pid} } @{ $empty->{seats} } ], [ sort $t->worker_pids ], 'its workers');

# counts
my @workers = $t->worker_pids;
$t->publish("/pub?id=c$_", 'x' x 100) for 1 .. 5;
$t->publish('/pub?id=long', 'y' x 100_000);
my @subs = map { $t->subscribe('/sub?id=c1/c2', worker => $_) } @workers;
$t->delete('/pub?id=c5');
my $audit = clean('some');
is($audit->{kinds}{messages_stored}{count}, $t->stats->{stored_messages}, 'stored messages');
is($audit->{kinds}{channels_live}{count}, $t->stats->{channels}, 'channels');
is($audit->{kinds}{interests_live}{count}, 2 * @workers, 'one interest a worker and channel');
cmp_ok($audit->{kinds}{content_blocks}{bytes}, '>', 90_000, 'content of long messages');

# with traffic: no rule about neighbours is ever broken
# (Connections are made before: a worker that is stopped for that, in the middle of a stop for an audit,
# would keep all others waiting.)
my (@wrong, $seen);
my @lines = map { $t->client(worker => $_) } @workers;
my @publishers = map { $t->client(worker => $_) } @workers;
for my $round (1 .. 60) {
    my @audits = map { $t->start('GET', '/audit', client => $_) } @lines;
    $t->publish('/pub?id=c' . $_ % 9, "message $round", client => $publishers[ $_ % @workers ]) for 1 .. 5;
    $t->publish('/pass?id=c1', 'z' x 5000, client => $publishers[0]);
    $t->request('DELETE', '/pub?id=c' . $round % 9, client => $publishers[-1]) if $round % 5 == 0;
    for my $audit (@audits) {
        $audit->wait_end;
        push @wrong, @{ decode_json($audit->body)->{violations} };
        $seen++;
    }
}
$_->close for @lines, @publishers;
is_deeply(\@wrong, [], "$seen audits with traffic: nothing is wrong");
$_->close for @subs;

# killed workers
for my $round (1 .. 4) {
    my ($one, $two) = $t->worker_pids;
    my @s = map { $t->subscribe('/sub?id=k1/k2', worker => $_) } $one, $two;
    $t->publish('/pub?id=k1/k2', 'm' x 9000, worker => $two);
    $t->kill_worker($one);
    is_deeply(audit()->{violations}, [], 'right after a kill');
    $t->publish('/pub?id=k1', 'n');
    $_->close for @s;
}
clean('after kills');

# a worker that is to go first finishes its audits
my ($going, $other) = $t->worker_pids;
my $line = $t->client(worker => $going);
$t->freeze($going);
my $begun = $t->start('GET', '/audit', client => $line);
$t->signal('HUP');
$t->wait_log(qr/ $other#.*gracefully shutting down/);
$t->thaw($going);
is_deeply(decode_json($begun->body)->{violations}, [], 'an audit that meets a reload');
$line->close;

# drained
for my $channel (map({ "c$_" } 0 .. 9), qw(long k1 k2)) {
    $t->delete("/pub?id=$channel");
}
$t->wait_for(sub { my $s = $t->stats; !grep { $s->{$_} } qw(channels stored_messages messages_in_trash channels_in_trash channels_in_delete) },
    'everything to be gone', 40);
$audit = clean('drained');
is($audit->{pages}{free}, $empty->{pages}{free}, 'all pages are free again');

$t->done;
