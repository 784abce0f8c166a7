//! Sections and the undo log: the changes of a worker under a lock happen as a whole or not at all.
//!
//! Each worker has a [`Seat`], which holds its log. Inside a section, [`Section::set32`] and its siblings
//! change every word that others can see, and note the old value first. [`Section::commit`] empties the
//! log with one store. If a worker dies before that, the next process that gets one of its locks undoes
//! the section before it reads anything.
//!
//! ```text
//!   lock shard ─► holds |= shard ─► set, set ... ─► lock commons ─► holds |= commons ─► set ...
//!              ─► log_len = 0 (this is the commit) ─► holds = 0 ─► unlock both
//! ```
//!
//! Lock order: at most one shard (an audit takes all of them, in ascending order), then the commons, then
//! recovery, which is held only while a dead worker's log is rolled back. A section keeps its locks up to
//! the commit, so nobody else can have changed a word that a rollback restores.
//!
//! Whose log is rolled back? A worker writes `holds` after it has got a lock and clears it before it
//! releases the lock. A process that gets a lock from a dead owner holds it now. So a seat that claims
//! the same lock belongs to a dead process.

use core::cell::Cell;

use crate::store::arena::{Handle, Link, Record, W32, W64};
use crate::store::counters::Done;
use crate::store::interest::Interest;
use crate::store::lock::{Acquired, LockCell};
use crate::store::message::Message;
use crate::store::zone::{Commons, SHARDS, Shard, Store};

/// A section may change at most so many words. The largest one, a publish with its first interests,
/// changes about 60. The hub's tests run every operation, and fail if one changes more.
pub(crate) const UNDO_MAX: usize = 72;

/// The bit of the commons' lock in [`Seat::holds`]. The shards have the low bits.
const COMMONS: u64 = 1 << 63;

/// One process's place in the zone. Its number is nginx's process slot.
#[repr(C)]
pub(crate) struct Seat {
    kind: W32,
    /// Process id; 0 = the seat is free.
    pub(crate) pid: W32,
    /// The locks that this process holds, one bit each.
    holds: W64,
    /// Entries of `log` in use; 0 between sections.
    log_len: W32,
    /// 1 if the process was woken and has not looked since. Nobody wakes it twice.
    pub(crate) woken: W32,
    /// Messages under construction, linked by `next`. Nobody else sees them.
    pub(crate) staging: Link<Message>,
    /// How many sections of this seat have changed something; it wraps. By this an audit sees whether
    /// anything changed.
    pub(crate) sections: W32,
    /// How many subscriber connections it has. Only the process itself writes this.
    pub(crate) subscribers: W64,
    /// When it took the seat.
    pub(crate) started: W64,
    /// Its lists in each shard, which that shard's lock covers.
    pub(crate) shards: [SeatShard; SHARDS],
    /// Words that the open section has changed, with their old values; empty between sections.
    ///
    /// INVARIANT: replaying the entries backwards gives the arena as it was when the section began.
    ///
    /// Holds because: `Section::set*` is the only way to change a word that others can see, and it
    /// records the old value before it stores the new one; a new block is filled before it is
    /// linked. Needed because: a worker can be killed between any two stores. Checked by:
    /// `hub::sim::every_stop`, which stops each operation at its k-th store for every k.
    log: [Entry; UNDO_MAX],
}

/// A seat's lists in one shard.
#[repr(C)]
pub(crate) struct SeatShard {
    /// Interests with news, oldest first.
    pub(crate) inbox_first: Link<Interest>,
    pub(crate) inbox_last: Link<Interest>,
    /// All its interests here.
    pub(crate) interests: Link<Interest>,
}

#[repr(C)]
struct Entry {
    /// Offset of the word, shifted left by one; the low bit is 1 for a 64-bit word.
    place: W64,
    old: W64,
}

// SAFETY: `repr(C)`, words only, kind first.
unsafe impl Record for Seat {
    const KIND: u32 = u32::from_le_bytes(*b"seat");
}

/// Bytes from one seat to the next. A page holds three.
pub(crate) const SEAT_SIZE: usize = 1360;
const _: () = assert!(size_of::<Seat>() <= SEAT_SIZE);

impl Seat {
    /// How many words its open section has changed.
    pub(crate) fn log_words(&self) -> u32 {
        self.log_len.get()
    }

    /// The locks that it holds, one bit each.
    pub(crate) fn holds(&self) -> u64 {
        self.holds.get()
    }

    /// No section of this seat is open.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.log_len.get() == 0 && self.holds.get() == 0
    }
}

/// A transaction under locks. If it is dropped without [`Section::commit`], it is undone.
pub(crate) struct Section<'s> {
    pub(crate) store: &'s Store,
    seat: &'s Seat,
    shard: Option<usize>,
    commons: Cell<bool>,
    /// To be counted when it commits.
    done: Cell<Done>,
    committed: bool,
}

