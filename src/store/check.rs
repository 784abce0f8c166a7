//! The check of a zone at rest, for tests: the rules of the audit, and those that need whole walks.
//!
//! The audit ([`crate::store::inspect`]) states what holds of each record, of its neighbours and of the
//! counters. It goes over the pages, so it sees what is there, but not whether anything leads to it. Here
//! each list is walked from its head: it must hold every record that says it is in it, once, and nothing
//! else; and every slot in use must be reached.
//!
//! For a zone at rest: no section open, every dead worker's log rolled back.

use std::collections::HashMap;

use crate::store::arena::{Handle, Link, Record, UNIT};
use crate::store::channel::{Channel, DELETED};
use crate::store::inspect::Inspection;
use crate::store::interest::Interest;
use crate::store::message::{Message, STORED};
use crate::store::pages::{FREE, SEATS, SLAB};
use crate::store::slab::CLASSES;
use crate::store::zone::{SHARDS, Store};

/// The contents of a zone, and the rules that it breaks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Inventory {
    pub(crate) free_pages: u32,
    /// Free bytes of pages that are partly used.
    pub(crate) free_in_slots: usize,
    pub(crate) messages: usize,
    pub(crate) channels: usize,
    pub(crate) interests: usize,
    pub(crate) in_trash: usize,
    /// Rules that do not hold, and lists that are not what they should be.
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

    /// Checks the zone, which must be at rest.
    pub(crate) fn inventory(&self) -> Inventory {
        let mut checker =
            Checker { store: self, found: Inventory::default(), reached: HashMap::new() };
        checker.rules();
        for shard in 0..SHARDS {
            checker.shard(shard);
        }
        checker.commons();
        checker.pages();
        checker.found
    }
}

struct Checker<'s> {
    store: &'s Store,
    found: Inventory,
    /// Every slot that a list leads to, by its offset, and which list that is.
    reached: HashMap<usize, &'static str>,
}

impl<'s> Checker<'s> {
    /// Runs the audit, and takes over its findings.
    fn rules(&mut self) {
        let mut inspection = Inspection::default();
        while self.store.inspect_some(&mut inspection) {}
        let audit = self.store.report(inspection);
        self.need(audit.compared, "somebody works in a zone at rest");
        for (name, count) in audit.violations {
            self.found.violations.push(format!("{name}, {count} times"));
        }
        self.found.free_pages = audit.free_pages;
    }

    fn shard(&mut self, shard: usize) {
        let record = &self.store.header().shards[shard];
        let interests = self.interests(shard);
        let channels = self.channels(shard, &interests);
        let flagged = |flag: fn(&Channel) -> bool| -> Vec<Handle<Channel>> {
            channels.iter().copied().filter(|channel| flag(self.get(*channel))).collect()
        };
        let (idle, untold) = (flagged(Channel::is_in_idle), flagged(Channel::is_untold));
        let there = self.walk("idle channels", &record.idle_first, |c| c.idle_links().0);
        self.same("idle channels", &there, &idle);
        let there = self.walk("untold channels", &record.untold, |c| &c.untold_next);
        self.same("untold channels", &there, &untold);

        let mut stored = Vec::new();
        for channel in &channels {
            let log = self.home("a log", &self.get(*channel).first, |m| &m.next);
            self.found.messages += log.len();
            self.chains(&log);
            stored.extend(log.into_iter().filter(|message| self.get(*message).has(STORED)));
        }
        let mut queued = Vec::new();
        for queue in &record.expiry {
            queued.extend(self.walk("an expiry queue", &queue.first, |m| &m.expiry_next));
        }
        self.same("expiry queues", &queued, &stored);
    }

    /// The interests of all seats in a shard. Each stands in an inbox if it says so.
    fn interests(&mut self, shard: usize) -> Vec<Handle<Interest>> {
        let mut all = Vec::new();
        for (_, seat) in self.store.seats() {
            let lists = &seat.shards[shard];
            let mine = self.home("a seat's interests", &lists.interests, |i| i.seat_links().0);
            let news: Vec<_> =
                mine.iter().copied().filter(|i| self.get(*i).is_in_inbox()).collect();
            let there = self.walk("an inbox", &lists.inbox_first, |i| i.inbox_links().0);
            self.same("an inbox", &there, &news);
            all.extend(mine);
        }
        self.found.interests += all.len();
        all
    }

    /// The channels of a shard: those of the index, the deleted ones that are to be drained, and the
    /// deleted ones that somebody still reads. Each has the interests that say so.
    fn channels(&mut self, shard: usize, interests: &[Handle<Interest>]) -> Vec<Handle<Channel>> {
        let mut all = Vec::new();
        let first = shard * self.store.buckets_per_shard();
        for number in first..first + self.store.buckets_per_shard() {
            let link = &self.store.bucket(number).first;
            let is_marked = self.store.is_occupied(number) == link.get().is_some();
            self.need(is_marked, "a bucket is not what its bit says");
            all.extend(self.home("a bucket", link, |c| &c.hash_next));
        }
        let drained = &self.store.header().shards[shard].deleted;
        all.extend(self.home("deleted channels", drained, |c| &c.hash_next));
        let mut readers: HashMap<u32, Vec<Handle<Interest>>> = HashMap::new();
        for interest in interests {
            let Some(channel) = self.get(*interest).channel.get() else { continue };
            let of_this = readers.entry(channel.unit()).or_default();
            if of_this.is_empty() && self.get(channel).has(DELETED) {
                self.reach("an interest", channel);
                all.push(channel);
            }
            of_this.push(*interest);
        }
        for channel in &all {
            let theirs = readers.remove(&channel.unit()).unwrap_or_default();
            let first = &self.get(*channel).interests;
            let there = self.walk("a channel's interests", first, |i| i.channel_links().0);
            self.same("a channel's interests", &there, &theirs);
        }
        self.need(readers.is_empty(), "an interest in a channel that is nowhere");
        self.found.channels += all.len();
        all
    }

