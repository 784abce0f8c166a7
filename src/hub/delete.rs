//! Deleting channels.

use crate::hub::{Hub, Rules, set_time_forward};
use crate::model::{Now, Removal};
use crate::store::arena::Handle;
use crate::store::message::{Content, Message, NOTICE};

impl Hub {
    /// Deletes the channels that exist, and answers how many did. It never fails for want of memory: if
    /// `text` does not fit, subscribers get the configured text.
    pub fn delete(&mut self, channels: &[&[u8]], text: &[u8], rules: &Rules, now: Now) -> usize {
        channels.iter().filter(|id| self.delete_one(id, text, rules, now)).count()
    }

    fn delete_one(&mut self, id: &[u8], text: &[u8], rules: &Rules, now: Now) -> bool {
        if rules.is_events(id) {
            return false;
        }
        let notice = self.stage_notice(id, text, rules, now);
        let hash = self.store.hash(id);
        let shard = self.store.shard_of(hash);
        let mut wake = Vec::new();
        let section = self.store.section(shard);
        let found = section.find(hash, id);
        let mut used = false;
        if let Some(handle) = found {
            let channel = section.get(handle);
            section.remember(channel);
            section.index_remove(handle);
            section.unlink_idle(handle);
            section.uncount_channel(channel, Removal::Deleted);
            // What is published from now on, in a channel of this name or others, comes after it.
            let place = set_time_forward(&section, now);
            section.mark_deleted(channel, place);
            section.add(&section.shard().channels_in_delete, 1);
            if channel.interests.get().is_none() {
                section.unlink_untold(handle);
                section.push_deleted(handle);
            } else {
                if let Some(notice) = notice {
                    used = true;
                    let record = section.get(notice);
                    let number = channel.published.get() + 1;
                    self.store.stamp(record, number, place);
                    self.store.arena.put_link(&record.channel, Some(handle));
                    section.unlink_staged(section.seat(), notice);
                    section.append(channel, notice);
                }
                section.link(&channel.tell_next, channel.interests.get());
                section.tell(handle, &mut wake);
            }
        }
        section.commit();
        if let Some(notice) = notice.filter(|_| !used) {
            self.store.unstage(notice);
        }
        self.wake(&wake);
        self.tell_all(shard);
        found.is_some()
    }

    /// Stages the text for the subscribers. All workers know the configured one, which needs no message.
    fn stage_notice(
        &mut self,
        id: &[u8],
        text: &[u8],
        rules: &Rules,
        now: Now,
    ) -> Option<Handle<Message>> {
        if text == rules.deleted_text || !self.is_wanted(id) {
            return None;
        }
        let text = [text];
        let content = Content { text: &text, flags: NOTICE, ..Content::default() };
        self.with_room(now, |hub| hub.store.stage(content))
    }
}
