package Test::Nginx::PushStream::Exchange;

# One request and the response to it, parsed as far as it has arrived.
#
#   head ──► body: none | length | chunked | eof | upgrade ──► complete
#                └── connection ends too early, or the framing is wrong ──► broken
#
# Every accessor waits only for what it needs: `status` and `header` for the header, `body` for the end of
# the response, `next_chunk` for one more chunk. Responses of one connection come in the order of their
# requests, so an exchange first has those before it parsed.

use strict;
use warnings;

use Time::HiRes qw(time);

# client: connection the request was sent on; method: decides whether a body follows.
sub new {
    my ($class, %o) = @_;
    my $self = bless {
        client => $o{client}, method => $o{method} // 'GET', state => 'head',
        body => '', chunks => [], chunk_times => [], next_chunk => 0, read_to => 0, started => time,
    }, $class;
    push @{ $o{client}{exchanges} }, $self;
    return $self;
}

sub client { return $_[0]{client} }

# ---- the head

sub wait_head {
    my ($self, $seconds) = @_;
    return $self->_until(sub { $self->{state} ne 'head' }, 'a response', $seconds)
        && defined $self->{status};
}

# A streaming subscriber is attached before its response begins.
sub wait_subscribed { my ($self, @rest) = @_; $self->wait_head(@rest); return $self }

sub status  { my ($self) = @_; $self->wait_head; return $self->{status} }
sub reason  { my ($self) = @_; $self->wait_head; return $self->{reason} }
sub version { my ($self) = @_; $self->wait_head; return $self->{version} }
sub head    { my ($self) = @_; $self->wait_head; return $self->{head} }

# First value of a header, in any case of letters; undef if it is absent.
sub header {
    my ($self, $name) = @_;
    my ($value) = $self->header_all($name);
    return $value;
}

