//! All subscribers of this worker: a record each, found by a token that is never used twice.
//!
//! ```text
//!   hub (a listener's token) ──┐                     ┌─► fanout   what they get
//!   request (its context) ─────┼─► Token ─► record ──┼─► stream   how it is written, poll, paging, socket
//!   request's cleanup ─────────┘                     └─► due      when they are pinged or dismissed
//! ```
//!
//! Subscribers that have something to write stand in a queue, each once. A round of the worker's loop
//! serves a bounded number of them ([`Audience::go_on`]), and asks for another round for the rest.
//!
//! INVARIANT: no method of a link that may call back, and none of the host but the bounded questions to
//! the hub, runs while the records are borrowed.
//!
//! Holds because: what such a call needs (an outbox, a socket's decoder) is taken out of the record, by a
//! guard that puts it back. Needed because: nginx's filters may ask for the record, or end the request.
//! Checked by: the simulation, whose links do both.

use core::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use crate::model::{Delivery, Gap, Token};
use crate::session::counts::Counts;
use crate::session::departure::{Cut, Departure, Entry, How, Reason};
use crate::session::due::{Kind, Place, Places, Wheels};
use crate::session::fanout::Round;
use crate::session::held::Held;
use crate::session::link::{Host, Link, Slow};
use crate::session::paging::Gaps;
use crate::session::poll::Poll;
use crate::session::skip::Skipped;
use crate::session::stream::Stream;
use crate::session::{Form, Framing};

/// Slots are allocated so many at a time, and never move.
const PAGE: usize = 256;

/// All subscribers of a worker, and what is to be done for them.
pub struct Audience<H: Host> {
    pub(super) records: RefCell<Records<H>>,
    /// Room for what WebSocket clients send. Nothing stays in it between two events.
    pub(super) buffer: RefCell<Vec<u8>>,
    /// The subscriber that is being served. Left behind by a panic, it says who that was about.
    pub(super) at_work: Cell<Option<Token>>,
}

pub(super) struct Records<H: Host> {
    pub(super) slots: Slots<H>,
    pub(super) forms: Forms,
    pub(super) wheels: Wheels,
    /// Subscribers with something new to write, or with an end to come to; each once.
    pub(super) dirty: VecDeque<Token>,
    /// Subscribers that the fan-out has written to since those in `dirty` had their turn.
    pub(super) sent: usize,
    /// Messages come faster than everybody is written to, and the worker keeps up: the last batch had several
    /// of its channel, and all there were.
    pub(super) is_hurried: bool,
    /// For copying pieces together; empty between uses.
    pub(super) scratch: Vec<u8>,
    /// What subscribers of several channels get when the hub has handed out all it has.
    pub(super) round: Round,
    /// Live messages of several channels that wait for older ones.
    pub(super) held: Held,
    /// What subscribers that are too slow are to be told.
    pub(super) skipped: Skipped,
    /// Some subscriber may skip messages.
    pub(super) has_skips: bool,
    /// Who has lost old messages of a deleted channel, and not had the notice of it.
    pub(super) gaps: Gaps,
    /// Streams without a subscription, which may still have messages in the round.
    pub(super) ended: Vec<Token>,
    /// Streams whose sockets take old messages as fast as they are read; each once.
    pub(super) reading: VecDeque<Token>,
    /// Portions of old messages that were given since those had their turn.
    pub(super) portions: usize,
    /// Polls that have their message, each once.
    pub(super) answered: VecDeque<Token>,
    pub(super) counts: Counts,
}

/// What the worker knows about one subscriber. There may be hundreds of thousands of them.
pub(super) struct Subscriber<H: Host> {
    pub(super) link: H::Link,
    /// Number of its form in [`Forms`].
    pub(super) form: u32,
    pub(super) state: State,
    /// What it gets has to be put in order.
    pub(super) has_many_channels: bool,
    /// It gets no message before an older one of its channels, also of one that is still to be handed out.
    pub(super) is_ordered: bool,
    /// It stands in [`Records::dirty`].
    pub(super) is_dirty: bool,
    /// Its socket takes no more; the link will tell when it does.
    pub(super) is_blocked: bool,
    /// Why it will have ended, as far as is known.
    pub(super) reason: Reason,
    /// Why it does not get all old messages that it has asked for, if so.
    pub(super) gap: Option<Gap>,
    /// How it is served. `None`: it was not let in.
    pub(super) served_as: Option<Delivery>,
    /// Messages given to it.
    pub(super) messages_sent: u32,
    pub(super) ping: Place,
    pub(super) end: Place,
    pub(super) mode: Mode<H::Rest>,
}

