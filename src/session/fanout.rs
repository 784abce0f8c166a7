//! From news of a channel to what waits for each of its subscribers.
//!
//! ```text
//!   messages × form ──► Rendering, made when the first subscriber needs it, then shared
//!                          │ one channel    ──► socket, at once, if nothing is in between; else outbox
//!                          │ several        ──► Round ── all news are there ──► outbox, in order
//!                          └ poll           ──► the message that answers it
//! ```
//!
//! The hub hands out one channel after the other. So for subscribers of several channels a round notes
//! only who gets which batch. When it has all, it sorts its few messages once, by time of publishing, and
//! then hands them out: the memory for that grows with subscribers and batches, not with messages.
//!
//! A panic over one subscriber leaves the next one to begin with, here and in the round: the caller asks
//! again ([`Audience::pass_over`]).

use std::rc::Rc;

use crate::model::{DELETED_ID, Group, Listener, Message, Seconds, Token};
use crate::session::Form;
use crate::session::audience::{Audience, Mode, Records, State};
use crate::session::counts::{Published, delivery_of};
use crate::session::departure::Reason;
use crate::session::held;
use crate::session::link::{Host, Link, Lost};
use crate::session::outbox::{Piece, Rendering};
use crate::session::stream::Stream;

/// News of one channel on its way to the channel's subscribers in this worker.
pub struct Fanout<'a> {
    groups: &'a [Group],
    messages: &'a [Message<'a>],
    /// When the channel was deleted, and the newest tag of all channels in that second.
    deleted_at: Option<(Seconds, u64)>,
    /// More messages of the channel follow these.
    more: bool,
    now_msec: usize,
    /// The listener that is next: its group, and its place there.
    next: (usize, usize),
    /// Some listener has lost old messages of the channel.
    has_gaps: bool,
    /// So many subscribers may be written to before others have a turn.
    sent_max: usize,
    renderings: Renderings,
    /// The channel's name, once somebody needs it.
    channel: Option<Rc<[u8]>>,
    /// The number of the batch in the round, once somebody needs it.
    batch: Option<usize>,
    /// Messages that the streams of the group were given, and bytes that their sockets have taken.
    given: usize,
    sent_bytes: usize,
    /// Messages that the streams of all groups were given.
    all_given: usize,
}

