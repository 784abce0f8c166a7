//! The store: channels, messages and workers in shared memory, changed in transactions.
//!
//! `undo` is the heart: every change is a section, which happens as a whole or is undone. The unsafe
//! code is in `arena` and `lock`. The rules about channels and subscribers are in `hub`.

pub(crate) mod arena;
pub(crate) mod channel;
#[cfg(any(test, fuzzing))]
pub(crate) mod check;
pub(crate) mod counters;
pub(crate) mod expiry;
pub(crate) mod index;
pub(crate) mod inspect;
pub(crate) mod interest;
pub(crate) mod lock;
#[cfg(any(test, fuzzing))]
pub(crate) mod memory;
pub(crate) mod message;
pub(crate) mod occupied;
pub(crate) mod pages;
pub(crate) mod slab;
pub(crate) mod trash;
pub(crate) mod undo;
pub(crate) mod zone;

pub use channel::CHANNEL_ID_LEN_MAX;
pub use inspect::Inspection;
pub use lock::{LongWait, on_long_wait};
pub use zone::{ImageError, Store};
