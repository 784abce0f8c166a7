//! Messages: one record each, as published. It is written once and does not change until it is freed.
//!
//! ```text
//!   | head, 44 bytes | prefix | event id | event type | text ... |  ─► | block ... |  ─► | block ... |
//! ```
//!
//! The prefix has one word each for what few messages need: if the content does not fit the slot, the first
//! block, the length of the text, and how much memory the blocks take; the length of the event id; the length of the event type.
//!
//! The content goes on from slot to slot; each slot is filled to its end. A message is built in small
//! sections, while only the `staging` list of its worker has it, and is filled without a lock. Then one
//! link makes it visible.

use crate::model::{self, Latest, Seconds, Stamp};
use crate::store::arena::{Handle, Link, Record, UNIT, W32};
use crate::store::channel::Channel;
use crate::store::expiry::EXPIRY_QUEUES;
use crate::store::slab::{BLOCK_HEAD, Block, CLASSES};
use crate::store::undo::Section;
use crate::store::zone::Store;

/// At most so many blocks are taken or freed in one section, to bound its undo log.
const BLOCKS_PER_SECTION: usize = 4;

/// It is stored.
pub(crate) const STORED: u32 = 1;
/// The publisher sent it as a binary WebSocket message.
pub(crate) const BINARY: u32 = 2;
/// It is the notice that its channel was deleted.
pub(crate) const NOTICE: u32 = 4;
/// It was stored once. A backlog that was opened before it was discarded still contains it.
pub(crate) const REPLAYABLE: u32 = 8;
/// It is in the trash.
pub(crate) const TRASHED: u32 = 16;
/// Its content does not fit its slot: the prefix has a [`Chain`].
const CHAINED: u32 = 32;
/// It has an event id, whose length is in the prefix.
const EVENT_ID: u32 = 64;
/// The same for the event type.
const EVENT_TYPE: u32 = 128;
/// The number of its expiry queue, in two bits.
pub(super) const QUEUE_SHIFT: u32 = 8;
/// The size class of its slot, in five bits.
const CLASS_SHIFT: u32 = 10;
const CLASS_BITS: u32 = 31;
const _: () = assert!(CLASSES <= CLASS_BITS as usize + 1);
/// The bits of a number that its second word has, above the length of the text.
const NUMBER_SHIFT: u32 = 16;
/// The largest number of a message: a channel with a million messages a second needs nine years for it.
pub(crate) const NUMBER_MAX: u64 = (1 << 48) - 1;
/// The bits of a tag. Above them its word has a part of the stamp.
const TAG_BITS: u32 = 20;
/// The largest tag. Then the zone's time goes on to the next second. No zone takes a million messages a second.
pub(crate) const TAG_MAX: u64 = (1 << TAG_BITS) - 1;
/// The other part of the stamp is in the word of the flags.
const STAMP_SHIFT: u32 = 16;
const STAMP_LOW_BITS: u32 = 8;
const _: () = assert!(Stamp::BITS == STAMP_LOW_BITS + u32::BITS - TAG_BITS);

/// One message.
#[repr(C)]
pub(crate) struct Message {
    /// The kind in the upper quarter, then eight bits of the stamp, and flags in the lower half.
    pub(crate) flags: W32,
    /// Next in the channel's log, in the trash, or under construction.
    pub(crate) next: Link<Message>,
    /// Previous in the channel's log.
    pub(crate) prev: Link<Message>,
    pub(crate) channel: Link<Channel>,
    pub(crate) expiry_next: Link<Message>,
    pub(crate) expiry_prev: Link<Message>,
    /// The lower 32 bits of its number in the channel, from 1.
    pub(crate) number_low: W32,
    /// The upper 16 bits of its number, and below them the length of its text, unless it is chained.
    number_high_and_len: W32,
    /// See [`Store::seconds`].
    pub(crate) time: W32,
    /// Its tag, and above it twelve bits of the stamp.
    tag: W32,
    /// When it expires; in the trash: when it came there.
    pub(crate) expires: W32,
}

