//! The module's lines in nginx's error log.
//!
//! The macros put `push stream: ` first. Texts that people and scripts know from the original
//! module are given whole: to [`write`], or while the configuration is read to
//! [`crate::nginx::parse::Parse`], which adds file and line.
//!
//! Do not keep a pointer to a log after the callback: a reload replaces the log.

use core::fmt::{self, Write};
use core::ptr::NonNull;

use ngx::ffi::{
    NGX_LOG_ALERT, NGX_LOG_EMERG, NGX_LOG_ERR, NGX_LOG_INFO, NGX_LOG_NOTICE, NGX_LOG_WARN,
    ngx_cycle, ngx_log_error_core, ngx_log_t, ngx_uint_t,
};

/// The level of a line; the numbers are nginx's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Level {
    /// The configuration cannot be used.
    Emerg = NGX_LOG_EMERG,
    /// A bug of the module.
    Alert = NGX_LOG_ALERT,
    /// A request or a configuration failed.
    Error = NGX_LOG_ERR,
    /// It works, but perhaps not as intended.
    Warn = NGX_LOG_WARN,
    /// Worth knowing once.
    Notice = NGX_LOG_NOTICE,
    /// For administrators who ask for it.
    Info = NGX_LOG_INFO,
}

/// The longest line that nginx prints, `NGX_MAX_ERROR_STR`, without its date and process id.
const LINE_MAX: usize = 2048 - 64;

/// The log of the running cycle. A line about one request belongs in the log of the request.
pub(crate) fn cycle_log() -> NonNull<ngx_log_t> {
    // SAFETY: nginx sets `ngx_cycle` before it loads any module and keeps it set.
    let cycle = unsafe { ngx_cycle };
    // SAFETY: as above; a cycle is valid as long as it is the current one.
    let log = unsafe { (*cycle).log };
    NonNull::new(log).expect("a cycle has a log")
}

/// Writes one line without the prefix, if the log takes lines of this level.
pub(crate) fn write(level: Level, log: NonNull<ngx_log_t>, text: fmt::Arguments<'_>) {
    if !takes(level, log) {
        return;
    }
    let mut line = Line { bytes: [0; LINE_MAX], len: 0 };
    // This cannot fail: a line that is too long is cut.
    let _ = line.write_fmt(text);
    // SAFETY: `%*s` takes a length and that many bytes; both live until the call returns.
    unsafe {
        ngx_log_error_core(
            level as ngx_uint_t,
            log.as_ptr(),
            0,
            c"%*s".as_ptr(),
            line.len,
            line.bytes.as_ptr(),
        );
    }
}

/// The log takes lines of this level.
pub(crate) fn takes(level: Level, log: NonNull<ngx_log_t>) -> bool {
    // SAFETY: the pointer comes from a live cycle, connection or configuration.
    let threshold = unsafe { (*log.as_ptr()).log_level };
    level as ngx_uint_t <= threshold
}

/// A line on the stack, because logging must work when memory is short.
struct Line {
    bytes: [u8; LINE_MAX],
    len: usize,
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = &mut self.bytes[self.len..];
        let taken = text.len().min(room.len());
        room[..taken].copy_from_slice(&text.as_bytes()[..taken]);
        self.len += taken;
        Ok(())
    }
}

/// `log_at!(Level::Warn, log, "format", ...)`: one line that begins with `push stream: `.
macro_rules! log_at {
    ($level:expr, $log:expr, $($arg:tt)+) => {
        $crate::nginx::log::write($level, $log, format_args!("push stream: {}", format_args!($($arg)+)))
    };
}

/// A bug of the module.
macro_rules! alert {
    ($log:expr, $($arg:tt)+) => {
        $crate::nginx::log::log_at!($crate::nginx::log::Level::Alert, $log, $($arg)+)
    };
}

/// A request failed, and its client has done nothing wrong.
macro_rules! error {
    ($log:expr, $($arg:tt)+) => {
        $crate::nginx::log::log_at!($crate::nginx::log::Level::Error, $log, $($arg)+)
    };
}

/// It works, but perhaps not as intended.
macro_rules! warning {
    ($log:expr, $($arg:tt)+) => {
        $crate::nginx::log::log_at!($crate::nginx::log::Level::Warn, $log, $($arg)+)
    };
}

/// Worth knowing once.
macro_rules! notice {
    ($log:expr, $($arg:tt)+) => {
        $crate::nginx::log::log_at!($crate::nginx::log::Level::Notice, $log, $($arg)+)
    };
}

/// For administrators who ask for it.
macro_rules! info {
    ($log:expr, $($arg:tt)+) => {
        $crate::nginx::log::log_at!($crate::nginx::log::Level::Info, $log, $($arg)+)
    };
}

pub(crate) use {alert, error, info, log_at, notice, warning};
