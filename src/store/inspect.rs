//! The audit of a zone in use: a walk in short stops, and everybody works in between.
//!
//! ```text
//!   stop ─ a few pages, each record of them against its neighbours ─ go ─► stop ─ ... ─► the index
//! ```
//!
//! During a stop the walk holds all locks ([`Standstill`]), so no section is open and every rule about
//! neighbours must hold. Counters and singly linked lists need a look at the whole zone: they are summed
//! up on the way, and compared at the end if no section has changed anything since the walk began. For a
//! list, the sum over all links is compared with the sum over all members. The numbers are mixed first,
//! so that no two mistakes cancel out.
//!
//! The zone may be broken, so the walk checks each link before it follows it ([`Walk::peek`]).

use crate::model::{Amount, Audit, SeatState};
use crate::store::arena::{Handle, Link, PAGE, Record, UNIT};
use crate::store::channel::Channel;
use crate::store::interest::Interest;
use crate::store::message::Message;
use crate::store::pages::{FREE, SEATS, SLAB};
use crate::store::slab::{Block, CLASSES, VITAL};
use crate::store::undo::Standstill;
use crate::store::zone::{SHARDS, Store};

mod records;

/// One stop looks at so many pages, with at most 256 records. That takes some tens of microseconds.
const PAGES_PER_STOP: u32 = 4;
/// One stop looks at so many buckets with channels.
const BUCKETS_PER_STOP: usize = 256;
/// So many different violations are told apart. There are fewer rules.
const KINDS_OF_VIOLATION: usize = 64;

/// The kinds of records, in the order of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Stored,
    BeingRead,
    Trash,
    Staged,
    Content,
    Live,
    Deleted,
    TrashedChannel,
    Interest,
    Backlog,
    FreeSlot,
}

const KINDS: [&str; 11] = [
    "messages_stored",
    "messages_being_read",
    "messages_in_trash",
    "messages_staged",
    "content_blocks",
    "channels_live",
    "channels_deleted",
    "channels_in_trash",
    "interests_live",
    "interests_backlog",
    "free_slots",
];

/// A singly linked list: the sum over its links, and the sum over its members.
#[derive(Clone, Copy, Debug, Default)]
struct Balance {
    pointed: u64,
    there: u64,
}

impl Balance {
    fn pointed(&mut self, place: u32) {
        self.pointed = self.pointed.wrapping_add(mix(place));
    }

    fn there(&mut self, place: u32) {
        self.there = self.there.wrapping_add(mix(place));
    }

    const fn is_even(self) -> bool {
        self.pointed == self.there
    }
}