/// The content that does not fit the slot.
#[repr(C)]
pub(crate) struct Chain {
    pub(crate) first: Link<Block>,
    text_len: W32,
    /// What its blocks take when it has all of them, in units of a handle.
    units: W32,
}

// SAFETY: `repr(C)`, words only; it has no kind, it is part of a message.
unsafe impl Record for Chain {
    const KIND: u32 = 0;
}

/// A length in the prefix.
#[repr(C)]
struct Len {
    len: W32,
}

// SAFETY: `repr(C)`, one word; it has no kind, it is part of a message.
unsafe impl Record for Len {
    const KIND: u32 = 0;
}

// SAFETY: `repr(C)`, words and links only, kind first.
unsafe impl Record for Message {
    const KIND: u32 = u32::from_le_bytes(*b"\0\0\0m");
    const KIND_BITS: u32 = 0xff00_0000;
}

pub(crate) const MESSAGE_HEAD: usize = size_of::<Message>();
const _: () = assert!(MESSAGE_HEAD == 44);
/// Bytes of the longest prefix.
const PREFIX_MAX: usize = size_of::<Chain>() + 2 * size_of::<Len>();

/// The content of a message that is to be made.
#[derive(Clone, Copy, Default)]
pub(crate) struct Content<'a> {
    pub(crate) event_id: Option<&'a [u8]>,
    pub(crate) event_type: Option<&'a [u8]>,
    /// The text, in pieces.
    pub(crate) text: &'a [&'a [u8]],
    pub(crate) flags: u32,
    /// When it is published.
    pub(crate) stamp: Stamp,
}

/// The lengths of the parts of a message's content.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lengths {
    pub(crate) event_id: Option<usize>,
    pub(crate) event_type: Option<usize>,
    pub(crate) text: usize,
}

/// Messages that were read out of the zone, with all contents in one buffer. It is used again, so that
/// reading allocates nothing.
#[derive(Default)]
pub(crate) struct Readout {
    heads: Vec<Head>,
    bytes: Vec<u8>,
}

/// The part of a message that a readout keeps besides the content.
struct Head {
    id: i64,
    time: Seconds,
    tag: u64,
    life: u64,
    channel_number: u32,
    stamp: Stamp,
    flags: u32,
    lengths: Lengths,
    /// Where its content begins.
    at: usize,
}

impl Readout {
    /// Adds a message of the channel of this number, which the caller has pinned.
    pub(crate) fn read(&mut self, store: &Store, handle: Handle<Message>, channel_number: u32) {
        let record = store.arena.get(handle);
        self.heads.push(Head {
            id: record.id().cast_signed(),
            time: store.seconds(&record.time),
            tag: record.tag(),
            life: store.life(),
            channel_number,
            stamp: record.stamp(),
            flags: record.flags.get(),
            lengths: store.lengths(handle),
            at: self.bytes.len(),
        });
        store.read_content(handle, &mut self.bytes);
    }

    /// Reads one message only.
    pub(crate) fn read_one<'a>(
        &'a mut self,
        store: &Store,
        handle: Handle<Message>,
        (channel, channel_number): (&'a [u8], u32),
    ) -> model::Message<'a> {
        self.clear(usize::MAX);
        self.read(store, handle, channel_number);
        self.heads.first().expect("it was read").message(&self.bytes, channel)
    }

    /// The messages, all of this channel, as the other layers see them.
    pub(crate) fn messages<'a>(
        &'a self,
        channel: &'a [u8],
    ) -> impl Iterator<Item = model::Message<'a>> + 'a {
        self.heads.iter().map(|head| head.message(&self.bytes, channel))
    }

    /// Forgets all messages, and keeps a buffer of at most `kept` bytes.
    pub(crate) fn clear(&mut self, kept: usize) {
        self.heads.clear();
        self.bytes.clear();
        self.bytes.shrink_to(kept);
    }
}

