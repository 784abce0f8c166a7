//! Settings as nginx's parser writes them, and how inner levels inherit from outer ones.
//!
//! nginx's slot functions write through an offset into these structs. So the structs are
//! `#[repr(C)]`, have the types that those functions expect, and use the value for "not given" that
//! those functions test for. No request reads them: when the whole configuration is read,
//! [`crate::nginx::validation`] checks them and makes a [`crate::nginx::location::Location`] of
//! each for the requests.

use core::cell::{OnceCell, RefCell};
use core::ffi::c_void;
use core::ptr::{self, NonNull};
use std::rc::Rc;

use ngx::ffi::{
    NGX_CONF_UNSET, ngx_flag_t, ngx_http_complex_value_t, ngx_http_handler_pt, ngx_int_t,
    ngx_msec_t, ngx_shm_zone_t, ngx_str_t, time_t,
};

use crate::hub::Rules;
use crate::model::Delivery;
use crate::nginx::location::{ChannelsPath, Cors, Location, Mode, Origins, PaddingRule};
use crate::nginx::mapping::Mapping;
use crate::nginx::parse::{Parse, Place};
use crate::nginx::variables::LegacyVariables;
use crate::nginx::{ffi, identity};
use crate::session::link::Slow;
use crate::session::{Framing, Layout};
use crate::wire::allow::Allowed;
use crate::wire::sse::BlankLines;

/// "Not given", for [`ngx_flag_t`] and [`ngx_int_t`].
pub(super) const UNSET: ngx_int_t = NGX_CONF_UNSET as ngx_int_t;
/// "Not given", for `time_t`.
pub(super) const UNSET_SECS: time_t = NGX_CONF_UNSET as time_t;
/// "Not given", for [`ngx_msec_t`].
pub(super) const UNSET_MSEC: ngx_msec_t = ngx_msec_t::MAX;
/// "Not given", for sizes.
pub(super) const UNSET_SIZE: usize = usize::MAX;

const CHANNEL_INACTIVITY_SECS: time_t = 30;
const MESSAGE_TTL_SECS: time_t = 30 * 60;
const WEBSOCKET_MAX_MESSAGE_SIZE: usize = 16 << 20;
const SUBSCRIBER_MAX_BUFFERED: usize = 1 << 20;

/// Settings of `http`.
#[repr(C)]
pub(crate) struct MainConf {
    pub(super) channel_deleted_message_text: ngx_str_t,
    pub(super) channel_inactivity_time: time_t,
    pub(super) ping_message_text: ngx_str_t,
    pub(super) timeout_with_body: ngx_flag_t,
    pub(super) message_ttl: time_t,
    pub(super) max_subscribers_per_channel: ngx_int_t,
    pub(super) max_messages_stored_per_channel: ngx_int_t,
    pub(super) max_channel_id_length: ngx_int_t,
    pub(super) max_number_of_channels: ngx_int_t,
    pub(super) max_number_of_wildcard_channels: ngx_int_t,
    pub(super) wildcard_channel_prefix: ngx_str_t,
    pub(super) events_channel_id: ngx_str_t,

    /// The zone; `None` before `push_stream_shared_memory_size`.
    pub(super) zone: Option<NonNull<ngx_shm_zone_t>>,
    /// Bytes of the zone.
    pub(super) zone_size: usize,
    /// The zone's memory. nginx's call of `zone::on_init` sets it.
    pub(super) mapping: RefCell<Option<Rc<Mapping>>>,
    /// All locations of the module, and their `if` and `limit_except` blocks, in the order of
    /// merging.
    pub(super) locations: Vec<NonNull<LocationConf>>,
    /// Locations that publish, in the order of the file.
    pub(super) publishers: Vec<Publisher>,
    /// A directive has chosen the mode of some location.
    pub(super) enabled: bool,
    /// Where a setting was given that old configurations may give at several levels.
    pub(super) occurrences: Occurrences,
    pub(super) legacy_variables: LegacyVariables,
    /// The index in a request of each variable about subscribers that the configuration uses.
    pub(super) journal: [Option<usize>; 5],
    /// Lines of level info for the error log, to be written when it is open.
    pub(super) notes: Vec<String>,
    /// The largest minimum length in all padding lists of subscriber locations; 0 without a list.
    pub(super) padding_max: usize,
    /// Some location is for subscribers. Set when the whole configuration is read.
    pub(super) has_subscribers: bool,
}

