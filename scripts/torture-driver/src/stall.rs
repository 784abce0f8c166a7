//! The stall: subscribers that do not read for a minute, while messages are published to another channel as
//! fast as possible. When they read again, they must find the bytes of their own channel without a gap, or
//! the end of their connection. The memory that they cost their worker is bounded.

use std::time::{Duration, Instant};

use crate::publisher::{Alphabet, Plan, Publisher};
use crate::server::{Config, Nginx, Place, worker_state};
use crate::subscriber::{Habit, Mode, Pace, Resume, Subscriber};
use crate::world::{Stage, World};

/// Subscribers that stand still, for each mode and channel.
const STALLED: u64 = 8;
const MODES: [Mode; 4] = [Mode::Streaming, Mode::Old, Mode::EventSource, Mode::WebSocket];
/// `push_stream_subscriber_max_buffered`, and the longest message.
const BUFFERED_KB: u64 = 256;
const MESSAGE_KB: u64 = 64;
/// Memory by which a worker may grow for everything else.
const GROWTH_MAX_KB: u64 = 16 * 1024;
/// Nothing more comes after that long.
const SILENCE: Duration = Duration::from_secs(5);

fn config(workers: u64) -> Config {
    let main = format!("worker_processes {workers};\nevents {{ worker_connections 1024; }}\n");
    let template = r"<~id~ ~tag~ ~channel~ ~event-id~ ~size~ ~time~>~text~";
    let http = format!(
        r#"
    keepalive_requests 1000000;
    client_body_buffer_size 64k;
    send_timeout 1h;
    push_stream_shared_memory_size 64m;
    push_stream_max_messages_stored_per_channel 50;
    push_stream_subscriber_max_buffered {BUFFERED_KB}k;
    push_stream_header_template "HEAD\n";
    push_stream_footer_template "FOOT\n";
    push_stream_message_template "{template}\n";
    server {{
        listen 127.0.0.1:%PORT% reuseport backlog=4096 sndbuf=16k;
        add_header X-Worker $pid always;
        location /stats {{ push_stream_channels_statistics; push_stream_channels_path $arg_id; }}
        location /pub {{
            push_stream_publisher admin;
            push_stream_channels_path $arg_id;
            push_stream_store_messages on;
        }}
        location ~ ^/stream/(.*) {{ push_stream_subscriber; push_stream_channels_path $1; }}
        location ~ ^/events/(.*) {{
            push_stream_subscriber eventsource;
            push_stream_channels_path $1;
            push_stream_message_template "{template}";
        }}
        location ~ ^/socket/(.*) {{ push_stream_subscriber websocket; push_stream_channels_path $1; }}
    }}
"#
    );
    Config { main, http }
}

fn subscribe(stage: &mut Stage, mode: Mode, pace: Pace, channel: usize) {
    let actor = stage.next_actor();
    let habit = Habit { pace, ..Habit::new(mode, Resume::Never) };
    let subscriber = Subscriber::new(actor, habit, &[channel], &mut stage.world);
    stage.add(subscriber);
}

/// Runs the stall; true if nothing was found.
pub(crate) fn run(place: Place, seed: u64, workers: u64, seconds: u64) -> Result<bool, String> {
    let tell = |error: std::io::Error| error.to_string();
    let nginx = Nginx::start(place, &config(workers))?;
    let mut stage = Stage::new(World::new(nginx, seed).map_err(tell)?);
    // If a worker is slower than the publishers, the zone fills up.
    stage.world.may_refuse = true;
    let mut open = |name: &str| stage.world.ledger.open(name.to_owned(), false);
    // Few bytes, which may wait within the bound; more than that; and bytes of a channel they did not ask for.
    let (quiet, loud, other) = (open("quiet"), open("loud"), open("other"));
    let time = Duration::from_secs(seconds);
    for mode in MODES {
        for _ in 0..STALLED {
            subscribe(&mut stage, mode, Pace::Stall(time), quiet);
            subscribe(&mut stage, mode, Pace::Stall(time), loud);
        }
        subscribe(&mut stage, mode, Pace::Full, quiet);
        // They may be disconnected as well, because we are slower than nginx.
        subscribe(&mut stage, mode, Pace::Stall(Duration::ZERO), other);
    }
    let before_kb = worker_state(&stage.world.nginx).own_kb;
    let plans = [
        (quiet, (1, 1000), Duration::from_millis(seconds * 5)),
        (loud, (1, MESSAGE_KB << 10), Duration::from_millis(20)),
        (other, (1, MESSAGE_KB << 10), Duration::ZERO),
        (other, (1, 2000), Duration::ZERO),
    ];
    for (number, (channel, lengths, rest)) in (0..).zip(plans) {
        let plan = Plan {
            channels: vec![channel],
            alphabet: Alphabet::OneLine,
            lengths,
            large_one_in: 0,
            huge_one_in: 0,
            quota: u64::MAX,
            rest,
            chunked_one_in: 0,
            locations: &["pub"],
        };
        let actor = stage.next_actor();
        let publisher = Publisher::new(actor, number, plan, &mut stage.world);
        stage.add(publisher);
    }
    let mut most_kb = before_kb;
    let (end, mut look_at) = (Instant::now() + time, Instant::now());
    while Instant::now() < end {
        stage.turn().map_err(tell)?;
        if look_at <= stage.world.now {
            look_at = stage.world.now + Duration::from_millis(500);
            most_kb = most_kb.max(worker_state(&stage.world.nginx).own_kb);
        }
    }
    stage.world.closing = true;
    let deliveries = |stage: &Stage| stage.world.ledger.deliveries;
    let before = deliveries(&stage);
    // They read again. Those that were disconnected come back, and may stand still once more.
    stage.run_until(SILENCE, deliveries, |_| false).map_err(tell)?;
    let afterwards = deliveries(&stage) - before;
    let Stage { mut world, mut actors, .. } = stage;
    for actor in actors.iter_mut().flatten() {
        actor.finish(&mut world);
    }
    world.judge_cuts();
    for line in world.nginx.bad_lines(&[]) {
        world.odd(&format!("error log: {line}"));
    }
    drop(actors);
    let stalled = 2 * STALLED * MODES.len() as u64;
    let bound_kb = before_kb + stalled * (BUFFERED_KB + MESSAGE_KB) + GROWTH_MAX_KB;
    if most_kb > bound_kb {
        world.odd(&format!("a worker took {most_kb} kB, and {bound_kb} kB is the bound"));
    }
    if afterwards == 0 {
        world.odd("nobody who stood still got anything afterwards");
    }
    let figures = &world.figures;
    println!(
        "stall: seed {seed}, workers {workers}, seconds {seconds}, stalled {stalled}, messages {}, \
         deliveries {}, of them afterwards {afterwards}, cut off and back {}, refused {}, worker kB {before_kb} at \
         first and {most_kb} at most, bound {bound_kb}, lost {}, doubled {}, mixed {}, disorder {}, odd {}",
        world.ledger.acknowledged,
        world.ledger.deliveries,
        figures.reconnects,
        figures.refused,
        figures.lost,
        figures.doubled,
        figures.mixed,
        figures.disorder,
        figures.odd,
    );
    let clean = figures.findings() == 0;
    Ok(world.nginx.stop(&[])?.is_empty() && clean)
}
