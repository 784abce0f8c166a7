//! One who comes, goes and comes back: from which place, and what it has had and was told.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::super::client::{Client, Item, Kind};
use super::super::link::End;
use super::ledger::{Key, Ledger, NEVER, Offer, Place};
use crate::hub::sim::LIFE;
use crate::model::{Cursor, Gap, Latest, Now, Since};
use crate::wire::resume::Announced;

/// How a visitor says where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    Nothing,
    /// A time before all messages.
    Beginning,
    Cursor,
    Time,
    Event,
    /// Time, tag and event id of one message.
    TimeAndEvent,
    /// A cursor of another life of the zone.
    Foreign,
    /// A cursor that no message has reached yet.
    Future,
}

impl By {
    pub(super) const ALL: [Self; 8] = [
        Self::Nothing,
        Self::Beginning,
        Self::Cursor,
        Self::Time,
        Self::Event,
        Self::TimeAndEvent,
        Self::Foreign,
        Self::Future,
    ];

    /// Does it go on from a place that it was told, in all its channels?
    fn names_place(self) -> bool {
        matches!(self, Self::Beginning | Self::Cursor | Self::Time | Self::TimeAndEvent)
    }

    fn names_event(self) -> bool {
        matches!(self, Self::Event | Self::TimeAndEvent)
    }
}

pub(super) struct Visitor {
    pub(super) channels: Vec<Vec<u8>>,
    pub(super) client: Option<Rc<Client>>,
    arrival: Option<Arrival>,
    /// Where it was told that it is. All messages of its channels up to there it has had, or it was told of a
    /// gap.
    pub(super) place: Option<Place>,
    /// What else its cursor says.
    latest: Option<Latest>,
    /// Event id of the last message that it has had, and which one that was.
    pub(super) event: Option<(Vec<u8>, Key)>,
    /// For each channel: where the messages begin that it is to have.
    from: BTreeMap<Vec<u8>, Place>,
    had: BTreeSet<Key>,
    /// Those of them that it asks for once more, because its place went back.
    again: BTreeSet<Key>,
    /// These it has not had, and was told of a gap when it asked for them.
    told: BTreeSet<Key>,
    pub(super) last_kind: Option<Kind>,
}

/// What is due to a visitor that has just come.
struct Arrival {
    by: By,
    /// For each channel: where it is there. `None`: it asks for no old messages.
    places: Vec<Option<Place>>,
    /// The newest place then.
    border: Place,
    /// A gap that it is told is about these.
    missing: Vec<Key>,
    /// The old messages, by number of the channel and id.
    old: Option<Vec<(usize, i64)>>,
    has_moved: bool,
}

impl Visitor {
    pub(super) fn new(channels: Vec<Vec<u8>>) -> Self {
        Self {
            channels,
            client: None,
            arrival: None,
            place: None,
            latest: None,
            event: None,
            from: BTreeMap::new(),
            had: BTreeSet::new(),
            again: BTreeSet::new(),
            told: BTreeSet::new(),
            last_kind: None,
        }
    }

    /// How it can say where it is.
    pub(super) fn ways(&self, ledger: &Ledger, has_cursors: bool) -> Vec<By> {
        let mut ways = Vec::new();
        if self.place.is_some() {
            ways.extend([By::Time; 3]);
            ways.extend(has_cursors.then_some([By::Cursor; 6]).into_iter().flatten());
        }
        if let Some((_, key)) = &self.event {
            ways.extend([By::Event; 2]);
            ways.extend((self.place == Some(ledger.entry(key).place)).then_some(By::TimeAndEvent));
        }
        ways
    }

