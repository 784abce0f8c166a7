//! A naive model of all channels, and the real zone to compare it with.

use std::collections::{BTreeMap, BTreeSet};

use crate::hub::Rules;
use crate::hub::publish::EVICTED_PER_PUBLISH;
use crate::hub::sim::random::LATE_SECS;
use crate::model::{Gap, Now, Seconds, Since};
use crate::store::Store;
use crate::store::channel::EVENTS;
use crate::store::message::{Readout, STORED};
use crate::store::zone::SHARDS;

pub(super) type Id = Vec<u8>;

/// A stored message in the zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lying {
    pub(crate) id: u64,
    pub(crate) time: Seconds,
    pub(crate) tag: u64,
    pub(crate) expires: Seconds,
    pub(crate) event_id: Option<Vec<u8>>,
    pub(crate) text: Vec<u8>,
}

/// A channel in the zone.
#[derive(Debug)]
pub(crate) struct Real {
    pub(crate) created: u64,
    pub(crate) published: u64,
    pub(crate) events: bool,
    pub(crate) last: (Seconds, u64),
    pub(crate) stored: Vec<Lying>,
    /// Subscriptions by seat of the store.
    pub(crate) subscribers: BTreeMap<u32, u64>,
    pub(crate) interests: usize,
    /// Where the zone remembers what channels of such ids have lost.
    pub(crate) former: usize,
}

/// Reads all live channels of the zone.
pub(super) fn look(store: &Store) -> BTreeMap<Id, Real> {
    let mut found = BTreeMap::new();
    for shard in 0..SHARDS {
        let section = store.section(shard);
        let first = shard * store.buckets_per_shard();
        for bucket in first..first + store.buckets_per_shard() {
            let mut at = store.bucket(bucket).first.get();
            while let Some(handle) = at {
                let channel = section.get(handle);
                let mut id = Vec::new();
                store.read_channel_id(handle, &mut id);
                let mut stored = Vec::new();
                let mut message = channel.first.get();
                while let Some(handle) = message {
                    let record = section.get(handle);
                    if record.has(STORED) {
                        let mut readout = Readout::default();
                        let seen = readout.read_one(store, handle, (&id, channel.number()));
                        stored.push(Lying {
                            id: record.id(),
                            time: seen.time,
                            tag: seen.tag,
                            expires: store.steady(&record.expires),
                            event_id: seen.event_id.map(<[u8]>::to_vec),
                            text: seen.text.to_vec(),
                        });
                    }
                    message = record.next.get();
                }
                let mut subscribers = BTreeMap::new();
                for (_, interest) in section.interests(channel) {
                    *subscribers.entry(interest.seat.get()).or_default() +=
                        u64::from(interest.subscribers.get());
                }
                let real = Real {
                    created: channel.created.get(),
                    published: channel.published.get(),
                    events: channel.has(EVENTS),
                    last: store.last_place(channel),
                    stored,
                    subscribers,
                    interests: section.interests(channel).count(),
                    former: store.former_number(channel.hash()),
                };
                found.insert(id, real);
                at = channel.hash_next.get();
            }
        }
    }
    found
}

/// A message that was published.
#[derive(Clone, Debug)]
pub(super) struct Published {
    pub(super) time: Seconds,
    pub(super) tag: u64,
    /// `None` for a notice, whose text is not predicted.
    pub(super) content: Option<Posted>,
}

/// The content that a publisher posted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Posted {
    pub(super) event_id: Option<Vec<u8>>,
    pub(super) text: Vec<u8>,
    pub(super) store: bool,
}

/// A channel, from its creation to its end.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) id: Id,
    pub(super) created: u64,
    /// The message with id n is at index n - 1.
    pub(super) log: Vec<Published>,
    pub(super) stored: Vec<Lying>,
    pub(super) active: Seconds,
    /// When somebody last tried to subscribe, with success or not.
    pub(super) tried: Seconds,
    /// Where the zone remembers what it has lost, and what was remembered there when it was made.
    pub(super) former: usize,
    pub(super) inherited: (Seconds, u64),
    /// If it was deleted: one of these is the text of the notice.
    pub(super) deleted: Option<Vec<Vec<u8>>>,
    /// It was the events channel when the model last looked.
    events: bool,
}

/// The possible effects of operations.
#[derive(Debug, Default)]
pub(super) struct Effects {
    /// Channel and content of each message, and whether it is certain (its publisher has not died).
    pub(super) published: Vec<(Id, Posted, bool)>,
    /// Channels that may have been created, and those that certainly were.
    pub(super) may_create: BTreeSet<Id>,
    pub(super) created: BTreeSet<Id>,
    /// Channels that may have been deleted, with the possible texts of the notice.
    pub(super) may_delete: BTreeMap<Id, Vec<Vec<u8>>>,
    pub(super) deleted: BTreeSet<Id>,
    /// Idle channels may have been collected, and messages discarded.
    pub(super) swept: bool,
}