impl Head {
    fn message<'a>(&self, bytes: &'a [u8], channel: &'a [u8]) -> model::Message<'a> {
        let mut rest = bytes.get(self.at..).unwrap_or(&[]);
        let mut take = |len: usize| {
            let (part, after) = rest.split_at(len);
            rest = after;
            part
        };
        let event_id = self.lengths.event_id.map(&mut take);
        let event_type = self.lengths.event_type.map(&mut take);
        let text = take(self.lengths.text);
        if self.flags & NOTICE != 0 {
            return model::Message::deleted(channel, text);
        }
        model::Message {
            id: self.id,
            channel,
            time: self.time,
            tag: self.tag,
            life: self.life,
            latest: u64::try_from(self.id)
                .ok()
                .map(|id| Latest { channel: self.channel_number, id }),
            event_id,
            event_type,
            text,
            stamp: self.stamp,
            binary: self.flags & BINARY != 0,
        }
    }
}

impl Message {
    pub(crate) fn has(&self, flag: u32) -> bool {
        self.flags.get() & flag != 0
    }

    /// The number of its expiry queue, if it is stored.
    pub(crate) fn queue(&self) -> usize {
        (self.flags.get() >> QUEUE_SHIFT) as usize % EXPIRY_QUEUES
    }

    /// Its number in the channel.
    pub(crate) fn id(&self) -> u64 {
        let high = self.number_high_and_len.get() >> NUMBER_SHIFT;
        u64::from(high) << 32 | u64::from(self.number_low.get())
    }

    /// Its tag.
    pub(crate) fn tag(&self) -> u64 {
        u64::from(self.tag.get()) & TAG_MAX
    }

    /// When it was published, for measuring.
    fn stamp(&self) -> Stamp {
        let low = self.flags.get() >> STAMP_SHIFT & ((1 << STAMP_LOW_BITS) - 1);
        Stamp(self.tag.get() >> TAG_BITS << STAMP_LOW_BITS | low)
    }

    /// The size class of its slot.
    pub(crate) fn class(&self) -> usize {
        (self.flags.get() >> CLASS_SHIFT & CLASS_BITS) as usize
    }

    /// How many bytes its prefix has.
    pub(crate) fn prefix_len(&self) -> usize {
        let bytes = |flag, len| if self.has(flag) { len } else { 0 };
        bytes(CHAINED, size_of::<Chain>())
            + bytes(EVENT_ID, size_of::<Len>())
            + bytes(EVENT_TYPE, size_of::<Len>())
    }
}

impl Lengths {
    /// How many bytes the content has.
    pub(crate) fn content(&self) -> usize {
        self.event_id.unwrap_or(0) + self.event_type.unwrap_or(0) + self.text
    }
}

impl Store {
    /// The further content of a message, if its slot does not hold all of it.
    pub(crate) fn chain(&self, handle: Handle<Message>) -> Option<&Chain> {
        let at = handle.unit() as usize * UNIT + MESSAGE_HEAD;
        self.arena.get(handle).has(CHAINED).then(|| self.arena.at::<Chain>(at))
    }

    /// The lengths of the parts of a message's content.
    pub(crate) fn lengths(&self, handle: Handle<Message>) -> Lengths {
        let record = self.arena.get(handle);
        let chain = self.chain(handle);
        let text = match chain {
            Some(chain) => chain.text_len.get(),
            None => record.number_high_and_len.get() & ((1 << NUMBER_SHIFT) - 1),
        };
        let mut at = handle.unit() as usize * UNIT + MESSAGE_HEAD;
        at += chain.map_or(0, size_of_val);
        let mut optional = |flag| {
            record.has(flag).then(|| {
                at += size_of::<Len>();
                self.arena.at::<Len>(at - size_of::<Len>()).len.get() as usize
            })
        };
        let (event_id, event_type) = (optional(EVENT_ID), optional(EVENT_TYPE));
        Lengths { event_id, event_type, text: text as usize }
    }

    /// Time and tag of a message.
    pub(crate) fn place(&self, message: &Message) -> (Seconds, u64) {
        (self.seconds(&message.time), message.tag())
    }