impl Store {
    /// Opens a section under the lock of `shard`. [`Section::commons`] adds the lock of the commons.
    pub(crate) fn section(&self, shard: usize) -> Section<'_> {
        let section = self.open_section(Some(shard));
        section.acquire(&section.shard().lock, 1 << shard);
        section
    }

    /// Opens a section under the lock of the commons only.
    pub(crate) fn commons_section(&self) -> Section<'_> {
        let section = self.open_section(None);
        section.commons();
        section
    }

    /// Waits until no section of any worker is open, and keeps them all out, to look at the zone. Keep it
    /// for microseconds only.
    pub(crate) fn stop_all(&self) -> Standstill<'_> {
        assert!(!self.in_section.replace(true), "push stream: a section inside a section");
        let mut standstill = Standstill { store: self, held: 0 };
        for (shard, record) in self.header().shards.iter().enumerate() {
            self.acquire(self.my_seat(), &record.lock, 1 << shard);
            standstill.held += 1;
        }
        self.acquire(self.my_seat(), &self.header().commons.lock, COMMONS);
        standstill.held += 1;
        standstill
    }

    fn acquire(&self, seat: &Seat, lock: &LockCell, bit: u64) {
        let holder = || {
            let mut others = self.seats().filter(|(number, _)| *number != self.seat);
            let holder = others.find(|(_, seat)| seat.holds() & bit != 0)?;
            Some(holder.1.pid.get()).filter(|pid| *pid != 0)
        };
        if lock.lock(self.locking, holder) == Acquired::OwnerDied {
            let bomb = AbortOnUnwind(self);
            self.repair(bit);
            lock.repaired(self.locking);
            core::mem::forget(bomb);
        }
        self.arena.put64(&seat.holds, seat.holds.get() | bit);
    }

    fn open_section(&self, shard: Option<usize>) -> Section<'_> {
        assert!(!self.in_section.replace(true), "push stream: a section inside a section");
        #[cfg(any(test, fuzzing))]
        self.section_begins();
        let seat = self.my_seat();
        Section {
            store: self,
            seat,
            shard,
            commons: Cell::new(false),
            done: Cell::default(),
            committed: false,
        }
    }

    /// Undoes the section of the dead process that held the lock `bit`.
    fn repair(&self, bit: u64) {
        self.with_recovery(|| {
            for (number, seat) in self.seats() {
                if number != self.seat && seat.holds.get() & bit != 0 {
                    self.roll_back(seat);
                    self.arena.put64(&seat.holds, 0);
                }
            }
        });
    }

    /// Undoes the open section of this seat. The caller knows that its process is dead.
    pub(crate) fn repair_seat(&self, seat: &Seat) {
        self.with_recovery(|| {
            self.roll_back(seat);
            self.arena.put64(&seat.holds, 0);
        });
    }

    /// Runs `body` while no other process rolls back. Without this, of two processes that each got a lock
    /// of the same dead worker, the slower one could undo what the faster one has changed since.
    fn with_recovery(&self, body: impl FnOnce()) {
        let bomb = AbortOnUnwind(self);
        let lock = &self.header().recovery;
        if lock.lock(self.locking, || None) == Acquired::OwnerDied {
            // The rollback is done again. Restoring a word twice does no harm.
            lock.repaired(self.locking);
        }
        body();
        lock.unlock(self.locking);
        core::mem::forget(bomb);
    }

    fn roll_back(&self, seat: &Seat) {
        let len = (seat.log_len.get() as usize).min(UNDO_MAX);
        for entry in seat.log.iter().take(len).rev() {
            let place = entry.place.get();
            let offset = usize::try_from(place >> 1).unwrap_or(usize::MAX);
            if place & 1 == 1 {
                self.arena.put64(self.arena.word64(offset), entry.old.get());
            } else {
                let old = u32::try_from(entry.old.get()).unwrap_or(0);
                self.arena.put32(self.arena.word32(offset), old);
            }
        }
        self.arena.put32(&seat.log_len, 0);
    }
}

