//! Gaps: does a subscriber that resumes get all that it asks for?
//!
//! The section that attaches it reads the place of the newest message that the channel no longer has. If
//! the subscriber's own place is older, something is missing. Messages that have expired and were not swept
//! yet are looked for among those that the subscriber's reader pins.
//!
//! ```text
//!   place given by time and tag ───────────────────────────────┐
//!   event id ──search──┬──► its message is there: that place ──┼─► older than what is lost? a gap
//!                      ├──► another channel has it: that place ┘
//!                      └──► none has it, and no time is given: not found
//! ```
//!
//! Without cursors a channel that does not have the event id gives nothing old: anything behind the place is a gap
//! then. Channels are judged when all of them are attached, by what each had when it was attached.
//!
//! How many are missing is told by ids: those from the subscriber's place to the newest one, without those
//! that it gets. The id at its place is in its cursor, or is that of a message which is still there.

use core::cell::Cell;

use crate::hub::backlog::{Backlog, Begun};
use crate::hub::{Hub, Subscribed};
use crate::model::{Cursor, Gap, Latest, Now, Seconds, Since};
use crate::store::channel::Channel;
use crate::store::undo::Section;
use crate::wire::resume::Selection;

/// At most so many messages are looked at to find the id at a place. They lie between it and the first stored
/// message behind it, and are kept because some worker has not read them yet.
const STEPS_BACK_MAX: usize = 256;

/// What a subscriber does not get of one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The channel's id.
    pub channel: Box<[u8]>,
    /// Why it does not get all.
    pub reason: Gap,
    /// How many messages it does not get; `None`: nobody knows.
    pub count: Option<u64>,
}

/// What a channel lacks when a subscriber is attached that resumes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lacks {
    lost: Option<((Seconds, u64), Gap)>,
    may_have_expired: bool,
    /// See [`Latest::channel`].
    channel_number: u32,
}

impl Lacks {
    pub(super) fn of(section: &Section<'_>, channel: &Channel, now: Now) -> Self {
        let lost = section.store.lost(channel);
        let may_have_expired = section.may_have_expired(now.steady);
        Self { lost, may_have_expired, channel_number: channel.number() }
    }
}

/// A channel of which something may be said to a subscriber.
#[derive(Debug)]
pub(super) struct Case<'a> {
    /// Its id.
    pub(super) channel: &'a [u8],
    /// Id of its newest message that the subscriber does not get as a live one.
    pub(super) newest: u64,
    /// If the subscriber resumes there: what the channel lacks.
    pub(super) lacks: Option<Lacks>,
    /// Which of its backlogs is that of this channel.
    pub(super) backlog: Option<usize>,
    /// Why the channel does not have all messages that came since the first one was attached, if so.
    pub(super) missed: Option<Gap>,
}

/// The message with the event id that a subscriber names: its place and id.
type Named = ((Seconds, u64), u64);

/// What is known about the channels of a request.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// What is wrong with the subscriber's cursor, whatever the channel.
    cursor: Option<Gap>,
    /// What the first channel lacks that lacks something.
    gap: Option<Gap>,
    /// None of the channels has the event id that the subscriber names.
    is_event_missing: bool,
    /// The subscriber is told of each channel that lacks something.
    has_all: bool,
    /// Those, in the order of the channels, if it is.
    missing: Vec<Missing>,
}

impl Findings {
    /// Those about the cursor of a request. `has_all`: the subscriber is told of each channel.
    pub(super) fn of_cursor(cursor: Option<Gap>, has_all: bool) -> Self {
        Self { cursor, has_all, ..Self::default() }
    }

    /// A channel does not have all that its subscriber is to get. `count`: how many it lacks, if that is known.
    /// If it lacks some for two reasons, nobody knows.
    pub(super) fn add(&mut self, channel: &[u8], reason: Gap, count: Option<u64>) {
        self.gap = self.gap.or(Some(reason));
        match self.missing.last_mut().filter(|last| *last.channel == *channel) {
            Some(last) => last.count = None,
            None if self.has_all => {
                self.missing.push(Missing { channel: channel.into(), reason, count });
            }
            None => {}
        }
    }

