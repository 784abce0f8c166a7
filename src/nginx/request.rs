//! A request: nginx's fields as plain values.

use core::ptr::NonNull;
use std::borrow::Cow;

use ngx::ffi::{
    NGX_HTTP_DELETE, NGX_HTTP_GET, NGX_HTTP_HEAD, NGX_HTTP_OPTIONS, NGX_HTTP_POST, NGX_HTTP_PUT,
    ngx_http_complex_value_t, ngx_http_discard_request_body, ngx_http_request_t, ngx_int_t,
    ngx_pnalloc, ngx_pool_t, ngx_table_elt_t, ngx_uint_t,
};

use crate::nginx::location::Location;
use crate::nginx::{ffi, variables};
use crate::wire::path;

/// The method of a request, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Options,
    Other,
}

/// nginx could not allocate memory for the request. It has logged that.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NoMemory;

/// A live request. Borrows from it end with it.
#[derive(Debug)]
pub(crate) struct Request {
    r: NonNull<ngx_http_request_t>,
}

impl Request {
    /// The request that nginx gives to a callback; `None` for null.
    ///
    /// # Safety
    ///
    /// The request is live, and stays so as long as the result is used.
    pub(crate) unsafe fn new(r: *mut ngx_http_request_t) -> Option<Self> {
        NonNull::new(r).map(|r| Self { r })
    }

    /// For nginx's own functions.
    pub(crate) fn as_ptr(&self) -> *mut ngx_http_request_t {
        self.r.as_ptr()
    }

    /// For functions that look at it in their own way.
    pub(crate) fn as_non_null(&self) -> NonNull<ngx_http_request_t> {
        self.r
    }

    /// The fields, for reading. Do not hold them over a call into nginx.
    pub(crate) fn fields(&self) -> &ngx_http_request_t {
        // SAFETY: live by the promise of `new`; our thread is the only one.
        unsafe { self.r.as_ref() }
    }

    /// The fields, for writing. Do not hold them over a call into nginx.
    pub(crate) fn fields_mut(&mut self) -> &mut ngx_http_request_t {
        // SAFETY: live by the promise of `new`; our thread is the only one.
        unsafe { self.r.as_mut() }
    }

    /// Lives as long as the request.
    pub(crate) fn pool(&self) -> NonNull<ngx_pool_t> {
        NonNull::new(self.fields().pool).expect("a request has a pool")
    }

    /// It is no subrequest of another request.
    pub(crate) fn is_main(&self) -> bool {
        core::ptr::eq(self.r.as_ptr(), self.fields().main)
    }

    /// Nobody reads the response or waits for it: nginx has made the request only for its effect.
    /// The copy that `mirror` makes is such a request.
    pub(crate) fn is_detached(&self) -> bool {
        let r = self.fields();
        r.background() == 1 || r.post_action() == 1
    }

    /// Keeps the request alive when its content handler has returned `NGX_DONE`. It must be
    /// finalized later.
    pub(crate) fn hold(&mut self) {
        // SAFETY: the main request is live as long as any of its subrequests; nobody has a reference
        // to it.
        let main = unsafe { &mut *self.fields().main };
        main.set_count(main.count() + 1);
    }

    /// The method of the request line.
    pub(crate) fn method(&self) -> Method {
        const GET: ngx_uint_t = NGX_HTTP_GET as ngx_uint_t;
        const HEAD: ngx_uint_t = NGX_HTTP_HEAD as ngx_uint_t;
        const POST: ngx_uint_t = NGX_HTTP_POST as ngx_uint_t;
        const PUT: ngx_uint_t = NGX_HTTP_PUT as ngx_uint_t;
        const DELETE: ngx_uint_t = NGX_HTTP_DELETE as ngx_uint_t;
        const OPTIONS: ngx_uint_t = NGX_HTTP_OPTIONS as ngx_uint_t;
        match self.fields().method {
            GET => Method::Get,
            HEAD => Method::Head,
            POST => Method::Post,
            PUT => Method::Put,
            DELETE => Method::Delete,
            OPTIONS => Method::Options,
            _ => Method::Other,
        }
    }

    /// The first header with this name, without regard to case. For headers that are no lists.
    pub(crate) fn header(&self, name: &'static [u8]) -> Option<&[u8]> {
        self.header_lines(name).next()
    }

