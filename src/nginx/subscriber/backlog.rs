//! Old messages, a portion at a time.
//!
//! ```text
//!   zone ──► portion ──► outbox ──► socket        the next portion when the last one is written
//!   live messages ─────► later ──► outbox         when there is no other portion
//! ```
//!
//! A stream goes on with what is live; the answer to a poll ends, with nothing left out of what its head
//! has announced.
//!
//! Nothing in the zone waits for the socket: between two turns of the worker only the place is known.
//! Who is so slow that the messages behind its place are no longer stored is cut off, for it would
//! have a gap.

use std::collections::VecDeque;
use std::rc::Rc;

use core::mem;

use crate::hub::{Lagged, Reading, Rest};
use crate::model::Token;
use crate::nginx::journal::Reason;
use crate::nginx::output::{Piece, Rendering};
use crate::nginx::subscriber::audience::{self, Audience, Mode, State, Stream, Subscriber};
use crate::nginx::subscriber::delivery;
use crate::nginx::worker;

/// A portion is full with so many bytes, or so many messages: some writes' worth, some milliseconds.
const PORTION: usize = 256 << 10;
const PORTION_MESSAGES: u32 = 1024;
/// Portions that one subscriber gets before others have a turn.
const PORTIONS_MAX: usize = 4;
/// Portions that all get before other connections of the worker have theirs.
const PORTIONS_PER_ROUND: usize = 64;

/// Is there no room for another message behind so many bytes, and messages?
pub(super) fn is_full(len: usize, messages: u32) -> bool {
    len >= PORTION || messages >= PORTION_MESSAGES
}

/// What a subscriber has not been given yet because its socket is slow.
pub(super) struct Unread {
    /// The old messages; `None` while they are being read.
    rest: Option<Rest>,
    /// Live messages, which come after all of them.
    later: VecDeque<Later>,
    /// Bytes in `later`.
    len: usize,
    /// What goes before each of the old messages.
    separator: &'static [u8],
    /// It is in [`Audience::reading`].
    is_reading: bool,
}

/// A live message that waits for old ones.
struct Later {
    channel: Rc<[u8]>,
    is_notice: bool,
    piece: Piece,
}

impl Unread {
    pub(super) fn new(rest: Rest) -> Self {
        let later = VecDeque::new();
        Self { rest: Some(rest), later, len: 0, separator: b"", is_reading: false }
    }

    /// The same with this between all messages.
    pub(super) fn separated(rest: Rest, separator: &'static [u8]) -> Self {
        Self { separator, ..Self::new(rest) }
    }

    /// Adds a live message. The notice that its channel was deleted outlives the others of it.
    pub(super) fn push(&mut self, channel: &Rc<[u8]>, is_notice: bool, piece: Piece) {
        self.len += piece.len();
        self.later.push_back(Later { channel: Rc::clone(channel), is_notice, piece });
    }

    /// Adds what ends the connection.
    pub(super) fn push_last(&mut self, piece: Piece) {
        self.push(&Rc::from(&b""[..]), true, piece);
    }

    /// A channel was deleted before its old messages were read. To give the live ones that came after
    /// them would be a gap; so the notice is all that comes. Answers how many do not.
    fn forget(&mut self, channel: &[u8]) -> usize {
        let before = self.later.len();
        self.later.retain(|later| later.is_notice || *later.channel != *channel);
        self.len = self.later.iter().map(|later| later.piece.len()).sum();
        before - self.later.len()
    }
}

impl Stream {
    /// Bytes of live messages that wait.
    pub(super) fn waiting(&self) -> usize {
        self.outbox.waiting() + self.unread.as_ref().map_or(0, |unread| unread.len)
    }

    /// All bytes that wait.
    pub(super) fn buffered(&self) -> usize {
        self.outbox.len() + self.unread.as_ref().map_or(0, |unread| unread.len)
    }

    /// There are no old messages any more: the live ones come next.
    fn go_live(&mut self) {
        if let Some(unread) = self.unread.take() {
            unread.later.into_iter().for_each(|later| self.outbox.push_piece(later.piece));
        }
    }
}

impl Subscriber {
    /// All its channels were deleted, and with them what was still to be read of them.
    pub(super) fn forget_unread(&mut self) {
        let Mode::Stream(stream) = &mut self.mode else { return };
        let Some(unread) = &mut stream.unread else { return };
        let mut forgotten = 0;
        if let Some(rest) = unread.rest.take() {
            forgotten = rest.channels().map(|channel| unread.forget(channel)).sum();
        }
        stream.go_live();
        self.uncount(forgotten);
    }

    /// It is given no more of what it has not been given yet.
    pub(super) fn drop_unread(&mut self) {
        let Mode::Stream(stream) = &mut self.mode else { return };
        let dropped = stream.unread.take().map_or(0, |unread| unread.later.len());
        self.uncount(dropped);
    }
}

