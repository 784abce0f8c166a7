//! The torture: all modes at once, all faults, and at the end no message may be missing.
//!
//! ```text
//!   start ──► load, faults from the seed ──► faults end ──► last messages ──► all leave ──► zone drains
//!                                             everybody has everything ──┘               compare with
//!                                                                                        a fresh one
//! ```

use std::collections::HashSet;
use std::fs;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::ledger::{ChannelId, Wrong};
use crate::mischief::{self, Shared};
use crate::publisher::{Alphabet, Plan, Publisher};
use crate::random::Random;
use crate::refill::Filler;
use crate::server::{Nginx, PATIENCE, Place, WorkerState, worker_state};
use crate::shape::{CONNECTIONS, Shape};
use crate::subscriber::{Habit, Mode, Pace, Resume, Subscriber};
use crate::vanisher::Vanisher;
use crate::world::{Stage, World};
use crate::{audit, statistics};

/// The faults, by the names of the command line.
const FAULTS: [&str; 10] =
    ["kill", "reload", "stop", "slow", "vanish", "hold", "churn", "storm", "full", "files"];

/// The faults that are switched on.
#[derive(Debug, Clone)]
pub(crate) struct Faults(HashSet<String>);

impl Faults {
    /// `all`, `none`, or names with commas between.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let names: HashSet<String> = match text {
            "all" => FAULTS.iter().map(|&name| name.to_owned()).collect(),
            "none" => HashSet::new(),
            names => names.split(',').map(str::to_owned).collect(),
        };
        match names.iter().find(|name| !FAULTS.contains(&name.as_str())) {
            Some(name) => Err(format!("unknown fault \"{name}\"; known: {}", FAULTS.join(", "))),
            None => Ok(Self(names)),
        }
    }

    fn has(&self, name: &str) -> bool {
        self.0.contains(name)
    }
}

/// The settings of a run.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub(crate) seconds: u64,
    pub(crate) workers: u64,
    pub(crate) faults: Faults,
}

/// Private memory that a worker may have at the end, beyond that of a fresh one.
const GROWTH_MAX_KB: u64 = 16 * 1024;

/// Time for everything stored to expire, and to leave the trash, on a slow machine.
const DRAIN_MAX: Duration = Duration::from_secs(120);

/// Largest number of generations of workers at a time.
const GENERATIONS_MAX: u64 = 16;

/// Publishes sent in part at a time; a kill cuts most of them before their time is over.
const HELD: usize = 24;

/// Causes faults at random.
struct Injector {
    random: Random,
    faults: Faults,
    shape: Shape,
    /// Fewer descriptors than a worker needs.
    scarce: Option<u64>,
    next_kill: Instant,
    next_reload: Instant,
    next_stop: Instant,
    stopped: Vec<(i32, Instant)>,
    reloads: u64,
    stops: u64,
}

impl Injector {
    fn new(random: Random, faults: Faults, shape: Shape, now: Instant) -> Self {
        let second = now + Duration::from_secs(1);
        Self {
            random,
            faults,
            shape,
            scarce: None,
            next_kill: second,
            next_reload: second,
            next_stop: second,
            stopped: Vec::new(),
            reloads: 0,
            stops: 0,
        }
    }

    fn after(&mut self, from_msec: u64, to_msec: u64) -> Instant {
        Instant::now() + Duration::from_millis(self.random.between(from_msec, to_msec))
    }

    fn strike(&mut self, world: &mut World) -> Result<(), String> {
        let now = world.now;
        self.wake(&world.nginx, |until| until <= now);
        if self.faults.has("kill") && now >= self.next_kill {
            self.next_kill = self.after(200, 2500);
            // Also workers that are about to end after a reload.
            let workers = world.nginx.all_workers();
            if !workers.is_empty() {
                world.nginx.kill(workers[self.random.index(workers.len())]);
            }
        }
        if self.faults.has("stop") && now >= self.next_stop {
            self.next_stop = self.after(1000, 6000);
            let workers = world.nginx.all_workers();
            if !workers.is_empty() {
                let pid = workers[self.random.index(workers.len())];
                if world.nginx.signal(pid, Signal::STOP) {
                    let until = self.after(100, 3500);
                    self.stopped.push((pid, until));
                    self.stops += 1;
                }
            }
        }
        if self.faults.has("reload") && now >= self.next_reload {
            self.next_reload = self.after(2000, 7000);
            self.shape = self.shape.draw(&mut self.random, self.scarce);
            world.nginx.reload(&self.shape.config())?;
            self.reloads += 1;
        }
        Ok(())
    }

