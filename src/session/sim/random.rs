//! Histories drawn from a seed: workers, publishers and clients do what they like, connections block, are
//! lost and vanish, work panics, and after each step everybody has what it should have.
//!
//! `PUSH_STREAM_SIM_SEEDS=N` runs N more seeds, `PUSH_STREAM_SIM_SEED=S` that one alone. A failure names its
//! seed.

use core::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::client::{Client, Item, Kind, Log, Name, Published, Subscription, event_id, frame};
use super::history::History;
use super::link::{End, Fault, fail_rendering, set_portion};
use crate::hub::Tick;
use crate::hub::sim::LIFE;
use crate::hub::sim::rng::Rng;
use crate::model::{Cursor, Latest, Now, Since};
use crate::session::link::{Slow, Way};
use crate::wire::frame::Opcode;
use crate::wire::resume::Announced;

const STEPS: usize = 250;
/// Seeds beyond the first ones that have found something.
const KEPT: [u64; 4] = [199, 1016, 5584, 7564];
const CHANNELS: [&[u8]; 5] = [b"a", b"b", b"c", b"d", b"e"];

/// A client that polls again and again, from where its last answer ended.
struct Reader {
    channels: Vec<Vec<u8>>,
    place: Announced,
    poll: Option<Rc<Client>>,
    /// The ids that it has had, of each channel.
    had: BTreeMap<Name, Vec<i64>>,
}

/// A client that comes back again and again, in whatever mode, from the last place that it was told.
struct Returner {
    channels: Vec<Vec<u8>>,
    place: Option<Cursor>,
    /// The event id of the message at that place, if it is known.
    event_id: Option<Vec<u8>>,
    client: Option<Rc<Client>>,
    /// The last message that it has had of each channel, `None` if that cannot be known. Channels that have
    /// come since have none.
    had: BTreeMap<Name, Option<i64>>,
    /// What it is told of the messages that it misses: the number of its subscription, the id at its place, and
    /// how many are missing.
    counted: Vec<(usize, u64, u64)>,
    /// So many messages behind it were skipped, at the most.
    skipped: BTreeMap<Name, i64>,
}

struct Random {
    history: History,
    rng: Rc<RefCell<Rng>>,
    readers: Vec<Reader>,
    returners: Vec<Returner>,
    /// How often something goes wrong, of 10,000 calls.
    faults: usize,
    label: usize,
}

fn run(seed: u64) {
    let mut rng = Rng::seeded(seed);
    let workers = 2 + rng.below(4);
    let len = *rng.pick(&[192, 256, 512, 1024]) * 1024;
    let faults = *rng.pick(&[0, 0, 20, 100, 400]);
    let history = History::new(len, workers);
    history.ground.batches_max.set(*rng.pick(&[1, 1, 2, 16]));
    if rng.chance(40) {
        let late = rng.below(workers);
        history.ground.late.borrow_mut()[late] = 1;
    }
    set_portion(*rng.pick(&[None, Some((100, 2)), Some((1000, 3)), Some((5000, 20))]));
    let rng = Rc::new(RefCell::new(rng));
    let mut random =
        Random { history, rng, readers: Vec::new(), returners: Vec::new(), faults, label: 0 };
    random.change_rules();
    for _ in 0..random.below(4) {
        let channels = random.some_channels();
        let place = Announced { time: 0, tag: Some(0) };
        random.readers.push(Reader { channels, place, poll: None, had: BTreeMap::new() });
    }
    for _ in 0..random.below(4) {
        let channels = random.some_channels();
        let (had, skipped) = (BTreeMap::new(), BTreeMap::new());
        random.returners.push(Returner {
            channels,
            place: None,
            event_id: None,
            client: None,
            had,
            skipped,
            counted: vec![],
        });
    }
    random.run();
}

impl Random {
    fn below(&self, n: usize) -> usize {
        self.rng.borrow_mut().below(n)
    }

    fn chance(&self, percent: usize) -> bool {
        self.rng.borrow_mut().chance(percent)
    }

    fn pick<T: Clone>(&self, all: &[T]) -> T {
        self.rng.borrow_mut().pick(all).clone()
    }

    fn run(mut self) {
        for step in 0..STEPS {
            self.step();
            fail_rendering(None);
            if step % 5 == 0 {
                self.history.check();
            }
        }
        self.settle();
        self.history.end();
    }

