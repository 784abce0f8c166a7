//! Interests: one worker's stake in a channel, and how far it has read. Those with news are in inboxes.
//!
//! A message is freed when it is no longer stored and every interest has passed it with `read_to`. The
//! message has no count that a dead worker could leave too high: the interests of a dead worker are
//! dropped.
//!
//! ```text
//!   channel ──interests──► interest ─► interest ─► ...      one live one a worker,
//!                             │                             and one a backlog being read
//!   seat ──inbox(shard)──► interest ─► ...                  each live one at most once
//! ```

use crate::model::Seconds;
use crate::store::arena::{Handle, Link, Record, W32, W64};
use crate::store::channel::{Channel, DELETED};
use crate::store::message::{Message, STORED};
use crate::store::undo::Section;
use crate::store::zone::Store;

/// It belongs to subscribers. (The others belong to backlogs that are being read.)
pub(crate) const LIVE: u32 = 1;
/// It is in its worker's inbox.
const IN_INBOX: u32 = 2;
/// At most so many interests are told of news in one section. Each takes six words of its undo log.
const TELL_PER_SECTION: usize = 4;
/// At most so many messages are passed in one section. Each takes nine words of its undo log, and there is
/// room for ten words more.
pub(crate) const PASS_PER_SECTION: usize = 6;
/// At most so many messages are skipped in one section, which takes some microseconds.
const SKIP_PER_SECTION: usize = 256;

/// One worker's stake in one channel.
#[repr(C)]
pub(crate) struct Interest {
    kind: W32,
    /// Number of its worker's seat.
    pub(crate) seat: W32,
    pub(crate) channel: Link<Channel>,
    channel_next: Link<Interest>,
    channel_prev: Link<Interest>,
    pub(crate) seat_next: Link<Interest>,
    seat_prev: Link<Interest>,
    pub(crate) inbox_next: Link<Interest>,
    inbox_prev: Link<Interest>,
    _spare: W32,
    /// Id of the last message that it has passed.
    pub(crate) read_to: W64,
    /// The first message of the log after `read_to`. No link: there was none when the worker was last
    /// told. There may be one by now, so use [`Section::next_unread`].
    next: Link<Message>,
    /// The worker's number for the channel.
    pub(crate) token: W32,
    pub(crate) subscribers: W32,
    pub(crate) flags: W32,
}

// SAFETY: `repr(C)`, words and links only, kind first.
unsafe impl Record for Interest {
    const KIND: u32 = u32::from_le_bytes(*b"intr");
}

const _: () = assert!(size_of::<Interest>() == 64);

impl Interest {
    pub(crate) fn is_live(&self) -> bool {
        self.flags.get() & LIVE != 0
    }

    pub(crate) fn is_in_inbox(&self) -> bool {
        self.flags.get() & IN_INBOX != 0
    }

    /// The link itself, which may be behind the log.
    pub(crate) fn next_link(&self) -> &Link<Message> {
        &self.next
    }

    pub(crate) fn channel_links(&self) -> (&Link<Interest>, &Link<Interest>) {
        (&self.channel_next, &self.channel_prev)
    }

    pub(crate) fn inbox_links(&self) -> (&Link<Interest>, &Link<Interest>) {
        (&self.inbox_next, &self.inbox_prev)
    }

    pub(crate) fn seat_links(&self) -> (&Link<Interest>, &Link<Interest>) {
        (&self.seat_next, &self.seat_prev)
    }
}

impl Store {
    /// Drops an interest of any worker. Before that it passes the messages that the interest pins, some in
    /// each section.
    ///
    /// The loop ends: a publisher adds one message a section, and this passes several. The interest is
    /// dropped in the section that finds nothing left to pass.
    pub(crate) fn retire(&self, shard: usize, handle: Handle<Interest>, now: Seconds) {
        loop {
            let section = self.section(shard);
            section.forget(handle);
            let is_done = section.pins_only_stored(handle)
                || !section.skip_stored(handle, u64::MAX)
                    && section.pass_some(handle, u64::MAX, now) == 0;
            if is_done {
                section.drop_interest(handle);
            }
            section.commit();
            if is_done {
                return;
            }
        }
    }
}

