//! Old messages, a portion at a time.
//!
//! ```text
//!   zone ──► portion ──► outbox ──► socket        the next portion when the last one is written
//!   live messages ─────► later ──► outbox         when there is no other portion
//! ```
//!
//! A stream goes on with what is live. The answer to a poll ends, and has all that its header announces.
//!
//! Nothing in the zone waits for the socket: between two turns of the worker only the place is known. If
//! the messages behind its place are no longer stored by then, the subscriber has a gap: it is cut off, or
//! goes on with the live ones.

use core::mem;
use std::collections::VecDeque;
use std::rc::Rc;

use crate::model::{DELETED_ID, Message, Token};
use crate::session::Form;
use crate::session::audience::{Audience, Mode, State, Subscriber};
use crate::session::departure::Reason;
use crate::session::link::{Host, Lagged, Link, Read, Slow};
use crate::session::outbox::{Outbox, PLACES_PER_PIECE, Piece, Rendering, Skip};
use crate::session::stream::Stream;

/// A portion is full with so many bytes, or so many messages: some writes' worth, some milliseconds.
const PORTION: usize = 256 << 10;
const PORTION_MESSAGES: usize = 1024;
/// Portions that one subscriber gets before others have a turn.
const PORTIONS_MAX: usize = 4;
/// Portions that all get before other connections of the worker have theirs.
const PORTIONS_PER_ROUND: usize = 64;

/// Is there no room for another message behind so many bytes, and messages?
pub fn is_full(len: usize, messages: usize) -> bool {
    #[cfg(test)]
    if let Some((bytes_max, messages_max)) = crate::session::sim::link::portion() {
        return len >= bytes_max || messages >= messages_max;
    }
    len >= PORTION || messages >= PORTION_MESSAGES
}

/// Messages on their way into an outbox, as many as fit.
#[derive(Debug)]
pub struct Portion {
    rendering: Rendering,
    messages: usize,
    as_chunks: bool,
    /// What goes before each of them.
    separator: &'static [u8],
}

impl Portion {
    /// An empty one, whose messages become chunks, or not.
    pub fn new(as_chunks: bool) -> Self {
        Self { rendering: Rendering::default(), messages: 0, as_chunks, separator: b"" }
    }

    /// Appends something that is no message, such as a header.
    pub fn push_other(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.rendering.push(self.as_chunks, write);
    }

    /// Appends a message. Is there room for another one?
    pub fn push(&mut self, form: &Form, message: &Message<'_>) -> bool {
        self.messages += 1;
        self.rendering.push(self.as_chunks, |out| {
            out.extend_from_slice(self.separator);
            form.render(message, out);
        });
        !is_full(self.rendering.len(), self.messages)
    }

    /// Do its messages become chunks?
    pub fn is_chunked(&self) -> bool {
        self.as_chunks
    }

    /// How many messages it has.
    pub fn messages(&self) -> usize {
        self.messages
    }

    /// All of it, as the first that the client is sent.
    pub(super) fn into_opening(mut self) -> Piece {
        self.rendering.make_opening();
        Piece::all(self.rendering)
    }
}

/// What a subscriber has not been given yet because its socket is slow.
pub(super) struct Unread<R> {
    /// The old messages; `None` while they are being read.
    rest: Option<R>,
    /// Live messages, which come after all of them.
    later: VecDeque<Later>,
    /// Bytes in `later`.
    len: usize,
    /// Bytes of memory that they cost.
    cost: usize,
    /// What goes before each of the old messages.
    separator: &'static [u8],
    /// It stands in [`crate::session::audience::Records::reading`].
    is_reading: bool,
    /// Between the old messages and those in `later` some are missing.
    pub(super) has_gap: bool,
}

/// Live messages of one channel that wait for old ones.
struct Later {
    channel: Rc<[u8]>,
    is_notice: bool,
    messages: usize,
    piece: Piece,
}

