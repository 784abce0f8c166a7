//! The zone's image: its layout, and how a process makes and opens it.
//!
//! ```text
//!   0            header: magic, version, sizes, commons, shards, directory of seats
//!   buckets      one link each: the index of channels
//!   occupied     bits: which buckets are not empty
//!   former       one word each: what channels that were removed have lost
//!   descriptors  one a page
//!   first_page   pages, from here to the end
//! ```
//!
//! New memory is filled with zeroes, and zeroes are right nearly everywhere: they mean an empty bucket,
//! no occupied bucket, a page that was never used. So making a zone writes the header and the seats, and
//! nothing that grows with the zone.

use core::cell::Cell;
use core::fmt;
#[cfg(test)]
use core::mem::offset_of;
use core::ptr::NonNull;

use crate::model::{Now, Seconds};
use crate::store::arena::{Arena, Link, PAGE, Record, UNIT, W32, W64};
use crate::store::channel::Channel;
use crate::store::counters::{COUNTERS_SIZE, Counters};
use crate::store::expiry::{EXPIRY_QUEUES, ExpiryQueue};
use crate::store::lock::{LockCell, Locking};
use crate::store::message::Message;
use crate::store::occupied::Shape;
use crate::store::pages::{DESCRIPTOR_SIZE, Descriptor};
use crate::store::slab::CLASSES;
use crate::store::undo::{SEAT_SIZE, Seat};

/// Channels are spread over so many shards by a hash of the id. A power of two; 1 works too.
pub(crate) const SHARDS: usize = 8;
/// Seats to a page.
const SEATS_PER_PAGE: usize = PAGE / SEAT_SIZE;
/// At most so many pages hold seats: room for 1,026 processes; nginx has at most 1,024.
const SEAT_PAGES_MAX: usize = 342;
/// The index has a bucket for each so many bytes of the zone. The smallest channel takes 96 bytes. More
/// buckets would be shorter, but channels would also touch more pages of the index.
const BYTES_PER_BUCKET: usize = 1024;
/// What removed channels have lost is kept in a word for each so many bytes of the zone, and in this many at
/// least. Channels whose ids share a word share what is known about them.
const BYTES_PER_FORMER: usize = 64 * 1024;
const FORMER_MIN: usize = 64;
const _: () = assert!(FORMER_MIN.is_multiple_of(SHARDS) && FORMER_MIN.is_power_of_two());
/// The smallest arena: header, seats for a few workers, and some pages of messages.
const LEN_MIN: usize = 16 * PAGE;

/// So many pages at least are kept for interests: more seats need two of them, one for their counters.
const RESERVE_MIN: usize = 2;

/// Times may lie so many seconds before the zone was made, some eight years: the clock may be set back.
const SECONDS_BEFORE: Seconds = 1 << 28;

const MAGIC: u64 = u64::from_le_bytes(*b"pushstrm");
/// Goes up when the meaning of any byte changes.
const VERSION: u32 = 7;

/// The first bytes of the zone.
#[repr(C)]
pub(crate) struct Header {
    kind: W32,
    version: W32,
    magic: W64,
    /// A number made of the sizes of all records: an image of another build is refused.
    layout: W64,
    len: W64,
    buckets_at: W32,
    pub(crate) buckets: W32,
    pub(crate) occupied_at: W32,
    former_at: W32,
    /// A power of two; each shard has a run of them.
    pub(crate) former: W32,
    descriptors_at: W32,
    pub(crate) pages: W32,
    /// Number of the first page, counted from the base.
    pub(crate) first_page: W32,
    /// Pages that are kept for interests, so that the number of messages that fit does not depend on the
    /// number of subscribers. See `Store::may_spare`.
    pub(crate) reserve: W32,
    hash_key: [W64; 2],
    /// Tells this zone from all others: see [`Store::life`].
    life: W64,
    pub(crate) created: W64,
    /// When it was made, by the steady clock.
    created_steady: W64,
    /// Held while a dead worker's log is rolled back.
    pub(crate) recovery: LockCell,
    /// Held by the worker that does the shared part of a tick.
    pub(crate) sweeping: LockCell,
    /// Process id of that worker, for those that wait for it.
    pub(crate) sweeper: W32,
    _spare: W32,
    /// What the previous scrape of the metrics took, in microseconds. Any worker may write it.
    pub(crate) scrape_usec: W64,
    pub(crate) commons: Commons,
    pub(crate) shards: [Shard; SHARDS],
    /// Pages that hold seats, as numbers counted from the base; 0 = none.
    seat_pages: [W32; SEAT_PAGES_MAX],
    /// The page with the counters of the seats in the page of the same number.
    counters_pages: [W32; SEAT_PAGES_MAX],
}