impl<'s> Section<'s> {
    /// All interests in a channel: at most one live one of each worker, and one for each backlog that is
    /// being read right now. So a walk costs as much as there are workers, a few dozen.
    pub(crate) fn interests(
        &self,
        channel: &Channel,
    ) -> impl Iterator<Item = (Handle<Interest>, &'s Interest)> + use<'_, 's> {
        let mut at = channel.interests.get();
        core::iter::from_fn(move || {
            let handle = at?;
            let interest = self.get(handle);
            at = interest.channel_next.get();
            Some((handle, interest))
        })
    }

    /// Subscriptions of a channel, in all workers.
    pub(crate) fn subscribers(&self, channel: &Channel) -> u64 {
        self.interests(channel).map(|(_, interest)| u64::from(interest.subscribers.get())).sum()
    }

    /// This worker's live interest in the channel.
    pub(crate) fn my_interest(&self, channel: &Channel) -> Option<Handle<Interest>> {
        self.interests(channel)
            .find(|(_, interest)| interest.is_live() && interest.seat.get() == self.store.seat)
            .map(|(handle, _)| handle)
    }

    /// Makes an interest of this worker that has read up to `read_to`. `None`: there is no memory.
    pub(crate) fn make_interest(
        &self,
        channel: Handle<Channel>,
        flags: u32,
        token: u32,
        read_to: u64,
        next: Option<Handle<Message>>,
    ) -> Option<Handle<Interest>> {
        let slot = self.take_vital(size_of::<Interest>())?;
        let arena = &self.store.arena;
        let interest = arena.at::<Interest>(slot.offset());
        let handle = slot.cast::<Interest>();
        let mine = &self.seat().shards[self.shard_number()].interests;
        let record = self.get(channel);
        let (channel_first, seat_first) = (record.interests.get(), mine.get());
        for (word, value) in [
            (&interest.seat, self.store.seat),
            (&interest.channel.0, channel.unit()),
            (&interest.channel_next.0, channel_first.map_or(0, Handle::unit)),
            (&interest.channel_prev.0, 0),
            (&interest.seat_next.0, seat_first.map_or(0, Handle::unit)),
            (&interest.seat_prev.0, 0),
            (&interest.inbox_next.0, 0),
            (&interest.inbox_prev.0, 0),
            (&interest.next.0, next.map_or(0, Handle::unit)),
            (&interest.token, token),
            (&interest.subscribers, 0),
            (&interest.flags, flags),
            (&interest.kind, Interest::KIND),
        ] {
            arena.put32(word, value);
        }
        arena.put64(&interest.read_to, read_to);
        if let Some(first) = channel_first {
            self.link(&self.get(first).channel_prev, Some(handle));
        }
        self.link(&record.interests, Some(handle));
        if let Some(first) = seat_first {
            self.link(&self.get(first).seat_prev, Some(handle));
        }
        self.link(mine, Some(handle));
        Some(handle)
    }

    /// Drops an interest that pins nothing any more: see `Store::retire`.
    pub(crate) fn drop_interest(&self, handle: Handle<Interest>) {
        let interest = self.get(handle);
        let Some(channel_handle) = interest.channel.get() else {
            panic!("push stream: an interest without a channel");
        };
        let channel = self.get(channel_handle);
        let seat = self.store.seat_at(interest.seat.get()).expect("an interest's seat exists");
        let lists = &seat.shards[self.shard_number()];
        if channel.tell_next.get() == Some(handle) {
            self.link(&channel.tell_next, interest.channel_next.get());
        }
        let (next, prev) = (interest.channel_next.get(), interest.channel_prev.get());
        match prev {
            Some(prev) => self.link(&self.get(prev).channel_next, next),
            None => self.link(&channel.interests, next),
        }
        if let Some(next) = next {
            self.link(&self.get(next).channel_prev, prev);
        }
        let (next, prev) = (interest.seat_next.get(), interest.seat_prev.get());
        match prev {
            Some(prev) => self.link(&self.get(prev).seat_next, next),
            None => self.link(&lists.interests, next),
        }
        if let Some(next) = next {
            self.link(&self.get(next).seat_prev, prev);
        }
        debug_assert!(!interest.is_in_inbox(), "taken out before");
        self.commons();
        self.give(handle);
        if channel.has(DELETED) && channel.interests.get().is_none() {
            self.push_deleted(channel_handle);
        }
        self.may_be_idle(channel_handle);
    }

