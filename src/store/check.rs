//! The audit: walks the whole zone and names every invariant that does not hold.
//!
//! For a zone at rest: no section open, every dead worker's log rolled back.

use std::collections::HashMap;

use crate::store::arena::{Handle, Link, Record, UNIT};
use crate::store::channel::{Channel, DELETED, EVENTS, WILDCARD};
use crate::store::interest::Interest;
use crate::store::message::{Message, NOTICE, STORED};
use crate::store::pages::{FREE, SEATS, SLAB};
use crate::store::slab::{Block, CLASSES, VITAL};
use crate::store::zone::{SHARDS, Store};

/// What an audit found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Audit {
    pub(crate) free_pages: u32,
    /// Free bytes of pages that are partly used.
    pub(crate) free_in_slots: usize,
    pub(crate) messages: usize,
    pub(crate) channels: usize,
    pub(crate) interests: usize,
    pub(crate) in_trash: usize,
    /// What is wrong, in words.
    pub(crate) violations: Vec<String>,
}

impl Store {
    /// Takes each lock once, which undoes what dead workers left half done.
    pub(crate) fn settle(&self) {
        for shard in 0..SHARDS {
            drop(self.section(shard));
        }
        drop(self.commons_section());
    }

    /// Audits the zone, which must be at rest.
    pub(crate) fn audit(&self) -> Audit {
        let mut auditor = Auditor { store: self, audit: Audit::default(), seen: HashMap::new() };
        auditor.run();
        auditor.audit
    }
}

struct Auditor<'s> {
    store: &'s Store,
    audit: Audit,
    /// Every slot that something refers to, by its offset, and what refers to it.
    seen: HashMap<usize, &'static str>,
}

impl<'s> Auditor<'s> {
    fn run(&mut self) {
        self.seats_at_rest();
        let mut counts = Counts::default();
        for shard in 0..SHARDS {
            counts.stored = 0;
            let mut channels = Vec::new();
            let first = shard * self.store.buckets_per_shard();
            for bucket in first..first + self.store.buckets_per_shard() {
                let link = &self.store.bucket(bucket).first;
                let is_occupied = self.store.is_occupied(bucket);
                self.need(is_occupied == link.get().is_some(), "a bucket is not what its bit says");
                for channel in self.list(link, "bucket", |channel: &Channel| &channel.hash_next) {
                    self.need(!self.get(channel).has(DELETED), "a deleted channel is in the index");
                    channels.push(channel);
                }
            }
            let drained = &self.store.header().shards[shard].deleted;
            let drained = self.list(drained, "deleted", |channel: &Channel| &channel.hash_next);
            let mut in_delete = drained.len();
            for channel in &drained {
                let record = self.get(*channel);
                self.need(record.has(DELETED), "a channel that is not deleted is to be drained");
                self.need(record.interests.get().is_none(), "a channel to be drained is read");
            }
            channels.extend(drained);
            for channel in self.deleted_but_read(shard) {
                in_delete += 1;
                self.see(channel, "deleted channel");
                channels.push(channel);
            }
            let figure = self.store.header().shards[shard].channels_in_delete.get();
            self.need(figure == in_delete as u64, "channels_in_delete is wrong");
            self.interests_of(shard, &channels);
            for channel in &channels {
                self.channel(*channel, &mut counts);
            }
            self.expiry_queues(shard, &channels);
            self.idle_list(shard, &channels);
            let figure = self.store.header().shards[shard].stored.get();
            self.need(figure == counts.stored, "the shard's stored_messages is wrong");
            self.audit.channels += channels.len();
        }
        let commons = &self.store.header().commons;
        self.need(commons.channels.get() == counts.normal, "channels is wrong");
        self.need(commons.wildcard_channels.get() == counts.wildcard, "wildcard_channels is wrong");
        self.trash(&mut counts);
        let figure = commons.messages_in_trash.get();
        self.need(figure == counts.discarded, "messages_in_trash is wrong");
        self.pages();
    }

    fn seats_at_rest(&mut self) {
        for (_, seat) in self.store.seats() {
            self.need(seat.is_at_rest(), "a section is open");
            for message in self.list(&seat.staging, "staging", |message: &Message| &message.next) {
                self.blocks_of(message);
            }
        }
    }

