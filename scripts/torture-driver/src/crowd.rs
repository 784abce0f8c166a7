//! The crowd: many streaming subscribers on one channel, messages published as fast as they are acknowledged,
//! and a worker killed every second. Each subscriber must get every message once, in order. A subscriber
//! of the killed worker comes back and resumes.

use std::time::{Duration, Instant};

use crate::publisher::{Alphabet, Plan, Publisher};
use crate::server::{Config, Nginx, PATIENCE, Place};
use crate::statistics;
use crate::subscriber::{Habit, Mode, Resume, Subscriber};
use crate::world::{Stage, World};

/// The size of the crowd.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) workers: u64,
    pub(crate) subscribers: u64,
    pub(crate) messages: u64,
    pub(crate) kills_max: u64,
}

const PUBLISHERS: u64 = 4;

fn config(workers: u64) -> Config {
    let main = format!(
        "worker_processes {workers};\nworker_rlimit_nofile 8192;\n\
         events {{ worker_connections 4096; }}\n"
    );
    let http = r#"
    keepalive_requests 1000000;
    push_stream_shared_memory_size 64m;
    push_stream_message_ttl 1h;
    push_stream_subscriber_max_buffered 64m;
    push_stream_header_template "HEAD\n";
    push_stream_footer_template "FOOT\n";
    push_stream_message_template "<~id~ ~tag~ ~channel~ ~event-id~ ~size~ ~time~>~text~\n";
    server {
        # A queue of connections for each worker, so that both get their share.
        listen 127.0.0.1:%PORT% reuseport backlog=4096;
        add_header X-Worker $pid always;
        location /stats { push_stream_channels_statistics; push_stream_channels_path $arg_id; }
        location /pub {
            push_stream_publisher admin;
            push_stream_channels_path $arg_id;
            push_stream_store_messages on;
        }
        location ~ ^/stream/(.*) { push_stream_subscriber; push_stream_channels_path $1; }
    }
"#;
    Config { main, http: http.to_owned() }
}

/// Runs the crowd; true if nothing was found.
pub(crate) fn run(place: Place, seed: u64, size: Size) -> Result<bool, String> {
    let tell = |error: std::io::Error| error.to_string();
    let nginx = Nginx::start(place, &config(size.workers))?;
    let mut stage = Stage::new(World::new(nginx, seed).map_err(tell)?);
    let channel = stage.world.ledger.open("crowd".to_owned(), true);

    for number in 0..size.subscribers {
        let actor = stage.next_actor();
        let resume = if number % 2 == 0 { Resume::Time } else { Resume::Event };
        let subscriber = Subscriber::new(
            actor,
            Habit::new(Mode::Streaming, resume),
            &[channel],
            &mut stage.world,
        );
        stage.add(subscriber);
    }
    let attached = |stage: &Stage| {
        stage.actors.iter().flatten().filter(|actor| actor.is_attached()).count() as u64
    };
    let all = stage
        .run_until(PATIENCE, attached, |stage| attached(stage) == size.subscribers)
        .map_err(tell)?;
    if !all {
        return Err(format!("{} of {} subscribers attached", attached(&stage), size.subscribers));
    }

    let began = Instant::now();
    for number in 0..PUBLISHERS {
        let plan = Plan {
            channels: vec![channel],
            alphabet: Alphabet::Any,
            lengths: (1, 60),
            large_one_in: 0,
            huge_one_in: 0,
            quota: size.messages / PUBLISHERS,
            rest: Duration::ZERO,
            chunked_one_in: 10,
            locations: &["pub"],
        };
        let actor = stage.next_actor();
        let publisher = Publisher::new(actor, number as u32, plan, &mut stage.world);
        stage.add(publisher);
    }
    let mut next_kill = began + Duration::from_secs(1);
    let deliveries = |stage: &Stage| stage.world.ledger.deliveries;
    let complete = stage
        .run_until(PATIENCE, deliveries, |stage| {
            let world = &mut stage.world;
            if world.now >= next_kill && world.figures.findings() == 0 {
                let workers = world.nginx.workers();
                if (world.nginx.kills() as u64) < size.kills_max && !workers.is_empty() {
                    let victim = workers[world.random.index(workers.len())];
                    world.nginx.kill(victim);
                }
                // A second after the last kill; otherwise nothing would progress on a slow machine.
                next_kill = Instant::now() + Duration::from_secs(1);
            }
            stage.actors.iter().flatten().all(|actor| actor.is_done(&stage.world))
        })
        .map_err(tell)?;
    let seconds = began.elapsed().as_secs_f64();

    // Every message that the server counts must have reached every subscriber.
    let world = &mut stage.world;
    let told = statistics::published(&world.nginx, "crowd")?.unwrap_or(0);
    world.ledger.channels[channel].told = told;
    let settled = complete
        && stage
            .run_until(PATIENCE, deliveries, |stage| {
                stage.actors.iter().flatten().all(|actor| actor.is_done(&stage.world))
            })
            .map_err(tell)?;
    let Stage { mut world, mut actors, .. } = stage;
    for actor in actors.iter_mut().flatten() {
        actor.finish(&mut world);
        if !actor.is_done(&world) {
            world.wrong(crate::ledger::Wrong::Lost, &format!("at the end: {}", actor.describe()));
        }
    }
    for (wrong, text) in world.ledger.close(channel) {
        world.wrong(wrong, &text);
    }
    world.judge_cuts();
    for line in world.nginx.bad_lines(&[]) {
        world.odd(&format!("error log: {line}"));
    }
    drop(actors);

    let figures = &world.figures;
    println!(
        "crowd: seed {seed}, workers {}, subscribers {}, messages {told}, acknowledged {}, \
         deliveries {}, kills {}, reconnects {}, seconds {seconds:.1}, lost {}, doubled {}, mixed {}, \
         disorder {}, cut {}, odd {}",
        size.workers,
        size.subscribers,
        world.ledger.acknowledged,
        world.ledger.deliveries,
        world.nginx.kills(),
        figures.reconnects,
        figures.lost,
        figures.doubled,
        figures.mixed,
        figures.disorder,
        figures.cut,
        figures.odd,
    );
    let clean = settled && figures.findings() == 0;
    let bad = world.nginx.stop(&[])?;
    for line in &bad {
        println!("crowd: at the end, error log: {line}");
    }
    Ok(clean && bad.is_empty())
}
