//! Response headers. Their spelling is part of the protocol.

use core::mem;

#[cfg(not(nginx1_23_0))]
use ngx::ffi::{ngx_array_create, ngx_array_push};
use ngx::ffi::{ngx_list_push, ngx_pnalloc, ngx_str_t, ngx_table_elt_t};

use crate::nginx::ffi;
use crate::nginx::request::{NoMemory, Request};

/// Why a request was refused, or what was done.
pub(crate) const EXPLAIN: &str = "X-Nginx-PushStream-Explain";
/// Why a subscriber does not get all old messages that it has asked for.
pub(crate) const GAP: &str = "X-Nginx-PushStream-Gap";
/// The place that a poll has come to.
pub(crate) const CURSOR: &str = "X-Nginx-PushStream-Cursor";
/// The version of the module.
pub(crate) const TAG: &str = "X-Nginx-PushStream-Tag";
/// The commit that the module was built from.
pub(crate) const COMMIT: &str = "X-Nginx-PushStream-Commit";
/// The methods of a location.
pub(crate) const ALLOW: &str = "Allow";
/// The request header that the answer depends on.
pub(crate) const VARY: &str = "Vary";
/// The versions of the WebSocket protocol that the module speaks.
pub(crate) const WEBSOCKET_VERSION: &str = "Sec-WebSocket-Version";

const CACHE_CONTROL: (&str, &[u8]) = ("Cache-Control", b"no-cache, no-store, must-revalidate");
const EXPIRES: (&str, &[u8]) = ("Expires", b"Thu, 01 Jan 1970 00:00:01 GMT");

/// Adds a header. The value is copied.
pub(crate) fn add(request: &mut Request, name: &'static str, value: &[u8]) -> Result<(), NoMemory> {
    let pool = request.pool();
    // SAFETY: the pool is the request's; bytes that live as long as it does.
    let copy = unsafe { ngx_pnalloc(pool.as_ptr(), value.len().max(1)) }.cast::<u8>();
    if copy.is_null() {
        return Err(NoMemory);
    }
    // SAFETY: room for the value, which nobody else knows yet.
    unsafe { copy.copy_from_nonoverlapping(value.as_ptr(), value.len()) };
    push(request, name, ngx_str_t { len: value.len(), data: copy })?;
    Ok(())
}

/// Adds the two headers that keep caches from storing a response.
///
/// They are put where nginx and its modules look for them: `expires`, `gzip_proxied` and the
/// variables `$sent_http_...` find and replace them there. A value that was set before stays, for
/// instance that of an application which redirects to the location.
pub(crate) fn add_no_cache(request: &mut Request) -> Result<(), NoMemory> {
    if !is_shown(request.fields().headers_out.expires) {
        let entry = push(request, EXPIRES.0, ffi::borrowed_str(EXPIRES.1))?;
        request.fields_mut().headers_out.expires = entry;
    }
    if !has_cache_control(request) {
        let entry = push(request, CACHE_CONTROL.0, ffi::borrowed_str(CACHE_CONTROL.1))?;
        set_cache_control(request, entry)?;
    }
    Ok(())
}

/// Adds a header whose value lives as long as the request.
fn push(
    request: &mut Request,
    name: &'static str,
    value: ngx_str_t,
) -> Result<*mut ngx_table_elt_t, NoMemory> {
    // SAFETY: the list of response headers, made with the request.
    let entry = unsafe { ngx_list_push(&raw mut request.fields_mut().headers_out.headers) };
    if entry.is_null() {
        return Err(NoMemory);
    }
    let entry = entry.cast::<ngx_table_elt_t>();
    // SAFETY: numbers and pointers, for which zero is "nothing"; newer versions have more of them.
    let mut header: ngx_table_elt_t = unsafe { mem::zeroed() };
    header.hash = 1;
    header.key = ffi::borrowed_str(name.as_bytes());
    header.value = value;
    // SAFETY: the list's new element, of this type.
    unsafe { entry.write(header) };
    Ok(entry)
}

/// The header will be sent: it exists, and nobody has taken it back.
fn is_shown(entry: *const ngx_table_elt_t) -> bool {
    // SAFETY: null, or an element of the request's list of response headers.
    unsafe { entry.as_ref() }.is_some_and(|header| header.hash != 0)
}

#[cfg(nginx1_23_0)]
fn has_cache_control(request: &Request) -> bool {
    let mut entry = request.fields().headers_out.cache_control;
    // SAFETY: null at the end, or an element of the request's list of response headers.
    while let Some(header) = unsafe { entry.as_ref() } {
        if is_shown(header) {
            return true;
        }
        entry = header.next;
    }
    false
}

#[cfg(nginx1_23_0)]
fn set_cache_control(request: &mut Request, entry: *mut ngx_table_elt_t) -> Result<(), NoMemory> {
    let out = &mut request.fields_mut().headers_out;
    // SAFETY: an element that has just been made, and that nobody else refers to.
    unsafe { (*entry).next = out.cache_control };
    out.cache_control = entry;
    Ok(())
}

#[cfg(not(nginx1_23_0))]
fn has_cache_control(request: &Request) -> bool {
    let entries = &request.fields().headers_out.cache_control;
    if entries.elts.is_null() {
        return false;
    }
    // SAFETY: nginx's array of pointers to elements of the list of response headers.
    let entries = unsafe { entries.as_slice::<*mut ngx_table_elt_t>() };
    entries.iter().any(|entry| is_shown(*entry))
}

#[cfg(not(nginx1_23_0))]
fn set_cache_control(request: &mut Request, entry: *mut ngx_table_elt_t) -> Result<(), NoMemory> {
    let pool = request.pool();
    // SAFETY: the pool is the request's.
    let made = unsafe { ngx_array_create(pool.as_ptr(), 1, size_of::<*mut ngx_table_elt_t>()) };
    // SAFETY: null, or an array that nobody else knows yet.
    let made = unsafe { made.as_mut() }.ok_or(NoMemory)?;
    // SAFETY: it was made for one element of this type.
    let place = unsafe { ngx_array_push(&raw mut *made) }.cast::<*mut ngx_table_elt_t>();
    if place.is_null() {
        return Err(NoMemory);
    }
    // SAFETY: the array's new element.
    unsafe { place.write(entry) };
    // The request holds the array itself; the pool holds its elements.
    request.fields_mut().headers_out.cache_control = *made;
    Ok(())
}
