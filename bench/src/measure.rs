//! One run: a server is started, given work, measured and ended.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::board::Count;
use crate::decoder::Mode;
use crate::generator::{Failure, Generator};
use crate::peer::{Kind, Peer, Places, Server, Setup};
use crate::plan::{Pace, Plan};
use crate::report::{self, Values};
use crate::{proc, sys};

/// Where servers and generators run, and how long.
#[derive(Debug, Clone)]
pub(crate) struct Bench {
    pub(crate) places: Places,
    pub(crate) cpus: Vec<usize>,
    /// Processes of the generator.
    pub(crate) generators: usize,
    /// For scenarios that count instructions.
    pub(crate) valgrind: Option<PathBuf>,
    /// Seconds for which a run is measured.
    pub(crate) seconds: f64,
}

/// How long connecting, and the last messages, may take.
const LIMIT: Duration = Duration::from_secs(40);

impl Bench {
    /// The processors of that many workers: the first ones.
    pub(crate) fn server_cpus(&self, workers: usize) -> Vec<usize> {
        self.cpus.iter().copied().take(workers).collect()
    }

    /// The processors of the generator: those that are left, or the last one.
    pub(crate) fn generator_cpus(&self, workers: usize) -> Vec<Vec<usize>> {
        let left = self.cpus.get(workers..).filter(|left| !left.is_empty());
        let left = left.or(self.cpus.last().map(std::slice::from_ref)).unwrap_or(&[]);
        (0..self.generators)
            .map(|it| left.get(it % left.len().max(1)).copied().into_iter().collect())
            .collect()
    }

    pub(crate) fn plan(&self, peer: &Peer, server: &Server, mode: Mode) -> Plan {
        Plan {
            server: server.address,
            tls: false,
            subscribe_at: server.address,
            publish: peer.publish(),
            subscribe: peer.subscribe(mode, 0),
            mode,
            size: 64,
            channels: 1,
            subscribers: 0,
            lanes: 1,
            window: 1,
            publishers: 1,
            backlog: 0,
            resume: peer.first_poll(mode),
            first: 0,
            event_ids: false,
            opening_max: 100,
            retry: false,
            processes: self.generator_cpus(server.pids.len().max(1)),
        }
    }
}

/// A moment: what everybody has used until then.
#[derive(Debug, Clone, Copy)]
struct Moment {
    time: u64,
    server: Option<u64>,
    generator: u64,
    machine: proc::Busy,
}

impl Moment {
    fn now(server: &Server, generator: &Generator) -> Self {
        let mut own = generator.forks();
        own.push(std::process::id() as i32);
        Self {
            time: sys::now(),
            server: server.cpu(),
            generator: proc::cpu_nsec(&own).unwrap_or(0),
            machine: proc::busy().unwrap_or_default(),
        }
    }
}

/// The share of the machine that others had, and that of everybody.
fn shares(from: &Moment, to: &Moment, cpus: usize, values: &mut Values) {
    let wall = (to.time - from.time).max(1) as f64;
    let server = to.server.zip(from.server).map_or(0, |(to, from)| to.saturating_sub(from));
    let generator = to.generator.saturating_sub(from.generator);
    let busy = to.machine.busy.saturating_sub(from.machine.busy);
    let others = busy.saturating_sub(server + generator);
    let all = wall * cpus.max(1) as f64;
    values.insert(report::SERVER_BUSY.into(), server as f64 / wall);
    values.insert(report::GENERATOR_BUSY.into(), generator as f64 / wall);
    values.insert(report::OTHERS_BUSY.into(), others as f64 / all);
    let stolen = to.machine.stolen.saturating_sub(from.machine.stolen);
    values.insert(report::STOLEN.into(), stolen as f64 / all);
}

/// The server's processor time for each unit.
fn cpu(from: &Moment, to: &Moment, units: u64, name: &str, values: &mut Values) {
    if let (Some(from), Some(to)) = (from.server, to.server)
        && units > 0
    {
        values.insert(name.into(), to.saturating_sub(from) as f64 / 1000.0 / units as f64);
    }
}

