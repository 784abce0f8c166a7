//! The events channel: notices about channels and subscribers, published by the module itself.

use crate::hub::{Hub, Post, Rules};
use crate::model::Seconds;
use crate::store::arena::Handle;
use crate::store::channel::{Channel, EVENTS};
use crate::wire::escape;

impl Hub {
    /// Creates and marks the configured events channel, and unmarks a former one, which becomes an
    /// ordinary channel. At each start of a worker; the second one finds it done.
    pub fn configure(&mut self, rules: &Rules, now: Seconds) {
        let former = self.store.header().commons.events.get();
        let id = (!rules.events_channel.is_empty()).then_some(rules.events_channel.as_slice());
        if let Some(former) = former {
            let same = id.is_some_and(|id| self.store.channel_id_is(former, id));
            if same {
                return;
            }
            self.mark_events(former, false, now);
        }
        let Some(id) = id else { return };
        // A zone too full for one more channel has no events channel until the next load.
        if let Ok(found) = self.create(id, EVENTS, rules, now) {
            self.mark_events(found.channel, true, now);
        }
    }

    fn mark_events(&self, handle: Handle<Channel>, on: bool, now: Seconds) {
        let shard = self.store.shard_of(self.store.arena.get(handle).hash.get());
        let section = self.store.section(shard);
        let channel = section.get(handle);
        // Its messages are counted in the totals only while it is an ordinary channel.
        if channel.has(EVENTS) != on {
            let stored = channel.stored.get();
            if on {
                section.sub(&section.shard().stored, stored);
            } else {
                section.add(&section.shard().stored, stored);
            }
        }
        section.flag(&channel.flags, EVENTS, on);
        if on {
            section.unlink_idle(handle);
        } else {
            section.touch(handle, now);
        }
        section.link(&section.commons().events, on.then_some(handle));
        section.commit();
    }

    /// Publishes a notice about a channel; none about the events channel itself. If it does not fit
    /// it is left out: a notice must not make the operation fail that it tells of.
    pub(super) fn notify(&mut self, kind: &str, channel: &[u8], rules: &Rules, now: Seconds) {
        let events = &rules.events_channel;
        if events.is_empty() || channel == events {
            return;
        }
        let mut text = Vec::with_capacity(channel.len() + 48);
        text.extend_from_slice(b"{\"type\": \"");
        text.extend_from_slice(kind.as_bytes());
        text.extend_from_slice(b"\", \"channel\": \"");
        escape::json(channel, &mut text);
        text.extend_from_slice(b"\"}");
        let post = Post {
            event_id: None,
            event_type: Some(kind.as_bytes()),
            body: &[&text],
            binary: false,
            store: true,
            may_be_empty: false,
        };
        if let Ok(message) = self.stage(&post, now) {
            // Lost only if the channel had to be made anew and did not fit.
            let _ = self.publish_one(events, &post, Some(message), rules, now);
        }
    }
}