impl<'a> Fanout<'a> {
    /// These messages for these groups. `more`: others of the channel follow.
    pub fn new(
        groups: &'a [Group],
        messages: &'a [Message<'a>],
        deleted_at: Option<(Seconds, u64)>,
        more: bool,
        now_msec: usize,
    ) -> Self {
        Self {
            groups,
            messages,
            deleted_at,
            more,
            now_msec,
            next: (0, 0),
            has_gaps: false,
            sent_max: 0,
            renderings: Renderings::default(),
            channel: None,
            batch: None,
            given: 0,
            sent_bytes: 0,
            all_given: 0,
        }
    }

    /// Gives each subscriber that has not had its turn what it gets.
    pub fn run<H: Host>(&mut self, audience: &Audience<H>) {
        let records = &mut *audience.records.borrow_mut();
        self.has_gaps = self.messages.first().is_some_and(|first| records.gaps.has(first.channel));
        records.is_hurried = self.messages.len() > 1 && !self.more;
        self.sent_max = records.flushes_max();
        while let Some(group) = self.groups.get(self.next.0) {
            if let Some(form) = records.forms.get(group.form).cloned() {
                while let Some(listener) = group.listeners.get(self.next.1) {
                    self.next.1 += 1;
                    audience.at_work.set(Some(listener.token));
                    self.give(records, &form, listener);
                }
                let delivery = delivery_of(form.framing());
                records.counts.gave(delivery, self.given);
                records.counts.sent(delivery, core::mem::take(&mut self.sent_bytes));
                self.all_given += core::mem::take(&mut self.given);
            }
            self.next = (self.next.0 + 1, 0);
            self.renderings = Renderings::default();
        }
        audience.at_work.set(None);
        let given = core::mem::take(&mut self.all_given);
        records.counts.batch_waits(self.messages, given);
    }

    fn give<H: Host>(&mut self, records: &mut Records<H>, form: &Form, listener: &Listener) {
        let mut due = listener.due(self.messages);
        if self.has_gaps {
            due = records.gaps.due(listener.token, due);
        }
        let Some(first) = due.first() else { return };
        let skipped = self.messages.len() - due.len();
        let token = listener.token;
        let Some(subscriber) = records.slots.get(token) else { return };
        if let Mode::Stream(stream) = &subscriber.mode {
            let is_ordered = subscriber.is_ordered;
            if subscriber.state != State::Open {
                return;
            }
            let has_too_much = if subscriber.is_blocked || is_ordered {
                let max = subscriber.link.buffered_max();
                subscriber.is_blocked && stream.waiting() > max
                    || is_ordered && records.held.cost(token) > max
            } else {
                false
            };
            if has_too_much && !records.make_room(token) {
                return;
            }
        }
        let Some(subscriber) = records.slots.get(token) else { return };
        let channel = records.has_skips.then(|| {
            let channel = self.channel.get_or_insert_with(|| first.channel.into());
            &*channel
        });
        let mut is_sent = false;
        match &mut subscriber.mode {
            Mode::Stream(stream) => {
                let as_chunks = stream.frames_chunks;
                let rendering = self.renderings.get(as_chunks, form, self.messages, channel);
                if subscriber.has_many_channels {
                    let batch = *self.batch.get_or_insert_with(|| {
                        let orders = self.messages.iter();
                        let orders = orders.map(|message| Order::of(message, self.deleted_at));
                        records.round.begin(first.channel, orders.collect())
                    });
                    records.round.note(batch, rendering, token, skipped);
                } else if stream.unread.is_some() {
                    let channel = self.channel.get_or_insert_with(|| first.channel.into());
                    let is_notice = |number: usize| self.messages[number].id == DELETED_ID;
                    let last = self.messages.len() - 1;
                    let end = if is_notice(last) { last } else { last + 1 };
                    stream.push(channel, false, rendering, skipped, end);
                    stream.push(channel, true, rendering, end.max(skipped), last + 1);
                } else {
                    let end = self.messages.len();
                    let link = &subscriber.link;
                    let is_next = !subscriber.is_blocked && !subscriber.is_dirty;
                    if is_next && records.sent < self.sent_max && stream.is_free(link) {
                        records.sent += 1;
                        let send = |bytes: &[u8]| link.send(bytes);
                        match stream.outbox.pass(rendering, (skipped, end), send) {
                            Ok(taken) => {
                                self.sent_bytes = self.sent_bytes.wrapping_add(taken);
                                is_sent = stream.outbox.is_empty();
                            }
                            // Its turn ends it: the hub is busy now.
                            Err(Lost) => subscriber.state = State::Broken,
                        }
                    } else {
                        stream.outbox.push(Piece::messages(rendering, skipped, end));
                    }
                }
                records.wheels.restart(&mut subscriber.ping, self.now_msec);
            }
            Mode::Poll(poll) => {
                let piece = || {
                    let rendering = self.renderings.get(false, form, self.messages, channel);
                    Piece::one(rendering, skipped)
                };
                let (order, latest) = (Order::of(first, self.deleted_at), first.latest);
                if poll.offer(order, latest, Published::of(first), piece) {
                    records.answered.push_back(token);
                }
                return;
            }
        }
        subscriber.count(due.len());
        self.given = self.given.wrapping_add(due.len());
        if is_sent {
            return;
        }
        if subscriber.is_blocked {
            // Nobody needs a turn behind a full socket: the link tells when it takes more.
            subscriber.count_buffered(token, &mut records.counts);
            return;
        }
        if !core::mem::replace(&mut subscriber.is_dirty, true) {
            records.dirty.push_back(token);
        }
    }
}

