//! A poll: one answer, at once or when there is something to say.
//!
//! ```text
//!   old messages? ── yes ──► 200 with all of them, the first portion at once
//!        │ no
//!        ├── polling ──────► 304
//!        └── long polling ─► waits; the first of: a live message, its time is over, goodbye
//! ```
//!
//! A poll that waits has sent nothing, not even a header. It is answered by the oldest live message of
//! all its channels, by time and tag, or by the notice of a deletion if that is older. For the client's
//! next request asks for what is newer: an answer must never announce a place beyond a message that the
//! client has not had, be it one of a channel that was made again after its deletion.

use crate::model::{Gap, Latest, Message, Reached, Token};
use crate::session::Layout;
use crate::session::audience::{Audience, Mode, State};
use crate::session::counts::Published;
use crate::session::departure::{Cut, Departure, How, Reason};
use crate::session::due::Kind;
use crate::session::fanout::Order;
use crate::session::link::{Host, Link};
use crate::session::outbox::Piece;
use crate::session::reply::Body;
use crate::wire::jsonp::Callback;
use crate::wire::resume::Announced;

/// Polls that are answered before other connections of the worker have a turn.
const ANSWERS_MAX: usize = 1000;
/// How often the backlog is looked at because messages come faster than we look.
const ATTEMPTS_MAX: u32 = 4;

/// What a poll needs for its answer.
#[derive(Debug, Default)]
pub struct Poll {
    callback: Option<Callback>,
    /// Whether it says more than 304 when its time is over.
    says_timed_out: bool,
    /// Where its client says it is.
    since: Announced,
    /// The place until which there was nothing for it when it asked.
    asked_at: Reached,
    /// What it is told of gaps, ahead of all messages.
    told: Vec<u8>,
    found: Option<Found>,
}

/// The message that will answer the poll, unless an older one turns up.
#[derive(Debug)]
struct Found {
    order: Order,
    /// It is this message of its channel; `None`: a notice.
    latest: Option<Latest>,
    /// When it was published.
    published: Published,
    message: Piece,
}

/// The answer to a poll that has waited.
#[derive(Debug)]
pub struct Answer {
    /// The place that the client is told in the old way.
    pub announced: Announced,
    /// The place up to which it has all messages of its channels with this answer.
    pub place: Reached,
    /// Why the client does not get all old messages that it has asked for, if so.
    pub gap: Option<Gap>,
    /// It is JSONP.
    pub has_callback: bool,
    /// `None`: 304, without a body.
    pub body: Option<Body>,
}

/// What comes of a look at the old messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// 200 with them.
    Answer,
    /// 304.
    NotModified,
    /// What was published while we looked can be had now: subscribe and look again.
    LookAgain,
    /// Wait for a live message.
    Wait,
}

impl Step {
    /// After so many looks, of which the last one found so many messages. `held_back`: there are some
    /// that are too new for this answer. `is_told`: a gap is told in the answer, and the client takes the
    /// answer's place.
    pub fn after(looks: u32, messages: u64, held_back: bool, waits: bool, is_told: bool) -> Self {
        if messages > 0 || is_told {
            Self::Answer
        } else if !waits || held_back && looks >= ATTEMPTS_MAX {
            Self::NotModified
        } else if held_back {
            Self::LookAgain
        } else {
            Self::Wait
        }
    }
}

impl Poll {
    /// A poll of a client that says it is at `since`. It has found nothing yet.
    pub fn new(callback: Option<Callback>, says_timed_out: bool, since: Announced) -> Self {
        let (asked_at, told) = (Reached::default(), Vec::new());
        Self { callback, says_timed_out, since, asked_at, told, found: None }
    }

    #[cfg(test)]
    pub(super) fn has_found(&self) -> bool {
        self.found.is_some()
    }

    /// Takes a live message into account, or the notice of a deletion. `true` if it is the first one.
    pub(super) fn offer(
        &mut self,
        order: Order,
        latest: Option<Latest>,
        published: Published,
        render: impl FnOnce() -> Piece,
    ) -> bool {
        if self.found.as_ref().is_some_and(|found| found.order <= order) {
            return false;
        }
        self.found.replace(Found { order, latest, published, message: render() }).is_none()
    }

