//! nginx's clocks, as they were when the worker last woke up.

use ngx::ffi::{ngx_current_msec, ngx_time};

use crate::model::Seconds;

/// Whole seconds since the epoch.
pub(crate) fn now() -> Seconds {
    ngx_time()
}

/// Milliseconds of the clock for timers, which is never set back.
pub(crate) fn now_msec() -> usize {
    // SAFETY: written by this very thread, between the callbacks.
    unsafe { ngx_current_msec }
}
