# The container files name only what is there, their commands are shell, and what they do to nginx's configuration
# loads the module. No container is made.
#
# Proves none of them: docs/guide/install.md, "In a container".

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;

my $root = "$FindBin::Bin/..";
my %ignored = map { $_ => 1 } split /\n/, do { local (@ARGV, $/) = "$root/.dockerignore"; <> };
ok($ignored{target}, 'results of builds are no part of the context');

my $t = Test::Nginx::PushStream->new;
my @files = glob "$root/container/*.Containerfile";
is(scalar @files, 2, 'two container files');

for my $file (@files) {
    my ($name) = $file =~ m{([^/]+)\.Containerfile\z};
    my $text = do { local (@ARGV, $/) = $file; <> };
    my @steps = grep { /\S/ && !/^#/ } split /\n/, $text =~ s/\\\n\s*/ /gr;
    my %stage;
    for my $step (@steps) {
        my ($word, $rest) = $step =~ /^([A-Z]+) (.+)\z/ or fail("$name: not an instruction: $step"), next;
        if    ($word eq 'FROM') { $stage{$1} = 1 if $rest =~ /^\S+ AS (\w+)\z/ }
        elsif ($word eq 'COPY' && $rest =~ /^--from=(\w+) (\S+) \S+\z/) { ok($stage{$1}, "$name: copies from a stage that was made") }
        elsif ($word eq 'COPY') { ok((!grep { !-e "$root/$_" } (split ' ', $rest)[0]), "$name: copies what is there") }
        elsif ($word eq 'RUN') {
            open my $shell, '|-', 'sh', '-n' or die $!;
            print {$shell} $rest;
            ok(close $shell, "$name: is shell: " . substr $rest, 0, 40);
            -x "$root/$_" or fail("$name: there is no $_") for $rest =~ m{\b(scripts/[\w-]+)}g;
        }
        else { like($word, qr/\A(?:ARG|ADD|WORKDIR|EXPOSE|STOPSIGNAL|CMD)\z/, "$name: $word is an instruction") }
    }
    is($steps[-1] =~ /^RUN .*nginx -t\z/ || $text =~ /&& nginx -t$/m ? 1 : 0, 1, "$name: the image's configuration is tested");
}

# What the file for nginx's image does to nginx.conf, with our paths.
my $text = do { local (@ARGV, $/) = "$root/container/nginx.Containerfile"; <> };
my ($edit) = $text =~ m{(sed -i '[^']+') /etc/nginx/nginx\.conf} or fail('the file edits nginx.conf');
my $conf = $t->write_file('image.conf', "\nuser  nginx;\nworker_processes  auto;\nevents { }\nhttp { }\n");
is(system("$edit $conf"), 0, 'the edit works');
my $edited = do { local (@ARGV, $/) = $conf; <> };
my $module = Test::Nginx::PushStream::module_path();
$edited =~ s{^load_module modules/ngx_http_push_stream_module\.so;}{load_module $module;} or fail('the first line loads the module');
$edited =~ s/^user.*\n//m;
$edited =~ s/http \{ \}/http { access_log off; push_stream_shared_memory_size 1m; }/;
my ($ok, $said) = $t->try_config("pid nginx.pid; error_log error.log;\n" . ($edited =~ s/^(load_module[^\n]*\n)//r), raw => 1);
ok(!$ok, 'the directives need the module');
($ok, $said) = $t->try_config("$edited pid nginx.pid; error_log error.log;", raw => 1);
ok($ok, 'nginx takes the edited configuration') or diag $said;

$t->done;