/// Bytes of memory that such messages cost besides their piece and the channel's name.
const LATER_COST: usize = PLACES_PER_PIECE * (size_of::<Later>() - size_of::<Piece>());
/// A name that so many of the last ones have is used again.
const NAMES_MAX: usize = 8;

impl<R> Unread<R> {
    pub(super) fn new(rest: R) -> Self {
        let later = VecDeque::new();
        let (separator, is_reading, has_gap) = (&b""[..], false, false);
        Self { rest: Some(rest), later, len: 0, cost: 0, separator, is_reading, has_gap }
    }

    /// The same with this between all messages.
    pub(super) fn separated(rest: R, separator: &'static [u8]) -> Self {
        Self { separator, ..Self::new(rest) }
    }

    /// Adds live messages. The notice that its channel was deleted outlives the others of it.
    pub(super) fn push(
        &mut self,
        channel: &Rc<[u8]>,
        is_notice: bool,
        messages: usize,
        piece: Piece,
    ) {
        let channel = self.name(channel);
        self.len += piece.len();
        self.cost += piece.cost() + LATER_COST;
        self.later.push_back(Later { channel, is_notice, messages, piece });
    }

    /// The channel's name, which each batch brings along again.
    fn name(&mut self, channel: &Rc<[u8]>) -> Rc<[u8]> {
        let mut last = self.later.iter().rev().take(NAMES_MAX);
        if let Some(same) = last.find(|later| later.channel == *channel) {
            return Rc::clone(&same.channel);
        }
        self.cost += channel.len() + 2 * size_of::<usize>();
        Rc::clone(channel)
    }

    /// Drops the live messages, but for notices of deletions. `each` is told what goes.
    pub(super) fn skip(&mut self, each: &mut impl FnMut(&Skip<'_>)) {
        let all = mem::take(&mut self.later);
        (self.len, self.cost) = (0, 0);
        for Later { channel, is_notice, messages, piece } in all {
            if is_notice {
                self.push(&channel, is_notice, messages, piece);
            } else {
                each(&Skip { channel: &channel, messages, told: 0 });
            }
        }
    }

    /// Adds what ends the connection.
    pub(super) fn push_last(&mut self, piece: Piece) {
        self.push(&Rc::from(&b""[..]), true, 0, piece);
    }

    /// Bytes that wait here.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of memory that they cost.
    pub(super) fn waiting(&self) -> usize {
        self.cost
    }

    /// A channel was deleted before its old messages were read. To give the live ones that came after
    /// them would be a gap; so the notice is all that comes. Answers how many messages do not.
    fn forget(&mut self, channel: &[u8]) -> usize {
        let mut forgotten = 0;
        let all = mem::take(&mut self.later);
        (self.len, self.cost) = (0, 0);
        for Later { channel: name, is_notice, messages, piece } in all {
            if is_notice || *name != *channel {
                self.push(&name, is_notice, messages, piece);
            } else {
                forgotten += messages;
            }
        }
        forgotten
    }

    /// Bytes that it has from the allocator.
    #[cfg(test)]
    pub(super) fn allocated(&self) -> usize {
        let mut names: Vec<_> = self.later.iter().map(|later| &later.channel).collect();
        names.sort_by_key(|name| Rc::as_ptr(name).addr());
        names.dedup_by_key(|name| Rc::as_ptr(name).addr());
        let names: usize = names.iter().map(|name| name.len() + 2 * size_of::<usize>()).sum();
        let pieces = self.later.iter().map(|later| &later.piece).collect();
        names + self.later.capacity() * size_of::<Later>() + Piece::allocated(pieces)
    }

    fn has_notice(&self, channel: &[u8]) -> bool {
        self.later.iter().any(|later| later.is_notice && *later.channel == *channel)
    }
}

/// Channels that were deleted before some subscribers had all old messages of them. Behind that gap the
/// subscriber gets the notice of it alone, though the worker may still have live messages to hand out.
/// Nearly always empty.
#[derive(Default)]
pub(super) struct Gaps(Vec<(Token, Box<[u8]>)>);

impl Gaps {
    /// Has anybody a gap in this channel?
    pub(super) fn has(&self, channel: &[u8]) -> bool {
        self.0.iter().any(|(_, gone)| **gone == *channel)
    }