/// How the subscriber is served.
pub(super) enum Mode<R> {
    /// Messages as they come.
    Stream(Stream<R>),
    /// One answer, and nothing before it.
    Poll(Box<Poll>),
}

/// ```text
///   Starting ──► Open ──► Ending ──► (gone)
///                 ├─────► TooSlow ──┘
///                 └─────► Broken ───┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Its header or its old messages are not on their way yet.
    Starting,
    Open,
    /// What waits is the last that it gets, but for the footer.
    Ending,
    /// More waits than may wait for it, or old messages are gone that it has not had, and it does not skip them.
    TooSlow,
    /// A panic has left it half served, or the fan-out has found its connection lost.
    Broken,
}

impl<H: Host> Default for Audience<H> {
    fn default() -> Self {
        let records = Records {
            slots: Slots::default(),
            forms: Forms::default(),
            wheels: Wheels::default(),
            dirty: VecDeque::new(),
            sent: 0,
            is_hurried: false,
            scratch: Vec::new(),
            round: Round::default(),
            held: Held::default(),
            skipped: Skipped::default(),
            has_skips: false,
            gaps: Gaps::default(),
            ended: Vec::new(),
            reading: VecDeque::new(),
            portions: 0,
            answered: VecDeque::new(),
            counts: Counts::default(),
        };
        Self {
            records: RefCell::new(records),
            buffer: RefCell::default(),
            at_work: Cell::new(None),
        }
    }
}

impl<H: Host> Audience<H> {
    /// The number of this form. Equal forms have one number.
    pub fn form_number(&self, form: &Form) -> u32 {
        self.records.borrow_mut().forms.number(form)
    }

    /// The form that the subscriber's messages have.
    pub fn form_of(&self, token: Token) -> Option<Rc<Form>> {
        let records = &mut *self.records.borrow_mut();
        records.forms.get(records.slots.get(token)?.form).cloned()
    }

    /// Takes a subscriber in, which is `Starting` until it is opened.
    pub(super) fn admit(
        &self,
        link: H::Link,
        form: u32,
        has_many_channels: bool,
        mode: Mode<H::Rest>,
    ) -> Token {
        let records = &mut *self.records.borrow_mut();
        records.has_skips |= matches!(link.slow(), Slow::Skip { .. });
        records.slots.add(Subscriber {
            link,
            form,
            state: State::Starting,
            has_many_channels,
            is_ordered: false,
            is_dirty: false,
            is_blocked: false,
            reason: Reason::Refused,
            gap: None,
            served_as: None,
            messages_sent: 0,
            ping: Place::NOWHERE,
            end: Place::NOWHERE,
            mode,
        })
    }

    /// The subscriber is registered: from now on it ends because of its client, unless we know better.
    /// `gap`: it does not get all old messages that it has asked for.
    pub fn accept(&self, token: Token, gap: Option<Gap>) {
        self.change(token, |subscriber| {
            subscriber.reason = Reason::Client;
            subscriber.gap = gap;
        });
    }

    /// The subscriber is told places that hold for all its channels: it gets no message before an older one
    /// of them.
    pub fn put_in_order(&self, token: Token) {
        self.change(token, |subscriber| subscriber.is_ordered = subscriber.has_many_channels);
    }

    /// Is the subscriber there?
    pub fn has(&self, token: Token) -> bool {
        self.records.borrow_mut().slots.get(token).is_some()
    }

    /// The connection of the subscriber.
    pub fn link(&self, token: Token) -> Option<H::Link> {
        Some(self.records.borrow_mut().slots.get(token)?.link.clone())
    }

    /// What logs can say about the subscriber now.
    pub fn entry(&self, token: Token) -> Option<Entry> {
        let records = &mut *self.records.borrow_mut();
        Some(records.slots.get(token)?.entry(records.skipped.messages(token)))
    }

    /// Does something wait to be written to the subscriber?
    pub fn is_waiting(&self, token: Token) -> bool {
        let records = &mut *self.records.borrow_mut();
        records.slots.get(token).is_some_and(|s| s.is_blocked || s.is_dirty)
    }

    /// Has a client that has closed its side left? A poll's may take its whole answer all the same.
    pub fn may_have_left(&self, token: Token) -> bool {
        let records = &mut *self.records.borrow_mut();
        records.slots.get(token).is_none_or(|s| !s.is_answer() || s.is_blocked)
    }

    /// The subscribers of so many slots from `from` on, and where to go on; `None`: that was all.
    pub fn some_from(&self, from: usize, slots: usize) -> (Vec<Token>, Option<usize>) {
        self.records.borrow().slots.some_from(from, slots)
    }

