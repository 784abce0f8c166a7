# Padding by user agent: lengths in steps of 100, line ends as bytes, and new lists after a reload.
#
# Proves protocol.md: padding; directives.md: push_stream_padding_by_user_agent.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

# The padding list of the first location decides with the others about the greatest minimum.
sub conf {
    my ($list, $more) = @_;
    return <<"EOC";
    push_stream_shared_memory_size 1m;
    push_stream_channels_path \$arg_id;
    push_stream_ping_message_text PING;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /pub  { push_stream_publisher admin; }
        location /sub  { push_stream_subscriber; push_stream_padding_by_user_agent "$list"; }
        location /head { push_stream_subscriber; push_stream_padding_by_user_agent "$list";
                         push_stream_header_template HEAD; }
        @{[ $more // '' ]}
    }
EOC
}

sub padding { my ($n) = @_; return substr "\r\n" x 5000, -$n, $n }

my $t = Test::Nginx::PushStream->new->http(conf('[T|t]est 1,4097,4097:[T|t]est 2,0,1024:[T|t]est 3,1024,0', <<'EOC'))->run();
        location /ping { push_stream_subscriber; push_stream_padding_by_user_agent "test,0,500";
                         push_stream_ping_message_interval 300ms; }
        location /var  { push_stream_subscriber; push_stream_padding_by_user_agent "test 2,0,1024";
                         push_stream_user_agent $arg_ua; }
EOC

# What follows the header template and the message of that length.
sub padded {
    my ($uri, $length, @headers) = @_;
    my $s = $t->subscribe("$uri?id=a&ua=test%202", @headers);
    $t->publish('/pub?id=a', 'm' x $length);
    $t->publish('/pub?id=a', 'END');
    my $got = $s->read_until(qr/END/) // '';
    $s->close;
    my ($head, $text) = $got =~ /\A(?:HEAD([\r\n]*))?m+([\r\n]*)END\z/ or return 'not understood: ' . $got;
    for my $pad (grep { defined } $head, $text) {
        return 'other bytes' unless $pad eq '' || $pad eq padding(length $pad);
    }
    return join ' ', map { length } grep { defined } $head, $text;
}

is(padded('/sub', 10, 'User-Agent' => 'test 1'), '4097', 'the greatest minimum of all is not rounded');
is(padded('/sub', 10, 'User-Agent' => 'Test 2'), '1100', 'others are rounded up to a hundred');
is(padded('/sub', 10, 'User-Agent' => 'test 3'), '0', 'a minimum of 0 for messages');
is(padded('/head', 10, 'User-Agent' => 'test 3'), '1100 0', 'the header is padded by its own minimum');
is(padded('/head', 10, 'User-Agent' => 'test 1'), '4097 4097', 'header and message');
is(padded('/head', 10, 'User-Agent' => 'test 2'), '0 1100', 'message only');
is(padded('/sub', 1024, 'User-Agent' => 'test 2'), '0', 'exactly the minimum: none');
is(padded('/sub', 1023, 'User-Agent' => 'test 2'), '100', 'one byte less: a hundred');
is(padded('/sub', 5000, 'User-Agent' => 'test 1'), '0', 'longer than the minimum: none');
is(padded('/sub', 10, 'User-Agent' => 'other'), '0', 'no pattern matches');
is(padded('/sub', 10, 'User-Agent' => 'TEST 1'), '0', 'case counts');
is(padded('/sub', 10, 'User-Agent' => 'x test 2 y'), '1100', 'not anchored');
is(padded('/sub', 10, 'User-Agent' => 'test 2 test 1'), '4097', 'the first group that matches');
is(padded('/sub', 10), '0', 'no user agent');
is(padded('/sub', 10, 'User-Agent' => ''), '0', 'an empty user agent');
is(padded('/var', 10, 'User-Agent' => 'other'), '1100', 'push_stream_user_agent takes the place of the header');

my $s = $t->subscribe('/ping?id=p', 'User-Agent' => 'test');
$t->wait_for(sub { $s->so_far =~ /PING[\r\n]+PING/ }, 'two pings');
is($s->so_far =~ /\APING([\r\n]+)PING/ && $1, padding(500), 'pings are padded');
$t->delete('/pub?id=p');
like($s->body, qr/Channel deleted([\r\n]+)\z/, 'so is the last message');
is(length(($s->body =~ /deleted(.*)\z/s)[0]), 500, 'by the rule');

# other greatest minima, by reload
my %table = (
    508  => [ [ 508, 10 => 500 ] ],
    545  => [ [ 545, 1 => 545 ], [ 545, 105 => 500 ], [ 545, 502 => 100 ], [ 545, 550 => 0 ] ],
    1024 => [ [ 1024, 10 => 1024 ] ],
    4097 => [ [ 1024, 10 => 1100 ], [ 4097, 10 => 4097 ] ],
);
for my $max (sort { $a <=> $b } keys %table) {
    for my $row (@{ $table{$max} }) {
        my ($min, $length, $want) = @$row;
        ok($t->reload(conf("greatest,$max,0:test,0,$min"), wait_old => 1), "greatest $max, minimum $min");
        is(padded('/sub', $length, 'User-Agent' => 'test'), $want, "message of $length bytes: $want");
    }
}

$t->done();
