//! Results as text, for the terminal and for a document.

use std::fmt::Write;

use crate::report::{self, Outcome, Report};
use crate::statistics::rounded;

/// A kind of value as a reader sees it.
struct Column {
    value: &'static str,
    title: &'static str,
}

/// In the order in which they are shown.
const COLUMNS: [Column; 12] = [
    Column { value: report::CPU, title: "CPU, us" },
    Column { value: report::RATE, title: "a second" },
    Column { value: report::P50, title: "p50, us" },
    Column { value: report::P99, title: "p99, us" },
    Column { value: report::P999, title: "p99.9, us" },
    Column { value: report::TOGETHER, title: "together" },
    Column { value: report::LEAVING, title: "leaving, us" },
    Column { value: report::BYTES, title: "bytes" },
    Column { value: report::KERNEL, title: "kernel, bytes" },
    Column { value: report::SECONDS, title: "seconds" },
    Column { value: report::INSTRUCTIONS, title: "instructions" },
    Column { value: report::CALLS, title: "system calls" },
];

/// The value by which peers are compared.
pub(crate) fn main_value(outcome: &Outcome) -> Option<&'static str> {
    [report::CPU, report::BYTES, report::INSTRUCTIONS].into_iter().find(|value| outcome.has(value))
}

/// One scenario: a line for each peer.
pub(crate) fn outcome(outcome: &Outcome) -> Vec<Vec<String>> {
    let columns: Vec<_> = COLUMNS.iter().filter(|column| outcome.has(column.value)).collect();
    let main = main_value(outcome).unwrap_or(report::SECONDS);
    let peers = outcome.peers();
    let first = peers.first().and_then(|peer| outcome.summary(peer, main));
    let mut head = vec![String::new()];
    head.extend(columns.iter().map(|column| column.title.to_owned()));
    head.extend(["spread".into(), "ratio".into(), "others busy".into()]);
    let mut lines = vec![head];
    for peer in peers {
        let mut line = vec![peer.to_owned()];
        for column in &columns {
            let summary = outcome.summary(peer, column.value);
            line.push(summary.map_or(String::new(), |summary| rounded(summary.median)));
        }
        let summary = outcome.summary(peer, main);
        line.push(summary.map_or("".into(), |it| format!("±{:.0} %", it.spread() * 100.0)));
        let ratio = first.zip(summary).filter(|(_, this)| this.median > 0.0);
        line.push(
            ratio.map_or("".into(), |(first, this)| format!("{:.2}", first.median / this.median)),
        );
        let others = outcome.summary(peer, report::OTHERS_BUSY);
        line.push(others.map_or("".into(), |it| format!("{:.0} %", it.median * 100.0)));
        let failures = outcome.failures(peer);
        if let Some(failure) = failures.first() {
            line.push(format!("{} FAILED: {failure}", failures.len()));
        }
        lines.push(line);
    }
    lines
}

/// Columns under each other.
pub(crate) fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let width = |column: usize| {
        lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<_> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for line in lines {
        let mut row = String::new();
        for (column, cell) in line.iter().enumerate() {
            let width = widths.get(column).copied().unwrap_or(0);
            let pad = " ".repeat(width.saturating_sub(cell.chars().count()));
            // Names and remarks to the left, numbers to the right.
            if column == 0 || column >= columns {
                let _ = write!(row, "  {cell}{pad}");
            } else {
                let _ = write!(row, "  {pad}{cell}");
            }
        }
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text
}

/// A table of Markdown. The first line is its head.
pub(crate) fn markdown(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let mut text = String::new();
    for (index, line) in lines.iter().enumerate() {
        let cell = |column: usize| line.get(column).map_or("", String::as_str);
        let cells: Vec<_> = (0..columns).map(cell).collect();
        let _ = writeln!(text, "| {} |", cells.join(" | "));
        if index == 0 {
            let _ = writeln!(text, "|---{}|", "|--:".repeat(columns.saturating_sub(1)));
        }
    }
    text
}

/// The machine and the programs, one line each.
pub(crate) fn machine(report: &Report) -> Vec<String> {
    let machine = &report.machine;
    let gigabytes = machine.memory_bytes as f64 / f64::from(1 << 30);
    let mut lines = vec![format!(
        "{} processors ({}), {gigabytes:.0} GB, Linux {}",
        machine.cpus, machine.processor, machine.kernel
    )];
    lines.extend(machine.versions.iter().map(|(name, version)| format!("{name} {version}")));
    let busy: Vec<f64> = report
        .outcomes
        .iter()
        .flat_map(|outcome| &outcome.runs)
        .filter_map(|run| run.values.get(report::OTHERS_BUSY).copied())
        .collect();
    if let Some(summary) = crate::statistics::Summary::of(busy) {
        lines.push(format!(
            "other processes used {:.0} % of the machine in the median run, {:.0} % at most",
            summary.median * 100.0,
            summary.most * 100.0
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Run, Values};

    #[test]
    fn a_scenario_as_text() {
        let run = |peer: &str, cpu: f64, failure: Option<&str>| Run {
            peer: peer.into(),
            values: Values::from([(report::CPU.into(), cpu), (report::OTHERS_BUSY.into(), 0.1)]),
            failure: failure.map(Into::into),
        };
        let runs = vec![
            run("ours", 1.0, None),
            run("nchan", 4.0, None),
            run("ours", 1.2, None),
            run("nchan", 9.0, Some("3 lost")),
        ];
        let scenario =
            Outcome { scenario: "x".into(), title: "X".into(), unit: "delivery".into(), runs };
        let lines = outcome(&scenario);
        assert_eq!(
            aligned(&lines),
            "         CPU, us  spread  ratio  others busy\n  \
             ours      1.10    ±9 %   1.00         10 %\n  \
             nchan     4.00    ±0 %   0.28         10 %  1 FAILED: 3 lost\n"
        );
        assert_eq!(
            markdown(&lines),
            "|  | CPU, us | spread | ratio | others busy |\n|---|--:|--:|--:|--:|\n\
             | ours | 1.10 | ±9 % | 1.00 | 10 % |\n| nchan | 4.00 | ±0 % | 0.28 | 10 % |\n"
        );
    }
}