    fn step(&mut self) {
        if self.faults > 0 && self.chance(4) {
            fail_rendering(Some(self.below(6)));
        }
        match self.below(100) {
            0..22 => self.publish(),
            22..34 => self.subscribe(),
            34..37 => self.poll(),
            37..40 => self.come_back(),
            40..62 => self.event(),
            62..72 => self.grant(),
            72..79 => self.client_acts(),
            79..82 => self.delete(),
            82..84 => self.vanish(),
            84..89 => self.history.advance(self.pick(&[0, 10, 300, 1000, 3000])),
            89..91 => self.tick(),
            91..93 => self.time_out(),
            93 => self.change_rules(),
            94 => self.history.replace(self.worker()),
            95 => self.history.kill(self.worker()),
            96 => self.settle(),
            _ => self.history.run_all(),
        }
    }

    fn change_rules(&self) {
        let rules = &mut self.history.ground.world.borrow_mut().rules;
        rules.message_ttl_secs = self.pick(&[5, 20, 300]);
        rules.stored_max = self.pick(&[None, None, Some(3), Some(20)]);
        rules.subscribers_max = self.pick(&[None, None, None, Some(4)]);
    }

    fn some_channels(&self) -> Vec<Vec<u8>> {
        let mut channels = Vec::new();
        for _ in 0..self.pick(&[1, 1, 2, 3]) {
            let channel = self.pick(&CHANNELS).to_vec();
            if !channels.contains(&channel) {
                channels.push(channel);
            }
        }
        channels
    }

    /// Letters that nobody mistakes for a framing.
    fn text(&mut self) -> Vec<u8> {
        self.label += 1;
        let len = match self.below(100) {
            0..70 => self.below(40),
            70..95 => self.below(2000),
            _ => self.below(40_000),
        };
        let mut text = format!("{}x", self.label).into_bytes();
        let seed = self.label;
        text.extend((0..len).map(|at| b'a' + ((at * seed) % 26) as u8));
        text
    }

    fn worker(&self) -> usize {
        self.below(self.history.workers.len())
    }

    fn publish(&mut self) {
        let burst = if self.chance(10) { 30 } else { 1 };
        for _ in 0..burst {
            let channels = self.some_channels();
            let channels: Vec<&[u8]> = channels.iter().map(Vec::as_slice).collect();
            let text = self.text();
            let (worker, is_stored) = (self.worker(), self.chance(70));
            // A full zone refuses, which is right.
            let _ = self.history.ground.publish(worker, &channels, &text, is_stored);
        }
    }

    fn client(&self, kind: Kind) -> Client {
        self.unsure(Client::new(kind, self.worker()))
    }

    /// Its connection does as it likes.
    fn unsure(&self, client: Client) -> Client {
        let link = &client.link;
        link.buffered_max.set(self.pick(&[500, 5000, 50_000, usize::MAX]));
        let (skips, tells) = (self.chance(50), client.has_cursors || self.chance(80));
        link.slow.set(if skips { Slow::Skip { tells } } else { Slow::Disconnect });
        link.room.set(self.pick(&[usize::MAX, usize::MAX, 0, 1, 40, 3000]));
        let plain = self.pick(&[[true, true, true], [true, false, true], [false, false, false]]);
        link.plain.borrow_mut().extend(plain);
        let (rng, faults) = (Rc::clone(&self.rng), self.faults);
        link.fails(move |_| {
            let mut rng = rng.borrow_mut();
            (rng.below(10_000) < faults).then(|| match rng.below(100) {
                0..40 => Fault::Block,
                40..85 => Fault::Take(rng.below(300)),
                85..90 => Fault::Lose,
                90..95 => Fault::Vanish,
                _ => Fault::Panic,
            })
        });
        client
    }

    fn subscribe(&mut self) {
        let kind = self.pick(&[
            Kind::Stream(Way::Direct),
            Kind::Stream(Way::Filtered),
            Kind::EventSource(Way::Direct),
            Kind::EventSource(Way::Filtered),
            Kind::WebSocket,
            Kind::WebSocket,
        ]);
        let channels = self.some_channels();
        let backtrack = self.pick(&[None, None, Some(2), Some(100)]);
        let channels: Vec<_> = channels.iter().map(|id| (id.as_slice(), backtrack)).collect();
        let time = self.chance(30).then_some(0);
        let client = self.client(kind);
        self.history.request(client, &channels, Since { time, ..Since::default() });
    }

    /// A reader asks, if its last request has ended.
    fn poll(&mut self) {
        if self.readers.is_empty() {
            return;
        }
        let number = self.below(self.readers.len());
        if !self.readers[number].take_answer() {
            return;
        }
        let callback = self.chance(30);
        let kind = if self.chance(70) { Kind::LongPoll(callback) } else { Kind::Poll(callback) };
        let client = self.client(kind);
        self.ask(number, client);
    }

