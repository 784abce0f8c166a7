//! Histories of subscribers that leave and come back, each time in another mode if they like, from the place
//! that they were told: by cursor, by time and tag, or by event id. Meanwhile messages are stored or not,
//! evicted and expire, clocks are set, channels are removed and made again, workers are replaced and killed.
//!
//! For each of them, what it has had is what a naive account of all messages says ([`ledger`]): each message
//! once; of each that it lacks it was told; and nobody is told of a gap that has had all, but for the
//! cases that `docs/protocol.md` names ([`visitor`]).
//!
//! `PUSH_STREAM_SIM_SEEDS=N` runs N more seeds, `PUSH_STREAM_SIM_SEED=S` that one alone. A failure prints its
//! seed, and what happened until then. `scripts/check-deep histories` runs 100,000 of them.

use core::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

use super::client::{Client, Item, Kind};
use super::history::{Event, History};
use super::link::{End, set_portion};
use super::worker::POLL_MSEC;
use crate::hub::sim::Death;
use crate::hub::sim::rng::Rng;
use crate::hub::{Hub, Rules, Tick};
use crate::model::{Cursor, Now, Seconds};
use crate::session::departure::Reason;

mod ledger;
mod visitor;

use ledger::{LATE_SECS, Ledger, Post, names};
use visitor::{By, Visitor};

const STEPS: usize = 60;
const LEN: usize = 192 * 1024;
const CHANNELS: [&[u8]; 3] = [b"a", b"b", b"c"];
const INACTIVITY_SECS: Seconds = 6;
/// The system's clock is so much ahead of the monotonic one, when it is right.
const AHEAD_SECS: Seconds = 100_000;

thread_local! {
    /// What has happened in this history.
    static STORY: RefCell<Vec<String>> = RefCell::default();
}

/// What happens in some of the histories, besides that visitors come in all ways.
const HAPPENS: [&str; 25] = [
    "came back in another mode",
    "channels deleted",
    "clocks set",
    "gaps told in vain: a shared entry",
    "gaps told in vain: its event id is gone",
    "gaps told with a number",
    "gaps told without one",
    "gaps told: evicted",
    "gaps told: expired",
    "gaps told: restarted",
    "gaps told: unknown",
    "gaps told: unstored",
    "idle channels removed",
    "left",
    "messages evicted",
    "messages expired",
    "messages had",
    "messages told of, and never had",
    "published and not stored",
    "published and stored",
    "streams cut off because they are slow",
    "polls that waited for nothing",
    "workers killed at rest",
    "workers killed at work",
    "workers replaced",
];

/// How often something has happened.
type Counts = BTreeMap<String, u64>;

struct Returns<'a> {
    history: History,
    rng: Rng,
    ledger: Ledger,
    visitors: Vec<Visitor>,
    /// Channels that share with the others what is remembered of those that were removed.
    strangers: Vec<Vec<u8>>,
    label: usize,
    is_over: bool,
    counts: &'a mut Counts,
}

macro_rules! tell {
    ($($what:tt)*) => { STORY.with_borrow_mut(|story| story.push(format!($($what)*))) };
}

fn run(seed: u64, counts: &mut Counts) {
    STORY.take();
    let mut rng = Rng::seeded(seed);
    let workers = 2 + rng.below(2);
    let history = History::new(LEN, workers);
    history.ground.batches_max.set(*rng.pick(&[1, 2, 16]));
    if rng.chance(40) {
        history.ground.late.borrow_mut()[rng.below(workers)] = LATE_SECS;
    }
    set_portion(*rng.pick(&[None, Some((60, 1)), Some((1000, 2))]));
    let mut returns = Returns {
        history,
        rng,
        ledger: Ledger::default(),
        visitors: Vec::new(),
        strangers: Vec::new(),
        label: 0,
        is_over: false,
        counts,
    };
    returns.begin();
    for _ in 0..STEPS {
        returns.step();
    }
    returns.end();
}

