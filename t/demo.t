# The demo's pages work in a real browser, under their strict policy: two tabs chat, a token stream survives a reload, each
# way to subscribe catches up after it was cut, and the dashboard says how the server is.
#
# Proves directives.md: push_stream_cursor, push_stream_message_format (with nginx-conf/demo.conf).

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;
use Test::Nginx::PushStream::Browser;

Test::More::plan(skip_all => 'chromedriver is not installed') unless Test::Nginx::PushStream::Browser->available;

my $root = "$FindBin::Bin/..";
my $sample = do { local (@ARGV, $/) = "$root/nginx-conf/demo.conf"; <> };
my ($http) = $sample =~ /^http \{\n(.*)^\}/ms;
my $t = Test::Nginx::PushStream->new(workers => 2)->http($http =~ s/^\s*access_log.*\n//r =~ s/:9080/:%%PORT_8080%%/gr);
my $dir = $t->dir;
system("cp -R $root/demo $dir/html && cp -R $root/client/dist $dir/html/client && chmod -R go=rX $dir/html && chmod 755 $dir") == 0
    or die 'the pages are not there';
$t->run;
my $at = 'http://127.0.0.1:' . $t->port(8080);

# The back end of the token stream.
my $back_end = fork // die "fork: $!";
if (!$back_end) {
    setpgrp;
    open STDOUT, '>', "$dir/answers.log";
    open STDERR, '>&', \*STDOUT;
    exec "$root/demo/answer-questions", $at or exit 127;
}

my $browser = Test::Nginx::PushStream::Browser->new($dir);
my $violations = <<'JS';
    window.violations = [];
    addEventListener('securitypolicyviolation', event => violations.push(`${event.violatedDirective} ${event.blockedURI}`));
    addEventListener('error', event => violations.push(event.message));
    addEventListener('unhandledrejection', event => violations.push(String(event.reason)));
JS

sub visit {
    my ($path) = @_;
    $browser->devtools('Page.addScriptToEvaluateOnNewDocument', { source => $violations });
    $browser->open("$at$path");
    return;
}

# Waits until the script returns something true. A wait in vain is a failure: often nothing else looks at it.
sub shows {
    my ($script, $what) = @_;
    my $got;
    $t->wait_for(sub { $got = $browser->run($script) }, $what, 30);
    fail("waited for $what") unless $got;
    return $got;
}

sub clean { my ($page) = @_; is_deeply($browser->run('return violations'), [], "$page: nothing against the policy, no error") }

sub fits {
    my ($page) = @_;
    $browser->devtools('Emulation.setDeviceMetricsOverride', { width => 320, height => 700, deviceScaleFactor => 1, mobile => JSON::PP::true });
    ok($browser->run('return document.documentElement.scrollWidth <= innerWidth'), "$page: fits into 320 pixels");
    $browser->devtools('Emulation.clearDeviceMetricsOverride');
}

my $text = sub { "return document.getElementById('$_[0]').textContent" };

# ---- start
visit('/');
shows(q{return document.getElementById('state').textContent.startsWith('connected')}, 'the start page is connected');
$browser->run(q{document.querySelector('#say button').click()});
like(shows($text->('log'), 'a message'), qr/^hello, world/, 'start: the message is there');
shows(q{return document.getElementById('health').textContent === 'well' && parseFloat(document.getElementById('delay').textContent) > 0}, 'the server is well');
fits('start');
clean('start');

# ---- chat, in two tabs
my $first = $browser->current;
visit('/chat/#test');
my $second = $browser->new_tab;
sub say_in {
    my ($tab, $name, $said) = @_;
    $browser->switch($tab);
    $browser->run("document.getElementById('name').value = '$name'; document.getElementById('name').dispatchEvent(new Event('change'));"
        . "document.getElementById('text').value = '$said'; document.querySelector('#say button').click()");
    return;
}
my $said = q{return [...document.querySelectorAll('#log .what')].map(e => e.textContent)};
say_in($first, 'Ada', 'one <b>not bold</b>');
shows(q{return document.querySelectorAll('#log .what').length === 1}, 'the own message');
$browser->switch($second);
visit('/chat/#test');
shows(q{return document.querySelectorAll('#log .what').length === 1}, 'what was said before');
say_in($second, 'Bob', 'two');
$browser->switch($first);
shows(q{return document.querySelectorAll('#log .what').length === 2}, 'the message of the other tab');
is_deeply($browser->run($said), ['one <b>not bold</b>', 'two'], 'chat: both, as text');
shows(q{return [...document.querySelectorAll('#people li')].map(e => e.textContent).sort().join() === 'Ada,Bob'}, 'who is there');
shows(q{return document.getElementById('count').textContent.startsWith('2 ')}, 'how many are there');
is($browser->run(q{return document.querySelectorAll('#log li.own').length}), 1, 'chat: the own one is marked');
$browser->switch($second);
clean('chat');
visit('/');
$browser->switch($first);
shows(q{return document.getElementById('people').textContent === 'Ada' && document.getElementById('count').textContent.startsWith('1 ')}, 'who left');
fits('chat');
clean('chat');

# ---- token stream, reloaded and cut
visit('/tokens/');
$browser->run(q{document.getElementById('start').click()});
my $words = q{return document.getElementById('answer').textContent.split(' ').length > %d};
shows(sprintf($words, 5), 'the first words');
$browser->run(q{location.reload()});
shows(sprintf($words, 10), 'more words after a reload');
$t->kill_worker($_) for $t->worker_pids;
shows(sprintf($words, 20), 'more words after the workers were killed');
my $hash = $browser->run('return location.hash');
like(shows(q{const said = document.getElementById('said').textContent; return said.startsWith('Complete') && said}, 'the end'),
    qr/^Complete: \d+ words/, 'tokens: complete');
my $answer = $browser->run($text->('answer'));
clean('tokens');
fits('tokens');
$browser->switch($second);
visit("/tokens/$hash");
shows(q{return document.getElementById('said').textContent.startsWith('Complete')}, 'the end in another tab');
is($browser->run($text->('answer')), $answer, 'tokens: a second device has the same text');
my ($complete) = $browser->run($text->('said')) =~ /(\d+) words/;
is(scalar(split ' ', $answer), $complete, 'tokens: each word once');
$browser->switch($first);

# A cut, and meanwhile another answer: it is subscribed to once. The timer of the cut is called when it would be.
visit('/tokens/#0000000000000001');
shows(q{return document.getElementById('state').textContent.startsWith('connected')}, 'the wait for the first word');
$browser->run(<<'JS');
    const later = window.setTimeout;
    window.setTimeout = (f, wait) => later(wait === 3000 ? () => { f(); window.cameBack = true; } : f, wait);
    document.getElementById('drop').click();
    location.hash = '#0000000000000002';
    later(() => { window.cameBack = true; }, 3100);
JS
shows('return window.cameBack', 'the end of the cut');
$t->publish('/pub?id=answer-0000000000000002', '{"word":"once ","of":2}');
$t->publish('/pub?id=answer-0000000000000002', '{"done":true,"of":2}');
shows(q{return document.getElementById('said').textContent.startsWith('Complete')}, 'the other answer');
is($browser->run($text->('answer')), 'once ', 'tokens: another answer during a cut has each word once');
clean('tokens, another answer');

# ---- transports: all eight, cut, and connected again
visit('/transports/');
my $counts = q{return [...document.querySelectorAll('.lane footer span')].map(e => e.textContent)};
shows(q{return document.querySelectorAll('.lane').length === 8}, 'the lanes');
$t->wait_for(sub { $t->stats('/channels-stats')->{subscribers} >= 7 }, 'all ways are connected');
my $publish = q{document.getElementById('ten').click()};
my $all = sub { my ($n) = @_; return qq{return [...document.querySelectorAll('.lane footer span')].every(e => e.textContent === '$n of $n')} };
$browser->run($publish);
shows($all->(10), 'ten in each lane');
my $buttons = q{document.querySelectorAll('.lane footer button').forEach(button => button.click())};
$browser->run($buttons);
$browser->run($publish);
shows(q{return document.querySelector('.lane footer span').textContent === '10 of 20'}, 'nothing comes while they are cut');
$browser->run($buttons);
shows($all->(20), 'each has caught up');
is($browser->run(q{return document.querySelectorAll('.lane .wrong').length}), 0, 'transports: nothing twice');
clean('transports');
fits('transports');

# ---- dashboard
visit('/dashboard/');
like(shows(q{const said = document.getElementById('status').textContent; return said.includes('workers') && said}, 'the dashboard'), qr/2 workers/, 'dashboard: what runs');
$browser->run(q{document.getElementById('run').click()});
shows(q{return parseFloat(document.getElementById('published').textContent) > 0 && parseFloat(document.getElementById('delivered').textContent) > 0 && document.getElementById('delay').textContent.endsWith('s')}, 'rates and delays');
is($browser->run(q{return document.querySelectorAll('#workers tbody tr').length >= 2}), 1, 'dashboard: each worker');
$browser->run(q{document.getElementById('run').click()});
is($browser->run($text->('state')), 'connected by metrics', 'dashboard: the bar tells of the readings, not of the traffic that was stopped');
# What else may come back, for as long as window.answer says so.
$browser->run(<<'JS');
    const ask = window.fetch;
    window.fetch = (url, init) => window.answer && url === '/metrics' ? window.answer() : ask(url, init);
JS
for my $case (
    [ "new Response('<!DOCTYPE html><p>Please log in')",                                            'no metrics' ],
    [ "new Response('', { status: 403 })",                                                          'own machine only' ],
    [ "new Response('', { status: 502 })",                                                          'status 502' ],
    [ "new Response(new ReadableStream({ start: body => body.error(new TypeError('cut off')) }))",  'does not answer' ],
) {
    my ($answer, $says) = @$case;
    $browser->run("window.answer = () => Promise.resolve($answer)");
    shows("return document.getElementById('status').textContent.includes('$says')", "the dashboard to say: $says");
    $browser->run('window.answer = undefined');
    shows(q{return document.getElementById('status').textContent.includes('2 workers')}, "the dashboard to go on after: $says");
}
clean('dashboard');
fits('dashboard');

$browser->quit;
kill 'TERM', $back_end;
waitpid $back_end, 0;
$t->done;