    fn ask(&mut self, number: usize, client: Client) {
        let Self { history, readers, .. } = self;
        let reader = &mut readers[number];
        let channels: Vec<_> = reader.channels.iter().map(|id| (id.as_slice(), None)).collect();
        let Announced { time, tag } = reader.place;
        let since = Since { time: Some(time), tag, ..Since::default() };
        reader.poll = Some(history.request(client, &channels, since));
    }

    /// One who has gone comes back.
    fn come_back(&mut self) {
        if self.returners.is_empty() {
            return;
        }
        let number = self.below(self.returners.len());
        let kind = self.pick(&Kind::ALL);
        let worker = self.worker();
        if !self.returners[number].take_items(&self.history.ground.log.borrow()) {
            return;
        }
        let client = self.unsure(Client::with_cursors(kind, worker));
        if self.chance(50) {
            self.returners[number].event_id = None;
        }
        self.come(number, client);
    }

    fn come(&mut self, number: usize, client: Client) {
        let Self { history, returners, .. } = self;
        let returner = &mut returners[number];
        let channels: Vec<_> = returner.channels.iter().map(|id| (id.as_slice(), None)).collect();
        let event_id = returner.event_id.take();
        let cursor = returner.place.filter(|_| event_id.is_none());
        let since = Since { cursor, event_id: event_id.as_deref(), ..Since::default() };
        let client = history.request(client, &channels, since);
        let is_first = returner.place.is_none();
        returner.counted.clear();
        for (channel, _, count) in &*client.missing.borrow() {
            let number = client.number_of(channel).expect("a channel of it");
            let name = client.subscriptions.borrow()[number].channel.clone();
            if let (Some(count), Some(place)) = (*count, returner.place) {
                let log = history.ground.log.borrow();
                returner.counted.push((number, up_to(&place, log.get(&name)), count));
            }
        }
        if is_first || client.gap.get().is_some() {
            let subscriptions = client.subscriptions.borrow();
            for had in returner.had.values_mut() {
                *had = None;
            }
            for Subscription { channel, after } in &*subscriptions {
                let after = Some(*after as i64).filter(|_| is_first);
                returner.had.insert(channel.clone(), after);
            }
        }
        returner.client = Some(client);
    }

    /// All returners have had all that there is, each once and in order.
    fn check_returners(&mut self) {
        for number in 0..self.returners.len() {
            let client = self.returners[number].client.as_ref();
            if let Some(client) = client.filter(|client| !client.link.has_ended()) {
                self.history.workers[client.worker].end_request(client, End::Vanished);
            }
            assert!(
                self.returners[number].take_items(&self.history.ground.log.borrow()),
                "it has gone"
            );
            for _ in 0..1000 {
                let place = self.returners[number].place;
                let worker = self.punctual();
                self.come(number, Client::with_cursors(Kind::Poll(false), worker));
                self.history.settle();
                let returner = &mut self.returners[number];
                let client = Rc::clone(returner.client.as_ref().expect("it is there"));
                assert!(
                    returner.take_items(&self.history.ground.log.borrow()),
                    "a poll is answered at once"
                );
                if place.is_some() && returner.place == place {
                    for Subscription { channel, after } in &*client.subscriptions.borrow() {
                        let had = returner.had.get(channel).copied().unwrap_or(Some(0));
                        let skipped = returner.skipped.get(channel).map_or(0, |skipped| *skipped);
                        let has_all =
                            had.is_none_or(|had| (had..=had + skipped).contains(&(*after as i64)));
                        assert!(has_all, "{channel:?}: it has had {had:?} of {after}");
                    }
                    break;
                }
            }
        }
    }

    fn event(&self) {
        let events = self.history.events();
        if let Some(event) = events.get(self.below(events.len())) {
            self.history.run(event);
        }
    }

    /// Clients that are there.
    fn some_client(&self) -> Option<Rc<Client>> {
        let there = self.history.clients.iter().filter(|client| !client.link.has_ended());
        let there: Vec<_> = there.collect();
        there.get(self.below(there.len())).map(|client| Rc::clone(client))
    }

    fn grant(&self) {
        let Some(client) = self.some_client() else { return };
        let room = self.pick(&[1, 3, 100, 5000, usize::MAX, usize::MAX]);
        client.link.room.set(client.link.room.get().saturating_add(room));
    }

