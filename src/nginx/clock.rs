//! nginx's clocks, as they were when the worker last woke up; and the system's, for measuring.

use ngx::ffi::{ngx_current_msec, ngx_time};

use crate::model::{Now, Seconds, Stamp};

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

/// Nanoseconds of the steady clock, just now. All processes have the same.
pub(crate) fn nanos() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: it writes to the place that it is given, and cannot fail for this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec.cast_unsigned().wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec.cast_unsigned())
}

/// The same moment for messages, whose delay is measured.
pub(crate) fn stamp() -> Stamp {
    Stamp::of_nanos(nanos())
}
