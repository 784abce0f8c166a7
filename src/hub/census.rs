//! Census: which channels, messages and subscribers there are.

use crate::hub::Hub;
use crate::model::{Audit, ChannelInfo, Now, Seconds, Summary, Totals, WorkerInfo};
use crate::store::Inspection;
use crate::store::arena::Handle;
use crate::store::channel::{CHANNEL_ID_LEN_MAX, Channel};
use crate::store::undo::Section;
use crate::store::zone::SHARDS;

/// About so many channels are looked at in one section: it ends with a bucket.
const CHANNELS_PER_SECTION: usize = 64;
/// A portion of a list has room for so many bytes of ids at first.
const IDS_LEN: usize = 16 * 1024;

impl Hub {
    /// One channel, if it exists.
    pub fn info(&self, id: &[u8]) -> Option<ChannelInfo> {
        Some(self.figures(id)?.into_info(id.to_vec()))
    }

    pub(super) fn figures(&self, id: &[u8]) -> Option<Figures> {
        let hash = self.store.hash(id);
        let section = self.store.section(self.store.shard_of(hash));
        section.find(hash, id).map(|handle| Figures::of(&section, handle))
    }

    /// All live channels whose id begins with `prefix`, in order of creation.
    ///
    /// It costs as much as there are channels, and takes bounded sections. So it does not show the zone
    /// at one moment: each channel that exists all the time is listed once, with figures of its own
    /// moment.
    pub fn list(&self, prefix: &[u8]) -> Vec<ChannelInfo> {
        self.list_in(Portion::new(CHANNELS_PER_SECTION, IDS_LEN), prefix)
    }

    fn list_in(&self, mut portion: Portion, prefix: &[u8]) -> Vec<ChannelInfo> {
        let mut found = Vec::new();
        for shard in 0..SHARDS {
            let mut next = Some(0);
            while let Some(from) = next {
                next = self.list_some(shard, from, prefix, &mut portion);
                if next == Some(from) {
                    portion.grow();
                }
                portion.move_to(&mut found);
            }
        }
        found.sort_unstable_by_key(|info| info.created);
        found
    }

    /// One section: takes channels of the shard, from the bucket `from` on, as long as there is room.
    /// Answers the bucket to go on with.
    fn list_some(
        &self,
        shard: usize,
        from: usize,
        prefix: &[u8],
        portion: &mut Portion,
    ) -> Option<usize> {
        let section = self.store.section(shard);
        let first = shard * self.store.buckets_per_shard();
        let (mut next, mut seen) = (from, 0);
        while seen < CHANNELS_PER_SECTION {
            let bucket = self.store.next_occupied_of(shard, next)?;
            let mut at = self.store.bucket(first + bucket).first.get();
            let before = portion.len();
            while let Some(handle) = at {
                seen += 1;
                if !portion.take(&section, handle, prefix) {
                    portion.truncate(before);
                    // A bucket as a whole or not at all: the walk can go on with a bucket, but a channel may
                    // be gone by then.
                    return Some(bucket);
                }
                at = section.get(handle).hash_next.get();
            }
            next = bucket + 1;
        }
        Some(next)
    }

    /// The figures at the head of a list.
    pub fn totals(&self, now: Now) -> Totals {
        let commons = &self.store.header().commons;
        Totals {
            channels: commons.channels.get(),
            wildcard_channels: commons.wildcard_channels.get(),
            uptime: since(self.store.created(), now),
        }
    }

    /// One short stop of an audit, during which no worker works. True if there is more to look at.
    pub fn inspect_some(&self, inspection: &mut Inspection) -> bool {
        self.store.inspect_some(inspection)
    }

    /// The result of an audit that is done.
    pub fn report(&self, inspection: Inspection) -> Audit {
        self.store.report(inspection)
    }

