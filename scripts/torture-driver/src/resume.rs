//! The torture of those who come back: clients in all modes are cut off at any byte, and resume by cursor only,
//! in any mode and at any worker. Channels keep few messages, for a short time, some not at all; some channels
//! are deleted or idle; workers are killed, configurations change, the clock is set, and now and then the whole
//! server is killed and started anew. So clients lack messages all the time. What a client lacks it must have
//! been told, and it must lack something when it was told.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::audit;
use crate::items::{FOOTER, HEADER, PLACED};
use crate::ledger::ChannelId;
use crate::publisher::{Alphabet, Plan, Publisher};
use crate::random::Random;
use crate::server::{Config, Nginx, PATIENCE, Place};
use crate::wanderer::{MODES, Nature, Tally, Wanderer};
use crate::world::{Stage, World};

/// The size of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) seconds: u64,
    pub(crate) workers: u64,
    pub(crate) clients: u64,
}

/// Reasons for gaps that a run must have seen.
const REASONS_MIN: usize = 3;

/// The settings that a reload changes.
#[derive(Debug, Clone, Copy)]
struct Shape {
    workers: u64,
    stored_max: u64,
    ttl_secs: u64,
    inactivity_secs: u64,
    buffered_max_kb: u64,
    has_connection_ttl: bool,
    slow: &'static str,
}

impl Shape {
    /// Everything is kept, until all have got the last messages.
    fn calm(workers: u64) -> Self {
        Self {
            workers,
            stored_max: 10_000,
            ttl_secs: 300,
            inactivity_secs: 300,
            buffered_max_kb: 65_536,
            has_connection_ttl: false,
            slow: "disconnect",
        }
    }

    fn draw(workers: u64, random: &mut Random) -> Self {
        Self {
            workers,
            stored_max: random.between(2, 100),
            ttl_secs: random.between(1, 4),
            inactivity_secs: random.between(1, 2),
            buffered_max_kb: match random.one_in(2) {
                true => random.between(8, 256),
                false => 65_536,
            },
            has_connection_ttl: random.one_in(2),
            slow: if random.one_in(2) { "disconnect" } else { "skip" },
        }
    }

    fn config(&self) -> Config {
        let Self { workers, stored_max, ttl_secs, inactivity_secs, buffered_max_kb, slow, .. } =
            self;
        let main = format!("worker_processes {workers};\nevents {{ worker_connections 2048; }}\n");
        let connection_ttl = match self.has_connection_ttl {
            true => "push_stream_subscriber_connection_ttl 1s;",
            false => "",
        };
        let http = format!(
            r#"
    keepalive_requests 100000;
    client_body_buffer_size 64k;

    push_stream_shared_memory_size 32m;
    push_stream_message_ttl {ttl_secs}s;
    push_stream_channel_inactivity_time {inactivity_secs}s;
    push_stream_max_messages_stored_per_channel {stored_max};
    push_stream_subscriber_max_buffered {buffered_max_kb}k;
    push_stream_slow_subscriber {slow};
    push_stream_header_template "{HEADER}\n";
    push_stream_footer_template "{FOOTER}\n";
    push_stream_message_template "{PLACED}\n";
    push_stream_cursor on;

    map $arg_at $place {{
        "" $http_last_event_id;
        default $arg_at;
    }}

    server {{
        listen 127.0.0.1:%PORT% backlog=4096 sndbuf=16k;
        location /audit {{ push_stream_audit on; }}
        location /pub {{
            push_stream_publisher admin;
            push_stream_channels_path $arg_id;
            push_stream_store_messages on;
        }}
        location /pub-live {{
            push_stream_publisher;
            push_stream_channels_path $arg_id;
        }}
        location / {{
            push_stream_last_event_id $place;
            push_stream_ping_message_interval 300ms;
            {connection_ttl}
            location ~ ^/stream/(.*) {{
                push_stream_subscriber;
                push_stream_channels_path $1;
            }}
            location ~ ^/events/(.*) {{
                push_stream_subscriber eventsource;
                push_stream_channels_path $1;
                push_stream_message_template "{PLACED}";
            }}
            location ~ ^/long-poll/(.*) {{
                push_stream_subscriber long-polling;
                push_stream_channels_path $1;
                push_stream_longpolling_connection_ttl 700ms;
            }}
            location ~ ^/poll/(.*) {{
                push_stream_subscriber polling;
                push_stream_channels_path $1;
            }}
            location ~ ^/socket/(.*) {{
                push_stream_subscriber websocket;
                push_stream_channels_path $1;
            }}
        }}
    }}
"#
        );
        Config { main, http }
    }
}

