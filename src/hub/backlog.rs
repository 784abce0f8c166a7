//! Backlogs: reading old messages, a few at a time, through an interest of one's own.
//!
//! The reader pins what it has not read yet, so messages that expire or are evicted meanwhile are
//! still there for it. It lives only while one request is being answered, and is dropped with its
//! worker like any other interest.

use crate::hub::{Hub, Reader, Subscribed};
use crate::model::{Message, Seconds, Since};
use crate::store::arena::Handle;
use crate::store::channel::Channel;
use crate::store::message::{BINARY, Message as Record, REPLAYABLE, STORED};
use crate::store::undo::Section;
use crate::store::zone::Store;
use crate::wire::resume::Selection;

/// Messages that one section looks at.
const BATCH: usize = 32;
/// Steps back from the newest message that the attaching section takes to find where a backlog
/// begins; a longer one is found by reading forward, in sections of their own.
const STEPS_BACK_MAX: u64 = 64;

/// The old messages of one channel that are still to be read.
#[derive(Debug)]
pub(super) struct Backlog {
    pub(super) reader: Reader,
    id: Box<[u8]>,
    backtrack: Option<u64>,
    since: Owned,
    /// Messages stored when it was opened, and how many of them the start has skipped.
    stored: u64,
    skipped: u64,
    /// Id of the last message that belongs to it.
    pub(super) until: u64,
    /// Time and tag of the channel's last message then.
    newest: (Seconds, u64),
}

/// [`Since`] for as long as the backlog is read.
#[derive(Debug, Default)]
struct Owned {
    time: Option<Seconds>,
    tag: Option<u64>,
    event_id: Option<Box<[u8]>>,
}

/// What a backlog came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Messages handed out.
    pub messages: u64,
    /// Time and tag of the newest message of the channels that contributed: what a polling answer
    /// announces, if it is later than what the subscriber said itself.
    pub newest: Option<(Seconds, u64)>,
    /// Some messages are so new that they have to wait for the next request (only if `bounded`). If
    /// nothing was handed out, that request is due now: leave, and subscribe again.
    pub held_back: bool,
}

impl Backlog {
    /// Opens a reader where the selection can begin. The inner `None`: nothing to read. The outer:
    /// no memory.
    #[expect(clippy::option_option, reason = "no memory is not the same as nothing to read")]
    pub(super) fn open(
        section: &Section<'_>,
        handle: Handle<Channel>,
        shard: usize,
        id: &[u8],
        selection: &Selection<'_>,
        stored: u64,
    ) -> Option<Option<Self>> {
        let channel = section.get(handle);
        let span = selection.span(stored);
        let start = if span < stored && span <= STEPS_BACK_MAX {
            newest_stored(section, channel, span)
        } else {
            None
        };
        let skipped = if start.is_some() { stored - span } else { 0 };
        let Some(start) = start.or_else(|| channel.stored_first.get()) else {
            return Some(None);
        };
        let read_to = section.get(start).id.get().saturating_sub(1);
        let interest = section.make_interest(handle, 0, 0, read_to, Some(start))?;
        Some(Some(Self {
            reader: Reader { shard, interest },
            id: id.into(),
            backtrack: selection.last(),
            since: Owned::default(),
            stored,
            skipped,
            until: 0,
            newest: (channel.time.time(), channel.tag.get()),
        }))
    }

    pub(super) fn selects(&mut self, since: Since<'_>) {
        self.since =
            Owned { time: since.time, tag: since.tag, event_id: since.event_id.map(Box::from) };
    }
}

