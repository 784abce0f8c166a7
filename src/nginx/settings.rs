//! The settings of a request: where nginx keeps what [`crate::nginx::config`] has made.

use core::ptr::NonNull;

use ngx::ffi::ngx_http_request_t;

use crate::nginx::config::{LocationConf, MainConf};
use crate::nginx::location::Location;
use crate::nginx::{ffi, identity};

/// Our settings where the request is now; `None` in a location that is not ours.
///
/// Ask again in each callback: an internal redirect moves a request to another location. The result
/// lives as long as the request's configuration, which outlives the request.
pub(crate) fn location<'a>(r: NonNull<ngx_http_request_t>) -> Option<&'a Location> {
    // SAFETY: the caller's request is live.
    let slots = unsafe { (*r.as_ptr()).loc_conf };
    // SAFETY: our `create_loc_conf` made what is in our slot.
    let conf = unsafe { ffi::slot::<LocationConf>(slots, identity::ctx_index()) }?;
    // SAFETY: nobody writes to it after the configuration is read.
    unsafe { conf.as_ref() }.finished.as_deref()
}

/// Our settings of the `http` block that the request belongs to.
pub(crate) fn main<'a>(r: NonNull<ngx_http_request_t>) -> &'a MainConf {
    // SAFETY: the caller's request is live.
    let slots = unsafe { (*r.as_ptr()).main_conf };
    // SAFETY: our `create_main_conf` made what is in our slot.
    let conf = unsafe { ffi::slot::<MainConf>(slots, identity::ctx_index()) };
    // SAFETY: nobody writes to it after the configuration is read.
    unsafe { conf.expect("every http block has our settings").as_ref() }
}