sub header_all {
    my ($self, $name) = @_;
    $self->wait_head;
    return map { $_->[1] } grep { lc $_->[0] eq lc $name } @{ $self->{headers} // [] };
}

# The reason of a refusal.
sub explain { return $_[0]->header('X-Nginx-PushStream-Explain') }

# Header names as they are spelled on the wire.
sub header_names {
    my ($self) = @_;
    $self->wait_head;
    return map { $_->[0] } @{ $self->{headers} // [] };
}

# ---- the body

# The whole body, once the response is complete (or its connection has ended).
sub body { my ($self, $seconds) = @_; $self->wait_end($seconds); return $self->{body} }

sub wait_end {
    my ($self, $seconds) = @_;
    return $self->_until(sub { $self->_over }, 'the end of a response', $seconds);
}

# True if the response has ended as its framing demands. Waits for nothing.
sub complete { my ($self) = @_; $self->advance; return $self->{state} eq 'complete' }
sub broken   { my ($self) = @_; $self->advance; return $self->{state} eq 'broken' ? $self->{why} : '' }
sub framing  { my ($self) = @_; $self->wait_head; return $self->{framing} }

# The part of the body that has arrived.
sub so_far { my ($self) = @_; $self->advance; return $self->{body} }

# Chunks as the server framed them, without the last empty one.
sub chunks { my ($self) = @_; $self->advance; return @{ $self->{chunks} } }

# When each of them had arrived, in seconds since the request was sent.
sub chunk_times { my ($self) = @_; $self->advance; return @{ $self->{chunk_times} } }

# The next chunk that this method has not given yet; undef if the response ends before.
sub next_chunk {
    my ($self, $seconds) = @_;
    my $i = $self->{next_chunk};
    $self->_until(sub { @{ $self->{chunks} } > $i || $self->{state} =~ /\A(?:complete|broken)\z/ },
        'a chunk', $seconds);
    return unless @{ $self->{chunks} } > $i;
    return $self->{chunks}[ $self->{next_chunk}++ ];
}

# Takes the body up to the end of the match; bytes that were taken are not matched again. undef if the
# response ends, or the time is over, before that.
sub read_until {
    my ($self, $re, $seconds) = @_;
    my $end;
    my $found = sub {
        my $rest = substr $self->{body}, $self->{read_to};
        $end = $+[0] if $rest =~ $re;
        return defined $end;
    };
    $self->_until(sub { $found->() || $self->{state} =~ /\A(?:complete|broken)\z/ },
        "a body matching $re", $seconds);
    return unless defined $end;
    my $text = substr $self->{body}, $self->{read_to}, $end;
    $self->{read_to} += $end;
    return $text;
}

# Waits until that many chunks have come in all.
sub wait_chunks {
    my ($self, $n, $seconds) = @_;
    return $self->_until(sub { @{ $self->{chunks} } >= $n || $self->{state} eq 'broken' },
        "$n chunks", $seconds) && @{ $self->{chunks} } >= $n;
}

# Waits for the end of the connection.
sub closed { my ($self, $seconds) = @_; return $self->{client}->wait_closed($seconds) }
sub close  { my ($self) = @_; $self->{client}->close; return }

# Seconds from the request to the arrival of the end.
sub duration { my ($self) = @_; $self->wait_end; return $self->{ended} - $self->{started} }

sub _until {
    my ($self, $condition, $what, $seconds) = @_;
    return $self->{client}->until(sub { $self->advance; $condition->() }, $what, $seconds);
}

# ---- parsing, as far as bytes have come

sub advance {
    my ($self) = @_;
    my $order = $self->{client}{exchanges};
    while (@$order) {
        my $next = $order->[0];
        $next->_parse;
        last if $next == $self || !$next->_over;
        shift @$order;
    }
    return;
}

sub _over { my ($self) = @_; return $self->{state} =~ /\A(?:complete|broken|upgrade)\z/ }

sub _parse {
    my ($self) = @_;
    my $c = $self->{client};
    while (1) {
        my $state = $self->{state};
        my $more = $state eq 'head' ? $self->_head
                 : $state eq 'body' ? $self->_body
                 :                    0;
        next if $more;
        last;
    }
    if ($c->{eof} && $self->{state} =~ /\A(?:head|body)\z/) {
        if ($self->{state} eq 'body' && $self->{framing} eq 'eof') { $self->_end('complete') }
        else { $self->_end('broken', 'the connection ended too early') }
    }
    return;
}

sub _head {
    my ($self) = @_;
    my $c = $self->{client};
    my $end = index $c->{in}, "\r\n\r\n";
    return 0 if $end < 0;
    my $head = substr $c->{in}, 0, $end + 4, '';
    my ($first, @lines) = split /\r\n/, $head;
    my ($version, $status, $reason) = $first =~ m{\AHTTP/(\d\.\d) (\d{3})(?: (.*))?\z}s
        or do { $self->_end('broken', "not a status line: $first"); return 0 };
    return 1 if $status == 100;    # an interim answer; the real one follows
    @$self{qw(head version status reason)} = ($head, $version, $status, $reason);
    $self->{headers} = [ map { /\A([^:]*): ?(.*)\z/s ? [ $1, $2 ] : [ $_, undef ] } @lines ];
    my ($coding) = $self->_find('transfer-encoding');
    my ($length) = $self->_find('content-length');
    $self->{state} = 'body';
    if    ($status == 101) { $self->{framing} = 'upgrade'; $self->_end('upgrade') }
    elsif ($self->{method} eq 'HEAD' || $status == 204 || $status == 304) {
        $self->{framing} = 'none';
        $self->_end('complete');
    }
    elsif (defined $coding && $coding eq 'chunked') { $self->{framing} = 'chunked' }
    elsif (defined $length) { $self->{framing} = 'length'; $self->{left} = $length }
    else                    { $self->{framing} = 'eof' }
    return 1;
}

sub _find {
    my ($self, $name) = @_;
    return map { $_->[1] } grep { lc $_->[0] eq $name } @{ $self->{headers} };
}

sub _body {
    my ($self) = @_;
    my $c = $self->{client};
    if ($self->{framing} eq 'length') {
        my $take = substr $c->{in}, 0, $self->{left}, '';
        $self->{body} .= $take;
        $self->{left} -= length $take;
        $self->_end('complete') if $self->{left} == 0;
        return 0;
    }
    if ($self->{framing} eq 'eof') {
        $self->{body} .= substr $c->{in}, 0, length $c->{in}, '';
        return 0;
    }
    my $line = index $c->{in}, "\r\n";
    if ($line < 0) {
        $self->_end('broken', 'no chunk size') if length $c->{in} > 20;
        return 0;
    }
    my ($hex) = substr($c->{in}, 0, $line) =~ /\A([0-9a-fA-F]{1,8})\z/
        or do { $self->_end('broken', 'bad chunk size: ' . substr($c->{in}, 0, $line)); return 0 };
    my $size = hex $hex;
    return 0 if length $c->{in} < $line + 2 + $size + 2;
    if (substr($c->{in}, $line + 2 + $size, 2) ne "\r\n") {
        $self->_end('broken', 'chunk without an end');
        return 0;
    }
    my $chunk = substr $c->{in}, $line + 2, $size;
    substr($c->{in}, 0, $line + 2 + $size + 2, '');
    if ($size == 0) { $self->_end('complete'); return 0 }
    $self->{body} .= $chunk;
    push @{ $self->{chunks} }, $chunk;
    push @{ $self->{chunk_times} }, $c->taken_at - $self->{started};
    return 1;
}

sub _end {
    my ($self, $state, $why) = @_;
    $self->{state} = $state;
    $self->{why}   = $why;
    $self->{ended} = $state eq 'complete' ? $self->{client}->taken_at : time;
    return;
}

1;
