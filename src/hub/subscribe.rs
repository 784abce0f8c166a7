//! Subscribing and leaving.
//!
//! The section that registers a subscriber is also the one that fixes where its backlog ends: what
//! was published before is backlog, what comes later is live. Nothing falls between, nothing comes
//! twice.

use crate::hub::backlog::Backlog;
use crate::hub::roster::Local;
use crate::hub::{Hub, Refusal, Rules};
use crate::model::{Listener, Seconds, Since, Token};
use crate::store::arena::Handle;
use crate::store::channel::Channel;
use crate::store::interest::LIVE;
use crate::store::message::STORED;
use crate::store::undo::Section;
use crate::wire::resume::Selection;

/// Messages that a check of one channel looks at.
const STEPS_BACK_MAX: usize = 256;

/// Is this a subscriber that stays?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stay {
    /// Live messages follow.
    Live,
    /// Only the backlog: polling.
    No,
}

/// What a subscriber asks for.
#[derive(Clone, Copy, Debug)]
pub struct Subscribe<'a> {
    /// Decoded id and backtrack, in request order, without duplicates.
    pub requested: &'a [(&'a [u8], Option<u64>)],
    /// What it says it has received.
    pub since: Since<'a>,
    /// `push_stream_authorized_channels_only`.
    pub authorized_only: bool,
    /// `push_stream_wildcard_channel_max_qtd`, in effect.
    pub wildcard_max: Option<u64>,
    /// `push_stream_allow_connections_to_events_channel`.
    pub events_channel_allowed: bool,
    /// Whether live messages follow.
    pub stay: Stay,
    /// Long polling and polling: messages newer than the answer's cursor wait for the next request.
    pub bounded: bool,
    /// Subscribers of a channel with equal forms get the same bytes; the shell's number.
    pub form: u32,
    /// The subscriber's name: registered with [`Stay::Live`], handed back with every delivery.
    pub token: Token,
}

/// A successful subscription, and the backlog that is still to be read.
#[derive(Debug)]
pub struct Subscribed {
    /// Whose it is.
    pub(super) token: Token,
    pub(super) backlogs: Vec<Backlog>,
    /// Newest message of the zone when the first channel was looked at, if `bounded`.
    pub(super) bound: Option<(Seconds, u64)>,
}

impl Subscribed {
    /// The second until which the subscriber has what is stored, if it was `bounded` and nothing was
    /// held back.
    pub fn second(&self) -> Seconds {
        self.bound.map_or(0, |(time, _)| time)
    }
}

impl Hub {
    /// Validates, creates what is absent, and registers.
    ///
    /// # Errors
    ///
    /// The first [`Refusal`] in the order of `limits.md` 2. Nothing has changed then.
    pub fn subscribe(
        &mut self,
        request: &Subscribe<'_>,
        rules: &Rules,
        now: Seconds,
    ) -> Result<Subscribed, Refusal> {
        self.check_subscriber(request, rules, now)?;
        let mut created = Vec::new();
        for (id, _) in request.requested {
            match self.create(id, 0, rules, now) {
                Ok(found) if found.created => created.push(*id),
                Ok(_) => {}
                Err(refusal) => {
                    for id in created {
                        self.uncreate(id);
                    }
                    return Err(refusal);
                }
            }
        }
        // Before it is attached: a subscriber of the events channel that is asked for as well is not
        // told of channels that its own request has created.
        for id in &created {
            self.notify("channel_created", id, rules, now);
        }
        if request.stay == Stay::Live {
            // Nobody, but for a caller that has lost one without a word.
            if let Some(former) = self.roster.tenant(request.token.index()) {
                self.leave(former, rules, now);
            }
            self.roster.add(request.token);
        }
        let token = request.token;
        let mut subscribed = Subscribed { token, backlogs: Vec::new(), bound: None };
        for (channel, backtrack) in request.requested {
            let attached =
                self.attach_to(channel, *backtrack, request, &mut subscribed, rules, now);
            if let Err(refusal) = attached {
                self.give_up(request, subscribed, now);
                for id in created {
                    if self.uncreate(id) {
                        self.notify("channel_destroyed", id, rules, now);
                    }
                }
                return Err(refusal);
            }
        }
        Ok(subscribed)
    }

    /// It is sure that the subscriber stays: it counts from now on, and the events channel is told.
    /// After its backlog.
    pub fn announce(&mut self, token: Token, rules: &Rules, now: Seconds) {
        if self.roster.announce(token) {
            self.count_subscribers(1);
            if !rules.events_channel.is_empty() {
                for channel in self.roster.channels_of(token) {
                    self.notify("client_subscribed", &channel, rules, now);
                }
            }
        }
    }

