# A body that the module does not use is never taken for the next request on its connection.
#
# Proves protocol.md: common-headers (unused bodies), publisher-methods.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    push_stream_max_channel_id_length 10;
    client_body_buffer_size 1k;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher; push_stream_store_messages on; }
        location /sub   { push_stream_subscriber; push_stream_subscriber_connection_ttl 300ms; }
        location /poll  { push_stream_subscriber polling; }
        location /stats { push_stream_channels_statistics; }
        location /plain { return 200 plain; }
    }
EOC

# What an attacker would have executed. Padded bodies do not arrive in one piece with their head.
my $evil = "POST /pub?id=evil HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nEVIL";
my %body = (short => $evil, long => $evil x 400);

my @cases = (
    [ POST   => '/pub?id=ALL',            403 ],
    [ POST   => '/pub',                   400 ],
    [ POST   => '/pub?id=' . 'x' x 11,    400 ],
    [ DELETE => '/pub?id=a',              405 ],
    [ PATCH  => '/pub?id=a',              405 ],
    [ OPTIONS => '/pub?id=a',             200 ],
    [ GET    => '/pub?id=missing',        404 ],
    [ GET    => '/pub?id=there',          200 ],
    [ POST   => '/sub?id=a',              405 ],
    [ GET    => '/sub',                   400 ],
    [ OPTIONS => '/sub',                  200 ],
    [ GET    => '/sub?id=ttl',            200 ],
    [ GET    => '/poll?id=a',             304 ],
    [ GET    => '/stats',                 200 ],
    [ POST   => '/stats',                 405 ],
);
$t->publish('/pub?id=there', 'x');

for my $size (sort keys %body) {
    for my $how (qw(length chunked)) {
        for my $case (@cases) {
            my ($method, $uri, $status) = @$case;
            my $name = "$method $uri, $size body, $how";
            my $body = $body{$size};
            my @headers = $how eq 'length' ? () : ('Transfer-Encoding' => 'chunked');
            $body = sprintf "%x\r\n%s\r\n0\r\n\r\n", length $body, $body if $how eq 'chunked';
            my $first = $t->start($method, $uri, @headers, body => $body);
            my $second = $t->start('GET', '/plain', client => $first);
            is($first->status, $status, $name);
            $first->wait_end;
            # Either the connection ends, or the next answer on it is that to the next request.
            $second->wait_end;
            my $next = $second->complete ? $second->body : 'closed';
            like($next, qr/\A(?:plain|closed)\z/, "$name: then");
            $first->close;
        }
    }
}
is($t->get('/pub?id=evil')->status, 404, 'no body was executed');

$t->done();
