# Through gzip every message still arrives at once, and the whole decodes to the plain body. So nothing is
# written past a body filter.
#
# Proves protocol.md: streaming (body filters), polling (Etag), publishing; directives.md:
# push_stream_force_filters.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;
use Compress::Raw::Zlib qw(WANT_GZIP Z_OK Z_STREAM_END);

my $has_sub = Test::Nginx::PushStream->has_feature('http_sub_module');
my $t = Test::Nginx::PushStream->new(gzip => 1)->http(<<'EOC' . ($has_sub ? <<'EOS' : '') . '}')->run();
    push_stream_shared_memory_size 4m;
    push_stream_channels_path $arg_id;
    default_type text/plain;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher admin; push_stream_store_messages on; client_max_body_size 2m; }
        location /sub   { push_stream_subscriber; push_stream_header_template HEAD; push_stream_footer_template FOOT; }
        location /force { push_stream_subscriber; push_stream_force_filters on; push_stream_header_template HEAD;
                          push_stream_footer_template FOOT; }
        location /rate  { push_stream_subscriber; limit_rate 200k; }
        location /stats { push_stream_channels_statistics; }
EOC
        location /ssub  { push_stream_subscriber; sub_filter_types *; sub_filter Ola Adeus; sub_filter_once off; }
EOS

# What has arrived, decoded as far as it goes; true as second value when the stream is complete.
sub decoded {
    my ($s) = @_;
    my $inflate = Compress::Raw::Zlib::Inflate->new(-WindowBits => WANT_GZIP, -ConsumeInput => 0);
    my $status = $inflate->inflate($s->so_far, my $text);
    return ($text // '', $status == Z_STREAM_END);
}
sub arrives {
    my ($s, $want, $name) = @_;
    $t->wait_for(sub { (decoded($s))[0] eq $want }, $name);
    return ok((decoded($s))[0] eq $want, $name);
}

for my $version (qw(1.1 1.0)) {
    my $s = $t->subscribe("/sub?id=a$version", 'Accept-Encoding' => 'gzip', version => $version);
    is($s->header('Content-Encoding'), 'gzip', "HTTP/$version: gzip");
    arrives($s, 'HEAD', 'the header template comes at once');
    $t->publish("/pub?id=a$version", 'one');
    arrives($s, 'HEADone', 'so does a message');
    my $large = join '', map { chr 33 + $_ * 7919 % 90 } 1 .. 300_000;
    $t->publish("/pub?id=a$version", $large);
    arrives($s, "HEADone$large", 'and a large one');
    $t->publish("/pub?id=a$version", $_) for 1 .. 50;
    my $all = "HEADone$large" . join '', 1 .. 50;
    arrives($s, $all, 'and many');
    $t->delete("/pub?id=a$version");
    $s->wait_end;
    my ($text, $end) = decoded($s);
    ok($text eq $all . 'Channel deletedFOOT', 'the whole is the plain body');
    ok($end && $s->complete, 'and ends in order');
}

my $s = $t->subscribe('/sub?id=b');
is($s->header('Content-Encoding'), undef, 'a client that does not ask gets it plain');
$t->publish('/pub?id=b', 'one');
is($s->read_until(qr/one/), 'HEADone', 'as ever');
$s = $t->subscribe('/sub?id=b.b1', 'Accept-Encoding' => 'gzip');
arrives($s, 'HEADone', 'replay by gzip');

SKIP: {
    skip 'nginx without the sub filter', 2 unless $has_sub;
    $s = $t->subscribe('/ssub?id=c');
    $t->publish('/pub?id=c', 'say Ola ');
    is($s->read_until(qr/ \z/), 'say Adeus ', 'another body filter sees the messages too');
    $t->publish('/pub?id=c', 'Ola again ');
    is($s->read_until(qr/again/), 'Adeus again', 'each of them');
}

# other ways through nginx: the same bytes, the same chunks
$s = $t->subscribe('/force?id=d');
my $rate = $t->subscribe('/rate?id=d');
$t->publish('/pub?id=d', $_) for 'one', 'x' x 100_000, 'three';
$t->delete('/pub?id=d');
ok($s->body eq 'HEADone' . 'x' x 100_000 . 'threeChannel deletedFOOT', 'push_stream_force_filters');
is(join(' ', map { length } $s->chunks), '4 3 100000 5 15 4', 'each message in its own chunk');
ok($rate->body eq 'one' . 'x' x 100_000 . 'threeChannel deleted', 'limit_rate');
ok($rate->complete, 'ends in order');

$t->done();
