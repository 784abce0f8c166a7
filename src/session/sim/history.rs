//! One history: workers, clients, and what happens to them, step by step.

use core::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

use super::client::{Client, Kind};
use super::ground::Ground;
use super::link::{End, fail_rendering};
use super::worker::Worker;
use crate::hub::sim::{Death, World};
use crate::model::{Now, Since, Token};
use crate::session::audience::{Mode, State};

thread_local! {
    /// What a zone of so many bytes, for so many workers, holds when everything has expired.
    static EMPTY: RefCell<HashMap<(usize, usize), String>> = RefCell::default();
}

/// Bytes of notices and pings that wait for one subscriber.
const NEVER_SKIPPED_MAX: usize = 5000;

/// Something that waits to be done.
#[derive(Clone)]
pub(super) enum Event {
    Deliver(usize),
    GoOn(usize),
    Due(usize),
    Writable(Rc<Client>),
    Readable(Rc<Client>),
}

impl Event {
    /// Whose it is.
    pub(super) fn worker(&self) -> usize {
        match self {
            Self::Deliver(worker) | Self::GoOn(worker) | Self::Due(worker) => *worker,
            Self::Writable(client) | Self::Readable(client) => client.worker,
        }
    }
}

impl core::fmt::Debug for Event {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let what = match self {
            Self::Deliver(_) => "delivers",
            Self::GoOn(_) => "goes on",
            Self::Due(_) => "does what is due",
            Self::Writable(_) => "writes",
            Self::Readable(_) => "reads",
        };
        write!(f, "worker {} {what}", self.worker())
    }
}

pub(super) struct History {
    pub(super) ground: Rc<Ground>,
    pub(super) workers: Vec<Worker>,
    pub(super) clients: Vec<Rc<Client>>,
}

impl History {
    /// A zone of so many bytes and some workers.
    pub(super) fn new(len: usize, workers: usize) -> Self {
        let ground = Ground::new(len, workers);
        // Each of them wakes those that came before.
        for number in 0..workers {
            ground.operate(number, |hub, rules, now| hub.configure(rules, now));
        }
        let workers = (0..workers).map(|number| Worker::new(&ground, number)).collect();
        Self { ground, workers, clients: Vec::new() }
    }

    /// A request to a worker.
    pub(super) fn request(
        &mut self,
        client: Client,
        channels: &[(&[u8], Option<u64>)],
        since: Since<'_>,
    ) -> Rc<Client> {
        let client = self.add(client);
        self.workers[client.worker].open(&client, channels, since);
        client
    }

    /// A client that has not yet asked for anything.
    pub(super) fn add(&mut self, client: Client) -> Rc<Client> {
        let client = Rc::new(client);
        self.clients.push(Rc::clone(&client));
        client
    }

    /// Runs work of a worker that may die in it. `None`: it has died, and another one has taken its place.
    pub(super) fn run_until<R>(
        &mut self,
        worker: usize,
        death: Option<Death>,
        work: impl FnOnce(&mut Self) -> R,
    ) -> Option<R> {
        let Some(death) = death else { return Some(work(self)) };
        self.ground.world.borrow_mut().arm(worker, death);
        match catch_unwind(AssertUnwindSafe(|| work(self))) {
            Ok(result) => {
                self.ground.world.borrow_mut().disarm(worker);
                Some(result)
            }
            Err(panic) if crate::hub::sim::is_killed(&*panic) => {
                self.kill(worker);
                None
            }
            Err(panic) => resume_unwind(panic),
        }
    }

    pub(super) fn publish(&self, worker: usize, channel: &str, text: &str) {
        let published = self.ground.publish(worker, &[channel.as_bytes()], text.as_bytes(), true);
        published.expect("room");
    }

    pub(super) fn delete(&self, worker: usize, channel: &[u8]) -> usize {
        let text = b"gone";
        self.ground.operate(worker, |hub, rules, now| hub.delete(&[channel], text, rules, now))
    }

    /// The time of the zone and of all workers.
    pub(super) fn advance(&self, msec: usize) {
        let now_msec = self.ground.now_msec.get() + msec;
        self.ground.now_msec.set(now_msec);
        let now = &mut self.ground.world.borrow_mut().now;
        let ahead = now.wall - now.steady;
        *now = Now::both(now_msec as i64 / 1000);
        now.wall += ahead;
    }