/// Mixes a place into 64 bits. 0, the end of a list, gives 0.
fn mix(place: u32) -> u64 {
    let mixed = u64::from(place).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

/// The sums for one shard.
#[derive(Clone, Copy, Debug, Default)]
struct ShardCount {
    stored: u64,
    stored_by_channels: u64,
    in_delete: u64,
}

/// An audit under way.
pub struct Inspection {
    next_page: u32,
    next_bucket: usize,
    /// How many sections had changed something when it began.
    began_at: Option<u64>,
    violations: Vec<(&'static str, u64)>,
    amounts: [Amount; KINDS.len()],
    overhead: u64,
    free_pages: u32,
    seat_pages: u32,
    free_interests: u32,
    normal: u64,
    wildcard: u64,
    discarded: u64,
    shards: [ShardCount; SHARDS],
    free_list: Balance,
    blocks: Balance,
    trash: Balance,
    staged: Balance,
    trashed_channels: Balance,
    drained: Balance,
    untold: Balance,
    index: Balance,
    /// For ids of channels.
    scratch: Vec<u8>,
    compared: bool,
}

impl Default for Inspection {
    fn default() -> Self {
        Self {
            next_page: 0,
            next_bucket: 0,
            began_at: None,
            // Allocated now, not while everybody waits.
            violations: Vec::with_capacity(KINDS_OF_VIOLATION),
            scratch: Vec::with_capacity(PAGE),
            amounts: Default::default(),
            overhead: 0,
            free_pages: 0,
            seat_pages: 0,
            free_interests: 0,
            normal: 0,
            wildcard: 0,
            discarded: 0,
            shards: Default::default(),
            free_list: Balance::default(),
            blocks: Balance::default(),
            trash: Balance::default(),
            staged: Balance::default(),
            trashed_channels: Balance::default(),
            drained: Balance::default(),
            untold: Balance::default(),
            index: Balance::default(),
            compared: false,
        }
    }
}

impl Inspection {
    fn need(&mut self, holds: bool, name: &'static str) {
        if holds {
            return;
        }
        if let Some((_, count)) = self.violations.iter_mut().find(|(known, _)| *known == name) {
            *count += 1;
        } else if self.violations.len() < KINDS_OF_VIOLATION {
            self.violations.push((name, 1));
        }
    }

    fn count(&mut self, kind: Kind, bytes: usize) {
        let amount = &mut self.amounts[kind as usize];
        amount.count += 1;
        amount.bytes += bytes as u64;
    }
}

impl Store {
    /// Makes one stop of an audit. True if there is more to look at.
    pub fn inspect_some(&self, inspection: &mut Inspection) -> bool {
        let standstill = self.stop_all();
        let mut walk = Walk { store: self, standstill, found: inspection };
        walk.seats_at_rest();
        let changes = walk.changes();
        walk.found.began_at.get_or_insert(changes);
        // Nothing was ever written behind this page.
        let pages = self.header().commons.never_used.get();
        if walk.found.next_page < pages {
            let end = pages.min(walk.found.next_page + PAGES_PER_STOP);
            for page in walk.found.next_page..end {
                walk.page(page);
            }
            walk.found.next_page = end;
            return true;
        }
        for _ in 0..BUCKETS_PER_STOP {
            let Some(bucket) = self.next_occupied(walk.found.next_bucket) else { break };
            walk.bucket(bucket);
            walk.found.next_bucket = bucket + 1;
        }
        if self.next_occupied(walk.found.next_bucket).is_some() {
            return true;
        }
        walk.found.free_pages += self.header().pages.get().saturating_sub(pages);
        if walk.found.began_at == Some(changes) {
            walk.found.compared = true;
            walk.compare();
        }
        false
    }

    /// The result of an audit that is done.
    pub fn report(&self, inspection: Inspection) -> Audit {
        let header = self.header();
        let tables = u64::from(header.first_page.get()) * PAGE as u64;
        let seats = self.seats().filter(|(_, seat)| seat.pid.get() != 0);
        let seats = seats.map(|(number, seat)| SeatState {
            seat: number,
            pid: seat.pid.get(),
            is_woken: seat.woken.get() != 0,
            log_words: seat.log_words(),
            holds: seat.holds(),
        });
        Audit {
            compared: inspection.compared,
            bytes: self.arena.len() as u64,
            table_bytes: tables,
            page_bytes: PAGE as u64,
            pages: header.pages.get(),
            free_pages: inspection.free_pages,
            reserve_pages: header.reserve.get(),
            seat_pages: inspection.seat_pages,
            kinds: KINDS.into_iter().zip(inspection.amounts).collect(),
            page_overhead_bytes: inspection.overhead,
            seats: seats.collect(),
            violations: inspection.violations,
        }
    }
}

/// The walk, during one stop.
struct Walk<'s, 'i> {
    store: &'s Store,
    standstill: Standstill<'s>,
    found: &'i mut Inspection,
}

impl<'s> Walk<'s, '_> {
    /// The record behind a handle, if it has this type and its slot is in use.
    fn peek<T: Record>(&self, handle: Handle<T>) -> Option<&'s T> {
        let offset = handle.unit() as usize * UNIT;
        let (page, slot, _) = self.store.slot_at(offset)?;
        let is_taken = self.store.descriptor(page).free.get() & 1 << slot == 0;
        let record = self.store.arena.try_at::<T>(offset)?;
        (is_taken && self.store.arena.kind_of(record) == T::KIND).then_some(record)
    }

    fn need(&mut self, holds: bool, name: &'static str) {
        self.found.need(holds, name);
    }

    /// How many sections have changed something, in all seats together.
    fn changes(&self) -> u64 {
        self.store.seats().map(|(_, seat)| u64::from(seat.sections.get())).sum()
    }

    fn seats_at_rest(&mut self) {
        for (number, seat) in self.store.seats() {
            // The seat of this process holds all locks now.
            let is_ours = number == self.standstill.store.seat;
            self.found.need(is_ours || seat.is_at_rest(), "seat_at_rest");
        }
    }

    fn page(&mut self, page: u32) {
        let descriptor = self.store.descriptor(page);
        match descriptor.state.get() {
            FREE => {
                self.found.free_pages += 1;
                let next = descriptor.next.get();
                self.found.free_list.there(page + 1);
                self.found.free_list.pointed(next);
                let is_free = |next: u32| {
                    next < self.store.header().commons.never_used.get()
                        && self.store.descriptor(next).state.get() == FREE
                };
                let holds = next.checked_sub(1).is_none_or(is_free);
                self.need(holds, "free_list");
            }
            SEATS => self.found.seat_pages += 1,
            state => {
                let class = (state - SLAB) as usize;
                if class < CLASSES {
                    self.slab_page(page, class);
                } else {
                    self.need(false, "page_state");
                }
            }
        }
    }

    fn slab_page(&mut self, page: u32, class: usize) {
        let descriptor = self.store.descriptor(page);
        let (bits, all) = (descriptor.free.get(), Store::all_free(class));
        self.need(bits & !all == 0, "page_bits");
        self.need(bits != all, "page_empty_kept");
        let (size, slots) = (Store::size_of_class(class), Store::slots_of_class(class));
        self.found.overhead += (PAGE - size * slots as usize) as u64;
        self.partial_list(page, class, bits != 0);
        if class == VITAL {
            self.found.free_interests += (bits & all).count_ones();
        }
        for slot in 0..slots {
            let offset = self.store.page_offset(page) + slot as usize * size;
            if bits & 1 << slot == 0 {
                self.slot(offset, size, class);
            } else {
                self.found.count(Kind::FreeSlot, size);
            }
        }
    }

    /// A page with free slots is in the list of its class, and its neighbours say so too.
    fn partial_list(&mut self, page: u32, class: usize, has_free: bool) {
        let head = self.store.header().commons.partial[class].get();
        let descriptor = self.store.descriptor(page);
        let (next, prev) = (descriptor.next.get(), descriptor.prev.get());
        if !has_free {
            self.need(next == 0 && prev == 0 && head != page + 1, "page_list");
            return;
        }
        let state = descriptor.state.get();
        let neighbour = |number: u32| {
            let known =
                number.checked_sub(1).filter(|page| *page < self.store.header().pages.get());
            known.map(|page| self.store.descriptor(page)).filter(|d| d.state.get() == state)
        };
        let before = match prev {
            0 => head == page + 1,
            prev => neighbour(prev).is_some_and(|d| d.next.get() == page + 1),
        };
        let after = next == 0 || neighbour(next).is_some_and(|d| d.prev.get() == page + 1);
        self.need(before && after, "page_list");
    }

    /// A slot in use holds a record of a known kind.
    fn slot(&mut self, offset: usize, size: usize, class: usize) {
        fn handle<T>(offset: usize) -> Option<Handle<T>> {
            u32::try_from(offset / UNIT).ok().and_then(Handle::from_unit)
        }
        let Some(block) = self.store.arena.try_at::<Block>(offset) else {
            return self.need(false, "slot_kind");
        };
        let mut kind = self.store.arena.kind_of(block);
        if kind & Message::KIND_BITS == Message::KIND {
            kind = Message::KIND;
        }
        let is_interest = kind == Interest::KIND;
        self.need(is_interest == (class == VITAL), "slot_class");
        match kind {
            Interest::KIND => {
                handle(offset).into_iter().for_each(|handle| self.interest(handle, size));
            }
            Message::KIND => {
                handle(offset).into_iter().for_each(|handle| self.message(handle, size));
            }
            Channel::KIND => {
                handle(offset).into_iter().for_each(|handle| self.channel(handle, size));
            }
            Block::KIND => handle(offset).into_iter().for_each(|handle| self.block(handle, size)),
            _ => self.need(false, "slot_kind"),
        }
    }

    fn bucket(&mut self, number: usize) {
        let Some(first) = self.store.bucket(number).first.get() else {
            return self.need(false, "occupied");
        };
        self.found.index.pointed(first.unit());
        let is_channel = self.peek(first).is_some_and(records::is_live);
        self.need(is_channel, "bucket");
    }

    /// Nothing has changed since the walk began, so the sums must be what the zone says.
    fn compare(&mut self) {
        let header = self.store.header();
        let commons = &header.commons;
        let staging = self.store.seats().map(|(_, seat)| seat.staging.0.get());
        staging.for_each(|first| self.found.staged.pointed(first));
        let found = &mut *self.found;
        let place = |link: &Link<Channel>| link.0.get();
        found.free_list.pointed(commons.free_first.get());
        found.trash.pointed(commons.trash_first.0.get());
        found.trashed_channels.pointed(place(&commons.trash_channel_first));
        for (shard, count) in header.shards.iter().zip(found.shards) {
            found.drained.pointed(place(&shard.deleted));
            found.untold.pointed(place(&shard.untold));
            found.need(shard.stored.get() == count.stored, "stored_messages");
            found.need(count.stored == count.stored_by_channels, "channel_stored_messages");
            found.need(shard.channels_in_delete.get() == count.in_delete, "channels_in_delete");
        }
        let seat_pages = 2 * self.store.seat_pages();
        let bytes = |kinds: &[Kind]| -> u64 {
            kinds.iter().map(|kind| found.amounts[*kind as usize].bytes).sum()
        };
        let blocks = bytes(&[Kind::Content]);
        let messages = bytes(&[Kind::Stored, Kind::BeingRead, Kind::Trash, Kind::Staged]) + blocks;
        let channels = bytes(&[Kind::Live, Kind::Deleted, Kind::TrashedChannel]);
        let interests = bytes(&[Kind::Interest, Kind::Backlog]);
        // Nobody knows whose block it is.
        let trash = bytes(&[Kind::Trash]);
        let trash = trash..=trash + blocks;
        let overhead = found.overhead;
        let trashed_bytes = bytes(&[Kind::TrashedChannel]);
        let trashed = found.amounts[Kind::TrashedChannel as usize].count;
        for (holds, name) in [
            (found.free_list.is_even(), "free_list"),
            (found.blocks.is_even(), "content_blocks"),
            (found.trash.is_even(), "trash_list"),
            (found.staged.is_even(), "staging_list"),
            (found.trashed_channels.is_even(), "trash_channel_list"),
            (found.drained.is_even(), "deleted_list"),
            (found.untold.is_even(), "untold_list"),
            (found.index.is_even(), "index"),
            (commons.free_pages.get() == found.free_pages, "free_pages"),
            (commons.free_interests.get() == found.free_interests, "free_interests"),
            (seat_pages == found.seat_pages as usize, "seat_pages"),
            (commons.used_by_messages.get() == messages, "used_by_messages"),
            (commons.used_by_channels.get() == channels, "used_by_channels"),
            (commons.used_by_interests.get() == interests, "used_by_interests"),
            (trash.contains(&commons.trash_bytes.get()), "trash_bytes"),
            (commons.trash_channel_bytes.get() == trashed_bytes, "trash_channel_bytes"),
            (commons.page_ends.get() == overhead, "page_ends"),
            (commons.channels.get() == found.normal, "channels"),
            (commons.wildcard_channels.get() == found.wildcard, "wildcard_channels"),
            (commons.messages_in_trash.get() == found.discarded, "messages_in_trash"),
            (commons.channels_in_trash.get() == trashed, "channels_in_trash"),
        ] {
            found.need(holds, name);
        }
    }
}