/// All channels, as they should be.
#[derive(Default)]
pub(super) struct Model {
    /// Every channel that ever existed.
    pub(super) channels: Vec<Channel>,
    /// The live ones, as indices of `channels`.
    pub(super) live: BTreeMap<Id, usize>,
    /// Messages of all channels but the events channel.
    pub(super) published: u64,
    /// So many more may have been published before their channel became the events channel, or ceased to be
    /// it.
    pub(super) unsure: u64,
    /// Time and tag of the newest message.
    pub(super) newest: (Seconds, u64),
    /// What channels that have gone had, by the place where the zone remembers it.
    pub(super) former: BTreeMap<usize, (Seconds, u64)>,
}

impl Model {
    pub(super) fn channel(&self, id: &[u8]) -> Option<&Channel> {
        self.live.get(id).map(|number| &self.channels[*number])
    }

    /// Compares itself with the zone after an operation, and takes over what has happened.
    pub(super) fn reconcile(
        &mut self,
        real: &BTreeMap<Id, Real>,
        effects: &Effects,
        rules: &Rules,
        now: Now,
    ) {
        for id in &effects.created {
            assert!(real.contains_key(id), "a channel was not created");
        }
        for id in &effects.deleted {
            assert!(!real.contains_key(id), "a channel was not deleted");
        }
        // One of the same id may have been made since.
        let is_there = |(id, number): &(&Id, &usize)| {
            real.get(*id).is_some_and(|real| real.created == self.channels[**number].created)
        };
        let gone = self.live.iter().filter(|channel| !is_there(channel));
        let gone: Vec<Id> = gone.map(|(id, _)| id.clone()).collect();
        for id in gone {
            let number = self.live.remove(&id).expect("it was live");
            let channel = &mut self.channels[number];
            channel.deleted = effects.may_delete.get(&id).cloned();
            // A tick may also discard those that are over the limit, before it looks at the others.
            let kept = rules.stored_max.map_or(usize::MAX, |max| max as usize);
            let mut kept = channel.stored.iter().rev().take(kept);
            let is_empty = kept.all(|message| message.expires <= now.steady);
            // Its last publisher may have been late.
            let active = channel.active - LATE_SECS;
            let idle = is_empty && active + rules.channel_inactivity_secs < now.steady;
            let collected = effects.swept && (idle || id == b"events");
            assert!(channel.deleted.is_some() || collected, "a channel has vanished");
            let last = channel.log.last().map_or((0, 0), |last| (last.time, last.tag));
            let lost = self.former.entry(channel.former).or_default();
            *lost = last.max(channel.inherited).max(*lost);
        }
        for (id, real) in real {
            let number = *self.live.entry(id.clone()).or_insert_with(|| {
                let may = effects.may_create.contains(id) || id == b"events";
                assert!(may, "a channel came from nowhere");
                self.channels.push(Channel {
                    id: id.clone(),
                    created: real.created,
                    log: Vec::new(),
                    stored: Vec::new(),
                    active: now.steady,
                    tried: now.steady,
                    former: real.former,
                    inherited: self.former.get(&real.former).copied().unwrap_or_default(),
                    deleted: None,
                    events: false,
                });
                self.channels.len() - 1
            });
            self.compare(number, real, effects, rules, now);
        }
    }