    /// The answer with what it has found, else as for a poll whose time is over. `place`: from where
    /// the client has to ask again if no message says it.
    fn answer(self, layout: &Layout, place: Reached, gap: Option<Gap>) -> Answer {
        let Self { callback, says_timed_out, since, asked_at, told, found } = self;
        let is_placed = found.as_ref().is_some_and(|found| !found.order.is_notice);
        // What the worker has still to hand out may be older than the poll.
        let (place, message) = match found {
            Some(Found { order, message, .. }) if order.is_notice => {
                (place.min(order.place().into()).max(asked_at), Some(message))
            }
            Some(Found { order, latest, message, .. }) => {
                (Reached { place: order.place(), latest }, Some(message))
            }
            None if says_timed_out => {
                let mut text = Vec::new();
                layout.form().render(&Message::timed_out(), &mut text);
                (place.max(asked_at), Some(Piece::of(text)))
            }
            None => (place.max(asked_at), None),
        };
        let (time, tag) = place.place;
        let announced = if is_placed { Announced::message(time, tag) } else { since.now(time) };
        let has_callback = callback.is_some();
        let has_body = message.is_some() || !told.is_empty();
        let body = has_body.then(|| Body::around(layout, callback.as_ref(), &told, message));
        Answer { announced, place, gap, has_callback, body }
    }
}

impl<H: Host> Audience<H> {
    /// Takes a poll in.
    pub fn admit_poll(
        &self,
        link: H::Link,
        form: u32,
        has_many_channels: bool,
        poll: Poll,
    ) -> Token {
        self.admit(link, form, has_many_channels, Mode::Poll(Box::new(poll)))
    }

    /// The answer begins with this: what [`crate::session::reply::gaps`] has rendered.
    pub fn tell(&self, token: Token, told: Vec<u8>) {
        self.change(token, |subscriber| {
            if let Mode::Poll(poll) = &mut subscriber.mode {
                poll.told = told;
            }
        });
    }

    /// The poll waits, so long at the most. There was nothing for it until the place `asked_at`.
    pub fn wait(&self, token: Token, asked_at: Reached, ttl_msec: Option<usize>, now_msec: usize) {
        let records = &mut *self.records.borrow_mut();
        if let Some(subscriber) = records.slots.get(token) {
            subscriber.state = State::Open;
            if let Mode::Poll(poll) = &mut subscriber.mode {
                poll.asked_at = asked_at;
            }
        }
        if let Some(ttl_msec) = ttl_msec {
            records.join(token, Kind::End, ttl_msec, now_msec);
        }
    }

    /// The poll is answered at once, with so many messages.
    pub fn answered(&self, token: Token, messages: usize) {
        self.count(token, messages);
        self.change(token, |subscriber| subscriber.reason = Reason::Answered);
    }

    /// So many old messages are given to the subscriber.
    pub fn count(&self, token: Token, messages: usize) {
        self.records.borrow_mut().replay(token, messages);
    }

    pub(super) fn is_poll(&self, token: Token) -> bool {
        let records = &mut *self.records.borrow_mut();
        matches!(records.slots.get(token).map(|s| &s.mode), Some(Mode::Poll(_)))
    }

    /// Answers polls that have found their message, a bounded number of them, but for those that wait for
    /// the hub. `true`: there are more.
    pub(super) fn answer_ready(&self, host: &H) -> bool {
        let count = self.records.borrow().answered.len();
        for _ in 0..count.min(ANSWERS_MAX) {
            let Some(token) = self.records.borrow_mut().answered.pop_front() else { break };
            self.at_work.set(Some(token));
            if self.is_overtaken(host, token) {
                self.records.borrow_mut().answered.push_back(token);
            } else if self.has_found(token) {
                self.answer(host, token);
            }
            self.at_work.set(None);
        }
        count > ANSWERS_MAX
    }

