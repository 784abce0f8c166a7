//! What has happened to subscribers since the worker last took it into its counters.
//!
//! The session adds here what it does, once for a batch where there are batches. The shell takes it after each
//! event and adds it to the counters in the zone ([`Audience::take_counts`]).

use core::mem;
use std::collections::HashMap;

use crate::model::{Delivery, Message, Reason, Seconds, Stamp, Token};
use crate::session::Framing;
use crate::session::audience::{Audience, Mode, Records, Subscriber};
use crate::session::link::Host;

/// At most so many moments of publishing are kept apart. A turn of the worker has no more, but for polls; the
/// rest counts with the last one.
const WAITS_MAX: usize = 2048;

/// A subscriber has come or gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was let in.
    Entered(Delivery),
    /// One that was let in has ended.
    Ended(Delivery, Reason),
}

/// What the subscribers of one mode were given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// Messages, old ones included.
    pub delivered: u64,
    /// Old messages among them.
    pub replayed: u64,
    /// Bytes that their sockets have taken.
    pub sent_bytes: u64,
}

/// When a message was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// None: nobody wants to know how long it took.
    pub stamp: Stamp,
    /// The zone's time.
    pub time: Seconds,
}

impl Published {
    pub(super) fn of(message: &Message<'_>) -> Self {
        Self { stamp: message.stamp, time: message.time }
    }
}

/// Where it goes. No method may ask for the audience.
pub trait Tally {
    /// A subscriber has come or gone.
    fn change(&mut self, change: Change);
    /// Subscribers of this mode were given something.
    fn given(&mut self, delivery: Delivery, given: &Given);
    /// So many bytes wait for sockets now.
    fn buffered(&mut self, bytes: usize);
    /// So many deliveries of a message that was published then are written now.
    fn written(&mut self, published: Published, deliveries: u64);
}

#[derive(Default)]
pub(super) struct Counts {
    is_changed: bool,
    changes: Vec<Change>,
    given: [Given; Delivery::ALL.len()],
    /// Which of those are not zero, a bit each.
    touched: u32,
    /// Messages that were counted as given, and that waited for their subscriber when it ended. So many of
    /// the next ones are not counted: what was counted once stays.
    taken_back: [u64; Delivery::ALL.len()],
    /// Those for whom something waits, as it was counted last. Nearly all have nothing.
    waiting: HashMap<Token, usize>,
    /// The sum of that.
    buffered: usize,
    /// Deliveries that may not be written yet.
    waits: Vec<(Published, u64)>,
}

impl Counts {
    fn change(&mut self, change: Change) {
        self.is_changed = true;
        self.changes.push(change);
    }

    fn of(&mut self, delivery: Delivery) -> &mut Given {
        self.is_changed = true;
        self.touched |= 1 << delivery.number();
        &mut self.given[delivery.number()]
    }

    /// So many messages were given to subscribers that are served like this.
    pub(super) fn gave(&mut self, delivery: Delivery, messages: usize) {
        self.of(delivery).delivered += messages as u64;
    }

    /// A subscriber is given so many old messages.
    pub(super) fn replayed_to<H: Host>(&mut self, subscriber: &mut Subscriber<H>, messages: usize) {
        subscriber.count(messages);
        if let Some(delivery) = subscriber.served_as {
            self.gave(delivery, messages);
            self.of(delivery).replayed += messages as u64;
        }
    }

    /// Their sockets have taken so many bytes.
    pub(super) fn sent(&mut self, delivery: Delivery, bytes: usize) {
        self.of(delivery).sent_bytes += bytes as u64;
    }

    /// So many bytes wait for the subscriber now.
    fn waiting(&mut self, token: Token, bytes: usize) {
        let before =
            if bytes > 0 { self.waiting.insert(token, bytes) } else { self.waiting.remove(&token) };
        self.buffered = self.buffered - before.unwrap_or(0) + bytes;
        self.is_changed = true;
    }

    /// A message of this moment was given so many times.
    pub(super) fn waits(&mut self, published: Published, deliveries: u64) {
        if published.stamp == Stamp::default() || deliveries == 0 {
            return;
        }
        let is_full = self.waits.len() >= WAITS_MAX;
        match self.waits.last_mut() {
            Some(last) if last.0 == published || is_full => last.1 += deliveries,
            _ => self.waits.push((published, deliveries)),
        }
    }

