# The publishers of docs/guide/publishing.md, in each language that is here: they publish any text to any channel, and fail
# when they are refused or not answered. A text that was published twice is shown once.
#
# Proves none of them: the page itself.

use FindBin;
use lib "$FindBin::Bin/lib";
use IO::Socket::INET;
use JSON::PP ();
use Test::Nginx::PushStream;
use Test::Nginx::PushStream::Page;

delete @ENV{qw(http_proxy HTTP_PROXY all_proxy ALL_PROXY)};

my $page = Test::Nginx::PushStream::Page->new('docs/guide/publishing.md');
my $t = $page->nginx('client.conf')->run;
$page->follow($t);
my $here = $page->root . '/docs/examples/publishing';
my $server = 'http://127.0.0.1:' . $t->port;
my $rust = $page->root . '/target/docs-rust';

# Language, a command that succeeds if it is here, the publisher.
my @languages = (
    [ 'the shell', 'curl --version', "$here/publish.sh" ],
    [ 'PHP', q{php -r 'exit(extension_loaded("curl") ? 0 : 1);'}, "$here/publish.php" ],
    [ 'Python', 'python3 --version', "$here/publish.py" ],
    [ 'Node', q{node -e 'process.exit(parseInt(process.versions.node) < 18 ? 1 : 0)'}, "$here/publish.mjs" ],
    [ 'Ruby', 'ruby --version', "$here/publish.rb" ],
    [ 'Go', 'go version && GOCACHE=' . $t->dir . "/go-cache go build -o '" . $t->dir . "/publish-go' '$here/publish.go'", $t->dir . '/publish-go', 'go version' ],
    [ 'Rust', "cd '$here/rust' && CARGO_TARGET_DIR='$rust' cargo build --locked", "$rust/debug/publish", "cd '$here/rust' && cargo fetch --locked" ],
);
my $quiet = '>' . $t->dir . '/build.log 2>&1 </dev/null';

# A server that accepts connections and never answers.
my $silent = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 50) or die "no free port: $!";
my $silence = 'http://127.0.0.1:' . $silent->sockport;

my $text = "Zwei \"Zeilen\" & 100% gr\xc3\xbcn;\n\tund \\ mehr\n\n";
my $channel = "a b&c=\xc3\xbc+1%";
my $id = join '', map { sprintf '%%%02X', ord } split //, $channel;
$t->write_file('text', $text);

# Starts a publisher; the output has what it says, and its status behind that.
sub start {
    my ($program, @arguments) = @_;
    my $arguments = join ' ', map {"'$_'"} $program, @arguments;
    open my $output, '-|', "$arguments 2>&1 >/dev/null <'" . $t->dir . "/text'; echo status \$?" or die $!;
    return $output;
}

sub result { my ($output) = @_; local $/; return scalar <$output> }

my %waiting;
for (@languages) {
    my ($name, $ready, $program, $is_here) = @$_;
    SKIP: {
        skip "$name is not installed", 3 if $is_here && system("($is_here) $quiet") || !$is_here && system("($ready) $quiet");
        system("($ready) $quiet") == 0 or diag Test::Nginx::PushStream::_slurp($t->dir . '/build.log');

        my $subscriber = $t->subscribe("/ev/$id");
        $subscriber->read_until(qr/id: .*\n\n/);
        is(result(start($program, $server, $channel, 'e-7')), "status 0\n", "$name publishes");
        my ($data) = ($subscriber->read_until(qr/data: .*\n\n/) // '') =~ /^data: (.*)$/m;
        my $message = $data ? JSON::PP->new->utf8(0)->decode($data) : {};
        is_deeply([ @$message{qw(channel text event_id)} ], [ $channel, $text, 'e-7' ], "$name: channel, text and event id");
        $subscriber->close;

        like(result(start($program, $server, 'ALL', 'e-8')), qr/403.*status [1-9]/s, "$name is refused, and says so");
        # Python's program would try several times.
        my @once = ('python3', '-B', '-c', "import sys; sys.path[0] = \"$here\"; import publish; publish.publish(sys.argv[1], \"news\", \"x\", \"e-9\")");
        $waiting{$name} = $name eq 'Python' ? start(@once, $silence) : start($program, $silence, 'news', 'e-9');
    }
}
for my $name (sort keys %waiting) {
    like(result($waiting{$name}), qr/status [1-9]/, "$name does not wait for ever");
}

# A proxy that passes the first request on and then loses the answer.
SKIP: {
    skip 'Python is not installed', 4 if system "python3 --version $quiet";
    my $proxy = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 5) or die "no free port: $!";
    my $pid = fork // die "fork: $!";
    if (!$pid) {
        for my $turn (1, 2) {
            my $client = $proxy->accept or last;
            my $request = '';
            sysread $client, $request, 65536, length $request until $request =~ /\r\n\r\n.*\n\n\z/s;
            my $upstream = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $t->port) or last;
            syswrite $upstream, $request;
            sysread $upstream, my $answer, 65536;
            syswrite $client, $answer if $turn == 2;
        }
        POSIX::_exit(0);
    }
    my $subscriber = $t->subscribe('/ev/twice');
    is(result(start("$here/publish.py", 'http://127.0.0.1:' . $proxy->sockport, 'twice', 'e-10')), "status 0\n", 'Python tries again when there was no answer');
    waitpid $pid, 0;
    my $stream = $subscriber->read_until(qr/(?:data: .*?\n\n.*){2}/s);
    my @ids = $stream =~ /"event_id":"([^"]*)"/g;
    is_deeply(\@ids, [ 'e-10', 'e-10' ], 'the message came twice, with the same event id');
    $subscriber->close;

    skip 'Node is not installed', 2 if system "node --version $quiet";
    my $script = "import { once } from '$here/once.js'; const got = []; const f = once(m => got.push(m.text));"
        . "for (const [eventId, text] of [['a', 1], ['a', 2], ['b', 3], ['', 4], ['', 5]]) f({ eventId, text }); console.log(got.join());"
        . "for (let i = 0; i < 1001; i++) f({ eventId: 'x' + i }); got.length = 0; f({ eventId: 'a', text: 6 }); f({ eventId: 'x1000' }); console.log(got.length)";
    $t->write_file('once.mjs', $script);
    my $said = `node '@{[$t->dir]}/once.mjs' 2>&1`;
    my ($first, $second) = split /\n/, $said;
    is($first, '1,3,4,5', 'once() leaves out an event id that it has seen');
    is($second, 1, 'and remembers the last thousand');
}
$t->done;
