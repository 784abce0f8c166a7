//! Gaps: does a subscriber that resumes get all that it asks for?
//!
//! The section that attaches it reads the place of the newest message that the channel no longer has. If
//! the subscriber's own place is older, something is missing. Messages that have expired and were not swept
//! yet are looked for among those that the subscriber's reader pins.
//!
//! ```text
//!   place given by time and tag ───────────────────────────┐
//!   event id ──search──► its message is there: that place ─┴─► older than what is lost? a gap
//!                  └───► it is not, and no time is given: not found in this channel
//! ```

use crate::hub::Hub;
use crate::hub::backlog::{Backlog, Begun};
use crate::model::{Cursor, Gap, Now, Seconds, Since};
use crate::store::channel::Channel;
use crate::store::undo::Section;
use crate::wire::resume::Selection;

/// What a channel lacks when a subscriber is attached that resumes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lacks {
    lost: Option<((Seconds, u64), Gap)>,
    may_have_expired: bool,
}

impl Lacks {
    pub(super) fn of(section: &Section<'_>, channel: &Channel, now: Now) -> Self {
        let lost = section.store.lost(channel);
        Self { lost, may_have_expired: section.may_have_expired(now.steady) }
    }
}

/// What is known about the channels of a request.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// What is wrong with the subscriber's cursor, or what the first channel lacks that lacks something.
    gap: Option<Gap>,
    /// Some channels do not have the event id that the subscriber names.
    is_event_missing: bool,
    /// Some do, or a time says the place.
    has_place: bool,
}

impl Findings {
    /// Those about the cursor of a request.
    pub(super) fn of_cursor(gap: Option<Gap>) -> Self {
        Self { gap, ..Self::default() }
    }

    /// A channel does not have all that its subscriber is to get.
    pub(super) fn add(&mut self, gap: Option<Gap>) {
        self.gap = self.gap.or(gap);
    }

    /// The first gap in the order of the channels. An event id that none of them has is one.
    pub(super) fn gap(&self) -> Option<Gap> {
        let is_unknown = self.is_event_missing && !self.has_place;
        self.gap.or(is_unknown.then_some(Gap::Unknown))
    }
}

impl Hub {
    /// Puts the place of a cursor, if there is one, in the place of all else that a subscriber says about
    /// what it has. A cursor that is no place in this zone asks for no old messages, and is a gap.
    pub(super) fn locate<'a>(&self, since: Since<'a>) -> (Since<'a>, Option<Gap>) {
        let Some(Cursor { life, time, tag }) = since.cursor else { return (since, None) };
        let gap = if life != self.store.life() {
            Gap::Restarted
        } else if (time, tag) > self.newest_place() {
            Gap::Unknown
        } else {
            return (Since { time: Some(time), tag: Some(tag), ..Since::default() }, None);
        };
        (Since::default(), Some(gap))
    }

    /// This place, as a client can name it.
    pub fn cursor(&self, (time, tag): (Seconds, u64)) -> Cursor {
        Cursor { life: self.store.life(), time, tag }
    }

    /// Time and tag of the zone.
    fn newest_place(&self) -> (Seconds, u64) {
        let section = self.store.commons_section();
        let commons = section.commons();
        (commons.time.time(), commons.tag.get())
    }

    /// Adds what is to be said about one channel. `backlog` is what it has for the subscriber.
    pub(super) fn judge(
        &self,
        lacks: Lacks,
        since: Since<'_>,
        backlog: Option<&mut Backlog>,
        now: Now,
        findings: &mut Findings,
    ) {
        let selection = Selection::new(None, since);
        let mut backlog = backlog;
        let mut from = since.time.map(|time| (time, since.tag.unwrap_or(u64::MAX)));
        if selection.needs_event_ids()
            && let Some(backlog) = &mut backlog
            && let Begun::After(place) = self.begin(backlog, &selection, now)
        {
            from = Some(place);
        }
        let Some(from) = from else {
            findings.is_event_missing = true;
            return;
        };
        findings.has_place = true;
        if findings.gap.is_some() {
            return;
        }
        let lost = lacks.lost.filter(|(place, _)| *place > from);
        findings.gap = lost.map(|(_, reason)| reason);
        if lost.is_none()
            && lacks.may_have_expired
            && let Some(backlog) = backlog
            && !matches!(self.begin(backlog, &selection, now), Begun::Nowhere)
            && self.has_expired(backlog, from, now)
        {
            findings.gap = Some(Gap::Expired);
        }
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
    use crate::hub::sim::World;
    use crate::hub::{Post, Stay, Subscribe};
    use crate::model::{Gap, Now, Seconds, Since, Token};

    fn publish(world: &mut World, id: &[u8], store: bool) {
        let event_id = world.now.wall.to_string();
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
        let (rules, now) = (world.rules.clone(), world.now);
        let request = Subscribe {
            requested: &[(id, None)],
            since,
            authorized_only: false,
            wildcard_max: None,
            events_channel_allowed: true,
            stay: Stay::No,
            bounded: true,
            ordered: false,
            form: 0,
            token: Token::new(7, 7),
        };
        let hub = world.hub(0);
        hub.store.longest_section.set(0);
        let mut subscribed = hub.subscribe(&request, &rules, now).expect("room");
        let gap = subscribed.gap();
        let replayed = hub.read_backlog(&mut subscribed, now, &mut |_| true);
        let longest = hub.store.longest_section.get();
        assert!(longest < 1600, "a section looks at {longest} records");
        (gap, replayed.messages)
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
