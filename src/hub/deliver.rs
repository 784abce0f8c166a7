//! Delivering: what a worker's inbox holds, in bounded batches, to its own subscribers.

use crate::hub::{Hub, Rules, set_time_forward};
use crate::model::{Group, Listener, Message, Seconds, Token};
use crate::store::arena::Handle;
use crate::store::channel::DELETED;
use crate::store::interest::Interest;
use crate::store::message::{BINARY, Lengths, Message as Record, NOTICE};
use crate::store::undo::Section;
use crate::store::zone::SHARDS;

/// Messages of one batch at the most.
const BATCH: usize = 64;
/// Bytes of text of one batch, unless a single message is larger.
const BATCH_BYTES: usize = 256 * 1024;

/// What [`Hub::deliver`] hands out.
#[derive(Debug)]
pub enum News<'a> {
    /// Messages of one channel, in order, for all its subscribers in this worker. The last one may
    /// be the notice that the channel is deleted.
    Messages {
        /// The subscribers, by form.
        groups: &'a [Group],
        /// At least one.
        messages: &'a [Message<'a>],
        /// When this channel was deleted, and the newest tag of all channels in that second: where the
        /// notice belongs among the messages of the others. `None`: it is not deleted.
        deleted_at: Option<(Seconds, u64)>,
    },
    /// This subscription ended, for its channel was deleted; the notice came before.
    Ended {
        /// Whose.
        token: Token,
        /// Its other subscriptions; with 0 it is registered no more.
        left: usize,
    },
}

/// A message of a batch, before its bytes are where they stay.
struct Entry {
    id: i64,
    time: Seconds,
    tag: u64,
    binary: bool,
    lengths: Lengths,
}

/// What one look into the inbox found.
struct Batch {
    shard: usize,
    interest: Handle<Interest>,
    token: u32,
    records: Vec<Handle<Record>>,
    /// There are more messages behind these.
    more: bool,
    /// Time and tag of the zone when the channel was deleted, if it was.
    deleted_at: Option<(Seconds, u64)>,
}

