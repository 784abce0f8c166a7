//! The hub: all operations on channels, from the view of one worker.
//!
//! Publish, subscribe, deliver, delete, sweep, census. An operation is a few bounded sections of the
//! store. Afterwards the hub says which workers to wake ([`Hub::take_wakes`]). Time and limits are
//! arguments: a reload changes them at once, and a test sets them.

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};

use crate::model::{Now, Seconds, Token};
use crate::store::Store;
use crate::store::arena::Handle;
use crate::store::channel::Channel;
use crate::store::interest::Interest;
use crate::store::message::Readout;
use crate::store::undo::Section;
use crate::wire::path;

mod backlog;
mod census;
mod delete;
mod deliver;
mod events;
mod gap;
#[cfg(all(test, not(miri)))]
mod kills;
#[cfg(all(test, not(miri)))]
mod life;
mod metrics;
mod publish;
mod refusal;
mod roster;
mod seat;
#[cfg(any(test, fuzzing))]
pub(crate) mod sim;
#[cfg(all(test, not(miri)))]
mod stopped;
mod subscribe;
mod sweep;
#[cfg(all(test, not(miri)))]
mod threads;

pub use backlog::{Lagged, Reading, Replayed, Rest};
pub use deliver::News;
pub use gap::Missing;
pub use metrics::{Counting, Traffic};
pub use publish::Post;
pub use refusal::Refusal;
#[cfg(fuzzing)]
pub use sim::fuzz_history;
pub use subscribe::{Beginning, Stay, Subscribe, Subscribed};
pub use sweep::Tick;

/// At most so many pieces of memory are freed between two attempts to get some.
const PORTION_MAX: u32 = 256;

/// nginx's number for a process. Its seat in the zone has the next number.
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

    /// Checks what must hold for a channel id in any request.
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
    /// Processes to wake.
    wakes: Vec<ProcessSlot>,
    /// The shard in which the next delivery looks for news first. It moves on, so that no shard starves.
    next_shard: usize,
    /// The messages that are being handed out; empty between two operations.
    readout: Readout,
    /// Channels that became trash. The next tick publishes that on the events channel.
    destroyed: VecDeque<Vec<u8>>,
    /// Interests without subscribers: open readers, each with the subscriber whose backlog it reads, and
    /// those that are being dropped, which are nobody's. Between two operations only a subscriber that is
    /// being written to has some, unless an operation panicked.
    readers: RefCell<Vec<(Token, Reader)>>,
    /// Subscribers that are leaving. Empty between two operations, unless one of them panicked.
    leaving: Vec<Token>,
    /// Channels in which this worker has left messages over the limit, for the next tick.
    overfull: BTreeSet<Box<[u8]>>,
    /// See [`Hub::oldest_unread`].
    last_asked: deliver::LastAsked,
}

impl Hub {
    /// The processes to wake now, and forgets them. This process is never among them: see
    /// [`Hub::has_news`].
    pub fn take_wakes(&mut self) -> Vec<ProcessSlot> {
        core::mem::take(&mut self.wakes)
    }

    /// Notes that the workers in these seats have news.
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

    /// Tells workers of news in this shard until all of them know.
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

    /// Repeats `attempt` until it succeeds, and makes room in between. `None` when no more room can be
    /// made.
    ///
    /// The portions of room grow, because each attempt at a large message takes all free memory first.
    /// The loop ends because each portion frees something that was discarded or has expired.
    fn with_room<R>(&mut self, now: Now, mut attempt: impl FnMut(&Self) -> Option<R>) -> Option<R> {
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

/// Sets the zone's time forward to `now`, unless it is there already. Answers its time and newest tag.
fn set_time_forward(section: &Section<'_>, now: Now) -> (Seconds, u64) {
    let commons = section.commons();
    let now = section.store.in_range(now.wall);
    if commons.time.time() < now {
        section.set64(&commons.time, now.cast_unsigned());
        section.set64(&commons.tag, 0);
    }
    (commons.time.time(), commons.tag.get())
}

/// A channel that was found or created.
struct Found {
    channel: Handle<Channel>,
    created: bool,
}

/// An interest without subscribers: a backlog is read through it, or it is being dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reader {
    shard: usize,
    interest: Handle<Interest>,
}