// SAFETY: `repr(C)`, words, links and locks only, kind first.
unsafe impl Record for Header {
    const KIND: u32 = u32::from_le_bytes(*b"zone");
}

/// The part of the zone that all shards share. It has one lock.
#[repr(C)]
pub(crate) struct Commons {
    pub(crate) lock: LockCell,
    /// The first page in the list of free ones: its number + 1.
    pub(crate) free_first: W32,
    /// How many pages are free, in the list or never used.
    pub(crate) free_pages: W32,
    /// The pages from this one to the last were never used. They are free, in no list, and nothing was
    /// ever written to them or their descriptors.
    pub(crate) never_used: W32,
    /// How many slots are free in the pages of interests.
    pub(crate) free_interests: W32,
    /// For each size class, the first page with a free slot: its number + 1.
    pub(crate) partial: [W32; CLASSES],
    /// Time and tag of the newest message of the zone.
    pub(crate) time: W64,
    pub(crate) tag: W64,
    /// How many channels were ever created.
    pub(crate) created: W64,
    pub(crate) channels: W64,
    pub(crate) wildcard_channels: W64,
    /// How many messages are discarded and not freed, including those that are still being read.
    pub(crate) messages_in_trash: W64,
    pub(crate) channels_in_trash: W64,
    /// The trash, first in, first out. Messages are linked by `next`, channels by `hash_next`.
    pub(crate) trash_first: Link<Message>,
    pub(crate) trash_last: Link<Message>,
    pub(crate) trash_channel_first: Link<Channel>,
    pub(crate) trash_channel_last: Link<Channel>,
    /// Bytes of the slots in use, those in the trash included.
    pub(crate) used_by_messages: W64,
    pub(crate) used_by_channels: W64,
    pub(crate) used_by_interests: W64,
    /// Bytes of the slots that messages and channels in the trash have.
    pub(crate) trash_bytes: W64,
    pub(crate) trash_channel_bytes: W64,
    /// Bytes at the ends of pages, too few for a slot.
    pub(crate) page_ends: W64,
    /// Workers that have died without leaving their seat.
    pub(crate) worker_deaths: W64,
    /// The events channel, if there is one.
    pub(crate) events: Link<Channel>,
}

/// The channels whose ids hash to this shard. It has one lock.
#[repr(C)]
pub(crate) struct Shard {
    pub(crate) lock: LockCell,
    /// Messages published, the events channel's excluded.
    pub(crate) published: W64,
    /// Messages stored, the events channel's excluded.
    pub(crate) stored: W64,
    pub(crate) channels_in_delete: W64,
    /// Channels that may be idle, the least recently active first.
    pub(crate) idle_first: Link<Channel>,
    pub(crate) idle_last: Link<Channel>,
    /// Deleted channels that nobody reads any more, linked by `hash_next`. The next tick drains them.
    /// (A deleted channel that is still being read is found through its interests.)
    pub(crate) deleted: Link<Channel>,
    /// Channels with news of which not all workers are told yet, linked by `untold_next`.
    pub(crate) untold: Link<Channel>,
    /// How many messages of its channels went before an older one: see [`Section::holes`].
    ///
    /// [`Section::holes`]: crate::store::undo::Section::holes
    pub(crate) holes: W64,
    /// Stored messages in the order of expiry, one queue for each time to live.
    pub(crate) expiry: [ExpiryQueue; EXPIRY_QUEUES],
}