    fn compare(&mut self, number: usize, real: &Real, effects: &Effects, rules: &Rules, now: Now) {
        let channel = &mut self.channels[number];
        let id = channel.id.clone();
        assert_eq!(real.created, channel.created, "a channel was swapped");
        let new = real.published.checked_sub(channel.log.len() as u64).expect("ids never go back");
        let posts: Vec<_> = effects.published.iter().filter(|post| post.0 == id).collect();
        let sure = posts.iter().filter(|post| post.2).count();
        let notices = id == b"events";
        let contents: Vec<Option<Posted>> = if notices {
            vec![None; new as usize]
        } else if new as usize == sure {
            posts.iter().filter(|post| post.2).map(|post| Some(post.1.clone())).collect()
        } else {
            assert_eq!(new as usize, posts.len(), "published_messages");
            posts.iter().map(|post| Some(post.1.clone())).collect()
        };
        if real.events != channel.events {
            self.unsure += new;
        } else if !real.events {
            self.published += new;
        }
        channel.events = real.events;
        let mut may_be_stored: Vec<u64> = channel.stored.iter().map(|message| message.id).collect();
        for (n, content) in contents.into_iter().enumerate() {
            let id = channel.log.len() as u64 + 1;
            if content.as_ref().is_none_or(|content| content.store) {
                may_be_stored.push(id);
            }
            // The stamp of the last message is the channel's. An earlier one is known if it is stored.
            let lying = real.stored.iter().find(|message| message.id == id);
            let stamp = if n as u64 + 1 == new {
                real.last
            } else {
                lying.map_or((0, 0), |message| (message.time, message.tag))
            };
            channel.log.push(Published { time: stamp.0, tag: stamp.1, content });
            channel.active = now.steady;
            if stamp != (0, 0) {
                assert!(stamp.0 >= now.wall.min(self.newest.0), "time goes back");
            }
        }
        // Each stored message was published, with this content.
        let mut last = (0, 0);
        for message in &real.stored {
            assert!(may_be_stored.contains(&message.id), "a message that was gone is back");
            let published = &channel.log[message.id as usize - 1];
            assert!((message.time, message.tag) > last, "messages of a channel are out of order");
            last = (message.time, message.tag);
            if (published.time, published.tag) != (0, 0) {
                assert_eq!((message.time, message.tag), (published.time, published.tag));
            }
            if let Some(content) = &published.content {
                assert_eq!(message.text, content.text, "a stored message is spoilt");
                assert_eq!(message.event_id, content.event_id, "an event id is spoilt");
            }
        }
        // Each message that is no longer stored has expired, or had to make way for newer ones.
        let there: BTreeSet<u64> = real.stored.iter().map(|message| message.id).collect();
        let evicts = notices || effects.swept || posts.iter().any(|post| post.1.store);
        let has_expired = |id: &u64| {
            channel.stored.iter().any(|message| message.id == *id && message.expires <= now.steady)
        };
        let lost: Vec<u64> = may_be_stored.into_iter().filter(|id| !there.contains(id)).collect();
        // Some that have expired may still have been there when others had to make way.
        let most = there.len() + lost.iter().filter(|id| has_expired(id)).count();
        for id in &lost {
            let expired = has_expired(id);
            let evicted = evicts
                && rules.stored_max.is_some_and(|max| most as u64 >= max)
                && there.first().is_none_or(|first| id < first);
            assert!(expired || evicted, "stored message {id} is lost");
        }
        if sure > 0 && posts.last().is_some_and(|post| post.1.store && post.2) {
            let max = rules.stored_max.unwrap_or(u64::MAX);
            // When the limit was lowered, a publish discards some messages over it, and ticks the rest.
            // One that was cut off may have stored its message and discarded none.
            let stores = posts.iter().filter(|post| post.1.store).count();
            let done = posts.iter().filter(|post| post.1.store && post.2).count();
            let excess = (channel.stored.len() + stores).saturating_sub(done * EVICTED_PER_PUBLISH);
            let most = max.max(excess as u64);
            assert!(there.len() as u64 <= most, "more is stored than may be");
        }
        channel.stored = real.stored.clone();
    }
}

/// What is to be said to a subscriber of one channel about old messages that it does not get.
#[derive(Debug)]
pub(super) enum Verdict {
    /// None is missing.
    Whole,
    /// Some are, for one of these reasons.
    Gap(Vec<Gap>),
    /// The event id that it names is not there.
    NoSuchEvent,
    /// The model does not know.
    Open,
}

/// How many messages a subscriber lacks.
#[derive(Debug)]
pub(super) enum Count {
    /// So many.
    Is(u64),
    /// Nobody can know: some were those of a former channel.
    Unknown,
    /// The model does not know.
    Open,
}

/// How many messages of a channel a subscriber with such a [`Verdict::Gap`] lacks.
pub(super) fn missing(channel: &Channel, stored: &[Lying], since: &Since<'_>, now: Now) -> Count {
    let from = since.time.map(|time| (time, since.tag.unwrap_or(u64::MAX)));
    let Some(from) = from.filter(|_| since.event_id.is_none()) else { return Count::Open };
    if channel.log.iter().any(|published| published.time == 0) {
        return Count::Open;
    }
    if channel.inherited > from {
        return Count::Unknown;
    }
    let lives = |id| stored.iter().any(|message| message.id == id && message.expires > now.steady);
    let log = channel.log.iter().zip(1..);
    let lost = log.filter(|(published, id)| (published.time, published.tag) > from && !lives(*id));
    Count::Is(lost.count() as u64)
}

