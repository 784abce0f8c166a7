# Statistics: every layout in every format, byte for byte, and how Accept chooses the format.
#
# Proves protocol.md: statistics-requests, formats, one-channel, several-channels, summary, fields,
# common-headers (length).

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;
use Sys::Hostname qw(hostname);

my $t = Test::Nginx::PushStream->new(gzip => 1)->http(<<'EOC')->run();
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    push_stream_wildcard_channel_prefix w_;
    push_stream_max_channel_id_length 6;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher; push_stream_store_messages on; }
        location /pass  { push_stream_publisher; }
        location /sub   { push_stream_subscriber; }
        location /stats { push_stream_channels_statistics; }
    }
EOC
my @workers = $t->worker_pids;
my $host = lc hostname;

# methods
for my $method (qw(POST PUT DELETE OPTIONS HEAD PATCH)) {
    $t->is_refusal($t->request($method, '/stats', body => 'x'), 405, undef, "$method is refused", Allow => 'GET');
}

# three subscribers; three messages in news (one unstored), one in tech, one in a wildcard channel
my @s = (map({ $t->subscribe('/sub?id=news/tech', worker => $workers[0]) } 1, 2),
         $t->subscribe('/sub?id=news', worker => $workers[1]));
$t->publish('/pub?id=news', 'x') for 1, 2;
$t->publish('/pass?id=news', 'x');
$t->publish('/pub?id=tech', 'x');
$t->publish('/pub?id=w_1', 'x');

my %type = (
    plain => 'text/plain', json => 'application/json', yaml => 'application/yaml',
    xml => 'application/xml', 'x-json' => 'text/x-json', 'x-yaml' => 'text/x-yaml',
);
my %cache = $t->cache_headers;

