# Origins and header names of CORS that make no sense are refused at start, with the value and what is accepted.
#
# Proves directives.md: push_stream_allowed_origins, push_stream_cors_headers, push_stream_cors_max_age.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;
use Test::Nginx::PushStream::Config;

my $c = Test::Nginx::PushStream::Config->new;
my $origins = 'push_stream_subscriber; push_stream_allowed_origins';
for my $bad ('https://a.example https://b.example/', 'https://a.example *', 'https://a.example $http_origin', 'a.example b.example', '"" https://a.example') {
    $c->refuses("$origins $bad;", qr/invalid push_stream_allowed_origins value: .*, each one of a list must be an origin such as https:\S+, or a regular expression that begins with ~ or ~\* in .*:\d+/, $bad);
}
$c->refuses("$origins ~(;", qr/invalid push_stream_allowed_origins value: ~\(, pcre\S* failed: .* in .*:\d+/, 'a broken pattern');
$c->refuses("$origins a; push_stream_allowed_origins b;", qr/"push_stream_allowed_origins" directive is duplicate/, 'given twice');
$c->refuses('push_stream_subscriber; push_stream_cors_headers "X Y";', qr/invalid push_stream_cors_headers value: X Y, it must be the name of a header in .*:\d+/, 'no name');
$c->refuses('push_stream_subscriber; push_stream_cors_max_age never;', qr/"push_stream_cors_max_age" directive invalid value/, 'no time');
for my $level (qw(http server location)) {
    my %what = (location => 'push_stream_subscriber;');
    $what{$level} = ($what{$level} // '') . ' push_stream_allowed_origins a b; push_stream_cors_headers A; push_stream_cors_headers B;'
        =~ s/a b/https:\/\/a.example ~b/r;
    $c->accepts(\%what, "at the level of $level");
}
$c->refuses("push_stream_subscriber; if (\$arg_a) { $_ a; }", qr/"$_" directive is not allowed here/, "$_ in if")
    for qw(push_stream_allowed_origins push_stream_cors_headers);
$c->accepts("$origins 'https://a.example, https://b.example';", 'one value may be anything, as ever');
$c->done;