/// The channels, each with one publisher.
struct Channels {
    /// Published to all the time.
    living: Vec<ChannelId>,
    /// Deleted now and then.
    fleeting: ChannelId,
    /// Published to so rarely that it is removed between two messages, when nobody is there.
    idle: ChannelId,
}

impl Channels {
    fn open(world: &mut World) -> Self {
        let living = (0..5).map(|at| world.ledger.open(format!("living-{at}"), false)).collect();
        let fleeting = world.ledger.open("fleeting".to_owned(), false);
        let idle = world.ledger.open("idle".to_owned(), false);
        Self { living, fleeting, idle }
    }

    /// What a client subscribes to, and whether each of these may be removed.
    fn choose(&self, number: u64) -> Vec<(ChannelId, bool)> {
        let living = |at: usize| (self.living[at], false);
        match number % 8 {
            0 => vec![living(0)],
            1 => vec![living(1)],
            2 => vec![living(2), living(3)],
            3 => (0..5).map(living).collect(),
            4 => vec![living(4), living(1), living(0)],
            5 => vec![(self.fleeting, true)],
            6 => vec![living(2), (self.fleeting, true)],
            _ => vec![(self.idle, true)],
        }
    }
}

/// Where publishes go: to be stored, or mostly so.
const KEPT: &[&str] = &["pub"];
const MOSTLY_KEPT: &[&str] = &["pub", "pub", "pub", "pub", "pub", "pub", "pub", "pub-live"];

fn add_publishers(stage: &mut Stage, channels: &Channels, number: &mut u32, quota: u64) {
    // The first one has many messages, the last one large ones: a worker that was stopped cannot hand out all at
    // once.
    let living = [
        (5, 60, KEPT),
        (60, 60, MOSTLY_KEPT),
        (150, 60, KEPT),
        (400, 60, MOSTLY_KEPT),
        (10, 1, MOSTLY_KEPT),
    ];
    let all = channels.living.iter().copied().zip(living);
    let others = [(channels.fleeting, (100, 60, MOSTLY_KEPT)), (channels.idle, (5000, 60, KEPT))];
    for (channel, (rest_msec, large_one_in, locations)) in all.chain(others) {
        *number += 1;
        let plan = Plan {
            channels: vec![channel],
            alphabet: Alphabet::OneLine,
            lengths: (1, 300),
            large_one_in,
            huge_one_in: 0,
            quota,
            rest: Duration::from_millis(rest_msec),
            chunked_one_in: 8,
            locations: if quota == u64::MAX { locations } else { KEPT },
        };
        let actor = stage.next_actor();
        let publisher = Publisher::new(actor, *number, plan, &mut stage.world);
        stage.add(publisher);
    }
}

fn add_clients(stage: &mut Stage, channels: &Channels, count: u64, tally: &Rc<RefCell<Tally>>) {
    for number in 0..count {
        let chosen = channels.choose(number);
        let is_rare = chosen.iter().any(|&(channel, _)| channel == channels.idle);
        let nature = match is_rare {
            true => Nature { stay_max_msec: 1000, away_max_msec: 15_000 },
            false => Nature { stay_max_msec: 3000, away_max_msec: 4000 },
        };
        let actor = stage.next_actor();
        let tally = Rc::clone(tally);
        let client = Wanderer::new(actor, nature, &chosen, tally, &mut stage.world);
        stage.add(client);
    }
}

/// What is done to the server, each at its time.
#[derive(Debug, Default)]
struct Blows {
    kills: u64,
    stops: u64,
    reloads: u64,
    clock_steps: u64,
    deletions: u64,
}

struct Injector {
    random: Random,
    workers: u64,
    blows: Blows,
    /// Workers that stand still, and until when.
    stopped: Vec<(i32, Instant)>,
    /// A blow, when it comes next, and the bounds of the pause before the one after it.
    next: [(Blow, Instant, (u64, u64)); 6],
}

#[derive(Debug, Clone, Copy)]
enum Blow {
    Kill,
    Stop,
    Reload,
    Clock,
    Delete,
    Restart,
}