# Compares with the given text, in which {T} is any time, {U} a small number, {H} our host name.
sub is_text {
    my ($uri, $word, $want, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $r = $t->get($uri, Accept => "any/$word");
    is($r->status, 200, $name);
    is($r->header('Content-Type'), $type{$word}, 'Content-Type');
    is($r->header('Content-Length'), length $r->body, 'Content-Length');
    is($r->header($_), $cache{$_}, $_) for sort keys %cache;
    like($r->header('X-Nginx-PushStream-Tag') // '', qr/\S/, 'version');
    like($r->header('X-Nginx-PushStream-Commit') // '', qr/\A[0-9a-f]{40}\z/, 'build');
    my $re = join '', map {
        $_ eq '{T}' ? '\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d' : $_ eq '{U}' ? '\d{1,4}' : $_ eq '{H}' ? quotemeta $host : quotemeta
    } split /(\{[TUH]\})/, $want =~ s/(?<!\r)\n/\r\n/gr;
    return like($r->body, qr/\A$re\z/, 'the text');
}

# single form
is_text('/stats?id=news', $_, <<'EOT', "single, $_") for qw(json x-json);
{"channel": "news", "published_messages": 3, "stored_messages": 2, "subscribers": 3}
EOT
is_text('/stats?id=news', 'plain', <<'EOT', 'single, plain');
channel: news
published_messages: 3
stored_messages: 2
active_subscribers: 3
EOT
is_text('/stats?id=news', $_, <<'EOT', "single, $_") for qw(yaml x-yaml);
  channel: news
  published_messages: 3
  stored_messages: 2
  subscribers: 3
EOT
is_text('/stats?id=news', 'xml', <<'EOT', 'single, XML');
<?xml version="1.0" encoding="UTF-8" ?>
<channel>
  <name>news</name>
  <published_messages>3</published_messages>
  <stored_messages>2</stored_messages>
  <subscribers>3</subscribers>
</channel>

EOT

# list form
is_text('/stats?id=tech/none/news', $_, <<'EOT', "list, $_") for qw(json x-json);
{"hostname": "{H}", "time": "{T}", "channels": 2, "wildcard_channels": 1, "uptime": {U}, "infos": [
{"channel": "tech", "published_messages": 1, "stored_messages": 1, "subscribers": 2},
{"channel": "news", "published_messages": 3, "stored_messages": 2, "subscribers": 3}
]}
EOT
is_text('/stats?id=tech/none/news', 'plain', <<'EOT' =~ s/_$/ /mr, 'list, plain');
hostname: {H}, time: {T}, channels: 2, wildcard_channels: 1, uptime: {U}, infos:_
channel: tech
published_messages: 1
stored_messages: 1
active_subscribers: 2,
channel: news
published_messages: 3
stored_messages: 2
active_subscribers: 3
EOT
is_text('/stats?id=tech/none/news', $_, <<'EOT' =~ s/_$/ /mr, "list, $_") for qw(yaml x-yaml);
hostname: {H}
time: {T}
channels: 2
wildcard_channels: 1
uptime: {U}
infos:_
 -
  channel: tech
  published_messages: 1
  stored_messages: 1
  subscribers: 2
 -
  channel: news
  published_messages: 3
  stored_messages: 2
  subscribers: 3
EOT
is_text('/stats?id=tech/none/news', 'xml', <<'EOT', 'list, XML');
<?xml version="1.0" encoding="UTF-8" ?>
<root>
  <hostname>{H}</hostname>
  <time>{T}</time>
  <channels>2</channels>
  <wildcard_channels>1</wildcard_channels>
  <uptime>{U}</uptime>
  <infos>
<channel>
  <name>tech</name>
  <published_messages>1</published_messages>
  <stored_messages>1</stored_messages>
  <subscribers>2</subscribers>
</channel>
<channel>
  <name>news</name>
  <published_messages>3</published_messages>
  <stored_messages>2</stored_messages>
  <subscribers>3</subscribers>
</channel>
  </infos>
</root>
EOT

# summary
my ($p, $q) = @workers;
is_text('/stats', $_, <<"EOT", "summary, $_") for qw(json x-json);
{"hostname": "{H}", "time": "{T}", "channels": 2, "wildcard_channels": 1, "published_messages": 5, "stored_messages": 4, "messages_in_trash": {U}, "channels_in_delete": 0, "channels_in_trash": 0, "subscribers": 3, "uptime": {U}, "by_worker": [
{"pid": "$p", "subscribers": 2, "uptime": {U}},
{"pid": "$q", "subscribers": 1, "uptime": {U}}
]}
EOT
is_text('/stats', 'plain', <<"EOT", 'summary, plain');
hostname: {H}
time: {T}
channels: 2
wildcard_channels: 1
published_messages: 5
stored_messages: 4
messages_in_trash: {U}
channels_in_delete: 0
channels_in_trash: 0
subscribers: 3
uptime: {U}
by_worker:
  pid: $p
  subscribers: 2
  uptime: {U},
  pid: $q
  subscribers: 1
  uptime: {U}
EOT
is_text('/stats', $_, <<"EOT", "summary, $_") for qw(yaml x-yaml);
  hostname: {H}
  time: {T}
  channels: 2
  wildcard_channels: 1
  published_messages: 5
  stored_messages: 4
  messages_in_trash: {U}
  channels_in_delete: 0
  channels_in_trash: 0
  subscribers: 3
  uptime: {U}
  by_worker:
   -
    pid: $p
    subscribers: 2
    uptime: {U}
   -
    pid: $q
    subscribers: 1
    uptime: {U}
EOT
is_text('/stats', 'xml', <<"EOT", 'summary, XML');
<?xml version="1.0" encoding="UTF-8" ?>
<infos>
  <hostname>{H}</hostname>
  <time>{T}</time>
  <channels>2</channels>
  <wildcard_channels>1</wildcard_channels>
  <published_messages>5</published_messages>
  <stored_messages>4</stored_messages>
  <messages_in_trash>{U}</messages_in_trash>
  <channels_in_delete>0</channels_in_delete>
  <channels_in_trash>0</channels_in_trash>
  <subscribers>3</subscribers>
  <uptime>{U}</uptime>
  <by_worker><worker>
  <pid>$p</pid>
  <subscribers>2</subscribers>
  <uptime>{U}</uptime>
</worker>
<worker>
  <pid>$q</pid>
  <subscribers>1</subscribers>
  <uptime>{U}</uptime>
</worker>
</by_worker>
</infos>
EOT

# which format
my @accept = (
    [ undef, 'json' ], [ 'text/html', 'json' ], [ '*/*', 'json' ], [ 'nonsense', 'json' ], [ '', 'json' ],
    [ 'application/json', 'json' ], [ 'text/xml', 'xml' ], [ 'text/plain', 'plain' ], [ 'application/yaml', 'yaml' ],
    [ 'text/x-yaml', 'x-yaml' ], [ 'application/x-json', 'x-json' ],
    [ 'text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8', 'xml' ],
    [ 'text/yaml, text/plain', 'yaml' ], [ 'text/html;q=0.9, text/plain;q=0.1, application/json', 'plain' ],
    [ 'application/jsonp', 'json' ], [ 'text/plainer, application/xml', 'xml' ], [ 'application/xmlish', 'json' ],
);
for (@accept) {
    my ($accept, $word) = @$_;
    is($t->get('/stats?id=news', defined $accept ? (Accept => $accept) : ())->header('Content-Type'), $type{$word},
        'Accept: ' . ($accept // '(none)') . " gives $word");
}

# gzip
require Compress::Zlib;
for my $word (sort keys %type) {
    my $r = $t->get('/stats?id=news', Accept => "x/$word", 'Accept-Encoding' => 'gzip');
    is($r->header('Content-Encoding'), 'gzip', "gzip of $word");
    is(Compress::Zlib::memGunzip($r->body), $t->get('/stats?id=news', Accept => "x/$word")->body, 'the same text');
}

# refusals
$t->is_refusal($t->get('/stats?id=none'), 404, undef, 'a channel that does not exist');
$t->is_refusal($t->get('/stats?id=none/nil'), 404, undef, 'nor do two');
$t->is_refusal($t->get('/stats?id=1234567'), 400, 'Channel id is too large.', 'a long id');
$t->is_refusal($t->get('/stats?id=news/1234567'), 400, 'Channel id is too large.', 'in second place');

# times
my ($time) = $t->get('/stats')->body =~ /"time": "([^"]+)"/;
my ($y, $mo, $d, $h, $mi, $sec) = split /\D/, $time;
require Time::Local;
cmp_ok(abs(Time::Local::timegm($sec, $mi, $h, $d, $mo - 1, $y) - time), '<', 30, 'time is now, in UTC');
my $uptime = $t->stats->{uptime};
$t->next_second for 1 .. 3;
cmp_ok(abs($t->stats->{uptime} - $uptime - 3), '<=', 1, 'uptime counts seconds');

# leaving
$_->close for @s;
ok($t->wait_for(sub { my $s = $t->stats; $s->{subscribers} == 0 && !grep { $_->{subscribers} } @{ $s->{by_worker} } },
    'subscribers to be gone'), 'counters follow when subscribers leave');
is($t->stats('/stats?id=news')->{subscribers}, 0, 'in the channel too');

$t->done();
