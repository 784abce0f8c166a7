//! The life of a worker in a test with real locks: it publishes, subscribes, delivers, deletes, sweeps
//! and audits as fast as it can, and checks what it is handed. And the zone for several of them.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::hub::sim::rng::Rng;
use crate::hub::{Hub, News, Post, Rules, Stay, Subscribe, Tick};
use crate::model::{Message, Now, Seconds, Since, Token};
use crate::store::check::Inventory;
use crate::store::memory::SharedFile;
use crate::store::{Inspection, Store};

pub(super) const WORKERS: u32 = 4;
/// The seat from which the zone is audited.
pub(super) const AUDITOR: u32 = WORKERS;
const ZONE: u64 = 256 * 1024;

/// A setting from the environment.
pub(super) fn env<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

/// A zone in a file, which is removed with this value.
pub(super) struct ZoneFile(pub(super) PathBuf);

impl ZoneFile {
    pub(super) fn new(name: &str) -> Self {
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() };
        let path = folder.join(format!("push-stream-{name}-{}", std::process::id()));
        let file = File::create(&path).expect("a file for the zone");
        file.set_len(ZONE).expect("room for the zone");
        let zone = Self(path);
        zone.map().format(WORKERS + 1, now()).expect("a zone");
        zone
    }

    pub(super) fn map(&self) -> SharedFile {
        let file = File::options().read(true).write(true).open(&self.0);
        SharedFile::map(&file.expect("the zone's file"))
    }
}

impl Drop for ZoneFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// The zone's clock, which runs fifty times as fast.
pub(super) fn now() -> Now {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    Now::both((since.as_millis() / 20) as Seconds)
}

pub(super) fn rules() -> Rules {
    Rules {
        message_ttl_secs: 40,
        channel_inactivity_secs: 20,
        stored_max: Some(30),
        deleted_text: b"Channel deleted".to_vec(),
        events_channel: b"events".to_vec(),
        ..Rules::default()
    }
}

/// All workers have ended: when everything has expired, the zone is as it was made.
pub(super) fn assert_nothing_left(zone: &SharedFile, when: &str) {
    let pristine = ZoneFile::new(&when.replace(' ', "-")).map();
    assert_eq!(drain(zone), drain(&pristine), "{when}");
}

/// Takes and leaves each seat, lets everything expire, and answers what the zone holds then.
fn drain(zone: &SharedFile) -> Inventory {
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
    let found = hub.store.inventory();
    assert!(found.violations.is_empty(), "drained: {:?}", found.violations);
    found
}

/// A worker's life, until it leaves its seat or is killed.
pub(super) struct Life {
    rng: Rng,
    hub: Hub,
    inspection: Inspection,
    /// Per channel the id of the last message that it got.
    subscribers: HashMap<Token, HashMap<Vec<u8>, u64>>,
    /// Subscribers so far.
    tokens: u32,
}

/// A text that shows whether it is whole: its first eight bytes decide the rest.
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
    /// Takes a seat.
    pub(super) fn begin(store: Store, pid: u32, seed: u64) -> Self {
        let mut hub = Hub::attach(store, pid, now());
        hub.configure(&rules(), now());
        let inspection = Inspection::default();
        Self { rng: Rng::seeded(seed), hub, inspection, subscribers: HashMap::new(), tokens: 0 }
    }

    /// Leaves it.
    pub(super) fn end(mut self) {
        self.hub.detach(&rules(), now());
    }

    pub(super) fn step(&mut self) {
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
            96 => self.audit(),
            97 => {
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

    /// Some stops of an audit, while others work.
    fn audit(&mut self) {
        for _ in 0..8 {
            if !self.hub.inspect_some(&mut self.inspection) {
                let audit = self.hub.report(core::mem::take(&mut self.inspection));
                assert_eq!(audit.violations, [], "an audit");
            }
        }
    }

    fn some_channel(&mut self) -> Vec<u8> {
        format!("channel {}", self.rng.below(6)).into_bytes()
    }

    fn publish(&mut self, rules: &Rules, now: Now) {
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
            ..Post::default()
        };
        // A full zone may refuse it.
        let _ = self.hub.publish(channels, &post, rules, now);
    }

    fn subscribe(&mut self, rules: &Rules, now: Now) {
        if self.subscribers.len() > 12 {
            return;
        }
        let id = self.some_channel();
        let requested = [(id.as_slice(), Some(10)), (b"events".as_slice(), None)];
        let live = self.rng.chance(80);
        let token = self.free_token();
        let request = Subscribe {
            requested: &requested[..1 + usize::from(self.rng.chance(20))],
            since: Since::default(),
            authorized_only: false,
            wildcard_max: None,
            events_channel_allowed: true,
            stay: if live { Stay::Live } else { Stay::No },
            bounded: !live,
            ordered: false,
            form: self.rng.below(2) as u32,
            token,
        };
        let Ok(mut subscribed) = self.hub.subscribe(&request, rules, now) else { return };
        let (mut last, mut count, room) = (0, 0, 1 + self.rng.below(12));
        let mut each = |message: &Message<'_>| {
            check(message.channel, message.text);
            assert!(message.id > last, "a backlog in order");
            last = message.id;
            count += 1;
            count % room != 0
        };
        let mut rest = self.hub.read_backlog(&mut subscribed, now, &mut each).rest;
        // Ends early if others discard the next message.
        while let Some(Ok(read)) = rest.map(|rest| self.hub.read_on(rest, now, &mut each)) {
            rest = read.rest;
            if let Some(rest) = &mut rest {
                self.hub.park(rest, now);
            }
        }
        if live {
            self.hub.announce(token, rules, now);
            self.subscribers.insert(token, HashMap::new());
        }
    }

    /// A new token in the first free slot.
    fn free_token(&mut self) -> Token {
        self.tokens += 1;
        let is_taken = |index| self.subscribers.keys().any(|token| token.index() == index);
        let index = (0..).find(|index| !is_taken(*index)).expect("a free slot");
        Token::new(index, self.tokens)
    }

    fn leave(&mut self, rules: &Rules, now: Now) {
        if let Some(token) = self.subscribers.keys().next().copied()
            && self.subscribers.remove(&token).is_some()
        {
            self.hub.leave(token, rules, now);
        }
    }

    fn deliver(&mut self, rules: &Rules, now: Now) {
        self.hub.woken();
        let subscribers = &mut self.subscribers;
        let mut each = |news: News<'_>| match news {
            News::Messages { groups, messages, .. } => {
                for listener in groups.iter().flat_map(|group| &group.listeners) {
                    let had = subscribers.get_mut(&listener.token).expect("it is subscribed");
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
            News::Broken { .. } => panic!("nothing panics here"),
            News::Ended { token, left } => {
                if left == 0 {
                    subscribers.remove(&token);
                }
            }
        };
        while self.hub.deliver(rules, now, &mut each) {}
    }
}