impl Audience {
    /// The subscriber's turn was over before its socket was full. `true`: it gets another one, see
    /// [`go_on`].
    fn await_turn(&mut self, token: Token) -> bool {
        let Some(subscriber) = self.subscribers.get(token) else { return false };
        let Mode::Stream(stream) = &mut subscriber.mode else { return false };
        let Some(unread) = &mut stream.unread else { return false };
        if subscriber.is_blocked || mem::replace(&mut unread.is_reading, true) {
            return false;
        }
        self.reading.push_back(token);
        true
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

/// Reads on for one subscriber, during one turn of the worker, which [`Refiller::park`] ends.
pub(super) struct Refiller {
    token: Token,
    portions: usize,
    rest: Option<Rest>,
}

impl Refiller {
    pub(super) fn new(token: Token) -> Self {
        Self { token, portions: 0, rest: None }
    }

    /// The next portion for an empty outbox.
    pub(super) fn refill(&mut self) -> Refill {
        let token = self.token;
        // Nobody would give it another turn in a worker that ends.
        let has_turns = !worker::is_exiting() && !worker::is_terminating();
        let is_over = self.portions == PORTIONS_MAX;
        let asked = audience::with(|audience| {
            let is_over = is_over || audience.portions == PORTIONS_PER_ROUND;
            let subscriber = audience.subscribers.get(token)?;
            let Mode::Stream(stream) = &mut subscriber.mode else { return None };
            let may = matches!(subscriber.state, State::Open | State::Ending);
            if !may || is_over && has_turns || subscriber.is_blocked {
                return None;
            }
            let form = audience.forms.get(subscriber.form)?;
            let unread = stream.unread.as_mut()?;
            let rest = self.rest.take().or_else(|| unread.rest.take())?;
            audience.portions = (audience.portions + 1).min(PORTIONS_PER_ROUND);
            let (frames_chunks, is_answer) = (stream.frames_chunks, stream.is_answer);
            Some((rest, form.clone(), frames_chunks, is_answer, unread.separator))
        });
        let Some((rest, form, frames_chunks, is_answer, separator)) = asked else {
            return Refill::Nothing;
        };
        self.portions += 1;
        let mut rendering = Rendering::default();
        let mut count = 0;
        let read = worker::operate(|hub, _, now| {
            let mut reading = hub.read_on(rest, now, &mut |message| {
                count += 1;
                delivery::push(&mut rendering, frames_chunks, |out| {
                    out.extend_from_slice(separator);
                    form.render(message, out);
                });
                !is_full(rendering.len(), count)
            })?;
            // An answer has announced the messages of the channel that is gone.
            if is_answer && !reading.gone.is_empty() {
                if let Some(rest) = &mut reading.rest {
                    hub.park(rest, now);
                }
                return Err(Lagged);
            }
            Ok(reading)
        });
        if is_answer {
            rendering.join();
        }
        // Without a seat in the zone there is nothing to be had from it either.
        let Some(Ok(Reading { rest, gone })) = read else {
            audience::with(|audience| {
                if let Some(subscriber) = audience.subscribers.get(token) {
                    subscriber.state = State::TooSlow;
                    subscriber.reason = Reason::Slow;
                }
            });
            return Refill::Lagged;
        };
        self.rest = rest;
        audience::with(|audience| {
            let Some(subscriber) = audience.subscribers.get(token) else { return };
            let Mode::Stream(stream) = &mut subscriber.mode else { return };
            stream.outbox.push(&Rc::new(rendering), 0);
            stream.outbox.mark_backlog();
            let mut forgotten = 0;
            if let Some(unread) = &mut stream.unread {
                forgotten = gone.iter().map(|channel| unread.forget(channel)).sum();
            }
            if self.rest.is_none() {
                stream.go_live();
            }
            subscriber.count(count as usize);
            subscriber.uncount(forgotten);
        });
        Refill::Done
    }

    /// The turn is over. `true`: only because others are to have theirs; [`go_on`] goes on.
    pub(super) fn park(self) -> bool {
        let token = self.token;
        if let Some(mut rest) = self.rest {
            worker::operate(|hub, _, now| hub.park(&mut rest, now));
            audience::with(|audience| {
                if let Some(subscriber) = audience.subscribers.get(token)
                    && let Mode::Stream(stream) = &mut subscriber.mode
                    && let Some(unread) = &mut stream.unread
                {
                    unread.rest = Some(rest);
                }
            });
        }
        audience::with(|audience| audience.await_turn(token))
    }
}

/// Gives those another turn whose turn was over before their socket was full.
pub(super) fn go_on(flush: impl Fn(Token)) {
    let waiting = audience::with(|audience| {
        audience.portions = 0;
        audience.reading.len()
    });
    for _ in 0..waiting {
        let next = audience::with(|audience| {
            if audience.portions == PORTIONS_PER_ROUND {
                return None;
            }
            let token = audience.reading.pop_front()?;
            if let Some(subscriber) = audience.subscribers.get(token)
                && let Mode::Stream(stream) = &mut subscriber.mode
                && let Some(unread) = &mut stream.unread
            {
                unread.is_reading = false;
            }
            Some(token)
        });
        let Some(token) = next else { break };
        flush(token);
    }
}