    /// Lets stopped workers continue.
    fn wake(&mut self, nginx: &Nginx, due: impl Fn(Instant) -> bool) {
        self.stopped.retain(|&(pid, until)| {
            if due(until) {
                nginx.signal(pid, Signal::CONT);
            }
            !due(until)
        });
    }
}

/// The channels, by their messages.
struct Channels {
    /// Published by HTTP, without line ends: for all modes.
    mixed: Vec<ChannelId>,
    /// Any bytes: for all modes but event streams.
    binary: Vec<ChannelId>,
    /// Many small messages.
    busy: Vec<ChannelId>,
    /// Not stored.
    live: Vec<ChannelId>,
    /// Published over WebSockets.
    spoken: Vec<ChannelId>,
}

impl Channels {
    fn open(world: &mut World) -> Self {
        let mut open = |name: &str, count: usize, kept: bool| {
            (0..count).map(|at| world.ledger.open(format!("{name}-{at}"), kept)).collect()
        };
        Self {
            mixed: open("mixed", 4, true),
            binary: open("binary", 3, true),
            busy: open("busy", 1, true),
            live: open("live", 2, false),
            spoken: open("spoken", 2, true),
        }
    }
}

fn plan(channels: &[ChannelId], alphabet: Alphabet) -> Plan {
    Plan {
        channels: channels.to_vec(),
        alphabet,
        lengths: (1, 2000),
        large_one_in: 40,
        huge_one_in: 1500,
        quota: u64::MAX,
        rest: Duration::from_millis(25),
        chunked_one_in: 4,
        locations: &["pub"],
    }
}

fn add_publisher(stage: &mut Stage, number: &mut u32, plan: Plan) {
    *number += 1;
    let actor = stage.next_actor();
    let publisher = Publisher::new(actor, *number, plan, &mut stage.world);
    stage.add(publisher);
}

fn add_publishers(stage: &mut Stage, channels: &Channels, number: &mut u32) {
    for _ in 0..2 {
        add_publisher(stage, number, plan(&channels.mixed, Alphabet::OneLine));
        add_publisher(stage, number, plan(&channels.binary, Alphabet::Any));
        add_publisher(
            stage,
            number,
            Plan {
                lengths: (1, 60),
                large_one_in: 0,
                huge_one_in: 0,
                rest: Duration::from_millis(4),
                ..plan(&channels.busy, Alphabet::OneLine)
            },
        );
        add_publisher(
            stage,
            number,
            Plan { locations: &["pub-live"], ..plan(&channels.live, Alphabet::OneLine) },
        );
    }
    // A message is always stored there. Otherwise a channel could rightly be removed while all workers are
    // stopped or gone for some seconds, and its ids would begin again at 1.
    let rest = Duration::from_secs(2);
    add_publisher(stage, number, Plan { rest, ..plan(&channels.live, Alphabet::OneLine) });
}

fn add_subscriber(stage: &mut Stage, habit: Habit, channels: &[ChannelId]) {
    let actor = stage.next_actor();
    let subscriber = Subscriber::new(actor, habit, channels, &mut stage.world);
    stage.add(subscriber);
}

