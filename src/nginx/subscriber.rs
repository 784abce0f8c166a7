//! Subscriber locations, all modes.

use ngx::ffi::{NGX_HTTP_INTERNAL_SERVER_ERROR, ngx_http_request_t, ngx_int_t};

use crate::nginx::ffi;

/// nginx calls this for a request to a location of this mode.
///
/// # Safety
///
/// `r` is a live request.
pub(crate) unsafe extern "C" fn handle(_r: *mut ngx_http_request_t) -> ngx_int_t {
    ffi::guard("subscriber::handle", NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t, || {
        NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t
    })
}

/// Hands out one batch of news; true if there is more.
pub(crate) fn on_news() -> bool {
    false
}

/// The worker is going: all subscribers are told.
pub(crate) fn say_goodbye() {}
