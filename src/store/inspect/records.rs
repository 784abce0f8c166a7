//! The audit's rules about one record and its neighbours.

use super::{Kind, Walk};
use crate::store::arena::{Handle, Link, Record};
use crate::store::channel::{
    CHANNEL_HEAD, CHANNEL_TRASHED, Channel, DELETED, EVENTS, HASH_BITS, WILDCARD,
};
use crate::store::interest::Interest;
use crate::store::message::{MESSAGE_HEAD, Message, NOTICE, STORED, TRASHED};
use crate::store::slab::Block;
use crate::store::zone::Store;

/// Lists that are short are followed so far. If one is longer, the zone is given the benefit of the doubt.
const STEPS_MAX: usize = 64;

/// Is it in the index?
pub(super) fn is_live(channel: &Channel) -> bool {
    !channel.has(DELETED | CHANNEL_TRASHED)
}

impl<'s> Walk<'s, '_> {
    /// Is there no link, or does it lead to a record for which `holds` is true?
    fn leads_to<T: Record + 's>(&self, link: &Link<T>, holds: impl FnOnce(&'s T) -> bool) -> bool {
        link.get().is_none_or(|handle| self.peek(handle).is_some_and(holds))
    }

    /// Is `holds` true for some member of a short list? Yes, if the list is too long to see.
    fn in_list<T: Record + 's>(
        &self,
        first: &Link<T>,
        next: impl Fn(&'s T) -> &'s Link<T>,
        mut holds: impl FnMut(Handle<T>, &'s T) -> bool,
    ) -> bool {
        let mut at = first.get();
        for _ in 0..STEPS_MAX {
            let Some(handle) = at else { return false };
            let Some(record) = self.peek(handle) else { return false };
            if holds(handle, record) {
                return true;
            }
            at = next(record).get();
        }
        true
    }

    pub(super) fn block(&mut self, handle: Handle<Block>, size: usize) {
        let Some(block) = self.peek(handle) else { return };
        self.found.count(Kind::Content, size);
        self.found.blocks.there(handle.unit());
        self.found.blocks.pointed(block.next.0.get());
        self.need(block.size.get() as usize == size, "block_size");
        let next = self.leads_to(&block.next, |_| true);
        self.need(next, "block_next");
    }

    pub(super) fn message(&mut self, handle: Handle<Message>, size: usize) {
        let Some(message) = self.peek(handle) else { return };
        let chain = self.store.chain(handle);
        self.found.blocks.pointed(chain.map_or(0, |chain| chain.first.0.get()));
        self.need(Store::size_of_class(message.class()) == size, "message_size");
        let leads = chain.is_none_or(|chain| self.leads_to(&chain.first, |_| true));
        self.need(leads, "message_chain");
        if message.has(TRASHED) {
            self.found.count(Kind::Trash, size);
            self.found.trash.there(handle.unit());
            self.found.trash.pointed(message.next.0.get());
            self.found.discarded += u64::from(!message.has(NOTICE));
            let last = self.store.header().commons.trash_last.get() == Some(handle);
            let next = self.leads_to(&message.next, |next| next.has(TRASHED));
            self.need(next && last == message.next.get().is_none(), "trash_neighbours");
            self.need(!message.has(STORED), "trash_stored");
            return;
        }
        let channel = message.channel.get().and_then(|at| self.peek(at).map(|record| (at, record)));
        if let Some((at, channel)) = channel
            && self.is_in_log(handle, message, at, channel)
        {
            self.message_in_log(handle, message, channel, size);
            return;
        }
        self.found.count(Kind::Staged, size);
        self.found.staged.there(handle.unit());
        self.found.staged.pointed(message.next.0.get());
        let is_staged = self.store.seats().any(|(_, seat)| {
            self.in_list(&seat.staging, |message| &message.next, |other, _| other == handle)
        });
        let name = if channel.is_some() { "message_neighbours" } else { "message_channel" };
        self.need(is_staged, name);
    }

    /// Do both of its neighbours say that it is in the log?
    fn is_in_log(
        &self,
        handle: Handle<Message>,
        message: &Message,
        at: Handle<Channel>,
        channel: &Channel,
    ) -> bool {
        let same = |other: &Message| other.channel.get() == Some(at) && !other.has(TRASHED);
        let before = match message.prev.get() {
            None => channel.first.get() == Some(handle),
            Some(_) => {
                self.leads_to(&message.prev, |prev| prev.next.get() == Some(handle) && same(prev))
            }
        };
        let after = match message.next.get() {
            None => channel.last.get() == Some(handle),
            Some(_) => {
                self.leads_to(&message.next, |next| next.prev.get() == Some(handle) && same(next))
            }
        };
        before && after
    }

    fn message_in_log(
        &mut self,
        handle: Handle<Message>,
        message: &'s Message,
        channel: &'s Channel,
        size: usize,
    ) {
        let id = message.id();
        self.need(!channel.has(CHANNEL_TRASHED), "message_in_trashed_channel");
        let ascends = self.leads_to(&message.prev, |prev| prev.id() < id);
        self.need(ascends && id > 0, "message_order");
        let content = self.store.lengths(handle).content();
        let fits = content <= size.saturating_sub(MESSAGE_HEAD + message.prefix_len());
        let chain = self.store.chain(handle).and_then(|chain| chain.first.get());
        self.need(fits == chain.is_none(), "message_chain");
        if message.has(STORED) {
            self.found.count(Kind::Stored, size);
            let shard = self.store.shard_of(channel.hash());
            if !channel.has(EVENTS) {
                self.found.shards[shard].stored += 1;
            }
            let queue = &self.store.header().shards[shard].expiry[message.queue()];
            let before = match message.expiry_prev.get() {
                None => queue.first.get() == Some(handle),
                Some(_) => self.leads_to(&message.expiry_prev, |prev| {
                    prev.expiry_next.get() == Some(handle) && prev.has(STORED)
                }),
            };
            let after = match message.expiry_next.get() {
                None => queue.last.get() == Some(handle),
                Some(_) => self.leads_to(&message.expiry_next, |next| {
                    next.expiry_prev.get() == Some(handle) && next.has(STORED)
                }),
            };
            self.need(before && after, "message_expiry");
            let expires = message.expires.get();
            let ascends = queue.is_mixed()
                || self.leads_to(&message.expiry_prev, |prev| prev.expires.get() <= expires);
            self.need(ascends, "message_expiry_order");
            let oldest = channel.stored_link().get().and_then(|oldest| self.peek(oldest));
            let is_later = oldest.is_some_and(|oldest| oldest.id() <= id);
            self.need(is_later, "message_before_oldest");
            return;
        }
        self.found.count(Kind::BeingRead, size);
        self.found.discarded += u64::from(!message.has(NOTICE));
        let unread = |_, interest: &Interest| interest.read_to.get() < id;
        let is_needed = self.in_list(&channel.interests, |i| i.channel_links().0, unread);
        let is_drained = channel.has(DELETED) && channel.interests.get().is_none();
        self.need(is_needed || is_drained, "message_needless");
    }

    pub(super) fn channel(&mut self, handle: Handle<Channel>, size: usize) {
        let Some(channel) = self.peek(handle) else { return };
        self.channel_id(handle, channel, size);
        if channel.has(CHANNEL_TRASHED) {
            self.found.count(Kind::TrashedChannel, size);
            self.found.trashed_channels.there(handle.unit());
            self.found.trashed_channels.pointed(channel.hash_next.0.get());
            let is_empty = channel.first.get().is_none() && channel.interests.get().is_none();
            self.need(is_empty && channel.stored() == 0, "channel_trash");
            let busy = channel.is_in_idle() || channel.is_untold();
            self.need(!busy, "channel_trash_lists");
            return;
        }
        let shard = self.store.shard_of(channel.hash());
        if channel.has(DELETED) {
            self.found.count(Kind::Deleted, size);
            self.found.shards[shard].in_delete += 1;
            if channel.interests.get().is_none() {
                self.found.drained.there(handle.unit());
                self.found.drained.pointed(channel.hash_next.0.get());
            }
        } else {
            self.found.count(Kind::Live, size);
            let found = &mut *self.found;
            *(if channel.has(WILDCARD) { &mut found.wildcard } else { &mut found.normal }) += 1;
            found.index.there(handle.unit());
            found.index.pointed(channel.hash_next.0.get());
            let number = self.store.bucket_number(channel.hash());
            let bucket = &self.store.bucket(number).first;
            let is_found = self.in_list(bucket, |c| &c.hash_next, |other, _| other == handle);
            self.need(is_found, "channel_index");
            let is_occupied = self.store.is_occupied(number);
            self.need(is_occupied, "occupied");
        }
        if !channel.has(EVENTS) {
            self.found.shards[shard].stored_by_channels += channel.stored();
        }
        if channel.is_untold() {
            self.found.untold.there(handle.unit());
            self.found.untold.pointed(channel.untold_next.0.get());
        }
        self.channel_log(handle, channel);
        self.channel_idle(handle, channel, shard);
    }

    fn channel_id(&mut self, handle: Handle<Channel>, channel: &'s Channel, size: usize) {
        let fits = channel.id_len() <= size.saturating_sub(CHANNEL_HEAD);
        self.need(fits, "channel_id");
        if fits {
            let mut id = core::mem::take(&mut self.found.scratch);
            id.clear();
            self.store.read_channel_id(handle, &mut id);
            let hash = self.store.hash(&id);
            self.found.scratch = id;
            self.need(channel.hash() == hash & HASH_BITS, "channel_hash");
        }
    }

    fn channel_log(&mut self, handle: Handle<Channel>, channel: &'s Channel) {
        let mine =
            |message: &Message| message.channel.get() == Some(handle) && !message.has(TRASHED);
        let first = self.leads_to(&channel.first, |m| mine(m) && m.prev.get().is_none());
        let published = channel.published.get();
        let last = self.leads_to(&channel.last, |m| {
            // The notice of a deletion has a number, but was not published.
            let newest = published + u64::from(m.has(NOTICE));
            mine(m) && m.next.get().is_none() && m.id() <= newest
        });
        let both = channel.first.get().is_some() == channel.last.get().is_some();
        self.need(first && last && both, "channel_log");
        let oldest = self.leads_to(channel.stored_link(), mine);
        let some = channel.stored_link().get().is_some() == (channel.stored() > 0);
        self.need(oldest && some, "channel_stored_first");
        let interests = self.leads_to(&channel.interests, |interest| {
            interest.channel.get() == Some(handle) && interest.channel_links().1.get().is_none()
        });
        self.need(interests, "channel_interests");
        let tell = self.leads_to(&channel.tell_next, |i| i.channel.get() == Some(handle));
        self.need(tell, "channel_tell_next");
    }

    /// A channel that nobody uses is in the list of channels that may be idle.
    fn channel_idle(&mut self, handle: Handle<Channel>, channel: &'s Channel, shard: usize) {
        if !channel.is_in_idle() {
            let busy = channel.stored() > 0 || channel.interests.get().is_some();
            self.need(busy || channel.has(EVENTS | DELETED), "channel_forgotten");
            return;
        }
        let shard = &self.store.header().shards[shard];
        let (next, prev) = channel.idle_links();
        let before = match prev.get() {
            None => shard.idle_first.get() == Some(handle),
            Some(_) => self.leads_to(prev, |p| p.idle_links().0.get() == Some(handle)),
        };
        let after = match next.get() {
            None => shard.idle_last.get() == Some(handle),
            Some(_) => self.leads_to(next, |n| n.idle_links().1.get() == Some(handle)),
        };
        self.need(before && after, "channel_idle");
    }

    pub(super) fn interest(&mut self, handle: Handle<Interest>, size: usize) {
        let Some(interest) = self.peek(handle) else { return };
        let kind = if interest.is_live() { Kind::Interest } else { Kind::Backlog };
        self.found.count(kind, size);
        let at = interest.channel.get();
        let Some(channel) = at.and_then(|at| self.peek(at)) else {
            return self.need(false, "interest_channel");
        };
        self.need(!channel.has(CHANNEL_TRASHED), "interest_channel");
        let (next, prev) = interest.channel_links();
        let before = match prev.get() {
            None => channel.interests.get() == Some(handle),
            Some(_) => self.leads_to(prev, |p| {
                p.channel_links().0.get() == Some(handle) && p.channel.get() == at
            }),
        };
        let after = self.leads_to(next, |n| n.channel_links().1.get() == Some(handle));
        self.need(before && after, "interest_neighbours");
        self.interest_of_seat(handle, interest, channel);
        self.interest_reading(interest, channel);
    }

    fn interest_of_seat(
        &mut self,
        handle: Handle<Interest>,
        interest: &'s Interest,
        channel: &'s Channel,
    ) {
        let Some(seat) = self.store.seat_at(interest.seat.get()) else {
            return self.need(false, "interest_seat");
        };
        let Some(lists) = seat.shards.get(self.store.shard_of(channel.hash())) else { return };
        let same = |other: &Interest| other.seat.get() == interest.seat.get();
        let (next, prev) = interest.seat_links();
        let before = match prev.get() {
            None => lists.interests.get() == Some(handle),
            Some(_) => self.leads_to(prev, |p| p.seat_links().0.get() == Some(handle) && same(p)),
        };
        let after = self.leads_to(next, |n| n.seat_links().1.get() == Some(handle) && same(n));
        self.need(before && after, "interest_seat");
        if !interest.is_in_inbox() {
            return;
        }
        let (next, prev) = interest.inbox_links();
        let is_in = |other: &Interest| other.is_in_inbox() && same(other);
        let before = match prev.get() {
            None => lists.inbox_first.get() == Some(handle),
            Some(_) => self.leads_to(prev, |p| p.inbox_links().0.get() == Some(handle) && is_in(p)),
        };
        let after = match next.get() {
            None => lists.inbox_last.get() == Some(handle),
            Some(_) => self.leads_to(next, |n| n.inbox_links().1.get() == Some(handle) && is_in(n)),
        };
        self.need(before && after, "interest_inbox");
    }

    /// It points to the first message that it has not passed, and its worker knows or will know of it.
    fn interest_reading(&mut self, interest: &'s Interest, channel: &'s Channel) {
        let read_to = interest.read_to.get();
        let newest = channel.last.get().and_then(|last| self.peek(last));
        let has_unread = newest.is_some_and(|newest| newest.id() > read_to);
        let next = match interest.next_link().get() {
            None => !has_unread || channel.is_untold() || !interest.is_live(),
            Some(_) => self.leads_to(interest.next_link(), |next| {
                let is_first = self.leads_to(&next.prev, |prev| prev.id() <= read_to);
                let same = next.channel.get() == interest.channel.get();
                same && is_first && next.id() > read_to && !next.has(TRASHED)
            }),
        };
        self.need(next, "interest_next");
        let has_news = interest.is_live() && (has_unread || channel.has(DELETED));
        let will_know = interest.is_in_inbox() || channel.is_untold();
        self.need(!has_news || will_know, "interest_unaware");
    }
}