    /// The subscriber goes away, for whatever reason, and its backlog with it. Nothing happens if it is not
    /// registered and has none.
    pub fn leave(&mut self, token: Token, rules: &Rules, now: Seconds) {
        let announced = self.roster.is_announced(token);
        let tell = announced && !rules.events_channel.is_empty();
        let channels = if tell { self.roster.channels_of(token) } else { Vec::new() };
        self.close_readers(token, now);
        self.drop_subscriber(token, now);
        for channel in channels {
            self.notify("client_unsubscribed", &channel, rules, now);
        }
    }

    /// The ids of the channels that a subscriber is subscribed to, in subscription order.
    pub fn channels_of(&self, token: Token) -> Vec<Vec<u8>> {
        self.roster.channels_of(token)
    }

    /// Ends all subscriptions of a subscriber, and the subscriber.
    pub(super) fn drop_subscriber(&mut self, token: Token, now: Seconds) {
        let announced = self.roster.is_announced(token);
        while let Some(left) = self.roster.leave_one(token) {
            self.unsubscribe(left.local, left.shard, left.interest, now);
        }
        self.roster.remove(token);
        if announced {
            self.count_subscribers(-1);
        }
    }

    /// One subscriber less in a channel; without any, the worker's interest ends.
    pub(super) fn unsubscribe(
        &mut self,
        local: u32,
        shard: usize,
        interest: Handle<crate::store::interest::Interest>,
        now: Seconds,
    ) {
        let section = self.store.section(shard);
        let record = section.get(interest);
        let left = record.subscribers.get().saturating_sub(1);
        section.set32(&record.subscribers, left);
        section.commit();
        if left == 0 {
            self.store.retire(shard, interest, now);
            self.roster.close(local);
        }
    }

    /// Adds to this worker's subscriber connections. Nobody else writes the figure.
    pub(super) fn count_subscribers(&self, more: i64) {
        let subscribers = &self.store.my_seat().subscribers;
        self.store.arena.put64(subscribers, subscribers.get().saturating_add_signed(more));
    }

    fn check_subscriber(
        &mut self,
        request: &Subscribe<'_>,
        rules: &Rules,
        now: Seconds,
    ) -> Result<(), Refusal> {
        if request.requested.is_empty() {
            return Err(Refusal::NoChannelId);
        }
        let mut wildcards = 0;
        for (id, _) in request.requested {
            rules.check_id(id)?;
            let wildcard = rules.is_wildcard(id);
            wildcards += u64::from(wildcard);
            let hash = self.store.hash(id);
            let section = self.store.section(self.store.shard_of(hash));
            let channel = section.find(hash, id).map(|handle| section.get(handle));
            if request.authorized_only
                && !wildcard
                && !channel.is_some_and(|channel| has_unexpired(&section, channel, now))
            {
                return Err(Refusal::MayNotCreateChannels);
            }
            if channel.is_some_and(|channel| is_full(&section, channel, rules)) {
                return Err(Refusal::TooManySubscribers);
            }
            if rules.is_events(id) && !request.events_channel_allowed {
                return Err(Refusal::EventsChannelNotAllowed);
            }
        }
        let all = request.requested.len() as u64;
        if wildcards > 0
            && request.wildcard_max.is_some_and(|max| wildcards > max || wildcards == all)
        {
            return Err(Refusal::TooManyWildcardChannels);
        }
        let mut new = (0, 0);
        for (id, _) in request.requested {
            self.check_room_for(id, &mut new, rules)?;
        }
        Ok(())
    }

    fn attach_to(
        &mut self,
        id: &[u8],
        backtrack: Option<u64>,
        request: &Subscribe<'_>,
        subscribed: &mut Subscribed,
        rules: &Rules,
        now: Seconds,
    ) -> Result<(), Refusal> {
        loop {
            let done = self.with_room(now, |hub| {
                hub.try_attach(id, backtrack, request, subscribed, rules, now)
            });
            match done {
                None => return Err(Refusal::NoMemory { message: false }),
                Some(Err(refusal)) => return Err(refusal),
                Some(Ok(None)) => {
                    // Gone since: again.
                    if self.create(id, 0, rules, now)?.created {
                        self.notify("channel_created", id, rules, now);
                    }
                }
                Some(Ok(Some(attached))) => {
                    self.enrol(id, attached, request, subscribed);
                    return Ok(());
                }
            }
        }
    }

