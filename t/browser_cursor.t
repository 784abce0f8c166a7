# A browser's own EventSource, over one channel and over two, sees each message once and in order, while nginx is reloaded
# and its workers are killed.
#
# Proves protocol.md: cursors, event-stream; directives.md: push_stream_cursor, push_stream_retry.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;
use Test::Nginx::PushStream::Browser;

Test::More::plan(skip_all => 'chromedriver is not installed') unless Test::Nginx::PushStream::Browser->available;

my $t = Test::Nginx::PushStream->new(workers => 2)->http(<<'EOC');
    push_stream_shared_memory_size 8m;
    push_stream_channels_path $arg_id;
    push_stream_store_messages on;
    types { text/html html; }
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher; }
        location /ev    { push_stream_subscriber eventsource; push_stream_cursor on; push_stream_retry 20ms; }
        location /stats { push_stream_channels_statistics; }
        location /page  { root %%TESTDIR%%; }
    }
EOC
my $dir = $t->dir;
mkdir "$dir/page";
$t->write_file('page/index.html', <<'HTML');
<!DOCTYPE html><title>push</title><script>
var got = { one: [], two: [], cuts: 0 };
function read(url, into) {
    var source = new EventSource(url);
    source.onmessage = e => into.push(+e.data);
    source.onerror = () => got.cuts++;
}
read('/ev?id=a', got.one);
read('/ev?id=a/b', got.two);
</script>
HTML
chmod 0755, $dir, "$dir/page";
$t->run;

my $browser = Test::Nginx::PushStream::Browser->new($dir);
$browser->open('http://127.0.0.1:' . $t->port(8080) . '/page/index.html');
$t->wait_subscribers('/stats?id=a', 2);

my ($one, $two) = $t->publish_through_cuts(5, 1000);
my $got;
$t->wait_for(sub { $got = $browser->run('return got'); ($got->{one}[-1] // 0) == $one->[-1] && ($got->{two}[-1] // 0) == $two->[-1] },
    'the last message of each', 30);
is(scalar @$two, 10_000, 'messages');
is_deeply($got->{one}, $one, 'one channel');
is_deeply($got->{two}, $two, 'two channels, in the order of publishing');
cmp_ok($got->{cuts}, '>=', 5, "connections were cut: $got->{cuts}");
$browser->quit;
$t->done();
