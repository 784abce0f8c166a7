//! What waits for one subscriber: parts of renderings that many share, oldest first.
//!
//! ```text
//!   messages ──► Rendering   one per batch, form and framing; shared by reference count
//!                   └─► Piece   a run of its messages for one subscriber
//!                         └─► Outbox   the pieces that its socket has not taken yet
//! ```
//!
//! A write offers as much as it can at once, and the socket takes any number of bytes: what it leaves
//! stays at the head. [`Outbox::waiting`] is what the subscriber costs the worker, and the caller holds
//! it to a bound: see there.

use core::mem;
use std::collections::VecDeque;
use std::rc::Rc;

use crate::session::link::Lost;
use crate::wire::chunked;

/// Pieces are copied together for one write up to this size; more does not make the write cheaper.
pub const COALESCED_MAX: usize = 64 << 10;

/// Bytes of memory that a piece costs besides its messages: a place in a queue of which three quarters may
/// be empty, and a rendering that nobody else may use, with its counts of references and what it has to
/// spare.
pub const PIECE_COST: usize = PLACES_PER_PIECE * size_of::<Piece>()
    + size_of::<Rendering>()
    + 2 * size_of::<usize>()
    + SPARE_MAX;
/// Bytes of memory that a message costs besides those that the client gets.
const MESSAGE_COST: usize = size_of::<usize>();
/// Bytes that a rendering may have allocated and does not use.
const SPARE_MAX: usize = 32;
/// A queue has so many places for each piece at the most. It grows by doubling.
pub(super) const PLACES_PER_PIECE: usize = 4;

/// The bytes of some messages in one form, one after the other.
#[derive(Debug, Default)]
pub struct Rendering {
    bytes: Vec<u8>,
    /// Where each message ends in `bytes`.
    ends: Vec<usize>,
    /// Without its first message the client understands nothing.
    is_opening: bool,
    /// What it shows may be skipped for a subscriber that is too slow.
    news: Option<Box<News>>,
}

/// What is known about messages that may be skipped.
#[derive(Debug)]
struct News {
    /// The channel of all of them.
    channel: Rc<[u8]>,
    /// The last one is the notice that the channel was deleted. It is never skipped.
    has_notice: bool,
    /// It is no message of the channel, but tells that so many of them were skipped.
    missed: u64,
}

impl News {
    fn cost(&self) -> usize {
        size_of::<Self>() + self.channel.len() + 2 * size_of::<usize>()
    }
}

impl Rendering {
    /// An empty one, to which so many messages are to be added.
    pub fn of(messages: usize) -> Self {
        Self { ends: Vec::with_capacity(messages), ..Self::default() }
    }

    /// Gives back memory that it does not need. To be called when it has all its messages.
    pub fn fit(&mut self) {
        if self.bytes.capacity() - self.bytes.len() > SPARE_MAX {
            self.bytes.shrink_to_fit();
        }
        self.ends.shrink_to_fit();
    }

    /// Appends one message; `write` appends its bytes, which may be none. With `as_chunk` they become a
    /// chunk of their own.
    pub fn push(&mut self, as_chunk: bool, write: impl FnOnce(&mut Vec<u8>)) {
        let from = self.bytes.len();
        write(&mut self.bytes);
        if as_chunk {
            chunked::enclose(&mut self.bytes, from);
        }
        self.ends.push(self.bytes.len());
    }

    /// Bytes of all messages.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Has it no bytes?
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// All its messages are live ones of this channel, and may be skipped. `has_notice`: but for the last one.
    pub fn may_be_skipped(&mut self, channel: &Rc<[u8]>, has_notice: bool) {
        let channel = Rc::clone(channel);
        self.news = Some(Box::new(News { channel, has_notice, missed: 0 }));
    }

    /// It tells that so many messages of this channel were skipped.
    pub fn tells(&mut self, channel: &Rc<[u8]>, missed: u64) {
        let channel = Rc::clone(channel);
        self.news = Some(Box::new(News { channel, has_notice: false, missed }));
    }

