//! One turn of writing: all that waits for a subscriber goes to the link, in one write if it takes that much.
//!
//! ```text
//!   queue of those who have something ──► plain: the records stay borrowed, straight to the socket
//!                                    └──► the link may call back: what it needs is taken out for the call
//! ```
//!
//! A socket that takes less blocks the subscriber, until the link tells that it takes more; `is_blocked` is
//! true for just that time.

use core::mem;

use crate::model::Token;
use crate::session::audience::{Audience, Mode, Records, State, Subscriber};
use crate::session::departure::{Cut, Departure, How, Reason};
use crate::session::link::{Flushed, Host, Link, Lost, Way};
use crate::session::outbox::Outbox;
use crate::session::paging::{Refill, Refiller};
use crate::session::stream::Stream;

/// Subscribers that are written to before other connections of the worker have a turn. Few in tests, which
/// have few subscribers.
const FLUSHES_MAX: usize = if cfg!(test) { 4 } else { 1000 };
/// The same while messages come faster than everybody is written to. Publishers have their turn more often
/// then. So more messages come while a round goes on, and the next round writes all of them at once.
///
/// That goes well as long as a batch has room for all that comes in a round. If it has not, the turns are long
/// again: publishers of this worker wait, and messages do not pile up in the zone until it is full.
const FLUSHES_MAX_HURRIED: usize = if cfg!(test) { 2 } else { 100 };

/// What a subscriber is like after a turn of writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// There is no such subscriber any more.
    Gone,
    Open,
    /// It is open, and old messages are still to be read for it.
    Unread,
    /// All that it gets is written, but for the footer.
    Ended,
    /// It has too much waiting, or old messages are gone.
    TooSlow,
    /// The connection is lost.
    Lost,
    /// A panic was over it.
    Broken,
}

impl<H: Host> Audience<H> {
    /// Writes to subscribers that have something, a bounded number of them, and asks for another round
    /// for the rest.
    pub fn go_on(&self, host: &H) {
        let mut budget = self.records.borrow_mut().begin_turn();
        while let Some((token, written)) = self.write_plain(&mut budget) {
            self.finish_turn(host, token, written);
        }
        self.page_on(host);
        let has_answers = self.answer_ready(host);
        let records = self.records.borrow();
        if has_answers || !records.dirty.is_empty() || !records.reading.is_empty() {
            host.go_on_next();
        }
    }

    /// Does somebody wait for a turn to be written to?
    pub fn has_dirty(&self) -> bool {
        !self.records.borrow().dirty.is_empty()
    }

    /// Is there as much to write, or written since the last turn, as a turn may write?
    pub fn has_full_turn(&self) -> bool {
        let records = self.records.borrow();
        records.dirty.len() + records.sent >= records.flushes_max()
    }

    /// How many wait for a turn to be written to.
    #[cfg(test)]
    pub(super) fn dirty(&self) -> usize {
        self.records.borrow().dirty.len()
    }

    /// Writes to one subscriber after the other for as long as that is all there is to do. `Some`: this
    /// one needs more than that; `None` inside: it was not written to.
    fn write_plain(&self, budget: &mut usize) -> Option<(Token, Option<Written>)> {
        let records = &mut *self.records.borrow_mut();
        while *budget > 0 {
            let token = records.dirty.pop_front()?;
            *budget -= 1;
            self.at_work.set(Some(token));
            match records.write_plain(token, true) {
                Some(Written::Gone | Written::Open) => {}
                written => return Some((token, written)),
            }
            self.at_work.set(None);
        }
        None
    }

    /// Writes what waits, and ends the subscriber if that was due or the connection is lost.
    ///
    /// Not for the handler that opens a request: the server goes on with a request that this may have
    /// finished.
    pub fn flush(&self, host: &H, token: Token) {
        self.at_work.set(Some(token));
        self.finish_turn(host, token, None);
    }

    fn finish_turn(&self, host: &H, token: Token, written: Option<Written>) {
        match self.write_or_end(host, token, written, true) {
            Some(departure) => host.depart(departure),
            None => {
                if let Some(link) = self.link(token) {
                    link.run_posted();
                }
            }
        }
        self.at_work.set(None);
    }

