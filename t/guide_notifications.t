# The notifications of docs/guide/notifications.md: a user gets those for the user and for everybody, and no other.
#
# Proves none of them: the page itself.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;
use Test::Nginx::PushStream::Browser;
use Test::Nginx::PushStream::Page;

my $page = Test::Nginx::PushStream::Page->new('docs/guide/notifications.md');
my $t = $page->nginx('notifications.conf', root => 'docs/examples/notifications');
my $site = $page->program($t, 9000, 'docs/examples/notifications/site.py');
$t->run;
$page->follow($t);

is($t->get('/who', Cookie => 'session=4f1c')->status, 404, 'nobody but nginx asks who somebody is');
is($t->get('/pub?id=user-7')->status, 404, 'pages cannot publish');

# The connections of a user who logs out.
my $subscriber = $t->subscribe('/notifications', Cookie => 'session=9b2e');
is($t->delete('/pub?id=user-8', port => 9081)->status, 200, 'the channel of a user is deleted');
ok($subscriber->wait_end, 'and the connections of the user end');
$page->stop;

SKIP: {
    skip 'chromedriver is not installed', 3 unless Test::Nginx::PushStream::Browser->available;
    $t->wait_subscribers('/of-the-test', 0);
    my $browser = Test::Nginx::PushStream::Browser->new($t->dir);
    my $url = 'http://127.0.0.1:' . $t->port . '/index.html';
    $browser->open($url);
    $t->wait_for(sub { $browser->run('return state.textContent') }, 'the refusal');
    is($browser->run('return state.textContent'), 'Please log in again.', 'a page without a session');

    $browser->run('document.cookie = "session=4f1c"');
    $browser->open($url);
    $t->wait_subscribers('/of-the-test', 1);
    $t->publish('/pub?id=user-7', '{"title":"<Hello>","link":"javascript:alert(1)"}', -port => 9081);
    my $links = 'return [...notifications.children].map(a => [a.textContent, a.getAttribute("href")])';
    $t->wait_for(sub { @{ $browser->run($links) // [] } }, 'the notification');
    is_deeply($browser->run($links)->[0][0], '<Hello>', 'the page shows it as text');
    unlike($browser->run($links)->[0][1], qr/javascript:/, 'and links to the site only');
$browser->quit;
}
$t->done;
