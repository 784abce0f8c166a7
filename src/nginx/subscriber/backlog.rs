//! Old messages, a portion at a time.
//!
//! ```text
//!   zone ──► portion ──► outbox ──► socket        the next portion when the last one is written
//!   live messages ─────► later ──► outbox         when there is no other portion
//! ```
//!
//! Nothing in the zone waits for the socket: between two turns of the worker only the place is known.
//! Who is so slow that the messages behind its place are no longer stored is cut off, for it would
//! have a gap.

use core::mem;
use std::rc::Rc;

use crate::hub::Rest;
use crate::nginx::journal::Reason;
use crate::nginx::output::{Outbox, Piece, Rendering};
use crate::nginx::subscriber::audience::{self, Mode, State, Stream, Token};
use crate::nginx::subscriber::delivery;
use crate::nginx::worker;

/// Bytes of old messages that are rendered at a time, and one message: some writes' worth, so that
/// finding the place again does not count.
pub(super) const PORTION: usize = 256 << 10;
/// Portions that one subscriber gets before others have a turn.
const PORTIONS_MAX: usize = 4;
/// Such turns before other connections of the worker have theirs.
const TURNS_MAX: usize = 16;

/// What a subscriber has not been given yet because its socket is slow.
pub(super) struct Unread {
    /// The old messages; `None` while they are being read.
    rest: Option<Rest>,
    /// Live messages, which come after all of them.
    later: Outbox,
    /// It is in [`audience::Audience::reading`].
    is_reading: bool,
}

impl Unread {
    pub(super) fn new(rest: Rest) -> Self {
        Self { rest: Some(rest), later: Outbox::default(), is_reading: false }
    }
}

impl Stream {
    /// Live messages, from number `skipped` on.
    pub(super) fn push(&mut self, rendering: &Rc<Rendering>, skipped: usize) {
        self.live().push(rendering, skipped);
    }

    /// A live message.
    pub(super) fn push_piece(&mut self, piece: Piece) {
        self.live().push_piece(piece);
    }

    fn live(&mut self) -> &mut Outbox {
        match &mut self.unread {
            Some(unread) => &mut unread.later,
            None => &mut self.outbox,
        }
    }

    /// Bytes of live messages that wait.
    pub(super) fn waiting(&self) -> usize {
        self.outbox.waiting() + self.unread.as_ref().map_or(0, |unread| unread.later.len())
    }

    /// All bytes that wait.
    pub(super) fn buffered(&self) -> usize {
        self.outbox.len() + self.unread.as_ref().map_or(0, |unread| unread.later.len())
    }

    /// There are no old messages any more: the live ones come next.
    pub(super) fn go_live(&mut self) {
        if let Some(unread) = self.unread.take() {
            self.outbox.append(unread.later);
        }
    }
}

/// What became of an attempt to give a subscriber more of its old messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refill {
    /// There was nothing to give, or its socket takes nothing.
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

    /// The next portion for an empty outbox, if its turn is not over.
    pub(super) fn refill(&mut self) -> Refill {
        let token = self.token;
        if self.portions == PORTIONS_MAX {
            return Refill::Nothing;
        }
        let asked = audience::with(|audience| {
            let subscriber = audience.subscribers.get(token)?;
            let Mode::Stream(stream) = &mut subscriber.mode else { return None };
            if subscriber.state != State::Open || subscriber.is_blocked {
                return None;
            }
            let form = audience.forms.get(subscriber.form)?;
            let rest = self.rest.take().or_else(|| stream.unread.as_mut()?.rest.take())?;
            Some((rest, form.clone(), stream.frames_chunks))
        });
        let Some((rest, form, frames_chunks)) = asked else { return Refill::Nothing };
        let mut rendering = Rendering::default();
        let mut count = 0;
        let left = worker::operate(|hub, _, now| {
            hub.read_on(rest, now, &mut |message| {
                count += 1;
                delivery::push(&mut rendering, frames_chunks, |out| form.render(message, out));
                rendering.len() < PORTION
            })
        });
        // Without a seat in the zone there is nothing to be had from it either.
        let has_lagged = !matches!(left, Some(Ok(_)));
        self.rest = left.and_then(Result::ok).flatten();
        self.portions += 1;
        audience::with(|audience| {
            let Some(subscriber) = audience.subscribers.get(token) else { return Refill::Nothing };
            if has_lagged {
                subscriber.state = State::TooSlow;
                subscriber.reason = Reason::Slow;
                return Refill::Lagged;
            }
            subscriber.count(count);
            let Mode::Stream(stream) = &mut subscriber.mode else { return Refill::Nothing };
            stream.outbox.push(&Rc::new(rendering), 0);
            stream.outbox.mark_backlog();
            if self.rest.is_none() {
                stream.go_live();
            }
            Refill::Done
        })
    }

    /// The turn is over. `true`: only because others are to have theirs; [`go_on`] goes on.
    pub(super) fn park(self) -> bool {
        let Some(mut rest) = self.rest else { return false };
        worker::operate(|hub, _, now| hub.park(&mut rest, now));
        audience::with(|audience| {
            let Some(subscriber) = audience.subscribers.get(self.token) else { return false };
            let Mode::Stream(stream) = &mut subscriber.mode else { return false };
            let Some(unread) = &mut stream.unread else { return false };
            unread.rest = Some(rest);
            if !subscriber.is_blocked && !mem::replace(&mut unread.is_reading, true) {
                audience.reading.push_back(self.token);
            }
            !audience.reading.is_empty()
        })
    }
}

/// Gives those another turn whose turn was over before their socket was full.
pub(super) fn go_on(flush: impl Fn(Token)) {
    let count = audience::with(|audience| audience.reading.len());
    for _ in 0..count.min(TURNS_MAX) {
        let next = audience::with(|audience| {
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
