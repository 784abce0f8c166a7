//! What a WebSocket client sends: read in bounded pieces, answered, published.
//!
//! ```text
//!   link ──► a shared buffer ──► session::frames ──┬─► pongs, one write per event
//!                                                     ├─► host.publish, to all channels
//!                                                     └─► close frame, then TCP close
//! ```
//!
//! Three rules keep one client from hurting others. It gets [`READS_MAX`] reads and [`PUBLICATIONS_MAX`]
//! messages per event, then everybody else has a turn. It is not read from while it does not read, so
//! answers cannot pile up. And when the last frame is on its way its input is swallowed, first here, then
//! by the server.

use core::mem;

use crate::model::{Seconds, Token};
use crate::session::audience::{Audience, Mode, Records, State};
use crate::session::departure::{Cut, Reason};
use crate::session::frames::{Action, Connection, Terms};
use crate::session::link::{Host, Link, Received, Unpublished};
use crate::session::outbox::{Piece, Rendering};
use crate::wire::frame::{self, code};

/// Bytes of one read.
const READ_SIZE: usize = 16 << 10;
/// Reads for one client before others have a turn.
const READS_MAX: usize = 16;
/// Messages published for one client, one for each channel, before others have a turn.
const PUBLICATIONS_MAX: usize = 256;
/// Pings answered for one client before others have a turn.
const REPLIES_MAX: usize = 1024;
/// How often the hub is asked for a client's own messages before its connection is closed.
const DELIVERIES_MAX: usize = 16;
/// Time and tag behind those of all messages.
const NEWEST: (Seconds, u64) = (Seconds::MAX, u64::MAX);

/// The reading half of one WebSocket. Most clients only listen, so it is there while its client sends, and
/// as long as it has a part of a message.
#[derive(Debug)]
pub(super) struct Socket {
    connection: Connection,
    /// What came but was not looked at yet: with the request, or beyond one event's share.
    unread: Vec<u8>,
}

impl Socket {
    /// A socket that has read nothing; `unread` came already.
    pub(super) fn new(terms: Terms, unread: Vec<u8>) -> Self {
        Self { connection: Connection::new(terms), unread }
    }

    /// Would a new one do the same from here on?
    fn is_at_rest(&self) -> bool {
        self.unread.is_empty() && self.connection.is_at_rest()
    }
}

/// What a WebSocket is like when its client has sent something.
enum Hearing<L> {
    /// It does not read, so it is not read from.
    Blocked(L),
    /// Its last frame waits behind its socket.
    Ending(L),
    /// It has its last frame, or more trouble.
    Ended,
    Open(L, Box<Socket>),
}

/// How an event's share of reading ended.
enum Came {
    /// There is no more for now.
    All,
    /// The share is used up.
    Some,
    /// The connection is to be closed with these frames.
    Last(Reason, Vec<u8>),
    /// The client closed the connection.
    End,
    /// The connection is lost.
    Lost,
}

impl<H: Host> Audience<H> {
    /// The client of a WebSocket has sent more, or has closed the connection.
    pub fn read(&self, host: &H, token: Token) {
        self.at_work.set(Some(token));
        let hearing = self.records.borrow_mut().hear(token);
        match hearing {
            None => {}
            Some(Hearing::Ended) => self.flush(host, token),
            // The client sends but does not read. It is heard again when it has read.
            Some(Hearing::Blocked(link)) if link.has_hung_up() => {
                self.cut(host, token, Cut::ByClient);
            }
            Some(Hearing::Blocked(link)) => link.ignore_readable(),
            Some(Hearing::Ending(link)) => self.swallow(host, token, &link),
            Some(Hearing::Open(link, socket)) => self.read_open(host, token, &link, socket),
        }
        self.at_work.set(None);
    }