    /// Writes what waits, in the handler that opens the request. `Some`: it is over.
    ///
    /// A WebSocket is never over there: its read handler ends it.
    pub fn write_first(&self, host: &H, token: Token) -> Option<Departure<H::Link>> {
        self.at_work.set(Some(token));
        let departure = self.write_or_end(host, token, None, false);
        self.at_work.set(None);
        departure
    }

    fn write_or_end(
        &self,
        host: &H,
        token: Token,
        written: Option<Written>,
        may_close: bool,
    ) -> Option<Departure<H::Link>> {
        match self.write(host, token, written) {
            Written::Gone | Written::Open | Written::Unread => None,
            Written::Ended => {
                let mut is_over = true;
                self.change(token, |subscriber| {
                    if subscriber.is_answer() {
                        subscriber.reason = Reason::Answered;
                    }
                    is_over = may_close || !subscriber.is_websocket();
                });
                if is_over { self.depart(host, token, Subscriber::finish) } else { None }
            }
            Written::TooSlow => {
                host.report_too_slow();
                if !self.records.borrow_mut().cut_off(token) {
                    return self.depart(host, token, |_| How::Cut(Cut::Lost));
                }
                host.leave(token);
                self.write_or_end(host, token, None, may_close)
            }
            Written::Lost | Written::Broken => self.depart(host, token, |_| How::Cut(Cut::Lost)),
        }
    }

    /// One turn: writes what waits, and old messages behind it, as far as the socket takes them.
    fn write(&self, host: &H, token: Token, mut written: Option<Written>) -> Written {
        let mut refiller = Refiller::new(self, host, token);
        loop {
            let written = written.take().unwrap_or_else(|| self.write_waiting(token));
            if !matches!(written, Written::Open | Written::Unread) {
                return written;
            }
            match refiller.refill() {
                Refill::Done => {}
                Refill::Nothing => return written,
                Refill::Lagged => return Written::TooSlow,
            }
        }
    }

    fn write_waiting(&self, token: Token) -> Written {
        let plain = self.records.borrow_mut().write_plain(token, false);
        plain.unwrap_or_else(|| {
            let Some(mut turn) = Turn::begin(self, token) else { return Written::Gone };
            let before = turn.link.sent();
            let flushed = turn.link.flush(turn.way, &mut turn.outbox);
            let sent = turn.sent_since(before);
            drop(turn);
            let records = &mut *self.records.borrow_mut();
            let Some(subscriber) = records.slots.get(token) else { return Written::Gone };
            subscriber.count_written(token, &mut records.counts, sent);
            subscriber.after_flush(flushed)
        })
    }
}

impl<R> Stream<R> {
    /// May it be sent something just now, past its outbox? For one that is open and not blocked.
    #[inline]
    pub(super) fn is_free(&self, link: &impl Link) -> bool {
        self.way == Way::Direct && self.outbox.is_empty() && link.is_plain() && link.is_writable()
    }
}

impl<H: Host> Records<H> {
    /// How many may be written to in one turn now.
    pub(super) fn flushes_max(&self) -> usize {
        if self.is_hurried { FLUSHES_MAX_HURRIED } else { FLUSHES_MAX }
    }

    /// How many the turn that begins now may write to, besides those that the fan-out has written to.
    fn begin_turn(&mut self) -> usize {
        self.flushes_max().saturating_sub(mem::take(&mut self.sent))
    }

    /// Writes what waits if the link takes it just so. `None`: it does not. `was_dirty`: it stands in the
    /// queue no more.
    fn write_plain(&mut self, token: Token, was_dirty: bool) -> Option<Written> {
        let Some(subscriber) = self.slots.get(token) else { return Some(Written::Gone) };
        subscriber.is_dirty &= !was_dirty;
        match subscriber.state {
            State::Broken => return Some(Written::Broken),
            State::TooSlow => return Some(Written::TooSlow),
            State::Starting | State::Open | State::Ending => {}
        }
        self.tell_skipped(token);
        let Some(subscriber) = self.slots.get(token) else { return Some(Written::Gone) };
        let Mode::Stream(stream) = &mut subscriber.mode else { return Some(Written::Gone) };
        let link = &subscriber.link;
        if stream.way != Way::Direct || !link.is_plain() {
            return None;
        }
        let mut taken_in_all = 0;
        let sent = if link.is_writable() {
            let send = |bytes: &[u8]| link.send(bytes).inspect(|taken| taken_in_all += taken);
            stream.outbox.write(&mut self.scratch, send)
        } else {
            Ok(())
        };
        let flushed = match sent {
            Err(Lost) => Flushed::Lost,
            Ok(()) if stream.outbox.is_empty() => Flushed::All,
            Ok(()) => Flushed::Some { progress: taken_in_all > 0 },
        };
        subscriber.count_written(token, &mut self.counts, taken_in_all);
        Some(subscriber.after_flush(flushed))
    }
}

