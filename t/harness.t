# The harness itself starts, talks to, reloads, kills and checks a plain nginx without the module.
#
# Proves none of them: every other suite relies on what is shown here.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $conf = <<'EOC';
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        client_max_body_size 10m;
        location /hello   { add_header X-Odd-Spelling yes; return 200 "hello $request_method"; }
        location /file    { alias %%TESTDIR%%/; }
        location /pid     { return 200 "$pid"; }
        location /empty   { return 204; }
    }
    server {
        listen 127.0.0.1:%%PORT_8081%%;
        location / { return 200 second; }
    }
EOC
my $t = Test::Nginx::PushStream->new(module => 0, workers => 2)->http($conf)->run();

my $r = $t->get('/hello');
is($r->status, 200, 'status');
is($r->reason, 'OK', 'reason');
is($r->body, 'hello GET', 'body');
is($r->header('x-odd-spelling'), 'yes', 'a header is found whatever its case');
is((grep { lc eq 'x-odd-spelling' } $r->header_names)[0], 'X-Odd-Spelling', 'its spelling is kept');
is($t->get('/', port => 8081)->body, 'second', 'another port');
is($t->get('/hello', version => '1.0', host => undef)->body, 'hello GET', 'HTTP/1.0 without Host');
is($t->request('HEAD', '/hello')->body, '', 'HEAD has no body');
is($t->get('/empty')->status, 204, '204 has no body');
is($t->post('/hello', 'x' x 100_000)->status, 200, 'a body is sent');

# one connection, three requests, two of them pipelined
my $c = $t->client;
my $one = $t->start('GET', '/hello', client => $c);
my $two = $t->start('GET', '/empty', client => $c);
is($one->body, 'hello GET', 'first of two pipelined answers');
is($two->status, 204, 'second of two pipelined answers');
is($t->get('/hello', client => $c)->body, 'hello GET', 'the connection is used again');

# a large body in slow pieces
$t->write_file('big', join '', map { "$_\n" } 1 .. 300_000);
my $slow = $t->start('GET', '/file/big', rcvbuf => 4096, paused => 1);
ok($t->quiet_for($slow, 0.1), 'a paused client reads nothing');
$slow->client->resume;
like($slow->read_until(qr/\n299999\n/), qr/\A1\n2\n/, 'read_until gives what came before');
is(length $slow->body, -s $t->dir . '/big', 'all of it arrives');

# chunked, end of connection, and broken responses, from bytes written here
my $fake = bless { in => '', out => '', eof => 0 }, 'Test::Nginx::PushStream::Client';
my $x = Test::Nginx::PushStream::Exchange->new(client => $fake);
$fake->{in} = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nHE";
is($x->so_far, '', 'half a chunk is none');
$fake->{in} .= "AD\r\n10\r\n0123456789abcdef\r\n";
is($x->next_chunk, 'HEAD', 'first chunk');
is($x->next_chunk, '0123456789abcdef', 'second chunk');
ok(!$x->complete, 'no end yet');
$fake->{in} .= "0\r\n\r\nrest";
ok($x->complete, 'the end');
is($fake->buffered, 'rest', 'bytes behind the end are left alone');
$fake = bless { in => "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab", out => '', eof => 1 },
    'Test::Nginx::PushStream::Client';
$x = Test::Nginx::PushStream::Exchange->new(client => $fake);
like($x->broken, qr/too early/, 'a short response is broken');

# pipelined answers, the first of which comes in two pieces: the second is not looked for in its body
$fake = bless { in => "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\non", out => '', eof => 0 },
    'Test::Nginx::PushStream::Client';
($x, my $y, my $z) = map { Test::Nginx::PushStream::Exchange->new(client => $fake) } 1 .. 3;
is($x->status, 200, 'a head before its body');
is($y->so_far, '', 'nothing yet of the next answer');
$fake->{in} .= "e!HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntwo!HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n";
is($z->status, 404, 'the third answer, asked for first');
is($y->body, 'two!', 'the second');
is($x->body, 'one!', 'the first');

# frames
my $frame = Test::Nginx::PushStream::WebSocket::frame_bytes(1, 'Ola', mask => "\x11\x22\x33\x44");
is(unpack('H*', $frame), '818311223344' . '5e4e52', 'a masked frame');
$fake->{in} = "\x81\x0aHEADHEAD12\x89\x00";
is(Test::Nginx::PushStream::WebSocket::_parse($fake)->{payload}, 'HEADHEAD12', 'a frame read');
is(Test::Nginx::PushStream::WebSocket::_parse($fake)->{opcode}, 9, 'the next frame read');

# workers
my @workers = $t->worker_pids;
is(scalar @workers, 2, 'two workers');
is($t->get('/pid', worker => $_)->body, $_, "worker $_ can be chosen") for @workers, @workers;
$t->kill_worker($workers[0]);
is(scalar $t->worker_pids, 2, 'the killed one has a successor');
isnt(($t->worker_pids)[1], $workers[1], 'and it is a new process');
is($t->get('/hello')->status, 200, 'which serves');

@workers = $t->worker_pids;
ok($t->reload($conf =~ s/second/changed/r, workers => 3, wait_old => 1), 'reload');
is($t->get('/', port => 8081)->body, 'changed', 'the new configuration is in force');
is(scalar $t->worker_pids, 3, 'the number of workers changes');
my %old = map { $_ => 1 } @workers;
ok(!grep({ $old{$_} } $t->worker_pids), 'all workers are new');
$t->expect_log(qr/unknown directive "nonsense"/);
ok($t->reload($conf . 'nonsense;', fails => 1), 'a bad configuration is refused');
is($t->get('/', port => 8081)->body, 'changed', 'and changes nothing');

my ($ok, $said) = $t->try_config($conf);
ok($ok, 'try_config accepts') or diag $said;
($ok, $said) = $t->try_config('server { listen 127.0.0.1:%%PORT_8080%%; bogus on; }');
ok(!$ok, 'try_config refuses');
like($said, qr/unknown directive "bogus"/, 'and gives the reason');
($ok, $said) = $t->try_config("events {} daemon off;\nfoo;", raw => 1);
like($said, qr/unknown directive "foo"/, 'a whole file can be tried');

my $waiting = $t->client;
is($t->get('/hello', client => $waiting)->status, 200, 'a connection that is kept');
ok($t->stop('QUIT'), 'graceful stop');
ok($waiting->wait_closed, 'which ends idle connections');

# what the audit finds
my $u = Test::Nginx::PushStream->new(module => 0, master => 0)->http($conf)->run();
is_deeply([$u->worker_pids], [$u->master_pid], 'without a master the one process is the worker');
is($u->get('/hello', worker => $u->master_pid)->status, 200, 'which serves');
open my $log, '>>', $u->dir . '/error.log' or die $!;
print {$log} "[alert] 1#1: *3 open socket #5 left\n[emerg] announced\nworker process 77 exited on signal 11\n";
close $log;
is(scalar $u->bad_log_lines, 3, 'alert, emerg and a dead worker are found');
$u->expect_log(qr/open socket/, qr/announced/);
is_deeply([$u->bad_log_lines], ['worker process 77 exited on signal 11'], 'unless announced');
$u->expect_log(qr/process 77 /);
$u->finish;
$t->done;
