# The zone: how small it may be, what it is called, that it is mandatory, and that a reload keeps it.
#
# Proves directives.md: push_stream_shared_memory_size.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;
use Test::Nginx::PushStream::Config;

my $c = Test::Nginx::PushStream::Config->new;
my $location = 'push_stream_publisher; push_stream_channels_path $arg_id;';

sub zone { my ($words) = @_; return { bare => 1, http => "push_stream_shared_memory_size $words;", location => $location } }

for my $size ('1', '100k', '124k', '0', '12x', '""', '-1') {
    $c->refuses(zone($size),
        qr/\[warn\] .*The push_stream_shared_memory_size value must be at least 128KiB in \S+:\d+/, "size $size");
}
$c->accepts(zone($_), "size $_") for qw(125k 128k 131072 129k 2m);    # 125k is 128k in whole pages
for my $size ([qw(128k 128)], [qw(129k 132)], [qw(131073 132)], [qw(2m 2048)]) {
    like($c->said(zone($size->[0])),
        qr/\[info\] .*Using $size->[1]KiB of shared memory for push stream module on zone: push_stream_module$/m,
        "size $size->[0] in whole pages");
}
# a system with larger pages has a larger minimum: the texts above are those of 4 KiB pages

like($c->said(zone('1m mine')), qr/\[info\] .*on zone: mine$/m, 'a name');
$c->accepts(zone('1m ""'), 'an empty name is none');
$c->refuses(zone('1m a b'), qr/invalid number of arguments/, 'three words');
$c->refuses({ bare => 1, server => 'push_stream_shared_memory_size 1m;', location => $location },
    qr/directive is not allowed here/, 'not in server');
$c->refuses({ http => 'push_stream_shared_memory_size 1m;', location => $location },
    qr/\[emerg\] .*duplicate zone "push_stream_module" in \S+:\d+/, 'a second zone');
$c->refuses({ http => 'push_stream_shared_memory_size 1m other;', location => $location },
    qr/\[emerg\] .*duplicate zone "other" in \S+:\d+/, 'a second zone by another name');
$c->refuses({ http => 'limit_req_zone $remote_addr zone=mine:1m rate=1r/s; push_stream_shared_memory_size 1m mine;', bare => 1,
    location => $location }, qr/\[emerg\] .*shared memory zone "mine" is already declared/, 'a name that another module uses');

# a test says how much memory it will be where the test itself speaks, whatever the configuration's log takes

for my $log ('', "error_log %%TESTDIR%%/errors.log error;\n") {
    my ($ok, $said) = $c->t->try_config('load_module ' . $c->t->module_path . ";\n${log}events { }\n"
        . 'http { ' . Test::Nginx::PushStream::Config::text({ location => $location }) . ' }', raw => 1);
    my @notes = $said =~ /^\S+ \S+ \[info\] \S+ (Using 1024KiB of shared memory .*)$/mg;
    is("@notes", 'Using 1024KiB of shared memory for push stream module on zone: push_stream_module',
        'nginx -t says it once, ' . ($log ? 'with a log of errors only' : 'without a log'));
}

# reload

my $conf = "push_stream_shared_memory_size SIZE;\nserver {\nlisten 127.0.0.1:%%PORT_8080%%;\nlocation /x { $location }\n}\n";
my $kept = qr/\[warn\] .*Cannot change memory area size without restart, ignoring change on zone: push_stream_module in \S+:\d+/;
my $t = Test::Nginx::PushStream->new->http($conf =~ s/SIZE/1m/r)->run;

ok($t->reload($conf =~ s/SIZE/1m/r), 'reload with the same size');
unlike($t->log, $kept, 'nothing to say about it');
is(() = $t->log =~ /Using 1024KiB/g, 2, 'the size is reported at start and reload');

ok($t->reload($conf =~ s/SIZE/2m/r), 'reload with another size');
like($t->log, $kept, 'a larger zone is not made');
unlike($t->log, qr/Using 2048KiB/, 'nor reported');
is(() = $t->log =~ /Using 1024KiB/g, 3, 'the old size is');

ok($t->reload($conf =~ s/SIZE/2m/r), 'once more');
is(() = $t->log =~ /$kept/g, 2, 'every reload says so again');
is(() = $t->log =~ /Using 1024KiB/g, 4, 'and the old size is still there');

ok($t->reload($conf =~ s/SIZE/1m/r), 'back to the old size');
is(() = $t->log =~ /$kept/g, 2, 'which is no change');

my @workers = $t->worker_pids;
$t->http($conf =~ s/SIZE/64k/r)->write_file('nginx.conf', $t->_configuration);
$t->signal('HUP');
ok($t->wait_log(qr/\[warn\] .*must be at least 128KiB/), 'too small a size is refused at reload too');
is_deeply([$t->worker_pids], \@workers, 'and the old workers go on');

ok($t->reload($conf =~ s/SIZE/2m other/r), 'a zone of another name is another zone');
like($t->log, qr/Using 2048KiB of shared memory for push stream module on zone: other/, 'with its own size');

$t->finish;

# a zone may be there before the first location that uses it

my $idle = "push_stream_shared_memory_size 1m;\nserver {\nlisten 127.0.0.1:%%PORT_8080%%;\n}\n";
$t = Test::Nginx::PushStream->new->http($idle)->run;
ok($t->reload($conf =~ s/SIZE/1m/r), 'from an idle module to one in use');
ok($t->reload($idle), 'and back');
ok($t->reload($conf =~ s/SIZE/1m/r), 'and to use again');
is($t->post('/x?id=a', 'x')->status, 200, 'which works');

$t->finish;
$c->done;
