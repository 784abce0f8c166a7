//! What a worker counts: a record beside each seat, which only the process in the seat writes.
//!
//! The counters belong to the seat and not to its tenant: the next tenant goes on counting. So what a dead
//! worker has counted stays, and no counter ever falls while the zone lives. The first few words are
//! gauges: they are about the subscribers of the present tenant, and its end clears them.
//!
//! A change is one plain store, by the only process that writes the word, after what it counts. So a worker
//! that is killed loses what it was about to add, and nothing else.

use crate::model::{Delivery, Discard, HistogramKind, Operation, Reason, Removal, Source};
use crate::store::arena::{Record, W32, W64};
use crate::store::zone::Store;

/// How subscribers are served.
const DELIVERIES: usize = Delivery::ALL.len();
/// Why they end, and that their worker has died.
pub(crate) const ENDS: usize = Reason::ALL.len() + 1;
/// The end of a subscriber whose worker has died: nobody knows more.
pub(crate) const DIED: usize = Reason::ALL.len();
/// Room for the reasons of refusals.
pub(crate) const REFUSALS_MAX: usize = 16;

/// The counters of one seat.
#[repr(C)]
pub(crate) struct Counters {
    kind: W32,
    _spare: W32,
    /// Gauge: subscriptions of the tenant's subscribers.
    pub(crate) subscriptions: W64,
    /// Gauge: bytes that wait for their sockets.
    pub(crate) buffered: W64,
    /// Subscribers that ended, before those that were let in: a reader that takes the words in order never
    /// finds more of the former.
    pub(crate) ended: [[W64; ENDS]; DELIVERIES],
    pub(crate) entered: [W64; DELIVERIES],
    pub(crate) delivered: [W64; DELIVERIES],
    pub(crate) replayed: [W64; DELIVERIES],
    pub(crate) sent_bytes: [W64; DELIVERIES],
    pub(crate) refused: [[W64; REFUSALS_MAX]; Operation::ALL.len()],
    pub(crate) published: [W64; Source::ALL.len()],
    pub(crate) published_bytes: [W64; Source::ALL.len()],
    pub(crate) sizes: [W64; HistogramKind::Size.buckets()],
    pub(crate) delays: [W64; HistogramKind::Delay.buckets()],
    /// The sum of all delays, in microseconds.
    pub(crate) delays_usec: W64,
    /// Channels made, by [`kind_number`].
    pub(crate) created: [W64; 2],
    pub(crate) removed: [[W64; Removal::ALL.len()]; 2],
    pub(crate) discarded: [W64; Discard::ALL.len()],
}

// SAFETY: `repr(C)`, words only, kind first.
unsafe impl Record for Counters {
    const KIND: u32 = u32::from_le_bytes(*b"cntr");
}

/// Bytes from one record to the next: whole cache lines, so that no two workers write to the same one. A
/// page has as many of them as a page of seats has seats.
pub(crate) const COUNTERS_SIZE: usize = 1344;
const _: () = assert!(size_of::<Counters>() <= COUNTERS_SIZE && COUNTERS_SIZE.is_multiple_of(64));

/// Ordinary channels come first, then wildcard channels.
pub(crate) const fn kind_number(is_wildcard: bool) -> usize {
    is_wildcard as usize
}

impl Store {
    /// Adds to a counter of this process's own.
    #[inline]
    pub(crate) fn count(&self, counter: &W64, more: u64) {
        self.arena.put64(counter, counter.get().wrapping_add(more));
    }
}

/// What a section has done that is counted when it is final.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Done {
    created: [u8; 2],
    removed: [[u8; Removal::ALL.len()]; 2],
    discarded: [u8; Discard::ALL.len()],
}

impl Done {
    /// A channel was made.
    pub(crate) fn created(&mut self, is_wildcard: bool) {
        self.created[kind_number(is_wildcard)] += 1;
    }

    /// A channel is no longer live.
    pub(crate) fn removed(&mut self, is_wildcard: bool, why: Removal) {
        self.removed[kind_number(is_wildcard)][why.number()] += 1;
    }

    /// A stored message was let go.
    pub(crate) fn discarded(&mut self, why: Discard) {
        self.discarded[why.number()] += 1;
    }

    /// Adds it to the counters of this process.
    #[inline]
    pub(crate) fn count(self, store: &Store) {
        if self != Self::default() {
            self.add_to(store);
        }
    }

    #[cold]
    fn add_to(self, store: &Store) {
        let counters = store.my_counters();
        let of = |words: &[W64], more: &[u8]| {
            for (word, more) in words.iter().zip(more).filter(|(_, more)| **more > 0) {
                store.count(word, u64::from(*more));
            }
        };
        of(&counters.created, &self.created);
        of(&counters.discarded, &self.discarded);
        for (words, more) in counters.removed.iter().zip(self.removed) {
            of(words, &more);
        }
    }
}
