package Test::Nginx::PushStream::Client;

# One TCP connection to nginx, and the event loop that all connections of a test share.
#
# Nothing here sleeps. Every wait calls `until`, which selects over *all* open connections, so that
# subscribers in the background continue to read while a publisher waits for its answer.
#
#   new ── send ──► {out} ── pump ──► socket ── pump ──► {in} ──► Exchange, WebSocket, or the test

use strict;
use warnings;

use Errno qw(EAGAIN EWOULDBLOCK EINTR);
use IO::Socket::INET ();
use Socket qw(AF_INET SOCK_STREAM SOL_SOCKET SO_RCVBUF SO_LINGER IPPROTO_TCP TCP_NODELAY
    inet_aton pack_sockaddr_in unpack_sockaddr_in);
use Time::HiRes qw(time);
use Test::More ();

our $LIMIT = $ENV{TEST_NGINX_TIMEOUT} || 20;    # seconds any wait may take unless it says otherwise
my $TIMEOUTS_MAX = 4;                            # a test that keeps timing out is given up

my %open;                                        # fd => client
my $timeouts = 0;

# port => number; rcvbuf => bytes of receive buffer, set before connecting so that the window is
# small from the start; tls => 1 needs IO::Socket::SSL.
sub new {
    my ($class, %o) = @_;
    socket(my $sock, AF_INET, SOCK_STREAM, 0) or die "socket: $!";
    bless $sock, 'IO::Socket::INET';
    setsockopt($sock, SOL_SOCKET, SO_RCVBUF, pack('i', $o{rcvbuf})) if $o{rcvbuf};
    setsockopt($sock, IPPROTO_TCP, TCP_NODELAY, pack('i', 1));
    connect($sock, pack_sockaddr_in($o{port}, inet_aton($o{host} // '127.0.0.1')))
        or do { Test::More::diag("connect to port $o{port}: $!") unless $o{quiet}; return };
    if ($o{tls}) {
        require IO::Socket::SSL;
        $sock->autoflush(1);
        $sock = IO::Socket::SSL->start_SSL($sock, SSL_verify_mode => 0,
            $o{alpn} ? (SSL_alpn_protocols => $o{alpn}) : ())
            or die "TLS: $IO::Socket::SSL::SSL_ERROR";
    }
    $sock->blocking(0);
    my $self = bless {
        sock => $sock, fd => fileno($sock), port => $o{port}, tls => $o{tls},
        in => '', out => '', eof => 0, paused => $o{paused} ? 1 : 0, received => 0,
        exchanges => [],    # under way, in the order of their requests
    }, $class;
    ($self->{local_port}) = unpack_sockaddr_in(getsockname($sock));
    return $open{ $self->{fd} } = $self;
}

# The port number at our end, which nginx sees as $remote_port.
sub local_port { return $_[0]{local_port} }

# Queues bytes and writes what the socket takes at once. The event loop writes the rest.
sub send {
    my ($self, $bytes) = @_;
    $self->{out} .= $bytes;
    $self->_write;
    return $self;
}

# Waits until the kernel has taken all queued bytes.
sub flushed {
    my ($self, $seconds) = @_;
    return $self->until(sub { $self->{out} eq '' || $self->{eof} }, 'request to be sent', $seconds);
}

# Stops and starts reading. A paused client takes no bytes.
sub pause { $_[0]{paused} = 1; return $_[0] }

# From here on the receive buffer is large, whatever it was: megabytes through one of 4 KB take as many
# turns of this process as there are parts of 2 KB, and on a busy machine these take half a minute.
sub resume {
    my ($self) = @_;
    $self->{paused} = 0;
    setsockopt($self->{sock}, SOL_SOCKET, SO_RCVBUF, pack('i', 1 << 20)) if $self->{sock};
    return $self;
}

# True once the other side has ended the connection (and we have read up to that end).
sub eof { return $_[0]{eof} }

# Was the connection reset, instead of closed in an orderly way?
sub was_reset { return defined $_[0]{reset} }

# Everything received and not yet taken.
sub buffered { return $_[0]{in} }

# When the last byte that has been taken arrived.
sub taken_at {
    my ($self) = @_;
    my $taken = ($self->{received} // 0) - length $self->{in};
    my $arrivals = $self->{arrivals} // [];
    shift @$arrivals while @$arrivals > 1 && $arrivals->[0][0] < $taken;
    return @$arrivals ? $arrivals->[0][1] : time;
}

# Waits for the end of the connection.
sub wait_closed {
    my ($self, $seconds) = @_;
    return $self->until(sub { $self->{eof} }, 'the connection to be closed', $seconds);
}

# Takes `n` bytes, or all up to the end of a match of a regex, or all up to the end of the connection
# ('eof'). Returns undef if that did not come in time.
sub take {
    my ($self, $what, $seconds) = @_;
    my $end;
    my $found = sub {
        if (ref $what eq 'Regexp') { $end = $+[0] if $self->{in} =~ $what }
        elsif ($what eq 'eof')     { $end = length $self->{in} if $self->{eof} }
        else                       { $end = $what if length $self->{in} >= $what }
        return defined $end;
    };
    $self->until(sub { $found->() || $self->{eof} }, "bytes ($what)", $seconds);
    $found->();
    return defined $end ? substr($self->{in}, 0, $end, '') : undef;
}

# Ends our side. `abort` does it with a reset instead of an orderly end.
sub close {
    my ($self) = @_;
    return unless $self->{sock};
    delete $open{ $self->{fd} };
    close $self->{sock};
    $self->{sock} = undef;
    $self->{eof}  = 1;
    $self->{exchanges}[-1]->advance if @{ $self->{exchanges} };    # which then forget us
    return;
}

sub abort {
    my ($self) = @_;
    setsockopt($self->{sock}, SOL_SOCKET, SO_LINGER, pack('ii', 1, 0)) if $self->{sock};
    return $self->close;
}

# Closes our sending half, and continues to read.
sub half_close { my ($self) = @_; $self->flushed; shutdown($self->{sock}, 1); return $self }

sub close_all { $_->close for values %open; return }

# Waits until the condition holds. When the time is over, it only says what it waited for and returns false, so
# that the test's own assertion shows the difference.
sub until {
    my (undef, $condition, $what, $seconds) = @_;
    $seconds //= $LIMIT;
    my $end = time + $seconds;
    while (1) {
        my $value = $condition->();
        return $value if $value;
        my $left = $end - time;
        last if $left <= 0;
        pump($left < 0.05 ? $left : 0.05);
    }
    my $level = 0;
    $level++ while (caller $level) && (caller $level)[0] =~ /\ATest::Nginx::PushStream/;
    my (undef, $file, $line) = caller $level;
    Test::More::diag(sprintf 'waited %s s in vain for %s, at %s line %s',
        $seconds, $what // 'a condition', $file // '?', $line // '?');
    die "too many waits in vain\n" if ++$timeouts >= $TIMEOUTS_MAX;
    return;
}

# One turn of the event loop: waits at most that long for any connection, then reads and writes.
sub pump {
    my ($seconds) = @_;
    my ($read, $write) = ('', '');
    for my $c (values %open) {
        next if $c->{eof};
        vec($read,  $c->{fd}, 1) = 1 unless $c->{paused};
        vec($write, $c->{fd}, 1) = 1 if $c->{out} ne '';
    }
    my $n = select($read, $write, undef, $seconds);
    return 0 if !$n || $n < 0;
    for my $c (values %open) {
        $c->_write if vec($write, $c->{fd}, 1);
        $c->_read  if vec($read,  $c->{fd}, 1);
    }
    return $n;
}

sub _write {
    my ($self) = @_;
    while ($self->{sock} && $self->{out} ne '') {
        my $n = $self->{sock}->syswrite($self->{out}, 1 << 18);
        if (defined $n) { substr($self->{out}, 0, $n, ''); next }
        return if $! == EAGAIN || $! == EWOULDBLOCK || $! == EINTR;
        $self->{out} = '';    # the peer is gone; what it sent before is still worth reading
        return;
    }
    return;
}

sub _read {
    my ($self) = @_;
    my $n = $self->{sock} ? $self->{sock}->sysread($self->{in}, 1 << 18, length $self->{in}) : 0;
    if (defined $n) {
        $self->{received} += $n;
        push @{ $self->{arrivals} }, [ $self->{received}, time ];
        $self->{eof} = 1 if $n == 0;
        return;
    }
    return if $! == EAGAIN || $! == EWOULDBLOCK || $! == EINTR;
    $self->{eof}   = 1;
    $self->{reset} = "$!";
    return;
}

# A client that no variable holds any more stays open on purpose, because a test may need a subscriber only to
# be connected. `close_all` at the end of the test closes it.

1;
