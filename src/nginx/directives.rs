//! The command table: each directive with its contexts, its number of words and its setter.
//!
//! A row reads like the manual. [`row`] is a `const fn`, and [`Field`] picks the level, so level
//! and offset always agree. Names of old configurations come last; [`crate::nginx::legacy`] handles
//! them.

use core::mem::offset_of;

use ngx::ffi::{
    NGX_CONF_1MORE, NGX_CONF_FLAG, NGX_CONF_NOARGS, NGX_CONF_TAKE1, NGX_CONF_TAKE2,
    NGX_HTTP_LIF_CONF, NGX_HTTP_LOC_CONF, NGX_HTTP_LOC_CONF_OFFSET, NGX_HTTP_MAIN_CONF,
    NGX_HTTP_MAIN_CONF_OFFSET, NGX_HTTP_SRV_CONF, ngx_command_t, ngx_conf_set_flag_slot,
    ngx_conf_set_msec_slot, ngx_conf_set_num_slot, ngx_conf_set_sec_slot, ngx_conf_set_str_slot,
    ngx_http_set_complex_value_slot, ngx_str_t, ngx_uint_t,
};
use ngx::ngx_string;

use crate::nginx::config::{LocationConf, MainConf};
use crate::nginx::legacy::Setter;
use crate::nginx::{legacy, setters, zone};

const HTTP: u32 = NGX_HTTP_MAIN_CONF;
const LOCATION: u32 = NGX_HTTP_LOC_CONF;
const ANYWHERE: u32 = HTTP | NGX_HTTP_SRV_CONF | LOCATION;
/// Also in an `if` inside a location, never in an `if` inside a server.
const ANYWHERE_AND_IF: u32 = ANYWHERE | NGX_HTTP_LIF_CONF;
/// One word or two.
const TAKE12: u32 = NGX_CONF_TAKE1 | NGX_CONF_TAKE2;
/// No word or one.
const TAKE01: u32 = NGX_CONF_NOARGS | NGX_CONF_TAKE1;

/// The place of the value.
enum Field {
    /// Offset in [`MainConf`].
    Main(usize),
    /// Offset in [`LocationConf`].
    Location(usize),
    /// The setter knows the place.
    None,
}

const fn row(
    name: ngx_str_t,
    contexts: u32,
    words: u32,
    set: Setter,
    field: Field,
) -> ngx_command_t {
    let (conf, offset) = match field {
        Field::Main(offset) => (NGX_HTTP_MAIN_CONF_OFFSET, offset),
        Field::Location(offset) => (NGX_HTTP_LOC_CONF_OFFSET, offset),
        Field::None => (NGX_HTTP_LOC_CONF_OFFSET, 0),
    };
    ngx_command_t {
        name,
        type_: (contexts | words) as ngx_uint_t,
        set: Some(set),
        conf,
        offset,
        post: core::ptr::null_mut(),
    }
}

/// The rows, and nginx's mark for the end.
#[repr(transparent)]
struct Table([ngx_command_t; ROWS + 1]);

// SAFETY: the rows hold pointers to statics only, and neither nginx nor we write to them.
unsafe impl Sync for Table {}

/// The table for nginx. Its type lets nginx write to it, but nginx only reads.
pub(super) const fn table() -> *mut ngx_command_t {
    (&raw const TABLE).cast_mut().cast()
}

const ROWS: usize = 72;