impl Default for MainConf {
    fn default() -> Self {
        Self {
            channel_deleted_message_text: ngx_str_t::empty(),
            channel_inactivity_time: UNSET_SECS,
            ping_message_text: ngx_str_t::empty(),
            timeout_with_body: UNSET,
            message_ttl: UNSET_SECS,
            max_subscribers_per_channel: UNSET,
            max_messages_stored_per_channel: UNSET,
            max_channel_id_length: UNSET,
            max_number_of_channels: UNSET,
            max_number_of_wildcard_channels: UNSET,
            wildcard_channel_prefix: ngx_str_t::empty(),
            events_channel_id: ngx_str_t::empty(),
            zone: None,
            zone_size: 0,
            mapping: RefCell::new(None),
            locations: Vec::new(),
            publishers: Vec::new(),
            enabled: false,
            occurrences: Occurrences::default(),
            legacy_variables: LegacyVariables::default(),
            journal: [None; 5],
            notes: Vec::new(),
            padding_max: 0,
            has_subscribers: false,
        }
    }
}

/// A publisher location, by the places where nginx keeps all settings for it.
pub(super) struct Publisher {
    pub(super) location: *mut *mut c_void,
    pub(super) server: *mut *mut c_void,
    pub(super) place: Place,
}

impl Publisher {
    /// The location whose directive nginx is reading.
    pub(super) fn new(parse: &Parse) -> Self {
        let ctx = parse.ctx();
        Self { location: ctx.loc_conf, server: ctx.srv_conf, place: parse.place() }
    }
}

impl Parse {
    /// Settings of `http`, from any block in it.
    ///
    /// The caller must not hold two of these references at a time, nor one over a call into nginx
    /// that runs another setter.
    #[allow(clippy::mut_from_ref, reason = "nginx owns it; see above")]
    pub(crate) fn main_conf(&self) -> &mut MainConf {
        // SAFETY: our `create_main_conf` made what is in our slot.
        let conf = unsafe { ffi::slot::<MainConf>(self.ctx().main_conf, identity::ctx_index()) };
        let mut conf = conf.expect("every http block has our settings");
        // SAFETY: one thread reads the configuration; see above.
        unsafe { conf.as_mut() }
    }

    /// Settings of the block with the directive. The rule of [`Self::main_conf`] holds here too.
    #[allow(clippy::mut_from_ref, reason = "nginx owns it; see above")]
    pub(crate) fn location_conf(&self) -> &mut LocationConf {
        // SAFETY: our `create_loc_conf` made what is in our slot.
        let conf = unsafe { ffi::slot::<LocationConf>(self.ctx().loc_conf, identity::ctx_index()) };
        let mut conf = conf.expect("every block has our settings");
        // SAFETY: one thread reads the configuration; see above.
        unsafe { conf.as_mut() }
    }
}

impl MainConf {
    /// The configuration has a location of the module. Without one nothing is checked and nothing
    /// runs.
    pub(crate) fn is_active(&self) -> bool {
        self.enabled
    }

    /// Limits and times that the hub applies.
    pub(crate) fn rules(&self) -> Rules {
        let limit = |value: ngx_int_t| u64::try_from(value).ok();
        Rules {
            channel_id_len_max: usize::try_from(self.max_channel_id_length).ok(),
            channels_max: limit(self.max_number_of_channels),
            wildcard_channels_max: limit(self.max_number_of_wildcard_channels),
            wildcard_prefix: self.wildcard_channel_prefix.as_bytes().to_vec(),
            subscribers_max: limit(self.max_subscribers_per_channel),
            stored_max: limit(self.max_messages_stored_per_channel),
            message_ttl_secs: self.message_ttl,
            channel_inactivity_secs: self.channel_inactivity_time,
            events_channel: self.events_channel_id.as_bytes().to_vec(),
            deleted_text: self.channel_deleted_message_text.as_bytes().to_vec(),
        }
    }

    /// The text of a ping, the message with id -1.
    pub(crate) fn ping_message_text(&self) -> &[u8] {
        self.ping_message_text.as_bytes()
    }

    /// The text of the message with id -2.
    pub(crate) fn channel_deleted_message_text(&self) -> &[u8] {
        self.channel_deleted_message_text.as_bytes()
    }

    /// A long poll whose time is over is answered with 200 and the message with id -3, not with
    /// 304.
    pub(crate) fn timeout_with_body(&self) -> bool {
        self.timeout_with_body == 1
    }

