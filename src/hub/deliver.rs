//! Delivering: what a worker's inbox holds, in bounded batches, to its own subscribers.

use crate::hub::{Hub, Rules};
use crate::model::{Group, Listener, Message, Seconds, Token};
use crate::store::arena::Handle;
use crate::store::channel::DELETED;
use crate::store::interest::Interest;
use crate::store::message::{BINARY, Lengths, Message as Record, NOTICE};
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
        /// Time and tag of the newest message of all channels when this one was deleted: where the
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
    /// Time and tag of the zone's newest message when the channel was deleted, if it was.
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
    /// Exact: a message that is being published just now is waited for.
    pub fn has_older(&self, token: Token, order: (Seconds, u64)) -> bool {
        self.roster.interests_of(token).any(|(shard, interest)| {
            let section = self.store.section(shard);
            let next = section.get(interest).next.get().map(|message| section.get(message));
            next.is_some_and(|next| (next.time.time(), next.tag.get()) < order)
        })
    }

    /// From which second on a subscriber that is sent away must ask again, so that it misses nothing:
    /// now, or the second of the oldest message that this worker has not handed out yet.
    ///
    /// What is published later is not older, even by a worker whose clock is behind: the zone's time is
    /// set forward first, and a message that is being published just now is waited for.
    pub fn resume_from(&mut self, token: Token, now: Seconds) -> Seconds {
        let section = self.store.commons_section();
        let commons = section.commons();
        if commons.time.time() < now {
            section.set64(&commons.time, now.cast_unsigned());
            section.set64(&commons.tag, 0);
        }
        section.commit();
        let older = self.roster.interests_of(token).filter_map(|(shard, interest)| {
            let section = self.store.section(shard);
            let next = section.get(interest).next.get()?;
            Some(section.get(next).time.time())
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
        let mut at = record.next.get();
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
                if interest.next.get().is_some() || (deleted && batch.deleted_at.is_none()) {
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

#[cfg(test)]
mod tests {
    use crate::hub::sim::{World, token};

    #[test]
    fn who_is_sent_away_asks_from_the_oldest_message_it_has_not_had() {
        let mut world = World::new(256 * 1024, 2);
        world.subscribe(0, &[(b"a", None), (b"b", None)], 1).expect("room");
        let id = token(1);
        let now = world.now;
        assert_eq!(world.hub(0).resume_from(id, now), now);
        world.publish(1, &[b"b"], b"one", true).expect("room");
        world.now += 5;
        assert_eq!(world.hub(0).resume_from(id, now + 5), now);
        world.deliver(0);
        assert_eq!(world.hub(0).resume_from(id, now + 9), now + 9);
        // Another worker, whose clock is behind.
        world.publish(1, &[b"a"], b"two", true).expect("room");
        assert_eq!(world.hub(0).resume_from(id, now + 11), now + 9);
    }
}
