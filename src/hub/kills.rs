//! Real processes, a real shared mapping, real robust locks: killed at any moment, nothing is lost.
//!
//! The test runs this very binary again, once a worker. Each worker publishes, subscribes, delivers,
//! deletes and sweeps as fast as it can, and checks what it is handed, until SIGKILL meets it;
//! another one takes its seat. Now and then all are killed at once, and the zone is audited.
//!
//! `PUSH_STREAM_KILLS` is the number of kills, `PUSH_STREAM_KILLS_SEED` fixes what the workers do
//! (though not when they die).

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::hub::sim::rng::Rng;
use crate::hub::{Hub, News, Post, Rules, Stay, Subscribe, SubscriberId, Tick};
use crate::model::{Seconds, Since};
use crate::store::check::Audit;
use crate::store::memory::SharedFile;

const WORKERS: u32 = 4;
/// The seat from which the zone is audited.
const AUDITOR: u32 = WORKERS;
const ZONE: u64 = 256 * 1024;
const KILLS: u32 = 1000;
/// After so many kills, all workers die and the zone is audited.
const BATCH: u32 = 25;
/// A worker that does not get this far in this time waits for a lock that nobody will release.
const PATIENCE: Duration = Duration::from_secs(60);

const ENV_ZONE: &str = "PUSH_STREAM_KILLS_ZONE";
const ENV_SEAT: &str = "PUSH_STREAM_KILLS_SEAT";
const ENV_SEED: &str = "PUSH_STREAM_KILLS_SEED";
const ENV_PARENT: &str = "PUSH_STREAM_KILLS_PARENT";

fn env<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

/// A zone in a file, which goes when the test ends.
struct ZoneFile(PathBuf);

impl ZoneFile {
    fn new(name: &str) -> Self {
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() };
        let path = folder.join(format!("push-stream-{name}-{}", std::process::id()));
        let file = File::create(&path).expect("a file for the zone");
        file.set_len(ZONE).expect("room for the zone");
        let zone = Self(path);
        zone.map().format(WORKERS + 1, now()).expect("a zone");
        zone
    }

    fn map(&self) -> SharedFile {
        let file = File::options().read(true).write(true).open(&self.0);
        SharedFile::map(&file.expect("the zone's file"))
    }
}

impl Drop for ZoneFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Fifty of the zone's seconds pass in one.
fn now() -> Seconds {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    (since.as_millis() / 20) as Seconds
}

fn rules() -> Rules {
    Rules {
        message_ttl_secs: 40,
        channel_inactivity_secs: 20,
        stored_max: Some(30),
        deleted_text: b"Channel deleted".to_vec(),
        events_channel: b"events".to_vec(),
        ..Rules::default()
    }
}

struct Worker {
    child: Child,
    seat: u32,
}

