//! A location of ours as requests see it: what it does, with all settings known.
//!
//! Content handlers begin with [`of`], and go on with plain values. A handler of a mode is set by the
//! directive that chooses the mode ([`Mode::handler`]); it lives in a file of its own and is an
//! `extern "C"` function whose body runs in [`crate::nginx::ffi::guard`].

use core::ptr::NonNull;

use ngx::ffi::{ngx_http_complex_value_t, ngx_http_request_t, ngx_int_t, ngx_msec_t};

use crate::nginx::config::{LocationConf, MainConf, UNSET_MSEC};
use crate::nginx::regex::Regex;
use crate::nginx::{audit, ffi, identity, publisher, statistics, subscriber, variables};
use crate::session::Layout;
use crate::wire::allow::Allowed;

/// What a location does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// `push_stream_audit`
    Audit,
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

impl Mode {
    /// The content handler of the mode.
    pub(super) fn handler(self) -> unsafe extern "C" fn(*mut ngx_http_request_t) -> ngx_int_t {
        match self {
            Self::Audit => audit::handle,
            Self::Statistics => statistics::handle,
            Self::Publisher { .. } => publisher::handle,
            Self::Subscriber(_) => subscriber::handle,
        }
    }
}

/// How a subscriber location delivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    Streaming,
    Polling,
    LongPolling,
    EventSource,
    WebSocket,
}

impl Delivery {
    /// Its response stays open until the server or the client has enough of it.
    pub(crate) fn is_stream(self) -> bool {
        match self {
            Self::Streaming | Self::EventSource | Self::WebSocket => true,
            Self::Polling | Self::LongPolling => false,
        }
    }
}

/// Where the channel path of a request comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ChannelsPath {
    /// `push_stream_channels_path`
    Directive(NonNull<ngx_http_complex_value_t>),
    /// The legacy variables, by index: the first that has a value counts.
    Variables([Option<usize>; 2]),
}

impl ChannelsPath {
    /// The path of this request, not decoded yet; empty if it has none. `None` when memory is short.
    pub(crate) fn evaluate(&self, r: NonNull<ngx_http_request_t>) -> Option<Vec<u8>> {
        match self {
            Self::Directive(value) => variables::evaluate(r, *value),
            Self::Variables(indexes) => {
                let mut values = indexes.iter().flatten();
                let first = values.find_map(|index| variables::indexed(r, *index));
                Some(first.unwrap_or_default())
            }
        }
    }
}

/// One group of a padding list.
pub(crate) struct PaddingRule {
    /// Which user agents, unanchored.
    pub(crate) user_agent: Regex,
    /// The header template is padded if it is shorter than this.
    pub(crate) header_min: usize,
    /// A formatted message is padded if it is shorter than this.
    pub(crate) message_min: usize,
}

/// A location of ours, or an `if` block in one.
///
/// Values that may hold variables are evaluated by [`variables::evaluate`]; `None` means "not given".
/// Intervals and lifetimes are in milliseconds, never zero, `None` is "for ever".
pub(crate) struct Location {
    pub(crate) mode: Mode,
    /// Header, messages and footer as subscribers get them.
    pub(crate) layout: Layout,
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
    /// Names of subprotocols, or lists of them; empty if the location knows none.
    pub(crate) websocket_protocols: Vec<NonNull<ngx_http_complex_value_t>>,
    pub(crate) allow_events_channel: bool,
    pub(crate) last_received_message_time: Option<NonNull<ngx_http_complex_value_t>>,
    pub(crate) last_received_message_tag: Option<NonNull<ngx_http_complex_value_t>>,
    pub(crate) last_event_id: Option<NonNull<ngx_http_complex_value_t>>,
    pub(crate) user_agent: Option<NonNull<ngx_http_complex_value_t>>,
    pub(crate) allowed_origins: Option<NonNull<ngx_http_complex_value_t>>,
    /// Empty without a list, and in locations that are not subscribers.
    pub(crate) padding: Vec<PaddingRule>,
    pub(crate) subscriber_max_buffered: usize,
    pub(crate) force_filters: bool,
    /// Who may see an audit; without a list, clients on this machine.
    pub(crate) audit_allow: Option<Vec<Allowed>>,
    /// Legacy `push_stream_content_type`: instead of what nginx's `types` would say.
    pub(crate) content_type: Option<Vec<u8>>,
}