    /// Puts a bounded number of the channel's interests into their workers' inboxes, beginning at
    /// `tell_next`, and adds the seats to wake to `wake`. True if some are left: then the channel is in the
    /// shard's list of untold ones.
    pub(crate) fn tell(&self, channel: Handle<Channel>, wake: &mut Vec<u32>) -> bool {
        let record = self.get(channel);
        let mut at = record.tell_next.get();
        let mut told = 0;
        while let Some(handle) = at {
            let interest = self.get(handle);
            if interest.is_live() {
                if told == TELL_PER_SECTION {
                    break;
                }
                told += 1;
                self.catch_up(interest);
                self.push_inbox(handle);
                wake.push(interest.seat.get());
            }
            at = interest.channel_next.get();
        }
        self.link(&record.tell_next, at);
        if at.is_some() {
            self.push_untold(channel);
            return true;
        }
        self.unlink_untold(channel);
        false
    }

    /// The first message of the log that the interest has not passed. Its worker may not know of it yet:
    /// the publisher may still be telling the workers, or may have died before the end of that.
    pub(crate) fn next_unread(&self, interest: &Interest) -> Option<Handle<Message>> {
        let channel = self.get(interest.channel.get().expect("an interest has a channel"));
        interest.next.get().or_else(|| self.first_unread(channel, interest))
    }

    /// As [`Section::next_unread`], and keeps the answer.
    pub(crate) fn catch_up(&self, interest: &Interest) -> Option<Handle<Message>> {
        let next = self.next_unread(interest);
        self.link(&interest.next, next);
        next
    }

    /// Searches the log from its end for the first unread message. The interest was up to date when it was
    /// last told, and each publisher tells all workers before it publishes the next message. So this looks
    /// at no more messages than there are workers that publish at the same time.
    fn first_unread(&self, channel: &Channel, interest: &Interest) -> Option<Handle<Message>> {
        let read_to = interest.read_to.get();
        let mut found = None;
        let mut at = channel.last.get();
        while let Some(handle) = at {
            let message = self.get(handle);
            if message.id() <= read_to {
                break;
            }
            found = Some(handle);
            at = message.prev.get();
        }
        found
    }

    /// Puts an interest into its worker's inbox, unless it is there.
    pub(crate) fn push_inbox(&self, handle: Handle<Interest>) {
        let interest = self.get(handle);
        if interest.is_in_inbox() {
            return;
        }
        let seat = self.store.seat_at(interest.seat.get()).expect("an interest's seat exists");
        let lists = &seat.shards[self.shard_number()];
        let last = lists.inbox_last.get();
        self.link(&interest.inbox_next, None);
        self.link(&interest.inbox_prev, last);
        match last {
            Some(last) => self.link(&self.get(last).inbox_next, Some(handle)),
            None => self.link(&lists.inbox_first, Some(handle)),
        }
        self.link(&lists.inbox_last, Some(handle));
        self.flag(&interest.flags, IN_INBOX, true);
    }

