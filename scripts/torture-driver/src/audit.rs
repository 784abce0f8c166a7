//! The server's own audit of its zone: no rule may be broken, ever.

use std::thread;
use std::time::Duration;

use crate::server::Nginx;

/// How often to ask for an audit during which nothing changed.
const TRIES: u32 = 50;

/// What is wrong in the zone; `None` if nothing is, counters and lists included.
pub(crate) fn complaint(nginx: &Nginx) -> Result<Option<String>, String> {
    for _ in 0..TRIES {
        let response = nginx.ask("GET", "/audit", b"")?;
        let text = String::from_utf8_lossy(&response.body).into_owned();
        if !text.contains("\"violations\": []") {
            return Ok(Some(text));
        }
        if text.contains("\"compared\": true") {
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(100));
    }
    Ok(Some(format!("something moved in each of {TRIES} audits")))
}