    /// All channels have been looked at. Without a place that is known in any of them, all lack something.
    pub(super) fn conclude<'a>(&mut self, channels: impl Iterator<Item = &'a [u8]>) {
        if let Some(reason) = self.everywhere().filter(|_| self.has_all) {
            let missing = |channel: &[u8]| Missing { channel: channel.into(), reason, count: None };
            self.missing = channels.map(missing).collect();
        }
    }

    /// What the subscriber is told of its channels.
    pub(super) fn missing(&self) -> &[Missing] {
        &self.missing
    }

    /// The first gap in the order of the channels.
    pub(super) fn gap(&self) -> Option<Gap> {
        self.cursor.or(self.gap).or(self.everywhere())
    }

    /// The gap of all channels: a cursor that is no place in this zone, or an event id that none of them has.
    fn everywhere(&self) -> Option<Gap> {
        self.cursor.or(self.is_event_missing.then_some(Gap::Unknown))
    }
}

impl Hub {
    /// Puts the place of a cursor, if there is one, in the place of all else that a subscriber says about
    /// what it has. A cursor that is no place in this zone asks for no old messages, and is a gap.
    pub(super) fn locate<'a>(&self, since: Since<'a>) -> (Since<'a>, Option<Gap>) {
        let Some(Cursor { life, time, tag, .. }) = since.cursor else { return (since, None) };
        let gap = if life != self.store.life() {
            Gap::Restarted
        } else if (time, tag) > self.newest_place() {
            Gap::Unknown
        } else {
            let (time, tag) = (Some(time), Some(tag));
            return (Since { time, tag, event_id: None, cursor: since.cursor }, None);
        };
        (Since::default(), Some(gap))
    }

    /// The life of the zone, by which cursors name it.
    pub fn life(&self) -> u64 {
        self.store.life()
    }

    /// Time and tag of a channel's newest message.
    #[cfg(test)]
    pub(crate) fn last_place_of(&self, id: &[u8]) -> Option<(Seconds, u64)> {
        let hash = self.store.hash(id);
        let section = self.store.section(self.store.shard_of(hash));
        let channel = section.get(section.find(hash, id)?);
        Some(self.store.last_place(channel))
    }

    /// Time and tag of the zone.
    fn newest_place(&self) -> (Seconds, u64) {
        let section = self.store.commons_section();
        let commons = section.commons();
        (commons.time.time(), commons.tag.get())
    }

    /// Finds out what is to be said about the channels of a subscriber, all of which are attached.
    pub(super) fn judge_all(
        &self,
        cases: &[Case<'_>],
        since: Since<'_>,
        subscribed: &mut Subscribed,
        now: Now,
    ) {
        let bound = subscribed.bound();
        let Subscribed { backlogs, findings, .. } = subscribed;
        let named = self.named(cases, since, backlogs, now);
        // If several channels have it, nothing behind the oldest of these messages is passed over.
        let elsewhere = named.iter().flatten().map(|(place, _)| *place).min();
        for (at, case) in cases.iter().enumerate() {
            if let Some(lacks) = case.lacks {
                let mut backlog = case.backlog.and_then(|at| backlogs.get_mut(at));
                let mut since = since;
                let named = named.get(at).copied().flatten();
                if named.is_none() && since.time.is_none() {
                    match elsewhere {
                        None => findings.is_event_missing = true,
                        Some(place) if findings.has_all => {
                            let (time, tag) = (Some(place.0), Some(place.1));
                            since = Since { time, tag, ..Since::default() };
                            if let Some(backlog) = &mut backlog {
                                backlog.begins_behind(since);
                            }
                        }
                        Some(place) => {
                            if self.has_behind(lacks, backlog.as_deref(), place, bound) {
                                findings.add(case.channel, Gap::Unknown, None);
                            }
                        }
                    }
                }
                if named.is_some() || since.time.is_some() {
                    let channel = (case.channel, case.newest);
                    self.judge(channel, lacks, since, named, backlog, now, findings);
                }
            }
            if let Some(reason) = case.missed {
                findings.add(case.channel, reason, None);
            }
        }
    }

    /// The messages with the event id of this subscriber, if it names one. Moves readers there.
    fn named(
        &self,
        cases: &[Case<'_>],
        since: Since<'_>,
        backlogs: &mut [Backlog],
        now: Now,
    ) -> Vec<Option<Named>> {
        let selection = Selection::new(None, since);
        if !selection.needs_event_ids() {
            return Vec::new();
        }
        let named = cases.iter().map(|case| {
            let backlog = case.backlog.filter(|_| case.lacks.is_some());
            let backlog = backlog.and_then(|at| backlogs.get_mut(at))?;
            match self.begin(backlog, &selection, now) {
                Begun::After(place, id) => Some((place, id)),
                Begun::Nowhere | Begun::Here => None,
            }
        });
        named.collect()
    }

    /// Does a channel have a message behind this place, or did it have one, that is not to wait?
    fn has_behind(
        &self,
        lacks: Lacks,
        backlog: Option<&Backlog>,
        place: (Seconds, u64),
        bound: Option<(Seconds, u64)>,
    ) -> bool {
        lacks.lost.is_some_and(|(lost, _)| lost > place)
            || backlog
                .and_then(|backlog| self.first_behind(backlog, place))
                .is_some_and(|first| bound.is_none_or(|bound| first <= bound))
    }

    /// Adds what is to be said about one channel, whose newest message that the subscriber does not get as a live
    /// one has the id `newest`. `named` is its message with the event id, `backlog` what it has for the subscriber.
    #[expect(clippy::too_many_arguments, reason = "one step of judging, split off for its loop")]
    fn judge(
        &self,
        (channel, newest): (&[u8], u64),
        lacks: Lacks,
        since: Since<'_>,
        named: Option<Named>,
        mut backlog: Option<&mut Backlog>,
        now: Now,
        findings: &mut Findings,
    ) {
        let newest = Latest { channel: lacks.channel_number, id: newest };
        let selection = Selection::new(None, since);
        let latest = since.cursor.and_then(|cursor| cursor.latest);
        let had = latest.filter(|had| had.channel == newest.channel).map(|had| had.id);
        let had = named.map(|(_, id)| id).or(had);
        let told = since.time.map(|time| (time, since.tag.unwrap_or(u64::MAX)));
        let Some(from) = named.map(|(place, _)| place).or(told) else { return };
        if findings.gap.is_some() && !findings.has_all {
            return;
        }
        let lost = lacks.lost.filter(|(place, _)| *place > from).map(|(_, reason)| reason);
        let reason = lost.or_else(|| {
            let backlog = backlog.as_deref_mut().filter(|_| lacks.may_have_expired);
            let backlog = self.begun(backlog, &selection, now)?;
            self.has_expired(backlog, from, now).then_some(Gap::Expired)
        });
        let Some(reason) = reason else { return };
        let mut count = None;
        if findings.has_all {
            let backlog = self.begun(backlog, &selection, now);
            // A channel that was made again knows nothing about the former one.
            let is_known = had.is_some() || reason != Gap::Unknown;
            let had = had.or_else(|| {
                let found = is_known.then(|| self.id_at(channel, from, newest, backlog));
                found.flatten()
            });
            let given = backlog.map_or(0, |backlog| self.count_given(backlog, from, now));
            let missing = had.and_then(|had| newest.id.checked_sub(had)?.checked_sub(given));
            // None at all: then the client has not told the truth.
            count = missing.filter(|missing| *missing > 0);
        }
        findings.add(channel, reason, count);
    }

    /// The backlog with its reader where it begins. `None`: it is empty.
    fn begun<'a>(
        &self,
        backlog: Option<&'a mut Backlog>,
        selection: &Selection<'_>,
        now: Now,
    ) -> Option<&'a Backlog> {
        let backlog = backlog?;
        let begun = self.begin(backlog, selection, now);
        (!matches!(begun, Begun::Nowhere)).then_some(&*backlog)
    }

    /// The id of a channel's newest message up to this place, if it can be told from the messages around it.
    /// `newest`: the channel, and the id of the newest message that belongs to its backlog.
    fn id_at(
        &self,
        channel: &[u8],
        from: (Seconds, u64),
        newest: Latest,
        backlog: Option<&Backlog>,
    ) -> Option<u64> {
        let hash = self.store.hash(channel);
        let section = self.store.section(self.store.shard_of(hash));
        let channel = section.get(section.find(hash, channel)?);
        let first =
            backlog.and_then(|backlog| section.get(backlog.reader.interest).next_link().get());
        let first = first.filter(|first| section.store.place(section.get(*first)) >= from);
        let mut at = first.or(channel.last.get()).filter(|_| channel.number() == newest.channel);
        // The first one that is known to be behind the place. The newest lost one is, if no other is there.
        let mut next = newest.id;
        for _ in 0..STEPS_BACK_MAX {
            let Some(record) = at.map(|at| section.get(at)) else {
                // The first one of the channel, if it was not made again.
                let former = section.store.former_place(hash).is_some_and(|former| former > from);
                return (next == 1 && !former).then_some(0);
            };
            let (id, place) = (record.id(), section.store.place(record));
            if place <= from {
                // Of those in between nobody knows on which side they were.
                return (place == from || id.saturating_add(1) == next).then_some(id);
            }
            next = id;
            at = record.prev.get();
        }
        None
    }

    /// How many messages behind this place the subscriber gets.
    fn count_given(&self, backlog: &Backlog, from: (Seconds, u64), now: Now) -> u64 {
        let count = Cell::new(0);
        self.first_from_start(backlog, |_, record| {
            let is_given =
                self.store.place(record) > from && self.store.steady(&record.expires) > now.steady;
            count.set(count.get() + u64::from(is_given));
            None::<()>
        });
        count.get()
    }

    /// Is there a message behind this place that has expired? The reader is where the backlog begins.
    fn has_expired(&self, backlog: &Backlog, from: (Seconds, u64), now: Now) -> bool {
        let found = self.first_from_start(backlog, |_, record| {
            let expired = self.store.steady(&record.expires) <= now.steady;
            (expired && self.store.place(record) > from).then_some(())
        });
        found.is_some()
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use crate::hub::sim::{LIFE, World};
    use crate::hub::{Post, Stay, Subscribe};
    use crate::model::{Cursor, Gap, Latest, Now, Seconds, Since, Token};

    fn publish(world: &mut World, id: &[u8], store: bool) {
        let event_id = world.now.wall.to_string();
        publish_as(world, id, &event_id, store);
    }

    fn publish_as(world: &mut World, id: &[u8], event_id: &str, store: bool) {
        let post = Post {
            event_id: Some(event_id.as_bytes()),
            event_type: None,
            body: &[b"text"],
            binary: false,
            store,
            may_be_empty: false,
            ..Post::default()
        };
        let (rules, now) = (world.rules.clone(), world.now);
        world.hub(0).publish(&[id], &post, &rules, now).expect("room");
    }

    /// The gap that a poll with this place is told, and how many messages it gets.
    fn ask(world: &mut World, id: &[u8], since: Since<'_>) -> (Option<Gap>, u64) {
        let (gap, _, messages) = ask_for(world, id, since, false);
        (gap, messages)
    }

    /// The gap, how many messages are missing, and how many it gets.
    fn count(world: &mut World, id: &[u8], since: Since<'_>) -> (Option<Gap>, Option<u64>, u64) {
        ask_for(world, id, since, true)
    }

    fn ask_for(
        world: &mut World,
        id: &[u8],
        since: Since<'_>,
        ordered: bool,
    ) -> (Option<Gap>, Option<u64>, u64) {
        let (rules, now) = (world.rules.clone(), world.now);
        let asked = [(id, None)];
        let request = Subscribe { bounded: true, ordered, ..request(&asked, since) };
        let hub = world.hub(0);
        hub.store.longest_section.set(0);
        let mut subscribed = hub.subscribe(&request, &rules, now).expect("room");
        let gap = subscribed.gap();
        let told = subscribed.missing().first().map(|missing| missing.reason);
        assert_eq!(told, gap.filter(|_| ordered));
        let missing = subscribed.missing().first().and_then(|missing| missing.count);
        let replayed = hub.read_backlog(&mut subscribed, now, &mut |_| true);
        let longest = hub.store.longest_section.get();
        assert!(longest < 1600, "a section looks at {longest} records");
        (gap, missing, replayed.messages)
    }

    fn request<'a>(requested: &'a [(&'a [u8], Option<u64>)], since: Since<'a>) -> Subscribe<'a> {
        Subscribe {
            requested,
            since,
            authorized_only: false,
            wildcard_max: None,
            events_channel_allowed: true,
            stay: Stay::No,
            bounded: false,
            ordered: true,
            form: 0,
            token: Token::new(7, 7),
        }
    }

    fn since(time: Seconds) -> Since<'static> {
        Since { time: Some(time), ..Since::default() }
    }

    /// A message a second, from 1001 on.
    fn world(count: u64) -> World {
        let mut world = World::new(1 << 20, 1);
        world.rules.message_ttl_secs = 10_000;
        for _ in 0..count {
            world.now += 1;
            publish(&mut world, b"a", true);
        }
        world
    }

    #[test]
    fn expired_messages_that_were_not_swept_are_found_however_far_back() {
        for count in [10, 2000] {
            let mut world = world(count);
            let newest = world.now.wall;
            let place = newest - 5;
            let event_id = place.to_string();
            let event = Since { event_id: Some(event_id.as_bytes()), ..Since::default() };
            assert_eq!(ask(&mut world, b"a", since(1000)), (None, count));
            assert_eq!(ask(&mut world, b"a", event), (None, 5));
            // The first one.
            world.now = Now::both(1001 + 10_000);
            assert_eq!(ask(&mut world, b"a", since(1001)), (None, count - 1));
            assert_eq!(ask(&mut world, b"a", since(1000)), (Some(Gap::Expired), count - 1));
            // All but the last one.
            world.now = Now::both(newest + 10_000 - 1);
            assert_eq!(ask(&mut world, b"a", since(1000)), (Some(Gap::Expired), 1));
            assert_eq!(ask(&mut world, b"a", since(newest - 1)), (None, 1));
            assert_eq!(ask(&mut world, b"a", event), (Some(Gap::Expired), 1));
            world.tick(0);
            assert_eq!(ask(&mut world, b"a", since(newest - 1)), (None, 1));
            assert_eq!(ask(&mut world, b"a", since(1000)), (Some(Gap::Expired), 1));
            assert_eq!(ask(&mut world, b"a", event), (Some(Gap::Unknown), 0));
            world.check("at rest");
        }
    }

    fn at(place: (Seconds, u64)) -> Since<'static> {
        Since { time: Some(place.0), tag: Some(place.1), ..Since::default() }
    }

    fn cursor(world: &mut World, place: (Seconds, u64), id: u64) -> Since<'static> {
        let channel = world.hub(0).info(b"a").expect("it exists").created as u32;
        let latest = Some(Latest { channel, id });
        let cursor = Some(Cursor { life: LIFE, time: place.0, tag: place.1, latest });
        Since { cursor, ..Since::default() }
    }

    #[test]
    fn how_many_expired_is_counted_however_many_there_are() {
        const EXPIRED: Option<Gap> = Some(Gap::Expired);
        let mut world = world(2000);
        let place = |id: u64| (1000 + id.cast_signed(), 1);
        // All but the last hundred.
        world.now = Now::both(1000 + 1900 + 10_000);
        for had in [1, 2, 1000, 1898, 1899] {
            let told = (EXPIRED, Some(1900 - had), 100);
            let since = cursor(&mut world, place(had), had);
            assert_eq!(count(&mut world, b"a", since), told);
            // They are there still.
            assert_eq!(count(&mut world, b"a", at(place(had))), told);
            assert_eq!(count(&mut world, b"a", self::since(place(had).0)), told);
            let event_id = place(had).0.to_string();
            let since = Since { event_id: Some(event_id.as_bytes()), ..Since::default() };
            assert_eq!(count(&mut world, b"a", since), told);
        }
        let since = cursor(&mut world, place(1900), 1900);
        assert_eq!(count(&mut world, b"a", since), (None, None, 100));
        while world.hub(0).info(b"a").expect("it exists").stored > 100 {
            world.tick(0);
        }
        for had in [1, 1000, 1899] {
            let since = cursor(&mut world, place(had), had);
            assert_eq!(count(&mut world, b"a", since), (EXPIRED, Some(1900 - had), 100));
            assert_eq!(count(&mut world, b"a", at(place(had))), (EXPIRED, None, 100));
        }
        world.check("at rest");
    }

    #[test]
    fn an_id_is_known_where_a_message_is_beside_the_place() {
        const UNSTORED: Option<Gap> = Some(Gap::Unstored);
        let mut world = World::new(1 << 20, 1);
        world.rules.message_ttl_secs = 10_000;
        let mut places = vec![(0, 0)];
        for store in [true, false, false, false, true, true] {
            world.now += 10;
            publish(&mut world, b"a", store);
            places.push(world.hub(0).last_place_of(b"a").expect("it exists"));
        }
        let told = |missing, given| (UNSTORED, missing, given);
        assert_eq!(count(&mut world, b"a", at(places[1])), told(Some(3), 2));
        assert_eq!(count(&mut world, b"a", at((places[2].0, 99))), told(None, 2));
        assert_eq!(count(&mut world, b"a", at(places[3])), told(None, 2));
        for (had, missing, given) in [(0, 3, 3), (1, 3, 2), (2, 2, 2), (3, 1, 2)] {
            let since = cursor(&mut world, places[had], had as u64);
            assert_eq!(count(&mut world, b"a", since), told(Some(missing), given));
        }
        // A number that cannot be is none.
        for id in [4, 5, 99, 1 << 47] {
            let since = cursor(&mut world, places[3], id);
            assert_eq!(count(&mut world, b"a", since), told(None, 2), "{id}");
        }
        // Nothing is stored behind the place.
        world.now += 10;
        publish(&mut world, b"a", false);
        assert_eq!(count(&mut world, b"a", at(places[6])), told(Some(1), 0));
        assert_eq!(count(&mut world, b"a", at((places[6].0 + 1, 0))), told(Some(1), 0));
        publish(&mut world, b"a", false);
        assert_eq!(count(&mut world, b"a", at(places[6])), told(Some(2), 0));
        assert_eq!(count(&mut world, b"a", at((places[6].0 + 1, 0))), told(None, 0));
        world.check("at rest");
    }

    /// What a subscriber that names an event id gets and is told of a, b and c.
    fn by_event(world: &mut World, ordered: bool, event_id: &str) -> (Told, Vec<String>) {
        by_event_in(world, ordered, event_id, &[(b"a", None), (b"b", None), (b"c", None)])
    }

    type Told = (Option<Gap>, Vec<(String, Gap, Option<u64>)>);

    fn by_event_in(
        world: &mut World,
        ordered: bool,
        event_id: &str,
        asked: &[(&[u8], Option<u64>)],
    ) -> (Told, Vec<String>) {
        let (rules, now) = (world.rules.clone(), world.now);
        let since = Since { event_id: Some(event_id.as_bytes()), ..Since::default() };
        let hub = world.hub(0);
        let request = Subscribe { bounded: true, ordered, ..request(asked, since) };
        let mut subscribed = hub.subscribe(&request, &rules, now).expect("room");
        let missing = subscribed.missing().iter();
        let missing = missing.map(|missing| {
            let channel = String::from_utf8_lossy(&missing.channel).into_owned();
            (channel, missing.reason, missing.count)
        });
        let told = (subscribed.gap(), missing.collect());
        let mut got = Vec::new();
        hub.read_backlog(&mut subscribed, now, &mut |message| {
            let event_id = message.event_id.expect("each has one");
            let event_id = String::from_utf8_lossy(event_id);
            got.push(format!("{}{event_id}", String::from_utf8_lossy(message.channel)));
            true
        });
        (told, got)
    }

    /// Messages of the event ids 1, 2 and so on, a second each. A capital: not stored.
    fn publish_in_turn(world: &mut World, channels: &str) {
        for (n, channel) in (1..).zip(channels.chars()) {
            world.now = Now::both(1000 + n);
            let id = channel.to_ascii_lowercase().to_string();
            publish_as(world, id.as_bytes(), &n.to_string(), channel.is_ascii_lowercase());
        }
    }

    #[test]
    fn an_event_id_of_one_channel_is_a_place_in_all() {
        let mut world = World::new(1 << 20, 1);
        publish_in_turn(&mut world, "aabbab");
        let nothing: Told = (None, vec![]);
        let unknown: Told = (Some(Gap::Unknown), vec![]);
        let got = by_event(&mut world, true, "2");
        assert_eq!(
            got,
            (nothing.clone(), vec!["b3".into(), "b4".into(), "a5".into(), "b6".into()])
        );
        let got = by_event(&mut world, false, "2");
        assert_eq!(got, (unknown.clone(), vec!["a5".into()]));
        for ordered in [true, false] {
            // No other channel has anything behind it.
            assert_eq!(by_event(&mut world, ordered, "6"), (nothing.clone(), vec![]));
        }
        let all = ["a", "b", "c"].map(|id| (id.into(), Gap::Unknown, None));
        let told = (Some(Gap::Unknown), all.into());
        assert_eq!(by_event(&mut world, true, "none"), (told, vec![]));
        assert_eq!(by_event(&mut world, false, "none"), (unknown, vec![]));
        // A channel with a backtrack asks for nothing else.
        let asked: &[(&[u8], Option<u64>)] = &[(b"a", None), (b"b", Some(1))];
        let got = by_event_in(&mut world, false, "2", asked);
        assert_eq!(got, (nothing, vec!["a5".into(), "b6".into()]));
        world.check("at rest");
    }

    #[test]
    fn what_other_channels_lack_behind_an_event_id_is_told() {
        let mut world = World::new(1 << 20, 1);
        world.rules.stored_max = Some(2);
        publish_in_turn(&mut world, "abCbbbca");
        // Nobody knows whether the first ones were before it.
        let evicted = ("b".to_string(), Gap::Evicted, None);
        let unstored = ("c".to_string(), Gap::Unstored, None);
        let got = by_event(&mut world, true, "1");
        let all = ["b5", "b6", "c7", "a8"].map(String::from).to_vec();
        assert_eq!(got, ((Some(Gap::Evicted), vec![evicted, unstored]), all));
        let got = by_event(&mut world, false, "1");
        assert_eq!(got, ((Some(Gap::Unknown), vec![]), vec!["a8".into()]));
        // The only one of c.
        let mut world = World::new(1 << 20, 1);
        publish_in_turn(&mut world, "bCa");
        let got = by_event(&mut world, true, "1");
        let unstored = ("c".to_string(), Gap::Unstored, Some(1));
        assert_eq!(got, ((Some(Gap::Unstored), vec![unstored]), vec!["a3".into()]));
        assert_eq!(by_event(&mut world, false, "1").0.0, Some(Gap::Unknown));
        assert_eq!(by_event(&mut world, false, "3"), ((None, vec![]), vec![]));
        world.check("at rest");
    }

    #[test]
    fn of_several_messages_with_the_event_id_the_oldest_is_the_place_elsewhere() {
        let mut world = World::new(1 << 20, 1);
        for (id, event_id) in [
            (b"b", "1"),
            (b"c", "2"),
            (b"a", "x"),
            (b"c", "4"),
            (b"b", "x"),
            (b"a", "6"),
            (b"c", "7"),
        ] {
            world.now += 1;
            publish_as(&mut world, id, event_id, true);
        }
        let got = by_event(&mut world, true, "x");
        // c begins behind that of a, and b behind its own.
        assert_eq!(got, ((None, vec![]), ["c4", "a6", "c7"].map(String::from).to_vec()));
        let got = by_event(&mut world, false, "x");
        assert_eq!(got, ((Some(Gap::Unknown), vec![]), vec!["a6".into()]));
        world.check("at rest");
    }

    #[test]
    fn a_channel_that_was_made_again_counts_from_its_own_messages_only() {
        let mut world = world(3);
        let first = cursor(&mut world, (1001, 1), 1);
        world.delete(0, b"a", b"bye");
        for _ in 0..3 {
            world.now += 20_000;
            world.tick(0);
        }
        assert_eq!(count(&mut world, b"a", first), (Some(Gap::Unknown), None, 0));
        for store in [true, false, true] {
            world.now += 1;
            publish(&mut world, b"a", store);
        }
        // The newest one that is lost is one of the new channel. Others may be lost of the former one.
        assert_eq!(count(&mut world, b"a", first), (Some(Gap::Unstored), None, 2));
        let place = (world.now.wall - 2, 1);
        assert_eq!(count(&mut world, b"a", at(place)), (Some(Gap::Unstored), Some(1), 1));
        world.check("at rest");
    }

    #[test]
    fn all_messages_of_a_channel_that_is_new_are_counted() {
        let mut world = world(1);
        let before = at((world.now.wall, 1));
        for (count, store) in [(1, false), (2, false), (2, true), (2, true)] {
            world.now += 1;
            publish(&mut world, b"new", store);
            let known = (count == 1).then_some(1);
            let (gap, missing, _) = self::count(&mut world, b"new", before);
            assert_eq!((gap, missing), (Some(Gap::Unstored), known), "{count}");
        }
        for store in [true, false] {
            world.now += 1;
            publish(&mut world, b"other", store);
        }
        assert_eq!(count(&mut world, b"other", before), (Some(Gap::Unstored), Some(1), 1));
        // What removed channels have lost is known for several of them together.
        world.delete(0, b"other", b"bye");
        for _ in 0..3 {
            world.now += 20;
            world.tick(0);
        }
        for store in [true, false] {
            world.now += 1;
            publish(&mut world, b"other", store);
        }
        assert_eq!(count(&mut world, b"other", before), (Some(Gap::Unstored), None, 1));
    }

    /// The place of the stream is behind the messages that its client gets.
    #[test]
    fn a_stream_begins_before_its_first_message() {
        let mut world = world(3);
        let a: &[(&[u8], Option<u64>)] = &[(b"a", None)];
        let newest = world.now.wall;
        let cases = [
            (at((newest - 2, 1)), (newest - 2, 1), 1),
            (at((newest, 1)), (newest, 1), 3),
            (since(newest + 9), (newest, 1), 3),
            // The event id comes first, and its message is an older one.
            (Since { event_id: Some(b"1001"), ..at((newest - 1, 1)) }, (newest - 1, 0), 1),
            (Since { event_id: Some(b"1002"), ..Since::default() }, (newest, 0), 2),
        ];
        for (since, place, id) in cases {
            let (rules, now) = (world.rules.clone(), world.now);
            let request = request(a, since);
            let hub = world.hub(0);
            let mut subscribed = hub.subscribe(&request, &rules, now).expect("room");
            let beginning = subscribed.beginning();
            let mut first = None;
            hub.read_backlog(&mut subscribed, now, &mut |message| {
                first = first.or(Some(message.reached_before()));
                true
            });
            let reached = beginning.at(first);
            assert_eq!(
                (reached.place, reached.latest.map(|l| l.id)),
                (place, Some(id)),
                "{since:?}"
            );
        }
    }

    #[test]
    fn a_message_that_expires_before_others_of_its_queue_is_found() {
        let mut world = World::new(1 << 20, 1);
        // More times to live than there are queues.
        for ttl in [1000, 2000, 3000, 4000, 900] {
            world.now += 1;
            world.rules.message_ttl_secs = ttl;
            publish(&mut world, b"a", true);
        }
        let last = world.now.wall;
        world.now = Now::both(last + 900);
        assert_eq!(ask(&mut world, b"a", since(last - 1)), (Some(Gap::Expired), 0));
        assert_eq!(ask(&mut world, b"a", since(last)), (None, 0));
        world.check("at rest");
    }

    /// Each worker knows the time as it was when it last woke up.
    #[test]
    fn a_message_of_a_worker_that_is_late_is_there_or_told() {
        let mut world = world(1);
        world.now = Now::both(1000);
        publish(&mut world, b"a", true);
        let first = Since { tag: Some(1), ..since(1001) };
        for now in 10_998..11_004 {
            world.now = Now::both(now);
            let lives = now < 1001 + 10_000;
            let expected = if lives { (None, 1) } else { (Some(Gap::Expired), 0) };
            assert_eq!(ask(&mut world, b"a", first), expected, "at {now}");
        }
        world.check("at rest");
    }

    #[test]
    fn a_channel_that_was_idle_is_remembered() {
        let mut world = world(3);
        publish(&mut world, b"a", false);
        let newest = world.now.wall;
        for _ in 0..3 {
            world.now += 20_000;
            world.tick(0);
        }
        assert!(world.hub(0).info(b"a").is_none(), "it was removed");
        assert_eq!(ask(&mut world, b"a", since(newest - 1)), (Some(Gap::Unknown), 0));
        assert_eq!(ask(&mut world, b"a", since(newest)), (None, 0));
        publish(&mut world, b"a", true);
        assert_eq!(ask(&mut world, b"a", since(newest - 1)), (Some(Gap::Unknown), 1));
        assert_eq!(ask(&mut world, b"a", since(newest)), (None, 1));
        world.check("at rest");
    }

    #[test]
    fn a_channel_that_had_no_message_leaves_nothing_to_remember() {
        let mut world = World::new(1 << 20, 1);
        assert_eq!(ask(&mut world, b"a", since(1)), (None, 0));
        world.delete(0, b"a", b"bye");
        assert_eq!(ask(&mut world, b"a", since(1)), (None, 0));
    }
}