    /// Takes an interest out of its inbox.
    pub(crate) fn unlink_inbox(&self, handle: Handle<Interest>) {
        let interest = self.get(handle);
        if !interest.is_in_inbox() {
            return;
        }
        let seat = self.store.seat_at(interest.seat.get()).expect("an interest's seat exists");
        let lists = &seat.shards[self.shard_number()];
        let (next, prev) = (interest.inbox_next.get(), interest.inbox_prev.get());
        match prev {
            Some(prev) => self.link(&self.get(prev).inbox_next, next),
            None => self.link(&lists.inbox_first, next),
        }
        match next {
            Some(next) => self.link(&self.get(next).inbox_prev, prev),
            None => self.link(&lists.inbox_last, prev),
        }
        self.flag(&interest.flags, IN_INBOX, false);
    }

    /// From now on the worker is not told of news of this interest.
    pub(crate) fn forget(&self, handle: Handle<Interest>) {
        self.unlink_inbox(handle);
        self.flag(&self.get(handle).flags, LIVE, false);
    }

    /// Moves an interest to the end of its inbox, so that others have their turn first.
    pub(crate) fn rotate_inbox(&self, handle: Handle<Interest>) {
        self.unlink_inbox(handle);
        self.push_inbox(handle);
    }

    /// Has every interest of the channel passed the message of this id?
    pub(crate) fn all_passed(&self, channel: &Channel, id: u64) -> bool {
        self.interests(channel).all(|(_, interest)| interest.read_to.get() >= id)
    }

    /// Passes messages up to the id `to`, as many as one section may. Answers how many.
    pub(crate) fn pass_some(&self, handle: Handle<Interest>, to: u64, now: Seconds) -> usize {
        let interest = self.get(handle);
        for passed in 0..PASS_PER_SECTION {
            match self.next_unread(interest) {
                Some(next) if self.get(next).id() <= to => self.pass(handle, next, now),
                _ => return passed,
            }
        }
        PASS_PER_SECTION
    }

    /// Are all messages stored that it has not passed, as far as can be seen at once? Then dropping it
    /// changes nothing about them.
    fn pins_only_stored(&self, handle: Handle<Interest>) -> bool {
        let interest = self.get(handle);
        let channel = self.get(interest.channel.get().expect("an interest has a channel"));
        self.unbroken(channel).is_some_and(|ids| interest.read_to.get() + 1 >= *ids.start())
    }

    /// Moves an interest to a message ahead, if it can be seen at once that all between are stored.
    pub(crate) fn leap(&self, handle: Handle<Interest>, to: Handle<Message>) -> bool {
        let id = self.get(to).id();
        let interest = self.get(handle);
        if interest.read_to.get() >= id || !self.pins_only_stored(handle) {
            return false;
        }
        self.link(&interest.next, Some(to));
        self.set64(&interest.read_to, id - 1);
        true
    }

    /// Moves an interest over stored messages, towards the one with the id `to`, a bounded number of steps.
    /// Stored messages stay where they are. False: the interest is there, or its next message is not
    /// stored.
    pub(crate) fn skip_stored(&self, handle: Handle<Interest>, to: u64) -> bool {
        let interest = self.get(handle);
        let mut at = interest.next.get();
        let mut read_to = interest.read_to.get();
        for _ in 0..SKIP_PER_SECTION {
            let Some(message) = at.map(|at| self.get(at)) else { break };
            if message.id() >= to || !message.has(STORED) {
                break;
            }
            read_to = message.id();
            at = message.next.get();
        }
        if read_to == interest.read_to.get() {
            return false;
        }
        self.link(&interest.next, at);
        self.set64(&interest.read_to, read_to);
        true
    }

    /// Moves `read_to` past one message, which is the interest's next one, and puts the message into the
    /// trash if nobody else needs it.
    fn pass(&self, handle: Handle<Interest>, message: Handle<Message>, now: Seconds) {
        let interest = self.get(handle);
        let record = self.get(message);
        let channel = self.get(interest.channel.get().expect("an interest has a channel"));
        self.link(&interest.next, record.next.get());
        self.set64(&interest.read_to, record.id());
        if !record.has(STORED) && self.all_passed(channel, record.id()) {
            self.unlink_message(channel, message);
            self.trash_message(message, now);
        }
    }
}
