# Sites of the original module move by docs/guide/migrate-push-stream.md: its check says whether messages arrive, the
# warnings are those that it shows, and products that shipped the module run as they did.
#
# Proves directives.md: old-configurations.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $root = "$FindBin::Bin/..";
my $check = "$root/docs/examples/migrate-push-stream/check.sh";
plan skip_all => 'there is no curl' if !grep { -x "$_/curl" } split /:/, $ENV{PATH};

sub http_of {
    my ($text) = do { local (@ARGV, $/) = "$root/nginx-conf/$_[0]"; <> } =~ /^http \{\n(.*)^\}/ms;
    return $text =~ s/127\.0\.0\.1:9080/127.0.0.1:%%PORT_8080%%/gr;
}

sub checked {
    my ($t, $publisher, $subscriber) = @_;
    my $base = 'http://127.0.0.1:' . $t->port(8080);
    my $said = `'$check' '$base$publisher' '$base$subscriber' 2>&1`;
    return ($? ? 'failed, ' : '') . $said =~ s/\Q$base\E//gr;
}

# ---- the check of the guide

my $t = Test::Nginx::PushStream->new->http(http_of('current-dialect.conf'))->run;
is(checked($t, '/pub?id=', "/$_/"), "ok: /$_/\n", "/$_/ of today's dialect is checked") for qw(sub ev);
$t->finish;

my $old = http_of('old-dialect.conf');
$t = Test::Nginx::PushStream->new->http($old)->run;
is(checked($t, '/pub?id=', '/sub/'), "ok: /sub/\n", 'a long poll of the old dialect is checked');
like($t->output, qr{\[warn\] [^\n]*push stream module: the "push_stream_keepalive" directive is deprecated, it has no effect in \S+:\d+$}m,
    'a warning looks as the guide shows it');
$t->finish;

$t = Test::Nginx::PushStream->new->http(<<'EOC')->run;
    push_stream_shared_memory_size 1m;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub { push_stream_publisher; push_stream_channels_path $arg_id; }
        location ~ ^/sub/(.*) { push_stream_subscriber; push_stream_channels_path $1; push_stream_authorized_channels_only on; }
    }
EOC
is(checked($t, '/pub?id=', '/sub/'), <<"EOS" =~ s/\n/\r\n/gr =~ s/was:\r/was:/r, 'the check says why nobody listens');
failed, nobody listens at /sub/; the answer was:
HTTP/1.1 403 Forbidden
X-Nginx-PushStream-Explain: Subscriber could not create channels.
EOS
$t->finish;

# ---- the defaults that have changed

