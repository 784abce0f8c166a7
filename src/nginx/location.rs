//! A location of the module as requests see it: its mode and all its settings.
//!
//! These are plain values. [`crate::nginx::config`] makes them from what nginx's parser has
//! written, and [`crate::nginx::settings`] finds those of a request.

use core::cell::OnceCell;
use core::ptr::NonNull;

use ngx::ffi::{ngx_http_complex_value_t, ngx_http_request_t};

use crate::model::Delivery;
use crate::nginx::regex::Regex;
use crate::nginx::variables;
use crate::session::Layout;
use crate::session::link::Slow;
use crate::wire::allow::Allowed;

/// The task of a location.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// `push_stream_audit`
    Audit,
    /// `push_stream_metrics`
    Metrics,
    /// `push_stream_channels_statistics`
    Statistics,
    /// `push_stream_publisher`
    Publisher {
        /// DELETE removes channels.
        admin: bool,
    },
    /// `push_stream_subscriber`
    Subscriber(Delivery),
}

/// The source of the channel path.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ChannelsPath {
    /// `push_stream_channels_path`
    Directive(NonNull<ngx_http_complex_value_t>),
    /// The legacy variables, by index: the first that has a value counts.
    Variables([Option<usize>; 2]),
}

impl ChannelsPath {
    /// The path of this request, not decoded; empty if it has none. `None`: memory is short.
    ///
    /// # Safety
    ///
    /// As for [`variables::evaluate`].
    pub(crate) unsafe fn evaluate<'a>(&self, r: NonNull<ngx_http_request_t>) -> Option<&'a [u8]> {
        match self {
            // SAFETY: by this function's own contract.
            Self::Directive(value) => unsafe { variables::evaluate(r, *value) },
            Self::Variables(indexes) => {
                let mut values = indexes.iter().flatten();
                // SAFETY: as above.
                let first = values.find_map(|index| unsafe { variables::indexed(r, *index) });
                Some(first.unwrap_or_default())
            }
        }
    }
}

/// `push_stream_allowed_origins`
#[derive(Clone)]
pub(crate) enum Origins {
    /// The header's value, whatever the request's origin is.
    Said(NonNull<ngx_http_complex_value_t>),
    /// The request's origin, if it is one of these.
    Listed(Vec<Origin>),
}

/// One of a list.
#[derive(Clone)]
pub(crate) enum Origin {
    Exact(Vec<u8>),
    Pattern(Regex),
}

impl Origin {
    pub(crate) fn is(&self, origin: &[u8]) -> bool {
        match self {
            Self::Exact(text) => text.eq_ignore_ascii_case(origin),
            Self::Pattern(pattern) => pattern.matches(origin),
        }
    }
}

/// Which pages of other origins may read answers, and what they may send.
pub(crate) struct Cors {
    /// `None`: no answer has any of the headers.
    pub(crate) origins: Option<Origins>,
    /// Request headers that are allowed besides those that are always.
    pub(crate) request_headers: Vec<Vec<u8>>,
    pub(crate) credentials: bool,
    pub(crate) exposes: bool,
    pub(crate) max_age_secs: Option<u64>,
}

/// One group of a padding list.
pub(crate) struct PaddingRule {
    /// Matches user agents, anywhere in their text.
    pub(crate) user_agent: Regex,
    /// Bytes that the header template has at least; a shorter one is padded.
    pub(crate) header_min: usize,
    /// Bytes that a rendered message has at least; a shorter one is padded.
    pub(crate) message_min: usize,
}

/// A location of the module, or an `if` block in one.
///
/// [`variables::evaluate`] evaluates values that may hold variables. `None` means "not given".
/// Intervals and lifetimes are in milliseconds and never zero; `None` means "without limit".
pub(crate) struct Location {
    pub(crate) mode: Mode,
    /// Header, messages and footer as subscribers get them.
    pub(crate) layout: Layout,
    /// The number that this worker has given to the form of its messages.
    pub(crate) form: OnceCell<u32>,
    pub(crate) channels_path: ChannelsPath,
    pub(crate) store_messages: bool,
    pub(crate) channel_info_on_publish: bool,
    pub(crate) authorized_channels_only: bool,
    pub(crate) wildcard_channel_max_qtd: Option<u64>,
    pub(crate) ping_interval_msec: Option<usize>,
    pub(crate) connection_ttl_msec: Option<usize>,
    pub(crate) longpolling_connection_ttl_msec: Option<usize>,
    pub(crate) websocket_allow_publish: bool,
    pub(crate) websocket_binary: bool,
    pub(crate) websocket_max_message_size: usize,
    /// Names of subprotocols, or lists of names; empty: the location has none.
    pub(crate) websocket_protocols: Vec<NonNull<ngx_http_complex_value_t>>,
    pub(crate) allow_events_channel: bool,
    pub(crate) last_received_message_time: Option<NonNull<ngx_http_complex_value_t>>,
    pub(crate) last_received_message_tag: Option<NonNull<ngx_http_complex_value_t>>,
    pub(crate) last_event_id: Option<NonNull<ngx_http_complex_value_t>>,
    /// Subscribers are told cursors, and may come back with them.
    pub(crate) has_cursors: bool,
    /// How long a client waits before it connects again.
    pub(crate) retry_msec: Option<usize>,
    pub(crate) user_agent: Option<NonNull<ngx_http_complex_value_t>>,
    pub(crate) cors: Cors,
    /// Empty without a list, and in locations for other modes than subscribing.
    pub(crate) padding: Vec<PaddingRule>,
    pub(crate) subscriber_max_buffered: usize,
    /// What becomes of a subscriber for which more waits.
    pub(crate) slow: Slow,
    pub(crate) force_filters: bool,
    pub(crate) forget_request: bool,
    /// The clients that may see an audit. `None`: those on this machine.
    pub(crate) audit_allow: Option<Vec<Allowed>>,
    /// The same for the metrics.
    pub(crate) metrics_allow: Option<Vec<Allowed>>,
    /// The content type that the old directive `push_stream_content_type` gives, instead of nginx's
    /// choice.
    pub(crate) content_type: Option<Vec<u8>>,
}