    fn commons(&mut self) {
        for (_, seat) in self.store.seats() {
            let staged = self.home("messages under construction", &seat.staging, |m| &m.next);
            self.chains(&staged);
        }
        let commons = &self.store.header().commons;
        let messages = self.home("the trash", &commons.trash_first, |m| &m.next);
        self.chains(&messages);
        let channels = self.home("the trash", &commons.trash_channel_first, |c| &c.hash_next);
        self.found.in_trash = messages.len() + channels.len();
    }

    fn chains(&mut self, messages: &[Handle<Message>]) {
        for message in messages {
            if let Some(chain) = self.store.chain(*message) {
                self.home("content", &chain.first, |block| &block.next);
            }
        }
    }

    /// Every slot in use is reached, and no free one. Lists of pages hold the pages that belong there.
    fn pages(&mut self) {
        let header = self.store.header();
        let never_used = header.commons.never_used.get();
        for page in never_used..header.pages.get() {
            let descriptor = self.store.descriptor(page);
            let words = [&descriptor.state, &descriptor.next, &descriptor.prev];
            let is_blank = words.iter().all(|word| word.get() == 0) && descriptor.free.get() == 0;
            self.need(is_blank, "a page that was never used is in use");
        }
        let (mut free, mut partial) = (Vec::new(), vec![Vec::new(); CLASSES]);
        let mut used = 0;
        for page in 0..never_used.min(header.pages.get()) {
            let descriptor = self.store.descriptor(page);
            let class = match descriptor.state.get() {
                FREE => {
                    free.push(page);
                    continue;
                }
                SEATS => continue,
                state => (state - SLAB) as usize,
            };
            let bits = descriptor.free.get();
            if bits != 0
                && let Some(pages) = partial.get_mut(class)
            {
                pages.push(page);
            }
            let size = Store::size_of_class(class);
            self.found.free_in_slots += bits.count_ones() as usize * size;
            for slot in 0..Store::slots_of_class(class) {
                let offset = self.store.page_offset(page) + slot as usize * size;
                let is_reached = self.reached.contains_key(&offset);
                let is_taken = bits & 1 << slot == 0;
                used += usize::from(is_taken);
                self.need(!is_taken || is_reached, "a slot is leaked");
                self.need(is_taken || !is_reached, "a slot in use is free");
            }
        }
        self.need(used == self.reached.len(), "something lies outside of all slots");
        let listed = self.page_list(header.commons.free_first.get());
        self.need(listed == free, "the list of free pages is not the free pages");
        for (pages, first) in partial.into_iter().zip(&header.commons.partial) {
            let listed = self.page_list(first.get());
            self.need(listed == pages, "a list of pages is not those with free slots");
        }
    }

    /// The pages of a list, in ascending order.
    fn page_list(&mut self, first: u32) -> Vec<u32> {
        let mut found = Vec::new();
        let mut at = first;
        while let Some(page) = at.checked_sub(1) {
            found.push(page);
            if found.len() > self.store.header().pages.get() as usize {
                self.need(false, "a list of pages is a ring");
                break;
            }
            at = self.store.descriptor(page).next.get();
        }
        found.sort_unstable();
        found
    }

    /// The members of a list in which records are at home: each is in one such list of the zone, once.
    fn home<T: Record + 's>(
        &mut self,
        what: &'static str,
        first: &Link<T>,
        next: impl Fn(&'s T) -> &'s Link<T>,
    ) -> Vec<Handle<T>> {
        let mut found = Vec::new();
        let mut at = first.get();
        while let Some(handle) = at {
            if !self.reach(what, handle) {
                break;
            }
            found.push(handle);
            at = next(self.get(handle)).get();
        }
        found
    }

    /// The members of any list.
    fn walk<T: Record + 's>(
        &mut self,
        what: &'static str,
        first: &Link<T>,
        next: impl Fn(&'s T) -> &'s Link<T>,
    ) -> Vec<Handle<T>> {
        let mut found = Vec::new();
        let mut at = first.get();
        while let Some(handle) = at {
            found.push(handle);
            if found.len() * UNIT > self.store.arena.len() {
                self.found.violations.push(format!("{what}: a ring"));
                break;
            }
            at = next(self.get(handle)).get();
        }
        found
    }

    /// A list leads here; false if another one does as well.
    fn reach<T>(&mut self, what: &'static str, handle: Handle<T>) -> bool {
        let other = self.reached.insert(handle.unit() as usize * UNIT, what);
        if let Some(other) = other {
            self.found.violations.push(format!("{handle:?} is in {what} and in {other}"));
        }
        other.is_none()
    }

    /// Does a list hold those that say so?
    fn same<T>(&mut self, what: &str, there: &[Handle<T>], said: &[Handle<T>]) {
        let units = |handles: &[Handle<T>]| {
            let mut units: Vec<u32> = handles.iter().map(|handle| handle.unit()).collect();
            units.sort_unstable();
            units
        };
        if units(there) != units(said) {
            self.found.violations.push(format!("{what}: {there:?} instead of {said:?}"));
        }
    }

    fn get<T: Record>(&self, handle: Handle<T>) -> &'s T {
        self.store.arena.get(handle)
    }

    fn need(&mut self, holds: bool, otherwise: &str) {
        if !holds && self.found.violations.len() < 20 {
            self.found.violations.push(otherwise.to_string());
        }
    }
}
