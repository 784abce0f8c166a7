//! Sweeping: expired messages and idle channels become trash, and old trash becomes free memory.
//!
//! Each step is one bounded section. It costs as much as what expires, not as what exists: whatever
//! expires waits in a queue, in the order of expiry.

use crate::hub::{Hub, Rules};
use crate::model::{Discard, Gap, Now, Removal};
use crate::store::lock::Acquired;
use crate::store::message::STORED;
use crate::store::trash::TRASH_SECS;
use crate::store::zone::SHARDS;

/// Steps of one call of [`Hub::tick`]: some tenths of a millisecond.
const STEPS_MAX: usize = 256;
/// At most so many messages are discarded or dropped in one section, to bound its undo log.
const MESSAGES_PER_SECTION: usize = 3;
/// At most so many busy channels are taken out of the list of idle ones in one section.
const BUSY_PER_SECTION: usize = 8;

/// How much a tick does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tick {
    /// Everything; each worker every 4 s.
    Full,
    /// Expired messages only; each worker that has published, every 5 s.
    Messages,
}

/// How a step ended.
enum Step {
    Nothing,
    Done,
    /// This channel is trash now.
    Destroyed(Vec<u8>),
}

impl Hub {
    /// Does a bounded part of a tick. True if there is more to do right now. One worker at a time does
    /// it; the others have nothing to do meanwhile.
    pub fn tick(&mut self, tick: Tick, rules: &Rules, now: Now) -> bool {
        self.tidy_up(now);
        let is_overfull = self.evict_more(rules, now);
        let locking = self.store.locking;
        let Some(acquired) = self.store.header().sweeping.try_lock(locking) else {
            return is_overfull;
        };
        let guard = Sweeping::begin(self, acquired);
        let more = guard.0.sweep(tick, rules, now);
        drop(guard);
        self.tell_of_destroyed(rules, now);
        more || is_overfull
    }

    /// Publishes on the events channel which channels have gone.
    pub(super) fn tell_of_destroyed(&mut self, rules: &Rules, now: Now) {
        while let Some(id) = self.destroyed.pop_front() {
            self.notify("channel_destroyed", &id, rules, now);
        }
    }

    /// Gives back what an operation had taken in the zone when it panicked: readers, messages under
    /// construction, and subscribers that were leaving. Without a panic there is none of that between
    /// two operations.
    fn tidy_up(&mut self, now: Now) {
        for token in core::mem::take(&mut self.leaving) {
            self.drop_subscriber(token, now);
        }
        while let Some((_, reader)) = self.readers.get_mut().pop() {
            self.store.retire(reader.shard, reader.interest, now.steady);
        }
        while let Some(staged) = self.store.my_seat().staging.get() {
            self.store.unstage(staged);
        }
    }

    /// Frees some memory that is needed now: trash first, then what the next tick would make trash.
    /// False if there is none.
    pub(super) fn make_room(&mut self, now: Now) -> bool {
        if self.store.empty_trash_step(None) {
            return true;
        }
        for shard in 0..SHARDS {
            for step in [self.drain_step(shard, now), self.expire_step(shard, now)] {
                match step {
                    Step::Nothing => {}
                    Step::Done => return true,
                    Step::Destroyed(id) => {
                        // A notice would need memory now; the next tick publishes it.
                        self.destroyed.push_back(id);
                        return true;
                    }
                }
            }
        }
        false
    }

    fn sweep(&mut self, tick: Tick, rules: &Rules, now: Now) -> bool {
        let mut steps = 0;
        for shard in 0..SHARDS {
            if tick == Tick::Full {
                self.tell_all(shard);
            }
            loop {
                if steps >= STEPS_MAX {
                    return true;
                }
                steps += 1;
                let step = match tick {
                    Tick::Messages => self.expire_step(shard, now),
                    Tick::Full => self.any_step(shard, rules, now),
                };
                match step {
                    Step::Nothing => break,
                    Step::Done => {}
                    Step::Destroyed(id) => self.destroyed.push_back(id),
                }
            }
        }
        if tick == Tick::Full {
            while self.store.empty_trash_step(Some(now.steady - TRASH_SECS)) {
                if steps >= STEPS_MAX {
                    return true;
                }
                steps += 1;
            }
        }
        false
    }

