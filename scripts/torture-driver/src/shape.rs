//! The configurations of the torture. Each reload draws one of them.

use crate::items::TEMPLATES;
use crate::random::Random;
use crate::server::Config;

/// The settings that a reload may change.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub(crate) workers: u64,
    reuseport: bool,
    template: usize,
    pub(crate) ttl_secs: u64,
    pub(crate) inactivity_secs: u64,
    /// Largest number of descriptors of a worker.
    files_max: u64,
    channels_max: Option<u64>,
    subscribers_max: Option<u64>,
    id_length_max: u64,
    /// Wildcard prefix and events channel: which channels there are, and of what kind.
    channel_sets: bool,
    connection_ttl: bool,
    timeout_with_body: bool,
}

/// Connections of a worker; a storm is larger.
pub(crate) const CONNECTIONS: u64 = 1024;

impl Shape {
    pub(crate) fn calm(workers: u64, reuseport: bool) -> Self {
        Self {
            workers,
            reuseport,
            template: 0,
            ttl_secs: 25,
            inactivity_secs: 3,
            files_max: 4096,
            channels_max: None,
            subscribers_max: None,
            id_length_max: 200,
            channel_sets: false,
            connection_ttl: false,
            timeout_with_body: false,
        }
    }

    /// The next one; with `scarce`, it may limit the descriptors of a worker.
    pub(crate) fn draw(&self, random: &mut Random, scarce: Option<u64>) -> Self {
        let calm = Self::calm(self.workers, self.reuseport);
        if random.one_in(4) {
            // A reload with the same configuration.
            return self.clone();
        }
        Self {
            template: random.index(TEMPLATES.len()),
            ttl_secs: random.between(25, 30),
            inactivity_secs: random.between(2, 5),
            files_max: scarce.filter(|_| random.one_in(3)).unwrap_or(calm.files_max),
            channels_max: random.one_in(2).then_some(100_000),
            subscribers_max: random.one_in(2).then_some(50_000),
            id_length_max: random.between(40, 200),
            channel_sets: random.one_in(2),
            connection_ttl: random.one_in(2),
            timeout_with_body: random.one_in(2),
            ..calm
        }
    }

    pub(crate) fn config(&self) -> Config {
        let Self { workers, files_max, ttl_secs, inactivity_secs, id_length_max, .. } = self;
        let main = format!(
            "worker_processes {workers};\nworker_rlimit_nofile {files_max};\n\
             events {{ worker_connections {CONNECTIONS}; }}\n"
        );
        let mut limits = String::new();
        if let Some(channels_max) = self.channels_max {
            limits += &format!("    push_stream_max_number_of_channels {channels_max};\n");
        }
        if let Some(subscribers_max) = self.subscribers_max {
            limits += &format!("    push_stream_max_subscribers_per_channel {subscribers_max};\n");
        }
        if self.channel_sets {
            limits += "    push_stream_wildcard_channel_prefix busy;\n    \
                       push_stream_events_channel_id notices;\n";
        }
        if self.timeout_with_body {
            limits += "    push_stream_timeout_with_body on;\n";
        }
        let connection_ttl = match self.connection_ttl {
            true => "push_stream_subscriber_connection_ttl 4s;",
            false => "",
        };
        let template = TEMPLATES[self.template];
        let reuseport = if self.reuseport { "reuseport" } else { "" };
        let http = format!(
            r#"
    keepalive_requests 100000;
    client_body_timeout 20s;
    client_body_buffer_size 16k;
    client_max_body_size 4m;
    send_timeout 8s;
    log_format torture '$pid $status $request_time $bytes_sent $push_stream_close_reason $request';

    push_stream_shared_memory_size 48m;
    push_stream_message_ttl {ttl_secs}s;
    push_stream_channel_inactivity_time {inactivity_secs}s;
    push_stream_max_channel_id_length {id_length_max};
    push_stream_subscriber_max_buffered 4m;
{limits}
    push_stream_header_template "HEAD\n";
    push_stream_footer_template "FOOT\n";
    push_stream_message_template "{template}\n";

    server {{
        listen 127.0.0.1:%PORT% backlog=4096 {reuseport};
        access_log off;
        add_header X-Worker $pid always;

        location /audit {{ push_stream_audit on; }}
        location /stats {{ push_stream_channels_statistics; push_stream_channels_path $arg_id; }}
        location /pub {{
            push_stream_publisher admin;
            push_stream_channels_path $arg_id;
            push_stream_store_messages on;
        }}
        location /pub-live {{
            push_stream_publisher;
            push_stream_channels_path $arg_id;
        }}
        location ~ ^/stream/(.*) {{
            access_log logs/access.log torture;
            push_stream_subscriber;
            push_stream_channels_path $1;
            push_stream_ping_message_interval 1s;
            {connection_ttl}
        }}
        location ~ ^/events/(.*) {{
            access_log logs/access.log torture;
            push_stream_subscriber eventsource;
            push_stream_channels_path $1;
            push_stream_message_template "{template}";
            push_stream_ping_message_interval 1s;
            {connection_ttl}
        }}
        location ~ ^/long-poll/(.*) {{
            push_stream_subscriber long-polling;
            push_stream_channels_path $1;
            push_stream_longpolling_connection_ttl 3s;
        }}
        location ~ ^/poll/(.*) {{
            push_stream_subscriber polling;
            push_stream_channels_path $1;
        }}
        location ~ ^/socket/(.*) {{
            access_log logs/access.log torture;
            push_stream_subscriber websocket;
            push_stream_channels_path $1;
            push_stream_websocket_allow_publish on;
            push_stream_store_messages on;
            push_stream_ping_message_interval 1s;
            {connection_ttl}
        }}
    }}
"#
        );
        Config { main, http }
    }
}
