# Padding lists: what a group is, what is refused with which text, and that a bad pattern is an ordinary
# error. t/stream_padding.t shows what is sent.
#
# Proves directives.md: push_stream_padding_by_user_agent, start-up-checks.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;
use Test::Nginx::PushStream::Config;

my $c = Test::Nginx::PushStream::Config->new;

sub list { my ($list, $mode) = @_; return ($mode // 'push_stream_subscriber;') . qq( push_stream_padding_by_user_agent '$list';) }

$c->accepts(list($_), "\"$_\"") for '', 'ua,10,0', '[A|a]ndroid 2,4097,4097:[S|s]afari,1025,0', 'a{1,2},3,4', '^(x|y)$,0,0';

for my $bad (['ua,as,df', 'padding pattern not match the value ua,as,df'],
             ['ua;10;0', 'padding pattern not match the value ua;10;0'],
             ['ua,10,0:other;20;0:more,30,0', 'error applying padding pattern to other;20;0:more,30,0'],
             ['ua,10,0:junk', 'padding pattern not match the value junk']) {
    my ($list, $text) = @$bad;
    $c->refuses(list($list), qr/\[error\] .*push stream module: \Q$text\E in \S+nginx\.conf:\d+/, "\"$list\"");
    like($c->said(list($list)),
        qr/\[error\] .*push stream module: push stream module: unable to parse paddings by user agent in \S+nginx\.conf:\d+/,
        "\"$list\": and once more in general");
}

$c->refuses(list('a(b,10,0'), qr/\[error\] .*push stream module: pcre2?_compile\(\) failed: .* in "a\(b"/,
    'a pattern that PCRE refuses');
$c->refuses(list('ok,1,1:*x,10,0'), qr/_compile\(\) failed: .*"\*x"/, 'a bad pattern after a good one');
unlike($c->said(list('a(b,10,0')), qr/signal|panic/, 'is no crash');

$c->accepts(list('junk', 'push_stream_publisher;'), 'publishers do not look at it');
$c->refuses({ http => 'push_stream_padding_by_user_agent "junk";', location => 'push_stream_subscriber;' },
    qr/not match the value junk/, 'inherited lists are read too');
$c->accepts({ http => 'push_stream_padding_by_user_agent "junk";', location => list('') }, 'an empty list overrides');

my $said = $c->said(list('one x,10,20:two,30,0'));
like($said, qr/\[info\] .*push stream module: padding detected one x, header_min_len 10, message_min_len 20$/m, 'first group');
like($said, qr/\[info\] .*push stream module: padding detected two, header_min_len 30, message_min_len 0$/m, 'second group');

$c->done;