/// A bucket of the index.
#[repr(C)]
pub(crate) struct Bucket {
    pub(crate) first: Link<Channel>,
}

// SAFETY: `repr(transparent)`-like, one word.
unsafe impl Record for Bucket {
    const KIND: u32 = 0;
}

/// What channels that were removed have lost.
#[repr(C)]
pub(crate) struct Former {
    /// Time and tag of the newest message of all of them, as in a channel's record; 0 = none.
    pub(crate) lost: W64,
}

// SAFETY: `repr(C)`, one word; it has no kind, it is part of a table.
unsafe impl Record for Former {
    const KIND: u32 = 0;
}

/// Why an arena cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageError {
    /// Smaller than the smallest arena, or larger than handles can reach (64 GiB).
    Size,
    /// The bytes are not a zone.
    NotAZone,
    /// Another build of this module made the zone.
    OtherVersion,
    /// No seat of this number.
    NoSeat,
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Size => "its size is out of range",
            Self::NotAZone => "it does not hold a zone",
            Self::OtherVersion => "another version of the module made it",
            Self::NoSeat => "it has no seat for this process",
        })
    }
}

/// One process's view of the zone.
pub struct Store {
    pub(crate) arena: Arena,
    pub(crate) locking: Locking,
    /// Number of our seat.
    pub(crate) seat: u32,
    /// A section is open. A second one would wait for its lock for ever.
    pub(crate) in_section: Cell<bool>,
    hash_key: [u64; 2],
    life: u64,
    /// The second before the one that the word 1 means: see [`Store::seconds`].
    epoch: Seconds,
    /// The same for the steady clock: see [`Store::steady`].
    steady_epoch: Seconds,
    /// For tests: what others do at the end of each section.
    #[cfg(any(test, fuzzing))]
    pub(crate) between: Between,
    /// For tests and fuzzers: how many sections are left until this worker "dies", without a lock.
    #[cfg(any(test, fuzzing))]
    pub(crate) sections_left: Cell<Option<u64>>,
    /// For tests and fuzzers: records looked at before the last section, and in the longest one so far.
    #[cfg(any(test, fuzzing))]
    pub(crate) looks_before: Cell<u64>,
    #[cfg(any(test, fuzzing))]
    pub(crate) longest_section: Cell<u64>,
}

/// A test's hook between two sections of a worker, in which others work.
#[cfg(any(test, fuzzing))]
#[derive(Default)]
pub(crate) struct Between(core::cell::RefCell<Option<Box<dyn FnMut()>>>);

#[cfg(any(test, fuzzing))]
impl Between {
    #[cfg(test)]
    pub(crate) fn set(&self, act: impl FnMut() + 'static) {
        *self.0.borrow_mut() = Some(Box::new(act));
    }

    #[cfg(test)]
    pub(crate) fn clear(&self) {
        *self.0.borrow_mut() = None;
    }

    pub(crate) fn act(&self) {
        let Some(mut act) = self.0.borrow_mut().take() else { return };
        act();
        self.0.borrow_mut().get_or_insert(act);
    }
}

impl Store {
    /// Makes an empty zone of the `len` bytes at `base`, with room for at least `seats` processes. Call it
    /// once, before any other process uses the memory. `hash_key` should be random, and `life` a random number
    /// of its own: clients are told it.
    ///
    /// # Errors
    ///
    /// [`ImageError::Size`]; nothing was written then.
    ///
    /// # Safety
    ///
    /// `base..base + len` is page aligned memory, shared by all processes that will open it, mapped for
    /// as long as they live, and nobody else uses it. It is as the system has mapped it, all zeroes; or
    /// somebody has filled all of it, which costs writing it once more.
    pub unsafe fn create(
        base: NonNull<u8>,
        len: usize,
        seats: u32,
        hash_key: [u8; 16],
        life: u64,
        now: Now,
    ) -> Result<(), ImageError> {
        // SAFETY: the caller's promise.
        unsafe { Self::create_with(base, len, seats, hash_key, life, now, Locking::Robust) }
    }