    /// Its first message goes out in any case.
    pub fn make_opening(&mut self) {
        self.is_opening = true;
    }

    /// From now on all of it goes out as one message.
    pub fn join(&mut self) {
        self.ends = vec![self.bytes.len()];
    }

    /// Where the messages from number `first` up to, not including, number `end` stand in the bytes.
    #[inline]
    fn range(&self, first: usize, end: usize) -> (usize, usize) {
        if first == 0 && end == self.ends.len() {
            return (0, self.len());
        }
        let from = self.start_of(first);
        (from, if end <= first { from } else { self.start_of(end) })
    }

    /// Where the message of this number begins; the end of all for a number that there is not.
    fn start_of(&self, number: usize) -> usize {
        match number.checked_sub(1) {
            None => 0,
            Some(before) => self.ends.get(before).copied().unwrap_or(self.bytes.len()),
        }
    }

    /// The end of the message that has a byte at `at`.
    fn end_after(&self, at: usize) -> usize {
        let number = self.ends.partition_point(|end| *end <= at);
        self.ends.get(number).copied().unwrap_or(self.bytes.len())
    }

    /// How many messages are shown from `from` to `to`.
    fn messages_between(&self, from: usize, to: usize) -> usize {
        let until = |at| match at {
            0 => 0,
            _ if at == self.bytes.len() => self.ends.len(),
            _ => self.ends.partition_point(|end| *end <= at),
        };
        until(to) - until(from)
    }

    /// Does a message begin at `at`?
    fn is_border(&self, at: usize) -> bool {
        at == 0 || self.ends.binary_search(&at).is_ok()
    }
}

/// A part of a rendering that waits for one subscriber.
#[derive(Clone, Debug)]
pub struct Piece {
    rendering: Rc<Rendering>,
    from: usize,
    to: usize,
}

impl Piece {
    /// The messages from number `first` up to, not including, number `end`; no bytes if there are none.
    pub fn messages(rendering: &Rc<Rendering>, first: usize, end: usize) -> Self {
        let (from, to) = rendering.range(first, end);
        Self { rendering: Rc::clone(rendering), from, to }
    }

    /// The message of this number; no bytes if there is none.
    pub fn one(rendering: &Rc<Rendering>, number: usize) -> Self {
        Self::messages(rendering, number, number + 1)
    }

    /// All of a rendering.
    pub fn all(rendering: Rendering) -> Self {
        let to = rendering.len();
        Self { rendering: Rc::new(rendering), from: 0, to }
    }

    /// Bytes that nobody else is sent, as one message.
    pub fn of(bytes: Vec<u8>) -> Self {
        let to = bytes.len();
        let rendering = Rendering { ends: vec![to], bytes, ..Rendering::default() };
        Self { rendering: Rc::new(rendering), from: 0, to }
    }

    /// What it shows.
    pub fn bytes(&self) -> &[u8] {
        self.rendering.bytes.get(self.from..self.to).unwrap_or_default()
    }

    /// Bytes that it shows.
    pub fn len(&self) -> usize {
        self.to.saturating_sub(self.from)
    }

    /// Does it show nothing?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes up to the end of its first message.
    fn first_message_len(&self) -> usize {
        self.rendering.end_after(self.from).min(self.to) - self.from
    }

    /// Bytes of memory that it costs in a queue, if nobody else is sent what it shows.
    pub(super) fn cost(&self) -> usize {
        let news = self.rendering.news.as_ref().map_or(0, |news| news.cost());
        PIECE_COST + news + self.cost_of_messages()
    }

    fn cost_of_messages(&self) -> usize {
        self.len() + MESSAGE_COST * self.rendering.messages_between(self.from, self.to)
    }

