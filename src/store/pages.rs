//! Pages: the arena's memory in pieces of 4 KiB.
//!
//! ```text
//!   | used | free | used | used | free |    never used     |
//!             └──── in one list ────┘   ▲ Commons::never_used
//! ```
//!
//! Each page has a descriptor elsewhere, so all its bytes can be used. Taking and giving back a page
//! takes constant time, and nothing ever needs two adjacent pages. A page is used for the first time
//! only when no other one is free. So the zone takes as much of the machine's memory as it has needed
//! so far, however large it may grow.

use crate::store::arena::{PAGE, Record, W32, W64};
use crate::store::slab::VITAL;
use crate::store::undo::Section;
use crate::store::zone::Store;

/// The state of one page.
#[repr(C)]
pub(crate) struct Descriptor {
    /// [`FREE`], [`SEATS`], or the size class + [`SLAB`].
    pub(crate) state: W32,
    /// The next page in its list: its number + 1; 0 = it is the last, or in no list.
    pub(crate) next: W32,
    /// The free slots, one bit each.
    pub(crate) free: W64,
    /// The previous page in the list of pages with a free slot: its number + 1.
    pub(crate) prev: W32,
    _spare: W32,
}

// SAFETY: `repr(C)`, words only; it has no kind, its place is fixed.
unsafe impl Record for Descriptor {
    const KIND: u32 = 0;
}

pub(crate) const DESCRIPTOR_SIZE: usize = size_of::<Descriptor>();

/// Free: in the list of free pages, or never used.
pub(crate) const FREE: u32 = 0;
/// Holds seats, for ever.
pub(crate) const SEATS: u32 = 1;
/// Cut into slots of class 0; this + 1 for class 1, and so on.
pub(crate) const SLAB: u32 = 2;

impl Store {
    /// May one of so many free pages be used for something other than interests?
    ///
    /// Keeps enough pages free for interests when the zone is full. Free slots in the pages that interests
    /// have already count too, and half a page more or less does not matter: so a zone holds the same
    /// number of messages with a few subscribers as without any.
    pub(crate) fn may_spare(&self, free: u32) -> bool {
        let slots = u64::from(Self::slots_of_class(VITAL));
        let there = u64::from(self.header().commons.free_interests.get());
        let needed = u64::from(self.header().reserve.get()) * slots - slots / 2;
        free > 0 && u64::from(free - 1) * slots + there >= needed
    }

    /// Takes a page without a log, while the zone is being made.
    pub(crate) fn take_page_unlogged(&self) -> u32 {
        let commons = &self.header().commons;
        let page = commons.never_used.get();
        self.arena.put32(&commons.never_used, page + 1);
        self.arena.put32(&commons.free_pages, commons.free_pages.get() - 1);
        self.arena.put32(&self.descriptor(page).state, SEATS);
        page
    }
}

impl Section<'_> {
    /// Takes a free page. The caller sets its state and links. `None`: no page is free, or only those
    /// that are kept for what is `vital`.
    pub(crate) fn take_page(&self, vital: bool) -> Option<u32> {
        let commons = self.commons();
        let free = commons.free_pages.get();
        if free == 0 || (!vital && !self.store.may_spare(free)) {
            return None;
        }
        self.set32(&commons.free_pages, free - 1);
        // A page that was used before is better: it takes no more memory of the machine.
        let Some(page) = commons.free_first.get().checked_sub(1) else {
            let page = commons.never_used.get();
            self.set32(&commons.never_used, page + 1);
            return Some(page);
        };
        let descriptor = self.store.descriptor(page);
        assert!(descriptor.state.get() == FREE, "push stream: a page in use is in the free list");
        self.set32(&commons.free_first, descriptor.next.get());
        Some(page)
    }

    /// Takes a page for seats, one that is kept for interests if necessary: a worker without a seat could
    /// never serve anybody, even if others made room again. The page is filled with zeroes.
    pub(crate) fn take_seat_page(&self) -> Option<u32> {
        let page = self.take_page(true)?;
        self.set32(&self.store.descriptor(page).state, SEATS);
        self.set32(&self.store.descriptor(page).next, 0);
        self.store.arena.write_bytes(self.store.page_offset(page), &[0; PAGE]);
        Some(page)
    }

    /// Gives a page back.
    pub(crate) fn give_page(&self, page: u32) {
        let commons = self.commons();
        let descriptor = self.store.descriptor(page);
        self.set32(&descriptor.state, FREE);
        self.set32(&descriptor.next, commons.free_first.get());
        self.set32(&commons.free_first, page + 1);
        self.set32(&commons.free_pages, commons.free_pages.get() + 1);
    }
}