impl<'s> Section<'s> {
    /// The shard that this section has locked.
    pub(crate) fn shard(&self) -> &'s Shard {
        &self.store.header().shards[self.shard_number()]
    }

    /// The number of the shard that this section has locked.
    pub(crate) fn shard_number(&self) -> usize {
        self.shard.expect("a section that asks for its shard has one")
    }

    /// The part of the zone that all shards share. It is locked from here to the end of the section.
    pub(crate) fn commons(&self) -> &'s Commons {
        let commons = &self.store.header().commons;
        if !self.commons.get() {
            self.acquire(&commons.lock, COMMONS);
            self.commons.set(true);
        }
        commons
    }

    /// The seat of this process.
    pub(crate) fn seat(&self) -> &'s Seat {
        self.seat
    }

    /// May the section change so many words more?
    pub(crate) fn has_room_for(&self, words: usize) -> bool {
        self.seat.log_len.get() as usize + words <= UNDO_MAX
    }

    /// The record behind a handle.
    pub(crate) fn get<T: Record>(&self, handle: Handle<T>) -> &'s T {
        self.store.arena.get(handle)
    }

    /// Changes a word. It is undone if the section does not commit.
    pub(crate) fn set32(&self, word: &W32, value: u32) {
        let old = word.get();
        if old != value {
            let offset = self.store.arena.offset_of(word) as u64;
            self.note(offset << 1, u64::from(old));
            self.store.arena.put32(word, value);
        }
    }

    /// As [`Section::set32`], for 64 bits.
    pub(crate) fn set64(&self, word: &W64, value: u64) {
        let old = word.get();
        if old != value {
            let offset = self.store.arena.offset_of(word) as u64;
            self.note(offset << 1 | 1, old);
            self.store.arena.put64(word, value);
        }
    }

    /// Changes a link.
    pub(crate) fn link<T>(&self, link: &Link<T>, to: Option<Handle<T>>) {
        self.set32(&link.0, to.map_or(0, Handle::unit));
    }

    /// Adds to a counter.
    pub(crate) fn add(&self, counter: &W64, more: u64) {
        self.set64(counter, counter.get().saturating_add(more));
    }

    /// Subtracts from a counter, which never wraps.
    pub(crate) fn sub(&self, counter: &W64, less: u64) {
        debug_assert!(counter.get() >= less, "a counter never falls below zero");
        self.set64(counter, counter.get().saturating_sub(less));
    }

    /// Sets or clears bits of a word of flags.
    pub(crate) fn flag(&self, flags: &W32, bits: u32, on: bool) {
        let old = flags.get();
        self.set32(flags, if on { old | bits } else { old & !bits });
    }

    /// This has happened, if the section commits.
    pub(crate) fn note_done(&self, note: impl FnOnce(&mut Done)) {
        let mut done = self.done.get();
        note(&mut done);
        self.done.set(done);
    }

    /// Makes all changes of this section final, at once.
    pub(crate) fn commit(mut self) {
        if self.seat.log_len.get() > 0 {
            let count = self.seat.sections.get().wrapping_add(1);
            self.store.arena.put32(&self.seat.sections, count);
        }
        self.store.arena.put32(&self.seat.log_len, 0);
        self.committed = true;
        self.done.get().count(self.store);
    }

    /// Notes the old value of a word before it changes.
    fn note(&self, place: u64, old: u64) {
        let len = self.seat.log_len.get() as usize;
        assert!(len < UNDO_MAX, "push stream: a section changes too many words");
        let entry = &self.seat.log[len];
        let arena = &self.store.arena;
        arena.put64(&entry.place, place);
        arena.put64(&entry.old, old);
        arena.put32(&self.seat.log_len, u32::try_from(len + 1).unwrap_or(u32::MAX));
    }

    fn acquire(&self, lock: &LockCell, bit: u64) {
        self.store.acquire(self.seat, lock, bit);
    }
}

impl Drop for Section<'_> {
    fn drop(&mut self) {
        let store = self.store;
        if store.arena.is_dead() {
            return; // A test has "killed" this worker. Its locks are those of a dead process.
        }
        if !self.committed {
            store.roll_back(self.seat);
        }
        store.arena.put64(&self.seat.holds, 0);
        if self.commons.get() {
            store.header().commons.lock.unlock(store.locking);
        }
        if let Some(shard) = self.shard {
            store.header().shards[shard].lock.unlock(store.locking);
        }
        store.in_section.set(false);
        #[cfg(any(test, fuzzing))]
        store.section_ended();
    }
}

/// All locks at once, for looking only. It changes nothing, so there is nothing to commit.
///
/// It takes the shards' locks in ascending order and the commons' lock last. A section has at most one
/// shard's lock, and waits with it only for the commons. So no deadlock is possible.
pub(crate) struct Standstill<'s> {
    pub(crate) store: &'s Store,
    /// How many locks it has got.
    held: usize,
}

impl Drop for Standstill<'_> {
    fn drop(&mut self) {
        let store = self.store;
        if store.arena.is_dead() {
            return;
        }
        store.arena.put64(&store.my_seat().holds, 0);
        if self.held > SHARDS {
            store.header().commons.lock.unlock(store.locking);
        }
        for shard in store.header().shards.iter().take(self.held).rev() {
            shard.lock.unlock(store.locking);
        }
        store.in_section.set(false);
    }
}

