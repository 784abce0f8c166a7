# A publisher location that the whole network can use brings one warning; no other location brings one.
#
# Proves directives.md: push_stream_open_publisher.
#
# Nothing serves here: each is an nginx -t. The module reads the configuration files for this, so how they are
# written is part of the cases.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;
use Test::Nginx::PushStream::Config;

my $c = Test::Nginx::PushStream::Config->new;
my $t = $c->t;
$t->write_file('passwd', "me:{PLAIN}secret\n");
my $everywhere = 'listen 0.0.0.0:%%PORT_8081%%;';
my $pub = 'push_stream_publisher;';

# The names that are warned about, in order.
sub warned {
    my ($what) = @_;
    $what->{server} = ($what->{server} // '') . $everywhere unless $what->{local};
    my $said = $c->said($what);
    like($said, qr/test is successful/, 'it is accepted') or diag $said;
    return join ' ', $said =~ /^nginx: \[warn\] push stream module: the publisher location "([^"]*)" is open to everyone;/mg;
}

my $said = $c->said({ server => $everywhere, location => "\n$pub\n" });
like($said, qr{\[warn\] push stream module: the publisher location "/x" is open to everyone; restrict it \(allow/deny, auth_basic, auth_request, satisfy\) or say "push_stream_open_publisher on" in \S+nginx\.conf:(\d+)$}m,
    'the text');
my ($line) = $said =~ /publisher on" in \S+nginx\.conf:(\d+)$/m;
my $conf = do { local (@ARGV, $/) = $said =~ m{ in (/\S+nginx\.conf):}; <> };
is((split /\n/, $conf)[$line - 1], $pub, 'and the line of the directive that makes it a publisher');

# ---- open

is(warned({ location => $_ }), '/x', "open: $_") for $pub, 'push_stream_publisher admin;',
    "$pub push_stream_open_publisher off;", "$pub limit_rate 10k; client_max_body_size 1k;";
