//! How subscribers end: dismissed with their last bytes, dropped, or forgotten with their request.
//!
//! ```text
//!   its time is over, goodbye ──► dismiss ──► begin_end ──┬─► what waits ──► finish   footer, end
//!   its last channel is deleted ──────────────────────────┘
//!   too slow, connection lost ──► drop_connection          nginx ends it ──► forget
//! ```
//!
//! Statistics stop counting a subscriber before its last byte can be read, and a request is given
//! back to nginx exactly once.

use core::cell::Cell;
use std::rc::Rc;

use ngx::ffi::{NGX_ERROR, NGX_OK, ngx_http_finalize_request, ngx_int_t};

use crate::model::{Seconds, Token};
use crate::nginx::journal::{self, Entry, Reason};
use crate::nginx::location::Location;
use crate::nginx::output::{self, Piece, Rendering};
use crate::nginx::peer::{self, Peer};
use crate::nginx::subscriber::audience::{self, Audience, Mode, State, Subscriber};
use crate::nginx::subscriber::delivery::flush;
use crate::nginx::subscriber::events::events;
use crate::nginx::subscriber::{polling, socket};
use crate::nginx::timers::Kind;
use crate::nginx::{ffi, log, worker};
use crate::wire::frame;

/// Slots of subscribers that get their goodbye before other connections have a turn.
const GOODBYES_MAX: usize = 500;

const ERROR: ngx_int_t = NGX_ERROR as ngx_int_t;
const OK: ngx_int_t = NGX_OK as ngx_int_t;

thread_local! {
    /// The first slot whose subscriber has not got its goodbye.
    static GOODBYE_FROM: Cell<usize> = const { Cell::new(0) };
    /// When it was last said that subscribers were too slow, and how many have been since.
    static TOO_SLOW: Cell<(Seconds, u64)> = const { Cell::new((0, 0)) };
}

impl Audience {
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
            && subscriber.is_answer()
        {
            // What it was promised comes first, and then it was answered.
            subscriber.reason = reason;
        } else if let Some(subscriber) = self.subscribers.get(token)
            && matches!(subscriber.state, State::Starting | State::Open)
        {
            subscriber.state = State::Ending;
            subscriber.reason = reason;
            match reason {
                Reason::Ttl | Reason::Shutdown => {}
                Reason::Deleted => subscriber.forget_unread(),
                // It has all up to some message, and nothing after that.
                _ => subscriber.drop_unread(),
            }
            if subscriber.is_websocket()
                && let Mode::Stream(stream) = &mut subscriber.mode
            {
                let mut frames = Rendering::default();
                frames.push(|out| last(subscriber.location, out));
                let frames = Piece::one(&Rc::new(frames), 0);
                match &mut stream.unread {
                    Some(unread) => unread.push_last(frames),
                    None => stream.outbox.push_piece(frames),
                }
            }
        }
        self.quit(token, Kind::Ping);
        self.quit(token, Kind::End);
    }

    /// A WebSocket that has too much waiting gets no more than the rest of a frame that it has a
    /// part of, and the reason. `false`: it is none.
    pub(super) fn cut_off(&mut self, token: Token) -> bool {
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
}

/// Ends the response: the footer, and the end of the body.
pub(super) fn finish(token: Token) {
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
    if stream.is_answer {
        subscriber.peer.reset_when_closed(false);
    }
    let mut footer = Vec::new();
    subscriber.location.layout.close(&mut footer);
    match output::finish(subscriber.peer, [Piece::of(footer)], stream.loans) {
        Ok(()) => OK,
        Err(()) => ERROR,
    }
}

/// The connection is of no use any more; nginx closes it.
pub(super) fn drop_connection(token: Token, rc: ngx_int_t) {
    if let Some(peer) = give_up(token) {
        finalize(peer, rc);
    }
}

/// Forgets a subscriber who does not get all that was promised.
pub(super) fn give_up(token: Token) -> Option<Peer> {
    let subscriber = forget(token)?;
    if subscriber.is_answer() {
        // What its head announces must not seem to be all there.
        subscriber.peer.set_broken();
    }
    Some(subscriber.peer)
}

/// Takes the subscriber off all books, here and in the hub. Its request is not told.
pub(super) fn forget(token: Token) -> Option<Subscriber> {
    let subscriber = audience::with(|audience| audience.remove(token))?;
    let entry = Entry { reason: Some(subscriber.reason), ..subscriber.entry() };
    journal::write_down(subscriber.peer.request(), entry);
    worker::operate(|hub, rules, now| hub.leave(token, rules, now));
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
pub(super) fn dismiss(token: Token, reason: Reason) {
    let is_poll = audience::with(|audience| {
        audience.begin_end(token, reason);
        let subscriber = audience.subscribers.get(token)?;
        Some(matches!(subscriber.mode, Mode::Poll(_)))
    });
    match is_poll {
        None => {}
        Some(true) => {
            polling::note_place(token);
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
pub(super) fn leave_and_flush(token: Token) {
    leave(token);
    flush(token);
}

/// Ends the subscriber's registration in the hub; it goes on getting what waits.
pub(super) fn leave(token: Token) {
    worker::operate(|hub, rules, now| hub.leave(token, rules, now));
}

/// Ends all subscribers, because the worker ends: at once if it cannot wait, else a few at a time.
pub(crate) fn say_goodbye() {
    GOODBYE_FROM.set(0);
    go_on_with_goodbye();
}

pub(super) fn go_on_with_goodbye() {
    let is_urgent = worker::is_terminating();
    loop {
        let from = GOODBYE_FROM.get();
        let (tokens, next) = audience::with(|a| a.subscribers.some_from(from, GOODBYES_MAX));
        for token in &tokens {
            // A panic over one must not keep the others, and with them the worker, for ever.
            ffi::guard("dismiss", (), || dismiss(*token, Reason::Shutdown));
        }
        let Some(next) = next else { return worker::give_up_seat() };
        GOODBYE_FROM.set(next);
        if !is_urgent && !tokens.is_empty() {
            events(|events| events.goodbye.fire_in(1));
            return;
        }
    }
}

/// One line a second at most.
pub(super) fn report_too_slow() {
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
        "{count} {who} disconnected, being too slow for \"push_stream_subscriber_max_buffered\" or for \
         old messages, which are gone"
    );
}
