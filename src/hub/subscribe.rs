//! Subscribing and leaving.
//!
//! One section registers a subscriber and fixes where its backlog ends: what was published before
//! belongs to the backlog, what comes later is live. So no message is lost between the two or comes
//! twice.

use crate::hub::backlog::Backlog;
use crate::hub::gap::{Case, Findings, Lacks, Missing};
use crate::hub::roster::Local;
use crate::hub::{Hub, Reader, Refusal, Rules};
use crate::model::{Gap, Latest, Listener, Now, Operation, Reached, Seconds, Since, Token};
use crate::store::arena::Handle;
use crate::store::channel::Channel;
use crate::store::interest::{Interest, LIVE};
use crate::store::message::{Message, STORED};
use crate::store::undo::Section;
use crate::wire::resume::Selection;

/// The token of what belongs to no subscriber.
const NOBODY: Token = Token::new(0, 0);

/// At most so many messages are looked at to see whether a channel stores any.
const STEPS_BACK_MAX: usize = 256;
/// Subscribing begins anew because of a message that was lost meanwhile, unless it may look at more than this.
const STEPS_EXACT_MAX: usize = STEPS_BACK_MAX << 8;

/// Whether a subscriber stays after its backlog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stay {
    /// Live messages follow.
    Live,
    /// Only the backlog: polling.
    No,
}

/// A subscriber's request.
#[derive(Clone, Copy, Debug)]
pub struct Subscribe<'a> {
    /// Decoded id and backtrack, in request order, without duplicates.
    pub requested: &'a [(&'a [u8], Option<u64>)],
    /// The place in its channels that it states.
    pub since: Since<'a>,
    /// `push_stream_authorized_channels_only`.
    pub authorized_only: bool,
    /// `push_stream_wildcard_channel_max_qtd`, if it is in effect.
    pub wildcard_max: Option<u64>,
    /// `push_stream_allow_connections_to_events_channel`.
    pub events_channel_allowed: bool,
    /// Whether live messages follow.
    pub stay: Stay,
    /// Long polling and polling: messages newer than the answer's cursor wait for the next request.
    pub bounded: bool,
    /// The subscriber is told places that hold for all its channels. So all of them have the same border
    /// between old messages and live ones, and the old ones are handed out in the order of publishing.
    pub ordered: bool,
    /// Subscribers of a channel with the same form get the same bytes. The caller numbers the forms.
    pub form: u32,
    /// The subscriber's name. [`Stay::Live`] registers it, and every delivery hands it back.
    pub token: Token,
}

/// A successful subscription, and the backlog that is still to be read.
#[derive(Debug)]
pub struct Subscribed {
    /// Whose it is.
    pub(super) token: Token,
    pub(super) backlogs: Vec<Backlog>,
    /// Newer messages than its place wait for the next request.
    is_bounded: bool,
    /// Time and tag of the zone when the first channel was looked at, if `bounded` or `ordered`.
    place: Option<(Seconds, u64)>,
    /// The newest message of its only channel then; `None` if it has several.
    latest: Option<Latest>,
    pub(super) is_ordered: bool,
    /// The place from which the subscriber goes on, if it says one.
    since: Option<Box<Reached>>,
    pub(super) findings: Findings,
}

impl Subscribed {
    /// Why the subscriber cannot get all old messages that it asks for, if so.
    pub fn gap(&self) -> Option<Gap> {
        self.findings.gap()
    }

    /// Messages that are newer than this wait for the next request.
    pub(super) fn bound(&self) -> Option<(Seconds, u64)> {
        self.place.filter(|_| self.is_bounded)
    }

    /// What it does not get of each of its channels, if it was `ordered`.
    pub fn missing(&self) -> &[Missing] {
        self.findings.missing()
    }

    /// Time and tag of the zone when the first channel was looked at, if it was `bounded` or `ordered`. If
    /// nothing is held back, the subscriber has what is stored up to there when it has its backlog.
    pub fn place(&self) -> Reached {
        Reached { place: self.place.unwrap_or_default(), latest: self.latest }
    }

    /// Where an ordered subscriber is before its first old message.
    pub fn beginning(&self) -> Beginning {
        let own = self.since.as_deref().copied().filter(|_| self.missing().is_empty());
        Beginning { own, zone: self.place() }
    }

    /// Is there a backlog? Without one [`Hub::read_backlog`] has nothing to do.
    pub fn has_backlog(&self) -> bool {
        !self.backlogs.is_empty()
    }
}

