# The well-known conformance suite for RFC 6455 finds no fault. It runs where TEST_NGINX_WSTEST is the command
# that starts its "wstest" (PyPI: autobahntestsuite, for Python 2.7). t/websocket_conformance.t has the same
# groups of cases and runs everywhere.
#
# Proves protocol.md: frames-from-the-client, frames-from-the-server, closing.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;
use JSON::PP ();

my $wstest = $ENV{TEST_NGINX_WSTEST} or plan(skip_all => 'TEST_NGINX_WSTEST is not set');

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 256m;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /echo {
            push_stream_subscriber websocket;
            push_stream_channels_path $connection;
            push_stream_websocket_allow_publish on;
            push_stream_websocket_binary on;
            push_stream_message_template "~text~";
        }
    }
EOC

# without the cases for compression, which we do not offer
my $spec = $t->write_file('spec.json', JSON::PP->new->encode({
    outdir => $t->dir . '/reports', cases => ['*'], 'exclude-cases' => [ '12.*', '13.*' ],
    'exclude-agent-cases' => {},
    servers => [ { agent => 'push stream', url => 'ws://127.0.0.1:' . $t->port . '/echo' } ],
}));
is(system("$wstest -m fuzzingclient -s $spec >" . $t->dir . '/wstest.log 2>&1'), 0, 'the suite runs');
open my $file, '<', $t->dir . '/reports/index.json' or die "no report: $!";
my $report = JSON::PP->new->decode(do { local $/; <$file> })->{'push stream'};
cmp_ok(scalar keys %$report, '>', 250, 'cases');
for my $case (sort keys %$report) {
    like("$report->{$case}{$_}", qr/\A(?:OK|INFORMATIONAL)\z/, "case $case, $_") for qw(behavior behaviorClose);
}

$t->done();