    /// The largest minimum length in all padding lists; 0 without a list.
    pub(crate) fn padding_max(&self) -> usize {
        self.padding_max
    }

    /// The memory of the zone. `None` before it is mapped.
    pub(super) fn mapping(&self) -> Option<Rc<Mapping>> {
        self.mapping.borrow().clone()
    }

    pub(super) fn apply_defaults(&mut self) {
        default_str(&mut self.channel_deleted_message_text, "Channel deleted");
        default_to(&mut self.channel_inactivity_time, UNSET_SECS, CHANNEL_INACTIVITY_SECS);
        default_str(&mut self.ping_message_text, " ");
        default_to(&mut self.timeout_with_body, UNSET, 0);
        default_to(&mut self.message_ttl, UNSET_SECS, MESSAGE_TTL_SECS);
    }
}

/// What a message looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MessageFormat {
    /// As the template says.
    Template,
    /// One JSON object.
    Json,
}

/// What `push_stream_slow_subscriber` says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum SlowSubscriber {
    Disconnect,
    Skip,
}

/// Settings of `http`, `server`, `location`, an `if` in a location, or `limit_except`.
#[repr(C)]
pub(crate) struct LocationConf {
    pub(super) channels_path: *mut ngx_http_complex_value_t,
    pub(super) store_messages: ngx_flag_t,
    pub(super) channel_info_on_publish: ngx_flag_t,
    pub(super) authorized_channels_only: ngx_flag_t,
    /// Holds the content of `push_stream_header_template_file` as well.
    pub(super) header_template: ngx_str_t,
    pub(super) message_template: ngx_str_t,
    pub(super) message_format: Option<MessageFormat>,
    pub(super) footer_template: ngx_str_t,
    pub(super) blank_lines: Option<BlankLines>,
    pub(super) wildcard_channel_max_qtd: ngx_int_t,
    pub(super) ping_message_interval: ngx_msec_t,
    pub(super) subscriber_connection_ttl: ngx_msec_t,
    pub(super) longpolling_connection_ttl: ngx_msec_t,
    pub(super) websocket_allow_publish: ngx_flag_t,
    pub(super) websocket_binary: ngx_flag_t,
    pub(super) websocket_max_message_size: usize,
    /// Empty for `off`.
    pub(super) websocket_protocols: Option<Vec<NonNull<ngx_http_complex_value_t>>>,
    pub(super) allow_connections_to_events_channel: ngx_flag_t,
    pub(super) last_received_message_time: *mut ngx_http_complex_value_t,
    pub(super) last_received_message_tag: *mut ngx_http_complex_value_t,
    pub(super) last_event_id: *mut ngx_http_complex_value_t,
    pub(super) cursor: ngx_flag_t,
    pub(super) retry: ngx_msec_t,
    pub(super) user_agent: *mut ngx_http_complex_value_t,
    pub(super) padding_by_user_agent: ngx_str_t,
    pub(super) allowed_origins: Option<Origins>,
    pub(super) cors_headers: Option<Vec<Vec<u8>>>,
    pub(super) cors_credentials: ngx_flag_t,
    pub(super) cors_expose: ngx_flag_t,
    pub(super) cors_max_age: time_t,
    pub(super) subscriber_max_buffered: usize,
    pub(super) slow_subscriber: Option<SlowSubscriber>,
    pub(super) force_filters: ngx_flag_t,
    pub(super) forget_request: ngx_flag_t,
    pub(super) open_publisher: ngx_flag_t,
    pub(super) audit: ngx_flag_t,
    pub(super) audit_allow: Option<Vec<Allowed>>,
    pub(super) metrics: ngx_flag_t,
    pub(super) metrics_allow: Option<Vec<Allowed>>,

    // Settings of old configurations.
    pub(super) content_type: ngx_str_t,
    pub(super) event_source_support: ngx_flag_t,
    pub(super) publisher_admin: ngx_flag_t,

    /// The mode of the location. Only its own `if` and `limit_except` blocks inherit it.
    pub(super) mode: Option<Mode>,
    /// The content handler of the mode.
    pub(super) handler: ngx_http_handler_pt,
    /// The place of the directive that chooses the mode.
    pub(super) place: Place,
    /// An `if` or `limit_except` block in a location of the module.
    pub(super) is_copy: bool,
    /// The settings for requests; made when the whole configuration is read and accepted.
    pub(super) finished: Option<Box<Location>>,
}

