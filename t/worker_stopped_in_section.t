# A worker that is stopped while it holds a lock of the zone: the others wait, say for whom, and go on when
# it does.
#
# Proves promises.md: deaths-and-changes.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new(workers => 2)->http(<<'EOC')->run();
    push_stream_shared_memory_size 4m;
    push_stream_channels_path $arg_id;
    push_stream_max_messages_stored_per_channel 10;
    keepalive_requests 10000000;
    client_body_buffer_size 64k;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher; push_stream_store_messages on; push_stream_channel_info_on_publish off; }
        location /stats { push_stream_channels_statistics; }
    }
EOC

my ($stopped, $other) = $t->worker_pids;

# The first worker publishes all the time: each large message takes and frees many pieces of memory, and
# each time holds the lock of all that workers share. Stopped at any moment, it often has it.
my $body  = 'x' x 60_000;
my @busy  = map { $t->client(worker => $stopped) } 1 .. 4;
my $asker = $t->client(worker => $other);
my $said  = qr/\[error\] $other#\d+: push stream: waiting for process $stopped, which has held a lock/;

my ($caught, $tries) = (0, 0);
while (!$caught && $tries++ < 2000) {
    my @publishing = map { $t->start('POST', '/pub?id=a', body => $body, client => $_) } @busy;
    $t->freeze($stopped);
    # The second one publishes, too. It has its answer at once, or waits for the lock and says so.
    my $asked = $t->start('POST', '/pub?id=b', body => 'x', client => $asker);
    $t->wait_for(sub { $caught = $t->log =~ $said; $asked->complete || $caught }, 'an answer, or a line in the log');
    if ($caught) {
        ok(!$asked->complete, 'it waits, and says for whom');
    }
    $t->thaw($stopped);
    is($asked->status, 200, 'it goes on when the other does') if $caught;
    $_->wait_end for $asked, @publishing;
}
ok($caught, "the worker was stopped inside a section (after $tries tries)");
is(() = $t->log =~ /waiting for process/g, 1, 'one line a wait');
$t->expect_log(qr/waiting for process $stopped/);

$t->done();
