//! The configuration of the server that is fed: every kind of location, small limits, a small zone.

use crate::server::Config;

/// Channels to which only we publish. Their messages name them, see [`super::judge`].
pub(crate) const MARKED: [&str; 4] = ["m0", "m1", "m2", "m3"];
/// Time to live of messages; a full zone stays full for that long.
pub(crate) const TTL_SECS: u64 = 2;

/// Locations that publish, with `?id=`.
pub(crate) const PUBLISHERS: [&str; 5] = ["/pub", "/pub", "/pub-live", "/pub-file", "/pub-cors"];
/// Locations with statistics of channels.
pub(crate) const ABOUT: [&str; 3] = ["/stats", "/audit", "/pub"];
/// Locations that deliver over HTTP, with `?id=` or a path below.
pub(crate) const SUBSCRIBERS: [&str; 10] = [
    "/sub",
    "/sub-ping",
    "/sub-pad",
    "/sub-gzip",
    "/sub-known",
    "/sub-var",
    "/ev",
    "/ev-ttl",
    "/lp",
    "/poll",
];
/// Locations for WebSockets.
pub(crate) const SOCKETS: [&str; 5] = ["/ws", "/ws", "/ws-binary", "/ws-small", "/ws-mute"];

pub(crate) fn config() -> Config {
    let main = "worker_processes 2;\nworker_shutdown_timeout 5s;\n\
                events { worker_connections 1024; }\n"
        .to_owned();
    // Each subscriber once by `?id=` and once by a path of regular expression.
    let subscriber = |name: &str, more: &str| {
        format!(
            "        location /{name} {{ {more} }}\n        \
             location ~ ^/{name}/(.*) {{ push_stream_channels_path $1; {more} }}\n"
        )
    };
    let subscribers: String = [
        ("sub", "push_stream_subscriber;"),
        (
            "sub-ping",
            "push_stream_subscriber; push_stream_ping_message_interval 1s; \
             push_stream_header_template HEAD; push_stream_footer_template FOOT; \
             push_stream_subscriber_connection_ttl 2s;",
        ),
        (
            "sub-pad",
            "push_stream_subscriber; push_stream_header_template HEAD; \
             push_stream_padding_by_user_agent \"[Ff]uzz,300,200|M,0,100\";",
        ),
        ("sub-gzip", "push_stream_subscriber; gzip on; gzip_types *; gzip_min_length 0;"),
        (
            "sub-known",
            "push_stream_subscriber; push_stream_authorized_channels_only on; \
             push_stream_wildcard_channel_max_qtd 1; push_stream_allowed_origins $http_origin;",
        ),
        (
            "sub-var",
            "push_stream_subscriber; push_stream_last_received_message_time $arg_time; \
             push_stream_last_received_message_tag $arg_tag; push_stream_last_event_id $arg_eid; \
             push_stream_user_agent $arg_ua; \
             push_stream_allow_connections_to_events_channel on; push_stream_force_filters on;",
        ),
        (
            "ev",
            "push_stream_subscriber eventsource; push_stream_message_template \
             \"~id~ ~tag~ ~channel~ ~event-id~ ~event-type~ ~size~ ~time~ ~text~\"; \
             push_stream_allow_connections_to_events_channel on;",
        ),
        (
            "ev-ttl",
            "push_stream_subscriber eventsource; push_stream_subscriber_connection_ttl 1s; \
             push_stream_ping_message_interval 1s; push_stream_footer_template FOOT;",
        ),
        ("lp", "push_stream_subscriber long-polling; push_stream_longpolling_connection_ttl 1s;"),
        ("poll", "push_stream_subscriber polling;"),
        (
            "ws",
            "push_stream_subscriber websocket; push_stream_websocket_allow_publish on; \
             push_stream_store_messages on; push_stream_ping_message_interval 1s;",
        ),
        (
            "ws-binary",
            "push_stream_subscriber websocket; push_stream_websocket_allow_publish on; \
             push_stream_websocket_binary on; push_stream_store_messages on; \
             push_stream_header_template HEAD; push_stream_footer_template FOOT; \
             push_stream_subscriber_connection_ttl 2s;",
        ),
        (
            "ws-small",
            "push_stream_subscriber websocket; push_stream_websocket_allow_publish on; \
             push_stream_websocket_max_message_size 64; push_stream_subscriber_max_buffered 1k; \
             push_stream_authorized_channels_only on;",
        ),
        ("ws-mute", "push_stream_subscriber websocket; limit_rate 2k;"),
    ]
    .iter()
    .map(|(name, more)| subscriber(name, more))
    .collect();
    let http = format!(
        r#"
    client_header_buffer_size 256;
    large_client_header_buffers 4 1k;
    client_body_buffer_size 1k;
    client_max_body_size 64k;
    client_header_timeout 2s;
    client_body_timeout 2s;
    keepalive_timeout 2s;
    send_timeout 2s;
    lingering_timeout 1s;
    lingering_time 2s;
    reset_timedout_connection on;

    push_stream_shared_memory_size 512k;
    push_stream_message_ttl {TTL_SECS}s;
    push_stream_channel_inactivity_time 1s;
    push_stream_max_number_of_channels 40;
    push_stream_max_number_of_wildcard_channels 4;
    push_stream_max_messages_stored_per_channel 10;
    push_stream_max_subscribers_per_channel 20;
    push_stream_max_channel_id_length 100;
    push_stream_wildcard_channel_prefix w_;
    push_stream_events_channel_id events;
    push_stream_ping_message_text PING;
    push_stream_timeout_with_body on;
    push_stream_subscriber_max_buffered 16k;
    push_stream_websocket_max_message_size 32k;
    push_stream_message_template "[~id~ ~channel~ ~text~]";

    server {{
        listen 127.0.0.1:%PORT% reuseport;
        push_stream_channels_path $arg_id;
        add_header X-Worker $pid always;

        location /audit {{ push_stream_audit on; }}
        location /stats {{ push_stream_channels_statistics; }}
        location /pub {{ push_stream_publisher admin; push_stream_store_messages on; }}
        location /pub-live {{
            push_stream_publisher;
            push_stream_channel_info_on_publish off;
            push_stream_open_publisher on;
        }}
        location /pub-file {{
            push_stream_publisher;
            push_stream_store_messages on;
            client_body_in_file_only clean;
            client_body_temp_path temp/kept;
        }}
        location /pub-cors {{
            push_stream_publisher admin;
            push_stream_allowed_origins $http_origin;
            client_max_body_size 100;
        }}
        location /watch {{ push_stream_subscriber; }}
{subscribers}
    }}
"#
    );
    Config { main, http }
}
