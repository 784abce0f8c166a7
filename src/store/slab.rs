//! The slab: pages cut into slots of one size class each.
//!
//! The free slots of a page are the bits of one word, so a page has at most 64 slots. The pages of a
//! class that have a free slot are in a list. A page whose slots are all free is given back at once.
//! Slots are never split or merged, and nothing needs adjacent ones, so free memory never becomes
//! unusable: a record that does not fit one slot is a chain of [`Block`]s of any size.

use crate::store::arena::{Handle, Link, PAGE, Record, UNIT, W32, W64};
use crate::store::channel::Channel;
use crate::store::interest::Interest;
use crate::store::pages::SLAB;
use crate::store::undo::Section;
use crate::store::zone::Store;

/// Slot sizes, ascending. Class 0 is for interests only: some pages are kept for them, and messages
/// must not fill those. Each size is a multiple of 16, and as large as its number of slots to a page
/// allows.
const SIZES: [usize; CLASSES] = [
    64, 80, 96, 112, 128, 144, 160, 176, 192, 208, 224, 240, 256, 272, 288, 304, 336, 368, 400,
    448, 512, 576, 672, 816, 1024, 1360, 2048, 4096,
];
/// Number of size classes.
pub(crate) const CLASSES: usize = 28;
/// The interests' class.
pub(crate) const VITAL: usize = 0;
/// The smallest class for everything else.
const ORDINARY: usize = 1;

/// A piece of a record that does not fit one slot.
#[repr(C)]
pub(crate) struct Block {
    kind: W32,
    /// Bytes of the slot, this head included.
    pub(crate) size: W32,
    pub(crate) next: Link<Block>,
    _spare: W32,
}

// SAFETY: `repr(C)`, words only, kind first.
unsafe impl Record for Block {
    const KIND: u32 = u32::from_le_bytes(*b"blok");
}

/// Bytes of a block that are not content.
pub(crate) const BLOCK_HEAD: usize = size_of::<Block>();
/// The size of the largest slot.
pub(crate) const SLOT_MAX: usize = PAGE;

/// A slot that was just taken. Nobody else knows it yet.
#[derive(Clone, Copy)]
pub(crate) struct Slot {
    offset: usize,
    /// How many bytes it has.
    pub(crate) size: usize,
    /// Its size class.
    pub(crate) class: usize,
}

impl Slot {
    /// Where it begins.
    pub(crate) const fn offset(self) -> usize {
        self.offset
    }

    /// The slot as a record of type `T`. The caller fills it in.
    pub(crate) fn cast<T: Record>(self) -> Handle<T> {
        debug_assert!(size_of::<T>() <= self.size, "a record fits its slot");
        let unit = u32::try_from(self.offset / UNIT).expect("inside the arena");
        Handle::from_unit(unit).expect("never the first byte")
    }
}

impl Store {
    /// The bytes of a slot of this class.
    pub(crate) fn size_of_class(class: usize) -> usize {
        SIZES.get(class).copied().unwrap_or(SLOT_MAX)
    }

    /// How many slots a page of this class has.
    pub(crate) fn slots_of_class(class: usize) -> u32 {
        u32::try_from(PAGE / Self::size_of_class(class)).unwrap_or(1)
    }

    /// The bits of a page of this class when all its slots are free.
    pub(crate) fn all_free(class: usize) -> u64 {
        u64::MAX >> (64 - Self::slots_of_class(class))
    }

    /// Bytes of the slot of a record.
    pub(crate) fn size_of_slot<T: Record>(&self, handle: Handle<T>) -> u64 {
        let place = self.slot_at(handle.unit() as usize * UNIT);
        let (_, _, class) = place.expect("push stream: a record outside of all slots");
        SIZES[class] as u64
    }

    /// The page, the number in it, and the class of the slot that begins at this offset.
    pub(crate) fn slot_at(&self, offset: usize) -> Option<(u32, u32, usize)> {
        let first = self.page_offset(0);
        let inside = offset.checked_sub(first)?;
        let page = u32::try_from(inside / PAGE).ok()?;
        if page >= self.header().pages.get() {
            return None;
        }
        let class = self.descriptor(page).state.get().checked_sub(SLAB)? as usize;
        let size = *SIZES.get(class)?;
        let within = inside % PAGE;
        let slot = u32::try_from(within / size).ok()?;
        (within.is_multiple_of(size) && slot < Self::slots_of_class(class))
            .then_some((page, slot, class))
    }
}

