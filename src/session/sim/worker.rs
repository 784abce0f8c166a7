//! Workers over a real hub, as the shell makes them: the same steps for each kind of request and event.
//!
//! What goes from one layer to the other is noted on the way: which messages the hub has handed out for
//! whom. Clients are checked against that, and that against what was published.

use core::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

use super::client::{Client, Given, Kind, SWITCHING, Subscription};
use super::ground::Ground;
use super::link::{End, Injected, SimLink};
use super::solo::depart;
use crate::hub::sim::LIFE;
use crate::hub::{self, Hub, News, Refusal, Rules, Stay, Subscribe, Subscribed};
use crate::model::{DELETED_ID, Delivery, Message, Now, Reached, Seconds, Since, Token};
use crate::session::audience::{Audience, Mode, State};
use crate::session::counts::{self, Change, Tally};
use crate::session::departure::{Cut, Departure, Entry, Reason};
use crate::session::fanout::Fanout;
use crate::session::link::{Host, Lagged, Read, Unpublished};
use crate::session::outbox::Piece;
use crate::session::paging::{self, Portion};
use crate::session::poll::{Poll, Step};
use crate::session::reply::{self, Reply};
use crate::session::stream::{Opening, Times};
use crate::wire::frame;
use crate::wire::jsonp::Callback;
use crate::wire::resume::Announced;
use crate::wire::sse;

/// A message costs no more than this besides its text, wherever it waits.
const MESSAGE_COST_MAX: usize = 1000;

/// A long poll waits for so long.
pub(super) const POLL_MSEC: usize = 5000;

/// One worker. A clone is the same one.
#[derive(Clone)]
pub(super) struct Worker(Rc<Desk>);

pub(super) struct Desk {
    pub(super) ground: Rc<Ground>,
    pub(super) number: usize,
    pub(super) audience: Audience<Worker>,
    pub(super) goes_on: Cell<bool>,
    pub(super) is_exiting: Cell<bool>,
    round: Cell<usize>,
    /// Subscribers that the statistics count.
    pub(super) counted: RefCell<BTreeSet<Token>>,
    /// What the worker's counters in the zone would say.
    tally: RefCell<Tallied>,
    /// The connections of all that were let in.
    let_in: RefCell<Vec<SimLink>>,
    pub(super) too_slow: Cell<usize>,
    /// Messages that the log was told of as skipped.
    pub(super) skipped: Cell<usize>,
}

impl core::ops::Deref for Worker {
    type Target = Desk;

    fn deref(&self) -> &Desk {
        &self.0
    }
}

/// The sums of what was counted.
#[derive(Default)]
struct Tallied {
    entered: u64,
    ended: u64,
    delivered: u64,
    sent_bytes: u64,
    buffered: usize,
}

impl Tally for Tallied {
    fn change(&mut self, change: Change) {
        match change {
            Change::Entered(_) => self.entered += 1,
            Change::Ended(..) => self.ended += 1,
        }
    }

    fn given(&mut self, _: Delivery, given: &counts::Given) {
        self.delivered += given.delivered;
        self.sent_bytes += given.sent_bytes;
    }

    fn buffered(&mut self, bytes: usize) {
        self.buffered = bytes;
    }

    fn written(&mut self, _: counts::Published, _: u64) {}
}

/// Old messages that are still to be read, and whose they are.
pub(super) struct Rest {
    rest: hub::Rest,
    client: Rc<Client>,
}

impl Worker {
    pub(super) fn new(ground: &Rc<Ground>, number: usize) -> Self {
        Self(Rc::new(Desk {
            ground: Rc::clone(ground),
            number,
            audience: Audience::default(),
            goes_on: Cell::new(false),
            is_exiting: Cell::new(false),
            round: Cell::new(0),
            counted: RefCell::default(),
            tally: RefCell::default(),
            let_in: RefCell::default(),
            too_slow: Cell::new(0),
            skipped: Cell::new(0),
        }))
    }

    fn operate<R>(&self, operation: impl FnOnce(&mut Hub, &Rules, Now) -> R) -> R {
        self.ground.operate(self.number, operation)
    }

