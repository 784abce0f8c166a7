# A configuration for the current original module works unchanged: publishing, streaming, EventSource.
#
# Proves directives.md: old-configurations; protocol.md: publishing, streaming, event-stream.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $sample = do { local (@ARGV, $/) = "$FindBin::Bin/../nginx-conf/current-dialect.conf"; <> };
my ($http) = $sample =~ /^http \{\n(.*)^\}/ms;
my $t = Test::Nginx::PushStream->new->http($http =~ s/127\.0\.0\.1:9080/127.0.0.1:%%PORT_8080%%/r)->run;

my $stream = $t->subscribe('/sub/news');
my $events = $t->subscribe('/ev/news');
is($stream->status, 200, 'a stream is open');
is($events->header('Content-Type'), 'text/event-stream; charset=utf-8', 'so is an event stream');
$t->publish('/pub?id=news', $_) for 'one', 'two';
is($stream->read_until(qr/two/), 'onetwo', 'the stream has both messages');
is($events->read_until(qr/two\n\n/), ": \ndata: one\n\ndata: two\n\n", 'the event stream as well');
is($t->delete('/pub?id=news')->status, 200, 'an admin deletes the channel');
is($stream->body, 'onetwoChannel deleted', 'which the stream is told, and ends');

$t->done;
