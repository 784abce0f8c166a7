//! The targets of the module, and whether it reaches them.

use crate::report::{self, Report};
use crate::statistics::{grouped, rounded};
use crate::{BARE, MANY, MERGING, NCHAN, OURS};

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Verdict {
    Met,
    NotMet,
    /// Something that it needs was not measured.
    Unknown,
}

impl Verdict {
    pub(crate) fn text(&self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::NotMet => "NOT MET",
            Self::Unknown => "not measured",
        }
    }
}

/// A target and how far it is reached.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Judged {
    pub(crate) what: &'static str,
    pub(crate) wanted: String,
    pub(crate) found: String,
    pub(crate) verdict: Verdict,
}

#[derive(Debug, Clone, Copy)]
enum Rule {
    /// The value, as a multiple of that of another peer or scenario, is at most this.
    Ratio { of: Source, to: Source, most: f64 },
    /// The value is at least this multiple of the other.
    Multiple { of: Source, to: Source, least: f64 },
    /// The value is at most this.
    Most { of: Source, most: f64 },
    /// As `Multiple`, where there is a processor for the generator beside those of two workers.
    WithThreeProcessors { of: Source, to: Source, least: f64 },
}

#[derive(Debug, Clone, Copy)]
struct Source {
    scenario: &'static str,
    peer: &'static str,
    value: &'static str,
}

const fn ours(scenario: &'static str, value: &'static str) -> Source {
    Source { scenario, peer: OURS, value }
}

const fn of(peer: &'static str, scenario: &'static str, value: &'static str) -> Source {
    Source { scenario, peer, value }
}

/// The CPU of a scenario is at most this multiple of the same peer's or another scenario's.
const fn cpu(scenario: &'static str, peer: &'static str, most: f64) -> Rule {
    Rule::Ratio { of: ours(scenario, report::CPU), to: of(peer, scenario, report::CPU), most }
}

const fn burden(name: &'static str) -> Rule {
    Rule::Ratio {
        of: of(name, "size", report::CPU),
        to: of("empty", "size", report::CPU),
        most: 1.05,
    }
}

const fn rate(scenario: &'static str) -> Rule {
    let (ours, nchan) = (ours(scenario, report::RATE), of(NCHAN, scenario, report::RATE));
    Rule::Multiple { of: ours, to: nchan, least: 6.0 }
}

const fn most(scenario: &'static str, value: &'static str, most: f64) -> Rule {
    Rule::Most { of: ours(scenario, value), most }
}

const fn tuned(scenario: &'static str) -> Rule {
    Rule::Most { of: of(MANY, scenario, report::BYTES), most: 4_096.0 }
}

/// The targets, with the words for what is compared.
const TARGETS: &[(&str, Rule)] = &[
    ("wide: CPU against the merging floor", cpu("wide", MERGING, 1.3)),
    ("wide: deliveries a second against nchan", rate("wide")),
    ("fast: CPU against the merging floor", cpu("fast", MERGING, 1.3)),
    ("fast: deliveries a second against nchan", rate("fast")),
    ("single: CPU against the bare floor", cpu("single", BARE, 1.10)),
    ("instructions a delivery, 1,000 subscribers", most("i-single", report::INSTRUCTIONS, 450.0)),
    ("many: CPU against the bare floor", cpu("many", BARE, 1.15)),
    ("poll: CPU against nchan", cpu("poll", NCHAN, 0.75)),
    ("poll-many: CPU against nchan", cpu("poll-many", NCHAN, 0.75)),
    ("instructions a long poll cycle", most("i-poll", report::INSTRUCTIONS, 15_000.0)),
    (
        "long polling with 10,000 messages stored: CPU against few",
        Rule::Ratio {
            of: ours("poll-stored", report::CPU),
            to: ours("poll", report::CPU),
            most: 1.05,
        },
    ),
    ("publish-stored: CPU against nchan", cpu("publish-stored", NCHAN, 0.75)),
    ("publish: CPU against nchan", cpu("publish", NCHAN, 0.75)),
    ("instructions a stored publish", most("i-publish-stored", report::INSTRUCTIONS, 12_000.0)),
    ("instructions a publish", most("i-publish", report::INSTRUCTIONS, 12_000.0)),
    (
        "publish-two: rate of two workers against one",
        Rule::WithThreeProcessors {
            of: ours("publish-two", report::RATE),
            to: ours("publish-stored", report::RATE),
            least: 1.7,
        },
    ),
    (
        "connect: CPU against push-stream (--with push-stream=FILE)",
        cpu("connect", "push-stream", 1.0),
    ),
    (
        "connect-backlog: CPU against connecting without",
        Rule::Ratio {
            of: ours("connect-backlog", report::CPU),
            to: ours("connect", report::CPU),
            most: 1.3,
        },
    ),
    (
        "rate: p99 against the bare floor",
        Rule::Ratio { of: ours("rate", report::P99), to: of(BARE, "rate", report::P99), most: 1.2 },
    ),
    ("memory of an idle streaming subscriber", most("idle", report::BYTES, 6_656.0)),
    ("of an idle EventSource subscriber", most("idle-eventsource", report::BYTES, 6_656.0)),
    ("of an idle WebSocket subscriber", most("idle-websocket", report::BYTES, 6_656.0)),
    ("of a streaming one, many-subscribers.conf", tuned("idle")),
    ("of an EventSource one, many-subscribers.conf", tuned("idle-eventsource")),
    ("of a WebSocket one, many-subscribers.conf", tuned("idle-websocket")),
    ("memory of a stored message, without its text", most("stored-messages", report::BYTES, 64.0)),
    ("memory of a channel, without its id", most("channels", report::BYTES, 192.0)),
    ("nginx -t with 8 GB: seconds", most("check", report::SECONDS, 0.1)),
    ("nginx -t with 8 GB: resident bytes", most("check", report::BYTES, 16_777_216.0)),
    ("CPU with 1,000,000 stored messages against empty", burden("1,000,000 stored messages")),
    ("CPU with 100,000 other channels against empty", burden("100,000 other channels")),
    ("CPU with 15,000 idle subscribers against empty", burden("15,000 idle subscribers")),
];