    /// Serves a new request, for these channels with these backtracks.
    pub(super) fn open(
        &self,
        client: &Rc<Client>,
        channels: &[(&[u8], Option<u64>)],
        since: Since<'_>,
    ) {
        let asked = Asked { worker: self, client, channels, since };
        let opened = catch_unwind(AssertUnwindSafe(|| match client.kind {
            Kind::Poll(_) | Kind::LongPoll(_) => asked.poll(),
            _ => asked.stream(),
        }));
        if let Err(panic) = opened {
            self.has_panicked(panic);
            self.end_request(client, End::Vanished);
            self.audience.at_work.set(None);
        }
        self.after_event();
    }

    /// The server ends the request.
    pub(super) fn end_request(&self, client: &Client, end: End) {
        if let Some(token) = client.token.get() {
            self.audience.forget(self, token);
        }
        self.close(client, end);
    }

    fn close(&self, client: &Client, end: End) {
        if !client.link.has_ended() {
            client.link.close(end);
        }
        if let Some(token) = client.token.get() {
            self.ground.has_ended(self.number, token);
        }
    }

    /// Runs the handler of an event about one subscriber, as the shell does.
    pub(super) fn on_event(&self, work: impl FnOnce(&Audience<Self>)) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(&self.audience))) {
            self.has_panicked(panic);
            self.audience.pass_over(self);
        }
        self.after_event();
    }

    /// Runs work for many subscribers that goes on where it was interrupted.
    pub(super) fn serve(&self, mut work: impl FnMut(&Audience<Self>)) {
        while let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(&self.audience))) {
            self.has_panicked(panic);
            if !self.audience.pass_over(self) {
                return;
            }
        }
    }

    fn has_panicked(&self, panic: Box<dyn core::any::Any + Send>) {
        if !panic.is::<Injected>() {
            resume_unwind(panic);
        }
        let token = self.audience.at_work.get();
        if let Some(client) = token.and_then(|token| self.ground.client(self.number, token)) {
            client.has_panicked.set(true);
        }
    }

    /// Requests end that were to end during the event, and had no chance to.
    pub(super) fn after_event(&self) {
        for client in self.ground.clients_of(self.number) {
            if client.link.is_vanishing() {
                self.end_request(&client, End::Vanished);
            } else if client.link.has_ended() {
                self.close(&client, End::Vanished);
            }
        }
        assert_eq!(self.audience.at_work.get(), None, "nobody is served between two events");
        self.check_counts();
    }

    fn let_in(&self, token: Token, link: &SimLink, delivery: Delivery) {
        self.audience.let_in(token, delivery);
        let is_new = |other: &SimLink| !std::ptr::eq(&raw const **other, &raw const **link);
        if self.let_in.borrow().iter().all(is_new) {
            self.let_in.borrow_mut().push(link.clone());
        }
    }

    /// The counters say what there is.
    fn check_counts(&self) {
        let mut tally = self.tally.borrow_mut();
        self.audience.take_counts(true, &mut *tally);
        let there = self.audience.let_in_now();
        let links = self.let_in.borrow();
        assert_eq!(tally.entered, links.len() as u64, "each is let in once");
        assert_eq!(tally.entered - tally.ended, there.len() as u64, "let in and not ended");
        let ended: u64 = links
            .iter()
            .filter_map(|link| link.entry.get())
            .map(|entry| u64::from(entry.messages_sent))
            .sum();
        let entries = there.iter().filter_map(|token| self.audience.entry(*token));
        let given: u64 = entries.map(|entry| u64::from(entry.messages_sent)).sum();
        assert_eq!(tally.delivered, ended + given + self.audience.taken_back(), "messages given");
        let written: u64 = links.iter().map(|link| link.written.get()).sum();
        assert!(tally.sent_bytes <= written, "no more bytes than were written");
        if links.iter().all(|link| link.end() != Some(End::Vanished)) {
            assert_eq!(tally.sent_bytes, written, "all bytes that were written");
        }
        if let Some(waiting) = self.audience.buffered_now() {
            assert_eq!(tally.buffered, waiting, "bytes that wait");
        }
    }

    /// Hands out a bounded part of what the hub has, and writes to those who get it.
    pub(super) fn deliver_some(&self) -> bool {
        if self.audience.has_dirty() {
            self.go_on_next();
            return true;
        }
        self.round.set(self.round.get() + 1);
        let mut more = true;
        for _ in 0..self.ground.batches_max.get() {
            let world = &mut *self.ground.world.borrow_mut();
            let late = self.ground.late.borrow()[self.number];
            let (rules, now) = (world.rules.clone(), world.now + -late);
            more = world.hub(self.number).deliver(&rules, now, &mut |news| self.take(news));
            self.ground.wake(world.hub(self.number), self.number);
            if !more || self.audience.has_full_turn() {
                break;
            }
        }
        self.serve(|audience| audience.settle_round(self));
        self.serve(|audience| audience.go_on(self));
        more
    }

    fn take(&self, news: News<'_>) {
        match news {
            News::Messages { groups, messages, more, deleted_at } => {
                for listener in groups.iter().flat_map(|group| &group.listeners) {
                    self.note(listener.token, listener.due(messages), deleted_at);
                }
                let now_msec = self.ground.now_msec.get();
                let mut fanout = Fanout::new(groups, messages, deleted_at, more, now_msec);
                self.serve(|audience| fanout.run(audience));
            }
            News::Ended { token, left } => {
                if left == 0 {
                    self.counted.borrow_mut().remove(&token);
                    if let Some(client) = self.ground.client(self.number, token)
                        && self.state(token) == Some(State::Open)
                    {
                        client.lost.borrow_mut().append(&mut client.unread.borrow_mut());
                    }
                }
                self.serve(|audience| audience.unsubscribed(token, left));
            }
            News::Broken { .. } => unreachable!("nothing panics in the hub here"),
        }
    }

    /// Notes what a subscriber is handed out, if it is one that takes it.
    fn note(&self, token: Token, messages: &[Message<'_>], deleted_at: Option<(Seconds, u64)>) {
        let client = self.ground.client(self.number, token).expect("a listener is there");
        let (state, waiting) = self.look(token);
        let held = self.audience.records.borrow().held.cost(token);
        let is_over = waiting.unwrap_or(0).max(held) > client.link.buffered_max.get();
        if is_over && !client.skips() {
            client.was_overfull.set(true);
            return;
        }
        if state != State::Open {
            return;
        }
        let (round, cost) = client.last_round.get();
        let before = if round == self.round.get() { cost } else { 0 };
        let cost: usize =
            messages.iter().map(|message| message.text.len() + MESSAGE_COST_MAX).sum();
        client.last_round.set((self.round.get(), before + cost));
        for message in messages {
            let is_notice = message.id == DELETED_ID;
            let at = deleted_at.filter(|_| is_notice).unwrap_or((message.time, message.tag));
            let number = client.number_of(message.channel).expect("a channel that it has");
            let mut given = client.given.borrow_mut();
            let before = given.iter().rev().find(|given| given.channel == number);
            if !is_notice {
                let after = client.subscriptions.borrow()[number].after as i64;
                let expected = before.map_or(after, |before| before.id) + 1;
                assert_eq!(message.id, expected, "each message once and in order");
            }
            given.push(Given {
                round: self.round.get(),
                time: at.0,
                tag: at.1,
                is_notice,
                channel: number,
                id: message.id,
            });
        }
    }

    pub(super) fn state(&self, token: Token) -> Option<State> {
        Some(self.audience.records.borrow_mut().slots.get(token)?.state)
    }

    /// Its state, and what waits for it if its socket is full.
    fn look(&self, token: Token) -> (State, Option<usize>) {
        let records = &mut *self.audience.records.borrow_mut();
        let subscriber = records.slots.get(token).expect("a listener is there");
        let waiting = match &subscriber.mode {
            Mode::Stream(stream) if subscriber.is_blocked => Some(stream.waiting()),
            _ => None,
        };
        (subscriber.state, waiting)
    }

    /// The socket takes bytes again, or has taken none for too long.
    pub(super) fn on_writable(&self, token: Token, is_timed_out: bool) {
        self.on_event(|audience| {
            if is_timed_out {
                audience.time_out(self, token);
            } else if audience.is_waiting(token) {
                audience.flush(self, token);
            }
        });
    }

    /// The client of a stream or a poll has closed its side.
    pub(super) fn on_hang_up(&self, client: &Client, token: Token) {
        if self.audience.may_have_left(token) {
            self.end_request(client, End::Vanished);
        }
    }

    /// The worker is told to end, and does so in an orderly way.
    pub(super) fn exit(&self) {
        self.is_exiting.set(true);
        let mut from = 0;
        loop {
            let (tokens, next) = self.audience.some_from(from, 3);
            for token in tokens {
                let dismissed = catch_unwind(AssertUnwindSafe(|| {
                    self.audience.dismiss(self, token, Reason::Shutdown);
                }));
                if let Err(panic) = dismissed {
                    self.has_panicked(panic);
                    self.audience.at_work.set(None);
                    self.audience.fail(self, token);
                    self.audience.cut(self, token, Cut::Lost);
                }
                self.after_event();
            }
            let Some(next) = next else { break };
            from = next;
        }
        self.operate(|hub, rules, now| hub.detach(rules, now));
    }
}

