//! A response that stays open: opened once, written whenever something waits, ended in order.
//!
//! ```text
//!   open ──► header, old messages ──► live messages, pings ──► dismiss ──► what waits, footer
//!                                          │
//!                   socket full: waits ◄───┴───► too much waits, or lost: cut
//! ```
//!
//! A turn of writing takes all that waits to the link. A socket that takes less blocks the subscriber,
//! until the link tells that it takes more; `is_blocked` is true for just that time.

use core::mem;

use crate::model::Token;
use crate::session::Form;
use crate::session::audience::{Audience, Mode, Records, State, Subscriber};
use crate::session::departure::{Cut, Departure, How, Reason};
use crate::session::due::Kind;
use crate::session::link::{Flushed, Host, Link, Lost, Way};
use crate::session::outbox::{Outbox, Piece, Rendering};
use crate::session::paging::{Portion, Refill, Refiller, Unread};
use crate::session::socket::Socket;
use crate::wire::frame;

/// Subscribers that are written to before other connections of the worker have a turn.
pub const FLUSHES_MAX: usize = 1000;
/// Subscribers that are pinged or dismissed before other connections have a turn.
const DUE_MAX: usize = 1000;

pub(super) struct Stream<R> {
    pub(super) way: Way,
    /// The response is chunked, and we do it.
    pub(super) frames_chunks: bool,
    /// It is the answer to a poll, which is over when all of it is written.
    pub(super) is_answer: bool,
    pub(super) outbox: Outbox,
    /// Old messages that are still to be read from the zone, and what comes after them.
    pub(super) unread: Option<Box<Unread<R>>>,
    /// The client of a WebSocket is being heard, and its socket is out for that.
    pub(super) is_heard: bool,
    /// What a WebSocket client has sent in part; `None` nearly always.
    pub(super) socket: Option<Box<Socket>>,
}

impl<R> Stream<R> {
    fn new(way: Way) -> Self {
        Self {
            way,
            frames_chunks: false,
            is_answer: false,
            outbox: Outbox::default(),
            unread: None,
            is_heard: false,
            socket: None,
        }
    }

    /// The rest of an answer to a poll.
    pub(super) fn answer(outbox: Outbox, unread: Unread<R>) -> Self {
        let unread = Some(Box::new(unread));
        Self { is_answer: true, outbox, unread, ..Self::new(Way::Filtered) }
    }

    /// Bytes of memory that live messages cost while they wait.
    pub(super) fn waiting(&self) -> usize {
        self.outbox.waiting() + self.unread.as_ref().map_or(0, |unread| unread.waiting())
    }

    /// Bytes that what waits has from the allocator, but for the piece that is written next.
    #[cfg(test)]
    pub(super) fn allocated(&self) -> usize {
        self.outbox.allocated() + self.unread.as_ref().map_or(0, |unread| unread.allocated())
    }

    /// All bytes that wait.
    pub(super) fn buffered(&self) -> usize {
        self.outbox.len() + self.unread.as_ref().map_or(0, |unread| unread.len())
    }
}

/// What is sent first, and how the rest goes.
#[derive(Debug)]
pub struct Opening<R> {
    /// How bytes go out from now on.
    pub way: Way,
    /// The response is chunked, and we do it.
    pub frames_chunks: bool,
    /// Header and old messages.
    pub portion: Portion,
    /// Old messages that did not fit.
    pub rest: Option<R>,
}