    /// The subscriber's request ends: forgets it, here and in the hub.
    pub fn forget(&self, host: &H, token: Token) {
        self.take_out(host, token);
    }

    /// Ends the subscriber, which gets no more.
    pub fn cut(&self, host: &H, token: Token, cut: Cut) {
        if let Some(departure) = self.depart(host, token, |_| How::Cut(cut)) {
            host.depart(departure);
        }
    }

    /// The same, because its socket took nothing for too long.
    pub fn time_out(&self, host: &H, token: Token) {
        self.change(token, |subscriber| subscriber.reason = Reason::SendTimeout);
        self.cut(host, token, Cut::TimedOut);
    }

    /// A panic has interrupted the work for some subscriber: it is cut off, and the others go on. `false`:
    /// it was not about a subscriber.
    ///
    /// A subscriber of whom we do not know what it has been given must not be given more: it could miss a
    /// message, or see half of one, and not notice.
    pub fn pass_over(&self, host: &H) -> bool {
        let Some(token) = self.at_work.take() else { return false };
        self.records.borrow_mut().fail(token);
        host.go_on_next();
        true
    }

    /// The subscriber cannot be given what it was promised.
    pub fn fail(&self, host: &H, token: Token) {
        self.records.borrow_mut().fail(token);
        host.go_on_next();
    }

    /// Takes the subscriber out, to be given back to the server.
    pub(super) fn depart(
        &self,
        host: &H,
        token: Token,
        how: impl FnOnce(&mut Subscriber<H>) -> How,
    ) -> Option<Departure<H::Link>> {
        // First of all, for this may panic: then the subscriber is still there to be cut off.
        let (how, is_answer, served_as) = {
            let records = &mut *self.records.borrow_mut();
            let subscriber = records.slots.get(token)?;
            (how(subscriber), subscriber.is_answer(), subscriber.served_as)
        };
        let link = self.take_out(host, token)?;
        Some(Departure { link, how, is_answer, served_as })
    }

    /// Statistics stop counting a subscriber before its last byte can be read.
    fn take_out(&self, host: &H, token: Token) -> Option<H::Link> {
        let (link, entry) = self.records.borrow_mut().remove(token)?;
        host.leave(token);
        host.write_down(&link, entry);
        Some(link)
    }

    pub(super) fn change(&self, token: Token, change: impl FnOnce(&mut Subscriber<H>)) {
        if let Some(subscriber) = self.records.borrow_mut().slots.get(token) {
            change(subscriber);
        }
    }
}

impl<H: Host> Records<H> {
    /// Lets the subscriber have a turn.
    pub(super) fn mark_dirty(&mut self, token: Token) {
        if let Some(subscriber) = self.slots.get(token)
            && !subscriber.is_dirty
        {
            subscriber.is_dirty = true;
            self.dirty.push_back(token);
        }
    }

    pub(super) fn fail(&mut self, token: Token) {
        if let Some(subscriber) = self.slots.get(token) {
            subscriber.state = State::Broken;
            subscriber.reason = Reason::Error;
            self.mark_dirty(token);
        }
    }

    /// Removes the subscriber. Answers its connection and its last entry.
    fn remove(&mut self, token: Token) -> Option<(H::Link, Entry)> {
        self.quit(token);
        self.count_end(token);
        let subscriber = self.slots.get(token)?;
        let entry = subscriber.entry(self.skipped.messages(token));
        let entry = Entry { reason: Some(subscriber.reason), ..entry };
        let link = subscriber.link.clone();
        self.gaps.forget(token);
        self.held.forget(token);
        self.skipped.forget(token);
        self.slots.remove(token);
        Some((link, entry))
    }

    /// Its interval of this kind begins now.
    pub(super) fn join(&mut self, token: Token, kind: Kind, interval_msec: usize, now_msec: usize) {
        if self.slots.get(token).is_some() {
            self.wheels.join(&mut self.slots, kind, interval_msec, token.index(), now_msec);
        }
    }

    /// It has no interval any more.
    pub(super) fn quit(&mut self, token: Token) {
        if self.slots.get(token).is_some() {
            self.wheels.leave(&mut self.slots, Kind::Ping, token.index());
            self.wheels.leave(&mut self.slots, Kind::End, token.index());
        }
    }
}

impl<H: Host> Subscriber<H> {
    /// It is given so many messages more.
    pub(super) fn count(&mut self, messages: usize) {
        let messages = u32::try_from(messages).unwrap_or(u32::MAX);
        self.messages_sent = self.messages_sent.saturating_add(messages);
    }

