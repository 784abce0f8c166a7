# While a site moves from time and tag to cursors, pages of both kinds use the same locations and miss nothing
# (nginx-conf/from-time-and-tag.conf).
#
# Proves protocol.md: cursors; directives.md: push_stream_cursor, push_stream_last_event_id.

use FindBin;
use lib "$FindBin::Bin/lib";
use JSON::PP;
use Test::Nginx::PushStream;

my $sample = do { local (@ARGV, $/) = "$FindBin::Bin/../nginx-conf/from-time-and-tag.conf"; <> };
my ($http) = $sample =~ /^http \{\n(.*)^\}/ms;
my $t = Test::Nginx::PushStream->new->http($http =~ s/127\.0\.0\.1:9080/127.0.0.1:%%PORT_8080%%/gr)->run;

$t->publish('/pub?id=news', "message $_", "Event-Id" => "e$_") for 1 .. 4;
my $first = decode_json($t->get('/lp/news?time=Thu,%2001%20Jan%201970%2000:00:01%20GMT')->body =~ s/\}\{.*/}/sr);
is($first->{text}, 'message 1', 'a page has the first message');

# The texts of all messages in an answer, whatever frames or fields are between them.
sub texts { my ($bytes) = @_; return [map { decode_json($_)->{text} } $bytes =~ /(\{"id":.*?"cursor":"[^"]*"\})/g] }

my @rest = map {"message $_"} 2 .. 4;
my ($time, $tag, $cursor) = @$first{qw(time tag cursor)};
my $by_time = '?time=' . ($time =~ s/ /%20/gr) . "&tag=$tag";
for my $place ($by_time, "?last=$cursor", "$by_time&last=$cursor") {
    is_deeply(texts($t->get("/lp/news$place")->body), \@rest, "long polling with $place");
    my $socket = $t->websocket("/ws/news$place");
    is_deeply(texts(join '', map { $socket->text } @rest), \@rest, "a WebSocket with $place");
    $socket->close;
}

for my $place (["?last=$cursor"], ["$by_time&last=p0", 'Last-Event-Id' => $cursor]) {
    my $events = $t->subscribe("/events/news$place->[0]", @$place[1 .. $#$place]);
    is_deeply(texts($events->read_until(qr/message 4.*\n\n/)), \@rest, "an EventSource with @$place");
    $events->close;
}
my $old = $t->subscribe('/old-events/news', 'Last-Event-Id' => 'e1');
my $text = $old->read_until(qr/message 4.*\n\n/);
is_deeply(texts($text =~ s/"cursor":""/"cursor":"none"/gr), \@rest, 'an EventSource with an event id');
is_deeply([$text =~ /^id: (.*)$/mg], [qw(e2 e3 e4)], 'and its ids are those of the publisher');
$old->close;

$t->done;
