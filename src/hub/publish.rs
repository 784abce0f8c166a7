//! Publishing: the checks, the staging, and the section that adds a message to its channel.

use crate::hub::census::Figures;
use crate::hub::{Found, Hub, Refusal, Rules};
use crate::model::{
    ChannelInfo, Discard, Few, Gap, Now, Operation, Removal, Seconds, Source, Stamp,
};
use crate::store::arena::Handle;
use crate::store::channel::{Channel, EVENTS, WILDCARD};
use crate::store::message::{BINARY, Content, Message, REPLAYABLE, STORED, TAG_MAX};
use crate::store::undo::Section;

/// Messages that one section discards: bounds its undo log, fifteen words each and two in all.
const DISCARDS_PER_SECTION: usize = 3;
/// Words that discarding one message changes at most, with some to spare.
const DISCARD_WORDS: usize = 24;
/// At most so many sections of a publish discard messages over the limit; ticks discard the rest.
/// Nearly always one message is over the limit; after a reload with a lower limit there are more.
const SECTIONS_PER_PUBLISH: usize = 4;
/// At most so many messages are discarded by a publish.
#[cfg(any(test, fuzzing))]
pub(super) const EVICTED_PER_PUBLISH: usize = DISCARDS_PER_SECTION * SECTIONS_PER_PUBLISH;
/// The same for one call of [`Hub::tick`].
const SECTIONS_PER_TICK: usize = 256;

/// A message to publish.
#[derive(Clone, Copy, Debug, Default)]
pub struct Post<'a> {
    /// `Event-Id`.
    pub event_id: Option<&'a [u8]>,
    /// `Event-Type`.
    pub event_type: Option<&'a [u8]>,
    /// The body, in pieces; the sum of their lengths is the message's size.
    pub body: &'a [&'a [u8]],
    /// The publisher sent it as a binary WebSocket message.
    pub binary: bool,
    /// Keep it for replay.
    pub store: bool,
    /// Accept a message without content, which is an error over HTTP.
    pub may_be_empty: bool,
    /// Where it comes from.
    pub source: Source,
    /// When it is published. None for notices: their delay is not measured.
    pub stamp: Stamp,
}

impl<'a> Post<'a> {
    fn content(&self) -> Content<'a> {
        Content {
            event_id: self.event_id,
            event_type: self.event_type,
            text: self.body,
            flags: if self.binary { BINARY } else { 0 },
            stamp: self.stamp,
        }
    }
}

/// How an attempt to publish to one channel ended.
enum Attempt {
    Done {
        /// The staged message, if there was one, is in the log now.
        used: bool,
        /// The channel with the message.
        figures: Figures,
    },
    /// The channel does not exist.
    NoChannel,
    /// Somebody listens, so the message must be staged after all.
    NeedsStaging,
}

impl Hub {
    /// The checks that need no body. They change nothing. `changes` is for POST, PUT and DELETE,
    /// `creates` for POST and PUT.
    ///
    /// # Errors
    ///
    /// The first [`Refusal`], in the order of the channels; for each channel in the order of
    /// `docs/protocol.md`, "Publisher".
    pub fn check_publisher(
        &mut self,
        channels: &[&[u8]],
        changes: bool,
        creates: bool,
        rules: &Rules,
    ) -> Result<(), Refusal> {
        let checked = self.try_publisher(channels, changes, creates, rules);
        match (changes, creates) {
            (_, true) => self.counting_refusal(Operation::Publish, checked),
            (true, false) => self.counting_refusal(Operation::Delete, checked),
            (false, false) => checked,
        }
    }

    fn try_publisher(
        &self,
        channels: &[&[u8]],
        changes: bool,
        creates: bool,
        rules: &Rules,
    ) -> Result<(), Refusal> {
        if channels.is_empty() {
            return Err(Refusal::NoChannelId);
        }
        let mut new = (0, 0);
        for id in channels {
            rules.check_id(id)?;
            if creates {
                self.check_room_for(id, &mut new, rules)?;
            }
            if changes && rules.is_events(id) {
                return Err(Refusal::EventsChannelIsInternal);
            }
        }
        Ok(())
    }