/// When a subscriber gets pings, and when its time is over.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Between two pings; `None`: no pings.
    pub ping_interval_msec: Option<usize>,
    /// `None`: it may stay for ever.
    pub ttl_msec: Option<usize>,
}

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
    /// Takes a stream in, or a WebSocket whose client has sent `input` together with its handshake.
    pub fn admit_stream(
        &self,
        link: H::Link,
        form: u32,
        has_many_channels: bool,
        input: Option<Vec<u8>>,
    ) -> Token {
        let way = if input.is_some() { Way::Direct } else { Way::Filtered };
        let input = input.filter(|input| !input.is_empty());
        let socket = input.map(|input| Box::new(Socket::new(link.terms(), input)));
        let stream = Stream { socket, ..Stream::new(way) };
        self.admit(link, form, has_many_channels, Mode::Stream(stream))
    }

    /// What is sent first waits now; live messages follow.
    pub fn open(&self, token: Token, opening: Opening<H::Rest>) {
        self.change(token, |subscriber| {
            let Opening { way, frames_chunks, portion, rest } = opening;
            subscriber.state = State::Open;
            subscriber.count(portion.messages());
            if let Mode::Stream(stream) = &mut subscriber.mode {
                (stream.way, stream.frames_chunks) = (way, frames_chunks);
                stream.outbox.push(portion.into_opening());
                stream.outbox.mark_backlog();
                stream.unread = rest.map(|rest| Box::new(Unread::new(rest)));
            }
        });
    }

    /// The subscriber stays: its intervals begin.
    pub fn begin_times(&self, token: Token, times: Times, now_msec: usize) {
        let records = &mut *self.records.borrow_mut();
        if let Some(interval_msec) = times.ping_interval_msec {
            records.join(token, Kind::Ping, interval_msec, now_msec);
        }
        if let Some(ttl_msec) = times.ttl_msec {
            records.join(token, Kind::End, ttl_msec, now_msec);
        }
    }

    /// Somebody will be due then.
    pub fn next_due_msec(&self) -> Option<usize> {
        self.records.borrow().wheels.next_msec()
    }

    /// Pings and dismisses those who are due, a bounded number of them.
    pub fn work_off_due(&self, host: &H, now_msec: usize) {
        for _ in 0..DUE_MAX {
            let due = {
                let records = &mut *self.records.borrow_mut();
                let due = records.wheels.due(&mut records.slots, now_msec);
                due.and_then(|(kind, index)| Some((kind, records.slots.token_at(index)?)))
            };
            match due {
                None => break,
                Some((Kind::End, token)) => self.dismiss(host, token, Reason::Ttl),
                Some((Kind::Ping, token)) => self.ping(host, token, now_msec),
            }
        }
    }

    fn ping(&self, host: &H, token: Token, now_msec: usize) {
        self.at_work.set(Some(token));
        self.records.borrow_mut().push_ping(token, now_msec);
        self.flush(host, token);
    }

    /// Writes to subscribers that have something, a bounded number of them, and asks for another round
    /// for the rest.
    pub fn go_on(&self, host: &H) {
        let mut budget = FLUSHES_MAX;
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

    /// Does somebody wait for a turn to be written to? How many do.
    pub fn dirty(&self) -> usize {
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
            let flushed = turn.link.flush(turn.way, &mut turn.outbox);
            drop(turn);
            let records = &mut *self.records.borrow_mut();
            records.slots.get(token).map_or(Written::Gone, |s| s.after_flush(flushed))
        })
    }

    /// Ends the subscriber in order, because its time is over, or ours: what waits, and its last bytes.
    pub fn dismiss(&self, host: &H, token: Token, reason: Reason) {
        self.dismiss_with(host, token, reason, None);
    }

    /// The same with these last frames, for WebSockets.
    pub fn dismiss_with(&self, host: &H, token: Token, reason: Reason, frames: Option<Vec<u8>>) {
        self.at_work.set(Some(token));
        self.records.borrow_mut().begin_end(token, reason, frames);
        if self.is_poll(token) {
            self.end_poll(host, token);
            self.at_work.set(None);
        } else {
            // Statistics stop counting it before anybody can read the last byte.
            host.leave(token);
            self.flush(host, token);
        }
    }

    /// The subscriber was opened in order to be told this and no more.
    pub fn end(&self, token: Token, reason: Reason, frames: Option<Vec<u8>>) {
        self.records.borrow_mut().begin_end(token, reason, frames);
    }
}

