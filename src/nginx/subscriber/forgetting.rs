//! An open response gives back what nginx keeps of its request, where `push_stream_forget_request` is on.
//!
//! ```text
//!   freed     the buffers that hold the request's header, the lists of request and response headers
//!   copied    request line, path, arguments, host, and values of variables
//! ```
//!
//! So whatever nginx or its own modules look at later is a copy, or is no longer there. Other modules may
//! keep pointers that nobody can know; so the directive is off by default.

use core::ops::Range;
use core::{mem, ptr};

use ngx::ffi::{
    ngx_buf_t, ngx_connection_t, ngx_http_connection_t, ngx_http_core_main_conf_t,
    ngx_http_core_module, ngx_http_headers_in_t, ngx_http_headers_out_t, ngx_http_request_t,
    ngx_http_variable_value_t, ngx_list_t, ngx_palloc, ngx_pfree, ngx_pnalloc, ngx_pool_t,
    ngx_str_t, ngx_table_elt_t,
};

use crate::nginx::request::{NoMemory, Request};
use crate::nginx::{ffi, log};

/// Forgets the request's header, if nobody can need it any more. To be called last in the content
/// handler, before it holds the request, for a response whose header has been sent and which no body
/// filter sees.
pub(super) fn forget_header(request: &mut Request) {
    if is_idle(request) && try_forget(request).is_err() {
        // Nothing is wrong then: some texts are copies, and the rest stays as it is.
        log::info!(request.peer().log(), "no memory to forget the header of a request");
    }
}

fn try_forget(request: &mut Request) -> Result<(), NoMemory> {
    let r = request.fields_mut();
    let buffers = Buffers::of(r);
    let authorization = copy_of_header(r.pool, r.headers_in.authorization)?;
    let spare_in = one_header(r.pool)?;
    let spare_out = one_header(r.pool)?;
    let spare_trailer = one_header(r.pool)?;
    move_texts(r, &buffers)?;
    // From here on nothing can fail.
    forget_parser(r);
    forget_request_headers(&mut r.headers_in, r.pool, spare_in);
    // The user's name is in there.
    r.headers_in.authorization = authorization;
    forget_response_headers(&mut r.headers_out, r.pool, spare_out);
    // Trailers are added at the end.
    if r.headers_out.trailers.part.nelts == 0 {
        empty(&mut r.headers_out.trailers, r.pool, spare_trailer);
    }
    buffers.free();
    Ok(())
}

/// The header has been read into buffers of the connection, and nothing else reads them now.
fn is_idle(request: &Request) -> bool {
    let r = request.fields();
    // HTTP/2 and HTTP/3 have numbers of 2000 and 3000. The parser has more places in a request line with
    // a host. A subrequest has the same headers, and counts.
    if !request.is_main()
        || !r.stream.is_null()
        || r.http_version >= 2000
        || r.count() != 1
        || r.discard_body() == 1
        || !r.schema_start.is_null()
        || !r.request_body.is_null()
        || !r.upstream.is_null()
        || !r.postponed.is_null()
        || !r.posted_requests.is_null()
        || r.header_in.is_null()
    {
        return false;
    }
    // SAFETY: a buffer of the connection, which lives as long as it does.
    let header_in = unsafe { &*r.header_in };
    // What follows the header is the next request.
    header_in.pos == header_in.last
}

/// The buffers that hold the header of a request.
struct Buffers {
    pool: *mut ngx_pool_t,
    buffers: Vec<*mut ngx_buf_t>,
    places: Vec<Range<usize>>,
}

impl Buffers {
    fn of(r: &ngx_http_request_t) -> Self {
        // SAFETY: a request's connection lives as long as the request.
        let connection: &ngx_connection_t = unsafe { &*r.connection };
        // SAFETY: so does what nginx keeps for the connections of HTTP.
        let http: &ngx_http_connection_t = unsafe { &*r.http_connection };
        let mut buffers = vec![connection.buffer];
        let mut link = http.busy;
        // SAFETY: a chain of the connection's, which ends with null.
        while let Some(here) = unsafe { link.as_ref() } {
            buffers.push(here.buf);
            link = here.next;
        }
        buffers.retain(|buffer| !buffer.is_null());
        let place = |buffer: &*mut ngx_buf_t| {
            // SAFETY: the buffers of a connection live as long as it does.
            let buffer = unsafe { &**buffer };
            buffer.start.addr()..buffer.end.addr()
        };
        let places = buffers.iter().map(place).collect();
        Self { pool: connection.pool, buffers, places }
    }