fn percentiles(generator: &Generator, values: &mut Values) {
    let names = [report::P50, report::P99, report::P999];
    let found = generator.board.percentiles(&[500, 990, 999]);
    for (name, value) in names.into_iter().zip(found) {
        values.insert(name.into(), value as f64 / 1000.0);
    }
}

/// The server must be as it was, and must not have complained.
fn sound(server: &Server, values: Values) -> Result<Values, Failure> {
    if !server.pids.is_empty() && server.cpu().is_none() {
        return Err(Failure("a process of the server has ended".into()));
    }
    match server.complaints().first() {
        Some(line) => Err(Failure(format!("the server complains: {line}"))),
        None => Ok(values),
    }
}

/// Messages to subscribers, or to nobody.
#[derive(Debug, Clone)]
pub(crate) struct Live {
    pub(crate) mode: Mode,
    pub(crate) channels: u32,
    /// For each channel. With 0, publishes are what is counted.
    pub(crate) subscribers: u32,
    pub(crate) lanes: u32,
    pub(crate) window: u32,
    pub(crate) publishers: u32,
    pub(crate) size: usize,
    pub(crate) pace: Pace,
    pub(crate) stores: bool,
    pub(crate) stored_max: u32,
    /// Messages that are stored before the subscribers come, in one channel that is polled.
    pub(crate) stored_before: u32,
    pub(crate) workers: usize,
    pub(crate) tls: bool,
}

impl Live {
    fn setup(&self, bench: &Bench) -> Setup {
        Setup {
            workers: self.workers,
            cpus: bench.server_cpus(self.workers),
            stores: self.stores,
            stored_max: self.stored_max,
            tls: self.tls,
            ..Setup::default()
        }
    }

    fn plan(&self, bench: &Bench, peer: &Peer, server: &Server) -> Plan {
        Plan {
            tls: self.tls,
            subscribe_at: if self.tls { server.tls_address } else { server.address },
            size: self.size,
            channels: self.channels,
            subscribers: self.subscribers,
            lanes: self.lanes,
            window: self.window,
            publishers: self.publishers,
            ..bench.plan(peer, server, self.mode)
        }
    }

    pub(crate) fn run(&self, bench: &Bench, peer: &Peer) -> Result<Values, Failure> {
        let server = peer.start(&bench.places, &self.setup(bench)).map_err(Failure)?;
        let mut plan = self.plan(bench, peer, &server);
        if self.stored_before > 0 {
            // One poller follows, and the others begin where it has come to.
            let mut first = Generator::new(Plan { subscribers: 1, ..plan.clone() })?;
            first.open_all(LIMIT)?;
            first.publish(Pace::Acknowledged, u64::from(self.stored_before), LIMIT)?;
            first.drain(LIMIT)?;
            (plan.first, plan.resume) = (self.stored_before, first.resume_id());
        }
        let mut generator = Generator::new(plan)?;
        generator.open_all(LIMIT)?;
        let values = self.load(bench, &server, &mut generator)?;
        drop(generator);
        let values = sound(&server, values)?;
        if !server.stop() {
            return Err(Failure("the server did not end".into()));
        }
        Ok(values)
    }