impl Returns<'_> {
    fn begin(&mut self) {
        {
            let world = &mut *self.history.ground.world.borrow_mut();
            world.now.wall += AHEAD_SECS;
            world.rules.channel_inactivity_secs = INACTIVITY_SECS;
            let entries = CHANNELS.map(|id| world.former_number(id));
            let is_shared = |id: &Vec<u8>| entries.contains(&world.former_number(id));
            let strangers = (0..100).map(|n| format!("s{n}").into_bytes());
            self.strangers = strangers.filter(is_shared).collect();
        }
        self.change_rules();
        for _ in 0..1 + self.rng.below(5) {
            let channels = self.some_channels();
            self.visitors.push(Visitor::new(channels));
        }
        self.take_in(None);
    }

    fn count(&mut self, what: impl Into<String>) {
        *self.counts.entry(what.into()).or_default() += 1;
    }

    fn step(&mut self) {
        match self.rng.below(100) {
            0..28 => self.publish(),
            28..46 => self.come(),
            46..52 => self.leave(),
            52..70 => self.event(),
            70..74 => self.run_all(),
            74..78 => self.grant(),
            78..84 => self.advance(),
            84..87 => self.tick(),
            87..89 => self.set_clock(),
            89..92 => self.delete(),
            92..95 => self.meet_stranger(),
            95 => self.reload(),
            96 => self.kill(),
            97 => self.time_out(),
            _ => self.change_rules(),
        }
        self.take_in(None);
        self.finish();
        if self.rng.chance(3) {
            self.history.check();
        }
    }

    fn now_of(&self, worker: usize) -> Now {
        self.history.ground.world.borrow().now + -self.history.ground.late.borrow()[worker]
    }

    fn worker(&mut self) -> usize {
        self.rng.below(self.history.workers.len())
    }

    /// Now and then a worker dies at some store that it makes, or between two sections.
    fn death(&mut self) -> Option<Death> {
        if self.is_over || !self.rng.chance(8) {
            return None;
        }
        let bits = self.rng.below(9);
        let moment = self.rng.below(1 << bits) as u64;
        Some(if self.rng.chance(30) {
            Death::AfterSection(self.rng.below(6) as u64)
        } else {
            Death::AtStore(moment)
        })
    }

    /// Runs work of a worker, which may die in it.
    fn on<R>(&mut self, worker: usize, work: impl FnOnce(&mut History) -> R) -> Option<R> {
        let death = self.death();
        let result = self.history.run_until(worker, death, work);
        if result.is_none() {
            tell!("  worker {worker} dies in it: {death:?}");
            self.count("workers killed at work");
        }
        result
    }

    fn take_in(&mut self, post: Option<&Post>) {
        let world = self.history.ground.world.borrow();
        self.ledger.take_in(&world.channels(), world.place(), post, &world.rules, world.now);
    }

    fn change_rules(&mut self) {
        let rules = &mut self.history.ground.world.borrow_mut().rules;
        rules.message_ttl_secs = *self.rng.pick(&[3, 6, 60]);
        rules.stored_max = *self.rng.pick(&[None, Some(1), Some(2), Some(4)]);
        tell!("ttl {}, at most {:?}", rules.message_ttl_secs, rules.stored_max);
    }

    fn some_channels(&mut self) -> Vec<Vec<u8>> {
        let mut channels = Vec::new();
        for _ in 0..*self.rng.pick(&[1, 1, 2, 3, 3]) {
            let channel = self.rng.pick(&CHANNELS).to_vec();
            if !channels.contains(&channel) {
                channels.push(channel);
            }
        }
        channels
    }

    fn publish(&mut self) {
        let burst = if self.rng.chance(15) { 4 } else { 1 };
        for _ in 0..burst {
            let channels = self.some_channels();
            self.publish_to(channels);
        }
    }

    fn publish_to(&mut self, channels: Vec<Vec<u8>>) {
        self.label += 1;
        let text = format!("{}x", self.label).into_bytes();
        let event_id = self.rng.chance(80).then(|| format!("e{}", self.label).into_bytes());
        let (worker, is_stored) = (self.worker(), self.rng.chance(70));
        let now = self.now_of(worker);
        let ids: Vec<&[u8]> = channels.iter().map(Vec::as_slice).collect();
        let published = self.on(worker, |history| {
            let event_id = event_id.as_deref();
            history.ground.publish_event(worker, &ids, event_id, &text, is_stored).expect("room");
        });
        let is_sure = published.is_some();
        if !is_sure {
            self.history.ground.note_unsure(&ids, &text, is_stored);
        }
        self.count(if is_stored { "published and stored" } else { "published and not stored" });
        let post = Post { channels: channels.clone(), event_id, is_stored, now, is_sure };
        self.take_in(Some(&post));
        let places = channels.iter().filter_map(|id| {
            let (_, channel) = self.ledger.live(id)?;
            let last = channel.log.last().filter(|last| last.event_id == post.event_id)?;
            Some((channel.log.len(), last.place))
        });
        let places: Vec<_> = places.collect();
        let event_id = post.event_id.as_deref().map(String::from_utf8_lossy);
        tell!("worker {worker} publishes {post:?}, {event_id:?}: {places:?}");
    }

    /// A visitor that is not there comes.
    fn come(&mut self) {
        let away: Vec<usize> =
            (0..self.visitors.len()).filter(|n| self.visitors[*n].client.is_none()).collect();
        if away.is_empty() {
            return;
        }
        let number = *self.rng.pick(&away);
        let kind = *self.rng.pick(&Kind::ALL);
        let (worker, has_cursors) = (self.worker(), self.rng.chance(60));
        let mut ways = self.visitors[number].ways(&self.ledger, has_cursors);
        let others: &[By] =
            if has_cursors { &[By::Nothing, By::Foreign, By::Future] } else { &[By::Nothing] };
        if ways.is_empty() || self.rng.chance(5) {
            ways = match self.rng.below(10) {
                0..4 => vec![By::Beginning],
                4..7 => vec![By::Nothing],
                _ => others.to_vec(),
            };
        }
        let by = *self.rng.pick(&ways);
        let client = if has_cursors {
            Client::with_cursors(kind, worker)
        } else {
            Client::new(kind, worker)
        };
        client.link.buffered_max.set(*self.rng.pick(&[300, usize::MAX, usize::MAX]));
        client.link.room.set(*self.rng.pick(&[usize::MAX, usize::MAX, usize::MAX, 0, 60, 300]));
        self.let_in(number, client, by);
    }

    fn let_in(&mut self, number: usize, client: Client, by: By) {
        let (kind, worker) = (client.kind, client.worker);
        if self.visitors[number].last_kind.is_some_and(|last| last != kind) {
            self.count("came back in another mode");
        }
        self.count(format!("came by {by:?}"));
        self.count(format!("came as {kind:?}"));
        let (border, now, death) = (self.ledger.place, self.now_of(worker), self.death());
        let visitor = &self.visitors[number];
        let cursors = if client.has_cursors { "with cursors" } else { "without cursors" };
        tell!(
            "visitor {number} of {:?} comes to worker {worker} as {kind:?} {cursors}, by {by:?}: {:?}, {:?}",
            names(&visitor.channels),
            visitor.place,
            visitor.event.as_ref().map(|(event_id, _)| String::from_utf8_lossy(event_id))
        );
        let client = self.history.add(client);
        let channels: Vec<_> = visitor.channels.iter().map(|id| (id.as_slice(), None)).collect();
        let since = visitor.since(by, &self.ledger);
        let opened = self.history.run_until(worker, death, |history| {
            history.workers[worker].open(&client, &channels, since);
        });
        if opened.is_none() {
            tell!("  worker {worker} dies in it: {death:?}");
            self.count("workers killed at work");
            if !client.link.has_ended() {
                client.link.close(End::Vanished);
            }
        }
        self.take_in(None);
        let counted = self.visitors[number].arrive(&client, by, border, &self.ledger, now);
        tell!("  gap {:?}, old messages {:?}", client.gap.get(), client.old.borrow());
        if let Some(what) = counted {
            self.count(what);
        }
        for (_, _, missed) in &*client.missing.borrow() {
            let is_counted = missed.is_some();
            self.count(if is_counted {
                "gaps told with a number"
            } else {
                "gaps told without one"
            });
        }
    }

    /// Those whose requests have ended look at what they have.
    fn finish(&mut self) {
        let is_over = |client: &Rc<Client>| client.link.has_ended();
        for (number, visitor) in self.visitors.iter_mut().enumerate() {
            let Some(client) = visitor.client.clone().filter(is_over) else { continue };
            tell!("visitor {number} has {}; {:?}", shown(&client.items()), client.reason());
            client.check(&self.history.ground.log.borrow(), false);
            visitor.finish(&self.ledger);
            if let Some(what) = ended(&client) {
                *self.counts.entry(what.to_owned()).or_default() += 1;
            }
            tell!("  and is at {:?}", visitor.place);
        }
        self.history.clients.retain(|client| !is_over(client));
    }

    fn there(&mut self) -> Option<Rc<Client>> {
        let there: Vec<_> = self.visitors.iter().filter_map(|v| v.client.clone()).collect();
        if there.is_empty() { None } else { Some(Rc::clone(self.rng.pick(&there))) }
    }

    fn leave(&mut self) {
        let Some(client) = self.there() else { return };
        tell!("one of worker {} leaves", client.worker);
        self.count("left");
        let worker = client.worker;
        self.on(worker, |history| history.workers[worker].end_request(&client, End::Vanished));
    }

    fn event(&mut self) {
        let events = self.history.events();
        if events.is_empty() {
            return;
        }
        let event = self.rng.pick(&events).clone();
        tell!("{event:?}");
        self.on(event.worker(), |history| history.run(&event));
    }

    fn run_all(&mut self) {
        tell!("all workers do all that there is to do");
        self.history.run_all();
    }

    fn grant(&mut self) {
        let Some(client) = self.there() else { return };
        let room = *self.rng.pick(&[30, 200, usize::MAX, usize::MAX]);
        client.link.room.set(client.link.room.get().saturating_add(room));
    }

    fn advance(&mut self) {
        let msec = *self.rng.pick(&[300, 1000, 1000, 3000, 8000]);
        self.history.advance(msec);
        tell!("{msec} ms later: {:?}", self.history.ground.world.borrow().now);
    }

    /// Somebody sets the system's clock, or sets it right again.
    fn set_clock(&mut self) {
        let now = &mut self.history.ground.world.borrow_mut().now;
        now.wall = now.steady + AHEAD_SECS + *self.rng.pick(&[-3600, -5, -1, 0, 0, 1, 5, 3600]);
        tell!("the clock is set: {now:?}");
        *self.counts.entry("clocks set".to_owned()).or_default() += 1;
    }

    /// The time of all polls of a worker is over, whatever else it has to do.
    fn time_out(&mut self) {
        let worker = self.worker();
        self.history.advance(POLL_MSEC);
        tell!("{POLL_MSEC} ms later, worker {worker} does what is due");
        self.on(worker, |history| history.run(&Event::Due(worker)));
    }

    fn tick(&mut self) {
        let worker = self.worker();
        tell!("worker {worker} ticks");
        let before = self.ledger.removed;
        self.on(worker, |history| {
            history.ground.operate(
                worker,
                |hub: &mut Hub, rules: &Rules, now| {
                    while hub.tick(Tick::Full, rules, now) {}
                },
            );
        });
        self.take_in(None);
        for _ in before..self.ledger.removed {
            self.count("idle channels removed");
        }
    }

    fn delete(&mut self) {
        let (worker, id) = (self.worker(), *self.rng.pick(&CHANNELS));
        self.delete_one(worker, id);
    }

    fn delete_one(&mut self, worker: usize, id: &[u8]) {
        tell!("worker {worker} deletes {}", String::from_utf8_lossy(id));
        if self.on(worker, |history| history.delete(worker, id)).is_some_and(|deleted| deleted > 0)
        {
            self.count("channels deleted");
        }
    }

    /// Others use a channel for a moment.
    fn meet_stranger(&mut self) {
        let worker = self.worker();
        let id = self.rng.pick(&self.strangers).clone();
        self.publish_to(vec![id.clone()]);
        self.delete_one(worker, &id);
    }

    fn reload(&mut self) {
        let all = if self.rng.chance(40) { self.history.workers.len() } else { 1 };
        for _ in 0..all {
            let worker = self.worker();
            tell!("worker {worker} is replaced");
            self.history.replace(worker);
            self.count("workers replaced");
            self.take_in(None);
        }
    }

    fn kill(&mut self) {
        let worker = self.worker();
        tell!("worker {worker} is killed");
        self.history.kill(worker);
        self.count("workers killed at rest");
    }

    /// All come back for what there is left. Then each has had, or was told of, all that there was.
    fn end(mut self) {
        tell!("the end");
        self.is_over = true;
        self.history.settle();
        for number in 0..self.visitors.len() {
            self.come_to_the_end(number);
            let visitor = &self.visitors[number];
            let (messages, holes) = (visitor.messages(), visitor.holes());
            *self.counts.entry("messages had".to_owned()).or_default() += messages as u64;
            *self.counts.entry("messages told of, and never had".to_owned()).or_default() +=
                holes as u64;
        }
        for (what, count) in [("evicted", self.ledger.evicted), ("expired", self.ledger.expired)] {
            *self.counts.entry(format!("messages {what}")).or_default() += count;
        }
        self.history.end();
    }

    fn come_to_the_end(&mut self, number: usize) {
        if let Some(client) = &self.visitors[number].client {
            self.history.workers[client.worker].end_request(client, End::Vanished);
        }
        self.take_in(None);
        self.finish();
        let late = self.history.ground.late.borrow().clone();
        for _ in 0..100 {
            let before = self.visitors[number].place;
            if before.is_none() {
                return;
            }
            let has_cursors = self.rng.chance(70);
            let worker = late.iter().position(|late| *late == 0).expect("one is right");
            let client = if has_cursors {
                Client::with_cursors(Kind::Poll(false), worker)
            } else {
                Client::new(Kind::Poll(false), worker)
            };
            let by = if has_cursors { By::Cursor } else { By::Time };
            self.let_in(number, client, by);
            self.history.settle();
            let client = self.visitors[number].client.clone().expect("it is there");
            assert!(!client.has_lagged.get(), "a message is gone while nothing happens");
            self.finish();
            if self.visitors[number].place == before {
                let visitor = &self.visitors[number];
                return visitor.check(self.ledger.place, &self.ledger);
            }
        }
        panic!("it does not come to an end");
    }
}