    /// The time of a poll that waits is over: answers it, whether it has found something or not.
    pub(super) fn end_poll(&self, host: &H, token: Token) {
        if self.is_overtaken(host, token) {
            if host.has_rounds() {
                // In one of them the hub hands out the older message, which is then the answer.
                return;
            }
            // Its next request gets both.
            self.change(token, |subscriber| {
                if let Mode::Poll(poll) = &mut subscriber.mode {
                    poll.found = None;
                }
            });
        }
        self.answer(host, token);
    }

    /// Has a poll found a message, and has the hub an older one for it? Then it has several channels.
    fn is_overtaken(&self, host: &H, token: Token) -> bool {
        let found = self.found_among_many(token);
        found.is_some_and(|order| host.has_older(token, order.until()))
    }

    /// The place of what a poll of several channels has found.
    fn found_among_many(&self, token: Token) -> Option<Order> {
        let records = &mut *self.records.borrow_mut();
        let subscriber = records.slots.get(token).filter(|s| s.has_many_channels)?;
        match &subscriber.mode {
            Mode::Poll(poll) => Some(poll.found.as_ref()?.order),
            Mode::Stream(_) => None,
        }
    }

    fn has_found(&self, token: Token) -> bool {
        let records = &mut *self.records.borrow_mut();
        let subscriber = records.slots.get(token);
        matches!(subscriber.map(|s| &s.mode), Some(Mode::Poll(poll)) if poll.found.is_some())
    }

    fn answer(&self, host: &H, token: Token) {
        if let Some(departure) = self.answer_now(host, token) {
            host.depart(departure);
        }
    }

