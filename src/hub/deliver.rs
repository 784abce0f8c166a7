//! Delivering: hands the messages behind a worker's inbox to its subscribers, in bounded batches.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::hub::roster::Ending;
use crate::hub::{Hub, Reader, Rules, set_time_forward};
use crate::model::{DELETED_ID, Group, Latest, Message, Now, Reached, Seconds, Token};
use crate::store::arena::Handle;
use crate::store::channel::DELETED;
use crate::store::interest::{Interest, PASS_PER_SECTION};
use crate::store::message::{Message as Record, NOTICE};
use crate::store::undo::Section;
use crate::store::zone::SHARDS;

/// A batch has at most so many messages.
const BATCH: usize = 64;
/// A batch has at most so many bytes of content, unless it is a single message.
const BATCH_BYTES: usize = 256 * 1024;
/// At most so many subscriptions of a deleted channel are ended by one call. Fewer in tests, which have
/// few subscribers.
const ENDS_PER_CALL: usize = if cfg!(any(test, fuzzing)) { 2 } else { 64 };

/// News that [`Hub::deliver`] hands out.
#[derive(Debug)]
pub enum News<'a> {
    /// Messages of one channel, in order, for all its subscribers in this worker. The last one may
    /// be the notice that the channel was deleted.
    Messages {
        /// The subscribers, by form.
        groups: &'a [Group],
        /// At least one.
        messages: &'a [Message<'a>],
        /// More messages of the channel follow these.
        more: bool,
        /// When this channel was deleted, and the newest tag of all channels in that second: where the
        /// notice belongs among the messages of the others. `None`: it is not deleted.
        deleted_at: Option<(Seconds, u64)>,
    },
    /// This subscription ended because its channel was deleted. The notice came before, perhaps in an
    /// earlier call.
    Ended {
        /// Whose.
        token: Token,
        /// Its other subscriptions; with 0 it is registered no more.
        left: usize,
    },
    /// This subscription ended because there was a panic while messages of its channel were handed
    /// out. The subscriber may have missed some of them, so it should be disconnected.
    Broken {
        /// Whose.
        token: Token,
        /// Its other subscriptions; with 0 it is registered no more.
        left: usize,
    },
}

/// The messages to hand out for one interest.
struct Batch {
    shard: usize,
    interest: Handle<Interest>,
    token: u32,
    records: Vec<Handle<Record>>,
    /// More messages follow these.
    more: bool,
    /// Number of the channel.
    channel_number: u32,
    /// Time and tag of the zone when the channel was deleted, if it was.
    deleted_at: Option<(Seconds, u64)>,
}