    /// Makes room for more processes, if there is memory. The master calls it at each reload.
    ///
    /// # Errors
    ///
    /// The image is not usable, or has no memory for so many.
    ///
    /// # Safety
    ///
    /// As [`Store::create`]; the bytes may be anything, but no other process has the master's seat.
    pub unsafe fn grow_seats(base: NonNull<u8>, len: usize, seats: u32) -> Result<(), ImageError> {
        // SAFETY: the caller's promise.
        let store = unsafe { Self::open_with(base, len, MASTER, Locking::Robust) }?;
        store.add_seats(seats)
    }

    /// Checks the image, and binds this process to the seat of nginx's process slot `seat`.
    ///
    /// # Errors
    ///
    /// The image is not usable, or has no such seat.
    ///
    /// # Safety
    ///
    /// As [`Store::create`]; no other live process is bound to this seat.
    pub unsafe fn open(base: NonNull<u8>, len: usize, seat: u32) -> Result<Self, ImageError> {
        // Seat 0 is the master's: see `MASTER`.
        let seat = seat.checked_add(1).ok_or(ImageError::NoSeat)?;
        // SAFETY: the caller's promise.
        unsafe { Self::open_with(base, len, seat, Locking::Robust) }
    }

    /// # Safety
    ///
    /// As [`Store::create`].
    pub(crate) unsafe fn create_with(
        base: NonNull<u8>,
        len: usize,
        seats: u32,
        hash_key: [u8; 16],
        life: u64,
        now: Now,
        locking: Locking,
    ) -> Result<(), ImageError> {
        let len = len & !(PAGE - 1);
        if len < LEN_MIN || len / UNIT > u32::MAX as usize {
            return Err(ImageError::Size);
        }
        // SAFETY: the caller's promise.
        let arena = unsafe { Arena::new(base, len) };
        if !arena.is_blank() {
            // nginx fills new memory if it was built for that kind of debugging.
            arena.clear();
        }
        let plan = Plan::of(len);
        let key = split_key(hash_key);
        let header = arena.at::<Header>(0);
        for (word, value) in [
            (&header.kind, Header::KIND),
            (&header.version, VERSION),
            (&header.buckets_at, word(plan.buckets_at)),
            (&header.buckets, word(plan.buckets)),
            (&header.occupied_at, word(plan.occupied_at)),
            (&header.former_at, word(plan.former_at)),
            (&header.former, word(plan.former)),
            (&header.descriptors_at, word(plan.descriptors_at)),
            (&header.pages, word(plan.pages)),
            (&header.first_page, word(plan.first_page)),
            (&header.reserve, word((plan.pages / 128).max(RESERVE_MIN))),
            (&header.commons.free_pages, word(plan.pages)),
        ] {
            arena.put32(word, value);
        }
        for (word, value) in [
            (&header.layout, layout()),
            (&header.len, len as u64),
            (&header.created, now.wall.cast_unsigned()),
            (&header.created_steady, now.steady.cast_unsigned()),
            (&header.hash_key[0], key[0]),
            (&header.hash_key[1], key[1]),
            // 0 is no zone's.
            (&header.life, life.max(1)),
        ] {
            arena.put64(word, value);
        }
        header.recovery.make(locking);
        header.sweeping.make(locking);
        header.commons.lock.make(locking);
        for shard in &header.shards {
            shard.lock.make(locking);
        }
        let store = Self::new(arena, locking, MASTER, key, now);
        store.make_seat_page();
        // A worker without a seat says so.
        let _ = store.add_seats(seats);
        // This is written last: an image without its magic is not a zone.
        store.arena.put64(&store.header().magic, MAGIC);
        Ok(())
    }