impl<H: Host> Records<H> {
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
        let Mode::Stream(stream) = &mut subscriber.mode else { return Some(Written::Gone) };
        let link = &subscriber.link;
        if stream.way != Way::Direct || !link.is_plain() {
            return None;
        }
        let mut progress = false;
        let sent = if link.is_writable() {
            let send = |bytes: &[u8]| link.send(bytes).inspect(|taken| progress |= *taken > 0);
            stream.outbox.write(&mut self.scratch, send)
        } else {
            Ok(())
        };
        let flushed = match sent {
            Err(Lost) => Flushed::Lost,
            Ok(()) if stream.outbox.is_empty() => Flushed::All,
            Ok(()) => Flushed::Some { progress },
        };
        Some(subscriber.after_flush(flushed))
    }

    /// From now on the subscriber gets nothing but what waits, and its last bytes: these frames, or the
    /// footer that it is to have. Others than WebSockets get their footer when what waits is written: for
    /// the server it belongs to the end of the body.
    pub(super) fn begin_end(&mut self, token: Token, reason: Reason, frames: Option<Vec<u8>>) {
        self.quit(token);
        let Some(subscriber) = self.slots.get(token) else { return };
        let is_websocket = subscriber.is_websocket();
        if subscriber.is_answer() {
            // What it was promised comes first, and then it was answered.
            subscriber.reason = reason;
            return;
        }
        if !matches!(subscriber.state, State::Starting | State::Open) {
            return;
        }
        subscriber.state = State::Ending;
        subscriber.reason = reason;
        match reason {
            Reason::Ttl | Reason::Shutdown => {}
            Reason::Deleted => subscriber.forget_unread(),
            // It has all up to some message, and nothing after that.
            _ => subscriber.drop_unread(),
        }
        if is_websocket && let Mode::Stream(stream) = &mut subscriber.mode {
            let frames = Piece::of(frames.unwrap_or_else(|| {
                let mut last = Vec::new();
                subscriber.link.layout().close(&mut last);
                last
            }));
            match &mut stream.unread {
                Some(unread) => unread.push_last(frames),
                None => stream.outbox.push(frames),
            }
        }
    }

    /// A WebSocket that has too much waiting gets no more than the rest of a frame that it has a part
    /// of, and the reason. `false`: it is none.
    fn cut_off(&mut self, token: Token) -> bool {
        let Some(subscriber) = self.slots.get(token) else { return false };
        if !subscriber.is_websocket() {
            return false;
        }
        subscriber.state = State::Open;
        if let Mode::Stream(stream) = &mut subscriber.mode {
            stream.outbox.cut();
        }
        let mut frames = Vec::new();
        frame::encode_close(frame::code::TRY_AGAIN_LATER, &mut frames);
        self.begin_end(token, Reason::Slow, Some(frames));
        true
    }

    fn push_ping(&mut self, token: Token, now_msec: usize) {
        let Some(subscriber) = self.slots.get(token) else { return };
        self.wheels.restart(&mut subscriber.ping, now_msec);
        let Mode::Stream(stream) = &mut subscriber.mode else { return };
        // A connection with bytes on their way needs no ping to stay busy.
        if subscriber.state != State::Open || subscriber.is_blocked {
            return;
        }
        let Some(form) = self.forms.get(subscriber.form) else { return };
        stream.outbox.push(ping(form, stream.frames_chunks, subscriber.link.ping_text()));
    }
}

