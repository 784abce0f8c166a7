package Test::Nginx::PushStream::Metrics;

# Reads metrics: a strict parser of both formats, and the tools of Prometheus where they are at hand.
#
#   my %series = %{ scrape($t, 'open') };      'nginx_push_stream_subscribers{mode="polling"}' => 3
#   my @faults = faults($text, 'text');        what is wrong with it, by our own rules
#   promtool('check', 'metrics', \$text)       undef without promtool, else its exit code and output

use strict;
use warnings;

use Exporter qw(import);
use File::Basename qw(dirname);
use File::Temp;

our @EXPORT_OK = qw(scrape series faults promtool has_promtool parsed_by_python %ACCEPT %TYPE);

my $ROOT = dirname(__FILE__) . '/../../../../..';
my $TOOLS = "$ROOT/target/prometheus/usr";

our %ACCEPT = (text => 'text/plain;version=0.0.4', open => 'application/openmetrics-text;version=1.0.0');
our %TYPE = (
    text => 'text/plain; version=0.0.4; charset=utf-8',
    open => 'application/openmetrics-text; version=1.0.0; charset=utf-8',
);

# The samples of a scrape, after it was checked.
sub scrape {
    my ($t, $format, $uri, @rest) = @_;
    $format //= 'text';
    my $answer = $t->get($uri // '/metrics', Accept => $ACCEPT{$format}, @rest);
    my $status = $answer->status // 'nothing';
    die "a scrape answers $status\n" unless $status eq '200';
    my @faults = faults($answer->body, $format);
    die "a scrape is wrong: $faults[0]\n" if @faults;
    return series($answer->body);
}

sub series {
    my ($text) = @_;
    return { map { /\A(.*) (\S+)\z/ ? ($1 => $2) : () } grep { !/\A#/ } split /\n/, $text };
}

# The rules of "Exposition formats" and of OpenMetrics 1.0 that our metrics could break.
sub faults {
    my ($text, $format) = @_;
    my $is_open = $format eq 'open';
    my @faults;
    push @faults, 'it does not end with a line end' unless $text =~ /\n\z/;
    push @faults, 'carriage return' if $text =~ /\r/;
    push @faults, 'empty line' if $text =~ /^$/m;
    my @ends = $text =~ /^# EOF$/mg;
    push @faults, 'not "# EOF" at the end and nowhere else'
        if $is_open ? @ends != 1 || $text !~ /\n# EOF\n\z/ : @ends;
    my (%type, %help, %seen, %family_seen, $family, @words, %last);
    for my $line (split /\n/, $text) {
        next if $line eq '# EOF';
        if ($line =~ /\A# (TYPE|UNIT|HELP) ([a-z_:][a-z0-9_:]*) (.+)\z/) {
            my ($word, $name, $rest) = ($1, $2, $3);
            if (!defined $family || $name ne $family) {
                push @faults, "$name comes twice" if $family_seen{$name}++;
                push @faults, "no samples of $family" if defined $family && !$last{$family};
                ($family, @words) = $name;
            }
            push @words, $word;
            my $order = $is_open ? qr/\ATYPE( UNIT)?( HELP)?\z/ : qr/\AHELP( TYPE)?\z/;
            push @faults, "order of @words of $name" unless "@words" =~ $order;
            $type{$name} = $rest if $word eq 'TYPE';
            $help{$name} = $rest if $word eq 'HELP';
            push @faults, "unit $rest of $name" if $word eq 'UNIT' && $name !~ /_\Q$rest\E\z/;
            push @faults, "help of $name: $rest" if $word eq 'HELP' && $rest !~ /\A[A-Z][^\\]*\.\z/;
            next;
        }
        my $value = qr/\\\\|\\"|\\n|[^"\\\n]/;
        unless ($line =~ /\A([a-z_][a-z0-9_]*)(?:\{((?:[a-z_]+="$value*"(?:,(?!\})|(?=\})))+)\})? ([0-9]+(?:\.[0-9]+)?)\z/) {
            push @faults, "not a sample: $line";
            next;
        }
        my ($name, $labels, $number) = ($1, $2 // '', $3);
        (my $key = $line) =~ s/ \S+\z//;
        push @faults, "$key comes twice" if $seen{$key}++;
        unless (defined $family) { push @faults, "$name has no family"; next }
        $last{$family}++;
        my $type = $type{$family} // 'none';
        my %may = $type eq 'counter' ? ($is_open ? "${family}_total" : $family, 1)
            : $type eq 'histogram' ? map { ("${family}_$_", 1) } qw(bucket sum count) : ($family, 1);
        push @faults, "$name is not of $family" unless $may{$name};
        push @faults, "the counter $name does not end with _total" if $type eq 'counter' && $name !~ /_total\z/;
        push @faults, "the $type $family ends with _total" if $type ne 'counter' && $family =~ /_total\z/;
        push @faults, "$key is no whole number" if $number =~ /\./ && $name !~ /_seconds(?:_sum)?\z/;
        push @faults, map { "label $_" } grep { /\A(?:zone|type|cluster|instance|job|env)\z/ } $labels =~ /([a-z_]+)="/g;
        if ($name =~ /_bucket\z/) {
            my ($le) = $labels =~ /le="([^"]+)"/;
            push @faults, "le of $key" unless defined $le && $le =~ /\A(?:\+Inf|[0-9]+\.[0-9]+)\z/;
            my ($before, $count) = @{ $last{"$family le"} // [ -1, 0 ] };
            push @faults, "$key: buckets in order" unless ($le eq '+Inf' ? 9e99 : $le) > $before && $number >= $count;
            $last{"$family le"} = [ $le eq '+Inf' ? 9e99 : $le, $number ];
        }
        push @faults, "$key is not the last bucket" if $name =~ /_count\z/ && $last{"$family le"}[1] != $number;
    }
    push @faults, "$_ has no type" for grep { !$type{$_} } keys %help;
    push @faults, "$_ has no help" for grep { !$help{$_} } keys %type;
    return @faults;
}

