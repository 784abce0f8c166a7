//! The simulation: several workers in one thread, over one zone. The tests of the store and the hub use
//! it, and the fuzzer's target `store_ops`.
//!
//! A worker can die at any store it makes ([`World::run_until_store`]). Its earlier stores are in the
//! zone then, its locks are those of a dead process, and nothing else of it is left.

#[cfg(test)]
use std::any::Any;
#[cfg(all(test, not(miri)))]
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::hub::{Hub, Rules, Tick};
use crate::model::Now;
#[cfg(test)]
use crate::model::{Seconds, Token};
#[cfg(test)]
use crate::store::Inspection;
use crate::store::Store;
use crate::store::arena::{Killed, Tripped};
use crate::store::check::Inventory;
use crate::store::memory::Memory;

#[cfg(test)]
mod acts;
#[cfg(test)]
mod bounds;
#[cfg(test)]
mod every_panic;
#[cfg(test)]
mod every_stop;
#[cfg(test)]
mod forgotten;
#[cfg(test)]
mod inspect;
// Whole histories, full zones and rules take minutes each under Miri. They reach no unsafe code that
// the store's own tests and the stopped operations do not reach.
#[cfg(not(miri))]
mod model;
#[cfg(all(test, not(miri)))]
mod ordered;
#[cfg(not(miri))]
mod random;
pub(crate) mod rng;
#[cfg(all(test, not(miri)))]
mod rules;
#[cfg(all(test, not(miri)))]
mod slab;

#[cfg(all(test, not(miri)))]
pub(crate) use model::Real;
#[cfg(all(test, not(miri)))]
use model::look;

/// Runs the history that a fuzzer's input decides: workers start, end, die and run all operations,
/// until the input is used up. Panics if the zone is not as it should be, or something leaked.
#[cfg(fuzzing)]
pub fn fuzz_history(input: &[u8]) {
    random::run(rng::Rng::of_input(input));
}

/// The token of the subscriber that a test calls by this number.
#[cfg(test)]
pub(super) fn token(number: usize) -> Token {
    Token::new(number as u32, 1)
}

/// How an operation of a worker is cut off.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Death {
    /// The worker dies at this store, inside a section or not.
    AtStore(u64),
    /// The worker dies after this section: it holds no lock, and the rest of its operation is missing.
    AfterSection(u64),
    /// The operation panics when it uses a handle for this time. The worker lives on.
    Panic(u64),
}

/// The life of the zone.
pub(crate) const LIFE: u64 = crate::store::memory::LIFE;

/// Has a worker died of this panic?
#[cfg(test)]
pub(crate) fn is_killed(panic: &(dyn Any + Send)) -> bool {
    panic.is::<Killed>()
}

/// A zone and its workers.
pub(crate) struct World {
    pub(crate) workers: Vec<Option<Hub>>,
    pub(crate) rules: Rules,
    pub(crate) now: Now,
    memory: Memory,
}

/// Seats of the store. The last one is for looking.
pub(super) const SEATS: u32 = 6;

impl World {
    pub(crate) fn new(len: usize, workers: usize) -> Self {
        let rules = Rules {
            message_ttl_secs: 60,
            channel_inactivity_secs: 30,
            deleted_text: b"Channel deleted".to_vec(),
            ..Rules::default()
        };
        let memory = Memory::format(len, SEATS, Now::both(1000)).expect("a zone");
        let mut world = Self { workers: Vec::new(), rules, now: Now::both(1000), memory };
        for _ in 0..workers {
            world.workers.push(None);
            world.spawn(world.workers.len() - 1);
        }
        world
    }

    /// Bytes of the zone.
    pub(crate) fn len(&self) -> usize {
        self.memory.len()
    }

    pub(super) fn open(&self, seat: u32) -> Store {
        self.memory.open(seat).expect("a seat")
    }

    /// Starts the worker of this number, in seat number + 1.
    pub(crate) fn spawn(&mut self, worker: usize) {
        let seat = worker as u32 + 1;
        let hub = Hub::attach(self.open(seat), 100 + seat, self.now);
        self.workers[worker] = Some(hub);
    }

    pub(crate) fn hub(&mut self, worker: usize) -> &mut Hub {
        self.workers[worker].as_mut().expect("this worker lives")
    }

    /// Checks the zone, which must be at rest, from a seat that no worker has.
    pub(super) fn inventory(&self) -> Inventory {
        let store = self.open(SEATS);
        store.settle();
        store.inventory()
    }

