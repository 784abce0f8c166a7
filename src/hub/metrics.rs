//! Metrics: what the workers have counted, summed up. A scrape reads a few words for each seat, and nothing
//! that grows with channels, messages or subscribers.
//!
//! ```text
//!   worker ── counts ──► its seat's counters ──┐
//!   section ── commits ─► commons and shards ──┴─► Hub::metrics, by any worker, without a lock
//! ```
//!
//! The words are read while others write them, so sums may differ by what happens just then. Each counter
//! by itself never falls.

use crate::hub::{Hub, Post, Refusal};
use crate::model::{
    Delivery, HistogramKind, Metrics, Operation, Reason, Seconds, Stamp, ZoneBytes,
};
use crate::store::arena::{PAGE, W64};
use crate::store::counters::{Counters, DIED, ENDS};
use crate::store::zone::Store;

/// Messages of one kind of subscribers, and what was written to them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Messages given to them.
    pub delivered: u64,
    /// Old messages among those.
    pub replayed: u64,
    /// Bytes written to their sockets.
    pub sent_bytes: u64,
}

/// The counters of this worker, for what the hub does not see.
#[derive(Clone, Copy)]
pub struct Counting<'h> {
    store: &'h Store,
    counters: &'h Counters,
}

impl Counting<'_> {
    /// A subscriber was let in.
    pub fn entered(self, delivery: Delivery) {
        self.store.count(&self.counters.entered[delivery.number()], 1);
    }

    /// A subscriber that was let in has ended.
    pub fn ended(self, delivery: Delivery, reason: Reason) {
        self.store.count(&self.counters.ended[delivery.number()][reason.number()], 1);
    }

    /// Subscribers were given something.
    pub fn traffic(self, delivery: Delivery, traffic: &Traffic) {
        let (counters, number) = (self.counters, delivery.number());
        for (counter, more) in [
            (&counters.delivered[number], traffic.delivered),
            (&counters.replayed[number], traffic.replayed),
            (&counters.sent_bytes[number], traffic.sent_bytes),
        ] {
            if more > 0 {
                self.store.count(counter, more);
            }
        }
    }

    /// So many deliveries of a message that was published at `stamp` were written at `now`, so many seconds later.
    pub fn delay(self, stamp: Stamp, (now, secs): (Stamp, Seconds), deliveries: u64) {
        let Some(usec) = now.usec_since(stamp, secs) else { return };
        let bucket = HistogramKind::Delay.bucket(usec);
        self.store.count(&self.counters.delays[bucket], deliveries);
        self.store.count(&self.counters.delays_usec, usec.saturating_mul(deliveries));
    }

    /// So many bytes wait for the sockets of this worker's subscribers now.
    pub fn buffered(self, bytes: u64) {
        self.store.arena.put64(&self.counters.buffered, bytes);
    }
}

