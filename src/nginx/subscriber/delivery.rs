//! From a worker's news to bytes on its subscribers' sockets, and to the end of each of them.
//!
//! ```text
//!   on_news ──► hub.deliver ──► Audience::take: render once, share, queue     no call into nginx
//!           └─► write_out ──► write: one write per subscriber                 bounded per round
//!
//!   on_due      pings, ends of time      say_goodbye   ends everybody
//!   on_writable the socket takes more    on_cleanup    nginx ends the request
//! ```
//!
//! Whatever calls into nginx holds no reference to a subscriber: it has a [`Token`], and asks again
//! afterwards, for the call may have ended the subscriber.

use core::cell::Cell;
use core::ffi::c_void;
use core::mem;
use core::ptr::NonNull;
use std::rc::Rc;

use ngx::ffi::{
    NGX_ERROR, NGX_HTTP_REQUEST_TIME_OUT, NGX_OK, ngx_event_t,
    ngx_http_discarded_request_body_handler, ngx_http_finalize_request, ngx_http_request_t,
    ngx_http_test_reading, ngx_int_t,
};

use crate::hub::{Group, News};
use crate::model::{DELETED_ID, Message, Seconds};
use crate::nginx::event::Event;
use crate::nginx::journal::{self, Entry, Reason};
use crate::nginx::location::{self, Location};
use crate::nginx::output::{self, Flushed, Loans, Outbox, Piece, Rendering, Way};
use crate::nginx::peer::{self, Peer};
use crate::nginx::subscriber::audience::{self, Audience, Mode, State, Subscriber, Token};
use crate::nginx::subscriber::{polling, socket};
use crate::nginx::timers::{self, Kind};
use crate::nginx::{ffi, log, worker};
use crate::session::Form;
use crate::wire::{chunked, frame};

/// Batches that are taken from the hub before the subscribers are written to.
const BATCHES_MAX: usize = 16;
/// Subscribers that are written to before other connections of the worker have a turn.
const FLUSHES_MAX: usize = 1000;
/// Subscribers that are pinged or dismissed before other connections have a turn.
const DUE_MAX: usize = 1000;
/// Slots of subscribers that get their goodbye before other connections have a turn.
const GOODBYES_MAX: usize = 500;

const ERROR: ngx_int_t = NGX_ERROR as ngx_int_t;
const OK: ngx_int_t = NGX_OK as ngx_int_t;