    /// Warms up and measures, with all subscriptions open.
    fn load(
        &self,
        bench: &Bench,
        server: &Server,
        generator: &mut Generator,
    ) -> Result<Values, Failure> {
        server.settle();
        generator.publish_for(self.pace, Duration::from_secs_f64(bench.seconds / 5.0))?;
        generator.drain(LIMIT)?;
        server.settle();
        generator.board.reset();
        let acknowledged = generator.acknowledged();
        let from = Moment::now(server, generator);
        generator.publish_for(self.pace, Duration::from_secs_f64(bench.seconds))?;
        generator.drain(LIMIT)?;
        let to = Moment::now(server, generator);
        // Anything that came twice comes now.
        generator.listen(Duration::from_millis(30))?;
        let published = generator.acknowledged() - acknowledged;
        let audience = u64::from(self.subscribers);
        let units = if audience == 0 { published } else { generator.board.sum(Count::Deliveries) };
        if audience > 0 && units != published * audience {
            return Err(Failure(format!("{units} deliveries of {published} messages")));
        }
        let mut values = Values::new();
        let reads = generator.board.sum(Count::Reads);
        if reads > 0 && self.mode != Mode::LongPolling {
            values.insert(report::TOGETHER.into(), units as f64 / reads as f64);
        }
        let latest = generator.board.max(Count::Latest).max(from.time + 1);
        let end = if audience == 0 { to.time } else { latest };
        values.insert(report::RATE.into(), units as f64 * 1e9 / (end - from.time) as f64);
        cpu(&from, &to, units, report::CPU, &mut values);
        shares(&from, &to, bench.cpus.len(), &mut values);
        percentiles(generator, &mut values);
        Ok(values)
    }
}

/// Subscribers that connect, subscribe and leave.
#[derive(Debug, Clone)]
pub(crate) struct Connect {
    pub(crate) mode: Mode,
    pub(crate) subscribers: u32,
    /// Old messages that each of them gets.
    pub(crate) backlog: u32,
}

impl Connect {
    pub(crate) fn run(&self, bench: &Bench, peer: &Peer) -> Result<Values, Failure> {
        let stores = self.backlog > 0;
        // So that "the oldest" are the last ones.
        let stored_max = self.backlog.max(10);
        let setup = Setup { cpus: bench.server_cpus(1), stores, stored_max, ..Setup::default() };
        let server = peer.start(&bench.places, &setup).map_err(Failure)?;
        let plan = Plan {
            subscribers: self.subscribers,
            backlog: self.backlog,
            subscribe: peer.subscribe(self.mode, self.backlog),
            ..bench.plan(peer, &server, self.mode)
        };
        let mut generator = Generator::new(plan)?;
        generator.publish(Pace::Acknowledged, u64::from(self.backlog), LIMIT)?;
        generator.drain(LIMIT)?;
        let values = twice(bench, &server, &mut generator)?;
        sound(&server, values)
    }
}

/// Opens all subscriptions, ends them, and opens them again. The second time is measured.
fn twice(bench: &Bench, server: &Server, generator: &mut Generator) -> Result<Values, Failure> {
    let mut values = Values::new();
    let units = generator.plan.all_subscribers() as u64;
    generator.open_all(LIMIT)?;
    server.settle();
    let from = Moment::now(server, generator);
    generator.drop_all()?;
    server.settle();
    cpu(&from, &Moment::now(server, generator), units, report::LEAVING, &mut values);
    generator.board.reset();
    let from = Moment::now(server, generator);
    generator.open_all(LIMIT)?;
    let end = sys::now();
    values.insert(report::RATE.into(), units as f64 * 1e9 / (end - from.time) as f64);
    server.settle();
    let to = Moment::now(server, generator);
    cpu(&from, &to, units, report::CPU, &mut values);
    shares(&from, &to, bench.cpus.len(), &mut values);
    percentiles(generator, &mut values);
    generator.listen(Duration::from_millis(30))?;
    Ok(values)
}

/// All subscribers lose their connections, and come back at the same time for what they have missed.
#[derive(Debug, Clone)]
pub(crate) struct Storm {
    pub(crate) subscribers: u32,
    /// Messages that are published while they are away.
    pub(crate) missed: u32,
}