    fn client_acts(&mut self) {
        let Some(client) = self.some_client() else { return };
        if client.kind != Kind::WebSocket || self.chance(5) {
            client.link.has_hung_up.set(self.chance(20) || client.link.has_hung_up.get());
            return;
        }
        let bytes = match self.below(20) {
            0..6 => {
                let text = self.text();
                frame(Opcode::Text, &text[..text.len().min(3000)])
            }
            6..10 => frame(Opcode::Ping, b"hello"),
            10 => {
                client.has_closed.set(true);
                frame(Opcode::Close, b"")
            }
            11 => {
                client.has_closed.set(true);
                frame(Opcode::Continuation, b"alone")
            }
            12 => frame(Opcode::Pong, b""),
            _ => (0..300).flat_map(|_| frame(Opcode::Ping, b"")).collect(),
        };
        client.link.input.borrow_mut().extend(bytes);
    }

    fn delete(&self) {
        self.history.delete(self.worker(), self.pick(&CHANNELS));
    }

    fn vanish(&self) {
        let Some(client) = self.some_client() else { return };
        self.history.workers[client.worker].end_request(&client, End::Vanished);
    }

    fn tick(&self) {
        let operate = |hub: &mut crate::hub::Hub, rules: &crate::hub::Rules, now: Now| {
            while hub.tick(Tick::Full, rules, now) {}
        };
        self.history.ground.operate(self.worker(), operate);
    }

    fn time_out(&self) {
        let Some(client) = self.some_client() else { return };
        let Some((worker, token)) = self.history.place(&client) else { return };
        if client.link.wants_room.get() && client.link.room.get() == 0 {
            client.was_timed_out.set(true);
            worker.on_writable(token, true);
        }
    }

    /// Everybody has all that there is, and readers get all that is stored.
    fn settle(&mut self) {
        self.history.settle();
        for number in 0..self.readers.len() {
            if !self.readers[number].take_answer() {
                continue;
            }
            loop {
                let place = self.readers[number].place;
                self.ask(number, Client::new(Kind::Poll(false), self.punctual()));
                self.history.settle();
                assert!(self.readers[number].take_answer(), "a poll is answered at once");
                if self.readers[number].place == place {
                    break;
                }
            }
            self.check_reader(number);
        }
        self.check_returners();
    }

    /// A worker whose clock is right: for others, messages are stored a little longer.
    fn punctual(&self) -> usize {
        let late = self.history.ground.late.borrow();
        late.iter().position(|late| *late == 0).expect("one is right")
    }

    /// A reader has had all that is stored.
    fn check_reader(&mut self, number: usize) {
        let channels = self.readers[number].channels.clone();
        let place = Announced { time: 0, tag: Some(0) };
        let all = Reader { channels, place, poll: None, had: BTreeMap::new() };
        self.readers.push(all);
        let last = self.readers.len() - 1;
        self.ask(last, Client::new(Kind::Poll(false), self.punctual()));
        self.history.settle();
        let mut all = self.readers.pop().expect("it is the last");
        assert!(all.take_answer(), "a poll is answered at once");
        for (channel, ids) in all.had {
            let had = self.readers[number].had.get(&channel);
            for id in ids {
                assert!(
                    had.is_some_and(|had| had.contains(&id)),
                    "{channel:?} {id} was never sent"
                );
            }
        }
    }
}

