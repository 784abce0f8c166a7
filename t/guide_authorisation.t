# The ways of docs/guide/authorisation.md to say who may listen and who may publish.
#
# Proves none of them: the page itself.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;
use Test::Nginx::PushStream::Browser;
use Test::Nginx::PushStream::Page;

$ENV{PYTHONDONTWRITEBYTECODE} = 1;
my $page = Test::Nginx::PushStream::Page->new('docs/guide/authorisation.md');
my $t = $page->nginx('authorisation.conf', root => 'docs/examples/authorisation');
$page->program($t, 9000, 'docs/examples/authorisation/site.py');
$t->run;
$page->follow($t)->stop;
$t->wait_subscribers('/of-the-test', 0);

my $asked = sub { () = Test::Nginx::PushStream::_slurp($t->dir . '/program.9000.log') =~ m{GET /may-listen}g };
my $before = $asked->();
for my $n (1 .. 3) {
    my $subscriber = $t->subscribe('/members/news', Cookie => 'session=9b2e');
    is($subscriber->status, 200, "connection $n of a user");
    $subscriber->close;
}
is($asked->() - $before, 1, 'the site was asked once about all of them');
is($t->get('/members/news', Cookie => 'session=forged')->status, 401, 'another session is asked about');
is($t->get($_)->status, 404, "$_ is nobody's to ask") for '/may-listen', '/check-token';

my $preflight = $t->options('/tokens/board', Origin => 'https://app.example.com', 'Access-Control-Request-Headers' => 'authorization');
is($preflight->status, 200, 'a browser may ask without a token');
is($preflight->header('Access-Control-Allow-Origin'), 'https://app.example.com', 'a page of a known origin may send one');
like($preflight->header('Access-Control-Allow-Headers'), qr/Authorization/, 'in a header');
is($t->get('/tokens/board')->status, 401, 'nobody listens without a token');

SKIP: {
    skip 'chromedriver is not installed', 1 unless Test::Nginx::PushStream::Browser->available;
    $t->wait_subscribers('/of-the-test', 0);
    my $browser = Test::Nginx::PushStream::Browser->new($t->dir);
    my $url = 'http://127.0.0.1:' . $t->port . '/board.html';
    $browser->open($url)->run('document.cookie = "session=4f1c"');
    $browser->open($url);
    $t->wait_subscribers('/of-the-test', 1);
    $t->publish('/pub?id=board', 'For members', Authorization => 'Bearer replace-this-by-a-random-text');
    $t->wait_for(sub { $browser->run('return board.textContent') }, 'the message in the page');
    is($browser->run('return board.textContent'), "For members\n", 'the page with a token has the message');
    $browser->quit;
}
$t->done;
