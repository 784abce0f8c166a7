# The directives that make a location ours: their words, duplicates and contexts, and a configuration without
# any.
#
# Proves directives.md: push_stream_publisher, push_stream_subscriber, push_stream_channels_statistics,
# push_stream_audit, push_stream_audit_allow, push_stream_metrics, push_stream_metrics_allow, start-up-checks.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;
use Test::Nginx::PushStream::Config;

my $c = Test::Nginx::PushStream::Config->new;

$c->accepts("$_;", $_) for
    'push_stream_channels_statistics',
    'push_stream_publisher ', 'push_stream_publisher normal', 'push_stream_publisher "admin"',
    'push_stream_publisher ADMIN', 'push_stream_subscriber ',
    (map { "push_stream_subscriber $_" } qw(streaming polling long-polling eventsource websocket
        "streaming" WebSocket Long-Polling));

$c->refuses('push_stream_subscriber bogus;',
    qr/\[error\] .*push stream module: invalid push_stream_subscriber mode value: bogus, accepted values \(streaming, polling, long-polling, eventsource, websocket\) in \S+nginx\.conf:\d+/,
    'unknown subscriber mode');
$c->refuses('push_stream_subscriber "";',
    qr/invalid push_stream_subscriber mode value: , accepted values/, 'empty subscriber mode');
$c->refuses('push_stream_publisher root;',
    qr/\[error\] .*push stream module: invalid push_stream_publisher mode value: root, accepted values \(normal, admin\) in \S+nginx\.conf:\d+/,
    'unknown publisher mode');

$c->refuses("$_->[0]; $_->[1];", qr/\[emerg\] .*"\Q$_->[2]\E" directive is duplicate/,
    "$_->[0] and $_->[1]") for
    ['push_stream_publisher', 'push_stream_publisher admin', 'push_stream_publisher'],
    ['push_stream_subscriber', 'push_stream_subscriber', 'push_stream_subscriber'],
    ['push_stream_publisher', 'push_stream_subscriber', 'push_stream_subscriber'],
    ['push_stream_subscriber', 'push_stream_publisher', 'push_stream_publisher'],
    ['push_stream_publisher', 'push_stream_channels_statistics', 'push_stream_channels_statistics'],
    ['push_stream_channels_statistics', 'push_stream_subscriber', 'push_stream_subscriber'],
    ['push_stream_channels_statistics', 'push_stream_channels_statistics', 'push_stream_channels_statistics'],
    ['push_stream_audit on', 'push_stream_subscriber', 'push_stream_subscriber'],
    ['push_stream_publisher', 'push_stream_audit on', 'push_stream_audit'],
    ['push_stream_audit off', 'push_stream_audit on', 'push_stream_audit'],
    ['push_stream_metrics on', 'push_stream_subscriber', 'push_stream_subscriber'],
    ['push_stream_channels_statistics', 'push_stream_metrics on', 'push_stream_metrics'],
    ['push_stream_audit on', 'push_stream_metrics on', 'push_stream_metrics'],
    ['push_stream_metrics on', 'push_stream_metrics on', 'push_stream_metrics'],
    ['push_stream_metrics off', 'push_stream_metrics on', 'push_stream_metrics'];

# the audit
$c->accepts("push_stream_audit $_;", "push_stream_audit $_") for qw(on ON "on");
$c->accepts('push_stream_audit off; push_stream_publisher;', 'an audit that is off leaves room');
$c->accepts({ bare => 1, http => 'push_stream_shared_memory_size 1m;', location => 'push_stream_audit on;' },
    'an audit needs no channels path');
$c->refuses('push_stream_audit yes;', qr/"push_stream_audit" directive must be "on" or "off"/, 'neither on nor off');
$c->accepts("push_stream_audit on; push_stream_audit_allow $_;", "push_stream_audit_allow $_") for
    'all', 'unix:', '10.0.0.1', '10.0.0.0/8 ::1 2001:db8::/32', '127.0.0.1; push_stream_audit_allow ::1';
$c->refuses("push_stream_audit on; push_stream_audit_allow $_;",
    qr/\[error\] .*push stream module: invalid push_stream_audit_allow value: \Q$_\E, it must be an address, a network, unix: or all in \S+nginx\.conf:\d+/,
    "push_stream_audit_allow $_") for 'localhost', '10.0.0.1/33', 'ALL';
