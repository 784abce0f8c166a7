//! Robust locks: a worker that dies with a lock does not block the others.
//!
//! They are process-shared, robust pthread mutexes in the zone. The kernel marks the locks of a dead
//! owner. The next process gets such a lock with [`Acquired::OwnerDied`]. It must undo what the owner
//! left half done, and then call [`LockCell::repaired`]. (A spin lock without an owner would block every
//! worker for ever after one SIGKILL.)
//!
//! Tests and fuzzers run several workers in one thread, and Miri has no robust mutexes. For them a lock
//! can also be a plain word that behaves the same (`Locking::Simulated`).

use core::cell::UnsafeCell;
use std::sync::OnceLock;

#[cfg(any(test, fuzzing))]
use core::sync::atomic::{AtomicU32, Ordering};

/// Room for a `pthread_mutex_t` (40 bytes on x86-64, 48 on aarch64) in the zone.
#[repr(C, align(16))]
pub(crate) struct LockCell(UnsafeCell<[u64; 8]>);

const _: () = assert!(size_of::<libc::pthread_mutex_t>() <= size_of::<LockCell>());

// SAFETY: the bytes are touched only by the pthread functions (or as one atomic word), which several
// threads and processes may call at once.
unsafe impl Sync for LockCell {}

/// How a lock was got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Acquired {
    /// Its last owner had released it.
    Clean,
    /// Its last owner died with it.
    OwnerDied,
}

/// Which locks this process uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Locking {
    /// Robust pthread mutexes.
    Robust,
    /// A word instead of a mutex, for workers in one thread. The value is the number of the worker.
    #[cfg(any(test, fuzzing))]
    Simulated(u32),
}

/// A waiter looks at the lock again after so much sleep.
const NAP_NSEC: libc::c_long = 50_000_000;
/// After so many of these sleeps, three seconds, a wait is long. Fewer in tests.
const LONG_WAIT_NAPS: u32 = if cfg!(test) { 4 } else { 60 };

/// A function that is called in a long wait, with the process id of the lock's holder if it is known.
pub type LongWait = fn(holder: Option<u32>);

static LONG_WAIT: OnceLock<LongWait> = OnceLock::new();

/// From now on this process calls `hook` when it has waited for a lock for some seconds, once for each
/// wait. Sections take microseconds, so the holder was stopped inside one, or the whole machine was. The
/// hook must not use the zone. A second hook is ignored.
pub fn on_long_wait(hook: LongWait) {
    LONG_WAIT.get_or_init(|| hook);
}

#[cfg(any(test, fuzzing))]
const DEAD: u32 = 1 << 31;

impl LockCell {
    /// Makes the lock, once, in the process that makes the zone.
    pub(crate) fn make(&self, locking: Locking) {
        match locking {
            Locking::Robust => self.make_robust(),
            #[cfg(any(test, fuzzing))]
            Locking::Simulated(_) => self.word().store(0, Ordering::SeqCst),
        }
    }

    /// Takes the lock, and waits for it if necessary. `holder` finds out which process has it, if that can
    /// be seen.
    pub(crate) fn lock(&self, locking: Locking, holder: impl Fn() -> Option<u32>) -> Acquired {
        match locking {
            Locking::Robust => {
                self.try_lock(Locking::Robust).unwrap_or_else(|| self.wait_robust(&holder))
            }
            #[cfg(any(test, fuzzing))]
            Locking::Simulated(me) => self.simulated(me).expect("a lock is held by a live worker"),
        }
    }

