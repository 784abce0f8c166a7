//! Panics on demand, for the suite that shows what a panic costs (`t/panics.t`).
//!
//! With the Cargo feature `faults`, [`point`] panics at the time that a test has chosen. The test makes a
//! file, names it in the environment variable `PUSH_STREAM_FAULTS` when it starts nginx, and writes to it
//! while nginx runs:
//!
//! ```text
//!   64 slots of 64 bytes: the name of a point (56 bytes, filled with zeroes), a count (4 bytes, in the order
//!   of the machine), 4 bytes that nobody uses
//! ```
//!
//! Each time a worker reaches a point whose slot has a count, it counts down by one; it panics at zero. All
//! workers count together. Without the feature a point is nothing.

#[cfg(feature = "faults")]
pub(super) use armed::{point, prepare};

/// A test may let the worker panic here.
#[cfg(not(feature = "faults"))]
pub(super) fn point(_: &str) {}

/// In the master, before the first worker.
#[cfg(not(feature = "faults"))]
pub(super) fn prepare() {}

#[cfg(feature = "faults")]
mod armed {
    use core::ptr;
    use core::sync::atomic::{AtomicU8, AtomicU32, Ordering};
    use std::env;
    use std::fs::File;
    use std::os::fd::AsRawFd;
    use std::sync::OnceLock;

    const NAME_LEN: usize = 56;
    const SLOTS: usize = 64;

    #[repr(C)]
    struct Slot {
        name: [AtomicU8; NAME_LEN],
        count: AtomicU32,
        unused: AtomicU32,
    }

    type Table = [Slot; SLOTS];

    const _: () = assert!(size_of::<Table>() == 4096);

    static TABLE: OnceLock<Option<&'static Table>> = OnceLock::new();

    /// In the master, before the first worker: the workers inherit the mapping, not the environment.
    pub(crate) fn prepare() {
        TABLE.get_or_init(map);
    }

    fn map() -> Option<&'static Table> {
        let file = env::var_os("PUSH_STREAM_FAULTS")?;
        let file = File::options().read(true).write(true).open(file).ok()?;
        if file.metadata().ok()?.len() < size_of::<Table>() as u64 {
            return None;
        }
        // SAFETY: a fresh mapping, whose address the kernel chooses; it outlives the descriptor.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                size_of::<Table>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return None;
        }
        // SAFETY: a page of the file, which is never unmapped; others write to it, so all of it is atomics.
        Some(unsafe { &*base.cast::<Table>() })
    }

    /// Panics if a test has asked for it.
    pub(crate) fn point(name: &str) {
        let Some(Some(table)) = TABLE.get() else { return };
        let Some(slot) = table.iter().find(|slot| slot.is_named(name)) else { return };
        let reached = slot
            .count
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| count.checked_sub(1));
        assert!(reached != Ok(1), "asked for by a test: {name}");
    }

    impl Slot {
        fn is_named(&self, name: &str) -> bool {
            let text = self.name.iter().map(|byte| byte.load(Ordering::Acquire));
            text.take_while(|byte| *byte != 0).eq(name.bytes())
        }
    }
}
