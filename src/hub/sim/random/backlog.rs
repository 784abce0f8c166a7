//! Backlogs in a history: read at once, or in parts with anything in between, and compared with what the
//! model says was stored.

use super::Sim;
use crate::hub::sim::Death;
use crate::hub::sim::model::{Id, Posted};
use crate::hub::{Lagged, Rest, Subscribed};
use crate::model::{Message, Seconds, Token};

/// A backlog that is still to be read.
pub(super) struct Pending {
    pub(super) worker: usize,
    pub(super) token: Token,
    pub(super) subscribed: Subscribed,
    /// The messages that were read of it, and the rest when there was no room for more.
    pub(super) got: Vec<(Id, u64, Posted)>,
    pub(super) rest: Option<Rest>,
    /// The places of these messages.
    pub(super) places: Vec<(Seconds, u64)>,
    /// They come in the order of publishing, and not one channel after the other.
    pub(super) is_ordered: bool,
    /// How many messages of it were read at first.
    pub(super) first: usize,
    /// For each channel: the selected ids with and without expired messages.
    pub(super) expected: Vec<(usize, [Vec<u64>; 2])>,
    /// For each channel: the ids of what was stored and had not expired when it was first read.
    pub(super) lived: Vec<Vec<u64>>,
    pub(super) backtracked: bool,
    /// It named an event. That message may be discarded, and still be there for a reader.
    pub(super) by_event: bool,
    /// When it subscribed.
    pub(super) then: Seconds,
}

impl Sim {
    /// Reads the backlog of the last subscription that has one left, or a part of it.
    pub(super) fn read_pending(&mut self, death: Option<Death>) {
        let Some(mut pending) = self.pending.pop() else { return };
        self.sync();
        let room = if self.rng.chance(40) { 1 + self.rng.below(4) } else { usize::MAX };
        let (is_first, before) = (pending.rest.is_none(), pending.got.len());
        if is_first {
            let channels = pending.expected.iter().map(|(number, _)| *number);
            pending.lived = channels.map(|number| self.sendable(number)).collect();
        }
        let outcome = self.on(pending.worker, death, |hub, rules, now| {
            let (got, places) = (&mut pending.got, &mut pending.places);
            let mut count = 0;
            let mut each = |message: &Message<'_>| {
                let posted = Posted {
                    event_id: message.event_id.map(<[u8]>::to_vec),
                    text: message.text.to_vec(),
                    store: true,
                };
                got.push((message.channel.to_vec(), message.id as u64, posted));
                places.push((message.time, message.tag));
                count += 1;
                count < room
            };
            if let Some(rest) = pending.rest.take() {
                let read = hub.read_on(rest, now, &mut each)?;
                pending.rest = read.rest.map(|mut rest| {
                    hub.park(&mut rest, now);
                    rest
                });
                return Ok::<_, Lagged>(());
            }
            let replayed = hub.read_backlog(&mut pending.subscribed, now, &mut each);
            hub.announce(pending.token, rules, now);
            assert_eq!(replayed.messages, count as u64);
            assert!(!replayed.held_back, "nothing came while it subscribed");
            pending.rest = replayed.rest;
            Ok(())
        });
        let Some(outcome) = outcome else {
            return self.drop_panicked(pending.worker, pending.token);
        };
        if is_first {
            pending.first = pending.got.len();
            if let Some(subscriber) = self.subscribers.get_mut(&pending.token) {
                subscriber.announced = true;
            }
        }
        assert!(pending.got.len() - before <= room, "more than there is room for");
        if outcome.is_ok() && pending.rest.is_some() {
            assert_eq!(pending.got.len() - before, room, "there was room for more");
            self.pending.insert(0, pending);
            return;
        }
        self.check_backlog(&pending, outcome.is_err());
    }

    /// Reads the backlogs that must be read before the worker's next tick.
    pub(super) fn read_unread_of(&mut self, worker: usize) {
        let is_unread = |pending: &Pending| pending.worker == worker && pending.rest.is_none();
        while let Some(at) = self.pending.iter().position(is_unread) {
            let pending = self.pending.remove(at);
            self.pending.push(pending);
            self.read_pending(None);
        }
    }

    /// The ids of a channel's messages that may be sent now.
    fn sendable(&self, number: usize) -> Vec<u64> {
        let stored = self.model.channels[number].stored.iter();
        let living = stored.filter(|message| message.expires > self.world.now.steady);
        living.map(|message| message.id).collect()
    }

    /// `lagged`: it was not read to its end, because a message was gone.
    fn check_backlog(&self, pending: &Pending, lagged: bool) {
        let mut got: Vec<_> = pending.got.iter().enumerate().collect();
        if pending.is_ordered {
            assert!(pending.places.is_sorted(), "old messages out of order");
            let number = |id: &Id| {
                let of = |(number, _): &(usize, _)| self.model.channels[*number].id == *id;
                pending.expected.iter().position(of)
            };
            got.sort_by_key(|(_, message)| number(&message.0));
        }
        let mut rest = got.as_slice();
        for ((number, expected), lived) in pending.expected.iter().zip(&pending.lived) {
            let channel = &self.model.channels[*number];
            let count = rest.iter().take_while(|(_, message)| message.0 == channel.id).count();
            let (mine, others) = rest.split_at(count);
            let at_first = mine.iter().take_while(|(at, _)| *at < pending.first).count();
            rest = others;
            let ids: Vec<u64> = mine.iter().map(|(_, message)| message.1).collect();
            for (_, (_, id, posted)) in mine {
                let published = channel.log.get(*id as usize - 1).expect("it was published");
                if let Some(content) = &published.content {
                    assert_eq!(posted.text, content.text, "a backlog is spoilt");
                    assert_eq!(posted.event_id, content.event_id, "an event id is spoilt");
                }
            }
            // Some may have expired since it subscribed.
            let [all, fresh] = expected;
            let in_order = ids.is_sorted();
            let is_end_of = |all: &Vec<u64>| all.ends_with(&ids);
            let expired = self.world.now.steady > pending.then;
            let cut = lagged || channel.deleted.is_some();
            let last = if cut { ids.last().copied().unwrap_or(0) } else { u64::MAX };
            let has_all_of = |due: &Vec<u64>| due.iter().all(|id| *id > last || ids.contains(id));
            // The notices about its own channels come before it is attached.
            let right = (channel.id == b"events" && in_order)
                || ids == *all
                || ids == *fresh
                || (pending.by_event && in_order && has_all_of(fresh))
                || (pending.backtracked && is_end_of(fresh) && ids.len() >= all.len())
                || (cut && (all.starts_with(&ids) || fresh.starts_with(&ids)))
                || (expired && ids.iter().all(|id| all.contains(id) || fresh.contains(id)));
            assert!(right, "backlog {ids:?} instead of {all:?} or {fresh:?}");
            // A later part leaves out only what had expired when the first one was read. With several times to
            // live, these may stand between others.
            let run = &ids[at_first.saturating_sub(1)..];
            if count > at_first && channel.id != b"events" && !pending.by_event {
                let in_one = |all: &Vec<u64>| {
                    let due = all.iter().filter(|id| run.contains(id) || lived.contains(id));
                    let due: Vec<u64> = due.copied().collect();
                    due.windows(run.len()).any(|part| part == run) && (cut || due.ends_with(run))
                };
                assert!(in_one(all) || in_one(fresh), "{run:?} of {all:?} or {fresh:?}");
            }
        }
        assert!(rest.is_empty(), "backlog of a channel that was not asked for");
    }
}