    /// Stamps a message that nobody else knows yet.
    pub(crate) fn stamp(&self, message: &Message, number: u64, (time, tag): (Seconds, u64)) {
        assert!(number <= NUMBER_MAX, "push stream: a channel has no more numbers");
        let len = message.number_high_and_len.get() & ((1 << NUMBER_SHIFT) - 1);
        let high = (number >> 32) as u32;
        self.arena.put32(&message.number_low, number as u32);
        self.arena.put32(&message.number_high_and_len, high << NUMBER_SHIFT | len);
        self.arena.put32(&message.time, self.short(time));
        let stamp = message.tag.get() & !(TAG_MAX as u32);
        self.arena.put32(&message.tag, stamp | tag as u32);
    }

    /// Builds a message that nobody else knows yet: takes its slots, a few in each section, and fills them.
    /// `None`: there is not enough memory, and nothing is left behind.
    pub(crate) fn stage(&self, content: Content<'_>) -> Option<Handle<Message>> {
        let text: usize = content.text.iter().map(|piece| piece.len()).sum();
        let id = content.event_id.map_or(0, <[u8]>::len);
        let kind = content.event_type.map_or(0, <[u8]>::len);
        let total = text.checked_add(id)?.checked_add(kind)?;
        // Lengths have 32 bits.
        if total > u32::MAX as usize {
            return None;
        }
        let optional = [(EVENT_ID, content.event_id), (EVENT_TYPE, content.event_type)];
        let given = optional.iter().filter(|(_, part)| part.is_some());
        let head = MESSAGE_HEAD + given.count() * size_of::<Len>();

        let section = self.commons_section();
        let slot = section.take_some(MESSAGE_HEAD + PREFIX_MAX, head + total)?;
        let handle = slot.cast::<Message>();
        let message = self.arena.at::<Message>(slot.offset());
        let is_chained = slot.size < head + total;
        let mut flags = content.flags | (slot.class as u32) << CLASS_SHIFT;
        flags |= (content.stamp.0 & ((1 << STAMP_LOW_BITS) - 1)) << STAMP_SHIFT;
        let mut at = slot.offset() + MESSAGE_HEAD;
        if is_chained {
            flags |= CHAINED;
            let chain = self.arena.at::<Chain>(at);
            self.arena.put_link(&chain.first, None);
            self.arena.put32(&chain.text_len, text as u32);
            self.arena.put32(&chain.units, 0);
            at += size_of::<Chain>();
        }
        for (flag, part) in optional {
            if let Some(part) = part {
                flags |= flag;
                self.arena.put32(&self.arena.at::<Len>(at).len, part.len() as u32);
                at += size_of::<Len>();
            }
        }
        for (word, value) in [
            (&message.prev.0, 0),
            (&message.channel.0, 0),
            (&message.expiry_next.0, 0),
            (&message.expiry_prev.0, 0),
            (&message.number_low, 0),
            (&message.number_high_and_len, if is_chained { 0 } else { text as u32 }),
            (&message.tag, content.stamp.0 >> STAMP_LOW_BITS << TAG_BITS),
            (&message.flags, Message::KIND | flags),
        ] {
            self.arena.put32(word, value);
        }
        self.arena.put_link(&message.next, section.seat().staging.get());
        section.link(&section.seat().staging, Some(handle));
        let room = slot.offset() + slot.size - at;
        section.commit();

        if let Some(chain) = self.chain(handle)
            && !self.extend(chain, total.saturating_sub(room))
        {
            self.unstage(handle);
            return None;
        }
        let parts = [content.event_id.unwrap_or(b""), content.event_type.unwrap_or(b"")];
        self.fill(handle, parts.iter().chain(content.text).copied());
        Some(handle)
    }

    /// Adds blocks for `missing` bytes to a message under construction.
    fn extend(&self, chain: &Chain, mut missing: usize) -> bool {
        let mut tail = &chain.first;
        let mut units = 0;
        while missing > 0 {
            let section = self.commons_section();
            for _ in 0..BLOCKS_PER_SECTION {
                let Some(slot) = section.take_some(BLOCK_HEAD + 1, BLOCK_HEAD + missing) else {
                    return false;
                };
                let block = self.arena.at::<Block>(slot.offset());
                self.arena.put32(&block.size, slot.size as u32);
                self.arena.put_link(&block.next, None);
                self.arena.put32(self.arena.kind_word(block), Block::KIND);
                section.link(tail, Some(slot.cast()));
                tail = &block.next;
                missing = missing.saturating_sub(slot.size - BLOCK_HEAD);
                units += (slot.size / UNIT) as u32;
                if missing == 0 {
                    break;
                }
            }
            section.commit();
        }
        self.arena.put32(&chain.units, units);
        true
    }