fn ping(form: &Form, as_chunk: bool, text: &[u8]) -> Piece {
    let mut rendering = Rendering::default();
    rendering.push(as_chunk, |out| form.ping(text, out));
    Piece::all(rendering)
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
    use crate::model::Message;
    use crate::session::Framing;
    use crate::session::sim::link::{End, Fault, SimLink};
    use crate::session::sim::solo::{NOW_MSEC, Old, Solo, message, reason};

    const KINDS: [(Framing, Way); 5] = [
        (Framing::Plain, Way::Direct),
        (Framing::Plain, Way::Filtered),
        (Framing::EventSource, Way::Direct),
        (Framing::EventSource, Way::Filtered),
        (Framing::WebSocket, Way::Direct),
    ];

    fn open(worker: &Solo, (framing, way): (Framing, Way), rest: Option<Old>) -> (Token, SimLink) {
        let socket = (framing == Framing::WebSocket).then(Vec::new);
        worker.open(framing, way, false, socket, rest)
    }

    /// What nginx does once a WebSocket has its last frame.
    fn read_if_asked(worker: &Solo, token: Token, link: &SimLink) {
        if !link.has_ended() && link.read_again.take().is_some() {
            worker.audience.read(worker, token);
        }
    }

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

    /// From each state, for each reason: only one that is starting or open comes to its end by this.
    #[test]
    fn an_end_begins_once() {
        const REASONS: [Reason; 7] = [
            Reason::Ttl,
            Reason::Shutdown,
            Reason::Deleted,
            Reason::Client,
            Reason::Protocol,
            Reason::Refused,
            Reason::Slow,
        ];
        let states = [State::Starting, State::Open, State::Ending, State::TooSlow, State::Broken];
        for (kind, state) in KINDS.into_iter().flat_map(|kind| states.map(|state| (kind, state))) {
            for (reason, frames) in REASONS.into_iter().flat_map(|r| [(r, false), (r, true)]) {
                let worker = Solo::new();
                let (token, _) = open(&worker, kind, None);
                worker.audience.begin_times(token, TIMES, NOW_MSEC);
                let records = &mut *worker.audience.records.borrow_mut();
                records.slots.get(token).expect("it is there").state = state;
                records.begin_end(token, reason, frames.then(|| b"last".to_vec()));
                assert_eq!(records.wheels.next_msec(), None, "nothing is due any more");
                let subscriber = records.slots.get(token).expect("it is there");
                let Mode::Stream(stream) = &mut subscriber.mode else { panic!("a stream") };
                let begins = matches!(state, State::Starting | State::Open);
                let ended = if begins { State::Ending } else { state };
                let expected = if begins { reason } else { Reason::Client };
                assert_eq!((subscriber.state, subscriber.reason), (ended, expected));
                let mut waiting = Vec::new();
                while let Some(piece) = stream.outbox.take(true) {
                    waiting.extend_from_slice(piece.bytes());
                }
                let last: &[u8] = if frames { b"last" } else { b"<foot>\x88\0" };
                let has_last = begins && kind.0 == Framing::WebSocket;
                assert_eq!(waiting.ends_with(last), has_last, "{kind:?} {state:?} {reason:?}");
            }
        }
    }

    /// Old messages and live ones behind them, when the end begins.
    #[test]
    fn what_is_not_read_yet_is_part_of_an_orderly_end_only() {
        for kind in KINDS {
            for (reason, is_gone) in [
                (Reason::Ttl, false),
                (Reason::Shutdown, false),
                (Reason::Deleted, false),
                (Reason::Deleted, true),
                (Reason::Client, false),
                (Reason::Protocol, false),
            ] {
                let worker = Solo::new();
                let (token, link) = open(&worker, kind, Some(Old::of(&[("a", 3)])));
                link.room.set(0);
                worker.audience.flush(&worker, token);
                let notice = Message::deleted(b"a", b"gone");
                worker.give(&[token], &[message("a", 4, "live"), notice]);
                let counted = |worker: &Solo| worker.audience.entry(token).map(|e| e.messages_sent);
                assert_eq!(counted(&worker), Some(2));
                if is_gone {
                    worker.gone.borrow_mut().push(b"a".to_vec());
                }
                worker.audience.dismiss(&worker, token, reason);
                let left = match reason {
                    Reason::Ttl | Reason::Shutdown => 2,
                    Reason::Deleted => 1,
                    _ => 0,
                };
                assert_eq!(counted(&worker), Some(left), "{kind:?} {reason:?}");
                worker.grant(token, &link, usize::MAX);
                read_if_asked(&worker, token, &link);
                let text = String::from_utf8_lossy(&link.received()).into_owned();
                let has = |part: &str| text.contains(part);
                let has_all = matches!(reason, Reason::Ttl | Reason::Shutdown);
                assert_eq!(has("a 3 0003") && has("a 4 live"), has_all, "{kind:?} {text}");
                assert_eq!(has("a -2 gone"), has_all || reason == Reason::Deleted, "{text}");
                assert!(has("<foot>"), "{kind:?} {text}");
                worker.assert_empty();
            }
        }
    }

    const TIMES: Times = Times { ping_interval_msec: Some(1000), ttl_msec: Some(5000) };

    fn pings(link: &SimLink) -> usize {
        String::from_utf8_lossy(&link.take_received()).matches("-1 ping").count()
    }

    #[test]
    fn pings_come_when_nothing_else_does() {
        let worker = Solo::new();
        let audience = &worker.audience;
        let (token, link) = worker.stream();
        audience.write_first(&worker, token);
        audience.begin_times(token, TIMES, NOW_MSEC);
        let work_off = |msec| audience.work_off_due(&worker, NOW_MSEC + msec);
        work_off(999);
        assert_eq!(pings(&link), 0);
        work_off(1010);
        assert_eq!(pings(&link), 1);
        work_off(1500);
        assert_eq!(pings(&link), 0, "the next interval begins then");
        work_off(2030);
        assert_eq!(pings(&link), 1);
        worker.now_msec.set(NOW_MSEC + 2500);
        worker.give(&[token], &[message("a", 1, "one")]);
        worker.write();
        work_off(3490);
        assert_eq!(pings(&link), 0, "a message begins the interval again");
        work_off(3510);
        assert_eq!(pings(&link), 1);

        link.room.set(0);
        worker.give(&[token], &[message("a", 2, "two")]);
        worker.write();
        work_off(4600);
        worker.grant(token, &link, usize::MAX);
        assert_eq!(pings(&link), 0, "bytes are on their way");
        work_off(5100);
        assert_eq!(link.end(), Some(End::Finished), "an end goes before a ping");
        assert_eq!((pings(&link), reason(&link)), (0, Some(Reason::Ttl)));
        worker.assert_empty();
    }

    /// A panic over one who is due does not keep the others.
    #[test]
    fn a_panic_over_one_who_is_due_costs_that_one_only() {
        let worker = Solo::new();
        let clients: Vec<_> = (0..3).map(|_| worker.stream()).collect();
        for (token, _) in &clients {
            worker.audience.write_first(&worker, *token);
            worker.audience.begin_times(*token, TIMES, NOW_MSEC);
        }
        clients[1].1.fails_at(0, Fault::Panic);
        worker.serve(|| worker.audience.work_off_due(&worker, NOW_MSEC + 1010));
        worker.write();
        assert_eq!(reason(&clients[1].1), Some(Reason::Error));
        for (_, link) in [&clients[0], &clients[2]] {
            assert_eq!((pings(link), link.end()), (1, None));
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

    /// Those who have to wait get the next round.
    #[test]
    fn a_round_writes_to_a_bounded_number() {
        let worker = Solo::new();
        let count = if cfg!(miri) { 0 } else { FLUSHES_MAX + 1 };
        let tokens: Vec<Token> = (0..count).map(|_| worker.stream().0).collect();
        worker.give(&tokens, &[message("a", 1, "one")]);
        assert_eq!(worker.audience.dirty(), count);
        worker.write_once();
        assert_eq!((worker.audience.dirty(), worker.goes_on.get()), (count.min(1), count > 0));
        worker.write();
        assert_eq!(worker.audience.dirty(), 0);
    }

    /// However much of its header and of a message it has taken.
    #[test]
    fn a_websocket_that_is_too_slow_ends_at_a_frames_end_with_1013() {
        let frame = b"\x81\x07a 1 one".as_slice();
        let close = b"\x88\x02\x03\xf5".as_slice();
        let head = b"<head>".len();
        for taken in 0..=head + frame.len() + 1 {
            let worker = Solo::new();
            let (token, link) = worker.websocket();
            link.room.set(taken);
            link.buffered_max.set(20);
            for _ in 0..6 {
                worker.give(&[token], &[message("a", 1, "one")]);
                worker.write();
            }
            assert_eq!(worker.state(token), Some(State::Ending), "{taken}");
            assert!(worker.has_left(token));
            worker.grant(token, &link, usize::MAX);
            let received = link.received();
            let rest = received.strip_prefix(b"<head>".as_slice()).expect("the head");
            let frames = rest.strip_suffix(close).expect("the close frame");
            let begun = taken.saturating_sub(head).div_ceil(frame.len());
            assert_eq!(frames, frame.repeat(begun), "{taken}");
            assert_eq!((link.end(), reason(&link)), (Some(End::Closed), Some(Reason::Slow)));
            assert_eq!(worker.too_slow.get(), 1);
            worker.assert_empty();
        }
    }
}