fn add_subscribers(stage: &mut Stage, channels: &Channels, number: &mut u32, slow: bool) {
    for mode in Mode::ALL {
        let all_kept = channels.mixed.iter().chain(&channels.binary).chain(&channels.busy);
        for &channel in all_kept {
            if mode == Mode::EventSource && channels.binary.contains(&channel) {
                continue;
            }
            for resume in [Resume::Time, Resume::Event] {
                add_subscriber(stage, Habit::new(mode, resume), &[channel]);
            }
            if mode != Mode::Polling {
                let late = Habit { from_first: false, ..Habit::new(mode, Resume::Time) };
                add_subscriber(stage, late, &[channel]);
            }
        }
        for &channel in &channels.spoken {
            add_subscriber(stage, Habit::new(mode, Resume::Time), &[channel]);
        }
        if matches!(mode, Mode::Streaming | Mode::Old | Mode::EventSource | Mode::WebSocket) {
            for &channel in channels.live.iter().chain(&channels.mixed) {
                add_subscriber(stage, Habit::new(mode, Resume::Never), &[channel]);
            }
            add_subscriber(stage, Habit::new(mode, Resume::Never), &channels.mixed);
        } else {
            // Several channels in one cursor.
            for _ in 0..3 {
                add_subscriber(stage, Habit::new(mode, Resume::Time), &channels.mixed);
            }
        }
        if slow {
            for pace in [
                Pace::Drip(Duration::from_millis(10)),
                Pace::Drip(Duration::from_secs(1)),
                Pace::Stall(Duration::from_secs(5)),
                Pace::Stall(Duration::from_secs(1 << 20)),
            ] {
                // A poll that comes after a long time has many messages to get.
                let resume = if mode.is_stream() { Resume::Never } else { Resume::Time };
                let habit = Habit { pace, may_miss: true, ..Habit::new(mode, resume) };
                add_subscriber(stage, habit, &[channels.busy[0]]);
                add_subscriber(stage, habit, &[channels.mixed[0]]);
            }
        }
    }
    for at in 0..4 {
        *number += 1;
        let channel = channels.spoken[at % channels.spoken.len()];
        let habit = Habit::new(Mode::WebSocket, Resume::Time);
        let actor = stage.next_actor();
        let rest = Duration::from_millis(30);
        let speaker = Subscriber::new(actor, habit, &[channel], &mut stage.world).speaking(
            *number,
            rest,
            &stage.world,
        );
        stage.add(speaker);
    }
}