    /// Bytes of the slot of a message.
    pub(crate) fn size_of(&self, message: &Message) -> u64 {
        Self::size_of_class(message.class()) as u64
    }

    /// Bytes that a message has of the zone, if none of its blocks is freed yet.
    pub(crate) fn size_of_all(&self, handle: Handle<Message>) -> u64 {
        let blocks = self.chain(handle).map_or(0, |chain| u64::from(chain.units.get()));
        self.size_of(self.arena.get(handle)) + blocks * UNIT as u64
    }

    /// Frees a message under construction.
    pub(crate) fn unstage(&self, handle: Handle<Message>) {
        let seat = self.my_seat();
        while self.free_step(handle, |section| section.unlink_staged(seat, handle)) {}
    }

    /// Frees some blocks of a message. When there are none, frees the message, and runs `unlink` in the
    /// same section. True if there is more to free.
    pub(crate) fn free_step(
        &self,
        handle: Handle<Message>,
        unlink: impl FnOnce(&Section<'_>),
    ) -> bool {
        let section = self.commons_section();
        let more = section.shrink(handle);
        if !more {
            unlink(&section);
            section.give(handle);
        }
        section.commit();
        more
    }

    /// Appends the content of a message to `out`.
    pub(crate) fn read_content(&self, handle: Handle<Message>, out: &mut Vec<u8>) {
        let mut left = self.lengths(handle).content();
        out.reserve(left);
        self.each_run(handle, |offset, room| {
            let len = room.min(left);
            self.arena.read_bytes(offset, len, out);
            left -= len;
            left > 0
        });
        assert!(left == 0, "push stream: a message in the zone is cut short");
    }

    /// Is this the message's event id? The caller has pinned the message.
    pub(crate) fn event_id_is(&self, handle: Handle<Message>, id: &[u8]) -> bool {
        let record = self.arena.get(handle);
        if !record.has(EVENT_ID) || self.lengths(handle).event_id != Some(id.len()) {
            return false;
        }
        let (mut rest, mut same) = (id, true);
        self.each_run(handle, |offset, room| {
            let (part, after) = rest.split_at(room.min(rest.len()));
            same = self.arena.bytes_are(offset, part);
            rest = after;
            same && !rest.is_empty()
        });
        same && rest.is_empty()
    }

    fn fill<'a>(&self, handle: Handle<Message>, pieces: impl Iterator<Item = &'a [u8]>) {
        let mut pieces = pieces.filter(|piece| !piece.is_empty());
        let mut piece: &[u8] = pieces.next().unwrap_or(b"");
        self.each_run(handle, |mut offset, mut room| {
            while room > 0 && !piece.is_empty() {
                let (now, later) = piece.split_at(piece.len().min(room));
                self.arena.write_bytes(offset, now);
                offset += now.len();
                room -= now.len();
                piece = if later.is_empty() { pieces.next().unwrap_or(b"") } else { later };
            }
            !piece.is_empty()
        });
    }

    /// Calls `each` with offset and length of each piece of content, until it answers false.
    fn each_run(&self, handle: Handle<Message>, mut each: impl FnMut(usize, usize) -> bool) {
        let message = self.arena.get(handle);
        let offset = handle.unit() as usize * UNIT;
        let head = MESSAGE_HEAD + message.prefix_len();
        if !each(offset + head, Self::size_of_class(message.class()) - head) {
            return;
        }
        let mut next = self.chain(handle).and_then(|chain| chain.first.get());
        while let Some(block) = next {
            let offset = block.unit() as usize * UNIT;
            let record = self.arena.get(block);
            if !each(offset + BLOCK_HEAD, record.size.get() as usize - BLOCK_HEAD) {
                return;
            }
            next = record.next.get();
        }
    }
}