    /// What the subscriber gets of these messages of one channel, of which the last may be the notice.
    pub(super) fn due<'m, 'a>(
        &mut self,
        token: Token,
        messages: &'m [Message<'a>],
    ) -> &'m [Message<'a>] {
        let Some(last) = messages.last() else { return messages };
        let is_gap =
            |(other, gone): &(Token, Box<[u8]>)| *other == token && **gone == *last.channel;
        let Some(at) = self.0.iter().position(is_gap) else { return messages };
        if last.id != DELETED_ID {
            return &[];
        }
        self.0.swap_remove(at);
        core::slice::from_ref(last)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The subscriber is given nothing more.
    pub(super) fn forget(&mut self, token: Token) {
        self.0.retain(|(other, _)| *other != token);
    }
}

impl<R> Stream<R> {
    /// There are no old messages any more: the live ones come next.
    fn go_live(&mut self) {
        if let Some(unread) = self.unread.take() {
            if unread.has_gap {
                self.outbox.mark_gap();
            }
            unread.later.into_iter().for_each(|later| self.outbox.push(later.piece));
        }
    }
}

impl<H: Host> Subscriber<H> {
    /// All its channels were deleted, and with them what was still to be read of them.
    pub(super) fn forget_unread(&mut self) {
        let Mode::Stream(stream) = &mut self.mode else { return };
        let Some(unread) = &mut stream.unread else { return };
        let mut forgotten = 0;
        if let Some(rest) = unread.rest.take() {
            forgotten = H::channels(&rest).map(|channel| unread.forget(channel)).sum();
        }
        stream.go_live();
        self.uncount(forgotten);
    }

    /// It is given no more of what it has not been given yet.
    pub(super) fn drop_unread(&mut self) {
        let Mode::Stream(stream) = &mut self.mode else { return };
        let Some(unread) = stream.unread.take() else { return };
        self.uncount(unread.later.iter().map(|later| later.messages).sum());
    }
}

/// What became of an attempt to give a subscriber more of its old messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refill {
    /// There was nothing to give, its socket takes nothing, or its turn is over.
    Nothing,
    /// Something waits in its outbox now.
    Done,
    /// It was too slow.
    Lagged,
}

/// Reads on for one subscriber, during one turn of the worker. The end of it parks the place, so that
/// nothing stays pinned.
pub(super) struct Refiller<'a, H: Host> {
    audience: &'a Audience<H>,
    host: &'a H,
    token: Token,
    portions: usize,
    /// The place, between two portions.
    rest: Option<H::Rest>,
}

/// What one portion needs to know of its subscriber.
struct Wanted<R> {
    rest: R,
    form: Rc<Form>,
    as_chunks: bool,
    is_answer: bool,
    is_ordered: bool,
    skips: bool,
    separator: &'static [u8],
}

impl<'a, H: Host> Refiller<'a, H> {
    pub(super) fn new(audience: &'a Audience<H>, host: &'a H, token: Token) -> Self {
        Self { audience, host, token, portions: 0, rest: None }
    }

    /// The next portion for an empty outbox.
    pub(super) fn refill(&mut self) -> Refill {
        let Some(wanted) = self.next() else { return Refill::Nothing };
        self.portions += 1;
        let Wanted { rest, form, as_chunks, is_answer, is_ordered, skips, separator } = wanted;
        let mut portion = Portion { separator, ..Portion::new(as_chunks) };
        let read = self.host.read_on(rest, &mut |message| portion.push(&form, message));
        let (gone, left) = match read {
            Ok(Read { rest, gone }) => {
                self.rest = rest;
                (gone, None)
            }
            Err(Lagged { left, gone }) if skips && !is_answer => (gone, Some(left)),
            Err(Lagged { .. }) => return self.lag(),
        };
        if is_ordered && !gone.is_empty() {
            // The place of what comes next would be beyond the messages of the channel that is gone.
            return self.lag();
        }
        if is_answer {
            if !gone.is_empty() {
                // It has announced the messages of the channel that is gone.
                return self.lag();
            }
            portion.rendering.join();
        }
        self.give(portion, gone, left);
        self.audience.report_skipped(self.host);
        Refill::Done
    }