impl Hub {
    /// Hands out the selected old messages, channel by channel in request order, and closes the
    /// backlog.
    pub fn read_backlog(
        &mut self,
        subscribed: &mut Subscribed,
        now: Seconds,
        each: &mut dyn FnMut(&Message<'_>),
    ) -> Replayed {
        let mut replayed = Replayed::default();
        for backlog in core::mem::take(&mut subscribed.backlogs) {
            let before = replayed.messages;
            self.read_one(&backlog, subscribed.bound, now, &mut replayed, each);
            if replayed.messages > before {
                let newest = subscribed.bound.map_or(backlog.newest, |b| b.min(backlog.newest));
                replayed.newest = replayed.newest.max(Some(newest));
            }
        }
        replayed
    }

    fn read_one(
        &mut self,
        backlog: &Backlog,
        bound: Option<(Seconds, u64)>,
        now: Seconds,
        replayed: &mut Replayed,
        each: &mut dyn FnMut(&Message<'_>),
    ) {
        let Reader { shard, interest } = backlog.reader;
        let since = Since {
            time: backlog.since.time,
            tag: backlog.since.tag,
            event_id: backlog.since.event_id.as_deref(),
        };
        let mut selection = Selection::new(backlog.backtrack, since);
        let mut index = backlog.skipped;
        let mut batch = Vec::with_capacity(BATCH);
        let mut content = Vec::new();
        loop {
            self.next_batch(backlog, &mut batch);
            let Some(last) = batch.last().copied() else { break };
            for handle in batch.drain(..) {
                let record = self.store.arena.get(handle);
                if !record.has(REPLAYABLE) {
                    continue;
                }
                content.clear();
                let message = self.store.message(handle, &backlog.id, &mut content);
                let (time, tag) = (message.time, message.tag);
                let wanted = selection.wants(time, tag, message.event_id, index, backlog.stored);
                index += 1;
                if !wanted || record.expires.time() <= now {
                    continue;
                }
                if bound.is_some_and(|bound| (time, tag) > bound) {
                    replayed.held_back = true;
                    continue;
                }
                replayed.messages += 1;
                each(&message);
            }
            let to = self.store.arena.get(last).id.get();
            loop {
                let section = self.store.section(shard);
                let passed = section.pass_some(interest, to, now);
                section.commit();
                if passed == 0 {
                    break;
                }
            }
        }
        self.store.retire(shard, interest, now);
    }

    /// The next messages of a backlog, which the reader pins.
    fn next_batch(&self, backlog: &Backlog, batch: &mut Vec<Handle<Record>>) {
        let section = self.store.section(backlog.reader.shard);
        let mut at = section.get(backlog.reader.interest).next.get();
        while let Some(handle) = at.filter(|_| batch.len() < BATCH) {
            let record = section.get(handle);
            if record.id.get() > backlog.until {
                break;
            }
            batch.push(handle);
            at = record.next.get();
        }
    }
}

impl Store {
    /// A message as the other layers see it; its content goes to `content`, which is empty.
    pub(super) fn message<'a>(
        &self,
        handle: Handle<Record>,
        channel: &'a [u8],
        content: &'a mut Vec<u8>,
    ) -> Message<'a> {
        let record = self.arena.get(handle);
        self.read_content(handle, content);
        let lengths = record.lengths();
        let (event_id, rest) = content.split_at(lengths.event_id.unwrap_or(0));
        let (event_type, text) = rest.split_at(lengths.event_type.unwrap_or(0));
        Message {
            id: record.id.get().cast_signed(),
            channel,
            time: record.time.time(),
            tag: record.tag.get(),
            event_id: lengths.event_id.map(|_| event_id),
            event_type: lengths.event_type.map(|_| event_type),
            text,
            binary: record.has(BINARY),
        }
    }
}

/// The `count`-th stored message from the newest, if it is near.
fn newest_stored(section: &Section<'_>, channel: &Channel, count: u64) -> Option<Handle<Record>> {
    let mut left = count;
    let mut at = channel.last.get();
    // Messages that are not stored may stand between: give up after as many steps again.
    for _ in 0..2 * STEPS_BACK_MAX {
        let handle = at?;
        let record = section.get(handle);
        if record.has(STORED) {
            left = left.checked_sub(1)?;
            if left == 0 {
                return Some(handle);
            }
        }
        at = record.prev.get();
    }
    None
}