    fn deleted_but_read(&mut self, shard: usize) -> Vec<Handle<Channel>> {
        let mut found: Vec<Handle<Channel>> = Vec::new();
        for (_, seat) in self.store.seats() {
            let mut at = seat.shards[shard].interests.get();
            while let Some(interest) = at {
                let record = self.get(interest);
                if let Some(channel) = record.channel.get()
                    && self.get(channel).has(DELETED)
                    && !found.contains(&channel)
                {
                    found.push(channel);
                }
                at = record.seat_links().0.get();
            }
        }
        found
    }

    /// Interests by seat and by channel are the same ones.
    fn interests_of(&mut self, shard: usize, channels: &[Handle<Channel>]) {
        let mut by_seat = Vec::new();
        for (number, seat) in self.store.seats() {
            let lists = &seat.shards[shard];
            let mine = self.list(&lists.interests, "seat", |i: &Interest| i.seat_links().0);
            self.doubly_linked(&mine, |i: &Interest| i.seat_links().1, "a seat's interests");
            for interest in &mine {
                self.need(self.get(*interest).seat.get() == number, "an interest sits elsewhere");
            }
            let mut inbox = Vec::new();
            let mut at = lists.inbox_first.get();
            while let Some(interest) = at {
                inbox.push(interest);
                at = self.get(interest).inbox_next.get();
            }
            self.doubly_linked(&inbox, |i: &Interest| i.inbox_links().1, "an inbox");
            self.need(inbox.last().copied() == lists.inbox_last.get(), "an inbox's end is wrong");
            for interest in &mine {
                let there = inbox.iter().filter(|other| *other == interest).count();
                let said = usize::from(self.get(*interest).is_in_inbox());
                self.need(there == said, "an interest's inbox flag is wrong");
            }
            self.need(inbox.iter().all(|i| mine.contains(i)), "an inbox holds a stranger");
            by_seat.extend(mine);
        }
        let mut by_channel = 0;
        for channel in channels {
            let record = self.get(*channel);
            let mut theirs = Vec::new();
            let mut at = record.interests.get();
            while let Some(interest) = at {
                theirs.push(interest);
                self.need(self.get(interest).channel.get() == Some(*channel), "a strayed interest");
                at = self.get(interest).channel_links().0.get();
            }
            self.doubly_linked(&theirs, |i: &Interest| i.channel_links().1, "channel interests");
            self.need(theirs.iter().all(|i| by_seat.contains(i)), "an interest without a seat");
            by_channel += theirs.len();
        }
        self.need(by_channel == by_seat.len(), "an interest without a channel");
        self.audit.interests += by_seat.len();
    }

    fn channel(&mut self, handle: Handle<Channel>, counts: &mut Counts) {
        let channel = self.get(handle);
        let log = self.list(&channel.first, "log", |message: &Message| &message.next);
        self.doubly_linked(&log, |message: &Message| &message.prev, "a log");
        self.need(log.last().copied() == channel.last.get(), "a log's end is wrong");
        let interests: Vec<&Interest> = self.interests_in(channel);
        let mut stored = 0;
        let mut before = 0;
        for message in &log {
            let record = self.get(*message);
            let id = record.id.get();
            self.need(id > before, "a log is out of order");
            before = id;
            self.need(record.channel.get() == Some(handle), "a message strayed");
            if record.has(STORED) {
                stored += 1;
            } else {
                counts.discarded += u64::from(!record.has(NOTICE));
                let pinned = interests.iter().any(|interest| interest.read_to.get() < id)
                    || channel.has(DELETED) && interests.is_empty();
                self.need(pinned, "a message that nobody needs is in a log");
            }
            self.blocks_of(*message);
        }
        for interest in &interests {
            let unread = log.iter().find(|m| self.get(**m).id.get() > interest.read_to.get());
            let next = interest.next_link().get();
            let untold = next.is_none() && (channel.is_untold() || !interest.is_live());
            self.need(next == unread.copied() || untold, "an interest's next message is wrong");
            let news = interest.is_live() && (unread.is_some() || channel.has(DELETED));
            let will_know = interest.is_in_inbox() || channel.is_untold();
            self.need(!news || will_know, "a worker will never hear of its news");
        }
        let oldest = log.iter().find(|message| self.get(**message).has(STORED));
        let place = |at: Handle<Message>| log.iter().position(|message| *message == at);
        let is_right = match (channel.stored_link().get(), oldest) {
            (None, None) => true,
            (Some(at), Some(oldest)) => place(at).is_some_and(|at| Some(at) <= place(*oldest)),
            _ => false,
        };
        self.need(is_right, "the oldest stored one is wrong");
        self.need(channel.stored.get() == stored, "a channel's stored_messages is wrong");
        if !channel.has(EVENTS) {
            counts.stored += stored;
        }
        if !channel.has(DELETED) {
            let count =
                if channel.has(WILDCARD) { &mut counts.wildcard } else { &mut counts.normal };
            *count += 1;
        }
        self.audit.messages += log.len();
    }

