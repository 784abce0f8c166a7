# A subscriber is refused by a limit, an authorisation or a wildcard rule, and the refusal leaves no trace.
#
# Proves protocol.md: configured-limits, order-of-checks, refusals, the-channel-of-events (subscribing).

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $conf = <<'EOC';
    push_stream_shared_memory_size 2m;
    push_stream_channels_path $arg_id;
    push_stream_max_subscribers_per_channel 2;
    push_stream_max_number_of_channels 6;
    push_stream_max_number_of_wildcard_channels 3;
    push_stream_wildcard_channel_prefix bd_;
    push_stream_events_channel_id evts;
    push_stream_message_ttl 3s;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher admin; push_stream_store_messages on; }
        location /pass  { push_stream_publisher; }
        location /sub   { push_stream_subscriber; push_stream_wildcard_channel_max_qtd 2; }
        location /auth  { push_stream_subscriber; push_stream_authorized_channels_only on; }
        location /evts  { push_stream_subscriber; push_stream_allow_connections_to_events_channel on; }
        location /if    { push_stream_subscriber;
                          if ($arg_key) { push_stream_allow_connections_to_events_channel on; } }
        location /stats { push_stream_channels_statistics; }
    }
EOC
my $t = Test::Nginx::PushStream->new->http($conf)->run();
my @workers = $t->worker_pids;

sub refused {
    my ($uri, $status, $explain, $name) = @_;
    my $r = $t->get($uri);
    return $t->is_refusal($r, $status, $explain, $name);
}
sub accepted {
    my ($uri, $name) = @_;
    my $s = $t->subscribe($uri);
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is($s->status, 200, $name);
    return $s;
}

# Closes a subscriber and waits until the two that stay are the only ones.
sub leave { my ($s) = @_; $s->close; return $t->wait_for(sub { $t->stats->{subscribers} == 2 }, 'it to leave') }

# authorised channels
my $unauthorised = 'Subscriber could not create channels.';
refused('/auth?id=a', 403, $unauthorised, 'a channel that does not exist');
is($t->get('/pub?id=a')->status, 404, 'and does not come to be');
$t->publish('/pass?id=a', 'x');
refused('/auth?id=a', 403, $unauthorised, 'a channel without stored messages');
$t->publish('/pub?id=a', 'x');
my $s = accepted('/auth?id=a.b1/bd_1', 'one with a stored message; a wildcard channel is exempt');
is($s->next_chunk, 'x', 'which is replayed');
$s->close;
refused('/auth?id=a/nothing', 403, $unauthorised, 'all have to be authorised');
my $expiring = $t->stats('/stats?id=a')->{stored_messages};

# subscribers per channel, over both workers
my @two = map { $t->subscribe('/sub?id=b', worker => $_) } @workers;
is($_->status, 200, 'two subscribers') for @two;
my $full = 'Subscribers limit per channel has been exceeded.';
refused('/sub?id=b', 403, $full, 'a third');
refused('/sub?id=c/b', 403, $full, 'also among others');
is($t->get('/pub?id=c')->status, 404, 'a refusal creates no channel');
(shift @two)->close;
$t->wait_subscribers('/stats?id=b', 1);
push @two, accepted('/sub?id=b', 'when one has left there is room');

# wildcard channels
my $many = 'Subscribed too much wildcard channels.';
refused('/sub?id=bd_1', 403, $many, 'nothing but a wildcard channel');
refused('/sub?id=bd_1/bd_2', 403, $many, 'nothing but wildcard channels');
refused('/sub?id=b/bd_1', 403, $full, '(the limit of subscribers comes first)');
refused('/sub?id=d/bd_1/bd_2/bd_3', 403, $many, 'more than the quantity');
refused('/sub?id=bd_', 403, $many, 'the prefix itself is a wildcard channel');
is($t->get('/pub?id=d')->status, 404, 'a refusal creates no channel');
leave(accepted('/sub?id=d/bd_1/bd_2', 'as many as the quantity'));
leave(accepted('/sub?id=bd', 'part of the prefix is none'));
leave(accepted('/sub?id=bd1', 'nor is another id that begins alike'));

# number of channels: evts, a, b, d, bd, bd1; bd_1, bd_2
my $exceeded = 'Number of channels were exceeded.';
is(join(' ', @{ $t->stats }{qw(channels wildcard_channels)}), '6 2', 'six channels and two');
refused('/sub?id=e', 403, $exceeded, 'a channel too many');
refused('/sub?id=d/bd_3/e', 403, $exceeded, 'and nothing is created');
is($t->get('/pub?id=bd_3')->status, 404, 'not even what there is room for');
leave(accepted('/sub?id=d/bd_3', 'an existing one and a new wildcard channel'));
refused('/sub?id=d/bd_4', 403, $exceeded, 'wildcard channels have their own limit');
leave(accepted('/sub?id=d', 'existing channels are never refused'));

# the events channel
my $events = 'Subscription to events channel is not allowed.';
refused('/sub?id=evts', 403, $events, 'the events channel');
refused('/sub?id=d/evts', 403, $events, 'also among others');
leave(accepted('/evts?id=evts', 'where it is allowed'));
refused('/if?id=evts', 403, $events, 'outside of the if');
leave(accepted('/if?id=evts&key=1', 'inside of it'));

is($expiring, 1, '(the message of a was stored)');
$t->wait_for(sub { !$t->stats('/stats?id=a')->{stored_messages} }, 'it to expire', 15);
refused('/auth?id=a', 403, $unauthorised, 'a channel whose messages all expired');

# limits lowered by a reload
$t->reload($conf =~ s/(max_number_of_channels) 6/$1 2/r =~ s/(subscribers_per_channel) 2/$1 1/r, wait_old => 1);
refused('/sub?id=f', 403, $exceeded, 'more channels than the new limit');
accepted('/sub?id=d', 'existing ones are served');
refused('/sub?id=d', 403, $full, 'by the new limit of subscribers');

$t->done();
