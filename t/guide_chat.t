# The chat of docs/guide/chat.md: two windows talk, a late one gets the last messages, and one that was cut off what it missed.
#
# Proves none of them: the page itself.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;
use Test::Nginx::PushStream::Browser;
use Test::Nginx::PushStream::Page;

my $page = Test::Nginx::PushStream::Page->new('docs/guide/chat.md');
my $t = $page->nginx('chat.conf', root => 'docs/examples/chat')->run;
$page->follow($t)->stop;

is($t->post('/pub?id=lobby', 'x' x 5000)->status, 413, 'a message that is too long is refused');
is($t->get('/ev/The%20Lobby')->status, 404, 'there is no room with such a name');

SKIP: {
    skip 'chromedriver is not installed', 4 unless Test::Nginx::PushStream::Browser->available;
    my $browser = Test::Nginx::PushStream::Browser->new($t->dir);
    my $url = 'http://127.0.0.1:' . $t->port . '/chat.html';
    $t->wait_subscribers('/of-the-test', 0);

    my $lines = sub {
        my ($tab, @want) = @_;
        $browser->switch($tab);
        my $got;
        my $read = sub { $got = [ map { s/^[\d:]+ (?:[AP]M )?//r } @{ $browser->run('return [...messages.children].map(i => i.textContent)') // [] } ]; @$got >= @want };
        $t->wait_for($read, scalar(@want) . ' lines');
        return $got;
    };
    my $write = sub {
        my ($tab, $name, $text) = @_;
        $browser->switch($tab);
        $browser->run("author.value = '$name'; text.value = '$text'; form.requestSubmit()");
    };

    my $first = $browser->current;
    $browser->open($url);
    $t->wait_subscribers('/of-the-test', 1);
    is_deeply($lines->($first, 1), ['shell: Hello'], 'a window has the old message');
    $write->($first, 'Ann', 'Hi <b>all</b>');
    $lines->($first, 1 .. 2);

    my $second = $browser->new_tab;
    $browser->switch($second)->open($url);
    is_deeply($lines->($second, 1 .. 2), [ 'shell: Hello', 'Ann: Hi <b>all</b>' ], 'a later window has both, as text');

    $browser->offline(1);
    $t->wait_subscribers('/of-the-test', 1);
    $write->($first, 'Ann', 'Are you there?');
    $lines->($first, 1 .. 3);
    $browser->switch($second)->offline(0);
    $lines->($second, 1 .. 3);
    $write->($second, 'Bob', 'Yes');
    my @all = ('shell: Hello', 'Ann: Hi <b>all</b>', 'Ann: Are you there?', 'Bob: Yes');
    is_deeply($lines->($second, @all), \@all, 'a window that was cut off has all, each once');
    is_deeply($lines->($first, @all), \@all, 'and so has the other');
    $browser->quit;
}
$t->done;