impl Storm {
    pub(crate) fn run(&self, bench: &Bench, peer: &Peer) -> Result<Values, Failure> {
        let setup = Setup { cpus: bench.server_cpus(1), stores: true, ..Setup::default() };
        let server = peer.start(&bench.places, &setup).map_err(Failure)?;
        let plan = Plan {
            subscribers: self.subscribers,
            event_ids: peer.wants_event_ids(),
            ..bench.plan(peer, &server, Mode::EventSource)
        };
        // Other processes would not see the plan change.
        let plan = Plan { processes: plan.processes[..1].to_vec(), ..plan };
        let mut generator = Generator::new(plan)?;
        generator.open_all(LIMIT)?;
        generator.publish(Pace::Acknowledged, 5, LIMIT)?;
        generator.drain(LIMIT)?;
        generator.drop_all()?;
        generator.publish(Pace::Acknowledged, u64::from(self.missed), LIMIT)?;
        generator.drain(LIMIT)?;
        server.settle();
        generator.board.reset();
        generator.plan.backlog = self.missed;
        // All at once, as far as the queue of a listening socket goes.
        generator.plan.opening_max = 4_000;
        let from = Moment::now(&server, &generator);
        generator.open_all(LIMIT)?;
        let end = sys::now();
        server.settle();
        let to = Moment::now(&server, &generator);
        let mut values = Values::new();
        let units = u64::from(self.subscribers);
        values.insert(report::SECONDS.into(), (end - from.time) as f64 / 1e9);
        values.insert(report::RATE.into(), units as f64 * 1e9 / (end - from.time) as f64);
        cpu(&from, &to, units, report::CPU, &mut values);
        shares(&from, &to, bench.cpus.len(), &mut values);
        percentiles(&generator, &mut values);
        // Between the old messages and these there must be no gap.
        generator.publish(Pace::Acknowledged, 5, LIMIT)?;
        generator.drain(LIMIT)?;
        generator.listen(Duration::from_millis(30))?;
        sound(&server, values)
    }
}

/// Subscribers that resume near the end of a channel with many stored messages.
#[derive(Debug, Clone)]
pub(crate) struct Resume {
    pub(crate) subscribers: u32,
    pub(crate) stored: u32,
    /// Messages after the place where they resume.
    pub(crate) missed: u32,
}

impl Resume {
    pub(crate) fn run(&self, bench: &Bench, peer: &Peer) -> Result<Values, Failure> {
        let setup = Setup {
            cpus: bench.server_cpus(1),
            stores: true,
            stored_max: self.stored,
            ..Setup::default()
        };
        let server = peer.start(&bench.places, &setup).map_err(Failure)?;
        let event_ids = peer.wants_event_ids();
        let plan = bench.plan(peer, &server, Mode::EventSource);
        let one = Plan { subscribers: 1, window: 64, event_ids, ..plan.clone() };
        let mut first = Generator::new(one)?;
        first.open_all(LIMIT)?;
        first.publish(Pace::Acknowledged, u64::from(self.stored - self.missed), LIMIT)?;
        first.drain(LIMIT)?;
        let resume = first.resume_id();
        first.publish(Pace::Acknowledged, u64::from(self.missed), LIMIT)?;
        first.drain(LIMIT)?;
        drop(first);
        let (subscribers, backlog) = (self.subscribers, self.missed);
        let plan = Plan { subscribers, backlog, resume, first: self.stored, ..plan };
        let mut generator = Generator::new(plan)?;
        let values = twice(bench, &server, &mut generator)?;
        sound(&server, values)
    }
}

/// Subscribers that wait.
#[derive(Debug, Clone)]
pub(crate) struct Idle {
    pub(crate) mode: Mode,
    pub(crate) subscribers: u32,
}