    /// The figures of the summary.
    pub fn summary(&self, now: Now) -> Summary {
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

fn since(then: Seconds, now: Now) -> u64 {
    u64::try_from(now.steady.saturating_sub(then)).unwrap_or(0)
}

/// The figures of a channel in a list.
pub(super) struct Figures {
    published: u64,
    pub(super) stored: u64,
    subscribers: u64,
    created: u64,
}

impl Figures {
    pub(super) fn of(section: &Section<'_>, handle: Handle<Channel>) -> Self {
        let channel = section.get(handle);
        Self {
            published: channel.published.get(),
            stored: channel.stored(),
            subscribers: section.subscribers(channel),
            created: channel.created.get(),
        }
    }

    pub(super) fn into_info<Id>(self, id: Id) -> ChannelInfo<Id> {
        let Self { published, stored, subscribers, created } = self;
        ChannelInfo { id, published, stored, subscribers, created }
    }
}

/// The channels that one section has found. Its memory is allocated before the lock is taken.
struct Portion {
    /// For each channel, the length of its id and its figures.
    channels: Vec<(usize, Figures)>,
    ids: Vec<u8>,
}

impl Portion {
    fn new(channels: usize, ids_len: usize) -> Self {
        let ids_len = ids_len.max(CHANNEL_ID_LEN_MAX);
        Self { channels: Vec::with_capacity(channels), ids: Vec::with_capacity(ids_len) }
    }

    const fn len(&self) -> usize {
        self.channels.len()
    }

    /// Adds the channel if its id begins with `prefix`. False if there is no room for it.
    fn take(&mut self, section: &Section<'_>, handle: Handle<Channel>, prefix: &[u8]) -> bool {
        if !section.store.channel_id_begins_with(handle, prefix) {
            return true;
        }
        let len = section.get(handle).id_len();
        if self.channels.len() == self.channels.capacity()
            || self.ids.capacity() - self.ids.len() < len
        {
            return false;
        }
        section.store.read_channel_id(handle, &mut self.ids);
        self.channels.push((len, Figures::of(section, handle)));
        true
    }

    /// Forgets all but the first channels.
    fn truncate(&mut self, len: usize) {
        let dropped: usize = self.channels.drain(len..).map(|(len, _)| len).sum();
        self.ids.truncate(self.ids.len() - dropped);
    }

    /// Twice as much room, for a bucket that does not fit.
    fn grow(&mut self) {
        if self.channels.is_empty() {
            self.channels.reserve_exact(2 * self.channels.capacity());
            self.ids.reserve_exact(2 * self.ids.capacity());
        }
    }

    fn move_to(&mut self, found: &mut Vec<ChannelInfo>) {
        let mut ids = self.ids.as_slice();
        for (len, figures) in self.channels.drain(..) {
            let (id, rest) = ids.split_at(len);
            ids = rest;
            found.push(figures.into_info(id.to_vec()));
        }
        self.ids.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::sim::World;

    #[test]
    #[cfg_attr(miri, ignore = "thousands of channels take Miri minutes")]
    fn a_list_is_made_in_bounded_sections_and_costs_what_there_is() {
        let mut looks = Vec::new();
        // As many channels in a small zone and in a large one.
        for len in [1 << 20, 64 << 20] {
            let mut world = World::new(len, 1);
            for n in 0..500 {
                let id = format!("channel {n}");
                world.publish(0, &[id.as_bytes()], b"text", false).expect("room");
            }
            let store = &world.hub(0).store;
            store.longest_section.set(0);
            let before = store.arena.looks.get();
            assert_eq!(world.hub(0).list(b"").len(), 500);
            let store = &world.hub(0).store;
            let longest = store.longest_section.get();
            assert!(longest < 1500, "a section looks at {longest} records");
            looks.push(store.arena.looks.get() - before);
        }
        assert!(looks[1] < 2 * looks[0], "{looks:?} looks in a zone 64 times as large");
    }

    #[test]
    #[cfg_attr(miri, ignore = "hundreds of channels take Miri minutes")]
    fn a_list_is_whole_however_small_its_portions_are() {
        let mut world = World::new(1 << 20, 1);
        let mut ids: Vec<Vec<u8>> = (0..400).map(|n| format!("channel {n}").into_bytes()).collect();
        ids.extend((0..20).map(|n| vec![b'a' + n; CHANNEL_ID_LEN_MAX]));
        for id in &ids {
            world.publish(0, &[id], b"text", false).expect("room");
        }
        world.publish(0, &[b"other"], b"text", false).expect("room");
        for channels in [1, 2, 64] {
            let hub = world.hub(0);
            let all = hub.list_in(Portion::new(channels, 0), b"");
            assert!(all.iter().map(|info| &info.id).eq(ids.iter().chain([&b"other".to_vec()])));
            let some = hub.list_in(Portion::new(channels, 0), b"channel 39");
            assert_eq!(some.len(), 11);
            assert!(hub.list_in(Portion::new(channels, 0), &[b'x'; 5000]).is_empty());
        }
    }
}