/// The rows, in the order of the manual; names of old configurations come last.
static TABLE: Table = Table([
    // The mode of a location.
    // push_stream_channels_statistics;   location
    row(
        ngx_string!("push_stream_channels_statistics"),
        LOCATION,
        NGX_CONF_NOARGS,
        setters::set_statistics,
        Field::None,
    ),
    // push_stream_publisher [normal | admin];   location
    row(
        ngx_string!("push_stream_publisher"),
        LOCATION,
        TAKE01,
        setters::set_publisher,
        Field::None,
    ),
    // push_stream_subscriber [streaming | polling | long-polling | eventsource | websocket];   location
    row(
        ngx_string!("push_stream_subscriber"),
        LOCATION,
        TAKE01,
        setters::set_subscriber,
        Field::None,
    ),
    // push_stream_audit on | off;   location   default: off
    row(ngx_string!("push_stream_audit"), LOCATION, NGX_CONF_FLAG, setters::set_audit, Field::None),
    // push_stream_audit_allow <address> | <network> | unix: | all ...;   location   default: this machine
    row(
        ngx_string!("push_stream_audit_allow"),
        LOCATION,
        NGX_CONF_1MORE,
        setters::set_audit_allow,
        Field::None,
    ),
    // push_stream_metrics on | off;   location   default: off
    row(
        ngx_string!("push_stream_metrics"),
        LOCATION,
        NGX_CONF_FLAG,
        setters::set_metrics,
        Field::None,
    ),
    // push_stream_metrics_allow <address> | <network> | unix: | all ...;   location   default: this machine
    row(
        ngx_string!("push_stream_metrics_allow"),
        LOCATION,
        NGX_CONF_1MORE,
        setters::set_metrics_allow,
        Field::None,
    ),
    // For all locations together.
    // push_stream_shared_memory_size <size> [<zone>];   http   mandatory
    row(ngx_string!("push_stream_shared_memory_size"), HTTP, TAKE12, zone::set_size, Field::None),
    // push_stream_channel_deleted_message_text <text>;   http   default: "Channel deleted"
    row(
        ngx_string!("push_stream_channel_deleted_message_text"),
        HTTP,
        NGX_CONF_TAKE1,
        ngx_conf_set_str_slot,
        Field::Main(offset_of!(MainConf, channel_deleted_message_text)),
    ),
    // push_stream_channel_inactivity_time <time>;   http   default: 30s
    row(
        ngx_string!("push_stream_channel_inactivity_time"),
        HTTP,
        NGX_CONF_TAKE1,
        ngx_conf_set_sec_slot,
        Field::Main(offset_of!(MainConf, channel_inactivity_time)),
    ),
    // push_stream_ping_message_text <text>;   http   default: " "
    row(
        ngx_string!("push_stream_ping_message_text"),
        HTTP,
        NGX_CONF_TAKE1,
        ngx_conf_set_str_slot,
        Field::Main(offset_of!(MainConf, ping_message_text)),
    ),
    // push_stream_timeout_with_body on | off;   http   default: off
    row(
        ngx_string!("push_stream_timeout_with_body"),
        HTTP,
        NGX_CONF_FLAG,
        ngx_conf_set_flag_slot,
        Field::Main(offset_of!(MainConf, timeout_with_body)),
    ),
    // push_stream_message_ttl <time>;   http   default: 30m
    row(
        ngx_string!("push_stream_message_ttl"),
        HTTP,
        NGX_CONF_TAKE1,
        legacy::hoisted_sec,
        Field::Main(offset_of!(MainConf, message_ttl)),
    ),
    // push_stream_max_subscribers_per_channel <number>;   http   default: no limit
    row(
        ngx_string!("push_stream_max_subscribers_per_channel"),
        HTTP,
        NGX_CONF_TAKE1,
        ngx_conf_set_num_slot,
        Field::Main(offset_of!(MainConf, max_subscribers_per_channel)),
    ),
    // push_stream_max_messages_stored_per_channel <number>;   http   default: no limit
    row(
        ngx_string!("push_stream_max_messages_stored_per_channel"),
        HTTP,
        NGX_CONF_TAKE1,
        legacy::hoisted_num,
        Field::Main(offset_of!(MainConf, max_messages_stored_per_channel)),
    ),
    // push_stream_max_channel_id_length <number>;   http   default: no limit
    row(
        ngx_string!("push_stream_max_channel_id_length"),
        ANYWHERE,
        NGX_CONF_TAKE1,
        legacy::hoisted_num,
        Field::Main(offset_of!(MainConf, max_channel_id_length)),
    ),
    // push_stream_max_number_of_channels <number>;   http   default: no limit
    row(
        ngx_string!("push_stream_max_number_of_channels"),
        ANYWHERE,
        NGX_CONF_TAKE1,
        legacy::hoisted_num,
        Field::Main(offset_of!(MainConf, max_number_of_channels)),
    ),
    // push_stream_max_number_of_wildcard_channels <number>;   http   default: no limit
    row(
        ngx_string!("push_stream_max_number_of_wildcard_channels"),
        HTTP,
        NGX_CONF_TAKE1,
        legacy::hoisted_num,
        Field::Main(offset_of!(MainConf, max_number_of_wildcard_channels)),
    ),
    // push_stream_wildcard_channel_prefix <text>;   http   default: none
    row(
        ngx_string!("push_stream_wildcard_channel_prefix"),
        HTTP,
        NGX_CONF_TAKE1,
        legacy::hoisted_str,
        Field::Main(offset_of!(MainConf, wildcard_channel_prefix)),
    ),
    // push_stream_events_channel_id <id>;   http   default: none
    row(
        ngx_string!("push_stream_events_channel_id"),
        HTTP,
        NGX_CONF_TAKE1,
        ngx_conf_set_str_slot,
        Field::Main(offset_of!(MainConf, events_channel_id)),
    ),
    // For each location.
    // push_stream_channels_path <value>;   http, server, location, if in location   default: none, mandatory
    row(
        ngx_string!("push_stream_channels_path"),
        ANYWHERE_AND_IF,
        NGX_CONF_TAKE1,
        ngx_http_set_complex_value_slot,
        Field::Location(offset_of!(LocationConf, channels_path)),
    ),
    // push_stream_store_messages on | off;   http, server, location, if in location   default: off
    row(
        ngx_string!("push_stream_store_messages"),
        ANYWHERE_AND_IF,
        NGX_CONF_FLAG,
        ngx_conf_set_flag_slot,
        Field::Location(offset_of!(LocationConf, store_messages)),
    ),
    // push_stream_channel_info_on_publish on | off;   http, server, location   default: on
    row(
        ngx_string!("push_stream_channel_info_on_publish"),
        ANYWHERE,
        NGX_CONF_FLAG,
        ngx_conf_set_flag_slot,
        Field::Location(offset_of!(LocationConf, channel_info_on_publish)),
    ),
    // push_stream_authorized_channels_only on | off;   http, server, location   default: off
    row(
        ngx_string!("push_stream_authorized_channels_only"),
        ANYWHERE,
        NGX_CONF_FLAG,
        ngx_conf_set_flag_slot,
        Field::Location(offset_of!(LocationConf, authorized_channels_only)),
    ),
    // push_stream_header_template <text>;   http, server, location   default: empty
    row(
        ngx_string!("push_stream_header_template"),
        ANYWHERE,
        NGX_CONF_TAKE1,
        ngx_conf_set_str_slot,
        Field::Location(offset_of!(LocationConf, header_template)),
    ),
    // push_stream_header_template_file <path>;   http, server, location   default: none
    row(
        ngx_string!("push_stream_header_template_file"),
        ANYWHERE,
        NGX_CONF_TAKE1,
        setters::set_header_template_file,
        Field::None,
    ),
    // push_stream_message_template <text>;   http, server, location   default: ~text~
    row(
        ngx_string!("push_stream_message_template"),
        ANYWHERE,
        NGX_CONF_TAKE1,
        setters::set_message_template,
        Field::None,
    ),
    // push_stream_message_format template | json;   http, server, location   default: template
    row(
        ngx_string!("push_stream_message_format"),
        ANYWHERE,
        NGX_CONF_TAKE1,
        setters::set_message_format,
        Field::None,
    ),
    // push_stream_footer_template <text>;   http, server, location   default: empty
    row(
        ngx_string!("push_stream_footer_template"),
        ANYWHERE,
        NGX_CONF_TAKE1,
        ngx_conf_set_str_slot,
        Field::Location(offset_of!(LocationConf, footer_template)),
    ),
    // push_stream_wildcard_channel_max_qtd <number>;   http, server, location   default: push_stream_max_number_of_wildcard_channels
    row(
        ngx_string!("push_stream_wildcard_channel_max_qtd"),
        ANYWHERE,
        NGX_CONF_TAKE1,
        ngx_conf_set_num_slot,
        Field::Location(offset_of!(LocationConf, wildcard_channel_max_qtd)),
    ),
    // push_stream_ping_message_interval <time>;   http, server, location   default: none
    row(
        ngx_string!("push_stream_ping_message_interval"),
        ANYWHERE,
        NGX_CONF_TAKE1,
        ngx_conf_set_msec_slot,
        Field::Location(offset_of!(LocationConf, ping_message_interval)),
    ),
    // push_stream_subscriber_connection_ttl <time>;   http, server, location   default: none
    row(
        ngx_string!("push_stream_subscriber_connection_ttl"),
        ANYWHERE,
        NGX_CONF_TAKE1,
        ngx_conf_set_msec_slot,
        Field::Location(offset_of!(LocationConf, subscriber_connection_ttl)),
    ),
    // push_stream_longpolling_connection_ttl <time>;   http, server, location   default: push_stream_subscriber_connection_ttl
    row(
        ngx_string!("push_stream_longpolling_connection_ttl"),
        ANYWHERE,
        NGX_CONF_TAKE1,
        ngx_conf_set_msec_slot,
        Field::Location(offset_of!(LocationConf, longpolling_connection_ttl)),
    ),
    // push_stream_websocket_allow_publish on | off;   http, server, location   default: off
    row(
        ngx_string!("push_stream_websocket_allow_publish"),
        ANYWHERE,
        NGX_CONF_FLAG,
        ngx_conf_set_flag_slot,
        Field::Location(offset_of!(LocationConf, websocket_allow_publish)),
    ),
    // push_stream_websocket_binary on | off;   http, server, location   default: off
    row(
        ngx_string!("push_stream_websocket_binary"),
        ANYWHERE,
        NGX_CONF_FLAG,
        ngx_conf_set_flag_slot,
        Field::Location(offset_of!(LocationConf, websocket_binary)),
    ),
    // push_stream_websocket_max_message_size <size>;   http, server, location   default: 16m
    row(
        ngx_string!("push_stream_websocket_max_message_size"),
        ANYWHERE,
        NGX_CONF_TAKE1,
        setters::set_size,
        Field::Location(offset_of!(LocationConf, websocket_max_message_size)),
    ),
    // push_stream_websocket_protocols <name> ... | off;   http, server, location   default: none
    row(
        ngx_string!("push_stream_websocket_protocols"),
        ANYWHERE,
        NGX_CONF_1MORE,
        setters::set_websocket_protocols,
        Field::None,
    ),
    // push_stream_allow_connections_to_events_channel on | off;   http, server, location, if in location   default: off
    row(
        ngx_string!("push_stream_allow_connections_to_events_channel"),
        ANYWHERE_AND_IF,
        NGX_CONF_FLAG,
        ngx_conf_set_flag_slot,
        Field::Location(offset_of!(LocationConf, allow_connections_to_events_channel)),
    ),
    // push_stream_eventsource_blank_lines drop | keep;   http, server, location   default: drop
    row(
        ngx_string!("push_stream_eventsource_blank_lines"),
        ANYWHERE,
        NGX_CONF_TAKE1,
        setters::set_blank_lines,
        Field::None,
    ),
    // push_stream_last_received_message_time <value>;   http, server, location, if in location   default: header If-Modified-Since
    row(
        ngx_string!("push_stream_last_received_message_time"),
        ANYWHERE_AND_IF,
        NGX_CONF_TAKE1,
        ngx_http_set_complex_value_slot,
        Field::Location(offset_of!(LocationConf, last_received_message_time)),
    ),
    // push_stream_last_received_message_tag <value>;   http, server, location, if in location   default: header If-None-Match
    row(
        ngx_string!("push_stream_last_received_message_tag"),
        ANYWHERE_AND_IF,
        NGX_CONF_TAKE1,
        ngx_http_set_complex_value_slot,
        Field::Location(offset_of!(LocationConf, last_received_message_tag)),
    ),
    // push_stream_last_event_id <value>;   http, server, location, if in location   default: header Last-Event-Id
    row(
        ngx_string!("push_stream_last_event_id"),
        ANYWHERE_AND_IF,
        NGX_CONF_TAKE1,
        ngx_http_set_complex_value_slot,
        Field::Location(offset_of!(LocationConf, last_event_id)),
    ),
    // push_stream_cursor on | off;   http, server, location   default: off
    row(
        ngx_string!("push_stream_cursor"),
        ANYWHERE,
        NGX_CONF_FLAG,
        ngx_conf_set_flag_slot,
        Field::Location(offset_of!(LocationConf, cursor)),
    ),
    // push_stream_retry <time>;   http, server, location   default: none
    row(
        ngx_string!("push_stream_retry"),
        ANYWHERE,
        NGX_CONF_TAKE1,
        ngx_conf_set_msec_slot,
        Field::Location(offset_of!(LocationConf, retry)),
    ),
    // push_stream_user_agent <value>;   http, server, location   default: header User-Agent
    row(
        ngx_string!("push_stream_user_agent"),
        ANYWHERE,
        NGX_CONF_TAKE1,
        ngx_http_set_complex_value_slot,
        Field::Location(offset_of!(LocationConf, user_agent)),
    ),
    // push_stream_padding_by_user_agent <list>;   http, server, location   default: empty
    row(
        ngx_string!("push_stream_padding_by_user_agent"),
        ANYWHERE,
        NGX_CONF_TAKE1,
        ngx_conf_set_str_slot,
        Field::Location(offset_of!(LocationConf, padding_by_user_agent)),
    ),
    // push_stream_allowed_origins <value> | <origin> | ~<pattern> ...;   http, server, location   default: none
    row(
        ngx_string!("push_stream_allowed_origins"),
        ANYWHERE,
        NGX_CONF_1MORE,
        setters::set_allowed_origins,
        Field::None,
    ),
    // push_stream_cors_headers <name> ...;   http, server, location   default: none
    row(
        ngx_string!("push_stream_cors_headers"),
        ANYWHERE,
        NGX_CONF_1MORE,
        setters::set_cors_headers,
        Field::None,
    ),
    // push_stream_cors_credentials on | off;   http, server, location   default: off
    row(
        ngx_string!("push_stream_cors_credentials"),
        ANYWHERE,
        NGX_CONF_FLAG,
        ngx_conf_set_flag_slot,
        Field::Location(offset_of!(LocationConf, cors_credentials)),
    ),
    // push_stream_cors_expose on | off;   http, server, location   default: off
    row(
        ngx_string!("push_stream_cors_expose"),
        ANYWHERE,
        NGX_CONF_FLAG,
        ngx_conf_set_flag_slot,
        Field::Location(offset_of!(LocationConf, cors_expose)),
    ),
    // push_stream_cors_max_age <time>;   http, server, location   default: none
    row(
        ngx_string!("push_stream_cors_max_age"),
        ANYWHERE,
        NGX_CONF_TAKE1,
        ngx_conf_set_sec_slot,
        Field::Location(offset_of!(LocationConf, cors_max_age)),
    ),
    // push_stream_subscriber_max_buffered <size>;   http, server, location   default: 1m
    row(
        ngx_string!("push_stream_subscriber_max_buffered"),
        ANYWHERE,
        NGX_CONF_TAKE1,
        setters::set_size,
        Field::Location(offset_of!(LocationConf, subscriber_max_buffered)),
    ),
    // push_stream_slow_subscriber disconnect | skip;   http, server, location   default: disconnect
    row(
        ngx_string!("push_stream_slow_subscriber"),
        ANYWHERE,
        NGX_CONF_TAKE1,
        setters::set_slow_subscriber,
        Field::None,
    ),
    // push_stream_force_filters on | off;   http, server, location   default: off
    row(
        ngx_string!("push_stream_force_filters"),
        ANYWHERE,
        NGX_CONF_FLAG,
        ngx_conf_set_flag_slot,
        Field::Location(offset_of!(LocationConf, force_filters)),
    ),
    // push_stream_forget_request on | off;   http, server, location   default: off
    row(
        ngx_string!("push_stream_forget_request"),
        ANYWHERE,
        NGX_CONF_FLAG,
        ngx_conf_set_flag_slot,
        Field::Location(offset_of!(LocationConf, forget_request)),
    ),
    // push_stream_open_publisher on | off;   http, server, location   default: off
    row(
        ngx_string!("push_stream_open_publisher"),
        ANYWHERE,
        NGX_CONF_FLAG,
        ngx_conf_set_flag_slot,
        Field::Location(offset_of!(LocationConf, open_publisher)),
    ),
    // Names of old configurations.
    row(
        ngx_string!("push_stream_max_reserved_memory"),
        HTTP,
        NGX_CONF_TAKE1,
        legacy::alias_zone,
        Field::None,
    ),
    row(
        ngx_string!("push_stream_min_message_buffer_timeout"),
        ANYWHERE,
        NGX_CONF_TAKE1,
        legacy::hoisted_sec,
        Field::Main(offset_of!(MainConf, message_ttl)),
    ),
    row(
        ngx_string!("push_stream_max_message_buffer_length"),
        ANYWHERE,
        NGX_CONF_TAKE1,
        legacy::hoisted_num,
        Field::Main(offset_of!(MainConf, max_messages_stored_per_channel)),
    ),
    row(
        ngx_string!("push_stream_subscriber_connection_timeout"),
        ANYWHERE,
        NGX_CONF_TAKE1,
        legacy::alias_msec,
        Field::Location(offset_of!(LocationConf, subscriber_connection_ttl)),
    ),
    row(
        ngx_string!("push_stream_broadcast_channel_prefix"),
        ANYWHERE,
        NGX_CONF_TAKE1,
        legacy::hoisted_str,
        Field::Main(offset_of!(MainConf, wildcard_channel_prefix)),
    ),
    row(
        ngx_string!("push_stream_broadcast_channel_max_qtd"),
        ANYWHERE,
        NGX_CONF_TAKE1,
        legacy::alias_num,
        Field::Location(offset_of!(LocationConf, wildcard_channel_max_qtd)),
    ),
    row(
        ngx_string!("push_stream_max_number_of_broadcast_channels"),
        ANYWHERE,
        NGX_CONF_TAKE1,
        legacy::hoisted_num,
        Field::Main(offset_of!(MainConf, max_number_of_wildcard_channels)),
    ),
    row(
        ngx_string!("push_stream_memory_cleanup_timeout"),
        ANYWHERE,
        NGX_CONF_TAKE1,
        legacy::ignore_time,
        Field::None,
    ),
    row(
        ngx_string!("push_stream_shared_memory_cleanup_objects_ttl"),
        HTTP,
        NGX_CONF_TAKE1,
        legacy::ignore_time,
        Field::None,
    ),
    row(
        ngx_string!("push_stream_websocket"),
        LOCATION,
        NGX_CONF_NOARGS,
        legacy::set_websocket,
        Field::None,
    ),
    row(
        ngx_string!("push_stream_eventsource_support"),
        LOCATION,
        NGX_CONF_FLAG,
        legacy::alias_flag,
        Field::Location(offset_of!(LocationConf, event_source_support)),
    ),
    row(
        ngx_string!("push_stream_publisher_admin"),
        LOCATION,
        NGX_CONF_FLAG,
        legacy::alias_flag,
        Field::Location(offset_of!(LocationConf, publisher_admin)),
    ),
    row(
        ngx_string!("push_stream_content_type"),
        ANYWHERE,
        NGX_CONF_TAKE1,
        legacy::alias_str,
        Field::Location(offset_of!(LocationConf, content_type)),
    ),
    row(
        ngx_string!("push_stream_keepalive"),
        ANYWHERE,
        NGX_CONF_FLAG,
        legacy::ignore_flag,
        Field::None,
    ),
    row(
        ngx_string!("push_stream_subscriber_disconnect_interval"),
        ANYWHERE,
        NGX_CONF_TAKE1,
        legacy::ignore_time,
        Field::None,
    ),
    row(
        ngx_string!("push_stream_min_message_buffer_length"),
        ANYWHERE,
        NGX_CONF_TAKE1,
        legacy::ignore_num,
        Field::None,
    ),
    ngx_command_t::empty(),
]);
