package Test::Nginx::PushStream::Page;

# A page of docs/, followed word by word: what a reader would type is run, and what appears is compared.
#
#   my $page = Test::Nginx::PushStream::Page->new('docs/quick-start.md');
#   $page->blocks                      # ({ language, text, line }, ...): the code blocks
#   $page->strangers                   # code that is not part of a file to which the page links
#
#   my $t = $page->nginx('quick-start.conf', root => 'docs/examples/quick-start')->run;
#   $page->program($t, 9000, 'docs/examples/notifications/site.py');
#   $page->follow($t);                 # runs the blocks "console", with one assertion for each command
#   $page->stop($t);                   # ends the commands that stay open
#
# In a block "console" a line that begins with "$ " is a command, and the lines up to the next one are what it prints.
# "…" in them stands for any text within a line. A curl with -N stays open: the page says what it has printed by then, and
# `follow` waits until that is there. Addresses of the page, 127.0.0.1 with a port, become those of the test.

use strict;
use warnings;

use Carp qw(croak);
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use File::Spec::Functions qw(canonpath);
use Test::More ();
use Test::Nginx::PushStream ();

(my $ROOT = abs_path(__FILE__)) =~ s{/t/lib/Test/Nginx/PushStream/[^/]+\z}{};

# These languages are not code: what somebody types, and what comes over the wire.
my %IS_NO_CODE = map { $_ => 1 } '', qw(console text http);

sub root { return $ROOT }

sub slurp {
    my ($path) = @_;
    open my $file, '<:raw', "$ROOT/$path" or croak "$path: $!";
    local $/;
    return scalar(<$file>) // '';
}

sub new {
    my ($class, $name) = @_;
    return bless { name => $name, text => slurp($name), jobs => [], ports => {} }, $class;
}

sub blocks {
    my ($self) = @_;
    my (@blocks, $block, $indent);
    my $number = 0;
    for my $line (split /^/, $self->{text}) {
        $number++;
        if ($block && $line =~ /^\s*```\s*$/) {
            push @blocks, $block;
            undef $block;
        } elsif ($block) {
            $block->{text} .= $line =~ s/^ {0,$indent}//r;
        } elsif ($line =~ /^(\s*)```\s*(\S*)/) {
            $indent = length $1;
            $block = { language => $2, text => '', line => $number };
        }
    }
    return @blocks;
}

