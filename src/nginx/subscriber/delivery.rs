//! From a worker's news to bytes on its subscribers' sockets.
//!
//! ```text
//!   on_news ──► hub.deliver ──► Audience::take: render once, share, queue     no call into nginx
//!           └─► write_out ──► write: one write per subscriber                 bounded per round
//! ```
//!
//! Whatever calls into nginx holds no reference to a subscriber: it has a [`Token`], and asks again
//! afterwards, for the call may have ended the subscriber.

use core::mem;
use core::ptr::NonNull;
use std::rc::Rc;

use ngx::ffi::{NGX_ERROR, ngx_int_t};

use crate::hub::News;
use crate::model::{DELETED_ID, Group, Message, Seconds, Token};
use crate::nginx::journal::Reason;
use crate::nginx::output::{Flushed, Loans, Outbox, Piece, Rendering, Way};
use crate::nginx::peer::{self, Peer};
use crate::nginx::subscriber::audience::{self, Audience, Mode, State};
use crate::nginx::subscriber::backlog::{self, Refill, Refiller};
use crate::nginx::subscriber::ending::{drop_connection, finish, leave_and_flush, report_too_slow};
use crate::nginx::subscriber::events::events;
use crate::nginx::subscriber::polling;
use crate::nginx::timers::{self, Kind};
use crate::nginx::worker;
use crate::session::Form;
use crate::wire::chunked;

/// Batches that are taken from the hub before the subscribers are written to.
const BATCHES_MAX: usize = 16;
/// Subscribers that are written to before other connections of the worker have a turn.
const FLUSHES_MAX: usize = 1000;

const ERROR: ngx_int_t = NGX_ERROR as ngx_int_t;

/// Hands out a bounded part of what the hub has for our subscribers, and writes to them. `true`:
/// there is more, so call again after other connections had a turn.
pub(crate) fn on_news() -> bool {
    // First those are written to who have something already. What is published meanwhile waits in
    // the zone, where it takes its room once, and then leaves in the same write as the rest.
    if audience::with(|audience| !audience.dirty.is_empty()) {
        // Nearly always the event is on its way already; not after a panic.
        events(|events| events.flush.post_next());
        return true;
    }
    let now_msec = timers::now_msec();
    let mut more = true;
    for _ in 0..BATCHES_MAX {
        let went_on = worker::with(|worker| {
            worker.hub().deliver(worker.rules(), worker::now(), &mut |news| {
                audience::with(|audience| audience.take(news, now_msec));
            })
        });
        more = went_on.unwrap_or(false);
        // Batches of several channels are worth collecting: their subscribers get one write. But
        // those who have something already are not to wait long.
        if !more || audience::with(|audience| audience.dirty.len() >= FLUSHES_MAX) {
            break;
        }
    }
    audience::with(Audience::settle_arrivals);
    for token in audience::with(|audience| mem::take(&mut audience.broken)) {
        drop_connection(token, ERROR);
    }
    write_out();
    more
}

impl Audience {
    /// Queues what the hub has handed out.
    fn take(&mut self, news: News<'_>, now_msec: usize) {
        match news {
            News::Messages { groups, messages, deleted_at } => {
                for group in groups {
                    self.take_group(group, messages, deleted_at, now_msec);
                }
            }
            News::Ended { token, left: 0 } => {
                if let Some(subscriber) = self.subscribers.get(token)
                    && matches!(subscriber.mode, Mode::Stream(_))
                {
                    self.ended.push(token);
                }
            }
            News::Ended { .. } => {}
            News::Broken { token, .. } => self.broken.push(token),
        }
    }

