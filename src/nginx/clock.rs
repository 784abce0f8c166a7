//! nginx's clocks, as they were when the worker last woke up.

use ngx::ffi::{ngx_current_msec, ngx_time};

use crate::model::{Now, Seconds};

/// Whole seconds since the epoch.
pub(crate) fn now() -> Seconds {
    ngx_time()
}

/// Both clocks of the zone's operations.
pub(crate) fn both() -> Now {
    let steady = Seconds::try_from(now_msec() / 1000).unwrap_or(Seconds::MAX);
    Now { wall: now(), steady }
}

/// Milliseconds of the clock for timers, which is never set back.
pub(crate) fn now_msec() -> usize {
    // SAFETY: written by this very thread, between the callbacks.
    unsafe { ngx_current_msec }
}