# Files in the project to which the page links.
sub files {
    my ($self) = @_;
    my %files;
    for my $link ($self->{text} =~ /\]\(([^()\s#]+)(?:#[^()\s]*)?\)/g) {
        next if $link =~ /^[a-z]+:/;
        my $path = canonpath(dirname($self->{name}) . "/$link");
        1 while $path =~ s{(^|/)(?!\.\.)[^/]+/\.\./}{$1};
        $files{$path} = 1 if -f "$ROOT/$path" && $path !~ /\.md$/;
    }
    return sort keys %files;
}

# The same lines without the indentation that all of them have.
sub _outdented {
    my (@lines) = @_;
    my ($least) = sort { $a <=> $b } map { /^( *)\S/ ? length $1 : () } @lines;
    $least //= 0;
    return join '', map { s/^ {0,$least}//r } @lines;
}

# True if the block is a run of whole lines of the file, indentation aside.
sub is_part_of {
    my ($self, $block, $path) = @_;
    my @want = split /^/, $block->{text};
    my @have = split /^/, slurp($path);
    my $text = _outdented(@want);
    for my $start (0 .. @have - @want) {
        return 1 if _outdented(@have[$start .. $start + $#want]) eq $text;
    }
    return 0;
}

sub strangers {
    my ($self) = @_;
    my @files = $self->files;
    return grep {
        my $block = $_;
        !$IS_NO_CODE{ $block->{language} } && !grep { $self->is_part_of($block, $_) } @files;
    } $self->blocks;
}

# ---- nginx

my %MODULE_OF = (
    auth_request => 'http_auth_request_module', secure_link => 'http_secure_link_module', real_ip_header => 'http_realip_module',
);

# Modules of nginx that a configuration needs and that are not built into this one.
sub lacks {
    my (undef, $configuration) = @_;
    return grep { !Test::Nginx::PushStream->has_feature($_) }
        map { $configuration =~ /^\s*$_\s/m ? $MODULE_OF{$_} : () } sort keys %MODULE_OF;
}

# The http block of a file of nginx-conf/, with ports of the test's own. root => directory: what stands in "root ...;",
# with copies of its files and of the browser client's.
sub http {
    my ($self, $conf, %o) = @_;
    my ($http) = slurp("nginx-conf/$conf") =~ /^http \{\n(.*)^\}/ms or croak "$conf has no http block";
    $http =~ s/\b127\.0\.0\.1:(\d+)/127.0.0.1:%%PORT_$1%%/g;
    $http =~ s{^(\s+root) \S+;}{$1 %%TESTDIR%%/root;}mg;
    $http =~ s{(proxy_cache_path) \S+}{$1 %%TESTDIR%%/cache}g;
    # How many subscribers there are, so that the test knows when a command listens.
    $http =~ s/(\n    server \{\n)/$1        location = \/of-the-test { push_stream_channels_statistics; push_stream_channels_path ''; }\n/
        if $http =~ /push_stream_/;
    return $http;
}

# A server that has this configuration. More arguments are those of Test::Nginx::PushStream->new. Skips the suite if this
# nginx cannot have it.
sub nginx {
    my ($self, $conf, %o) = @_;
    my @lacks = $self->lacks($self->http($conf));
    Test::More::plan(skip_all => "this nginx has no @lacks") if @lacks;
    my $files = delete $o{root};
    my $t = Test::Nginx::PushStream->new(workers => 2, %o)->http($self->http($conf));
    $self->serve($t, $files) if $files;
    return $t;
}

# Puts the files of a directory, and those of the browser client, where the server looks for files.
sub serve {
    my ($self, $t, $directory) = @_;
    mkdir $t->dir . '/root';
    chmod 0755, $t->dir, $t->dir . '/root';
    my @paths = map { s{^\Q$ROOT\E/}{}r } grep { -f } glob "$ROOT/$directory/*";
    $t->write_file('root/' . s{.*/}{}r, slurp($_)) for @paths, 'client/dist/index.js';
    return $self;
}

# Starts a program of the page on the port that the page calls so, and waits until it accepts connections.
sub program {
    my ($self, $t, $port, $program) = @_;
    my $real = $t->port($port);
    my $pid = fork // die "fork: $!";
    if (!$pid) {
        open STDIN,  '<', '/dev/null';
        open STDOUT, '>', $t->dir . "/program.$port.log";
        open STDERR, '>&', \*STDOUT;
        exec "$ROOT/$program", $real or POSIX::_exit(127);
    }
    push @{ $self->{jobs} }, { pid => $pid, program => 1 };
    $t->wait_for(sub { Test::Nginx::PushStream::Client->new(port => $real, quiet => 1) }, "$program to listen");
    return $self;
}

sub _subscribers { my ($t) = @_; return ($t->stats('/of-the-test') // {})->{subscribers} // -1 }

# ---- what a reader does

sub _commands {
    my ($self) = @_;
    my @commands;
    for my $block (grep { $_->{language} eq 'console' } $self->blocks) {
        for my $line (split /^/, $block->{text}) {
            if ($line =~ /^\$ (.*)/s) {
                push @commands, { command => $1, prints => '', line => $block->{line} };
            } elsif (@commands && $commands[-1]{command} =~ /\\\n\z/) {
                $commands[-1]{command} .= $line;
            } else {
                $commands[-1]{prints} .= $line;
            }
        }
    }
    return @commands;
}

sub _pattern {
    my ($text) = @_;
    my $any = "\xe2\x80\xa6";    # "…" in UTF-8
    # Spaces at the end of a line, and empty lines at the end, cannot be seen in a page.
    my @lines = split /\n/, $text =~ s/\s+\z//r;
    return join '\n', map { join('[^\n]*', map {quotemeta} split /$any/, s/ +\z//r, -1) . ' *' } @lines;
}

# Runs the commands of the page in order. matching => regex leaves out all others; before => { regex => sub } is called
# before those commands; in => directory, and env => { name => value }, are those of the commands.
sub follow {
    my ($self, $t, %o) = @_;
    for my $command ($self->_commands) {
        my $text = $command->{command} =~ s/\b127\.0\.0\.1:(\d+)/'127.0.0.1:' . $t->port($1)/ger;
        chomp $text;
        next if $o{matching} && $text !~ $o{matching};
        for my $pattern (keys %{ $o{before} // {} }) {
            $o{before}{$pattern}->() if $text =~ $pattern;
        }
        my $stays = $text =~ /^curl -\w*N/;
        my $before = $stays ? _subscribers($t) : 0;
        my $output = $t->dir . '/command.' . @{ $self->{jobs} } . '.log';
        my $pid = fork // die "fork: $!";
        if (!$pid) {
            open STDIN,  '<', '/dev/null';
            open STDOUT, '>', $output;
            open STDERR, '>', "$output.stderr";
            chdir($o{in} // $ROOT);
            @ENV{ keys %{ $o{env} } } = values %{ $o{env} } if $o{env};
            exec 'bash', '-c', $stays ? "exec $text" : $text or POSIX::_exit(127);
        }
        my $job = { pid => $pid, output => $output, %$command };
        push @{ $self->{jobs} }, $job;
        if ($stays) {
            $t->wait_for(sub { _subscribers($t) > $before }, "a subscriber by $text");
        } else {
            $t->wait_for(sub { waitpid($pid, POSIX::WNOHANG()) == $pid }, "$text to end");
            delete $job->{pid};
            $self->_compare($job);
        }
    }
    for my $job (grep { $_->{pid} && !$_->{program} } @{ $self->{jobs} }) {
        my $pattern = _pattern($job->{prints});
        $t->wait_for(sub { _printed($job) =~ /\A$pattern$/m }, "what $job->{command} prints");
        $self->_compare($job, 'so far');
    }
    return $self;
}

sub _printed { my ($job) = @_; return Test::Nginx::PushStream::_slurp($job->{output}) =~ s/\r//gr }

sub _compare {
    my ($self, $job, $is_open) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 2;
    my $pattern = _pattern($job->{prints});
    my $printed = _printed($job);
    chomp(my $name = $job->{command});
    Test::More::like($printed, $is_open ? qr/\A$pattern$/m : qr/\A$pattern\s*\z/, "$self->{name}, line $job->{line}: $name")
        or Test::More::diag(Test::Nginx::PushStream::_slurp("$job->{output}.stderr"));
    return;
}

# Programs go on until the page is forgotten.
sub stop {
    my ($self, $all) = @_;
    for my $job (grep { $_->{pid} && ($all || !$_->{program}) } @{ $self->{jobs} }) {
        kill 'TERM', $job->{pid};
        waitpid delete $job->{pid}, 0;
    }
    return $self;
}

sub DESTROY { local ($?, $@, $!); $_[0]->stop(1); return }

1;
