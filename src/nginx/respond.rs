//! Responses with messages: content type, status, headers, and the whole answer to a poll.

use core::ptr::{self, NonNull};

use ngx::ffi::{
    NGX_ERROR, NGX_HTTP_OK, NGX_OK, ngx_http_send_header, ngx_http_set_content_type, ngx_int_t,
    ngx_pnalloc, ngx_uint_t,
};

use crate::model::{Cursor, Gap};
use crate::nginx::answer::{self, Sent};
use crate::nginx::loans::{self, Loans};
use crate::nginx::location::Location;
use crate::nginx::peer::Peer;
use crate::nginx::request::{NoMemory, Request};
use crate::nginx::{cors, headers};
use crate::session::Framing;
use crate::session::outbox::Piece;
use crate::session::reply::Body;
use crate::wire::cursor;
use crate::wire::resume::{Announced, ETAG_MAX};

/// Content type of event streams, whatever `types` and `default_type` say.
const EVENT_STREAM: &[u8] = b"text/event-stream; charset=utf-8";
/// Content type of JSONP.
const JAVASCRIPT: &[u8] = b"application/javascript";

/// A body as small as this is copied into the request's pool: that costs less than lending it.
const COPIED_MAX: usize = 2048;

impl Request {
    pub(super) fn peer(&self) -> Peer {
        // SAFETY: the request is live by the promise of `Request::new`; a subscriber's record, which keeps
        // the value, is forgotten when the request's cleanup runs.
        unsafe { Peer::new(self.as_non_null()) }
    }
}

/// Adds the header for a client that does not get all old messages that it has asked for, and the one with
/// the place of a poll. Pages of another origin may read them if they may read the response.
pub(super) fn tell(
    request: &mut Request,
    location: &Location,
    gap: Option<Gap>,
    place: Option<Cursor>,
) -> Result<(), NoMemory> {
    if let Some(gap) = gap {
        headers::add(request, headers::GAP, gap.text().as_bytes())?;
    }
    if let Some(place) = place {
        headers::add(request, headers::CURSOR, &cursor::word(&place))?;
    }
    let names = [gap.map(|_| headers::GAP), place.map(|_| headers::CURSOR)];
    let names: Vec<&str> = names.into_iter().flatten().collect();
    cors::expose(request, &location.cors, &names)
}

/// Status and headers of a response that stays open. `Some`: nginx has ended the request, and this is what
/// to return.
pub(super) fn open(
    request: &mut Request,
    location: &Location,
) -> Result<Option<ngx_int_t>, NoMemory> {
    set_content_type(request, location, None)?;
    request.fields_mut().headers_out.status = NGX_HTTP_OK as ngx_uint_t;
    Ok(answer::send_header(request))
}

/// Status and headers of a poll's answer with messages. `Some`: nothing may follow, and this is what to
/// return.
pub(super) fn open_poll(
    request: &mut Request,
    location: &Location,
    has_callback: bool,
    announced: &Announced,
) -> Result<Option<ngx_int_t>, NoMemory> {
    announce(request, location, has_callback, announced)?;
    request.fields_mut().headers_out.status = NGX_HTTP_OK as ngx_uint_t;
    Ok(answer::send_header(request))
}

/// 200, with this body.
pub(super) fn messages(
    request: &mut Request,
    location: &Location,
    has_callback: bool,
    announced: &Announced,
    body: Body,
) -> Sent {
    let peer = request.peer();
    if (1..=COPIED_MAX).contains(&body.len()) {
        let buffer = answer::buffer_with(request, &body.parts())?;
        return match open_poll(request, location, has_callback, announced)? {
            Some(code) => Ok(code),
            None => Ok(answer::output(request, buffer)),
        };
    }
    let loans = Loans::of(peer).ok_or(NoMemory)?;
    match open_poll(request, location, has_callback, announced)? {
        Some(code) => Ok(code),
        None => Ok(finish(peer, body.into_pieces(), loans)),
    }
}

/// 304, without a body.
pub(super) fn not_modified(
    request: &mut Request,
    location: &Location,
    has_callback: bool,
    announced: &Announced,
) -> Sent {
    announce(request, location, has_callback, announced)?;
    let r = request.fields_mut();
    r.headers_out.status = 304;
    r.set_header_only(1);
    // SAFETY: the request is live, its header has not been sent, and nothing of it is borrowed.
    Ok(unsafe { ngx_http_send_header(request.as_ptr()) })
}

/// Ends the body with these pieces. What to finalize the request with.
pub(super) fn finish(
    peer: Peer,
    last: impl IntoIterator<Item = Piece>,
    loans: NonNull<Loans>,
) -> ngx_int_t {
    match loans::finish(peer, last, loans) {
        Ok(()) => NGX_OK as ngx_int_t,
        Err(_) => NGX_ERROR as ngx_int_t,
    }
}

fn announce(
    request: &mut Request,
    location: &Location,
    has_callback: bool,
    announced: &Announced,
) -> Result<(), NoMemory> {
    set_content_type(request, location, has_callback.then_some(JAVASCRIPT))?;
    if let Some(date) = announced.last_modified() {
        headers::add(request, "Last-Modified", &date)?;
    }
    if let Some(etag) = announced.etag(&mut [0; ETAG_MAX]) {
        headers::add(request, "Etag", etag)?;
    }
    Ok(())
}

/// Content type of a response with messages: `fixed`, else that of event streams if it is one, else the
/// old directive's, else nginx's choice.
fn set_content_type(
    request: &mut Request,
    location: &Location,
    fixed: Option<&'static [u8]>,
) -> Result<(), NoMemory> {
    let is_event_stream = location.layout.form().framing() == Framing::EventSource;
    let fixed = fixed.or(is_event_stream.then_some(EVENT_STREAM));
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
