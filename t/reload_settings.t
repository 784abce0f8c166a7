# A reload changes settings, not channels: new templates, texts and limits hold for what was there before, and
# a message keeps its expiry.
#
# Proves protocol.md: reload-stop-and-death, expiry (time to live of a message), templates.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $conf = <<'EOC';
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    push_stream_store_messages on;
    HTTP
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher admin; }
        location /stats { push_stream_channels_statistics; }
        location /sub   { push_stream_subscriber; SUB }
    }
EOC
sub conf { my ($http, $sub) = @_; return $conf =~ s/HTTP/$http/r =~ s/SUB/$sub/r }

my $t = Test::Nginx::PushStream->new(workers => 2)
    ->http(conf('', 'push_stream_header_template "old:"; push_stream_message_template "o~text~"; push_stream_footer_template "bye";'))
    ->run;

$t->publish("/pub?id=$_", "m$_") for qw(a b);
my $old = $t->subscribe('/sub?id=a.b1');
is($old->read_until(qr/oma/), 'old:oma', 'the old template');

# templates, texts, limits

ok($t->reload(conf('push_stream_max_number_of_channels 1; push_stream_channel_deleted_message_text "gone";'
        . ' push_stream_max_channel_id_length 5; push_stream_message_ttl 1s; push_stream_ping_message_text "still";',
    'push_stream_header_template "new:"; push_stream_message_template "n~text~"; push_stream_ping_message_interval 200ms;')), 'reload');
is($old->body, 'old:omabye', 'who came before ends as it began');

my $new = $t->subscribe('/sub?id=a.b1');
is($new->read_until(qr/nma/), 'new:nma', 'a message of before in the new template');
is($new->read_until(qr/still/), 'nstill', 'the new ping');
is($t->stats('/stats?id=b')->{stored_messages}, 1, 'more channels than the new limit stay');
is($t->post('/pub?id=b', 'again')->status, 200, 'and can be used');
is($t->post('/pub?id=c', 'x')->status, 403, 'a new one is refused');
is($t->post('/pub?id=toolong', 'x')->status, 400, 'as is an id that is too long now');

# times

ok($t->wait_for(sub { $t->stats('/stats?id=b')->{stored_messages} == 1 }, 'the new message to expire'),
    'a new message has the new time to live');
my $replay = $t->subscribe('/sub?id=b.b9');
is($replay->read_until(qr/nmb/), 'new:nmb', 'an old one keeps its own');

$t->delete('/pub?id=a');
like($new->body, qr/ngone\z/, 'the new text for a deleted channel');

# a configuration that is refused changes nothing

my @workers = $t->worker_pids;
ok($t->reload(conf('push_stream_message_ttl 0;', ''), fails => 1), 'a bad configuration is refused');
is_deeply([$t->worker_pids], \@workers, 'the workers stay');
is($replay->read_until(qr/still/) =~ /still/, 1, 'and so do subscribers');

$t->done;