impl Idle {
    pub(crate) fn run(&self, bench: &Bench, peer: &Peer) -> Result<Values, Failure> {
        let setup = Setup { cpus: bench.server_cpus(1), stores: true, ..Setup::default() };
        let server = peer.start(&bench.places, &setup).map_err(Failure)?;
        let plan = Plan { subscribers: self.subscribers, ..bench.plan(peer, &server, self.mode) };
        let mut generator = Generator::new(plan)?;
        server.settle();
        let before = used(&server)?;
        let kernel = proc::machine_memory().unwrap_or_default().kernel;
        generator.open_all(LIMIT)?;
        server.settle();
        let units = f64::from(self.subscribers);
        let mut values = Values::new();
        values.insert(report::BYTES.into(), (used(&server)? - before) / units);
        let more = proc::machine_memory().unwrap_or_default().kernel.saturating_sub(kernel);
        values.insert(report::KERNEL.into(), more as f64 / units);
        // Each of them is there.
        generator.publish(Pace::Acknowledged, 1, LIMIT)?;
        generator.drain(LIMIT)?;
        sound(&server, values)
    }
}

fn used(server: &Server) -> Result<f64, Failure> {
    let memory = server.memory().ok_or_else(|| Failure("the server's memory is unknown".into()))?;
    Ok((memory.own + memory.shared) as f64)
}

/// Memory of what is stored.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) channels: u32,
    /// For each channel. With 0, the messages are not stored, and channels are what is counted.
    pub(crate) messages: u32,
    pub(crate) size: usize,
}

impl Stored {
    pub(crate) fn run(&self, bench: &Bench, peer: &Peer) -> Result<Values, Failure> {
        let setup = Setup {
            cpus: bench.server_cpus(1),
            stores: self.messages > 0,
            stored_max: self.messages.max(1),
            zone: 2 << 30,
            ..Setup::default()
        };
        let server = peer.start(&bench.places, &setup).map_err(Failure)?;
        let plan = Plan {
            channels: self.channels,
            publishers: 16,
            lanes: if self.channels == 1 { 16 } else { 1 },
            window: 64,
            size: self.size,
            ..bench.plan(peer, &server, Mode::Streaming)
        };
        let mut generator = Generator::new(plan)?;
        server.settle();
        let before = used(&server)?;
        let all = u64::from(self.channels) * u64::from(self.messages.max(1));
        generator.publish(Pace::Acknowledged, all, LIMIT)?;
        generator.drain(LIMIT)?;
        server.settle();
        let bytes = (used(&server)? - before) / all as f64;
        // Without the payload, or the id such as "bench-12345".
        let own = if self.messages > 0 { self.size as f64 } else { mean_id(self.channels) };
        let values = Values::from([(report::BYTES.into(), bytes - own)]);
        sound(&server, values)
    }
}

/// Mean length of the ids of so many channels.
fn mean_id(channels: u32) -> f64 {
    let digits: u64 = (0..channels).map(|it| u64::from(it.max(1).ilog10()) + 1).sum();
    "bench-".len() as f64 + digits as f64 / f64::from(channels.max(1))
}

/// `nginx -t` with a zone of that size.
#[derive(Debug, Clone)]
pub(crate) struct Check {
    pub(crate) zone: u64,
}

impl Check {
    pub(crate) fn run(&self, bench: &Bench, peer: &Peer) -> Result<Values, Failure> {
        let setup = Setup { zone: self.zone, ..Setup::default() };
        let directory = peer.prepare(&bench.places, &setup).map_err(Failure)?;
        // By a small process, because a child's memory is at first that of its parent.
        let output = Command::new(std::env::current_exe()?)
            .arg("resident")
            .arg(&bench.places.nginx)
            .args(["-t", "-q", "-c", "nginx.conf", "-e", "error.log", "-p"])
            .arg(&directory)
            .stdin(Stdio::null())
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let words: Vec<f64> = text.split_whitespace().flat_map(str::parse).collect();
        match words[..] {
            [seconds, bytes] if output.status.success() => {
                Ok(Values::from([(report::SECONDS.into(), seconds), (report::BYTES.into(), bytes)]))
            }
            _ => Err(Failure(format!("nginx -t fails, see {}", directory.display()))),
        }
    }
}

/// The load that a server carries before it is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Burden {
    Nothing,
    Messages(u32),
    Channels(u32),
    Subscribers(u32),
}

