//! The session's tests: connections and workers that do what a test wants.
//!
//! ```text
//!   link    a connection that blocks, is lost, vanishes or panics at any call
//!   solo    a worker without a hub: for the unit tests, also under Miri
//! ```

pub(super) mod link;
pub(super) mod solo;