    /// One section: the interest, and a reader for the backlog. `None`: no memory.
    fn try_attach(
        &self,
        id: &[u8],
        backtrack: Option<u64>,
        request: &Subscribe<'_>,
        subscribed: &mut Subscribed,
        rules: &Rules,
        now: Seconds,
    ) -> Option<Result<Option<Attached>, Refusal>> {
        let hash = self.store.hash(id);
        let shard = self.store.shard_of(hash);
        let section = self.store.section(shard);
        let Some(handle) = section.find(hash, id) else { return Some(Ok(None)) };
        let channel = section.get(handle);
        if is_full(&section, channel, rules) {
            return Some(Err(Refusal::TooManySubscribers));
        }
        let newest = channel.published.get();
        let mut attached = Attached { shard, interest: None, local: None, newest, backlog: None };
        if request.stay == Stay::Live {
            let interest = match section.my_interest(channel) {
                Some(interest) => {
                    let token = &section.get(interest).token;
                    if self.roster.local(token.get(), interest).is_some() {
                        attached.local = Some(token.get());
                    } else {
                        // A panic came between the zone and the roster: its number may be another
                        // channel's by now.
                        section.set32(token, self.roster.next_local());
                    }
                    interest
                }
                None => {
                    let token = self.roster.next_local();
                    section.make_interest(handle, LIVE, token, newest, None)?
                }
            };
            let record = section.get(interest);
            section.set32(&record.subscribers, record.subscribers.get() + 1);
            section.touch(handle, now);
            attached.interest = Some(interest);
        }
        let selection = Selection::new(backtrack, request.since);
        if !selection.is_nothing() && channel.stored.get() > 0 {
            let stored = channel.stored.get();
            attached.backlog = Backlog::open(&section, handle, shard, id, &selection, stored)?;
        }
        let bound = request.bounded && subscribed.bound.is_none();
        let stamp = bound.then(|| {
            let commons = section.commons();
            (commons.time.time(), commons.tag.get())
        });
        section.commit();
        subscribed.bound = subscribed.bound.or(stamp);
        Some(Ok(Some(attached)))
    }

    fn enrol(
        &mut self,
        id: &[u8],
        attached: Attached,
        request: &Subscribe<'_>,
        subscribed: &mut Subscribed,
    ) {
        if let Some(interest) = attached.interest {
            let local = attached.local.unwrap_or_else(|| {
                let shard = attached.shard;
                self.roster.open(Local { interest, shard, id: id.into(), groups: Vec::new() })
            });
            let listener = Listener { token: request.token, after: attached.newest };
            self.roster.join(local, request.form, listener);
        }
        if let Some(mut backlog) = attached.backlog {
            backlog.until = attached.newest;
            backlog.selects(request.since);
            self.readers.push((request.token, backlog.reader));
            subscribed.backlogs.push(backlog);
        }
    }

    /// Undoes a subscription of which only a part succeeded.
    fn give_up(&mut self, request: &Subscribe<'_>, subscribed: Subscribed, now: Seconds) {
        for backlog in &subscribed.backlogs {
            self.close_reader(request.token, backlog.reader, now);
        }
        if request.stay == Stay::Live {
            self.drop_subscriber(request.token, now);
        }
    }
}

/// What one section of attaching found and made.
struct Attached {
    shard: usize,
    interest: Option<Handle<crate::store::interest::Interest>>,
    /// The roster's number, if the worker had an interest before.
    local: Option<u32>,
    /// Id of the newest message.
    newest: u64,
    backlog: Option<Backlog>,
}

fn is_full(section: &Section<'_>, channel: &Channel, rules: &Rules) -> bool {
    rules.subscribers_max.is_some_and(|max| section.subscribers(channel) >= max)
}

/// Is anything stored that may still be replayed? The newest ones decide, since they expire last.
///
/// Behind many that do not count (expired and not swept yet, or kept for readers only) nobody looks:
/// the answer is then as old as the last tick.
fn has_unexpired(section: &Section<'_>, channel: &Channel, now: Seconds) -> bool {
    if channel.stored.get() == 0 {
        return false;
    }
    let mut at = channel.last.get();
    for _ in 0..STEPS_BACK_MAX {
        let Some(handle) = at else { return false };
        let message = section.get(handle);
        if message.has(STORED) && message.expires.time() > now {
            return true;
        }
        at = message.prev.get();
    }
    true
}
