//! Read-only variables for logs and other directives: how a request was served, and how it ended.
//!
//! ```text
//!   $push_stream_mode            audit | statistics | publisher | streaming | polling | long-polling |
//!                                eventsource | websocket
//!   $push_stream_messages_sent   messages given to this subscriber, old ones included
//!   $push_stream_bytes_buffered  bytes that wait for its socket
//!   $push_stream_close_reason    why it ended, see [`crate::session::departure::Reason`]
//! ```
//!
//! While a subscriber is there, its record answers. nginx writes the access log when the record has
//! gone already; so what it says last goes into the request's own slots of those variables that the
//! configuration uses ([`write_down`]). What is no subscriber has no value: `-`
//! in a log.

use core::ptr::{self, NonNull};

use ngx::ffi::{
    NGX_HTTP_VAR_NOCACHEABLE, NGX_HTTP_VAR_NOHASH, NGX_OK, ngx_http_add_variable,
    ngx_http_core_loc_conf_t, ngx_http_core_module, ngx_http_get_variable_pt, ngx_http_request_t,
    ngx_http_variable_value_t, ngx_int_t, ngx_pnalloc, ngx_uint_t,
};

use crate::nginx::location::{self, Delivery, Mode};
use crate::nginx::parse::{Parse, Refused};
use crate::nginx::request::Request;
use crate::nginx::{ffi, subscriber};
use crate::session::departure::Entry;

/// The variables that speak about subscribers; the value is what nginx hands back as `data`.
const MESSAGES_SENT: usize = 0;
const BYTES_BUFFERED: usize = 1;
const CLOSE_REASON: usize = 2;
const NAMES: [&str; 3] =
    ["push_stream_messages_sent", "push_stream_bytes_buffered", "push_stream_close_reason"];

/// Index in a request of each variable about subscribers that the configuration uses.
#[derive(Clone, Copy, Default)]
pub(crate) struct Slots([Option<usize>; NAMES.len()]);

/// Before the first directive: makes the names known.
pub(super) fn declare(parse: &Parse) -> Result<(), Refused> {
    let flags = NGX_HTTP_VAR_NOHASH as ngx_uint_t;
    add(parse, "push_stream_mode", flags, Some(mode), 0)?;
    let flags = flags | NGX_HTTP_VAR_NOCACHEABLE as ngx_uint_t;
    for (data, name) in NAMES.iter().enumerate() {
        add(parse, name, flags, Some(about_subscriber), data)?;
    }
    Ok(())
}

/// After the last directive: which of them are used.
pub(super) fn resolve(parse: &Parse) {
    let used = parse.used_variables();
    let index = |name: &str| used.iter().position(|v| v.name.as_bytes() == name.as_bytes());
    let slots = Slots(NAMES.map(index));
    parse.main_conf().journal = slots;
}

/// Keeps the last entry about a subscriber for the access log. Its request is live, and ends soon.
pub(crate) fn write_down(r: NonNull<ngx_http_request_t>, entry: Entry) {
    if !has_line(r) {
        return;
    }
    let Slots(slots) = location::main_conf(r).journal;
    for (which, slot) in slots.into_iter().enumerate() {
        let Some(index) = slot else { continue };
        // SAFETY: the request is live.
        let values = unsafe { (*r.as_ptr()).variables };
        let value = values.wrapping_add(index);
        // SAFETY: the index is one of the request's configuration.
        let value = unsafe { &mut *value };
        set(r, value, entry, which);
        // Nobody could find out later.
        value.set_no_cacheable(0);
    }
}

/// The request gets a line of its own in the access log. A subrequest, which shares the variables of its
/// main request, does with `log_subrequest on` only.
fn has_line(r: NonNull<ngx_http_request_t>) -> bool {
    // SAFETY: the request is live, and nothing below changes it.
    let request = unsafe { r.as_ref() };
    if ptr::eq(request, request.main) {
        return true;
    }
    // SAFETY: a static of nginx's, written while it loads modules.
    let index = unsafe { ngx_http_core_module.ctx_index };
    // SAFETY: the core module made what is in its slot.
    let conf = unsafe { ffi::slot::<ngx_http_core_loc_conf_t>(request.loc_conf, index) };
    // SAFETY: configurations outlive their requests and do not change.
    conf.is_some_and(|conf| unsafe { conf.as_ref() }.log_subrequest == 1)
}

