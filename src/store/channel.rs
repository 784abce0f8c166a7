//! Channels: their logs of messages, and the list of channels that may be idle.

use core::ops::RangeInclusive;

use crate::model::{Gap, Latest, Seconds};
use crate::store::arena::{Handle, Link, Record, UNIT, W32, W64};
use crate::store::interest::Interest;
use crate::store::message::{Message, STORED, TAG_MAX};
use crate::store::slab::SLOT_MAX;
use crate::store::undo::Section;
use crate::store::zone::Store;

/// It counts as a wildcard channel as long as it lives.
pub(crate) const WILDCARD: u32 = 1;
/// The events channel: it is never idle, and its messages are not counted in the totals.
pub(crate) const EVENTS: u32 = 2;
/// It was deleted: it is not in the index any more, and will be drained.
pub(crate) const DELETED: u32 = 4;
/// It is in the shard's list of channels that may be idle.
const IN_IDLE: u32 = 8;
/// It is in the shard's list of channels whose workers are not all told.
const IN_UNTOLD: u32 = 16;
/// It is in the trash.
pub(crate) const CHANNEL_TRASHED: u32 = 32;

/// Why its newest lost message is gone, in two bits: see [`REASONS`].
const REASON_SHIFT: u32 = 8;
/// What the bits mean.
const REASONS: [Gap; 4] = [Gap::Evicted, Gap::Expired, Gap::Unstored, Gap::Unknown];
const _: () = assert!(REASONS[Gap::Evicted as usize] as u32 == Gap::Evicted as u32);
const _: () = assert!(REASONS[Gap::Expired as usize] as u32 == Gap::Expired as u32);
const _: () = assert!(REASONS[Gap::Unstored as usize] as u32 == Gap::Unstored as u32);
const _: () = assert!(REASONS[Gap::Unknown as usize] as u32 == Gap::Unknown as u32);

/// One search for the oldest stored message passes at most so many messages.
const SKIP_PER_SECTION: usize = 64;

/// One channel.
#[repr(C)]
pub(crate) struct Channel {
    kind: W32,
    /// Flags in the lower half, and the length of the id in the upper one.
    pub(crate) flags: W32,
    /// Next in its bucket, in the list of deleted channels, or in the trash.
    pub(crate) hash_next: Link<Channel>,
    /// The lower half of the id's hash, which is enough for the number of its bucket.
    pub(crate) hash: W32,
    /// The log: messages in ascending order of id. It has all stored messages, and those that are no
    /// longer stored, or never were, and that some interest has not passed yet.
    pub(crate) first: Link<Message>,
    pub(crate) last: Link<Message>,
    pub(crate) interests: Link<Interest>,
    /// Where telling the workers stopped: the next interest to put into an inbox.
    pub(crate) tell_next: Link<Interest>,
    pub(crate) untold_next: Link<Channel>,
    idle_next: Link<Channel>,
    idle_prev: Link<Channel>,
    /// No stored message is before this one; without a link none is stored. It may point to a message
    /// that is no longer stored: see [`Section::oldest_stored`].
    stored_first: Link<Message>,
    /// Id of the last published message.
    pub(crate) published: W64,
    pub(crate) created: W64,
    /// Time and tag of the newest message that it no longer stores, or never did, in one word; 0 = none. If
    /// it was deleted: of the zone's newest message at that moment, which give the notice its place among
    /// other channels' messages.
    lost: W64,
    pub(crate) stored: W32,
    /// When it was last created, published to or subscribed to; in the trash: when it came there. See
    /// [`Store::seconds`].
    pub(crate) active: W32,
}

// SAFETY: `repr(C)`, words and links only, kind first.
unsafe impl Record for Channel {
    const KIND: u32 = u32::from_le_bytes(*b"chan");
}

pub(crate) const CHANNEL_HEAD: usize = size_of::<Channel>();
const _: () = assert!(CHANNEL_HEAD == 80);
/// The bits of a hash that a channel keeps.
pub(crate) const HASH_BITS: u64 = 0xffff_ffff;
/// Where the length of the id begins in the word of the flags.
const ID_LEN_SHIFT: u32 = 16;

/// The longest channel id, in bytes: a channel and its id share one slot.
pub const CHANNEL_ID_LEN_MAX: usize = 3992;
const _: () = assert!(CHANNEL_ID_LEN_MAX <= SLOT_MAX - CHANNEL_HEAD);

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

    /// How many bytes its id has.
    pub(crate) fn id_len(&self) -> usize {
        (self.flags.get() >> ID_LEN_SHIFT) as usize
    }

    /// The kept bits of its id's hash: see [`HASH_BITS`].
    pub(crate) fn hash(&self) -> u64 {
        u64::from(self.hash.get())
    }

    /// Its number among all channels of the zone that were ever made, as cursors name it.
    pub(crate) fn number(&self) -> u32 {
        self.created.get() as u32
    }

    /// Its newest message.
    pub(crate) fn latest(&self) -> Latest {
        Latest { channel: self.number(), id: self.published.get() }
    }

    /// How many messages it stores.
    pub(crate) fn stored(&self) -> u64 {
        u64::from(self.stored.get())
    }

    /// The link to a message at or before the oldest stored one.
    pub(crate) fn stored_link(&self) -> &Link<Message> {
        &self.stored_first
    }

    pub(crate) fn idle_links(&self) -> (&Link<Channel>, &Link<Channel>) {
        (&self.idle_next, &self.idle_prev)
    }
}

