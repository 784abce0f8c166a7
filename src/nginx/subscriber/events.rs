//! What nginx calls for subscribers: their requests' events, and three of our own.
//!
//! ```text
//!   on_writable   the socket takes more        on_flush     there was too much to write
//!   on_readable   the client, or its end       on_due       a ping, or the end of a time
//!   on_cleanup    nginx ends the request       on_goodbye   more subscribers to dismiss
//! ```

use core::ffi::c_void;
use core::mem;
use core::ptr::NonNull;
use std::rc::Rc;

use ngx::ffi::{
    NGX_HTTP_REQUEST_TIME_OUT, ngx_event_t, ngx_http_discarded_request_body_handler,
    ngx_http_request_t, ngx_http_test_reading, ngx_int_t,
};

use crate::model::Token;
use crate::nginx::event::Event;
use crate::nginx::journal::Reason;
use crate::nginx::output::Rendering;
use crate::nginx::peer::Peer;
use crate::nginx::subscriber::audience::{self, Audience, Mode, State};
use crate::nginx::subscriber::delivery::{flush, push, write_out};
use crate::nginx::subscriber::ending::{dismiss, drop_connection, forget, go_on_with_goodbye};
use crate::nginx::timers::{self, Kind};
use crate::nginx::{ffi, location, log};

/// Subscribers that are pinged or dismissed before other connections have a turn.
const DUE_MAX: usize = 1000;

/// A ping or an end is due for somebody.
pub(super) fn schedule() {
    let next = audience::with(Audience::next_due_msec);
    if let Some(at_msec) = next {
        let delay = at_msec.saturating_sub(timers::now_msec());
        events(|events| events.due.fire_within(delay));
    }
}

fn work_off_due() {
    let now_msec = timers::now_msec();
    for _ in 0..DUE_MAX {
        let Some((kind, token)) = audience::with(|audience| audience.due(now_msec)) else { break };
        match kind {
            Kind::End => dismiss(token, Reason::Ttl),
            Kind::Ping => ping(token, now_msec),
        }
    }
}

fn ping(token: Token, now_msec: usize) {
    let peer = audience::with(|audience| {
        audience.restart(token, Kind::Ping, now_msec);
        Some(audience.subscribers.get(token)?.peer)
    });
    let Some(peer) = peer else { return };
    let text = location::main_conf(peer.request()).ping_message_text();
    audience::with(|audience| {
        let Some(subscriber) = audience.subscribers.get(token) else { return };
        let Mode::Stream(stream) = &mut subscriber.mode else { return };
        // A connection with bytes on their way needs no ping to stay busy.
        if subscriber.state != State::Open || subscriber.is_blocked {
            return;
        }
        let Some(form) = audience.forms.get(subscriber.form) else { return };
        let mut rendering = Rendering::default();
        push(&mut rendering, stream.frames_chunks, |out| form.ping(text, out));
        stream.outbox.push(&Rc::new(rendering), 0);
    });
    flush(token);
}

impl Audience {
    /// If its client has closed its side, has it left? A poll's may take the whole answer all the same.
    fn may_have_left(&mut self, token: Token) -> bool {
        self.subscribers.get(token).is_none_or(|s| !s.is_answer() || s.is_blocked)
    }
}

/// Our events, made with the worker's first subscriber.
pub(super) struct Events {
    /// Goes on writing.
    pub(super) flush: Event,
    due: Event,
    /// Goes on saying goodbye.
    pub(super) goodbye: Event,
}

thread_local! {
    static EVENTS: Events = Events {
        flush: Event::new(on_flush),
        due: Event::new(on_due),
        // An exiting worker waits for it.
        goodbye: Event::new(on_goodbye).holding_worker(),
    };
}

pub(super) fn events<R>(body: impl FnOnce(&Events) -> R) -> R {
    EVENTS.with(body)
}

/// Lets us see in the next round what comes for the subscriber's request, or that its client goes.
pub(super) fn watch_soon(token: Token) {
    audience::with(|audience| audience.unwatched.push(token));
    events(|events| events.flush.post_next());
}

