//! The arena: one block of shared memory, seen by every process, at any address.
//!
//! ```text
//!   base ─► | header | page descriptors | index buckets | page | page | ... |
//! ```
//!
//! Inside it everything is an offset. A [`Handle`] names a record by its distance from the base in
//! units of 16 bytes, so the same value is right in every process. Reading through a handle checks
//! bounds, alignment and the record's kind. A bad handle panics: that undoes the section and fails the
//! request, and leaves the zone whole.
//!
//! All words are atomics, because other processes read some of them without a lock. Every change goes
//! through [`Arena::put32`] and its siblings, so that a test can stop a worker at its k-th store for
//! every k.

use core::marker::PhantomData;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, compiler_fence};

/// Bytes of one page.
pub(crate) const PAGE: usize = 4096;
/// Bytes of one unit of a handle; every record begins at a multiple of it.
pub(crate) const UNIT: usize = 16;

/// A 32-bit word of the arena. Anybody may read it; only the arena writes it.
#[repr(transparent)]
pub(crate) struct W32(AtomicU32);

/// A 64-bit word of the arena.
#[repr(transparent)]
pub(crate) struct W64(AtomicU64);

impl W32 {
    pub(crate) fn get(&self) -> u32 {
        self.0.load(Ordering::Acquire)
    }
}

impl W64 {
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// The word as a time.
    pub(crate) fn time(&self) -> i64 {
        self.get().cast_signed()
    }
}

/// A record type that lives in the arena.
///
/// # Safety
///
/// `#[repr(C)]`, alignment at most [`UNIT`], and only fields for which every bit pattern is valid
/// and which may be read while another process writes them: [`W32`], [`W64`], [`Link`], locks, arrays
/// and structs of those. The first field is the `W32` that holds the kind.
pub(crate) unsafe trait Record {
    /// Tells records of different types apart. It is in the first word while the record lives.
    const KIND: u32;
    /// The bits of the first word that hold the kind. The others are the record's own.
    const KIND_BITS: u32 = u32::MAX;
}

/// Names one record by its offset in units of 16 bytes, never 0. It is checked at each use.
pub(crate) struct Handle<T> {
    unit: u32,
    record: PhantomData<fn() -> T>,
}

impl<T> Clone for Handle<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Handle<T> {}
impl<T> PartialEq for Handle<T> {
    fn eq(&self, other: &Self) -> bool {
        self.unit == other.unit
    }
}
impl<T> Eq for Handle<T> {}
impl<T> core::fmt::Debug for Handle<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "#{:x}", self.unit)
    }
}

impl<T> Handle<T> {
    pub(crate) const fn from_unit(unit: u32) -> Option<Self> {
        if unit == 0 { None } else { Some(Self { unit, record: PhantomData }) }
    }

    pub(crate) const fn unit(self) -> u32 {
        self.unit
    }
}

/// A word that holds a handle, or 0 for none.
#[repr(transparent)]
pub(crate) struct Link<T>(pub(crate) W32, PhantomData<fn() -> T>);

impl<T> Link<T> {
    pub(crate) fn get(&self) -> Option<Handle<T>> {
        Handle::from_unit(self.0.get())
    }
}

/// The bytes of the zone as this process sees them.
pub(crate) struct Arena {
    base: NonNull<u8>,
    len: usize,
    /// For tests and fuzzers: how many stores are left until this worker "dies".
    #[cfg(any(test, fuzzing))]
    pub(crate) fuse: core::cell::Cell<Option<u64>>,
    /// For tests and fuzzers: this worker has "died", and cannot change the arena any more.
    #[cfg(any(test, fuzzing))]
    pub(crate) dead: core::cell::Cell<bool>,
    /// For tests and fuzzers: how many uses of handles are left until one panics.
    #[cfg(any(test, fuzzing))]
    pub(crate) trip: core::cell::Cell<Option<u64>>,
    /// For tests and fuzzers: how many records this worker has looked at.
    #[cfg(any(test, fuzzing))]
    pub(crate) looks: core::cell::Cell<u64>,
}

/// A panic that a test has asked for.
#[cfg(any(test, fuzzing))]
pub(crate) struct Tripped;

/// The panic by which a test's worker "dies".
#[cfg(any(test, fuzzing))]
pub(crate) struct Killed;

