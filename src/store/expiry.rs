//! Expiry: the stored messages of a shard, in the order in which they expire.
//!
//! ```text
//!   shard ─► queue of 60 s:  message ─► message ─► message     the next to expire first
//!         ─► queue of 300 s: message ─► message
//! ```
//!
//! Nearly always there is one queue. A reload may change the time to live.

use crate::model::Seconds;
use crate::store::arena::{Handle, Link, W64};
use crate::store::message::{Message, QUEUE_SHIFT};
use crate::store::undo::Section;

/// So many times to live can have their own queue at once: see [`Section::enqueue_expiry`].
pub(crate) const EXPIRY_QUEUES: usize = 4;

/// Stored messages with one time to live. The next one to expire is the first.
#[repr(C)]
pub(crate) struct ExpiryQueue {
    /// In seconds, and [`MIXED`]. It has no meaning while the queue is empty.
    ttl: W64,
    pub(crate) first: Link<Message>,
    pub(crate) last: Link<Message>,
}

/// Set if a queue has messages of other times to live as well: they do not expire in its order.
const MIXED: u64 = 1 << 63;

impl ExpiryQueue {
    fn ttl(&self) -> u64 {
        self.ttl.get() & !MIXED
    }

    /// Has it messages of several times to live?
    pub(crate) fn is_mixed(&self) -> bool {
        self.ttl.get() & MIXED != 0
    }
}

impl Section<'_> {
    /// Puts a stored message at the end of the queue of its time to live. Its `expires` is set already.
    ///
    /// Messages of one time to live expire in the order in which they come. If the clock of this worker is
    /// behind that of another one, the message lives as long as the one before it. A reload may change the
    /// time to live; [`EXPIRY_QUEUES`] different ones can have a queue at once. If there are more, the message
    /// shares the queue with the nearest time to live. It may then be swept too late, but it is never
    /// replayed after its time.
    pub(crate) fn enqueue_expiry(&self, handle: Handle<Message>, ttl: Seconds) {
        let queues = &self.shard().expiry;
        let ttl = ttl.max(0).cast_unsigned();
        let same = |queue: &ExpiryQueue| queue.first.get().is_some() && queue.ttl() == ttl;
        let number = queues
            .iter()
            .position(same)
            .or_else(|| queues.iter().position(|queue| queue.first.get().is_none()))
            .unwrap_or_else(|| {
                let mut numbers = 0..queues.len();
                numbers.next();
                numbers.fold(0, |best, number| {
                    let key = |queue: &ExpiryQueue| queue.ttl().abs_diff(ttl);
                    if key(&queues[number]) < key(&queues[best]) { number } else { best }
                })
            });
        let queue = &queues[number];
        let message = self.get(handle);
        self.set32(&message.flags, message.flags.get() | (number as u32) << QUEUE_SHIFT);
        let last = queue.last.get();
        self.link(&message.expiry_prev, last);
        self.link(&message.expiry_next, None);
        match last {
            Some(last) => {
                let before = self.get(last);
                self.link(&before.expiry_next, Some(handle));
                if queue.ttl() != ttl {
                    self.set64(&queue.ttl, queue.ttl.get() | MIXED);
                } else if !queue.is_mixed() && message.expires.get() < before.expires.get() {
                    self.store.arena.put32(&message.expires, before.expires.get());
                }
            }
            None => {
                self.set64(&queue.ttl, ttl);
                self.link(&queue.first, Some(handle));
            }
        }
        self.link(&queue.last, Some(handle));
    }

    /// May the shard store messages that have expired, because they were not swept yet?
    pub(crate) fn may_have_expired(&self, now: Seconds) -> bool {
        self.shard().expiry.iter().any(|queue| {
            queue.first.get().is_some_and(|first| {
                queue.is_mixed() || self.store.steady(&self.get(first).expires) <= now
            })
        })
    }

    /// Takes a message out of its expiry queue.
    pub(crate) fn dequeue_expiry(&self, handle: Handle<Message>) {
        let message = self.get(handle);
        let queue = &self.shard().expiry[message.queue()];
        let (next, prev) = (message.expiry_next.get(), message.expiry_prev.get());
        match prev {
            Some(prev) => self.link(&self.get(prev).expiry_next, next),
            None => self.link(&queue.first, next),
        }
        match next {
            Some(next) => self.link(&self.get(next).expiry_prev, prev),
            None => self.link(&queue.last, prev),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Now;
    use crate::store::memory::Memory;
    use crate::store::message::{Content, STORED};
    use crate::store::zone::Store;

    fn zone() -> (Memory, Store) {
        let memory = Memory::format(256 * 1024, 2, Now::both(0)).expect("a zone");
        let store = memory.open(1).expect("a seat");
        (memory, store)
    }

    /// A stored message with this time to live, in no channel's log.
    fn enqueue(store: &Store, now: Seconds, ttl: Seconds) -> Handle<Message> {
        let content = Content { flags: STORED, ..Content::default() };
        let message = store.stage(content).expect("room");
        let section = store.section(0);
        store.arena.put32(&section.get(message).expires, store.short_steady(now + ttl));
        section.enqueue_expiry(message, ttl);
        section.commit();
        message
    }

    #[test]
    fn each_time_to_live_has_a_queue_and_one_more_shares_the_nearest() {
        let (_memory, store) = zone();
        let ttls = [10, 1000, 60, 300];
        let mut all: Vec<Vec<Handle<Message>>> = vec![Vec::new(); 4];
        for now in 0..5 {
            for (number, ttl) in ttls.into_iter().enumerate() {
                all[number].push(enqueue(&store, now, ttl));
            }
        }
        all[2].push(enqueue(&store, 5, 70));
        all[1].push(enqueue(&store, 5, 100_000));
        all[0].push(enqueue(&store, 5, 0));
        let queue = |number: usize| -> Vec<Handle<Message>> {
            let mut at = store.header().shards[0].expiry[number].first.get();
            let next = std::iter::from_fn(|| {
                let handle = at?;
                at = store.arena.get(handle).expiry_next.get();
                Some(handle)
            });
            next.collect()
        };
        for (number, messages) in all.iter().enumerate() {
            assert_eq!(queue(number), *messages, "queue {number}");
        }
        // Takes out of the middle, the front and the end. Then the empty queue takes another time to live.
        for at in [2, 0, 3, 0, 0, 0] {
            let message = all[0].remove(at);
            let section = store.section(0);
            section.dequeue_expiry(message);
            section.commit();
            assert_eq!(queue(0), all[0]);
        }
        let other = enqueue(&store, 9, 77);
        assert_eq!(queue(0), [other]);
        assert_eq!(queue(2), all[2]);
    }
}
