# The size of the zone costs nothing: neither `nginx -t` nor a start, a reload, an audit or a list of all
# channels uses memory in which nothing was stored.
#
# Proves directives.md: push_stream_shared_memory_size.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;
use IO::Handle;

# In KiB: a zone of 1 GiB, and what is little of it.
my $kib   = 1024 * 1024;
my $bound = $kib / 256;

my $conf = <<'EOC';
    push_stream_shared_memory_size SIZE;
    push_stream_channels_path $arg_id;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher; push_stream_store_messages on; }
        location /stats { push_stream_channels_statistics; }
        location /audit { push_stream_audit on; }
    }
EOC
my $t = Test::Nginx::PushStream->new->http($conf =~ s/SIZE/1g/r)->run;

# Most memory that `nginx -t` had, in KiB. It shows the file, too, which is longer than a pipe holds: so it
# waits for us where it would end.
sub peak_of_a_test {
    my ($size) = @_;
    my $dir = $t->dir . "/test.$size";
    mkdir $dir;
    local $t->{http} = $conf =~ s/SIZE/$size/r;
    open my $file, '>', "$dir/nginx.conf" or die $!;
    print {$file} $t->_configuration($dir), ('# ' . 'x' x 98 . "\n") x 10_000;
    close $file;
    my @command = ($t->nginx_binary, '-T', '-p', "$dir/", '-e', "$dir/error.log", '-c', "$dir/nginx.conf");
    my $pid = open my $shown, '-|', "exec @command 2>>$dir/output.log" or die $!;
    is(sysread($shown, my $byte, 1), 1, "nginx -t with $size is through");
    open my $status, '<', "/proc/$pid/status" or die $!;
    my ($peak) = join('', <$status>) =~ /^VmHWM:\s+(\d+) kB/m;
    close $status;
    1 while sysread $shown, my $rest, 65536;
    ok(close $shown, 'and the configuration is accepted');
    return $peak;
}

# KiB of the zone that this process has used.
sub resident {
    my ($pid) = @_;
    open my $smaps, '<', "/proc/$pid/smaps" or die $!;
    my ($size, $sum) = (0, 0);
    while (my $line = <$smaps>) {
        $size = $1 if $line =~ /^Size:\s+(\d+) kB/;
        $sum += $1 if $line =~ /^Rss:\s+(\d+) kB/ && $size >= $kib;
    }
    return $sum;
}

sub used_little {
    my ($when) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    cmp_ok(resident($_), '<', $bound, "$when: process $_") for $t->master_pid, $t->worker_pids;
    return;
}

my ($small, $large) = (peak_of_a_test('1m'), peak_of_a_test('1g'));
cmp_ok($large - $small, '<', $bound, "a test of 1 GiB takes little more than one of 1 MiB");

used_little('after the start');
cmp_ok(resident($t->master_pid), '>', 0, 'the zone was found at all');
ok($t->reload, 'reload');
used_little('after a reload');

is($t->post("/pub?id=channel$_", 'x' x 1000)->status, 200, "message $_") for 1 .. 20;
is($t->stats('/stats?id=ALL')->{channels}, 20, 'a list of all channels');
used_little('after some messages and a list');
like($t->get('/audit')->body, qr/"violations": *\[\]/, 'an audit');
used_little('after an audit');

$t->done;
