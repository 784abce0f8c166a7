//! Which mode of a location is which content handler.

use ngx::ffi::ngx_http_handler_pt;

use crate::nginx::location::Mode;
use crate::nginx::{audit, metrics, publisher, statistics, subscriber};

/// What nginx calls for requests to a location of this mode.
pub(super) fn of(mode: Mode) -> ngx_http_handler_pt {
    Some(match mode {
        Mode::Audit => audit::handle,
        Mode::Metrics => metrics::handle,
        Mode::Statistics => statistics::handle,
        Mode::Publisher { .. } => publisher::handle,
        Mode::Subscriber(_) => subscriber::handle,
    })
}
