package Test::Nginx::PushStream::Config;

# Asks nginx whether it accepts a configuration.
#
#   my $c = Test::Nginx::PushStream::Config->new;
#   $c->accepts('push_stream_publisher; ...', 'name');           # in one location
#   $c->refuses({ http => ..., server => ..., location => ... }, qr/text/, 'name');
#   my $said = $c->said({ ... });                                # what it printed, accepted or not
#
# Text alone means { location => text }. Each level that is not given has what makes the rest valid: a zone in
# `http`, a path in `server`. `bare => 1` leaves that out.

use strict;
use warnings;

use Test::More ();
use Test::Nginx::PushStream;

sub new {
    my ($class) = @_;
    return bless { t => Test::Nginx::PushStream->new }, $class;
}

sub t { return $_[0]{t} }

# The http block for such a description.
sub text {
    my ($what) = @_;
    my %level = ref $what ? %$what : (location => $what);
    my $http   = $level{bare} ? '' : "push_stream_shared_memory_size 1m;\n";
    my $server = $level{bare} ? '' : "push_stream_channels_path \$arg_id;\n";
    $_ //= '' for @level{qw(http server location more)};
    return "$http$level{http}\nserver {\nlisten 127.0.0.1:%%PORT_8080%%;\n$server$level{server}\n"
        . "location /x {\n$level{location}\n}\n$level{more}\n}\n";
}

sub said {
    my ($self, $what) = @_;
    my ($ok, $said) = $self->{t}->try_config(text($what));
    return $said;
}

sub accepts {
    my ($self, $what, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my ($ok, $said) = $self->{t}->try_config(text($what));
    return Test::More::ok($ok, $name) || Test::More::diag($said);
}

sub refuses {
    my ($self, $what, $re, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my ($ok, $said) = $self->{t}->try_config(text($what));
    return Test::More::fail($name) || Test::More::diag('accepted') if $ok;
    return Test::More::like($said, $re, $name);
}

sub done { my ($self) = @_; $self->{t}->finish; Test::More::done_testing(); return }

1;
