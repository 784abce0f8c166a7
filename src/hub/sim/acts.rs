//! Operations of a worker as one call each, for tests; and what subscribers received.

use super::{World, token};
use crate::hub::{Lagged, News, Post, Refusal, Rest, Stay, Subscribe, Subscribed};
use crate::model::Since;

/// A message that a subscriber received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::hub) struct Received {
    /// The test's number for the subscriber.
    pub(in crate::hub) number: usize,
    pub(in crate::hub) id: i64,
    pub(in crate::hub) text: Vec<u8>,
}

impl World {
    pub(in crate::hub) fn publish(
        &mut self,
        worker: usize,
        channels: &[&[u8]],
        text: &[u8],
        store: bool,
    ) -> Result<(), Refusal> {
        let (rules, now) = (self.rules.clone(), self.now);
        let post = Post {
            event_id: None,
            event_type: None,
            body: &[text],
            binary: false,
            store,
            may_be_empty: false,
            ..Post::default()
        };
        self.hub(worker).publish(channels, &post, &rules, now)
    }

    /// Subscribes, and reads the backlog.
    pub(in crate::hub) fn subscribe(
        &mut self,
        worker: usize,
        requested: &[(&[u8], Option<u64>)],
        number: usize,
    ) -> Result<(Subscribed, Vec<Received>), Refusal> {
        self.subscribe_since(worker, requested, Since::default(), number)
    }

    pub(in crate::hub) fn subscribe_since(
        &mut self,
        worker: usize,
        requested: &[(&[u8], Option<u64>)],
        since: Since<'_>,
        number: usize,
    ) -> Result<(Subscribed, Vec<Received>), Refusal> {
        let (rules, now) = (self.rules.clone(), self.now);
        let request = Subscribe { since, token: token(number), ..request(requested) };
        let hub = self.hub(worker);
        let mut subscribed = hub.subscribe(&request, &rules, now)?;
        let mut received = Vec::new();
        hub.read_backlog(&mut subscribed, now, &mut |message| {
            received.push(Received { number, id: message.id, text: message.text.to_vec() });
            true
        });
        hub.announce(token(number), &rules, now);
        Ok((subscribed, received))
    }

    /// The texts of the first `room` messages of a backlog, and the rest of it. The subscriber does not stay.
    pub(in crate::hub) fn read_first(
        &mut self,
        worker: usize,
        requested: &[(&[u8], Option<u64>)],
        room: usize,
    ) -> (Vec<Vec<u8>>, Option<Rest>) {
        let (rules, now) = (self.rules.clone(), self.now);
        let request = Subscribe { stay: Stay::No, ..request(requested) };
        let hub = self.hub(worker);
        let mut subscribed = hub.subscribe(&request, &rules, now).expect("room");
        let mut texts = Vec::new();
        let replayed = hub.read_backlog(&mut subscribed, now, &mut |message| {
            texts.push(message.text.to_vec());
            texts.len() < room
        });
        (texts, replayed.rest)
    }

    /// The texts of the next `room` messages, and what is left then.
    pub(in crate::hub) fn read_on(
        &mut self,
        worker: usize,
        rest: Rest,
        room: usize,
    ) -> Result<(Vec<Vec<u8>>, Option<Rest>), Lagged> {
        let now = self.now;
        let hub = self.hub(worker);
        let mut texts = Vec::new();
        let read = hub.read_on(rest, now, &mut |message| {
            texts.push(message.text.to_vec());
            texts.len() < room
        })?;
        let mut rest = read.rest;
        if let Some(rest) = &mut rest {
            hub.park(rest, now);
        }
        Ok((texts, rest))
    }

    /// Delivers everything that the worker has for its subscribers.
    pub(in crate::hub) fn deliver(&mut self, worker: usize) -> Vec<Received> {
        let (rules, now) = (self.rules.clone(), self.now);
        let mut received = Vec::new();
        let hub = self.hub(worker);
        hub.woken();
        let mut each = |news: News<'_>| {
            let News::Messages { groups, messages, .. } = news else { return };
            for listener in groups.iter().flat_map(|group| &group.listeners) {
                for message in listener.due(messages) {
                    let (id, text) = (message.id, message.text.to_vec());
                    let number = listener.token.index() as usize;
                    received.push(Received { number, id, text });
                }
            }
        };
        while hub.deliver(&rules, now, &mut each) {}
        received
    }

    pub(in crate::hub) fn delete(&mut self, worker: usize, channel: &[u8], text: &[u8]) -> usize {
        let (rules, now) = (self.rules.clone(), self.now);
        self.hub(worker).delete(&[channel], text, &rules, now)
    }
}

/// The request of a subscriber of these channels that stays.
pub(super) fn request<'a>(requested: &'a [(&'a [u8], Option<u64>)]) -> Subscribe<'a> {
    Subscribe {
        requested,
        since: Since::default(),
        authorized_only: false,
        wildcard_max: None,
        events_channel_allowed: true,
        stay: Stay::Live,
        bounded: false,
        ordered: false,
        form: 0,
        token: token(0),
    }
}
