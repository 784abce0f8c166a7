//! The trash: discarded messages and channels, counted for a while, their memory only lent.
//!
//! What lies here is read by nobody: whoever needs room takes it at once, oldest first. Otherwise a
//! tick frees it after its time. First in, first out; messages and channels apart.

use crate::model::Seconds;
use crate::store::arena::Handle;
use crate::store::channel::{CHANNEL_TRASHED, Channel, WILDCARD};
use crate::store::message::{Message, NOTICE, STORED, TRASHED};
use crate::store::undo::Section;
use crate::store::zone::Store;

/// Seconds that something stays in the trash if nobody needs its memory: it is freed by the first
/// tick after more than these.
pub(crate) const TRASH_SECS: Seconds = 10;

impl Store {
    /// Frees a piece of the oldest message, or else channel, in the trash: what entered before
    /// `before`, or anything with `None`. False if there is nothing.
    pub(crate) fn empty_trash_step(&self, before: Option<Seconds>) -> bool {
        self.empty_messages_step(before) || self.empty_channels_step(before)
    }

    fn empty_messages_step(&self, before: Option<Seconds>) -> bool {
        let section = self.commons_section();
        let commons = section.commons();
        let Some(handle) = commons.trash_first.get() else { return false };
        let message = section.get(handle);
        if before.is_some_and(|before| message.expires.time() >= before) {
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
        if before.is_some_and(|before| channel.active.time() >= before) {
            return false;
        }
        let next = channel.hash_next.get();
        section.link(&commons.trash_channel_first, next);
        if next.is_none() {
            section.link(&commons.trash_channel_last, None);
        }
        section.sub(&commons.channels_in_trash, 1);
        section.give(handle);
        section.commit();
        true
    }
}

impl Section<'_> {
    /// The message is no longer kept for replay; it is trash as soon as nobody is reading it.
    pub(crate) fn discard(
        &self,
        channel: &Channel,
        handle: Handle<Message>,
        counted: bool,
        now: Seconds,
    ) {
        let message = self.get(handle);
        debug_assert!(message.has(STORED), "discarded once");
        self.dequeue_expiry(handle);
        self.flag(&message.flags, STORED, false);
        self.uncount_stored(channel, handle);
        if counted {
            self.sub(&self.shard().stored, 1);
        }
        self.count_discarded();
        if self.all_passed(channel, message.id.get()) {
            self.unlink_message(channel, handle);
            self.trash_message(handle, now);
        }
    }

    /// A message that is no longer stored, or never was, counts from now on.
    pub(crate) fn count_discarded(&self) {
        self.add(&self.commons().messages_in_trash, 1);
    }

    /// Puts a message that is in no log any more into the trash.
    pub(crate) fn trash_message(&self, handle: Handle<Message>, now: Seconds) {
        let commons = self.commons();
        let message = self.get(handle);
        self.set64(&message.expires, now.cast_unsigned());
        self.flag(&message.flags, TRASHED, true);
        self.link(&message.next, None);
        match commons.trash_last.get() {
            Some(last) => self.link(&self.get(last).next, Some(handle)),
            None => self.link(&commons.trash_first, Some(handle)),
        }
        self.link(&commons.trash_last, Some(handle));
    }

    /// Puts a channel that is in no list any more into the trash.
    pub(crate) fn trash_channel(&self, handle: Handle<Channel>, now: Seconds) {
        let commons = self.commons();
        let channel = self.get(handle);
        self.set64(&channel.active, now.cast_unsigned());
        self.flag(&channel.flags, CHANNEL_TRASHED, true);
        self.link(&channel.hash_next, None);
        match commons.trash_channel_last.get() {
            Some(last) => self.link(&self.get(last).hash_next, Some(handle)),
            None => self.link(&commons.trash_channel_first, Some(handle)),
        }
        self.link(&commons.trash_channel_last, Some(handle));
        self.add(&commons.channels_in_trash, 1);
    }

    /// One channel less is alive.
    pub(crate) fn uncount_channel(&self, channel: &Channel) {
        let commons = self.commons();
        let count =
            if channel.has(WILDCARD) { &commons.wildcard_channels } else { &commons.channels };
        self.sub(count, 1);
    }
}
