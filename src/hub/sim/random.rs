//! Random histories, from a seed or a fuzzer's input: workers publish, subscribe, deliver, delete, sweep,
//! start, end, panic, and die at any store. After each step the zone must be what a naive model says.
//!
//! `PUSH_STREAM_SIM_SEEDS=N` runs N more seeds, `PUSH_STREAM_SIM_SEED=S` only that one. A failure prints
//! its seed. `fuzz/fuzz_targets/store_ops.rs` supplies the inputs.
//!
//! Proves promises.md: order-and-number, deaths-and-changes.

use std::collections::BTreeMap;

use super::model::{
    Channel, Count, Effects, Id, Lying, Model, Posted, Real, Verdict, judged, judged_unseen, look,
    missing, named, selected,
};
use super::rng::Rng;
use super::{Death, SEATS, World};
use crate::hub::sim::LIFE;
use crate::hub::{Hub, Missing, News, Post, Refusal, Rules, Stay, Subscribe, Tick};
use crate::model::{Cursor, Gap, Latest, Now, Seconds, Since, Token};

mod backlog;

use backlog::Pending;

/// At most so many workers live.
const WORKERS: usize = 5;
const STEPS: usize = 400;
/// A worker knows the time of its last wake-up: this one publishes by a clock that is so much behind.
const LATE_WORKER: usize = 0;
pub(super) const LATE_SECS: Seconds = 1;
/// A section looks at fewer records than this, since others wait meanwhile.
const LOOKS_MAX: u64 = 500;
/// Times to live: as many as there are queues, so that all messages expire in order.
const TTLS: [Seconds; 4] = [5, 20, 60, 300];

/// One subscription of a subscriber.
struct Subscription {
    /// Index of the channel in the model.
    channel: usize,
    /// Id of the next message that it must get.
    next: u64,
    ended: bool,
}

struct Subscriber {
    worker: usize,
    announced: bool,
    subscriptions: Vec<Subscription>,
    /// How many of its subscriptions have ended, as it was told after their notices.
    ends: usize,
}

/// What a subscriber asks for.
struct Asked<'a> {
    since: Since<'a>,
    /// Where it begins in the channels that do not have its event id.
    elsewhere: Option<(Seconds, u64)>,
    is_ordered: bool,
    cursor: Option<Cursor>,
}

impl<'a> Asked<'a> {
    /// What counts in this channel.
    fn since_in(&self, channel: &Channel, stored: &[Lying]) -> Since<'a> {
        let is_named = named(channel, stored, &self.since) != Ok(None);
        self.elsewhere.filter(|_| self.is_ordered && !is_named).map_or(self.since, at)
    }

    fn judged(&self, channel: &Channel, stored: &[Lying], now: Now) -> Verdict {
        match self.elsewhere {
            Some(place) if !self.is_ordered && named(channel, stored, &self.since) == Ok(None) => {
                judged_unseen(channel, place)
            }
            _ => judged(channel, stored, &self.since_in(channel, stored), now),
        }
    }
}

fn at<'a>((time, tag): (Seconds, u64)) -> Since<'a> {
    Since { time: Some(time), tag: Some(tag), ..Since::default() }
}

/// The place of the first of these messages that has the event id.
fn first_named(stored: &[Lying], since: &Since<'_>) -> Option<(Seconds, u64)> {
    let is_named = |m: &&Lying| since.event_id.is_some() && m.event_id.as_deref() == since.event_id;
    stored.iter().find(is_named).map(|message| (message.time, message.tag))
}

struct Sim {
    rng: Rng,
    world: World,
    model: Model,
    subscribers: BTreeMap<Token, Subscriber>,
    pending: Vec<Pending>,
    /// Workers that were woken.
    awake: [bool; WORKERS],
    /// A worker died, and nobody has cleaned its seat yet.
    unrecovered: bool,
    /// The possible effects of operations since the model was compared last.
    effects: Effects,
    label: u64,
    ids: Vec<Id>,
    /// All workers listen to the same few channels, so that a publisher cannot tell all in one section.
    is_crowd: bool,
}

/// Runs the history that these numbers decide. Panics if anything is wrong.
pub(in crate::hub) fn run(rng: Rng) {
    Sim::new(rng).run();
}

