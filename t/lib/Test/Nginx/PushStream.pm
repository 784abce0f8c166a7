package Test::Nginx::PushStream;

# Starts a real nginx with the module, in its own directory, and sends requests to it.
#
#   my $t = Test::Nginx::PushStream->new(workers => 2)->http(<<'EOC')->run();   # start
#   $t->publish(...), $t->subscribe(...), $t->poll(...), $t->stats              # act
#   $t->reload(...), $t->kill_worker(...), $t->stop                             # and disturb
#   $t->done();                                                                 # check
#
# `done` fails if the error log has an [alert], an [emerg], an "open socket" or a dead worker that the
# test did not announce; and on core files, body files that are left, and connections that nginx has
# not closed.
#
# Environment: TEST_NGINX_BINARY, TEST_NGINX_MODULE (path of the .so), TEST_NGINX_CATLOG (print the
# error log at the end), TEST_NGINX_LEAVE (keep the directory), TEST_NGINX_TIMEOUT (seconds),
# TEST_NGINX_SLOW (nginx runs under a checker: the master may kill workers that take a second to end).
#
# Every wait is for an event and has a generous time limit. Nothing sleeps and hopes.

use strict;
use warnings;

use Carp qw(croak);
use Cwd qw(abs_path);
use File::Find ();
use File::Spec ();
use File::Temp ();
use JSON::PP ();
use POSIX qw(WNOHANG);
use Test::More ();
use Time::HiRes qw(time);

use Test::Nginx::PushStream::Client;
use Test::Nginx::PushStream::Exchange;
use Test::Nginx::PushStream::Ports;
use Test::Nginx::PushStream::WebSocket;

my $CLIENT   = 'Test::Nginx::PushStream::Client';
my $EXCHANGE = 'Test::Nginx::PushStream::Exchange';
my $PORTS    = 'Test::Nginx::PushStream::Ports';

# `use Test::Nginx::PushStream` turns on strict and warnings and imports Test::More, so that a suite needs
# no other lines for that.
sub import {
    my $caller = caller;
    strict->import;
    warnings->import;
    Test::More->export_to_level(1, $caller);
    $SIG{PIPE} = 'IGNORE';
    $SIG{$_} = sub { exit 1 } for qw(INT TERM HUP);    # so that DESTROY stops our nginx
    return;
}

# ---- which nginx, which module

sub nginx_binary {
    return $ENV{TEST_NGINX_BINARY} if $ENV{TEST_NGINX_BINARY};
    for my $path ('/usr/sbin/nginx', map { "$_/nginx" } File::Spec->path) {
        return $path if -x $path;
    }
    die "no nginx found; set TEST_NGINX_BINARY\n";
}

# "1.22.1"
sub nginx_version {
    my $binary = nginx_binary();
    return `$binary -v 2>&1` =~ m{nginx/([0-9.]+)} ? $1 : '';
}

# True if nginx was built with it, for instance has_feature('http_v2_module').
sub has_feature {
    my (undef, $feature) = @_;
    my $binary = nginx_binary();
    return `$binary -V 2>&1` =~ /--with-\Q$feature\E/;
}

my $module;

sub module_path {
    return $module if $module;
    return $module = abs_path($ENV{TEST_NGINX_MODULE}) // die "no $ENV{TEST_NGINX_MODULE}\n"
        if $ENV{TEST_NGINX_MODULE};
    (my $root = abs_path(__FILE__)) =~ s{/t/lib/Test/Nginx/[^/]+\z}{};
    my @found;
    if (-d "$root/target") {
        File::Find::find(sub {
            return $File::Find::prune = 1 if -d && /\A(?:deps|build|incremental|\.fingerprint)\z/;
            push @found, $File::Find::name if /\A(?:lib)?ngx_http_push_stream_module\.so\z/;
        }, "$root/target");
    }
    @found = sort { (stat $b)[9] <=> (stat $a)[9] } @found;
    return $module = $found[0] // die "no module built; run scripts/build or set TEST_NGINX_MODULE\n";
}

# ---- set-up

# workers, connections: numbers; master: 0 for "master_process off"; main, events, http_main: text for
# these blocks; gzip: 1 switches it on for everything; module: 0 runs without the module; daemon: 1 for a
# master that obeys USR2 and WINCH, which a master in the foreground does not; faults: 1 for panics on demand
# (see `fail_at`).
sub new {
    my ($class, %o) = @_;
    my $dir = File::Temp::tempdir('push-stream-XXXXXXXX', TMPDIR => 1);
    chmod 0755, $dir;    # workers of a root master run as somebody else
    return bless {
        dir => $dir, owner => $$, workers => $o{workers} // 2, master => $o{master} // 1,
        main => $o{main} // '', events => $o{events} // '', connections => $o{connections} // 4096,
        http_main => $o{http_main} // '',
        gzip => $o{gzip} // 0, module => $o{module} // 1, daemon => $o{daemon} // 0,
        faults => $o{faults} // 0, clock => $o{clock} // 0,
        ports => {}, http => '', expected => [], killed => {}, tries => 0,
    }, $class;
}