    /// # Safety
    ///
    /// As [`Store::open`].
    pub(crate) unsafe fn open_with(
        base: NonNull<u8>,
        len: usize,
        seat: u32,
        locking: Locking,
    ) -> Result<Self, ImageError> {
        let len = len & !(PAGE - 1);
        if len < LEN_MIN || len / UNIT > u32::MAX as usize {
            return Err(ImageError::Size);
        }
        // SAFETY: the caller's promise.
        let arena = unsafe { Arena::new(base, len) };
        let header = arena.at::<Header>(0);
        if header.magic.get() != MAGIC || header.kind.get() != Header::KIND {
            return Err(ImageError::NotAZone);
        }
        if header.version.get() != VERSION || header.layout.get() != layout() {
            return Err(ImageError::OtherVersion);
        }
        let plan = Plan::of(len);
        let same = header.len.get() == len as u64
            && header.buckets_at.get() == word(plan.buckets_at)
            && header.buckets.get() == word(plan.buckets)
            && header.occupied_at.get() == word(plan.occupied_at)
            && header.former_at.get() == word(plan.former_at)
            && header.former.get() == word(plan.former)
            && header.descriptors_at.get() == word(plan.descriptors_at)
            && header.pages.get() == word(plan.pages)
            && header.first_page.get() == word(plan.first_page)
            && header.life.get() != 0;
        if !same {
            return Err(ImageError::NotAZone);
        }
        let hash_key = [header.hash_key[0].get(), header.hash_key[1].get()];
        let created = Now { wall: header.created.time(), steady: header.created_steady.time() };
        let store = Self::new(arena, locking, seat, hash_key, created);
        if store.seat_at(seat).is_none() {
            return Err(ImageError::NoSeat);
        }
        Ok(store)
    }

