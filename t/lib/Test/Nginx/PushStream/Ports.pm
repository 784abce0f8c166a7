package Test::Nginx::PushStream::Ports;

# Hands out TCP ports that nobody uses, also to tests that run at the same time (`prove -j`).
#
# A lock file for each port keeps other tests away as long as this process lives. A trial bind finds ports
# that other programs use. The ports are below the range that Linux uses for outgoing connections, so no
# client can have one of them by accident.

use strict;
use warnings;

use Fcntl qw(:flock O_CREAT O_RDWR);
use File::Spec ();
use Socket qw(AF_INET SOCK_STREAM SOL_SOCKET SO_REUSEADDR inet_aton pack_sockaddr_in);

my ($FIRST, $COUNT) = (20_000, 10_000);
my $directory = File::Spec->catdir(File::Spec->tmpdir, "push-stream-test-ports.$>");
my %locks;    # port => handle; closing it gives the lock back

sub reserve {
    mkdir $directory, 0700 unless -d $directory;
    my $start = ($$ * 13) % $COUNT;
    for my $step (0 .. $COUNT - 1) {
        my $port = $FIRST + ($start + $step) % $COUNT;
        next if $locks{$port};
        sysopen my $lock, "$directory/$port", O_CREAT | O_RDWR, 0600 or next;
        flock $lock, LOCK_EX | LOCK_NB or next;
        next unless _is_free($port);
        $locks{$port} = $lock;
        return $port;
    }
    die 'no free port';
}

sub release { delete @locks{@_}; return }

sub _is_free {
    my ($port) = @_;
    socket my $sock, AF_INET, SOCK_STREAM, 0 or return;
    setsockopt $sock, SOL_SOCKET, SO_REUSEADDR, pack 'i', 1;
    return bind $sock, pack_sockaddr_in($port, inet_aton('127.0.0.1'));
}

1;