impl Arena {
    /// # Safety
    ///
    /// `base..base + len` is mapped readable and writable for as long as the arena lives, `base`
    /// is page aligned, and nothing but arenas touches these bytes.
    pub(crate) const unsafe fn new(base: NonNull<u8>, len: usize) -> Self {
        Self {
            base,
            len,
            #[cfg(any(test, fuzzing))]
            fuse: core::cell::Cell::new(None),
            #[cfg(any(test, fuzzing))]
            dead: core::cell::Cell::new(false),
            #[cfg(any(test, fuzzing))]
            trip: core::cell::Cell::new(None),
            #[cfg(any(test, fuzzing))]
            looks: core::cell::Cell::new(0),
        }
    }

    /// How many bytes it has.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// The record at `offset`. Checks bounds and alignment, but not the kind: this is for records with a
    /// fixed place, and for memory that is about to become a record.
    pub(crate) fn at<T: Record>(&self, offset: usize) -> &T {
        #[cfg(any(test, fuzzing))]
        self.looks.set(self.looks.get() + 1);
        let end = offset.checked_add(size_of::<T>());
        assert!(end.is_some_and(|end| end <= self.len), "push stream: offset outside the zone");
        assert!(offset.is_multiple_of(align_of::<T>()), "push stream: crooked offset in the zone");
        // SAFETY: inside the arena by the check above.
        let place = unsafe { self.base.add(offset) };
        // SAFETY: mapped (see `new`), aligned and in bounds (checked above); `Record` promises
        // that every bit pattern is a `T` of atomics, which may be shared.
        unsafe { place.cast::<T>().as_ref() }
    }

    /// The record behind a handle.
    pub(crate) fn get<T: Record>(&self, handle: Handle<T>) -> &T {
        #[cfg(any(test, fuzzing))]
        self.stumble();
        let record = self.at::<T>(handle.unit as usize * UNIT);
        assert!(self.kind_of(record) == T::KIND, "push stream: stale handle in the zone");
        record
    }

    /// The record at `offset`, if it fits there. Its kind is not checked.
    pub(crate) fn try_at<T: Record>(&self, offset: usize) -> Option<&T> {
        let fits = offset.checked_add(size_of::<T>()).is_some_and(|end| end <= self.len);
        (fits && offset.is_multiple_of(UNIT)).then(|| self.at::<T>(offset))
    }

    /// The kind of a record, in its first word.
    pub(crate) fn kind_of<T: Record>(&self, record: &T) -> u32 {
        self.kind_word(record).get() & T::KIND_BITS
    }

