//! What was published in a history, and what has become of it: the naive account that answers are compared
//! with.
//!
//! After each step it looks at what the zone stores, and each message that has gone must have had a reason.

use std::collections::BTreeMap;

use super::super::client::Name;
use crate::hub::Rules;
use crate::hub::sim::Real;
use crate::model::{Gap, Latest, Now, Seconds};

/// A worker's clock may be so much behind.
pub(super) const LATE_SECS: Seconds = 1;

pub(super) type Place = (Seconds, u64);

/// Behind all messages.
pub(super) const NEVER: Place = (Seconds::MAX, 0);

/// A message: its channel, and its number there.
pub(super) type Key = (Name, u64);

/// What a publisher has sent, to these channels.
pub(super) struct Post {
    pub(super) channels: Vec<Vec<u8>>,
    pub(super) event_id: Option<Vec<u8>>,
    pub(super) is_stored: bool,
    /// By the clock of its worker.
    pub(super) now: Now,
    /// Its worker has not died over it.
    pub(super) is_sure: bool,
}

/// A message that was published.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) place: Place,
    pub(super) event_id: Option<Vec<u8>>,
    /// For messages that were stored.
    pub(super) expires: Option<Seconds>,
    /// Why the zone does not store it any more, or never did: one of these. Empty: it does.
    pub(super) gone: Vec<Gap>,
}

/// A channel, from its creation to its end.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) log: Vec<Entry>,
    former: usize,
    /// What channels had that were removed before it was made, and of which it may have been one.
    pub(super) inherited: Place,
}

impl Channel {
    /// Its messages, with their ids.
    pub(super) fn entries(&self) -> impl Iterator<Item = (u64, &Entry)> {
        (1..).zip(&self.log)
    }
}

#[derive(Default)]
pub(super) struct Ledger {
    /// All that ever were.
    pub(super) channels: BTreeMap<Name, Channel>,
    /// Those that live, by id.
    live: BTreeMap<Vec<u8>, Name>,
    former: BTreeMap<usize, Place>,
    /// Time and tag of the zone.
    pub(super) place: Place,
    pub(super) evicted: u64,
    pub(super) expired: u64,
    pub(super) removed: u64,
}

/// What a channel has for a subscriber that comes from a place, and what is missing.
#[derive(Debug, Default)]
pub(super) struct Offer {
    /// Ids of old messages.
    pub(super) old: Vec<u64>,
    /// Reasons of which one is to be told. Empty: it has all.
    pub(super) reasons: Vec<Gap>,
    /// How many of its messages the subscriber does not get.
    pub(super) missed: u64,
    /// These are all that the subscriber may miss, and not those of a channel that was removed besides.
    pub(super) is_counted: bool,
}

impl Ledger {
    pub(super) fn live(&self, id: &[u8]) -> Option<(&Name, &Channel)> {
        let name = self.live.get(id)?;
        Some((name, &self.channels[name]))
    }

    /// Every message that was ever published in channels of this id.
    pub(super) fn all_of(&self, id: &[u8]) -> impl Iterator<Item = (Key, &Entry)> {
        let all = self.channels.range((id.to_vec(), 0)..=(id.to_vec(), u64::MAX));
        all.flat_map(|(name, channel)| {
            channel.entries().map(|(id, entry)| ((name.clone(), id), entry))
        })
    }

    pub(super) fn entry(&self, (name, id): &Key) -> &Entry {
        &self.channels[name].log[*id as usize - 1]
    }

    /// Takes in what has happened in a step. `post`: what was published in it, if anything was.
    pub(super) fn take_in(
        &mut self,
        real: &BTreeMap<Vec<u8>, Real>,
        place: Place,
        post: Option<&Post>,
        rules: &Rules,
        now: Now,
    ) {
        assert!(place >= self.place, "the order goes back from {:?} to {place:?}", self.place);
        let before = core::mem::replace(&mut self.place, place);
        let is_gone = |name: &Name| real.get(&name.0).is_none_or(|real| real.created != name.1);
        let gone: Vec<Name> = self.live.values().filter(|name| is_gone(name)).cloned().collect();
        for name in gone {
            self.live.remove(&name.0);
            let channel = self.channels.get_mut(&name).expect("it was there");
            let last = channel.log.last().map_or((0, 0), |last| last.place);
            let former = self.former.entry(channel.former).or_default();
            *former = last.max(channel.inherited).max(*former);
            for entry in channel.log.iter_mut().filter(|entry| entry.gone.is_empty()) {
                entry.gone = vec![Gap::Unknown];
            }
            self.removed += 1;
        }
        for (id, real) in real {
            let name = (id.clone(), real.created);
            let inherited = self.former.get(&real.former).copied().unwrap_or_default();
            self.live.insert(id.clone(), name.clone());
            let channel = self.channels.entry(name).or_insert_with(|| Channel {
                log: Vec::new(),
                former: real.former,
                inherited,
            });
            let has_new = real.published - channel.log.len() as u64;
            let post = post.filter(|post| post.channels.contains(id));
            let is_sure = post.is_some_and(|post| post.is_sure);
            assert!(has_new == 1 || has_new == 0 && !is_sure, "{has_new} messages of {post:?}");
            if has_new == 1 {
                let post = post.expect("nobody has published");
                let (number, place) = (channel.log.len() as u64 + 1, real.last);
                assert!(place > before && place <= self.place, "published at {place:?}");
                assert!(place.0 >= post.now.wall, "published before its time");
                let stored = real.stored.iter().find(|stored| stored.id == number);
                let is_stored = stored.is_some();
                assert_eq!(is_stored, post.is_stored, "{real:?}");
                let expires = stored.map(|stored| stored.expires);
                // Not before those that a worker has published whose clock is right.
                let life = expires.map_or(rules.message_ttl_secs, |at| at - post.now.steady);
                let lives = rules.message_ttl_secs..=rules.message_ttl_secs + LATE_SECS;
                assert!(lives.contains(&life), "{stored:?} at {:?}", post.now);
                let gone = if is_stored { vec![] } else { vec![Gap::Unstored] };
                let event_id = post.event_id.clone();
                channel.log.push(Entry { place, event_id, expires, gone });
            }
            let is_there = |id: u64| real.stored.iter().any(|stored| stored.id == id);
            let mut lost = Vec::new();
            for (id, entry) in (1..).zip(&channel.log) {
                let is_stored = entry.gone.is_empty();
                assert!(is_stored || !is_there(id), "message {id} of {real:?} is back");
                let has_expired = entry.expires.is_some_and(|expires| expires <= now.steady);
                if is_stored && !is_there(id) {
                    lost.push((id, has_expired));
                }
            }
            // Some that have expired may still have been there when others had to make way.
            let most =
                real.stored.len() + lost.iter().filter(|(_, has_expired)| *has_expired).count();
            let is_full = rules.stored_max.is_some_and(|max| most as u64 >= max);
            let first = real.stored.first().map_or(u64::MAX, |first| first.id);
            for (id, has_expired) in lost {
                let gone = &mut channel.log[id as usize - 1].gone;
                if is_full && id < first {
                    gone.push(Gap::Evicted);
                    self.evicted += 1;
                }
                if has_expired {
                    gone.push(Gap::Expired);
                    self.expired += 1;
                }
                assert!(!gone.is_empty(), "message {id} of {real:?} is lost");
            }
        }
    }