impl Hub {
    /// Hands out one batch; true if there is more, so call again after the event loop has run.
    ///
    /// `each` must not call back into the hub: it queues bytes, to be sent afterwards.
    pub fn deliver(&mut self, rules: &Rules, now: Seconds, each: &mut dyn FnMut(News<'_>)) -> bool {
        let Some(batch) = self.next_news() else { return false };
        let ended = batch.deleted_at.is_some() && !batch.more;
        if let Some(local) = self.roster.local(batch.token, batch.interest) {
            let mut scratch = core::mem::take(&mut self.scratch);
            let (entries, has_notice) = self.read_batch(&batch, &mut scratch);
            let mut messages = Vec::with_capacity(entries.len() + 1);
            let mut rest = scratch.as_slice();
            for entry in &entries {
                let mut take = |len: Option<usize>| {
                    let (part, after) = rest.split_at(len.unwrap_or(0));
                    rest = after;
                    len.map(|_| part)
                };
                messages.push(Message {
                    id: entry.id,
                    channel: &local.id,
                    time: entry.time,
                    tag: entry.tag,
                    event_id: take(entry.lengths.event_id),
                    event_type: take(entry.lengths.event_type),
                    text: take(Some(entry.lengths.text)).unwrap_or(b""),
                    binary: entry.binary,
                });
                if entry.id == crate::model::DELETED_ID {
                    let text = messages.pop().map_or(&b""[..], |notice| notice.text);
                    messages.push(Message::deleted(&local.id, text));
                }
            }
            if ended && !has_notice {
                messages.push(Message::deleted(&local.id, &rules.deleted_text));
            }
            if !messages.is_empty() {
                each(News::Messages {
                    groups: &local.groups,
                    messages: &messages,
                    deleted_at: batch.deleted_at,
                });
            }
            drop(messages);
            scratch.clear();
            scratch.shrink_to(BATCH_BYTES);
            self.scratch = scratch;
        }
        self.finish(&batch, now);
        if ended {
            self.end_channel(&batch, rules, now, each);
        }
        self.has_news()
    }

    /// Have the subscriber's channels a message that this worker has not handed out yet, and that was
    /// published before the one of this time and tag? Then [`Hub::has_news`] is true as well.
    ///
    /// Exact: the lock makes it wait for a message that is being published just now. If the publisher
    /// has not told this worker of it yet, this tells it, and others: see [`Hub::take_wakes`].
    pub fn has_older(&mut self, token: Token, order: (Seconds, u64)) -> bool {
        let older = self.roster.interests_of(token).find(|(shard, interest)| {
            let section = self.store.section(*shard);
            oldest_unread(&section, *interest).is_some_and(|oldest| oldest < order)
        });
        if let Some((shard, _)) = older {
            self.tell_all(shard);
        }
        older.is_some()
    }

    /// From which second on a subscriber that is sent away must ask again, so that it misses nothing:
    /// now, by the zone's time, or the second of the oldest message that this worker has not handed out
    /// yet, or of a deletion that it has not told of.
    ///
    /// What is published later is not older, even by a worker whose clock is behind: the zone's time is
    /// set forward first, and a message that is being published just now is waited for.
    pub fn resume_from(&mut self, token: Token, now: Seconds) -> Seconds {
        let section = self.store.commons_section();
        let (now, _) = set_time_forward(&section, now);
        section.commit();
        let older = self.roster.interests_of(token).filter_map(|(shard, interest)| {
            let section = self.store.section(shard);
            oldest_unread(&section, interest).map(|(time, _)| time)
        });
        older.fold(now, Seconds::min)
    }

    /// Is there anything in this worker's inbox?
    pub fn has_news(&self) -> bool {
        self.store.my_seat().shards.iter().any(|shard| shard.inbox_first.get().is_some())
    }

    /// The wake descriptor has fired: from now on publishers write it again. Before
    /// [`Hub::deliver`].
    pub fn woken(&mut self) {
        self.store.arena.swap32(&self.store.my_seat().woken, 0);
    }

    /// Looks at the first interest of the next inbox that has one.
    fn next_news(&mut self) -> Option<Batch> {
        let seat = self.store.my_seat();
        let shard = (0..SHARDS)
            .map(|step| (self.next_shard + step) % SHARDS)
            .find(|shard| seat.shards[*shard].inbox_first.get().is_some())?;
        self.next_shard = (shard + 1) % SHARDS;
        let section = self.store.section(shard);
        let interest = seat.shards[shard].inbox_first.get()?;
        let record = section.get(interest);
        let channel = section.get(record.channel.get()?);
        let mut records = Vec::new();
        let mut bytes = 0;
        let mut at = section.next_unread(record);
        while let Some(handle) = at {
            let message = section.get(handle);
            if records.len() == BATCH || (bytes > 0 && bytes + message.content_len() > BATCH_BYTES)
            {
                break;
            }
            bytes += message.content_len();
            records.push(handle);
            at = message.next.get();
        }
        Some(Batch {
            shard,
            interest,
            token: record.token.get(),
            records,
            more: at.is_some(),
            deleted_at: channel.has(DELETED).then(|| (channel.time.time(), channel.tag.get())),
        })
    }

    /// Copies the batch's contents, which our cursor pins, out of the zone.
    fn read_batch(&self, batch: &Batch, scratch: &mut Vec<u8>) -> (Vec<Entry>, bool) {
        let mut has_notice = false;
        let entries = batch
            .records
            .iter()
            .map(|handle| {
                let record = self.store.arena.get(*handle);
                self.store.read_content(*handle, scratch);
                let notice = record.has(NOTICE);
                has_notice |= notice;
                let number = record.id.get().cast_signed();
                Entry {
                    id: if notice { crate::model::DELETED_ID } else { number },
                    time: record.time.time(),
                    tag: record.tag.get(),
                    binary: record.has(BINARY),
                    lengths: record.lengths(),
                }
            })
            .collect();
        (entries, has_notice)
    }

    /// The batch is handed out: the messages may go, and the interest leaves the inbox or, if there
    /// is more, goes to its end.
    fn finish(&self, batch: &Batch, now: Seconds) {
        let to = batch.records.last().map_or(0, |last| self.store.arena.get(*last).id.get());
        loop {
            let section = self.store.section(batch.shard);
            let passed = section.pass_some(batch.interest, to, now);
            if passed == 0 {
                let interest = section.get(batch.interest);
                let channel = interest.channel.get().map(|channel| section.get(channel));
                // It may have been deleted since we looked: then that is news, with or without text.
                let deleted = channel.is_some_and(|channel| channel.has(DELETED));
                if section.catch_up(interest).is_some() || (deleted && batch.deleted_at.is_none()) {
                    section.rotate_inbox(batch.interest);
                } else if !deleted {
                    section.unlink_inbox(batch.interest);
                }
            }
            section.commit();
            if passed == 0 {
                return;
            }
        }
    }

    /// All is read of a deleted channel: its subscriptions end.
    fn end_channel(
        &mut self,
        batch: &Batch,
        rules: &Rules,
        now: Seconds,
        each: &mut dyn FnMut(News<'_>),
    ) {
        let local = self.roster.local(batch.token, batch.interest);
        let Some(id) = local.map(|local| local.id.clone()) else {
            // Nobody here listens to it, and its number may be another channel's.
            self.store.retire(batch.shard, batch.interest, now);
            return;
        };
        for Listener { token, .. } in self.roster.listeners(batch.token) {
            let announced = self.roster.is_announced(token);
            let Some(left) = self.roster.leave_local(token, batch.token) else { continue };
            if left == 0 {
                self.roster.remove(token);
                if announced {
                    self.count_subscribers(-1);
                }
            }
            if announced {
                self.notify("client_unsubscribed", &id, rules, now);
            }
            each(News::Ended { token, left });
        }
        self.store.retire(batch.shard, batch.interest, now);
        self.roster.close(batch.token);
    }
}

/// Time and tag of the oldest message that this interest has not read, or of its channel's deletion.
fn oldest_unread(section: &Section<'_>, interest: Handle<Interest>) -> Option<(Seconds, u64)> {
    let interest = section.get(interest);
    if let Some(next) = section.next_unread(interest).map(|next| section.get(next)) {
        return Some((next.time.time(), next.tag.get()));
    }
    let channel = section.get(interest.channel.get()?);
    channel.has(DELETED).then(|| (channel.time.time(), channel.tag.get()))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::rc::Rc;

    use crate::hub::sim::{World, token};
    use crate::hub::{Hub, News, Post};
    use crate::model::{Seconds, Since};

    #[test]
    fn a_poll_that_ends_resumes_at_the_oldest_message_it_has_not_had() {
        let mut world = World::new(256 * 1024, 2);
        world.subscribe(0, &[(b"a", None), (b"b", None)], 1).expect("room");
        let now = world.now;
        assert_eq!(world.hub(0).resume_from(token(1), now), now);
        world.publish(1, &[b"b"], b"one", true).expect("room");
        world.now += 5;
        assert_eq!(world.hub(0).resume_from(token(1), now + 5), now);
        world.deliver(0);
        assert_eq!(world.hub(0).resume_from(token(1), now + 9), now + 9);
        // Another worker, whose clock is behind.
        world.publish(1, &[b"a"], b"two", true).expect("room");
        assert_eq!(world.hub(0).resume_from(token(1), now + 11), now + 9);
    }

    #[test]
    fn a_deletion_is_of_its_own_second() {
        for text in [&b"bye"[..], b"Channel deleted"] {
            let mut world = World::new(256 * 1024, 2);
            world.subscribe(0, &[(b"a", None)], 1).expect("room");
            world.publish(1, &[b"b"], b"before", true).expect("room");
            world.now += 10;
            world.delete(1, b"a", text);
            let (rules, now) = (world.rules.clone(), world.now);
            let mut deleted = None;
            world.hub(0).deliver(&rules, now, &mut |news| {
                if let News::Messages { deleted_at, .. } = news {
                    deleted = deleted_at;
                }
            });
            assert_eq!(deleted, Some((now, 0)));
            world.publish(1, &[b"a"], b"in a channel of that name", true).expect("room");
            let (_, texts) =
                world.subscribe_since(0, &[(b"a", None)], since(now), 2).expect("room");
            assert_eq!(texts.len(), 1, "a client that was told of the deletion gets it");
        }
    }

    fn since(time: Seconds) -> Since<'static> {
        Since { time: Some(time), tag: Some(0), event_id: None }
    }

    /// Its channel may have been made again, and have messages since then.
    #[test]
    fn a_poll_that_was_not_told_of_a_deletion_resumes_there() {
        for text in [&b"bye"[..], b"Channel deleted"] {
            let mut world = World::new(256 * 1024, 2);
            world.subscribe(0, &[(b"a", None)], 1).expect("room");
            world.now += 10;
            let now = world.now;
            world.delete(1, b"a", text);
            assert_eq!(world.hub(0).resume_from(token(1), now + 5), now);
        }
    }

    /// A worker whose clock is behind says from which second on there may be news in the zone.
    #[test]
    fn a_poll_that_ends_goes_back_behind_no_message_that_its_client_has_had() {
        let mut world = World::new(256 * 1024, 2);
        world.subscribe(0, &[(b"a", None)], 1).expect("room");
        world.publish(1, &[b"a"], b"one", true).expect("room");
        world.deliver(0);
        let now = world.now;
        assert_eq!(world.hub(0).resume_from(token(1), now - 1), now);
    }

    /// Two channels of different shards: telling about one does not go on with the other.
    fn two_channels(world: &mut World) -> (Vec<u8>, Vec<u8>) {
        let store = &world.hub(0).store;
        let shard = |id: &[u8]| store.shard_of(store.hash(id));
        let other = (b'b'..=b'z').map(|letter| vec![letter]);
        let other = other.clone().find(|id| shard(id) != shard(b"a"));
        (b"a".to_vec(), other.expect("there are eight shards"))
    }

    /// A publisher tells four workers in its first section, and dies before it tells the fifth. The
    /// message counts all the same: a poll that has found a newer one waits for it.
    #[test]
    #[cfg_attr(miri, ignore = "hundreds of worlds take Miri minutes")]
    fn a_message_that_a_worker_was_not_told_of_is_older_too() {
        let mut cut_off = 0;
        for stores in 0.. {
            let mut world = World::new(256 * 1024, 5);
            let (a, b) = two_channels(&mut world);
            for worker in 0..5 {
                world.subscribe(worker, &[(&a, None), (&b, None)], 1).expect("room");
            }
            let now = world.now;
            let survived = world.run_until_store(4, stores, |world| {
                world.publish(4, &[&a], b"older", true).expect("room");
            });
            let is_there = world.hub(0).info(&a).expect("it exists").published == 1;
            world.now += 1;
            world.publish(3, &[&b], b"newer", true).expect("room");
            let is_told = world.deliver(0).len() == 2;
            if is_there && !is_told {
                cut_off += 1;
                let later = world.now + 1;
                assert_eq!(world.hub(0).resume_from(token(1), later), now);
                assert!(world.hub(0).has_older(token(1), (now + 1, 1)), "dead at {stores}");
                assert!(world.hub(0).has_news(), "it can be had at once");
                assert_eq!(world.deliver(0).len(), 1);
            }
            assert!(!world.hub(0).has_older(token(1), (now + 1, 1)), "all is handed out");
            if survived.is_some() {
                break;
            }
        }
        assert!(cut_off > 0, "the publisher never died between two sections of telling");
    }

    /// The notice of a deletion stands where the deletion was among the messages of other channels,
    /// whatever lay in its memory before.
    #[test]
    fn a_notice_has_its_place_among_the_messages_of_other_channels() {
        for text in [&b"bye"[..], b"Channel deleted"] {
            let mut world = World::new(256 * 1024, 2);
            world.subscribe(0, &[(b"a", None), (b"b", None)], 1).expect("room");
            let now = world.now;
            world.publish(1, &[b"b"], b"before", false).expect("room");
            world.deliver(0);
            world.delete(1, b"a", text);
            assert!(!world.hub(0).has_older(token(1), (now, 1)), "the message came before it");
            assert!(world.hub(0).has_older(token(1), (now, 2)), "the next one comes after it");
            assert_eq!(world.hub(0).resume_from(token(1), now), now);
            world.deliver(0);
            assert!(!world.hub(0).has_older(token(1), (now, 2)));
        }
    }

    /// Runs an operation of a worker that stands still for ever after so many sections.
    fn stop_after(hub: &mut Hub, sections: u64, operation: impl FnOnce(&mut Hub)) {
        hub.store.sections_left.set(Some(sections));
        let _ = catch_unwind(AssertUnwindSafe(|| operation(hub)));
    }

    /// Between two sections of a delivery, one worker publishes and another deletes the channel, and
    /// both stand still before they have told everybody. The subscriber gets all of it, in order.
    #[test]
    #[cfg_attr(miri, ignore = "hundreds of worlds take Miri minutes")]
    fn a_deletion_overtakes_no_message_that_the_worker_was_not_told_of() {
        let mut interesting = 0;
        for (at, publishes, deletes) in
            (0..6).flat_map(|at| (0..8).flat_map(move |p| (0..8).map(move |d| (at, p, d))))
        {
            let mut world = World::new(256 * 1024, 5);
            for worker in 0..5 {
                world.subscribe(worker, &[(b"a", None)], 1).expect("room");
            }
            world.publish(1, &[b"a"], b"first", false).expect("room");
            let mut others = [3, 4].map(|worker| world.workers[worker].take().expect("it lives"));
            let (rules, now) = (world.rules.clone(), world.now);
            let published = Rc::new(Cell::new(1));
            let (seen, mut step) = (Rc::clone(&published), 0);
            world.hub(0).store.between.set(move || {
                step += 1;
                if step - 1 != at {
                    return;
                }
                let [deleter, publisher] = &mut others;
                let post = Post {
                    event_id: None,
                    event_type: None,
                    body: &[b"second"],
                    binary: false,
                    store: false,
                    may_be_empty: false,
                };
                stop_after(publisher, publishes, |hub| {
                    hub.publish(&[b"a"], &post, &rules, now).expect("room");
                });
                seen.set(deleter.info(b"a").expect("it is there").published);
                stop_after(deleter, deletes, |hub| {
                    hub.delete(&[b"a"], b"bye", &rules, now);
                });
            });
            let mut received = world.deliver(0);
            world.hub(0).store.between.clear();
            world.tick(1); // It tells those who do not know yet.
            received.extend(world.deliver(0));
            let is_deleted = world.hub(0).info(b"a").is_none();
            let mut expected: Vec<i64> = (1..=published.get().cast_signed()).collect();
            expected.extend(is_deleted.then_some(crate::model::DELETED_ID));
            let ids: Vec<i64> = received.iter().map(|received| received.id).collect();
            assert_eq!(ids, expected, "at {at}, stopped after {publishes} and {deletes}");
            if is_deleted {
                interesting += 1;
                assert_eq!(received.last().expect("a notice").text, b"bye");
            }
        }
        assert!(interesting > 10);
    }
}
