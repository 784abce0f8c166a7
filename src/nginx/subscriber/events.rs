//! What nginx calls for the requests of subscribers.
//!
//! ```text
//!   on_writable   the socket takes more
//!   on_readable   the client has sent something, or has gone        on_frames   the same of a WebSocket
//!   on_cleanup    nginx ends the request
//! ```

use core::ffi::c_void;
use core::ptr::NonNull;

use ngx::ffi::{
    ngx_http_discarded_request_body_handler, ngx_http_request_t, ngx_http_test_reading,
};

use crate::model::Token;
use crate::nginx::client;
use crate::nginx::peer::Peer;
use crate::nginx::worker::{self, Worker};
use crate::nginx::{faults, ffi};
use crate::session::link::Host;

/// Lets us see in the next round what comes for the subscriber's request, or that its client goes.
pub(super) fn watch_soon(worker: &Worker, token: Token) {
    worker.unwatched.borrow_mut().push(token);
    worker.go_on_next();
}

/// From now on we see it.
pub(crate) fn watch(worker: &Worker, token: Token) {
    if let Some(client) = worker.audience.link(token) {
        // SAFETY: its subscriber is there, so the request is.
        unsafe { (*client.peer().as_ptr()).read_event_handler = Some(on_readable) };
    }
}

/// Runs the handler of an event that is about one subscriber. If it panics, the subscriber is cut off.
fn handle(name: &str, r: *mut ngx_http_request_t, body: impl FnOnce(&'static Worker, Peer, Token)) {
    let Some(worker) = worker::this() else { return };
    let Some(r) = NonNull::new(r) else { return };
    let token = client::token_of(r);
    let panicked = ffi::guard(name, true, || {
        // SAFETY: by the contract of the handlers below, the request is live.
        body(worker, unsafe { Peer::new(r) }, token);
        false
    });
    if panicked {
        ffi::guard(name, (), || {
            if !worker.audience.pass_over(worker) {
                // The session knows nothing of the event, and nginx will not tell of it again.
                worker.audience.fail(worker, token);
            }
        });
    }
    ffi::guard(name, (), || worker.count(true));
}

/// nginx calls this when the request's socket takes bytes again, or has taken none for too long.
///
/// # Safety
///
/// `r` is a live request, to which a subscriber was attached.
pub(super) unsafe extern "C" fn on_writable(r: *mut ngx_http_request_t) {
    handle("on_writable", r, |worker, peer, token| {
        faults::point("on_writable");
        let audience = &worker.audience;
        let is_waiting = audience.is_waiting(token);
        if peer.is_timed_out() && is_waiting {
            audience.time_out(worker, token);
            return;
        }
        if peer.is_timed_out() {
            // A subrequest has ended behind this one, and nginx gave it time to write. It cannot before
            // this one has written all, and this one has nothing to write.
            peer.forget_time_out();
        }
        if is_waiting || peer.is_postponed() {
            // A subrequest may have ended, and what was to come after it may be written.
            audience.flush(worker, token);
        }
    });
}

/// nginx calls this when the client has sent more, or has closed the connection.
///
/// # Safety
///
/// `r` is a live request, to which a subscriber was attached.
pub(super) unsafe extern "C" fn on_readable(r: *mut ngx_http_request_t) {
    handle("on_readable", r, |worker, _, token| {
        faults::point("on_readable");
        let audience = &worker.audience;
        // SAFETY: see above.
        if unsafe { (*r).discard_body() } == 0 {
            if audience.may_have_left(token) {
                // What the client sends now is for the next request: nginx only looks whether it left.
                // SAFETY: see above.
                unsafe { ngx_http_test_reading(r) };
            }
            return;
        }
        // SAFETY: see above.
        unsafe { ngx_http_discarded_request_body_handler(r) };
        // That may have ended the request, and then its subscriber is gone.
        if !audience.has(token) {
            return;
        }
        // SAFETY: its subscriber is there, so it is.
        let fields = unsafe { &mut *r };
        fields.read_event_handler = Some(on_readable);
        if fields.discard_body() == 0 && audience.may_have_left(token) {
            // For nginx a body may also end because its client left.
            // SAFETY: as above.
            unsafe { ngx_http_test_reading(r) };
        }
    });
}

/// nginx calls this when the client of a WebSocket has sent more, or has closed the connection.
///
/// # Safety
///
/// `r` is a live request, to which a WebSocket's subscriber was attached.
pub(super) unsafe extern "C" fn on_frames(r: *mut ngx_http_request_t) {
    handle("on_frames", r, |worker, _, token| {
        faults::point("on_frames");
        worker.audience.read(worker, token);
    });
}

/// nginx calls this when it ends the request, for whatever reason.
///
/// # Safety
///
/// None: `data` is a token, which is looked up.
pub(super) unsafe extern "C" fn on_cleanup(data: *mut c_void) {
    ffi::guard("on_cleanup", (), || {
        if let Some(worker) = worker::this() {
            worker.audience.forget(worker, client::token_from(data));
            worker.count(false);
        }
    });
}
