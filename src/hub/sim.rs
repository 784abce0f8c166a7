//! Several workers in one thread, over one zone: the ground of the store's and the hub's tests, and
//! of the fuzzer's target `store_ops`.
//!
//! A worker can be stopped at any store it makes ([`World::run_until_store`]): what it had done is
//! in the zone, its locks are those of a dead process, and nothing else of it is left.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::hub::{Hub, Rules, Tick};
use crate::model::Seconds;
#[cfg(test)]
use crate::model::Token;
use crate::store::arena::{Killed, Tripped};
use crate::store::check::Inventory;
use crate::store::memory::Memory;
use crate::store::{Inspection, Store};

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
// Whole histories, full zones and rules take Miri minutes each, and reach no unsafe code that the
// store's own tests and the stopped operations do not.
#[cfg(not(miri))]
mod model;
#[cfg(not(miri))]
mod random;
#[cfg(not(miri))]
pub(super) mod rng;
#[cfg(all(test, not(miri)))]
mod rules;
#[cfg(all(test, not(miri)))]
mod slab;

#[cfg(all(test, not(miri)))]
use model::look;

/// Runs the history that a fuzzer's input decides: workers come, go, die and do all that they can,
/// until the input ends. Panics where the zone is not what it should be, or something leaked.
#[cfg(fuzzing)]
pub fn fuzz_history(input: &[u8]) {
    random::run(rng::Rng::of_input(input));
}

/// The token of the subscriber that a test calls by this number.
#[cfg(test)]
pub(super) fn token(number: usize) -> Token {
    Token::new(number as u32, 1)
}

/// When a worker dies.
#[derive(Clone, Copy, Debug)]
pub(super) enum Death {
    /// At this store, in the middle of a section or not.
    AtStore(u64),
    /// Behind this section, without a lock, and with the rest of its operation still to be done.
    AfterSection(u64),
    /// Not at all: its operation panics when it uses a handle for this time, and it lives on.
    Panic(u64),
}

/// A zone and its workers.
pub(super) struct World {
    pub(super) workers: Vec<Option<Hub>>,
    pub(super) rules: Rules,
    pub(super) now: Seconds,
    memory: Memory,
}

/// Seats of the store; the last one is the auditor's.
pub(super) const SEATS: u32 = 6;

impl World {
    pub(super) fn new(len: usize, workers: usize) -> Self {
        let rules = Rules {
            message_ttl_secs: 60,
            channel_inactivity_secs: 30,
            deleted_text: b"Channel deleted".to_vec(),
            ..Rules::default()
        };
        let memory = Memory::format(len, SEATS, 1000).expect("a zone");
        let mut world = Self { workers: Vec::new(), rules, now: 1000, memory };
        for _ in 0..workers {
            world.workers.push(None);
            world.spawn(world.workers.len() - 1);
        }
        world
    }

    /// Bytes of the zone.
    pub(super) fn len(&self) -> usize {
        self.memory.len()
    }

    pub(super) fn open(&self, seat: u32) -> Store {
        self.memory.open(seat).expect("a seat")
    }

    /// Starts the worker of this number, in seat number + 1.
    pub(super) fn spawn(&mut self, worker: usize) {
        let seat = worker as u32 + 1;
        let hub = Hub::attach(self.open(seat), 100 + seat, self.now);
        self.workers[worker] = Some(hub);
    }

    pub(super) fn hub(&mut self, worker: usize) -> &mut Hub {
        self.workers[worker].as_mut().expect("this worker lives")
    }

    /// A look at the zone, which is at rest, from a seat that no worker has.
    pub(super) fn inventory(&self) -> Inventory {
        let store = self.open(SEATS);
        store.settle();
        store.inventory()
    }

    /// The audit that a running server offers, while nobody works.
    pub(super) fn inspect(&self) -> crate::model::Audit {
        let store = self.open(SEATS);
        let mut inspection = Inspection::default();
        while store.inspect_some(&mut inspection) {}
        store.report(inspection)
    }

    /// Checks the zone, and fails the test on any violation.
    pub(super) fn check(&self, when: &str) -> Inventory {
        let inventory = self.inventory();
        assert!(inventory.violations.is_empty(), "{when}: {:?}", inventory.violations);
        inventory
    }

    /// Kills a worker at rest.
    pub(super) fn kill(&mut self, worker: usize) {
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

    /// Runs an operation of a worker that dies at its `stores`-th store. `None`: it died; else it
    /// came to its end before.
    #[cfg(test)]
    pub(super) fn run_until_store<R>(
        &mut self,
        worker: usize,
        stores: u64,
        operation: impl FnOnce(&mut Self) -> R,
    ) -> Option<R> {
        self.run_until(worker, Death::AtStore(stores), operation)
    }

    /// Runs an operation of a worker that dies or panics in it. `None`: it did; else it came to its end
    /// before.
    pub(super) fn run_until<R>(
        &mut self,
        worker: usize,
        death: Death,
        operation: impl FnOnce(&mut Self) -> R,
    ) -> Option<R> {
        let store = &self.hub(worker).store;
        match death {
            Death::AtStore(stores) => store.arena.fuse.set(Some(stores)),
            Death::AfterSection(sections) => store.sections_left.set(Some(sections)),
            Death::Panic(uses) => store.arena.trip.set(Some(uses)),
        }
        let outcome = catch_unwind(AssertUnwindSafe(|| operation(self)));
        match outcome {
            Ok(result) => {
                if let Some(hub) = &self.workers[worker] {
                    hub.store.arena.fuse.set(None);
                    hub.store.sections_left.set(None);
                    hub.store.arena.trip.set(None);
                }
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

    pub(super) fn tick(&mut self, worker: usize) {
        let (rules, now) = (self.rules.clone(), self.now);
        while self.hub(worker).tick(Tick::Full, &rules, now) {}
    }

    /// Ends all workers, lets everything expire, and answers what the zone holds then: nothing.
    pub(super) fn drain(&mut self) -> Inventory {
        self.rules.events_channel.clear(); // It would live for ever.
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
