# Templates: every keyword is replaced once, and header and footer enclose the messages.
#
# Proves protocol.md: templates, streaming, publishing (event headers); directives.md:
# push_stream_header_template_file.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;
use Time::HiRes qw(time);

my $t = Test::Nginx::PushStream->new;
my $file = "from a file \r\n \$arg_id \\n \0 ~text~ end";
$t->write_file('header', $file);
$t->http(<<'EOC')->run();
    push_stream_shared_memory_size 32m;
    push_stream_channels_path $arg_id;
    push_stream_header_template "outer";
    push_stream_footer_template "outer foot";
    push_stream_subscriber_connection_ttl 400ms;
    client_max_body_size 2m;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub   { push_stream_publisher; push_stream_store_messages on; }
        location /all   { push_stream_subscriber;
                          push_stream_message_template "[~id~|~channel~|~text~|~size~|~tag~|~time~|~event-id~|~event-type~]"; }
        location /case  { push_stream_subscriber; push_stream_header_template ""; push_stream_footer_template "";
                          push_stream_message_template "~Text~~TEXT~ ~ID~ ~Event-Id~ ~~text~~ ~tex~ ~ text~ ~text ~id~"; }
        location /plain { push_stream_subscriber; push_stream_header_template ""; push_stream_footer_template ""; }
        location /lines { push_stream_subscriber; push_stream_message_template "a\r\n~text~\n\t\"q\" \\n"; }
        location /file  { push_stream_subscriber; push_stream_header_template_file %%TESTDIR%%/header; }
        location /same  { push_stream_subscriber polling; push_stream_message_template "[~id~|~channel~|~text~|~size~|~tag~|~time~|~event-id~|~event-type~]"; }
        location /live/all {
                          push_stream_subscriber; push_stream_subscriber_connection_ttl 60s;
                          push_stream_message_template "[~id~|~channel~|~text~|~size~|~event-id~]"; }
        location /upper { push_stream_subscriber; push_stream_subscriber_connection_ttl 60s;
                          push_stream_header_template ""; push_stream_message_template "{~TEXT~}"; }
        location /big   { push_stream_subscriber; push_stream_header_template ""; push_stream_subscriber_connection_ttl 60s; }
    }
EOC

sub replayed { my ($uri, @h) = @_; return $t->subscribe($uri, @h)->body }

$t->next_second;
$t->publish('/pub?id=news', 'Ola', 'Event-Id' => 'e17', 'Event-Type' => 'greeting');
my $r = replayed('/all?id=news.b1');
my ($time) = $r =~ /(\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT)/;
is($r, "outer[1|news|Ola|3|1|$time|e17|greeting]outer foot", 'every keyword, inherited header and footer');
cmp_ok(abs($t->epoch($time) - time), '<', 30, 'time is now');
is(replayed('/same?id=news.b1'), "outer[1|news|Ola|3|1|$time|e17|greeting]outer foot",
    'the same template in a location of another mode');
is(replayed('/case?id=news.b1'), 'OlaOla 1 e17 ~Ola~ ~tex~ ~ text~ ~text 1', 'any case; other words stay');
is(replayed('/plain?id=news.b1'), 'Ola', 'an explicitly empty header and footer; the default template');
is(replayed('/lines?id=news.b1'), "outera\r\nOla\n\t\"q\" \\nouter foot", 'escapes are those of the configuration');
is(replayed('/file?id=news.b1'), $file . 'Olaouter foot', 'a header file is bytes');

# event headers
my @events = (
    [ [], '||' ],
    [ [ 'EVENT-ID' => 'a b' ], '|a b|' ],
    [ [ 'Event-Ids' => 'x', 'Event-I' => 'y', 'Event-Typ' => 'z', 'Event-Types' => 'z' ], '||' ],
    [ [ 'Event-Type' => 't', 'Event-Id' => '' ], '||t' ],
    [ [ 'Event-Id' => 'first', 'Event-Id' => 'second' ], '|first|' ],
);
for my $case (@events) {
    my ($headers, $want) = @$case;
    $t->publish('/pub?id=ev', 'x', @$headers);
    like(replayed('/all?id=ev.b1'), qr/GMT\Q$want\E\]/, 'event headers ' . join ' ', @$headers);
}

# what is put in is not looked at again
my $odd = '~id~ ~text~ ~channel~ ~tag~';
$t->publish('/pub?id=~text~', $odd, 'Event-Id' => '~text~', 'Event-Type' => '~channel~');
like(replayed('/all?id=~text~.b1'), qr/\[1\|~text~\|\Q$odd\E\|27\|\d+\|[^|]+\|~text~\|~channel~\]/,
    'keywords in text, channel and event fields');

# two templates and two kinds of message at the same time, live
my @s = map { $t->subscribe($_) } '/live/all?id=live', '/upper?id=live';
$t->publish('/pub?id=live', 'A', 'Event-Id' => 'e');
is($s[0]->next_chunk, 'outer', 'the header is a chunk of its own');
is($s[0]->next_chunk, '[1|live|A|1|e]', 'so is a live message, in the first template');
is($s[1]->next_chunk, '{A}', 'and in the second');

# a large message full of keywords
my $words = '~text~~id~' x 78_000;
my $big = $t->subscribe('/big?id=big');
my $start = time;
$t->publish('/pub?id=big', $words);
cmp_ok(time - $start, '<', 5, '780 KB of keywords do not cost their square');
is(length($big->next_chunk // ''), length $words, 'and arrive');

$t->done();
