//! Complete responses: with a body, without one, and refusals.
//!
//! Each function sends through nginx's filters. Its result is what a content handler must return,
//! or what the request must be finalized with.

use core::ptr::{self, NonNull};

use ngx::ffi::{
    NGX_ERROR, NGX_HTTP_INTERNAL_SERVER_ERROR, NGX_HTTP_OK, NGX_OK, ngx_buf_t, ngx_chain_t,
    ngx_create_temp_buf, ngx_http_output_filter, ngx_http_request_t, ngx_http_send_header,
    ngx_int_t, ngx_str_t, ngx_uint_t, off_t,
};

use crate::hub::Refusal;
use crate::nginx::peer::Peer;
use crate::nginx::request::{NoMemory, Request};
use crate::nginx::{ffi, headers, refusals, worker};

/// nginx answers with its own page for 500.
pub(crate) const FAILED: ngx_int_t = NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t;

/// The result of sending; without memory nothing was sent.
pub(crate) type Sent = Result<ngx_int_t, NoMemory>;

/// The code for nginx. Without memory nginx answers with its own page.
pub(crate) fn code(sent: Sent) -> ngx_int_t {
    sent.unwrap_or(FAILED)
}

/// Runs the work of a handler that answers the request, and after a panic answers as [`failed`] says.
///
/// # Safety
///
/// `r` is a live request.
pub(crate) unsafe fn guarded(
    name: &str,
    r: *mut ngx_http_request_t,
    body: impl FnOnce(&mut Request) -> Sent,
) -> ngx_int_t {
    let Some(peer) = NonNull::new(r) else { return FAILED };
    // SAFETY: by this function's own contract.
    let peer = unsafe { Peer::new(peer) };
    let done = ffi::guard(name, None, || {
        // SAFETY: as above.
        let mut request = unsafe { Request::new(r) }?;
        Some(code(body(&mut request)))
    });
    done.unwrap_or_else(|| failed(peer))
}

/// After a panic: nginx's page, unless the header has been sent. Then the connection ends, and the client
/// can tell that this is not the end of the response.
pub(super) fn failed(peer: Peer) -> ngx_int_t {
    if !peer.has_sent_header() {
        return FAILED;
    }
    peer.reset_when_closed(true);
    peer.set_broken();
    NGX_ERROR as ngx_int_t
}

/// Sends status and headers, `Content-Length: 0`, and no body; never nginx's error page.
pub(crate) fn empty(request: &mut Request, status: u16) -> ngx_int_t {
    let r = request.fields_mut();
    r.headers_out.status = ngx_uint_t::from(status);
    r.headers_out.content_length_n = 0;
    r.set_header_only(1);
    // SAFETY: the request is live, its header has not been sent, and nothing of it is borrowed.
    unsafe { ngx_http_send_header(request.as_ptr()) }
}

/// The same as [`empty`], with the reason in a header.
pub(crate) fn explained(request: &mut Request, status: u16, explain: &str) -> Sent {
    headers::add(request, headers::EXPLAIN, explain.as_bytes())?;
    Ok(empty(request, status))
}

/// 405, with the methods of the location.
pub(crate) fn not_allowed(request: &mut Request, methods: &str) -> Sent {
    refusals::report_as(request, 405, "method not allowed");
    headers::add(request, headers::ALLOW, methods.as_bytes())?;
    Ok(empty(request, 405))
}

/// Answers a request that the hub has refused. If the zone is full the connection is closed, which
/// clients expect.
pub(crate) fn refused(request: &mut Request, refusal: Refusal) -> Sent {
    if let Refusal::NoMemory { message } = refusal {
        worker::report_full_zone();
        request.fields_mut().set_keepalive(0);
        if message {
            return Ok(FAILED);
        }
    }
    refusals::report(request, refusal);
    match refusal.explain() {
        Some(explain) => explained(request, refusal.status(), explain),
        None => Ok(empty(request, refusal.status())),
    }
}

/// A refusal whose reason is in the log only.
pub(crate) fn refused_silently(request: &mut Request, status: u16, why: &'static str) -> ngx_int_t {
    refusals::report_as(request, status, why);
    empty(request, status)
}

/// 200 with a body of known length, in one buffer.
pub(crate) fn text(request: &mut Request, content_type: &'static str, body: &[u8]) -> Sent {
    let buffer = buffer_with(request, &[body])?;
    let r = request.fields_mut();
    r.headers_out.status = NGX_HTTP_OK as ngx_uint_t;
    r.headers_out.content_length_n = off_t::try_from(body.len()).map_err(|_| NoMemory)?;
    // nginx only reads it.
    r.headers_out.content_type =
        ngx_str_t { len: content_type.len(), data: content_type.as_ptr().cast_mut() };
    // The length without parameters: `gzip_types` compares so much.
    r.headers_out.content_type_len = content_type.find(';').unwrap_or(content_type.len());
    r.headers_out.content_type_lowcase = ptr::null_mut();
    if let Some(code) = send_header(request) {
        return Ok(code);
    }
    Ok(output(request, buffer))
}

/// Passes on a buffer of the request's own, the last of the response. The content handler returns the
/// result.
pub(super) fn output(request: &mut Request, buffer: *mut ngx_buf_t) -> ngx_int_t {
    let mut link = ngx_chain_t { buf: buffer, next: ptr::null_mut() };
    // SAFETY: the request is live, and nothing of it is borrowed; filters copy the links that they
    // keep, and the buffer is the request's.
    unsafe { ngx_http_output_filter(request.as_ptr(), &raw mut link) }
}

/// Sends the status and the headers that are set. `Some`: no body may follow, and the content
/// handler returns this.
pub(crate) fn send_header(request: &mut Request) -> Option<ngx_int_t> {
    // SAFETY: the request is live, its header has not been sent, and nothing of it is borrowed.
    let sent = unsafe { ngx_http_send_header(request.as_ptr()) };
    let is_over = sent == NGX_ERROR as ngx_int_t
        || sent > NGX_OK as ngx_int_t
        || request.fields().header_only() == 1;
    is_over.then_some(sent)
}

/// The whole body in one buffer of the request's, the last of the response.
pub(super) fn buffer_with(request: &Request, parts: &[&[u8]]) -> Result<*mut ngx_buf_t, NoMemory> {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    // SAFETY: the pool is the request's.
    let buffer = unsafe { ngx_create_temp_buf(request.pool().as_ptr(), len.max(1)) };
    // SAFETY: null, or a buffer that nobody else knows yet.
    let fields = unsafe { buffer.as_mut() }.ok_or(NoMemory)?;
    for part in parts {
        // SAFETY: it was made with room for the bytes of all parts.
        unsafe { fields.last.copy_from_nonoverlapping(part.as_ptr(), part.len()) };
        fields.last = fields.last.wrapping_add(part.len());
    }
    fields.set_last_buf(u32::from(request.is_main()));
    fields.set_last_in_chain(1);
    Ok(buffer)
}