impl Sim {
    fn new(mut rng: Rng) -> Self {
        let lens: &[usize] = &[128, 128, 256, 512];
        let len = *rng.pick(lens) * 1024;
        let mut world = World::new(len, 3);
        world.workers.resize_with(WORKERS, || None);
        world.rules.wildcard_prefix = b"w_".to_vec();
        if rng.chance(30) {
            world.rules.events_channel = b"events".to_vec();
        }
        let mut ids: Vec<Id> = (0..8).map(|n| format!("c{n}").into_bytes()).collect();
        ids.extend([b"w_1".to_vec(), b"w_2".to_vec(), vec![b'l'; 700]]);
        let is_crowd = rng.chance(25);
        if is_crowd {
            ids.truncate(3);
        }
        let mut sim = Self {
            rng,
            world,
            model: Model::default(),
            subscribers: BTreeMap::new(),
            pending: Vec::new(),
            awake: [false; WORKERS],
            unrecovered: false,
            effects: Effects::default(),
            label: 0,
            ids,
            is_crowd,
        };
        sim.change_rules();
        for worker in sim.living() {
            sim.configure(worker);
        }
        sim.compare();
        if is_crowd {
            (0..WORKERS).for_each(|worker| sim.join_crowd(worker));
        }
        sim
    }

    fn join_crowd(&mut self, worker: usize) {
        if self.world.workers[worker].is_none() {
            self.respawn(worker);
            self.compare();
        }
        self.world.rules.subscribers_max = None;
        self.world.rules.channels_max = None;
        self.subscribe_to(worker, self.ids.clone(), Stay::Live, None);
        self.compare();
    }

    fn run(mut self) {
        for step in 0..STEPS {
            if self.rng.is_spent() {
                break;
            }
            self.step();
            if step % 7 == 0 {
                self.world.check("at rest");
            }
        }
        self.settle();
        let left = self.world.drain();
        let mut pristine = World::new(self.world.len(), WORKERS);
        assert_eq!(left, pristine.drain(), "something leaked");
    }

    fn step(&mut self) {
        if self.is_crowd && self.rng.chance(20) {
            (0..WORKERS).for_each(|place| self.spawn(place));
        }
        let living = self.living();
        let worker = *self.rng.pick(&living);
        let death = self.rng.chance(15).then(|| {
            let bits = self.rng.below(11);
            let moment = self.rng.below(1 << bits) as u64;
            match self.rng.below(10) {
                0..3 => Death::AfterSection(self.rng.below(8) as u64),
                3..5 => Death::Panic(moment),
                _ => Death::AtStore(moment),
            }
        });
        match self.rng.below(100) {
            0..35 => self.publish(worker, death),
            35..47 => self.subscribe(worker, death),
            47..55 => self.read_pending(death),
            55..62 => self.leave(death),
            62..66 => self.delete(worker, death),
            66..80 => self.deliver(death),
            80..85 => self.tick(worker, death),
            85..89 => {
                // Now and then so far that channels become idle.
                let seconds = if self.rng.chance(10) { 40 } else { self.rng.below(8) };
                self.world.now += seconds as Seconds;
            }
            89 => self.set_clock(),
            90..92 => self.change_rules(),
            92..94 => {
                let place = self.rng.below(WORKERS);
                self.spawn(place);
            }
            94 => self.detach(worker, death),
            95 => self.kill(worker),
            96 => self.recover(worker, death),
            97 => self.configure_all(),
            98 => self.wait_for_older(),
            99 if self.is_crowd => self.cut_off(worker),
            _ => self.settle(),
        }
        if self.unrecovered && self.rng.chance(50) {
            self.wait_for_older();
        }
        // Sometimes a worker goes on before the model has looked at what a dead one left.
        if self.unrecovered && self.effects.may_delete.is_empty() && self.rng.chance(30) {
            let living = self.living();
            let worker = *self.rng.pick(&living);
            self.publish_some(worker, None);
        }
        self.compare();
    }

    fn living(&self) -> Vec<usize> {
        (0..WORKERS).filter(|worker| self.world.workers[*worker].is_some()).collect()
    }

    /// Runs `operation` on a worker, which may die or panic in it. `None` if it did.
    fn on<R>(
        &mut self,
        worker: usize,
        death: Option<Death>,
        operation: impl FnOnce(&mut Hub, &Rules, Now) -> R,
    ) -> Option<R> {
        let (rules, now) = (self.world.rules.clone(), self.world.now);
        let result = match death {
            None => Some(operation(self.world.hub(worker), &rules, now)),
            Some(death) => self
                .world
                .run_until(worker, death, |world| operation(world.hub(worker), &rules, now)),
        };
        if result.is_some() {
            self.take_wakes(worker);
        } else {
            self.interrupted(worker);
        }
        result
    }

    fn take_wakes(&mut self, worker: usize) {
        for seat in self.world.hub(worker).take_wakes() {
            assert_ne!(seat as usize, worker, "nobody wakes itself");
            if let Some(awake) = self.awake.get_mut(seat as usize) {
                *awake = true;
            }
        }
        self.awake[worker] |= self.world.hub(worker).has_news();
    }

    /// An operation of this worker was cut off.
    fn interrupted(&mut self, worker: usize) {
        if self.world.workers[worker].is_none() {
            return self.died(worker);
        }
        // It has panicked, perhaps before it woke the others. Their ticks wake them.
        self.take_wakes(worker);
        self.living().into_iter().for_each(|worker| self.awake[worker] = true);
    }

