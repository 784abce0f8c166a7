//! Backlogs: old messages are read a few at a time, through an interest that is made for it.
//!
//! ```text
//!   Backlog ──read──┬─► all handed out
//!                   └─► no room for more ──► Rest: a place, nothing pinned
//!     ┌──────────────────────────────────────┘
//!     └──read on──┬─► all handed out
//!                 ├─► no room for more ──park──► Rest
//!                 └─► Lagged: what comes next is gone
//! ```
//!
//! While it reads, this reader pins what it has not read yet, so messages that expire or are discarded
//! meanwhile are still there for it. It lives for one turn of the worker only, and is dropped with its
//! worker like any other interest. So a subscriber that takes its messages slowly does not hold memory
//! of the zone.

use crate::hub::backlog::start::{Entry, Start};
use crate::hub::{Hub, Reader, Subscribed};
use crate::model::{Latest, Message, Now, Reached, Seconds, Since, Token};
use crate::store::arena::Handle;
use crate::store::channel::Channel;
use crate::store::message::{Message as Record, REPLAYABLE, Readout};
use crate::store::undo::Section;
use crate::store::zone::Store;
use crate::wire::resume::Selection;

mod start;

pub(super) use start::Begun;

/// At most so many messages are looked at in one section.
const BATCH: usize = 32;
/// The old messages of one channel that are still to be read.
#[derive(Debug)]
pub(super) struct Backlog {
    pub(super) reader: Reader,
    id: Box<[u8]>,
    /// When the channel was created: one of the same name may have taken its place.
    created: u64,
    backtrack: Option<u64>,
    since: Owned,
    start: Start,
    /// How many messages were stored when it was opened, and how many of them lie before its start.
    stored: u64,
    skipped: u64,
    /// See [`Remaining::holes`].
    holes: u64,
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

/// The result of [`Hub::read_backlog`].
#[derive(Debug, Default)]
pub struct Replayed {
    /// Messages handed out.
    pub messages: u64,
    /// The newest message of the channels that contributed. The answer to a poll announces its time and tag
    /// if they are later than what the subscriber said itself.
    pub newest: Option<Reached>,
    /// Some messages are so new that they have to wait for the next request (only if `bounded`). If
    /// nothing was handed out, do that request now: leave, and subscribe again.
    pub held_back: bool,
    /// The messages that there was no room for. Read them with [`Hub::read_on`], before live messages.
    pub rest: Option<Rest>,
}

/// The old messages that a subscriber has not received yet. Once it is parked it pins nothing, and may
/// be dropped.
#[derive(Debug)]
pub struct Rest {
    /// Whose they are.
    token: Token,
    /// In request order, the next one last. Not empty.
    channels: Vec<Remaining>,
    /// Newer messages do not belong to it.
    bound: Option<(Seconds, u64)>,
    /// The messages of all channels are handed out in the order of publishing, and not one channel after the
    /// other.
    is_merged: bool,
    /// When it was first read, by the steady clock. What had expired then does not belong to it.
    opened: Seconds,
}

/// The rest of one channel's backlog.
#[derive(Debug)]
struct Remaining {
    id: Box<[u8]>,
    /// When the channel was created: one of the same name may have taken its place.
    created: u64,
    /// Id of the next message to hand out. The subscriber wants all from it to `until`, or the bound.
    next: u64,
    /// Time and tag of that message.
    place: (Seconds, u64),
    until: u64,
    /// What [`Section::holes`] said when nothing of it had gone yet.
    holes: u64,
    /// `None` while it is parked.
    reader: Option<Reader>,
}

impl Rest {
    /// The ids of its channels.
    pub fn channels(&self) -> impl Iterator<Item = &[u8]> {
        self.channels.iter().map(|channel| &*channel.id)
    }