impl Hub {
    /// The counters of this worker.
    pub fn counting(&self) -> Counting<'_> {
        Counting { store: &self.store, counters: self.counters() }
    }

    /// A request was refused. The hub counts what it refuses itself.
    pub fn count_refusal(&self, operation: Operation, refusal: Refusal) {
        debug_assert!(refusal.is_possible_for(operation), "{operation:?}: {refusal:?}");
        let counter = &self.counters().refused[operation.number()][refusal.number()];
        self.store.count(counter, 1);
    }

    /// The worker ends, and with it all its subscribers.
    pub fn count_rest_as_ended(&self) {
        end_rest(&self.store, self.counters(), Reason::Shutdown.number());
    }

    /// What the scrape that is ending has taken.
    pub fn note_scrape(&self, usec: u64) {
        self.store.arena.put64(&self.store.header().scrape_usec, usec);
    }

    /// A message was published.
    pub(super) fn count_published(&self, post: &Post<'_>) {
        let (counters, number) = (self.counters(), post.source.number());
        let bytes: usize = post.body.iter().map(|piece| piece.len()).sum();
        self.store.count(&counters.published[number], 1);
        self.store.count(&counters.published_bytes[number], bytes as u64);
        let bucket = HistogramKind::Size.bucket(bytes as u64);
        self.store.count(&counters.sizes[bucket], 1);
    }

    /// Counts a refusal on its way out.
    pub(super) fn counting_refusal<R>(
        &self,
        operation: Operation,
        outcome: Result<R, Refusal>,
    ) -> Result<R, Refusal> {
        outcome.inspect_err(|refusal| self.count_refusal(operation, *refusal))
    }

    /// How many subscriptions there are now.
    pub(super) fn note_subscriptions(&self) {
        let counter = &self.counters().subscriptions;
        self.store.arena.put64(counter, self.roster.subscriptions());
    }

    fn counters(&self) -> &Counters {
        self.store.my_counters()
    }

    /// All that there is to show.
    pub fn metrics(&self) -> Metrics {
        let header = self.store.header();
        let commons = &header.commons;
        let mut metrics = Metrics {
            start_time: header.created.time(),
            worker_deaths: commons.worker_deaths.get(),
            trash_channels: commons.channels_in_trash.get(),
            trash_messages: commons.messages_in_trash.get(),
            scrape_usec: header.scrape_usec.get(),
            ..Metrics::default()
        };
        metrics.channels[0].live = commons.channels.get();
        metrics.channels[1].live = commons.wildcard_channels.get();
        for shard in &header.shards {
            metrics.stored_messages += shard.stored.get();
            metrics.deleting_channels += shard.channels_in_delete.get();
        }
        let kinds = Operation::ALL.into_iter().flat_map(|operation| {
            let of = move |refusal: &Refusal| refusal.is_possible_for(operation);
            Refusal::ALL.into_iter().filter(of).map(move |refusal| (operation, refusal))
        });
        let kinds: Vec<(Operation, Refusal)> = kinds.collect();
        metrics.refusals =
            kinds.iter().map(|(operation, refusal)| (*operation, refusal.text(), 0)).collect();
        for (number, seat) in self.store.seats() {
            let Some(counters) = self.store.counters_at(number) else { continue };
            let is_taken = seat.pid.get() != 0;
            if is_taken {
                // Seat 0 is the master's, which never takes it.
                metrics.workers.push((number.saturating_sub(1), seat.subscribers.get()));
                metrics.subscriptions += counters.subscriptions.get();
                metrics.buffered_bytes += counters.buffered.get();
            }
            add(&mut metrics, counters, is_taken);
            for (sum, (operation, refusal)) in metrics.refusals.iter_mut().zip(&kinds) {
                sum.2 += counters.refused[operation.number()][refusal.number()].get();
            }
        }
        metrics.sizes.sum = metrics.published.iter().map(|(_, bytes)| bytes).sum();
        metrics.zone = self.zone_bytes();
        metrics
    }

    fn zone_bytes(&self) -> ZoneBytes {
        let (store, header) = (&self.store, self.store.header());
        let commons = &header.commons;
        let pages = header.first_page.get() as usize + 2 * store.seat_pages();
        let size = store.arena.len() as u64;
        let tables = (pages * PAGE) as u64;
        let overhead = commons.page_ends.get();
        let used = [
            commons.used_by_messages.get(),
            commons.used_by_channels.get(),
            commons.used_by_interests.get(),
        ];
        let [messages, channels, interests] = used;
        let trash = commons.trash_bytes.get();
        // The trash has some of the slots of both.
        let trashed_channels = commons.trash_channel_bytes.get();
        let taken = used.iter().sum::<u64>() + tables + overhead;
        ZoneBytes {
            size,
            free: size.saturating_sub(taken),
            messages: messages.saturating_sub(trash),
            channels: channels.saturating_sub(trashed_channels),
            interests,
            trash: trash + trashed_channels,
            tables,
            overhead,
        }
    }
}