    /// What the loops of all workers have to do.
    pub(super) fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        let now_msec = self.ground.now_msec.get();
        for worker in &self.workers {
            let number = worker.number;
            events.extend(self.ground.awake.borrow()[number].then_some(Event::Deliver(number)));
            events.extend(worker.goes_on.get().then_some(Event::GoOn(number)));
            let due = worker.audience.next_due_msec();
            events.extend(due.filter(|due| *due <= now_msec).map(|_| Event::Due(number)));
            for client in self.ground.clients_of(number) {
                let link = &client.link;
                if link.wants_room.get() && link.room.get() > 0 {
                    events.push(Event::Writable(Rc::clone(&client)));
                }
                let has_input = !link.input.borrow().is_empty() || link.has_hung_up.get();
                let is_heard = match client.kind {
                    Kind::WebSocket => {
                        link.read_again.get().is_some() || link.wants_input.get() && has_input
                    }
                    _ => link.has_hung_up.get() && self.may_have_left(&client),
                };
                events.extend(is_heard.then_some(Event::Readable(client)));
            }
        }
        events
    }

    fn may_have_left(&self, client: &Client) -> bool {
        let audience = &self.workers[client.worker].audience;
        client.token.get().is_some_and(|token| audience.may_have_left(token))
    }

    pub(super) fn run(&self, event: &Event) {
        match event {
            Event::Deliver(number) => {
                let worker = &self.workers[*number];
                self.ground.awake.borrow_mut()[*number] = false;
                self.ground.operate(*number, |hub, _, _| hub.woken());
                let more = worker.deliver_some();
                self.ground.awake.borrow_mut()[*number] |= more;
                worker.after_event();
            }
            Event::GoOn(number) => {
                let worker = &self.workers[*number];
                worker.goes_on.set(false);
                worker.serve(|audience| audience.go_on(worker));
                worker.after_event();
            }
            Event::Due(number) => {
                let worker = &self.workers[*number];
                let now_msec = self.ground.now_msec.get();
                worker.serve(|audience| audience.work_off_due(worker, now_msec));
                worker.after_event();
            }
            Event::Writable(client) => {
                if let Some((worker, token)) = self.place(client) {
                    worker.on_writable(token, false);
                }
            }
            Event::Readable(client) => {
                let Some((worker, token)) = self.place(client) else { return };
                client.link.read_again.set(None);
                if client.kind == Kind::WebSocket {
                    worker.on_event(|audience| audience.read(worker, token));
                } else {
                    worker.on_hang_up(client, token);
                }
            }
        }
    }

    /// The worker that serves the client, as long as its request has not ended.
    pub(super) fn place(&self, client: &Client) -> Option<(&Worker, Token)> {
        let token = client.token.get().filter(|_| !client.link.has_ended())?;
        Some((&self.workers[client.worker], token))
    }

    /// All is done that there is to do.
    pub(super) fn run_all(&self) {
        for _ in 0..10_000 {
            let events = self.events();
            if events.is_empty() {
                return;
            }
            events.iter().for_each(|event| self.run(event));
        }
        panic!("the work does not end");
    }

    /// A worker does what there is to do, until all its clients have gone.
    pub(super) fn run_until_gone(&self, number: usize) {
        for _ in 0..10_000 {
            if self.ground.clients_of(number).is_empty() {
                return;
            }
            let events = self.events();
            let mine = events.iter().filter(|event| event.worker() == number);
            mine.for_each(|event| self.run(event));
        }
        panic!("a client does not go");
    }

    /// Nothing goes wrong any more, everybody reads, and all is done. Then everybody has all.
    pub(super) fn settle(&self) {
        fail_rendering(None);
        for client in &self.clients {
            client.link.fails(|_| None);
            client.link.room.set(usize::MAX);
        }
        self.run_all();
        self.check();
        for client in &self.clients {
            client.check(&self.ground.log.borrow(), true);
            if let Some((worker, token)) = self.place(client) {
                self.check_complete(client, worker.state(token));
            }
        }
    }

    /// The hub has handed out for it all that was published.
    fn check_complete(&self, client: &Client, state: Option<State>) {
        if client.kind.is_poll() || state != Some(State::Open) {
            return;
        }
        assert!(client.link.input.borrow().is_empty(), "nobody hears what it sends");
        if client.skips() && client.lost.borrow().is_empty() && !client.is_ordered() {
            let audience = &self.workers[client.worker].audience;
            let entry = client.token.get().and_then(|token| audience.entry(token));
            let skipped = entry.expect("it is there").messages_skipped;
            assert_eq!(u64::from(skipped), client.missed(), "messages that it did not get");
        }
        let given = client.given.borrow();
        for (number, subscription) in client.subscriptions.borrow().iter().enumerate() {
            let (id, created) = &subscription.channel;
            let last = given
                .iter()
                .filter(|given| given.channel == number)
                .max_by_key(|given| (given.is_notice, given.id));
            let info = self.ground.operate(client.worker, |hub, _, _| hub.info(id));
            match info.filter(|info| info.created == *created) {
                None => assert!(last.is_some_and(|last| last.is_notice), "it was not told"),
                Some(info) => {
                    let last = last.map_or(subscription.after, |last| last.id as u64);
                    assert_eq!(last, info.published, "it misses messages");
                }
            }
        }
    }

    /// What holds between any two events.
    pub(super) fn check(&self) {
        for worker in &self.workers {
            self.check_records(worker);
            self.check_figures(worker);
        }
        let audit = self.ground.world.borrow().inspect();
        let pinned = audit.kinds.iter().find(|(name, _)| *name == "interests_backlog");
        // One over which reading has panicked is cut off in the next round. It may have read all its channels.
        let is_broken = |client: &&Rc<Client>| {
            let place = self.place(client);
            place.is_some_and(|(worker, token)| worker.state(token) == Some(State::Broken))
        };
        let broken = self.clients.iter().filter(is_broken);
        let broken: usize = broken.map(|client| client.subscriptions.borrow().len()).sum();
        assert!(pinned.expect("a kind").1.count <= broken as u64, "old messages stay pinned");
        let log = self.ground.log.borrow();
        for client in &self.clients {
            client.check(&log, false);
        }
    }

    /// Nobody is forgotten who has something to write, and nobody costs more than was said.
    fn check_records(&self, worker: &Worker) {
        let audience = &worker.audience;
        let (tokens, _) = audience.some_from(0, usize::MAX);
        let clients = self.ground.clients_of(worker.number);
        let known: BTreeSet<Token> =
            clients.iter().filter_map(|client| client.token.get()).collect();
        assert_eq!(tokens.iter().copied().collect::<BTreeSet<_>>(), known, "who is there");
        let goes_on = worker.goes_on.get() || self.ground.awake.borrow()[worker.number];
        let records = &mut *audience.records.borrow_mut();
        let queue: Vec<Token> = records.dirty.iter().copied().collect();
        assert_eq!(queue.iter().collect::<BTreeSet<_>>().len(), queue.len(), "twice in the queue");
        let (reading, answered) = (records.reading.clone(), records.answered.clone());
        assert!(records.ended.is_empty(), "an end that nobody comes to");
        for client in clients {
            let Some(token) = client.token.get() else { continue };
            let subscriber = records.slots.get(token).expect("it is there");
            assert_eq!(subscriber.is_dirty, queue.contains(&token), "its place in the queue");
            let link = &client.link;
            match &subscriber.mode {
                Mode::Poll(poll) => {
                    let waits = answered.contains(&token) && goes_on;
                    let is_broken = subscriber.state == State::Broken && subscriber.is_dirty;
                    assert!(!poll.has_found() || waits || is_broken, "a poll waits for ever");
                }
                Mode::Stream(stream) => {
                    let is_broken = matches!(subscriber.state, State::Broken | State::TooSlow);
                    let has_bytes = stream.outbox.len() + link.held() > 0;
                    let is_over = subscriber.state == State::Ending && stream.unread.is_none();
                    let is_read = link.read_again.get().is_some();
                    if subscriber.is_blocked && !is_broken {
                        assert!(link.wants_room.get(), "it is blocked for ever");
                    } else if is_broken || has_bytes {
                        assert!(subscriber.is_dirty && goes_on, "its bytes wait for ever");
                    } else if stream.unread.is_some() {
                        assert!(reading.contains(&token) && goes_on, "it is read for no more");
                    } else if is_over {
                        assert!(is_read || subscriber.is_dirty && goes_on, "it does not end");
                    }
                    let is_untold = records.skipped.is_untold(token) && stream.unread.is_none();
                    let is_served = is_broken || subscriber.is_blocked || subscriber.is_dirty;
                    assert!(!is_untold || is_served, "a gap is never told");
                    let is_held = records.held.has(token);
                    assert!(!is_held || is_broken || goes_on, "what is held waits for ever");
                    let (waiting, allocated) = (stream.waiting(), stream.allocated());
                    assert!(waiting >= allocated, "{waiting} < {allocated}");
                    let held = records.held.cost(token);
                    let round = client.last_round.get().1;
                    let max = link.buffered_max.get().saturating_add(round);
                    assert!(is_broken || held <= max, "{held} of {max} are held");
                    if client.skips() && subscriber.is_blocked && subscriber.state == State::Open {
                        // What is begun or never skipped, one round, and all that was held.
                        let first = stream.outbox.first_len() + NEVER_SKIPPED_MAX;
                        let max = if client.is_ordered() { max.saturating_mul(2) } else { max };
                        assert!(waiting <= max.saturating_add(first), "{waiting} of {max}");
                    }
                }
            }
        }
    }

    /// Statistics count those who are there, and nobody else.
    fn check_figures(&self, worker: &Worker) {
        let now = self.ground.world.borrow().now;
        let summary = self.ground.operate(worker.number, |hub, _, _| hub.summary(now));
        let pid = 101 + worker.number as u32;
        let figure = summary.workers.iter().find(|listed| listed.pid == pid);
        let figure = figure.map_or(0, |listed| listed.subscribers);
        let counted = worker.counted.borrow();
        assert_eq!(figure, counted.len() as u64, "subscribers in the statistics");
        let records = &mut *worker.audience.records.borrow_mut();
        for client in self.ground.clients_of(worker.number) {
            let Some(token) = client.token.get() else { continue };
            let state = records.slots.get(token).map(|subscriber| subscriber.state);
            if state == Some(State::Open) {
                assert!(counted.contains(&token), "an open subscriber is not counted");
            }
        }
        assert!(counted.iter().all(|token| records.slots.get(*token).is_some()), "one too many");
    }

    /// A worker ends in an orderly way, and another one takes its place.
    pub(super) fn replace(&mut self, number: usize) {
        self.workers[number].exit();
        for client in self.ground.clients_of(number) {
            client.link.fails(|_| None);
            client.link.room.set(usize::MAX);
        }
        self.run_until_gone(number);
        self.take_place(number);
    }

    /// A worker is killed, and its connections with it. Another one takes its place.
    pub(super) fn kill(&mut self, number: usize) {
        self.ground.world.borrow_mut().kill(number);
        self.bury(number);
    }

    /// A worker is dead.
    fn bury(&mut self, number: usize) {
        for client in self.ground.clients_of(number) {
            // It may have died right behind the end of a request.
            if !client.link.has_ended() {
                client.link.close(End::Vanished);
            }
        }
        self.ground.forget_worker(number);
        self.take_place(number);
    }

    fn take_place(&mut self, number: usize) {
        let ground = &self.ground;
        ground.world.borrow_mut().spawn(number);
        ground.operate(number, |hub, rules, now| hub.configure(rules, now));
        self.workers[number] = Worker::new(ground, number);
    }

    /// All workers end. Nothing is left of anybody.
    pub(super) fn end(self) {
        self.settle();
        let there = self.clients.iter().filter(|client| !client.link.has_ended());
        let there: Vec<_> = there.map(Rc::clone).collect();
        for worker in &self.workers {
            worker.exit();
            self.check();
        }
        self.settle();
        for client in there {
            let end = client.link.end().expect("it has ended");
            let is_orderly = matches!(end, End::Finished | End::Closed | End::Answered(..));
            let has_gone = client.link.has_hung_up.get() || client.link.is_lost();
            assert!(is_orderly || has_gone, "{:?}: {end:?}", client.kind);
        }
        for worker in &self.workers {
            let records = &mut *worker.audience.records.borrow_mut();
            assert_eq!(records.wheels.next_msec(), None, "somebody is still due");
            assert!(records.gaps.is_empty(), "a gap of somebody who has gone");
        }
        let mut world = self.ground.world.borrow_mut();
        let left = format!("{:?}", world.drain());
        let empty = EMPTY.with_borrow_mut(|empty| {
            let key = (world.len(), self.workers.len());
            let drained = || format!("{:?}", World::new(key.0, key.1).drain());
            empty.entry(key).or_insert_with(drained).clone()
        });
        assert_eq!(left, empty, "something leaked");
    }
}
