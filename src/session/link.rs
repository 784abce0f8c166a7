//! What a subscriber's life asks of the world: its connection, and the worker around it.
//!
//! ```text
//!                  ┌──────────► Link   one connection: takes bytes, tells when it takes more
//!   Audience ──────┤
//!                  └──────────► Host   the worker: the hub, nginx's log, the next round of its loop
//! ```
//!
//! The shell implements both for nginx, the simulation for connections that do as they like. The methods
//! of a link that "may call back" run while the audience is not borrowed: a filter of nginx's may ask for
//! a variable about the subscriber, or end its request.

use crate::model::{Message, Reached, Seconds, Token};
use crate::session::Layout;
use crate::session::departure::{Departure, Entry};
use crate::session::frames::Terms;
use crate::session::outbox::Outbox;

/// The connection is of no use any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost;

/// How far a flush came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flushed {
    /// Nothing waits any more.
    All,
    /// The socket takes no more now.
    Some {
        /// It has taken something.
        progress: bool,
    },
    /// The connection is lost.
    Lost,
}

/// What a read found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// So many bytes.
    Bytes(usize),
    /// None for now.
    Nothing,
    /// The client sends no more.
    End,
    /// The connection is lost.
    Lost,
}

/// How bytes go to one subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// What waits is framed already, and no body filter needs to see it.
    Direct,
    /// Through all body filters, a message at a time.
    Filtered,
}

/// What becomes of a subscriber that is too slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slow {
    /// It is disconnected.
    Disconnect,
    /// It does not get what it is too slow for, and goes on with what is newest.
    Skip {
        /// It is told what it does not get.
        tells: bool,
    },
}

/// One connection, and what its location says about it. A clone is the same connection.
pub trait Link: Clone {
    /// What its messages, header and footer look like.
    fn layout(&self) -> &Layout;
    /// The text of a ping.
    fn ping_text(&self) -> &[u8];
    /// What the client of a WebSocket may do.
    fn terms(&self) -> Terms;
    /// `push_stream_subscriber_max_buffered`: bytes of memory that live messages may cost while they
    /// wait for the socket.
    fn buffered_max(&self) -> usize;
    /// What becomes of its subscriber if more waits.
    fn slow(&self) -> Slow;

    /// May a response that goes the direct way be sent by [`Link::send`] just now?
    fn is_plain(&self) -> bool;
    /// As far as is known, the socket takes bytes.
    fn is_writable(&self) -> bool;
    /// Gives bytes to the socket. Answers how many it took; fewer than were offered: it is full.
    ///
    /// # Errors
    ///
    /// [`Lost`]
    fn send(&self, bytes: &[u8]) -> Result<usize, Lost>;
    /// Bytes of the connection that were written so far, as the server counts them.
    fn sent(&self) -> u64;
    /// Gives what waits to the server's own output, as much as that writes at once. May call back.
    fn flush(&self, way: Way, outbox: &mut Outbox) -> Flushed;
    /// Runs what a flush has put off until the end of the event. May call back.
    fn run_posted(&self);
    /// Asks for a call when the socket takes bytes again. `restart`: the time that it may take nothing
    /// begins now.
    ///
    /// # Errors
    ///
    /// [`Lost`]
    fn await_writable(&self, restart: bool) -> Result<(), Lost>;
    /// Nothing waits to be written any more.
    ///
    /// # Errors
    ///
    /// [`Lost`]
    fn stop_waiting(&self) -> Result<(), Lost>;

    /// Reads what the client has sent, up to the length of the buffer.
    fn receive(&self, buffer: &mut [u8]) -> Received;
    /// Asks for a call when there is something to read, after there was nothing.
    ///
    /// # Errors
    ///
    /// [`Lost`]
    fn await_readable(&self) -> Result<(), Lost>;
    /// What is there to read stays there for now.
    fn ignore_readable(&self);
    /// Asks for a call of the read handler: soon, or after everybody else has had a turn.
    fn read_again(&self, soon: bool);
    /// The client has closed its side.
    fn has_hung_up(&self) -> bool;
}

