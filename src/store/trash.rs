//! The trash: discarded messages and channels, which the statistics count for some time.
//!
//! Nobody reads them any more. An operation that needs room frees them at once, the oldest first;
//! otherwise a tick frees them when their time is over. There are two queues, one for messages and one
//! for channels.

use crate::model::{Discard, Removal, Seconds};
use crate::store::arena::Handle;
use crate::store::channel::{CHANNEL_TRASHED, Channel, EVENTS, WILDCARD};
use crate::store::message::{Message, NOTICE, STORED, TRASHED};
use crate::store::undo::Section;
use crate::store::zone::Store;

/// If nobody needs its memory, something stays in the trash for more than so many seconds. The next tick
/// frees it.
pub(crate) const TRASH_SECS: Seconds = 10;

impl Store {
    /// Frees a piece of the oldest message in the trash, or else the oldest channel, if it came there
    /// before `before`; with `None`, in any case. False if there is nothing to free.
    pub(crate) fn empty_trash_step(&self, before: Option<Seconds>) -> bool {
        self.empty_messages_step(before) || self.empty_channels_step(before)
    }

    fn empty_messages_step(&self, before: Option<Seconds>) -> bool {
        let section = self.commons_section();
        let commons = section.commons();
        let Some(handle) = commons.trash_first.get() else { return false };
        let message = section.get(handle);
        if before.is_some_and(|before| self.steady(&message.expires) >= before) {
            return false;
        }
        if !section.shrink(handle) {
            let next = message.next.get();
            section.link(&commons.trash_first, next);
            if next.is_none() {
                section.link(&commons.trash_last, None);
            }
            if !message.has(NOTICE) {
                section.sub(&commons.messages_in_trash, 1);
            }
            section.sub(&commons.trash_bytes, self.size_of(message));
            section.give(handle);
        }
        section.commit();
        true
    }

    fn empty_channels_step(&self, before: Option<Seconds>) -> bool {
        let section = self.commons_section();
        let commons = section.commons();
        let Some(handle) = commons.trash_channel_first.get() else { return false };
        let channel = section.get(handle);
        if before.is_some_and(|before| self.steady(&channel.active) >= before) {
            return false;
        }
        let next = channel.hash_next.get();
        section.link(&commons.trash_channel_first, next);
        if next.is_none() {
            section.link(&commons.trash_channel_last, None);
        }
        section.sub(&commons.channels_in_trash, 1);
        section.sub(&commons.trash_channel_bytes, self.size_of_slot(handle));
        section.give(handle);
        section.commit();
        true
    }
}

impl Section<'_> {
    /// The message is no longer stored. It becomes trash as soon as nobody reads it.
    pub(crate) fn discard(
        &self,
        channel: &Channel,
        handle: Handle<Message>,
        why: Discard,
        now: Seconds,
    ) {
        let message = self.get(handle);
        debug_assert!(message.has(STORED), "discarded once");
        if self.oldest_stored(channel) != Some(handle) {
            self.add(&self.shard().holes, 1);
        }
        self.dequeue_expiry(handle);
        self.flag(&message.flags, STORED, false);
        self.uncount_stored(channel, handle);
        if !channel.has(EVENTS) {
            self.sub(&self.shard().stored, 1);
            self.note_done(|done| done.discarded(why));
        }
        self.count_discarded();
        if self.all_passed(channel, message.id()) {
            self.unlink_message(channel, handle);
            self.trash_message(handle, now);
        }
    }

    /// How often a message of this shard was discarded that was not seen to be the oldest one of its channel.
    /// That happens where a reload has lowered the time to live, for as long as older messages live. While
    /// the number stays the same, a channel that has a message also has the stored ones behind it.
    pub(crate) fn holes(&self) -> u64 {
        self.shard().holes.get()
    }

    /// Counts a message that is no longer stored, or never was.
    pub(crate) fn count_discarded(&self) {
        self.add(&self.commons().messages_in_trash, 1);
    }

    /// Puts a message into the trash that is in no log any more.
    pub(crate) fn trash_message(&self, handle: Handle<Message>, now: Seconds) {
        let commons = self.commons();
        let message = self.get(handle);
        self.set32(&message.expires, self.store.short_steady(now));
        self.flag(&message.flags, TRASHED, true);
        self.add(&commons.trash_bytes, self.store.size_of_all(handle));
        self.link(&message.next, None);
        match commons.trash_last.get() {
            Some(last) => self.link(&self.get(last).next, Some(handle)),
            None => self.link(&commons.trash_first, Some(handle)),
        }
        self.link(&commons.trash_last, Some(handle));
    }

    /// Puts a channel into the trash that is in no list any more.
    pub(crate) fn trash_channel(&self, handle: Handle<Channel>, now: Seconds) {
        let commons = self.commons();
        let channel = self.get(handle);
        self.set32(&channel.active, self.store.short_steady(now));
        self.flag(&channel.flags, CHANNEL_TRASHED, true);
        self.link(&channel.hash_next, None);
        match commons.trash_channel_last.get() {
            Some(last) => self.link(&self.get(last).hash_next, Some(handle)),
            None => self.link(&commons.trash_channel_first, Some(handle)),
        }
        self.link(&commons.trash_channel_last, Some(handle));
        self.add(&commons.channels_in_trash, 1);
        self.add(&commons.trash_channel_bytes, self.store.size_of_slot(handle));
    }

    /// There is one live channel less.
    pub(crate) fn uncount_channel(&self, channel: &Channel, why: Removal) {
        let commons = self.commons();
        let count =
            if channel.has(WILDCARD) { &commons.wildcard_channels } else { &commons.channels };
        self.sub(count, 1);
        self.note_done(|done| done.removed(channel.has(WILDCARD), why));
    }
}
