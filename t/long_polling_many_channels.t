# Long polling on several busy channels: every message comes once, whatever is published between two polls.
#
# Proves protocol.md: long-polling, resuming (no answer announces a place behind a message that was not sent).

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;
use IO::Socket::INET;
use POSIX ();

my $t = Test::Nginx::PushStream->new(workers => 2)->http(<<'EOC')->run();
    push_stream_shared_memory_size 4m;
    push_stream_channels_path $arg_id;
    push_stream_store_messages on;
    keepalive_requests 10000;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher; }
        location /lp    { push_stream_subscriber long-polling; push_stream_message_template "~text~,";
                          push_stream_longpolling_connection_ttl 10s; }
        location /stats { push_stream_channels_statistics; }
    }
EOC

my @channels = qw(a b c d);
my ($publishers, $each) = (3, 150);

# Publishes one message after the other, each to a channel by chance, in a process of its own.
sub publisher {
    my ($number) = @_;
    my $pid = fork // die "fork: $!";
    return $pid if $pid;
    srand $number;
    my $s = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $t->port) or POSIX::_exit(1);
    for my $i (1 .. $each) {
        my $body = "$number.$i";
        my $head = join "\r\n", "POST /pub?id=$channels[rand @channels] HTTP/1.1", 'Host: x',
            'Content-Length: ' . length $body, '', '';
        syswrite $s, $head . $body;
        my $answer = '';
        sysread $s, $answer, 4096, length $answer or POSIX::_exit(1) until $answer =~ /\}\s*\z/;
        POSIX::_exit(1) if $answer !~ m{\AHTTP/1.1 200};
    }
    POSIX::_exit(0);
}

my $uri = '/lp?id=' . join '/', @channels;
my @clients = map { { got => {}, poll => $t->poll($uri) } } 1 .. 4;
$t->wait_subscribers('/stats?id=a', scalar @clients);
my @pids = map { publisher($_) } 1 .. $publishers;

my $wanted = $publishers * $each;
my $twice  = 0;
my $done   = $t->wait_for(sub {
    for my $c (@clients) {
        next if keys %{ $c->{got} } == $wanted || !$c->{poll}->complete;
        next unless $c->{poll}->status == 200;
        $twice += $c->{got}{$_}++ ? 1 : 0 for split /,/, $c->{poll}->body;
        $c->{poll} = $t->poll($uri, since => $c->{poll}, client => $c->{poll});
    }
    return !grep { keys %{ $_->{got} } < $wanted } @clients;
}, 'all messages', 60);
ok($done, 'nothing is lost') or diag join ' ', map { scalar keys %{ $_->{got} } } @clients;
is($twice, 0, 'nothing comes twice');
is(scalar(grep { waitpid($_, 0) != $_ || $? } @pids), 0, 'all publishers could publish all');

$t->done();
