//! Response headers, spelled exactly as clients and their tests know them.

use core::mem;

use ngx::ffi::{ngx_list_push, ngx_pnalloc, ngx_table_elt_t};

use crate::nginx::ffi;
use crate::nginx::request::{NoMemory, Request};

/// Why a request was refused, or what was done.
pub(crate) const EXPLAIN: &str = "X-Nginx-PushStream-Explain";
/// The version of the module.
pub(crate) const TAG: &str = "X-Nginx-PushStream-Tag";
/// The commit that the module was built from.
pub(crate) const COMMIT: &str = "X-Nginx-PushStream-Commit";
/// Which methods a location knows.
pub(crate) const ALLOW: &str = "Allow";
/// Which versions of the WebSocket protocol we speak.
pub(crate) const WEBSOCKET_VERSION: &str = "Sec-WebSocket-Version";

const CACHE_CONTROL: (&str, &[u8]) = ("Cache-Control", b"no-cache, no-store, must-revalidate");
const EXPIRES: (&str, &[u8]) = ("Expires", b"Thu, 01 Jan 1970 00:00:01 GMT");
const ALLOWED_HEADERS: (&str, &[u8]) = (
    "Access-Control-Allow-Headers",
    b"If-Modified-Since,If-None-Match,Etag,Event-Id,Event-Type,Last-Event-Id",
);

/// Adds a header after those that are there. The value is copied.
pub(crate) fn add(request: &mut Request, name: &'static str, value: &[u8]) -> Result<(), NoMemory> {
    let pool = request.pool();
    // SAFETY: the pool is the request's; bytes that live as long as it does.
    let copy = unsafe { ngx_pnalloc(pool.as_ptr(), value.len().max(1)) }.cast::<u8>();
    if copy.is_null() {
        return Err(NoMemory);
    }
    // SAFETY: room for the value, which nobody else knows yet.
    unsafe { copy.copy_from_nonoverlapping(value.as_ptr(), value.len()) };
    // SAFETY: the list of response headers, made with the request.
    let entry = unsafe { ngx_list_push(&raw mut request.fields_mut().headers_out.headers) };
    if entry.is_null() {
        return Err(NoMemory);
    }
    // SAFETY: numbers and pointers, for which zero is "nothing"; newer versions have more of them.
    let mut header: ngx_table_elt_t = unsafe { mem::zeroed() };
    header.hash = 1;
    header.key = ffi::borrowed_str(name.as_bytes());
    header.value.len = value.len();
    header.value.data = copy;
    // SAFETY: the list's new element, of this type.
    unsafe { entry.cast::<ngx_table_elt_t>().write(header) };
    Ok(())
}

/// Nobody may keep an answer of ours.
pub(crate) fn add_no_cache(request: &mut Request) -> Result<(), NoMemory> {
    add(request, EXPIRES.0, EXPIRES.1)?;
    add(request, CACHE_CONTROL.0, CACHE_CONTROL.1)
}

/// Lets pages of another origin read the answer, if the location says of which.
///
/// An origin with a control byte is none: it may be the client's own text, decoded, and would
/// become headers of the client's choice.
pub(crate) fn add_cors(
    request: &mut Request,
    origin: &[u8],
    methods: &str,
) -> Result<(), NoMemory> {
    if origin.is_empty() || origin.iter().any(u8::is_ascii_control) {
        return Ok(());
    }
    add(request, "Access-Control-Allow-Origin", origin)?;
    add(request, "Access-Control-Allow-Methods", methods.as_bytes())?;
    add(request, ALLOWED_HEADERS.0, ALLOWED_HEADERS.1)
}