/// Runs the torture; true if nothing was found.
pub(crate) fn run(place: Place, seed: u64, task: &Task) -> Result<bool, String> {
    let tell = |error: std::io::Error| error.to_string();
    println!("torture: seed {seed}, {} workers, {} s", task.workers, task.seconds);
    let mut random = Random::new(seed);
    let calm = Shape::calm(task.workers, random.one_in(2));

    // How much a fresh zone takes is measured with another nginx, while the torture runs.
    let mut fresh_place = place.clone();
    fresh_place.prefix = place.prefix.join("fresh");
    let fresh_calm = calm.clone();
    let fresh = thread::spawn(move || {
        let nginx = start(fresh_place, &fresh_calm)?;
        let count = capacity(&nginx)?;
        // Not at once: the master first has to pass the workers' channels to each other.
        let idle = worker_state(&nginx);
        drop(nginx);
        Ok::<_, String>((count, idle))
    });

    let nginx = start(place, &calm)?;
    let may_refuse = task.faults.has("full") || task.faults.has("files");
    let shared = Shared::new(nginx.address(), may_refuse);
    let mut stage = Stage::new(World::new(nginx, random.next()).map_err(tell)?);
    stage.world.may_refuse = may_refuse;
    let channels = Channels::open(&mut stage.world);
    let mut number = 0;
    add_subscribers(&mut stage, &channels, &mut number, task.faults.has("slow"));
    add_publishers(&mut stage, &channels, &mut number);
    if task.faults.has("vanish") {
        let published: Vec<ChannelId> =
            channels.mixed.iter().chain(&channels.busy).copied().collect();
        for _ in 0..10 {
            let actor = stage.next_actor();
            let vanisher = Vanisher::new(actor, &published, &mut stage.world);
            stage.add(vanisher);
        }
    }

    let now = Instant::now();
    let mut injector = Injector::new(random.fork(), task.faults.clone(), calm.clone(), now);
    if task.faults.has("files") {
        // Enough to start while there are several generations, but not enough for their connections.
        let own = worker_state(&stage.world.nginx).files as u64;
        injector.scarce = Some(own + 40 * task.workers);
    }
    thread::scope(|scope| -> Result<(), String> {
        let shared = &shared;
        let mut threads = Vec::new();
        if task.faults.has("churn") {
            for at in 0..3 {
                let random = random.fork();
                threads.push(scope.spawn(move || mischief::churn(shared, at, random)));
            }
        }
        if task.faults.has("hold") {
            let longer_than = Duration::from_secs(calm.inactivity_secs + 5);
            for at in 0..HELD {
                let random = random.fork();
                let hold = move || mischief::hold(shared, at, random, longer_than);
                threads.push(scope.spawn(hold));
            }
        }
        if task.faults.has("storm") {
            let (random, size) = (random.fork(), CONNECTIONS * task.workers * 5 / 4);
            let storm = move || mischief::storm(shared, random, size, Duration::from_secs(5));
            threads.push(scope.spawn(storm));
        }
        if task.faults.has("full") {
            let random = random.fork();
            let fill = move || mischief::fill(shared, random, Duration::from_secs(8));
            threads.push(scope.spawn(fill));
        }
        let auditor = random.fork();
        threads.push(scope.spawn(move || mischief::audit(shared, auditor)));
        let end = Instant::now() + Duration::from_secs(task.seconds);
        let mut result = Ok(());
        while Instant::now() < end && result.is_ok() {
            result = stage.turn().map_err(tell).and_then(|()| injector.strike(&mut stage.world));
        }
        shared.stop.store(true, Ordering::Relaxed);
        // Threads and subscribers may be waiting for a stopped worker, or for one without a descriptor for
        // them, while the messages of the subscribers expire.
        injector.wake(&stage.world.nginx, |_| true);
        result?;
        let old = stage.world.nginx.all_workers();
        stage.world.nginx.reload(&calm.config())?;
        let deaf = if task.faults.has("files") { old.as_slice() } else { &[] };
        one_generation(&mut stage, task.workers, deaf)?;
        while threads.iter().any(|thread| !thread.is_finished()) {
            stage.turn().map_err(tell)?;
        }
        Ok(())
    })?;
    let settled = settle(&mut stage, &channels, &mut number)?;
    let Stage { mut world, mut actors, .. } = stage;
    for actor in actors.iter_mut().flatten() {
        if settled {
            actor.finish(&mut world);
        }
        if !actor.is_done(&world) {
            let text = format!("at the end: {}", actor.describe());
            world.wrong(Wrong::Lost, &text);
        }
    }
    for channel in 0..world.ledger.channels.len() {
        for (wrong, text) in world.ledger.close(channel) {
            world.wrong(wrong, &text);
        }
    }
    world.judge_cuts();
    if let Ok(findings) = shared.findings.lock() {
        for text in findings.iter() {
            world.odd(text);
        }
    }
    drop(actors);

    let fresh = fresh.join().map_err(|_| "a panic of the driver".to_owned())??;
    let leaked = leaks(&mut world, &channels, fresh)?;
    let caused = caused(&task.faults);
    for line in world.nginx.bad_lines(&caused) {
        world.odd(&format!("error log: {line}"));
    }

    let figures = &world.figures;
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    println!(
        "torture: seed {seed}, messages {}, deliveries {}, channels {}, deleted {}, kills {}, \
         reloads {}, stops {}, reconnects {}, resumed {}, goodbyes {}, broken {}, vanished {}, held {}, \
         stormed {}, filled {}, audits {}, refused {}, lost {}, doubled {}, mixed {}, disorder {}, cut {}, odd {}, \
         leaked {leaked}",
        world.ledger.acknowledged,
        world.ledger.deliveries,
        count(&shared.channels),
        count(&shared.deleted),
        world.nginx.kills(),
        injector.reloads,
        injector.stops,
        figures.reconnects,
        figures.resumed,
        figures.goodbyes,
        figures.broken,
        figures.vanished,
        count(&shared.held),
        count(&shared.stormed),
        count(&shared.filled),
        count(&shared.audits),
        figures.refused,
        figures.lost,
        figures.doubled,
        figures.mixed,
        figures.disorder,
        figures.cut,
        figures.odd,
    );
    let clean = figures.findings() == 0 && leaked == 0;
    let mut quiet = true;
    for line in world.nginx.stop(&caused)? {
        quiet = false;
        println!("torture: at the end, error log: {line}");
    }
    Ok(clean && quiet)
}

