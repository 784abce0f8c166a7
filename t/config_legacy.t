# Configurations for 0.1 to 0.3.5: every old directive warns once, names its line, and does what its successor
# does. Settings that have moved to http count wherever they stand.
#
# Proves directives.md: old-configurations.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;
use Test::Nginx::PushStream::Config;

my $c = Test::Nginx::PushStream::Config->new;
my ($pub, $sub) = ('push_stream_publisher;', 'push_stream_subscriber;');

sub warned { my ($old, $advice) = @_;
    return qr/\[warn\] [^\n]*push stream module: the "$old" directive is deprecated, \Q$advice\E in \S+nginx\.conf:\d+$/m }
sub instead { my ($old, $new) = @_; return warned($old, qq(use "$new" instead)) }

# How often nginx said something; once to the terminal, once to the log file.
sub times_said { my ($said, $re) = @_; return scalar(() = $said =~ /^\d{4}\/[^\n]*$re/mg) }

my $prefix = 'push_stream_wildcard_channel_prefix p_;';

# ---- renamed

for my $row (
    [qw(push_stream_min_message_buffer_timeout push_stream_message_ttl 7s)],
    [qw(push_stream_max_message_buffer_length push_stream_max_messages_stored_per_channel 7)],
    [qw(push_stream_broadcast_channel_prefix push_stream_wildcard_channel_prefix old_)],
    [qw(push_stream_max_number_of_broadcast_channels push_stream_max_number_of_wildcard_channels 7), $prefix],
    [qw(push_stream_subscriber_connection_timeout push_stream_subscriber_connection_ttl 7)],
    [qw(push_stream_broadcast_channel_max_qtd push_stream_wildcard_channel_max_qtd 7), $prefix],
) {
    my ($old, $new, $value, $more) = @$row;
    $more //= '';
    for my $level (qw(http server location)) {
        my %conf = (location => $pub, http => $more);
        $conf{$level} .= "$old $value;";
        my ($ok, $said) = $c->t->try_config(Test::Nginx::PushStream::Config::text(\%conf));
        ok($ok, "$old in $level") or diag $said;
        like($said, instead($old, $new), "$old in $level warns");
        $conf{$level} .= "$old $value;";
        $c->refuses(\%conf, qr/"$old" directive is duplicate/, "$old twice in $level");
    }
    $c->refuses({ http => "$more $new $value; $old $value;", location => $pub }, qr/"$old" directive is duplicate/, "$new and $old");
    $c->refuses({ http => "$more $old $value; $new $value;", location => $pub }, qr/"$new" directive is duplicate/, "$old and $new");
}

my %zone = (bare => 1, location => "$pub push_stream_channels_path a;");
$c->accepts({ %zone, http => 'push_stream_max_reserved_memory 1m;' }, 'push_stream_max_reserved_memory');
like($c->said({ %zone, http => 'push_stream_max_reserved_memory 1m;' }),
    instead('push_stream_max_reserved_memory', 'push_stream_shared_memory_size'), 'push_stream_max_reserved_memory warns');
$c->refuses({ %zone, http => 'push_stream_max_reserved_memory 1k;' }, qr/must be at least 128KiB/, 'it has the same minimum');
$c->refuses({ %zone, http => 'push_stream_max_reserved_memory 1m; push_stream_shared_memory_size 1m;' },
    qr/duplicate zone "push_stream_module"/, 'both names of the zone');

# ---- hoisted

