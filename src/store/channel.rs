//! Channels: logs of messages, and the list of those that may be idle.

use crate::model::Seconds;
use crate::store::arena::{Handle, Link, Record, UNIT, W32, W64};
use crate::store::interest::Interest;
use crate::store::message::{Message, STORED};
use crate::store::slab::SLOT_MAX;
use crate::store::undo::Section;
use crate::store::zone::Store;

/// It counts as a wildcard channel, for as long as it lives.
pub(crate) const WILDCARD: u32 = 1;
/// The module's own channel: never idle, not counted.
pub(crate) const EVENTS: u32 = 2;
/// Gone from the index; drained by the next tick.
pub(crate) const DELETED: u32 = 4;
/// In the shard's list of channels that may be idle.
const IN_IDLE: u32 = 8;
/// In the shard's list of channels whose workers are not all told.
const IN_UNTOLD: u32 = 16;
/// In the trash.
pub(crate) const CHANNEL_TRASHED: u32 = 32;

/// Messages that one search for the oldest stored one goes over.
const SKIP_PER_SECTION: usize = 64;

/// One channel.
#[repr(C)]
pub(crate) struct Channel {
    kind: W32,
    pub(crate) flags: W32,
    /// Next in its bucket, in the list of deleted channels, or in the trash.
    pub(crate) hash_next: Link<Channel>,
    id_len: W32,
    pub(crate) hash: W64,
    /// The log: messages in ascending order of id. All stored ones, and those that are no longer
    /// stored (or never were) and that some interest has not read yet.
    pub(crate) first: Link<Message>,
    pub(crate) last: Link<Message>,
    pub(crate) interests: Link<Interest>,
    /// Where telling the workers has stopped: the next interest to put into an inbox.
    pub(crate) tell_next: Link<Interest>,
    pub(crate) untold_next: Link<Channel>,
    idle_next: Link<Channel>,
    idle_prev: Link<Channel>,
    /// No stored message is before this one; none is stored at all if there is no such link. It may
    /// point to one that is no longer stored: see [`Section::oldest_stored`].
    stored_first: Link<Message>,
    /// Id of the last message.
    pub(crate) published: W64,
    pub(crate) stored: W64,
    pub(crate) created: W64,
    /// Creation, last publish or last attachment; in the trash: when it came there.
    pub(crate) active: W64,
    /// Time and tag of the last message; 0 before the first. Of a deleted channel: those of the zone's
    /// newest message when it was deleted, its place among the messages of other channels.
    pub(crate) time: W64,
    pub(crate) tag: W64,
}

// SAFETY: `repr(C)`, words and links only, kind first.
unsafe impl Record for Channel {
    const KIND: u32 = u32::from_le_bytes(*b"chan");
}

pub(crate) const CHANNEL_HEAD: usize = size_of::<Channel>();
const _: () = assert!(CHANNEL_HEAD == 104);

/// Longest channel id, in bytes: a channel and its id share one slot.
pub const CHANNEL_ID_LEN_MAX: usize = SLOT_MAX - CHANNEL_HEAD;

impl Channel {
    pub(crate) fn has(&self, flag: u32) -> bool {
        self.flags.get() & flag != 0
    }

    pub(crate) fn is_untold(&self) -> bool {
        self.has(IN_UNTOLD)
    }

    pub(crate) fn is_in_idle(&self) -> bool {
        self.has(IN_IDLE)
    }

    /// Bytes of its id.
    pub(crate) fn id_len(&self) -> usize {
        self.id_len.get() as usize
    }

    /// The link, which may be behind.
    pub(crate) fn stored_link(&self) -> &Link<Message> {
        &self.stored_first
    }

    pub(crate) fn idle_links(&self) -> (&Link<Channel>, &Link<Channel>) {
        (&self.idle_next, &self.idle_prev)
    }
}

impl Store {
    /// Appends the id of a channel to `out`. Under its shard's lock, or while it is pinned.
    pub(crate) fn read_channel_id(&self, handle: Handle<Channel>, out: &mut Vec<u8>) {
        let len = self.arena.get(handle).id_len.get() as usize;
        self.arena.read_bytes(handle.unit() as usize * UNIT + CHANNEL_HEAD, len, out);
    }

