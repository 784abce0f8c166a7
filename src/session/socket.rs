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

/// The reading half of one WebSocket.
#[derive(Debug)]
pub struct Socket {
    connection: Connection,
    /// What came but was not looked at yet: with the request, or beyond one event's share.
    unread: Vec<u8>,
}

impl Socket {
    /// A socket whose handshake is done; `unread` came together with it.
    pub fn new(terms: Terms, unread: Vec<u8>) -> Self {
        Self { connection: Connection::new(terms), unread }
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
        let Mode::Stream(stream) = &mut subscriber.mode else { return None };
        let link = subscriber.link.clone();
        Some(match subscriber.state {
            State::Broken => Hearing::Ended,
            State::Ending if !subscriber.is_blocked => Hearing::Ended,
            State::Ending | State::TooSlow => Hearing::Ending(link),
            State::Starting | State::Open if subscriber.is_blocked => Hearing::Blocked(link),
            State::Starting | State::Open => Hearing::Open(link, stream.socket.take()?),
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
        let (socket, replies) = (self.socket.take(), mem::take(&mut self.replies));
        self.audience.change(self.token, |subscriber| {
            if let Mode::Stream(stream) = &mut subscriber.mode {
                stream.socket = socket;
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
    use crate::session::sim::link::End;
    use crate::session::sim::solo::{Solo, message, reason};

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
                worker.audience.settle_round();
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