impl Default for LocationConf {
    fn default() -> Self {
        Self {
            channels_path: ptr::null_mut(),
            store_messages: UNSET,
            channel_info_on_publish: UNSET,
            authorized_channels_only: UNSET,
            header_template: ngx_str_t::empty(),
            message_template: ngx_str_t::empty(),
            message_format: None,
            footer_template: ngx_str_t::empty(),
            blank_lines: None,
            wildcard_channel_max_qtd: UNSET,
            ping_message_interval: UNSET_MSEC,
            subscriber_connection_ttl: UNSET_MSEC,
            longpolling_connection_ttl: UNSET_MSEC,
            websocket_allow_publish: UNSET,
            websocket_binary: UNSET,
            websocket_max_message_size: UNSET_SIZE,
            websocket_protocols: None,
            allow_connections_to_events_channel: UNSET,
            last_received_message_time: ptr::null_mut(),
            last_received_message_tag: ptr::null_mut(),
            last_event_id: ptr::null_mut(),
            cursor: UNSET,
            retry: UNSET_MSEC,
            user_agent: ptr::null_mut(),
            padding_by_user_agent: ngx_str_t::empty(),
            allowed_origins: None,
            cors_headers: None,
            cors_credentials: UNSET,
            cors_expose: UNSET,
            cors_max_age: UNSET as time_t,
            subscriber_max_buffered: UNSET_SIZE,
            slow_subscriber: None,
            force_filters: UNSET,
            forget_request: UNSET,
            open_publisher: UNSET,
            audit: UNSET,
            audit_allow: None,
            metrics: UNSET,
            metrics_allow: None,
            content_type: ngx_str_t::empty(),
            event_source_support: UNSET,
            publisher_admin: UNSET,
            mode: None,
            handler: None,
            place: Place::default(),
            is_copy: false,
            finished: None,
        }
    }
}

impl LocationConf {
    /// The framing of messages in a location of this mode.
    pub(super) fn framing(&self, mode: Mode) -> Framing {
        match mode {
            Mode::Subscriber(Delivery::WebSocket) => Framing::WebSocket,
            Mode::Subscriber(Delivery::EventSource) => Framing::EventSource,
            Mode::Subscriber(_) if self.event_source_support == 1 => Framing::EventSource,
            _ => Framing::Plain,
        }
    }

    /// Messages are JSON objects, whatever the template says.
    pub(super) fn sends_json(&self) -> bool {
        self.message_format == Some(MessageFormat::Json)
    }

    /// A subscriber location that can send its messages as server-sent events.
    pub(super) fn is_subscriber_with_text(&self) -> bool {
        matches!(self.mode, Some(Mode::Subscriber(delivery)) if delivery != Delivery::WebSocket)
    }

    /// Takes settings that were not given here from the outer level, and registers the location if
    /// it has a mode. Outer levels are merged before inner ones.
    pub(super) fn merge(&mut self, outer: &Self, parse: &Parse) {
        self.inherit(outer, parse.main_conf().max_number_of_wildcard_channels);
        self.resolve_mode(outer, parse);
        if self.mode.is_some() || self.event_source_support == 1 {
            parse.main_conf().locations.push(NonNull::from(self));
        }
    }

