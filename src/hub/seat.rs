//! Seats: a process takes one when it starts, leaves it when it ends, and cleans those of the dead.

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};

use crate::hub::deliver::LastAsked;
use crate::hub::roster::Roster;
use crate::hub::sweep::Sweeping;
use crate::hub::{Hub, Rules, metrics};
use crate::model::Now;
use crate::store::Store;
use crate::store::message::Readout;
use crate::store::zone::SHARDS;

impl Hub {
    /// Takes this process's seat. First it cleans up what a dead process left there.
    pub fn attach(store: Store, pid: u32, now: Now) -> Self {
        let mut hub = Self {
            store,
            roster: Roster::default(),
            wakes: Vec::new(),
            next_shard: 0,
            readout: Readout::default(),
            destroyed: VecDeque::new(),
            readers: RefCell::default(),
            leaving: Vec::new(),
            overfull: BTreeSet::new(),
            last_asked: LastAsked::default(),
        };
        let seat = hub.store.seat;
        hub.exclusively(|hub| hub.clean(seat, true, now));
        // That one may have died before it had told everybody of its last message.
        for shard in 0..SHARDS {
            hub.tell_all(shard);
        }
        hub.wake_everybody();
        let (store, seat) = (&hub.store, hub.store.my_seat());
        store.arena.put64(&seat.subscribers, 0);
        store.arena.put64(&seat.started, now.steady.cast_unsigned());
        store.arena.put32(&seat.woken, 0);
        store.arena.put32(&seat.pid, pid);
        hub
    }

    /// Leaves the seat: subscriptions and interests go, and the statistics no longer list this worker.
    pub fn detach(&mut self, rules: &Rules, now: Now) {
        for token in self.roster.everybody() {
            self.leave(token, rules, now);
        }
        self.tell_of_destroyed(rules, now);
        let seat = self.store.seat;
        self.exclusively(|hub| hub.clean(seat, false, now));
    }

    /// Cleans the seats of dead processes that no other process has taken since.
    pub fn recover_dead(&mut self, now: Now, is_alive: &dyn Fn(u32) -> bool) {
        let taken = self.store.seats().filter(|(number, _)| *number != self.store.seat);
        let suspects: Vec<u32> = taken
            .filter(|(_, seat)| seat.pid.get() != 0 && !is_alive(seat.pid.get()))
            .map(|(number, _)| number)
            .collect();
        if suspects.is_empty() {
            return;
        }
        self.exclusively(|hub| {
            for number in suspects {
                // A successor may have taken it meanwhile.
                let pid = hub.store.seat_at(number).map_or(0, |seat| seat.pid.get());
                if pid != 0 && !is_alive(pid) {
                    hub.clean(number, true, now);
                }
            }
        });
        for shard in 0..SHARDS {
            self.tell_all(shard);
        }
        self.wake_everybody();
    }

    /// Wakes all workers. A dead worker may have left somebody unwoken, and nobody knows whom.
    fn wake_everybody(&mut self) {
        let seats = self.store.seats().filter(|(_, seat)| seat.pid.get() != 0);
        let others: Vec<u32> =
            seats.map(|(number, _)| number).filter(|number| *number != self.store.seat).collect();
        for number in others {
            let Some(seat) = self.store.seat_at(number) else { continue };
            self.store.arena.swap32(&seat.woken, 1);
            if !self.wakes.contains(&(number - 1)) {
                self.wakes.push(number - 1);
            }
        }
    }

    /// Empties a seat: undoes its open section, and frees its messages under construction and its
    /// interests. `has_died`: its tenant cannot do that, if there is one.
    fn clean(&mut self, number: u32, has_died: bool, now: Now) {
        let store = &self.store;
        let Some(seat) = store.seat_at(number) else { return };
        store.repair_seat(seat);
        while let Some(staged) = seat.staging.get() {
            store.free_step(staged, |section| section.unlink_staged(seat, staged));
        }
        for shard in 0..SHARDS {
            while let Some(interest) = seat.shards[shard].interests.get() {
                store.retire(shard, interest, now.steady);
            }
        }
        store.arena.put64(&seat.subscribers, 0);
        store.arena.put32(&seat.woken, 0);
        if let Some(counters) = store.counters_at(number) {
            metrics::clear(store, counters, has_died);
        }
        // If we die in here, the seat is cleaned again, and the death is counted once all the same.
        let section = store.commons_section();
        if has_died && seat.pid.get() != 0 {
            section.add(&section.commons().worker_deaths, 1);
        }
        section.set32(&seat.pid, 0);
        section.commit();
    }

    /// Runs `body` while no other process cleans or sweeps.
    pub(super) fn exclusively(&mut self, body: impl FnOnce(&mut Self)) {
        let header = self.store.header();
        let holder = || Some(header.sweeper.get()).filter(|pid| *pid != 0);
        let acquired = header.sweeping.lock(self.store.locking, holder);
        let guard = Sweeping::begin(self, acquired);
        body(&mut *guard.0);
    }
}
