# docs/monitoring/: the alerts and their tests, the sample for Prometheus and the dashboard are right, and they
# use only metrics that there are.
#
# Proves none of them: these files are samples for other programs.

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::Nginx::PushStream;
use Test::Nginx::PushStream::Metrics qw(scrape promtool has_promtool);
use File::Temp;
use JSON::PP;

my $folder = "$FindBin::Bin/../docs/monitoring";

sub slurp {
    open my $file, '<', "$folder/$_[0]" or die "$_[0]: $!\n";
    local $/;
    return scalar <$file>;
}

my $t = Test::Nginx::PushStream->new->http(<<'EOC')->run();
    push_stream_shared_memory_size 1m;
    server {
        listen 127.0.0.1:%%PORT_8080%%;
        location /metrics { push_stream_metrics on; }
    }
EOC
my %there = map { s/\{.*//r => 1 } keys %{ scrape($t) };
my %labels;
for my $series (keys %{ scrape($t) }) {
    my ($name, $labels) = $series =~ /\A(\w+)(?:\{(.*)\})?/;
    $labels{$name}{"$1=$2"} = 1 while ($labels // '') =~ /(\w+)="([^"]*)"/g;
}

# Uses of metrics in an expression that there are not.
sub unknown {
    my ($expression) = @_;
    my @unknown = grep { !$there{$_} } $expression =~ /\b(nginx_push_stream_\w+)/g;
    while ($expression =~ /\b(nginx_push_stream_\w+)\{([^}]*)\}/g) {
        my ($name, $matchers) = ($1, $2);
        while ($matchers =~ /(\w+)="([^"]*)"/g) {
            push @unknown, "$name with $1=$2" unless $labels{$name}{"$1=$2"};
        }
    }
    return @unknown;
}

# the alerts
my $alerts = slurp('alerts.yml');
is_deeply([ unknown($alerts) ], [], 'the alerts use metrics that there are');
my @names = $alerts =~ /- alert: (\w+)/g;
my $tests = slurp('alerts_test.yml');
is_deeply([ grep { $tests !~ /alertname: $_\n\s+exp_alerts:\n/ || $tests !~ /alertname: $_\n\s+exp_alerts: \[\]/ } @names ], [],
    'each alert is tested, that it fires and that it does not');
SKIP: {
    skip 'no promtool (scripts/setup fetches it)', 3 unless has_promtool();
    for (['check', 'rules', "$folder/alerts.yml"], ['test', 'rules', "$folder/alerts_test.yml"],
        ['check', 'config', "$folder/prometheus.yml"]) {
        my ($code, $output) = promtool(@$_);
        is($code, 0, "promtool $_->[0] $_->[1]") or diag($output);
    }
}

# the dashboard
my $dashboard = decode_json(slurp('dashboard.json'));
ok(!defined $dashboard->{id} && !$dashboard->{editable}, 'the dashboard belongs to nobody and is not editable');
my %variable = map { $_->{name} => $_ } @{ $dashboard->{templating}{list} };
is_deeply([ sort keys %variable ], [qw(datasource instance job)], 'its variables');
is($variable{$_}{allValue}, '.+', "$_: all") for qw(job instance);
my @panels = grep { $_->{type} ne 'row' } map { $_, @{ $_->{panels} // [] } } @{ $dashboard->{panels} };
cmp_ok(scalar @panels, '>=', 20, 'panels');
my (@faults, @expressions, %used, %titles);
for my $panel (@panels) {
    my $title = $panel->{title} || 'a panel';
    push @faults, "$title comes twice" if $titles{$title}++;
    push @faults, "$title: no description" unless $panel->{description};
    push @faults, "$title: no unit" unless $panel->{fieldConfig}{defaults}{unit};
    push @faults, "$title: another data source"
        if grep { $_->{datasource}{uid} ne '${datasource}' } $panel, @{ $panel->{targets} };
    for my $expression (map { $_->{expr} } @{ $panel->{targets} }) {
        push @faults, "$title: $_" for unknown($expression);
        my @selectors = $expression =~ /\bnginx_push_stream_\w+(\{[^}]*\})?/g;
        push @faults, "$title: job and instance" if grep { !/job=~"\$job",instance=~"\$instance"/ } map { $_ // '' } @selectors;
        push @faults, "$title: a rate over a fixed time" if $expression =~ /\brate\([^\[]*\[(?!\$__rate_interval\])/;
        $used{$_}++ for $expression =~ /\b(nginx_push_stream_\w+)/g;
        push @expressions, $expression;
    }
}
is_deeply(\@faults, [], 'each panel is complete');
# A histogram is seen through its buckets.
my @unseen = grep { !$used{$_} && !/_(?:build_info|start_time_seconds|workers|sum|count)\z/ } sort keys %there;
is_deeply(\@unseen, [], 'every metric is seen in it');

SKIP: {
    skip 'no promtool (scripts/setup fetches it)', 1 unless has_promtool();
    my $rules = File::Temp->new(SUFFIX => '.yml');
    print $rules "groups:\n  - name: dashboard\n    rules:\n";
    my $number = 0;
    for my $expression (@expressions) {
        my $filled = $expression =~ s/\$__rate_interval|\$__range/5m/gr;
        $filled =~ s/\$(?:job|instance)\b/.+/g;
        print $rules '      - record: panel:', $number++, "\n        expr: ", JSON::PP->new->allow_nonref->encode($filled), "\n";
    }
    close $rules;
    my ($code, $output) = promtool('check', 'rules', "$rules");
    is($code, 0, 'promtool reads each expression') or diag($output);
}

$t->done();