    /// The messages of a batch were given so many times, all together.
    pub(super) fn batch_waits(&mut self, messages: &[Message<'_>], deliveries: usize) {
        if let [message] = messages {
            return self.waits(Published::of(message), deliveries as u64);
        }
        // Nearly always each was given to as many.
        let (each, rest) = (deliveries / messages.len().max(1), deliveries % messages.len().max(1));
        for (number, message) in messages.iter().enumerate() {
            self.waits(Published::of(message), (each + usize::from(number < rest)) as u64);
        }
    }

    fn has_some(&self) -> bool {
        self.is_changed || !self.waits.is_empty()
    }

    /// `is_written`: nobody waits for a turn to be written to.
    fn take(&mut self, is_written: bool, tally: &mut impl Tally) {
        if is_written && !self.waits.is_empty() {
            for (published, deliveries) in self.waits.drain(..) {
                tally.written(published, deliveries);
            }
        }
        if !mem::take(&mut self.is_changed) {
            return;
        }
        for change in self.changes.drain(..) {
            tally.change(change);
        }
        let mut touched = mem::take(&mut self.touched);
        while touched != 0 {
            let number = touched.trailing_zeros() as usize;
            touched &= touched - 1;
            let mut given = mem::take(&mut self.given[number]);
            let less = given.delivered.min(self.taken_back[number]);
            given.delivered -= less;
            self.taken_back[number] -= less;
            tally.given(Delivery::ALL[number], &given);
        }
        tally.buffered(self.buffered);
    }
}

impl<H: Host> Audience<H> {
    /// Has anything happened since the last call of [`Audience::take_counts`]?
    pub fn has_counts(&self) -> bool {
        self.records.try_borrow().is_ok_and(|records| records.counts.has_some())
    }

    /// Hands over what has happened since the last call, if the records are not in use. `at_end`: an event is
    /// over, so what was to be written is.
    pub fn take_counts(&self, at_end: bool, tally: &mut impl Tally) {
        if let Ok(mut records) = self.records.try_borrow_mut() {
            let is_written = at_end && records.dirty.is_empty();
            records.counts.take(is_written, tally);
        }
    }

    /// The subscriber is let in, and is served like this. Again: nothing changes.
    pub fn let_in(&self, token: Token, delivery: Delivery) {
        self.records.borrow_mut().let_in(token, delivery);
    }
}

impl<H: Host> Records<H> {
    fn let_in(&mut self, token: Token, delivery: Delivery) {
        if let Some(subscriber) = self.slots.get(token)
            && subscriber.served_as.is_none()
        {
            subscriber.served_as = Some(delivery);
            self.counts.change(Change::Entered(delivery));
        }
    }

    /// So many old messages are given to the subscriber.
    pub(super) fn replay(&mut self, token: Token, messages: usize) {
        if let Some(subscriber) = self.slots.get(token) {
            self.counts.replayed_to(subscriber, messages);
        }
    }

    /// It has ended.
    pub(super) fn count_end(&mut self, token: Token) {
        let Some(subscriber) = self.slots.get(token) else { return };
        if let Mode::Stream(stream) = &mut subscriber.mode
            && mem::take(&mut stream.is_counted)
        {
            self.counts.waiting(token, 0);
        }
        if let Some(delivery) = subscriber.served_as {
            self.counts.change(Change::Ended(delivery, subscriber.reason));
        }
    }

    /// It has messages that it will not be given. `before`: what it had counted before they were taken back.
    pub(super) fn count_taken_back(&mut self, token: Token, before: u32) {
        if let Some(subscriber) = self.slots.get(token)
            && let Some(delivery) = subscriber.served_as
        {
            let less = before.saturating_sub(subscriber.messages_sent);
            self.counts.taken_back[delivery.number()] += u64::from(less);
        }
    }
}

impl<H: Host> Subscriber<H> {
    /// Its socket has taken so many bytes, and what waits has changed.
    pub(super) fn count_written(&mut self, token: Token, counts: &mut Counts, bytes: usize) {
        if let Some(delivery) = self.served_as.filter(|_| bytes > 0) {
            counts.sent(delivery, bytes);
        }
        self.count_buffered(token, counts);
    }

    /// Takes what waits for it into account, after that has changed.
    pub(super) fn count_buffered(&mut self, token: Token, counts: &mut Counts) {
        let Mode::Stream(stream) = &mut self.mode else { return };
        let now = stream.buffered();
        if now > 0 || stream.is_counted {
            stream.is_counted = now > 0;
            counts.waiting(token, now);
        }
    }
}

#[cfg(test)]
impl<H: Host> Audience<H> {
    /// Subscribers that were let in and are there.
    pub(super) fn let_in_now(&self) -> Vec<Token> {
        let records = &mut *self.records.borrow_mut();
        let all = records.slots.some_from(0, usize::MAX).0;
        all.into_iter()
            .filter(|token| records.slots.get(*token).is_some_and(|s| s.served_as.is_some()))
            .collect()
    }

    /// Bytes that wait for all subscribers. `None`: somebody waits for a turn.
    pub(super) fn buffered_now(&self) -> Option<usize> {
        let records = &mut *self.records.borrow_mut();
        if !records.dirty.is_empty() {
            return None;
        }
        let all = records.slots.some_from(0, usize::MAX).0;
        let waiting = all.into_iter().filter_map(|token| match &records.slots.get(token)?.mode {
            Mode::Stream(stream) => Some(stream.buffered()),
            Mode::Poll(_) => None,
        });
        Some(waiting.sum())
    }

    /// Messages that are counted as given and were taken back since.
    pub(super) fn taken_back(&self) -> u64 {
        self.records.borrow().counts.taken_back.iter().sum()
    }
}

/// How streams in this framing are served.
pub(super) fn delivery_of(framing: Framing) -> Delivery {
    match framing {
        Framing::Plain => Delivery::Streaming,
        Framing::EventSource => Delivery::EventSource,
        Framing::WebSocket => Delivery::WebSocket,
    }
}