    fn died(&mut self, worker: usize) {
        self.forget(worker);
        self.unrecovered = true;
        if self.living().is_empty() {
            self.respawn(worker);
        }
    }

    fn forget(&mut self, worker: usize) {
        self.subscribers.retain(|_, subscriber| subscriber.worker != worker);
        self.pending.retain(|pending| pending.worker != worker);
        self.awake[worker] = false;
    }

    fn respawn(&mut self, worker: usize) {
        self.world.spawn(worker);
        self.configure(worker);
    }

    fn configure(&mut self, worker: usize) {
        self.on(worker, None, |hub, rules, now| hub.configure(rules, now));
    }

    fn configure_all(&mut self) {
        let events = if self.rng.chance(50) { b"events".to_vec() } else { Vec::new() };
        self.world.rules.events_channel = events;
        for worker in self.living() {
            self.configure(worker);
        }
    }

    /// Somebody sets the system's clock, or sets it right again.
    fn set_clock(&mut self) {
        let now = &mut self.world.now;
        now.wall = now.steady + *self.rng.pick(&[-3600, -5, 0, 0, 5, 3600]);
    }

    fn change_rules(&mut self) {
        let rules = &mut self.world.rules;
        rules.message_ttl_secs = *self.rng.pick(&TTLS);
        rules.stored_max = *self.rng.pick(&[None, None, Some(0), Some(1), Some(5), Some(30)]);
        rules.channels_max = *self.rng.pick(&[None, None, Some(6)]);
        rules.wildcard_channels_max = *self.rng.pick(&[None, Some(1)]);
        rules.subscribers_max = *self.rng.pick(&[None, None, Some(3)]);
    }

