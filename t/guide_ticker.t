# The ticker of docs/guide/ticker.md: a page has the last price of each symbol at once, and a slow one begins anew.
#
# Proves none of them: the page itself.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;
use Test::Nginx::PushStream::Browser;
use Test::Nginx::PushStream::Page;

my $page = Test::Nginx::PushStream::Page->new('docs/guide/ticker.md');
my $t = $page->nginx('ticker.conf', root => 'docs/examples/ticker')->run;
$page->follow($t)->stop;

is($t->get('/prices/' . join '/', ('A.b1') x 51)->status, 404, 'no page watches more than 50 symbols');
is($t->get('/prices/AAPL.b9')->status, 404, 'and none asks for more than the last price');

SKIP: {
    skip 'chromedriver is not installed', 5 unless Test::Nginx::PushStream::Browser->available;
    $t->wait_subscribers('/of-the-test', 0);
    my $browser = Test::Nginx::PushStream::Browser->new($t->dir);
    $browser->devtools('Page.addScriptToEvaluateOnNewDocument', { source => q{
        window.all = [];
        window.EventSource = class extends EventSource { constructor(url) { super(url); all.push(this); } };
    } });
    $browser->open('http://127.0.0.1:' . $t->port . '/prices.html');
    my $shows = sub {
        my (@want) = @_;
        my $got;
        $t->wait_for(sub { "@want" eq join ' ', @{ $got = $browser->run('return [...document.querySelectorAll("dd")].map(d => d.textContent)') // [] } }, "@want");
        return $got;
    };
    is_deeply($shows->('231.8', '524.1'), [ '231.8', '524.1' ], 'the page begins with the last prices');
    $t->publish('/pub?id=MSFT', 525);
    is_deeply($shows->('231.8', '525'), [ '231.8', '525' ], 'it follows');

    $t->publish('/pub?id=AAPL', 232);
    is_deeply($shows->('232', '525'), [ '232', '525' ], 'each symbol in its place');

    # The page cannot be made slow, so it is told that it was.
    $browser->run(q{cells.AAPL.textContent = 'old'; all[0].dispatchEvent(new MessageEvent('gap', { data: '{"reason":"slow"}' }))});
    is_deeply($shows->('232', '525'), [ '232', '525' ], 'a page that was too slow has the last prices again');
    is($browser->run('return all[0].readyState'), 2, 'over a new connection');
    $browser->quit;
}
$t->done;
