//! WebSocket: turns a handshake into a connection that speaks frames.
//!
//! ```text
//!   method ──► fields ──► version ──► 101 ──► path ──► validation ──► header, old messages, live
//!     │ 405      │ 400      │ 400              └────────────┴──► close frame 1008 with the reason
//! ```
//!
//! nginx's header filter does not write the 101, because it would spell `Connection` in a way that old
//! clients do not expect. The 101 goes to nginx's write filter, as do all bytes after it. From then on
//! the request has left HTTP: nginx never reads another request from this connection.

use ngx::ffi::{NGX_DONE, NGX_ERROR, ngx_int_t, ngx_uint_t};

use crate::hub::{Refusal, Stay, Subscribed};
use crate::model::{Delivery, Gap, Operation, Token};
use crate::nginx::answer::{self, FAILED, Sent};
use crate::nginx::location::Location;
use crate::nginx::request::{Method, NoMemory, Request};
use crate::nginx::subscriber::admission::{admit, conclude};
use crate::nginx::subscriber::asking::{Asked, Received, channels_of};
use crate::nginx::subscriber::forgetting::forget_header;
use crate::nginx::subscriber::{events, streaming};
use crate::nginx::worker::{self, Worker};
use crate::nginx::{headers, refusals, request_pool, respond, variables};
use crate::session::departure::Reason;
use crate::session::link::Way;
use crate::session::paging::Portion;
use crate::session::stream::Opening;
use crate::wire::frame;
use crate::wire::handshake::{self, BadHandshake, Handshake};

/// The reason in the answer to an incomplete handshake.
const EXPLAIN_HEADERS: &str = "Don't have at least one of the mandatory headers: Connection, \
                               Upgrade, Sec-WebSocket-Key and Sec-WebSocket-Version";
const EXPLAIN_VERSION: &str = "Version not supported. Supported versions: 8, 13";

const SWITCHING_PROTOCOLS: ngx_uint_t = 101;

/// Answers the handshake, and keeps the connection if the client is accepted.
pub(super) fn start(request: &mut Request, location: &'static Location) -> Sent {
    // The connection of a refused client is closed too: the client may already be sending frames.
    request.fields_mut().set_keepalive(0);
    let has_body = has_body(request);
    if let Err(code) = request.discard_body() {
        return Ok(code);
    }
    if request.method() != Method::Get {
        return answer::not_allowed(request, "GET");
    }
    let key = match check(request) {
        Ok(key) => key,
        Err(bad) => return refuse(request, bad),
    };
    if has_body {
        // So it never matters where a body ends and the first frame begins.
        headers::add_no_cache(request)?;
        return Ok(answer::refused_silently(request, 400, "a handshake has no body"));
    }
    let Some(worker) = worker::this() else { return Ok(FAILED) };
    // SAFETY: used in this handler only, and before the request's header is forgotten.
    let path = unsafe { request.channels_path(location) }?;
    let requested = channels_of(path);
    let received = Received::of(request, location)?;
    // Last, because a map with a regular expression changes the captures that other values use.
    let protocol = protocol(request, location)?;
    let asked = Asked { requested: &requested, since: received.since() };

    let input = take_input(request);
    let audience = &worker.audience;
    let form = worker.form_of(location);
    request_pool::save_block(request);
    let token = admit(request, location, |client| {
        audience.admit_stream(client, form, asked.has_many_channels(), Some(input))
    })?;
    if location.has_cursors {
        audience.put_in_order(token);
    }
    let subscribed = if requested.is_empty() {
        worker.hub().count_refusal(Operation::Subscribe, Refusal::NoChannelId);
        Err(Refusal::NoChannelId)
    } else {
        asked.subscribe(worker, location, token, form, Stay::Live, false)
    };
    audience.accept(token, gap_of(&subscribed));
    if subscribed.is_ok() {
        audience.let_in(token, Delivery::WebSocket);
    }
    let accepted = Accepted { key, protocol };
    let opened = open(worker, request, location, token, &accepted, subscribed);
    conclude(worker, token, opened, || {
        if location.forget_request {
            forget_header(request);
        }
        keep_open(worker, request)
    })
}

/// The parts of the answer to a handshake.
struct Accepted {
    key: Vec<u8>,
    protocol: Option<Vec<u8>>,
}

/// The subprotocol for the answer, if the client asks for one that the location knows.
fn protocol(request: &Request, location: &Location) -> Result<Option<Vec<u8>>, NoMemory> {
    let offered: Vec<_> = request.header_lines(b"Sec-WebSocket-Protocol").collect();
    if offered.is_empty() {
        return Ok(None);
    }
    let mut known = Vec::with_capacity(location.websocket_protocols.len());
    for value in &location.websocket_protocols {
        // SAFETY: the request is live, and the texts are used in this function only.
        let text = unsafe { variables::evaluate(request.as_non_null(), *value) };
        known.push(text.ok_or(NoMemory)?);
    }
    Ok(handshake::choose_protocol(&offered, &known).map(<[u8]>::to_vec))
}