    fn any_step(&self, shard: usize, rules: &Rules, now: Now) -> Step {
        let step = self.drain_step(shard, now);
        if !matches!(step, Step::Nothing) {
            return step;
        }
        let step = self.expire_step(shard, now);
        if !matches!(step, Step::Nothing) {
            return step;
        }
        self.idle_step(shard, rules, now)
    }

    /// Drains a deleted channel that nobody reads: some messages a section, and at last the channel.
    fn drain_step(&self, shard: usize, now: Now) -> Step {
        let section = self.store.section(shard);
        let Some(handle) = section.shard().deleted.get() else { return Step::Nothing };
        let channel = section.get(handle);
        for _ in 0..MESSAGES_PER_SECTION {
            let Some(first) = channel.first.get() else { break };
            if section.get(first).has(STORED) {
                section.discard(channel, first, Discard::Deleted, now.steady);
            } else {
                section.unlink_message(channel, first);
                section.trash_message(first, now.steady);
            }
        }
        if channel.first.get().is_some() {
            section.commit();
            return Step::Done;
        }
        section.link(&section.shard().deleted, channel.hash_next.get());
        section.sub(&section.shard().channels_in_delete, 1);
        section.unlink_untold(handle);
        section.trash_channel(handle, now.steady);
        let mut id = Vec::new();
        self.store.read_channel_id(handle, &mut id);
        section.commit();
        Step::Destroyed(id)
    }

    /// Discards stored messages that have expired.
    fn expire_step(&self, shard: usize, now: Now) -> Step {
        let section = self.store.section(shard);
        let mut done = 0;
        for queue in &section.shard().expiry {
            while let Some(first) = queue.first.get() {
                let message = section.get(first);
                if done == MESSAGES_PER_SECTION || self.store.steady(&message.expires) > now.steady
                {
                    break;
                }
                let Some(handle) = message.channel.get() else {
                    panic!("push stream: a stored message without a channel");
                };
                let channel = section.get(handle);
                section.lose(channel, self.store.place(message), Gap::Expired);
                section.discard(channel, first, Discard::Ttl, now.steady);
                section.may_be_idle(handle);
                done += 1;
            }
        }
        if done == 0 {
            return Step::Nothing;
        }
        section.commit();
        Step::Done
    }

    /// Looks at the channel that was active least recently.
    fn idle_step(&self, shard: usize, rules: &Rules, now: Now) -> Step {
        let section = self.store.section(shard);
        let mut busy = 0;
        while let Some(handle) = section.shard().idle_first.get() {
            let channel = section.get(handle);
            let due =
                self.store.steady(&channel.active).saturating_add(rules.channel_inactivity_secs)
                    < now.steady;
            if !due || busy == BUSY_PER_SECTION {
                break;
            }
            if channel.stored() > 0 || channel.interests.get().is_some() {
                // `may_be_idle` puts it back.
                section.unlink_idle(handle);
                busy += 1;
                continue;
            }
            if busy > 0 {
                break;
            }
            section.remember(channel);
            section.index_remove(handle);
            section.unlink_idle(handle);
            section.unlink_untold(handle);
            section.uncount_channel(channel, Removal::Idle);
            section.trash_channel(handle, now.steady);
            let mut id = Vec::new();
            self.store.read_channel_id(handle, &mut id);
            section.commit();
            return Step::Destroyed(id);
        }
        if busy == 0 {
            return Step::Nothing;
        }
        section.commit();
        Step::Done
    }
}

/// Holds the sweeping lock, and releases it also when a step panics.
pub(super) struct Sweeping<'h>(pub(super) &'h mut Hub);

impl<'h> Sweeping<'h> {
    /// The hub has just got the lock.
    pub(super) fn begin(hub: &'h mut Hub, acquired: Acquired) -> Self {
        let store = &hub.store;
        let header = store.header();
        if acquired == Acquired::OwnerDied {
            // It guards no words. Whoever gets the locks of its owner's section undoes that.
            header.sweeping.repaired(store.locking);
        }
        store.arena.put32(&header.sweeper, store.my_seat().pid.get());
        Self(hub)
    }
}

impl Drop for Sweeping<'_> {
    fn drop(&mut self) {
        let store = &self.0.store;
        if !store.arena.is_dead() {
            store.arena.put32(&store.header().sweeper, 0);
            store.header().sweeping.unlock(store.locking);
        }
    }
}