/// An nginx that had more workers in the beginning than it ever has later.
///
/// A zone keeps the seats of as many processes as there have been at a time. Otherwise overlapping generations
/// would make that number different in a zone that was tortured.
fn start(place: Place, calm: &Shape) -> Result<Nginx, String> {
    let mut crowded = calm.clone();
    crowded.workers *= GENERATIONS_MAX;
    let nginx = Nginx::start(place, &crowded.config())?;
    nginx.reload(&calm.config())?;
    let end = Instant::now() + PATIENCE;
    while !has_one_generation(&nginx, calm.workers) {
        if Instant::now() > end {
            return Err("the first workers do not go".to_owned());
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(nginx)
}

fn has_one_generation(nginx: &Nginx, workers: u64) -> bool {
    let all = nginx.all_workers();
    all.len() as u64 == workers && nginx.workers() == all
}

/// Lines of the error log that our faults cause.
fn caused(faults: &Faults) -> Vec<&'static str> {
    let mut caused = Vec::new();
    if faults.has("storm") {
        caused.push("worker_connections are not enough");
    }
    if faults.has("files") {
        caused.push("Too many open files");
        // nginx sends descriptors to its workers. A worker without room for one gets no more messages of its master.
        caused.push("recvmsg() returned invalid ancillary data");
        caused.push("recvmsg() returned too small ancillary data");
        caused.push("recvmsg() truncated data");
        // It then does not know either which of its descriptors are closed.
        caused.push("(9: Bad file descriptor)");
    }
    caused
}

/// Waits until only the workers of the last reload are there. `deaf` are those that may not have been told.
fn one_generation(stage: &mut Stage, workers: u64, deaf: &[i32]) -> Result<(), String> {
    let call = Instant::now() + Duration::from_secs(5);
    let mut called = false;
    let is_one = |stage: &mut Stage| {
        if !called && stage.world.now >= call {
            called = true;
            for pid in stage.world.nginx.workers() {
                if deaf.contains(&pid) {
                    stage.world.nginx.signal(pid, Signal::QUIT);
                }
            }
        }
        has_one_generation(&stage.world.nginx, workers)
    };
    let processes = |stage: &Stage| {
        stage.world.nginx.all_workers().iter().fold(0, |sum, &pid| sum * 31 + pid as u64)
    };
    let done = stage.run_until(PATIENCE, processes, is_one).map_err(|error| error.to_string())?;
    if !done {
        let all = stage.world.nginx.all_workers();
        stage.world.odd(&format!("old workers do not go: {all:?}"));
    }
    Ok(())
}

/// The faults are over: publishers come to an end, and all subscribers must get the last messages. False if one
/// did not.
fn settle(stage: &mut Stage, channels: &Channels, number: &mut u32) -> Result<bool, String> {
    let tell = |error: std::io::Error| error.to_string();
    let deliveries = |stage: &Stage| stage.world.ledger.deliveries;
    let idle = |stage: &mut Stage| {
        stage.actors.iter().flatten().all(|actor| !actor.publishes() || actor.is_done(&stage.world))
    };
    stage.world.closing = true;
    if !stage.run_until(PATIENCE, deliveries, idle).map_err(tell)? {
        stage.world.odd("publishers do not come to an end");
    }
    // The last message of each channel: its loss would show neither by a later message nor by a break.
    let first = stage.actors.len();
    for (set, locations) in [
        (&channels.mixed, ["pub"].as_slice()),
        (&channels.binary, &["pub"]),
        (&channels.busy, &["pub"]),
        (&channels.live, &["pub-live"]),
        (&channels.spoken, &["pub"]),
    ] {
        for &channel in set {
            let plan = Plan { quota: 1, locations, ..plan(&[channel], Alphabet::OneLine) };
            add_publisher(stage, number, plan);
        }
    }
    let sent = |stage: &mut Stage| {
        stage.actors[first..].iter().flatten().all(|actor| actor.is_done(&stage.world))
    };
    if !stage.run_until(PATIENCE, deliveries, sent).map_err(tell)? {
        stage.world.odd("the last messages are not answered");
    }
    for channel in 0..stage.world.ledger.channels.len() {
        let name = stage.world.ledger.channels[channel].name.clone();
        let told = statistics::published(&stage.world.nginx, &name)?.unwrap_or(0);
        let known = &mut stage.world.ledger.channels[channel];
        if known.told > told {
            let text = format!("{name}: {told} messages now, {} before", known.told);
            stage.world.odd(&text);
        } else {
            known.told = told;
        }
    }
    let everybody =
        |stage: &mut Stage| stage.actors.iter().flatten().all(|actor| actor.is_done(&stage.world));
    let settled = stage.run_until(PATIENCE, deliveries, everybody).map_err(tell)?;
    // Channels that only well-behaved subscribers have: exactly these are counted.
    for &channel in channels.binary.iter().chain(&channels.spoken) {
        let want =
            stage.actors.iter().flatten().filter(|actor| actor.counts_in(channel)).count() as u64;
        let name = stage.world.ledger.channels[channel].name.clone();
        let end = Instant::now() + PATIENCE;
        loop {
            stage.turn().map_err(tell)?;
            // A poll that was answered is away for a moment, so all of them are rarely there at once.
            let got =
                statistics::of_channel(&stage.world.nginx, &name, "subscribers")?.unwrap_or(0);
            if got == want {
                break;
            }
            if got > want || Instant::now() > end {
                stage
                    .world
                    .odd(&format!("{name}: {got} subscribers are counted, {want} are there"));
                break;
            }
        }
    }
    Ok(settled)
}

/// The descriptors of a worker, for a report.
fn descriptors(pid: i32) -> String {
    let mut links: Vec<String> = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some(fs::read_link(entry.path()).ok()?.display().to_string()))
        .filter(|link| !link.contains("[eventfd]"))
        .collect();
    links.sort();
    links.join(" ")
}