/// The key of a proper handshake. HTTP/2 has none, because a stream is no connection to take over.
fn check(request: &Request) -> Result<Vec<u8>, BadHandshake> {
    let r = request.fields();
    // HTTP/2 and HTTP/3 have numbers of 2000 and 3000.
    if !r.stream.is_null() || r.http_version >= 2000 {
        return Err(BadHandshake::Headers);
    }
    let upgrade: Vec<_> = request.header_lines(b"Upgrade").collect();
    let connection: Vec<_> = request.header_lines(b"Connection").collect();
    let handshake = Handshake {
        upgrade: &upgrade,
        connection: &connection,
        key: request.header(b"Sec-WebSocket-Key"),
        version: request.header(b"Sec-WebSocket-Version"),
    };
    handshake.check().map(<[u8]>::to_vec)
}

fn refuse(request: &mut Request, bad: BadHandshake) -> Sent {
    headers::add_no_cache(request)?;
    let explain = match bad {
        BadHandshake::Headers => EXPLAIN_HEADERS,
        BadHandshake::Version => {
            headers::add(request, headers::WEBSOCKET_VERSION, handshake::VERSIONS.as_bytes())?;
            EXPLAIN_VERSION
        }
    };
    refusals::report_as(request, 400, explain);
    answer::explained(request, 400, explain)
}

/// To be called before nginx throws the body away.
fn has_body(request: &Request) -> bool {
    let headers = &request.fields().headers_in;
    headers.content_length_n > 0 || headers.chunked() != 0
}

/// Takes the bytes that have arrived with the request: the beginning of the first frame.
fn take_input(request: &mut Request) -> Vec<u8> {
    let header_in = request.fields().header_in;
    // SAFETY: a request whose header was read has the buffer that it was read into.
    let buffer = unsafe { &mut *header_in };
    // SAFETY: nginx has filled the buffer from `pos` to `last`, which are in order.
    let len = usize::try_from(unsafe { buffer.last.offset_from(buffer.pos) }).unwrap_or(0);
    // SAFETY: as above; nobody writes there now.
    let input = unsafe { core::slice::from_raw_parts(buffer.pos, len) }.to_vec();
    buffer.pos = buffer.last;
    input
}

/// What the content handler returns for a request that is over. `None`: it stays, at least for its
/// last bytes.
fn open(
    worker: &Worker,
    request: &mut Request,
    location: &'static Location,
    token: Token,
    accepted: &Accepted,
    subscribed: Result<Subscribed, Refusal>,
) -> Result<Option<ngx_int_t>, NoMemory> {
    if !request.peer().set_no_delay() {
        return Ok(Some(NGX_ERROR as ngx_int_t));
    }
    // For variables only: the 101 has these headers anyway.
    headers::add_no_cache(request)?;
    let gap = gap_of(&subscribed);
    respond::tell(request, location, gap, None)?;
    let gap = gap.map(|gap| (headers::GAP, gap.text()));
    let mut portion = Portion::new(false);
    portion.push_other(|out| {
        handshake::render_response(&accepted.key, accepted.protocol.as_deref(), gap, out);
        note_header_sent(request, out.len());
    });
    match subscribed {
        Ok(subscribed) => {
            portion.push_other(|out| location.layout.open(None, out));
            streaming::begin(worker, location, token, Way::Direct, portion, subscribed);
        }
        Err(refusal) => {
            match refusal {
                Refusal::NoMemory { .. } => worker::report_full_zone(),
                _ => refusals::report(request, refusal),
            }
            let opening = Opening { way: Way::Direct, frames_chunks: false, portion, rest: None };
            worker.audience.open(token, opening);
            let mut frames = Vec::new();
            let explain = refusal.explain().unwrap_or("");
            frame::encode_refusal(refusal.status(), explain, &mut frames);
            worker.audience.end(token, Reason::Refused, Some(frames));
        }
    }
    // Even if all is written, the read handler ends the connection; `keep_open` posts it.
    Ok(streaming::write_first(worker, token))
}

fn gap_of(subscribed: &Result<Subscribed, Refusal>) -> Option<Gap> {
    subscribed.as_ref().ok().and_then(Subscribed::gap)
}

/// Tells nginx the status for its log, and keeps it from sending a header.
fn note_header_sent(request: &mut Request, len: usize) {
    let r = request.fields_mut();
    r.headers_out.status = SWITCHING_PROTOCOLS;
    r.header_size = len;
    r.set_header_sent(1);
    // After the last frame nginx reads and throws away what the client still sends. If it closed at
    // once, the kernel would reset the connection, and the client could lose frames.
    r.set_lingering_close(1);
}

/// Keeps the connection for the WebSocket. Returns what the content handler must return.
fn keep_open(worker: &Worker, request: &mut Request) -> ngx_int_t {
    let r = request.fields_mut();
    r.read_event_handler = Some(events::on_frames);
    r.write_event_handler = Some(events::on_writable);
    worker.schedule();
    // Last, for nobody would take it back after a panic.
    request.hold();
    // Frames may have arrived already, with the request or after it.
    request.peer().post_read();
    NGX_DONE as ngx_int_t
}
