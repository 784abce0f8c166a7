//! How a subscriber ends: why, what is said about it, and what becomes of its connection.

use crate::model::Gap;
use crate::session::poll::Answer;

/// Why a subscriber ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It was not let in; the status says why.
    Refused,
    /// It closed the connection, or the connection broke.
    Client,
    /// A poll got its answer.
    Answered,
    /// Its time to live was over.
    Ttl,
    /// Its last channel was deleted.
    Deleted,
    /// The worker ends: reload, stop or quit.
    Shutdown,
    /// It broke a rule of the WebSocket protocol, or its message was too large.
    Protocol,
    /// More than `push_stream_subscriber_max_buffered` waited for it, or old messages were gone
    /// before it took them.
    Slow,
    /// It took nothing for `send_timeout`.
    SendTimeout,
    /// A bug of ours: serving it panicked.
    Error,
}

impl Reason {
    /// What logs call it.
    pub const fn text(self) -> &'static [u8] {
        match self {
            Self::Refused => b"refused",
            Self::Client => b"client",
            Self::Answered => b"answered",
            Self::Ttl => b"ttl",
            Self::Deleted => b"deleted",
            Self::Shutdown => b"shutdown",
            Self::Protocol => b"protocol",
            Self::Slow => b"slow",
            Self::SendTimeout => b"send_timeout",
            Self::Error => b"error",
        }
    }
}

/// What logs say about a subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Messages given to it, old ones included.
    pub messages_sent: u32,
    /// Messages that it was too slow for, and did not get.
    pub messages_skipped: u32,
    /// Bytes that wait for its socket.
    pub bytes_buffered: usize,
    /// Why it has not got all old messages that it has asked for, if so.
    pub gap: Option<Gap>,
    /// `None` as long as it is there.
    pub reason: Option<Reason>,
}

/// A subscriber that has gone, and what its connection is still owed.
#[derive(Debug)]
pub struct Departure<L> {
    /// Its connection.
    pub link: L,
    /// What is still to be done.
    pub how: How,
    /// It is the answer to a poll. If it is cut, the client must see that.
    pub is_answer: bool,
}

/// What a connection is still owed.
#[derive(Debug)]
pub enum How {
    /// All is written but this footer, which may be empty and ends the body.
    Finished(Vec<u8>),
    /// A WebSocket has its last frame: its connection closes.
    Closed,
    /// A poll gets its answer, header included.
    Answered(Answer),
    /// It gets no more.
    Cut(Cut),
}

/// Why a connection gets no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// It is lost, or the subscriber does not get all that it was promised.
    Lost,
    /// Its socket took nothing for too long.
    TimedOut,
    /// Its client has closed it.
    ByClient,
}
