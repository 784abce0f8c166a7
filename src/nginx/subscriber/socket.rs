//! What a WebSocket client sends: read in bounded pieces, answered, published.
//!
//! ```text
//!   socket ──► a shared buffer ──► session::websocket ──┬─► pongs, one write per event
//!                                                       ├─► hub.publish, to all channels
//!                                                       └─► close frame, then TCP close
//! ```
//!
//! Three rules keep one client from hurting others. It gets [`READS_MAX`] reads and
//! [`PUBLICATIONS_MAX`] messages per event, then everybody else has a turn. It is not read from while
//! it does not read, so answers cannot pile up. And when the last frame is on its way its input is
//! swallowed, first here, then by nginx.

use core::cell::RefCell;
use core::mem;
use core::ptr::NonNull;
use std::rc::Rc;

use ngx::ffi::{NGX_ERROR, NGX_HTTP_CLIENT_CLOSED_REQUEST, NGX_OK, ngx_http_request_t, ngx_int_t};

use crate::hub::{Post, Refusal};
use crate::model::Token;
use crate::nginx::journal::Reason;
use crate::nginx::location::Location;
use crate::nginx::output::Rendering;
use crate::nginx::peer::{self, Peer, Received};
use crate::nginx::subscriber::audience::{self, Audience, Mode, State};
use crate::nginx::subscriber::{delivery, ending};
use crate::nginx::{ffi, log, worker};
use crate::session::websocket::{Action, Connection, Rules};
use crate::wire::frame::{self, code};

/// Bytes of one read.
const READ_SIZE: usize = 16 << 10;
/// Reads for one client before others have a turn.
const READS_MAX: usize = 16;
/// Messages published for one client, one for each channel, before others have a turn.
const PUBLICATIONS_MAX: usize = 256;
/// Pings answered for one client before others have a turn.
const REPLIES_MAX: usize = 1024;
/// What a client is granted for reading the close frame and closing its own side. Short, because a
/// worker that is to exit waits for it.
const LINGERING_SECS: i64 = 2;

const ERROR: ngx_int_t = NGX_ERROR as ngx_int_t;

thread_local! {
    /// One for all clients: nothing stays in it between two events.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_SIZE]);
}

/// The reading half of one WebSocket.
pub(super) struct Socket {
    connection: Connection,
    /// What came but was not looked at yet: with the request, or beyond one event's share.
    unread: Vec<u8>,
    publishes_empty: bool,
}

impl Socket {
    /// A socket whose handshake is done; `unread` came together with it.
    pub(super) fn new(location: &Location, unread: Vec<u8>) -> Self {
        let rules = Rules {
            publish: location.websocket_allow_publish,
            binary: location.websocket_binary,
            message_max: location.websocket_max_message_size as u64,
        };
        Self { connection: Connection::new(rules), unread, publishes_empty: rules.binary }
    }
}

/// nginx calls this when the client has sent more, or has closed the connection.
///
/// # Safety
///
/// `r` is a live request, to which a WebSocket's subscriber was attached.
pub(super) unsafe extern "C" fn on_readable(r: *mut ngx_http_request_t) {
    ffi::guard("socket::on_readable", (), || {
        let Some(r) = NonNull::new(r) else { return };
        // SAFETY: see above.
        let peer = unsafe { Peer::new(r) };
        let token = audience::of(r);
        match audience::with(|audience| audience.begin_reading(token)) {
            None => {}
            Some(Reading::Blocked) => wait_for_reader(token, peer),
            Some(Reading::Ended) => delivery::flush(token),
            Some(Reading::Ending) => swallow(token, peer),
            Some(Reading::Open(turn)) => read(token, peer, turn),
        }
    });
}

/// What a WebSocket is like when its client has sent something.
enum Reading {
    /// It does not read, so it is not read from.
    Blocked,
    /// Its last frame waits behind its socket.
    Ending,
    /// It has its last frame.
    Ended,
    Open(Turn),
}

/// What reading needs, taken out of the audience for its time.
struct Turn {
    socket: Box<Socket>,
    token: Token,
    location: &'static Location,
    replies: Rendering,
    publications: usize,
    pings: usize,
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

impl Audience {
    fn begin_reading(&mut self, token: Token) -> Option<Reading> {
        let subscriber = self.subscribers.get(token)?;
        let Mode::Stream(stream) = &mut subscriber.mode else { return None };
        Some(match subscriber.state {
            State::Ending if !subscriber.is_blocked => Reading::Ended,
            State::Ending | State::TooSlow => Reading::Ending,
            _ if subscriber.is_blocked => Reading::Blocked,
            State::Starting | State::Open => Reading::Open(Turn {
                socket: stream.socket.take()?,
                token,
                location: subscriber.location,
                replies: Rendering::default(),
                publications: 0,
                pings: 0,
            }),
        })
    }

