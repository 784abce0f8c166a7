# Every configuration in nginx-conf/ is accepted; only the one in the old dialect brings warnings.
#
# Proves directives.md: old-configurations (they load; t/old_dialect.t shows that they work).

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;
use Test::Nginx::PushStream::Page;

my $t = Test::Nginx::PushStream->new;
my %warnings = ('old-dialect.conf' => 4);
my @files = glob "$FindBin::Bin/../nginx-conf/*.conf";
ok(@files >= 3, 'there are samples');

for my $file (@files) {
    my ($name) = $file =~ m{([^/]+)\z};
    my $text = do { local (@ARGV, $/) = $file; <> };
    if (my @lacks = Test::Nginx::PushStream::Page->lacks($text)) {
        SKIP: { skip "this nginx has no @lacks", 2 }
        next;
    }
    my $module = Test::Nginx::PushStream::module_path();
    # Where a file names a place of its own, nginx -t would touch it.
    $text =~ s/^(load_module) \S*ngx_http_push_stream_module\.so;/$1 $module;/m or $text !~ /push_stream_/ or fail("$name loads the module");
    $text =~ s/^\s*(?:pid|error_log|user|daemon)\s[^;]*;//mg;
    $text =~ s/\b(proxy_cache_path) \S+/$1 cache/g;
    $text =~ s/\b127\.0\.0\.1:(\d+)/127.0.0.1:%%PORT_$1%%/g;
    $text =~ s/^(http \{)/$1 access_log off;/m if $text !~ /^    access_log\b/m;
    $text =~ s/\b(access_log) (?!off)\S+/$1 access.log/g;
    my ($ok, $said) = $t->try_config("pid nginx.pid; error_log error.log;\n$text", raw => 1);
    ok($ok, "$name is accepted") or diag $said;
    is(() = $said =~ /^nginx: \[warn\]/mg, $warnings{$name} // 0, "$name: number of warnings") or diag $said;
}

$t->done;