impl Store {
    /// Time and tag of a channel's last message; 0 before the first. The caller has its shard's lock, or
    /// the channel was deleted: then those of its notice.
    pub(crate) fn last_place(&self, channel: &Channel) -> (Seconds, u64) {
        let lost = self.lost(channel).map_or((0, 0), |(place, _)| place);
        if channel.has(DELETED) {
            return lost;
        }
        if channel.published.get() == 0 {
            return (0, 0);
        }
        // The last message is in the log, unless it is lost.
        let last = channel.last.get().map(|last| self.place(self.arena.get(last)));
        last.map_or(lost, |last| last.max(lost))
    }

    /// Time and tag of the newest message that a channel no longer has, and why. `None`: it has all.
    pub(crate) fn lost(&self, channel: &Channel) -> Option<((Seconds, u64), Gap)> {
        let reason = (channel.flags.get() >> REASON_SHIFT) as usize % REASONS.len();
        Some((self.unpacked(channel.lost.get())?, REASONS[reason]))
    }

    /// Time and tag of the newest message that removed channels had whose ids have such a hash.
    pub(crate) fn former_place(&self, hash: u64) -> Option<(Seconds, u64)> {
        self.unpacked(self.former(hash).lost.get())
    }

    fn unpacked(&self, word: u64) -> Option<(Seconds, u64)> {
        (word != 0).then(|| (self.seconds_of((word >> 32) as u32), word & TAG_MAX))
    }

    /// A place in one word. Places compare as their words do.
    fn packed(&self, (time, tag): (Seconds, u64)) -> u64 {
        u64::from(self.short(time)) << 32 | tag.min(TAG_MAX)
    }

    /// Appends the id of a channel to `out`. The caller has its shard's lock, or an interest in it.
    pub(crate) fn read_channel_id(&self, handle: Handle<Channel>, out: &mut Vec<u8>) {
        let len = self.arena.get(handle).id_len();
        self.arena.read_bytes(handle.unit() as usize * UNIT + CHANNEL_HEAD, len, out);
    }

    /// Does the channel's id begin like this?
    pub(crate) fn channel_id_begins_with(&self, handle: Handle<Channel>, prefix: &[u8]) -> bool {
        self.arena.get(handle).id_len() >= prefix.len()
            && self.arena.bytes_are(handle.unit() as usize * UNIT + CHANNEL_HEAD, prefix)
    }

    /// Is this the channel's id?
    pub(crate) fn channel_id_is(&self, handle: Handle<Channel>, id: &[u8]) -> bool {
        self.arena.get(handle).id_len() == id.len()
            && self.arena.bytes_are(handle.unit() as usize * UNIT + CHANNEL_HEAD, id)
    }
}

