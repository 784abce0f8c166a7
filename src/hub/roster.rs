//! The roster: which subscribers of this worker listen to which channel. Worker memory only.
//!
//! A channel's listeners stand in groups of equal form, so that one rendering serves a whole group.
//! Coming and going is O(1): each listener knows its place, and the last one of its group fills it
//! when it leaves.

use crate::model::Message;
use crate::store::arena::Handle;
use crate::store::interest::Interest;

/// Names one registered subscriber of this worker; never reused for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SubscriberId {
    /// Its place.
    pub index: u32,
    /// Which tenant of the place.
    pub generation: u32,
}

/// One subscriber of a channel.
#[derive(Clone, Copy, Debug)]
pub struct Listener {
    /// Who.
    pub id: SubscriberId,
    /// What the shell gave when it subscribed.
    pub token: usize,
    /// Id of the newest message when it subscribed: it wants only later ones.
    pub after: u64,
}

impl Listener {
    /// The part of a batch that this subscriber is to get: nearly always all of it.
    pub fn due<'m, 'a>(&self, messages: &'m [Message<'a>]) -> &'m [Message<'a>] {
        let had = messages
            .iter()
            .take_while(|message| u64::try_from(message.id).is_ok_and(|id| id <= self.after));
        messages.get(had.count()..).unwrap_or(&[])
    }
}

/// The listeners of a channel that want the same form.
#[derive(Debug)]
pub struct Group {
    /// The form that the shell chose.
    pub form: u32,
    /// Them, in no order.
    pub listeners: Vec<Listener>,
}

/// A channel with subscribers in this worker.
pub(super) struct Local {
    pub(super) interest: Handle<Interest>,
    pub(super) shard: usize,
    pub(super) id: Box<[u8]>,
    pub(super) groups: Vec<Group>,
}

/// One subscription of a subscriber.
struct Place {
    local: u32,
    group: u32,
    index: u32,
}

struct Subscriber {
    generation: u32,
    /// It was announced: it counts, and its leaving is told.
    announced: bool,
    /// `None` while the place is free.
    places: Option<Vec<Place>>,
}

#[derive(Default)]
pub(super) struct Roster {
    locals: Vec<Option<Local>>,
    free_locals: Vec<u32>,
    subscribers: Vec<Subscriber>,
    free_subscribers: Vec<u32>,
}

/// What is left of a channel after one of its listeners has gone.
pub(super) struct Left {
    pub(super) local: u32,
    pub(super) shard: usize,
    pub(super) interest: Handle<Interest>,
}

impl Roster {
    /// A new subscriber, without subscriptions.
    pub(super) fn add(&mut self) -> SubscriberId {
        let index = self.free_subscribers.pop().unwrap_or_else(|| {
            self.subscribers.push(Subscriber { generation: 0, announced: false, places: None });
            count(self.subscribers.len() - 1)
        });
        let subscriber = &mut self.subscribers[index as usize];
        subscriber.places = Some(Vec::with_capacity(1));
        subscriber.announced = false;
        SubscriberId { index, generation: subscriber.generation }
    }

    /// The number that a new channel will get from [`Roster::open`].
    pub(super) fn next_local(&self) -> u32 {
        self.free_locals.last().copied().unwrap_or_else(|| count(self.locals.len()))
    }

    /// The first subscriber of a channel.
    pub(super) fn open(&mut self, local: Local) -> u32 {
        match self.free_locals.pop() {
            Some(number) => {
                self.locals[number as usize] = Some(local);
                number
            }
            None => {
                self.locals.push(Some(local));
                count(self.locals.len() - 1)
            }
        }
    }

    /// The channel of this number, if it is still the one of this interest.
    pub(super) fn local(&self, number: u32, interest: Handle<Interest>) -> Option<&Local> {
        let local = self.locals.get(number as usize)?.as_ref()?;
        (local.interest == interest).then_some(local)
    }

    /// Adds a subscription.
    pub(super) fn join(
        &mut self,
        id: SubscriberId,
        local_number: u32,
        form: u32,
        listener: Listener,
    ) {
        let Some(Some(local)) = self.locals.get_mut(local_number as usize) else { return };
        let group = local.groups.iter().position(|group| group.form == form).unwrap_or_else(|| {
            local.groups.push(Group { form, listeners: Vec::new() });
            local.groups.len() - 1
        });
        let listeners = &mut local.groups[group].listeners;
        listeners.push(listener);
        let index = count(listeners.len() - 1);
        if let Some(places) = self.places_mut(id) {
            places.push(Place { local: local_number, group: count(group), index });
        }
    }

