//! Zones for tests and fuzzers, and the workers' views of them.

use std::alloc::{Layout, alloc_zeroed, dealloc};
#[cfg(all(test, not(miri)))]
use std::fs::File;
#[cfg(all(test, not(miri)))]
use std::os::fd::AsRawFd;
use std::ptr::NonNull;

use crate::model::Now;
use crate::store::arena::PAGE;
use crate::store::lock::Locking;
use crate::store::zone::{ImageError, Store};

/// A zone in memory of this process, with simulated locks.
pub(crate) struct Memory {
    base: NonNull<u8>,
    layout: Layout,
}

/// The life of all zones of tests.
pub(crate) const LIFE: u64 = 0x11fe;

impl Memory {
    /// `len` bytes, formatted as an empty zone.
    pub(crate) fn format(len: usize, seats: u32, now: Now) -> Result<Self, ImageError> {
        let layout = Layout::from_size_align(len, PAGE).expect("a valid layout");
        // SAFETY: no caller asks for 0 bytes.
        let base = NonNull::new(unsafe { alloc_zeroed(layout) }).expect("memory");
        let memory = Self { base, layout };
        let locking = Locking::Simulated(0);
        // SAFETY: page aligned, `len` bytes long, and alive as long as `memory`.
        unsafe { Store::create_with(base, len, seats, [7; 16], LIFE, now, locking) }?;
        Ok(memory)
    }

    /// The view of the worker in this seat of the store. It must not outlive the memory.
    pub(crate) fn open(&self, seat: u32) -> Result<Store, ImageError> {
        let locking = Locking::Simulated(seat);
        // SAFETY: formatted by `format`; the simulated workers share one thread.
        unsafe { Store::open_with(self.base, self.layout.size(), seat, locking) }
    }

    /// How many bytes it has.
    pub(crate) const fn len(&self) -> usize {
        self.layout.size()
    }

    /// Overwrites one byte of the image.
    #[cfg(test)]
    pub(crate) fn poke(&self, offset: usize, byte: u8) {
        assert!(offset < self.layout.size());
        // SAFETY: in bounds.
        let place = unsafe { self.base.add(offset) };
        // SAFETY: ours, and no reference to it is alive between two calls of a test.
        unsafe { place.write(byte) };
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated in `format` with this layout; all views are gone.
        unsafe { dealloc(self.base.as_ptr(), self.layout) }
    }
}

/// A zone in a file that several processes map, or several threads share, with real locks.
#[cfg(all(test, not(miri)))]
pub(crate) struct SharedFile {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: this value only says where the zone lies. Each thread opens a view of its own (`open`), and
// the locks work between threads as between processes.
#[cfg(all(test, not(miri)))]
unsafe impl Sync for SharedFile {}

#[cfg(all(test, not(miri)))]
impl SharedFile {
    /// Maps all of the file, which stays mapped as long as the process lives.
    pub(crate) fn map(file: &File) -> Self {
        let len = usize::try_from(file.metadata().expect("its size").len()).expect("it fits");
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let fd = file.as_raw_fd();
        let null = std::ptr::null_mut();
        // SAFETY: a new mapping of an open file, at an address of the kernel's choice.
        let base = unsafe { libc::mmap(null, len, protection, libc::MAP_SHARED, fd, 0) };
        assert!(base != libc::MAP_FAILED, "a mapping");
        Self { base: NonNull::new(base.cast()).expect("never at 0"), len }
    }

    /// Formats it as an empty zone.
    pub(crate) fn format(&self, seats: u32, now: Now) -> Result<(), ImageError> {
        // SAFETY: page aligned, mapped for ever, and nobody uses it yet.
        unsafe { Store::create(self.base, self.len, seats, [3; 16], LIFE, now) }
    }

    /// The view of the process, or thread, in this seat.
    pub(crate) fn open(&self, seat: u32) -> Result<Store, ImageError> {
        // SAFETY: mapped for ever; the tests give each live process or thread a seat of its own.
        unsafe { Store::open(self.base, self.len, seat) }
    }
}

/// Sends a signal to a process that a test has started.
#[cfg(all(test, not(miri)))]
pub(crate) fn signal(pid: u32, signal: i32) {
    // SAFETY: takes two numbers.
    unsafe { libc::kill(pid.cast_signed(), signal) };
}

/// This process stops, until somebody continues it.
#[cfg(all(test, not(miri)))]
pub(crate) fn stop() {
    // SAFETY: takes a number.
    unsafe { libc::raise(libc::SIGSTOP) };
}

/// Waits until a child has stopped; false if it has ended instead.
#[cfg(all(test, not(miri)))]
pub(crate) fn wait_until_stopped(pid: u32) -> bool {
    let (pid, mut status) = (pid.cast_signed(), 0);
    // SAFETY: takes two numbers and a place for a third.
    let waited = unsafe { libc::waitpid(pid, &raw mut status, libc::WUNTRACED) };
    waited == pid && libc::WIFSTOPPED(status)
}