    fn some_ids(&mut self) -> Vec<Id> {
        let mut ids = Vec::new();
        for _ in 0..*self.rng.pick(&[1, 1, 1, 2, 3]) {
            let id = self.rng.pick(&self.ids).clone();
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        ids
    }

    fn post(&mut self) -> Posted {
        let len = match self.rng.below(100) {
            0..70 => 1 + self.rng.below(90),
            70..90 => 1 + self.rng.below(3000),
            90..98 => 1 + self.rng.below(20_000),
            _ => 1 + self.rng.below(self.world.len()),
        };
        self.label += 1;
        let event_id = match self.rng.below(4) {
            0 => Some(format!("e{}", self.rng.below(6)).into_bytes()),
            1 => Some(Vec::new()),
            _ => None,
        };
        let text = self.rng.text(self.label, len);
        Posted { event_id, text, store: self.rng.chance(70) }
    }

    fn publish(&mut self, worker: usize, death: Option<Death>) {
        let burst = if death.is_none() && self.rng.chance(10) { 20 } else { 1 };
        for _ in 0..burst {
            self.publish_some(worker, death);
            if burst > 1 {
                self.sync();
            }
        }
    }

    fn publish_some(&mut self, worker: usize, death: Option<Death>) {
        let ids = self.some_ids();
        let posted = self.post();
        let channels: Vec<&[u8]> = ids.iter().map(Vec::as_slice).collect();
        let (head, tail) = posted.text.split_at(posted.text.len() / 2);
        let body = [head, tail];
        let post = Post {
            event_id: posted.event_id.as_deref(),
            event_type: None,
            body: &body,
            binary: false,
            store: posted.store,
            may_be_empty: false,
            ..Post::default()
        };
        let late = if worker == LATE_WORKER { LATE_SECS } else { 0 };
        let outcome = self.on(worker, death, |hub, rules, now| {
            let now = Now { steady: now.steady - late, ..now };
            hub.publish(&channels, &post, rules, now)
        });
        self.refused_rightly(&ids, outcome.and_then(Result::err));
        let done = outcome.map(|outcome| outcome.is_ok());
        for id in ids {
            if done != Some(false) {
                self.effects.published.push((id.clone(), posted.clone(), done.is_some()));
                self.effects.may_create.insert(id.clone());
            }
            if done == Some(true) {
                self.effects.created.insert(id);
            }
        }
    }

    /// Is this refusal what the rules say?
    fn refused_rightly(&self, ids: &[Id], refusal: Option<Refusal>) {
        let rules = &self.world.rules;
        let there = |wildcard: bool| {
            self.model.live.keys().filter(|id| rules.is_wildcard(id) == wildcard).count() as u64
        };
        let new = |wildcard: bool| {
            let all = ids.iter().filter(|id| rules.is_wildcard(id) == wildcard);
            all.filter(|id| !self.model.live.contains_key(*id)).count() as u64
        };
        match refusal {
            None | Some(Refusal::NoMemory { .. }) => {}
            Some(Refusal::TooManyChannels) => {
                let over = |wildcard, max: Option<u64>| {
                    new(wildcard) > 0
                        && max.is_some_and(|max| there(wildcard) + new(wildcard) > max)
                };
                // A dead worker may have created some that the model does not know yet.
                let excused = self.unrecovered;
                assert!(
                    over(false, rules.channels_max)
                        || over(true, rules.wildcard_channels_max)
                        || excused,
                    "refused for too many channels"
                );
            }
            Some(Refusal::TooManySubscribers) => assert!(rules.subscribers_max.is_some()),
            Some(other) => panic!("refused: {other}"),
        }
    }

    fn subscribe(&mut self, worker: usize, death: Option<Death>) {
        let mut ids = self.some_ids();
        if !self.world.rules.events_channel.is_empty() && self.rng.chance(10) {
            ids.push(b"events".to_vec());
        }
        let stay = if self.rng.chance(70) { Stay::Live } else { Stay::No };
        self.subscribe_to(worker, ids, stay, death);
    }

    fn subscribe_to(&mut self, worker: usize, ids: Vec<Id>, stay: Stay, death: Option<Death>) {
        self.sync();
        let backtrack = match self.rng.below(4) {
            0 => Some(1 + self.rng.below(4) as u64),
            1 => Some(100),
            _ => None,
        };
        let event_id = format!("e{}", self.rng.below(6)).into_bytes();
        let stamps: Vec<_> = self.model.channels.iter().flat_map(|c| &c.log).collect();
        let (time, tag) = stamps
            .get(self.rng.below(stamps.len()))
            .map_or((1000, 1), |published| (published.time, published.tag));
        let since = Since {
            time: self.rng.chance(40).then_some(time),
            tag: self.rng.chance(60).then_some(tag),
            event_id: self.rng.chance(30).then_some(event_id.as_slice()),
            cursor: None,
        };
        // The same as a cursor says it; then nothing else counts.
        let cursor = self.rng.chance(30).then(|| self.some_cursor()).flatten();
        let (since, backtrack) = match cursor {
            Some(Cursor { time, tag, .. }) => {
                (Since { time: Some(time), tag: Some(tag), ..Since::default() }, None)
            }
            None => (since, backtrack),
        };
        self.label += 1;
        let token = self.free_token(worker);
        let requested: Vec<(&[u8], Option<u64>)> =
            ids.iter().map(|id| (id.as_slice(), backtrack)).collect();
        let named = cursor.map_or(since, |_| Since { cursor, ..Since::default() });
        let request = Subscribe {
            requested: &requested,
            since: named,
            authorized_only: false,
            wildcard_max: None,
            events_channel_allowed: true,
            stay,
            bounded: stay == Stay::No,
            ordered: self.rng.chance(40),
            form: self.rng.below(3) as u32,
            token,
        };
        let before: Vec<Vec<_>> = ids
            .iter()
            .map(|id| self.model.channel(id).map_or(Vec::new(), |channel| channel.stored.clone()))
            .collect();
        let outcome = self.on(worker, death, |hub, rules, now| hub.subscribe(&request, rules, now));
        let now = self.world.now;
        for id in &ids {
            if let Some(number) = self.model.live.get(id) {
                self.model.channels[*number].tried = now.steady;
            }
        }
        match outcome {
            None => {
                self.effects.may_create.extend(ids);
                self.drop_panicked(worker, token);
            }
            Some(Err(refusal)) => self.refused_rightly(&ids, Some(refusal)),
            Some(Ok(subscribed)) => {
                self.effects.may_create.extend(ids.iter().cloned());
                self.effects.created.extend(ids.iter().cloned());
                self.sync();
                let resumes =
                    backtrack.is_none() && (since.time.is_some() || since.event_id.is_some());
                let fresh: Vec<Vec<_>> = before
                    .iter()
                    .map(|stored| {
                        let fresh = stored.iter().filter(|message| message.expires > now.steady);
                        fresh.cloned().collect()
                    })
                    .collect();
                if resumes {
                    // The model does not know whether some message is there still.
                    if let Ok(elsewhere) = self.named_in(&ids, &before, &since) {
                        let asked = Asked { since, elsewhere, is_ordered: request.ordered, cursor };
                        self.check_gap(&ids, &before, &asked, subscribed.gap());
                        if request.ordered {
                            self.check_missing(&ids, &before, &asked, subscribed.missing());
                        }
                    }
                } else {
                    assert_eq!(subscribed.gap(), None, "it has asked for nothing");
                }
                let places = [&before, &fresh].map(|stored| {
                    let all = stored.iter().filter_map(|stored| first_named(stored, &since));
                    all.min().filter(|_| request.ordered && resumes && since.time.is_none())
                });
                let both = before.iter().zip(&fresh);
                let expected = ids.iter().zip(both).map(|(id, (stored, fresh))| {
                    let both = [(stored, places[0]), (fresh, places[1])].map(|(all, place)| {
                        let since = match place {
                            Some(place) if first_named(all, &since).is_none() => at(place),
                            _ => since,
                        };
                        selected(all, backtrack, &since, now)
                    });
                    (self.model.live[id], both)
                });
                let expected = expected.collect();
                if stay == Stay::Live {
                    let subscriptions = ids.iter().map(|id| {
                        let channel = self.model.live[id];
                        self.model.channels[channel].active = now.steady;
                        let mut next = self.model.channels[channel].log.len() as u64 + 1;
                        if id == b"events" {
                            // The notices about this request come when it is attached.
                            next = 0;
                        }
                        Subscription { channel, next, ended: false }
                    });
                    let subscriptions = subscriptions.collect();
                    let subscriber =
                        Subscriber { worker, announced: false, subscriptions, ends: 0 };
                    self.subscribers.insert(token, subscriber);
                }
                let backtracked = backtrack.is_some();
                let (by_event, then) = (since.event_id.is_some(), now.steady);
                self.pending.push(Pending {
                    worker,
                    token,
                    subscribed,
                    got: Vec::new(),
                    places: Vec::new(),
                    is_ordered: request.ordered,
                    rest: None,
                    first: 0,
                    expected,
                    lived: Vec::new(),
                    backtracked,
                    by_event,
                    then,
                });
                if self.rng.chance(80) {
                    self.read_pending(None);
                }
            }
        }
    }

    /// The place at which a subscriber begins that names nothing but an event id, in the channels that do not
    /// have it. `Err`: the model does not know.
    fn named_in(
        &self,
        ids: &[Id],
        stored: &[Vec<Lying>],
        since: &Since<'_>,
    ) -> Result<Option<(Seconds, u64)>, ()> {
        let mut earliest = None;
        for (id, stored) in ids.iter().zip(stored) {
            let channel = &self.model.channels[self.model.live[id]];
            let place = named(channel, stored, since)?;
            earliest = [earliest, place].into_iter().flatten().min();
        }
        Ok(earliest.filter(|_| since.time.is_none()))
    }

    /// Was the subscriber told rightly whether it misses something? `before`: what its channels stored.
    fn check_gap(&self, ids: &[Id], before: &[Vec<Lying>], asked: &Asked<'_>, told: Option<Gap>) {
        let since = &asked.since;
        let mut is_missing = false;
        for (id, stored) in ids.iter().zip(before) {
            let channel = &self.model.channels[self.model.live[id]];
            // The notices about this very request are in it.
            let open = id == b"events";
            match asked.judged(channel, stored, self.world.now) {
                _ if open => return,
                Verdict::Open => return,
                Verdict::Gap(reasons) => {
                    let is_right = told.is_some_and(|told| reasons.contains(&told));
                    assert!(is_right, "{told:?} instead of one of {reasons:?}: {since:?}");
                    return;
                }
                Verdict::Whole => {}
                Verdict::NoSuchEvent => is_missing = true,
            }
        }
        let expected = is_missing.then_some(Gap::Unknown);
        assert_eq!(told, expected, "{since:?}");
    }

    /// A place behind some message, with the id of that message; sometimes one that is of another channel.
    fn some_cursor(&mut self) -> Option<Cursor> {
        let id = self.rng.pick(&self.ids).clone();
        let (number, log) = {
            let channel = &self.model.channels[*self.model.live.get(&id)?];
            (channel.created as u32, channel.log.len())
        };
        let at = self.rng.below(log.max(1));
        let channel = &self.model.channels[self.model.live[&id]];
        let (time, tag) = channel.log.get(at).map(|published| (published.time, published.tag))?;
        let latest = Latest { channel: number, id: at as u64 + 1 };
        let latest = match self.rng.below(4) {
            0 => None,
            // A channel of the same name, made again since.
            1 => Some(Latest { channel: number + 1000, id: self.rng.below(9) as u64 }),
            _ => Some(latest),
        };
        (time > 0).then_some(Cursor { life: LIFE, time, tag, latest })
    }

    /// Was the subscriber told how much it misses of each channel?
    fn check_missing(
        &self,
        ids: &[Id],
        before: &[Vec<Lying>],
        asked: &Asked<'_>,
        told: &[Missing],
    ) {
        let Asked { since, cursor, .. } = *asked;
        for (id, stored) in ids.iter().zip(before) {
            let channel = &self.model.channels[self.model.live[id]];
            let told = told.iter().find(|missing| *missing.channel == **id);
            match asked.judged(channel, stored, self.world.now) {
                _ if id == b"events" => {}
                Verdict::Open | Verdict::NoSuchEvent => {}
                Verdict::Whole => assert_eq!(told, None, "{since:?}"),
                Verdict::Gap(reasons) => {
                    let told = told.expect("a gap");
                    assert!(reasons.contains(&told.reason), "{told:?} {reasons:?}");
                    let latest = cursor.and_then(|cursor| cursor.latest);
                    let is_known =
                        latest.is_some_and(|latest| channel.created == latest.channel.into());
                    let missing =
                        missing(channel, stored, &asked.since_in(channel, stored), self.world.now);
                    match missing {
                        Count::Open => {}
                        Count::Is(missing) if is_known => assert_eq!(told.count, Some(missing)),
                        Count::Is(missing) => {
                            let is_right = told.count.is_none_or(|count| count == missing);
                            assert!(
                                is_right,
                                "{told:?} instead of {missing}: {since:?} {cursor:?}"
                            );
                        }
                        Count::Unknown => assert_eq!(told.count, None, "{since:?} {cursor:?}"),
                    }
                }
            }
        }
    }

    /// Removes a subscriber, after an operation for it that may have panicked: nobody knows how far that
    /// got.
    fn drop_panicked(&mut self, worker: usize, token: Token) {
        self.subscribers.remove(&token);
        // What is left of its backlog goes with it.
        self.pending.retain(|pending| pending.token != token);
        if self.world.workers[worker].is_some() {
            self.on(worker, None, |hub, rules, now| hub.leave(token, rules, now));
        }
    }

    /// A new token in the first free slot of this worker.
    fn free_token(&self, worker: usize) -> Token {
        let is_taken = |index| {
            let mut all = self.subscribers.iter();
            all.any(|(token, subscriber)| subscriber.worker == worker && token.index() == index)
        };
        let index = (0..).find(|index| !is_taken(*index)).expect("a free slot");
        Token::new(index, self.label as u32)
    }

    fn leave(&mut self, death: Option<Death>) {
        let tokens: Vec<Token> = self.subscribers.keys().copied().collect();
        let Some(token) = tokens.get(self.rng.below(tokens.len())).copied() else { return };
        if self.pending.iter().any(|pending| pending.token == token) {
            return;
        }
        let worker = self.subscribers.remove(&token).expect("it is there").worker;
        self.on(worker, death, |hub, rules, now| hub.leave(token, rules, now));
        self.drop_panicked(worker, token);
    }

    /// While nobody has news, a publisher dies before it has told everybody.
    fn cut_off(&mut self, worker: usize) {
        self.settle();
        let death = Death::AfterSection(1 + self.rng.below(5) as u64);
        self.publish_some(worker, Some(death));
        self.wait_for_older();
    }

    /// Asks the hub about messages that a subscriber must still get, and when they were published.
    fn wait_for_older(&mut self) {
        self.sync();
        let mut due = Vec::new();
        for (token, subscriber) in &self.subscribers {
            for subscription in subscriber.subscriptions.iter().filter(|s| !s.ended) {
                let channel = &self.model.channels[subscription.channel];
                let next = channel.log.get((subscription.next as usize).wrapping_sub(1));
                if let Some(next) = next.filter(|next| next.time > 0)
                    && channel.id != b"events"
                {
                    due.push((*token, subscriber.worker, next.time, next.tag));
                }
            }
        }
        // One question at a time, since the answer tells the workers that do not know yet.
        let Some((token, worker, time, tag)) = due.get(self.rng.below(due.len())).copied() else {
            return;
        };
        let (later, now) = (tag + 1 + self.rng.below(3) as u64, self.world.now);
        let answers = self.on(worker, None, |hub, _, _| {
            (hub.resume_from(token, now).place, hub.has_older(token, (time, later)))
        });
        let (from, has_older) = answers.expect("nobody dies of it");
        assert!(from < (time, tag), "{token:?} would not ask for an older message");
        assert!(has_older, "{token:?} does not know of an older message");
    }

    fn delete(&mut self, worker: usize, death: Option<Death>) {
        self.sync();
        let id = self.rng.pick(&self.ids).clone();
        let own = self.rng.chance(50);
        let configured = self.world.rules.deleted_text.clone();
        let len = 5 + self.rng.below(300);
        let text = if own { self.rng.text(0, len) } else { configured.clone() };
        let there = self.model.live.contains_key(&id);
        let outcome =
            self.on(worker, death, |hub, rules, now| hub.delete(&[&id], &text, rules, now));
        let free = self.world.inventory().free_pages;
        let texts = if free > 4 { vec![text] } else { vec![text, configured] };
        self.effects.may_delete.insert(id.clone(), texts);
        if let Some(deleted) = outcome {
            assert_eq!(deleted == 1, there, "deleted and been there");
            self.effects.deleted.insert(id);
        }
    }

    fn deliver(&mut self, death: Option<Death>) {
        let awake: Vec<usize> = self.living().into_iter().filter(|w| self.awake[*w]).collect();
        if let Some(worker) = awake.get(self.rng.below(awake.len())).copied() {
            let batches = 1 + self.rng.below(4);
            self.deliver_to(worker, death, batches);
        }
    }

    fn deliver_to(&mut self, worker: usize, death: Option<Death>, batches: usize) {
        self.sync();
        let (model, subscribers) = (&self.model, &mut self.subscribers);
        let mut broken = Vec::new();
        // Not with `self.on`: `take` needs other fields of `self`.
        let (rules, now) = (self.world.rules.clone(), self.world.now);
        let mut run = |world: &mut World| {
            let hub = world.hub(worker);
            hub.woken();
            let mut more = true;
            for _ in 0..batches {
                more = hub.deliver(&rules, now, &mut |news| {
                    take(news, model, subscribers, &mut broken);
                });
                if !more {
                    break;
                }
            }
            more
        };
        let outcome = match death {
            None => Some(run(&mut self.world)),
            Some(death) => self.world.run_until(worker, death, run),
        };
        match outcome {
            Some(more) => {
                self.awake[worker] = more;
                self.take_wakes(worker);
            }
            None => self.interrupted(worker),
        }
        for token in broken {
            self.drop_panicked(worker, token);
        }
    }

    fn tick(&mut self, worker: usize, death: Option<Death>) {
        self.read_unread_of(worker);
        self.effects.swept = true;
        let which = if self.rng.chance(70) { Tick::Full } else { Tick::Messages };
        let done = self.on(worker, death, |hub, rules, now| while hub.tick(which, rules, now) {});
        if done.is_some() {
            self.sync();
            self.effects.swept = true;
            let (now, rules) = (self.world.now.steady, &self.world.rules);
            for (id, real) in look(&self.world.open(SEATS)) {
                assert!(real.stored.iter().all(|m| m.expires > now), "swept all that has expired");
                let channel = self.model.channel(&id);
                let active = channel.map_or(now, |channel| channel.active.max(channel.tried));
                let idle = real.stored.is_empty() && real.interests == 0 && id != b"events";
                let due = active + rules.channel_inactivity_secs < now;
                assert!(which != Tick::Full || !idle || !due, "an idle channel is still there");
            }
        }
    }

    fn spawn(&mut self, place: usize) {
        if self.world.workers[place].is_none() {
            self.respawn(place);
            if self.is_crowd {
                self.compare();
                self.join_crowd(place);
            }
        }
    }

    fn detach(&mut self, worker: usize, death: Option<Death>) {
        let death = death.filter(|death| !matches!(death, Death::Panic(_)));
        if self.living().len() == 1 {
            return;
        }
        self.forget(worker);
        let done = self.on(worker, death, |hub, rules, now| hub.detach(rules, now));
        if done.is_some() {
            self.world.workers[worker] = None;
            self.awake[worker] = false;
        }
    }

    fn kill(&mut self, worker: usize) {
        self.world.kill(worker);
        self.died(worker);
    }

    fn recover(&mut self, worker: usize, death: Option<Death>) {
        let alive: Vec<bool> = self.world.workers.iter().map(Option::is_some).collect();
        let is_alive = |pid: u32| alive.get(pid as usize - 101).copied().unwrap_or(false);
        let done = self.on(worker, death, |hub, _, now| hub.recover_dead(now, &is_alive));
        if done.is_some() {
            self.unrecovered = false;
        }
    }

    /// All workers do everything that there is to do. Then every subscriber has all its messages.
    fn settle(&mut self) {
        while !self.pending.is_empty() {
            self.read_pending(None);
        }
        let living = self.living();
        let worker = *self.rng.pick(&living);
        self.recover(worker, None);
        self.tick(worker, None);
        while let Some(worker) = living.iter().find(|worker| self.awake[**worker]) {
            self.deliver_to(*worker, None, 1000);
        }
        self.sync();
        for worker in &living {
            assert!(!self.world.hub(*worker).has_news(), "a sleeping worker has news");
        }
        for (token, subscriber) in &self.subscribers {
            for subscription in &subscriber.subscriptions {
                let channel = &self.model.channels[subscription.channel];
                assert_eq!(channel.deleted.is_some(), subscription.ended, "ended with its channel");
                let all = channel.log.len() as u64 + 1;
                let has_all = subscription.next == all || channel.id == b"events";
                assert!(subscription.ended || has_all, "{token:?} misses messages");
            }
        }
    }

    /// Checks that the channels are as the model says.
    fn sync(&mut self) -> BTreeMap<Id, Real> {
        let effects = std::mem::take(&mut self.effects);
        let store = self.world.open(SEATS);
        store.settle();
        let real = look(&store);
        self.model.reconcile(&real, &effects, &self.world.rules, self.world.now);
        let commons = &store.header().commons;
        let newest = (commons.time.time(), commons.tag.get());
        assert!(newest >= self.model.newest, "time goes back");
        self.model.newest = newest;
        real
    }

    /// Checks that the channels and all figures are as the model says.
    fn compare(&mut self) {
        for worker in self.living() {
            let looks = self.world.hub(worker).store.longest_section.get();
            assert!(looks < LOOKS_MAX, "a section looks at {looks} records");
        }
        let real = self.sync();
        let living = self.living();
        for (id, real) in &real {
            for worker in &living {
                let mine = self.subscribers.values().filter(|s| s.worker == *worker);
                let here = mine.flat_map(|s| &s.subscriptions).filter(|subscription| {
                    !subscription.ended && self.model.live.get(id) == Some(&subscription.channel)
                });
                let figure = real.subscribers.get(&(*worker as u32 + 1)).copied().unwrap_or(0);
                assert_eq!(figure, here.count() as u64, "subscribers of a channel");
            }
        }
        let now = self.world.now;
        let summary = self.world.hub(living[0]).summary(now);
        let Model { published, unsure, .. } = &mut self.model;
        let most = *published + core::mem::take(unsure);
        assert!((*published..=most).contains(&summary.published), "published_messages");
        *published = summary.published;
        for worker in living {
            let pid = 101 + worker as u32;
            let listed = summary.workers.iter().find(|listed| listed.pid == pid);
            let mine = self.subscribers.values().filter(|s| s.worker == worker && s.announced);
            let figure = listed.expect("a live worker is listed").subscribers;
            assert_eq!(figure, mine.count() as u64, "subscribers of a worker");
        }
    }
}

/// Checks what a worker hands out. Subscribers that are told of a panic are added to `broken`.
fn take(
    news: News<'_>,
    model: &Model,
    subscribers: &mut BTreeMap<Token, Subscriber>,
    broken: &mut Vec<Token>,
) {
    match news {
        News::Messages { groups, messages, .. } => {
            for listener in groups.iter().flat_map(|group| &group.listeners) {
                let Some(subscriber) = subscribers.get_mut(&listener.token) else {
                    assert!(broken.contains(&listener.token), "it is subscribed");
                    continue;
                };
                for message in listener.due(messages) {
                    let mut all = subscriber.subscriptions.iter_mut();
                    let subscription = all
                        .find(|s| model.channels[s.channel].id == message.channel)
                        .expect("a message of a channel that it has");
                    assert!(!subscription.ended, "a message after the notice");
                    let channel = &model.channels[subscription.channel];
                    if message.id == crate::model::DELETED_ID {
                        let texts = channel.deleted.as_ref().expect("it was deleted");
                        assert!(texts.iter().any(|text| text == message.text), "the notice's text");
                        let all = channel.log.len() as u64 + 1;
                        assert_eq!(subscription.next, all, "the notice comes after all messages");
                        subscription.ended = true;
                        continue;
                    }
                    let id = message.id as u64;
                    if channel.id == b"events" {
                        assert!(id > subscription.next, "notices in order");
                        subscription.next = id;
                        continue;
                    }
                    assert_eq!(id, subscription.next, "each message once and in order");
                    subscription.next += 1;
                    let published = &channel.log[id as usize - 1];
                    assert!(published.time == message.time || published.time == 0, "its time");
                    let content = published.content.as_ref().expect("not a notice");
                    assert_eq!(content.text, message.text, "its text");
                    assert_eq!(content.event_id.as_deref(), message.event_id, "its event id");
                }
            }
        }
        News::Broken { token, .. } => {
            subscribers.remove(&token);
            broken.push(token);
        }
        News::Ended { token, .. } if broken.contains(&token) => {}
        News::Ended { token, left } => {
            let subscriber = subscribers.get_mut(&token).expect("it was subscribed");
            subscriber.ends += 1;
            let ended = subscriber.subscriptions.iter().filter(|s| s.ended).count();
            assert!(subscriber.ends <= ended, "an end without a notice");
            let others = subscriber.subscriptions.len() - subscriber.ends;
            assert_eq!(left, others, "its other subscriptions");
            if left == 0 {
                subscribers.remove(&token);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    #[test]
    fn histories() {
        let number = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
        if let Some(seed) = number("PUSH_STREAM_SIM_SEED") {
            return run(Rng::seeded(seed));
        }
        // The last ones have found something.
        let first = 0..40 + number("PUSH_STREAM_SIM_SEEDS").unwrap_or(0);
        for seed in first.chain([2062, 2112]) {
            if let Err(panic) = catch_unwind(|| run(Rng::seeded(seed))) {
                eprintln!("PUSH_STREAM_SIM_SEED={seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }

    /// The fuzzer's way: an input of any length is a history.
    #[test]
    fn histories_of_inputs() {
        let mut rng = Rng::seeded(1);
        for len in [0, 1, 7, 60, 900, 6000] {
            let input = rng.text(0, len);
            run(Rng::of_input(&input));
        }
    }
}