/// Where an ordered subscriber begins.
#[derive(Clone, Copy, Debug)]
pub struct Beginning {
    /// The place that it has named, if it lacks nothing behind it. One that lacks something is told, and goes
    /// on behind that.
    own: Option<Reached>,
    /// That of the zone when it was registered.
    zone: Reached,
}

impl Beginning {
    /// The place that it is told, if this is the last one before its first old message; `None`: it has none.
    pub fn at(self, first: Option<Reached>) -> Reached {
        let Self { own, zone } = self;
        let Some(own) = own else { return first.unwrap_or(zone) };
        match first {
            // Of the first message's channel it lacks nothing in between.
            Some(first) => Reached { place: own.place.min(first.place), ..first },
            None if zone.latest.is_some() => Reached { place: own.place.min(zone.place), ..zone },
            None if own.place <= zone.place => own,
            None => zone,
        }
    }
}

impl Hub {
    /// Checks the request, creates the channels that do not exist, and registers the subscriber.
    ///
    /// # Errors
    ///
    /// The first [`Refusal`] in the order of `docs/protocol.md`, "Limits". Nothing has changed then.
    pub fn subscribe(
        &mut self,
        request: &Subscribe<'_>,
        rules: &Rules,
        now: Now,
    ) -> Result<Subscribed, Refusal> {
        let subscribed = self.try_subscribe(request, rules, now);
        self.note_subscriptions();
        self.counting_refusal(Operation::Subscribe, subscribed)
    }

    fn try_subscribe(
        &mut self,
        request: &Subscribe<'_>,
        rules: &Rules,
        now: Now,
    ) -> Result<Subscribed, Refusal> {
        let (since, gap) = self.locate(request.since);
        let has_cursor = request.since.cursor.is_some();
        let request = &Subscribe { since, ..*request };
        let mut created = Vec::new();
        if let [(id, _)] = request.requested
            && !request.authorized_only
            && !rules.is_wildcard(id)
            && !rules.is_events(id)
        {
            // The section that registers sees whether the channel exists and has room.
            rules.check_id(id)?;
        } else {
            self.check_subscriber(request, rules, now)?;
            created = self.create_all(request, rules, now)?;
        }
        let mut steps_max = STEPS_BACK_MAX;
        loop {
            let has_backtracks = !has_cursor;
            let attached =
                self.attach_all(request, gap, has_backtracks, steps_max, &mut created, rules, now);
            match attached {
                Ok(Some(subscribed)) => return Ok(subscribed),
                // So much is published meanwhile, or what is not stored.
                Ok(None) => steps_max = steps_max.saturating_mul(2),
                Err(refusal) => {
                    for id in created {
                        if self.uncreate(id) {
                            self.notify("channel_destroyed", id, rules, now);
                        }
                    }
                    return Err(refusal);
                }
            }
        }
    }