    /// Bytes that the renderings of these pieces have from the allocator. One that others get more of
    /// counts with what is shown here.
    #[cfg(test)]
    pub(super) fn allocated(mut pieces: Vec<&Self>) -> usize {
        let place = |piece: &Self| Rc::as_ptr(&piece.rendering).addr();
        pieces.sort_by_key(|piece| place(piece));
        let renderings = pieces.chunk_by(|one, other| place(one) == place(other));
        renderings
            .map(|pieces| {
                let rendering = &pieces[0].rendering;
                let shown: usize = pieces.iter().map(|piece| piece.len()).sum();
                if shown < rendering.len() {
                    return shown;
                }
                let ends = rendering.ends.capacity() * size_of::<usize>();
                let counts = 2 * size_of::<usize>();
                let news = rendering.news.as_ref().map_or(0, |news| news.cost());
                counts + size_of::<Rendering>() + rendering.bytes.capacity() + ends + news
            })
            .sum()
    }

    /// Its first bytes, so many of them.
    fn head(&self, len: usize) -> Self {
        Self { rendering: Rc::clone(&self.rendering), from: self.from, to: self.from + len }
    }

    /// What it shows behind its first bytes, so many of them.
    fn tail(&self, len: usize) -> Self {
        Self { rendering: Rc::clone(&self.rendering), from: self.from + len, to: self.to }
    }

    /// Tells `each` of all its messages, none of which is begun, and leaves those that must not be skipped.
    pub(super) fn skip(self, each: &mut impl FnMut(&Skip<'_>)) -> Option<Self> {
        let Some(news) = &self.rendering.news else { return Some(self) };
        let notice = self.rendering.ends.len().saturating_sub(1);
        let has_notice = news.has_notice && self.to == self.rendering.len();
        let end = if has_notice { self.rendering.start_of(notice).max(self.from) } else { self.to };
        let messages = match news.missed {
            0 => self.rendering.messages_between(self.from, end),
            _ => 0,
        };
        if self.from < end {
            each(&Skip { channel: &news.channel, messages, told: news.missed });
        }
        (end < self.to).then(|| self.tail(end - self.from))
    }

    /// Takes what `next` shows as well, if it lies directly behind this in the same rendering.
    fn extend(&mut self, next: &Self) -> bool {
        let follows = self.to == next.from && Rc::ptr_eq(&self.rendering, &next.rendering);
        if follows {
            self.to = next.to;
        }
        follows
    }
}

/// What is dropped of a piece.
#[derive(Debug)]
pub struct Skip<'a> {
    /// The channel of all of it.
    pub channel: &'a Rc<[u8]>,
    /// So many of its messages.
    pub messages: usize,
    /// What tells that so many of its messages were skipped before.
    pub told: u64,
}

/// What waits for one subscriber, oldest first. Small while it is empty or holds one piece, which is
/// so for nearly all subscribers nearly all of the time.
#[derive(Debug, Default)]
pub struct Outbox {
    first: Option<Piece>,
    more: Option<Box<More>>,
}

#[derive(Debug, Default)]
struct More {
    pieces: VecDeque<Piece>,
    /// Bytes in `pieces`.
    len: usize,
    /// Bytes of memory that `pieces` cost.
    cost: usize,
    /// How many of the bytes at the head are old messages, sent because the subscriber asked.
    backlog: usize,
    /// Behind so many of the bytes at the head messages are missing, and that is still to be told: before
    /// the next byte is taken.
    gap: Option<usize>,
}

impl Outbox {
    /// Adds a piece after all others.
    pub fn push(&mut self, piece: Piece) {
        if piece.is_empty() {
            return;
        }
        let Some(first) = &mut self.first else {
            self.first = Some(piece);
            return;
        };
        if let Some(more) = self.more.as_mut().filter(|more| !more.pieces.is_empty()) {
            more.len += piece.len();
            if more.pieces.back_mut().is_some_and(|last| last.extend(&piece)) {
                more.cost += piece.cost_of_messages();
            } else {
                more.cost += piece.cost();
                more.pieces.push_back(piece);
            }
        } else if !first.extend(&piece) {
            let more = self.more.get_or_insert_default();
            more.len += piece.len();
            more.cost += piece.cost();
            more.pieces.push_back(piece);
        }
    }

