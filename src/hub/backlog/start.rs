//! The first message of a backlog: where a reader begins.
//!
//! ```text
//!   oldest ── reader ─────────────────► first ─────────── newest
//!               │  everything is pinned   ▲                 │
//!               └──by event id────────────┤◄──by place──────┘
//! ```
//!
//! What is near the newest message is found in the section that registers the subscriber. Otherwise the
//! reader is opened at the oldest message, and the search goes on in sections of its own: backwards by
//! time and tag or by number, so it takes as many steps as there are messages to hand out, however many
//! are stored.

use crate::hub::backlog::{Backlog, next_batch};
use crate::hub::{Hub, Reader};
use crate::model::{Now, Seconds};
use crate::store::arena::Handle;
use crate::store::channel::Channel;
use crate::store::message::{Message as Record, REPLAYABLE, STORED};
use crate::store::undo::Section;
use crate::wire::resume::Selection;

/// The attaching section goes at most so many steps back from the newest message to find where a backlog
/// begins. The search for a longer one goes on in sections of its own.
const STEPS_BACK_MAX: u64 = 64;
/// Each of these goes so many steps.
const STEPS_PER_SECTION: usize = 256;

/// Where a backlog begins.
#[derive(Clone, Copy, Debug)]
pub(super) enum Start {
    /// At the reader.
    Found,
    /// At the message of this id.
    Id(u64),
    /// At the first message that the selection reaches.
    Place,
    /// At the oldest message that has the event id, or that the selection reaches.
    EventId,
    /// A search has found no such message.
    Nowhere,
}

/// The result of the search for the start.
#[derive(Clone, Copy, Debug)]
pub(in crate::hub) enum Begun {
    /// The backlog is empty.
    Nowhere,
    /// The reader is there.
    Here,
    /// The same, and the message there, of this time and tag and with this id, has the event id.
    After((Seconds, u64), u64),
}

/// Where a reader is opened.
pub(super) struct Entry {
    /// `None`: there is nothing to read.
    pub(super) from: Option<Handle<Record>>,
    pub(super) start: Start,
    /// How many stored messages lie before the start.
    pub(super) skipped: u64,
}

impl Entry {
    pub(super) fn find(
        section: &Section<'_>,
        channel: &Channel,
        selection: &Selection<'_>,
        stored: u64,
    ) -> Self {
        let mut skipped = 0;
        let mut from = section.oldest_stored(channel);
        let mut start = Start::Found;
        if selection.last().is_some() {
            let span = selection.span(stored);
            if span < stored
                && span <= STEPS_BACK_MAX
                && let Some(newest) = newest_stored(section, channel, span)
            {
                (from, skipped) = (Some(newest), stored - span);
            } else if span < stored
                && let Some(ids) = section.unbroken(channel)
            {
                (start, skipped) = (Start::Id(ids.start() + stored - span), stored - span);
            }
        } else if selection.needs_event_ids() {
            start = Start::EventId;
        } else if let Some(first) = first_reached(section, channel, selection) {
            from = first;
        } else {
            start = Start::Place;
        }
        Self { from, start, skipped }
    }
}

impl Hub {
    /// Moves the reader to where the backlog begins, ahead of reading.
    pub(in crate::hub) fn begin(
        &self,
        backlog: &mut Backlog,
        selection: &Selection<'_>,
        now: Now,
    ) -> Begun {
        let begun = self.find_start(backlog, selection, now);
        backlog.start = match begun {
            Begun::Nowhere => Start::Nowhere,
            Begun::Here | Begun::After(..) => Start::Found,
        };
        begun
    }