/// Adds the counters of one seat.
fn add(metrics: &mut Metrics, counters: &Counters, is_taken: bool) {
    for (number, served) in metrics.served.iter_mut().enumerate() {
        // Those that ended are read first: see `Counters`.
        let ended: [u64; ENDS] = core::array::from_fn(|end| counters.ended[number][end].get());
        let entered = counters.entered[number].get();
        for (sum, more) in served.ended.iter_mut().zip(ended) {
            *sum += more;
        }
        served.died += ended[DIED];
        served.entered += entered;
        if is_taken {
            served.open += entered.saturating_sub(ended.iter().sum());
        }
        served.delivered += counters.delivered[number].get();
        served.replayed += counters.replayed[number].get();
        served.sent_bytes += counters.sent_bytes[number].get();
    }
    let words = counters.published.iter().zip(&counters.published_bytes);
    for (sum, (messages, bytes)) in metrics.published.iter_mut().zip(words) {
        sum.0 += messages.get();
        sum.1 += bytes.get();
    }
    for (number, channels) in metrics.channels.iter_mut().enumerate() {
        channels.created += counters.created[number].get();
        sum_up(&mut channels.removed, &counters.removed[number]);
    }
    sum_up(&mut metrics.discarded, &counters.discarded);
    sum_up(&mut metrics.sizes.counts, &counters.sizes);
    sum_up(&mut metrics.delays.counts, &counters.delays);
    metrics.delays.sum += counters.delays_usec.get();
}

fn sum_up(sums: &mut [u64], words: &[W64]) {
    for (sum, word) in sums.iter_mut().zip(words) {
        *sum += word.get();
    }
}

/// Counts the subscribers of a seat that have not ended as ended, for this reason.
fn end_rest(store: &Store, counters: &Counters, reason: usize) {
    for (ended, entered) in counters.ended.iter().zip(&counters.entered) {
        let all: u64 = ended.iter().map(W64::get).sum();
        let open = entered.get().saturating_sub(all);
        if open > 0 {
            store.count(&ended[reason], open);
        }
    }
}

