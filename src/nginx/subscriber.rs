//! Subscriber locations: the order of work that all modes but WebSocket share.
//!
//! ```text
//!   handle: CORS, OPTIONS, no-cache, method, path ──► mode ──► validation and registration (hub)
//!      │ ├─► streaming  an open body: header, old messages, live ones, pings, footer
//!      │ └─► polling    one answer, at once or later; a long one goes out as a stream that ends
//!      └───► upgrade    a handshake, then what streaming does in frames; socket reads the client's
//!   audience: who they are; delivery: what they get; backlog: what they get before; ending: how they
//!   end; events: what nginx calls
//! ```

mod audience;
mod backlog;
mod delivery;
mod ending;
mod events;
mod polling;
mod socket;
mod streaming;
mod upgrade;

use core::ptr::{self, NonNull};

use ngx::ffi::{
    NGX_DECLINED, NGX_DONE, NGX_OK, ngx_http_cleanup_add, ngx_http_complex_value_t,
    ngx_http_request_t, ngx_http_set_content_type, ngx_int_t, ngx_pnalloc,
};

use crate::hub::{Refusal, Stay, Subscribe, Subscribed};
use crate::model::{Since, Token};
use crate::nginx::answer::{self, FAILED, Sent};
use crate::nginx::journal::Entry;
use crate::nginx::location::{Delivery, Location, Mode};
use crate::nginx::peer::Peer;
use crate::nginx::request::{Method, NoMemory, Request};
use crate::nginx::subscriber::audience::Subscriber;
use crate::nginx::{ffi, headers, location, worker};
use crate::session::Framing;
use crate::wire::path::{self, Requested};
use crate::wire::resume;

pub(crate) use delivery::on_news;
pub(crate) use ending::say_goodbye;

/// Content type of event streams, whatever `types` and `default_type` say.
const EVENT_STREAM: &[u8] = b"text/event-stream; charset=utf-8";

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
    if !request.is_main() {
        // An open response inside of another one would never let it end.
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
    match effective(delivery, request) {
        Delivery::Polling => polling::start(request, location, &asked, false),
        Delivery::LongPolling => polling::start(request, location, &asked, true),
        Delivery::Streaming | Delivery::EventSource | Delivery::WebSocket => {
            streaming::start(request, location, &asked)
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
    let token = audience::of(r);
    audience::with(|audience| Some(audience.subscribers.get(token)?.entry()))
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
    /// Validates, and registers the subscriber if it stays. `Err` is what to return when this worker
    /// has no seat in the zone.
    fn subscribe(
        &self,
        location: &Location,
        token: Token,
        form: u32,
        stay: Stay,
        bounded: bool,
    ) -> Result<Result<Subscribed, Refusal>, ngx_int_t> {
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
        worker::operate(|hub, rules, now| hub.subscribe(&request, rules, now)).ok_or(FAILED)
    }
}

/// The content type where messages are server-sent events, however they are delivered: clients read
/// no other.
fn event_stream_type(location: &Location) -> Option<&'static [u8]> {
    (location.layout.form().framing() == Framing::EventSource).then_some(EVENT_STREAM)
}

/// Content type of an answer with messages: `fixed`, else the old directive's, else nginx's choice.
fn set_content_type(
    request: &mut Request,
    location: &Location,
    fixed: Option<&'static [u8]>,
) -> Result<(), NoMemory> {
    let Some(text) = fixed.or(location.content_type.as_deref()) else {
        // SAFETY: the request is live, and nothing of it is borrowed.
        let set = unsafe { ngx_http_set_content_type(request.as_ptr()) };
        return if set == NGX_OK as ngx_int_t { Ok(()) } else { Err(NoMemory) };
    };
    // SAFETY: the pool is the request's.
    let copy = unsafe { ngx_pnalloc(request.pool().as_ptr(), text.len().max(1)) }.cast::<u8>();
    if copy.is_null() {
        return Err(NoMemory);
    }
    // SAFETY: room for the text, which nobody else knows yet.
    unsafe { copy.copy_from_nonoverlapping(text.as_ptr(), text.len()) };
    let headers = &mut request.fields_mut().headers_out;
    headers.content_type.len = text.len();
    headers.content_type.data = copy;
    // Parameters are no part of what `gzip_types` compares.
    headers.content_type_len = text.iter().position(|byte| *byte == b';').unwrap_or(text.len());
    headers.content_type_lowcase = ptr::null_mut();
    Ok(())
}

/// Takes the request in as this subscriber, and makes sure that the subscriber goes when its request
/// does: from here on even if we panic, so that no record is ever left that names a freed request.
fn admit(request: &mut Request, subscriber: Subscriber) -> Result<Token, NoMemory> {
    // SAFETY: the request is live; size 0 means that `data` is ours to set.
    let cleanup = unsafe { ngx_http_cleanup_add(request.as_ptr(), 0) };
    // SAFETY: null, or a record that nginx has just made.
    let cleanup = unsafe { cleanup.as_mut() }.ok_or(NoMemory)?;
    let token = audience::with(|audience| audience.subscribers.add(subscriber));
    cleanup.data = audience::to_data(token);
    cleanup.handler = Some(events::on_cleanup);
    audience::attach(token, request.peer());
    Ok(token)
}

/// What the content handler returns for a request that was opened this far. One that is over
/// forgets its subscriber; `stay` keeps the other.
fn conclude(
    request: &mut Request,
    token: Token,
    opened: Result<Option<ngx_int_t>, NoMemory>,
    stay: impl FnOnce(&mut Request) -> ngx_int_t,
) -> Sent {
    let over = match opened {
        Ok(None) => return Ok(stay(request)),
        Ok(Some(code)) => Ok(code),
        Err(no_memory) => Err(no_memory),
    };
    ending::forget(token);
    over
}

/// The request stays open, and nginx's events for it come to us. Returns what the content handler
/// must return.
fn keep_open(request: &mut Request, token: Token) -> ngx_int_t {
    let r = request.fields_mut();
    r.read_event_handler = Some(events::on_readable);
    if r.discard_body() == 1 {
        // When we return, nginx takes the handler back until it has forgotten the whole body.
        events::watch_soon(token);
    }
    r.write_event_handler = Some(events::on_writable);
    r.set_count(r.count() + 1);
    events::schedule();
    NGX_DONE as ngx_int_t
}

impl Request {
    fn peer(&self) -> Peer {
        // SAFETY: the request is live by the promise of `Request::new`; whoever keeps the value
        // forgets it when the request's cleanup runs (`admit`).
        unsafe { Peer::new(self.as_non_null()) }
    }
}
