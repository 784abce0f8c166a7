//! The events channel: the module itself publishes notices about channels and subscribers there.

use crate::hub::{Hub, Post, Rules};
use crate::model::Now;
use crate::store::arena::Handle;
use crate::store::channel::{Channel, EVENTS};
use crate::wire::escape;

impl Hub {
    /// Creates and marks the configured events channel. A former one becomes an ordinary channel. Each
    /// worker calls this when it starts; after the first one there is nothing to do.
    pub fn configure(&mut self, rules: &Rules, now: Now) {
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
        // If the zone has no room for it, there is no events channel until the next reload.
        if let Ok(found) = self.create(id, EVENTS, rules, now) {
            self.mark_events(found.channel, true, now);
        }
    }

    fn mark_events(&self, handle: Handle<Channel>, on: bool, now: Now) {
        let shard = self.store.shard_of(self.store.arena.get(handle).hash());
        let section = self.store.section(shard);
        let channel = section.get(handle);
        // The totals count the messages of ordinary channels only.
        if channel.has(EVENTS) != on {
            let stored = channel.stored();
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
            section.touch(handle, now.steady);
        }
        section.link(&section.commons().events, on.then_some(handle));
        section.commit();
    }

    /// Publishes a notice about a channel, but not about the events channel itself. A notice that does
    /// not fit is left out: it must not make the operation fail that it is about.
    pub(super) fn notify(&mut self, kind: &str, channel: &[u8], rules: &Rules, now: Now) {
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
            ..Post::default()
        };
        if let Ok(message) = self.stage(&post, now) {
            // Fails only if the events channel was gone and does not fit any more.
            let _ = self.publish_one(events, &post, Some(message), rules, now);
        }
    }
}