/// What a client has got, for a reader of the story.
fn shown(items: &[Item]) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let one = |item: &Item| match item {
        Item::Message { channel, id, .. } => format!("{}:{id}", text(channel)),
        Item::Id(Cursor { time, tag, .. }) => format!("id {time}:{tag}"),
        Item::Notice { channel } => format!("{} is deleted", text(channel)),
        Item::Gap(told) => text(told),
        other => format!("{other:?}").to_lowercase(),
    };
    items.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// What is to be counted about the end of a request.
fn ended(client: &Client) -> Option<&'static str> {
    match client.reason()? {
        Reason::Slow if !client.kind.is_poll() => Some("streams cut off because they are slow"),
        Reason::Ttl if client.kind.is_poll() => Some("polls that waited for nothing"),
        _ => None,
    }
}

#[test]
fn histories() {
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let only = number("PUSH_STREAM_SIM_SEED");
    let count = 300 + number("PUSH_STREAM_SIM_SEEDS").unwrap_or(0);
    let mut counts = Counts::new();
    let seeds = only.map_or(0..count, |seed| seed..seed + 1);
    for seed in seeds.clone() {
        let run = AssertUnwindSafe(|| run(seed, &mut counts));
        if let Err(panic) = catch_unwind(run) {
            for line in STORY.take() {
                eprintln!("{line}");
            }
            eprintln!("PUSH_STREAM_SIM_SEED={seed}");
            resume_unwind(panic);
        }
    }
    println!("{:>9} histories", seeds.end - seeds.start);
    for (what, count) in &counts {
        println!("{count:>9} {what}");
    }
    if only.is_none() {
        let ways = By::ALL.map(|by| format!("came by {by:?}"));
        let kinds = Kind::ALL.map(|kind| format!("came as {kind:?}"));
        let others = HAPPENS.map(str::to_owned);
        for what in ways.iter().chain(&kinds).chain(&others) {
            assert!(counts.contains_key(what), "never: {what}");
        }
    }
}