    /// A section begins: what it looks at will be counted.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn section_begins(&self) {
        self.looks_before.set(self.arena.looks.get());
    }

    /// A section has ended: others may work now, or this worker "dies".
    #[cfg(any(test, fuzzing))]
    pub(crate) fn section_ended(&self) {
        let looks = self.arena.looks.get() - self.looks_before.get();
        self.longest_section.set(self.longest_section.get().max(looks));
        if std::thread::panicking() {
            return;
        }
        self.between.act();
        match self.sections_left.get() {
            Some(0) => {
                self.arena.dead.set(true);
                std::panic::resume_unwind(Box::new(crate::store::arena::Killed));
            }
            left => self.sections_left.set(left.map(|left| left - 1)),
        }
    }

    fn new(arena: Arena, locking: Locking, seat: u32, hash_key: [u64; 2], created: Now) -> Self {
        let life = arena.at::<Header>(0).life.get();
        Self {
            arena,
            locking,
            seat,
            in_section: Cell::new(false),
            hash_key,
            life,
            epoch: created.wall.saturating_sub(SECONDS_BEFORE),
            steady_epoch: created.steady.saturating_sub(SECONDS_BEFORE),
            #[cfg(any(test, fuzzing))]
            between: Between::default(),
            #[cfg(any(test, fuzzing))]
            sections_left: Cell::new(None),
            #[cfg(any(test, fuzzing))]
            looks_before: Cell::new(0),
            #[cfg(any(test, fuzzing))]
            longest_section: Cell::new(0),
        }
    }

    /// The first bytes of the zone.
    pub(crate) fn header(&self) -> &Header {
        self.arena.at::<Header>(0)
    }

    /// A random number that was made with the zone. It tells a client whether places that it knows are
    /// places in this zone.
    pub(crate) const fn life(&self) -> u64 {
        self.life
    }

    /// The key of the index's hash.
    pub(crate) const fn hash_key(&self) -> [u64; 2] {
        self.hash_key
    }

    /// The time in a word of 32 bits, which counts from some years before the zone was made; 0 = none.
    pub(crate) fn seconds(&self, word: &W32) -> Seconds {
        self.seconds_of(word.get())
    }

    /// The same for the value of a word.
    pub(crate) fn seconds_of(&self, value: u32) -> Seconds {
        match value {
            0 => 0,
            since => self.epoch.saturating_add(Seconds::from(since)),
        }
    }

    /// The time by the steady clock in such a word.
    pub(crate) fn steady(&self, word: &W32) -> Seconds {
        self.steady_epoch.saturating_add(Seconds::from(word.get()))
    }

    /// The word for a time. One that is out of range, 127 years after the zone was made or later, becomes
    /// the last one.
    pub(crate) fn short(&self, time: Seconds) -> u32 {
        word_of(time.saturating_sub(self.epoch))
    }

    /// The same for a time by the steady clock.
    pub(crate) fn short_steady(&self, time: Seconds) -> u32 {
        word_of(time.saturating_sub(self.steady_epoch))
    }

    /// The time, or the nearest one that a word can hold.
    pub(crate) fn in_range(&self, time: Seconds) -> Seconds {
        self.epoch.saturating_add(Seconds::from(self.short(time)))
    }

    /// When the zone was made, by the steady clock.
    pub(crate) fn created(&self) -> Seconds {
        self.header().created_steady.time()
    }

    /// The seat of this process.
    pub(crate) fn my_seat(&self) -> &Seat {
        self.seat_at(self.seat).expect("`open` has checked it")
    }

    /// All seats there are, with their numbers.
    pub(crate) fn seats(&self) -> impl Iterator<Item = (u32, &Seat)> {
        let seats = u32::try_from(self.seat_pages() * SEATS_PER_PAGE).unwrap_or(0);
        (0..seats).filter_map(|number| self.seat_at(number).map(|seat| (number, seat)))
    }

    /// How many pages hold seats; as many hold their counters.
    pub(crate) fn seat_pages(&self) -> usize {
        self.header().seat_pages.iter().take_while(|page| page.get() != 0).count()
    }

    /// The seat of this number.
    pub(crate) fn seat_at(&self, number: u32) -> Option<&Seat> {
        let number = number as usize;
        let page = self.header().seat_pages.get(number / SEATS_PER_PAGE)?.get() as usize;
        if page == 0 {
            return None;
        }
        let seat = self.arena.at::<Seat>(page * PAGE + number % SEATS_PER_PAGE * SEAT_SIZE);
        (self.arena.kind_of(seat) == Seat::KIND).then_some(seat)
    }

    /// The counters of the seat of this number.
    pub(crate) fn counters_at(&self, number: u32) -> Option<&Counters> {
        let number = number as usize;
        let page = self.header().counters_pages.get(number / SEATS_PER_PAGE)?.get() as usize;
        let at = page * PAGE + number % SEATS_PER_PAGE * COUNTERS_SIZE;
        (page != 0).then(|| self.arena.at::<Counters>(at))
    }

    /// The counters of this process.
    pub(crate) fn my_counters(&self) -> &Counters {
        self.counters_at(self.seat).expect("every seat has some")
    }

    /// The bucket of this number.
    pub(crate) fn bucket(&self, number: usize) -> &Bucket {
        assert!(number < self.header().buckets.get() as usize, "push stream: no such bucket");
        self.arena.at::<Bucket>(self.header().buckets_at.get() as usize + number * 4)
    }

    /// What removed channels of ids with this hash have lost. It belongs to the shard of the hash.
    pub(crate) fn former(&self, hash: u64) -> &Former {
        let at = self.header().former_at.get() as usize;
        self.arena.at::<Former>(at + self.former_number(hash) * size_of::<Former>())
    }

    /// The number of that entry.
    pub(crate) fn former_number(&self, hash: u64) -> usize {
        let per_shard = self.header().former.get() as usize / SHARDS;
        // The low bits of a bucket's number say where in its shard it is.
        self.shard_of(hash) * per_shard + self.bucket_number(hash) % per_shard
    }

    /// The descriptor of the page of this number, counted from the first page.
    pub(crate) fn descriptor(&self, page: u32) -> &Descriptor {
        assert!(page < self.header().pages.get(), "push stream: no such page");
        let at = self.header().descriptors_at.get() as usize;
        self.arena.at::<Descriptor>(at + page as usize * DESCRIPTOR_SIZE)
    }

    /// Where the page of this number begins.
    pub(crate) fn page_offset(&self, page: u32) -> usize {
        (self.header().first_page.get() as usize + page as usize) * PAGE
    }

    /// Adds pages of seats until there are `seats` besides the master's, or no page is left.
    fn add_seats(&self, seats: u32) -> Result<(), ImageError> {
        let wanted = (seats as usize + 1).div_ceil(SEATS_PER_PAGE).min(SEAT_PAGES_MAX);
        let slots = self.header().seat_pages.iter().zip(&self.header().counters_pages);
        for (slot, counters_slot) in slots.take(wanted) {
            if slot.get() != 0 {
                continue;
            }
            let section = self.commons_section();
            let page = section.take_seat_page().ok_or(ImageError::NoSeat)?;
            let counters = section.take_seat_page().ok_or(ImageError::NoSeat)?;
            let page = self.header().first_page.get() + page;
            self.format_seats(page);
            section.set32(slot, page);
            section.set32(counters_slot, self.header().first_page.get() + counters);
            section.commit();
        }
        Ok(())
    }

    /// Makes the very first page of seats, without a section: there is no log before it.
    fn make_seat_page(&self) {
        let page = self.take_page_unlogged();
        let page = self.header().first_page.get() + page;
        self.format_seats(page);
        self.arena.put32(&self.header().seat_pages[0], page);
        let counters = self.header().first_page.get() + self.take_page_unlogged();
        self.arena.put32(&self.header().counters_pages[0], counters);
    }

    fn format_seats(&self, page: u32) {
        for number in 0..SEATS_PER_PAGE {
            let seat = self.arena.at::<Seat>(page as usize * PAGE + number * SEAT_SIZE);
            self.arena.put32(self.arena.kind_word(seat), Seat::KIND);
        }
    }
}

