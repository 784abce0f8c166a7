//! The ground of a history: one zone, the hubs of its workers, what was published, and who is there.

use core::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use super::client::{Client, Log, Published, event_id};
use crate::hub::sim::World;
use crate::hub::{Hub, Post, Refusal, Rules};
use crate::model::{Now, Seconds, Token};

/// The zone, its workers' hubs, and what is known about all of it.
pub(super) struct Ground {
    pub(super) world: RefCell<World>,
    /// Workers that were told to look for news.
    pub(super) awake: RefCell<Vec<bool>>,
    pub(super) now_msec: Cell<usize>,
    /// So many seconds the clocks of the workers are behind.
    pub(super) late: RefCell<Vec<Seconds>>,
    /// Batches that are taken from the hub in a round; 16 in the shell.
    pub(super) batches_max: Cell<usize>,
    pub(super) log: RefCell<Log>,
    /// Clients whose requests have not ended, by worker.
    pub(super) clients: RefCell<BTreeMap<(usize, Token), Rc<Client>>>,
}

impl Ground {
    pub(super) fn new(len: usize, workers: usize) -> Rc<Self> {
        let world = World::new(len, workers);
        Rc::new(Self {
            now_msec: Cell::new(world.now.steady as usize * 1000),
            world: RefCell::new(world),
            awake: RefCell::new(vec![false; workers]),
            late: RefCell::new(vec![0; workers]),
            batches_max: Cell::new(16),
            log: RefCell::default(),
            clients: RefCell::default(),
        })
    }

    /// Runs an operation of a worker's hub, and wakes others as the shell does.
    pub(super) fn operate<R>(
        &self,
        worker: usize,
        operation: impl FnOnce(&mut Hub, &Rules, Now) -> R,
    ) -> R {
        let world = &mut *self.world.borrow_mut();
        let (rules, now) = (world.rules.clone(), world.now + -self.late.borrow()[worker]);
        let result = operation(world.hub(worker), &rules, now);
        self.wake(world.hub(worker), worker);
        result
    }

    pub(super) fn wake(&self, hub: &mut Hub, worker: usize) {
        let mut awake = self.awake.borrow_mut();
        for seat in hub.take_wakes() {
            if let Some(awake) = awake.get_mut(seat as usize) {
                *awake = true;
            }
        }
        awake[worker] |= hub.has_news();
    }

    /// Publishes, and notes what is to be had. Answers to how many channels. The event id is what the text says; a
    /// message of several channels has none.
    pub(super) fn publish(
        &self,
        worker: usize,
        channels: &[&[u8]],
        text: &[u8],
        is_stored: bool,
    ) -> Result<usize, Refusal> {
        let event_id = event_id(text).filter(|_| channels.len() == 1);
        self.publish_event(worker, channels, event_id, text, is_stored)
    }

    /// Publishes messages with an event id.
    pub(super) fn publish_event(
        &self,
        worker: usize,
        channels: &[&[u8]],
        event_id: Option<&[u8]>,
        text: &[u8],
        is_stored: bool,
    ) -> Result<usize, Refusal> {
        let post = Post {
            event_id,
            event_type: None,
            body: &[text],
            binary: false,
            store: is_stored,
            may_be_empty: false,
            ..Post::default()
        };
        self.operate(worker, |hub, rules, now| {
            hub.publish(channels, &post, rules, now)?;
            self.note_published(hub, channels, text, is_stored, true);
            Ok(channels.len())
        })
    }

    /// A worker has died while it published this. Another one finds out whether it was published.
    pub(super) fn note_unsure(&self, channels: &[&[u8]], text: &[u8], is_stored: bool) {
        self.operate(0, |hub, _, _| self.note_published(hub, channels, text, is_stored, false));
    }

    fn note_published(
        &self,
        hub: &Hub,
        channels: &[&[u8]],
        text: &[u8],
        is_stored: bool,
        is_sure: bool,
    ) {
        for id in channels {
            // Nobody who is to get it: then it was published, but nobody has counted the channel.
            let Some(info) = hub.info(id) else { continue };
            let log = &mut *self.log.borrow_mut();
            let log = log.entry((id.to_vec(), info.created)).or_default();
            if is_sure || info.published > log.len() as u64 {
                let place = hub.last_place_of(id).expect("it exists");
                log.push(Published { text: text.to_vec(), is_stored, place });
            }
            assert_eq!(log.len() as u64, info.published, "a message was not noted");
        }
    }

    pub(super) fn client(&self, worker: usize, token: Token) -> Option<Rc<Client>> {
        self.clients.borrow().get(&(worker, token)).cloned()
    }

    /// All clients of a worker whose requests have not ended.
    pub(super) fn clients_of(&self, worker: usize) -> Vec<Rc<Client>> {
        let clients = self.clients.borrow();
        clients
            .range((worker, Token::new(0, 0))..)
            .map_while(|(key, client)| (key.0 == worker).then(|| Rc::clone(client)))
            .collect()
    }

    /// The worker was killed, and its connections with it.
    pub(super) fn forget_worker(&self, worker: usize) {
        self.clients.borrow_mut().retain(|(other, _), _| *other != worker);
        self.awake.borrow_mut()[worker] = true;
    }

    pub(super) fn has_ended(&self, worker: usize, token: Token) {
        self.clients.borrow_mut().remove(&(worker, token));
    }
}
