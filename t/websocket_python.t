# An independent, maintained client library talks to the server: messages, pings, closing, refusals. Needs
# Python's "websockets" (Debian: python3-websockets).
#
# Proves protocol.md: handshake, frames-from-the-server, frames-from-the-client, closing,
# publishing-over-a-websocket.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my ($python) = grep { -x && system("$_ -c 'import websockets' 2>/dev/null") == 0 }
    '/usr/bin/python3', map { "$_/python3" } File::Spec->path;
plan(skip_all => 'no python3 with websockets') unless $python;

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 32m;
    push_stream_channels_path $arg_id;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /echo  {
            push_stream_subscriber websocket;
            push_stream_websocket_allow_publish on;
            push_stream_websocket_binary on;
        }
        location /ttl   { push_stream_subscriber websocket; push_stream_subscriber_connection_ttl 1s; push_stream_footer_template FOOT; }
        location /stats { push_stream_channels_statistics; }
    }
EOC

my $script = $t->write_file('client.py', <<'EOP');
import asyncio, sys
import websockets

base = sys.argv[1]

async def talk():
    # The client's own pings must be echoed: it ends a connection on which they are not.
    async with websockets.connect(base + "/echo?id=a", ping_interval=0.1, ping_timeout=5, max_size=None) as ws:
        await ws.send("Ola")
        print("text", await ws.recv())
        await ws.send(b"\xff\x00")
        print("binary", await ws.recv())
        await ws.send(["in ", "three ", "parts"])
        print("fragments", await ws.recv())
        big = "x" * 3000000
        await ws.send(big)
        print("big", await ws.recv() == big)
        for n in range(200):
            await ws.send(str(n))
        print("many", [await ws.recv() for n in range(200)] == [str(n) for n in range(200)])
        pong = await ws.ping(b"payload")
        await asyncio.wait_for(pong, 5)
        print("pong")
        await asyncio.sleep(0.5)
        print("open", ws.open)
        await ws.close(code=1000, reason="bye")
        print("closed", ws.close_code)

async def ended():
    async with websockets.connect(base + "/ttl?id=b") as ws:
        got = []
        try:
            while True:
                got.append(await ws.recv())
        except websockets.ConnectionClosed as e:
            print("ended", got, e.rcvd and e.rcvd.code)

async def refused():
    async with websockets.connect(base + "/echo?id=ALL") as ws:
        try:
            await ws.recv()
        except websockets.ConnectionClosed as e:
            print("refused", e.rcvd.code, e.rcvd.reason)

async def violated():
    async with websockets.connect(base + "/echo?id=v") as ws:
        await ws.ensure_open()
        await ws.write_frame(True, 1, b"\xff")
        try:
            await ws.recv()
        except websockets.ConnectionClosed as e:
            print("violated", e.rcvd.code)

async def unknown():
    try:
        async with websockets.connect(base + "/stats?id=a"):
            pass
    except websockets.InvalidStatusCode as e:
        print("unknown", e.status_code)

for story in talk, ended, refused, violated, unknown:
    asyncio.run(asyncio.wait_for(story(), 30))
EOP

open my $client, '-|', "$python $script ws://127.0.0.1:" . $t->port . ' 2>&1' or die $!;
my $said = do { local $/; <$client> };
close $client;
is($? >> 8, 0, 'the client ends well');
is($said, <<'EOS', 'and sees what it should');
text Ola
binary b'\xff\x00'
fragments in three parts
big True
many True
pong
open True
closed 1000
ended ['FOOT'] 1005
refused 1008 {"http_status": 403, "explain":"Channel id not authorized for this method."}
violated 1007
unknown 200
EOS
is($t->stats->{subscribers}, 0, 'nobody is left');

$t->done();