$c->refuses({ $_ => 'push_stream_audit on;' }, qr/"push_stream_audit" directive is not allowed here/,
    "push_stream_audit in $_") for qw(http server);

# the metrics
$c->accepts("push_stream_metrics $_;", "push_stream_metrics $_") for qw(on ON "on");
$c->accepts('push_stream_metrics off; push_stream_publisher;', 'metrics that are off leave room');
$c->accepts({ bare => 1, http => 'push_stream_shared_memory_size 1m;', location => 'push_stream_metrics on;' },
    'metrics need no channels path');
$c->refuses({ bare => 1, http => '', location => 'push_stream_metrics on;' },
    qr/push_stream_shared_memory_size must be set/, 'but a zone');
$c->refuses('push_stream_metrics yes;', qr/"push_stream_metrics" directive must be "on" or "off"/, 'neither on nor off');
$c->refuses('push_stream_metrics;', qr/invalid number of arguments in "push_stream_metrics" directive/, 'no argument');
$c->refuses('push_stream_metrics on; push_stream_metrics_allow;',
    qr/invalid number of arguments in "push_stream_metrics_allow" directive/, 'an empty list');
$c->refuses('if ($args) { push_stream_metrics on; }', qr/"push_stream_metrics" directive is not allowed here/, 'in an if');
$c->accepts('push_stream_metrics on; if ($args) { return 204; }', 'beside an if');
$c->accepts("push_stream_metrics on; push_stream_metrics_allow $_;", "push_stream_metrics_allow $_") for
    'all', 'unix:', '10.0.0.1', '10.0.0.0/8 ::1 2001:db8::/32', '127.0.0.1; push_stream_metrics_allow ::1';
$c->refuses("push_stream_metrics on; push_stream_metrics_allow $_;",
    qr/\[error\] .*push stream module: invalid push_stream_metrics_allow value: \Q$_\E, it must be an address, a network, unix: or all in \S+nginx\.conf:\d+/,
    "push_stream_metrics_allow $_") for 'localhost', '10.0.0.1/33', 'ALL';
$c->refuses({ $_ => 'push_stream_metrics on;' }, qr/"push_stream_metrics" directive is not allowed here/,
    "push_stream_metrics in $_") for qw(http server);

for my $directive (qw(push_stream_publisher push_stream_subscriber push_stream_channels_statistics)) {
    my $misplaced = qr/\[emerg\] .*"$directive" directive is not allowed here/;
    $c->refuses({ http => "$directive;" }, $misplaced, "$directive in http");
    $c->refuses({ server => "$directive;" }, $misplaced, "$directive in server");
    $c->refuses("if (\$arg_a) { $directive; }", $misplaced, "$directive in if");
    $c->refuses("$directive a b;", qr/invalid number of arguments in "$directive" directive/,
        "$directive with two words");
}

# nested locations inherit settings, but neither handler nor mode
$c->refuses({ bare => 1, http => 'push_stream_shared_memory_size 1m;', location =>
    'push_stream_publisher; push_stream_channels_path a; location /x/y { push_stream_subscriber; push_stream_message_template ""; }' },
    qr/message_template cannot be blank/, 'a nested location has a mode of its own');
$c->accepts({ location =>
    'push_stream_publisher; location /x/y { push_stream_message_template ""; }' },
    'a nested location is not ours by inheritance');

# nothing of ours: nothing is validated, nothing is needed
my $idle = qr/\[notice\] .*ngx_http_push_stream_module will not be used with this configuration\./;
my $broken = 'push_stream_message_ttl 0; push_stream_ping_message_interval 0;';
$c->accepts({ bare => 1, http => $broken }, 'without a location of ours nothing is checked');
like($c->said({ bare => 1 }), $idle, 'an idle module says so');
unlike($c->said('push_stream_publisher;'), $idle, 'a module in use does not');
my ($ok, $said) = $c->t->try_config(
    'load_module ' . Test::Nginx::PushStream::module_path() . ";\nerror_log error.log info;\npid nginx.pid;\nevents {}\n", raw => 1);
ok($ok, 'a configuration without http');
like($said, $idle, 'the module is idle then');

$c->done;