/// All targets whose scenarios are in the report, at least in part.
pub(crate) fn judge(report: &Report) -> Vec<Judged> {
    let mut judged = Vec::new();
    for &(what, rule) in TARGETS {
        let value = |source: Source| report.median(source.scenario, source.peer, source.value);
        let (source, other) = match rule {
            Rule::Ratio { of, to, .. }
            | Rule::Multiple { of, to, .. }
            | Rule::WithThreeProcessors { of, to, .. } => (of, Some(to)),
            Rule::Most { of, .. } => (of, None),
        };
        if report.outcome(source.scenario).is_none() {
            continue;
        }
        let found = match other {
            None => value(source),
            Some(other) => value(source).zip(value(other)).map(|(value, other)| value / other),
        };
        let (wanted, limit, at_most) = match rule {
            Rule::Ratio { most, .. } => (format!("at most {most:.2} x"), most, true),
            Rule::Most { most, .. } if most >= 1000.0 => {
                (format!("at most {}", grouped(most as i64)), most, true)
            }
            Rule::Most { most, .. } => (format!("at most {}", rounded(most)), most, true),
            Rule::Multiple { least, .. } | Rule::WithThreeProcessors { least, .. } => {
                (format!("at least {least:.1} x"), least, false)
            }
        };
        let crowded = matches!(rule, Rule::WithThreeProcessors { .. }) && report.machine.cpus < 3;
        let verdict = match found {
            None => Verdict::Unknown,
            Some(_) if crowded => Verdict::Unknown,
            Some(found) if (found <= limit) == at_most || found == limit => Verdict::Met,
            Some(_) => Verdict::NotMet,
        };
        let found = match (found, other) {
            (None, _) => String::new(),
            (Some(found), Some(_)) if crowded => {
                format!("{found:.2} x, but there is no third processor")
            }
            (Some(found), Some(_)) => format!("{found:.2} x"),
            (Some(found), None) => rounded(found),
        };
        judged.push(Judged { what, wanted, found, verdict });
    }
    judged
}

/// As a table, with a head.
pub(crate) fn lines(judged: &[Judged]) -> Vec<Vec<String>> {
    let mut lines = vec![["target", "wanted", "found", ""].map(str::to_owned).to_vec()];
    lines.extend(judged.iter().map(|it| {
        vec![it.what.to_owned(), it.wanted.clone(), it.found.clone(), it.verdict.text().to_owned()]
    }));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Machine, Outcome, Run, Values};

    /// A scenario, and for each peer a value.
    type Found<'a> = (&'a str, &'a [(&'a str, &'a str, f64)]);

    fn report(cpus: usize, outcomes: &[Found]) -> Report {
        let machine = Machine {
            processor: String::new(),
            cpus,
            memory_bytes: 0,
            kernel: String::new(),
            versions: Default::default(),
        };
        let outcomes = outcomes.iter().map(|(scenario, values)| Outcome {
            scenario: (*scenario).into(),
            title: String::new(),
            unit: String::new(),
            runs: values
                .iter()
                .map(|(peer, value, number)| Run {
                    peer: (*peer).into(),
                    values: Values::from([((*value).into(), *number)]),
                    failure: None,
                })
                .collect(),
        });
        Report { when: 0, machine, took_seconds: 0, outcomes: outcomes.collect() }
    }

    #[test]
    fn targets_are_judged_by_what_was_measured() {
        let report = report(
            2,
            &[
                ("fast", &[(OURS, report::CPU, 1.2), (MERGING, report::CPU, 1.0)]),
                ("single", &[(OURS, report::CPU, 1.2), (BARE, report::CPU, 1.0)]),
                ("publish-two", &[(OURS, report::RATE, 2.0)]),
                ("publish-stored", &[(OURS, report::RATE, 1.0)]),
                ("check", &[(OURS, report::SECONDS, 0.05)]),
            ],
        );
        let judged = judge(&report);
        let verdict = |what: &str| {
            let judged: Vec<_> = judged.iter().filter(|it| it.what.starts_with(what)).collect();
            judged.iter().map(|it| (it.found.clone(), it.verdict.clone())).collect::<Vec<_>>()
        };
        assert_eq!(verdict("fast: CPU"), [("1.20 x".into(), Verdict::Met)]);
        assert_eq!(verdict("fast: deliveries"), [(String::new(), Verdict::Unknown)]);
        assert_eq!(verdict("single"), [("1.20 x".into(), Verdict::NotMet)]);
        assert_eq!(verdict("publish-two")[0].1, Verdict::Unknown);
        assert_eq!(verdict("nginx -t with 8 GB: seconds"), [("0.0500".into(), Verdict::Met)]);
        assert!(verdict("wide").is_empty());
    }
}