impl Burden {
    fn name(self) -> String {
        let number = |count: u32| crate::statistics::grouped(i64::from(count));
        match self {
            Self::Nothing => "empty".into(),
            Self::Messages(count) => format!("{} stored messages", number(count)),
            Self::Channels(count) => format!("{} other channels", number(count)),
            Self::Subscribers(count) => format!("{} idle subscribers", number(count)),
        }
    }
}

/// The same live work on servers with different burdens, which take turns.
pub(crate) fn burdened(
    bench: &Bench,
    peer: &Peer,
    live: &Live,
    burdens: &[Burden],
    rounds: u32,
) -> Vec<report::Run> {
    let mut runs = Vec::new();
    // The generators of the burden keep its connections open.
    let mut servers: Vec<(Burden, Server, Vec<Generator>)> = Vec::new();
    for &burden in burdens {
        let own =
            Peer { name: format!("{}-{}", peer.name, servers.len()), kind: peer.kind.clone() };
        let started = own.start(
            &bench.places,
            &Setup { stores: true, stored_max: 1 << 20, zone: 2 << 30, ..live.setup(bench) },
        );
        let made = started.map_err(Failure).and_then(|server| {
            let generators = burden.put_on(bench, peer, &server)?;
            Ok((burden, server, generators))
        });
        match made {
            Ok(made) => servers.push(made),
            Err(failure) => runs.push(report::Run {
                peer: burden.name(),
                values: Values::new(),
                failure: Some(failure.0),
            }),
        }
    }
    for round in 0..rounds {
        for (burden, server, _) in &servers {
            let plan = Plan {
                // Not a channel of the burden, nor of an earlier round.
                publish: crate::plan::Request::new(&format!("/pub?id=live-{round}-{{channel}}")),
                subscribe: crate::plan::Request::new(&format!("/s?id=live-{round}-{{channel}}")),
                ..live.plan(bench, peer, server)
            };
            let measured = Generator::new(plan).and_then(|mut generator| {
                generator.open_all(LIMIT)?;
                live.load(bench, server, &mut generator)
            });
            server.settle();
            let (values, failure) = match measured.and_then(|values| sound(server, values)) {
                Ok(values) => (values, None),
                Err(failure) => (Values::new(), Some(failure.0)),
            };
            runs.push(report::Run { peer: burden.name(), values, failure });
        }
    }
    runs
}

impl Burden {
    fn put_on(
        self,
        bench: &Bench,
        peer: &Peer,
        server: &Server,
    ) -> Result<Vec<Generator>, Failure> {
        let long = Duration::from_secs(120);
        let plan = bench.plan(peer, server, Mode::Streaming);
        let publishing = Plan { publishers: 16, window: 64, ..plan.clone() };
        match self {
            Self::Nothing => Ok(Vec::new()),
            Self::Messages(count) => {
                let plan = Plan { channels: 100, ..publishing };
                let mut generator = Generator::new(plan)?;
                generator.publish(Pace::Acknowledged, u64::from(count), long)?;
                generator.drain(long)?;
                Ok(Vec::new())
            }
            Self::Channels(count) => {
                let plan = Plan { channels: count, window: 1, ..publishing };
                let mut generator = Generator::new(plan)?;
                generator.publish(Pace::Acknowledged, u64::from(count), long)?;
                generator.drain(long)?;
                Ok(Vec::new())
            }
            Self::Subscribers(count) => {
                let plan = Plan { channels: 100, subscribers: count / 100, ..plan };
                let mut generator = Generator::new(plan)?;
                generator.open_all(long)?;
                Ok(vec![generator])
            }
        }
    }
}

/// Whether this peer can do what a scenario of the kind asks for.
pub(crate) fn supports(peer: &Peer, mode: Mode, plain: bool) -> bool {
    match &peer.kind {
        Kind::PushStream { .. } | Kind::Nchan { .. } => true,
        Kind::Floor { .. } => plain,
        Kind::Shipped { .. } => false,
        Kind::Other { mode: own, .. } => plain && *own == mode,
    }
}