    fn hold(&self, bytes: *const u8) -> bool {
        self.places.iter().any(|place| place.contains(&bytes.addr()))
    }

    /// nginx's own way for connections that wait for another request: it sees at `pos` that there is no
    /// memory, and from `start` and `end` how much it needs.
    fn free(self) {
        for buffer in self.buffers {
            // SAFETY: see `of`; nobody has a reference to it.
            let buffer = unsafe { &mut *buffer };
            // SAFETY: the pool looks for it among its large blocks, and does nothing if it is none.
            let freed = unsafe { ngx_pfree(self.pool, buffer.start.cast()) };
            if freed != 0 {
                continue;
            }
            let len = buffer.end.addr() - buffer.start.addr();
            buffer.start = ptr::null_mut();
            buffer.pos = ptr::null_mut();
            buffer.last = ptr::null_mut();
            buffer.end = ptr::without_provenance_mut(len);
        }
    }
}

/// Copies every text of the request that stands in the buffers.
fn move_texts(r: &mut ngx_http_request_t, buffers: &Buffers) -> Result<(), NoMemory> {
    let pool = r.pool;
    let line = r.request_line;
    let moved_line = copy(pool, line)?;
    let in_line = line.data.addr()..line.data.addr() + line.len;
    let moved = |text: ngx_str_t| -> Result<ngx_str_t, NoMemory> {
        if !buffers.hold(text.data) {
            return Ok(text);
        }
        // Most of them are parts of the request line.
        let from = text.data.addr().wrapping_sub(line.data.addr());
        if in_line.contains(&text.data.addr()) && text.len <= line.len - from {
            return Ok(ngx_str_t { len: text.len, data: moved_line.data.wrapping_add(from) });
        }
        copy(pool, text)
    };
    let texts = [
        &mut r.uri,
        &mut r.args,
        &mut r.exten,
        &mut r.unparsed_uri,
        &mut r.method_name,
        &mut r.http_protocol,
        &mut r.headers_in.server,
        &mut r.headers_in.user,
        &mut r.headers_in.passwd,
    ];
    for text in texts {
        *text = moved(*text)?;
    }
    for value in variables(r) {
        let text = ngx_str_t { len: value.len() as usize, data: value.data };
        value.data = moved(text)?.data;
    }
    if buffers.hold(r.captures_data) {
        if in_line.contains(&r.captures_data.addr()) {
            let from = r.captures_data.addr() - line.data.addr();
            r.captures_data = moved_line.data.wrapping_add(from);
        } else {
            r.ncaptures = 0;
        }
    }
    r.request_line = moved_line;
    Ok(())
}

fn copy(pool: *mut ngx_pool_t, text: ngx_str_t) -> Result<ngx_str_t, NoMemory> {
    // SAFETY: the pool is the request's.
    let data = unsafe { ngx_pnalloc(pool, text.len.max(1)) }.cast::<u8>();
    if data.is_null() {
        return Err(NoMemory);
    }
    // SAFETY: room for the text, which nobody else knows yet.
    unsafe { data.copy_from_nonoverlapping(text.data, text.len) };
    Ok(ngx_str_t { len: text.len, data })
}

/// The values of variables that the request has looked up.
fn variables<'a>(r: &ngx_http_request_t) -> &'a mut [ngx_http_variable_value_t] {
    // SAFETY: a static of nginx's, written while it loads modules.
    let index = unsafe { ngx_http_core_module.ctx_index };
    // SAFETY: one slot per http module; the core module is always there.
    let conf = unsafe { ffi::slot::<ngx_http_core_main_conf_t>(r.main_conf, index) };
    let Some(conf) = conf else { return &mut [] };
    // SAFETY: configurations outlive their requests and do not change.
    let count = unsafe { conf.as_ref() }.variables.nelts;
    if r.variables.is_null() {
        return &mut [];
    }
    // SAFETY: nginx has made the array for so many values; nobody else looks at it now.
    unsafe { core::slice::from_raw_parts_mut(r.variables, count) }
}