    /// Moves the reader to where the backlog begins.
    pub(super) fn find_start(
        &self,
        backlog: &Backlog,
        selection: &Selection<'_>,
        now: Now,
    ) -> Begun {
        let reader = backlog.reader;
        let mut begun = Begun::Here;
        let found = match backlog.start {
            Start::Found => return Begun::Here,
            Start::Nowhere => return Begun::Nowhere,
            Start::Id(id) => self.search_back(reader, |record| record.id() >= id),
            Start::Place => self.search_back(reader, |record| {
                let (time, tag) = self.store.place(record);
                selection.is_reached(time, tag)
            }),
            Start::EventId => self.search_event(backlog, selection).map(|(handle, id, found)| {
                begun = found;
                (handle, id)
            }),
        };
        let Some((handle, id)) = found else { return Begun::Nowhere };
        loop {
            let section = self.store.section(reader.shard);
            let is_there = section.leap(reader.interest, handle)
                || !section.skip_stored(reader.interest, id)
                    && section.pass_some(reader.interest, id.saturating_sub(1), now.steady) == 0;
            section.commit();
            if is_there {
                return begun;
            }
        }
    }

    /// The place of a backlog's first message behind this place. The reader stays where it is.
    pub(in crate::hub) fn first_behind(
        &self,
        backlog: &Backlog,
        place: (Seconds, u64),
    ) -> Option<(Seconds, u64)> {
        let place_of = |record: &Record| self.store.place(record);
        let first = self.search_back(backlog.reader, |record| place_of(record) > place);
        let (handle, _) = first.filter(|(_, id)| *id <= backlog.until)?;
        Some(place_of(self.store.arena.get(handle)))
    }

    /// The oldest message that the reader pins, among the newest ones for which `holds` is true.
    fn search_back(
        &self,
        reader: Reader,
        holds: impl Fn(&Record) -> bool,
    ) -> Option<(Handle<Record>, u64)> {
        let mut found: Option<(Handle<Record>, u64)> = None;
        loop {
            // The reader pins what was found, so it is still in the log.
            let section = self.store.section(reader.shard);
            let interest = section.get(reader.interest);
            let mut at = match found {
                Some((handle, _)) => section.get(handle).prev.get(),
                None => section.get(interest.channel.get()?).last.get(),
            };
            for _ in 0..STEPS_PER_SECTION {
                let Some(handle) = at else { return found };
                let record = section.get(handle);
                if record.id() <= interest.read_to.get() || !holds(record) {
                    return found;
                }
                found = Some((handle, record.id()));
                at = record.prev.get();
            }
        }
    }

    /// The oldest message of the backlog at which the selection starts. Of several messages with the
    /// same event id the oldest one counts, so this begins with the oldest message.
    fn search_event(
        &self,
        backlog: &Backlog,
        selection: &Selection<'_>,
    ) -> Option<(Handle<Record>, u64, Begun)> {
        let event_id = backlog.since.event_id.as_deref()?;
        self.first_from_start(backlog, |handle, record| {
            let is_named = self.store.event_id_is(handle, event_id);
            let (time, tag) = self.store.place(record);
            selection.starts_at(time, tag, is_named).then(|| {
                let begun =
                    if is_named { Begun::After((time, tag), record.id()) } else { Begun::Here };
                (handle, record.id(), begun)
            })
        })
    }

    /// Looks at the messages of a backlog that were stored once, from where its reader is on, until `look`
    /// finds something. Sections only go through the log: what the reader pins is looked at without a lock.
    pub(in crate::hub) fn first_from_start<R>(
        &self,
        backlog: &Backlog,
        look: impl Fn(Handle<Record>, &Record) -> Option<R>,
    ) -> Option<R> {
        let (store, mut batch) = (&self.store, Vec::with_capacity(STEPS_PER_SECTION));
        loop {
            next_batch(store, backlog.reader, backlog.until, STEPS_PER_SECTION, &mut batch);
            if batch.is_empty() {
                return None;
            }
            let found = batch.iter().find_map(|handle| {
                let record = store.arena.get(*handle);
                if record.has(REPLAYABLE) { look(*handle, record) } else { None }
            });
            if found.is_some() {
                return found;
            }
        }
    }
}