    /// Waits for the lock, in short sleeps.
    ///
    /// A robust mutex can lose a wake-up. The kernel wakes one of two waiters, a third process takes the
    /// lock first, and the woken one is killed before it has noted that there is another waiter. That
    /// one then sleeps although the lock is free, for ever if nobody else comes to wait. `hub::kills`
    /// saw this about once in ten thousand kills. So no sleep is long.
    #[cold]
    fn wait_robust(&self, holder: &dyn Fn() -> Option<u32>) -> Acquired {
        let mut naps = 0_u32;
        loop {
            let mut until = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            // SAFETY: `until` is a place for the time.
            let rc = unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &raw mut until) };
            assert!(rc == 0, "push stream: no clock");
            until.tv_nsec += NAP_NSEC;
            if until.tv_nsec >= 1_000_000_000 {
                until.tv_nsec -= 1_000_000_000;
                until.tv_sec += 1;
            }
            // SAFETY: `make` initialised the mutex before any process could get here, and `until`
            // is a valid time.
            let rc = unsafe { libc::pthread_mutex_timedlock(self.mutex(), &raw const until) };
            if rc == libc::ETIMEDOUT {
                naps = naps.saturating_add(1);
                if naps == LONG_WAIT_NAPS
                    && let Some(hook) = LONG_WAIT.get()
                {
                    hook(holder());
                }
                continue;
            }
            return Self::acquired(rc)
                .unwrap_or_else(|| panic!("push stream: zone lock failed: {rc}"));
        }
    }

    /// Takes the lock if it is free.
    pub(crate) fn try_lock(&self, locking: Locking) -> Option<Acquired> {
        match locking {
            Locking::Robust => {
                // SAFETY: `make` initialised the mutex before any process could get here.
                let rc = unsafe { libc::pthread_mutex_trylock(self.mutex()) };
                Self::acquired(rc)
            }
            #[cfg(any(test, fuzzing))]
            Locking::Simulated(me) => self.simulated(me),
        }
    }

    /// Makes the lock usable again, after `OwnerDied`, when the caller has undone what the owner left.
    pub(crate) fn repaired(&self, locking: Locking) {
        match locking {
            Locking::Robust => {
                // SAFETY: this thread holds the mutex, got with `EOWNERDEAD`.
                let rc = unsafe { libc::pthread_mutex_consistent(self.mutex()) };
                assert!(rc == 0, "push stream: zone lock beyond repair: {rc}");
            }
            #[cfg(any(test, fuzzing))]
            Locking::Simulated(_) => {}
        }
    }

    /// Releases the lock.
    pub(crate) fn unlock(&self, locking: Locking) {
        match locking {
            Locking::Robust => {
                // SAFETY: this thread holds the mutex.
                let rc = unsafe { libc::pthread_mutex_unlock(self.mutex()) };
                debug_assert!(rc == 0, "push stream: zone lock released by a stranger: {rc}");
            }
            #[cfg(any(test, fuzzing))]
            Locking::Simulated(me) => {
                let old = self.word().swap(0, Ordering::SeqCst);
                assert_eq!(old, me + 1, "a lock is released by its owner");
            }
        }
    }

    fn mutex(&self) -> *mut libc::pthread_mutex_t {
        self.0.get().cast()
    }

    fn acquired(rc: i32) -> Option<Acquired> {
        match rc {
            0 => Some(Acquired::Clean),
            libc::EOWNERDEAD => Some(Acquired::OwnerDied),
            _ => None,
        }
    }

    fn make_robust(&self) {
        let mut attr = core::mem::MaybeUninit::<libc::pthread_mutexattr_t>::uninit();
        let attr = attr.as_mut_ptr();
        // SAFETY: `attr` has room for the attributes, which this call initialises.
        let a = unsafe { libc::pthread_mutexattr_init(attr) };
        // SAFETY: initialised above.
        let b = unsafe { libc::pthread_mutexattr_setpshared(attr, libc::PTHREAD_PROCESS_SHARED) };
        // SAFETY: initialised above.
        let c = unsafe { libc::pthread_mutexattr_setrobust(attr, libc::PTHREAD_MUTEX_ROBUST) };
        // SAFETY: the cell has room for a mutex (asserted above) and nobody uses it yet.
        let d = unsafe { libc::pthread_mutex_init(self.mutex(), attr) };
        // SAFETY: initialised above, not used again.
        unsafe { libc::pthread_mutexattr_destroy(attr) };
        assert!([a, b, c, d] == [0; 4], "push stream: no robust locks on this system");
    }

    #[cfg(any(test, fuzzing))]
    fn word(&self) -> &AtomicU32 {
        // SAFETY: the cell is large and aligned enough for a word, and always holds zero or a word.
        unsafe { &*self.0.get().cast::<AtomicU32>() }
    }

    #[cfg(any(test, fuzzing))]
    fn simulated(&self, me: u32) -> Option<Acquired> {
        let old = self.word().load(Ordering::SeqCst);
        let acquired = match old {
            0 => Acquired::Clean,
            old if old & DEAD != 0 => Acquired::OwnerDied,
            _ => return None,
        };
        self.word().store(me + 1, Ordering::SeqCst);
        Some(acquired)
    }

    /// Does what the kernel does to the locks of a process that ends.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn owner_ended(&self, worker: u32) {
        let word = self.word().load(Ordering::SeqCst);
        if word & !DEAD == worker + 1 {
            self.word().store(word | DEAD, Ordering::SeqCst);
        }
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    fn lock() -> LockCell {
        let cell = LockCell(UnsafeCell::new([0; 8]));
        cell.make(Locking::Robust);
        cell
    }

    #[test]
    fn the_lock_of_a_dead_owner_is_got_and_repaired() {
        let cell = lock();
        // To the kernel, a thread that ends is like a process. The second one gets the lock and dies
        // before it has repaired what the lock guards.
        for expected in [Acquired::Clean, Acquired::OwnerDied] {
            thread::scope(|scope| {
                let owner =
                    scope.spawn(|| assert_eq!(cell.lock(Locking::Robust, || None), expected));
                owner.join().expect("it got the lock");
            });
        }
        assert_eq!(cell.try_lock(Locking::Robust), Some(Acquired::OwnerDied));
        cell.repaired(Locking::Robust);
        cell.unlock(Locking::Robust);
        assert_eq!(cell.lock(Locking::Robust, || None), Acquired::Clean);
        cell.unlock(Locking::Robust);
    }

    #[test]
    fn a_waiter_outlasts_its_naps() {
        let cell = lock();
        let (held, is_held) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(|| {
                cell.lock(Locking::Robust, || None);
                held.send(()).expect("the other waits");
                // This test is about time: it takes some of the waiter's sleeps.
                thread::sleep(std::time::Duration::from_nanos(3 * NAP_NSEC as u64));
                cell.unlock(Locking::Robust);
            });
            is_held.recv().expect("it has the lock");
            assert_eq!(cell.try_lock(Locking::Robust), None);
            assert_eq!(cell.lock(Locking::Robust, || None), Acquired::Clean);
            cell.unlock(Locking::Robust);
        });
    }
}