/// A new request.
struct Asked<'a> {
    worker: &'a Worker,
    client: &'a Rc<Client>,
    channels: &'a [(&'a [u8], Option<u64>)],
    since: Since<'a>,
}

impl Asked<'_> {
    fn admitted(&self, token: Token) {
        let Self { worker, client, .. } = *self;
        client.token.set(Some(token));
        worker.ground.clients.borrow_mut().insert((worker.number, token), Rc::clone(client));
        let desk = Rc::downgrade(&worker.0);
        client.link.calls_back(move |link, vanishes| {
            let Some(worker) = desk.upgrade().map(Worker) else { return };
            assert!(link.has_ended() || worker.audience.entry(token).is_some(), "no entry");
            if vanishes && !link.has_ended() {
                worker.audience.forget(&worker, token);
                link.close(End::Vanished);
            }
        });
    }

    fn subscribe(
        &self,
        token: Token,
        form: u32,
        stay: Stay,
        bounded: bool,
    ) -> Result<Subscribed, Refusal> {
        let request = Subscribe {
            requested: self.channels,
            since: self.since,
            authorized_only: false,
            wildcard_max: None,
            events_channel_allowed: true,
            stay,
            bounded,
            ordered: self.client.has_cursors,
            form,
            token,
        };
        self.worker.operate(|hub, rules, now| {
            let subscribed = hub.subscribe(&request, rules, now)?;
            self.client.gap.set(subscribed.gap());
            let told = subscribed.missing().iter();
            let told = told.map(|m| (m.channel.to_vec(), m.reason, m.count));
            *self.client.missing.borrow_mut() = told.collect();
            let infos = self.channels.iter().map(|(id, _)| hub.info(id).expect("it exists"));
            let subscriptions = infos.map(|info| Subscription {
                channel: (info.id, info.created),
                after: info.published,
            });
            *self.client.subscriptions.borrow_mut() = subscriptions.collect();
            Ok(subscribed)
        })
    }

    fn has_many_channels(&self) -> bool {
        self.channels.len() > 1
    }

    fn stream(&self) {
        let Self { worker, client, .. } = *self;
        let (audience, link) = (&worker.audience, &client.link);
        let is_websocket = client.kind == Kind::WebSocket;
        let form = audience.form_number(link.layout.form());
        let input = is_websocket.then(Vec::new);
        let token = audience.admit_stream(link.clone(), form, self.has_many_channels(), input);
        self.admitted(token);
        if client.has_cursors {
            audience.put_in_order(token);
        }
        let subscribed = self.subscribe(token, form, Stay::Live, false);
        let frames_chunks = client.kind.way() == crate::session::link::Way::Direct && !is_websocket;
        let mut portion = Portion::new(frames_chunks);
        if is_websocket {
            audience.accept(token, None);
            portion.push_other(|out| out.extend_from_slice(SWITCHING));
        }
        match subscribed {
            Ok(subscribed) => {
                audience.accept(token, None);
                let framing = link.layout.form().framing();
                worker.let_in(token, link, counts::delivery_of(framing));
                portion.push_other(|out| link.layout.open(None, out));
                self.begin(token, portion, subscribed);
            }
            Err(refusal) if is_websocket => {
                let way = client.kind.way();
                audience.open(token, Opening { way, frames_chunks, portion, rest: None });
                let mut frames = Vec::new();
                let explain = refusal.explain().unwrap_or("");
                frame::encode_refusal(refusal.status(), explain, &mut frames);
                audience.end(token, Reason::Refused, Some(frames));
            }
            Err(_) => return worker.end_request(client, End::Refused),
        }
        if let Some(departure) = audience.write_first(worker, token) {
            depart(departure);
        }
        audience.at_work.set(None);
        if is_websocket && !link.has_ended() {
            link.read_again.set(Some(true));
        }
    }

    /// Header and old messages wait to be written, and the subscriber is counted.
    fn begin(&self, token: Token, mut portion: Portion, mut subscribed: Subscribed) {
        let Self { worker, client, .. } = *self;
        let audience = &worker.audience;
        let frames_chunks = portion.is_chunked();
        let form = audience.form_of(token).expect("it is there");
        let mut begins = client.has_cursors && matches!(client.kind, Kind::EventSource(_));
        let mut missing = subscribed.missing().to_vec();
        let begin = subscribed.beginning();
        let mut begin = |portion: &mut Portion, first: Option<&Message<'_>>| {
            let mut gaps = missing.drain(..);
            while let Some(hub::Missing { channel, reason, count }) = gaps.next() {
                let place = begin.at(first.map(Message::reached_before)).cursor(LIFE);
                let place = gaps.as_slice().is_empty().then_some(place);
                portion.push_other(|out| form.gap(&channel, reason, count, place, out));
            }
            drop(gaps);
            if core::mem::take(&mut begins) {
                let place = begin.at(first.map(Message::reached_before)).cursor(LIFE);
                portion.push_other(|out| sse::open(None, Some(&place), out));
            }
        };
        let replayed = worker.operate(|hub, _, now| {
            hub.read_backlog(&mut subscribed, now, &mut |message| {
                note_old(client, message);
                begin(&mut portion, Some(message));
                portion.push(&form, message)
            })
        });
        begin(&mut portion, None);
        let rest = self.rest(replayed.rest);
        audience.open(token, Opening { way: client.kind.way(), frames_chunks, portion, rest });
        if worker.is_exiting.get() {
            worker.leave(token);
            audience.end(token, Reason::Shutdown, None);
        } else {
            worker.operate(|hub, rules, now| hub.announce(token, rules, now));
            worker.counted.borrow_mut().insert(token);
            let times = Times { ping_interval_msec: Some(7000), ttl_msec: Some(60_000) };
            audience.begin_times(token, times, worker.ground.now_msec.get());
        }
    }

    fn rest(&self, rest: Option<hub::Rest>) -> Option<Rest> {
        let rest = rest.map(|rest| Rest { rest, client: Rc::clone(self.client) });
        note_unread(self.client, rest.as_ref());
        rest
    }

    fn poll(&self) {
        let Self { worker, client, since, .. } = *self;
        let audience = &worker.audience;
        let (waits, has_callback) = match client.kind {
            Kind::LongPoll(has_callback) => (true, has_callback),
            Kind::Poll(has_callback) => (false, has_callback),
            _ => panic!("a poll"),
        };
        let callback = has_callback.then(|| Callback::parse(b"cb").expect("a name"));
        let form = audience.form_number(client.link.layout.form());
        let poll = Poll::new(callback.clone(), has_callback, Announced::since(&since));
        let link = client.link.clone();
        let token = audience.admit_poll(link, form, self.has_many_channels(), poll);
        self.admitted(token);
        let stay = if waits { Stay::Live } else { Stay::No };
        let mut looks = 0;
        let end = loop {
            looks += 1;
            let Ok(mut subscribed) = self.subscribe(token, form, stay, true) else {
                break End::Refused;
            };
            audience.accept(token, None);
            let delivery = if waits { Delivery::LongPolling } else { Delivery::Polling };
            worker.let_in(token, &client.link, delivery);
            let mut body = Vec::new();
            let mut reply = Reply::open(&client.link.layout, callback.as_ref(), &mut body);
            let gaps = |place| {
                let missing = subscribed.missing().iter();
                let missing = missing.map(|m| (&*m.channel, m.reason, m.count));
                reply::gaps(&client.link.layout, callback.as_ref(), missing, place)
            };
            let told = gaps(Some(subscribed.place().cursor(LIFE)));
            let before_messages = gaps(None);
            let mut count = 0;
            client.old.borrow_mut().clear();
            let replayed = worker.operate(|hub, _, now| {
                hub.read_backlog(&mut subscribed, now, &mut |message| {
                    if count == 0 {
                        reply.tell(&before_messages, &mut body);
                    }
                    count += 1;
                    note_old(client, message);
                    reply.before_message(&mut body);
                    client.link.layout.form().render(message, &mut body);
                    !paging::is_full(body.len(), count)
                })
            });
            if count == 0 {
                reply.tell(&told, &mut body);
            }
            if replayed.rest.is_none() {
                reply.close(&mut body);
            }
            let mut announced = Announced::since(&since);
            let goes_on = !waits || since.time.is_some() || since.cursor.is_some();
            let is_told = goes_on && !told.is_empty();
            match Step::after(looks, replayed.messages, replayed.held_back, waits, is_told) {
                Step::Answer => {
                    let place = replayed.newest.unwrap_or(subscribed.place());
                    let (time, tag) = place.place;
                    match replayed.newest {
                        Some(_) => announced.contribute(time, tag),
                        None => announced = Announced::message(time, tag),
                    }
                    client.link.place.set(Some(place));
                    client.link.announced.set(Some(announced));
                    let count = replayed.messages as usize;
                    let Some(rest) = self.rest(replayed.rest) else {
                        audience.answered(token, count);
                        break End::Answered(announced, Some(body));
                    };
                    audience.count(token, count);
                    worker.leave(token);
                    let end = callback.map(|callback| {
                        let mut end = Vec::new();
                        callback.close(&mut end);
                        Piece::of(end)
                    });
                    let separator = reply::separator(has_callback.then_some(&CALLBACK));
                    let link = client.link.clone();
                    audience.begin_answer(token, link, Piece::of(body), rest, separator, end);
                    if let Some(departure) = audience.write_first(worker, token) {
                        depart(departure);
                    }
                    return;
                }
                Step::NotModified => {
                    audience.answered(token, 0);
                    client.link.place.set(Some(subscribed.place()));
                    break End::Answered(announced, None);
                }
                Step::LookAgain => worker.leave(token),
                Step::Wait => {
                    let asked_at = subscribed.place();
                    audience.tell(token, told);
                    audience.wait(token, asked_at, Some(POLL_MSEC), worker.ground.now_msec.get());
                    if worker.is_exiting.get() {
                        if let Some(departure) = audience.answer_now(worker, token) {
                            depart(departure);
                        }
                        return;
                    }
                    worker.operate(|hub, rules, now| hub.announce(token, rules, now));
                    worker.counted.borrow_mut().insert(token);
                    return;
                }
            }
        };
        worker.end_request(client, end);
    }
}