    /// All live channels of the zone.
    #[cfg(all(test, not(miri)))]
    pub(crate) fn channels(&self) -> BTreeMap<Vec<u8>, Real> {
        let store = self.open(SEATS);
        store.settle();
        look(&store)
    }

    /// Time and tag of the zone.
    #[cfg(test)]
    pub(crate) fn place(&self) -> (Seconds, u64) {
        let store = self.open(SEATS);
        store.settle();
        let commons = &store.header().commons;
        (commons.time.time(), commons.tag.get())
    }

    /// Where the zone remembers what channels of this id have lost.
    #[cfg(test)]
    pub(crate) fn former_number(&self, id: &[u8]) -> usize {
        let store = self.open(SEATS);
        store.former_number(store.hash(id))
    }

    /// Runs the audit that a running server offers, while no worker works.
    #[cfg(test)]
    pub(crate) fn inspect(&self) -> crate::model::Audit {
        let store = self.open(SEATS);
        let mut inspection = Inspection::default();
        while store.inspect_some(&mut inspection) {}
        store.report(inspection)
    }

    /// Checks the zone, and fails the test on any violation.
    pub(crate) fn check(&self, when: &str) -> Inventory {
        let inventory = self.inventory();
        assert!(inventory.violations.is_empty(), "{when}: {:?}", inventory.violations);
        inventory
    }

    /// Kills a worker at rest.
    pub(crate) fn kill(&mut self, worker: usize) {
        if let Some(hub) = self.workers[worker].take() {
            hub.store.arena.dead.set(true);
            drop(hub);
        }
        self.release_locks(worker);
    }

    fn release_locks(&self, worker: usize) {
        let seat = worker as u32 + 1;
        let store = self.open(SEATS);
        let header = store.header();
        header.recovery.owner_ended(seat);
        header.sweeping.owner_ended(seat);
        header.commons.lock.owner_ended(seat);
        for shard in &header.shards {
            shard.lock.owner_ended(seat);
        }
    }

    /// Runs an operation of a worker that dies at its `stores`-th store. `None` if it died; otherwise the
    /// operation ended before.
    #[cfg(test)]
    pub(super) fn run_until_store<R>(
        &mut self,
        worker: usize,
        stores: u64,
        operation: impl FnOnce(&mut Self) -> R,
    ) -> Option<R> {
        self.run_until(worker, Death::AtStore(stores), operation)
    }

    /// Runs an operation that is cut off. `None` if it was; otherwise it ended before.
    pub(super) fn run_until<R>(
        &mut self,
        worker: usize,
        death: Death,
        operation: impl FnOnce(&mut Self) -> R,
    ) -> Option<R> {
        self.arm(worker, death);
        let outcome = catch_unwind(AssertUnwindSafe(|| operation(self)));
        match outcome {
            Ok(result) => {
                self.disarm(worker);
                Some(result)
            }
            Err(panic) if panic.is::<Killed>() => {
                self.kill(worker);
                None
            }
            Err(panic) if panic.is::<Tripped>() => None,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// The worker's next operations are cut off so.
    pub(crate) fn arm(&mut self, worker: usize, death: Death) {
        let store = &self.hub(worker).store;
        match death {
            Death::AtStore(stores) => store.arena.fuse.set(Some(stores)),
            Death::AfterSection(sections) => store.sections_left.set(Some(sections)),
            Death::Panic(uses) => store.arena.trip.set(Some(uses)),
        }
    }

    /// The worker's operations are not cut off any more.
    pub(crate) fn disarm(&mut self, worker: usize) {
        if let Some(hub) = &self.workers[worker] {
            hub.store.arena.fuse.set(None);
            hub.store.sections_left.set(None);
            hub.store.arena.trip.set(None);
        }
    }

    pub(crate) fn tick(&mut self, worker: usize) {
        let (rules, now) = (self.rules.clone(), self.now);
        while self.hub(worker).tick(Tick::Full, &rules, now) {}
    }

    /// Ends all workers, lets everything expire, and answers what is in the zone then: nothing.
    pub(crate) fn drain(&mut self) -> Inventory {
        self.rules.events_channel.clear(); // Otherwise it would live for ever.
        for worker in 0..self.workers.len() {
            if self.workers[worker].is_none() {
                self.spawn(worker);
            }
            let (rules, now) = (self.rules.clone(), self.now);
            self.hub(worker).configure(&rules, now);
            self.hub(worker).detach(&rules, now);
        }
        for _ in 0..3 {
            self.now += 10_000;
            self.tick(0);
        }
        self.check("after everything has expired")
    }
}