    /// Does the channel's id begin like this?
    pub(crate) fn channel_id_begins_with(&self, handle: Handle<Channel>, prefix: &[u8]) -> bool {
        self.arena.get(handle).id_len() >= prefix.len()
            && self.arena.bytes_are(handle.unit() as usize * UNIT + CHANNEL_HEAD, prefix)
    }

    /// Is this the channel's id?
    pub(crate) fn channel_id_is(&self, handle: Handle<Channel>, id: &[u8]) -> bool {
        self.arena.get(handle).id_len.get() as usize == id.len()
            && self.arena.bytes_are(handle.unit() as usize * UNIT + CHANNEL_HEAD, id)
    }
}

impl Section<'_> {
    /// A new channel, not yet in the index. `None`: no memory.
    pub(crate) fn make_channel(
        &self,
        hash: u64,
        id: &[u8],
        flags: u32,
        now: Seconds,
    ) -> Option<Handle<Channel>> {
        let slot = self.take(CHANNEL_HEAD + id.len())?;
        let arena = &self.store.arena;
        let channel = arena.at::<Channel>(slot.offset());
        let handle = slot.cast::<Channel>();
        let commons = self.commons();
        let created = commons.created.get() + 1;
        self.set64(&commons.created, created);
        let count =
            if flags & WILDCARD != 0 { &commons.wildcard_channels } else { &commons.channels };
        self.add(count, 1);
        for (word, value) in [
            (&channel.flags, flags),
            (&channel.hash_next.0, 0),
            (&channel.id_len, id.len() as u32),
            (&channel.first.0, 0),
            (&channel.last.0, 0),
            (&channel.interests.0, 0),
            (&channel.tell_next.0, 0),
            (&channel.untold_next.0, 0),
            (&channel.idle_next.0, 0),
            (&channel.idle_prev.0, 0),
            (&channel.stored_first.0, 0),
            (&channel.kind, Channel::KIND),
        ] {
            arena.put32(word, value);
        }
        for (word, value) in [
            (&channel.hash, hash),
            (&channel.published, 0),
            (&channel.stored, 0),
            (&channel.created, created),
            (&channel.active, now.cast_unsigned()),
            (&channel.time, 0),
            (&channel.tag, 0),
        ] {
            arena.put64(word, value);
        }
        arena.write_bytes(slot.offset() + CHANNEL_HEAD, id);
        if flags & EVENTS == 0 {
            self.push_idle_last(handle);
        }
        Some(handle)
    }

    /// Appends a message, whose id is set, to the log.
    pub(crate) fn append(&self, channel: &Channel, handle: Handle<Message>) {
        let message = self.get(handle);
        let last = channel.last.get();
        self.link(&message.prev, last);
        self.link(&message.next, None);
        match last {
            Some(last) => self.link(&self.get(last).next, Some(handle)),
            None => self.link(&channel.first, Some(handle)),
        }
        self.link(&channel.last, Some(handle));
    }

    /// Takes a message out of the log.
    pub(crate) fn unlink_message(&self, channel: &Channel, handle: Handle<Message>) {
        let message = self.get(handle);
        let (next, prev) = (message.next.get(), message.prev.get());
        match prev {
            Some(prev) => self.link(&self.get(prev).next, next),
            None => self.link(&channel.first, next),
        }
        match next {
            Some(next) => self.link(&self.get(next).prev, prev),
            None => self.link(&channel.last, prev),
        }
        if channel.stored_first.get() == Some(handle) {
            self.link(&channel.stored_first, next);
        }
    }

    /// The last message of the log is stored: it is the oldest stored one if there is no other.
    pub(crate) fn count_stored(&self, channel: &Channel, handle: Handle<Message>) {
        self.add(&channel.stored, 1);
        if channel.stored_first.get().is_none() {
            self.link(&channel.stored_first, Some(handle));
        }
    }

    /// This message is no longer stored.
    pub(crate) fn uncount_stored(&self, channel: &Channel, handle: Handle<Message>) {
        self.sub(&channel.stored, 1);
        if channel.stored.get() == 0 {
            self.link(&channel.stored_first, None);
        } else if channel.stored_first.get() == Some(handle) {
            self.link(&channel.stored_first, self.get(handle).next.get());
        }
    }

    /// The oldest stored message. `None`: there is none, or so many messages stand before it that are
    /// kept for readers only that another section has to go on looking.
    pub(crate) fn oldest_stored(&self, channel: &Channel) -> Option<Handle<Message>> {
        let mut at = channel.stored_first.get()?;
        for _ in 0..SKIP_PER_SECTION {
            let message = self.get(at);
            if message.has(STORED) {
                break;
            }
            at = message.next.get().expect("a stored message follows, for one is counted");
        }
        self.link(&channel.stored_first, Some(at));
        self.get(at).has(STORED).then_some(at)
    }

    /// The channel was used: it is the last to become idle. At most once a second a channel.
    pub(crate) fn touch(&self, handle: Handle<Channel>, now: Seconds) {
        let channel = self.get(handle);
        if channel.active.time() < now || !channel.has(IN_IDLE) {
            self.set64(&channel.active, now.cast_unsigned());
            if !channel.has(EVENTS) {
                self.unlink_idle(handle);
                self.push_idle_last(handle);
            }
        }
    }

    /// Takes the channel out of the list of those that may be idle, if it is there.
    pub(crate) fn unlink_idle(&self, handle: Handle<Channel>) {
        let channel = self.get(handle);
        if !channel.has(IN_IDLE) {
            return;
        }
        let (next, prev) = (channel.idle_next.get(), channel.idle_prev.get());
        match prev {
            Some(prev) => self.link(&self.get(prev).idle_next, next),
            None => self.link(&self.shard().idle_first, next),
        }
        match next {
            Some(next) => self.link(&self.get(next).idle_prev, prev),
            None => self.link(&self.shard().idle_last, prev),
        }
        self.flag(&channel.flags, IN_IDLE, false);
    }

    fn push_idle_last(&self, handle: Handle<Channel>) {
        let channel = self.get(handle);
        let shard = self.shard();
        let last = shard.idle_last.get();
        self.link(&channel.idle_prev, last);
        self.link(&channel.idle_next, None);
        match last {
            Some(last) => self.link(&self.get(last).idle_next, Some(handle)),
            None => self.link(&shard.idle_first, Some(handle)),
        }
        self.link(&shard.idle_last, Some(handle));
        self.flag(&channel.flags, IN_IDLE, true);
    }

    /// The channel may have lost its last reason to live: the next tick looks at it.
    ///
    /// Sweeping takes busy channels out of the list, so what comes back has waited long enough
    /// already and goes to the front.
    pub(crate) fn may_be_idle(&self, handle: Handle<Channel>) {
        let channel = self.get(handle);
        let busy = channel.stored.get() > 0 || channel.interests.get().is_some();
        if busy || channel.has(IN_IDLE | EVENTS | DELETED) {
            return;
        }
        let shard = self.shard();
        let first = shard.idle_first.get();
        self.link(&channel.idle_next, first);
        self.link(&channel.idle_prev, None);
        match first {
            Some(first) => self.link(&self.get(first).idle_prev, Some(handle)),
            None => self.link(&shard.idle_last, Some(handle)),
        }
        self.link(&shard.idle_first, Some(handle));
        self.flag(&channel.flags, IN_IDLE, true);
    }

    /// Nobody reads this deleted channel any more: the next tick drains it.
    pub(crate) fn push_deleted(&self, handle: Handle<Channel>) {
        self.link(&self.get(handle).hash_next, self.shard().deleted.get());
        self.link(&self.shard().deleted, Some(handle));
    }

    /// Telling the workers is not finished: whoever comes next goes on.
    pub(crate) fn push_untold(&self, handle: Handle<Channel>) {
        let channel = self.get(handle);
        if !channel.has(IN_UNTOLD) {
            self.link(&channel.untold_next, self.shard().untold.get());
            self.link(&self.shard().untold, Some(handle));
            self.flag(&channel.flags, IN_UNTOLD, true);
        }
    }

    /// Takes the channel out of the list of those whose workers are not all told.
    pub(crate) fn unlink_untold(&self, handle: Handle<Channel>) {
        let channel = self.get(handle);
        if !channel.has(IN_UNTOLD) {
            return;
        }
        // Short: one entry per publish under way or cut off by a death.
        let mut link = &self.shard().untold;
        while let Some(at) = link.get() {
            let other = self.get(at);
            if at == handle {
                self.link(link, other.untold_next.get());
                break;
            }
            link = &other.untold_next;
        }
        self.flag(&channel.flags, IN_UNTOLD, false);
    }
}
