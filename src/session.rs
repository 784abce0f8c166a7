//! A subscriber's life: what waits for it, in which order, until when, and how it ends.
//!
//! ```text
//!   audience   one record for each subscriber of this worker, and who has something to write
//!     fanout   news of a channel to its subscribers      stream   responses that stay open
//!     outbox   what waits for one of them                turn     how it gets onto the socket
//!     held     messages that wait for older ones         poll     one answer, at once or later
//!     paging   old messages, in portions                skip     what one is too slow for
//!     due      pings and ends                            socket   what a WebSocket client sends
//!                                                        departure  why and how one ends
//!   counts     what has happened, for the worker's counters
//!   layout     what it all looks like: layout, reply (around the messages of a poll), frames (a client's)
//!   link       what the life asks of the world: a connection, and the worker
//! ```
//!
//! The shell tells what nginx calls, and is the connection. Nothing here knows nginx or the hub.

pub mod audience;
pub mod counts;
pub mod departure;
mod due;
pub mod fanout;
pub mod frames;
mod held;
mod layout;
pub mod link;
pub mod outbox;
pub mod paging;
pub mod poll;
pub mod reply;
#[cfg(test)]
mod sim;
mod skip;
pub mod socket;
pub mod stream;
pub mod turn;

pub use layout::{Form, Framing, Layout, Padding};