for my $row (
    [qw(push_stream_min_message_buffer_timeout push_stream_message_ttl)],
    [qw(push_stream_max_message_buffer_length push_stream_max_messages_stored_per_channel)],
    [qw(push_stream_max_channel_id_length push_stream_max_channel_id_length)],
    [qw(push_stream_max_number_of_channels push_stream_max_number_of_channels)],
) {
    my ($old, $new) = @$row;
    $c->refuses({ location => "$pub $old 0;" }, qr/push stream module: $new cannot be zero\./, "$old in location counts for http");
    my $ignored = qr/\[warn\] [^\n]*push stream module: value "0" of the "$old" directive is ignored, "7" was given before in \S+:\d+/;
    $c->accepts({ server => "$old 7;", location => "$pub $old 0;" }, "$old: the first value wins");
    like($c->said({ server => "$old 7;", location => "$pub $old 0;" }), $ignored, "$old: the other is named");
    unlike($c->said({ server => "$old 7;", location => "$pub $old 7;" }), qr/is ignored/, "$old: the same value is fine");
    $c->refuses({ server => "$old 0;", location => "$pub $old 7;" }, qr/$new cannot be zero/, "$old: even a wrong first value");
    $c->accepts({ http => "$new 7;", location => "$pub $old 0;" }, "$old: http came first");
    my ($ok, $said) = $c->t->try_config(
        "push_stream_shared_memory_size 1m; server { listen 127.0.0.1:%%PORT_8080%%; $old 7; "
        . "location /x { $pub push_stream_channels_path a; } }\n$new 0;\n");
    ok($ok, "$old: http came second");
    like($said, qr/value "0" of the "$new" directive is ignored, "7" was given before/, "$old: and is ignored");
}
for my $name (qw(push_stream_max_channel_id_length push_stream_max_number_of_channels)) {
    unlike($c->said({ http => "$name 7;", location => $pub }), qr/deprecated/, "$name is at home in http");
    like($c->said({ location => "$pub $name 7;" }), warned($name, qq(use "$name" instead at "http" level)), "$name is old in location");
}
$c->refuses({ location => "$pub push_stream_min_message_buffer_timeout soon;" }, qr/invalid value/, 'hoisted values are checked');

# ---- no effect

for my $row (['push_stream_memory_cleanup_timeout', '30s', 'http', 'server', 'location'],
             ['push_stream_shared_memory_cleanup_objects_ttl', '30s', 'http'],
             ['push_stream_keepalive', 'on', 'http', 'server', 'location'],
             ['push_stream_subscriber_disconnect_interval', '30s', 'http', 'server', 'location'],
             ['push_stream_min_message_buffer_length', '5', 'http', 'server', 'location']) {
    my ($name, $value, @levels) = @$row;
    for my $level (@levels) {
        my %conf = (location => $pub);
        $conf{$level} .= "$name $value;";
        $c->accepts(\%conf, "$name in $level");
        my $said = $c->said(\%conf);
        like($said, warned($name, 'it has no effect'), "$name in $level warns");
        is(times_said($said, qr/"$name" directive is deprecated/), 1, "$name in $level warns once");
    }
    my %conf = (location => $pub, http => "$name nonsense;");
    $c->refuses(\%conf, qr/invalid value|invalid number|must be "on" or "off"/, "$name must be well formed");
}

# ---- modes

$c->accepts('push_stream_websocket;', 'push_stream_websocket');
like($c->said('push_stream_websocket;'), instead('push_stream_websocket', 'push_stream_subscriber websocket'), 'it warns');
$c->refuses('push_stream_websocket; push_stream_message_template "";', qr/cannot be blank/, 'it makes the location ours');
$c->refuses("push_stream_websocket; $sub", qr/"push_stream_subscriber" directive is duplicate/, 'websocket and subscriber');
$c->refuses("$pub push_stream_websocket;", qr/"push_stream_websocket" directive is duplicate/, 'publisher and websocket');
$c->refuses('push_stream_websocket on;', qr/invalid number of arguments/, 'it takes no word');

# an event stream may have an empty message template, which tells us what the location has become
my $empty = 'push_stream_message_template "";';
my $support = 'push_stream_eventsource_support on;';
for my $mode ('', ' streaming', ' polling', ' long-polling', ' eventsource') {
    $c->accepts("push_stream_subscriber$mode; $support $empty", "event source support after subscriber$mode");
    $c->accepts("$support push_stream_subscriber$mode; $empty", "event source support before subscriber$mode");
}
$c->refuses("$sub push_stream_eventsource_support off; $empty", qr/cannot be blank/, 'event source support off');
like($c->said("$sub $support"), instead('push_stream_eventsource_support', 'push_stream_subscriber eventsource'), 'it warns');
my $only = qr/\[error\] .*push stream module: event source support is only available on subscriber location in \S+:\d+/;
$c->refuses("$pub $support", $only, 'event source support for a publisher');
$c->refuses({ location => $pub, more => "location /y { $support }" }, $only, 'event source support for nobody');
$c->refuses("push_stream_websocket; $support", $only, 'event source support for websocket');
$c->accepts("$pub push_stream_eventsource_support off;", 'off is nothing anywhere');
$c->refuses({ http => $support, location => $sub }, qr/not allowed here/, 'event source support in http');

