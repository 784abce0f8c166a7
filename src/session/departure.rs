//! How a subscriber ends: why, what is said about it, and what becomes of its connection.

pub use crate::model::Reason;
use crate::model::{Delivery, Gap};
use crate::session::poll::Answer;

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
    /// How the subscriber was served; `None`: it was not let in.
    pub served_as: Option<Delivery>,
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