/// Hands out a bounded part of what the hub has for our subscribers, and writes to them. `true`:
/// there is more, so call again after other connections had a turn.
pub(crate) fn on_news() -> bool {
    // First those are written to who have something already. What is published meanwhile waits in
    // the zone, where it takes its room once, and then leaves in the same write as the rest.
    if audience::with(|audience| !audience.dirty.is_empty()) {
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
    write_out();
    more
}

impl Audience {
    /// Queues what the hub has handed out.
    fn take(&mut self, news: News<'_>, now_msec: usize) {
        match news {
            News::Messages { groups, messages } => {
                for group in groups {
                    self.take_group(group, messages, now_msec);
                }
            }
            News::Ended { listener, left: 0 } => {
                let token = Token::from_usize(listener.token);
                if let Some(subscriber) = self.subscribers.get(token)
                    && matches!(subscriber.mode, Mode::Stream(_))
                {
                    subscriber.id = None;
                    self.ended.push(token);
                }
            }
            News::Ended { .. } => {}
        }
    }

    fn take_group(&mut self, group: &Group, messages: &[Message<'_>], now_msec: usize) {
        let Some(form) = self.forms.get(group.form) else { return };
        let mut renderings = Renderings { form, messages, raw: None, chunked: None };
        for listener in &group.listeners {
            let due = listener.due(messages);
            let token = Token::from_usize(listener.token);
            let Some(subscriber) = self.subscribers.get(token) else { continue };
            let Some(first) = due.first() else { continue };
            match &mut subscriber.mode {
                Mode::Stream(_) if subscriber.state != State::Open => {}
                Mode::Stream(stream)
                    if subscriber.is_blocked
                        && stream.outbox.waiting()
                            > subscriber.location.subscriber_max_buffered =>
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
                    if subscriber.has_many_channels {
                        self.arrivals.extend((skipped..messages.len()).zip(due).map(
                            |(number, message)| Arrival {
                                order: order_of(message),
                                token,
                                piece: Piece::one(rendering, number),
                            },
                        ));
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
        for Arrival { token, piece, .. } in self.arrivals.drain(..) {
            if let Some(subscriber) = self.subscribers.get(token)
                && let Mode::Stream(stream) = &mut subscriber.mode
            {
                stream.outbox.push_piece(piece);
            }
        }
        self.arrivals.shrink_to(FLUSHES_MAX);
        // A close frame comes after all of it.
        for token in mem::take(&mut self.ended) {
            self.begin_end(token, Reason::Deleted);
            self.mark_dirty(token);
        }
    }

    /// The subscriber gets nothing any more but what waits, and its footer.
    pub(super) fn begin_end(&mut self, token: Token, reason: Reason) {
        self.begin_end_with(token, reason, |location, out| location.layout.close(out));
    }

    /// The same with other last frames, for WebSockets. Others get their footer in any case, when
    /// what waits is written: for nginx it belongs to the end of the body.
    pub(super) fn begin_end_with(
        &mut self,
        token: Token,
        reason: Reason,
        last: impl FnOnce(&Location, &mut Vec<u8>),
    ) {
        if let Some(subscriber) = self.subscribers.get(token)
            && matches!(subscriber.state, State::Starting | State::Open)
        {
            subscriber.state = State::Ending;
            subscriber.reason = reason;
            if subscriber.is_websocket()
                && let Mode::Stream(stream) = &mut subscriber.mode
            {
                let mut frames = Rendering::default();
                frames.push(|out| last(subscriber.location, out));
                stream.outbox.push(&Rc::new(frames), 0);
            }
        }
        self.quit(token, Kind::Ping);
        self.quit(token, Kind::End);
    }
}

/// A message for a subscriber of several channels.
pub(super) struct Arrival {
    order: (Seconds, u64),
    token: Token,
    piece: Piece,
}

/// The place of a message among those of all channels. Nothing follows the notice that a channel
/// was deleted.
pub(super) fn order_of(message: &Message<'_>) -> (Seconds, u64) {
    match message.id {
        DELETED_ID => (Seconds::MAX, 0),
        _ => (message.time, message.tag),
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
fn write_out() {
    for _ in 0..FLUSHES_MAX {
        let Some(token) = audience::with(|audience| audience.dirty.pop_front()) else { break };
        flush(token);
    }
    let has_answers = polling::answer_ready();
    if has_answers || audience::with(|audience| !audience.dirty.is_empty()) {
        events(|events| events.flush.post_next());
    }
}

/// Lets us see in the next round what comes for the subscriber's request, or that its client goes.
pub(super) fn watch_soon(token: Token) {
    audience::with(|audience| audience.unwatched.push(token));
    events(|events| events.flush.post_next());
}

fn watch() {
    for token in audience::with(|audience| mem::take(&mut audience.unwatched)) {
        let alive = audience::with(|audience| Some(audience.subscribers.get(token)?.peer));
        if let Some(peer) = alive {
            // SAFETY: its subscriber is there, so the request is.
            unsafe { (*peer.as_ptr()).read_event_handler = Some(on_readable) };
        }
    }
}

/// Writes what waits, and ends the subscriber if that was due or the connection is lost.
///
/// Not for the content handler: nginx goes on with a request that this may have finished.
pub(super) fn flush(token: Token) {
    match write(token) {
        Written::Gone | Written::Open => {}
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
    if !audience::with(|audience| audience.end_turn(token, turn, is_blocked)) {
        return Written::Gone;
    }
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
            if state == State::Ending { Written::Ended } else { Written::Open }
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

    /// A WebSocket that has too much waiting gets no more than the rest of a frame that it has a
    /// part of, and the reason. `false`: it is none.
    fn cut_off(&mut self, token: Token) -> bool {
        let Some(subscriber) = self.subscribers.get(token) else { return false };
        if !subscriber.is_websocket() {
            return false;
        }
        subscriber.state = State::Open;
        if let Mode::Stream(stream) = &mut subscriber.mode {
            stream.outbox.cut();
        }
        self.begin_end_with(token, Reason::Slow, |_, out| {
            frame::encode_close(frame::code::TRY_AGAIN_LATER, out);
        });
        true
    }

    /// `false`: the subscriber has gone meanwhile.
    fn end_turn(&mut self, token: Token, turn: Turn, is_blocked: bool) -> bool {
        self.scratch = turn.scratch;
        let Some(subscriber) = self.subscribers.get(token) else { return false };
        let Mode::Stream(stream) = &mut subscriber.mode else { return false };
        stream.outbox = turn.outbox;
        subscriber.is_blocked = is_blocked;
        true
    }
}

/// Ends the response: the footer, and the end of the body.
fn finish(token: Token) {
    let Some(subscriber) = forget(token) else { return };
    if subscriber.is_websocket() {
        socket::hang_up(subscriber.peer);
        return;
    }
    let rc = close_body(&subscriber);
    finalize(subscriber.peer, rc);
}

/// The last bytes of a subscriber that has been forgotten; the result finalizes its request.
pub(super) fn close_body(subscriber: &Subscriber) -> ngx_int_t {
    let Mode::Stream(stream) = &subscriber.mode else { return ERROR };
    let mut footer = Vec::new();
    subscriber.location.layout.close(&mut footer);
    match output::finish(subscriber.peer, [Piece::of(footer)], stream.loans) {
        Ok(()) => OK,
        Err(()) => ERROR,
    }
}

/// The connection is of no use any more; nginx closes it.
pub(super) fn drop_connection(token: Token, rc: ngx_int_t) {
    if let Some(subscriber) = forget(token) {
        finalize(subscriber.peer, rc);
    }
}

/// Takes the subscriber off all books, here and in the hub. Its request is not told.
pub(super) fn forget(token: Token) -> Option<Subscriber> {
    let mut subscriber = audience::with(|audience| audience.remove(token))?;
    let entry = Entry { reason: Some(subscriber.reason), ..subscriber.entry() };
    journal::write_down(subscriber.peer.request(), entry);
    if let Some(id) = subscriber.id.take() {
        worker::operate(|hub, rules, now| hub.leave(id, rules, now));
    }
    Some(subscriber)
}

/// Gives the request back to nginx, once, outside of its content handler.
pub(super) fn finalize(peer: Peer, rc: ngx_int_t) {
    let connection = peer.connection();
    // SAFETY: the request is live, its subscriber is forgotten, and nobody uses it after this.
    unsafe { ngx_http_finalize_request(peer.as_ptr(), rc) };
    // SAFETY: it was live just now.
    unsafe { peer::run_posted(connection) };
}

/// Its time is over, or ours: whatever it is sent at an orderly end.
fn dismiss(token: Token, reason: Reason) {
    let is_poll = audience::with(|audience| {
        audience.begin_end(token, reason);
        let subscriber = audience.subscribers.get(token)?;
        Some(matches!(subscriber.mode, Mode::Poll(_)))
    });
    match is_poll {
        None => {}
        Some(true) => {
            leave(token);
            polling::answer(token);
        }
        Some(false) => leave_and_flush(token),
    }
}

/// Ends a WebSocket with these frames.
pub(super) fn close_with(token: Token, reason: Reason, last: &[u8]) {
    audience::with(|audience| {
        audience.begin_end_with(token, reason, |_, out| out.extend_from_slice(last));
    });
    leave_and_flush(token);
}

/// Before anybody can read the last byte, statistics do not count the subscriber any more.
fn leave_and_flush(token: Token) {
    leave(token);
    flush(token);
}

/// Ends the subscriber's registration in the hub; it goes on getting what waits.
pub(super) fn leave(token: Token) {
    let id = audience::with(|audience| audience.subscribers.get(token)?.id.take());
    if let Some(id) = id {
        worker::operate(|hub, rules, now| hub.leave(id, rules, now));
    }
}

/// Ends all subscribers, because the worker ends: at once if it cannot wait, else a few at a time.
pub(crate) fn say_goodbye() {
    GOODBYE_FROM.set(0);
    go_on_with_goodbye();
}

fn go_on_with_goodbye() {
    let is_urgent = worker::is_terminating();
    loop {
        let from = GOODBYE_FROM.get();
        let (tokens, next) = audience::with(|a| a.subscribers.some_from(from, GOODBYES_MAX));
        for token in &tokens {
            dismiss(*token, Reason::Shutdown);
        }
        let Some(next) = next else { return worker::give_up_seat() };
        GOODBYE_FROM.set(next);
        if !is_urgent && !tokens.is_empty() {
            events(|events| events.goodbye.fire_in(1));
            return;
        }
    }
}

/// A ping or an end is due for somebody.
pub(super) fn schedule() {
    let next = audience::with(Audience::next_due_msec);
    if let Some(at_msec) = next {
        let delay = at_msec.saturating_sub(timers::now_msec());
        events(|events| events.due.fire_within(delay));
    }
}

fn work_off_due() {
    let now_msec = timers::now_msec();
    for _ in 0..DUE_MAX {
        let Some((kind, token)) = audience::with(|audience| audience.due(now_msec)) else { break };
        match kind {
            Kind::End => dismiss(token, Reason::Ttl),
            Kind::Ping => ping(token, now_msec),
        }
    }
    schedule();
}

fn ping(token: Token, now_msec: usize) {
    let peer = audience::with(|audience| {
        audience.restart(token, Kind::Ping, now_msec);
        Some(audience.subscribers.get(token)?.peer)
    });
    let Some(peer) = peer else { return };
    let text = location::main_conf(peer.request()).ping_message_text();
    audience::with(|audience| {
        let Some(subscriber) = audience.subscribers.get(token) else { return };
        let Mode::Stream(stream) = &mut subscriber.mode else { return };
        // A connection with bytes on their way needs no ping to stay busy.
        if subscriber.state != State::Open || subscriber.is_blocked {
            return;
        }
        let Some(form) = audience.forms.get(subscriber.form) else { return };
        let mut rendering = Rendering::default();
        push(&mut rendering, stream.frames_chunks, |out| form.ping(text, out));
        stream.outbox.push(&Rc::new(rendering), 0);
    });
    flush(token);
}

/// Our events, made with the worker's first subscriber.
struct Events {
    flush: Event,
    due: Event,
    goodbye: Event,
}

thread_local! {
    static EVENTS: Events = Events {
        flush: Event::new(on_flush),
        due: Event::new(on_due),
        // An exiting worker waits for it.
        goodbye: Event::new(on_goodbye).holding_worker(),
    };
    /// The first slot whose subscriber has not got its goodbye.
    static GOODBYE_FROM: Cell<usize> = const { Cell::new(0) };
    /// When it was last said that subscribers were too slow, and how many have been since.
    static TOO_SLOW: Cell<(Seconds, u64)> = const { Cell::new((0, 0)) };
}

fn events<R>(body: impl FnOnce(&Events) -> R) -> R {
    EVENTS.with(body)
}

/// One line a second at most.
fn report_too_slow() {
    let now = worker::now();
    let (reported_at, count) = TOO_SLOW.get();
    let count = count + 1;
    if reported_at == now {
        TOO_SLOW.set((reported_at, count));
        return;
    }
    TOO_SLOW.set((now, 0));
    let who = if count == 1 { "subscriber was" } else { "subscribers were" };
    log::warning!(
        log::cycle_log(),
        "{count} {who} disconnected, being too slow for \"push_stream_subscriber_max_buffered\""
    );
}

/// nginx calls this in the round after one that had too much to write.
///
/// # Safety
///
/// None: the event is not looked at.
unsafe extern "C" fn on_flush(_: *mut ngx_event_t) {
    ffi::guard("on_flush", (), || {
        watch();
        write_out();
    });
}

/// nginx calls this when an interval of somebody is over.
///
/// # Safety
///
/// None: the event is not looked at.
unsafe extern "C" fn on_due(_: *mut ngx_event_t) {
    ffi::guard("on_due", (), work_off_due);
}

/// nginx calls this when an exiting worker has more subscribers to dismiss.
///
/// # Safety
///
/// None: the event is not looked at.
unsafe extern "C" fn on_goodbye(_: *mut ngx_event_t) {
    ffi::guard("on_goodbye", (), go_on_with_goodbye);
}

/// nginx calls this when the request's socket takes bytes again, or has taken none for too long.
///
/// # Safety
///
/// `r` is a live request, to which a subscriber was attached.
pub(super) unsafe extern "C" fn on_writable(r: *mut ngx_http_request_t) {
    ffi::guard("on_writable", (), || {
        let Some(r) = NonNull::new(r) else { return };
        let token = Token::of(r);
        // SAFETY: see above.
        let peer = unsafe { Peer::new(r) };
        if peer.is_timed_out() {
            log::info!(peer.log(), "client timed out");
            peer.set_timed_out();
            audience::with(|audience| {
                if let Some(subscriber) = audience.subscribers.get(token) {
                    subscriber.reason = Reason::SendTimeout;
                }
            });
            drop_connection(token, NGX_HTTP_REQUEST_TIME_OUT as ngx_int_t);
            return;
        }
        let is_waiting = audience::with(|audience| {
            audience.subscribers.get(token).is_some_and(|s| s.is_blocked || s.is_dirty)
        });
        if is_waiting {
            flush(token);
        }
    });
}

/// nginx calls this when the client has sent more, or has closed the connection.
///
/// # Safety
///
/// `r` is a live request, to which a subscriber was attached.
pub(super) unsafe extern "C" fn on_readable(r: *mut ngx_http_request_t) {
    ffi::guard("on_readable", (), || {
        let Some(request) = NonNull::new(r) else { return };
        // SAFETY: see above.
        if unsafe { request.as_ref() }.discard_body() == 0 {
            // What the client sends now is for the next request: nginx only looks whether it left.
            // SAFETY: see above.
            unsafe { ngx_http_test_reading(r) };
            return;
        }
        let token = Token::of(request);
        // SAFETY: see above.
        unsafe { ngx_http_discarded_request_body_handler(r) };
        // That may have ended the request, and then its subscriber is gone.
        let alive = audience::with(|audience| audience.subscribers.get(token).is_some());
        if !alive {
            return;
        }
        // SAFETY: its subscriber is there, so it is.
        let r = unsafe { &mut *r };
        r.read_event_handler = Some(on_readable);
        if r.discard_body() == 0 {
            // For nginx a body may also end because its client left.
            // SAFETY: as above.
            unsafe { ngx_http_test_reading(r) };
        }
    });
}

/// nginx calls this when it ends the request, for whatever reason.
///
/// # Safety
///
/// None: `data` is a token, which is looked up.
pub(super) unsafe extern "C" fn on_cleanup(data: *mut c_void) {
    ffi::guard("on_cleanup", (), || drop(forget(Token::from_data(data))));
}