    /// `false`: the subscriber has gone meanwhile.
    fn end_reading(&mut self, token: Token, turn: Turn) -> bool {
        let Some(subscriber) = self.subscribers.get(token) else { return false };
        let Mode::Stream(stream) = &mut subscriber.mode else { return false };
        stream.socket = Some(turn.socket);
        stream.outbox.push(&Rc::new(turn.replies), 0);
        true
    }
}

fn read(token: Token, peer: Peer, mut turn: Turn) {
    let came = turn
        .take_kept()
        .unwrap_or_else(|| BUFFER.with_borrow_mut(|buffer| turn.take_from(peer, buffer)));
    let has_published = turn.publications > 0;
    if !audience::with(|audience| audience.end_reading(token, turn)) {
        return;
    }
    if has_published && matches!(came, Came::Last(..)) {
        // It gets its own messages before the close frame that answers what it sent behind them.
        delivery::on_news();
    }
    match came {
        Came::All if !peer.await_readable() => ending::drop_connection(token, ERROR),
        Came::All => delivery::flush(token),
        Came::Some => {
            peer.post_read_next();
            delivery::flush(token);
        }
        Came::Last(reason, frames) => ending::close_with(token, reason, &frames),
        Came::End => {
            log::info!(peer.log(), "client closed a WebSocket without a close frame");
            let rc = NGX_HTTP_CLIENT_CLOSED_REQUEST as ngx_int_t;
            ending::drop_connection(token, rc);
        }
        Came::Lost => ending::drop_connection(token, ERROR),
    }
}

impl Turn {
    /// Goes on with what an earlier event left.
    fn take_kept(&mut self) -> Option<Came> {
        let kept = mem::take(&mut self.socket.unread);
        self.digest(&kept)
    }

    fn take_from(&mut self, peer: Peer, buffer: &mut [u8]) -> Came {
        for _ in 0..READS_MAX {
            let len = match peer.receive(buffer) {
                Received::Bytes(len) => len,
                Received::Nothing => return Came::All,
                Received::End => return Came::End,
                Received::Lost => return Came::Lost,
            };
            if let Some(came) = self.digest(buffer.get(..len).unwrap_or_default()) {
                return came;
            }
        }
        Came::Some
    }

    /// Does what these bytes ask for. `None`: all of it, and more may be read.
    fn digest(&mut self, mut bytes: &[u8]) -> Option<Came> {
        while let Some(action) = self.socket.connection.read(&mut bytes) {
            match action {
                Action::Write(pong) => {
                    self.replies.push(|out| out.extend_from_slice(&pong));
                    self.pings += 1;
                }
                Action::Publish { message, binary } => {
                    if let Err(refusal) = self.publish(&message, binary) {
                        return Some(Came::Last(Reason::Refused, self.fail(refusal)));
                    }
                }
                Action::Close { bytes: frames, code } => {
                    let reason = match code {
                        Some(code::PROTOCOL_ERROR | code::NOT_UTF8 | code::TOO_BIG) => {
                            Reason::Protocol
                        }
                        _ => Reason::Client,
                    };
                    return Some(Came::Last(reason, frames));
                }
            }
            if self.publications >= PUBLICATIONS_MAX || self.pings >= REPLIES_MAX {
                self.socket.unread = bytes.to_vec();
                return Some(Came::Some);
            }
        }
        None
    }

    /// To all channels of the connection, in the order of the path.
    fn publish(&mut self, message: &[u8], binary: bool) -> Result<(), Refusal> {
        let post = Post {
            event_id: None,
            event_type: None,
            body: &[message],
            binary,
            may_be_empty: self.socket.publishes_empty,
            store: self.location.store_messages,
        };
        let token = self.token;
        let published = worker::operate(|hub, rules, now| {
            let channels = hub.channels_of(token);
            let ids: Vec<&[u8]> = channels.iter().map(Vec::as_slice).collect();
            // Only the module itself publishes there.
            let ids: Vec<&[u8]> =
                ids.into_iter().filter(|id| *id != rules.events_channel.as_slice()).collect();
            if ids.is_empty() {
                return Ok(0);
            }
            hub.publish(&ids, &post, rules, now).map(|()| ids.len())
        });
        self.publications += published.unwrap_or(Ok(0))?.max(1);
        worker::after_publishing();
        Ok(())
    }

    /// The last frame for a client whose message could not be published.
    fn fail(&mut self, refusal: Refusal) -> Vec<u8> {
        let mut out = Vec::new();
        if let Refusal::NoMemory { .. } = refusal {
            worker::report_full_zone();
            self.socket.connection.fail(code::INTERNAL_ERROR, &mut out);
        } else {
            self.socket.connection.end();
            frame::encode_refusal(refusal.status(), refusal.explain().unwrap_or(""), &mut out);
        }
        out
    }
}

/// The client sends but does not read. It is heard again when it has read.
fn wait_for_reader(token: Token, peer: Peer) {
    if peer.has_hung_up() {
        ending::drop_connection(token, NGX_HTTP_CLIENT_CLOSED_REQUEST as ngx_int_t);
    } else {
        peer.ignore_readable();
    }
}

/// The client sends, but what the server sends last waits behind its socket.
fn swallow(token: Token, peer: Peer) {
    match discard(peer) {
        Came::All if peer.await_readable() => {}
        Came::Some => peer.post_read_next(),
        // It may still read; if not, `send_timeout` ends it.
        Came::End => peer.ignore_readable(),
        _ => ending::drop_connection(token, ERROR),
    }
}

fn discard(peer: Peer) -> Came {
    BUFFER.with_borrow_mut(|buffer| {
        for _ in 0..READS_MAX {
            match peer.receive(buffer) {
                Received::Bytes(_) => {}
                Received::Nothing => return Came::All,
                Received::End => return Came::End,
                Received::Lost => return Came::Lost,
            }
        }
        Came::Some
    })
}

/// All is written: gives the connection to nginx, which closes our half at once and the other half
/// when the client has closed it or has had time to.
pub(super) fn hang_up(peer: Peer) {
    let connection = peer.connection();
    if worker::is_terminating() {
        // With unread input the kernel would reset the connection when the process is gone.
        discard(peer);
    }
    peer.limit_lingering(worker::now(), LINGERING_SECS);
    ending::finalize(peer, NGX_OK as ngx_int_t);
    // SAFETY: it was live just now.
    unsafe { peer::hasten_closing(connection, LINGERING_SECS as usize * 1000) };
}