impl Worker {
    fn spawn(zone: &ZoneFile, seat: u32, seed: u64) -> Self {
        let program = std::env::current_exe().expect("this program");
        let child = Command::new(program)
            .args(["--exact", "hub::kills::a_worker", "--nocapture", "--test-threads=1"])
            .env(ENV_ZONE, &zone.0)
            .env(ENV_SEAT, seat.to_string())
            .env(ENV_SEED, seed.to_string())
            .env(ENV_PARENT, std::process::id().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("another process");
        Self { child, seat }
    }

    /// Waits until it sits in its seat.
    fn wait_until_seated(&mut self, auditor: &SharedFile) {
        let store = auditor.open(AUDITOR).expect("the auditor's view");
        let began = Instant::now();
        loop {
            let seat = store.seat_at(self.seat + 1).expect("its seat");
            if seat.pid.get() == self.child.id() {
                return;
            }
            self.must_be_alive();
            assert!(began.elapsed() < PATIENCE, "worker {} waits for ever", self.seat);
            std::thread::yield_now();
        }
    }

    fn must_be_alive(&mut self) {
        let ended = self.child.try_wait().expect("its state");
        assert_eq!(ended, None, "worker {} has ended by itself", self.seat);
    }

    fn kill(&mut self) {
        self.must_be_alive();
        self.child.kill().expect("a kill");
        let status = self.child.wait().expect("its end");
        assert_eq!(status.signal(), Some(libc::SIGKILL), "it died of the kill");
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn killed_workers_leave_nothing_behind() {
    let kills: u32 = env("PUSH_STREAM_KILLS").unwrap_or(KILLS);
    let seed = env(ENV_SEED).unwrap_or_else(|| now() as u64);
    let mut rng = Rng::seeded(seed);
    eprintln!("{kills} kills, {ENV_SEED}={seed}");
    let zone = ZoneFile::new("kills");
    let mapped = zone.map();
    let spawn = |rng: &mut Rng, seat| Worker::spawn(&zone, seat, rng.next());
    let mut workers: Vec<Worker> = (0..WORKERS).map(|seat| spawn(&mut rng, seat)).collect();
    let mut killed = 0;
    while killed < kills {
        for _ in 0..BATCH {
            let number = rng.below(workers.len());
            let worker = &mut workers[number];
            worker.wait_until_seated(&mapped);
            let moment = Instant::now() + Duration::from_micros(rng.below(4000) as u64);
            while Instant::now() < moment {
                std::hint::spin_loop();
            }
            worker.kill();
            killed += 1;
            let seat = worker.seat;
            workers[number] = spawn(&mut rng, seat);
        }
        for worker in &mut workers {
            worker.wait_until_seated(&mapped);
        }
        for worker in &mut workers {
            worker.kill();
            killed += 1;
        }
        let store = mapped.open(AUDITOR).expect("the auditor's view");
        store.settle();
        let violations = store.audit().violations;
        assert!(violations.is_empty(), "after {killed} kills: {violations:?}");
        workers = (0..WORKERS).map(|seat| spawn(&mut rng, seat)).collect();
    }
    for worker in &mut workers {
        worker.wait_until_seated(&mapped);
        worker.kill();
    }
    drop(workers);
    let left = drain(&mapped);
    assert_eq!(left, drain(&ZoneFile::new("pristine").map()), "after {killed} kills");
}

/// Takes and leaves each seat, lets everything expire, and answers what the zone holds then.
fn drain(zone: &SharedFile) -> Audit {
    let rules = Rules { events_channel: Vec::new(), ..rules() };
    let mut now = now();
    for seat in 0..WORKERS {
        let mut hub = Hub::attach(zone.open(seat).expect("a seat"), 1, now);
        hub.configure(&rules, now);
        hub.detach(&rules, now);
    }
    let mut hub = Hub::attach(zone.open(0).expect("a seat"), 1, now);
    for _ in 0..3 {
        now += 100_000;
        while hub.tick(Tick::Full, &rules, now) {}
    }
    hub.detach(&rules, now);
    let audit = hub.store.audit();
    assert!(audit.violations.is_empty(), "drained: {:?}", audit.violations);
    audit
}

/// Not a test by itself: what the other processes run.
#[test]
fn a_worker() {
    let (Some(zone), Some(seat)) = (env::<PathBuf>(ENV_ZONE), env(ENV_SEAT)) else { return };
    let (seed, parent) = (env(ENV_SEED).unwrap_or(0), env(ENV_PARENT).unwrap_or(0));
    let file = File::options().read(true).write(true).open(zone).expect("the zone's file");
    let store = SharedFile::map(&file).open(seat).expect("a seat");
    let mut hub = Hub::attach(store, std::process::id(), now());
    hub.configure(&rules(), now());
    let mut life = Life { rng: Rng::seeded(seed), hub, subscribers: HashMap::new() };
    while std::os::unix::process::parent_id() == parent {
        for _ in 0..64 {
            life.step();
        }
    }
}

/// A worker's life, until it is killed.
struct Life {
    rng: Rng,
    hub: Hub,
    /// By token: who it is, and per channel the id of the last message that it got.
    subscribers: HashMap<usize, (SubscriberId, HashMap<Vec<u8>, u64>)>,
}

/// A text that tells whether it is whole: the rest follows from its first eight bytes.
fn text(seed: u64, len: usize) -> Vec<u8> {
    let mut rng = Rng::seeded(seed);
    let mut text = seed.to_le_bytes().to_vec();
    while text.len() < len {
        text.extend_from_slice(&rng.next().to_le_bytes());
    }
    text
}

fn check(channel: &[u8], found: &[u8]) {
    if channel == b"events" {
        assert!(found.starts_with(b"{\"type\": \"") && found.ends_with(b"\"}"), "a notice");
        return;
    }
    let seed = found.get(..8).map(|head| u64::from_le_bytes(head.try_into().expect("eight")));
    let expected = text(seed.expect("a head"), found.len());
    assert!(found == expected, "a message is torn");
}

impl Life {
    fn step(&mut self) {
        let (rules, now) = (rules(), now());
        match self.rng.below(100) {
            0..40 => self.publish(&rules, now),
            40..50 => self.subscribe(&rules, now),
            50..58 => self.leave(&rules, now),
            58..62 => {
                let id = self.some_channel();
                let own = text(self.rng.next(), 8 + self.rng.below(100));
                let deleted: &[u8] = if self.rng.chance(50) { &own } else { &rules.deleted_text };
                self.hub.delete(&[&id], deleted, &rules, now);
            }
            62..88 => self.deliver(&rules, now),
            88..94 => while self.hub.tick(Tick::Full, &rules, now) {},
            94..96 => {
                let is_alive = |pid: u32| Path::new(&format!("/proc/{pid}")).exists();
                self.hub.recover_dead(now, &is_alive);
            }
            96..98 => {
                let summary = self.hub.summary(now);
                assert!(summary.workers.len() <= WORKERS as usize, "workers");
            }
            _ => {
                let listed = self.hub.list(b"");
                assert!(listed.windows(2).all(|two| two[0].created < two[1].created), "a list");
            }
        }
        self.hub.take_wakes();
    }

    fn some_channel(&mut self) -> Vec<u8> {
        format!("channel {}", self.rng.below(6)).into_bytes()
    }

    fn publish(&mut self, rules: &Rules, now: Seconds) {
        let (one, other) = (self.some_channel(), self.some_channel());
        let both = [one.as_slice(), other.as_slice()];
        let channels = if one == other { &both[..1] } else { &both[..1 + self.rng.below(2)] };
        let longest = *self.rng.pick(&[50, 200, 1000, 20_000]);
        let body = text(self.rng.next(), 8 + self.rng.below(longest));
        let post = Post {
            event_id: None,
            event_type: None,
            body: &[&body],
            binary: false,
            store: self.rng.chance(70),
            may_be_empty: false,
        };
        // A full zone refuses, which is right.
        let _ = self.hub.publish(channels, &post, rules, now);
    }

    fn subscribe(&mut self, rules: &Rules, now: Seconds) {
        if self.subscribers.len() > 12 {
            return;
        }
        let id = self.some_channel();
        let requested = [(id.as_slice(), Some(10)), (b"events".as_slice(), None)];
        let live = self.rng.chance(80);
        let token = self.rng.next() as usize;
        let request = Subscribe {
            requested: &requested[..1 + usize::from(self.rng.chance(20))],
            since: Since::default(),
            authorized_only: false,
            wildcard_max: None,
            events_channel_allowed: true,
            stay: if live { Stay::Live } else { Stay::No },
            bounded: !live,
            form: self.rng.below(2) as u32,
            token,
        };
        let Ok(mut subscribed) = self.hub.subscribe(&request, rules, now) else { return };
        let mut last = 0;
        self.hub.read_backlog(&mut subscribed, now, &mut |message| {
            check(message.channel, message.text);
            assert!(message.id > last, "a backlog in order");
            last = message.id;
            true
        });
        if let Some(id) = subscribed.id {
            self.hub.announce(id, rules, now);
            self.subscribers.insert(token, (id, HashMap::new()));
        }
    }

    fn leave(&mut self, rules: &Rules, now: Seconds) {
        if let Some(token) = self.subscribers.keys().next().copied()
            && let Some((id, _)) = self.subscribers.remove(&token)
        {
            self.hub.leave(id, rules, now);
        }
    }

    fn deliver(&mut self, rules: &Rules, now: Seconds) {
        self.hub.woken();
        let subscribers = &mut self.subscribers;
        let mut each = |news: News<'_>| match news {
            News::Messages { groups, messages, .. } => {
                for listener in groups.iter().flat_map(|group| &group.listeners) {
                    let (_, had) = subscribers.get_mut(&listener.token).expect("it is subscribed");
                    for message in listener.due(messages) {
                        if message.id == crate::model::DELETED_ID {
                            continue;
                        }
                        check(message.channel, message.text);
                        let last = had.entry(message.channel.to_vec()).or_insert(listener.after);
                        assert_eq!(message.id as u64, *last + 1, "each message once, in order");
                        *last += 1;
                    }
                }
            }
            News::Ended { listener, left } => {
                if left == 0 {
                    subscribers.remove(&listener.token);
                }
            }
        };
        while self.hub.deliver(rules, now, &mut each) {}
    }
}