is(warned({ location => $pub, more => 'location /y { push_stream_publisher; allow 127.0.0.1; deny all; }
    location /z { push_stream_publisher admin; }' }), '/x /z', 'one warning for each, none for the closed one');
is(warned({ location => $pub, server => "listen [::]:%%PORT_8082%%; " }), '/x', 'one for two listeners')
    if -e '/proc/net/if_inet6';
is(warned({ location => "$pub push_stream_open_publisher off;", http => 'push_stream_open_publisher on;' }), '/x', 'inner levels win');
is(warned({ location => 'location /x/y { push_stream_publisher; } location /x/z { deny all; push_stream_publisher; }' }), '/x/y', 'inside another');
is(warned({ location => $pub, http => "server { $everywhere server_name other; deny all; location / { } }" }), '/x',
    "what closes another server does not count");

# what only looks like a directive that closes the location
is(warned({ location => $_ }), '/x', "open: $_") for "# deny all;\n$pub", "$pub # deny all;\n", "$pub add_header X-Deny \"; deny all;\";",
    "$pub add_header X-If '{ deny all; }'; add_header X-Y \${uri};", "push_stream_publisher\n\n  admin\n  ;";
is(warned({ location => $pub, http => 'map $arg_a $b { deny 1; default 0; } types { text/html deny; }' }), '/x', 'nor in a block of another kind');

# files that are included
$t->write_file($_->[0], $_->[1]) for [ 'closed.inc', "\n deny all;\n" ], [ 'open.inc', "\nlimit_rate 10k;\n" ], [ 'pub.inc', "\n\n$pub" ],
    [ 'two.inc', "include %%TESTDIR%%/closed.inc;" =~ s/%%TESTDIR%%/$t->dir/er ];
is(warned({ location => "$pub include %%TESTDIR%%/open.inc;" }), '/x', 'an included file without a restriction');
is(warned({ location => 'include %%TESTDIR%%/pub.inc;' }), '/x', 'the publisher in an included file');
like($c->said({ server => $everywhere, location => 'include %%TESTDIR%%/p*.inc;' }), qr{open to everyone.* in \S+/pub\.inc:3$}m, 'has its line there');

# ---- silenced, not open, or not certain

my %closed = (
    'said so'             => { location => "$pub push_stream_open_publisher on;" },
    'said so in server'   => { location => $pub, server => 'push_stream_open_publisher on;' },
    'said so in http'     => { location => $pub, http => 'push_stream_open_publisher on;' },
    'allow and deny'      => { location => "$pub allow 127.0.0.1; deny all;" },
    'deny in server'      => { location => $pub, server => 'allow 10.0.0.0/8; deny all;' },
    'deny in http'        => { location => $pub, http => 'deny all;' },
    'deny of IPv6 alone'  => { location => "$pub deny 2001:db8::/32;" },
    'deny of unix alone'  => { location => "$pub deny unix:;" },
    'auth_basic'          => { location => "$pub auth_basic me; auth_basic_user_file %%TESTDIR%%/passwd;" },
    'auth_basic in http'  => { location => $pub, http => 'auth_basic me; auth_basic_user_file %%TESTDIR%%/passwd;' },
    'satisfy any'         => { location => "$pub satisfy any; allow 127.0.0.1; deny all; auth_basic me;" },
    'return'              => { location => "$pub if (\$arg_key != secret) { return 403; }" },
    'return in server'    => { location => $pub, server => 'if ($http_x_key != secret) { return 403; }' },
    'internal'            => { location => "$pub internal;" },
    'limit_except'        => { location => "$pub limit_except GET { deny all; }" },
    'a named one'         => { location => 'return 200;', more => 'location @p { push_stream_publisher; }' },
    'a subscriber'        => { location => 'push_stream_subscriber;' },
    'statistics'          => { location => 'push_stream_channels_statistics;' },
    'a websocket'         => { location => 'push_stream_subscriber websocket; push_stream_websocket_allow_publish on;' },
    'an included file'    => { location => "$pub include %%TESTDIR%%/closed.inc;" },
    'a pattern'           => { location => "$pub include %%TESTDIR%%/clo*.inc;" },
    'a pattern of http'   => { location => $pub, http => 'include %%TESTDIR%%/[c]losed.inc;' },
    'includes in includes' => { location => "$pub include %%TESTDIR%%/two.inc;" },
    'written otherwise'   => { location => qq{$pub\n"deny"\n  all\n;} },
    'loopback'            => { location => $pub, local => 1 },
    'loopback, further'   => { location => $pub, local => 1, server => 'listen 127.8.8.8:%%PORT_8083%%;' },
    'a file name'         => { location => $pub, local => 1, server => 'listen unix:%%TESTDIR%%/socket;' },
    'another server is'   => { location => $pub, local => 1, http => "server { $everywhere location / { } }" },
);
$closed{'auth_request'} = { location => "$pub auth_request /auth;" } if $t->has_feature('http_auth_request_module');
$closed{'loopback of IPv6'} = { location => $pub, local => 1, server => 'listen [::1]:%%PORT_8084%%;' }
    if -e '/proc/net/if_inet6' && do { local (@ARGV, $/) = '/proc/net/if_inet6'; <> =~ /\slo$/m };
if ($t->has_feature('http_ssl_module')) {
    my $dir = $t->dir;
    if (system("openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout $dir/key.pem -out $dir/cert.pem >$dir/openssl.log 2>&1") == 0) {
        my $tls = 'listen 0.0.0.0:%%PORT_8085%% ssl; ssl_certificate %%TESTDIR%%/cert.pem; ssl_certificate_key %%TESTDIR%%/key.pem;';
        $closed{'certificates of clients'} = { location => $pub, local => 1,
            server => "$tls ssl_verify_client on; ssl_client_certificate %%TESTDIR%%/cert.pem;" };
        is(warned({ location => $pub, local => 1, server => $tls }), '/x', 'TLS alone keeps nobody out');
    }
}
is(warned($closed{$_}), '', "no warning: $_") for sort keys %closed;

$c->refuses("$pub push_stream_open_publisher;", qr/invalid number of arguments/, 'a word is needed');
$c->refuses("$pub push_stream_open_publisher maybe;", qr/invalid value "maybe"/, 'on or off');

$c->done;
