//! Read-only variables for logs and other directives: how a request was served, and how it ended.
//!
//! ```text
//!   $push_stream_mode            audit | metrics | statistics | publisher | streaming | polling | long-polling |
//!                                eventsource | websocket
//!   $push_stream_messages_sent   messages given to this subscriber, old ones included
//!   $push_stream_messages_skipped
//!                                messages that it was too slow for
//!   $push_stream_bytes_buffered  bytes that wait for its socket
//!   $push_stream_gap             why it has not got all old messages that it has asked for, if so
//!   $push_stream_close_reason    why it ended, see [`crate::session::departure::Reason`]
//! ```
//!
//! The request of anything else than a subscriber has no values; a log shows `-` for them.

use core::ptr::NonNull;

use ngx::ffi::{
    NGX_HTTP_VAR_NOCACHEABLE, NGX_HTTP_VAR_NOHASH, NGX_OK, ngx_http_add_variable,
    ngx_http_get_variable_pt, ngx_http_request_t, ngx_http_variable_value_t, ngx_int_t, ngx_uint_t,
};

use crate::nginx::journal::NAMES;
use crate::nginx::location::Mode;
use crate::nginx::parse::{Parse, Refused};
use crate::nginx::request::Request;
use crate::nginx::{ffi, journal, settings, subscriber};

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
    ffi::guard("log_variables::mode", NGX_OK as ngx_int_t, || {
        // SAFETY: see above.
        let Some(value) = (unsafe { value.as_mut() }) else { return NGX_OK as ngx_int_t };
        // SAFETY: see above.
        let mode = unsafe { Request::new(r) }.and_then(|request| mode_of(&request));
        match mode {
            Some(text) => journal::fill(value, text.as_bytes()),
            None => value.set_not_found(1),
        }
        NGX_OK as ngx_int_t
    })
}

fn mode_of(request: &Request) -> Option<&'static str> {
    let location = settings::location(request.as_non_null())?;
    Some(match location.mode {
        Mode::Audit => "audit",
        Mode::Metrics => "metrics",
        Mode::Statistics => "statistics",
        Mode::Publisher { .. } => "publisher",
        Mode::Subscriber(delivery) => subscriber::effective(delivery, request).text(),
    })
}

/// nginx calls this when somebody asks for a variable about a subscriber that has not ended.
///
/// # Safety
///
/// `r` is a live request, `value` its slot for the variable, `data` a number of [`NAMES`].
unsafe extern "C" fn about_subscriber(
    r: *mut ngx_http_request_t,
    value: *mut ngx_http_variable_value_t,
    data: usize,
) -> ngx_int_t {
    ffi::guard("log_variables::about_subscriber", NGX_OK as ngx_int_t, || {
        // SAFETY: see above.
        let Some(value) = (unsafe { value.as_mut() }) else { return NGX_OK as ngx_int_t };
        let Some(r) = NonNull::new(r) else { return NGX_OK as ngx_int_t };
        match settings::location(r).and_then(|_| subscriber::entry(r)) {
            Some(entry) => journal::set(r, value, entry, data),
            None => value.set_not_found(1),
        }
        NGX_OK as ngx_int_t
    })
}