impl<H: Host> Records<H> {
    /// Gives the subscriber what it is held for, up to the oldest message that is still to come.
    fn release(&mut self, token: Token, oldest: Option<(Seconds, u64)>) {
        let Some(subscriber) = self.slots.get(token) else { return };
        let Mode::Stream(stream) = &mut subscriber.mode else { return };
        if subscriber.state != State::Open {
            return;
        }
        let is_ready = |order: Order| oldest.is_none_or(|oldest| oldest >= order.until());
        let mut has_some = false;
        while let Some(run) = self.held.pop(token, is_ready) {
            has_some = true;
            let held::Run { channel, rendering, first, end, .. } = &run;
            stream.push(channel, run.is_notice(), rendering, *first, *end);
            if run.is_notice() {
                // It would get nothing of a new channel of that name, and places beyond that. When it comes
                // back it gets all.
                self.ended.push(token);
                break;
            }
        }
        if has_some && subscriber.is_blocked {
            subscriber.count_buffered(token, &mut self.counts);
        } else if has_some {
            self.mark_dirty(token);
        }
    }
}

impl<R> Stream<R> {
    /// Adds the messages from number `first` up to `end` of a rendering: behind the old ones, if there
    /// are any left.
    fn push(
        &mut self,
        channel: &Rc<[u8]>,
        is_notice: bool,
        rendering: &Rc<Rendering>,
        first: usize,
        end: usize,
    ) {
        if first >= end {
            return;
        }
        let piece = Piece::messages(rendering, first, end);
        match &mut self.unread {
            Some(unread) => unread.push(channel, is_notice, end - first, piece),
            None => self.outbox.push(piece),
        }
    }
}

impl<H: Host> Audience<H> {
    /// The hub has handed out all that it has for now: subscribers of several channels get theirs in the
    /// order of publishing, and streams without a subscription come to their end.
    ///
    /// Those whom every message tells a place get what nothing can come before any more.
    pub fn settle_round(&self, host: &H) {
        self.report_skipped(host);
        let records = &mut *self.records.borrow_mut();
        records.round.sort();
        while let Some(part) = records.round.next() {
            self.at_work.set(Some(part.token));
            if let Some(subscriber) = records.slots.get(part.token)
                && let Mode::Stream(stream) = &mut subscriber.mode
            {
                let Part { channel, is_notice, rendering, first, end, orders, .. } = part;
                if subscriber.is_ordered {
                    let (channel, rendering) = (Rc::clone(channel), Rc::clone(rendering));
                    let orders = Rc::clone(orders);
                    let run = held::Run { channel, rendering, orders, first, end };
                    records.held.push(part.token, run);
                } else {
                    stream.push(channel, is_notice, rendering, first, end);
                    if subscriber.is_blocked {
                        subscriber.count_buffered(part.token, &mut records.counts);
                    }
                }
            }
        }
        self.at_work.set(None);
        records.round = Round::default();
        records.held.begin();
        let mut is_next = false;
        while let Some(token) = records.held.next() {
            self.at_work.set(Some(token));
            let oldest = host.oldest_unread(token, core::mem::replace(&mut is_next, true));
            records.release(token, oldest);
        }
        self.at_work.set(None);
        // A close frame comes after all of it.
        while let Some(token) = records.ended.pop() {
            self.at_work.set(Some(token));
            records.begin_end(token, Reason::Deleted, None);
            records.mark_dirty(token);
        }
        self.at_work.set(None);
    }

    /// A subscription has ended, for its channel was deleted; so many others are left.
    pub fn unsubscribed(&self, token: Token, left: usize) {
        let records = &mut *self.records.borrow_mut();
        if left == 0
            && let Some(subscriber) = records.slots.get(token)
            && matches!(subscriber.mode, Mode::Stream(_))
        {
            records.ended.push(token);
        }
    }
}

/// One batch in one form: rendered when the first subscriber needs it.
#[derive(Default)]
struct Renderings {
    raw: Option<Rc<Rendering>>,
    chunked: Option<Rc<Rendering>>,
}