    /// The portion waits now, and if it was the last one, what comes behind it.
    fn give(&self, portion: Portion, gone: Vec<Box<[u8]>>, left: Option<Vec<(Box<[u8]>, u64)>>) {
        let records = &mut *self.audience.records.borrow_mut();
        records.skip_old(self.token, left.as_deref().unwrap_or_default());
        let Some(subscriber) = records.slots.get(self.token) else { return };
        records.counts.replayed_to(subscriber, portion.messages);
        let Mode::Stream(stream) = &mut subscriber.mode else { return };
        stream.outbox.push(Piece::all(portion.rendering));
        stream.outbox.mark_backlog();
        let mut forgotten = 0;
        if let Some(unread) = &mut stream.unread {
            unread.has_gap |= left.is_some();
            for channel in gone {
                forgotten += unread.forget(&channel);
                if !unread.has_notice(&channel) {
                    records.gaps.0.push((self.token, channel));
                }
            }
        }
        if self.rest.is_none() {
            stream.go_live();
        }
        let before = subscriber.messages_sent;
        subscriber.uncount(forgotten);
        records.count_taken_back(self.token, before);
    }

    /// The place to read from, if it is this subscriber's turn.
    fn next(&mut self) -> Option<Wanted<H::Rest>> {
        // Nobody would give it another turn in a worker that ends.
        let has_rounds = self.host.has_rounds();
        let records = &mut *self.audience.records.borrow_mut();
        let is_over = self.portions == PORTIONS_MAX || records.portions == PORTIONS_PER_ROUND;
        let subscriber = records.slots.get(self.token)?;
        let Mode::Stream(stream) = &mut subscriber.mode else { return None };
        let may = matches!(subscriber.state, State::Open | State::Ending);
        if !may || is_over && has_rounds || subscriber.is_blocked {
            return None;
        }
        let form = records.forms.get(subscriber.form).cloned()?;
        let unread = stream.unread.as_mut()?;
        let rest = self.rest.take().or_else(|| unread.rest.take())?;
        records.portions = (records.portions + 1).min(PORTIONS_PER_ROUND);
        let (as_chunks, is_answer) = (stream.frames_chunks, stream.is_answer);
        let (is_ordered, separator) = (subscriber.is_ordered, unread.separator);
        let skips = matches!(subscriber.link.slow(), Slow::Skip { .. });
        Some(Wanted { rest, form, as_chunks, is_answer, is_ordered, skips, separator })
    }

    fn lag(&self) -> Refill {
        self.audience.change(self.token, |subscriber| {
            subscriber.state = State::TooSlow;
            subscriber.reason = Reason::Slow;
        });
        Refill::Lagged
    }
}

impl<H: Host> Drop for Refiller<'_, H> {
    fn drop(&mut self) {
        let rest = self.rest.take().map(|mut rest| {
            self.host.park(&mut rest);
            rest
        });
        let records = &mut *self.audience.records.borrow_mut();
        let Some(subscriber) = records.slots.get(self.token) else { return };
        let Mode::Stream(stream) = &mut subscriber.mode else { return };
        let Some(unread) = &mut stream.unread else { return };
        unread.rest = rest.or_else(|| unread.rest.take());
        let may = matches!(subscriber.state, State::Open | State::Ending);
        if may && !subscriber.is_blocked && !mem::replace(&mut unread.is_reading, true) {
            // Its turn was over before its socket was full.
            records.reading.push_back(self.token);
            self.host.go_on_next();
        }
    }
}