    /// Makes the settings for requests, when the whole configuration is read.
    pub(super) fn finish(
        &self,
        mode: Mode,
        channels_path: ChannelsPath,
        padding: Vec<PaddingRule>,
    ) -> Location {
        let layout = Layout::new(
            self.framing(mode),
            self.header_template.as_bytes(),
            self.message_template.as_bytes(),
            self.footer_template.as_bytes(),
        )
        .with_blank_lines(self.blank_lines.unwrap_or_default());
        let layout = if self.sends_json() { layout.with_json_messages() } else { layout };
        let has_cursors = self.cursor == 1;
        let layout = if has_cursors { layout.with_cursors() } else { layout };
        let msec = |value: ngx_msec_t| (value != UNSET_MSEC).then_some(value);
        Location {
            mode,
            layout,
            form: OnceCell::new(),
            channels_path,
            store_messages: self.store_messages == 1,
            channel_info_on_publish: self.channel_info_on_publish == 1,
            authorized_channels_only: self.authorized_channels_only == 1,
            wildcard_channel_max_qtd: u64::try_from(self.wildcard_channel_max_qtd).ok(),
            ping_interval_msec: msec(self.ping_message_interval),
            connection_ttl_msec: msec(self.subscriber_connection_ttl),
            longpolling_connection_ttl_msec: msec(self.longpolling_connection_ttl),
            websocket_allow_publish: self.websocket_allow_publish == 1,
            websocket_binary: self.websocket_binary == 1,
            websocket_max_message_size: self.websocket_max_message_size,
            websocket_protocols: self.websocket_protocols.clone().unwrap_or_default(),
            allow_events_channel: self.allow_connections_to_events_channel == 1,
            last_received_message_time: NonNull::new(self.last_received_message_time),
            last_received_message_tag: NonNull::new(self.last_received_message_tag),
            last_event_id: NonNull::new(self.last_event_id),
            has_cursors,
            retry_msec: msec(self.retry),
            user_agent: NonNull::new(self.user_agent),
            cors: Cors {
                origins: self.allowed_origins.clone(),
                request_headers: self.cors_headers.clone().unwrap_or_default(),
                credentials: self.cors_credentials == 1,
                exposes: self.cors_expose == 1,
                max_age_secs: u64::try_from(self.cors_max_age).ok(),
            },
            padding,
            subscriber_max_buffered: self.subscriber_max_buffered,
            slow: match self.slow_subscriber {
                Some(SlowSubscriber::Skip) => Slow::Skip { tells: has_cursors },
                Some(SlowSubscriber::Disconnect) | None => Slow::Disconnect,
            },
            force_filters: self.force_filters == 1,
            forget_request: self.forget_request == 1,
            audit_allow: self.audit_allow.clone(),
            metrics_allow: self.metrics_allow.clone(),
            content_type: (!self.content_type.is_empty())
                .then(|| self.content_type.as_bytes().to_vec()),
        }
    }

    fn inherit(&mut self, outer: &Self, max_number_of_wildcard_channels: ngx_int_t) {
        inherit_pointer(&mut self.channels_path, outer.channels_path);
        inherit(&mut self.store_messages, outer.store_messages, UNSET, 0);
        inherit(&mut self.channel_info_on_publish, outer.channel_info_on_publish, UNSET, 1);
        inherit(&mut self.authorized_channels_only, outer.authorized_channels_only, UNSET, 0);
        inherit_str(&mut self.header_template, &outer.header_template, "");
        // A level with a template of its own does not take the format of an outer one.
        if self.message_format.is_none() && self.message_template.data.is_null() {
            self.message_format = outer.message_format;
        }
        inherit_str(&mut self.message_template, &outer.message_template, "~text~");
        inherit_str(&mut self.footer_template, &outer.footer_template, "");
        self.blank_lines = self.blank_lines.or(outer.blank_lines);
        inherit(
            &mut self.wildcard_channel_max_qtd,
            outer.wildcard_channel_max_qtd,
            UNSET,
            max_number_of_wildcard_channels,
        );
        inherit(
            &mut self.ping_message_interval,
            outer.ping_message_interval,
            UNSET_MSEC,
            UNSET_MSEC,
        );
        inherit(
            &mut self.subscriber_connection_ttl,
            outer.subscriber_connection_ttl,
            UNSET_MSEC,
            UNSET_MSEC,
        );
        // The default is the result of the line above. So the value of an outer level, or its
        // default, comes before the time that this level gives for all subscribers.
        inherit(
            &mut self.longpolling_connection_ttl,
            outer.longpolling_connection_ttl,
            UNSET_MSEC,
            self.subscriber_connection_ttl,
        );
        inherit(&mut self.websocket_allow_publish, outer.websocket_allow_publish, UNSET, 0);
        inherit(&mut self.websocket_binary, outer.websocket_binary, UNSET, 0);
        inherit(
            &mut self.websocket_max_message_size,
            outer.websocket_max_message_size,
            UNSET_SIZE,
            WEBSOCKET_MAX_MESSAGE_SIZE,
        );
        inherit(
            &mut self.allow_connections_to_events_channel,
            outer.allow_connections_to_events_channel,
            UNSET,
            0,
        );
        inherit_pointer(&mut self.last_received_message_time, outer.last_received_message_time);
        inherit_pointer(&mut self.last_received_message_tag, outer.last_received_message_tag);
        inherit_pointer(&mut self.last_event_id, outer.last_event_id);
        inherit(&mut self.cursor, outer.cursor, UNSET, 0);
        inherit(&mut self.retry, outer.retry, UNSET_MSEC, UNSET_MSEC);
        inherit_pointer(&mut self.user_agent, outer.user_agent);
        inherit_str(&mut self.padding_by_user_agent, &outer.padding_by_user_agent, "");
        if self.allowed_origins.is_none() {
            self.allowed_origins.clone_from(&outer.allowed_origins);
        }
        if self.cors_headers.is_none() {
            self.cors_headers.clone_from(&outer.cors_headers);
        }
        inherit(&mut self.cors_credentials, outer.cors_credentials, UNSET, 0);
        inherit(&mut self.cors_expose, outer.cors_expose, UNSET, 0);
        let unset = UNSET as time_t;
        inherit(&mut self.cors_max_age, outer.cors_max_age, unset, unset);
        inherit(
            &mut self.subscriber_max_buffered,
            outer.subscriber_max_buffered,
            UNSET_SIZE,
            SUBSCRIBER_MAX_BUFFERED,
        );
        self.slow_subscriber = self.slow_subscriber.or(outer.slow_subscriber);
        inherit(&mut self.force_filters, outer.force_filters, UNSET, 0);
        inherit(&mut self.forget_request, outer.forget_request, UNSET, 0);
        inherit(&mut self.open_publisher, outer.open_publisher, UNSET, 0);
        if self.websocket_protocols.is_none() {
            self.websocket_protocols.clone_from(&outer.websocket_protocols);
        }
        if self.audit_allow.is_none() {
            self.audit_allow.clone_from(&outer.audit_allow);
        }
        if self.metrics_allow.is_none() {
            self.metrics_allow.clone_from(&outer.metrics_allow);
        }
        if self.content_type.data.is_null() {
            self.content_type = outer.content_type;
        }
    }