    /// `If-Modified-Since`, which nginx has found already.
    pub(crate) fn if_modified_since(&self) -> Option<&[u8]> {
        // SAFETY: null, or an element of the list of request headers.
        let header = unsafe { self.fields().headers_in.if_modified_since.as_ref() }?;
        Some(header.value.as_bytes())
    }

    /// `If-None-Match`, which nginx has found already.
    pub(crate) fn if_none_match(&self) -> Option<&[u8]> {
        // SAFETY: null, or an element of the list of request headers.
        let header = unsafe { self.fields().headers_in.if_none_match.as_ref() }?;
        Some(header.value.as_bytes())
    }

    /// The values of all headers with this name, in the order of the request. For headers that are
    /// lists: their lines make up one list (RFC 9110, section 5.3).
    pub(crate) fn header_lines(&self, name: &'static [u8]) -> impl Iterator<Item = &[u8]> {
        // SAFETY: nginx's list of request headers, complete before any handler runs.
        let headers =
            unsafe { ffi::list_items::<ngx_table_elt_t>(&self.fields().headers_in.headers) };
        headers
            .filter(|header| header.key.as_bytes().eq_ignore_ascii_case(name))
            .map(|header| header.value.as_bytes())
    }

    /// An argument of the query string, not decoded.
    pub(crate) fn argument(&self, name: &[u8]) -> Option<&[u8]> {
        // Not `ngx_http_arg`, which ignores case and wants a text that it may write to.
        let arguments = self.fields().args.as_bytes().split(|byte| *byte == b'&');
        arguments.filter_map(|argument| argument.strip_prefix(name)?.strip_prefix(b"=")).next()
    }

    /// The value of a directive with variables, percent-decoded once.
    pub(crate) fn decoded(
        &self,
        value: NonNull<ngx_http_complex_value_t>,
    ) -> Result<Vec<u8>, NoMemory> {
        // SAFETY: the request is live, and the result is copied at once.
        let text = unsafe { variables::evaluate(self.r, value) }.ok_or(NoMemory)?;
        Ok(path::decode(text).into_owned())
    }

    /// The decoded channel path; empty if there is none.
    ///
    /// # Safety
    ///
    /// The result is not used after the request's end. A handler may use it: the request outlives it.
    pub(crate) unsafe fn channels_path<'a>(
        &self,
        location: &Location,
    ) -> Result<&'a [u8], NoMemory> {
        // SAFETY: the request is live, and the caller uses the result no longer.
        let text = unsafe { location.channels_path.evaluate(self.r) }.ok_or(NoMemory)?;
        match path::decode(text) {
            Cow::Borrowed(text) => Ok(text),
            // SAFETY: as above.
            Cow::Owned(text) => unsafe { self.keep(&text) },
        }
    }

    /// A copy in the request's pool.
    ///
    /// # Safety
    ///
    /// It is not used after the request's end.
    unsafe fn keep<'a>(&self, text: &[u8]) -> Result<&'a [u8], NoMemory> {
        // SAFETY: the pool is the request's.
        let copy = unsafe { ngx_pnalloc(self.pool().as_ptr(), text.len().max(1)) }.cast::<u8>();
        if copy.is_null() {
            return Err(NoMemory);
        }
        // SAFETY: room for the text, which nobody else knows yet.
        unsafe { copy.copy_from_nonoverlapping(text.as_ptr(), text.len()) };
        // SAFETY: the copy that was just made; it lives as long as the request.
        Ok(unsafe { core::slice::from_raw_parts(copy, text.len()) })
    }

    /// Lets nginx read and throw away a body that is not used, so that it is not taken for the next
    /// request. `Err`: the content handler must return this.
    pub(crate) fn discard_body(&self) -> Result<(), ngx_int_t> {
        // SAFETY: the request is live, and nothing of it is borrowed.
        match unsafe { ngx_http_discard_request_body(self.as_ptr()) } {
            0 => Ok(()),
            code => Err(code),
        }
    }

    /// Keeps nginx from answering `If-None-Match` and `If-Modified-Since` by itself: in locations
    /// of the module they mean something else, or nothing.
    pub(crate) fn disable_not_modified(&mut self) {
        self.fields_mut().set_disable_not_modified(1);
    }
}