    fn read_open(&self, host: &H, token: Token, link: &H::Link, socket: Box<Socket>) {
        let replies = Rendering::default();
        let (publications, pings) = (0, 0);
        let mut turn = Turn {
            audience: self,
            host,
            link,
            token,
            socket: Some(socket),
            replies,
            publications,
            pings,
        };
        let came = turn.take_kept().unwrap_or_else(|| turn.take_from_link());
        let has_published = turn.publications > 0;
        drop(turn);
        if has_published && matches!(came, Came::Last(..)) {
            // It gets its own messages before the close frame that answers what it sent behind them. They
            // may come after those of many other channels.
            for _ in 0..DELIVERIES_MAX {
                if !host.has_older(token, NEWEST) {
                    break;
                }
                host.deliver();
            }
            self.at_work.set(Some(token));
        }
        match came {
            Came::All if link.await_readable().is_err() => self.cut(host, token, Cut::Lost),
            Came::All => self.flush(host, token),
            Came::Some => {
                link.read_again(false);
                self.flush(host, token);
            }
            Came::Last(reason, frames) => self.dismiss_with(host, token, reason, Some(frames)),
            Came::End => self.cut(host, token, Cut::ByClient),
            Came::Lost => self.cut(host, token, Cut::Lost),
        }
    }

    /// The client sends, but what it is sent last waits behind its socket.
    fn swallow(&self, host: &H, token: Token, link: &H::Link) {
        match self.discard(link) {
            Came::All if link.await_readable().is_ok() => {}
            Came::Some => link.read_again(false),
            // It may still read; if not, its time to take something ends it.
            Came::End => link.ignore_readable(),
            _ => self.cut(host, token, Cut::Lost),
        }
    }

    /// Reads a share of what the client sends, and forgets it.
    fn discard(&self, link: &H::Link) -> Came {
        self.read_share(link, |_| None)
    }

    /// Takes in what the client has sent, so that nothing unread makes the kernel reset the connection.
    pub fn drain(&self, link: &H::Link) {
        self.discard(link);
    }

    fn read_share(&self, link: &H::Link, mut each: impl FnMut(&[u8]) -> Option<Came>) -> Came {
        let buffer = &mut *self.buffer.borrow_mut();
        buffer.resize(READ_SIZE, 0);
        for _ in 0..READS_MAX {
            let len = match link.receive(buffer) {
                Received::Bytes(len) => len,
                Received::Nothing => return Came::All,
                Received::End => return Came::End,
                Received::Lost => return Came::Lost,
            };
            if let Some(came) = each(buffer.get(..len).unwrap_or_default()) {
                return came;
            }
        }
        Came::Some
    }
}

impl<H: Host> Records<H> {
    fn hear(&mut self, token: Token) -> Option<Hearing<H::Link>> {
        let subscriber = self.slots.get(token)?;
        let is_websocket = subscriber.is_websocket();
        let Mode::Stream(stream) = &mut subscriber.mode else { return None };
        if !is_websocket {
            return None;
        }
        let link = subscriber.link.clone();
        Some(match subscriber.state {
            State::Broken => Hearing::Ended,
            State::Ending if !subscriber.is_blocked => Hearing::Ended,
            State::Ending | State::TooSlow => Hearing::Ending(link),
            State::Starting | State::Open if subscriber.is_blocked => Hearing::Blocked(link),
            // Its client is being heard, and this event came from inside.
            State::Starting | State::Open if stream.is_heard => return None,
            State::Starting | State::Open => {
                let new = || Box::new(Socket::new(link.terms(), Vec::new()));
                let socket = stream.socket.take().unwrap_or_else(new);
                stream.is_heard = true;
                Hearing::Open(link, socket)
            }
        })
    }
}

/// What reading needs, taken out of the record for its time; the end of it puts it back.
struct Turn<'a, H: Host> {
    audience: &'a Audience<H>,
    host: &'a H,
    link: &'a H::Link,
    token: Token,
    /// Always there, until it goes back.
    socket: Option<Box<Socket>>,
    replies: Rendering,
    publications: usize,
    pings: usize,
}

impl<H: Host> Drop for Turn<'_, H> {
    fn drop(&mut self) {
        let (socket, mut replies) = (self.socket.take(), mem::take(&mut self.replies));
        replies.fit();
        self.audience.change(self.token, |subscriber| {
            if let Mode::Stream(stream) = &mut subscriber.mode {
                stream.socket = socket.filter(|socket| !socket.is_at_rest());
                stream.is_heard = false;
                stream.outbox.push(Piece::all(replies));
            }
        });
    }
}

