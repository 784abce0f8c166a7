# What a configuration must have, and what contradicts itself: the exact texts and their order.
#
# Proves directives.md: start-up-checks, memory-and-limits (which values may be 0).

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;
use Test::Nginx::PushStream::Config;

my $c = Test::Nginx::PushStream::Config->new;
my $pub = 'push_stream_publisher;';

# An error of ours: level, prefix, text, place.
sub says { my ($text) = @_; return qr/\[error\] [^\n]*: push stream module: \Q$text\E in \S+nginx\.conf:\d+$/m }

# ---- http

$c->refuses({ bare => 1, location => "$pub push_stream_channels_path a;" },
    says('push_stream_shared_memory_size must be set.'), 'no zone');

my @http = qw(push_stream_max_number_of_channels push_stream_max_number_of_wildcard_channels
    push_stream_message_ttl push_stream_max_subscribers_per_channel
    push_stream_max_messages_stored_per_channel push_stream_max_channel_id_length);
for my $i (0 .. $#http) {
    $c->refuses({ http => "$http[$i] 0;", location => $pub }, says("$http[$i] cannot be zero."), "$http[$i] 0");
    # everything after it in the table is wrong as well
    my $rest = join ' ', map { "$_ 0;" } reverse @http[$i .. $#http];
    $c->refuses({ http => $rest, location => $pub }, says("$http[$i] cannot be zero."),
        "$http[$i] is checked before what follows");
    $c->accepts({ http => "$http[$i] 1;", location => $pub }, "$http[$i] 1") unless $http[$i] =~ /wildcard/;
}
$c->refuses({ bare => 1, http => 'push_stream_message_ttl 0;', location => $pub },
    says('push_stream_shared_memory_size must be set.'), 'the zone is checked first');
$c->refuses({ bare => 1, http => 'push_stream_shared_memory_size 1m; push_stream_max_channel_id_length 0;', location => $pub },
    says('push_stream_max_channel_id_length cannot be zero.'), 'http is checked before locations');
$c->accepts({ http => 'push_stream_channel_inactivity_time 0;', location => $pub }, 'inactivity time 0');
$c->accepts({ http => "push_stream_$_ \"\";", location => $pub }, "empty $_") for
    qw(channel_deleted_message_text ping_message_text wildcard_channel_prefix events_channel_id);

# ---- locations

my $zone = 'push_stream_shared_memory_size 1m;';
for my $mode (qw(push_stream_publisher push_stream_subscriber push_stream_channels_statistics)) {
    $c->refuses({ bare => 1, http => $zone, location => "$mode;" },
        says('push_stream_channels_path must be set.'), "$mode without a path");
}
$c->accepts({ bare => 1, http => "$zone push_stream_channels_path a;", location => $pub }, 'path in http');
$c->accepts({ bare => 1, http => $zone, location => "$pub push_stream_channels_path \"\";" }, 'an empty path is a path');

my @times = qw(push_stream_ping_message_interval push_stream_subscriber_connection_ttl
    push_stream_longpolling_connection_ttl);
for my $directive (@times) {
    for my $level (qw(http server location)) {
        my %at = (location => $pub);
        $at{$level} = ($at{$level} // '') . "$directive 0;";
        $c->refuses(\%at, says("$directive cannot be zero."), "$directive 0 in $level");
    }
    $c->accepts("$pub $directive 1ms;", "$directive 1ms");
    $c->accepts({ http => "$directive 0;", location => "$pub $directive 1; push_stream_longpolling_connection_ttl 1;" =~
        s/(\S+ 1;) \1/$1/r }, "$directive is overridden");
}
# the default of the last one is taken where it is needed first, and then inherited like a value
$c->refuses({ http => 'push_stream_subscriber_connection_ttl 0;', location => "$pub push_stream_subscriber_connection_ttl 1;" },
    says('push_stream_longpolling_connection_ttl cannot be zero.'), 'an inherited default wins over the local ttl');
$c->refuses({ location => 'push_stream_channels_statistics;', http => 'push_stream_ping_message_interval 0;' },
    says('push_stream_ping_message_interval cannot be zero.'), 'statistics locations are checked too');

my $blank = says('push_stream_message_template cannot be blank.');
$c->refuses('push_stream_subscriber; push_stream_message_template "";', $blank, 'empty template');
$c->refuses({ http => 'push_stream_message_template "";', location => $pub }, $blank, 'empty template from http');
$c->refuses({ http => 'push_stream_message_template "a";', location => "$pub push_stream_message_template '';" },
    $blank, 'an empty template overrides');
$c->refuses("push_stream_subscriber $_; push_stream_message_template '';", $blank, "empty template in $_")
    for qw(polling long-polling websocket);
$c->accepts('push_stream_subscriber eventsource; push_stream_message_template "";', 'eventsource has a template of its own');

my $prefix = 'push_stream_wildcard_channel_prefix "all_";';
my $no_prefix = says('cannot set wildcard channel max qtd if push_stream_wildcard_channel_prefix is not set or blank.');
$c->refuses("$pub push_stream_wildcard_channel_max_qtd 0;",
    says('push_stream_wildcard_channel_max_qtd cannot be zero.'), 'max qtd 0');
$c->refuses("$pub push_stream_wildcard_channel_max_qtd 1;", $no_prefix, 'max qtd without prefix');
$c->refuses({ http => 'push_stream_wildcard_channel_prefix "";', location => "$pub push_stream_wildcard_channel_max_qtd 1;" },
    $no_prefix, 'max qtd with a blank prefix');
$c->refuses({ http => 'push_stream_max_number_of_wildcard_channels 3;', location => $pub },
    $no_prefix, 'the number of wildcard channels is the default of max qtd');
$c->accepts({ http => "$prefix push_stream_max_number_of_wildcard_channels 3;",
    location => "$pub push_stream_wildcard_channel_max_qtd 3;" }, 'max qtd equal to the number of channels');
$c->refuses({ http => "$prefix push_stream_max_number_of_wildcard_channels 3;",
    location => "$pub push_stream_wildcard_channel_max_qtd 4;" },
    says('max number of wildcard channels cannot be smaller than value in push_stream_wildcard_channel_max_qtd.'),
    'max qtd above the number of channels');
$c->accepts({ http => $prefix, location => "$pub push_stream_wildcard_channel_max_qtd 4;" },
    'max qtd without a number of channels');
$c->accepts({ http => $prefix, location => $pub }, 'prefix alone');

# in this order
my @wrong = (
    ['push_stream_ping_message_interval 0;', 'push_stream_ping_message_interval cannot be zero.'],
    ['push_stream_subscriber_connection_ttl 0;', 'push_stream_subscriber_connection_ttl cannot be zero.'],
    ['push_stream_longpolling_connection_ttl 0;', 'push_stream_longpolling_connection_ttl cannot be zero.'],
    ['push_stream_message_template "";', 'push_stream_message_template cannot be blank.'],
    ['push_stream_wildcard_channel_max_qtd 0;', 'push_stream_wildcard_channel_max_qtd cannot be zero.'],
    ['push_stream_padding_by_user_agent "x";', 'padding pattern not match the value x'],
);
for my $i (0 .. $#wrong) {
    my $rest = join ' ', map { $_->[0] } reverse @wrong[$i .. $#wrong];
    $c->refuses("push_stream_subscriber; $rest", says($wrong[$i][1]), "check $i of a location comes before the rest");
}

# ---- settings that are new

for my $directive (qw(push_stream_websocket_max_message_size push_stream_subscriber_max_buffered)) {
    $c->refuses("$pub $directive 0;", says("$directive cannot be zero."), "$directive 0");
    $c->accepts("$pub $directive 1k;", "$directive 1k");
}

for my $directive (@times) {
    $c->refuses("$pub $directive 36900d;", says("$directive cannot be longer than 100 years."), "$directive 36900d");
    $c->accepts("$pub $directive 36000d;", "$directive 36000d");
}
for my $directive (qw(push_stream_message_ttl push_stream_channel_inactivity_time)) {
    $c->refuses({ http => "$directive 101y;", location => $pub }, says("$directive cannot be longer than 100 years."), "$directive 101y");
    $c->accepts({ http => "$directive 99y;", location => $pub }, "$directive 99y");
}

$c->refuses({ http => "push_stream_events_channel_id '$_';", location => $pub },
    qr/\[error\] .*push stream module: invalid push_stream_events_channel_id value: .*, it must be a channel id of at most \d+ bytes, without "\/", "\*" and control characters, and not ALL in /,
    'events channel ' . substr $_, 0, 10) for 'ALL', 'a*', 'a/b', 'a\n', 'x' x 4050;
$c->accepts({ http => 'push_stream_events_channel_id "a b";', location => $pub }, 'events channel "a b"');

# ---- where

my $said = $c->said("\n\n$pub\n\n\npush_stream_ping_message_interval 0;\n\n");
my ($line) = $said =~ /cannot be zero\. in \S+nginx\.conf:(\d+)/;
my $conf = do { local (@ARGV, $/) = $said =~ m{ in (/\S+nginx\.conf):}; <> };
is((split /\n/, $conf)[$line - 1], $pub, 'the error names the line that makes the location ours');

# ---- every location, in the order of the file
$c->refuses({ location => $pub, more => 'location /y { push_stream_subscriber; push_stream_message_template ""; }' },
    $blank, 'a second location is checked');

$c->done;
