# Channel ids cannot break out of the layout that they are printed in.
#
# Proves protocol.md: escaping.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 1m;
    push_stream_channels_path $arg_id;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher admin; push_stream_store_messages on; }
        location /stats { push_stream_channels_statistics; }
    }
EOC

my @sly = ('a"b', 'a\\b', '", "published_messages": 99, "x": "', '<name><name>', 'a&b', "'", "\xc3\xa9", "\xe2\x80\xa8", "\xff");
for my $id (@sly) {
    my $uri = join '', map { sprintf '%%%02X', ord } split //, $id;
    my $info = $t->publish("/pub?id=$uri", 'x')->body;
    my $shown = $id eq "\xff" ? "\xef\xbf\xbd" : $id;
    my $json = JSON::PP->new->decode($info);
    is($json->{channel}, $shown, "JSON: $shown");
    is($json->{published_messages}, 1, 'nothing else has changed');
    my $xml = $t->get("/stats?id=$uri", Accept => 'a/xml')->body;
    my ($name) = $xml =~ m{\A<\?xml[^>]*>\r\n<channel>\r\n  <name>([^<>]*)</name>\r\n  <published_messages>1</published_messages>};
    my %entity = (lt => '<', gt => '>', amp => '&', quot => '"', apos => "'");
    is(defined $name && $name =~ s/&(\w+);/$entity{$1}/gr, $shown, 'XML');
    my @lines = split /\r\n/, $t->get("/stats?id=$uri", Accept => 'a/plain')->body;
    is(scalar @lines, 4, 'plain text: four lines');
    @lines = split /[\r\n]|\xe2\x80\xa8/, $t->get("/stats?id=$uri", Accept => 'a/yaml')->body =~ s/\r\n/\n/gr;
    is(scalar @lines, 4, 'YAML: four lines');
}
my $all = JSON::PP->new->decode($t->get('/stats?id=ALL')->body);
is(scalar @{ $all->{infos} }, scalar @sly, 'the list of all is JSON');
my $plain = $t->publish('/pub?id=room%2012.b-3_~%25', 'x')->body;
like($plain, qr/"channel": "room 12\.b-3_~%"/, 'an ordinary id is printed as it is');

$t->done();
