//! Finds the settings of a request, which [`crate::nginx::config`] has made.

use core::ptr::NonNull;

use ngx::ffi::ngx_http_request_t;

use crate::nginx::config::{LocationConf, MainConf};
use crate::nginx::location::Location;
use crate::nginx::{ffi, identity};

/// The settings of the location where the request is now. `None`: it is no location of the module.
///
/// Ask again in each callback, because an internal redirect moves a request to another location.
/// The result lives as long as the request's configuration, which outlives the request.
pub(crate) fn location<'a>(r: NonNull<ngx_http_request_t>) -> Option<&'a Location> {
    // SAFETY: the caller's request is live.
    let slots = unsafe { (*r.as_ptr()).loc_conf };
    // SAFETY: our `create_loc_conf` made what is in our slot.
    let conf = unsafe { ffi::slot::<LocationConf>(slots, identity::ctx_index()) }?;
    // SAFETY: nobody writes to it after the configuration is read.
    unsafe { conf.as_ref() }.finished.as_deref()
}

/// The settings of the `http` block of the request.
pub(crate) fn main<'a>(r: NonNull<ngx_http_request_t>) -> &'a MainConf {
    // SAFETY: the caller's request is live.
    let slots = unsafe { (*r.as_ptr()).main_conf };
    // SAFETY: our `create_main_conf` made what is in our slot.
    let conf = unsafe { ffi::slot::<MainConf>(slots, identity::ctx_index()) };
    // SAFETY: nobody writes to it after the configuration is read.
    unsafe { conf.expect("every http block has our settings").as_ref() }
}
