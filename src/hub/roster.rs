//! The roster: which subscribers of this worker listen to which channels. It lies in the worker's
//! memory.
//!
//! The listeners of a channel are grouped by form, so that one rendering serves a whole group.
//! Joining and leaving take constant time: each listener knows its place in the group, and when it
//! leaves, the last listener of the group moves there.

use crate::model::{Group, Listener, Token};
use crate::store::arena::Handle;
use crate::store::interest::Interest;

/// A channel with subscribers in this worker.
pub(super) struct Local {
    pub(super) interest: Handle<Interest>,
    pub(super) shard: usize,
    pub(super) id: Box<[u8]>,
    pub(super) groups: Vec<Group>,
    /// No more messages come, and the listeners' subscriptions are being ended.
    pub(super) ending: Option<Ending>,
}

/// Why no more messages come from a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// It was deleted, and its listeners have received everything.
    Deleted,
    /// There was a panic while its messages were handed out.
    Broken,
}

/// One subscription of a subscriber: where its listener stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    local: u32,
    group: u32,
    index: u32,
}

/// The subscriptions of a subscriber, in the order of the request. Nearly always there is one, which
/// takes no extra memory.
#[derive(Debug, Default)]
enum Places {
    #[default]
    None,
    One(Place),
    #[expect(clippy::box_collection, reason = "a vector inside would make every record larger")]
    Many(Box<Vec<Place>>),
}

impl Places {
    fn as_slice(&self) -> &[Place] {
        match self {
            Self::None => &[],
            Self::One(place) => core::slice::from_ref(place),
            Self::Many(places) => places,
        }
    }

    fn as_mut_slice(&mut self) -> &mut [Place] {
        match self {
            Self::None => &mut [],
            Self::One(place) => core::slice::from_mut(place),
            Self::Many(places) => places,
        }
    }

    fn push(&mut self, place: Place) {
        match self {
            Self::None => *self = Self::One(place),
            Self::One(first) => *self = Self::Many(Box::new(vec![*first, place])),
            Self::Many(places) => places.push(place),
        }
    }

    /// Removes the place at this index.
    fn remove(&mut self, index: usize) -> Option<Place> {
        let place = self.as_slice().get(index).copied()?;
        match self {
            Self::None => {}
            Self::One(_) => *self = Self::None,
            Self::Many(places) => {
                places.remove(index);
            }
        }
        Some(place)
    }
}

/// The hub's record of one subscriber. There may be hundreds of thousands of them.
#[derive(Debug, Default)]
struct Subscriber {
    /// The generation of its token; 0 while nobody is registered here.
    generation: u32,
    /// It was announced, so it is counted, and its end is published on the events channel.
    announced: bool,
    places: Places,
}

const _: () = assert!(size_of::<Subscriber>() == 24);

#[derive(Default)]
pub(super) struct Roster {
    locals: Vec<Option<Local>>,
    free_locals: Vec<u32>,
    /// Indexed by the slots of their tokens.
    subscribers: Vec<Subscriber>,
    /// Subscriptions of all of them.
    subscriptions: u64,
}

/// A channel that a subscriber listens to.
pub(super) struct Listening {
    pub(super) local: u32,
    pub(super) shard: usize,
    pub(super) interest: Handle<Interest>,
}

impl Roster {
    /// Registers a subscriber without subscriptions. Its slot must be free.
    pub(super) fn add(&mut self, token: Token) {
        let index = token.index() as usize;
        if self.subscribers.len() <= index {
            self.subscribers.resize_with(index + 1, Subscriber::default);
        }
        let subscriber = Subscriber { generation: token.generation(), ..Subscriber::default() };
        let former = core::mem::replace(&mut self.subscribers[index], subscriber);
        self.subscriptions -= former.places.as_slice().len() as u64;
    }

    /// The subscriber that is registered in this slot.
    pub(super) fn tenant(&self, index: u32) -> Option<Token> {
        let subscriber = self.subscribers.get(index as usize)?;
        (subscriber.generation != 0).then(|| Token::new(index, subscriber.generation))
    }

    /// The number that [`Roster::open`] gives next.
    pub(super) fn next_local(&self) -> u32 {
        self.free_locals.last().copied().unwrap_or_else(|| count(self.locals.len()))
    }

    /// Adds a channel, when its first subscriber comes; answers its number.
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

    /// The channel of this number, if this is its interest.
    pub(super) fn local(&self, number: u32, interest: Handle<Interest>) -> Option<&Local> {
        let local = self.locals.get(number as usize)?.as_ref()?;
        (local.interest == interest).then_some(local)
    }

    /// Adds a subscription of a registered subscriber.
    pub(super) fn join(&mut self, local_number: u32, form: u32, listener: Listener) {
        let Some(Some(local)) = self.locals.get_mut(local_number as usize) else { return };
        let group = local.groups.iter().position(|group| group.form == form).unwrap_or_else(|| {
            local.groups.push(Group { form, listeners: Vec::new() });
            local.groups.len() - 1
        });
        let listeners = &mut local.groups[group].listeners;
        listeners.push(listener);
        let index = count(listeners.len() - 1);
        if let Some(subscriber) = self.subscriber_mut(listener.token) {
            subscriber.places.push(Place { local: local_number, group: count(group), index });
            self.subscriptions += 1;
        }
    }

    /// Subscriptions of all subscribers.
    pub(super) fn subscriptions(&self) -> u64 {
        self.subscriptions
    }

