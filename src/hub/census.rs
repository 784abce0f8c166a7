//! Census: who and what is there.

use crate::hub::Hub;
use crate::model::{Audit, ChannelInfo, Seconds, Summary, Totals, WorkerInfo};
use crate::store::Inspection;
use crate::store::arena::Handle;
use crate::store::channel::Channel;
use crate::store::undo::Section;
use crate::store::zone::SHARDS;

/// Buckets of the index that one section looks at. A channel never changes its bucket, so a list
/// made bucket by bucket has each channel once that exists all the while.
const BUCKETS_PER_SECTION: usize = 64;

impl Hub {
    /// One channel, if it exists.
    pub fn info(&self, id: &[u8]) -> Option<ChannelInfo> {
        let hash = self.store.hash(id);
        let section = self.store.section(self.store.shard_of(hash));
        section.find(hash, id).map(|handle| describe(&section, handle))
    }

    /// All live channels whose id begins with `prefix`, in order of creation.
    pub fn list(&self, prefix: &[u8]) -> Vec<ChannelInfo> {
        let mut found = Vec::new();
        for shard in 0..SHARDS {
            let first = shard * self.store.buckets_per_shard();
            let end = first + self.store.buckets_per_shard();
            for start in (first..end).step_by(BUCKETS_PER_SECTION) {
                let section = self.store.section(shard);
                for bucket in start..end.min(start + BUCKETS_PER_SECTION) {
                    let mut at = self.store.bucket(bucket).first.get();
                    while let Some(handle) = at {
                        let info = describe(&section, handle);
                        if info.id.starts_with(prefix) {
                            found.push(info);
                        }
                        at = section.get(handle).hash_next.get();
                    }
                }
            }
        }
        found.sort_unstable_by_key(|info| info.created);
        found
    }

    /// What the head of a list says.
    pub fn totals(&self, now: Seconds) -> Totals {
        let commons = &self.store.header().commons;
        Totals {
            channels: commons.channels.get(),
            wildcard_channels: commons.wildcard_channels.get(),
            uptime: since(self.store.created(), now),
        }
    }

    /// One short stop of an audit, while which nobody works; true if there is more to look at.
    pub fn inspect_some(&self, inspection: &mut Inspection) -> bool {
        self.store.inspect_some(inspection)
    }

    /// What an audit that has come to its end has found.
    pub fn report(&self, inspection: Inspection) -> Audit {
        self.store.report(inspection)
    }

    /// What the summary says.
    pub fn summary(&self, now: Seconds) -> Summary {
        let header = self.store.header();
        let mut summary = Summary {
            totals: self.totals(now),
            messages_in_trash: header.commons.messages_in_trash.get(),
            channels_in_trash: header.commons.channels_in_trash.get(),
            ..Summary::default()
        };
        for shard in &self.store.header().shards {
            summary.published += shard.published.get();
            summary.stored += shard.stored.get();
            summary.channels_in_delete += shard.channels_in_delete.get();
        }
        for (_, seat) in self.store.seats() {
            let pid = seat.pid.get();
            if pid != 0 {
                let subscribers = seat.subscribers.get();
                summary.subscribers += subscribers;
                let uptime = since(seat.started.time(), now);
                summary.workers.push(WorkerInfo { pid, subscribers, uptime });
            }
        }
        summary
    }
}

fn since(then: Seconds, now: Seconds) -> u64 {
    u64::try_from(now.saturating_sub(then)).unwrap_or(0)
}

fn describe(section: &Section<'_>, handle: Handle<Channel>) -> ChannelInfo {
    let channel = section.get(handle);
    let mut id = Vec::new();
    section.store.read_channel_id(handle, &mut id);
    ChannelInfo {
        id,
        published: channel.published.get(),
        stored: channel.stored.get(),
        subscribers: section.subscribers(channel),
        created: channel.created.get(),
    }
}
