# The token stream of docs/guide/token-stream.md: a page has the whole text, as it is made, after a reload and after a break.
#
# Proves none of them: the page itself.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;
use Test::Nginx::PushStream::Browser;
use Test::Nginx::PushStream::Page;

my $page = Test::Nginx::PushStream::Page->new('docs/guide/token-stream.md');
my $t = $page->nginx('token-stream.conf', root => 'docs/examples/token-stream')->run;
$page->follow($t)->stop;

my $id = 'abcdef' x 5 . '00';
my $program = $page->root . '/docs/examples/token-stream/answer.py';
my $address = '127.0.0.1:' . $t->port(9081);
my $stored = sub { (($t->stats("/pub?id=$id", -port => 9081) // {})->{stored_messages}) // 0 };

open my $model, '|-', $program, $address, $id or die $!;
binmode $model;
$model->autoflush(1);
my $browser;
my $text = '';
my $say = sub {
    my ($bytes) = @_;
    my $before = $stored->();
    print {$model} $bytes;
    $text .= $bytes;
    $t->wait_for(sub { $stored->() > $before }, 'the piece to be published');
};

SKIP: {
    skip 'chromedriver is not installed', 6 unless Test::Nginx::PushStream::Browser->available;
    $t->wait_subscribers('/of-the-test', 0);
    $browser = Test::Nginx::PushStream::Browser->new($t->dir);
    my $has = sub {
        my ($name) = @_;
        my $got;
        my $want = $text =~ s/([\x80-\xff]+)/my $s = $1; utf8::decode($s); $s/ger;
        $t->wait_for(sub { ($got = $browser->run('return document.getElementById("answer").textContent') // '') eq $want }, $name);
        is($got, $want, $name);
    };
    $say->('One ');
    $browser->open('http://127.0.0.1:' . $t->port . "/answer.html?id=$id");
    $has->('the page has what was there before');
    $say->("two\n\n");
    $has->('a piece that ends in empty lines');
    print {$model} "\xc3";
    $say->("\xa9 ");
    $text =~ s/\xa9 \z/\xc3\xa9 /;
    $has->('a character that came in two halves');
    $browser->run('location.reload()');
    $has->('the page after a reload');

    # A break, in the middle of the answer.
    $t->reload(wait_old => 1);
    $say->("\n  three");
    $has->('the page after a break');
    close $model;
    $t->wait_for(sub { $browser->run('return state.textContent') }, 'the end');
    is($browser->run('return state.textContent'), 'Complete.', 'the page knows the end');
    $browser->quit;
}
undef $model;

# A model that fails.
my $other = '1' x 32;
is(system("printf '\\303' | $program $address $other 2>/dev/null") != 0, 1, 'half a character at the end is an error');
my $events = $t->subscribe("/answers/$other");
like($events->read_until(qr/data: .*\n\n/), qr/^event: failed\ndata: The answer could not be completed\./m, 'and the page is told');
$events->close;
$t->done;