    /// The answer of a poll with what it has found, else as for one whose time is over. Also in the
    /// handler that opens the request.
    pub fn answer_now(&self, host: &H, token: Token) -> Option<Departure<H::Link>> {
        let is_placed = {
            let records = &mut *self.records.borrow_mut();
            let subscriber = records.slots.get(token)?;
            let Mode::Poll(poll) = &subscriber.mode else { return None };
            if subscriber.state == State::Broken {
                return None;
            }
            let is_placed = poll.found.as_ref().is_some_and(|found| !found.order.is_notice);
            if let Some(found) = &poll.found {
                if let Some(delivery) = subscriber.served_as {
                    records.counts.gave(delivery, 1);
                }
                records.counts.waits(found.published, 1);
                subscriber.count(1);
                subscriber.reason = Reason::Answered;
            }
            is_placed
        };
        // Before it leaves its channels: after that nobody knows what it has missed.
        let place = if is_placed { Reached::default() } else { host.resume_from(token) };
        self.depart(host, token, |subscriber| match &mut subscriber.mode {
            Mode::Poll(poll) => {
                let poll = core::mem::take(&mut **poll);
                How::Answered(poll.answer(subscriber.link.layout(), place, subscriber.gap))
            }
            Mode::Stream(_) => How::Cut(Cut::Lost),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::departure::Cut;
    use crate::session::sim::link::{End, Fault};
    use crate::session::sim::solo::{NOW_MSEC, Solo, message, reason};

    /// Its answer would announce the place of what it has found, beyond the older message.
    #[test]
    fn a_poll_whose_time_is_over_passes_over_no_older_message() {
        for has_rounds in [true, false] {
            let worker = Solo::new();
            let (token, link) = worker.poll(true, Poll::new(None, false, Announced::default()));
            let newer = Message { time: 7, ..message("b", 1, "newer") };
            let older = Message { time: 6, ..message("a", 1, "older") };
            worker.give(&[token], &[newer]);
            worker.oldest.set(Some((6, 1)));
            worker.resume_from.set((6, 0));
            worker.write();
            assert_eq!(link.end(), None, "it waits for the older one");
            worker.has_rounds.set(has_rounds);
            worker.audience.dismiss(&worker, token, Reason::Ttl);
            if !has_rounds {
                assert_eq!(link.end(), Some(End::Answered(Announced::default().now(6), None)));
                assert_eq!(reason(&link), Some(Reason::Ttl));
                continue;
            }
            assert_eq!(link.end(), None, "it still waits");
            worker.give(&[token], &[older]);
            worker.oldest.set(None);
            worker.write();
            let body = b"[a 1 older]<foot>".to_vec();
            assert_eq!(
                link.end(),
                Some(End::Answered(Announced::message(older.time, older.tag), Some(body)))
            );
            assert_eq!(reason(&link), Some(Reason::Answered));
            worker.assert_empty();
        }
    }

    /// The channel may have been made again since then, and have messages.
    #[test]
    fn the_answer_to_a_deletion_announces_when_that_was() {
        for (resume_from, announced) in [
            ((600, 0), (500, 3)),
            ((500, 4), (500, 3)),
            ((500, 3), (500, 3)),
            ((500, 2), (500, 2)),
            ((499, 9), (499, 9)),
        ] {
            let worker = Solo::new();
            let (token, link) = worker.poll(true, Poll::new(None, false, Announced::default()));
            let notice = Message::deleted(b"a", b"gone");
            worker.give_in_order(&[token], &[notice], Some((500, 3)));
            worker.resume_from.set(resume_from);
            worker.write();
            let Some(End::Answered(place, _)) = link.end() else { panic!("an answer") };
            assert_eq!(place, Announced::default().now(announced.0), "{resume_from:?}");
            assert_eq!(link.place.get(), Some(announced.into()), "{resume_from:?}");
        }
    }

    /// The worker may have older messages, for others: they were there when the client asked.
    #[test]
    fn an_answer_goes_back_behind_no_message_that_was_there_when_the_client_asked() {
        let since = |time, tag| Announced { time, tag };
        for (had, announced) in [
            (since(500, Some(7)), since(500, Some(7))),
            (since(499, Some(7)), since(500, Some(0))),
            (since(502, Some(7)), since(500, Some(0))),
        ] {
            let worker = Solo::new();
            let (token, link) = worker.poll(true, Poll::new(None, false, had));
            worker.audience.wait(token, (500, 0).into(), None, NOW_MSEC);
            worker.resume_from.set((400, 9));
            worker.audience.dismiss(&worker, token, Reason::Shutdown);
            assert_eq!(link.end(), Some(End::Answered(announced, None)));
            assert_eq!(link.place.get(), Some((500, 0).into()));
        }
    }

    /// A reload, or a deletion, in the second of the last message that the client has had: it does not get
    /// that one again.
    #[test]
    fn an_answer_without_a_message_goes_back_behind_no_message_that_the_client_has_had() {
        let since = |time, tag| Announced { time, tag };
        for (had, announced) in [
            (since(500, Some(7)), since(500, Some(7))),
            (since(500, None), since(500, Some(0))),
            (since(499, Some(7)), since(500, Some(0))),
            (since(501, Some(7)), since(500, Some(0))),
            (since(0, None), since(500, Some(0))),
        ] {
            for is_deleted in [false, true] {
                let worker = Solo::new();
                let (token, link) = worker.poll(false, Poll::new(None, false, had));
                worker.resume_from.set((500, 0));
                if is_deleted {
                    worker.give(&[token], &[Message::deleted(b"a", b"gone")]);
                    worker.write();
                } else {
                    worker.audience.dismiss(&worker, token, Reason::Shutdown);
                }
                let Some(End::Answered(place, _)) = link.end() else { panic!("an answer") };
                assert_eq!(place, announced, "{had:?}");
            }
        }
    }

    #[test]
    fn what_comes_of_a_look_at_the_old_messages() {
        for looks in 1..=2 * ATTEMPTS_MAX {
            for (held_back, waits) in [(false, false), (false, true), (true, false), (true, true)] {
                let step = |messages| Step::after(looks, messages, held_back, waits, false);
                assert_eq!(Step::after(looks, 0, held_back, waits, true), Step::Answer);
                assert_eq!(step(1), Step::Answer);
                assert_eq!(step(u64::MAX), Step::Answer);
                let expected = match (held_back, waits) {
                    (_, false) => Step::NotModified,
                    (false, true) => Step::Wait,
                    (true, true) if looks < ATTEMPTS_MAX => Step::LookAgain,
                    (true, true) => Step::NotModified,
                };
                assert_eq!(step(0), expected, "{looks} {held_back} {waits}");
            }
        }
    }

    #[test]
    fn a_time_that_is_over_is_304_or_says_so() {
        let callback = Callback::parse(b"cb").expect("a name");
        for (says, callback, body) in [
            (false, None, None),
            (false, Some(callback.clone()), None),
            (true, None, Some(&b"[ -3 Timed out]<foot>"[..])),
            (true, Some(callback), Some(b"cb([[ -3 Timed out]]);<foot>")),
        ] {
            let worker = Solo::new();
            let (token, link) = worker.poll(false, Poll::new(callback, says, Announced::default()));
            worker.audience.wait(token, (0, 0).into(), Some(1000), NOW_MSEC);
            worker.audience.work_off_due(&worker, NOW_MSEC + 990);
            assert_eq!(link.end(), None);
            worker.audience.work_off_due(&worker, NOW_MSEC + 1010);
            let announced = Announced::default().now(500);
            assert_eq!(link.end(), Some(End::Answered(announced, body.map(<[u8]>::to_vec))));
            assert_eq!(reason(&link), Some(Reason::Ttl));
            assert!(worker.has_left(token));
            worker.assert_empty();
        }
    }

    /// It has waited because it has named no place. So it has none that it could go on from.
    #[test]
    fn a_gap_is_told_with_whatever_answers_a_poll_that_has_waited() {
        let told = || b"[ -4 gap]".to_vec();
        for (says_timed_out, has_message, body) in [
            (false, true, "[ -4 gap][a 1 one]<foot>"),
            (false, false, "[ -4 gap]<foot>"),
            (true, false, "[ -4 gap][ -3 Timed out]<foot>"),
        ] {
            let poll = Poll::new(None, says_timed_out, Announced::default());
            let worker = Solo::new();
            let (token, link) = worker.poll(false, poll);
            worker.audience.tell(token, told());
            worker.audience.wait(token, (0, 0).into(), Some(1000), NOW_MSEC);
            if has_message {
                worker.give(&[token], &[message("a", 1, "one")]);
                worker.write();
            } else {
                worker.audience.work_off_due(&worker, NOW_MSEC + 1010);
            }
            let Some(End::Answered(_, answer)) = link.end() else { panic!("an answer") };
            assert_eq!(String::from_utf8_lossy(&answer.expect("a body")), body);
            worker.assert_empty();
        }
    }

    /// One message answers it. Its client asks for the others, if they are stored.
    #[test]
    fn a_poll_is_answered_once() {
        let worker = Solo::new();
        let (token, link) = worker.poll(false, Poll::new(None, false, Announced::default()));
        worker.give(&[token], &[message("a", 1, "one"), message("a", 2, "two")]);
        worker.give(&[token], &[message("a", 3, "three")]);
        worker.write();
        let body = b"[a 1 one]<foot>".to_vec();
        assert_eq!(link.end(), Some(End::Answered(Announced::message(1, 1), Some(body))));
        assert_eq!(link.entry.get().map(|entry| entry.messages_sent), Some(1));
        worker.give(&[token], &[message("a", 4, "four")]);
        worker.audience.unsubscribed(token, 0);
        worker.write();
        worker.assert_empty();
    }

    #[test]
    fn a_round_answers_a_bounded_number() {
        let worker = Solo::new();
        let count = if cfg!(miri) { 3 } else { ANSWERS_MAX + 3 };
        let poll = || worker.poll(false, Poll::new(None, false, Announced::default()));
        let (tokens, links): (Vec<_>, Vec<_>) = (0..count).map(|_| poll()).unzip();
        worker.give(&tokens, &[message("a", 1, "one")]);
        let answered = || links.iter().filter(|link| link.has_ended()).count();
        worker.write_once();
        assert_eq!(
            (answered(), worker.goes_on.get()),
            (count.min(ANSWERS_MAX), count > ANSWERS_MAX)
        );
        worker.write();
        assert_eq!(answered(), count);
        worker.assert_empty();
    }

    #[test]
    fn the_oldest_one_answers_be_it_a_message_or_a_notice() {
        let at = |time, id| Message { time, ..message("a", id, "text") };
        let (one, two) = (at(7, 1), at(7, 2));
        let notice = Message::deleted(b"b", b"gone");
        let deleted_at = |tag| (notice, Some((7, tag)));
        let cases: &[(&[(Message<'_>, _)], _, _)] = &[
            (&[(two, None), (one, None)], "[a 1 text]", Announced::message(one.time, one.tag)),
            (&[(one, None), (two, None)], "[a 1 text]", Announced::message(one.time, one.tag)),
            (&[deleted_at(1), (two, None)], "[b -2 gone]", Announced::default().now(7)),
            (&[(two, None), deleted_at(1)], "[b -2 gone]", Announced::default().now(7)),
            (&[(two, None), deleted_at(2)], "[a 2 text]", Announced::message(two.time, two.tag)),
            (&[deleted_at(2), (two, None)], "[a 2 text]", Announced::message(two.time, two.tag)),
        ];
        for (offers, body, announced) in cases {
            let worker = Solo::new();
            worker.resume_from.set((7, 9));
            let (token, link) = worker.poll(true, Poll::new(None, false, Announced::default()));
            for (message, deleted_at) in *offers {
                worker.give_in_order(&[token], &[*message], *deleted_at);
            }
            worker.write();
            let body = format!("{body}<foot>").into_bytes();
            assert_eq!(link.end(), Some(End::Answered(*announced, Some(body))), "{offers:?}");
            let is_first = |message: &Message<'_>| message.time == 7 && message.tag == 1;
            let has_first = offers.iter().any(|(message, at)| at.is_none() && is_first(message));
            let is_early = offers.iter().any(|(_, at)| *at == Some((7, 1)));
            let place = if has_first || is_early { (7, 1) } else { (7, 2) };
            assert_eq!(link.place.get().map(|reached| reached.place), Some(place), "{offers:?}");
        }
    }

    /// What the hub still has counts as older than a notice until the deletion, and than a message until
    /// just before it.
    #[test]
    fn a_poll_waits_for_what_is_older() {
        let newer = Message { time: 7, ..message("a", 4, "newer") };
        let notice = Message::deleted(b"b", b"gone");
        let cases = [(newer, None, 3, true), (newer, None, 4, false)];
        let notices = [(notice, Some((7, 4)), 4, true), (notice, Some((7, 4)), 5, false)];
        for (found, deleted_at, oldest, waits) in cases.into_iter().chain(notices) {
            let worker = Solo::new();
            let (token, link) = worker.poll(true, Poll::new(None, false, Announced::default()));
            worker.give_in_order(&[token], &[found], deleted_at);
            worker.oldest.set(Some((7, oldest)));
            worker.write();
            assert_eq!(link.end().is_none(), waits, "{found:?} {oldest}");
        }
    }

    /// At whatever call it panics, the client is not left waiting for ever.
    #[test]
    fn a_panic_over_an_answer_ends_the_poll() {
        for number in 0.. {
            let worker = Solo::new();
            let (token, link) = worker.poll(false, Poll::new(None, true, Announced::default()));
            worker.give(&[token], &[message("a", 1, "one")]);
            link.fails_at(number, Fault::Panic);
            worker.write();
            worker.assert_empty();
            assert!(worker.has_left(token));
            if reason(&link) == Some(Reason::Answered) {
                assert!(matches!(link.end(), Some(End::Answered(..))));
                assert!(number > 0, "an answer is made by the layout");
                return;
            }
            assert_eq!(reason(&link), Some(Reason::Error), "{number}");
            assert_eq!(link.end(), Some(End::Cut(Cut::Lost)), "{number}");
        }
    }
}