impl<H: Host> Audience<H> {
    /// Gives those another turn whose turn was over before their socket was full.
    pub(super) fn page_on(&self, host: &H) {
        let waiting = {
            let records = &mut *self.records.borrow_mut();
            records.portions = 0;
            records.reading.len()
        };
        for _ in 0..waiting {
            let Some(token) = self.next_reading() else { break };
            self.flush(host, token);
        }
    }

    fn next_reading(&self) -> Option<Token> {
        let records = &mut *self.records.borrow_mut();
        if records.portions == PORTIONS_PER_ROUND {
            return None;
        }
        let token = records.reading.pop_front()?;
        if let Some(subscriber) = records.slots.get(token)
            && let Mode::Stream(stream) = &mut subscriber.mode
            && let Some(unread) = &mut stream.unread
        {
            unread.is_reading = false;
        }
        Some(token)
    }

    /// The answer to a poll that has more old messages than one portion: its header is on its way, its
    /// first portion and the rest follow, and then it ends with `end`. It is written to `link`.
    pub fn begin_answer(
        &self,
        token: Token,
        link: H::Link,
        first: Piece,
        rest: H::Rest,
        separator: &'static [u8],
        end: Option<Piece>,
    ) {
        self.change(token, |subscriber| {
            let mut unread = Unread::separated(rest, separator);
            if let Some(end) = end {
                unread.push_last(end);
            }
            let mut outbox = Outbox::default();
            outbox.push(first);
            outbox.mark_backlog();
            subscriber.link = link;
            subscriber.state = State::Ending;
            subscriber.mode = Mode::Stream(Stream::answer(outbox, unread));
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::session::Framing;
    use crate::session::departure::Cut;
    use crate::session::link::Way;
    use crate::session::poll::Poll;
    use crate::session::sim::link::{End, SimLink, fail_rendering, set_portion};
    use crate::session::sim::solo::{Old, Solo, message, reason};
    use crate::wire::resume::Announced;

    /// The ids of the old messages, in the order in which they came.
    fn ids(link: &SimLink) -> Vec<u64> {
        let received = text(&link.received());
        let parts = received.split("[old ").skip(1);
        parts.filter_map(|part| part.split(' ').next()?.parse().ok()).collect()
    }

    fn reader(worker: &Solo, messages: u64) -> (Token, SimLink) {
        let rest = Some(Old::of(&[("old", messages)]));
        worker.open(Framing::Plain, Way::Filtered, false, None, rest)
    }

    /// A portion has one message here.
    fn with_small_portions() -> Solo {
        set_portion(Some((1, 1)));
        Solo::new()
    }

    #[test]
    fn a_portion_is_full_with_bytes_or_messages() {
        set_portion(None);
        assert!(!is_full(PORTION - 1, 1) && is_full(PORTION, 1));
        assert!(!is_full(0, PORTION_MESSAGES - 1) && is_full(0, PORTION_MESSAGES));
    }

    #[test]
    fn one_reader_gets_some_portions_and_then_others_have_a_turn() {
        let worker = with_small_portions();
        let (token, link) = reader(&worker, 10);
        worker.audience.write_first(&worker, token);
        assert_eq!(worker.portions.get(), PORTIONS_MAX);
        assert!(worker.goes_on.get(), "the rest comes in the next round");
        assert_eq!(worker.pinned.get(), 0, "and pins nothing until then");
        worker.write_once();
        assert_eq!(worker.portions.get(), 2 * PORTIONS_MAX);
        // What is live waits for what is old.
        worker.give(&[token], &[message("a", 11, "live")]);
        worker.write();
        assert_eq!(worker.portions.get(), 10);
        assert_eq!(ids(&link), (1..=10).collect::<Vec<_>>());
        assert!(text(&link.received()).ends_with("[a 11 live]\r\n"));
        assert_eq!(worker.audience.entry(token).expect("it is there").messages_sent, 11);
    }

    #[test]
    fn all_readers_together_get_a_bounded_number_of_portions_in_a_round() {
        let worker = with_small_portions();
        let readers: Vec<_> = (0..30).map(|_| reader(&worker, 9)).collect();
        for (token, _) in &readers {
            worker.audience.write_first(&worker, *token);
        }
        assert_eq!(worker.portions.get(), PORTIONS_PER_ROUND);
        for _ in 1..30 * 9 / PORTIONS_PER_ROUND {
            worker.portions.set(0);
            worker.write_once();
            assert_eq!((worker.portions.get(), worker.goes_on.get()), (PORTIONS_PER_ROUND, true));
        }
        worker.write();
        for (_, link) in &readers {
            assert_eq!(ids(link), (1..=9).collect::<Vec<_>>());
        }
    }

    /// In a worker that ends nobody would give them another turn.
    #[test]
    fn without_rounds_a_reader_gets_all_that_its_socket_takes() {
        let worker = with_small_portions();
        let (token, link) = reader(&worker, 200);
        let (_, slow) = reader(&worker, 200);
        worker.has_rounds.set(false);
        slow.room.set(500);
        for token in worker.audience.some_from(0, usize::MAX).0 {
            worker.audience.dismiss(&worker, token, Reason::Shutdown);
        }
        assert_eq!(ids(&link), (1..=200).collect::<Vec<_>>());
        assert_eq!(link.end(), Some(End::Finished));
        assert!(!worker.audience.has(token) && slow.end().is_none());
        assert_eq!(worker.pinned.get(), 0);
        let slow_token = worker.audience.some_from(0, usize::MAX).0[0];
        worker.grant(slow_token, &slow, usize::MAX);
        assert_eq!((slow.end(), ids(&slow).len()), (Some(End::Finished), 200));
        worker.assert_empty();
    }

    /// The next portion is read when the last one is written, not before.
    #[test]
    fn what_the_socket_does_not_take_is_not_read() {
        let worker = with_small_portions();
        let (token, link) = reader(&worker, 100);
        link.room.set(0);
        worker.audience.write_first(&worker, token);
        worker.write();
        assert_eq!((worker.portions.get(), worker.goes_on.get()), (0, false));
        let portion = b"f\r\n[old 1 0001]\r\n".len();
        worker.grant(token, &link, b"6\r\n<head>\r\n".len() + portion);
        assert_eq!((worker.portions.get(), ids(&link)), (2, vec![1]));
        worker.grant(token, &link, portion - 1);
        worker.write();
        assert_eq!((worker.portions.get(), worker.pinned.get()), (2, 0));
    }

    #[test]
    fn a_reader_whose_next_message_is_gone_is_cut_off() {
        for framing in [Framing::Plain, Framing::WebSocket] {
            let worker = with_small_portions();
            let socket = (framing == Framing::WebSocket).then(Vec::new);
            let rest = Some(Old::of(&[("old", 50)]));
            let way = if socket.is_some() { Way::Direct } else { Way::Filtered };
            let (token, link) = worker.open(framing, way, false, socket, rest);
            worker.audience.write_first(&worker, token);
            worker.is_lagged.set(true);
            worker.write();
            assert_eq!(reason(&link), Some(Reason::Slow));
            assert_eq!(worker.too_slow.get(), 1);
            match framing {
                Framing::WebSocket => {
                    assert_eq!(link.end(), Some(End::Closed));
                    assert!(link.received().ends_with(b"\x88\x02\x03\xf5"), "1013");
                }
                _ => assert_eq!(link.end(), Some(End::Cut(Cut::Lost))),
            }
            worker.assert_empty();
        }
    }

    /// A long answer to a poll: all that it announces, or it is cut.
    #[test]
    fn an_answer_in_portions_is_whole_or_cut() {
        for (gone, panics) in [(false, false), (true, false), (false, true)] {
            let worker = with_small_portions();
            let (token, _) = worker.poll(false, Poll::new(None, false, Announced::default()));
            let link = Solo::link(Framing::Plain);
            link.chunks.set(true);
            let first = Piece::of(b"<head>[old 1 0001]".to_vec());
            let rest = Old::of(&[("old", 20)]);
            let end = Some(Piece::of(b"]);".to_vec()));
            worker.audience.begin_answer(token, link.clone(), first, rest, b",", end);
            worker.audience.write_first(&worker, token);
            assert_eq!(link.end(), None);
            if gone {
                worker.gone.borrow_mut().push(b"old".to_vec());
            }
            fail_rendering(panics.then_some(3));
            // A goodbye does not end it: it has announced all of it.
            worker.serve_event(|| worker.audience.dismiss(&worker, token, Reason::Shutdown));
            worker.write();
            fail_rendering(None);
            let received = text(&link.received());
            if gone || panics {
                let why = if gone { Reason::Slow } else { Reason::Error };
                assert_eq!((link.end(), reason(&link)), (Some(End::Cut(Cut::Lost)), Some(why)));
            } else {
                assert_eq!(ids(&link).len(), 21);
                assert_eq!(received.matches(",[old").count(), 20);
                assert!(received.ends_with("]);\r\n6\r\n<foot>\r\n0\r\n\r\n"), "{received}");
                assert_eq!(link.end(), Some(End::Finished));
                assert_eq!(reason(&link), Some(Reason::Answered));
            }
            worker.assert_empty();
        }
    }

    fn text(bytes: &[u8]) -> String {
        String::from_utf8_lossy(bytes).into_owned()
    }

    #[test]
    fn what_waits_behind_old_messages_counts_with_all_its_memory() {
        for channels in [1, 2, 20] {
            let worker = Solo::new();
            let rest = Some(Old::of(&[("old", 2000)]));
            let (token, link) = worker.open(Framing::Plain, Way::Direct, false, None, rest);
            link.room.set(0);
            worker.audience.flush(&worker, token);
            let waiting = |channels: usize| {
                for number in 0..10 * channels {
                    let name = format!("{:3000}", number % channels);
                    worker.give(&[token], &[message(&name, 1, "x")]);
                }
                worker.record(token, |records, token| {
                    let subscriber = records.slots.get(token).expect("it is there");
                    let Mode::Stream(stream) = &subscriber.mode else { panic!("a stream") };
                    let unread = stream.unread.as_ref().expect("old messages");
                    let names = unread.later.iter().map(|later| Rc::as_ptr(&later.channel));
                    let names: HashSet<_> = names.map(<*const [u8]>::addr).collect();
                    (unread.waiting(), unread.allocated(), names.len())
                })
            };
            let (waiting, allocated, names) = waiting(channels);
            assert!(waiting >= allocated, "{channels}: {waiting} < {allocated}");
            assert!(names == channels || channels > NAMES_MAX, "{channels}: {names} names");
        }
    }

    /// Its old messages were not read when its channel was deleted, and its last ones are still to come:
    /// to get those would be a gap.
    #[test]
    fn behind_lost_old_messages_of_a_deleted_channel_comes_the_notice_alone() {
        for has_many_channels in [false, true] {
            let worker = Solo::new();
            let rest = Old::of(&[("a", 2000)]);
            let (token, link) = worker.open(
                Framing::EventSource,
                Way::Filtered,
                has_many_channels,
                None,
                Some(rest),
            );
            link.room.set(100);
            worker.audience.flush(&worker, token);
            link.take_received();
            worker.gone.borrow_mut().push(b"a".to_vec());
            worker.grant(token, &link, usize::MAX);
            let before = worker.audience.entry(token).expect("it is there").messages_sent;
            link.take_received();

            let notice = Message { channel: b"a", ..Message::deleted(b"a", b"gone") };
            worker.give(&[token], &[message("a", 2001, "late")]);
            worker.give(&[token], &[message("a", 2002, "later"), notice]);
            worker.give(&[token], &[message("b", 1, "other")]);
            worker.write();
            let received = text(&link.take_received());
            assert!(!received.contains("late"), "{received}");
            assert!(received.contains("a -2 gone") && received.contains("b 1 other"), "{received}");
            let after = worker.audience.entry(token).expect("it is there").messages_sent;
            assert_eq!(after - before, 2);
        }
    }
}