/// Seat 0 belongs to the master process, which makes the zone and adds seats.
pub(crate) const MASTER: u32 = 0;

/// Where the parts of a zone of a given length lie.
struct Plan {
    buckets_at: usize,
    buckets: usize,
    occupied_at: usize,
    former_at: usize,
    former: usize,
    descriptors_at: usize,
    first_page: usize,
    pages: usize,
}

impl Plan {
    fn of(len: usize) -> Self {
        let total = len / PAGE;
        let buckets = (len / BYTES_PER_BUCKET).next_power_of_two().max(SHARDS);
        let buckets_at = size_of::<Header>().next_multiple_of(UNIT);
        let occupied_at = buckets_at + buckets * size_of::<Bucket>();
        let occupied = Shape::bytes(buckets / SHARDS);
        let former = (len / BYTES_PER_FORMER).next_power_of_two().max(FORMER_MIN);
        let former_at = (occupied_at + occupied).next_multiple_of(UNIT);
        let descriptors_at = (former_at + former * size_of::<Former>()).next_multiple_of(UNIT);
        let first_page = (descriptors_at + total * DESCRIPTOR_SIZE).div_ceil(PAGE);
        let pages = total - first_page;
        Self {
            buckets_at,
            buckets,
            occupied_at,
            former_at,
            former,
            descriptors_at,
            first_page,
            pages,
        }
    }
}

fn word(value: usize) -> u32 {
    u32::try_from(value).expect("a zone is at most 64 GiB, its tables less than 4 GiB")
}