    /// The word that holds the kind of a record.
    pub(crate) fn kind_word<'a, T: Record>(&self, record: &'a T) -> &'a W32 {
        // SAFETY: `Record` promises that its first field is a `W32`.
        unsafe { NonNull::from(record).cast::<W32>().as_ref() }
    }

    /// The distance of anything in the arena from its base, in bytes.
    pub(crate) fn offset_of<T>(&self, thing: &T) -> usize {
        let offset = (&raw const *thing).addr().wrapping_sub(self.base.addr().get());
        assert!(offset < self.len, "push stream: word outside the zone");
        offset
    }

    /// A 32-bit word by its offset, for the undo log.
    pub(crate) fn word32(&self, offset: usize) -> &W32 {
        assert!(offset.is_multiple_of(4) && offset + 4 <= self.len, "push stream: torn undo log");
        // SAFETY: inside the arena by the check above.
        let place = unsafe { self.base.add(offset) };
        // SAFETY: mapped, aligned, in bounds; an atomic has no invalid bits.
        unsafe { place.cast::<W32>().as_ref() }
    }

    /// A 64-bit word by its offset, for the undo log.
    pub(crate) fn word64(&self, offset: usize) -> &W64 {
        assert!(offset.is_multiple_of(8) && offset + 8 <= self.len, "push stream: torn undo log");
        // SAFETY: inside the arena by the check above.
        let place = unsafe { self.base.add(offset) };
        // SAFETY: mapped, aligned, in bounds; an atomic has no invalid bits.
        unsafe { place.cast::<W64>().as_ref() }
    }

    /// Stores a word, without a log. All earlier stores of the program are in memory before it.
    pub(crate) fn put32(&self, word: &W32, value: u32) {
        if self.burn() {
            compiler_fence(Ordering::SeqCst);
            word.0.store(value, Ordering::Release);
            compiler_fence(Ordering::SeqCst);
        }
    }

    /// As [`Arena::put32`], for 64 bits.
    pub(crate) fn put64(&self, word: &W64, value: u64) {
        if self.burn() {
            compiler_fence(Ordering::SeqCst);
            word.0.store(value, Ordering::Release);
            compiler_fence(Ordering::SeqCst);
        }
    }

    /// Stores a link, without a log: for records that nobody else can see yet.
    pub(crate) fn put_link<T>(&self, link: &Link<T>, to: Option<Handle<T>>) {
        self.put32(&link.0, to.map_or(0, Handle::unit));
    }

    /// Sets a flag and answers its old value, for words that no section covers.
    pub(crate) fn swap32(&self, word: &W32, value: u32) -> u32 {
        if self.burn() { word.0.swap(value, Ordering::SeqCst) } else { value }
    }

    /// Copies `bytes` to `offset`, into a block that nobody else can see yet.
    pub(crate) fn write_bytes(&self, offset: usize, bytes: &[u8]) {
        let end = offset.checked_add(bytes.len());
        assert!(end.is_some_and(|end| end <= self.len), "push stream: bytes outside the zone");
        if !self.burn() {
            return;
        }
        // SAFETY: inside the arena by the check above.
        let place = unsafe { self.base.add(offset) };
        // SAFETY: `place` has room for all of `bytes` (checked), which lie outside the arena, so
        // the two cannot overlap; the block is this worker's own until it is linked.
        unsafe { place.as_ptr().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) }
    }

    /// Appends the `len` bytes at `offset` to `out`.
    pub(crate) fn read_bytes(&self, offset: usize, len: usize, out: &mut Vec<u8>) {
        let end = offset.checked_add(len);
        assert!(end.is_some_and(|end| end <= self.len), "push stream: bytes outside the zone");
        // SAFETY: inside the arena by the check above.
        let place = unsafe { self.base.add(offset) };
        // SAFETY: mapped and in bounds (checked); these are contents of a linked record, which
        // are immutable until it is freed, and it is pinned by the reader.
        let bytes = unsafe { core::slice::from_raw_parts(place.as_ptr(), len) };
        out.extend_from_slice(bytes);
    }

    /// Are the `bytes.len()` bytes at `offset` equal to `bytes`?
    pub(crate) fn bytes_are(&self, offset: usize, bytes: &[u8]) -> bool {
        let end = offset.checked_add(bytes.len());
        assert!(end.is_some_and(|end| end <= self.len), "push stream: bytes outside the zone");
        // SAFETY: inside the arena by the check above.
        let place = unsafe { self.base.add(offset) };
        // SAFETY: as in `read_bytes`.
        let ours = unsafe { core::slice::from_raw_parts(place.as_ptr(), bytes.len()) };
        ours == bytes
    }

    /// Is the memory still as the system has mapped it, all zeroes? Looks at both ends only: if somebody
    /// has filled it, then from one end to the other.
    pub(crate) fn is_blank(&self) -> bool {
        let last = self.len - size_of::<u64>();
        self.word64(0).get() == 0 && self.word64(last).get() == 0
    }

    /// Fills the arena with zeroes, while the zone is being made.
    pub(crate) fn clear(&self) {
        // SAFETY: the whole arena is ours while it is being made.
        unsafe { self.base.as_ptr().write_bytes(0, self.len) }
    }

    /// Panics where a test wants it, as a bad handle does.
    #[cfg(any(test, fuzzing))]
    fn stumble(&self) {
        match self.trip.get() {
            Some(0) => {
                self.trip.set(None);
                std::panic::resume_unwind(Box::new(Tripped)); // No panic message.
            }
            left => self.trip.set(left.map(|left| left - 1)),
        }
    }

    /// May this store happen? In tests the fuse decides: at its end it "kills" the worker.
    #[cfg(any(test, fuzzing))]
    fn burn(&self) -> bool {
        if self.dead.get() {
            return false;
        }
        match self.fuse.get() {
            Some(0) => {
                self.dead.set(true);
                std::panic::resume_unwind(Box::new(Killed)); // No panic message.
            }
            Some(left) => self.fuse.set(Some(left - 1)),
            None => {}
        }
        true
    }

    #[cfg(not(any(test, fuzzing)))]
    #[expect(clippy::unused_self, reason = "the test build looks at its fuse here")]
    const fn burn(&self) -> bool {
        true
    }

    /// Has this worker "died" in a test? Always false otherwise.
    pub(crate) fn is_dead(&self) -> bool {
        #[cfg(any(test, fuzzing))]
        return self.dead.get();
        #[cfg(not(any(test, fuzzing)))]
        return false;
    }
}