/// Ends the process if repairing panics. A live process that keeps a lock would block all others; a
/// dead one does not.
struct AbortOnUnwind<'s>(&'s Store);

impl Drop for AbortOnUnwind<'_> {
    fn drop(&mut self) {
        if !self.0.arena.is_dead() {
            // A panic while there is a panic: Rust aborts.
            panic!("push stream: the zone cannot be repaired");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::model::Now;
    use crate::store::memory::Memory;

    const LEN: usize = 96 * 1024;

    /// Some words that any section may change.
    fn words(store: &Store) -> [&W64; 6] {
        let header = store.header();
        let shard = &header.shards[1];
        let commons = &header.commons;
        [
            &shard.published,
            &shard.stored,
            &shard.channels_in_delete,
            &commons.time,
            &commons.tag,
            &commons.created,
        ]
    }

    fn values(store: &Store) -> Vec<u64> {
        words(store).iter().map(|word| word.get()).collect()
    }

    /// Changes each word twice, under both locks.
    fn change(store: &Store) {
        let section = store.section(1);
        section.set64(words(store)[0], 7);
        section.commons();
        for (n, word) in (1..).zip(words(store)) {
            section.set64(word, n);
            section.add(word, 10);
        }
        section.set32(&store.header().commons.free_interests, 99);
        section.set32(&store.header().commons.free_interests, 0);
        section.commit();
    }

    #[test]
    fn a_section_without_a_commit_has_not_happened() {
        let memory = Memory::format(LEN, 2, Now::both(0)).expect("a zone");
        let store = memory.open(1).expect("a seat");
        let before = values(&store);
        let section = store.section(1);
        section.commons();
        words(&store).iter().for_each(|word| section.set64(word, 42));
        drop(section);
        assert_eq!(values(&store), before);
        assert!(store.my_seat().is_at_rest());
        change(&store);
        assert_eq!(values(&store), [11, 12, 13, 14, 15, 16]);
    }

    #[test]
    fn a_section_that_changes_too_much_is_undone() {
        let memory = Memory::format(LEN, 2, Now::both(0)).expect("a zone");
        let store = memory.open(1).expect("a seat");
        let before = values(&store);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let section = store.section(1);
            (0..100).for_each(|n| section.set64(words(&store)[0], n));
        }));
        assert!(outcome.is_err());
        assert_eq!(values(&store), before);
        change(&store); // Its locks are free again.
    }

    #[test]
    fn a_section_inside_a_section_is_a_bug() {
        let memory = Memory::format(LEN, 2, Now::both(0)).expect("a zone");
        let store = memory.open(1).expect("a seat");
        let _open = store.section(0);
        assert!(catch_unwind(AssertUnwindSafe(|| store.section(1).commit())).is_err());
    }

    /// Dies at store `fuse` of `body`. Its locks are those of a dead process then.
    fn dies(store: &Store, fuse: u64, body: impl FnOnce(&Store)) -> bool {
        store.arena.fuse.set(Some(fuse));
        let died = catch_unwind(AssertUnwindSafe(|| body(store))).is_err();
        store.arena.dead.set(true);
        let header = store.header();
        let shards = header.shards.iter().map(|shard| &shard.lock);
        shards
            .chain([&header.commons.lock, &header.recovery, &header.sweeping])
            .for_each(|lock| lock.owner_ended(store.seat));
        died
    }

    /// By either of its locks, and even if the rescuer dies as well.
    #[test]
    #[cfg_attr(miri, ignore = "thousands of zones")]
    fn a_dead_workers_section_is_undone_by_whoever_comes_next() {
        let done = [11, 12, 13, 14, 15, 16];
        for fuse in 0..200 {
            for (rescue, by_commons) in (0..12).flat_map(|n| [(n * 4, false), (n * 4, true)]) {
                let memory = Memory::format(LEN, 3, Now::both(0)).expect("a zone");
                let victim = memory.open(1).expect("a seat");
                let before = values(&victim);
                if !dies(&victim, fuse, change) {
                    return;
                }
                let enter = |store: &Store| {
                    let section =
                        if by_commons { store.commons_section() } else { store.section(1) };
                    section.commit();
                };
                dies(&memory.open(2).expect("a seat"), rescue, enter);
                let witness = memory.open(3).expect("a seat");
                witness.settle();
                let found = values(&witness);
                assert!(found == before || found == done, "dead at {fuse}, {rescue}: {found:?}");
                assert!(witness.inventory().violations.iter().all(|violation| {
                    // The words were changed without a reason, which the audit notices.
                    !violation.contains("rest") && !violation.contains("free")
                }));
                change(&witness);
            }
        }
        panic!("it never came to its end");
    }
}