static CALLBACK: std::sync::LazyLock<Callback> =
    std::sync::LazyLock::new(|| Callback::parse(b"cb").expect("a name"));

fn note_old(client: &Client, message: &Message<'_>) {
    let number = client.number_of(message.channel).expect("a channel that it has");
    client.old.borrow_mut().push((number, message.id));
}

fn note_unread(client: &Client, rest: Option<&Rest>) {
    let channels = rest.into_iter().flat_map(|rest| rest.rest.channels());
    let numbers = channels.map(|channel| client.number_of(channel).expect("a channel of it"));
    *client.unread.borrow_mut() = numbers.collect();
}

impl Host for Worker {
    type Link = SimLink;
    type Rest = Rest;

    fn leave(&self, token: Token) {
        self.counted.borrow_mut().remove(&token);
        self.operate(|hub, rules, now| hub.leave(token, rules, now));
    }

    fn read_on(
        &self,
        rest: Rest,
        each: &mut dyn FnMut(&Message<'_>) -> bool,
    ) -> Result<Read<Rest>, Lagged> {
        let Rest { rest, client } = rest;
        let read = self.operate(|hub, _, now| {
            hub.read_on(rest, now, &mut |message| {
                note_old(&client, message);
                each(message)
            })
        });
        let (rest, gone, left) = match read {
            Ok(hub::Reading { rest, gone }) => (rest, gone, None),
            Err(hub::Lagged { left, gone }) => (None, gone, Some(left)),
        };
        let number = |channel: &[u8]| client.number_of(channel).expect("of it");
        client.lost.borrow_mut().extend(gone.iter().map(|channel| number(channel)));
        if let Some(left) = left {
            client.has_lagged.set(true);
            note_unread(&client, None);
            let counts = left.iter().map(|(channel, left)| (number(channel), *left));
            client.left.borrow_mut().extend(counts);
            return Err(Lagged { left, gone });
        }
        let rest = rest.map(|rest| Rest { rest, client: Rc::clone(&client) });
        note_unread(&client, rest.as_ref());
        Ok(Read { rest, gone })
    }

    fn park(&self, rest: &mut Rest) {
        self.operate(|hub, _, now| hub.park(&mut rest.rest, now));
    }

    fn channels(rest: &Rest) -> impl Iterator<Item = &[u8]> {
        rest.rest.channels()
    }

    fn has_older(&self, token: Token, order: (Seconds, u64)) -> bool {
        self.operate(|hub, _, _| hub.has_older(token, order))
    }

    fn oldest_unread(&self, token: Token, is_next: bool) -> Option<(Seconds, u64)> {
        self.operate(|hub, _, _| hub.oldest_unread(token, is_next))
    }

    fn resume_from(&self, token: Token) -> Reached {
        self.operate(|hub, _, now| hub.resume_from(token, now))
    }

    fn publish(
        &self,
        _: &SimLink,
        token: Token,
        message: &[u8],
        _: bool,
    ) -> Result<usize, Unpublished> {
        let channels = self.operate(|hub, _, _| hub.channels_of(token));
        if channels.is_empty() {
            return Ok(0);
        }
        let ids: Vec<&[u8]> = channels.iter().map(Vec::as_slice).collect();
        self.ground.publish(self.number, &ids, message, true).map_err(|refusal| match refusal {
            Refusal::NoMemory { .. } => Unpublished::NoMemory,
            _ => {
                let explain = refusal.explain().unwrap_or("");
                Unpublished::Refused { status: refusal.status(), explain }
            }
        })
    }

    fn deliver(&self) {
        self.deliver_some();
    }

    fn has_rounds(&self) -> bool {
        !self.is_exiting.get()
    }

    fn go_on_next(&self) {
        self.goes_on.set(true);
    }

    fn write_down(&self, link: &SimLink, entry: Entry) {
        assert!(!link.has_ended(), "its request is still there");
        assert!(link.entry.replace(Some(entry)).is_none(), "an entry is the last");
    }

    fn report_too_slow(&self) {
        self.too_slow.set(self.too_slow.get() + 1);
    }

    fn report_skipped(&self, messages: usize) {
        self.skipped.set(self.skipped.get() + messages);
    }

    fn depart(&self, departure: Departure<SimLink>) {
        depart(departure);
    }
}