sub has_promtool { return _promtool() ? 1 : 0 }

sub _promtool {
    my ($own) = grep { -x } $ENV{PROMTOOL} // (), "$TOOLS/bin/promtool", '/usr/bin/promtool', '/usr/local/bin/promtool';
    return $own;
}

# Exit code and output of promtool. The last argument may be a reference to what it reads.
sub promtool {
    my (@arguments) = @_;
    my $tool = _promtool() or return;
    return _run(ref $arguments[-1] ? pop @arguments : \'', $tool, @arguments);
}

# The samples as Python's parser of OpenMetrics reads them; undef without it. Dies if it refuses them.
sub parsed_by_python {
    my ($text) = @_;
    local $ENV{PYTHONPATH} = "$TOOLS/lib/python3/dist-packages";
    return unless (_run(\'', 'python3', '-c', 'import prometheus_client.openmetrics.parser'))[0] == 0;
    my ($code, $output) = _run(\$text, 'python3', '-c', <<'PYTHON');
import sys
from prometheus_client.openmetrics import parser
for family in parser.text_string_to_metric_families(sys.stdin.read()):
    for sample in family.samples:
        labels = ",".join('%s="%s"' % pair for pair in sample.labels.items())
        print("%s%s\t%s" % (sample.name, "{" + labels + "}" if labels else "", sample.value))
PYTHON
    die "Python's parser: $output\n" if $code;
    return { map { split /\t/ } split /\n/, $output };
}

sub _run {
    my ($input, @command) = @_;
    my $in = File::Temp->new;
    print $in $$input;
    close $in;
    my $out = File::Temp->new;
    my $pid = fork // die "fork: $!\n";
    if (!$pid) {
        open STDIN, '<', $in->filename or die;
        open STDOUT, '>', $out->filename or die;
        open STDERR, '>&', \*STDOUT or die;
        exec { $command[0] } @command or die;
    }
    waitpid $pid, 0;
    my $code = $? >> 8 || $? & 127;
    open my $file, '<', $out->filename or die;
    local $/;
    return ($code, scalar(<$file>) // '');
}

1;