impl Injector {
    fn new(random: Random, workers: u64) -> Self {
        let first = |msec| Instant::now() + Duration::from_millis(msec);
        let next = [
            (Blow::Kill, first(1000), (300, 2500)),
            (Blow::Stop, first(1200), (1000, 4000)),
            (Blow::Reload, first(2000), (2000, 6000)),
            (Blow::Clock, first(1500), (500, 4000)),
            (Blow::Delete, first(1000), (200, 1500)),
            (Blow::Restart, first(9000), (10_000, 20_000)),
        ];
        Self { random, workers, blows: Blows::default(), stopped: Vec::new(), next }
    }

    fn strike(&mut self, world: &mut World, channels: &Channels) -> Result<(), String> {
        let now = world.now;
        self.wake(&world.nginx, |until| until <= now);
        for at in 0..self.next.len() {
            let (blow, due, (from, to)) = self.next[at];
            if world.now < due {
                continue;
            }
            self.deal(blow, world, channels)?;
            let pause = Duration::from_millis(self.random.between(from, to));
            self.next[at].1 = Instant::now() + pause;
        }
        Ok(())
    }

    /// Lets stopped workers continue.
    fn wake(&mut self, nginx: &Nginx, is_due: impl Fn(Instant) -> bool) {
        self.stopped.retain(|&(pid, until)| {
            if is_due(until) {
                nginx.signal(pid, Signal::CONT);
            }
            !is_due(until)
        });
    }

    fn deal(&mut self, blow: Blow, world: &mut World, channels: &Channels) -> Result<(), String> {
        match blow {
            Blow::Kill => {
                // Also workers that are about to end after a reload.
                let workers = world.nginx.all_workers();
                if !workers.is_empty() {
                    let victim = workers[self.random.index(workers.len())];
                    self.blows.kills += u64::from(world.nginx.kill(victim));
                }
            }
            Blow::Stop => {
                let workers = world.nginx.all_workers();
                if !workers.is_empty() {
                    let pid = workers[self.random.index(workers.len())];
                    self.blows.stops += u64::from(world.nginx.signal(pid, Signal::STOP));
                    let time = Duration::from_millis(self.random.between(50, 4000));
                    self.stopped.push((pid, Instant::now() + time));
                }
            }
            Blow::Reload => {
                self.blows.reloads += 1;
                let shape = Shape::draw(self.workers, &mut self.random);
                world.nginx.reload(&shape.config())?;
            }
            Blow::Clock => {
                self.blows.clock_steps += 1;
                let steps = [0, 0, 1, -1, 3, -3, 3600, -3600, 86_400];
                world.nginx.set_clock(steps[self.random.index(steps.len())])?;
            }
            // While it waits for the answer, nothing lets workers continue.
            Blow::Delete if !self.stopped.is_empty() => {}
            Blow::Delete => {
                self.blows.deletions += 1;
                let path = format!("/pub?id={}", world.ledger.channels[channels.fleeting].name);
                world.nginx.ask("DELETE", &path, b"")?;
            }
            Blow::Restart => {
                self.stopped.clear();
                world.nginx.restart()?;
            }
        }
        Ok(())
    }
}

/// Runs it; true if nothing was found, and all modes and enough reasons were seen.
pub(crate) fn run(place: Place, seed: u64, size: Size) -> Result<bool, String> {
    let tell = |error: std::io::Error| error.to_string();
    println!("resume: seed {seed}, {} workers, {} s", size.workers, size.seconds);
    let mut random = Random::new(seed);
    let nginx = Nginx::start(place, &Shape::draw(size.workers, &mut random).config())?;
    let mut stage = Stage::new(World::new(nginx, random.next()).map_err(tell)?);
    let channels = Channels::open(&mut stage.world);
    let tally = Rc::new(RefCell::new(Tally::default()));
    let mut number = 0;
    add_publishers(&mut stage, &channels, &mut number, u64::MAX);
    add_clients(&mut stage, &channels, size.clients, &tally);

    let mut injector = Injector::new(random.fork(), size.workers);
    let end = Instant::now() + Duration::from_secs(size.seconds);
    while Instant::now() < end {
        stage.turn().map_err(tell)?;
        injector.strike(&mut stage.world, &channels)?;
    }
    injector.wake(&stage.world.nginx, |_| true);
    settle(&mut stage, &channels, &mut number, size.workers)?;
    let Stage { mut world, mut actors, .. } = stage;
    for actor in actors.iter_mut().flatten() {
        actor.finish(&mut world);
    }
    drop(actors);
    if let Some(complaint) = audit::complaint(&world.nginx)? {
        world.odd(&format!("the zone: {complaint}"));
    }
    for line in world.nginx.bad_lines(&[]) {
        world.odd(&format!("error log: {line}"));
    }
    let is_clean = report(&mut world, seed, size, &tally.borrow(), &injector.blows);
    let bad = world.nginx.stop(&[])?;
    for line in &bad {
        eprintln!("resume: at the end, error log: {line}");
    }
    Ok(is_clean && bad.is_empty())
}

