//! The session's tests: connections and workers that do what a test wants.
//!
//! ```text
//!   link     a connection that blocks, is lost, vanishes or panics at any call
//!   solo     a worker without a hub: for the unit tests, also under Miri
//!   ground   one zone with the real hubs of its workers
//!   worker   a worker over it
//!   client   what a client makes of its bytes, and what it should have got
//!   returns  clients that leave and come back, over everything that makes them miss messages
//! ```

mod client;
#[cfg(not(miri))]
mod every_call;
#[cfg(not(miri))]
mod ground;
#[cfg(not(miri))]
mod history;
pub(super) mod link;
#[cfg(not(miri))]
mod random;
#[cfg(not(miri))]
mod returns;
pub(super) mod solo;
#[cfg(not(miri))]
mod worker;
