# The metrics as scrapers see them: which clients may, which format a request gets, and that the tools of Prometheus read
# both formats and find the same numbers in them.
#
# Proves directives.md: push_stream_metrics, push_stream_metrics_allow.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;
use Test::Nginx::PushStream::Metrics qw(scrape series faults promtool parsed_by_python %ACCEPT %TYPE);

my $t = Test::Nginx::PushStream->new(workers => 2)->http(<<'EOC')->run();
    push_stream_shared_memory_size 1m;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub     { push_stream_publisher admin; push_stream_channels_path $arg_id; push_stream_store_messages on; }
        location /sub     { push_stream_subscriber; push_stream_channels_path $arg_id; }
        location /lp      { push_stream_subscriber long-polling; push_stream_channels_path $arg_id; }
        location /metrics { push_stream_metrics on; }
        location /others  { push_stream_metrics on; push_stream_metrics_allow 127.1.0.0/16 10.0.0.1 unix:; }
        location /these   { push_stream_metrics on; push_stream_metrics_allow 10.0.0.1; push_stream_metrics_allow 127.0.0.0/8; }
        location /all     { push_stream_metrics on; push_stream_metrics_allow all; }
        location /denied  { push_stream_metrics on; push_stream_metrics_allow all; deny all; }
        location /off     { push_stream_metrics off; return 204; }
        location /in-if   { push_stream_metrics on; if ($arg_x) { set $y 1; } }
        location /gzip    { push_stream_metrics on; gzip on; gzip_types text/plain; gzip_vary on; gzip_min_length 1; }
    }
EOC

my %cache = $t->cache_headers;

# which clients, and how
my $r = $t->get('/metrics');
is($r->status, 200, 'this machine sees them');
is($r->header($_), $cache{$_}, $_) for sort keys %cache;
$t->is_refusal($t->get('/others'), 403, undef, 'not in the list');
is($t->get($_)->status, 200, "$_ is in the list") for qw(/these /all);
is($t->get('/denied')->status, 403, 'deny applies besides');
$t->expect_log(qr/access forbidden by rule/);
is($t->get('/off')->status, 204, 'off: another handler may answer');
is($t->get('/in-if?x=1')->status, 200, 'also in an if block');
$t->is_refusal($t->request($_, '/metrics', body => 'x'), 405, undef, "$_ is refused", Allow => 'GET, HEAD')
    for qw(POST PUT DELETE OPTIONS PATCH);
for my $format (qw(text open)) {
    my $head = $t->request('HEAD', '/metrics', Accept => $ACCEPT{$format});
    is($head->status, 200, "HEAD, $format");
    is($head->body, '', 'no body');
    is($head->header('Content-Type'), $TYPE{$format}, 'Content-Type');
    cmp_ok($head->header('Content-Length'), '>', 1000, 'but its length');
}

# which format
for (
    [ undef, 'text', 'no Accept' ],
    [ 'text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8', 'text', 'a browser' ],
    [ 'application/json', 'text', 'what there is not' ],
    [ 'application/openmetrics-text', 'text', 'OpenMetrics in no version' ],
    [ 'application/openmetrics-text;version=0.0.1', 'text', 'in an old version' ],
    [ 'application/openmetrics-text; version=1.0.0; q=0', 'text', 'not at all' ],
    [ 'application/openmetrics-text;version=1.0.0;q=0.3,text/plain;q=0.4', 'text', 'text is wanted more' ],
    [ 'application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.4', 'open', 'OpenMetrics is wanted more' ],
    [ $ACCEPT{open}, 'open', 'OpenMetrics' ],
    [ 'application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,'
        . 'text/plain;version=0.0.4;q=0.5,*/*;q=0.1', 'open', 'Prometheus 2' ],
    [ 'application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;'
        . 'version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1',
        'open', 'Prometheus 3' ],
) {
    my ($accept, $format, $name) = @$_;
    my $answer = $t->get('/metrics', defined $accept ? (Accept => $accept) : ());
    is($answer->header('Content-Type'), $TYPE{$format}, "$name: Content-Type");
    is($answer->header('Vary'), 'Accept', 'Vary');
    is_deeply([ faults($answer->body, $format) ], [], 'well formed');
}
my $zipped = $t->get('/gzip', 'Accept-Encoding' => 'gzip');
is($zipped->header('Content-Encoding'), 'gzip', 'gzip knows the type');
is_deeply([ sort $zipped->header_all('Vary') ], [ 'Accept', 'Accept-Encoding' ], 'and both headers count');

