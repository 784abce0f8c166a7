//! The server's own audit of its zone: no rule may ever be broken, and an empty zone has nothing in it.

use std::thread;
use std::time::{Duration, Instant};

use crate::server::{Nginx, PATIENCE};
use crate::statistics::number;

/// Kinds of records that an empty zone does not have.
const MUST_GO: [&str; 11] = [
    "messages_stored",
    "messages_being_read",
    "messages_in_trash",
    "messages_staged",
    "content_blocks",
    "channels_live",
    "channels_deleted",
    "channels_in_trash",
    "interests_live",
    "interests_backlog",
    "free_slots",
];

/// The rules that did not hold, as the report names them; `None` if all did.
pub(crate) fn violations(report: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(report);
    match text.split_once("\"violations\": ") {
        Some((_, list)) if list.starts_with("[]") => None,
        Some((_, list)) => Some(list.replace("\r\n", "")),
        None => Some(format!("no audit: {text}")),
    }
}

/// The faults in the zone; `None` if there are none, not in counters and lists either.
pub(crate) fn complaint(nginx: &Nginx) -> Result<Option<String>, String> {
    compared(nginx).map(|report| violations(report.as_bytes()))
}

/// The faults, and the records that are left, in a zone that should be empty.
pub(crate) fn complaints_of_empty(nginx: &Nginx) -> Result<Vec<String>, String> {
    let report = compared(nginx)?;
    let left = MUST_GO.iter().filter_map(|kind| remains(&report, kind));
    Ok(violations(report.as_bytes()).into_iter().chain(left).collect())
}

/// The kinds of which there are records, and how many.
pub(crate) fn remains_of(nginx: &Nginx, kinds: &[&str]) -> Result<Vec<String>, String> {
    let report = nginx.ask("GET", "/audit", b"")?.body;
    let report = String::from_utf8_lossy(&report);
    Ok(kinds.iter().filter_map(|kind| remains(&report, kind)).collect())
}

/// A report during which nothing changed, so that everything was compared; or one with violations.
fn compared(nginx: &Nginx) -> Result<String, String> {
    let end = Instant::now() + PATIENCE;
    loop {
        let report = nginx.ask("GET", "/audit", b"")?.body;
        let text = String::from_utf8_lossy(&report).into_owned();
        if text.contains("\"compared\": true") || violations(&report).is_some() {
            return Ok(text);
        }
        if Instant::now() > end {
            return Err("something moved in each audit".to_owned());
        }
        thread::sleep(Duration::from_millis(100));
    }
}

fn remains(report: &str, kind: &str) -> Option<String> {
    let amount = report.split_once(&format!("\"{kind}\": {{")).map(|(_, amount)| amount);
    match amount.and_then(|amount| number(amount, "count")) {
        Some(0) => None,
        Some(count) => Some(format!("{count} {kind}")),
        None => Some(format!("no {kind} in the audit")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_is_wrong() {
        assert_eq!(violations(b"{\"violations\": []}\r\n"), None);
        let bad = b"{\"violations\": [\r\n  {\"name\": \"bucket\", \"count\": 2}]}\r\n";
        assert!(violations(bad).is_some_and(|text| text.contains("bucket")));
        assert!(violations(b"").is_some());
        let report = "{\"kinds\": {\"free_slots\": {\"count\": 3, \"bytes\": 9}}}";
        assert_eq!(remains(report, "free_slots"), Some("3 free_slots".to_owned()));
        assert!(remains(report, "channels_live").is_some());
    }
}