    /// The channel with the oldest message, and the place of the oldest one in the others.
    fn oldest(&self) -> Option<(usize, Option<(Seconds, u64)>)> {
        let places = || self.channels.iter().map(|channel| channel.place).enumerate();
        let (oldest, _) = places().min_by_key(|(_, place)| *place)?;
        let others = places().filter(|(at, _)| *at != oldest);
        Some((oldest, others.map(|(_, place)| place).min()))
    }
}

impl Remaining {
    fn of(backlog: Backlog, next: Next, reader: Option<Reader>) -> Self {
        let Backlog { id, created, until, holes, .. } = backlog;
        let Next { id: next, place } = next;
        Self { id, created, next, place, until, holes, reader }
    }
}

/// Which of a channel's remaining messages are handed out.
struct Terms {
    /// No newer ones.
    bound: Option<(Seconds, u64)>,
    /// Only older ones.
    limit: Option<(Seconds, u64)>,
    /// Those that had expired then are passed over. One that has expired since is a gap.
    opened: Seconds,
}

/// The result of [`Hub::read_on`].
#[derive(Debug)]
pub struct Reading {
    /// The messages that there was no room for. Park it before the worker does anything else.
    pub rest: Option<Rest>,
    /// Channels that were deleted before all of their messages were read.
    pub gone: Vec<Box<[u8]>>,
}

/// A subscriber was so slow that its next message is no longer stored, or has expired. To go on would
/// leave a gap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lagged {
    /// The channels with messages that were not handed out, and how many were published in each from the
    /// next one to the last one that belongs to the backlog.
    pub left: Vec<(Box<[u8]>, u64)>,
    /// Channels that were deleted before all of their messages were read.
    pub gone: Vec<Box<[u8]>>,
}

/// The next message of a channel is gone, or there is no memory for a reader.
struct Missing;

/// How far a reader got.
enum Stop {
    End,
    /// Before this message: there was no room for it, or others are older.
    Before(Next),
}

/// The message that is to be handed out next.
struct Next {
    id: u64,
    place: (Seconds, u64),
}

impl Backlog {
    /// Opens a reader where the selection can begin. The inner `None`: there is nothing to read. The
    /// outer `None`: there is no memory.
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
        let Entry { from, start, skipped } = Entry::find(section, channel, selection, stored);
        let Some(from) = from else { return Some(None) };
        let reader = open_reader(section, handle, shard, from)?;
        Some(Some(Self {
            reader,
            id: id.into(),
            created: channel.created.get(),
            backtrack: selection.last(),
            since: Owned::default(),
            start,
            stored,
            skipped,
            holes: section.holes(),
            until: 0,
            newest: section.store.last_place(channel),
        }))
    }

    /// How far its subscriber is with all of it, up to this bound.
    fn reaches(&self, bound: Option<(Seconds, u64)>) -> Reached {
        match bound {
            Some(bound) if bound < self.newest => bound.into(),
            // Without a bound live messages come next, which may be older than the newest one.
            _ => Reached { place: self.newest, latest: bound.map(|_| self.latest()) },
        }
    }

    /// The newest message that belongs to it.
    fn latest(&self) -> Latest {
        Latest { channel: self.channel_number(), id: self.until }
    }

    /// See [`Latest::channel`].
    fn channel_number(&self) -> u32 {
        self.created as u32
    }

    pub(super) fn selects(&mut self, since: Since<'_>) {
        self.since =
            Owned { time: since.time, tag: since.tag, event_id: since.event_id.map(Box::from) };
    }

    /// No message of it has the event id, but another channel's has: it begins behind that place. Its reader
    /// is still at the oldest message.
    pub(super) fn begins_behind(&mut self, since: Since<'_>) {
        self.selects(since);
        self.start = Start::Place;
    }
}