impl Section<'_> {
    /// Takes a message out of a staging list. Nearly always it is the first one.
    pub(crate) fn unlink_staged(&self, seat: &crate::store::undo::Seat, handle: Handle<Message>) {
        let mut link = &seat.staging;
        while let Some(at) = link.get() {
            let message = self.get(at);
            if at == handle {
                self.link(link, message.next.get());
                return;
            }
            link = &message.next;
        }
    }

    /// Frees up to [`BLOCKS_PER_SECTION`] blocks of a message. True if it has more.
    pub(crate) fn shrink(&self, handle: Handle<Message>) -> bool {
        let Some(chain) = self.store.chain(handle) else { return false };
        for _ in 0..BLOCKS_PER_SECTION {
            let Some(block) = chain.first.get() else { return false };
            self.link(&chain.first, self.get(block).next.get());
            if self.get(handle).has(TRASHED) {
                self.sub(&self.commons().trash_bytes, self.store.size_of_slot(block));
            }
            self.give(block);
        }
        chain.first.get().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Now;
    use crate::store::arena::PAGE;
    use crate::store::memory::Memory;

    fn zone() -> (Memory, Store) {
        let memory = Memory::format(256 * 1024, 2, Now::both(0)).expect("a zone");
        let store = memory.open(1).expect("a seat");
        (memory, store)
    }

    #[test]
    fn content_runs_on_from_slot_to_slot() {
        let (_memory, store) = zone();
        let block = PAGE - BLOCK_HEAD;
        let first = PAGE - MESSAGE_HEAD - PREFIX_MAX;
        let borders = [0, 1, 100, first, first + block, first + 9 * block];
        for len in borders.iter().flat_map(|len| [len.saturating_sub(1), *len, len + 1]) {
            let text: Vec<u8> = (0..len).map(|n| (n % 251) as u8).collect();
            for (id, kind, cut) in [
                (None, None, 0),
                (Some(&b""[..]), Some(&b"type"[..]), len / 2),
                (Some(&b"an event"[..]), Some(&b""[..]), len / 3),
            ] {
                let (head, tail) = text.split_at(cut);
                let pieces: [&[u8]; 4] = [b"", head, b"", tail];
                let content =
                    Content { event_id: id, event_type: kind, text: &pieces, ..Content::default() };
                let message = store.stage(content).expect("room");
                let lengths = store.lengths(message);
                assert_eq!(lengths.event_id, id.map(<[u8]>::len));
                assert_eq!(lengths.event_type, kind.map(<[u8]>::len));
                assert_eq!(lengths.text, len);
                let mut read = b"kept ".to_vec();
                store.read_content(message, &mut read);
                let expected = [b"kept ", id.unwrap_or(b""), kind.unwrap_or(b""), &text].concat();
                assert!(read == expected, "{len} bytes");
                store.unstage(message);
            }
        }
        assert_eq!(store.inventory().violations, [""; 0]);
    }

    #[test]
    fn numbers_have_48_bits_beside_the_length() {
        let (_memory, store) = zone();
        for len in [0, 100, 3000, 5000] {
            let text = vec![b'x'; len];
            let content = Content { text: &[&text], ..Content::default() };
            let handle = store.stage(content).expect("room");
            let message = store.arena.get(handle);
            for number in [1, 1 << 32, NUMBER_MAX] {
                store.stamp(message, number, (3, TAG_MAX));
                assert_eq!((message.id(), store.place(message)), (number, (3, TAG_MAX)));
                assert_eq!(store.lengths(handle).text, len);
            }
            store.unstage(handle);
        }
    }

    #[test]
    fn a_message_that_does_not_fit_leaves_nothing_behind() {
        let (_memory, store) = zone();
        let pristine = store.inventory();
        let text = vec![b'x'; 300 * 1024];
        let pieces: [&[u8]; 1] = [&text];
        let content = Content { text: &pieces, ..Content::default() };
        assert!(store.stage(content).is_none());
        assert_eq!(store.inventory(), pristine);
    }
}