/// How many large and how many small messages fit before the first refusals.
fn capacity(nginx: &Nginx) -> Result<(u64, u64), String> {
    let mut filler = Filler::new();
    let mut fill = |body: &[u8]| {
        for count in 0.. {
            match filler.publish(nginx, "capacity", body)? {
                200 => {}
                500 => return Ok(count),
                status => return Err(format!("a publish was answered {status}")),
            }
        }
        Ok(0)
    };
    // The small ones fit where the large ones did not.
    Ok((fill(&[b'c'; 12_000])?, fill(b"c")?))
}

/// All clients have left: counts what remains and should not.
fn leaks(
    world: &mut World,
    channels: &Channels,
    ((large, small), idle): ((u64, u64), WorkerState),
) -> Result<u64, String> {
    let mut leaked = 0;
    let mut leak = |text: String| {
        eprintln!("leak: {text}");
        leaked += 1;
    };
    if let Some(complaint) = audit::complaint(&world.nginx)? {
        leak(format!("the zone before it drains: {complaint}"));
    }
    for set in [&channels.mixed, &channels.spoken] {
        for &channel in set {
            let path = format!("/pub?id={}", world.ledger.channels[channel].name);
            world.nginx.ask("DELETE", &path, b"")?;
        }
    }
    let end = Instant::now() + DRAIN_MAX;
    loop {
        let now = statistics::summary(&world.nginx)?;
        let rest = now.channels
            + now.stored
            + now.messages_in_trash
            + now.channels_in_delete
            + now.channels_in_trash
            + now.subscribers;
        if rest == 0 {
            break;
        }
        if Instant::now() > end {
            leak(format!("after {} s: {now:?}", DRAIN_MAX.as_secs()));
            break;
        }
        thread::sleep(Duration::from_millis(200));
    }
    for complaint in audit::complaints_of_empty(&world.nginx)? {
        leak(format!("the drained zone: {complaint}"));
    }
    let end = Instant::now() + PATIENCE;
    let mut state = worker_state(&world.nginx);
    while state.files > idle.files && Instant::now() < end {
        thread::sleep(Duration::from_millis(200));
        state = worker_state(&world.nginx);
    }
    if state.files > idle.files {
        leak(format!("{} descriptors in a worker, {} in a fresh one", state.files, idle.files));
        for pid in world.nginx.workers() {
            eprintln!("leak: worker {pid}: {}", descriptors(pid));
        }
    }
    if state.own_kb > idle.own_kb + GROWTH_MAX_KB {
        leak(format!("{} kB in a worker, {} in a fresh one", state.own_kb, idle.own_kb));
    }
    let now = capacity(&world.nginx)?;
    if now != (large, small) {
        leak(format!("the zone takes {now:?} messages, a fresh one {:?}", (large, small)));
    }
    let logs = world.nginx.logs();
    let beside = [Some(logs.as_path()), logs.parent()];
    for directory in beside.into_iter().flatten() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with("core") {
                leak(format!("a core: {}", entry.path().display()));
            }
        }
    }
    for what in
        fs::read_dir(logs.with_file_name("temp/client_body")).into_iter().flatten().flatten()
    {
        // nginx makes a file and then removes its name. A kill may come between the two.
        let is_new = what.metadata().is_ok_and(|file| file.len() == 0);
        if !is_new || world.nginx.kills() == 0 {
            leak(format!("a body's file: {}", what.path().display()));
        }
    }
    Ok(leaked)
}