impl Hub {
    /// Hands out the selected old messages, channel by channel in request order, and closes the
    /// backlog; those of an `ordered` subscriber in the order of publishing. `each` answers whether there is
    /// room for more. Messages that come when there is none are
    /// in [`Replayed::rest`], parked.
    pub fn read_backlog(
        &mut self,
        subscribed: &mut Subscribed,
        now: Now,
        each: &mut dyn FnMut(&Message<'_>) -> bool,
    ) -> Replayed {
        if subscribed.is_ordered {
            return self.read_merged_backlog(subscribed, now, each);
        }
        let mut replayed = Replayed::default();
        let mut has_room = true;
        let mut channels = Vec::new();
        for backlog in core::mem::take(&mut subscribed.backlogs) {
            let before = replayed.messages;
            let stop = self.read_one(
                &backlog,
                subscribed.bound(),
                now,
                &mut replayed,
                &mut has_room,
                each,
            );
            self.close_reader(subscribed.token, backlog.reader, now);
            if replayed.messages > before || matches!(stop, Stop::Before(_)) {
                replayed.newest = replayed.newest.max(Some(backlog.reaches(subscribed.bound())));
            }
            if let Stop::Before(next) = stop {
                channels.push(Remaining::of(backlog, next, None));
            }
        }
        channels.reverse();
        let (token, bound, opened) = (subscribed.token, subscribed.bound(), now.steady);
        let rest = Rest { token, channels, bound, is_merged: false, opened };
        replayed.rest = (!rest.channels.is_empty()).then_some(rest);
        replayed
    }

    fn read_merged_backlog(
        &mut self,
        subscribed: &mut Subscribed,
        now: Now,
        each: &mut dyn FnMut(&Message<'_>) -> bool,
    ) -> Replayed {
        let mut replayed = Replayed::default();
        let (token, bound) = (subscribed.token, subscribed.bound());
        let opened = now.steady;
        let mut rest = Rest { token, channels: Vec::new(), bound, is_merged: true, opened };
        for backlog in core::mem::take(&mut subscribed.backlogs) {
            // Finds the first one, and goes no further.
            let (reader, has_room) = (backlog.reader, &mut false);
            match self.read_one(&backlog, bound, now, &mut replayed, has_room, each) {
                Stop::End => self.close_reader(token, reader, now),
                Stop::Before(next) => {
                    replayed.newest = replayed.newest.max(Some(backlog.reaches(bound)));
                    rest.channels.push(Remaining::of(backlog, next, Some(reader)));
                }
            }
        }
        let mut count = 0;
        let mut each = |message: &Message<'_>| {
            count += 1;
            each(message)
        };
        // No message has gone meanwhile: all of them are pinned.
        let _ = self.read_merged(&mut rest, now, &mut each, &mut Vec::new());
        self.park(&mut rest, now);
        replayed.messages = count;
        replayed.rest = (!rest.channels.is_empty()).then_some(rest);
        replayed
    }

    /// Hands out messages for as long as there is room, the oldest of all channels first.
    fn read_merged(
        &mut self,
        rest: &mut Rest,
        now: Now,
        each: &mut dyn FnMut(&Message<'_>) -> bool,
        gone: &mut Vec<Box<[u8]>>,
    ) -> Result<(), Missing> {
        let Rest { token, bound, opened, .. } = *rest;
        let mut has_room = true;
        while let Some((at, limit)) = rest.oldest().filter(|_| has_room) {
            let Some(channel) = rest.channels.get_mut(at) else { break };
            let is_open = |reader: &Reader| self.readers.borrow().contains(&(token, *reader));
            let reader = match channel.reader.filter(is_open) {
                Some(reader) => Some(reader),
                None => self.reopen(channel, token, now)?,
            };
            channel.reader = reader;
            let Some(reader) = reader else {
                gone.push(rest.channels.remove(at).id);
                continue;
            };
            let terms = Terms { bound, limit, opened };
            match self.read_remaining(reader, channel, &terms, now, &mut has_room, each)? {
                Stop::Before(Next { id, place }) => (channel.next, channel.place) = (id, place),
                Stop::End => {
                    self.close_reader(token, reader, now);
                    rest.channels.remove(at);
                }
            }
        }
        Ok(())
    }

    /// Hands out more of the messages that there was no room for.
    ///
    /// # Errors
    ///
    /// [`Lagged`]: the next message is gone, or there is no memory for a reader.
    pub fn read_on(
        &mut self,
        mut rest: Rest,
        now: Now,
        each: &mut dyn FnMut(&Message<'_>) -> bool,
    ) -> Result<Reading, Lagged> {
        let mut gone = Vec::new();
        let read = if rest.is_merged {
            self.read_merged(&mut rest, now, each, &mut gone)
        } else {
            self.read_in_turn(&mut rest, now, each, &mut gone)
        };
        if let Err(Missing) = read {
            self.park(&mut rest, now);
            let left = rest.channels.into_iter();
            let left = left
                .map(|Remaining { id, next, until, .. }| (id, (until + 1).saturating_sub(next)));
            return Err(Lagged { left: left.collect(), gone });
        }
        Ok(Reading { rest: (!rest.channels.is_empty()).then_some(rest), gone })
    }

    /// Hands out messages for as long as there is room, one channel after the other.
    fn read_in_turn(
        &mut self,
        rest: &mut Rest,
        now: Now,
        each: &mut dyn FnMut(&Message<'_>) -> bool,
        gone: &mut Vec<Box<[u8]>>,
    ) -> Result<(), Missing> {
        let mut has_room = true;
        while let Some(channel) = rest.channels.last_mut() {
            let is_open = |reader: &Reader| self.readers.borrow().contains(&(rest.token, *reader));
            channel.reader = channel.reader.filter(is_open);
            if channel.reader.is_none() {
                channel.reader = self.reopen(channel, rest.token, now)?;
            }
            if let Some(reader) = channel.reader {
                let terms = Terms { bound: rest.bound, limit: None, opened: rest.opened };
                match self.read_remaining(reader, channel, &terms, now, &mut has_room, each)? {
                    Stop::Before(Next { id, place }) => {
                        (channel.next, channel.place) = (id, place);
                        return Ok(());
                    }
                    Stop::End => self.close_reader(rest.token, reader, now),
                }
            }
            if let Some(done) = rest.channels.pop()
                && done.reader.is_none()
            {
                gone.push(done.id);
            }
        }
        Ok(())
    }

    /// Keeps the place, and stops pinning the messages.
    pub fn park(&mut self, rest: &mut Rest, now: Now) {
        for reader in rest.channels.iter_mut().filter_map(|channel| channel.reader.take()) {
            self.close_reader(rest.token, reader, now);
        }
    }

    /// Closes all readers of a subscriber, wherever their places are kept.
    pub(super) fn close_readers(&mut self, token: Token, now: Now) {
        while let Some((_, reader)) =
            self.readers.get_mut().iter().copied().find(|(owner, _)| *owner == token)
        {
            self.close_reader(token, reader, now);
        }
    }

    /// Drops a reader. If that panics, the reader is still there, and the next tick tries again. One that is
    /// closed already is left alone: its record may be somebody else's by now.
    pub(super) fn close_reader(&mut self, token: Token, reader: Reader, now: Now) {
        let is_it = |open: &(Token, Reader)| *open == (token, reader);
        if self.readers.get_mut().iter().any(is_it) {
            self.store.retire(reader.shard, reader.interest, now.steady);
            self.readers.get_mut().retain(|open| !is_it(open));
        }
    }

    fn read_one(
        &mut self,
        backlog: &Backlog,
        bound: Option<(Seconds, u64)>,
        now: Now,
        replayed: &mut Replayed,
        has_room: &mut bool,
        each: &mut dyn FnMut(&Message<'_>) -> bool,
    ) -> Stop {
        let since = Since {
            time: backlog.since.time,
            tag: backlog.since.tag,
            event_id: backlog.since.event_id.as_deref(),
            cursor: None,
        };
        let mut selection = Selection::new(backlog.backtrack, since);
        if matches!(self.find_start(backlog, &selection, now), Begun::Nowhere) {
            return Stop::End;
        }
        let number = backlog.channel_number();
        let mut index = backlog.skipped;
        let mut readout = Readout::default();
        self.walk(backlog.reader, backlog.until, now, &mut |store, handle, record| {
            let (time, tag) = store.place(record);
            let event_id = if selection.needs_event_ids() {
                readout.read_one(store, handle, (&backlog.id, number)).event_id
            } else {
                None
            };
            let wanted = selection.wants(time, tag, event_id, index, backlog.stored);
            index += 1;
            if !wanted || store.steady(&record.expires) <= now.steady {
                return true;
            }
            if bound.is_some_and(|bound| (time, tag) > bound) {
                replayed.held_back = true;
                return true;
            }
            if !*has_room {
                return false;
            }
            replayed.messages += 1;
            *has_room = each(&readout.read_one(store, handle, (&backlog.id, number)));
            true
        })
    }

    fn read_remaining(
        &mut self,
        reader: Reader,
        channel: &mut Remaining,
        terms: &Terms,
        now: Now,
        has_room: &mut bool,
        each: &mut dyn FnMut(&Message<'_>) -> bool,
    ) -> Result<Stop, Missing> {
        let mut readout = Readout::default();
        let (mut lagged, mut found, mut handed_out) = (Ok(()), false, None);
        let stop = self.walk(reader, channel.until, now, &mut |store, handle, record| {
            let place = store.place(record);
            // An expired message is not handed out, even if no tick has discarded it yet.
            let expires = store.steady(&record.expires);
            if record.id() < channel.next
                || terms.bound.is_some_and(|bound| place > bound)
                || expires <= terms.opened
            {
                return true;
            }
            if terms.limit.is_some_and(|limit| place >= limit) {
                return false;
            }
            let is_gone = expires <= now.steady
                || (!core::mem::replace(&mut found, true) && record.id() != channel.next);
            if is_gone {
                lagged = Err(Missing);
            }
            if !*has_room || is_gone {
                return false;
            }
            *has_room =
                each(&readout.read_one(store, handle, (&channel.id, channel.created as u32)));
            handed_out = Some(record.id());
            true
        });
        if let (Err(Missing), Some(id)) = (&lagged, handed_out) {
            channel.next = id + 1;
        }
        // Nothing found: the messages expired before older ones, by a shorter time to live.
        if found { lagged.map(|()| stop) } else { Err(Missing) }
    }

    /// Calls `each` for the messages that were stored once, up to the id `until`, as long as it answers
    /// true. The messages that it has passed are not pinned any more.
    fn walk(
        &mut self,
        reader: Reader,
        until: u64,
        now: Now,
        each: &mut dyn FnMut(&Store, Handle<Record>, &Record) -> bool,
    ) -> Stop {
        let store = &self.store;
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            next_batch(store, reader, until, BATCH, &mut batch);
            let Some(last) = batch.last() else { return Stop::End };
            let mut to = store.arena.get(*last).id();
            let mut stop = None;
            for handle in batch.drain(..) {
                let record = store.arena.get(handle);
                if record.has(REPLAYABLE) && !each(store, handle, record) {
                    let next = Next { id: record.id(), place: store.place(record) };
                    to = next.id.saturating_sub(1);
                    stop = Some(Stop::Before(next));
                    break;
                }
            }
            loop {
                let section = store.section(reader.shard);
                let passed = section.pass_some(reader.interest, to, now.steady);
                section.commit();
                if passed == 0 {
                    break;
                }
            }
            if let Some(stop) = stop {
                return stop;
            }
        }
    }

    /// Opens a reader at the next message to hand out, if none has gone that belongs to the rest. `None`: the
    /// channel is gone.
    fn reopen(
        &mut self,
        remaining: &mut Remaining,
        token: Token,
        now: Now,
    ) -> Result<Option<Reader>, Missing> {
        let hash = self.store.hash(&remaining.id);
        let shard = self.store.shard_of(hash);
        let opened = self.with_room(now, |hub| {
            let section = hub.store.section(shard);
            let found = section.find(hash, &remaining.id);
            let Some(handle) =
                found.filter(|handle| section.get(*handle).created.get() == remaining.created)
            else {
                return Some(Ok(None));
            };
            // The oldest messages are discarded first. If the oldest that may be stored is newer than
            // the next one, that was discarded.
            let oldest = section.get(handle).stored_link().get();
            let is_there = |oldest: &Handle<Record>| section.get(*oldest).id() <= remaining.next;
            let Some(start) = oldest.filter(is_there) else { return Some(Err(Missing)) };
            // If all that belong to the rest are stored, none has gone, else one may have.
            let holes = section.holes();
            let unbroken = section.unbroken(section.get(handle));
            let is_whole = unbroken
                .is_some_and(|ids| ids.contains(&remaining.next) && ids.contains(&remaining.until));
            if holes != remaining.holes && !is_whole {
                return Some(Err(Missing));
            }
            let reader = open_reader(&section, handle, shard, start)?;
            section.commit();
            hub.readers.borrow_mut().push((token, reader));
            Some(Ok(Some((reader, holes))))
        });
        let Some((reader, holes)) = opened.unwrap_or(Err(Missing))? else { return Ok(None) };
        remaining.holes = holes;
        self.seek(reader, remaining.next);
        Ok(Some(reader))
    }

    /// Moves a reader over stored messages to the one of this id, or to the first that is not stored.
    fn seek(&self, reader: Reader, id: u64) {
        loop {
            let section = self.store.section(reader.shard);
            let moved = section.skip_stored(reader.interest, id);
            section.commit();
            if !moved {
                return;
            }
        }
    }
}

fn open_reader(
    section: &Section<'_>,
    channel: Handle<Channel>,
    shard: usize,
    start: Handle<Record>,
) -> Option<Reader> {
    let read_to = section.get(start).id().saturating_sub(1);
    let interest = section.make_interest(channel, 0, 0, read_to, Some(start))?;
    Some(Reader { shard, interest })
}

/// Replaces a batch of messages by the next ones, at most so many; an empty one by those where the reader
/// is. It pins them.
fn next_batch(
    store: &Store,
    reader: Reader,
    until: u64,
    len: usize,
    batch: &mut Vec<Handle<Record>>,
) {
    let last = batch.last().copied();
    batch.clear();
    let section = store.section(reader.shard);
    // Nobody tells a reader of news. But up to `until` the link is right: those messages were in the
    // log when it was opened.
    let mut at = match last {
        Some(last) => section.get(last).next.get(),
        None => section.get(reader.interest).next_link().get(),
    };
    while let Some(handle) = at.filter(|_| batch.len() < len) {
        let record = section.get(handle);
        if record.id() > until {
            break;
        }
        batch.push(handle);
        at = record.next.get();
    }
}

#[cfg(test)]
mod tests {
    use super::Lagged;
    use crate::hub::sim::World;

    /// Channels a and b with so many stored messages, whose texts are their ids.
    fn world(a: u64, b: u64) -> World {
        let mut world = World::new(256 * 1024, 2);
        for (id, count) in [(b"a", a), (b"b", b)] {
            (1..=count).for_each(|n| publish(&mut world, id, n));
        }
        world
    }

    fn publish(world: &mut World, id: &[u8], n: u64) {
        world.publish(1, &[id], n.to_string().as_bytes(), true).expect("room");
    }

    fn numbers(texts: Vec<Vec<u8>>) -> Vec<u64> {
        let text = |text: Vec<u8>| String::from_utf8(text).expect("digits");
        texts.into_iter().map(|bytes| text(bytes).parse().expect("a number")).collect()
    }

    /// So many messages of channel a were not handed out.
    fn left(messages: u64) -> Lagged {
        Lagged { left: vec![(b"a".as_slice().into(), messages)], gone: Vec::new() }
    }

    /// Bytes of messages that are only kept for readers.
    fn pinned(world: &World) -> u64 {
        let audit = world.inspect();
        let being_read = audit.kinds.iter().find(|(name, _)| *name == "messages_being_read");
        being_read.expect("a kind").1.bytes
    }

    #[test]
    fn portions_make_up_the_whole() {
        for room in [1, 2, 31, 32, 33, 64, 100, 1000] {
            let mut world = world(150, 40);
            let asked: &[(&[u8], _)] = &[(b"a", Some(140)), (b"none", Some(5)), (b"b", Some(90))];
            let (texts, mut rest) = world.read_first(0, asked, room);
            let mut all = numbers(texts);
            while let Some(left) = rest {
                // A later message does not belong to the backlog.
                publish(&mut world, b"a", 9999);
                let (texts, more) = world.read_on(0, left, room).expect("it is there");
                assert!(
                    texts.len() == room || more.is_none(),
                    "a portion is full, but for the last"
                );
                all.extend(numbers(texts));
                rest = more;
            }
            assert_eq!(all, (11..=150).chain(1..=40).collect::<Vec<_>>(), "{room} at a time");
        }
    }

    #[test]
    fn messages_that_are_not_taken_pin_nothing() {
        let mut world = world(30, 0);
        world.rules.stored_max = Some(30);
        let (texts, rest) = world.read_first(0, &[(b"a", Some(30))], 10);
        assert_eq!(numbers(texts), (1..=10).collect::<Vec<_>>());
        (31..=41).for_each(|n| publish(&mut world, b"a", n));
        assert_eq!(pinned(&world), 0);
        world.check("at rest");
        let lagged = world.read_on(0, rest.expect("more is left"), 10).err();
        assert_eq!(lagged, Some(left(20)), "message 11 is gone, and is not passed over in silence");
    }

    #[test]
    fn the_last_message_before_a_gap_is_still_given() {
        let mut world = world(30, 0);
        world.rules.stored_max = Some(30);
        let (_, rest) = world.read_first(0, &[(b"a", Some(30))], 10);
        (31..=40).for_each(|n| publish(&mut world, b"a", n));
        let (texts, _) = world.read_on(0, rest.expect("more is left"), 1).expect("it is there");
        assert_eq!(numbers(texts), [11]);
    }

    #[test]
    fn a_message_that_expires_while_it_waits_is_a_gap_before_a_tick_too() {
        for ticks in [false, true] {
            let mut world = world(20, 0);
            world.now += 50;
            (21..=30).for_each(|n| publish(&mut world, b"a", n));
            let (_, rest) = world.read_first(0, &[(b"a", Some(30))], 10);
            world.now += 10;
            if ticks {
                world.tick(1);
            }
            let lagged = world.read_on(0, rest.expect("more is left"), 100).err();
            assert_eq!(lagged, Some(left(20)));
            assert_eq!(pinned(&world), 0);
            world.check("at rest");
        }
    }

    #[test]
    fn a_place_that_expired_before_older_messages_is_a_gap() {
        // With a tick it is gone, without one it is found behind others of the same turn.
        for (room, ticks) in [(20, true), (20, false), (10, false)] {
            let mut world = world(20, 0);
            world.rules.message_ttl_secs = 5; // After a reload.
            publish(&mut world, b"a", 21);
            world.rules.message_ttl_secs = 60;
            publish(&mut world, b"a", 22);
            let (texts, rest) = world.read_first(0, &[(b"a", Some(22))], room);
            assert_eq!(texts.len(), room);
            world.now += 6;
            if ticks {
                world.tick(1);
            }
            let lagged = world.read_on(0, rest.expect("more is left"), 99).err();
            assert_eq!(lagged, Some(left(2)), "{room} {ticks}");
            assert_eq!(pinned(&world), 0);
        }
    }

    /// Messages 1 to 30 of channel a, of which the 20th lives for 5 s only; with `mixed` some between them are
    /// not stored.
    fn world_with_a_short_life(mixed: bool) -> World {
        let mut world = world(19, 0);
        for n in 20..=30 {
            world.rules.message_ttl_secs = if n == 20 { 5 } else { 60 }; // By reloads.
            publish(&mut world, b"a", n);
            if mixed && n % 4 == 1 {
                world.publish(1, &[b"a"], b"not stored", false).expect("room");
            }
        }
        world
    }

    #[test]
    fn a_message_in_the_middle_that_goes_while_the_place_is_kept_is_a_gap() {
        for (mixed, ticks) in [(false, false), (false, true), (true, false), (true, true)] {
            let mut world = world_with_a_short_life(mixed);
            let (_, rest) = world.read_first(0, &[(b"a", Some(30))], 10);
            world.now += 6;
            if ticks {
                world.tick(1);
            }
            let lagged = world.read_on(0, rest.expect("more is left"), 100).err();
            assert!(lagged.is_some(), "{mixed} {ticks}");
            assert_eq!(pinned(&world), 0);
            // It comes back, and gets the others in parts.
            let (texts, mut rest) = world.read_first(0, &[(b"a", Some(30))], 25);
            let mut all = numbers(texts);
            while let Some(left) = rest {
                let (texts, more) = world.read_on(0, left, 2).expect("nothing has gone since");
                all.extend(numbers(texts));
                rest = more;
            }
            assert_eq!(all, (1..=30).filter(|n| *n != 20).collect::<Vec<_>>(), "{mixed} {ticks}");
            world.check("at rest");
        }
    }

    #[test]
    fn messages_at_the_end_that_go_while_the_place_is_kept_are_a_gap() {
        for ticks in [false, true] {
            let mut world = world(19, 0);
            world.rules.message_ttl_secs = 5; // By a reload.
            (20..=30).for_each(|n| publish(&mut world, b"a", n));
            let (_, rest) = world.read_first(0, &[(b"a", Some(30))], 10);
            world.now += 6;
            if ticks {
                world.tick(1);
            }
            let lagged = world.read_on(0, rest.expect("more is left"), 100).err();
            assert!(lagged.is_some(), "{ticks}");
            assert_eq!(pinned(&world), 0);
        }
    }

    #[test]
    fn what_goes_in_another_channel_is_no_gap() {
        let mut world = world_with_a_short_life(false);
        let shard_of = |world: &mut World, id: &[u8]| {
            let store = &world.hub(0).store;
            store.shard_of(store.hash(id))
        };
        let shard = shard_of(&mut world, b"a");
        let id = (b'b'..=b'z').map(|letter| [letter]).find(|id| shard_of(&mut world, id) == shard);
        let id = id.expect("some of 25 are in one of eight shards");
        (1..=30).for_each(|n| publish(&mut world, &id, n));
        let (_, rest) = world.read_first(0, &[(&id, Some(30))], 10);
        world.now += 6;
        world.tick(1);
        let (texts, _) = world.read_on(0, rest.expect("more"), 100).expect("it has all of them");
        assert_eq!(numbers(texts), (11..=30).collect::<Vec<_>>());
    }

    #[test]
    fn what_had_expired_before_is_passed_over_in_later_parts_too() {
        for room in [1, 5, 10, 18, 19, 20, 28, 29] {
            let mut world = world_with_a_short_life(false);
            world.now += 6;
            let (texts, mut rest) = world.read_first(0, &[(b"a", Some(30))], room);
            let mut all = numbers(texts);
            while let Some(left) = rest {
                let (texts, more) = world.read_on(0, left, room).expect("it is there");
                all.extend(numbers(texts));
                rest = more;
            }
            assert_eq!(all, (1..=30).filter(|n| *n != 20).collect::<Vec<_>>(), "{room} at a time");
        }
    }

    #[test]
    fn messages_newer_than_the_bound_are_left_for_the_next_request() {
        for room in [1, 3, 100] {
            let mut world = world(4, 30);
            let (texts, rest) = world.read_first(0, &[(b"a", Some(4)), (b"b", Some(30))], 4);
            assert_eq!(numbers(texts), [1, 2, 3, 4]);
            let mut rest = rest.expect("more is left");
            // As if the last ten of b had come while the answer's first channel was looked at.
            rest.bound = Some((world.now.wall, 4 + 20));
            let (mut all, mut rest) = (Vec::new(), Some(rest));
            while let Some(left) = rest {
                let (texts, more) = world.read_on(0, left, room).expect("it is there");
                all.extend(numbers(texts));
                rest = more;
            }
            assert_eq!(all, (1..=20).collect::<Vec<_>>(), "{room} at a time");
            assert_eq!(pinned(&world), 0);
        }
    }

    #[test]
    fn a_deleted_channel_is_over_and_the_next_one_follows() {
        let mut world = world(30, 5);
        let (_, rest) = world.read_first(0, &[(b"a", Some(30)), (b"b", Some(5))], 10);
        assert!(rest.as_ref().expect("more is left").channels().eq([&b"b"[..], b"a"]));
        world.delete(1, b"a", b"bye");
        // One of the same name is another channel.
        (1..=30).for_each(|_| publish(&mut world, b"a", 77));
        let (texts, rest) = world.read_on(0, rest.expect("more is left"), 3).expect("there");
        assert_eq!(numbers(texts), [1, 2, 3], "of b");
        world.delete(1, b"b", b"bye");
        let (texts, rest) = world.read_on(0, rest.expect("more is left"), 3).expect("over");
        assert_eq!((texts.len(), rest.is_some()), (0, false));
    }

    #[test]
    fn a_channel_that_was_collected_is_gone_as_a_deleted_one_is() {
        let mut world = world(30, 0);
        let (_, rest) = world.read_first(0, &[(b"a", Some(30))], 10);
        world.now += 100_000; // Its messages expire, and then it is idle.
        world.tick(1);
        world.now += 100_000;
        world.tick(1);
        let now = world.now;
        let rest = rest.expect("more is left");
        let read = world.hub(0).read_on(rest, now, &mut |_| true).expect("over");
        assert!(read.rest.is_none() && read.gone == [b"a"[..].into()]);
    }

    #[test]
    fn readers_between_messages_that_were_never_stored_leave_none_behind() {
        let mut world = world(0, 0);
        world.subscribe(1, &[(b"a", None)], 1).expect("room");
        for n in 1..=60 {
            world.publish(0, &[b"a"], n.to_string().as_bytes(), n % 3 == 0).expect("room");
        }
        let (texts, rest) = world.read_first(0, &[(b"a", Some(30))], 5);
        assert_eq!(numbers(texts), [3, 6, 9, 12, 15]);
        world.deliver(1);
        assert_eq!(pinned(&world), 0);
        let (texts, rest) = world.read_on(0, rest.expect("more is left"), 2).expect("there");
        assert_eq!((numbers(texts), rest.is_some()), (vec![18, 21], true));
        assert_eq!(pinned(&world), 0);
        world.check("at rest");
    }
}