impl Renderings {
    #[inline]
    fn get(
        &mut self,
        as_chunks: bool,
        form: &Form,
        messages: &[Message<'_>],
        channel: Option<&Rc<[u8]>>,
    ) -> &Rc<Rendering> {
        let slot = if as_chunks { &mut self.chunked } else { &mut self.raw };
        slot.get_or_insert_with(|| {
            let mut rendering = Rendering::of(messages.len());
            for message in messages {
                rendering.push(as_chunks, |out| form.render(message, out));
            }
            rendering.fit();
            if let Some(channel) = channel {
                let has_notice = messages.last().is_some_and(|last| last.id == DELETED_ID);
                rendering.may_be_skipped(channel, has_notice);
            }
            Rc::new(rendering)
        })
    }
}

/// The place of a message among those of all channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Order {
    pub(super) time: Seconds,
    pub(super) tag: u64,
    /// The notice that a channel was deleted has the place of the newest message at that time, and
    /// comes after it.
    pub(super) is_notice: bool,
}

impl Order {
    /// Up to where all messages come before it, or are it.
    pub(super) fn place(self) -> (Seconds, u64) {
        (self.time, self.tag)
    }

    /// All messages before this time and tag come before it.
    pub(super) fn until(self) -> (Seconds, u64) {
        (self.time, self.tag.saturating_add(u64::from(self.is_notice)))
    }

    fn of(message: &Message<'_>, deleted_at: Option<(Seconds, u64)>) -> Self {
        match (message.id, deleted_at) {
            (DELETED_ID, Some((time, tag))) => Self { time, tag, is_notice: true },
            _ => Self { time: message.time, tag: message.tag, is_notice: false },
        }
    }
}

/// What subscribers of several channels get when the hub has handed out all it has.
#[derive(Default)]
pub(super) struct Round {
    batches: Vec<Batch>,
    /// Messages that follow each other, in the order in which they are handed out.
    runs: Vec<Run>,
    /// What is next: a run, a list of its batch, a place in the list.
    next: (usize, usize, usize),
}

struct Batch {
    channel: Rc<[u8]>,
    orders: Rc<[Order]>,
    /// For each rendering who gets it.
    lists: Vec<(Rc<Rendering>, Vec<Due>)>,
}

/// One subscriber of a batch.
struct Due {
    token: Token,
    /// Messages at the beginning that it does not get.
    skipped: u32,
}

#[derive(Clone, Copy)]
struct Run {
    batch: usize,
    first: usize,
    end: usize,
    is_notice: bool,
}

/// What one subscriber gets of one run.
struct Part<'a> {
    token: Token,
    channel: &'a Rc<[u8]>,
    rendering: &'a Rc<Rendering>,
    first: usize,
    end: usize,
    is_notice: bool,
    /// The places of all messages of the batch.
    orders: &'a Rc<[Order]>,
}

impl Round {
    fn begin(&mut self, channel: &[u8], orders: Rc<[Order]>) -> usize {
        self.batches.push(Batch { channel: channel.into(), orders, lists: Vec::new() });
        self.batches.len() - 1
    }

    fn note(&mut self, batch: usize, rendering: &Rc<Rendering>, token: Token, skipped: usize) {
        let Some(Batch { lists, .. }) = self.batches.get_mut(batch) else { return };
        let due = Due { token, skipped: skipped as u32 };
        match lists.iter_mut().rev().find(|(other, _)| Rc::ptr_eq(other, rendering)) {
            Some((_, list)) => list.push(due),
            None => lists.push((Rc::clone(rendering), vec![due])),
        }
    }

    /// Puts the messages into order, unless that was done already.
    fn sort(&mut self) {
        if !self.runs.is_empty() {
            return;
        }
        let mut all: Vec<(Order, usize, usize)> = Vec::new();
        for (batch, Batch { orders, .. }) in self.batches.iter().enumerate() {
            all.extend(orders.iter().enumerate().map(|(number, order)| (*order, batch, number)));
        }
        all.sort_unstable();
        for (Order { is_notice, .. }, batch, number) in all {
            match self.runs.last_mut() {
                Some(run)
                    if run.batch == batch && run.end == number && run.is_notice == is_notice =>
                {
                    run.end += 1;
                }
                _ => self.runs.push(Run { batch, first: number, end: number + 1, is_notice }),
            }
        }
    }

