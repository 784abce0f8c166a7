//! Instructions, system calls and memory, compared with those that are stored in `bench/expected.json`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::report::{self, Outcome};
use crate::statistics::{rounded, significant};
use crate::{OURS, table};

/// By scenario and value.
pub(crate) type Expected = BTreeMap<String, BTreeMap<String, f64>>;

/// By so much a value may be greater than it was.
const LOSS_MAX: f64 = 0.10;

/// The values that do not depend on what else the machine does.
const COMPARED: [&str; 3] = [report::INSTRUCTIONS, report::CALLS, report::BYTES];

/// The values of this run.
pub(crate) fn found(outcomes: &[Outcome]) -> Expected {
    let mut found = Expected::new();
    for outcome in outcomes {
        for value in COMPARED {
            if let Some(summary) = outcome.summary(OURS, value) {
                // Digits that mean nothing would change with each run.
                let median = significant(summary.median, 3);
                found.entry(outcome.scenario.clone()).or_default().insert(value.into(), median);
            }
        }
    }
    found
}

/// A line for each value, and whether one of them is worse than it may be.
pub(crate) fn compare(found: &Expected, expected: &Expected) -> (Vec<Vec<String>>, bool) {
    let mut lines = vec![["", "", "found", "expected", "change", ""].map(str::to_owned).to_vec()];
    let mut lost = false;
    for (scenario, values) in expected {
        for (name, &before) in values {
            let now = found.get(scenario).and_then(|values| values.get(name));
            let change = now.map(|now| now / before - 1.0);
            let verdict = match change {
                None => "NOT MEASURED",
                Some(change) if change > LOSS_MAX => "WORSE",
                Some(change) if change < -LOSS_MAX => "better",
                Some(_) => "",
            };
            lost |= change.is_none_or(|change| change > LOSS_MAX);
            lines.push(vec![
                scenario.clone(),
                name.replace('_', " "),
                now.map_or(String::new(), |&now| rounded(now)),
                rounded(before),
                change.map_or(String::new(), |change| format!("{:+.1} %", change * 100.0)),
                verdict.to_owned(),
            ]);
        }
    }
    (lines, lost)
}

/// Compares with the file, or writes it if `accept`. Returns whether all is well.
pub(crate) fn finish(outcomes: &[Outcome], file: &Path, accept: bool) -> Result<bool, String> {
    let tell = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let found = found(outcomes);
    if accept {
        let text = serde_json::to_string_pretty(&found).map_err(|error| tell(&error))?;
        fs::write(file, text + "\n").map_err(|error| tell(&error))?;
        println!("\nwritten: {}", file.display());
        return Ok(outcomes.iter().all(|outcome| outcome.failures(OURS).is_empty()));
    }
    let text = fs::read_to_string(file).map_err(|error| tell(&error))?;
    let expected: Expected = serde_json::from_str(&text).map_err(|error| tell(&error))?;
    let (lines, lost) = compare(&found, &expected);
    println!("\n=== against {}", file.display());
    print!("{}", table::aligned(&lines));
    if lines.iter().any(|line| line.last().is_some_and(|cell| cell == "better")) {
        println!("some are better: \"scripts/bench quick accept\" stores them, so that they stay");
    }
    Ok(!lost)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Run, Values};

    #[test]
    fn a_loss_of_more_than_a_tenth_fails() {
        let outcome = |instructions: f64| Outcome {
            scenario: "i-single".into(),
            title: String::new(),
            unit: String::new(),
            runs: vec![Run {
                peer: OURS.into(),
                values: Values::from([(report::INSTRUCTIONS.into(), instructions)]),
                failure: None,
            }],
        };
        let expected = found(&[outcome(1000.4)]);
        assert_eq!(expected["i-single"][report::INSTRUCTIONS], 1000.0);
        for (now, lost, word) in
            [(1090.0, false, ""), (1110.0, true, "WORSE"), (850.0, false, "better")]
        {
            let (lines, found_lost) = compare(&found(&[outcome(now)]), &expected);
            assert_eq!((found_lost, lines[1][5].as_str()), (lost, word), "{now}");
        }
        let (lines, lost) = compare(&Expected::new(), &expected);
        assert_eq!((lost, lines[1][5].as_str()), (true, "NOT MEASURED"));
    }
}
