//! Memory that stands in for a zone in tests, and workers' views of it.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

use crate::model::Seconds;
use crate::store::arena::PAGE;
use crate::store::lock::Locking;
use crate::store::zone::{ImageError, Store};

/// A zone of this process's own, with simulated locks.
pub(crate) struct Memory {
    base: NonNull<u8>,
    layout: Layout,
}

impl Memory {
    /// `len` bytes, formatted as an empty zone.
    pub(crate) fn format(len: usize, seats: u32, now: Seconds) -> Result<Self, ImageError> {
        let layout = Layout::from_size_align(len, PAGE).expect("a valid layout");
        // SAFETY: no caller asks for 0 bytes.
        let base = NonNull::new(unsafe { alloc_zeroed(layout) }).expect("memory");
        let memory = Self { base, layout };
        let locking = Locking::Simulated(0);
        // SAFETY: page aligned, `len` bytes long, and alive as long as `memory`.
        unsafe { Store::create_with(base, len, seats, [7; 16], now, locking) }?;
        Ok(memory)
    }

    /// The view of the worker in this seat of the store. It must not outlive the memory.
    pub(crate) fn open(&self, seat: u32) -> Result<Store, ImageError> {
        let locking = Locking::Simulated(seat);
        // SAFETY: formatted by `format`; the simulated workers share one thread.
        unsafe { Store::open_with(self.base, self.layout.size(), seat, locking) }
    }

    /// Bytes of it.
    pub(crate) const fn len(&self) -> usize {
        self.layout.size()
    }

    /// Spoils one byte of the image.
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
