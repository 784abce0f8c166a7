# The quick start works as it is written: the configuration, the two commands, and the page in a real browser.
#
# Proves none of them: the page itself, docs/quick-start.md.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;
use Test::Nginx::PushStream::Browser;
use Test::Nginx::PushStream::Page;

my $page = Test::Nginx::PushStream::Page->new('docs/quick-start.md');
my ($configuration) = map { $_->{text} } grep { $_->{language} eq 'nginx' } $page->blocks;
cmp_ok(scalar(() = $configuration =~ /\S.*$/mg), '<=', 15, 'the configuration has at most 15 lines');

my $t = $page->nginx('quick-start.conf', root => 'docs/examples/quick-start')->run;
my $has_browser = Test::Nginx::PushStream::Browser->available;
my $browser;

$page->follow($t, before => {
    # Between the two commands the reader opens the page.
    qr/hello, page/ => sub {
        if (!$has_browser) {
            $t->subscribe('/ev/news');
            return;
        }
        $browser = Test::Nginx::PushStream::Browser->new($t->dir);
        $browser->open('http://127.0.0.1:' . $t->port . '/news.html');
        $t->wait_subscribers('/of-the-test', 2);
    },
});

SKIP: {
    skip 'chromedriver is not installed', 1 unless $has_browser;
    $t->wait_for(sub { $browser->run('return news.children.length') }, 'the message in the page');
    is_deeply($browser->run('return [...news.children].map(item => item.textContent)'), ['hello, page'], 'the page shows the message');
    $browser->quit;
}
$page->stop;
$t->done;
