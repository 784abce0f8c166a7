//! The part of `docs/benchmarks.md` that is made from a JSON file, and its plots.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::plot::{self, Group};
use crate::report::{self, Outcome, Report};
use crate::{OURS, table, target};

const BEGIN: &str = "<!-- The rest of this document is made by scripts/bench --plot. -->";

/// A chart: the file's name, the title, the value and the scenarios.
const CHARTS: [(&str, &str, &str, &[&str]); 4] = [
    (
        "cpu.svg",
        "Server CPU, microseconds (less is better)",
        report::CPU,
        &[
            "wide",
            "fast",
            "single",
            "many",
            "eventsource",
            "websocket",
            "tls",
            "kilobyte",
            "large",
            "bursts",
            "poll",
            "poll-many",
            "poll-stored",
            "publish-stored",
            "publish",
            "publish-two",
            "connect",
            "connect-backlog",
            "storm",
            "resume",
            "size",
        ],
    ),
    (
        "rate.svg",
        "Units of work in a second (more is better)",
        report::RATE,
        &["wide", "fast", "kilobyte", "large", "bursts", "publish-stored", "connect", "storm"],
    ),
    (
        "memory.svg",
        "Memory of the server, bytes (less is better)",
        report::BYTES,
        &["idle", "idle-eventsource", "idle-websocket", "idle-poll", "stored-messages", "channels"],
    ),
    (
        "instructions.svg",
        "User instructions (less is better)",
        report::INSTRUCTIONS,
        &["i-single", "i-single-100", "i-poll", "i-publish-stored", "i-publish", "i-subscribe"],
    ),
];

fn group(outcome: &Outcome, value: &str) -> Group {
    let bars = outcome.peers().into_iter();
    let bars = bars.filter_map(|peer| Some((peer.to_owned(), outcome.summary(peer, value)?)));
    let title = format!("{}: {}, a {}", outcome.scenario, outcome.title, outcome.unit);
    Group { title, bars: bars.collect() }
}

/// p50, p99 and p99.9 of each peer at a fixed rate.
fn latencies(report: &Report) -> Option<String> {
    let outcome = report.outcome("rate")?;
    let groups = outcome.peers().into_iter().map(|peer| {
        let names = [("p50", report::P50), ("p99", report::P99), ("p99.9", report::P999)];
        let bars = names.into_iter();
        let bars =
            bars.filter_map(|(name, value)| Some((name.into(), outcome.summary(peer, value)?)));
        Group { title: peer.to_owned(), bars: bars.collect() }
    });
    let title = format!("From publish to arrival, microseconds: {}", outcome.title);
    Some(plot::bars(&title, &groups.collect::<Vec<_>>()))
}

/// All charts that the report has something for, with the names of their files.
fn charts(report: &Report) -> Vec<(&'static str, String)> {
    let mut charts = Vec::new();
    for (file, title, value, scenarios) in CHARTS {
        let outcomes = scenarios.iter().filter_map(|name| report.outcome(name));
        let groups: Vec<_> = outcomes
            .map(|outcome| group(outcome, value))
            .filter(|group| !group.bars.is_empty())
            .collect();
        if !groups.is_empty() {
            charts.push((file, plot::bars(title, &groups)));
        }
    }
    charts.extend(latencies(report).map(|svg| ("latency.svg", svg)));
    charts
}

/// "2026-11-29" of seconds since 1970.
fn date(seconds: u64) -> String {
    // From days to a date of the Gregorian calendar, by eras of 400 years that begin in March.
    let days = seconds / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, (month + 2) % 12 + 1);
    let year = era * 400 + year + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02}")
}

fn text(report: &Report, charts: &[(&str, String)], directory: &str) -> String {
    let mut text = format!("{BEGIN}\n\n## Results of {}\n\n", date(report.when));
    let machine = table::machine(report);
    for line in &machine {
        let _ = writeln!(text, "- {line}");
    }
    let minutes = report.took_seconds.div_ceil(60);
    let _ = writeln!(text, "- the run took {minutes} minutes\n\n### Targets\n");
    text.push_str(&table::markdown(&target::lines(&target::judge(report))));
    text.push_str("\n### Plots\n\nA thin line goes from the least to the greatest run.\n\n");
    for (file, _) in charts {
        let name = file.trim_end_matches(".svg");
        let _ = writeln!(text, "![{name}]({directory}/{file})\n");
    }
    text.push_str("### Scenarios\n");
    for outcome in &report.outcomes {
        let _ = writeln!(
            text,
            "\n**{}**: {}. Numbers are for each {}.\n",
            outcome.scenario, outcome.title, outcome.unit
        );
        text.push_str(&table::markdown(&table::outcome(outcome)));
        for peer in outcome.peers() {
            let failures = outcome.failures(peer);
            if let Some(failure) = failures.first() {
                let count = failures.len();
                let _ = writeln!(text, "\n{count} runs of {peer} failed: {failure}.");
            }
        }
    }
    text
}

/// The document with its last part replaced.
fn replaced(document: &str, part: &str) -> Option<String> {
    let begin = document.find(BEGIN)?;
    Some(format!("{}{part}", &document[..begin]))
}

/// Writes the plots beside the JSON file, and the last part of the document.
pub(crate) fn write(json: &Path, document: &Path) -> Result<(), String> {
    let tell = |path: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let text_of = |path: &Path| fs::read_to_string(path).map_err(|error| tell(path, &error));
    let report: Report =
        serde_json::from_str(&text_of(json)?).map_err(|error| tell(json, &error))?;
    if report.outcomes.iter().all(|outcome| outcome.summary(OURS, report::CPU).is_none()) {
        return Err(tell(json, &"nothing to plot"));
    }
    let name = document.file_stem().and_then(|stem| stem.to_str()).unwrap_or("benchmarks");
    let directory = document.with_file_name(name);
    fs::create_dir_all(&directory).map_err(|error| tell(&directory, &error))?;
    let charts = charts(&report);
    for (file, svg) in &charts {
        let file = directory.join(file);
        fs::write(&file, svg).map_err(|error| tell(&file, &error))?;
    }
    let copy = directory.join("results.json");
    if json != copy {
        fs::copy(json, &copy).map_err(|error| tell(&copy, &error))?;
    }
    let text = replaced(&text_of(document)?, &text(&report, &charts, name))
        .ok_or_else(|| tell(document, &format!("there is no line {BEGIN}")))?;
    fs::write(document, text).map_err(|error| tell(document, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (seconds, text) in [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_795_915_198, "2026-11-29"),
        ] {
            assert_eq!(date(seconds), text);
        }
    }

    #[test]
    fn only_the_last_part_is_replaced() {
        let document = format!("# Title\n\nText\n\n{BEGIN}\nold\n");
        assert_eq!(replaced(&document, "new\n").unwrap(), "# Title\n\nText\n\nnew\n");
        assert_eq!(replaced("# Title\n", "new\n"), None);
    }
}
