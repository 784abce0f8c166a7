# Bodies in temporary files are left to nginx: kept where the configuration says so, removed otherwise.
#
# Proves protocol.md: publishing (temporary files).

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 4m;
    push_stream_channels_path $arg_id;
    push_stream_store_messages on;
    client_max_body_size 2m;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher admin; client_body_buffer_size 1k; }
        location /keep  { push_stream_publisher; client_body_in_file_only on; client_body_temp_path %%TESTDIR%%/kept; }
        location /clean { push_stream_publisher; client_body_in_file_only clean; client_body_temp_path %%TESTDIR%%/cleaned; }
        location /poll  { push_stream_subscriber polling; }
    }
EOC

sub files { my ($where) = @_; return grep {-f} glob $t->dir . "/$where/*" }
my $body = join '', map { chr($_ % 256) } 1 .. 500_000;

$t->publish("/$_?id=$_", $body) for qw(pub keep clean);
is($t->get("/poll?id=$_.b1")->body, $body, "$_: the message is whole") for qw(pub keep clean);
my @kept = files('kept');
is(scalar @kept, 1, 'kept where that is asked for');
open my $file, '<:raw', $kept[0] or die "$kept[0]: $!";
is(do { local $/; <$file> }, $body, 'as it came');
is(scalar files('cleaned'), 0, 'gone where that is asked for');
is(scalar files('client_body_temp'), 0, 'and by default');

$t->post('/pub?id=*', $body);
$t->delete('/pub?id=pub', body => $body);
is(scalar files('client_body_temp'), 0, 'also after a refusal and a deletion');
$t->done();