    fn next(&mut self) -> Option<Part<'_>> {
        loop {
            let (run_number, list_number, place) = self.next;
            let run = self.runs.get(run_number)?;
            let batch = self.batches.get(run.batch)?;
            let Some((_, list)) = batch.lists.get(list_number) else {
                self.next = (run_number + 1, 0, 0);
                continue;
            };
            let Some(due) = list.get(place) else {
                self.next = (run_number, list_number + 1, 0);
                continue;
            };
            self.next = (run_number, list_number, place + 1);
            let first = run.first.max(due.skipped as usize);
            if first < run.end {
                break;
            }
        }
        let (run_number, list_number, place) = self.next;
        let run = *self.runs.get(run_number)?;
        let batch = self.batches.get(run.batch)?;
        let (rendering, list) = batch.lists.get(list_number)?;
        let due = list.get(place.checked_sub(1)?)?;
        Some(Part {
            token: due.token,
            channel: &batch.channel,
            rendering,
            first: run.first.max(due.skipped as usize),
            end: run.end,
            is_notice: run.is_notice,
            orders: &batch.orders,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Framing;
    use crate::session::link::Way;
    use crate::session::sim::link::{End, Fault, fail_rendering};
    use crate::session::sim::solo::{NOW_MSEC, Solo, message, reason};

    /// A message of this time and tag.
    fn at(channel: &'static str, id: i64, time: Seconds, tag: u64) -> Message<'static> {
        Message { time, tag, ..message(channel, id, "x") }
    }

    fn notice(channel: &'static str) -> Message<'static> {
        Message::deleted(channel.as_bytes(), b"x")
    }

    fn give(
        worker: &Solo,
        listeners: &[Listener],
        messages: &[Message<'_>],
        deleted_at: Option<(Seconds, u64)>,
    ) {
        let form = worker.record(listeners[0].token, |records, token| {
            records.slots.get(token).expect("it is there").form
        });
        let groups = [Group { form, listeners: listeners.to_vec() }];
        let mut fanout = Fanout::new(&groups, messages, deleted_at, false, NOW_MSEC);
        worker.serve(|| fanout.run(&worker.audience));
    }

    /// The messages that a stream has got: channel and id.
    fn got(bytes: &[u8]) -> Vec<String> {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let messages = text.split('[').skip(1).filter_map(|part| part.split_once(" x]"));
        messages.map(|(message, _)| message.to_owned()).collect()
    }

    #[test]
    fn several_channels_come_in_the_order_of_publishing() {
        let worker = Solo::new();
        let open = || worker.open(Framing::Plain, Way::Filtered, true, None, None);
        let ((one, first), (other, second)) = (open(), open());
        let listeners = [Listener { token: one, after: 0 }, Listener { token: other, after: 2 }];
        let a = [at("a", 1, 1, 1), at("a", 2, 1, 4), at("a", 3, 2, 1)];
        let b = [at("b", 2, 1, 2), at("b", 3, 1, 3), notice("b")];
        give(&worker, &listeners, &a, None);
        give(&worker, &listeners, &b, Some((1, 4)));
        give(&worker, &listeners[..1], &[at("c", 1, 1, 5)], None);
        give(&worker, &listeners[..1], &[at("d", 9, 1, 9)], Some((7, 7)));
        assert_eq!(got(&first.received()), [""; 0], "until the hub has handed out all");
        worker.write();
        let all = ["a 1", "b 2", "b 3", "a 2", "b -2", "c 1", "d 9", "a 3"];
        assert_eq!(got(&first.received()), all);
        assert_eq!(got(&second.received()), ["b 3", "b -2", "a 3"], "only what is new to it");
        // In the next round.
        give(&worker, &listeners, &[at("a", 4, 1, 1)], None);
        worker.write();
        assert_eq!(got(&second.received()), ["b 3", "b -2", "a 3", "a 4"]);
    }

    #[test]
    fn one_rendering_serves_all_of_a_form() {
        let worker = Solo::new();
        let clients = [worker.stream(), worker.stream()];
        for (token, link) in &clients {
            worker.audience.flush(&worker, *token);
            link.room.set(0);
        }
        let tokens = clients.map(|(token, _)| token);
        worker.give(&tokens, &[message("a", 1, "one")]);
        let listeners = tokens.map(|token| Listener { token, after: 0 });
        give(&worker, &listeners, &[message("a", 2, "two"), message("a", 3, "three")], None);
        let places = tokens.map(|token| {
            worker.record(token, |records, token| {
                let subscriber = records.slots.get(token).expect("it is there");
                let Mode::Stream(stream) = &mut subscriber.mode else { panic!("a stream") };
                stream.outbox.take(true).expect("the first one");
                stream.outbox.take(true).expect("two messages").bytes().as_ptr().addr()
            })
        });
        assert_eq!(places[0], places[1]);
    }

    /// What is sent at once overtakes nothing: neither a header nor a message that waits.
    #[test]
    fn a_message_is_sent_at_once_if_nothing_waits() {
        let worker = Solo::new();
        let (token, link) = worker.stream();
        let send = |id| worker.give(&[token], &[at("a", id, 1, 1)]);
        send(1);
        assert_eq!(link.received(), b"", "its header waits");
        worker.write();
        send(2);
        assert_eq!(
            (got(&link.received()), worker.audience.dirty()),
            (vec!["a 1".into(), "a 2".into()], 0)
        );
        link.room.set(5);
        send(3);
        send(4);
        worker.write();
        send(5);
        assert!(link.wants_room.get());
        worker.grant(token, &link, usize::MAX);
        send(6);
        assert_eq!(got(&link.received()), ["a 1", "a 2", "a 3", "a 4", "a 5", "a 6"]);
        assert_eq!(worker.audience.entry(token).expect("it is there").messages_sent, 6);
    }

    /// Each call that giving one of them something makes may panic. That one is cut off, and the others get
    /// everything once.
    #[test]
    fn a_panic_while_something_is_sent_costs_that_one_only() {
        for number in 0.. {
            let worker = Solo::new();
            let clients: Vec<_> = (0..3).map(|_| worker.stream()).collect();
            clients.iter().for_each(|(token, _)| worker.audience.flush(&worker, *token));
            clients[1].1.fails_at(number, Fault::Panic);
            let listener = |(token, _): &(Token, _)| Listener { token: *token, after: 0 };
            let listeners: Vec<_> = clients.iter().map(listener).collect();
            give(&worker, &listeners, &[at("a", 1, 1, 1)], None);
            give(&worker, &listeners, &[at("a", 2, 1, 2)], None);
            worker.write();
            let has_failed = reason(&clients[1].1) == Some(Reason::Error);
            for (place, (_, link)) in clients.iter().enumerate() {
                if place == 1 && has_failed {
                    assert!(got(&link.received()).len() < 2 && link.has_ended());
                } else {
                    assert_eq!(
                        (got(&link.received()), link.end()),
                        (vec!["a 1".into(), "a 2".into()], None)
                    );
                }
            }
            if !has_failed {
                assert!(number > 3, "both were sent at once");
                break;
            }
        }
    }

    /// Rendering for some subscriber panics: that one is cut off, everybody else gets everything once.
    #[test]
    fn a_panic_over_one_subscriber_costs_that_one_only() {
        for has_many_channels in [false, true] {
            for renderings in 0..4 {
                let worker = Solo::new();
                let open =
                    || worker.open(Framing::Plain, Way::Direct, has_many_channels, None, None);
                let clients: Vec<_> = (0..4).map(|_| open()).collect();
                worker.write();
                fail_rendering(Some(renderings));
                let listeners: Vec<_> =
                    clients.iter().map(|(token, _)| Listener { token: *token, after: 0 }).collect();
                give(&worker, &listeners, &[at("a", 1, 1, 1), at("a", 2, 1, 2)], None);
                give(&worker, &listeners, &[at("b", 1, 1, 3)], None);
                fail_rendering(None);
                worker.write();
                let mut broken = 0;
                for (_, link) in &clients {
                    if reason(link) == Some(Reason::Error) {
                        broken += 1;
                        assert_eq!(got(&link.received()), [""; 0]);
                    } else {
                        assert_eq!(link.end(), None);
                        assert_eq!(got(&link.received()), ["a 1", "a 2", "b 1"]);
                    }
                }
                assert_eq!(broken, usize::from(renderings < 3), "{renderings}");
            }
        }
    }

    #[test]
    fn a_panic_over_one_end_leaves_the_others_theirs() {
        let worker = Solo::new();
        let clients: Vec<_> = (0..3).map(|_| worker.websocket()).collect();
        worker.write();
        let broken = &clients[1].1;
        broken.fails_at(0, Fault::Panic);
        clients.iter().for_each(|(token, _)| worker.audience.unsubscribed(*token, 0));
        worker.write();
        for (_, link) in clients.iter().filter(|(_, link)| !link.is_lost()) {
            let is_broken = reason(link) == Some(Reason::Error);
            assert!(
                is_broken
                    || link.end() == Some(End::Closed) && link.received().ends_with(b"\x88\0")
            );
        }
        assert_eq!(reason(broken), Some(Reason::Error));
        worker.assert_empty();
    }

    /// Nobody ends whose other channels live, and a poll is answered by the notice, not by this.
    #[test]
    fn a_stream_ends_with_its_last_channel() {
        let worker = Solo::new();
        let (token, link) = worker.open(Framing::Plain, Way::Filtered, true, None, None);
        worker.audience.unsubscribed(token, 1);
        worker.write();
        assert_eq!(link.end(), None);
        let listener = [Listener { token, after: 0 }];
        give(&worker, &listener, &[at("a", 1, 1, 1), notice("a")], Some((1, 1)));
        worker.audience.unsubscribed(token, 0);
        worker.write();
        assert_eq!(got(&link.received()), ["a 1", "a -2"]);
        assert_eq!((link.end(), reason(&link)), (Some(End::Finished), Some(Reason::Deleted)));
        worker.assert_empty();
    }

    /// The bound holds what waits when the next batch comes, so one batch may be above it.
    #[test]
    fn a_subscriber_is_too_slow_if_more_than_its_bound_waits_when_the_next_batch_comes() {
        let waiting = |worker: &Solo, token| {
            worker.record(token, |records, token| match &records.slots.get(token)?.mode {
                Mode::Stream(stream) => Some(stream.waiting()),
                Mode::Poll(_) => None,
            })
        };
        let worker = Solo::new();
        let (token, link) = worker.stream();
        link.room.set(0);
        worker.audience.flush(&worker, token);
        worker.give(&[token], &[message("a", 1, "one")]);
        let one = waiting(&worker, token).expect("it is there");
        link.buffered_max.set(one);
        worker.give(&[token], &[message("a", 2, "two")]);
        assert!(waiting(&worker, token).expect("it is there") > one, "exactly the bound may wait");
        worker.write();
        assert_eq!(link.end(), None);
        worker.give(&[token], &[message("a", 3, "three")]);
        worker.write();
        assert_eq!(reason(&link), Some(Reason::Slow));
        assert_eq!(worker.too_slow.get(), 1);

        // A socket that is not full may take any number of them.
        let (token, link) = worker.stream();
        link.buffered_max.set(1);
        for id in 1..20 {
            worker.give(&[token], &[message("a", id, "x")]);
        }
        worker.write();
        assert_eq!((link.end(), got(&link.received()).len()), (None, 19));
    }
}
