# What add_before_body and add_after_body say comes before and after the whole stream.
#
# Pins subscriber.md, section 10; design of delivery: the direct path must not bypass a body filter.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

Test::More::plan(skip_all => 'nginx without the addition filter')
    unless Test::Nginx::PushStream->has_feature('http_addition_module');

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    addition_types *;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub    { push_stream_publisher admin; push_stream_store_messages on; }
        location /sub    { push_stream_subscriber; push_stream_header_template HEAD;
                           push_stream_footer_template FOOT; push_stream_message_template "~text~;";
                           add_before_body /before; add_after_body /after; }
        location /before { return 200 BEFORE; }
        location /after  { return 200 AFTER; }
        location /stats  { push_stream_channels_statistics; }
    }
EOC

for my $old ('', 'old;') {
    my $id = $old ? 'stored' : 'new';
    $t->publish("/pub?id=$id", 'old') if $old;
    my $s = $t->subscribe("/sub?id=$id.b1");
    is($s->read_until(qr/HEAD\Q$old\E/), "BEFOREHEAD$old", "$id: the beginning comes at once, in order");
    $t->publish("/pub?id=$id", $_) for qw(one two);
    is($s->read_until(qr/two;/), 'one;two;', 'messages come as they are published');
    $t->delete("/pub?id=$id");
    $s->wait_end;
    is($s->so_far, "BEFOREHEAD${old}one;two;Channel deleted;FOOTAFTER", 'the end comes last');
    ok($s->complete, 'and ends in order');
}

$t->done();