impl Section<'_> {
    /// Marks a channel as deleted. `place` is that of its notice, behind all of its messages.
    pub(crate) fn mark_deleted(&self, channel: &Channel, place: (Seconds, u64)) {
        self.flag(&channel.flags, DELETED, true);
        self.set64(&channel.lost, self.store.packed(place));
    }

    /// The channel does not have the message of this place any more, or never had it.
    pub(crate) fn lose(&self, channel: &Channel, place: (Seconds, u64), reason: Gap) {
        let lost = self.store.packed(place);
        if lost > channel.lost.get() {
            self.set64(&channel.lost, lost);
            let bits = (REASONS.len() as u32 - 1) << REASON_SHIFT;
            let reason = (reason as u32) << REASON_SHIFT;
            self.set32(&channel.flags, channel.flags.get() & !bits | reason);
        }
    }

    /// The channel goes, and all of its messages with it: if one of the same id is made later, its
    /// subscribers can be told.
    pub(crate) fn remember(&self, channel: &Channel) {
        let mut lost = channel.lost.get();
        if channel.published.get() > 0 {
            lost = lost.max(self.store.packed(self.store.last_place(channel)));
        }
        let former = self.store.former(channel.hash());
        if lost > former.lost.get() {
            self.set64(&former.lost, lost);
        }
    }

    /// Makes a channel, which is not in the index yet. `None`: there is no memory.
    pub(crate) fn make_channel(
        &self,
        hash: u64,
        id: &[u8],
        flags: u32,
        now: Seconds,
    ) -> Option<Handle<Channel>> {
        let slot = self.take_for_channel(CHANNEL_HEAD + id.len())?;
        let arena = &self.store.arena;
        let channel = arena.at::<Channel>(slot.offset());
        let handle = slot.cast::<Channel>();
        let commons = self.commons();
        let created = commons.created.get() + 1;
        self.set64(&commons.created, created);
        let count =
            if flags & WILDCARD != 0 { &commons.wildcard_channels } else { &commons.channels };
        self.add(count, 1);
        self.note_done(|done| done.created(flags & WILDCARD != 0));
        // Of the channels that were removed it may have been one.
        let lost = self.store.former(hash).lost.get();
        let reason = (Gap::Unknown as u32) << REASON_SHIFT;
        for (word, value) in [
            (&channel.flags, flags | reason | (id.len() as u32) << ID_LEN_SHIFT),
            (&channel.hash_next.0, 0),
            (&channel.hash, (hash & HASH_BITS) as u32),
            (&channel.stored, 0),
            (&channel.active, self.store.short_steady(now)),
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
        arena.put64(&channel.published, 0);
        arena.put64(&channel.created, created);
        arena.put64(&channel.lost, lost);
        arena.write_bytes(slot.offset() + CHANNEL_HEAD, id);
        if flags & EVENTS == 0 {
            self.push_idle_last(handle);
        }
        Some(handle)
    }

    /// Appends a message to the log. Its id is set already.
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

    /// Counts the last message of the log as stored. It is the oldest stored one if there is no other.
    pub(crate) fn count_stored(&self, channel: &Channel, handle: Handle<Message>) {
        self.set32(&channel.stored, channel.stored.get() + 1);
        if channel.stored_first.get().is_none() {
            self.link(&channel.stored_first, Some(handle));
        }
    }

    /// This message is no longer stored.
    pub(crate) fn uncount_stored(&self, channel: &Channel, handle: Handle<Message>) {
        self.set32(&channel.stored, channel.stored.get().saturating_sub(1));
        if channel.stored() == 0 {
            self.link(&channel.stored_first, None);
        } else if channel.stored_first.get() == Some(handle) {
            self.link(&channel.stored_first, self.get(handle).next.get());
        }
    }

    /// The oldest stored message. `None`: there is none, or so many messages before it are only kept for
    /// readers that another section has to go on searching.
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

    /// The ids from the oldest stored message to the end of the log, if as many messages are stored as there are
    /// such ids. Then each of those is stored.
    pub(crate) fn unbroken(&self, channel: &Channel) -> Option<RangeInclusive<u64>> {
        let oldest = self.get(channel.stored_first.get()?).id();
        let last = self.get(channel.last.get()?).id();
        (last - oldest + 1 == channel.stored()).then_some(oldest..=last)
    }

    /// The channel was used, so it is the last one to become idle. Does this at most once a second.
    pub(crate) fn touch(&self, handle: Handle<Channel>, now: Seconds) {
        let channel = self.get(handle);
        if self.store.steady(&channel.active) < now || !channel.has(IN_IDLE) {
            self.set32(&channel.active, self.store.short_steady(now));
            if !channel.has(EVENTS) {
                self.unlink_idle(handle);
                self.push_idle_last(handle);
            }
        }
    }

    /// Takes the channel out of the list of channels that may be idle, if it is there.
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

    /// The channel may have become idle, so the next tick looks at it.
    ///
    /// Sweeping takes busy channels out of the list. A channel that comes back has waited long enough
    /// already, so it goes to the front.
    pub(crate) fn may_be_idle(&self, handle: Handle<Channel>) {
        let channel = self.get(handle);
        let busy = channel.stored() > 0 || channel.interests.get().is_some();
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

    /// Nobody reads this deleted channel any more, so the next tick drains it.
    pub(crate) fn push_deleted(&self, handle: Handle<Channel>) {
        self.link(&self.get(handle).hash_next, self.shard().deleted.get());
        self.link(&self.shard().deleted, Some(handle));
    }

    /// Not all workers are told. The next worker that looks goes on with it.
    pub(crate) fn push_untold(&self, handle: Handle<Channel>) {
        let channel = self.get(handle);
        if !channel.has(IN_UNTOLD) {
            self.link(&channel.untold_next, self.shard().untold.get());
            self.link(&self.shard().untold, Some(handle));
            self.flag(&channel.flags, IN_UNTOLD, true);
        }
    }

    /// Takes the channel out of the list of channels whose workers are not all told.
    pub(crate) fn unlink_untold(&self, handle: Handle<Channel>) {
        let channel = self.get(handle);
        if !channel.has(IN_UNTOLD) {
            return;
        }
        // The list is short: one entry for each publish that is under way or was cut off by a death.
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
