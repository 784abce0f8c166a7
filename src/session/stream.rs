//! A response that stays open: opened once, written whenever something waits, ended in order.
//!
//! ```text
//!   open ──► header, old messages ──► live messages, pings ──► dismiss ──► what waits, footer
//!                                          │
//!                   socket full: waits ◄───┴───► too much waits, or lost: cut
//! ```
//!
//! How what waits gets onto the socket: see `turn`.

use crate::model::Token;
use crate::session::Form;
use crate::session::audience::{Audience, Mode, Records, State};
use crate::session::departure::Reason;
use crate::session::due::Kind;
use crate::session::link::{Host, Link, Way};
use crate::session::outbox::{Outbox, Piece, Rendering};
use crate::session::paging::{Portion, Unread};
use crate::session::socket::Socket;
use crate::wire::frame;

/// Subscribers that are pinged or dismissed before other connections have a turn.
const DUE_MAX: usize = 1000;

pub(super) struct Stream<R> {
    pub(super) way: Way,
    /// The response is chunked, and we do it.
    pub(super) frames_chunks: bool,
    /// It is the answer to a poll, which is over when all of it is written.
    pub(super) is_answer: bool,
    /// Bytes that wait for it are counted: see [`crate::session::counts`].
    pub(super) is_counted: bool,
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
            is_counted: false,
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
        self.records.borrow_mut().replay(token, opening.portion.messages());
        self.change(token, |subscriber| {
            let Opening { way, frames_chunks, portion, rest } = opening;
            subscriber.state = State::Open;
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
    /// From now on the subscriber gets nothing but what waits, and its last bytes: these frames, or the
    /// footer that it is to have. Others than WebSockets get their footer when what waits is written: for
    /// the server it belongs to the end of the body.
    pub(super) fn begin_end(&mut self, token: Token, reason: Reason, frames: Option<Vec<u8>>) {
        let before = self.slots.get(token).map_or(0, |subscriber| subscriber.messages_sent);
        self.let_end(token, reason, frames);
        self.count_taken_back(token, before);
    }

    fn let_end(&mut self, token: Token, reason: Reason, frames: Option<Vec<u8>>) {
        self.quit(token);
        // With a place that a client knows it gets the others when it comes back.
        let held = self.held.forget(token);
        let Some(subscriber) = self.slots.get(token) else { return };
        subscriber.uncount(held);
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
            Reason::Deleted if !subscriber.is_ordered => subscriber.forget_unread(),
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
    pub(super) fn cut_off(&mut self, token: Token) -> bool {
        let Some(subscriber) = self.slots.get(token) else { return false };
        if !subscriber.is_websocket() {
            return false;
        }
        subscriber.state = State::Open;
        if let Mode::Stream(stream) = &mut subscriber.mode {
            stream.outbox.cut();
        }
        self.skipped.forget_untold(token);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Message;
    use crate::session::Framing;
    use crate::session::sim::link::{End, Fault, SimLink};
    use crate::session::sim::solo::{
        KINDS, NOW_MSEC, Old, Solo, message, open, read_if_asked, reason,
    };

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
