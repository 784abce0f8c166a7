//! The hub: what may happen to channels, as one worker sees them.
//!
//! Publish, subscribe, deliver, delete, sweep, census. Each operation is a few bounded sections of
//! the store, and says afterwards whom to wake ([`Hub::take_wakes`]). Time and limits come in as
//! arguments, so a reload changes them at once and a test owns them.

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};

use crate::model::{Seconds, Token};
use crate::store::Store;
use crate::store::arena::Handle;
use crate::store::channel::Channel;
use crate::store::interest::Interest;
use crate::store::message::Readout;
use crate::wire::path;

mod backlog;
mod census;
mod delete;
mod deliver;
mod events;
#[cfg(all(test, not(miri)))]
mod kills;
#[cfg(all(test, not(miri)))]
mod life;
mod publish;
mod refusal;
mod roster;
mod seat;
#[cfg(any(test, fuzzing))]
mod sim;
#[cfg(all(test, not(miri)))]
mod stopped;
mod subscribe;
mod sweep;
#[cfg(all(test, not(miri)))]
mod threads;

pub use backlog::{Lagged, Reading, Replayed, Rest};
pub use deliver::News;
pub use publish::Post;
pub use refusal::Refusal;
#[cfg(fuzzing)]
pub use sim::fuzz_history;
pub use subscribe::{Stay, Subscribe, Subscribed};
pub use sweep::Tick;

/// Pieces of memory that are freed between two attempts to get some, at the most.
const PORTION_MAX: u32 = 256;

/// nginx's number for a process; its seat in the zone is the one after.
pub type ProcessSlot = u32;

/// The limits of the configuration in force.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// `push_stream_max_channel_id_length`, bytes of a decoded id; `None` = no limit of ours but
    /// [`crate::store::CHANNEL_ID_LEN_MAX`].
    pub channel_id_len_max: Option<usize>,
    /// `push_stream_max_number_of_channels`.
    pub channels_max: Option<u64>,
    /// `push_stream_max_number_of_wildcard_channels`.
    pub wildcard_channels_max: Option<u64>,
    /// `push_stream_wildcard_channel_prefix`; empty = there are no wildcard channels.
    pub wildcard_prefix: Vec<u8>,
    /// `push_stream_max_subscribers_per_channel`.
    pub subscribers_max: Option<u64>,
    /// `push_stream_max_messages_stored_per_channel`.
    pub stored_max: Option<u64>,
    /// `push_stream_message_ttl`.
    pub message_ttl_secs: Seconds,
    /// `push_stream_channel_inactivity_time`.
    pub channel_inactivity_secs: Seconds,
    /// `push_stream_events_channel_id`; empty = off.
    pub events_channel: Vec<u8>,
    /// `push_stream_channel_deleted_message_text`: what subscribers of a deleted channel are told
    /// if the DELETE had no text of its own, or there was no memory for it.
    pub deleted_text: Vec<u8>,
}

impl Rules {
    fn is_wildcard(&self, id: &[u8]) -> bool {
        !self.wildcard_prefix.is_empty() && id.starts_with(&self.wildcard_prefix)
    }

    fn is_events(&self, id: &[u8]) -> bool {
        !self.events_channel.is_empty() && id == self.events_channel
    }

    /// The rules for ids that hold for every request that names a channel.
    fn check_id(&self, id: &[u8]) -> Result<(), Refusal> {
        if !path::is_authorised(id) {
            return Err(Refusal::NotAuthorized);
        }
        let max = self.channel_id_len_max.unwrap_or(usize::MAX);
        if id.len() > max.min(crate::store::CHANNEL_ID_LEN_MAX) {
            return Err(Refusal::ChannelIdTooLarge);
        }
        Ok(())
    }
}

/// One worker's view of all channels.
pub struct Hub {
    store: Store,
    roster: roster::Roster,
    /// Processes whose wake descriptor is to be written.
    wakes: Vec<ProcessSlot>,
    /// Where the next delivery begins to look for news, so that no shard starves.
    next_shard: usize,
    /// The messages that are being handed out; empty between two operations.
    readout: Readout,
    /// Channels that became trash; the tick tells the events channel.
    destroyed: VecDeque<Vec<u8>>,
    /// Interests that no subscriber has: open readers, and those that are just going. Between two
    /// operations there are none, but for what a panic has left.
    readers: RefCell<Vec<Reader>>,
    /// Subscribers that are just leaving; as above.
    leaving: Vec<Token>,
    /// Channels in which this worker has left messages that are over the limit, for the next tick.
    overfull: BTreeSet<Box<[u8]>>,
}

impl Hub {
    /// Processes whose wake descriptor must be written now; empties the list. Never contains this one:
    /// see [`Hub::has_news`].
    pub fn take_wakes(&mut self) -> Vec<ProcessSlot> {
        core::mem::take(&mut self.wakes)
    }

    /// Notes that the workers in these seats of the store have news.
    fn wake(&mut self, seats: &[u32]) {
        for seat in seats {
            if *seat == self.store.seat {
                continue;
            }
            let Some(record) = self.store.seat_at(*seat) else { continue };
            if self.store.arena.swap32(&record.woken, 1) == 0 {
                // Seat 0 of the store is the master's.
                self.wakes.push(seat - 1);
            }
        }
    }

    /// Goes on telling workers of news in this shard until all know.
    fn tell_all(&mut self, shard: usize) {
        let mut told = Vec::new();
        loop {
            let section = self.store.section(shard);
            let Some(channel) = section.shard().untold.get() else { break };
            section.tell(channel, &mut told);
            section.commit();
            self.wake(&told);
            told.clear();
        }
    }

    /// Tries `attempt` until it works, making room in between; `None` when there is no room to make.
    ///
    /// Room is made in growing portions, for an attempt at a large message costs as much as what is
    /// free already. Ends: each portion frees something that was discarded or has expired.
    fn with_room<R>(
        &mut self,
        now: Seconds,
        mut attempt: impl FnMut(&Self) -> Option<R>,
    ) -> Option<R> {
        let mut portion = 1;
        loop {
            if let Some(result) = attempt(self) {
                return Some(result);
            }
            if !self.make_room(now) {
                return None;
            }
            let _ = (1..portion).all(|_| self.make_room(now));
            portion = (2 * portion).min(PORTION_MAX);
        }
    }
}

/// A channel as one section found it, and where it belongs.
struct Found {
    channel: Handle<Channel>,
    created: bool,
}

/// An interest that a backlog reads through.
#[derive(Clone, Copy, Debug)]
struct Reader {
    shard: usize,
    interest: Handle<Interest>,
}
