package Test::Nginx::PushStream::ClientPage;

# A page with our browser client, and the locations that it needs, for the suites t/client_*.t.
#
#   my $page = Test::Nginx::PushStream::ClientPage->new($t)   # before $t->run: files and locations
#   $t->http("... server { listen 127.0.0.1:%%PORT_8080%%; " . $page->locations . '}')->run;
#   $browser->open($page->url);
#
# The page has a strict Content-Security-Policy with Trusted Types, and notes each violation. Its script defines
#
#   follow(name, options)   a Subscriber whose texts, gaps and so on are in got[name]
#   got.violations          of the policy

use strict;
use warnings;

use File::Copy qw(copy);
use JSON::PP ();

my $POLICY = join '; ', "default-src 'none'", "script-src 'self'", "connect-src 'self' ws: http:", "frame-src 'self'",
    "require-trusted-types-for 'script'", 'trusted-types push-stream';

my $SCRIPT = <<'JS';
import { Subscriber } from './index.js';
window.got = { violations: [] };
window.subscribers = {};
addEventListener('securitypolicyviolation', e => got.violations.push(`${e.effectiveDirective} ${e.blockedURI} ${e.sample}`));
window.follow = (name, options) => {
    const s = subscribers[name] = new Subscriber('/', { retry: { min: 20, max: 100 }, ...options });
    const list = got[name] = { texts: [], gaps: [], deleted: [], errors: [], opens: [], states: [] };
    s.on('message', m => list.texts.push(m.text));
    s.on('gap', gap => list.gaps.push(gap));
    s.on('deleted', e => list.deleted.push(e.channel));
    s.on('error', e => list.errors.push([e.kind, e.status ?? null, e.explain ?? null]));
    s.on('open', e => list.opens.push(e.transport));
    s.on('state', e => list.states.push(e.state));
    return s;
};
JS

sub new {
    my ($class, $t) = @_;
    my $dir = $t->dir . '/page';
    mkdir $dir;
    chmod 0755, $t->dir, $dir;
    (my $dist = __FILE__) =~ s{t/lib/Test/.*}{client/dist};
    copy("$dist/$_", "$dir/$_") or die "$dist/$_: $!" for qw(index.js pushstream.js);
    my $self = bless { t => $t }, $class;
    $self->file('page.js', $SCRIPT);
    $self->file('index.html', qq{<!DOCTYPE html><title>push</title><script type="module" src="page.js"></script>\n});
    return $self;
}

# One more file of the page.
sub file { my ($self, $name, $text) = @_; $self->{t}->write_file("page/$name", $text); return $self }

# nginx-conf/client.conf, so that the tests prove it.
my $SAMPLE = do {
    (my $file = __FILE__) =~ s{t/lib/Test/.*}{nginx-conf/client.conf};
    local (@ARGV, $/) = $file;
    <>;
};

# What is in the server of the sample, and the locations of the page and the statistics.
sub locations {
    my ($self) = @_;
    my ($server) = $SAMPLE =~ /^    server \{\n        listen \S+;\n(.*)^    \}/ms or die 'client.conf is not understood';
    return $server . <<"EOC";
        types { text/html html; text/javascript js; }
        location /stats { push_stream_channels_statistics; push_stream_channels_path \$arg_id; }
        location /page {
            root $self->{t}{dir};
            add_header Content-Security-Policy "$POLICY";
        }
EOC
}

# What the sample has around the server.
sub http {
    my ($maps) = $SAMPLE =~ /^(    map .*?)^    server/ms or die 'client.conf is not understood';
    return "push_stream_shared_memory_size 8m;\n$maps";
}

sub url { my ($self, $name) = @_; return 'http://127.0.0.1:' . $self->{t}->port(8080) . '/page/' . ($name // 'index.html') }

# Opens the page and waits until its script is there.
sub open_in {
    my ($self, $browser) = @_;
    $browser->open($self->url);
    $self->{t}->wait_for(sub { $browser->run('return typeof follow') eq 'function' }, 'the script of the page');
    return $self;
}

# Calls follow(name, options) in the page.
sub follow {
    my ($self, $browser, $name, %options) = @_;
    my $json = JSON::PP->new->canonical;
    $browser->run('follow(' . $json->allow_nonref->encode($name) . ', ' . $json->encode(\%options) . ')');
    return $self;
}

# Follows channel a, and a and b, by each of these transports, as "<transport> one" and "<transport> two", and waits for a
# first message: some transports see no place before it.
sub follow_one_and_two {
    my ($self, $browser, @transports) = @_;
    my $t = $self->{t};
    my @channels = map { { id => $_, backtrack => 1 } } qw(a b);
    $t->publish("/pub?id=$_", "first $_") for qw(a b);
    for my $transport (@transports) {
        $self->follow($browser, "$transport one", transports => [$transport], channels => [ $channels[0] ]);
        $self->follow($browser, "$transport two", transports => [$transport], channels => \@channels);
    }
    $t->wait_for(sub {
        my $got = $browser->run('return got');
        return !grep { !@{ $got->{"$_ one"}{texts} } || @{ $got->{"$_ two"}{texts} } < 2 } @transports;
    }, 'the first messages');
    return $self;
}

1;