    /// Completes the mode. Old configurations use two directives for one mode, in either order. An
    /// `if` or `limit_except` block has the mode of the location around it.
    fn resolve_mode(&mut self, outer: &Self, parse: &Parse) {
        let core = parse.core_location();
        if self.mode.is_none() && core.noname() == 1 && core.handler.is_none() {
            self.mode = outer.mode;
            self.place = outer.place.clone();
            self.is_copy = outer.mode.is_some();
            // nginx keeps the handler of the location inside an `if`, but not inside a
            // `limit_except`.
            self.handler = outer.handler;
            core.handler = outer.handler;
        }
        self.mode = match self.mode {
            Some(Mode::Publisher { .. }) if self.publisher_admin == 1 => {
                Some(Mode::Publisher { admin: true })
            }
            Some(Mode::Subscriber(Delivery::Streaming)) if self.event_source_support == 1 => {
                Some(Mode::Subscriber(Delivery::EventSource))
            }
            other => other,
        };
        if self.is_copy {
            inherit(&mut self.event_source_support, outer.event_source_support, UNSET, UNSET);
        }
    }
}

/// Where settings of `http` were given that are allowed elsewhere as well: field and block.
#[derive(Default)]
pub(crate) struct Occurrences(Vec<(usize, usize)>);

impl Occurrences {
    /// `false`: this field was given in the same block before.
    pub(super) fn insert(&mut self, slot: usize, block: usize) -> bool {
        let new = !self.0.contains(&(slot, block));
        if new {
            self.0.push((slot, block));
        }
        new
    }
}

fn default_to<T: PartialEq>(value: &mut T, unset: T, default: T) {
    if *value == unset {
        *value = default;
    }
}

fn default_str(value: &mut ngx_str_t, default: &'static str) {
    if value.data.is_null() {
        *value = static_str(default);
    }
}

fn inherit<T: PartialEq + Copy>(value: &mut T, outer: T, unset: T, default: T) {
    if *value == unset {
        *value = if outer == unset { default } else { outer };
    }
}

fn inherit_pointer<T>(value: &mut *mut T, outer: *mut T) {
    if value.is_null() {
        *value = outer;
    }
}

/// An empty string that was given has a pointer. One that was not given has none.
fn inherit_str(value: &mut ngx_str_t, outer: &ngx_str_t, default: &'static str) {
    if value.data.is_null() {
        *value = if outer.data.is_null() { static_str(default) } else { *outer };
    }
}

fn static_str(text: &'static str) -> ngx_str_t {
    ngx_str_t { len: text.len(), data: text.as_ptr().cast_mut() }
}