my ($ok, $said) = Test::Nginx::PushStream->new->try_config($old =~ s/push_stream_shared_memory_size 32m;//r);
ok(!$ok, 'without a size of the zone nginx does not start');
like($said, qr/push_stream_shared_memory_size must be set/, 'and says so');

# ---- an intranet's push server, as a product of the years of 0.3 and 0.4 has it: long polls with JSON between marks,
# several channels in an argument, messages for a day

sub intranet { my (%o) = @_; return <<"EOC" }
    $o{zone}
    push_stream_max_messages_stored_per_channel 1000;
    push_stream_max_channel_id_length 72;
    push_stream_max_number_of_channels 100000;
    push_stream_message_ttl 86400;

    server {
        listen 127.0.0.1:%%PORT_8080%%;

        location ^~ /portal/sub {
            push_stream_subscriber $o{mode};
            push_stream_allowed_origins "*";
            $o{subscriber}
            push_stream_last_received_message_tag  "\$arg_tag";
            push_stream_last_received_message_time "\$arg_time";
            push_stream_longpolling_connection_ttl "40";
            push_stream_authorized_channels_only on;
            push_stream_message_template '#BEGIN#{"id":~id~,"channel":"~channel~","tag":"~tag~","time":"~time~","text":~text~}#END#';
        }
        location ^~ /portal/socket {
            $o{socket}
            push_stream_ping_message_interval 40s;
            push_stream_last_received_message_tag  "\$arg_tag";
            push_stream_last_received_message_time "\$arg_time";
            push_stream_message_template '#BEGIN#{"id":~id~,"channel":"~channel~","tag":"~tag~","time":"~time~","text":~text~}#END#';
        }
        location ^~ /portal/pub {
            push_stream_publisher admin;
            $o{publisher}
            push_stream_store_messages on;
            allow 127.0.0.1;
            deny all;
            client_max_body_size 32m;
        }
    }
EOC

my %dialect = (
    'of the years of 0.4' => {
        zone => 'push_stream_shared_memory_size 256M;', mode => 'long-polling',
        subscriber => 'push_stream_channels_path "$arg_CHANNEL_ID";', publisher => 'push_stream_channels_path "$arg_CHANNEL_ID";',
        socket => 'push_stream_subscriber websocket; push_stream_channels_path "$arg_CHANNEL_ID";',
    },
    'of the years of 0.3' => {
        zone => 'push_stream_max_reserved_memory 256M; push_stream_memory_cleanup_timeout 30s;', mode => 'long-polling',
        subscriber => 'set $push_stream_channels_path "$arg_CHANNEL_ID"; push_stream_content_type "text/html; charset=utf-8";',
        publisher => 'set $push_stream_channel_id "$arg_CHANNEL_ID"; push_stream_keepalive on;',
        socket => 'push_stream_websocket; set $push_stream_channels_path "$arg_CHANNEL_ID";',
    },
);

for my $years (sort keys %dialect) {
    my $t = Test::Nginx::PushStream->new->http(intranet(%{ $dialect{$years} }))->run;
    my ($one, $all) = ('0123456789abcdef' x 2, 'fedcba9876543210' x 2);
    is($t->get("/portal/sub?CHANNEL_ID=$one")->status, 403, "intranet $years: nobody listens to what nobody has published");
    $t->publish("/portal/pub?CHANNEL_ID=$_", '{"n":1}') for $one, $all;
    my $place = 'time=' . ('Thu, 01 Jan 1970 00:00:01 GMT' =~ s/ /%20/gr);
    my $first = $t->get("/portal/sub?CHANNEL_ID=$one/$all&$place")->body;
    my ($tag, $time) = $first =~ /\A#BEGIN#\{"id":1,"channel":"$one".*?#END##BEGIN#\{"id":1,"channel":"$all","tag":"(\d+)","time":"([^"]+)","text":\{"n":1\}\}#END#\z/;
    ok($tag, "intranet $years: a page has the messages of both channels") or diag $first;
    $place = "tag=$tag&time=" . $time =~ s/ /%20/gr;
    my $socket = $t->websocket("/portal/socket?CHANNEL_ID=$one/$all&$place");
    my $poll = $t->poll("/portal/sub?CHANNEL_ID=$one/$all&$place");
    $t->publish("/portal/pub?CHANNEL_ID=$all", '{"n":2}');
    like($poll->body, qr/\A#BEGIN#\{"id":2,"channel":"$all",.*"text":\{"n":2\}\}#END#\z/, "intranet $years: and goes on with a poll");
    is($socket->text, $poll->body, "intranet $years: or over a WebSocket");
    is($poll->header('Access-Control-Allow-Origin'), '*', "intranet $years: from another origin");
    $socket->close;
    $t->finish;
}

# ---- other products that ship a configuration for the original module

# A music player: each web page sees what another one does, at once, and nothing is kept.
$t = Test::Nginx::PushStream->new->http(<<'EOC')->run;
    push_stream_shared_memory_size 32M;
    push_stream_max_messages_stored_per_channel 10;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location ~ /pub(.*) {
            push_stream_publisher admin;
            push_stream_channels_path "$arg_id";
            push_stream_store_messages off;
            push_stream_channel_info_on_publish off;
        }
        location ~ /ws/(.*) {
            push_stream_subscriber websocket;
            push_stream_websocket_allow_publish on;
            push_stream_channels_path $1;
            push_stream_message_template "{\"channel\":\"~channel~\",\"data\":~text~}";
            push_stream_ping_message_interval 10s;
        }
    }
EOC
my ($screen, $phone) = map { $t->websocket("/ws/volume/playback$_") } '', '.b5';
$phone->send_text('{"level":30}');
my $said_twice = join "\n", map {qq({"channel":"$_","data":{"level":30}})} qw(volume playback);
is(join("\n", map { $_->text } ($screen) x 2), $said_twice, 'a player: one page tells another, on both channels');
my $answer = $t->publish('/pub?id=volume', '{"level":31}');
is($answer->body, '', 'a player: a program publishes, and wants no numbers');
is($screen->text, '{"channel":"volume","data":{"level":31}}', 'a player: which the page gets');
$_->close for $screen, $phone;
$t->finish;

# A device that is managed from afar: it waits for a request of its operator, and a page watches its events.
$t = Test::Nginx::PushStream->new->http(<<'EOC')->run;
    push_stream_shared_memory_size 32M;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location ~ "^/lp/sub/(.*)" { push_stream_channels_path "$1"; push_stream_subscriber long-polling; }
        location ~ "^/ev/sub/(.*)" { push_stream_channels_path "$1"; push_stream_subscriber eventsource; }
        location ~ "^/(?:lp|ev)/pub" { push_stream_publisher admin; push_stream_channels_path "$arg_id"; allow 127.0.0.1; deny all; }
    }
EOC
my $page = $t->subscribe('/ev/sub/requests');
my $device = $t->poll('/lp/sub/device-7');
ok($t->wait_for(sub { ($t->get('/lp/pub?id=device-7')->body // '') =~ /"subscribers": 1/ }, 'a waiting device'), 'a device waits');
$t->publish('/lp/pub?id=device-7', 'renew');
is($device->body, 'renew', 'a device: gets its order');
$t->publish('/ev/pub?id=requests', 'device-7 asks', 'Event-Type' => 'request-submitted');
is($page->read_until(qr/asks\n\n/), ": \nevent: request-submitted\ndata: device-7 asks\n\n", 'a device: a page sees what it asks for');
$t->finish;

done_testing();