/// Nobody is in the seat any more. What its tenant has counted stays.
pub(super) fn clear(store: &Store, counters: &Counters, has_died: bool) {
    if has_died {
        end_rest(store, counters, DIED);
    }
    store.arena.put64(&counters.subscriptions, 0);
    store.arena.put64(&counters.buffered, 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::sim::World;
    use crate::model::{ChannelCounts, Discard, Removal};

    fn metrics(world: &mut World, worker: usize) -> Metrics {
        world.hub(worker).metrics()
    }

    /// All counters, in any fixed order.
    fn counters(metrics: &Metrics) -> Vec<u64> {
        let mut all = vec![metrics.worker_deaths, metrics.sizes.sum, metrics.delays.sum];
        for ChannelCounts { created, removed, .. } in &metrics.channels {
            all.push(*created);
            all.extend(removed);
        }
        for served in &metrics.served {
            all.extend(served.ended);
            all.extend([served.entered, served.died, served.delivered, served.replayed]);
            all.push(served.sent_bytes);
        }
        all.extend(metrics.refusals.iter().map(|(_, _, count)| *count));
        all.extend(metrics.published.iter().flat_map(|(messages, bytes)| [*messages, *bytes]));
        all.extend(metrics.discarded);
        all.extend(&metrics.sizes.counts);
        all.extend(&metrics.delays.counts);
        all
    }

    fn total(metrics: &Metrics) -> u64 {
        metrics.published.iter().map(|(messages, _)| messages).sum()
    }

    /// Something of everything that is counted, by worker 0.
    fn act(world: &mut World) {
        let counting = world.hub(0).counting();
        counting.entered(Delivery::Streaming);
        let traffic = Traffic { delivered: 3, replayed: 1, sent_bytes: 100 };
        counting.traffic(Delivery::Streaming, &traffic);
        counting.delay(Stamp(5), (Stamp(25), 0), 2);
        world.publish(0, &[b"a"], b"second", true).expect("room");
        world.publish(0, &[b"b"], b"other", true).expect("room");
        world.delete(0, b"b", b"bye");
        let _ = world.publish(0, &[b"ALL"], b"text", true);
        world.now += 100;
        world.tick(0);
        world.hub(0).counting().ended(Delivery::Streaming, Reason::Client);
    }

    #[test]
    #[cfg_attr(miri, ignore = "hundreds of worlds take Miri minutes")]
    fn no_counter_falls_wherever_a_worker_dies() {
        for stores in 0.. {
            let mut world = World::new(256 * 1024, 2);
            world.rules.stored_max = Some(1);
            world.publish(0, &[b"a"], b"first", true).expect("room");
            let before = metrics(&mut world, 1);
            let survived = world.run_until_store(0, stores, act).is_some();
            let dead = metrics(&mut world, 1);
            if !survived {
                world.spawn(0);
            }
            let after = metrics(&mut world, 1);
            for (one, next) in [(&before, &dead), (&dead, &after)] {
                let pairs = counters(one).into_iter().zip(counters(next));
                assert!(
                    pairs.clone().all(|(one, next)| one <= next),
                    "dead at {stores}: {pairs:?}"
                );
            }
            assert_eq!(after.worker_deaths, u64::from(!survived), "dead at {stores}");
            // The one message that was being counted may be missing, and none is counted twice.
            let now = world.now;
            let published = world.hub(1).summary(now).published;
            let counted = total(&after);
            assert!(counted <= published && published <= counted + 1, "dead at {stores}");
            let served = &after.served[Delivery::Streaming.number()];
            assert_eq!(served.entered, served.ended.iter().sum::<u64>() + served.died);
            assert_eq!(served.open, 0, "dead at {stores}");
            // What a section does is counted right after it.
            let ChannelCounts { live, created, removed } = after.channels[0];
            let gone: u64 = removed.iter().sum();
            assert!((created + 1).abs_diff(gone + live + 1) <= 1, "dead at {stores}");
            if survived {
                assert_eq!((created, live), (2, gone.abs_diff(2)));
                assert_eq!(after.discarded, [1, 1, 1], "each for another reason");
                return;
            }
        }
    }

    /// A second death, of the worker that cleans up.
    #[test]
    #[cfg_attr(miri, ignore = "hundreds of worlds take Miri minutes")]
    fn a_death_is_counted_once_also_if_its_cleaner_dies() {
        for stores in 0.. {
            let mut world = World::new(256 * 1024, 3);
            world.hub(0).counting().entered(Delivery::WebSocket);
            world.kill(0);
            let now = world.now;
            let survived = world
                .run_until_store(1, stores, |world| {
                    world.hub(1).recover_dead(now, &|pid| pid != 101);
                })
                .is_some();
            // What the dead cleaner had not finished is undone when its lock is taken; then the next tick sees it.
            for _ in 0..2 {
                world.hub(2).recover_dead(now, &|pid| pid != 101 && (survived || pid != 102));
            }
            let after = metrics(&mut world, 2);
            assert_eq!(after.worker_deaths, 1 + u64::from(!survived), "dead at {stores}");
            assert_eq!(after.served[Delivery::WebSocket.number()].died, 1, "dead at {stores}");
            if survived {
                return;
            }
        }
    }

    #[test]
    fn a_seat_goes_on_counting_for_its_next_tenant() {
        let mut world = World::new(256 * 1024, 2);
        let (rules, now) = (world.rules.clone(), world.now);
        world.hub(0).counting().entered(Delivery::Polling);
        world.hub(0).counting().buffered(7);
        world.subscribe(0, &[(b"a", None), (b"b", None)], 1).expect("room");
        let open = metrics(&mut world, 1);
        assert_eq!((open.subscriptions, open.buffered_bytes), (2, 7));
        world.hub(0).count_rest_as_ended();
        world.hub(0).detach(&rules, now);
        let left = metrics(&mut world, 1);
        assert_eq!((left.subscriptions, left.buffered_bytes, left.workers.len()), (0, 0, 1));
        world.workers[0] = None;
        world.spawn(0);
        world.hub(0).counting().entered(Delivery::Polling);
        let after = metrics(&mut world, 1);
        let served = &after.served[Delivery::Polling.number()];
        assert_eq!((served.entered, served.open, served.died), (2, 1, 0));
        assert_eq!(served.ended[Reason::Shutdown.number()], 1);
        assert_eq!(after.worker_deaths, 0, "it has left");
    }

    #[test]
    fn channels_and_discards_have_their_reasons() {
        let mut world = World::new(256 * 1024, 1);
        world.rules.wildcard_prefix = b"all_".to_vec();
        for id in [&b"a"[..], b"b", b"all_c"] {
            world.publish(0, &[id], b"text", true).expect("room");
        }
        world.delete(0, b"b", b"bye");
        world.now += 10_000;
        world.tick(0);
        let found = metrics(&mut world, 0);
        let [normal, wildcard] = found.channels;
        assert_eq!((normal.created, wildcard.created), (2, 1));
        assert_eq!((normal.live, wildcard.live), (0, 0));
        assert_eq!(normal.removed[Removal::Idle.number()], 1);
        assert_eq!(normal.removed[Removal::Deleted.number()], 1);
        assert_eq!(wildcard.removed[Removal::Idle.number()], 1);
        assert_eq!(found.discarded[Discard::Ttl.number()], 2);
        assert_eq!(found.discarded[Discard::Deleted.number()], 1);
    }

    #[test]
    #[cfg_attr(miri, ignore = "thousands of channels take Miri minutes")]
    fn a_scrape_looks_at_seats_only() {
        let mut looks = Vec::new();
        for channels in [10, 3000] {
            let mut world = World::new(4 << 20, 2);
            for n in 0..channels {
                let id = format!("channel {n}");
                world.publish(0, &[id.as_bytes()], b"text", true).expect("room");
            }
            let before = world.hub(0).store.arena.looks.get();
            assert_eq!(metrics(&mut world, 0).channels[0].live, channels);
            looks.push(world.hub(0).store.arena.looks.get() - before);
        }
        assert_eq!(looks[0], looks[1], "with 10 channels and with 3,000");
    }

    #[test]
    fn the_zone_s_bytes_are_those_of_an_audit() {
        let mut world = World::new(1 << 20, 2);
        world.rules.stored_max = Some(2);
        for n in 0..5_u8 {
            let text = vec![n; 3000 * usize::from(n) + 1];
            world.publish(0, &[b"a", &[b'b', b'0' + n]], &text, true).expect("room");
        }
        world.subscribe(1, &[(b"a", None)], 1).expect("room");
        world.delete(0, b"b2", b"bye");
        world.tick(0);
        let zone = metrics(&mut world, 0).zone;
        let audit = world.inspect();
        let bytes = |kinds: &[&str]| -> u64 {
            audit.kinds.iter().filter(|(name, _)| kinds.contains(name)).map(|(_, a)| a.bytes).sum()
        };
        let blocks = bytes(&["content_blocks"]);
        let messages = bytes(&["messages_stored", "messages_being_read", "messages_staged"]);
        let trash = bytes(&["messages_in_trash", "channels_in_trash"]);
        assert_eq!(zone.messages + zone.trash, messages + trash + blocks);
        assert!(zone.messages >= messages && zone.trash > trash, "the blocks belong to both");
        assert_eq!(zone.channels, bytes(&["channels_live", "channels_deleted"]));
        assert_eq!(zone.interests, bytes(&["interests_live", "interests_backlog"]));
        assert_eq!(zone.overhead, audit.page_overhead_bytes);
        let free = bytes(&["free_slots"]) + u64::from(audit.free_pages) * audit.page_bytes;
        assert_eq!((zone.free, zone.size), (free, audit.bytes));
        let used = zone.messages + zone.channels + zone.interests + zone.trash;
        assert_eq!(used + zone.tables + zone.overhead + zone.free, zone.size);
    }
}