    /// So many of those that were counted will not be given to it.
    pub(super) fn uncount(&mut self, messages: usize) {
        let messages = u32::try_from(messages).unwrap_or(u32::MAX);
        self.messages_sent = self.messages_sent.saturating_sub(messages);
    }

    fn entry(&self, messages_skipped: u32) -> Entry {
        let bytes_buffered = match &self.mode {
            Mode::Stream(stream) => stream.buffered(),
            Mode::Poll(_) => 0,
        };
        let Self { messages_sent, gap, .. } = *self;
        Entry { messages_sent, messages_skipped, bytes_buffered, gap, reason: None }
    }

    /// An answer to a poll is being written.
    pub(super) fn is_answer(&self) -> bool {
        matches!(&self.mode, Mode::Stream(stream) if stream.is_answer)
    }

    /// Frames both ways, and nothing else.
    pub(super) fn is_websocket(&self) -> bool {
        matches!(self.mode, Mode::Stream(_))
            && self.link.layout().form().framing() == Framing::WebSocket
    }
}

/// The records, in slots that are used again.
pub(super) struct Slots<H: Host> {
    pages: Vec<Box<[Slot<H>]>>,
    /// Slots without a tenant, the last one to be used next.
    free: Vec<u32>,
}

struct Slot<H: Host> {
    generation: u32,
    tenant: Option<Subscriber<H>>,
}

impl<H: Host> Slots<H> {
    /// A subscriber that waits costs this and little else.
    const BYTES_MAX: usize = 120 + size_of::<H::Link>();
    const IS_SMALL: () = assert!(size_of::<Slot<H>>() <= Self::BYTES_MAX);
}

impl<H: Host> Default for Slots<H> {
    fn default() -> Self {
        const { Self::IS_SMALL };
        Self { pages: Vec::new(), free: Vec::new() }
    }
}

impl<H: Host> Slots<H> {
    fn add(&mut self, subscriber: Subscriber<H>) -> Token {
        if self.free.is_empty() {
            let first = (self.pages.len() * PAGE) as u32;
            self.pages.push((0..PAGE).map(|_| Slot { generation: 0, tenant: None }).collect());
            self.free.extend((first..first + PAGE as u32).rev());
        }
        let index = self.free.pop().unwrap_or_default();
        let slot = self.slot(index).expect("a free slot is a slot");
        // A slot would need 2^32 tenants to repeat a generation.
        slot.generation = slot.generation.wrapping_add(1).max(1);
        slot.tenant = Some(subscriber);
        Token::new(index, slot.generation)
    }

    /// `None` if it has gone.
    pub(super) fn get(&mut self, token: Token) -> Option<&mut Subscriber<H>> {
        let slot = self.slot(token.index())?;
        if slot.generation == token.generation() { slot.tenant.as_mut() } else { None }
    }

    fn remove(&mut self, token: Token) {
        if self.get(token).is_some()
            && let Some(slot) = self.slot(token.index())
        {
            slot.tenant = None;
            self.free.push(token.index());
        }
    }

    pub(super) fn some_from(&self, from: usize, slots: usize) -> (Vec<Token>, Option<usize>) {
        let to = from.saturating_add(slots);
        let indices = from..to.min(self.pages.len() * PAGE);
        let tokens = indices.filter_map(|index| self.token_at(index as u32)).collect();
        (tokens, (to < self.pages.len() * PAGE).then_some(to))
    }

    /// The token of the subscriber in this slot.
    pub(super) fn token_at(&self, index: u32) -> Option<Token> {
        let slot = self.pages.get(index as usize / PAGE)?.get(index as usize % PAGE)?;
        slot.tenant.as_ref()?;
        Some(Token::new(index, slot.generation))
    }

    fn slot(&mut self, index: u32) -> Option<&mut Slot<H>> {
        self.pages.get_mut(index as usize / PAGE)?.get_mut(index as usize % PAGE)
    }
}

impl<H: Host> Places for Slots<H> {
    fn place(&mut self, kind: Kind, index: u32) -> Option<&mut Place> {
        let tenant = self.slot(index)?.tenant.as_mut()?;
        Some(match kind {
            Kind::Ping => &mut tenant.ping,
            Kind::End => &mut tenant.end,
        })
    }
}

/// The forms in use, by number. Equal forms have one number, so renderings are shared by all
/// subscribers whose messages look alike. There are as many as the configuration has templates and
/// paddings, so none is ever forgotten.
#[derive(Default)]
pub(super) struct Forms {
    forms: Vec<Rc<Form>>,
    numbers: HashMap<Rc<Form>, u32>,
}