fn split_key(key: [u8; 16]) -> [u64; 2] {
    let (mut low, mut high) = ([0; 8], [0; 8]);
    low.copy_from_slice(&key[..8]);
    high.copy_from_slice(&key[8..]);
    [u64::from_le_bytes(low), u64::from_le_bytes(high)]
}

/// A number made of the sizes of all records.
fn layout() -> u64 {
    [
        size_of::<Header>(),
        size_of::<Seat>(),
        size_of::<Counters>(),
        size_of::<Channel>(),
        size_of::<Message>(),
        size_of::<crate::store::interest::Interest>(),
        size_of::<Descriptor>(),
        CLASSES,
        SHARDS,
        SEAT_SIZE,
    ]
    .iter()
    .fold(0xcbf2_9ce4_8422_2325, |hash: u64, size| {
        (hash ^ *size as u64).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The word for so many seconds since an epoch, or the nearest one that there is.
fn word_of(since: Seconds) -> u32 {
    u32::try_from(since.max(1)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::Memory;

    const LEN: usize = 128 * 1024;

    #[test]
    fn an_image_opens_again_and_has_all_seats() {
        let memory = Memory::format(LEN, 8, Now::both(0)).expect("a zone");
        let store = memory.open(8).expect("the last seat");
        assert_eq!(store.inventory().violations, [""; 0]);
        assert!(store.seats().count() >= 9);
        assert_eq!(memory.open(3000).err(), Some(ImageError::NoSeat));
    }

    #[test]
    fn a_full_zone_has_seats_for_more_workers() {
        let memory = Memory::format(LEN, 2, Now::both(0)).expect("a zone");
        assert_eq!(memory.open(8).err(), Some(ImageError::NoSeat));
        let store = memory.open(MASTER).expect("the master's seat");
        loop {
            let section = store.commons_section();
            let Some(page) = section.take_page(false) else { break };
            section.set32(&store.descriptor(page).state, crate::store::pages::SEATS);
            section.commit();
        }
        store.add_seats(4).expect("seats out of the reserve");
        memory.open(4).expect("one of them");
        assert_eq!(store.add_seats(500), Err(ImageError::NoSeat), "the reserve is not endless");
    }

    #[test]
    fn times_fit_a_word_for_more_than_a_century() {
        let created = 1_800_000_000;
        let now = Now { wall: created, steady: 77 };
        let memory = Memory::format(LEN, 2, now).expect("a zone");
        let store = memory.open(1).expect("a seat");
        let year = 365 * 86_400;
        let word = &store.header().sweeper;
        for time in [-8 * year, -1, 0, 1, 100 * year, 127 * year] {
            store.arena.put32(word, store.short(created + time));
            assert_eq!(store.seconds(word), created + time);
            assert_eq!(store.in_range(created + time), created + time);
        }
        for (outside, nearest) in [(0, 1), (Seconds::MIN, 1), (Seconds::MAX, u32::MAX)] {
            assert_eq!(store.short(outside), nearest);
        }
        store.arena.put32(word, 0);
        assert_eq!(store.seconds(word), 0, "none");
    }

    #[test]
    fn too_little_memory_is_refused() {
        assert_eq!(Memory::format(4096, 1, Now::both(0)).err(), Some(ImageError::Size));
    }

    #[test]
    fn an_image_that_is_not_ours_is_refused() {
        let fields = [
            (offset_of!(Header, magic), ImageError::NotAZone),
            (offset_of!(Header, version), ImageError::OtherVersion),
            (offset_of!(Header, layout), ImageError::OtherVersion),
            (offset_of!(Header, len), ImageError::NotAZone),
            (offset_of!(Header, first_page), ImageError::NotAZone),
        ];
        for (offset, error) in fields {
            let memory = Memory::format(LEN, 1, Now::both(0)).expect("a zone");
            memory.poke(offset, 0xa5);
            assert_eq!(memory.open(1).err(), Some(error), "byte {offset}");
        }
    }
}
