//! A location of ours as requests see it: what it does, with all settings known.
//!
//! Content handlers begin with [`of`], and go on with plain values. A handler of a mode is set by the
//! directive that chooses the mode ([`Mode::handler`]); it lives in a file of its own and is an
//! `extern "C"` function whose body runs in [`crate::nginx::ffi::guard`].

use core::ptr::NonNull;
use std::rc::Rc;

use ngx::ffi::{ngx_http_complex_value_t, ngx_http_request_t, ngx_int_t, ngx_msec_t};

use crate::nginx::config::{LocationConf, MainConf, UNSET_MSEC};
use crate::nginx::regex::Regex;
use crate::nginx::{ffi, module, publisher, statistics, subscriber, variables};
use crate::wire::frame::{self, Opcode};
use crate::wire::sse;
use crate::wire::template::Template;

/// What a location does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
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

/// How the bytes of a message are wrapped; also says how header and footer were prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Framing {
    /// As the template gives it.
    Plain,
    /// Server-sent events. Also polling with the legacy `push_stream_eventsource_support`.
    EventSource,
    /// One frame each.
    WebSocket,
}

/// How a message becomes the bytes that subscribers of a location get.
///
/// Locations with the same framing and equal templates share one form, so it is enough to render a
/// message once per form. Counts are per configuration: after a reload the same text has a new form.
#[derive(Debug)]
pub(crate) struct MessageForm {
    /// Tells the forms of one configuration apart, from 0.
    pub(crate) number: usize,
    pub(crate) framing: Framing,
    /// For event streams, prepared for one line of the message's text.
    pub(crate) template: Template,
}

impl MessageForm {
    fn of(template: &[u8], framing: Framing, main: &mut MainConf) -> Rc<Self> {
        let template = match framing {
            Framing::EventSource => sse::prepare_message(template),
            Framing::Plain | Framing::WebSocket => Template::compile(template),
        };
        let number = main.forms.len();
        main.forms
            .entry((framing, template))
            .or_insert_with_key(|(_, template)| {
                Rc::new(Self { number, framing, template: template.clone() })
            })
            .clone()
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
    /// Framing and template of its messages.
    pub(crate) form: Rc<MessageForm>,
    /// Sent first, as it is: comments, a frame or plain bytes; empty: nothing.
    pub(crate) header: Vec<u8>,
    /// Sent last, as it is.
    pub(crate) footer: Vec<u8>,
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
    /// Legacy `push_stream_content_type`: instead of what nginx's `types` would say.
    pub(crate) content_type: Option<Vec<u8>>,
}

impl Location {
    pub(super) fn new(
        conf: &LocationConf,
        mode: Mode,
        channels_path: ChannelsPath,
        padding: Vec<PaddingRule>,
        main: &mut MainConf,
    ) -> Self {
        let framing = conf.framing(mode);
        let (header, footer) = (conf.header_template.as_bytes(), conf.footer_template.as_bytes());
        let (header, footer) = match framing {
            Framing::Plain => (header.to_vec(), footer.to_vec()),
            Framing::EventSource => (sse::prepare_header(header), sse::prepare_footer(footer)),
            Framing::WebSocket => (text_frame(header), text_frame(footer)),
        };
        let msec = |value: ngx_msec_t| (value != UNSET_MSEC).then_some(value);
        Self {
            mode,
            form: MessageForm::of(conf.message_template.as_bytes(), framing, main),
            header,
            footer,
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
            allow_events_channel: conf.allow_connections_to_events_channel == 1,
            last_received_message_time: NonNull::new(conf.last_received_message_time),
            last_received_message_tag: NonNull::new(conf.last_received_message_tag),
            last_event_id: NonNull::new(conf.last_event_id),
            user_agent: NonNull::new(conf.user_agent),
            allowed_origins: NonNull::new(conf.allowed_origins),
            padding,
            subscriber_max_buffered: conf.subscriber_max_buffered,
            force_filters: conf.force_filters == 1,
            content_type: (!conf.content_type.is_empty())
                .then(|| conf.content_type.as_bytes().to_vec()),
        }
    }
}

/// A text as one frame; nothing for an empty text.
fn text_frame(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    if !text.is_empty() {
        frame::encode(Opcode::Text, text, &mut bytes);
    }
    bytes
}

/// Our settings where the request is now; `None` in a location that is not ours.
///
/// Ask again in each callback: an internal redirect moves a request to another location. The result
/// lives as long as the request's configuration, which outlives the request.
pub(crate) fn of<'a>(r: NonNull<ngx_http_request_t>) -> Option<&'a Location> {
    // SAFETY: the caller's request is live.
    let slots = unsafe { (*r.as_ptr()).loc_conf };
    // SAFETY: our `create_loc_conf` made what is in our slot.
    let conf = unsafe { ffi::slot::<LocationConf>(slots, module::ctx_index()) }?;
    // SAFETY: nobody writes to it after the configuration is read.
    unsafe { conf.as_ref() }.finished.as_deref()
}

/// Our settings of the `http` block that the request belongs to.
pub(crate) fn main_conf<'a>(r: NonNull<ngx_http_request_t>) -> &'a MainConf {
    // SAFETY: the caller's request is live.
    let slots = unsafe { (*r.as_ptr()).main_conf };
    // SAFETY: our `create_main_conf` made what is in our slot.
    let conf = unsafe { ffi::slot::<MainConf>(slots, module::ctx_index()) };
    // SAFETY: nobody writes to it after the configuration is read.
    unsafe { conf.expect("every http block has our settings").as_ref() }
}
