//! A request becomes a subscriber, and stays open or does not.

use ngx::ffi::{NGX_DONE, ngx_http_cleanup_add, ngx_int_t};

use crate::model::Token;
use crate::nginx::answer::Sent;
use crate::nginx::client::{self, Client};
use crate::nginx::faults;
use crate::nginx::location::Location;
use crate::nginx::request::{NoMemory, Request};
use crate::nginx::subscriber::events;
use crate::nginx::worker::Worker;

/// Takes the request in as a subscriber, and makes sure that the subscriber goes when its request does:
/// from here on even if we panic, so that no record is ever left that names a freed request.
pub(super) fn admit(
    request: &mut Request,
    location: &'static Location,
    take_in: impl FnOnce(Client) -> Token,
) -> Result<Token, NoMemory> {
    // SAFETY: the request is live; size 0 means that `data` is ours to set.
    let cleanup = unsafe { ngx_http_cleanup_add(request.as_ptr(), 0) };
    // SAFETY: null, or a record that nginx has just made.
    let cleanup = unsafe { cleanup.as_mut() }.ok_or(NoMemory)?;
    let token = take_in(Client::new(request.peer(), location));
    cleanup.data = client::pointer_to(token);
    cleanup.handler = Some(events::on_cleanup);
    client::attach(token, request.peer());
    faults::point("admitted");
    Ok(token)
}

/// What the content handler returns for a request that was opened this far. One that is over
/// forgets its subscriber; `stay` keeps the other.
pub(super) fn conclude(
    worker: &Worker,
    token: Token,
    opened: Result<Option<ngx_int_t>, NoMemory>,
    stay: impl FnOnce() -> ngx_int_t,
) -> Sent {
    faults::point("opened");
    let over = match opened {
        Ok(None) => return Ok(stay()),
        Ok(Some(code)) => Ok(code),
        Err(no_memory) => Err(no_memory),
    };
    worker.audience.forget(worker, token);
    over
}

/// The request stays open, and nginx's events for it come to us. Returns what the content handler
/// must return.
pub(super) fn keep_open(worker: &Worker, request: &mut Request, token: Token) -> ngx_int_t {
    let r = request.fields_mut();
    r.read_event_handler = Some(events::on_readable);
    if r.discard_body() == 1 {
        // When we return, nginx takes the handler back until it has forgotten the whole body.
        events::watch_soon(worker, token);
    }
    r.write_event_handler = Some(events::on_writable);
    worker.schedule();
    // Last, for nobody would take it back after a panic.
    request.hold();
    NGX_DONE as ngx_int_t
}