fn watch() {
    for token in audience::with(|audience| mem::take(&mut audience.unwatched)) {
        let alive = audience::with(|audience| Some(audience.subscribers.get(token)?.peer));
        if let Some(peer) = alive {
            // SAFETY: its subscriber is there, so the request is.
            unsafe { (*peer.as_ptr()).read_event_handler = Some(on_readable) };
        }
    }
}

/// nginx calls this in the round after one that had too much to write.
///
/// # Safety
///
/// None: the event is not looked at.
unsafe extern "C" fn on_flush(_: *mut ngx_event_t) {
    let panicked = ffi::guard("on_flush", true, || {
        watch();
        write_out();
        false
    });
    if panicked {
        // Who made it panic is not on a list any more; the others still wait.
        ffi::guard("on_flush", (), || events(|events| events.flush.post_next()));
    }
}

/// nginx calls this when an interval of somebody is over.
///
/// # Safety
///
/// None: the event is not looked at.
unsafe extern "C" fn on_due(_: *mut ngx_event_t) {
    ffi::guard("on_due", (), work_off_due);
    // A panic over one subscriber must not be the last that the others hear of it.
    ffi::guard("on_due", (), schedule);
}

/// nginx calls this when an exiting worker has more subscribers to dismiss.
///
/// # Safety
///
/// None: the event is not looked at.
unsafe extern "C" fn on_goodbye(_: *mut ngx_event_t) {
    ffi::guard("on_goodbye", (), go_on_with_goodbye);
}

/// nginx calls this when the request's socket takes bytes again, or has taken none for too long.
///
/// # Safety
///
/// `r` is a live request, to which a subscriber was attached.
pub(super) unsafe extern "C" fn on_writable(r: *mut ngx_http_request_t) {
    ffi::guard("on_writable", (), || {
        let Some(r) = NonNull::new(r) else { return };
        let token = audience::of(r);
        // SAFETY: see above.
        let peer = unsafe { Peer::new(r) };
        if peer.is_timed_out() {
            log::info!(peer.log(), "client timed out");
            peer.set_timed_out();
            audience::with(|audience| {
                if let Some(subscriber) = audience.subscribers.get(token) {
                    subscriber.reason = Reason::SendTimeout;
                }
            });
            drop_connection(token, NGX_HTTP_REQUEST_TIME_OUT as ngx_int_t);
            return;
        }
        let is_waiting = audience::with(|audience| {
            audience.subscribers.get(token).is_some_and(|s| s.is_blocked || s.is_dirty)
        });
        // A subrequest has ended, and what was to come after it may be written.
        if is_waiting || peer.is_postponed() {
            flush(token);
        }
    });
}

/// nginx calls this when the client has sent more, or has closed the connection.
///
/// # Safety
///
/// `r` is a live request, to which a subscriber was attached.
pub(super) unsafe extern "C" fn on_readable(r: *mut ngx_http_request_t) {
    ffi::guard("on_readable", (), || {
        let Some(request) = NonNull::new(r) else { return };
        let token = audience::of(request);
        // SAFETY: see above.
        if unsafe { request.as_ref() }.discard_body() == 0 {
            if audience::with(|audience| audience.may_have_left(token)) {
                // What the client sends now is for the next request: nginx only looks whether it left.
                // SAFETY: see above.
                unsafe { ngx_http_test_reading(r) };
            }
            return;
        }
        // SAFETY: see above.
        unsafe { ngx_http_discarded_request_body_handler(r) };
        // That may have ended the request, and then its subscriber is gone.
        let alive = audience::with(|audience| audience.subscribers.get(token).is_some());
        if !alive {
            return;
        }
        // SAFETY: its subscriber is there, so it is.
        let r = unsafe { &mut *r };
        r.read_event_handler = Some(on_readable);
        if r.discard_body() == 0 && audience::with(|audience| audience.may_have_left(token)) {
            // For nginx a body may also end because its client left.
            // SAFETY: as above.
            unsafe { ngx_http_test_reading(r) };
        }
    });
}

/// nginx calls this when it ends the request, for whatever reason.
///
/// # Safety
///
/// None: `data` is a token, which is looked up.
pub(super) unsafe extern "C" fn on_cleanup(data: *mut c_void) {
    ffi::guard("on_cleanup", (), || drop(forget(audience::from_data(data))));
}