    /// The number of a message of one channel that a cursor has is that of its newest one up to its place.
    pub(super) fn check_latest(&self, place: Place, latest: Option<Latest>) {
        let Some(Latest { channel, id }) = latest else { return };
        let found = self.channels.iter().find(|((_, created), _)| *created == u64::from(channel));
        let log = found.map_or(&[][..], |(_, channel)| &channel.log);
        let count = log.iter().filter(|entry| entry.place <= place).count() as u64;
        assert_eq!(id, count, "{latest:?} at {place:?}");
    }

    /// Where a subscriber is in a channel that names this time and tag, or this event id, or both.
    pub(super) fn start(
        &self,
        id: &[u8],
        time: Option<Place>,
        event_id: Option<&[u8]>,
    ) -> Option<Place> {
        let Some(event_id) = event_id else { return time };
        let (_, channel) = self.live(id)?;
        let is_named = |entry: &&Entry| entry.event_id.as_deref() == Some(event_id);
        let is_start =
            |entry: &&Entry| is_named(entry) || Some(entry.place) >= time.or(Some(NEVER));
        let mut there = channel.log.iter().filter(|entry| entry.gone.is_empty());
        there.find(is_start).filter(is_named).map(|named| named.place).or(time)
    }

    /// Is a message of this event id gone that has older ones left, so that it may be there for a reader?
    pub(super) fn may_be_kept(&self, id: &[u8], event_id: &[u8]) -> bool {
        let Some((_, channel)) = self.live(id) else { return false };
        let mut newer = channel.log.iter().skip_while(|entry| !entry.gone.is_empty());
        newer.any(|entry| {
            let is_gone = !entry.gone.is_empty() && entry.expires.is_some();
            is_gone && entry.event_id.as_deref() == Some(event_id)
        })
    }

    /// What a client is told of a channel of which it gets nothing old, if it is at this place.
    pub(super) fn offer_unseen(&self, id: &[u8], place: Place) -> Offer {
        let Some((name, channel)) = self.live(id) else { return Offer::default() };
        let mut all = self.all_of(id).filter(|(key, _)| key.0 == *name);
        let has_more = channel.inherited > place || all.any(|(_, entry)| entry.place > place);
        Offer {
            reasons: has_more.then_some(Gap::Unknown).into_iter().collect(),
            ..Offer::default()
        }
    }

    /// What a live channel has for a subscriber that comes from `place`. `now`: of its worker.
    pub(super) fn offer(&self, id: &[u8], place: Place, now: Now) -> Offer {
        let Some((_, channel)) = self.live(id) else { return Offer::default() };
        let mut offer = Offer::default();
        let mut lost = (channel.inherited > place).then(|| vec![Gap::Unknown]);
        let mut has_expired = false;
        let mut missed = 0;
        for (id, entry) in channel.entries().filter(|(_, entry)| entry.place > place) {
            missed += 1;
            if !entry.gone.is_empty() {
                lost = Some(entry.gone.clone());
            } else if entry.expires.is_some_and(|expires| expires > now.steady) {
                missed -= 1;
                offer.old.push(id);
            } else {
                has_expired = true;
            }
        }
        (offer.missed, offer.is_counted) = (missed, channel.inherited <= place);
        offer.reasons =
            lost.unwrap_or_else(|| if has_expired { vec![Gap::Expired] } else { vec![] });
        offer
    }
}

impl core::fmt::Debug for Post {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let kind = if self.is_stored { "stored" } else { "unstored" };
        write!(f, "{kind} to {:?}", names(&self.channels))
    }
}

pub(super) fn names(ids: &[Vec<u8>]) -> Vec<&str> {
    ids.iter().map(|id| core::str::from_utf8(id).unwrap_or("?")).collect()
}