# every series is there from the start, with 0
my $fresh = scrape($t);
my @moving = grep { $fresh->{$_} != 0 && !/_(?:build_info|start_time_seconds|workers|zone_|scrape_|channels|refusals)/ } keys %$fresh;
is_deeply(\@moving, [], 'all counters begin at 0');

# some numbers
$t->publish('/pub?id=a', 'x' x 100) for 1 .. 3;
my $subscriber = $t->subscribe('/sub?id=a.b2');
my $poll = $t->poll('/lp?id=a');
$t->wait_for(sub { scrape($t)->{'nginx_push_stream_subscribers{mode="long-polling"}'} == 1 }, 'a poll that waits');
$t->publish('/pub?id=a', 'four');
$poll->body;
$t->post('/pub?id=', 'x');
is_deeply([ sort keys %{ scrape($t) } ], [ sort keys %$fresh ], 'no series comes later');

# both say the same. What the previous scrape took changes with each.
sub same {
    my %series = %{ $_[0] };
    delete $series{'nginx_push_stream_scrape_duration_seconds'};
    return \%series;
}
my ($text, $open) = map { $t->get('/metrics', Accept => $ACCEPT{$_})->body } qw(text open);
is_deeply(same(series($open)), same(series($text)), 'both formats say the same');
cmp_ok(series($open)->{'nginx_push_stream_published_messages_total{source="http"}'}, '==', 4, 'and it is true');

SKIP: {
    my ($code, $output) = promtool('check', 'metrics', \$text) or skip 'no promtool (scripts/setup fetches it)', 2;
    is($output, '', 'promtool has nothing to say');
    is($code, 0, 'and ends well');
}
SKIP: {
    my $read = parsed_by_python($open) or skip 'no parser in Python (scripts/setup fetches it)', 1;
    my %ours = %{ series($open) };
    is_deeply({ map { $_ => $read->{$_} + 0 } keys %$read }, { map { $_ => $ours{$_} + 0 } keys %ours },
        'Python reads the same');
}

# Our own parser knows what is wrong.
for (
    [ 'text', "# HELP x_total A.\n# TYPE x_total counter\nx_total 1\nx_total 2\n", qr/twice/ ],
    [ 'text', "# HELP x A.\n# TYPE x counter\nx 1\n", qr/_total/ ],
    [ 'text', "# HELP x A.\n# TYPE x gauge\n\nx 1\n", qr/empty line/ ],
    [ 'text', "# HELP x A.\n# TYPE x gauge\nx{instance=\"1\"} 1\n", qr/label instance/ ],
    [ 'text', "# HELP x A.\n# TYPE x gauge\nx{a=\"1} 1\n", qr/not a sample/ ],
    [ 'open', "# TYPE x gauge\n# HELP x A.\nx 1\n", qr/EOF/ ],
    [ 'open', "# TYPE x gauge\n# UNIT x bytes\n# HELP x A.\nx 1\n# EOF\n", qr/unit/ ],
    [ 'open', "# HELP x A.\n# TYPE x gauge\nx 1\n# EOF\n", qr/order/ ],
    [ 'open', "# TYPE x histogram\n# HELP x A.\nx_bucket{le=\"1.0\"} 2\nx_bucket{le=\"+Inf\"} 1\nx_sum 1\nx_count 1\n# EOF\n",
        qr/buckets in order/ ],
) {
    my ($format, $bad, $fault) = @$_;
    like((faults($bad, $format))[0] // '', $fault, "a fault: $fault");
}

$subscriber->close;
$t->done();