    fn take_group(
        &mut self,
        group: &Group,
        messages: &[Message<'_>],
        deleted_at: Option<(Seconds, u64)>,
        now_msec: usize,
    ) {
        let Some(form) = self.forms.get(group.form) else { return };
        let mut renderings = Renderings { form, messages, raw: None, chunked: None };
        let mut name: Option<Rc<[u8]>> = None;
        for listener in &group.listeners {
            let due = listener.due(messages);
            let token = listener.token;
            let Some(subscriber) = self.subscribers.get(token) else { continue };
            let Some(first) = due.first() else { continue };
            match &mut subscriber.mode {
                Mode::Stream(_) if subscriber.state != State::Open => {}
                Mode::Stream(stream)
                    if subscriber.is_blocked
                        && stream.waiting() > subscriber.location.subscriber_max_buffered =>
                {
                    subscriber.state = State::TooSlow;
                    subscriber.reason = Reason::Slow;
                    if !mem::replace(&mut subscriber.is_dirty, true) {
                        self.dirty.push_back(token);
                    }
                }
                Mode::Stream(stream) => {
                    subscriber.messages_sent =
                        subscriber.messages_sent.saturating_add(due.len() as u32);
                    let skipped = messages.len() - due.len();
                    let rendering = renderings.get(stream.frames_chunks);
                    // Only behind old messages it matters whose they are.
                    let channel = stream
                        .unread
                        .is_some()
                        .then(|| name.get_or_insert_with(|| first.channel.into()));
                    if subscriber.has_many_channels {
                        self.arrivals.extend((skipped..messages.len()).zip(due).map(
                            |(number, message)| Arrival {
                                order: Order::of(message, deleted_at),
                                token,
                                channel: channel.as_deref().cloned(),
                                piece: Piece::one(rendering, number),
                            },
                        ));
                    } else if let Some((unread, channel)) = stream.unread.as_mut().zip(channel) {
                        for (number, message) in (skipped..).zip(due) {
                            let is_notice = message.id == DELETED_ID;
                            unread.push(channel, is_notice, Piece::one(rendering, number));
                        }
                    } else {
                        stream.outbox.push(rendering, skipped);
                    }
                    // Nobody is told of what waits behind a full socket: nginx will tell.
                    if !subscriber.is_blocked && !mem::replace(&mut subscriber.is_dirty, true) {
                        self.dirty.push_back(token);
                    }
                    self.queues.restart(&mut self.subscribers, Kind::Ping, token.index(), now_msec);
                }
                Mode::Poll(poll) => {
                    let number = messages.len() - due.len();
                    if poll.offer(first, || Piece::one(renderings.get(false), number)) {
                        self.answered.push_back(token);
                    }
                }
            }
        }
    }

    /// Puts what came from several channels into one order: that of publishing. The hub hands out
    /// one channel after the other.
    fn settle_arrivals(&mut self) {
        self.arrivals.sort_by_key(|arrival| arrival.order);
        for Arrival { order, token, channel, piece } in self.arrivals.drain(..) {
            if let Some(subscriber) = self.subscribers.get(token)
                && let Mode::Stream(stream) = &mut subscriber.mode
            {
                match stream.unread.as_mut().zip(channel) {
                    Some((unread, channel)) => unread.push(&channel, order.is_notice, piece),
                    None => stream.outbox.push_piece(piece),
                }
            }
        }
        self.arrivals.shrink_to(FLUSHES_MAX);
        // A close frame comes after all of it.
        for token in mem::take(&mut self.ended) {
            self.begin_end(token, Reason::Deleted);
            self.mark_dirty(token);
        }
    }
}

/// A message for a subscriber of several channels.
pub(super) struct Arrival {
    order: Order,
    token: Token,
    /// Which channel's, if it has to wait for old messages.
    channel: Option<Rc<[u8]>>,
    piece: Piece,
}

/// The place of a message among those of all channels.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Order {
    time: Seconds,
    tag: u64,
    /// The notice that a channel was deleted has the place of the newest message at that time, and
    /// comes after it.
    is_notice: bool,
}

impl Order {
    fn of(message: &Message<'_>, deleted_at: Option<(Seconds, u64)>) -> Self {
        match (message.id, deleted_at) {
            (DELETED_ID, Some((time, tag))) => Self { time, tag, is_notice: true },
            _ => Self { time: message.time, tag: message.tag, is_notice: false },
        }
    }
}

/// One batch in one form: rendered when the first subscriber needs it, and then shared.
struct Renderings<'a> {
    form: &'a Form,
    messages: &'a [Message<'a>],
    raw: Option<Rc<Rendering>>,
    chunked: Option<Rc<Rendering>>,
}

impl Renderings<'_> {
    fn get(&mut self, frames_chunks: bool) -> &Rc<Rendering> {
        let slot = if frames_chunks { &mut self.chunked } else { &mut self.raw };
        slot.get_or_insert_with(|| {
            let mut rendering = Rendering::default();
            for message in self.messages {
                push(&mut rendering, frames_chunks, |out| self.form.render(message, out));
            }
            Rc::new(rendering)
        })
    }
}

/// Appends what `write` writes as one message, in a chunk of its own if we are to do that.
pub(super) fn push(
    rendering: &mut Rendering,
    frames_chunks: bool,
    write: impl FnOnce(&mut Vec<u8>),
) {
    if !frames_chunks {
        rendering.push(write);
        return;
    }
    let mut data = Vec::new();
    write(&mut data);
    rendering.push(|out| chunked::encode(&data, out));
}

/// Writes to those who have something new; the rest of them in the next round.
pub(super) fn write_out() {
    for _ in 0..FLUSHES_MAX {
        let Some(token) = audience::with(|audience| audience.dirty.pop_front()) else { break };
        flush(token);
    }
    backlog::go_on(flush);
    let has_answers = polling::answer_ready();
    let has_more =
        audience::with(|audience| !audience.dirty.is_empty() || !audience.reading.is_empty());
    if has_answers || has_more {
        events(|events| events.flush.post_next());
    }
}