impl Returner {
    /// Looks at what it has got, if its request has ended. `false`: it has not.
    fn take_items(&mut self, log: &Log) -> bool {
        let Some(client) = &self.client else { return true };
        let end = client.link.end();
        if end.is_none() {
            return false;
        }
        let client = self.client.take().expect("it is there");
        let told = match end {
            Some(End::Answered(..) | End::Finished) if client.kind.is_poll() => {
                client.link.place.get()
            }
            // What ends in the middle tells nothing.
            _ if client.kind.is_poll() => return true,
            _ => None,
        };
        let (mut last, mut old) = (self.place, 0);
        for item in client.items() {
            let (channel, id, place) = match item {
                Item::Id(place) => {
                    check_latest(&place, log);
                    (self.place, self.event_id) = (Some(place), None);
                    continue;
                }
                Item::Message { channel, id, text, place } => {
                    self.event_id = event_id(&text).map(<[u8]>::to_vec);
                    (channel, id, place)
                }
                Item::Skipped { channel, missed } => {
                    let number = client.number_of(&channel).expect("a channel of it");
                    let name = client.subscriptions.borrow()[number].channel.clone();
                    *self.skipped.entry(name).or_default() += missed as i64;
                    continue;
                }
                _ => continue,
            };
            let place = place.expect("a cursor");
            check_latest(&place, log);
            let order = |place: Cursor| (place.time, place.tag);
            let is_later = last.is_none_or(|last| order(last) < order(place));
            assert!(is_later, "{place:?} behind {last:?}");
            (last, self.place) = (Some(place), Some(place));
            let number = client.number_of(&channel).expect("a channel of it");
            let Subscription { channel: name, after } =
                client.subscriptions.borrow()[number].clone();
            let is_old = id <= after as i64;
            if is_old {
                old += 1;
            } else {
                self.pass_told(&client);
            }
            let is_told = client.gap.get().is_some() && is_old;
            let skipped = self.skipped.remove(&name).unwrap_or(0);
            let had = self.had.entry(name).or_insert(Some(0));
            let is_next = had.is_none_or(|had| {
                (had + 1..=had + 1 + skipped).contains(&id) || is_told && id > had
            });
            assert!(is_next, "{channel:?}: {id} behind {had:?}, and no gap was told");
            *had = Some(id);
        }
        if let Some(told) = told {
            let place = told.place;
            let told = told.cursor(LIFE);
            check_latest(&told, log);
            assert!(last.is_none_or(|last| (last.time, last.tag) <= place), "{told:?}");
            (self.place, self.event_id) = (Some(told), None);
            self.pass_told(&client);
        }
        // One that was gone before its old messages were read has not been told either.
        let is_told = !client.items().is_empty() || client.kind.is_poll();
        if is_told && old == client.old.borrow().len() && client.unread.borrow().is_empty() {
            // Otherwise it has not been given all that was counted.
            let is_cut = client.has_panicked.get() || client.has_lagged.get();
            let has_all = !is_cut && client.lost.borrow().is_empty();
            let counted = core::mem::take(&mut self.counted);
            for (number, from, count) in counted.into_iter().filter(|_| has_all) {
                let given = client.old.borrow().iter().filter(|(of, _)| *of == number).count();
                let after = client.subscriptions.borrow()[number].after;
                assert_eq!(count + from + given as u64, after, "{number}: {count} are missing");
            }
            self.pass_told(&client);
        } else if client.gap.get().is_some() {
            // What it was told to miss may lie before the place that it comes back with, or behind it.
            self.had.values_mut().for_each(|had| *had = None);
        }
        true
    }

    /// It is told a place behind all old messages. If it was told of a gap, that was one of those it has not
    /// had.
    fn pass_told(&mut self, client: &Client) {
        if client.gap.get().is_none() {
            return;
        }
        for Subscription { channel, after } in &*client.subscriptions.borrow() {
            let had = self.had.entry(channel.clone()).or_insert(None);
            *had = had.map(|had| had.max(*after as i64));
        }
    }
}

/// The message of one channel that a cursor has is the newest one of it up to its place.
fn check_latest(place: &Cursor, log: &Log) {
    let Some(Latest { channel, id }) = place.latest else { return };
    let published = log.iter().find(|((_, created), _)| *created == u64::from(channel));
    assert_eq!(id, up_to(place, published.map(|(_, published)| published)), "{place:?}");
}

/// Id of a channel's newest message up to this place.
fn up_to(place: &Cursor, published: Option<&Vec<Published>>) -> u64 {
    let order = (place.time, place.tag);
    let published = published.map_or(&[][..], Vec::as_slice);
    published.iter().filter(|message| message.place <= order).count() as u64
}

impl Reader {
    /// Looks at the answer, if there is one. `false`: its request has not ended.
    fn take_answer(&mut self) -> bool {
        let Some(poll) = &self.poll else { return true };
        let place = match poll.link.end() {
            None => return false,
            Some(End::Answered(place, _)) => Some(place),
            Some(End::Finished) => poll.link.announced.get(),
            Some(_) => None,
        };
        let poll = self.poll.take().expect("it is there");
        // What ends in the middle tells nothing.
        let Some(place) = place else { return true };
        for item in poll.items() {
            let Item::Message { channel, id, .. } = item else { continue };
            let number = poll.number_of(&channel).expect("a channel of it");
            let name = poll.subscriptions.borrow()[number].channel.clone();
            let had = self.had.entry(name).or_default();
            assert!(had.last().is_none_or(|last| *last < id), "{id} behind {had:?} {place:?}");
            had.push(id);
        }
        self.place = place;
        true
    }
}

#[test]
fn histories() {
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    if let Some(seed) = number("PUSH_STREAM_SIM_SEED") {
        return run(seed);
    }
    let first = 0..100 + number("PUSH_STREAM_SIM_SEEDS").unwrap_or(0);
    for seed in first.chain(KEPT) {
        if let Err(panic) = std::panic::catch_unwind(|| run(seed)) {
            eprintln!("PUSH_STREAM_SIM_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}