impl<H: Host> Subscriber<H> {
    fn after_flush(&mut self, flushed: Flushed) -> Written {
        if self.is_blocked || !matches!(flushed, Flushed::All) {
            let was_blocked =
                mem::replace(&mut self.is_blocked, matches!(flushed, Flushed::Some { .. }));
            let went = match flushed {
                Flushed::Lost => Err(Lost),
                Flushed::Some { progress } => self.link.await_writable(progress || !was_blocked),
                Flushed::All => self.link.stop_waiting(),
            };
            if went == Err(Lost) {
                return Written::Lost;
            }
            if was_blocked && !self.is_blocked && self.is_websocket() {
                // Nobody reads what its client sends while it does not read itself.
                self.link.read_again(true);
            }
        }
        match &self.mode {
            Mode::Stream(Stream { unread: Some(_), .. }) => Written::Unread,
            Mode::Stream(_) if self.state == State::Ending && !self.is_blocked => Written::Ended,
            _ => Written::Open,
        }
    }

    /// All is written that it was to get.
    fn finish(&mut self) -> How {
        if self.is_websocket() {
            return How::Closed;
        }
        let mut footer = Vec::new();
        self.link.layout().close(&mut footer);
        How::Finished(footer)
    }
}

/// What a link needs that may call back: taken out of the record for the time of the call.
struct Turn<'a, H: Host> {
    audience: &'a Audience<H>,
    token: Token,
    link: H::Link,
    way: Way,
    outbox: Outbox,
}

impl<'a, H: Host> Turn<'a, H> {
    fn begin(audience: &'a Audience<H>, token: Token) -> Option<Self> {
        let records = &mut *audience.records.borrow_mut();
        let subscriber = records.slots.get(token)?;
        let Mode::Stream(stream) = &mut subscriber.mode else { return None };
        let (link, way) = (subscriber.link.clone(), stream.way);
        Some(Self { audience, token, link, way, outbox: mem::take(&mut stream.outbox) })
    }
}

impl<H: Host> Turn<'_, H> {
    /// Bytes that were written since then. The request may have ended meanwhile, and with it the connection.
    fn sent_since(&self, before: u64) -> usize {
        if !self.audience.has(self.token) {
            return 0;
        }
        usize::try_from(self.link.sent().saturating_sub(before)).unwrap_or(0)
    }
}