/// Writes what waits, and ends the subscriber if that was due or the connection is lost.
///
/// Not for the content handler: nginx goes on with a request that this may have finished.
pub(super) fn flush(token: Token) {
    match write(token) {
        Written::Gone => {}
        Written::Open => run_subrequest(token),
        Written::Ended => finish(token),
        Written::TooSlow => {
            report_too_slow();
            if audience::with(|audience| audience.cut_off(token)) {
                leave_and_flush(token);
            } else {
                drop_connection(token, ERROR);
            }
        }
        Written::Lost => drop_connection(token, ERROR),
    }
}

/// A body filter may have made a subrequest, whose answer comes first. nginx runs it after an event of
/// the connection; after one of ours nobody does.
fn run_subrequest(token: Token) {
    let peer = audience::with(|audience| Some(audience.subscribers.get(token)?.peer));
    if let Some(peer) = peer.filter(|peer| peer.is_postponed()) {
        // SAFETY: its subscriber is there, so the request is live, and nobody uses it after this.
        unsafe { peer::run_posted(peer.connection()) };
    }
}

/// What a subscriber is like after a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// There is no such subscriber any more.
    Gone,
    Open,
    /// All that it was to get is written, but for the footer.
    Ended,
    /// It has too much waiting.
    TooSlow,
    /// The connection is lost.
    Lost,
}

/// Writes what waits for the subscriber as far as its socket takes it.
pub(super) fn write(token: Token) -> Written {
    let mut refiller = Refiller::new(token);
    let written = loop {
        let written = write_waiting(token);
        if written != Written::Open {
            break written;
        }
        match refiller.refill() {
            Refill::Done => {}
            Refill::Nothing => break written,
            Refill::Lagged => break Written::TooSlow,
        }
    };
    if refiller.park() {
        events(|events| events.flush.post_next());
    }
    if written == Written::Ended {
        audience::with(|audience| audience.complete(token));
    }
    written
}

fn write_waiting(token: Token) -> Written {
    let Some(mut turn) = audience::with(|audience| audience.begin_turn(token)) else {
        return Written::Gone;
    };
    if turn.state == State::TooSlow {
        let is_blocked = turn.is_blocked;
        audience::with(|audience| audience.end_turn(token, turn, is_blocked));
        return Written::TooSlow;
    }
    let flushed = turn.way.flush(turn.peer, &mut turn.outbox, turn.loans, &mut turn.scratch);
    let is_blocked = matches!(flushed, Flushed::Some(_));
    let was_blocked = turn.is_blocked;
    let peer = turn.peer;
    let (state, is_websocket) = (turn.state, turn.is_websocket);
    let ended = audience::with(|audience| audience.end_turn(token, turn, is_blocked));
    let Some(has_unread) = ended else { return Written::Gone };
    match flushed {
        Flushed::Lost => Written::Lost,
        Flushed::Some(progress) => {
            let armed = peer.await_writable(progress || !was_blocked);
            if armed { Written::Open } else { Written::Lost }
        }
        Flushed::All => {
            if was_blocked {
                peer.stop_waiting();
                if is_websocket {
                    // Nobody reads what its client sends while it does not read itself.
                    peer.post_read();
                }
            }
            if state == State::Ending && !has_unread { Written::Ended } else { Written::Open }
        }
    }
}

/// What a write needs, taken out of the audience for its time.
struct Turn {
    peer: Peer,
    state: State,
    is_websocket: bool,
    is_blocked: bool,
    way: Way,
    outbox: Outbox,
    loans: NonNull<Loans>,
    scratch: Vec<u8>,
}

impl Audience {
    /// All is written that the subscriber was to get.
    fn complete(&mut self, token: Token) {
        if let Some(subscriber) = self.subscribers.get(token)
            && subscriber.is_answer()
        {
            subscriber.reason = Reason::Answered;
        }
    }

    fn begin_turn(&mut self, token: Token) -> Option<Turn> {
        let subscriber = self.subscribers.get(token)?;
        subscriber.is_dirty = false;
        let is_websocket = subscriber.is_websocket();
        let Mode::Stream(stream) = &mut subscriber.mode else { return None };
        Some(Turn {
            peer: subscriber.peer,
            state: subscriber.state,
            is_websocket,
            is_blocked: subscriber.is_blocked,
            way: stream.way,
            outbox: mem::take(&mut stream.outbox),
            loans: stream.loans,
            scratch: mem::take(&mut self.scratch),
        })
    }

    /// Has it more to read? `None`: the subscriber has gone meanwhile.
    fn end_turn(&mut self, token: Token, turn: Turn, is_blocked: bool) -> Option<bool> {
        self.scratch = turn.scratch;
        let subscriber = self.subscribers.get(token)?;
        let Mode::Stream(stream) = &mut subscriber.mode else { return None };
        stream.outbox = turn.outbox;
        subscriber.is_blocked = is_blocked;
        Some(stream.unread.is_some())
    }
}
