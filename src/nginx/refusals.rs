//! Logs refused requests, with the reason.
//!
//! Each worker writes one line a second at most for each reason, about the first request of that
//! second. It counts the other requests that are refused for the same reason. The next line for the
//! reason, or a tick, tells their number.

use core::cell::RefCell;

use crate::hub::Refusal;
use crate::model::Seconds;
use crate::nginx::log::{self, Level};
use crate::nginx::request::Request;
use crate::nginx::{clock, ffi, settings};

/// Requests that were refused for one reason and have not been logged.
struct Tally {
    level: Level,
    status: u16,
    text: &'static str,
    /// When the last line for this reason was written.
    reported_at: Seconds,
    /// How many requests were refused since then.
    count: u64,
}

thread_local! {
    /// One for each reason that has occurred in this worker. They are few, because all texts are
    /// constants.
    static TALLIES: RefCell<Vec<Tally>> = const { RefCell::new(Vec::new()) };
}

/// The hub has refused this request. A full zone is reported elsewhere, because no request is its
/// cause.
pub(crate) fn report(request: &Request, refusal: Refusal) {
    let Some(text) = refusal.explain() else { return };
    if refusal == Refusal::NoChannelId && has_no_path(request) {
        note(
            request,
            Level::Warn,
            refusal.status(),
            text,
            ", because \"push_stream_channels_path\" is empty",
        );
    } else {
        report_as(request, refusal.status(), text);
    }
}

/// The request is refused because of what its client has sent.
pub(crate) fn report_as(request: &Request, status: u16, text: &'static str) {
    note(request, Level::Info, status, text, "");
}

/// The request is refused because the configuration uses a location for something that it cannot
/// do.
pub(crate) fn report_misuse(request: &Request, status: u16, text: &'static str) {
    note(request, Level::Warn, status, text, "");
}

/// Writes how many requests were refused since the last line for each reason. Each tick calls it.
pub(crate) fn report_rest() {
    let now = clock::now();
    TALLIES.with_borrow_mut(|tallies| {
        for tally in tallies.iter_mut().filter(|tally| tally.count > 0) {
            let count = core::mem::take(&mut tally.count);
            tally.reported_at = now;
            let were = if count == 1 { "request was" } else { "requests were" };
            log::log_at!(
                tally.level,
                log::cycle_log(),
                "{count} more {were} refused with {}, \"{}\"",
                tally.status,
                tally.text
            );
        }
    });
}

fn note(request: &Request, level: Level, status: u16, text: &'static str, cause: &str) {
    let log = ffi::request_log(request.fields());
    if !log::takes(level, log) {
        return;
    }
    let Some(more) = count(level, status, text) else { return };
    if more == 0 {
        log::log_at!(level, log, "request refused with {status}, \"{text}\"{cause}");
    } else {
        log::log_at!(
            level,
            log,
            "request refused with {status}, \"{text}\"{cause}, and {more} more before"
        );
    }
}

/// Counts one more. `Some`: a line may be written now, and these requests have had none.
fn count(level: Level, status: u16, text: &'static str) -> Option<u64> {
    let now = clock::now();
    TALLIES.with_borrow_mut(|tallies| {
        let tally = tallies
            .iter_mut()
            .find(|tally| (tally.level, tally.status, tally.text) == (level, status, text));
        let Some(tally) = tally else {
            tallies.push(Tally { level, status, text, reported_at: now, count: 0 });
            return Some(0);
        };
        if tally.reported_at == now {
            tally.count += 1;
            return None;
        }
        tally.reported_at = now;
        Some(core::mem::take(&mut tally.count))
    })
}

/// The configuration gives an empty path for this request.
fn has_no_path(request: &Request) -> bool {
    settings::location(request.as_non_null())
        // SAFETY: looked at here only.
        .and_then(|location| unsafe { request.channels_path(location) }.ok())
        .is_some_and(|path| path.is_empty())
}