impl Forms {
    /// The number of this form.
    fn number(&mut self, form: &Form) -> u32 {
        if let Some(number) = self.numbers.get(form) {
            return *number;
        }
        let number = self.forms.len() as u32;
        let form = Rc::new(form.clone());
        self.forms.push(Rc::clone(&form));
        self.numbers.insert(form, number);
        number
    }

    /// The form of this number; `None` for a number that was never given.
    pub(super) fn get(&self, number: u32) -> Option<&Rc<Form>> {
        self.forms.get(number as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::sim::solo::{Solo, message};

    #[test]
    fn a_token_outlives_its_subscriber_and_finds_nobody() {
        let worker = Solo::new();
        let audience = &worker.audience;
        let (first, link) = worker.stream();
        audience.cut(&worker, first, Cut::ByClient);
        let (second, _) = worker.stream();
        assert_eq!((first.index(), first == second), (second.index(), false));
        assert!(!audience.has(first) && audience.has(second));
        assert!(audience.link(first).is_none() && audience.entry(first).is_none());
        assert!(audience.may_have_left(first) && !audience.is_waiting(first));
        // Whatever an event that comes late asks for.
        let calls = link.calls();
        audience.flush(&worker, first);
        audience.read(&worker, first);
        audience.forget(&worker, first);
        audience.time_out(&worker, first);
        audience.fail(&worker, first);
        audience.dismiss(&worker, first, Reason::Ttl);
        audience.unsubscribed(first, 0);
        worker.give(&[first], &[message("a", 1, "one")]);
        worker.write();
        assert_eq!(link.calls(), calls);
        assert!(audience.has(second));
    }

    #[test]
    fn everybody_is_found_slot_by_slot() {
        let worker = Solo::new();
        let all: Vec<Token> = (0..PAGE + 3).map(|_| worker.stream().0).collect();
        for gone in [0, 5, PAGE] {
            worker.audience.forget(&worker, all[gone]);
        }
        let mut found = Vec::new();
        let mut from = Some(0);
        while let Some(at) = from {
            let (tokens, next) = worker.audience.some_from(at, 100);
            assert!(tokens.len() <= 100);
            found.extend(tokens);
            from = next;
        }
        assert_eq!(found.len(), PAGE);
        assert!(found.iter().all(|token| worker.audience.has(*token)));
        let (again, _) = worker.stream();
        assert_eq!(again.index() as usize, PAGE, "the slot that was left last");
    }

    #[test]
    fn equal_forms_have_one_number() {
        let worker = Solo::new();
        let audience = &worker.audience;
        let form = |text: &[u8]| Form::new(Framing::Plain, text);
        let number = audience.form_number(&form(b"~text~"));
        assert_eq!(audience.form_number(&form(b"~TEXT~")), number);
        assert_ne!(audience.form_number(&form(b"~id~")), number);
    }

    /// Its record says what waits, and why it has gone.
    #[test]
    fn an_entry_says_what_became_of_the_subscriber() {
        let worker = Solo::new();
        let (token, link) = worker.stream();
        link.room.set(5);
        worker.audience.flush(&worker, token);
        worker.give(&[token], &[message("a", 1, "one"), message("a", 2, "two")]);
        worker.write();
        let all = "6\r\n<head>\r\n9\r\n[a 1 one]\r\n9\r\n[a 2 two]\r\n".len();
        let entry = worker.audience.entry(token).expect("it is there");
        assert_eq!((entry.messages_sent, entry.bytes_buffered), (2, all - 5));
        assert_eq!(entry.reason, None);
        worker.audience.cut(&worker, token, Cut::ByClient);
        let last = link.entry.get().expect("its last entry");
        assert_eq!(last, Entry { reason: Some(Reason::Client), ..entry });
    }

    #[test]
    fn a_subscriber_stands_in_the_queue_once() {
        let worker = Solo::new();
        let (token, link) = worker.stream();
        for _ in 0..3 {
            worker.give(&[token], &[message("a", 1, "one")]);
            assert_eq!(worker.audience.dirty(), 1);
            worker.audience.flush(&worker, token);
        }
        worker.write();
        assert_eq!(worker.audience.dirty(), 0);
        assert!(!worker.audience.is_waiting(token));
        link.room.set(0);
        worker.give(&[token], &[message("a", 2, "two")]);
        assert!(worker.audience.is_waiting(token));
    }

    #[test]
    fn a_panic_over_the_last_entry_leaves_nobody_registered() {
        let worker = Solo::new();
        let (token, _) = worker.stream();
        worker.panics_writing_down.set(true);
        worker.serve_event(|| worker.audience.forget(&worker, token));
        worker.assert_empty();
        assert!(worker.has_left(token));
    }
}