impl<H: Host> Drop for Turn<'_, H> {
    fn drop(&mut self) {
        self.audience.change(self.token, |subscriber| {
            if let Mode::Stream(stream) = &mut subscriber.mode {
                // Before what has come meanwhile.
                let new = mem::replace(&mut stream.outbox, mem::take(&mut self.outbox));
                stream.outbox.append(new);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::sim::link::{End, Fault};
    use crate::session::sim::solo::{KINDS, Solo, message, open, read_if_asked, reason};

    /// The socket stops at some byte, and then it takes some more at a time.
    #[test]
    fn a_socket_may_stop_at_every_byte() {
        let run = |kind, plain: &[bool], taken: usize, step: usize| {
            let worker = Solo::new();
            let (token, link) = open(&worker, kind, None);
            link.plain.borrow_mut().extend(plain);
            link.room.set(taken);
            worker.audience.write_first(&worker, token);
            worker.give(&[token], &[message("a", 1, "one")]);
            worker.write();
            worker.give(&[token], &[message("a", 2, "two"), message("a", 3, "three")]);
            worker.write();
            worker.audience.dismiss(&worker, token, Reason::Ttl);
            assert!(link.received().len() <= taken || link.has_ended());
            while !link.has_ended() {
                worker.grant(token, &link, step);
                read_if_asked(&worker, token, &link);
            }
            assert_eq!(reason(&link), Some(Reason::Ttl));
            worker.assert_empty();
            link.received()
        };
        for kind in KINDS {
            let whole = run(kind, &[true], usize::MAX, 1);
            let steps = if cfg!(miri) { &[3][..] } else { &[1, 2, 7, 1000] };
            for taken in 0..=whole.len() {
                for (step, plain) in steps.iter().flat_map(|s| [(s, true), (s, false)]) {
                    let received = run(kind, &[plain, true], taken, *step);
                    assert_eq!(received, whole, "{kind:?} {taken} {step} {plain}");
                }
            }
        }
    }

    #[test]
    fn written_to_at_every_turn_everybody_gets_the_same() {
        for kind in KINDS {
            let worker = Solo::new();
            let (token, link) = open(&worker, kind, None);
            for id in 1..4 {
                worker.give(&[token], &[message("a", id, "text")]);
                worker.write();
            }
            worker.audience.dismiss(&worker, token, Reason::Shutdown);
            read_if_asked(&worker, token, &link);
            let text = String::from_utf8_lossy(&link.received()).into_owned();
            for part in ["<head>", "a 1 text", "a 2 text", "a 3 text", "<foot>"] {
                assert_eq!(text.matches(part).count(), 1, "{kind:?}: {text}");
            }
        }
    }

    /// The time in which a socket may take nothing begins with what it takes, not with what waits.
    #[test]
    fn the_time_to_take_something_begins_again_with_each_byte() {
        let worker = Solo::new();
        let (token, link) = worker.stream();
        link.room.set(3);
        worker.audience.write_first(&worker, token);
        assert_eq!((link.restarts.get(), link.wants_room.get()), (1, true));
        worker.audience.flush(&worker, token);
        assert_eq!(link.restarts.get(), 1, "nothing was taken");
        worker.grant(token, &link, 1);
        assert_eq!(link.restarts.get(), 2);
        worker.grant(token, &link, usize::MAX);
        assert!(!link.wants_room.get(), "nothing waits");

        link.room.set(0);
        worker.give(&[token], &[message("a", 1, "one")]);
        worker.write();
        worker.audience.time_out(&worker, token);
        assert_eq!(link.end(), Some(End::Cut(Cut::TimedOut)));
        assert_eq!(reason(&link), Some(Reason::SendTimeout));
    }

    #[test]
    fn a_lost_connection_is_cut_at_whatever_call_it_shows() {
        for (kind, plain) in KINDS.into_iter().flat_map(|kind| [(kind, true), (kind, false)]) {
            for number in 0.. {
                let worker = Solo::new();
                let (token, link) = open(&worker, kind, None);
                link.plain.borrow_mut().push_back(plain);
                link.room.set(10);
                worker.audience.flush(&worker, token);
                link.fails_at(number, Fault::Lose);
                worker.grant(token, &link, 5);
                worker.give(&[token], &[message("a", 1, "one")]);
                worker.grant(token, &link, usize::MAX);
                if link.end().is_none() {
                    break;
                }
                assert_eq!(link.end(), Some(End::Cut(Cut::Lost)), "{kind:?} {number}");
                assert_eq!(reason(&link), Some(Reason::Client));
                worker.assert_empty();
            }
        }
    }

    /// Those who have to wait get the next round, whether the fan-out writes to the first ones or their turn
    /// does. With several messages in a batch the rounds are shorter, unless there are even more messages.
    #[test]
    fn a_round_writes_to_a_bounded_number() {
        let one = [message("a", 1, "one")];
        let two = [message("a", 1, "one"), message("a", 2, "two")];
        for (messages, more, most) in [
            (&one[..], false, FLUSHES_MAX),
            (&two[..], false, FLUSHES_MAX_HURRIED),
            (&two[..], true, FLUSHES_MAX),
        ] {
            let worker = Solo::new();
            worker.more.set(more);
            let count = 2 * most + 1;
            let tokens: Vec<Token> = (0..count).map(|_| worker.stream().0).collect();
            let next = |left| {
                worker.write_once();
                assert_eq!((worker.audience.dirty(), worker.goes_on.get()), (left, left > 0));
            };
            worker.give(&tokens, messages);
            assert_eq!(worker.audience.dirty(), count, "their headers come first");
            next(most + 1);
            next(1);
            next(0);

            worker.give(&tokens, messages);
            assert_eq!(worker.audience.dirty(), most + 1, "the others have it");
            assert!(worker.audience.has_full_turn());
            next(most + 1);
            next(1);
            next(0);
            assert!(!worker.audience.has_full_turn());
        }
    }
}