    /// From now on the subscriber is counted. False if it was already, or is not registered.
    pub(super) fn announce(&mut self, token: Token) -> bool {
        self.subscriber_mut(token)
            .is_some_and(|subscriber| !core::mem::replace(&mut subscriber.announced, true))
    }

    pub(super) fn is_announced(&self, token: Token) -> bool {
        self.subscriber(token).is_some_and(|subscriber| subscriber.announced)
    }

    /// The ids of its channels, in subscription order.
    pub(super) fn channels_of(&self, token: Token) -> Vec<Vec<u8>> {
        self.locals_of(token).map(|local| local.id.to_vec()).collect()
    }

    /// The shards and interests of its channels.
    pub(super) fn interests_of(
        &self,
        token: Token,
    ) -> impl Iterator<Item = (usize, Handle<Interest>)> {
        self.locals_of(token).map(|local| (local.shard, local.interest))
    }

    /// The last of its channels. `None` if it has none, or is not registered.
    pub(super) fn last_place(&self, token: Token) -> Option<Listening> {
        let place = self.subscriber(token)?.places.as_slice().last()?;
        let local = self.locals.get(place.local as usize)?.as_ref()?;
        Some(Listening { local: place.local, shard: local.shard, interest: local.interest })
    }

    /// Ends the last of its subscriptions.
    pub(super) fn leave_last(&mut self, token: Token) {
        let Some(subscriber) = self.subscriber_mut(token) else { return };
        let last = subscriber.places.as_slice().len().wrapping_sub(1);
        if let Some(place) = subscriber.places.remove(last) {
            self.subscriptions -= 1;
            self.unseat(&place);
        }
    }

    /// Ends the subscription to one channel. Answers how many subscriptions are left.
    pub(super) fn leave_local(&mut self, token: Token, number: u32) -> Option<usize> {
        let places = &mut self.subscriber_mut(token)?.places;
        let at = places.as_slice().iter().position(|place| place.local == number)?;
        let place = places.remove(at)?;
        let left = places.as_slice().len();
        self.subscriptions -= 1;
        self.unseat(&place);
        Some(left)
    }

    /// Unregisters a subscriber without subscriptions.
    pub(super) fn remove(&mut self, token: Token) {
        if let Some(subscriber) = self.subscriber_mut(token) {
            let places = core::mem::take(subscriber).places.as_slice().len();
            self.subscriptions -= places as u64;
        }
    }

    /// Forgets a channel without listeners.
    pub(super) fn close(&mut self, number: u32) {
        if let Some(slot @ Some(_)) = self.locals.get_mut(number as usize) {
            *slot = None;
            self.free_locals.push(number);
        }
    }

    /// From now on the subscriptions of this channel are being ended.
    pub(super) fn begin_end(&mut self, number: u32, ending: Ending) {
        if let Some(Some(local)) = self.locals.get_mut(number as usize) {
            local.ending = Some(ending);
        }
    }

    /// There was a panic about this interest: its channel is broken, unless it was ending anyway. False
    /// if nobody listens to it.
    pub(super) fn break_off(&mut self, interest: Handle<Interest>) -> bool {
        // Compares with all channels: the number that the interest holds may be wrong.
        let mut locals = self.locals.iter_mut().flatten();
        let Some(local) = locals.find(|local| local.interest == interest) else { return false };
        local.ending.get_or_insert(Ending::Broken);
        true
    }

    /// Any one listener of the channel.
    pub(super) fn some_listener(&self, number: u32) -> Option<Token> {
        let local = self.locals.get(number as usize)?.as_ref()?;
        let listener = local.groups.iter().find_map(|group| group.listeners.last())?;
        Some(listener.token)
    }

    /// All registered subscribers.
    pub(super) fn everybody(&self) -> Vec<Token> {
        (0..count(self.subscribers.len())).filter_map(|index| self.tenant(index)).collect()
    }

    /// The channels of a subscriber, in subscription order.
    fn locals_of(&self, token: Token) -> impl Iterator<Item = &Local> {
        let places = self.subscriber(token).map_or(&[][..], |s| s.places.as_slice());
        places.iter().filter_map(|place| self.locals.get(place.local as usize)?.as_ref())
    }

    /// Removes a listener from its group. The last one of the group moves to its place.
    fn unseat(&mut self, place: &Place) {
        let local = self.locals.get_mut(place.local as usize).and_then(Option::as_mut);
        let Some(group) = local.and_then(|local| local.groups.get_mut(place.group as usize)) else {
            return;
        };
        let listeners = &mut group.listeners;
        listeners.swap_remove(place.index as usize);
        let moved = listeners.get(place.index as usize).map(|listener| listener.token);
        if let Some(moved) = moved.and_then(|moved| self.subscriber_mut(moved)) {
            let mut theirs = moved.places.as_mut_slice().iter_mut();
            if let Some(theirs) = theirs.find(|other| other.local == place.local) {
                theirs.index = place.index;
            }
        }
    }

    fn subscriber(&self, token: Token) -> Option<&Subscriber> {
        let subscriber = self.subscribers.get(token.index() as usize)?;
        (subscriber.generation == token.generation() && subscriber.generation != 0)
            .then_some(subscriber)
    }

    fn subscriber_mut(&mut self, token: Token) -> Option<&mut Subscriber> {
        let subscriber = self.subscribers.get_mut(token.index() as usize)?;
        (subscriber.generation == token.generation() && subscriber.generation != 0)
            .then_some(subscriber)
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).expect("a worker has fewer than 2^32 subscribers")
}