/// The place of a channel's message with the event id that a subscriber names, if it starts there. `Err`: the
/// model does not know.
pub(super) fn named(
    channel: &Channel,
    stored: &[Lying],
    since: &Since<'_>,
) -> Result<Option<(Seconds, u64)>, ()> {
    if since.event_id.is_none() {
        return Ok(None);
    }
    let from = since.time.map(|time| (time, since.tag.unwrap_or(u64::MAX)));
    let is_named = |event_id: &Option<Vec<u8>>| event_id.as_deref() == since.event_id;
    // One that was discarded may be there for a reader, behind those that are stored.
    let first = stored.first().map_or(u64::MAX, |message| message.id);
    let may_be_kept = |(n, published): (usize, &Published)| {
        let content = published.content.as_ref();
        n as u64 + 1 > first && content.is_some_and(|c| c.store && is_named(&c.event_id))
    };
    let is_there = |id: u64| stored.iter().any(|message| message.id == id);
    let log = channel.log.iter().enumerate();
    if log.filter(|(n, _)| !is_there(*n as u64 + 1)).any(may_be_kept) {
        return Err(());
    }
    let is_start = |message: &&Lying| {
        is_named(&message.event_id) || from.is_some_and(|from| (message.time, message.tag) >= from)
    };
    let start = stored.iter().find(is_start).filter(|message| is_named(&message.event_id));
    Ok(start.map(|start| (start.time, start.tag)))
}

/// What a subscriber that does not see the messages behind this place is to be told.
pub(super) fn judged_unseen(channel: &Channel, from: (Seconds, u64)) -> Verdict {
    let is_behind = |published: &Published| (published.time, published.tag) > from;
    if channel.inherited > from || channel.log.iter().any(is_behind) {
        return Verdict::Gap(vec![Gap::Unknown]);
    }
    let is_open = channel.log.iter().any(|published| published.time == 0);
    if is_open { Verdict::Open } else { Verdict::Whole }
}

/// What a subscriber that resumes is to be told. `stored` is what the channel stored then.
pub(super) fn judged(channel: &Channel, stored: &[Lying], since: &Since<'_>, now: Now) -> Verdict {
    let Ok(named) = named(channel, stored, since) else { return Verdict::Open };
    let from = named.or(since.time.map(|time| (time, since.tag.unwrap_or(u64::MAX))));
    let Some(from) = from else { return Verdict::NoSuchEvent };
    let mut reasons = Vec::new();
    if channel.inherited > from {
        reasons.push(Gap::Unknown);
    }
    let (mut before, mut is_open) = ((0, 0), false);
    for (n, published) in channel.log.iter().enumerate() {
        let id = n as u64 + 1;
        let place = (published.time, published.tag);
        if place == (0, 0) {
            // It was published by a worker that died, and is not stored.
            is_open = true;
            continue;
        }
        assert!(place > before, "a log in order");
        before = place;
        let lives = stored.iter().any(|message| message.id == id && message.expires > now.steady);
        if place > from && !lives {
            match published.content.as_ref() {
                Some(content) if !content.store => reasons.push(Gap::Unstored),
                _ => reasons.extend([Gap::Evicted, Gap::Expired]),
            }
        }
    }
    match (reasons.is_empty(), is_open) {
        (true, true) => Verdict::Open,
        (true, false) => Verdict::Whole,
        (false, true) => {
            Verdict::Gap(vec![Gap::Evicted, Gap::Expired, Gap::Unstored, Gap::Unknown])
        }
        (false, false) => Verdict::Gap(reasons),
    }
}

/// The ids that a subscriber must get of these messages, which are all that a channel stores, as the
/// specification says.
pub(super) fn selected(
    stored: &[Lying],
    backtrack: Option<u64>,
    since: &Since<'_>,
    now: Now,
) -> Vec<u64> {
    let first = match backtrack {
        Some(count) if count > 0 => {
            stored.len().saturating_sub(usize::try_from(count).unwrap_or(usize::MAX))
        }
        _ => {
            let mut first = stored.len();
            for (n, message) in stored.iter().enumerate() {
                let named =
                    since.event_id.is_some() && message.event_id.as_deref() == since.event_id;
                if named {
                    first = n + 1;
                    break;
                }
                let Some(time) = since.time else { continue };
                if message.time > time {
                    first = n;
                    break;
                }
                if message.time == time && since.tag.is_some_and(|tag| message.tag >= tag) {
                    first = n + usize::from(since.tag == Some(message.tag));
                    break;
                }
            }
            first
        }
    };
    let left = stored.iter().skip(first).filter(|message| message.expires > now.steady);
    left.map(|message| message.id).collect()
}