impl Hub {
    /// Hands out one batch, or ends some subscriptions of a channel that is over. True if there is more:
    /// then call again after the event loop has run.
    ///
    /// `each` must not call back into the hub. It sends bytes, or queues them to be sent later. After a panic,
    /// in `each` or in the hub, call again as well. It is not known then which listeners of the channel
    /// have received the batch. So the next calls end their subscriptions ([`News::Broken`]), and other
    /// channels have their turn in between.
    pub fn deliver(&mut self, rules: &Rules, now: Now, each: &mut dyn FnMut(News<'_>)) -> bool {
        let Some((shard, interest)) = self.first_of_an_inbox() else { return false };
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            if let Some(batch) = self.look_into(shard, interest) {
                self.hand_out(&batch, rules, now, each);
            }
        }));
        if let Err(panic) = outcome {
            self.set_aside(shard, interest);
            resume_unwind(panic);
        }
        self.has_news()
    }

    fn hand_out(&mut self, batch: &Batch, rules: &Rules, now: Now, each: &mut dyn FnMut(News<'_>)) {
        let is_ended = batch.deleted_at.is_some() && !batch.more;
        match self.roster.local(batch.token, batch.interest).map(|local| local.ending) {
            Some(None) => {
                self.hand_out_messages(batch, is_ended, rules, each);
                self.finish(batch, now);
                if is_ended {
                    self.roster.begin_end(batch.token, Ending::Deleted);
                    self.end_some(batch, Ending::Deleted, rules, now, each);
                }
            }
            Some(Some(ending)) => self.end_some(batch, ending, rules, now, each),
            // No local channel has this interest; its number may belong to another one.
            None if is_ended => {
                self.drop_interest(Reader { shard: batch.shard, interest: batch.interest }, now);
            }
            None => self.finish(batch, now),
        }
    }

    /// There was a panic about this interest. It goes to the end of its inbox, and its listeners'
    /// subscriptions will end. If it has no listeners, it is never looked at again.
    fn set_aside(&mut self, shard: usize, interest: Handle<Interest>) {
        if self.store.arena.is_dead() {
            return; // A test has "killed" this worker.
        }
        let is_listened = self.roster.break_off(interest);
        // If this panics as well, the inbox itself is broken.
        let _ = catch_unwind(AssertUnwindSafe(|| {
            let section = self.store.section(shard);
            if is_listened {
                section.rotate_inbox(interest);
            } else {
                section.forget(interest);
            }
            section.commit();
        }));
    }

    /// Hands the batch to the listeners. If it ends the channel, the notice comes last.
    fn hand_out_messages(
        &mut self,
        batch: &Batch,
        is_ended: bool,
        rules: &Rules,
        each: &mut dyn FnMut(News<'_>),
    ) {
        let Some(local) = self.roster.local(batch.token, batch.interest) else { return };
        let mut readout = core::mem::take(&mut self.readout);
        for handle in &batch.records {
            readout.read(&self.store, *handle, batch.channel_number);
        }
        let mut messages = Vec::with_capacity(batch.records.len() + 1);
        messages.extend(readout.messages(&local.id));
        let has_notice = messages.last().is_some_and(|last: &Message<'_>| last.id == DELETED_ID);
        if is_ended && !has_notice {
            messages.push(Message::deleted(&local.id, &rules.deleted_text));
        }
        if !messages.is_empty() {
            each(News::Messages {
                groups: &local.groups,
                messages: &messages,
                more: batch.more,
                deleted_at: batch.deleted_at,
            });
        }
        drop(messages);
        readout.clear(BATCH_BYTES);
        self.readout = readout;
    }

    /// Is there a message in the subscriber's channels that this worker has not handed out yet, and that
    /// was published before the one with this time and tag? Then [`Hub::has_news`] is true as well.
    ///
    /// The answer is exact: the lock makes it wait for a message that is being published right now. If
    /// the publisher has not told this worker yet, this call tells all workers: see
    /// [`Hub::take_wakes`].
    pub fn has_older(&mut self, token: Token, order: (Seconds, u64)) -> bool {
        let older = self.roster.interests_of(token).find(|(shard, interest)| {
            let section = self.store.section(*shard);
            oldest_unread(&section, *interest).is_some_and(|oldest| oldest.place() < order)
        });
        if let Some((shard, _)) = older {
            self.tell_all(shard);
        }
        older.is_some()
    }

    /// Time and tag of the oldest message in the subscriber's channels that this worker has not handed out
    /// yet, or of the oldest deletion that it has not told of. As exact as [`Hub::has_older`], which says
    /// what else there is to know.
    ///
    /// `is_next`: nothing was handed out since the last call. If that was for a subscriber of the same
    /// channels, its answer is given again. What was published since is behind all that was handed out.
    pub fn oldest_unread(&mut self, token: Token, is_next: bool) -> Option<(Seconds, u64)> {
        let Self { store, roster, last_asked, .. } = self;
        let interests = || roster.interests_of(token);
        if is_next && interests().eq(last_asked.interests.iter().copied()) {
            return last_asked.oldest;
        }
        // Nothing is known if this panics.
        let mut asked = core::mem::take(last_asked).interests;
        let places = interests().filter_map(|(shard, interest)| {
            let section = store.section(shard);
            Some((oldest_unread(&section, interest)?.place(), shard))
        });
        let oldest = places.min();
        asked.clear();
        asked.extend(interests());
        *last_asked = LastAsked { interests: asked, oldest: oldest.map(|(place, _)| place) };
        let (place, shard) = oldest?;
        self.tell_all(shard);
        Some(place)
    }

    /// The place from which a poll must ask again after it was answered without a message, so that it
    /// misses none: now, by the zone's time and tag, or just before the oldest message that this worker has
    /// not handed out yet, or a deletion that it has not told of.
    ///
    /// Messages that are published later are not older, even if the clock of their worker is behind: this
    /// sets the zone's time forward first. The lock makes it wait for a message that is being published
    /// right now.
    pub fn resume_from(&mut self, token: Token, now: Now) -> Reached {
        let section = self.store.commons_section();
        let newest = set_time_forward(&section, now);
        section.commit();
        let mut reached = Reached::from(newest);
        let mut channels = 0;
        for (shard, interest) in self.roster.interests_of(token) {
            channels += 1;
            let section = self.store.section(shard);
            let before = oldest_unread(&section, interest).map_or_else(
                || {
                    let channel = section.get(interest).channel.get();
                    let latest = channel.map(|channel| section.get(channel).latest());
                    Reached { place: newest, latest }
                },
                Unread::before,
            );
            if channels == 1 || before.place < reached.place {
                reached = Reached { place: before.place.min(newest), ..before };
            }
        }
        // In several channels it is known for the one with the oldest message.
        if channels > 1 && reached.place == newest {
            reached.latest = None;
        }
        reached
    }

    /// Is there anything in this worker's inbox?
    pub fn has_news(&self) -> bool {
        self.store.my_seat().shards.iter().any(|shard| shard.inbox_first.get().is_some())
    }

    /// Call this when the worker was woken, before [`Hub::deliver`]: from now on others wake it again.
    pub fn woken(&mut self) {
        self.store.arena.swap32(&self.store.my_seat().woken, 0);
    }

    /// The first interest in the next inbox that is not empty, and its shard.
    fn first_of_an_inbox(&mut self) -> Option<(usize, Handle<Interest>)> {
        let seat = self.store.my_seat();
        let found = (0..SHARDS)
            .map(|step| (self.next_shard + step) % SHARDS)
            // No lock is needed: only this worker takes interests out of its inboxes.
            .find_map(|shard| seat.shards[shard].inbox_first.get().map(|first| (shard, first)));
        self.next_shard = found.map_or(self.next_shard, |(shard, _)| (shard + 1) % SHARDS);
        found
    }

    /// Finds out what there is to hand out for this interest.
    fn look_into(&self, shard: usize, interest: Handle<Interest>) -> Option<Batch> {
        let section = self.store.section(shard);
        let record = section.get(interest);
        let channel = section.get(record.channel.get()?);
        let mut records = Vec::new();
        let mut bytes = 0;
        let mut at = section.next_unread(record);
        while let Some(handle) = at {
            let message = section.get(handle);
            let len = self.store.lengths(handle).content();
            if records.len() == BATCH || (bytes > 0 && bytes + len > BATCH_BYTES) {
                break;
            }
            bytes += len;
            records.push(handle);
            at = message.next.get();
        }
        Some(Batch {
            shard,
            interest,
            token: record.token.get(),
            records,
            more: at.is_some(),
            channel_number: channel.number(),
            deleted_at: channel.has(DELETED).then(|| self.store.last_place(channel)),
        })
    }

    /// The batch was handed out: lets go of its messages. The interest leaves the inbox; if there is
    /// more, it goes to its end.
    fn finish(&self, batch: &Batch, now: Now) {
        let to = batch.records.last().map_or(0, |last| self.store.arena.get(*last).id());
        loop {
            let section = self.store.section(batch.shard);
            // Nearly always one section passes all of them, and has room for the rest as well.
            let is_last = section.pass_some(batch.interest, to, now.steady) < PASS_PER_SECTION;
            if is_last {
                let interest = section.get(batch.interest);
                let channel = interest.channel.get().map(|channel| section.get(channel));
                // If it was deleted since, that is news, with or without a text.
                let deleted = channel.is_some_and(|channel| channel.has(DELETED));
                if section.catch_up(interest).is_some() || (deleted && batch.deleted_at.is_none()) {
                    section.rotate_inbox(batch.interest);
                } else if !deleted {
                    section.unlink_inbox(batch.interest);
                }
            }
            section.commit();
            if is_last {
                return;
            }
        }
    }

    /// No more messages come from this channel: ends some of its subscriptions. The others follow when
    /// its interest is the first of the inbox again.
    fn end_some(
        &mut self,
        batch: &Batch,
        ending: Ending,
        rules: &Rules,
        now: Now,
        each: &mut dyn FnMut(News<'_>),
    ) {
        let Some(local) = self.roster.local(batch.token, batch.interest) else { return };
        let id = local.id.clone();
        for _ in 0..ENDS_PER_CALL {
            let Some(token) = self.roster.some_listener(batch.token) else { break };
            self.uncount_listener(batch.shard, batch.interest);
            let announced = self.roster.is_announced(token);
            let left = self.roster.leave_local(token, batch.token).unwrap_or(0);
            if left == 0 {
                self.roster.remove(token);
                if announced {
                    self.count_subscribers(-1);
                }
            }
            each(match ending {
                Ending::Deleted => News::Ended { token, left },
                Ending::Broken => News::Broken { token, left },
            });
            if announced {
                self.notify("client_unsubscribed", &id, rules, now);
            }
        }
        self.note_subscriptions();
        if self.roster.some_listener(batch.token).is_none() {
            self.roster.close(batch.token);
            self.drop_interest(Reader { shard: batch.shard, interest: batch.interest }, now);
            return;
        }
        let section = self.store.section(batch.shard);
        section.rotate_inbox(batch.interest);
        section.commit();
    }
}

/// What a worker has not handed out yet.
#[derive(Clone, Copy, Debug)]
enum Unread {
    /// The message of this time and tag, and its number in its channel.
    Message((Seconds, u64), Latest),
    /// The notice of a deletion, at this time and tag of the zone. All messages up to there come before it.
    Notice((Seconds, u64)),
}

impl Unread {
    fn place(self) -> (Seconds, u64) {
        match self {
            Self::Message(place, _) | Self::Notice(place) => place,
        }
    }

    /// The last place that is not beyond it.
    fn before(self) -> Reached {
        match self {
            // The first tag of a second is 1.
            Self::Message((time, tag), latest) => {
                Reached { place: (time, tag.saturating_sub(1)), latest: Some(latest.before()) }
            }
            Self::Notice(place) => place.into(),
        }
    }
}

/// The last question for the oldest unread message.
#[derive(Debug, Default)]
pub(super) struct LastAsked {
    /// Shards and interests of the channels.
    interests: Vec<(usize, Handle<Interest>)>,
    oldest: Option<(Seconds, u64)>,
}

/// The oldest message that this interest has not read, or its channel's deletion.
fn oldest_unread(section: &Section<'_>, interest: Handle<Interest>) -> Option<Unread> {
    let interest = section.get(interest);
    let channel = section.get(interest.channel.get()?);
    if let Some(next) = section.next_unread(interest).map(|next| section.get(next)) {
        let place = section.store.place(next);
        if next.has(NOTICE) {
            return Some(Unread::Notice(place));
        }
        let latest = Latest { channel: channel.number(), id: next.id() };
        return Some(Unread::Message(place, latest));
    }
    channel.has(DELETED).then(|| Unread::Notice(section.store.last_place(channel)))
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
    fn subscribers_of_the_same_channels_ask_once() {
        let mut world = World::new(256 * 1024, 2);
        let channels: &[(&[u8], _)] = &[(b"a", None), (b"b", None), (b"c", None)];
        for number in 1..4 {
            world.subscribe(0, channels, number).expect("room");
        }
        world.subscribe(0, &channels[..2], 4).expect("room");
        let now = world.now;
        world.publish(1, &[b"c"], b"one", true).expect("room");
        let mut ask = |number, is_next| {
            let hub = world.hub(0);
            let before = hub.store.arena.looks.get();
            let oldest = hub.oldest_unread(token(number), is_next);
            (oldest, hub.store.arena.looks.get() > before)
        };
        let oldest = Some((now.wall, 1));
        assert_eq!(ask(1, false), (oldest, true));
        assert_eq!(ask(2, true), (oldest, false));
        assert_eq!(ask(3, true), (oldest, false));
        assert_eq!(ask(4, true), (None, true), "other channels");
        assert_eq!(ask(4, true), (None, false));
        assert_eq!(ask(1, true), (oldest, true));
        assert_eq!(ask(2, false), (oldest, true), "messages may have been handed out");
    }

    #[test]
    fn a_poll_that_ends_resumes_at_the_oldest_message_it_has_not_had() {
        let mut world = World::new(256 * 1024, 2);
        world.subscribe(0, &[(b"a", None), (b"b", None)], 1).expect("room");
        let now = world.now;
        assert_eq!(world.hub(0).resume_from(token(1), now).place, (now.wall, 0));
        world.publish(1, &[b"other"], b"zero", true).expect("room");
        assert_eq!(world.hub(0).resume_from(token(1), now).place, (now.wall, 1));
        world.publish(1, &[b"b"], b"one", true).expect("room");
        world.now += 5;
        assert_eq!(world.hub(0).resume_from(token(1), now + 5).place, (now.wall, 1));
        world.deliver(0);
        assert_eq!(world.hub(0).resume_from(token(1), now + 9).place, (now.wall + 9, 0));
        // Another worker publishes, whose clock is behind.
        world.publish(1, &[b"a"], b"two", true).expect("room");
        assert_eq!(world.hub(0).resume_from(token(1), now + 11).place, (now.wall + 9, 0));
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
            assert_eq!(deleted, Some((now.wall, 0)));
            world.publish(1, &[b"a"], b"in a channel of that name", true).expect("room");
            let (_, texts) =
                world.subscribe_since(0, &[(b"a", None)], since(now.wall), 2).expect("room");
            assert_eq!(texts.len(), 1, "a client that was told of the deletion gets it");
        }
    }

    fn since(time: Seconds) -> Since<'static> {
        Since { time: Some(time), tag: Some(0), ..Since::default() }
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
            assert_eq!(world.hub(0).resume_from(token(1), now + 5).place, (now.wall, 0));
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
        assert_eq!(world.hub(0).resume_from(token(1), now + -1).place, (now.wall, 1));
    }

    /// Two channels of different shards. (Publishing to a shard also finishes what others left untold in
    /// it.)
    fn two_channels(world: &mut World) -> (Vec<u8>, Vec<u8>) {
        let store = &world.hub(0).store;
        let shard = |id: &[u8]| store.shard_of(store.hash(id));
        let other = (b'b'..=b'z').map(|letter| vec![letter]);
        let other = other.clone().find(|id| shard(id) != shard(b"a"));
        (b"a".to_vec(), other.expect("there are eight shards"))
    }

    /// A publisher tells four workers in its first section, and dies before it tells the fifth. The fifth
    /// knows of the message all the same: a poll there that has found a newer one waits for it.
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
                assert_eq!(world.hub(0).resume_from(token(1), later).place, (now.wall, 0));
                assert_eq!(world.hub(0).oldest_unread(token(1), false), Some((now.wall, 1)));
                assert!(world.hub(0).has_older(token(1), (now.wall + 1, 1)), "dead at {stores}");
                assert!(world.hub(0).has_news(), "it can be had at once");
                assert_eq!(world.deliver(0).len(), 1);
            }
            assert!(!world.hub(0).has_older(token(1), (now.wall + 1, 1)), "all is handed out");
            if survived.is_some() {
                break;
            }
        }
        assert!(cut_off > 0, "the publisher never died between two sections of telling");
    }

    /// The caller panics over the messages of one channel. Other channels of the shard have their turn, and
    /// the listeners of that channel are told that they may have missed messages.
    #[test]
    fn a_panic_over_one_channel_starves_no_other_and_ends_its_listeners() {
        let mut world = World::new(256 * 1024, 1);
        let store = &world.hub(0).store;
        let shard = |id: &[u8]| store.shard_of(store.hash(id));
        let mut ids = (0..).map(|n| format!("other {n}").into_bytes());
        let other = ids.find(|id| shard(id) == shard(b"bad")).expect("one of eight");
        for number in 1..=5 {
            world.subscribe(0, &[(b"bad", None)], number).expect("room");
        }
        world.subscribe(0, &[(&other, None), (b"bad", None)], 6).expect("room");
        world.publish(0, &[b"bad"], b"x", false).expect("room");
        world.publish(0, &[&other], b"y", false).expect("room");
        let (rules, now) = (world.rules.clone(), world.now);
        let (mut panics, mut others, mut broken) = (0, 0, Vec::new());
        for _ in 0..20 {
            let mut each = |news: News<'_>| match news {
                News::Messages { messages, .. } if messages[0].channel == b"bad" => {
                    std::panic::resume_unwind(Box::new("a bad message"));
                }
                News::Messages { groups, .. } => {
                    others += groups.iter().map(|group| group.listeners.len()).sum::<usize>();
                }
                News::Broken { token, left } => broken.push((token.index(), left)),
                News::Ended { .. } => panic!("nothing was deleted"),
            };
            let hub = world.hub(0);
            panics += usize::from(
                catch_unwind(AssertUnwindSafe(|| hub.deliver(&rules, now, &mut each))).is_err(),
            );
        }
        assert_eq!((panics, others), (1, 1));
        broken.sort_unstable();
        assert_eq!(broken, [(1, 0), (2, 0), (3, 0), (4, 0), (5, 0), (6, 1)]);
        assert!(!world.hub(0).has_news());
        // A later subscriber is served.
        world.subscribe(0, &[(b"bad", None)], 7).expect("room");
        world.publish(0, &[b"bad"], b"z", false).expect("room");
        assert_eq!(world.deliver(0).len(), 1);
        world.check("after a panic");
    }

    /// The order of a notice among the messages of other channels is that of the deletion, whatever was in
    /// its memory before.
    #[test]
    fn a_notice_has_its_place_among_the_messages_of_other_channels() {
        for text in [&b"bye"[..], b"Channel deleted"] {
            let mut world = World::new(256 * 1024, 2);
            world.subscribe(0, &[(b"a", None), (b"b", None)], 1).expect("room");
            let now = world.now;
            world.publish(1, &[b"b"], b"before", false).expect("room");
            world.deliver(0);
            world.delete(1, b"a", text);
            assert!(!world.hub(0).has_older(token(1), (now.wall, 1)), "the message came before it");
            assert!(world.hub(0).has_older(token(1), (now.wall, 2)), "the next one comes after it");
            assert_eq!(world.hub(0).resume_from(token(1), now).place, (now.wall, 1));
            world.deliver(0);
            assert!(!world.hub(0).has_older(token(1), (now.wall, 2)));
        }
    }

    /// Runs an operation of a worker that is stopped for ever after so many sections.
    fn stop_after(hub: &mut Hub, sections: u64, operation: impl FnOnce(&mut Hub)) {
        hub.store.sections_left.set(Some(sections));
        let _ = catch_unwind(AssertUnwindSafe(|| operation(hub)));
    }

    /// Between two sections of a delivery, one worker publishes and another one deletes the channel, and
    /// both are stopped before they have told everybody. The subscriber gets everything, in order.
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
                    ..Post::default()
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
            world.tick(1); // It tells the workers that do not know yet.
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