/// Where a selection by time and tag begins, if that is near the newest message. The inner `None`: there
/// is nothing that it selects.
#[expect(clippy::option_option, reason = "not to be found here is not the same as nothing")]
fn first_reached(
    section: &Section<'_>,
    channel: &Channel,
    selection: &Selection<'_>,
) -> Option<Option<Handle<Record>>> {
    let mut first = None;
    let mut at = channel.last.get();
    for _ in 0..STEPS_BACK_MAX {
        let Some(handle) = at else { return Some(first) };
        let record = section.get(handle);
        let (time, tag) = section.store.place(record);
        if !selection.is_reached(time, tag) {
            return Some(first);
        }
        if record.has(STORED) {
            first = Some(handle);
        }
        at = record.prev.get();
    }
    None
}

/// The `count`-th stored message from the newest, if it is near.
fn newest_stored(section: &Section<'_>, channel: &Channel, count: u64) -> Option<Handle<Record>> {
    let mut left = count;
    let mut at = channel.last.get();
    // Messages that are not stored may stand between. Gives up after as many steps again.
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

#[cfg(test)]
mod tests {
    use crate::hub::sim::World;
    use crate::hub::{Hub, Post, Rules, Stay, Subscribe};
    use crate::model::{Now, Seconds, Since, Token};
    use crate::wire::resume::Selection;

    /// Two messages a second; one event id for every three messages, and all of them again after 100.
    fn publish(hub: &mut Hub, n: u64, store: bool, rules: &Rules) {
        let event_id = n.is_multiple_of(3).then(|| format!("event {}", n % 100));
        let text = n.to_string();
        let post = Post {
            event_id: event_id.as_deref().map(str::as_bytes),
            event_type: None,
            body: &[text.as_bytes()],
            binary: false,
            store,
            may_be_empty: false,
            ..Post::default()
        };
        hub.publish(&[b"a"], &post, rules, Now::both(time_of(n))).expect("room");
    }

    const fn time_of(n: u64) -> Seconds {
        1000 + (n / 2).cast_signed()
    }

    fn world(count: u64, is_stored: impl Fn(u64) -> bool) -> World {
        let mut world = World::new(1 << 20, 3);
        world.rules.message_ttl_secs = 1_000_000;
        let rules = world.rules.clone();
        for n in 1..=count {
            publish(world.hub(1), n, is_stored(n), &rules);
        }
        world.now = Now::both(time_of(count));
        world
    }

    /// Those that a subscriber with this place gets, and how many records its worker looks at.
    fn ask(world: &mut World, backtrack: Option<u64>, since: Since<'_>) -> (Vec<u64>, u64) {
        let (rules, now) = (world.rules.clone(), world.now);
        let request = Subscribe {
            requested: &[(b"a", backtrack)],
            since,
            authorized_only: false,
            wildcard_max: None,
            events_channel_allowed: true,
            stay: Stay::No,
            bounded: false,
            ordered: false,
            form: 0,
            token: Token::new(7, 7),
        };
        let hub = world.hub(0);
        hub.store.longest_section.set(0);
        let before = hub.store.arena.looks.get();
        let mut subscribed = hub.subscribe(&request, &rules, now).expect("room");
        let mut got = Vec::new();
        hub.read_backlog(&mut subscribed, now, &mut |message| {
            let text = core::str::from_utf8(message.text).expect("digits");
            got.push(text.parse().expect("a number"));
            true
        });
        let longest = hub.store.longest_section.get();
        assert!(longest < 1500, "a section looks at {longest} records");
        let looks = hub.store.arena.looks.get() - before;
        (got, looks)
    }

    /// All ways of saying a place.
    fn places(count: u64) -> Vec<(Option<u64>, Since<'static>)> {
        let mut places: Vec<_> = [1, 64, 65, 300, count - 1, count, 9999]
            .map(|last| (Some(last), Since::default()))
            .into();
        for n in [1, 2, 64, 257, 600, count - 65, count - 64, count - 1, count, 9999] {
            for tag in [None, Some(0), Some(1), Some(2), Some(9)] {
                let time = Some(time_of(n));
                places.push((None, Since { time, tag, ..Since::default() }));
                for event_id in [&b"event 9"[..], b"event 99", b"event 9 ", b"other"] {
                    let event_id = Some(event_id);
                    places.push((None, Since { time, tag, event_id, cursor: None }));
                    places.push((None, Since { time: None, tag, event_id, cursor: None }));
                }
            }
        }
        places
    }

    #[test]
    #[cfg_attr(miri, ignore = "thousands of messages take Miri minutes")]
    fn a_search_finds_what_going_through_all_messages_finds() {
        for is_stored in [|_| true, |n: u64| n % 7 != 3 || n > 500] {
            let mut world = world(800, is_stored);
            let all: Vec<u64> = (1..=800).filter(|n| is_stored(*n)).collect();
            for (backtrack, since) in places(800) {
                let mut selection = Selection::new(backtrack, since);
                let mut index = 0;
                let expected: Vec<u64> = all
                    .iter()
                    .copied()
                    .filter(|n| {
                        // A second has an even number and the next one.
                        let tag = if *n == 1 { 1 } else { 1 + n % 2 };
                        let event_id = n.is_multiple_of(3).then(|| format!("event {}", n % 100));
                        let event_id = event_id.as_deref().map(str::as_bytes);
                        index += 1;
                        selection.wants(time_of(*n), tag, event_id, index - 1, all.len() as u64)
                    })
                    .collect();
                let (got, _) = ask(&mut world, backtrack, since);
                assert_eq!(got, expected, "{backtrack:?} {since:?}");
            }
            world.check("at rest");
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "thousands of messages take Miri minutes")]
    fn nothing_is_lost_while_others_discard_what_is_searched() {
        let asked = [
            (Some(700), Since::default()),
            (None, Since { time: Some(time_of(100)), tag: Some(1), ..Since::default() }),
            (None, Since { event_id: Some(b"event 99"), ..Since::default() }),
        ];
        for (backtrack, since) in asked {
            let expected = ask(&mut world(800, |_| true), backtrack, since).0;
            for at in 0..30 {
                let mut world = world(800, |_| true);
                let mut other = world.workers[2].take().expect("it lives");
                let mut rules = world.rules.clone();
                rules.stored_max = Some(790);
                let mut step = 0;
                world.hub(0).store.between.set(move || {
                    // Before that there is no reader yet, and what is discarded is rightly gone.
                    step += 1;
                    if step > 1 + at {
                        publish(&mut other, 800 + step, step % 2 == 0, &rules);
                    }
                });
                let got = ask(&mut world, backtrack, since).0;
                world.hub(0).store.between.clear();
                assert_eq!(got, expected, "{backtrack:?} {since:?}, from section {at}");
            }
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "megabytes take Miri minutes")]
    fn event_ids_are_compared_outside_of_sections() {
        let mut world = World::new(8 << 20, 2);
        let (rules, now) = (world.rules.clone(), world.now);
        let event_id = |n: u64| [vec![b'x'; 9000], n.to_string().into_bytes()].concat();
        for n in 100..500 {
            let event_id = event_id(n);
            let text: &[&[u8]] = &[b"100"];
            let (event_id, body) = (Some(&*event_id), text);
            let post = Post { event_id, body, store: true, ..Post::default() };
            world.hub(1).publish(&[b"a"], &post, &rules, now).expect("room");
        }
        let (got, _) =
            ask(&mut world, None, Since { event_id: Some(&event_id(489)), ..Since::default() });
        assert_eq!(got.len(), 10);
        let longest = world.hub(0).store.longest_section.get();
        let expected = 2 * super::STEPS_PER_SECTION as u64;
        assert!(longest < expected + 50, "a section looks at {longest} records");
    }

    #[test]
    #[cfg_attr(miri, ignore = "thousands of messages take Miri minutes")]
    fn a_search_backwards_costs_as_much_however_many_are_stored() {
        let looks = [400, 4000].map(|count| {
            let mut world = world(count, |_| true);
            let time = Some(time_of(count - 200));
            let since = Since { time, tag: Some(1), ..Since::default() };
            let (got, by_place) = ask(&mut world, None, since);
            assert_eq!(got.len(), 200);
            let (got, by_number) = ask(&mut world, Some(200), Since::default());
            assert_eq!(got.len(), 200);
            by_place.max(by_number)
        });
        assert!(looks[1] < looks[0] + 50, "{looks:?} records");
    }
}
