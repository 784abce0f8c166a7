# Code that the quick start and the guides show is part of a file to which the page links, and the files of
# docs/examples/ are shown or named there.
#
# Proves none of them: the pages docs/quick-start.md and docs/guide/. The suites quick_start.t and guide_*.t run them.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;
use Test::Nginx::PushStream::Page;

my $root = Test::Nginx::PushStream::Page->root;
my @names = map { s{^\Q$root\E/}{}r } "$root/docs/quick-start.md", glob "$root/docs/guide/*.md";
my %shown;

for my $name (@names) {
    my $page = Test::Nginx::PushStream::Page->new($name);
    $shown{$_} = 1 for $page->files;
    my @strangers = map {"line $_->{line}: $_->{language}"} $page->strangers;
    is_deeply(\@strangers, [], "$name: each block of code is part of a file to which the page links");
}

my @left = grep { !$shown{$_} } map { s{^\Q$root\E/}{}r } grep { -f && !m{/Cargo\.lock\z} } glob "$root/docs/examples/*/*";
is_deeply(\@left, [], 'each file of docs/examples/ has a page that links to it');

done_testing();