    /// Registers the subscriber in all channels, or in none. `None`: try again, for more than this many
    /// messages of one channel were published meanwhile.
    #[expect(
        clippy::too_many_arguments,
        reason = "one step of subscribing, split off for its loop"
    )]
    fn attach_all<'a>(
        &mut self,
        request: &Subscribe<'a>,
        gap: Option<Gap>,
        has_backtracks: bool,
        steps_max: usize,
        created: &mut Vec<&'a [u8]>,
        rules: &Rules,
        now: Now,
    ) -> Result<Option<Subscribed>, Refusal> {
        if request.stay == Stay::Live {
            // Nobody, but for a caller that has lost one without a word.
            if let Some(former) = self.roster.tenant(request.token.index()) {
                self.leave(former, rules, now);
            }
            self.roster.add(request.token);
        }
        let names_place = request.ordered && request.since.event_id.is_none();
        let mut subscribed = Subscribed {
            token: request.token,
            backlogs: Vec::new(),
            is_bounded: request.bounded,
            place: None,
            latest: None,
            is_ordered: request.ordered && request.requested.len() > 1,
            // With an event id a channel may begin behind that place.
            since: request.since.time.filter(|_| names_place).map(|time| {
                let place = (time, request.since.tag.unwrap_or(u64::MAX));
                let latest = request.since.cursor.and_then(|cursor| cursor.latest);
                Box::new(Reached { place, latest })
            }),
            findings: Findings::of_cursor(gap, request.ordered),
        };
        let mut cases = Vec::new();
        for (channel, backtrack) in request.requested {
            // A subscriber with a cursor has had what a backtrack is for.
            let backtrack = backtrack.filter(|_| has_backtracks);
            let attached = self.attach_to(
                channel,
                backtrack,
                request,
                &mut subscribed,
                &mut cases,
                steps_max,
                created,
                rules,
                now,
            );
            if !matches!(attached, Ok(true)) {
                self.give_up(request, subscribed, now);
                return attached.map(|_| None);
            }
        }
        self.judge_all(&cases, request.since, &mut subscribed, now);
        subscribed.findings.conclude(request.requested.iter().map(|(id, _)| *id));
        Ok(Some(subscribed))
    }

    /// Creates the channels that do not exist, or none of them; answers which.
    fn create_all<'a>(
        &mut self,
        request: &Subscribe<'a>,
        rules: &Rules,
        now: Now,
    ) -> Result<Vec<&'a [u8]>, Refusal> {
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
        // Before the subscriber is attached: if it asks for the events channel too, it is not told of
        // channels that its own request has created.
        for id in &created {
            self.notify("channel_created", id, rules, now);
        }
        Ok(created)
    }

    /// From here on the subscriber is counted, and the events channel is told. Call it when it is
    /// certain that the subscriber stays, and after its backlog.
    pub fn announce(&mut self, token: Token, rules: &Rules, now: Now) {
        if self.roster.announce(token) {
            self.count_subscribers(1);
            if !rules.events_channel.is_empty() {
                for channel in self.roster.channels_of(token) {
                    self.notify("client_subscribed", &channel, rules, now);
                }
            }
        }
    }

    /// Removes a subscriber that has gone, for whatever reason, and what is left of its backlog. A token
    /// that is not registered is ignored.
    pub fn leave(&mut self, token: Token, rules: &Rules, now: Now) {
        let announced = self.roster.is_announced(token);
        let tell = announced && !rules.events_channel.is_empty();
        let channels = if tell { self.roster.channels_of(token) } else { Vec::new() };
        self.drop_subscriber(token, now);
        self.close_readers(token, now);
        for channel in channels {
            self.notify("client_unsubscribed", &channel, rules, now);
        }
    }

    /// The ids of the channels that a subscriber is subscribed to, in subscription order.
    pub fn channels_of(&self, token: Token) -> Vec<Vec<u8>> {
        self.roster.channels_of(token)
    }

    /// Ends all subscriptions of a subscriber, and the subscriber. If that panics, the next tick tries
    /// again.
    pub(super) fn drop_subscriber(&mut self, token: Token, now: Now) {
        let announced = self.roster.is_announced(token);
        self.leaving.push(token);
        while let Some(place) = self.roster.last_place(token) {
            // In the zone first: if that panics, the roster still knows the subscription.
            let reader = Reader { shard: place.shard, interest: place.interest };
            if self.uncount_listener(reader.shard, reader.interest) == 0 {
                self.drop_interest(reader, now);
                self.roster.leave_last(token);
                self.roster.close(place.local);
            } else {
                self.roster.leave_last(token);
            }
        }
        self.roster.remove(token);
        if announced {
            self.count_subscribers(-1);
        }
        self.note_subscriptions();
        self.leaving.pop();
    }

    /// This interest has one subscription less. Answers how many are left.
    pub(super) fn uncount_listener(&self, shard: usize, interest: Handle<Interest>) -> u32 {
        let section = self.store.section(shard);
        let subscribers = &section.get(interest).subscribers;
        let left = subscribers.get().saturating_sub(1);
        section.set32(subscribers, left);
        section.commit();
        left
    }

    /// Drops an interest without listeners. If that panics, the next tick tries again.
    pub(super) fn drop_interest(&mut self, reader: Reader, now: Now) {
        self.readers.get_mut().push((NOBODY, reader));
        self.close_reader(NOBODY, reader, now);
    }

    /// Adds to the number of this worker's subscriber connections. No other process writes it.
    pub(super) fn count_subscribers(&self, more: i64) {
        let subscribers = &self.store.my_seat().subscribers;
        self.store.arena.put64(subscribers, subscribers.get().saturating_add_signed(more));
    }

    fn check_subscriber(
        &mut self,
        request: &Subscribe<'_>,
        rules: &Rules,
        now: Now,
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

    #[expect(
        clippy::too_many_arguments,
        reason = "one step of subscribing, split off for its loop"
    )]
    fn attach_to<'a>(
        &mut self,
        id: &'a [u8],
        backtrack: Option<u64>,
        request: &Subscribe<'a>,
        subscribed: &mut Subscribed,
        cases: &mut Vec<Case<'a>>,
        steps_max: usize,
        created: &mut Vec<&'a [u8]>,
        rules: &Rules,
        now: Now,
    ) -> Result<bool, Refusal> {
        loop {
            let mut is_overtaken = false;
            let done = self.with_room(now, |hub| {
                let attempt = (steps_max, &mut is_overtaken);
                hub.try_attach(id, backtrack, request, subscribed, attempt, rules, now)
            });
            if is_overtaken {
                return Ok(false);
            }
            match done {
                None => return Err(Refusal::NoMemory { message: false }),
                Some(Err(refusal)) => return Err(refusal),
                Some(Ok(None)) => {
                    // The channel is not there, has gone, or its backlog is not ready: try again.
                    if self.create(id, 0, rules, now)?.created {
                        created.push(id);
                        self.notify("channel_created", id, rules, now);
                    }
                }
                Some(Ok(Some(attached))) => {
                    let Attached { lacks, missed, newest, .. } = attached;
                    if lacks.is_some() || missed.is_some() {
                        let backlog =
                            attached.backlog.is_some().then_some(subscribed.backlogs.len());
                        cases.push(Case { channel: id, newest, lacks, backlog, missed });
                    }
                    self.enrol(id, attached, request, subscribed);
                    return Ok(true);
                }
            }
        }
    }

    /// One section: makes the interest, and a reader for the backlog. The outer `None`: there is no
    /// memory. The inner `None`: the channel does not exist, or its backlog cannot be opened yet.
    ///
    /// `attempt`: how many live messages may have come since the first channel of an `ordered` subscriber was
    /// attached, and whether there were more.
    #[expect(clippy::too_many_arguments, reason = "one section, split off for its loop")]
    fn try_attach(
        &self,
        id: &[u8],
        backtrack: Option<u64>,
        request: &Subscribe<'_>,
        subscribed: &mut Subscribed,
        (steps_max, is_overtaken): (usize, &mut bool),
        rules: &Rules,
        now: Now,
    ) -> Option<Result<Option<Attached>, Refusal>> {
        let hash = self.store.hash(id);
        let shard = self.store.shard_of(hash);
        let section = self.store.section(shard);
        let Some(handle) = section.find(hash, id) else { return Some(Ok(None)) };
        let channel = section.get(handle);
        if is_full(&section, channel, rules) {
            return Some(Err(Refusal::TooManySubscribers));
        }
        if channel.stored() > 0 && section.oldest_stored(channel).is_none() {
            section.commit();
            return Some(Ok(None)); // Another section goes on searching.
        }
        let selection = Selection::new(backtrack, request.since);
        let border = subscribed.place.filter(|_| subscribed.is_ordered);
        let (mut newest, mut first_live) = (channel.published.get(), None);
        if let Some(border) = border {
            let Ok(first) = first_behind(&section, channel, border, steps_max) else {
                *is_overtaken = true;
                return Some(Ok(None));
            };
            // A message that was lost since then may come as a live one, and nobody knows of those before it.
            let is_lost = section.store.lost(channel).is_some_and(|(place, _)| place > border);
            let is_new = section.my_interest(channel).is_none();
            if is_lost
                && request.stay == Stay::Live
                && (is_new || selection.resumes())
                && steps_max <= STEPS_EXACT_MAX
            {
                *is_overtaken = true;
                return Some(Ok(None));
            }
            first_live = first;
            newest = first.map_or(newest, |first| section.get(first).id().saturating_sub(1));
        }
        let mut attached = Attached {
            shard,
            interest: None,
            local: None,
            newest,
            backlog: None,
            lacks: None,
            missed: None,
            is_told: true,
        };
        if request.stay == Stay::Live {
            let interest = match section.my_interest(channel) {
                Some(interest) => {
                    let token = &section.get(interest).token;
                    if self.roster.local(token.get(), interest).is_some() {
                        attached.local = Some(token.get());
                    } else {
                        // After a panic the roster does not know this interest, and its number may
                        // belong to another channel by now.
                        section.set32(token, self.roster.next_local());
                    }
                    interest
                }
                None => {
                    let token = self.roster.next_local();
                    attached.is_told = first_live.is_none();
                    let lost = border.and_then(|border| {
                        section.store.lost(channel).filter(|(place, _)| *place > border)
                    });
                    attached.missed = lost.map(|(_, reason)| reason);
                    section.make_interest(handle, LIVE, token, newest, first_live)?
                }
            };
            let record = section.get(interest);
            section.set32(&record.subscribers, record.subscribers.get() + 1);
            section.touch(handle, now.steady);
            attached.interest = Some(interest);
        }
        if let [_] = request.requested {
            subscribed.latest = Some(channel.latest());
        }
        if !selection.is_nothing() && channel.stored() > 0 {
            let stored = channel.stored();
            attached.backlog = Backlog::open(&section, handle, shard, id, &selection, stored)?;
        }
        if selection.resumes() {
            attached.lacks = Some(Lacks::of(&section, channel, now));
        }
        let is_placed = request.bounded || request.ordered;
        let stamp = (is_placed && subscribed.place.is_none()).then(|| {
            let commons = section.commons();
            (commons.time.time(), commons.tag.get())
        });
        section.commit();
        let reader = attached.backlog.as_ref().map(|backlog| (request.token, backlog.reader));
        self.readers.borrow_mut().extend(reader);
        subscribed.place = subscribed.place.or(stamp);
        if let Some(interest) = attached.interest.filter(|_| !attached.is_told) {
            // Those who have published these messages did not know of it.
            let section = self.store.section(shard);
            section.push_inbox(interest);
            section.commit();
        }
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
                let (id, groups) = (id.into(), Vec::new());
                self.roster.open(Local { interest, shard, id, groups, ending: None })
            });
            let listener = Listener { token: request.token, after: attached.newest };
            self.roster.join(local, request.form, listener);
        }
        if let Some(mut backlog) = attached.backlog {
            backlog.until = attached.newest;
            backlog.selects(request.since);
            subscribed.backlogs.push(backlog);
        }
    }

    /// Undoes a subscription that failed halfway.
    fn give_up(&mut self, request: &Subscribe<'_>, subscribed: Subscribed, now: Now) {
        for backlog in &subscribed.backlogs {
            self.close_reader(request.token, backlog.reader, now);
        }
        if request.stay == Stay::Live {
            self.drop_subscriber(request.token, now);
        }
    }
}

