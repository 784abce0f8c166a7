//! Audit locations: a walk through the whole zone, in short stops, between which everybody works.
//!
//! ```text
//!   handle ─ may this client? ─ STOPS_PER_TURN stops ─┬─ all seen: answer
//!      timer, so that others have a turn ◄── more ────┘
//! ```

use core::cell::Cell;
use core::mem;
use core::ptr::NonNull;

use ngx::ffi::{
    NGX_DONE, ngx_add_timer, ngx_del_timer, ngx_event_t, ngx_http_finalize_request,
    ngx_http_request_t, ngx_int_t,
};

use crate::nginx::answer::{self, FAILED, Sent};
use crate::nginx::request::{Method, NoMemory, Request};
use crate::nginx::{ffi, headers, peer, settings, visitor, worker};
use crate::store::Inspection;
use crate::wire::audit;

/// Stops between two rounds of the event loop: 256 pages, a zone of 1 MiB, in a few milliseconds.
const STOPS_PER_TURN: u32 = 64;
/// From one turn to the next. A worker that is to exit waits for timers; an event that is only posted
/// would be left behind, and with it the request.
const PAUSE_MSEC: usize = 1;

/// nginx calls this for a request to a location of this mode.
///
/// # Safety
///
/// `r` is a live request.
pub(crate) unsafe extern "C" fn handle(r: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: see above.
    unsafe { answer::guarded("audit::handle", r, begin) }
}

fn begin(request: &mut Request) -> Sent {
    let Some(location) = settings::location(request.as_non_null()) else { return Ok(FAILED) };
    request.disable_not_modified();
    headers::add_no_cache(request)?;
    if let Err(code) = request.discard_body() {
        return Ok(code);
    }
    if !visitor::may_see(request, location.audit_allow.as_deref()) {
        return Ok(answer::refused_silently(request, 403, "the client may not see an audit"));
    }
    if request.method() != Method::Get {
        return answer::not_allowed(request, "GET");
    }
    headers::add(request, headers::TAG, env!("CARGO_PKG_VERSION").as_bytes())?;
    headers::add(request, headers::COMMIT, env!("PUSH_STREAM_COMMIT").as_bytes())?;
    let mut inspection = Inspection::default();
    match turn(&mut inspection) {
        None => Ok(FAILED),
        Some(false) => finish(request, inspection),
        Some(true) => go_on_later(request, inspection),
    }
}

/// Some stops; is there more to look at? `None` without a seat in the zone.
fn turn(inspection: &mut Inspection) -> Option<bool> {
    worker::with(|worker| {
        let hub = worker.hub();
        (0..STOPS_PER_TURN).all(|_| hub.inspect_some(inspection))
    })
}

fn finish(request: &mut Request, inspection: Inspection) -> Sent {
    let Some(report) = worker::with(|worker| worker.hub().report(inspection)) else {
        return Ok(FAILED);
    };
    let mut text = Vec::new();
    audit::render(&report, &mut text);
    answer::text(request, "application/json", &text)
}

/// An audit that takes more than one turn. The request's pool owns it.
struct UnderWay {
    /// Its `data` is the place of this very record.
    event: ngx_event_t,
    request: NonNull<ngx_http_request_t>,
    inspection: Cell<Option<Inspection>>,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if self.event.timer_set() == 1 {
            // SAFETY: it stands in nginx's tree of timers, which must not meet it freed.
            unsafe { ngx_del_timer(&raw mut self.event) };
        }
    }
}

fn go_on_later(request: &mut Request, inspection: Inspection) -> Sent {
    // SAFETY: numbers and pointers, for which zero is "nothing".
    let mut event: ngx_event_t = unsafe { mem::zeroed() };
    event.handler = Some(on_turn);
    event.log = ffi::request_log(request.fields()).as_ptr();
    let under_way =
        UnderWay { event, request: request.as_non_null(), inspection: Cell::new(Some(inspection)) };
    let place = ffi::owned_by_pool(request.pool(), under_way).ok_or(NoMemory)?;
    let event = event_of(place);
    // nginx's debug log takes it for a connection, and prints a number of it that means nothing.
    // SAFETY: the record has just been made, and nobody has a reference to it.
    unsafe { (*event).data = place.as_ptr().cast() };
    rest(event);
    request.hold();
    Ok(NGX_DONE as ngx_int_t)
}

fn event_of(place: NonNull<UnderWay>) -> *mut ngx_event_t {
    // SAFETY: the place of a field of a record that is there; no reference is made.
    unsafe { &raw mut (*place.as_ptr()).event }
}

fn rest(event: *mut ngx_event_t) {
    // SAFETY: a whole event, which leaves the tree of timers before it goes (`UnderWay::drop`).
    unsafe { ngx_add_timer(event, PAUSE_MSEC) };
}

/// nginx calls this for the next turn of an audit.
///
/// # Safety
///
/// `event` is that of a live [`UnderWay`].
unsafe extern "C" fn on_turn(event: *mut ngx_event_t) {
    // SAFETY: see above; set before it was posted.
    let place = unsafe { (*event).data.cast::<UnderWay>() };
    // SAFETY: the record lives as long as the request's pool.
    let r = unsafe { (*place).request };
    // SAFETY: the request waits for us, so it is live, and so is its connection.
    let connection = unsafe { (*r.as_ptr()).connection };
    let mut has_more = false;
    let body = |request: &mut Request| {
        // SAFETY: as above; nothing else refers to the record.
        let state = unsafe { &(*place).inspection };
        let Some(mut inspection) = state.take() else { return Ok(FAILED) };
        match turn(&mut inspection) {
            None => Ok(FAILED),
            Some(false) => finish(request, inspection),
            Some(true) => {
                state.set(Some(inspection));
                has_more = true;
                Ok(NGX_DONE as ngx_int_t)
            }
        }
    };
    // SAFETY: as above.
    let outcome = unsafe { answer::guarded("audit::on_turn", r.as_ptr(), body) };
    if has_more {
        return rest(event);
    }
    // SAFETY: the request is live; it may be gone after this, and nobody looks at it again.
    unsafe { ngx_http_finalize_request(r.as_ptr(), outcome) };
    // SAFETY: nginx keeps the record of a connection, even of one that it has just closed.
    unsafe { peer::run_posted(connection) };
}