    pub(super) fn since(&self, by: By, ledger: &Ledger) -> Since<'_> {
        let place = self.place.unwrap_or_default();
        let latest = self.latest;
        let cursor = |life, (time, tag)| Some(Cursor { life, time, tag, latest });
        let (time, tag) = (Some(place.0), Some(place.1));
        let event_id = self.event.as_ref().map(|(event_id, _)| event_id.as_slice());
        match by {
            By::Nothing => Since::default(),
            By::Beginning => Since { time: Some(0), tag: Some(0), ..Since::default() },
            By::Cursor => Since { cursor: cursor(LIFE, place), ..Since::default() },
            By::Time => Since { time, tag, ..Since::default() },
            By::Event => Since { event_id, ..Since::default() },
            By::TimeAndEvent => Since { time, tag, event_id, cursor: None },
            By::Foreign => Since { cursor: cursor(LIFE ^ 1, place), ..Since::default() },
            By::Future => {
                let (time, tag) = ledger.place;
                Since { cursor: cursor(LIFE, (time, tag + 1)), ..Since::default() }
            }
        }
    }

    /// Checks what a visitor is told that has just come. `border`: the place of the zone before. Answers what
    /// is to be counted.
    pub(super) fn arrive(
        &mut self,
        client: &Rc<Client>,
        by: By,
        border: Place,
        ledger: &Ledger,
        now: Now,
    ) -> Option<&'static str> {
        self.client = Some(Rc::clone(client));
        self.last_kind = Some(client.kind);
        if client.subscriptions.borrow().is_empty() {
            return None; // It was not let in, or its worker has died before.
        }
        let told = client.gap.get();
        let event_id = self.event.as_ref().map(|(event_id, _)| event_id.as_slice());
        let event_id = event_id.filter(|_| by.names_event());
        let time = match by {
            By::Beginning => Some((0, 0)),
            By::Cursor | By::Time | By::TimeAndEvent => self.place,
            By::Nothing | By::Event | By::Foreign | By::Future => None,
        };
        let start = |id: &Vec<u8>| ledger.start(id, time, event_id);
        let mut places: Vec<Option<Place>> = self.channels.iter().map(start).collect();
        let is_there = places.iter().any(Option::is_some);
        // Channels that do not have the event id begin where it is in others, or tell that they have more.
        let elsewhere = places.iter().flatten().min().copied().filter(|_| by == By::Event);
        if client.has_cursors {
            places.iter_mut().for_each(|place| *place = place.or(elsewhere));
        }
        // A message that has expired before older ones may be there for a reader.
        let is_open = event_id.is_some_and(|event_id| {
            self.channels.iter().any(|id| ledger.may_be_kept(id, event_id))
        });
        let offers: Vec<_> = self
            .channels
            .iter()
            .zip(&places)
            .map(|(id, place)| match (place, elsewhere) {
                (Some(place), _) => ledger.offer(id, *place, now),
                (None, Some(place)) => ledger.offer_unseen(id, place),
                (None, None) => Offer::default(),
            })
            .collect();
        let is_none_there = !is_there;
        let due = match by {
            By::Nothing => vec![],
            By::Foreign => vec![Gap::Restarted],
            By::Future => vec![Gap::Unknown],
            By::Event if !is_there => vec![Gap::Unknown],
            _ => {
                let mut all = offers.iter().map(|offer| &offer.reasons);
                all.find(|reasons| !reasons.is_empty()).cloned().unwrap_or_default()
            }
        };
        let is_right = told.map_or(due.is_empty(), |told| due.contains(&told));
        assert!(is_right || is_open, "told {told:?}, and due is one of {due:?}");

        if client.has_cursors {
            // The ids of the channel tell it, from the one that the client has named.
            let named = self.latest.filter(|_| by == By::Cursor);
            let is_known = |id: &[u8]| {
                let (name, _) = ledger.live(id).expect("it is there");
                named.is_some_and(|latest| u64::from(latest.channel) == name.1)
            };
            let is_everywhere = is_none_there && !due.is_empty();
            let all = self.channels.iter().zip(&offers).map(|(id, offer)| {
                let reasons = if is_everywhere { &due } else { &offer.reasons };
                let known = is_known(id).then_some(offer.missed);
                (id, reasons, known, Some(offer.missed).filter(|_| offer.is_counted))
            });
            let all: Vec<_> = all.filter(|(_, reasons, ..)| !reasons.is_empty()).collect();
            let told = client.missing.borrow();
            let is_right = told.len() == all.len()
                && told.iter().zip(&all).all(
                    |((channel, reason, count), (id, reasons, known, missed))| {
                        let may_be = [None, *missed].contains(count) && known.is_none();
                        let is_right = may_be || known.is_some() && count == known;
                        channel == *id && reasons.contains(reason) && is_right
                    },
                );
            assert!(is_right || is_open, "told {told:?}, and due is {all:?}");
        }
        let mut missing = Vec::new();
        for ((id, place), offer) in self.channels.iter().zip(&places).zip(&offers) {
            let all = ledger.all_of(id).filter(|(_, entry)| entry.place <= border);
            let live = ledger.live(id).map(|(name, _)| name);
            let from = place.or(elsewhere).unwrap_or_default();
            let is_had = |key: &Key| Some(&key.0) == live && offer.old.contains(&key.1);
            let lacks = all.filter(|(key, entry)| entry.place > from && !is_had(key));
            missing.extend(lacks.map(|(key, _)| key));
        }
        let count = self.judge(by, told, is_there, &missing, &offers, ledger);
        let mut old: Vec<(Place, usize, i64)> = Vec::new();
        for (number, (id, offer)) in self.channels.iter().zip(&offers).enumerate() {
            let Some((name, _)) = ledger.live(id) else { continue };
            let place = |id: u64| ledger.entry(&(name.clone(), id)).place;
            old.extend(offer.old.iter().map(|id| (place(*id), number, *id as i64)));
        }
        if client.has_cursors {
            old.sort();
        }
        let old = old.into_iter().map(|(_, number, id)| (number, id)).collect();
        let old = Some(old).filter(|_| !is_open);
        for (id, place) in self.channels.iter().zip(&places) {
            if let Some(place) = place.filter(|_| !by.names_event() && by != By::Beginning) {
                self.check_channel(id, place, ledger);
            }
        }
        self.arrival = Some(Arrival { by, places, border, missing, old, has_moved: false });
        count
    }

    /// Is a gap told in vain?
    fn judge(
        &self,
        by: By,
        told: Option<Gap>,
        is_there: bool,
        missing: &[Key],
        offers: &[Offer],
        ledger: &Ledger,
    ) -> Option<&'static str> {
        let told = told?;
        let begins = by == By::Beginning;
        let has = |key: &Key| self.had.contains(key) && !self.again.contains(key);
        if missing.iter().any(|key| begins || !has(key)) {
            return Some(match told {
                Gap::Evicted => "gaps told: evicted",
                Gap::Expired => "gaps told: expired",
                Gap::Unstored => "gaps told: unstored",
                Gap::Unknown => "gaps told: unknown",
                Gap::Restarted => "gaps told: restarted",
                Gap::Slow => panic!("it is cut off instead"),
            });
        }
        match by {
            By::Foreign => return Some("gaps told: restarted"),
            By::Future => return Some("gaps told: unknown"),
            By::Event if !is_there => return Some("gaps told in vain: its event id is gone"),
            By::Event if self.channels.len() > 1 => {
                return Some("gaps told in vain: behind an event id of several channels");
            }
            _ => {}
        }
        let new = self.channels.iter().zip(offers).find(|(_, offer)| !offer.reasons.is_empty());
        let is_shared = new.is_some_and(|(id, _)| {
            let (_, channel) = ledger.live(id).expect("it is there");
            begins || Some(channel.inherited) > self.place
        });
        assert!(is_shared && told == Gap::Unknown, "{told:?} is told in vain: {missing:?}");
        Some("gaps told in vain: a shared entry")
    }

    /// All messages of a channel up to this place it has had, or was told that some are missing.
    fn check_channel(&self, id: &[u8], place: Place, ledger: &Ledger) {
        let from = self.from.get(id).copied().unwrap_or(NEVER);
        for (key, entry) in ledger.all_of(id) {
            let is_due = entry.place > from && entry.place <= place;
            let is_known = self.had.contains(&key) || self.told.contains(&key);
            assert!(!is_due || is_known, "at {place:?}, nothing was told of {key:?}: {entry:?}");
        }
    }

    pub(super) fn check(&self, place: Place, ledger: &Ledger) {
        for id in &self.channels {
            self.check_channel(id, place, ledger);
        }
    }

    /// It gets something: from now on it is no longer where it was.
    fn moves(&mut self) {
        let Some(arrival) = self.arrival.as_mut().filter(|arrival| !arrival.has_moved) else {
            return;
        };
        arrival.has_moved = true;
        for (id, place) in self.channels.iter().zip(&arrival.places) {
            let by_other = |place: Place| match &self.event {
                // It need not have had the message of this event id that is in another channel.
                Some((_, key)) if arrival.by.names_event() && key.0.0 != *id => Some(place),
                _ => None,
            };
            if let Some(from) = place.map_or(Some(arrival.border), by_other) {
                self.from.insert(id.clone(), from);
            }
        }
    }

    fn is_told(&mut self, place: Place, latest: Option<Latest>, ledger: &Ledger) {
        ledger.check_latest(place, latest);
        self.moves();
        let goes_back = self.arrival.as_ref().is_some_and(|arrival| !arrival.by.names_place());
        let behind = self.had.iter().filter(|key| ledger.entry(key).place > place);
        let behind: BTreeSet<Key> = behind.cloned().collect();
        let is_right = goes_back || behind.is_subset(&self.again);
        assert!(is_right, "it is told {place:?}, and has had {behind:?}");
        self.again.extend(behind);
        (self.place, self.latest) = (Some(place), latest);
        self.check(place, ledger);
    }

    /// Looks at what it has got, if its request has ended. `false`: it has not.
    pub(super) fn finish(&mut self, ledger: &Ledger) -> bool {
        let Some(client) = self.client.take_if(|client| client.link.has_ended()) else {
            return false;
        };
        let arrival = self.arrival.as_ref();
        let (Some(arrival), end) = (arrival, client.link.end()) else { return true };
        let old = client.old.borrow();
        if let Some(due) = &arrival.old {
            let lost = client.lost.borrow();
            let is_cut = client.has_lagged.get()
                || !client.unread.borrow().is_empty()
                || !lost.is_empty()
                || matches!(end, Some(End::Vanished | End::Refused | End::Cut(_)));
            let subscriptions = client.subscriptions.borrow();
            // Nothing is due of a channel that was deleted meanwhile.
            let is_live = |id: &[u8], name| ledger.live(id).is_some_and(|(live, _)| live == name);
            let lives = |(channel, _): &&(usize, i64)| {
                let name = &subscriptions[*channel].channel;
                !lost.contains(channel) && is_live(&name.0, name)
            };
            let of = |all: &[(usize, i64)]| all.iter().filter(lives).copied().collect::<Vec<_>>();
            let is_right = of(due).starts_with(&of(&old));
            assert!(is_right, "old messages {old:?}, and due are {due:?}");
            assert!(is_cut || *due == *old, "old messages {old:?} are not all of {due:?}");
        }
        let told = match end {
            Some(End::Answered(announced, _)) => Some(announced),
            Some(End::Finished) if client.kind.is_poll() => client.link.announced.get(),
            _ => None,
        };
        let items = client.items();
        let is_whole = if client.kind.is_poll() { told.is_some() } else { !items.is_empty() };
        if !is_whole {
            self.arrival = None;
            return true;
        }
        if arrival.by == By::Beginning {
            self.had.clear();
            self.again.clear();
            self.told.clear();
            (self.place, self.event) = (None, None);
            self.from = self.channels.iter().map(|id| (id.clone(), (0, 0))).collect();
        }
        // In other channels the message of an event id may lie before what it has had.
        let may_repeat = arrival.by == By::Event;
        let starts: BTreeMap<Vec<u8>, Option<Place>> =
            self.channels.iter().cloned().zip(arrival.places.iter().copied()).collect();
        if client.gap.get().is_some() && !client.has_cursors {
            self.told.extend(arrival.missing.iter().cloned());
        }
        let missing = arrival.missing.clone();
        let is_exact = client.has_cursors || client.kind.is_poll() || self.channels.len() == 1;
        let mut items = items.into_iter().peekable();
        while let Some(item) = items.next() {
            let (channel, id, cursor) = match item {
                Item::Id(cursor) => {
                    // With a message, or alone.
                    let with = |next: &Item| matches!(next, Item::Message { place, .. } if *place == Some(cursor));
                    if !items.peek().is_some_and(with) {
                        self.is_told((cursor.time, cursor.tag), cursor.latest, ledger);
                    }
                    continue;
                }
                Item::Message { channel, id, place, .. } => (channel, id, place),
                Item::Gap(text) => {
                    let text = String::from_utf8(text).expect("JSON");
                    let begins = |id: &[u8]| {
                        let id = String::from_utf8_lossy(id);
                        text.starts_with(&format!("{{\"channel\":\"{id}\","))
                    };
                    let missing = missing.iter().filter(|((id, _), _)| begins(id));
                    self.told.extend(missing.cloned());
                    continue;
                }
                _ => continue,
            };
            let number = client.number_of(&channel).expect("a channel of it");
            let name = client.subscriptions.borrow()[number].channel.clone();
            let key = (name, id as u64);
            let entry = ledger.entry(&key);
            let (time, tag) = entry.place;
            let latest = cursor.and_then(|cursor| cursor.latest);
            let due = client.has_cursors.then_some(Cursor { life: LIFE, time, tag, latest });
            assert_eq!(cursor, due, "its place");
            self.moves();
            self.event = entry.event_id.clone().map(|event_id| (event_id, key.clone()));
            let is_again = may_repeat && starts[&channel].is_some_and(|start| entry.place > start);
            let is_again = is_again || self.again.remove(&key);
            assert!(self.had.insert(key.clone()) || is_again, "{key:?} comes twice");
            if !client.kind.is_poll() {
                self.place = None;
                if is_exact {
                    self.is_told(entry.place, latest, ledger);
                }
            }
        }
        if let Some(announced) = told {
            let Announced { time, tag } = announced;
            match client.link.place.get().filter(|_| client.has_cursors) {
                Some(reached) => self.is_told(reached.place, reached.latest, ledger),
                None if time > 0 => {
                    self.is_told((time, tag.unwrap_or(u64::MAX)), None, ledger);
                }
                None => {}
            }
        }
        self.arrival = None;
        true
    }

    pub(super) fn messages(&self) -> usize {
        self.had.len()
    }

    /// Messages that it has never had, and was told of.
    pub(super) fn holes(&self) -> usize {
        self.told.difference(&self.had).count()
    }
}
