# push_stream_retry: an event stream says once, at its beginning, how long to wait before the client connects again.
#
# Proves directives.md: push_stream_retry.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    push_stream_store_messages on;
    push_stream_retry 2s;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher; }
        location /ev    { push_stream_subscriber eventsource; }
        location /both  { push_stream_subscriber eventsource; push_stream_cursor on; }
        location /one   { push_stream_subscriber eventsource; push_stream_retry 1ms; }
        location /plain { push_stream_subscriber; push_stream_header_template H; }
    }
EOC

$t->publish('/pub?id=a', 'old');
my %seen;
for (1 .. 40) {
    my $ev = $t->subscribe('/ev?id=a.b1');
    my ($msec) = $ev->read_until(qr/old\n\n/) =~ /\A: \nretry: (\d+)\n\ndata: old\n\n\z/;
    $seen{ $msec // 'none' }++;
    $ev->close;
}
is(scalar(grep { !/^\d+$/ || $_ < 2000 || $_ > 3000 } keys %seen), 0, 'up to half of it more') or diag join ' ', keys %seen;
cmp_ok(scalar keys %seen, '>', 5, 'at random');
my $ev = $t->subscribe('/ev?id=a');
$t->publish('/pub?id=a', 'live');
like($ev->read_until(qr/live\n\n/), qr/\A: \nretry: \d+\n\ndata: live\n\n\z/, 'also without an old message');
my $both = $t->subscribe('/both?id=a');
like($both->read_until(qr/id: .*\n\n/), qr/\A: \nretry: \d+\nid: p\S+\n\n\z/, 'together with the place');
like($t->subscribe('/one?id=a')->read_until(qr/retry.*\n\n/), qr/retry: 1\n\n/, 'a small one stays');
my $plain = $t->subscribe('/plain?id=a.b1');
is($plain->read_until(qr/old|live/), 'Hlive', 'nothing in other modes');
$t->done();