    /// The subscriber counts from now on; false if it did already or is gone.
    pub(super) fn announce(&mut self, id: SubscriberId) -> bool {
        self.subscriber_mut(id)
            .is_some_and(|subscriber| !core::mem::replace(&mut subscriber.announced, true))
    }

    pub(super) fn is_announced(&self, id: SubscriberId) -> bool {
        self.subscriber(id).is_some_and(|subscriber| subscriber.announced)
    }

    /// The ids of its channels, in subscription order.
    pub(super) fn channels_of(&self, id: SubscriberId) -> Vec<Vec<u8>> {
        let places = self.subscriber(id).and_then(|subscriber| subscriber.places.as_ref());
        places
            .into_iter()
            .flatten()
            .filter_map(|place| self.locals.get(place.local as usize)?.as_ref())
            .map(|local| local.id.to_vec())
            .collect()
    }

    /// The shards and interests of its channels.
    pub(super) fn interests_of(
        &self,
        id: SubscriberId,
    ) -> impl Iterator<Item = (usize, Handle<Interest>)> {
        let places = self.subscriber(id).and_then(|subscriber| subscriber.places.as_ref());
        places
            .into_iter()
            .flatten()
            .filter_map(|place| self.locals.get(place.local as usize)?.as_ref())
            .map(|local| (local.shard, local.interest))
    }

    /// Ends one subscription: `None` when the subscriber has none left (or never had).
    pub(super) fn leave_one(&mut self, id: SubscriberId) -> Option<Left> {
        let place = self.places_mut(id)?.pop()?;
        self.unseat(&place)
    }

    /// Ends the subscription to one channel; answers what is left of the subscriber's others.
    pub(super) fn leave_local(&mut self, id: SubscriberId, number: u32) -> Option<usize> {
        let places = self.places_mut(id)?;
        let at = places.iter().position(|place| place.local == number)?;
        let place = places.remove(at);
        let left = places.len();
        self.unseat(&place);
        Some(left)
    }

    /// Frees a subscriber without subscriptions.
    pub(super) fn remove(&mut self, id: SubscriberId) {
        if let Some(subscriber) = self.subscriber_mut(id) {
            subscriber.places = None;
            subscriber.generation = subscriber.generation.wrapping_add(1);
            self.free_subscribers.push(id.index);
        }
    }

    /// Forgets a channel without listeners.
    pub(super) fn close(&mut self, number: u32) {
        if let Some(slot @ Some(_)) = self.locals.get_mut(number as usize) {
            *slot = None;
            self.free_locals.push(number);
        }
    }

    /// All who listen to a channel.
    pub(super) fn listeners(&self, number: u32) -> Vec<Listener> {
        let local = self.locals.get(number as usize).and_then(Option::as_ref);
        local
            .into_iter()
            .flat_map(|l| &l.groups)
            .flat_map(|g| g.listeners.iter().copied())
            .collect()
    }

    /// All who are registered.
    pub(super) fn everybody(&self) -> Vec<SubscriberId> {
        (0u32..)
            .zip(&self.subscribers)
            .filter(|(_, subscriber)| subscriber.places.is_some())
            .map(|(index, subscriber)| SubscriberId { index, generation: subscriber.generation })
            .collect()
    }

    fn unseat(&mut self, place: &Place) -> Option<Left> {
        let local = self.locals.get_mut(place.local as usize)?.as_mut()?;
        let left = Left { local: place.local, shard: local.shard, interest: local.interest };
        let listeners = &mut local.groups.get_mut(place.group as usize)?.listeners;
        listeners.swap_remove(place.index as usize);
        let moved = listeners.get(place.index as usize).map(|listener| listener.id);
        if let Some(places) = moved.and_then(|moved| self.places_mut(moved)) {
            let theirs = places.iter_mut().find(|other| other.local == place.local);
            if let Some(theirs) = theirs {
                theirs.index = place.index;
            }
        }
        Some(left)
    }

    fn subscriber(&self, id: SubscriberId) -> Option<&Subscriber> {
        let subscriber = self.subscribers.get(id.index as usize)?;
        (subscriber.generation == id.generation && subscriber.places.is_some())
            .then_some(subscriber)
    }

    fn subscriber_mut(&mut self, id: SubscriberId) -> Option<&mut Subscriber> {
        let subscriber = self.subscribers.get_mut(id.index as usize)?;
        (subscriber.generation == id.generation && subscriber.places.is_some())
            .then_some(subscriber)
    }

    fn places_mut(&mut self, id: SubscriberId) -> Option<&mut Vec<Place>> {
        self.subscriber_mut(id)?.places.as_mut()
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).expect("a worker has fewer than 2^32 subscribers")
}