impl<H: Host> Turn<'_, H> {
    /// Goes on with what an earlier event left.
    fn take_kept(&mut self) -> Option<Came> {
        let kept = self.socket.as_mut().map(|socket| mem::take(&mut socket.unread));
        self.digest(&kept.unwrap_or_default())
    }

    fn take_from_link(&mut self) -> Came {
        self.audience.read_share(self.link, |bytes| self.digest(bytes))
    }

    /// Does what these bytes ask for. `None`: all of it, and more may be read.
    fn digest(&mut self, mut bytes: &[u8]) -> Option<Came> {
        loop {
            let socket = self.socket.as_mut()?;
            match socket.connection.read(&mut bytes)? {
                Action::Write(pong) => {
                    self.replies.push(false, |out| out.extend_from_slice(&pong));
                    self.pings += 1;
                }
                Action::Publish { message, binary } => {
                    match self.host.publish(self.link, self.token, &message, binary) {
                        Ok(channels) => self.publications += channels.max(1),
                        Err(why) => return Some(Came::Last(Reason::Refused, self.fail(why))),
                    }
                }
                Action::Close { bytes: frames, code } => {
                    let is_violation =
                        matches!(code, Some(code::PROTOCOL_ERROR | code::NOT_UTF8 | code::TOO_BIG));
                    let reason = if is_violation { Reason::Protocol } else { Reason::Client };
                    return Some(Came::Last(reason, frames));
                }
            }
            if self.publications >= PUBLICATIONS_MAX || self.pings >= REPLIES_MAX {
                self.socket.as_mut()?.unread = bytes.to_vec();
                return Some(Came::Some);
            }
        }
    }

    /// The last frame for a client whose message could not be published.
    fn fail(&mut self, why: Unpublished) -> Vec<u8> {
        let mut out = Vec::new();
        let Some(socket) = &mut self.socket else { return out };
        match why {
            Unpublished::NoMemory => socket.connection.fail(code::INTERNAL_ERROR, &mut out),
            Unpublished::Refused { status, explain } => {
                socket.connection.end();
                frame::encode_refusal(status, explain, &mut out);
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;

    use super::*;
    use crate::session::sim::link::{End, SimLink};
    use crate::session::sim::solo::{Solo, message, reason};
    use crate::wire::frame::Opcode;

    /// A frame of a client, masked with zeros.
    fn frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        frame::encode_head(opcode, payload.len(), &mut bytes);
        bytes[1] |= 0x80;
        bytes.extend([0; 4]);
        bytes.extend_from_slice(payload);
        bytes
    }

    fn times(count: usize, frame: &[u8]) -> Vec<u8> {
        frame.repeat(count)
    }

    /// An open WebSocket whose header is written.
    fn open(worker: &Solo) -> (Token, SimLink) {
        let (token, link) = worker.websocket();
        worker.audience.write_first(worker, token);
        link.take_received();
        (token, link)
    }

    fn hear(worker: &Solo, token: Token, link: &SimLink, bytes: &[u8]) {
        link.input.borrow_mut().extend(bytes);
        worker.audience.read(worker, token);
    }

    #[test]
    fn a_clients_messages_are_published_and_its_pings_answered_in_one_write() {
        let worker = Solo::new();
        let (token, link) = open(&worker);
        let mut input = frame(Opcode::Text, b"one");
        input.extend(frame(Opcode::Ping, b"a"));
        input.extend(frame(Opcode::Binary, b"two"));
        input.extend(frame(Opcode::Ping, b""));
        for len in 0..input.len() {
            worker.published.borrow_mut().clear();
            hear(&worker, token, &link, &input[..len]);
            assert!(link.wants_input.get() && link.read_again.get().is_none());
            hear(&worker, token, &link, &input[len..]);
            let published = [(b"one".to_vec(), false), (b"two".to_vec(), true)];
            assert_eq!(*worker.published.borrow(), published);
            assert_eq!(link.take_received(), b"\x8a\x01a\x8a\x00");
        }
    }

    /// A client that only listens costs no memory for what it could send.
    #[test]
    fn a_socket_is_kept_while_it_has_a_part_of_a_message() {
        let worker = Solo::new();
        let (token, link) = open(&worker);
        let is_kept = || {
            let records = &mut *worker.audience.records.borrow_mut();
            let mode = &records.slots.get(token).expect("it is there").mode;
            matches!(mode, Mode::Stream(stream) if stream.socket.is_some())
        };
        assert!(!is_kept());
        let mut fragments = frame(Opcode::Text, b"one ");
        fragments[0] &= 0x7f;
        fragments.extend(frame(Opcode::Ping, b"between"));
        fragments.extend(frame(Opcode::Continuation, b"message"));
        for len in 1..fragments.len() {
            hear(&worker, token, &link, &fragments[..len]);
            assert!(is_kept(), "{len}");
            hear(&worker, token, &link, &fragments[len..]);
            assert!(!is_kept(), "{len}");
            assert_eq!(worker.published.take(), [(b"one message".to_vec(), false)]);
            assert_eq!(link.take_received(), b"\x8a\x07between");
        }
    }

    #[test]
    fn one_client_is_read_from_so_often_and_then_others_have_a_turn() {
        let worker = Solo::new();
        let (token, link) = open(&worker);
        let message = vec![b'x'; READ_SIZE * (READS_MAX + 3)];
        hear(&worker, token, &link, &frame(Opcode::Text, &message));
        assert_eq!((link.reads.get(), link.read_again.take()), (READS_MAX, Some(false)));
        assert_eq!(worker.published.borrow().len(), 0);
        worker.audience.read(&worker, token);
        assert_eq!(link.read_again.get(), None);
        assert!(worker.published.borrow()[0].0 == message);
    }

    #[test]
    fn one_client_publishes_so_much_and_then_others_have_a_turn() {
        for channels in [1, 3, 0, 1000] {
            let worker = Solo::new();
            let (token, link) = open(&worker);
            worker.publishes.set(Ok(channels));
            let share = PUBLICATIONS_MAX.div_ceil(channels.max(1));
            let all = share + share / 2 + 1;
            hear(&worker, token, &link, &times(all, &frame(Opcode::Text, b"x")));
            assert_eq!(worker.published.borrow().len(), share, "{channels}");
            assert_eq!(link.read_again.take(), Some(false));
            worker.audience.read(&worker, token);
            assert_eq!(worker.published.borrow().len(), all, "what was kept comes next");
        }
    }

    #[test]
    fn one_client_is_answered_so_often_and_then_others_have_a_turn() {
        let worker = Solo::new();
        let (token, link) = open(&worker);
        hear(&worker, token, &link, &times(REPLIES_MAX + 5, &frame(Opcode::Ping, b"")));
        assert_eq!(link.take_received().len(), 2 * REPLIES_MAX);
        assert_eq!(link.read_again.take(), Some(false));
        worker.audience.read(&worker, token);
        assert_eq!(link.take_received().len(), 2 * 5);
    }

    #[test]
    fn answers_that_wait_count_with_all_their_memory() {
        let worker = Solo::new();
        let (token, link) = open(&worker);
        link.room.set(0);
        for (count, len) in [(300, 0), (40, 60), (20, 125)] {
            worker.give(&[token], &[message("a", 1, "behind this they wait")]);
            hear(&worker, token, &link, &times(count, &frame(Opcode::Ping, &vec![b'x'; len])));
            worker.record(token, |records, token| {
                let Mode::Stream(stream) = &records.slots.get(token).expect("it is there").mode
                else {
                    panic!("a stream");
                };
                let (waiting, allocated) = (stream.waiting(), stream.allocated());
                assert!(waiting >= allocated, "{count} of {len}: {waiting} < {allocated}");
            });
            worker.grant(token, &link, usize::MAX);
            link.room.set(0);
        }
    }

    /// What came together with the handshake is heard first.
    #[test]
    fn what_came_with_the_request_is_heard_first() {
        let worker = Solo::new();
        let early = times(PUBLICATIONS_MAX + 1, &frame(Opcode::Text, b"early"));
        let (token, link) = worker.open(
            crate::session::Framing::WebSocket,
            crate::session::link::Way::Direct,
            false,
            Some(early),
            None,
        );
        worker.audience.write_first(&worker, token);
        hear(&worker, token, &link, &frame(Opcode::Text, b"late"));
        assert_eq!((link.reads.get(), worker.published.borrow().len()), (0, PUBLICATIONS_MAX));
        worker.audience.read(&worker, token);
        let published: Vec<_> = worker.published.borrow().iter().map(|p| p.0.clone()).collect();
        assert_eq!(published[PUBLICATIONS_MAX..], [b"early".to_vec(), b"late".to_vec()]);
    }

    #[test]
    fn a_client_that_does_not_read_is_not_heard() {
        let worker = Solo::new();
        let (token, link) = open(&worker);
        link.room.set(0);
        worker.give(&[token], &[message("a", 1, "one")]);
        worker.write();
        link.wants_input.set(true);
        hear(&worker, token, &link, &frame(Opcode::Ping, b""));
        assert_eq!((link.reads.get(), link.wants_input.get()), (0, false));
        worker.grant(token, &link, usize::MAX);
        assert_eq!(link.read_again.take(), Some(true), "now it is");
        worker.audience.read(&worker, token);
        assert!(link.received().ends_with(b"\x8a\x00"));

        // If it has gone, nobody waits for it.
        link.room.set(0);
        worker.give(&[token], &[message("a", 2, "two")]);
        worker.write();
        link.has_hung_up.set(true);
        worker.audience.read(&worker, token);
        assert_eq!(link.end(), Some(End::Cut(Cut::ByClient)));
        worker.assert_empty();
    }

    #[test]
    fn a_client_that_closes_its_side_has_left() {
        let worker = Solo::new();
        let (token, link) = open(&worker);
        link.has_hung_up.set(true);
        hear(&worker, token, &link, b"");
        assert_eq!(link.end(), Some(End::Cut(Cut::ByClient)));
        assert_eq!(reason(&link), Some(Reason::Client));
        worker.assert_empty();
    }

    /// Its own messages come before the frame that answers what it sent behind them.
    #[test]
    fn a_close_frame_is_answered_and_ends_the_connection() {
        for (last, answer, why) in [
            (frame(Opcode::Close, b""), &b"\x88\x00"[..], Reason::Client),
            (frame(Opcode::Close, b"\x03\xe9bye"), b"\x88\x02\x03\xe9", Reason::Client),
            (frame(Opcode::Continuation, b""), b"\x88\x02\x03\xea", Reason::Protocol),
            (frame(Opcode::Text, b"\xff"), b"\x88\x02\x03\xef", Reason::Protocol),
            (frame(Opcode::Text, &[b'x'; (1 << 20) + 1]), b"\x88\x02\x03\xf1", Reason::Protocol),
        ] {
            let worker = Solo::new();
            let (token, link) = open(&worker);
            *worker.delivers.borrow_mut() = Some(Box::new(move |worker: &Solo| {
                worker.give(&[token], &[message("a", 1, "own")]);
                worker.write();
                worker.oldest.set(None);
            }));
            worker.oldest.set(Some((1, 1)));
            let mut input = frame(Opcode::Text, b"own");
            input.extend(last);
            input.extend(frame(Opcode::Text, b"too late"));
            hear(&worker, token, &link, &input);
            assert_eq!(link.received(), [b"\x81\x07a 1 own", answer].concat());
            assert_eq!((link.end(), reason(&link)), (Some(End::Closed), Some(why)));
            assert_eq!(worker.published.borrow().len(), 1);
            worker.assert_empty();
        }
    }

    #[test]
    fn a_client_whose_message_is_refused_is_told_why() {
        let refused = Unpublished::Refused { status: 403, explain: "no" };
        let why = b"\x03\xf0{\"http_status\": 403, \"explain\":\"no\"}";
        for (publishes, payload) in [(refused, &why[..]), (Unpublished::NoMemory, b"\x03\xf3")] {
            let worker = Solo::new();
            let (token, link) = open(&worker);
            worker.publishes.set(Err(publishes));
            hear(&worker, token, &link, &times(2, &frame(Opcode::Text, b"x")));
            assert_eq!(worker.published.borrow().len(), 1);
            let mut close = vec![0x88, payload.len() as u8];
            close.extend_from_slice(payload);
            assert_eq!(link.received(), close);
            assert_eq!((link.end(), reason(&link)), (Some(End::Closed), Some(Reason::Refused)));
            worker.assert_empty();
        }
    }

    /// The last frame waits behind a full socket: what the client sends meanwhile is forgotten.
    #[test]
    fn behind_its_last_frame_a_client_is_not_heard() {
        let worker = Solo::new();
        let (token, link) = open(&worker);
        link.room.set(1);
        worker.audience.dismiss(&worker, token, Reason::Shutdown);
        assert_eq!(link.end(), None);
        hear(&worker, token, &link, &frame(Opcode::Text, b"late"));
        assert!(link.input.borrow().is_empty() && link.wants_input.get());
        link.input.borrow_mut().extend(vec![0; READ_SIZE * (READS_MAX + 1)]);
        worker.audience.read(&worker, token);
        assert_eq!(link.read_again.take(), Some(false), "no more than a share of it");
        worker.audience.read(&worker, token);
        link.has_hung_up.set(true);
        worker.audience.read(&worker, token);
        assert_eq!((link.end(), link.wants_input.get()), (None, false), "it may still read");
        assert_eq!(worker.published.borrow().len(), 0);
        worker.grant(token, &link, usize::MAX);
        assert_eq!(link.received(), b"\x81\x06<foot>\x88\x00");
        assert_eq!(link.end(), Some(End::Closed));
        worker.assert_empty();
    }

    #[test]
    fn a_connection_that_is_lost_while_it_is_read_is_cut() {
        for (is_ending, number) in [(false, 0), (false, 1), (true, 0), (true, 1)] {
            let worker = Solo::new();
            let (token, link) = open(&worker);
            if is_ending {
                link.room.set(0);
                worker.audience.dismiss(&worker, token, Reason::Ttl);
            }
            link.fails_at(number, crate::session::sim::link::Fault::Lose);
            worker.audience.read(&worker, token);
            assert_eq!(link.end(), Some(End::Cut(Cut::Lost)), "{is_ending} {number}");
            worker.assert_empty();
        }
    }

    /// Whatever was in the buffer of one client, another one does not get to see.
    #[test]
    fn a_panic_gives_the_socket_back() {
        let worker = Solo::new();
        let (token, link) = open(&worker);
        let (other, theirs) = open(&worker);
        link.fails_at(1, crate::session::sim::link::Fault::Panic);
        link.input.borrow_mut().extend(frame(Opcode::Text, b"secret"));
        worker.serve_event(|| worker.audience.read(&worker, token));
        hear(&worker, other, &theirs, &frame(Opcode::Ping, b""));
        assert_eq!(theirs.received(), b"\x8a\x00");
        worker.write();
        assert_eq!(reason(&link), Some(Reason::Error));
    }

    /// The hub hands out what other channels have before.
    #[test]
    fn a_client_that_goes_gets_its_own_message_first() {
        let worker = Solo::new();
        let (token, link) = worker.websocket();
        let deliveries = Cell::new(0);
        *worker.delivers.borrow_mut() = Some(Box::new(move |worker| {
            deliveries.set(deliveries.get() + 1);
            if deliveries.get() == 3 {
                worker.give(&[token], &[message("a", 1, "own")]);
                worker.audience.settle_round(worker);
                worker.oldest.set(None);
            }
        }));
        worker.oldest.set(Some((1, 1)));
        link.input.borrow_mut().extend(b"\x81\x03own\x88\x02\x03\xe8");
        worker.serve_event(|| worker.audience.read(&worker, token));
        assert!(link.received().ends_with(b"\x81\x07a 1 own\x88\x02\x03\xe8"));
        assert_eq!((link.end(), reason(&link)), (Some(End::Closed), Some(Reason::Client)));
    }

    /// Messages that keep coming do not keep its connection open.
    #[test]
    fn a_client_that_goes_waits_for_a_bounded_number_of_messages() {
        let worker = Solo::new();
        let (token, link) = worker.websocket();
        worker.oldest.set(Some((1, 1)));
        link.input.borrow_mut().extend(b"\x81\x03own\x88\x02\x03\xe8");
        worker.serve_event(|| worker.audience.read(&worker, token));
        assert_eq!(link.end(), Some(End::Closed));
    }
}
