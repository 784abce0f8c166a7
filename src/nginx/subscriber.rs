//! Subscriber locations: the order of work that all modes but WebSocket share.
//!
//! ```text
//!   handle: CORS, OPTIONS, no-cache, method, path ──► mode ──► validation and registration (hub)
//!      │ ├─► streaming  an open body: header, old messages, live ones, pings, footer
//!      │ └─► polling    one answer, at once or later; a long one goes out as a stream that ends
//!      └───► upgrade    a handshake, then what streaming does in frames
//!   events: what nginx calls for their requests
//! ```
//!
//! Once a subscriber is admitted, its life is the session's ([`crate::session::audience`]).

mod events;
mod polling;
mod streaming;
mod upgrade;

use core::ptr::NonNull;

use ngx::ffi::{
    NGX_DECLINED, NGX_DONE, ngx_http_cleanup_add, ngx_http_complex_value_t, ngx_http_request_t,
    ngx_int_t,
};

use crate::hub::{Refusal, Stay, Subscribe, Subscribed};
use crate::model::{Since, Token};
use crate::nginx::answer::{self, FAILED, Sent};
use crate::nginx::client::{self, Client};
use crate::nginx::location::{Delivery, Location, Mode};
use crate::nginx::request::{Method, NoMemory, Request};
use crate::nginx::worker::{self, Worker};
use crate::nginx::{ffi, headers, location, refusals};
use crate::session::departure::Entry;
use crate::wire::path::{self, Requested};
use crate::wire::resume;

pub(super) use events::watch;

/// nginx calls this for a request to a subscriber location.
///
/// # Safety
///
/// `r` is a live request.
pub(crate) unsafe extern "C" fn handle(r: *mut ngx_http_request_t) -> ngx_int_t {
    ffi::guard("subscriber::handle", FAILED, || {
        // SAFETY: see above.
        let Some(mut request) = (unsafe { Request::new(r) }) else { return FAILED };
        match location::of(request.as_non_null()) {
            Some(location) => answer::code(serve(&mut request, location)),
            None => NGX_DECLINED as ngx_int_t,
        }
    })
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
    if let Some(origins) = location.allowed_origins {
        let origin = request.decoded(origins)?;
        headers::add_cors(request, &origin, "GET")?;
    }
    let method = request.method();
    if method == Method::Options {
        return Ok(answer::empty(request, 200));
    }
    headers::add_no_cache(request)?;
    if method != Method::Get {
        return answer::not_allowed(request, "GET");
    }
    let path = request.channels_path(location)?;
    let requested = path::parse(&path);
    if requested.is_empty() {
        return answer::refused(request, Refusal::NoChannelId);
    }
    let received = Received::of(request, location)?;
    let asked = Asked { requested: &requested, since: received.since() };
    let Some(worker) = worker::this() else { return Ok(FAILED) };
    match effective(delivery, request) {
        Delivery::Polling => polling::start(worker, request, location, &asked, false),
        Delivery::LongPolling => {
            let waits = !request.is_detached();
            polling::start(worker, request, location, &asked, waits)
        }
        Delivery::Streaming | Delivery::EventSource | Delivery::WebSocket => {
            streaming::start(worker, request, location, &asked)
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

/// The value of a directive, decoded; without the directive, that of the header.
fn value(
    request: &Request,
    directive: Option<NonNull<ngx_http_complex_value_t>>,
    header: &'static [u8],
) -> Result<Option<Vec<u8>>, NoMemory> {
    match directive {
        Some(value) => request.decoded(value).map(Some),
        None => Ok(request.header(header).map(<[u8]>::to_vec)),
    }
}

/// What a client says it has received, as it says it.
struct Received {
    time: Option<Vec<u8>>,
    tag: Option<Vec<u8>>,
    event_id: Option<Vec<u8>>,
}

impl Received {
    fn of(request: &Request, location: &Location) -> Result<Self, NoMemory> {
        Ok(Self {
            time: value(request, location.last_received_message_time, b"If-Modified-Since")?,
            tag: value(request, location.last_received_message_tag, b"If-None-Match")?,
            event_id: value(request, location.last_event_id, b"Last-Event-Id")?,
        })
    }

    fn since(&self) -> Since<'_> {
        resume::parse_since(self.time.as_deref(), self.tag.as_deref(), self.event_id.as_deref())
    }
}

/// What a client asks for.
struct Asked<'a> {
    requested: &'a [Requested<'a>],
    since: Since<'a>,
}

impl Asked<'_> {
    /// Validates, and registers the subscriber if it stays.
    fn subscribe(
        &self,
        worker: &Worker,
        location: &Location,
        token: Token,
        form: u32,
        stay: Stay,
        bounded: bool,
    ) -> Result<Subscribed, Refusal> {
        let requested: Vec<_> = self.requested.iter().map(|r| (r.id, r.backtrack)).collect();
        let request = Subscribe {
            requested: &requested,
            since: self.since,
            authorized_only: location.authorized_channels_only,
            wildcard_max: location.wildcard_channel_max_qtd,
            events_channel_allowed: location.allow_events_channel,
            stay,
            bounded,
            form,
            token,
        };
        worker.operate(|hub, rules, now| hub.subscribe(&request, rules, now))
    }

    fn has_many_channels(&self) -> bool {
        self.requested.len() > 1
    }
}

/// Takes the request in as a subscriber, and makes sure that the subscriber goes when its request does:
/// from here on even if we panic, so that no record is ever left that names a freed request.
fn admit(
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
    Ok(token)
}

/// What the content handler returns for a request that was opened this far. One that is over
/// forgets its subscriber; `stay` keeps the other.
fn conclude(
    worker: &Worker,
    token: Token,
    opened: Result<Option<ngx_int_t>, NoMemory>,
    stay: impl FnOnce() -> ngx_int_t,
) -> Sent {
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
fn keep_open(worker: &Worker, request: &mut Request, token: Token) -> ngx_int_t {
    let r = request.fields_mut();
    r.read_event_handler = Some(events::on_readable);
    if r.discard_body() == 1 {
        // When we return, nginx takes the handler back until it has forgotten the whole body.
        events::watch_soon(worker, token);
    }
    r.write_event_handler = Some(events::on_writable);
    request.hold();
    worker.schedule();
    NGX_DONE as ngx_int_t
}