    /// Offers these messages of a rendering to `send`, and keeps what it does not take. Nothing may wait.
    /// Answers how many bytes were taken.
    ///
    /// # Errors
    ///
    /// [`Lost`], as `send` says it.
    pub fn pass(
        &mut self,
        rendering: &Rc<Rendering>,
        (first, end): (usize, usize),
        send: impl FnOnce(&[u8]) -> Result<usize, Lost>,
    ) -> Result<usize, Lost> {
        debug_assert!(self.is_empty(), "what waits comes first");
        let (from, to) = rendering.range(first, end);
        let Some(bytes) = rendering.bytes.get(from..to) else { return Ok(0) };
        if bytes.is_empty() {
            return Ok(0);
        }
        let taken = send(bytes)?;
        let from = from + taken;
        if from < to {
            self.push(Piece { rendering: Rc::clone(rendering), from, to });
        }
        Ok(taken)
    }

    /// Adds all that another one holds.
    pub fn append(&mut self, other: Self) {
        if let Some(gap) = other.more.as_ref().and_then(|more| more.gap) {
            let at = self.len() + gap;
            self.more.get_or_insert_default().gap.get_or_insert(at);
        }
        other.into_pieces().for_each(|piece| self.push(piece));
    }

    fn into_pieces(self) -> impl Iterator<Item = Piece> {
        let Self { first, more } = self;
        first.into_iter().chain(more.into_iter().flat_map(|more| more.pieces))
    }

    /// What is in it now are old messages: they do not count as waiting.
    pub fn mark_backlog(&mut self) {
        let len = self.len();
        if len > 0 {
            self.more.get_or_insert_default().backlog = len;
        }
    }

    /// Does nothing wait?
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Bytes of memory that live messages cost while they wait for the socket, as if nobody else got them.
    ///
    /// It is no less than what is allocated, but for the allocator's own share and for the rendering of the
    /// piece at the head, of which the socket may have taken a part.
    pub fn waiting(&self) -> usize {
        let Some(more) = &self.more else { return self.len() };
        let first = self.first.as_ref().map_or(0, Piece::len);
        first + more.cost - more.backlog
    }

    /// Bytes that wait for the socket.
    pub fn len(&self) -> usize {
        let first = self.first.as_ref().map_or(0, Piece::len);
        first + self.more.as_ref().map_or(0, |more| more.len)
    }

    /// Drops all that waits, but for the rest of a message of which the socket has a part already, and for
    /// what opens the connection.
    pub fn cut(&mut self) {
        self.more = None;
        self.first = self.first.take().and_then(|first| {
            let is_opening = first.rendering.is_opening && first.from == 0;
            let stays = is_opening || !first.rendering.is_border(first.from);
            stays.then(|| first.head(first.first_message_len()))
        });
    }