    /// May this channel be created, if it does not exist? `new` counts those that are to be created
    /// before it.
    pub(super) fn check_room_for(
        &self,
        id: &[u8],
        new: &mut (u64, u64),
        rules: &Rules,
    ) -> Result<(), Refusal> {
        let wildcard = rules.is_wildcard(id);
        if (if wildcard { rules.wildcard_channels_max } else { rules.channels_max }).is_none()
            || self.exists(id)
        {
            return Ok(());
        }
        let commons = &self.store.header().commons;
        let (there, new, max) = if wildcard {
            (commons.wildcard_channels.get(), &mut new.1, rules.wildcard_channels_max)
        } else {
            (commons.channels.get(), &mut new.0, rules.channels_max)
        };
        if max.is_some_and(|max| there + *new >= max) {
            return Err(Refusal::TooManyChannels);
        }
        *new += 1;
        Ok(())
    }

    /// Publishes to each channel in order, and creates those that do not exist. If there is not enough
    /// memory for all of them, none gets the message.
    ///
    /// # Errors
    ///
    /// Those of [`Hub::check_publisher`]; [`Refusal::EmptyPost`]; [`Refusal::NoMemory`]. Nothing
    /// has changed then.
    pub fn publish(
        &mut self,
        channels: &[&[u8]],
        post: &Post<'_>,
        rules: &Rules,
        now: Now,
    ) -> Result<(), Refusal> {
        self.check_publisher(channels, true, true, rules)?;
        self.publish_checked(channels, post, rules, now).map(drop)
    }