$c->accepts("$pub push_stream_publisher_admin on;", 'push_stream_publisher_admin');
like($c->said("$pub push_stream_publisher_admin on;"), instead('push_stream_publisher_admin', 'push_stream_publisher admin'), 'it warns');

$c->accepts({ http => 'push_stream_content_type "text/plain; charset=utf-8";', location => $sub }, 'push_stream_content_type');
like($c->said("$sub push_stream_content_type text/x;"), instead('push_stream_content_type', 'default_type'), 'it warns');

# ---- the two variables

my $zone = 'push_stream_shared_memory_size 1m;';
my $must = qr/push stream module: push_stream_channels_path must be set\./;
sub relies { my ($name) = @_; return
    qr/\[warn\] [^\n]*push stream module: "set \$$name" is deprecated, use "push_stream_channels_path" in \S+nginx\.conf:\d+$/m }
my ($id, $path) = ('push_stream_channel_id', 'push_stream_channels_path');

for my $row ([$pub, $id, $id], [$pub, $path, $path], ['push_stream_channels_statistics;', $id, $id],
             [$sub, $path, $path], [$sub, $id, $id]) {
    my ($mode, $set, $named) = @$row;
    my %conf = (bare => 1, http => $zone, location => "$mode set \$$set \$arg_id;");
    $c->accepts(\%conf, "$mode with $set");
    my $said = $c->said(\%conf);
    like($said, relies($named), "$mode with $set warns");
    is(times_said($said, qr/is deprecated/), 1, "$mode with $set warns once");
}
my %two = (bare => 1, http => $zone, location => "$pub set \$$id \$arg_id;", more => "location /y { $sub set \$$path \$arg_id; }");
$c->accepts(\%two, 'publisher and subscriber, each with its variable');
like($c->said(\%two), relies($_), "$_ is named") for $id, $path;
$c->accepts({ bare => 1, http => $zone, server => "set \$$path x;", location => $sub }, 'set in server');
my %if = (bare => 1, http => $zone, location => "$sub set \$$path x; if (\$arg_a) { set \$$path y; }");
is(times_said($c->said(\%if), qr/is deprecated/), 1, 'an if block does not warn again');
$c->refuses({ bare => 1, http => $zone, location => "$pub add_header X \$$id;" }, $must, 'reading a variable does not set it');
$c->refuses({ bare => 1, http => $zone, location => $_ }, $must, "$_ without any set") for $pub, $sub, 'push_stream_channels_statistics;';
unlike($c->said({ location => "$pub set \$$id a;" }), qr/deprecated/, 'the directive wins');
$c->accepts({ location => "$pub add_header X \"\$$id\$$path\";" }, 'the variables can be read everywhere');

# ---- the old seed dialect: four warnings

my $old = { bare => 1, http => $zone, location => 'push_stream_publisher admin; set $push_stream_channel_id $arg_id; push_stream_keepalive on;',
    more => <<'EOC' };
    location ~ /sub/(.*) {
        push_stream_subscriber long-polling;
        set $push_stream_channels_path $1;
        push_stream_longpolling_connection_ttl 30s;
        push_stream_content_type "text/javascript";
        push_stream_last_received_message_time $arg_time;
        push_stream_last_received_message_tag  $arg_tag;
    }
EOC
$c->accepts($old, 'the old seed configuration loads');
is(times_said($c->said($old), qr/\[warn\]/), 4, 'with four warnings');

$c->done;