# The content of the http block. %%PORT_8080%% becomes a free port, %%TESTDIR%% our directory.
sub http { my ($self, $text) = @_; $self->{http} = $text; return $self }

sub dir { return $_[0]{dir} }

sub write_file {
    my ($self, $name, $text) = @_;
    my $path = "$self->{dir}/$name";
    open my $file, '>:raw', $path or die "$path: $!";
    print {$file} $text;
    close $file or die "$path: $!";
    return $path;
}

# The real number behind %%PORT_n%%; without an argument, of the first one in the configuration.
sub port {
    my ($self, $name) = @_;
    $name //= $self->{first_port} // croak 'no port in the configuration';
    return $self->{ports}{$name} //= $PORTS->can('reserve')->();
}

sub _expand {
    my ($self, $text) = @_;
    $text =~ s/%%PORT_(\d+)%%/$self->{first_port} \/\/= $1; $self->port($1)/ge;
    $text =~ s/%%TESTDIR%%/$self->{dir}/g;
    return $text;
}

sub _configuration {
    my ($self, $dir) = @_;
    $dir //= $self->{dir};
    my $http = $self->{http};
    my @main = ("pid $dir/nginx.pid;", "error_log $dir/error.log info;", 'daemon ' . ($self->{daemon} ? 'on;' : 'off;'));
    unshift @main, 'load_module ' . module_path() . ';' if $self->{module};
    push @main, 'master_process ' . ($self->{master} ? 'on;' : 'off;');
    push @main, "worker_processes $self->{workers};";
    push @main, 'user ' . _nobody() . ';' if $> == 0 && $self->{master};
    my @http = map { "${_}_temp_path $dir/${_}_temp;" } qw(client_body proxy fastcgi scgi uwsgi);
    push @http, 'access_log off;'               if $http !~ /\baccess_log\b/;
    push @http, 'keepalive_requests 100000000;' if $http !~ /\bkeepalive_requests\b/;
    push @http, 'gzip on; gzip_min_length 1; gzip_proxied any; gzip_http_version 1.0;',
        'gzip_types text/plain text/x-json text/x-yaml application/json application/yaml'
        . ' application/xml text/event-stream application/javascript;' if $self->{gzip};
    my $text = join "\n", @main, $self->{main},
        "events { worker_connections $self->{connections}; $self->{events} }",
        'http {', @http, $self->{http_main}, $http, '}', '';
    return $self->_expand($text);
}