    /// Drops the live messages that wait, but for the rest of one of which the socket has a part already, and
    /// for notices of deletions. `each` is told what goes.
    pub(super) fn skip(&mut self, each: &mut impl FnMut(&Skip<'_>)) {
        let all = mem::take(self);
        let (backlog, mut gap) = all.more.as_ref().map_or((0, None), |m| (m.backlog, m.gap));
        let mut is_gap = false;
        let mut is_begun = all.first.as_ref().is_some_and(|f| !f.rendering.is_border(f.from));
        for piece in all.into_pieces() {
            let len = if mem::take(&mut is_begun) { piece.first_message_len() } else { 0 };
            self.push(piece.head(len));
            let stays = piece.tail(len).skip(&mut |skip| {
                is_gap = true;
                each(skip);
            });
            if is_gap {
                gap = gap.or(Some(self.len()));
            }
            stays.into_iter().for_each(|piece| self.push(piece));
        }
        if backlog > 0 || gap.is_some() {
            let more = self.more.get_or_insert_default();
            (more.backlog, more.gap) = (backlog, gap);
        }
    }

    /// Behind all that waits now messages are missing, unless some are missing before.
    pub(super) fn mark_gap(&mut self) {
        let len = self.len();
        self.more.get_or_insert_default().gap.get_or_insert(len);
    }

    /// Puts these pieces where messages are missing.
    pub(super) fn tell(&mut self, told: impl Iterator<Item = Piece>) {
        let Some(gap) = self.more.as_mut().and_then(|more| more.gap.take()) else { return };
        let all = mem::take(self);
        let backlog = all.more.as_ref().map_or(0, |more| more.backlog);
        let (mut told, mut left) = (Some(told), gap);
        for piece in all.into_pieces() {
            let len = piece.len().min(left);
            left -= len;
            self.push(piece.head(len));
            if left == 0 {
                told.take().into_iter().flatten().for_each(|piece| self.push(piece));
            }
            self.push(piece.tail(len));
        }
        told.take().into_iter().flatten().for_each(|piece| self.push(piece));
        if backlog > 0 {
            self.more.get_or_insert_default().backlog = backlog;
        }
    }

    /// Offers what waits to `send` until the socket takes less than it is offered. `scratch` is room for
    /// copying pieces together.
    ///
    /// # Errors
    ///
    /// [`Lost`], as `send` says it.
    pub fn write(
        &mut self,
        scratch: &mut Vec<u8>,
        mut send: impl FnMut(&[u8]) -> Result<usize, Lost>,
    ) -> Result<(), Lost> {
        // Nearly always there is one piece, and the socket takes all of it.
        if self.more.is_none()
            && let Some(first) = &mut self.first
        {
            let taken = send(first.bytes())?;
            if taken >= first.len() {
                self.first = None;
            } else {
                first.from += taken;
            }
            return Ok(());
        }
        while let Some(first) = &self.first {
            let (offered, taken) = if self.is_one_piece() || first.len() >= COALESCED_MAX {
                (first.len(), send(first.bytes())?)
            } else {
                self.coalesce(scratch);
                (scratch.len(), send(scratch)?)
            };
            self.consume(taken.min(offered));
            if taken < offered {
                break;
            }
        }
        Ok(())
    }

    /// Takes the next part out: a message, or with `whole` a piece.
    pub fn take(&mut self, whole: bool) -> Option<Piece> {
        let first = self.first.as_ref()?;
        let len = if whole { first.len() } else { first.first_message_len() };
        let part = first.head(len);
        self.consume(len);
        Some(part)
    }

    /// Bytes of its first piece.
    #[cfg(test)]
    pub(super) fn first_len(&self) -> usize {
        self.first.as_ref().map_or(0, Piece::len)
    }

    /// Bytes that it has from the allocator, but for its first piece.
    #[cfg(test)]
    pub(super) fn allocated(&self) -> usize {
        let Some(more) = &self.more else { return 0 };
        more.pieces.capacity() * size_of::<Piece>() + Piece::allocated(more.pieces.iter().collect())
    }

    fn is_one_piece(&self) -> bool {
        self.more.as_ref().is_none_or(|more| more.pieces.is_empty())
    }

    /// The first `len` bytes are gone; they are all there.
    fn consume(&mut self, mut len: usize) {
        if let Some(more) = &mut self.more {
            more.backlog = more.backlog.saturating_sub(len);
        }
        while let Some(first) = &mut self.first {
            if len < first.len() {
                first.from += len;
                return;
            }
            len -= first.len();
            self.first = self.more.as_mut().and_then(|more| {
                let next = more.pieces.pop_front()?;
                more.len -= next.len();
                more.cost -= next.cost();
                let places = more.pieces.len() * PLACES_PER_PIECE;
                if places < more.pieces.capacity() {
                    more.pieces.shrink_to(places / 2);
                }
                Some(next)
            });
        }
        self.more = None;
    }

    /// Copies what is at the head together, up to [`COALESCED_MAX`].
    fn coalesce(&self, into: &mut Vec<u8>) {
        into.clear();
        let more = self.more.iter().flat_map(|more| more.pieces.iter());
        for piece in self.first.iter().chain(more) {
            let (taken, _) = piece.bytes().split_at(piece.len().min(COALESCED_MAX - into.len()));
            into.extend_from_slice(taken);
            if into.len() == COALESCED_MAX {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendering(messages: &[&[u8]]) -> Rc<Rendering> {
        let mut rendering = Rendering::default();
        for message in messages {
            rendering.push(false, |out| out.extend_from_slice(message));
        }
        Rc::new(rendering)
    }

    /// An outbox of several pieces, and all its bytes.
    fn filled() -> (Outbox, Vec<u8>) {
        let mut outbox = Outbox::default();
        let batch = rendering(&[b"one", b"", b"three"]);
        outbox.push(Piece::messages(&batch, 0, 3));
        outbox.push(Piece::of(b"own".to_vec()));
        outbox.push(Piece::one(&batch, 2));
        (outbox, b"onethreeownthree".to_vec())
    }

    /// Writes at most `limit` bytes, `step` in each call of `send`.
    fn write_some(outbox: &mut Outbox, limit: usize, step: usize) -> Vec<u8> {
        let mut written = Vec::new();
        let mut scratch = Vec::new();
        let sent = outbox.write(&mut scratch, |bytes| {
            let len = bytes.len().min(step).min(limit - written.len());
            written.extend_from_slice(&bytes[..len]);
            Ok(len)
        });
        assert_eq!(sent, Ok(()));
        written
    }

    #[test]
    fn a_socket_may_stop_at_every_byte() {
        let (_, all) = filled();
        for limit in 0..=all.len() {
            for step in 1..=all.len() {
                let (mut outbox, _) = filled();
                let mut seen = write_some(&mut outbox, limit, step);
                assert_eq!(seen, all[..limit.min(step)], "{limit} {step}");
                assert_eq!(outbox.len(), all.len() - seen.len());
                while !outbox.is_empty() {
                    seen.extend(write_some(&mut outbox, usize::MAX, step));
                }
                assert_eq!(seen, all, "{limit} {step}");
            }
        }
    }

    #[test]
    fn a_lost_connection_ends_the_write() {
        let (mut outbox, all) = filled();
        assert_eq!(outbox.write(&mut Vec::new(), |_| Err(Lost)), Err(Lost));
        assert_eq!(outbox.len(), all.len());
    }

    #[test]
    fn large_pieces_are_not_copied_and_small_ones_are_joined() {
        let large = vec![b'x'; COALESCED_MAX];
        let mut outbox = Outbox::default();
        outbox.push(Piece::of(large.clone()));
        for _ in 0..3 {
            outbox.push(Piece::of(b"small".to_vec()));
        }
        let at = outbox.first.as_ref().expect("a piece").bytes().as_ptr();
        let mut offers = Vec::new();
        let sent = outbox.write(&mut Vec::new(), |bytes| {
            offers.push((bytes.as_ptr() == at, bytes.len()));
            Ok(bytes.len())
        });
        assert_eq!(sent, Ok(()));
        assert_eq!(offers, [(true, COALESCED_MAX), (false, 15)]);
        assert!(outbox.is_empty() && outbox.more.is_none());
    }

    #[test]
    fn takes_a_message_or_a_piece_at_a_time() {
        let (mut outbox, _) = filled();
        let mut parts = Vec::new();
        while let Some(part) = outbox.take(false) {
            parts.push(part.bytes().to_vec());
        }
        assert_eq!(parts, [&b"one"[..], b"three", b"own", b"three"]);

        let (mut outbox, _) = filled();
        assert_eq!(write_some(&mut outbox, 1, 1), b"o");
        assert_eq!(outbox.take(false).expect("the rest").bytes(), b"ne");
        assert_eq!(outbox.take(true).expect("a piece").bytes(), b"three");
    }

    #[test]
    fn messages_that_follow_each_other_in_a_rendering_are_one_piece() {
        let batch = rendering(&[b"a", b"b", b"c", b"d"]);
        let mut outbox = Outbox::default();
        outbox.push(Piece::one(&batch, 0));
        outbox.push(Piece::one(&batch, 1));
        assert!(outbox.is_one_piece());
        outbox.push(Piece::one(&batch, 3));
        outbox.push(Piece::one(&rendering(&[b"e"]), 0));
        assert_eq!(outbox.more.as_ref().expect("more").pieces.len(), 2);
        assert_eq!(write_some(&mut outbox, usize::MAX, usize::MAX), b"abde");
    }

    #[test]
    fn what_waits_counts_with_all_its_memory() {
        for (batch, len) in [(1, 1), (1, 3), (1, 3000), (2, 1), (64, 1), (64, 3), (64, 700), (3, 0)]
        {
            let mut outbox = Outbox::default();
            let text = vec![b'x'; len];
            for _ in 0..200 {
                let mut rendering = Rendering::of(batch);
                for number in 0..batch {
                    let text = if number == 1 { b"not empty" } else { text.as_slice() };
                    rendering.push(true, |out| out.extend_from_slice(text));
                }
                rendering.fit();
                outbox.push(Piece::all(rendering));
            }
            while !outbox.is_empty() {
                let (waiting, allocated) = (outbox.waiting(), outbox.allocated());
                assert!(waiting >= allocated, "{batch} of {len}: {waiting} < {allocated}");
                let first = outbox.first.as_ref().map_or(0, Piece::len);
                assert!(waiting <= 2 * allocated + first, "{batch} of {len}: {waiting}");
                let half = outbox.len().div_ceil(2);
                write_some(&mut outbox, half, usize::MAX);
            }
            assert_eq!(outbox.waiting(), 0);
        }
    }

    #[test]
    fn old_messages_do_not_count_as_waiting() {
        let mut outbox = Outbox::default();
        outbox.mark_backlog();
        assert_eq!(outbox.waiting(), 0);
        outbox.push(Piece::of(vec![0; 100]));
        outbox.mark_backlog();
        assert_eq!((outbox.waiting(), outbox.len()), (0, 100));
        outbox.push(Piece::of(vec![0; 10]));
        let cost = PIECE_COST + MESSAGE_COST;
        assert_eq!((outbox.waiting(), outbox.len()), (10 + cost, 110));
        for taken in 1..=100 {
            assert_eq!(write_some(&mut outbox, 1, 1), [0]);
            assert_eq!(outbox.len(), 110 - taken);
            let cost = if taken == 100 { 0 } else { cost };
            assert_eq!(outbox.waiting(), 10 + cost);
        }
    }

    #[test]
    fn cutting_leaves_the_rest_of_a_begun_message() {
        let (_, all) = filled();
        for taken in 0..=all.len() {
            let (mut outbox, _) = filled();
            while outbox.len() > all.len() - taken {
                write_some(&mut outbox, 1, 1);
            }
            outbox.cut();
            let rest = write_some(&mut outbox, usize::MAX, usize::MAX);
            let end = [0, 3, 8, 11, 16].into_iter().find(|end| *end >= taken).expect("an end");
            assert_eq!(rest, all[taken..end], "{taken}");
        }
    }

    #[test]
    fn chunks_are_framed_and_empty_messages_are_none() {
        let mut rendering = Rendering::default();
        rendering.push(true, |out| out.extend_from_slice(b"hello"));
        rendering.push(true, |_| {});
        rendering.push(true, |out| out.extend(vec![b'x'; 16]));
        let rendering = Rc::new(rendering);
        assert_eq!(Piece::one(&rendering, 0).bytes(), b"5\r\nhello\r\n");
        assert!(Piece::one(&rendering, 1).is_empty());
        assert_eq!(Piece::one(&rendering, 2).bytes(), b"10\r\nxxxxxxxxxxxxxxxx\r\n");
        assert!(Piece::one(&rendering, 3).is_empty());
        assert_eq!(Piece::messages(&rendering, 0, 9).len(), rendering.len());
    }

    #[test]
    fn appending_keeps_the_order() {
        let (mut outbox, all) = filled();
        let (other, _) = filled();
        outbox.append(other);
        assert_eq!(write_some(&mut outbox, usize::MAX, usize::MAX), [all.clone(), all].concat());
    }

    /// Old messages, a deletion in between, and what comes while the outbox is out for a call.
    #[test]
    fn what_is_skipped_leaves_a_gap_where_it_was() {
        let channel: Rc<[u8]> = Rc::from(&b"a"[..]);
        let live = |texts: &[&str], has_notice| {
            let mut rendering = Rendering::of(texts.len());
            texts.iter().for_each(|text| rendering.push(false, |out| out.extend(text.bytes())));
            rendering.may_be_skipped(&channel, has_notice);
            Piece::all(rendering)
        };
        let told = |missed| {
            let mut rendering = Rendering::default();
            rendering.push(false, |out| out.extend_from_slice(b"(gap)"));
            rendering.tells(&channel, missed);
            Piece::all(rendering)
        };
        let skip = |outbox: &mut Outbox| {
            let (mut messages, mut before) = (0, 0);
            outbox.skip(&mut |skip| {
                assert_eq!(&**skip.channel, b"a");
                (messages, before) = (messages + skip.messages, before + skip.told);
            });
            (messages, before)
        };
        let text = |outbox: &mut Outbox| {
            let mut sent = Vec::new();
            let send = |bytes: &[u8]| {
                sent.extend_from_slice(bytes);
                Ok(bytes.len())
            };
            outbox.write(&mut Vec::new(), send).expect("it takes all");
            String::from_utf8(sent).expect("text")
        };

        let mut outbox = Outbox::default();
        outbox.push(Piece::of(b"old,".to_vec()));
        outbox.mark_backlog();
        outbox.push(live(&["one,", "two,"], false));
        outbox.push(live(&["three,", "gone,"], true));
        assert_eq!(skip(&mut outbox), (3, 0));
        assert_eq!(outbox.len(), 9);
        let cost = live(&["three,", "gone,"], true).tail(6).cost();
        assert_eq!(outbox.waiting(), cost, "old messages do not count");
        outbox.push(live(&["four,"], false));
        outbox.tell([told(3)].into_iter());
        assert_eq!(outbox.waiting(), cost + told(3).cost() + live(&["four,"], false).cost());
        assert_eq!(skip(&mut outbox), (1, 3), "what is told of again");
        outbox.tell([told(4)].into_iter());
        outbox.push(live(&["five,"], false));
        assert_eq!(text(&mut outbox), "old,(gap)gone,five,");
        assert_eq!((outbox.len(), outbox.waiting()), (0, 0));

        // One that is begun goes on.
        outbox.push(live(&["six,", "seven,"], false));
        let mut room = Some(1);
        let send = |_: &[u8]| Ok(room.take().unwrap_or(0));
        outbox.write(&mut Vec::new(), send).expect("it takes one byte");
        assert_eq!(skip(&mut outbox), (1, 0));
        let mut all = Outbox::default();
        all.push(Piece::of(b"first,".to_vec()));
        all.append(outbox);
        all.push(live(&["eight,"], false));
        all.tell([told(1)].into_iter());
        assert_eq!(text(&mut all), "first,ix,(gap)eight,");
    }
}