fn add(
    parse: &Parse,
    name: &str,
    flags: ngx_uint_t,
    source: ngx_http_get_variable_pt,
    data: usize,
) -> Result<(), Refused> {
    let mut name = ffi::borrowed_str(name.as_bytes());
    // SAFETY: nginx copies the name; the parser's state is valid for the callback.
    let variable = unsafe { ngx_http_add_variable(parse.as_ptr(), &raw mut name, flags) };
    // SAFETY: null, or what nginx has just made for us.
    let variable = unsafe { variable.as_mut() }.ok_or(Refused::Logged)?;
    variable.get_handler = source;
    variable.data = data;
    Ok(())
}

/// nginx calls this when somebody asks for `$push_stream_mode`.
///
/// # Safety
///
/// `r` is a live request and `value` its slot for the variable.
unsafe extern "C" fn mode(
    r: *mut ngx_http_request_t,
    value: *mut ngx_http_variable_value_t,
    _data: usize,
) -> ngx_int_t {
    ffi::guard("journal::mode", NGX_OK as ngx_int_t, || {
        // SAFETY: see above.
        let Some(value) = (unsafe { value.as_mut() }) else { return NGX_OK as ngx_int_t };
        // SAFETY: see above.
        let mode = unsafe { Request::new(r) }.and_then(|request| mode_of(&request));
        match mode {
            Some(text) => fill(value, text.as_bytes()),
            None => value.set_not_found(1),
        }
        NGX_OK as ngx_int_t
    })
}

fn mode_of(request: &Request) -> Option<&'static str> {
    let location = location::of(request.as_non_null())?;
    Some(match location.mode {
        Mode::Audit => "audit",
        Mode::Statistics => "statistics",
        Mode::Publisher { .. } => "publisher",
        Mode::Subscriber(delivery) => match subscriber::effective(delivery, request) {
            Delivery::Streaming => "streaming",
            Delivery::Polling => "polling",
            Delivery::LongPolling => "long-polling",
            Delivery::EventSource => "eventsource",
            Delivery::WebSocket => "websocket",
        },
    })
}

/// nginx calls this when somebody asks for a variable about a subscriber that has not ended.
///
/// # Safety
///
/// `r` is a live request, `value` its slot for the variable, `data` one of the constants above.
unsafe extern "C" fn about_subscriber(
    r: *mut ngx_http_request_t,
    value: *mut ngx_http_variable_value_t,
    data: usize,
) -> ngx_int_t {
    ffi::guard("journal::about_subscriber", NGX_OK as ngx_int_t, || {
        // SAFETY: see above.
        let Some(value) = (unsafe { value.as_mut() }) else { return NGX_OK as ngx_int_t };
        let Some(r) = NonNull::new(r) else { return NGX_OK as ngx_int_t };
        match location::of(r).and_then(|_| subscriber::entry(r)) {
            Some(entry) => set(r, value, entry, data),
            None => value.set_not_found(1),
        }
        NGX_OK as ngx_int_t
    })
}

fn set(
    r: NonNull<ngx_http_request_t>,
    value: &mut ngx_http_variable_value_t,
    entry: Entry,
    which: usize,
) {
    let number = match which {
        MESSAGES_SENT => u64::from(entry.messages_sent),
        BYTES_BUFFERED => entry.bytes_buffered as u64,
        _ => {
            debug_assert_eq!(which, CLOSE_REASON);
            match entry.reason {
                Some(reason) => fill(value, reason.text()),
                None => value.set_not_found(1),
            }
            return;
        }
    };
    let text = number.to_string();
    // SAFETY: the request is live, and so is its pool.
    let pool = unsafe { (*r.as_ptr()).pool };
    // SAFETY: as above.
    let copy = unsafe { ngx_pnalloc(pool, text.len()) }.cast::<u8>();
    if copy.is_null() {
        value.set_not_found(1);
        return;
    }
    // SAFETY: room for the text, which nobody else knows yet.
    unsafe { copy.copy_from_nonoverlapping(text.as_ptr(), text.len()) };
    // SAFETY: the copy lives as long as the request.
    fill(value, unsafe { core::slice::from_raw_parts(copy, text.len()) });
}

/// The text lives as long as the request.
fn fill(value: &mut ngx_http_variable_value_t, text: &[u8]) {
    value.set_len(text.len() as u32);
    value.set_valid(1);
    value.set_not_found(0);
    value.set_no_cacheable(0);
    value.data = text.as_ptr().cast_mut();
}