    /// As [`Hub::publish`], for a caller that has [checked](Hub::check_publisher) the channels just now.
    /// Answers what is to be said about the channels then.
    ///
    /// # Errors
    ///
    /// [`Refusal::EmptyPost`]; [`Refusal::NoMemory`]; [`Refusal::TooManyChannels`] if there have come more
    /// since. Nothing has changed then.
    pub fn publish_checked<'a>(
        &mut self,
        channels: &[&'a [u8]],
        post: &Post<'_>,
        rules: &Rules,
        now: Now,
    ) -> Result<Few<ChannelInfo<&'a [u8]>>, Refusal> {
        let published = self.publish_each(channels, post, rules, now);
        self.counting_refusal(Operation::Publish, published)
    }

    fn publish_each<'a>(
        &mut self,
        channels: &[&'a [u8]],
        post: &Post<'_>,
        rules: &Rules,
        now: Now,
    ) -> Result<Few<ChannelInfo<&'a [u8]>>, Refusal> {
        let mut told = Few::default();
        let mut each = |id: &'a [u8], figures: Figures| told.push(figures.into_info(id));
        if !post.may_be_empty && post.body.iter().all(|piece| piece.is_empty()) {
            return Err(Refusal::EmptyPost);
        }
        if let [id] = channels {
            // One channel gets it or does not: nothing has to be looked at before.
            let message = if post.store { Some(self.stage(post, now)?) } else { None };
            each(id, self.publish_one(id, post, message, rules, now)?);
            self.count_published(post);
            return Ok(told);
        }
        let mut staged = Vec::with_capacity(channels.len());
        let mut created = Vec::new();
        let ready = self.prepare(channels, post, rules, now, &mut staged, &mut created);
        if let Err(refusal) = ready {
            for message in staged.into_iter().rev().flatten() {
                self.store.unstage(message);
            }
            for id in created {
                self.uncreate(id);
            }
            return Err(refusal);
        }
        for id in created {
            self.notify("channel_created", id, rules, now);
        }
        let mut outcome = Ok(());
        for (id, message) in channels.iter().zip(staged.into_iter().rev()) {
            // Can fail for a later channel only if others fill the zone meanwhile.
            match self.publish_one(id, post, message, rules, now) {
                Ok(figures) => {
                    each(id, figures);
                    self.count_published(post);
                }
                Err(refusal) => outcome = outcome.and(Err(refusal)),
            }
        }
        outcome.map(|()| told)
    }

    /// Takes all the memory that publishing needs, and creates the channels.
    ///
    /// The last channel's message is staged first. Staged messages are a stack, so the next one to be
    /// published is always on top, and no section has to search for it.
    fn prepare<'a>(
        &mut self,
        channels: &[&'a [u8]],
        post: &Post<'_>,
        rules: &Rules,
        now: Now,
        staged: &mut Vec<Option<Handle<Message>>>,
        created: &mut Vec<&'a [u8]>,
    ) -> Result<(), Refusal> {
        for id in channels.iter().rev() {
            let needed = post.store || self.is_wanted(id);
            let message = if needed { Some(self.stage(post, now)?) } else { None };
            staged.push(message);
        }
        for id in channels {
            if self.create(id, 0, rules, now)?.created {
                created.push(id);
            }
        }
        Ok(())
    }

    pub(super) fn stage(&mut self, post: &Post<'_>, now: Now) -> Result<Handle<Message>, Refusal> {
        self.with_room(now, |hub| hub.store.stage(post.content()))
            .ok_or(Refusal::NoMemory { message: true })
    }

    /// Publishes to one channel. `message` is `None` if nobody seemed to need it.
    pub(super) fn publish_one(
        &mut self,
        id: &[u8],
        post: &Post<'_>,
        mut message: Option<Handle<Message>>,
        rules: &Rules,
        now: Now,
    ) -> Result<Figures, Refusal> {
        let hash = self.store.hash(id);
        let shard = self.store.shard_of(hash);
        let mut wake = Vec::new();
        let (used, mut figures) = loop {
            match self.try_publish(hash, id, post, message, rules, now, &mut wake) {
                Attempt::Done { used, figures } => break (used, figures),
                Attempt::NeedsStaging => message = Some(self.stage(post, now)?),
                Attempt::NoChannel => match self.create(id, 0, rules, now) {
                    Ok(found) if found.created => self.notify("channel_created", id, rules, now),
                    Ok(_) => {}
                    Err(refusal) => {
                        if let Some(message) = message {
                            self.store.unstage(message);
                        }
                        return Err(refusal);
                    }
                },
            }
        };
        self.wake(&wake);
        if self.store.header().shards[shard].untold.get().is_some() {
            self.tell_all(shard);
        }
        if post.store {
            if rules.stored_max.is_some_and(|max| figures.stored > max) {
                let mut sections = SECTIONS_PER_PUBLISH;
                if self.evict(id, &mut sections, rules, now) {
                    self.overfull.insert(id.into());
                }
                figures = self.figures(id).unwrap_or(figures);
            }
        } else if let Some(message) = message.filter(|_| !used) {
            self.store.unstage(message); // Nobody needed it after all.
        }
        Ok(figures)
    }

    #[expect(clippy::too_many_arguments, reason = "one section, split off for its loop")]
    fn try_publish(
        &self,
        hash: u64,
        id: &[u8],
        post: &Post<'_>,
        message: Option<Handle<Message>>,
        rules: &Rules,
        now: Now,
        wake: &mut Vec<u32>,
    ) -> Attempt {
        let section = self.store.section(self.store.shard_of(hash));
        let Some(handle) = section.find(hash, id) else { return Attempt::NoChannel };
        let channel = section.get(handle);
        let listened = section.interests(channel).any(|(_, interest)| interest.is_live());
        if message.is_none() && (listened || post.store) {
            return Attempt::NeedsStaging;
        }
        // Under the lock, so that time never goes back and no tag is given twice in one second.
        let commons = section.commons();
        let newest = (commons.time.time(), commons.tag.get());
        let (time, tag) = next_place(newest, self.store.in_range(now.wall));
        let number = channel.published.get() + 1;
        section.set64(&commons.time, time.cast_unsigned());
        section.set64(&commons.tag, tag);
        section.set64(&channel.published, number);
        if !post.store {
            section.lose(channel, (time, tag), Gap::Unstored);
        }
        let counted = !channel.has(EVENTS);
        if counted {
            section.add(&section.shard().published, 1);
        }
        section.touch(handle, now.steady);
        let used = message.filter(|_| post.store || listened);
        if let Some(message) = used {
            let record = section.get(message);
            let arena = &self.store.arena;
            let stored = if post.store { STORED | REPLAYABLE } else { 0 };
            arena.put32(&record.flags, record.flags.get() | stored);
            self.store.stamp(record, number, (time, tag));
            let expires = now.steady.saturating_add(rules.message_ttl_secs);
            arena.put32(&record.expires, self.store.short_steady(expires));
            arena.put_link(&record.channel, Some(handle));
            section.unlink_staged(section.seat(), message);
            section.append(channel, message);
            if post.store {
                section.enqueue_expiry(message, rules.message_ttl_secs);
                section.count_stored(channel, message);
                if counted {
                    section.add(&section.shard().stored, 1);
                }
            } else {
                section.count_discarded();
            }
            if channel.interests.get().is_some() {
                section.link(&channel.tell_next, channel.interests.get());
                section.tell(handle, wake);
            }
            // A full channel always needs this. If many workers were told, another section does it.
            if let Some(max) = rules.stored_max
                && post.store
                && channel.stored() == max.saturating_add(1)
                && section.has_room_for(DISCARD_WORDS)
            {
                discard_some(&section, handle, max, now);
            }
        }
        let figures = Figures::of(&section, handle);
        section.commit();
        Attempt::Done { used: used.is_some(), figures }
    }

    /// Discards the oldest messages of a channel that stores too many, in at most `sections` sections,
    /// which it counts down. True if some are still over the limit.
    fn evict(&self, id: &[u8], sections: &mut usize, rules: &Rules, now: Now) -> bool {
        let Some(max) = rules.stored_max else { return false };
        let hash = self.store.hash(id);
        while *sections > 0 {
            *sections -= 1;
            let section = self.store.section(self.store.shard_of(hash));
            let Some(handle) = section.find(hash, id) else { return false };
            let more = discard_some(&section, handle, max, now);
            section.commit();
            if !more {
                return false;
            }
        }
        true
    }

    /// Discards a bounded part of what publishing has left over the limit. True if there is more.
    pub(super) fn evict_more(&mut self, rules: &Rules, now: Now) -> bool {
        let mut left = SECTIONS_PER_TICK;
        while let Some(id) = self.overfull.pop_first() {
            if self.evict(&id, &mut left, rules, now) {
                self.overfull.insert(id);
                return true;
            }
        }
        false
    }

    /// Finds or creates a channel.
    pub(super) fn create(
        &mut self,
        id: &[u8],
        flags: u32,
        rules: &Rules,
        now: Now,
    ) -> Result<Found, Refusal> {
        let hash = self.store.hash(id);
        let flags = flags | if rules.is_wildcard(id) { WILDCARD } else { 0 };
        self.with_room(now, |hub| {
            let section = hub.store.section(hub.store.shard_of(hash));
            if let Some(channel) = section.find(hash, id) {
                return Some(Ok(Found { channel, created: false }));
            }
            if flags & EVENTS == 0 && !is_room_for_channel(&section, flags, rules) {
                return Some(Err(Refusal::TooManyChannels));
            }
            let channel = section.make_channel(hash, id, flags, now.steady)?;
            section.index_insert(channel);
            if flags & EVENTS != 0 {
                section.link(&section.commons().events, Some(channel));
            }
            section.commit();
            Some(Ok(Found { channel, created: true }))
        })
        .unwrap_or(Err(Refusal::NoMemory { message: false }))
    }

    /// Removes a channel that was just created, if nobody has used it since. False if somebody has.
    pub(super) fn uncreate(&self, id: &[u8]) -> bool {
        let hash = self.store.hash(id);
        let section = self.store.section(self.store.shard_of(hash));
        let Some(handle) = section.find(hash, id) else { return false };
        let channel = section.get(handle);
        if channel.published.get() > 0 || channel.interests.get().is_some() || channel.has(EVENTS) {
            return false;
        }
        section.index_remove(handle);
        section.unlink_idle(handle);
        section.unlink_untold(handle);
        section.uncount_channel(channel, Removal::Idle);
        section.give(handle);
        section.commit();
        true
    }

    fn exists(&self, id: &[u8]) -> bool {
        let hash = self.store.hash(id);
        self.store.section(self.store.shard_of(hash)).find(hash, id).is_some()
    }

    /// Does anybody listen to this channel?
    pub(super) fn is_wanted(&self, id: &[u8]) -> bool {
        let hash = self.store.hash(id);
        let section = self.store.section(self.store.shard_of(hash));
        section.find(hash, id).is_some_and(|handle| {
            let channel: &Channel = section.get(handle);
            section.interests(channel).any(|(_, interest)| interest.is_live())
        })
    }
}

