# Every directive: in which contexts it may stand, how many words it takes, which values, and that it comes
# once.
#
# Proves directives.md.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;
use Test::Nginx::PushStream::Config;

my $c = Test::Nginx::PushStream::Config->new;

my $flag = { good => [qw(on off "on" ON)], bad => ['yes'], error => qr/it must be "on" or "off"/ };
my $num  = { good => [qw(1 "77")], bad => [qw(-1 1k ten), '""'], error => qr/invalid number/ };
my $sec  = { good => [qw(7 30s 5m "1h"), '"1h 30m"'], bad => [qw(500ms -1 soon)], error => qr/invalid value/ };
my $msec = { good => [qw(7 500ms 30s "5m")], bad => [qw(-1 soon)], error => qr/invalid value/ };
my $size = { good => [qw(77 4k 1m 2g)], bad => [qw(-1 big 1t)], error => qr/invalid value/ };
my $str  = { good => ['"a b"', '$arg_id', '""'], bad => [] };
my $var  = { good => ['a', '$arg_id', '"$1/b"', '""'], bad => ['$no_such_variable'],
    error => qr/unknown "no_such_variable" variable/ };

my $blank = { good => [qw(drop keep "keep" Keep)], bad => [qw(on maybe), '""'],
    error => qr/"push_stream_eventsource_blank_lines" directive must be "drop" or "keep"/ };

my $format = { good => [qw(template json "json" JSON)], bad => [qw(on xml), '""'],
    error => qr/"push_stream_message_format" directive must be "template" or "json"/ };

my $slow = { good => [qw(disconnect skip "skip" SKIP)], bad => [qw(on drop), '""'],
    error => qr/"push_stream_slow_subscriber" directive must be "disconnect" or "skip"/ };

my $prefix = 'push_stream_wildcard_channel_prefix "p_";';
my %all = (
    push_stream_channel_deleted_message_text        => [$str,  'H'],
    push_stream_channel_inactivity_time             => [$sec,  'H'],
    push_stream_ping_message_text                   => [$str,  'H'],
    push_stream_timeout_with_body                   => [$flag, 'H'],
    push_stream_message_ttl                         => [$sec,  'H'],
    push_stream_max_subscribers_per_channel         => [$num,  'H'],
    push_stream_max_messages_stored_per_channel     => [$num,  'H'],
    push_stream_max_channel_id_length               => [$num,  'HSL'],    # S and L: legacy
    push_stream_max_number_of_channels              => [$num,  'HSL'],    # S and L: legacy
    push_stream_max_number_of_wildcard_channels     => [$num,  'H', $prefix],
    push_stream_wildcard_channel_prefix             => [$str,  'H'],
    push_stream_events_channel_id                   => [$str,  'H'],
    push_stream_channels_path                       => [$var,  'HSLI'],
    push_stream_store_messages                      => [$flag, 'HSLI'],
    push_stream_channel_info_on_publish             => [$flag, 'HSL'],
    push_stream_authorized_channels_only            => [$flag, 'HSL'],
    push_stream_header_template                     => [$str,  'HSL'],
    push_stream_message_template                    => [{ %$str, good => ['"<~text~>"', '$x'] }, 'HSL'],
    push_stream_message_format                      => [$format, 'HSL'],
    push_stream_footer_template                     => [$str,  'HSL'],
    push_stream_eventsource_blank_lines             => [$blank, 'HSL'],
    push_stream_wildcard_channel_max_qtd            => [$num,  'HSL', $prefix],
    push_stream_ping_message_interval               => [$msec, 'HSL'],
    push_stream_subscriber_connection_ttl           => [$msec, 'HSL'],
    push_stream_longpolling_connection_ttl          => [$msec, 'HSL'],
    push_stream_websocket_allow_publish             => [$flag, 'HSL'],
    push_stream_websocket_binary                    => [$flag, 'HSL'],
    push_stream_websocket_max_message_size          => [$size, 'HSL'],
    push_stream_allow_connections_to_events_channel => [$flag, 'HSLI'],
    push_stream_last_received_message_time          => [$var,  'HSLI'],
    push_stream_last_received_message_tag           => [$var,  'HSLI'],
    push_stream_last_event_id                       => [$var,  'HSLI'],
    push_stream_cursor                              => [$flag, 'HSL'],
    push_stream_retry                               => [$msec, 'HSL'],
    push_stream_user_agent                          => [$var,  'HSL'],
    push_stream_padding_by_user_agent               => [{ good => ['""', '"a,1,2"'], bad => [] }, 'HSL'],
    push_stream_cors_credentials                    => [$flag, 'HSL'],
    push_stream_cors_expose                         => [$flag, 'HSL'],
    push_stream_cors_max_age                        => [$sec,  'HSL'],
    push_stream_subscriber_max_buffered             => [$size, 'HSL'],
    push_stream_slow_subscriber                     => [$slow, 'HSL'],
    push_stream_force_filters                       => [$flag, 'HSL'],
    push_stream_forget_request                      => [$flag, 'HSL'],
    push_stream_open_publisher                      => [$flag, 'HSL'],
);

# One http block with the line at this level.
sub at {
    my ($level, $line, $more) = @_;
    my $mode = 'push_stream_subscriber;';
    my $path = $line =~ /push_stream_channels_path/ ? '' : 'push_stream_channels_path a;';
    my %conf = (bare => 1, http => "push_stream_shared_memory_size 1m; $path " . ($more // ''), location => $mode);
    my $to = { H => 'http', S => 'server', L => 'location' }->{$level};
    if ($to) { $conf{$to} = ($conf{$to} // '') . " $line" }
    elsif ($level eq 'I') { $conf{location} .= " push_stream_channels_path a;" unless $path;
        $conf{location} .= " if (\$arg_a) { $line }" }
    else { $conf{server} = "if (\$arg_a) { $line }"; $conf{http} .= ' push_stream_channels_path a;' unless $path }
    return \%conf;
}

for my $name (sort keys %all) {
    my ($type, $contexts, $more) = @{ $all{$name} };
    my $good = $type->{good}[0];
    my (@missing, @wrong);
    for my $level (qw(H S L I SI)) {
        my ($ok, $said) = $c->t->try_config(Test::Nginx::PushStream::Config::text(at($level, "$name $good;", $more)));
        my $allowed = $level ne 'SI' && index($contexts, $level) >= 0;
        push @wrong, "$level: $said" if $allowed ? !$ok : $said !~ /"$name" directive is not allowed here/;
    }
    is("@wrong", '', "$name: contexts $contexts");

    my $level = substr $contexts, 0, 1;
    my @refused = grep { $c->said(at($level, "$name $_;", $more)) !~ /test is successful/ } @{ $type->{good} };
    is("@refused", '', "$name: takes @{ $type->{good} }");
    $c->refuses(at($level, "$name $_;", $more), $type->{error}, "$name: refuses $_") for @{ $type->{bad} };
    $c->refuses(at($level, "$name;", $more), qr/invalid number of arguments in "$name" directive/, "$name: no word");
    $c->refuses(at($level, "$name $good $good;", $more), qr/invalid number of arguments in "$name" directive/,
        "$name: two words");
    for my $at (split //, $contexts) {
        next if $at eq 'H' && $more && $more =~ /$name /;
        $c->refuses(at($at, "$name $good; $name $good;", $more), qr/"$name" directive is duplicate/,
            "$name: twice at level $at");
    }
}

$c->done;