/// The result of [`Hub::try_attach`].
struct Attached {
    shard: usize,
    interest: Option<Handle<Interest>>,
    /// The channel's number in the roster, if the worker had an interest before.
    local: Option<u32>,
    /// Id of the newest message.
    newest: u64,
    backlog: Option<Backlog>,
    /// If it resumes: what the channel lacks.
    lacks: Option<Lacks>,
    /// Why the channel does not have all messages that came since the first channel was attached, if so.
    missed: Option<Gap>,
    /// The worker knows whether there are live messages already.
    is_told: bool,
}

/// The first message of the channel's log behind this place. `Err`: there are more than so many.
fn first_behind(
    section: &Section<'_>,
    channel: &Channel,
    place: (Seconds, u64),
    steps_max: usize,
) -> Result<Option<Handle<Message>>, ()> {
    let mut first = None;
    let mut at = channel.last.get();
    for _ in 0..steps_max {
        let Some(handle) = at else { return Ok(first) };
        let message = section.get(handle);
        if section.store.place(message) <= place {
            return Ok(first);
        }
        first = Some(handle);
        at = message.prev.get();
    }
    Err(())
}

fn is_full(section: &Section<'_>, channel: &Channel, rules: &Rules) -> bool {
    rules.subscribers_max.is_some_and(|max| section.subscribers(channel) >= max)
}

/// Does the channel store a message that may still be replayed? Looks at the newest ones first, since
/// they expire last.
///
/// It gives up behind many messages that do not count, because they have expired and were not swept
/// yet, or are kept for readers only. The answer is then as old as the last tick.
fn has_unexpired(section: &Section<'_>, channel: &Channel, now: Now) -> bool {
    if channel.stored() == 0 {
        return false;
    }
    let mut at = channel.last.get();
    for _ in 0..STEPS_BACK_MAX {
        let Some(handle) = at else { return false };
        let message = section.get(handle);
        if message.has(STORED) && section.store.steady(&message.expires) > now.steady {
            return true;
        }
        at = message.prev.get();
    }
    true
}