sub _nobody {
    my ($name, $gid) = (getpwnam 'nobody')[0, 3];
    return 'root' unless defined $name;
    return $name . ' ' . (getgrgid($gid) // $name);
}

# ---- start and stop

sub run {
    my ($self) = @_;
    $self->write_file('nginx.conf', $self->_configuration);
    mkdir "$self->{dir}/client_body_temp";
    $self->write_file('faults', "\0" x 4096) if $self->{faults};
    $self->_prepare_clock if $self->{clock};
    $self->{pid} = $self->_spawn($self->{dir});
    $self->_follow_daemon if $self->{daemon};
    my $answered = $CLIENT->until(sub { !$self->_alive || $self->_answers && $self->_all_there },
        'nginx to answer');
    if (!$answered || !$self->_alive) {
        my $said = $self->output . $self->log;
        $self->_end_hard;
        croak "nginx did not start:\n$said";
    }
    return $self;
}

sub _prepare_clock {
    my ($self) = @_;
    my $source = __FILE__ =~ s{Test/Nginx/PushStream\.pm\z}{set_clock.c}r;
    system('gcc', '-shared', '-fPIC', '-o', "$self->{dir}/set_clock.so", $source) == 0
        or croak "cannot build $source";
    $self->set_clock(0);
    return;
}

# Sets the system's clock for nginx alone, so many seconds before or behind the true time. Needs the option
# `clock` of new. In one step, so that no process reads half of it.
sub set_clock {
    my ($self, $seconds) = @_;
    rename $self->write_file('clock.new', "$seconds\n"), "$self->{dir}/clock" or croak "clock: $!";
    return $self;
}

sub _spawn {
    my ($self, $dir, @more) = @_;
    my @command = (nginx_binary(), '-p', "$dir/", '-e', "$dir/error.log", '-c', "$dir/nginx.conf", @more);
    my $pid = fork // die "fork: $!";
    return $pid if $pid;
    open STDIN,  '<', '/dev/null';
    open STDOUT, '>>', "$dir/output.log";
    open STDERR, '>&', \*STDOUT;
    $SIG{PIPE} = 'DEFAULT';
    $ENV{PUSH_STREAM_FAULTS} = "$self->{dir}/faults" if $self->{faults};
    @ENV{qw(LD_PRELOAD TEST_SET_CLOCK)} = ("$self->{dir}/set_clock.so", "$self->{dir}/clock") if $self->{clock};
    chdir $dir;
    exec @command or POSIX::_exit(127);
}

# The process that we started ends when the daemon runs, or has failed to start.
sub _follow_daemon {
    my ($self) = @_;
    waitpid $self->{pid}, 0;
    $CLIENT->until(sub { $self->_written_pid }, 'the pid of the daemon') if $? == 0;
    $self->{pid} = $self->_written_pid;
    $self->{masters} = [ $self->{pid} // () ];
    return;
}

sub _written_pid {
    my ($self) = @_;
    return _slurp("$self->{dir}/nginx.pid") =~ /(\d+)/ ? $1 : undef;
}

# Starts another nginx with another zone on the same sockets, and continues with that one. Returns the pid of
# the former master, which continues to run.
sub upgrade {
    my ($self) = @_;
    my $before = $self->{pid};
    $self->signal('USR2');
    my $after;
    $CLIENT->until(sub {
        $after = $self->_written_pid // 0;
        local $self->{pid} = $after;
        return $after && $after != $before && $self->_all_there;
    }, 'the new master and its workers') or croak "no upgrade:\n" . $self->log;
    push @{ $self->{masters} }, $after;
    return $self->follow($after);
}

# Continues with another of our masters. Returns the former one.
sub follow {
    my ($self, $pid) = @_;
    (my $before, $self->{pid}) = ($self->{pid}, $pid);
    return $before;
}

# Bytes of private memory of a process.
sub memory_of {
    my (undef, $pid) = @_;
    my ($kb) = _slurp("/proc/$pid/smaps_rollup") =~ /^Private_Dirty:\s+(\d+) kB/m or croak "no memory of $pid";
    return $kb * 1024;
}

# Does this process (still) run?
sub is_running { my (undef, $pid) = @_; return _slurp("/proc/$pid/stat") =~ /\) [^ZX] / }

# Everything that nginx wrote to its terminal.
sub output { my ($self) = @_; return _slurp("$self->{dir}/output.log") }

sub _alive {
    my ($self) = @_;
    return 0 unless $self->{pid};
    if ($self->{daemon} && !$self->is_running($self->{pid})) {
        $self->{exit} = 0;    # which only its parent could tell
        delete $self->{pid};
        return 0;
    }
    if (waitpid($self->{pid}, WNOHANG) == $self->{pid}) {
        $self->{exit} = $?;
        delete $self->{pid};
        return 0;
    }
    return 1;
}

# True when something on the first port has answered, or has closed the connection in an orderly way.
sub _answers {
    my ($self) = @_;
    return -s "$self->{dir}/nginx.pid" unless defined $self->{first_port};
    my $probe = $self->{probe};
    if (!$probe) {
        $probe = $CLIENT->new(port => $self->port, quiet => 1)
            or do { select undef, undef, undef, 0.01; return 0 };
        $probe->send("OPTIONS /harness-probe HTTP/1.0\r\n\r\n");
        $self->{probe} = $probe;
    }
    return 0 unless $probe->{eof} || length $probe->{in};
    $probe->close;
    delete $self->{probe};
    return 1;
}

sub _all_there { my ($self) = @_; return !$self->{master} || $self->worker_pids >= $self->{workers} }

# Stops nginx (with TERM, or the signal given, such as 'QUIT') and waits until it is gone, while all
# subscribers continue to read. True if it ended by itself with status 0.
sub stop {
    my ($self, $signal) = @_;
    return 1 unless $self->_alive;
    $self->signal($signal // 'TERM');
    return $self->wait_stopped;
}

sub wait_stopped {
    my ($self, $seconds) = @_;
    my $gone = $CLIENT->until(sub { !$self->_alive }, 'nginx to stop', $seconds);
    $self->_end_hard unless $gone;
    $CLIENT->can('pump')->(0);    # what the kernel still holds for our subscribers
    return $gone && $self->{exit} == 0;
}

sub signal { my ($self, $signal) = @_; kill $signal, $self->{pid}; return $self }

sub _end_hard {
    my ($self) = @_;
    return unless $self->{pid};
    my @all = map { local $self->{pid} = $_; ($_, map { $_->{pid} } $self->_children) }
        $self->{pid}, grep { $_ != $self->{pid} } @{ $self->{masters} // [] };
    kill 'KILL', @all;
    waitpid $self->{pid}, 0;
    delete $self->{pid};
    return;
}

# `nginx -t` for this http block (or the whole file, with raw => 1): (ok, output).
# The output has what nginx printed and what it logged.
sub try_config {
    my ($self, $http, %o) = @_;
    my $dir = "$self->{dir}/try." . ++$self->{tries};
    mkdir $dir;
    local $self->{http} = $http;
    my $text = $o{raw} ? $self->_expand($http) : $self->_configuration($dir);
    open my $file, '>:raw', "$dir/nginx.conf" or die $!;
    print {$file} $text;
    close $file;
    my $pid = $self->_spawn($dir, '-t');
    my $gone = $CLIENT->until(sub { waitpid($pid, WNOHANG) == $pid }, 'nginx -t to end');
    my $ok = $gone && $? == 0;
    kill 'KILL', $pid unless $gone;
    return ($ok ? 1 : 0, _slurp("$dir/output.log") . _slurp("$dir/error.log"));
}

# ---- processes

sub master_pid { return $_[0]{pid} }

# { pid, title } of each child of the master.
sub _children {
    my ($self) = @_;
    my $master = $self->{pid} or return;
    my @pids = split ' ', _slurp("/proc/$master/task/$master/children");
    return map { { pid => $_, title => $self->_title($_) } } @pids;
}

# Under valgrind a process keeps the command line that it was started with, so the log has to say what it is. The
# log names a worker before the worker is ready, which it is when it waits for events for the first time.
sub _title {
    my ($self, $pid) = @_;
    my $title = _slurp("/proc/$pid/cmdline");
    return $title if $title !~ /\A[^\0]*valgrind/;
    $self->{began}{$pid} ||= _slurp("/proc/$pid/wchan") =~ /ep_poll|epoll_wait/;
    my $log = $self->log;
    return !$self->{began}{$pid} || $log !~ /start worker process $pid$/m ? ''
        : 'worker process' . ($log =~ / $pid#.*gracefully shutting down/ ? ' is shutting down' : '');
}

# Workers of the current generation, oldest first.
sub worker_pids {
    my ($self) = @_;
    my @pids = $self->{master}
        ? map { $_->{pid} }
            grep { $_->{title} =~ /worker process/ && $_->{title} !~ /shutting down/ } $self->_children
        : $self->{pid};
    @pids = sort { $a <=> $b } @pids;
    return @pids;
}

# Workers of before a reload that have not ended yet.
sub old_worker_pids {
    my ($self) = @_;
    return map { $_->{pid} } grep { $_->{title} =~ /shutting down/ } $self->_children;
}

# Takes another http block if one is given, sends HUP, and waits until the new workers serve and the old
# ones have been told to end. workers => number changes worker_processes; wait_old => 1 also waits until
# the old workers are gone; fails => 1 expects the configuration to be refused.
sub reload {
    my $self = shift;
    $self->{http} = shift if @_ % 2;
    my %o = @_;
    $self->{workers} = $o{workers} if $o{workers};
    $self->write_file('nginx.conf', $self->_configuration);
    my %before = map { $_ => 1 } $self->worker_pids;
    my $logged = length $self->log;
    $self->signal('HUP');
    if ($o{fails}) {
        return $CLIENT->until(sub { substr($self->log, $logged) =~ /\[(?:emerg|error)\]/ },
            'nginx to refuse the configuration');
    }
    return $CLIENT->until(sub {
        my @now = $self->worker_pids;
        return @now == $self->{workers} && !grep({ $before{$_} } @now)
            && !($o{wait_old} && $self->old_worker_pids);
    }, 'new workers');
}

# Kills workers with SIGKILL, which `done` then accepts, and waits for their successors.
sub kill_worker {
    my ($self, @pids) = @_;
    my %gone = map { $_ => 1 } @pids;
    $self->{killed}{$_} = 1 for @pids;
    kill 'KILL', @pids;
    return $CLIENT->until(sub {
        my @now = $self->worker_pids;
        return @now == $self->{workers} && !grep { $gone{$_} } @now;
    }, 'successors of killed workers');
}

# Stops a worker, as on a machine that is too busy, until `thaw`.
sub freeze {
    my ($self, $pid) = @_;
    $self->{frozen}{$pid} = 1;
    kill 'STOP', $pid;
    return _until_stopped($pid);
}

sub thaw {
    my ($self, $pid) = @_;
    delete $self->{frozen}{$pid};
    return kill 'CONT', $pid;
}

sub _until_stopped {
    my (@pids) = @_;
    return $CLIENT->until(sub { !grep { _slurp("/proc/$_/stat") !~ /\) T / } @pids }, 'workers to stand still', 5);
}

# ---- panics

# True if the module was built with the feature `faults`.
sub has_faults { return _slurp(module_path()) =~ /PUSH_STREAM_FAULTS/ }

# Lets the module panic when a worker has reached this point so many times from now on, or each time ('always').
# See src/nginx/faults.rs.
sub fail_at {
    my ($self, $point, $times) = @_;
    my $slots = $self->{fault_slots} //= {};
    $slots->{$point} = keys %$slots if !exists $slots->{$point};
    my $slot = $slots->{$point};
    $self->_write_fault($slot, 0, pack 'a56', $point);
    $self->_write_fault($slot, 56, pack 'L', $times eq 'always' ? 0xFFFFFFFF : $times);
    return $self;
}

# How many times the point must still be reached; 0: the module has panicked.
sub faults_left {
    my ($self, $point) = @_;
    my $table = _slurp("$self->{dir}/faults");
    return unpack 'L', substr $table, 64 * $self->{fault_slots}{$point} + 56, 4;
}

sub _write_fault {
    my ($self, $slot, $at, $bytes) = @_;
    open my $file, '+<:raw', "$self->{dir}/faults" or die $!;
    sysseek $file, 64 * $slot + $at, 0;
    syswrite $file, $bytes;
    close $file;
    return;
}

# ---- the error log

sub log { my ($self) = @_; return _slurp("$self->{dir}/error.log") }

sub wait_log {
    my ($self, $re, $seconds) = @_;
    return $CLIENT->until(sub { $self->log =~ $re }, "the log to say $re", $seconds);
}

# Lines that match are no failure, because the test causes them.
sub expect_log { my ($self, @re) = @_; push @{ $self->{expected} }, @re; return $self }

# Lines of the error log that no test should cause.
sub bad_log_lines {
    my ($self) = @_;
    my @bad;
    for my $line (split /\n/, $self->log) {
        next unless $line =~ /\[(?:alert|emerg)\]|open socket|exited on signal|panicked at/;
        next if $line =~ /process (\d+) exited on signal 9\b/ && $self->{killed}{$1};
        next if $line =~ /worker process \d+ exited on signal 9\b/ && $ENV{TEST_NGINX_SLOW};
        next if grep { $line =~ $_ } @{ $self->{expected} };
        push @bad, $line;
    }
    return @bad;
}

# ---- the end

# Ends all clients, stops nginx, checks what it left behind, and ends the plan.
sub done {
    my ($self) = @_;
    $self->finish;
    Test::More::done_testing();
    return;
}

# The same without the plan, for files with more than one nginx.
sub finish {
    my ($self) = @_;
    my @bad;
    $self->thaw($_) for keys %{ $self->{frozen} };
    if ($self->_alive) {
        $CLIENT->close_all;
        $CLIENT->until(sub { !$self->forgotten_sockets }, 'nginx to notice that clients left', 10)
            or push @bad, 'sockets left: ' . join ', ', $self->forgotten_sockets;
        $self->stop or push @bad, 'nginx did not stop in order' . (defined $self->{exit} ? " ($self->{exit})" : '');
    }
    $CLIENT->close_all;
    push @bad, $self->bad_log_lines;
    push @bad, map { "core file $_" } glob "$self->{dir}/core*";
    push @bad, map { "body file $_" } grep { -f } glob "$self->{dir}/client_body_temp/*";
    Test::More::is(join("\n", @bad), '', 'nginx ended well and complained of nothing');
    Test::More::diag($self->log) if $ENV{TEST_NGINX_CATLOG};
    $PORTS->can('release')->(values %{ $self->{ports} });
    $self->_remove;
    return;
}

# Sockets on our ports that nginx has not closed although their client left.
sub forgotten_sockets {
    my ($self) = @_;
    my %ours = map { $_ => 1 } values %{ $self->{ports} };
    my @found;
    for (split /\n/, _slurp('/proc/net/tcp')) {
        my ($local, $remote, $state) = /\A\s*\d+: \w+:(\w+) (\w+:\w+) (\w\w) / or next;
        next unless $ours{ hex $local };
        push @found, hex($local) . " state $state" unless $state =~ /\A(?:01|06|0A)\z/;
    }
    return @found;
}

sub _remove {
    my ($self) = @_;
    return if $ENV{TEST_NGINX_LEAVE} || $self->{removed}++;
    require File::Path;
    File::Path::remove_tree($self->{dir}, { error => \my $ignored });
    return;
}

sub DESTROY {
    my ($self) = @_;
    return unless $self->{owner} == $$;
    local ($@, $?, $!);
    if ($self->{pid}) {
        # Only after a test that died, because the log explains why.
        Test::More::diag($self->log) if $ENV{TEST_NGINX_CATLOG};
        $self->_end_hard;
    }
    $self->_remove;
    return;
}

# ---- requests

my %OPTION = map { $_ => 1 } qw(port client worker version host since close body rcvbuf paused tls alpn key);

# Splits ('If-None-Match' => 'W/1', since => $x, -version => '1.0') into headers and options.
sub _options {
    my (@list) = @_;
    my (%option, @headers);
    while (my ($name, $value) = splice @list, 0, 2) {
        my $bare = $name =~ s/\A-//r;
        if ($OPTION{$bare} && $name eq lc $name) { $option{$bare} = $value }
        elsif ($bare ne $name) { croak "no option $name" }
        else { push @headers, $name, $value }
    }
    return (\%option, \@headers);
}

# Opens a connection. With worker => pid, this worker accepts it.
sub client {
    my ($self, %o) = @_;
    $o{port} = $self->port($o{port});
    my $worker = delete $o{worker};
    return $CLIENT->new(%o) // croak 'nginx does not accept connections' unless $worker;
    # The other workers are stopped while this one accepts.
    my @others = grep { $_ != $worker && !$self->{frozen}{$_} } $self->worker_pids;
    for my $try (1 .. 5) {
        kill 'STOP', @others;
        _until_stopped(@others);
        my $client = $CLIENT->new(%o);
        my $pid;
        $CLIENT->until(sub { $pid = $client && $self->worker_of($client) }, 'a worker to accept', 10);
        kill 'CONT', @others;
        return $client if $pid && $pid == $worker;
        $client->close if $client;
    }
    croak "worker $worker does not accept";
}

# The worker that holds the other end of a connection, by the kernel's tables.
sub worker_of {
    my ($self, $client) = @_;
    $client = $client->client if $client->can('client');
    my $pair = sprintf ':%04X [0-9A-F]+:%04X ', $client->{port}, $client->local_port;
    my ($line) = grep { /$pair/ } split /\n/, _slurp('/proc/net/tcp');
    my $inode = $line ? (split ' ', $line)[9] : 0 or return;
    for my $pid ($self->worker_pids, $self->old_worker_pids) {
        opendir my $fds, "/proc/$pid/fd" or next;
        for my $fd (readdir $fds) {
            return $pid if (readlink("/proc/$pid/fd/$fd") // '') eq "socket:[$inode]";
        }
    }
    return;
}

# Sends a request and returns its Exchange at once. Options: port; client (reuse this connection);
# worker (pid); version ('1.1'); host (undef: no Host); body; close (0: keep the connection).
sub start {
    my ($self, $method, $uri, @rest) = @_;
    my ($o, $headers) = _options(@rest);
    my $client = $o->{client};
    $client = $client->client if $client && $client->can('client');
    $client //= $self->client(map { $_ => $o->{$_} } grep { defined $o->{$_} } qw(port worker rcvbuf paused tls alpn));
    my @lines = ("$method $uri HTTP/" . ($o->{version} // '1.1'));
    push @lines, 'Host: ' . ($o->{host} // 'localhost') unless exists $o->{host} && !defined $o->{host};
    push @lines, 'Connection: close' if $o->{close};
    if (my $since = $o->{since}) {
        push @$headers, 'If-Modified-Since', $since->header('Last-Modified') if defined $since->header('Last-Modified');
        push @$headers, 'If-None-Match', $since->header('Etag') if defined $since->header('Etag');
    }
    my ($chunked, $length);
    for (my $i = 0; $i < @$headers; $i += 2) {
        $chunked = 1 if lc $headers->[$i] eq 'transfer-encoding';
        $length  = 1 if lc $headers->[$i] eq 'content-length';
        push @lines, "$headers->[$i]: $headers->[$i + 1]";
    }
    my $body = $o->{body};
    push @lines, 'Content-Length: ' . length $body if defined $body && !$chunked && !$length;
    my $exchange = $EXCHANGE->new(client => $client, method => $method);
    $client->send(join("\r\n", @lines, '', '') . ($body // ''));
    return $exchange;
}

# Sends a request and waits for the whole response, on a connection of its own unless `client` is given.
sub request {
    my ($self, $method, $uri, @rest) = @_;
    my ($o) = _options(@rest);
    my $own = !$o->{client} && !exists $o->{close};
    my $exchange = $self->start($method, $uri, @rest, $own ? (close => 1) : ());
    $exchange->wait_end;
    $exchange->close if $own;
    return $exchange;
}

sub get     { my ($self, @rest) = @_; return $self->request('GET',     @rest) }
sub options { my ($self, @rest) = @_; return $self->request('OPTIONS', @rest) }
sub delete  { my ($self, @rest) = @_; return $self->request('DELETE',  @rest) }
sub post    { my ($self, $uri, $body, @rest) = @_; return $self->request('POST', $uri, body => $body, @rest) }
sub put     { my ($self, $uri, $body, @rest) = @_; return $self->request('PUT',  $uri, body => $body, @rest) }

# Publishes, and dies if that is refused: for tests that are about what follows.
sub publish {
    my ($self, $uri, $body, @rest) = @_;
    my $answer = $self->post($uri, $body, @rest);
    my $status = $answer->status // 'no answer';
    croak "publish to $uri: $status " . ($answer->header('X-Nginx-PushStream-Explain') // '')
        unless $status eq '200';
    return $answer;
}

# A streaming subscriber in the background; returns when it is attached (or refused).
sub subscribe {
    my ($self, $uri, @rest) = @_;
    return $self->start('GET', $uri, @rest)->wait_subscribed;
}

# The same, but it reads nothing after its first bytes.
sub subscribe_still {
    my ($self, $uri, @rest) = @_;
    my $subscriber = $self->subscribe($uri, rcvbuf => 4096, @rest);
    $subscriber->client->pause;
    return $subscriber;
}

# A long poll, or poll, in the background: `body` and `status` wait. since => an earlier answer.
# A long poll says nothing while it waits; use wait_subscribers to know that it is attached.
sub poll { my ($self, $uri, @rest) = @_; return $self->start('GET', $uri, @rest) }

# A WebSocket; key => its Sec-WebSocket-Key. Returns when the handshake is answered.
sub websocket {
    my ($self, $uri, @rest) = @_;
    my ($o, $headers) = _options(@rest);
    my $key = $o->{key} // 'YnJpZ2h0LWtleS0wMDAwMQ==';
    my %given = map { lc $_ => 1 } @$headers[grep { $_ % 2 == 0 } 0 .. $#$headers];
    my @handshake = ('Upgrade', 'websocket', 'Connection', 'Upgrade',
        'Sec-WebSocket-Key', $key, 'Sec-WebSocket-Version', 13);
    while (my ($name, $value) = splice @handshake, 0, 2) {
        push @rest, $name, $value unless $given{ lc $name };
    }
    my $exchange = $self->start('GET', $uri, @rest);
    return Test::Nginx::PushStream::WebSocket->new(exchange => $exchange, key => $key)->wait_subscribed;
}

# Publishes the numbers from 1 on to /pub, two thirds of them to channel a and the others to b: so many before and after
# a worker is killed, each time behind a reload. Returns those of a, and all.
sub publish_through_cuts {
    my ($self, $rounds, $each) = @_;
    my (@of_a, @all);
    my $some = sub {
        my $pub = $self->client;
        for (1 .. $each) {
            my $number = @all + 1;
            my $id = $number % 3 ? 'a' : 'b';
            $self->publish("/pub?id=$id", $number, client => $pub);
            push @of_a, $number if $id eq 'a';
            push @all, $number;
        }
        $pub->close;
    };
    for (1 .. $rounds) {
        $self->reload;
        $some->();
        $self->kill_worker(($self->worker_pids)[0]);
        $some->();
    }
    return (\@of_a, \@all);
}

# Publishes many messages over one connection, with several requests under way at a time. `bodies` is a
# number (of equal messages, `body`), or code that returns the next (uri, body) or nothing. until => code
# is called with each status; true ends it. Returns { status => how often }.
sub publish_many {
    my ($self, $uri, $bodies, %o) = @_;
    my $left = ref $bodies ? undef : $bodies;
    my $next = ref $bodies ? $bodies : sub { return $left-- > 0 ? ($uri, $o{body} // 'x') : () };
    my $depth = $o{depth} // 50;
    my (%count, $client, @underway, $stopped);
    while (1) {
        if (!$client || $client->eof) {
            last if $stopped;
            $client->close if $client;
            @underway = ();    # requests behind a closing answer were never taken
            $client = $self->client(map { $_ => $o{$_} } grep { defined $o{$_} } qw(port worker));
        }
        my $batch = '';
        while (!$stopped && @underway < $depth) {
            my ($to, $body) = $next->() or do { $stopped = 1; last };
            $batch .= "POST $to HTTP/1.1\r\nHost: localhost\r\nContent-Length: "
                . length($body) . "\r\n\r\n$body";
            push @underway, $EXCHANGE->new(client => $client, method => 'POST');
        }
        last unless @underway;
        $client->send($batch);
        my $first = $underway[0];
        $first->wait_end or last;
        while (@underway && $underway[0]->_over) {
            my $answer = shift @underway;
            $count{ $answer->{status} // 'none' }++;
            if ($o{until} && $o{until}->($answer->{status} // 'none')) {
                $client->close;
                return \%count;
            }
            last if $answer->{state} eq 'broken';
            $underway[0]->advance if @underway;
        }
    }
    $client->close if $client;
    return \%count;
}

# The statistics as a Perl structure; undef if they were refused.
sub stats {
    my ($self, $uri, @rest) = @_;
    my $answer = $self->get($uri // '/stats', @rest);
    return unless ($answer->status // 0) == 200;
    return JSON::PP->new->utf8(0)->decode($answer->body);
}

# Waits until a channel (its statistics under that uri) has so many subscribers.
sub wait_subscribers {
    my ($self, $uri, $n, $seconds) = @_;
    return $self->wait_for(sub { my $s = $self->stats($uri); $s && $s->{subscribers} == $n },
        "$n subscribers at $uri", $seconds);
}

# Waits until a condition holds. The condition may make requests.
sub wait_for {
    my ($self, $condition, $what, $seconds) = @_;
    return $CLIENT->until($condition, $what, $seconds);
}

# One assertion on a refusal: status, explain text (undef: no such header), an empty body that the
# headers announce, and the two cache headers. more => { 'Allow' => 'GET' } asks for other headers.
sub is_refusal {
    my ($self, $answer, $status, $explain, $name, %more) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my %got = (
        status => $answer->status, explain => $answer->explain, body => $answer->body,
        'Content-Length' => $answer->header('Content-Length'),
        Expires => $answer->header('Expires'), 'Cache-Control' => $answer->header('Cache-Control'),
        map { $_ => $answer->header($_) } keys %more,
    );
    my %want = (
        status => $status, explain => $explain, body => '', 'Content-Length' => 0, $self->cache_headers,
        %more,
    );
    return Test::More::is_deeply(\%got, \%want, $name);
}

# The two headers that go with nearly every answer of the module.
sub cache_headers {
    return ('Expires', 'Thu, 01 Jan 1970 00:00:01 GMT',
        'Cache-Control', 'no-cache, no-store, must-revalidate');
}

# HTTP date of a Unix time, and back.
sub http_date {
    my (undef, $time) = @_;
    my @t = gmtime $time;
    return sprintf '%s, %02d %s %d %02d:%02d:%02d GMT', (qw(Sun Mon Tue Wed Thu Fri Sat))[$t[6]], $t[3],
        (qw(Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec))[$t[4]], $t[5] + 1900, @t[2, 1, 0];
}

sub epoch {
    my (undef, $date) = @_;
    my ($day, $name, $year, $h, $m, $s) =
        $date =~ /\A\w{3}, (\d\d) (\w{3}) (\d{4}) (\d\d):(\d\d):(\d\d) GMT\z/ or return;
    my $month = index('JanFebMarAprMayJunJulAugSepOctNovDec', $name) / 3;
    require Time::Local;
    return Time::Local::timegm($s, $m, $h, $day, $month, $year);
}

# Waits for the beginning of the next second of the clock. Messages that are then published at once are likely
# to have the same time, and a later time than earlier ones.
sub next_second {
    my ($self) = @_;
    my $now = int time;
    return $self->wait_for(sub { my $t = time; int $t > $now && $t - int $t > 0.05 }, 'the next second');
}

# True if nothing arrives at that client (or exchange) during that many seconds.
sub quiet_for {
    my ($self, $client, $seconds) = @_;
    $client = $client->client if $client->can('client');
    my $before = $client->{received};
    my $end = time + $seconds;
    $CLIENT->can('pump')->(0.02) while time < $end && $client->{received} == $before && !$client->{eof};
    return $client->{received} == $before && !$client->{eof};
}

sub _slurp {
    my ($path) = @_;
    open my $file, '<:raw', $path or return '';
    local $/;
    return scalar(<$file>) // '';
}

1;
