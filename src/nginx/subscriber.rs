//! Subscriber locations: the order of work that all modes but WebSocket share.
//!
//! ```text
//!   handle: CORS, OPTIONS, no-cache, method, path ──► mode ──► validation and registration (hub)
//!      │ ├─► streaming  an open body: header, old messages, live ones, pings, footer
//!      │ └─► polling    one answer, at once or later; a long one goes out as a stream that ends
//!      └───► upgrade    a handshake, then what streaming does in frames
//!   asking: what they ask for; admission: how they get in; events: what nginx calls for them later;
//!   forgetting: what an open response gives back
//! ```
//!
//! Once a subscriber is admitted, its life is the session's ([`crate::session::audience`]).

mod admission;
mod asking;
mod events;
mod forgetting;
mod polling;
mod streaming;
mod upgrade;

use core::ptr::NonNull;

use ngx::ffi::{NGX_DECLINED, ngx_http_request_t, ngx_int_t};

use crate::hub::Refusal;
use crate::model::{Delivery, Operation};
use crate::nginx::answer::{self, FAILED, Sent};
use crate::nginx::client;
use crate::nginx::location::{Location, Mode};
use crate::nginx::request::{Method, Request};
use crate::nginx::subscriber::asking::{Asked, Received, channels_of};
use crate::nginx::worker;
use crate::nginx::{cors, ffi, headers, journal, refusals, settings};
use crate::session::departure::Entry;

pub(super) use events::watch;

/// nginx calls this for a request to a subscriber location.
///
/// # Safety
///
/// `r` is a live request.
pub(crate) unsafe extern "C" fn handle(r: *mut ngx_http_request_t) -> ngx_int_t {
    let mut is_over = false;
    let body = |request: &mut Request| {
        let Some(location) = settings::location(request.as_non_null()) else {
            return Ok(NGX_DECLINED as ngx_int_t);
        };
        is_over = true;
        let sent = serve(request, location);
        is_over = false;
        sent
    };
    // SAFETY: see above.
    let code = unsafe { answer::guarded("subscriber::handle", r, body) };
    if is_over && let Some(r) = NonNull::new(r) {
        ffi::guard("subscriber::handle", (), || give_up(r));
    }
    if let Some(worker) = worker::this() {
        ffi::guard("subscriber::handle", (), || worker.count(true));
    }
    code
}

/// A panic has interrupted the handler: nothing stays of the subscriber.
fn give_up(r: NonNull<ngx_http_request_t>) {
    if let Some(worker) = worker::this() {
        worker.audience.pass_over(worker);
        worker.audience.forget(worker, client::token_of(r));
    }
    journal::write_error(r);
}

fn serve(request: &mut Request, location: &'static Location) -> Sent {
    let Mode::Subscriber(delivery) = location.mode else { return Ok(NGX_DECLINED as ngx_int_t) };
    let is_part = !request.is_main() || request.is_detached();
    if is_part && effective(delivery, request).is_stream() {
        refusals::report_misuse(request, 500, "a stream cannot be part of another response");
        return Ok(FAILED);
    }
    request.disable_not_modified();
    if delivery == Delivery::WebSocket {
        return upgrade::start(request, location);
    }
    if let Err(code) = request.discard_body() {
        return Ok(code);
    }
    cors::add(request, &location.cors, "GET")?;
    let method = request.method();
    if method == Method::Options {
        return Ok(answer::empty(request, 200));
    }
    headers::add_no_cache(request)?;
    if method != Method::Get {
        return answer::not_allowed(request, "GET");
    }
    // SAFETY: used in this handler only.
    let path = unsafe { request.channels_path(location) }?;
    let requested = channels_of(path);
    if requested.is_empty() {
        worker::with(|worker| {
            worker.hub().count_refusal(Operation::Subscribe, Refusal::NoChannelId);
        });
        return answer::refused(request, Refusal::NoChannelId);
    }
    let received = Received::of(request, location)?;
    let asked = Asked { requested: &requested, since: received.since() };
    let Some(worker) = worker::this() else { return Ok(FAILED) };
    let delivery = effective(delivery, request);
    match delivery {
        Delivery::Polling => polling::start(worker, request, location, &asked, delivery, false),
        Delivery::LongPolling => {
            let waits = !request.is_detached();
            polling::start(worker, request, location, &asked, delivery, waits)
        }
        Delivery::Streaming | Delivery::EventSource | Delivery::WebSocket => {
            streaming::start(worker, request, location, &asked, delivery)
        }
    }
}

/// How this request is served: clients may ask a location for polling of either kind.
pub(crate) fn effective(delivery: Delivery, request: &Request) -> Delivery {
    let wanted = request.header(b"X-Nginx-PushStream-Mode");
    let wants = |mode: &str| wanted.is_some_and(|w| w.eq_ignore_ascii_case(mode.as_bytes()));
    match delivery {
        Delivery::WebSocket => delivery,
        _ if wants("long-polling") => Delivery::LongPolling,
        _ if wants("polling") => Delivery::Polling,
        _ => delivery,
    }
}

/// What is known about the subscriber of a request, if it has one.
pub(crate) fn entry(r: NonNull<ngx_http_request_t>) -> Option<Entry> {
    worker::this()?.audience.entry(client::token_of(r))
}