impl Section<'_> {
    /// Takes a slot for an interest, from a page that is kept for interests if necessary.
    pub(crate) fn take_vital(&self, size: usize) -> Option<Slot> {
        debug_assert!(size <= SIZES[VITAL], "interests have a class of their own");
        let slot = self.take_of_class(VITAL, true)?;
        Some(self.used(&self.commons().used_by_interests, slot))
    }

    /// Takes a slot for a channel of `size` bytes, which is at most [`SLOT_MAX`].
    pub(crate) fn take_for_channel(&self, size: usize) -> Option<Slot> {
        let slot = self.take(size)?;
        Some(self.used(&self.commons().used_by_channels, slot))
    }

    fn take(&self, size: usize) -> Option<Slot> {
        let class = class_for(size)?;
        self.take_of_class(class, false).or_else(|| {
            // There is no page: any larger slot will do.
            (class + 1..CLASSES).find_map(|larger| self.take_partial(larger))
        })
    }

    /// Takes a slot for a message or a part of one, which can go on in another slot: of `wish` bytes or more if
    /// possible, otherwise the largest one, of at least `least` bytes.
    pub(crate) fn take_some(&self, least: usize, wish: usize) -> Option<Slot> {
        let smallest = class_for(least)?;
        let slot = self
            .take(wish.min(SLOT_MAX).max(least))
            .or_else(|| (smallest..CLASSES).rev().find_map(|class| self.take_partial(class)))?;
        Some(self.used(&self.commons().used_by_messages, slot))
    }

    /// Counts the bytes of a slot that was taken.
    fn used(&self, by: &W64, slot: Slot) -> Slot {
        self.add(by, slot.size as u64);
        slot
    }

    fn take_of_class(&self, class: usize, vital: bool) -> Option<Slot> {
        if let Some(slot) = self.take_partial(class) {
            return Some(slot);
        }
        let page = self.take_page(vital)?;
        let descriptor = self.store.descriptor(page);
        self.set32(&descriptor.state, SLAB + u32::try_from(class).ok()?);
        self.set64(&descriptor.free, Store::all_free(class) & !1);
        self.set32(&descriptor.next, 0);
        self.set32(&descriptor.prev, 0);
        self.count_free(class, i64::from(Store::slots_of_class(class)) - 1);
        self.add(&self.commons().page_ends, end_of_page(class));
        if Store::slots_of_class(class) > 1 {
            self.push_partial(class, page);
        }
        Some(Slot { offset: self.store.page_offset(page), size: SIZES[class], class })
    }

    /// Takes a slot in a page that has this class already.
    fn take_partial(&self, class: usize) -> Option<Slot> {
        let page = self.commons().partial[class].get().checked_sub(1)?;
        let descriptor = self.store.descriptor(page);
        let free = descriptor.free.get();
        assert!(
            descriptor.state.get() as usize == SLAB as usize + class && free != 0,
            "push stream: a page is in the wrong list"
        );
        let slot = free.trailing_zeros();
        let left = free & (free - 1);
        self.set64(&descriptor.free, left);
        self.count_free(class, -1);
        if left == 0 {
            self.unlink_partial(class, page);
        }
        let size = SIZES[class];
        Some(Slot { offset: self.store.page_offset(page) + slot as usize * size, size, class })
    }

    /// Gives the slot of a record back. Its kind is wiped, so that no stale handle finds it.
    pub(crate) fn give<T: Record>(&self, handle: Handle<T>) {
        let record = self.get(handle);
        self.set32(self.store.arena.kind_word(record), 0);
        let offset = handle.unit() as usize * UNIT;
        let place = self.store.slot_at(offset);
        let (page, slot, class) = place.expect("push stream: a record outside of all slots");
        let descriptor = self.store.descriptor(page);
        let old = descriptor.free.get();
        let free = old | 1 << slot;
        assert!(free != old, "push stream: a slot is freed twice");
        let commons = self.commons();
        let used = match T::KIND {
            Channel::KIND => &commons.used_by_channels,
            Interest::KIND => &commons.used_by_interests,
            _ => &commons.used_by_messages,
        };
        self.sub(used, SIZES[class] as u64);
        let all = Store::all_free(class);
        if free == all {
            if old != 0 {
                self.unlink_partial(class, page);
            }
            self.set64(&descriptor.free, 0);
            self.sub(&self.commons().page_ends, end_of_page(class));
            self.count_free(class, 1 - i64::from(Store::slots_of_class(class)));
            self.give_page(page);
        } else {
            self.set64(&descriptor.free, free);
            self.count_free(class, 1);
            if old == 0 {
                self.push_partial(class, page);
            }
        }
    }

    /// Counts the free slots of the interests' class.
    fn count_free(&self, class: usize, more: i64) {
        if class == VITAL {
            let count = &self.commons().free_interests;
            let free = i64::from(count.get()) + more;
            self.set32(count, u32::try_from(free).expect("free slots are counted right"));
        }
    }

    fn push_partial(&self, class: usize, page: u32) {
        let head = &self.commons().partial[class];
        let descriptor = self.store.descriptor(page);
        let old = head.get();
        self.set32(&descriptor.next, old);
        self.set32(&descriptor.prev, 0);
        if let Some(old) = old.checked_sub(1) {
            self.set32(&self.store.descriptor(old).prev, page + 1);
        }
        self.set32(head, page + 1);
    }

    fn unlink_partial(&self, class: usize, page: u32) {
        let descriptor = self.store.descriptor(page);
        let (next, prev) = (descriptor.next.get(), descriptor.prev.get());
        match prev.checked_sub(1) {
            Some(prev) => self.set32(&self.store.descriptor(prev).next, next),
            None => self.set32(&self.commons().partial[class], next),
        }
        if let Some(next) = next.checked_sub(1) {
            self.set32(&self.store.descriptor(next).prev, prev);
        }
        self.set32(&descriptor.next, 0);
        self.set32(&descriptor.prev, 0);
    }
}

/// Bytes at the end of a page of this class that are too few for a slot.
fn end_of_page(class: usize) -> u64 {
    (PAGE % SIZES[class]) as u64
}

/// The smallest ordinary class that holds `size` bytes.
fn class_for(size: usize) -> Option<usize> {
    (ORDINARY..CLASSES).find(|class| SIZES[*class] >= size)
}