    fn interests_in(&self, channel: &Channel) -> Vec<&'s Interest> {
        let mut found = Vec::new();
        let mut at = channel.interests.get();
        while let Some(handle) = at {
            let interest = self.get(handle);
            found.push(interest);
            at = interest.channel_links().0.get();
        }
        found
    }

    fn expiry_queues(&mut self, shard: usize, channels: &[Handle<Channel>]) {
        let mut queued = Vec::new();
        for queue in &self.store.header().shards[shard].expiry {
            let mut at = queue.first.get();
            let mut last = None;
            while let Some(message) = at {
                let record = self.get(message);
                self.need(record.has(STORED), "a message in an expiry queue is not stored");
                self.need(record.expiry_prev.get() == last, "an expiry queue is torn");
                queued.push(message);
                last = at;
                at = record.expiry_next.get();
            }
            self.need(queue.last.get() == last, "an expiry queue's end is wrong");
        }
        let mut stored = 0;
        for channel in channels {
            let mut at = self.get(*channel).first.get();
            while let Some(message) = at {
                let record = self.get(message);
                if record.has(STORED) {
                    stored += 1;
                    if queued.len() < 1000 {
                        let there = queued.iter().filter(|other| **other == message).count();
                        self.need(there == 1, "a stored message is not in one expiry queue");
                    }
                }
                at = record.next.get();
            }
        }
        self.need(stored == queued.len(), "expiry queues and logs disagree");
    }

    fn idle_list(&mut self, shard: usize, channels: &[Handle<Channel>]) {
        let record = &self.store.header().shards[shard];
        let mut at = record.idle_first.get();
        let mut last = None;
        let mut idle = Vec::new();
        while let Some(channel) = at {
            let (next, prev) = self.get(channel).idle_links();
            self.need(prev.get() == last, "the idle list is torn");
            self.need(channels.contains(&channel), "a stranger in the idle list");
            idle.push(channel);
            last = at;
            at = next.get();
        }
        self.need(record.idle_last.get() == last, "the idle list's end is wrong");
        for channel in channels {
            let record = self.get(*channel);
            let busy = record.stored.get() > 0 || record.interests.get().is_some();
            let exempt = busy || record.has(EVENTS | DELETED);
            self.need(exempt || idle.contains(channel), "an idle channel will never be collected");
        }
    }

    fn trash(&mut self, counts: &mut Counts) {
        let commons = &self.store.header().commons;
        let messages = self.list(&commons.trash_first, "trash", |m: &Message| &m.next);
        self.need(messages.last().copied() == commons.trash_last.get(), "the trash's end is wrong");
        for message in &messages {
            counts.discarded += u64::from(!self.get(*message).has(NOTICE));
            self.blocks_of(*message);
        }
        let first = &commons.trash_channel_first;
        let channels = self.list(first, "trash", |channel: &Channel| &channel.hash_next);
        let figure = commons.channels_in_trash.get();
        self.need(figure == channels.len() as u64, "channels_in_trash is wrong");
        self.audit.in_trash = messages.len() + channels.len();
    }

    /// Every slot in use is referred to once, every free one not at all, and no page is lost.
    fn pages(&mut self) {
        let header = self.store.header();
        let mut free = Vec::new();
        let mut at = header.commons.free_first.get();
        while let Some(page) = at.checked_sub(1) {
            free.push(page);
            at = self.store.descriptor(page).next.get();
            if free.len() > header.pages.get() as usize {
                self.need(false, "the list of free pages is a ring");
                return;
            }
        }
        let never_used = header.pages.get().saturating_sub(header.commons.never_used.get());
        let figure = header.commons.free_pages.get();
        self.need(free.len() as u32 + never_used == figure, "free_pages is wrong");
        let mut listed = vec![false; header.pages.get() as usize];
        for class in 0..CLASSES {
            let mut at = header.commons.partial[class].get();
            while let Some(page) = at.checked_sub(1) {
                let descriptor = self.store.descriptor(page);
                self.need(!listed[page as usize], "a page is in two lists");
                listed[page as usize] = true;
                let state = descriptor.state.get() as usize;
                self.need(state == SLAB as usize + class, "a page in the wrong class list");
                self.need(descriptor.free.get() != 0, "a full page is in a list");
                at = descriptor.next.get();
            }
        }
        let mut used = 0;
        let mut free_interests = 0;
        let never_used = header.commons.never_used.get();
        self.need(never_used <= header.pages.get(), "more pages are used than there are");
        for page in never_used..header.pages.get() {
            let d = self.store.descriptor(page);
            let is_blank = [d.state.get(), d.next.get(), d.prev.get()] == [0; 3];
            self.need(is_blank && d.free.get() == 0, "a page that was never used is in use");
        }
        for page in 0..never_used.min(header.pages.get()) {
            let descriptor = self.store.descriptor(page);
            match descriptor.state.get() {
                FREE => self.need(free.contains(&page), "a free page is lost"),
                SEATS => {}
                state => {
                    let class = (state - SLAB) as usize;
                    let bits = descriptor.free.get();
                    let all = Store::all_free(class);
                    self.need(bits != all, "an empty page is kept");
                    self.need((bits != 0) == listed[page as usize], "a page's listing is wrong");
                    if class == VITAL {
                        free_interests += bits.count_ones();
                    }
                    let size = Store::size_of_class(class);
                    self.audit.free_in_slots += bits.count_ones() as usize * size;
                    for slot in 0..Store::slots_of_class(class) {
                        let offset = self.store.page_offset(page) + slot as usize * size;
                        let seen = self.seen.contains_key(&offset);
                        let taken = bits & 1 << slot == 0;
                        used += usize::from(taken);
                        self.need(!taken || seen, "a slot is leaked");
                        self.need(taken || !seen, "a slot in use is free");
                    }
                }
            }
        }
        let figure = header.commons.free_interests.get();
        self.need(figure == free_interests, "free_interests is wrong");
        self.need(used == self.seen.len(), "something lies outside of all slots");
        self.audit.free_pages = header.commons.free_pages.get();
    }

    fn blocks_of(&mut self, message: Handle<Message>) {
        let record = self.get(message);
        self.list(&record.chain, "chain", |block: &Block| &block.next);
    }

    /// All of a list; each member must be referred to only once in the whole zone.
    fn list<T: Record + 's>(
        &mut self,
        first: &Link<T>,
        what: &'static str,
        next: impl Fn(&T) -> &Link<T>,
    ) -> Vec<Handle<T>> {
        let mut found = Vec::new();
        let mut at = first.get();
        while let Some(handle) = at {
            if !self.see(handle, what) {
                break;
            }
            found.push(handle);
            at = next(self.get(handle)).get();
        }
        found
    }

    fn see<T>(&mut self, handle: Handle<T>, what: &'static str) -> bool {
        let old = self.seen.insert(handle.unit() as usize * UNIT, what);
        if let Some(old) = old {
            self.audit.violations.push(format!("{handle:?} is in {what} and in {old}"));
        }
        old.is_none()
    }

    fn doubly_linked<T: Record + 's>(
        &mut self,
        list: &[Handle<T>],
        prev: impl Fn(&T) -> &Link<T>,
        what: &str,
    ) {
        let mut before = None;
        for handle in list {
            let link = prev(self.get(*handle)).get();
            if link != before {
                self.audit.violations.push(format!("{what}: {handle:?} has a wrong predecessor"));
            }
            before = Some(*handle);
        }
    }

    fn get<T: Record>(&self, handle: Handle<T>) -> &'s T {
        self.store.arena.get(handle)
    }

    fn need(&mut self, holds: bool, otherwise: &str) {
        if !holds && self.audit.violations.len() < 20 {
            self.audit.violations.push(otherwise.to_string());
        }
    }
}

#[derive(Default)]
struct Counts {
    normal: u64,
    wildcard: u64,
    stored: u64,
    discarded: u64,
}
