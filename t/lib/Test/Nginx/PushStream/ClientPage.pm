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

my $POLICY = join '; ', "default-src 'none'", "script-src 'self'", "connect-src 'self' ws:", "frame-src 'self'",
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

sub locations {
    my ($self, %o) = @_;
    return <<"EOC";
        types { text/html html; text/javascript js; }
        push_stream_message_format json;
        push_stream_cursor on;
        push_stream_last_event_id \$place;
        push_stream_last_received_message_time \$arg_time;
        push_stream_last_received_message_tag  \$arg_tag;
        location /pub   { push_stream_publisher admin; push_stream_channels_path \$arg_id; push_stream_store_messages on; }
        location /stats { push_stream_channels_statistics; push_stream_channels_path \$arg_id; }
        location ~ ^/ev/(.*) { push_stream_subscriber eventsource; push_stream_channels_path \$1; }
        location ~ ^/ws/(.*) { push_stream_subscriber websocket; push_stream_channels_path \$1; }
        location ~ ^/lp/(.*) { push_stream_subscriber long-polling; push_stream_channels_path \$1; default_type application/json; }
        location /page {
            root $self->{t}{dir};
            add_header Content-Security-Policy "$POLICY";
        }
EOC
}

# What `locations` needs around the servers.
sub http { return <<'EOC' }
    push_stream_shared_memory_size 8m;
    map $http_last_event_id $place { default $http_last_event_id; '' $arg_eventid; }
EOC

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

1;
