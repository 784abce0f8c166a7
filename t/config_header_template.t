# The header template and its file share one slot: one level takes only one of them, and an inner level wins
# over an outer one. Which files are accepted.
#
# Proves directives.md: push_stream_header_template, push_stream_header_template_file.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;
use Test::Nginx::PushStream::Config;

my $c = Test::Nginx::PushStream::Config->new;
$c->t->write_file('header.html', "<html>\r\n\\n\0");
$c->t->write_file('empty.html', '');

my $sub = 'push_stream_subscriber;';
my $text = 'push_stream_header_template "text";';
my $file = 'push_stream_header_template_file "%%TESTDIR%%/header.html";';

for my $level (qw(http server location)) {
    my $at = sub { my ($lines) = @_; my %conf = (location => $sub); $conf{$level} .= $lines; return \%conf };
    $c->accepts($at->($text), "template in $level");
    $c->accepts($at->($file), "file in $level");
    $c->refuses($at->("$text $file"),
        qr/\[emerg\] .*"push_stream_header_template_file" directive is duplicate or template set by 'push_stream_header_template' in /,
        "template then file in $level");
    $c->refuses($at->("$file $text"), qr/\[emerg\] .*"push_stream_header_template" directive is duplicate in /,
        "file then template in $level");
    $c->refuses($at->("$file $file"), qr/"push_stream_header_template_file" directive is duplicate or/,
        "file twice in $level");
    $c->refuses($at->('push_stream_header_template ""; ' . $file), qr/directive is duplicate or template set/,
        "an empty template takes the slot in $level");
    $c->refuses($at->('push_stream_header_template_file "%%TESTDIR%%/empty.html"; ' . $text), qr/directive is duplicate/,
        "an empty file takes the slot in $level");
}
$c->accepts({ http => $text, location => "$sub $file" }, 'file inside template');
$c->accepts({ http => $file, location => "$sub $text" }, 'template inside file');

$c->refuses("$sub push_stream_header_template_file /no/such/file.html;",
    qr{\[error\] .*push stream module: unable to open file "/no/such/file.html" for header template \(2: No such file or directory\) in \S+:\d+},
    'missing file');
$c->refuses("$sub push_stream_header_template_file %%TESTDIR%%;",
    qr{unable to open file "\S+" for header template \(21: Is a directory\)}, 'a directory');
# nginx reads the first byte of a name whatever its length (valgrind notices where that is not ours).
$c->refuses("$sub push_stream_header_template_file '';",
    qr{unable to open file "" for header template}, 'an empty name');

# relative to the directory of the configuration, which is try.N of the test's own
$c->accepts("$sub push_stream_header_template_file ../header.html;", 'a relative path');
$c->refuses("$sub push_stream_header_template_file header.html;",
    qr{unable to open file "header.html" for header template}, 'a relative path that is not there');

$c->done;