/// Discards some of the oldest messages of a channel that stores more than `max`. True if more are to be
/// discarded.
fn discard_some(section: &Section<'_>, handle: Handle<Channel>, max: u64, now: Now) -> bool {
    let channel = section.get(handle);
    let mut newest = None;
    for _ in 0..DISCARDS_PER_SECTION {
        if channel.stored() <= max {
            break;
        }
        let Some(oldest) = section.oldest_stored(channel) else { break };
        newest = Some(section.store.place(section.get(oldest)));
        section.discard(channel, oldest, Discard::Limit, now.steady);
    }
    if let Some(newest) = newest {
        section.lose(channel, newest, Gap::Evicted);
    }
    section.may_be_idle(handle);
    channel.stored() > max
}

/// Time and tag of the message after the one of this place. Time never goes back. If a second has no more
/// tags, it goes forward.
fn next_place((time, tag): (Seconds, u64), now: Seconds) -> (Seconds, u64) {
    if now > time {
        (now, 1)
    } else if tag < TAG_MAX {
        (time, tag + 1)
    } else {
        (time.saturating_add(1), 1)
    }
}

fn is_room_for_channel(section: &Section<'_>, flags: u32, rules: &Rules) -> bool {
    let commons = section.commons();
    let (there, max) = if flags & WILDCARD != 0 {
        (commons.wildcard_channels.get(), rules.wildcard_channels_max)
    } else {
        (commons.channels.get(), rules.channels_max)
    };
    max.is_none_or(|max| there < max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::sim::World;

    #[test]
    fn places_ascend_also_when_a_second_has_no_more_tags() {
        for (newest, now, next) in [
            ((0, 0), 7, (7, 1)),
            ((7, 1), 7, (7, 2)),
            ((7, 9), 6, (7, 10)),
            ((7, 9), 8, (8, 1)),
            ((7, TAG_MAX), 7, (8, 1)),
            ((8, 1), 7, (8, 2)),
        ] {
            assert_eq!(next_place(newest, now), next);
        }
    }

    #[test]
    fn a_full_channel_with_listeners_discards_in_the_section_that_appends() {
        let mut world = World::new(256 * 1024, 2);
        world.rules.stored_max = Some(2);
        world.subscribe(1, &[(b"a", None)], 1).expect("room");
        for text in [b"1", b"2", b"3"] {
            world.publish(0, &[b"a"], text, true).expect("room");
        }
        let before = world.hub(0).store.my_seat().sections.get();
        world.publish(0, &[b"a"], b"4", true).expect("room");
        let sections = world.hub(0).store.my_seat().sections.get() - before;
        assert_eq!(sections, 2, "one stages, one appends and discards");
        assert_eq!(world.hub(0).info(b"a").expect("a channel").stored, 2);
        world.check("a full channel");
    }
}
