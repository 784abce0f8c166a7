package Test::Nginx::PushStream::Cursor;

# Reads and makes cursors, for tests of what a client may make of them. See src/wire/cursor.rs.
#
#   my $place = parse($word);              # life, time, tag, channel, id; nothing if the check is wrong
#   my $other = make(%$place, tag => 7);   # with the check of the others

use strict;
use warnings;

use Exporter qw(import);
use MIME::Base64 qw(decode_base64url encode_base64url);

our @EXPORT_OK = qw(make parse);

my @FIELDS = ([life => 8], [time => 5], [tag => 4], [channel => 4], [id => 6], [check => 6]);

sub make {
    my (%place) = @_;
    $place{check} //= _check(@place{qw(life time tag channel id)});
    return 'p' . encode_base64url(join '', map { substr pack('Q>', $place{ $_->[0] }), 8 - $_->[1] } @FIELDS);
}

sub parse {
    my ($word) = @_;
    return if ($word // '') !~ /\Ap([A-Za-z0-9_-]{44})\z/;
    my ($bytes, %place) = decode_base64url($1);
    for (@FIELDS) {
        my ($name, $length) = @$_;
        $place{$name} = unpack 'Q>', "\0" x (8 - $length) . substr $bytes, 0, $length, '';
    }
    my $check = delete $place{check};
    return $check == _check(@place{qw(life time tag channel id)}) ? \%place : ();
}

sub _check {
    my ($life, $time, $tag, $channel, $id) = @_;
    my $sum = ord 'p';
    for my $number ($life, $time, $tag << 32 | $channel, $id) {
        no warnings 'portable';
        use integer;    # wraps around
        $sum = ($sum ^ $number) * 0x9e3779b97f4a7c15;
        $sum ^= $sum >> 32 & 0xffffffff;
    }
    return $sum & (1 << 48) - 1;
}

1;