/// The places of the parser, which has done its work.
fn forget_parser(r: &mut ngx_http_request_t) {
    let places = [
        &mut r.header_name_start,
        &mut r.header_name_end,
        &mut r.header_start,
        &mut r.header_end,
        &mut r.uri_start,
        &mut r.uri_end,
        &mut r.uri_ext,
        &mut r.args_start,
        &mut r.request_start,
        &mut r.request_end,
        &mut r.method_end,
        &mut r.host_start,
        &mut r.host_end,
    ];
    for place in places {
        *place = ptr::null_mut();
    }
}

fn forget_request_headers(
    headers: &mut ngx_http_headers_in_t,
    pool: *mut ngx_pool_t,
    spare: *mut ngx_table_elt_t,
) {
    empty(&mut headers.headers, pool, spare);
    // SAFETY: numbers and pointers, for which zero is "nothing".
    let mut kept: ngx_http_headers_in_t = unsafe { mem::zeroed() };
    kept.headers = headers.headers;
    kept.user = headers.user;
    kept.passwd = headers.passwd;
    kept.server = headers.server;
    kept.content_length_n = headers.content_length_n;
    kept.keep_alive_n = headers.keep_alive_n;
    kept._bitfield_1 = headers._bitfield_1;
    *headers = kept;
}

fn forget_response_headers(
    headers: &mut ngx_http_headers_out_t,
    pool: *mut ngx_pool_t,
    spare: *mut ngx_table_elt_t,
) {
    empty(&mut headers.headers, pool, spare);
    // SAFETY: numbers and pointers, for which zero is "nothing".
    let mut kept: ngx_http_headers_out_t = unsafe { mem::zeroed() };
    kept.headers = headers.headers;
    kept.trailers = headers.trailers;
    kept.status = headers.status;
    kept.status_line = headers.status_line;
    kept.override_charset = headers.override_charset;
    kept.content_type_len = headers.content_type_len;
    kept.content_type = headers.content_type;
    kept.charset = headers.charset;
    kept.content_type_lowcase = headers.content_type_lowcase;
    kept.content_type_hash = headers.content_type_hash;
    kept.content_length_n = headers.content_length_n;
    kept.content_offset = headers.content_offset;
    kept.date_time = headers.date_time;
    kept.last_modified_time = headers.last_modified_time;
    *headers = kept;
}

/// A header of its own, in no list.
fn copy_of_header(
    pool: *mut ngx_pool_t,
    header: *const ngx_table_elt_t,
) -> Result<*mut ngx_table_elt_t, NoMemory> {
    // SAFETY: null, or an element of the request's list of headers.
    let Some(header) = (unsafe { header.as_ref() }) else { return Ok(ptr::null_mut()) };
    let place = one_header(pool)?;
    // SAFETY: numbers and pointers, for which zero is "nothing".
    let mut made: ngx_table_elt_t = unsafe { mem::zeroed() };
    made.hash = header.hash;
    made.key = copy(pool, header.key)?;
    made.value = copy(pool, header.value)?;
    made.lowcase_key = header.lowcase_key;
    // SAFETY: room for one element, which nobody else knows yet.
    unsafe { place.write(made) };
    Ok(place)
}

/// Room for the one header of an empty list.
fn one_header(pool: *mut ngx_pool_t) -> Result<*mut ngx_table_elt_t, NoMemory> {
    // SAFETY: the pool is the request's.
    let header = unsafe { ngx_palloc(pool, size_of::<ngx_table_elt_t>()) };
    if header.is_null() { Err(NoMemory) } else { Ok(header.cast()) }
}

/// A list without headers, to which some may be added. The pool takes its arrays back if they are large
/// blocks.
fn empty(list: &mut ngx_list_t, pool: *mut ngx_pool_t, spare: *mut ngx_table_elt_t) {
    let mut part = &raw const list.part;
    // SAFETY: the list's first part or its successor; a list ends with null.
    while let Some(here) = unsafe { part.as_ref() } {
        // SAFETY: the pool looks for it among its large blocks, and does nothing if it is none.
        unsafe { ngx_pfree(pool, here.elts) };
        part = here.next;
    }
    list.part.elts = spare.cast();
    list.part.nelts = 0;
    list.part.next = ptr::null_mut();
    list.last = &raw mut list.part;
    list.nalloc = 1;
}