impl Location {
    pub(super) fn new(
        conf: &LocationConf,
        mode: Mode,
        channels_path: ChannelsPath,
        padding: Vec<PaddingRule>,
    ) -> Self {
        let layout = Layout::new(
            conf.framing(mode),
            conf.header_template.as_bytes(),
            conf.message_template.as_bytes(),
            conf.footer_template.as_bytes(),
        )
        .with_blank_lines(conf.blank_lines.unwrap_or_default());
        let msec = |value: ngx_msec_t| (value != UNSET_MSEC).then_some(value);
        Self {
            mode,
            layout,
            channels_path,
            store_messages: conf.store_messages == 1,
            channel_info_on_publish: conf.channel_info_on_publish == 1,
            authorized_channels_only: conf.authorized_channels_only == 1,
            wildcard_channel_max_qtd: u64::try_from(conf.wildcard_channel_max_qtd).ok(),
            ping_interval_msec: msec(conf.ping_message_interval),
            connection_ttl_msec: msec(conf.subscriber_connection_ttl),
            longpolling_connection_ttl_msec: msec(conf.longpolling_connection_ttl),
            websocket_allow_publish: conf.websocket_allow_publish == 1,
            websocket_binary: conf.websocket_binary == 1,
            websocket_max_message_size: conf.websocket_max_message_size,
            websocket_protocols: conf.websocket_protocols.clone().unwrap_or_default(),
            allow_events_channel: conf.allow_connections_to_events_channel == 1,
            last_received_message_time: NonNull::new(conf.last_received_message_time),
            last_received_message_tag: NonNull::new(conf.last_received_message_tag),
            last_event_id: NonNull::new(conf.last_event_id),
            user_agent: NonNull::new(conf.user_agent),
            allowed_origins: NonNull::new(conf.allowed_origins),
            padding,
            subscriber_max_buffered: conf.subscriber_max_buffered,
            force_filters: conf.force_filters == 1,
            audit_allow: conf.audit_allow.clone(),
            content_type: (!conf.content_type.is_empty())
                .then(|| conf.content_type.as_bytes().to_vec()),
        }
    }
}

/// Our settings where the request is now; `None` in a location that is not ours.
///
/// Ask again in each callback: an internal redirect moves a request to another location. The result
/// lives as long as the request's configuration, which outlives the request.
pub(crate) fn of<'a>(r: NonNull<ngx_http_request_t>) -> Option<&'a Location> {
    // SAFETY: the caller's request is live.
    let slots = unsafe { (*r.as_ptr()).loc_conf };
    // SAFETY: our `create_loc_conf` made what is in our slot.
    let conf = unsafe { ffi::slot::<LocationConf>(slots, identity::ctx_index()) }?;
    // SAFETY: nobody writes to it after the configuration is read.
    unsafe { conf.as_ref() }.finished.as_deref()
}

/// Our settings of the `http` block that the request belongs to.
pub(crate) fn main_conf<'a>(r: NonNull<ngx_http_request_t>) -> &'a MainConf {
    // SAFETY: the caller's request is live.
    let slots = unsafe { (*r.as_ptr()).main_conf };
    // SAFETY: our `create_main_conf` made what is in our slot.
    let conf = unsafe { ffi::slot::<MainConf>(slots, identity::ctx_index()) };
    // SAFETY: nobody writes to it after the configuration is read.
    unsafe { conf.expect("every http block has our settings").as_ref() }
}