/// More old messages of a subscriber.
#[derive(Debug)]
pub struct Read<R> {
    /// What there was no room for; it has to be parked before the worker does anything else.
    pub rest: Option<R>,
    /// Channels that were deleted before all was read of them.
    pub gone: Vec<Box<[u8]>>,
}

/// Messages that a subscriber has not got are gone, or past their time. To go on would leave a gap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lagged {
    /// How many messages of which channels are left, but for those that are gone with their channel.
    pub left: Vec<(Box<[u8]>, u64)>,
    /// Channels that were deleted before all was read of them.
    pub gone: Vec<Box<[u8]>>,
}

/// Why a client's message was not published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unpublished {
    /// The zone has no memory for it.
    NoMemory,
    /// It breaks a rule.
    Refused {
        /// HTTP status of the refusal.
        status: u16,
        /// Its explain text.
        explain: &'static str,
    },
}

/// The worker, as its subscribers see it. No method may borrow the audience, but [`Host::depart`] and
/// [`Host::deliver`], which may. [`Host::leave`] and [`Host::write_down`] return, whatever happens in them:
/// the subscriber that they are about is on its way out, and its connection has to come to its end.
pub trait Host: Sized {
    /// The connections of this worker.
    type Link: Link;
    /// A place among old messages, which pins nothing once it is parked.
    type Rest;

    /// Ends all subscriptions of the subscriber, if it has any.
    fn leave(&self, token: Token);
    /// Hands out more old messages for as long as `each` answers that there is room.
    ///
    /// # Errors
    ///
    /// [`Lagged`]
    fn read_on(
        &self,
        rest: Self::Rest,
        each: &mut dyn FnMut(&Message<'_>) -> bool,
    ) -> Result<Read<Self::Rest>, Lagged>;
    /// Keeps the place, and lets go of the messages.
    fn park(&self, rest: &mut Self::Rest);
    /// The channels that the place is in.
    fn channels(rest: &Self::Rest) -> impl Iterator<Item = &[u8]>;
    /// Is there a message for the subscriber that was published before this time and tag, and that the
    /// worker has not handed out yet?
    fn has_older(&self, token: Token, order: (Seconds, u64)) -> bool;
    /// Time and tag of the oldest message for the subscriber that the worker has not handed out yet.
    /// `is_next`: nothing was handed out since the last call, so subscribers of the same channels have the
    /// same answer.
    fn oldest_unread(&self, token: Token, is_next: bool) -> Option<(Seconds, u64)>;
    /// From which place on the subscriber has to ask again, so that it misses nothing.
    fn resume_from(&self, token: Token) -> Reached;
    /// Publishes a WebSocket client's message to its channels. Answers to how many.
    ///
    /// # Errors
    ///
    /// [`Unpublished`]
    fn publish(
        &self,
        link: &Self::Link,
        token: Token,
        message: &[u8],
        binary: bool,
    ) -> Result<usize, Unpublished>;
    /// Hands out what the hub has for this worker's subscribers.
    fn deliver(&self);

    /// Does the loop have another round for those who must wait? Not in a worker that ends.
    fn has_rounds(&self) -> bool;
    /// Asks for a call of [`crate::session::audience::Audience::go_on`] in the next round.
    fn go_on_next(&self);

    /// A subscriber has gone: its last entry, for the log. Its request is still there.
    fn write_down(&self, link: &Self::Link, entry: Entry);
    /// Somebody is cut off for being too slow.
    fn report_too_slow(&self);
    /// So many messages were skipped for subscribers that are too slow.
    fn report_skipped(&self, messages: usize);
    /// Gives the connection of a subscriber that has gone back to the server, outside of the handler
    /// that opened it.
    fn depart(&self, departure: Departure<Self::Link>);
}
