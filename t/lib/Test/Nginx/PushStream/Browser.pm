package Test::Nginx::PushStream::Browser;

# A real browser: headless Chromium, driven by chromedriver over the W3C WebDriver protocol.
#
#   my $browser = Test::Nginx::PushStream::Browser->new($dir) or skip...
#   $browser->open('https://127.0.0.1:1234/page');
#   $browser->run('return document.title');
#   my $tab = $browser->new_tab; $browser->switch($tab);
#   $browser->devtools('Page.setWebLifecycleState', { state => 'frozen' });

use strict;
use warnings;

use HTTP::Tiny;
use IO::Socket::INET;
use JSON::PP;

my ($DRIVER) = grep { -x } map {"$_/chromedriver"} split /:/, $ENV{PATH};

sub available { return defined $DRIVER }

# Starts it with a fresh profile below `dir`; dies if it does not come up.
sub new {
    my ($class, $dir) = @_;
    my $probe = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1) or die "no free port: $!";
    my $port = $probe->sockport;
    close $probe;
    my $pid = fork // die "fork: $!";
    if (!$pid) {
        open STDOUT, '>', "$dir/chromedriver.log";
        open STDERR, '>&', \*STDOUT;
        open STDIN, '<', '/dev/null';
        local $ENV{HOME} = $dir;
        exec $DRIVER, "--port=$port", '--log-level=WARNING' or exit 127;
    }
    my $self = bless { pid => $pid, base => "http://127.0.0.1:$port", http => HTTP::Tiny->new(timeout => 60) }, $class;
    Test::Nginx::PushStream::Client->until(sub { ($self->_call(GET => '/status') // {})->{ready} }, 'chromedriver', 30)
        or die 'chromedriver does not start';
    my $session = $self->_call(POST => '/session', {
        capabilities => { alwaysMatch => {
            acceptInsecureCerts => JSON::PP::true,
            pageLoadStrategy => 'eager',    # a streaming frame never ends to load
            'goog:chromeOptions' => { args => [
                '--headless=new', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
                '--disable-background-networking', '--disable-component-update', '--disable-sync',
                '--disable-dev-shm-usage', "--user-data-dir=$dir/profile",
            ] },
        } },
    });
    $self->{session} = $session->{sessionId} or die 'Chromium does not start';
    return $self;
}

sub _call {
    my ($self, $method, $path, $content) = @_;
    my $answer = $self->{http}->request($method, $self->{base} . $path,
        $content ? { content => JSON::PP->new->utf8->encode($content), headers => { 'Content-Type' => 'application/json' } } : {});
    return eval { JSON::PP->new->utf8->decode($answer->{content})->{value} };
}

sub _in_session { my ($self, $method, $path, $content) = @_; return $self->_call($method, "/session/$self->{session}$path", $content) }

sub open { my ($self, $url) = @_; $self->_in_session(POST => '/url', { url => $url }); return $self }

# Runs a script in the page. Returns what the script returns.
sub run { my ($self, $script) = @_; return $self->_in_session(POST => '/execute/sync', { script => $script, args => [] }) }

sub back { my ($self) = @_; $self->_in_session(POST => '/back', {}); return $self }

# Opens a tab and returns its handle; the tab before stays the current one. `current` is the handle of that.
sub new_tab { my ($self) = @_; return $self->_in_session(POST => '/window/new', { type => 'tab' })->{handle} }

sub current { my ($self) = @_; return $self->_in_session(GET => '/window') }

sub switch { my ($self, $tab) = @_; $self->_in_session(POST => '/window', { handle => $tab }); return $self }

# A command of Chromium's DevTools for the current tab.
sub devtools {
    my ($self, $command, $params) = @_;
    return $self->_in_session(POST => '/goog/cdp/execute', { cmd => $command, params => $params // {} });
}

# Cuts this tab from the network, or connects it again.
sub offline {
    my ($self, $is_offline) = @_;
    $self->devtools('Network.enable');
    $self->devtools('Network.emulateNetworkConditions',
        { offline => $is_offline ? JSON::PP::true : JSON::PP::false, latency => 0, downloadThroughput => -1, uploadThroughput => -1 });
    return $self;
}

sub quit {
    my ($self) = @_;
    my $pid = delete $self->{pid} or return;
    $self->_in_session('DELETE', '') if $self->{session};
    kill 'TERM', $pid;
    waitpid $pid, 0;
    return;
}

sub DESTROY { local ($?, $@); $_[0]->quit; return }

1;