/// The blows are over: all clients stay, and must get the last message of each channel.
fn settle(
    stage: &mut Stage,
    channels: &Channels,
    number: &mut u32,
    workers: u64,
) -> Result<(), String> {
    let tell = |error: std::io::Error| error.to_string();
    let deliveries = |stage: &Stage| stage.world.ledger.deliveries;
    stage.world.closing = true;
    stage.world.nginx.set_clock(0)?;
    let old = stage.world.nginx.all_workers();
    stage.world.nginx.reload(&Shape::calm(workers).config())?;
    // A worker with the old configuration would give the last messages their short time to live.
    let is_one = |stage: &mut Stage| {
        stage.world.nginx.all_workers().iter().all(|worker| !old.contains(worker))
    };
    if !stage.run_until(PATIENCE, deliveries, is_one).map_err(tell)? {
        stage.world.odd("old workers do not go");
    }
    let first = stage.actors.len();
    let published = |stage: &mut Stage| {
        let publishers = stage.actors.iter().flatten().filter(|actor| actor.publishes());
        publishers.into_iter().all(|actor| actor.is_done(&stage.world))
    };
    if !stage.run_until(PATIENCE, deliveries, published).map_err(tell)? {
        stage.world.odd("publishers do not come to an end");
    }
    add_publishers(stage, channels, number, 1);
    let sent = |stage: &mut Stage| {
        stage.actors[first..].iter().flatten().all(|actor| actor.is_done(&stage.world))
    };
    if !stage.run_until(PATIENCE, deliveries, sent).map_err(tell)? {
        stage.world.odd("the last messages are not answered");
    }
    let everybody =
        |stage: &mut Stage| stage.actors.iter().flatten().all(|actor| actor.is_done(&stage.world));
    // If not, each of those that are not done is a finding.
    stage.run_until(PATIENCE, deliveries, everybody).map_err(tell)?;
    Ok(())
}

/// Prints the figures. True if nothing was found, and all modes and enough reasons were seen.
fn report(world: &mut World, seed: u64, size: Size, tally: &Tally, blows: &Blows) -> bool {
    for (name, _) in MODES {
        if !tally.resumes.contains_key(name) {
            world.odd(&format!("nobody resumed in the mode {name}"));
        }
    }
    if tally.gaps.len() < REASONS_MIN {
        world.odd(&format!("gaps of {} reasons only", tally.gaps.len()));
    }
    let list = |pairs: Vec<String>| pairs.join(", ");
    let resumes = list(tally.resumes.iter().map(|(mode, n)| format!("{mode} {n}")).collect());
    let gaps = list(tally.gaps.iter().map(|(reason, n)| format!("{reason} {n}")).collect());
    let Tally { begun, counted, compared, cuts, broken, deleted, vain, .. } = tally;
    let Blows { kills, stops, reloads, clock_steps, deletions } = blows;
    let figures = &world.figures;
    println!(
        "resume: seed {seed}, workers {}, clients {}, messages {}, deliveries {}, begun {begun}, \
         resumes ({resumes}), gaps told ({gaps}), with numbers {counted}, compared {compared}, cuts {cuts}, broken {broken}, kills {kills}, stops {stops}, \
         reloads {reloads}, restarts {}, clock steps {clock_steps}, deletions {deletions}, \
         notices {deleted}, untold {}, doubled {}, disorder {}, mixed {}, in vain {vain}, odd {}",
        size.workers,
        size.clients,
        world.ledger.acknowledged,
        world.ledger.deliveries,
        world.nginx.restarts,
        figures.lost,
        figures.doubled,
        figures.disorder,
        figures.mixed,
        figures.odd,
    );
    figures.findings() == 0
}
