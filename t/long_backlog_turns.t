# Many clients ask for many small old messages at once: each gets its turns, and each gets all of them, also
# if the worker ends meanwhile or a client has closed its sending half.
#
# Proves protocol.md: resuming (order, no gap), polling, reload-stop-and-death.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

# More portions than one has in a turn, and more in all than there are in a round.
my ($clients, $messages) = (100, 6_000);
my $want = "HEAD\n" . join('', map { "$_\n" } 1 .. $messages) . "FOOT\n";

sub try_it {
    my ($how, $signal, $master) = @_;
    my $t = Test::Nginx::PushStream->new(workers => 1, master => $master)->http(<<'EOC')->run();
        push_stream_shared_memory_size 8m;
        push_stream_channels_path $arg_id;
        push_stream_message_template "~id~\n";
        push_stream_header_template "HEAD\n";
        push_stream_footer_template "FOOT\n";
        server {
            listen 127.0.0.1:%%PORT_8080%%;
            location /pub  { push_stream_publisher; push_stream_store_messages on; }
            location /poll { push_stream_subscriber polling; }
            location /sub  { push_stream_subscriber; push_stream_subscriber_connection_ttl 1s;
                             chunked_transfer_encoding off; }    # Perl is slow with chunks
        }
EOC
    my $name = "/$how, " . ($signal || 'no signal') . ($master ? '' : ', without a master');
    is_deeply($t->publish_many('/pub?id=a', $messages), { 200 => $messages }, "$name: messages");

    # All at once: connections that are known, and a worker that finds all requests together.
    my ($worker) = $t->worker_pids;
    my @client = map { $t->get('/poll?id=none', client => $t->client)->client } 1 .. $clients;
    $t->freeze($worker);
    my @all = map { $t->start('GET', "/$how?id=a.b$messages", client => $_) } @client;
    $t->thaw($worker);
    $all[0]->wait_head;
    # Not by way of the master, who kills after a second.
    if    ($signal)        { kill $signal, $worker }
    elsif ($how eq 'poll') { $_->half_close for @client }
    my $right = grep { $_->body eq $want && $_->complete } @all;
    is($right, $clients, "$name: all to the end");
    $t->finish;
    return;
}

# Behind a large answer: the rest of its request's body, and another request.
sub body_behind {
    my $t = Test::Nginx::PushStream->new(workers => 1)->http(<<'EOC')->run();
        push_stream_shared_memory_size 32m;
        push_stream_channels_path $arg_id;
        push_stream_message_template "~id~\n";
        server {
            listen 127.0.0.1:%%PORT_8080%% sndbuf=4m;
            location /pub  { push_stream_publisher; push_stream_store_messages on; }
            location /poll { push_stream_subscriber polling; }
        }
EOC
    my $many = 50_000;
    is_deeply($t->publish_many('/pub?id=a', $many), { 200 => $many }, 'messages');
    my $client = $t->client;
    my $large = $t->start('GET', "/poll?id=a.b$many", client => $client, 'Content-Length' => 5);
    $large->wait_head;
    $client->send('12345');
    my $next = $t->start('GET', '/poll?id=none', client => $client);
    is($large->body, join('', map { "$_\n" } 1 .. $many), 'a large answer');
    is($next->status, 304, 'and the next request is heard');
    $t->finish;
    return;
}

body_behind();
for my $how (qw(poll sub)) {
    try_it($how, '', 1);
    for my $signal (qw(TERM QUIT)) {
        try_it($how, $signal, $_) for 1, 0;
    }
}
Test::More::done_testing();
