//! Live messages of several channels that wait until nothing older is still to come.
//!
//! The hub hands out one channel after the other, some messages at a time. A subscriber that is told places
//! gets no message before an older one: the place would be beyond a message that it has not had. So its
//! messages are held until the hub knows of none that is older.
//!
//! ```text
//!   Round ──► Held, by time and tag ── nothing older is unread ──► outbox
//! ```
//!
//! Nearly always this is for the rest of a round. Whatever is held has an older message in the worker's
//! inbox, so another round comes. What it costs counts as waiting.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use crate::model::Token;
use crate::session::fanout::Order;
use crate::session::outbox::{Piece, Rendering, Skip};

/// Bytes of memory that a run costs besides its messages: a place in a queue of which half may be empty.
const COST: usize = 2 * size_of::<Run>();
/// The run that a message continues is looked for among so many at the end of the queue: one a channel.
const LAST_RUNS: usize = 16;

/// What is held, by subscriber.
#[derive(Debug, Default)]
pub(super) struct Held {
    queues: BTreeMap<Token, Queue>,
    /// The last one that had its turn.
    after: Option<Token>,
}

/// What is held for one subscriber. Never empty between two rounds.
#[derive(Debug, Default)]
struct Queue {
    runs: VecDeque<Run>,
    /// Bytes of memory that they cost.
    cost: usize,
    is_sorted: bool,
}

/// Messages of a batch that follow each other. Batches have many messages when much is held, so this takes
/// little more memory than their bytes.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) channel: Rc<[u8]>,
    pub(super) rendering: Rc<Rendering>,
    /// The places of all messages of the batch.
    pub(super) orders: Rc<[Order]>,
    /// The number of its first message in the batch.
    pub(super) first: usize,
    /// That of the one behind its last message.
    pub(super) end: usize,
}

impl Run {
    pub(super) fn messages(&self) -> usize {
        self.end.saturating_sub(self.first)
    }

    /// Its first message is the notice that the channel was deleted. That is the last one, too.
    pub(super) fn is_notice(&self) -> bool {
        self.order().is_some_and(|order| order.is_notice)
    }

    pub(super) fn piece(&self) -> Piece {
        Piece::messages(&self.rendering, self.first, self.end)
    }

    fn order(&self) -> Option<Order> {
        self.orders.get(self.first).copied()
    }

    fn cost(&self) -> usize {
        COST + self.channel.len() + self.piece().cost() + self.messages() * size_of::<Order>()
    }

    /// Do these follow its last message? A notice stays alone.
    fn is_continued_by(&self, next: &Self) -> bool {
        Rc::ptr_eq(&self.rendering, &next.rendering) && self.end == next.first && !next.is_notice()
    }
}

impl Held {
    /// Adds messages that follow each other. A notice comes alone.
    pub(super) fn push(&mut self, token: Token, run: Run) {
        let queue = self.queues.entry(token).or_default();
        let mut last = queue.runs.iter_mut().rev().take(LAST_RUNS);
        if let Some(before) = last.find(|before| before.is_continued_by(&run)) {
            queue.cost -= before.cost();
            before.end = run.end;
            queue.cost += before.cost();
            return;
        }
        queue.cost += run.cost();
        queue.runs.push_back(run);
        queue.is_sorted = false;
    }

    /// Bytes of memory that is held for the subscriber.
    pub(super) fn cost(&self, token: Token) -> usize {
        self.queues.get(&token).map_or(0, |queue| queue.cost)
    }

    /// Everybody has a turn from now on. After a panic over one it goes on with the next.
    pub(super) fn begin(&mut self) {
        self.after = self.after.filter(|_| !self.queues.is_empty());
    }

    /// Who has the next turn. `None`: all have had one.
    pub(super) fn next(&mut self) -> Option<Token> {
        use core::ops::Bound::{Excluded, Unbounded};
        let from = self.after.map_or(Unbounded, Excluded);
        self.after = self.queues.range((from, Unbounded)).next().map(|(token, _)| *token);
        self.after
    }

    /// Takes the oldest messages of the subscriber out that are of one batch and ready, if there are any.
    pub(super) fn pop(&mut self, token: Token, is_ready: impl Fn(Order) -> bool) -> Option<Run> {
        let queue = self.queues.get_mut(&token)?;
        if !queue.is_sorted {
            // Those of one place stay as they came: a notice and others.
            queue.runs.make_contiguous().sort_by_key(Run::order);
            queue.is_sorted = true;
        }
        let next = queue.runs.get(1).and_then(Run::order);
        let oldest = queue.runs.front()?;
        let orders = oldest.orders.get(oldest.first..oldest.end).unwrap_or_default();
        let is_next = |order: &&Order| is_ready(**order) && next.is_none_or(|next| **order <= next);
        let count = orders.iter().take_while(is_next).count();
        if count == 0 {
            return None;
        }
        let mut run = queue.runs.pop_front()?;
        queue.cost -= run.cost();
        let end = run.first + count;
        if end < run.end {
            let rest = Run { first: end, ..run.clone() };
            queue.cost += rest.cost();
            let at = queue.runs.partition_point(|other| other.order() < rest.order());
            queue.runs.insert(at, rest);
            run.end = end;
        }
        if queue.runs.is_empty() {
            self.queues.remove(&token);
        }
        Some(run)
    }

    /// The subscriber is given nothing more. Answers how many messages were held for it.
    pub(super) fn forget(&mut self, token: Token) -> usize {
        if self.queues.is_empty() {
            return 0;
        }
        let queue = self.queues.remove(&token).unwrap_or_default();
        queue.runs.iter().map(Run::messages).sum()
    }

    /// Drops what is held for the subscriber, but for notices of deletions. `each` is told what goes.
    pub(super) fn skip(&mut self, token: Token, each: &mut impl FnMut(&Skip<'_>)) {
        let Some(queue) = self.queues.remove(&token) else { return };
        for run in queue.runs {
            if run.is_notice() {
                self.push(token, run);
            } else {
                each(&Skip { channel: &run.channel, messages: run.messages(), told: 0 });
            }
        }
    }

    /// Is anything held for the subscriber?
    #[cfg(test)]
    pub(super) fn has(&self, token: Token) -> bool {
        self.queues.contains_key(&token)
    }
}

#[cfg(test)]
mod tests {
    use crate::model::{Message, Token};
    use crate::session::Framing;
    use crate::session::audience::State;
    use crate::session::departure::Reason;
    use crate::session::link::Way;
    use crate::session::sim::link::{End, SimLink};
    use crate::session::sim::solo::{NOW_MSEC, Old, Solo, message, reason};

    fn open(worker: &Solo, rest: Option<Old>) -> (Token, SimLink) {
        let has_rest = rest.is_some();
        let (token, link) = worker.open(Framing::Plain, Way::Direct, true, None, rest);
        worker.audience.put_in_order(token);
        if has_rest {
            link.room.set(0);
        }
        worker.audience.write_first(worker, token);
        link.take_received();
        (token, link)
    }

    /// The texts of the messages that have come.
    fn texts(link: &SimLink) -> Vec<String> {
        let received = String::from_utf8_lossy(&link.received()).into_owned();
        let parts = received.split('[').skip(1);
        parts.map(|part| part.split([' ', ']']).nth(2).expect("a text").to_owned()).collect()
    }

    fn count(worker: &Solo, token: Token) -> Option<u32> {
        worker.audience.entry(token).map(|entry| entry.messages_sent)
    }

    #[test]
    fn a_message_waits_for_an_older_one_of_another_channel() {
        let worker = Solo::new();
        let (token, link) = open(&worker, None);
        worker.oldest.set(Some((1, 2)));
        worker.give(&[token], &[message("b", 1, "1"), message("b", 3, "3"), message("b", 5, "5")]);
        worker.write();
        assert_eq!(texts(&link), ["1"]);
        worker.oldest.set(Some((1, 4)));
        worker.give(&[token], &[message("a", 2, "2")]);
        worker.write();
        assert_eq!(texts(&link), ["1", "2", "3"]);
        worker.oldest.set(None);
        worker.give(&[token], &[message("a", 4, "4"), message("a", 6, "6")]);
        worker.write();
        assert_eq!(texts(&link), ["1", "2", "3", "4", "5", "6"]);
        assert!(worker.record(token, |records, token| !records.held.has(token)));
    }

    /// Others share the batches, and do not wait.
    #[test]
    fn others_do_not_wait() {
        let worker = Solo::new();
        let (ordered, held) = open(&worker, None);
        let (other, link) = worker.open(Framing::Plain, Way::Direct, true, None, None);
        let (one, alone) = worker.stream();
        worker.oldest.set(Some((1, 1)));
        worker.give(&[ordered, other, one], &[message("b", 2, "2")]);
        worker.write();
        assert_eq!((texts(&held).len(), texts(&link).len(), texts(&alone).len()), (0, 1, 1));
    }

    #[test]
    fn what_is_held_comes_after_old_messages() {
        let worker = Solo::new();
        let (token, link) = open(&worker, Some(Old::of(&[("a", 2)])));
        worker.oldest.set(Some((1, 4)));
        worker.give(&[token], &[message("b", 3, "3"), message("b", 5, "5")]);
        worker.write();
        worker.oldest.set(None);
        worker.give(&[token], &[message("a", 4, "4")]);
        worker.write();
        worker.grant(token, &link, usize::MAX);
        worker.write();
        assert_eq!(texts(&link), ["0001", "0002", "3", "4", "5"]);
    }

    #[test]
    fn what_is_held_is_bounded() {
        let worker = Solo::new();
        let (token, link) = open(&worker, None);
        link.buffered_max.set(3000);
        worker.oldest.set(Some((1, 1)));
        let mut given = 0;
        while worker.state(token) == Some(State::Open) {
            given += 1;
            worker.give(&[token], &[message("b", 1 + given, "text")]);
            worker.write();
            assert!(given < 1000, "it is never too much");
        }
        assert!(given > 3);
        assert_eq!((texts(&link).len(), reason(&link)), (0, Some(Reason::Slow)));
        worker.assert_empty();
        assert!(worker.record(token, |records, token| !records.held.has(token)));
    }

    /// Two channels in turn, behind the backlog of a third one.
    #[test]
    fn a_burst_costs_little_more_than_its_bytes() {
        const ALL: i64 = 4096;
        let worker = Solo::new();
        let (token, link) = open(&worker, None);
        link.buffered_max.set(512 << 10);
        worker.oldest.set(Some((1, 1)));
        for from in (2..2 + ALL).step_by(128) {
            for (channel, from) in [("b", from), ("c", from + 1)] {
                let ids = (from..).step_by(2).take(64);
                let messages: Vec<_> = ids.map(|id| message(channel, id, "text")).collect();
                worker.give(&[token], &messages);
            }
            worker.write();
        }
        assert_eq!(worker.state(token), Some(State::Open));
        assert!(worker.record(token, |records, token| records.held.cost(token)) > 4 * ALL as usize);
        worker.oldest.set(None);
        worker.give(&[token], &[message("a", 1, "old")]);
        worker.write();
        let received = String::from_utf8_lossy(&link.received()).into_owned();
        let channels = received.split('[').skip(1).map(|part| part.as_bytes()[0]);
        assert_eq!(channels.clone().count(), 1 + ALL as usize);
        assert!(channels.eq([b'a'].into_iter().chain((0..ALL).map(|n| b"bc"[n as usize % 2]))));
        assert!(worker.record(token, |records, token| !records.held.has(token)));
    }

    #[test]
    fn what_is_held_is_not_sent_at_an_end() {
        for by_time in [false, true] {
            let worker = Solo::new();
            let (token, link) = open(&worker, None);
            worker.oldest.set(Some((1, 2)));
            worker.give(&[token], &[message("b", 1, "1"), message("b", 3, "3")]);
            worker.write();
            assert_eq!(count(&worker, token), Some(2));
            let reason = if by_time { Reason::Ttl } else { Reason::Shutdown };
            worker.audience.dismiss(&worker, token, reason);
            worker.write();
            assert_eq!((texts(&link), link.end()), (vec!["1".to_owned()], Some(End::Finished)));
            assert_eq!(link.entry.get().map(|entry| entry.messages_sent), Some(1));
            worker.assert_empty();
        }
    }

    /// It would get nothing of a new channel of that name.
    #[test]
    fn the_deletion_of_one_channel_ends_the_stream_behind_all_that_is_older() {
        let worker = Solo::new();
        let (token, link) = open(&worker, None);
        let notice = Message::deleted(b"a", b"gone");
        worker.oldest.set(Some((1, 2)));
        worker.give_in_order(&[token], &[notice], Some((1, 3)));
        worker.give(&[token], &[message("b", 1, "1"), message("b", 4, "4")]);
        worker.write();
        assert_eq!(texts(&link), ["1"]);
        worker.oldest.set(None);
        worker.give(&[token], &[message("b", 2, "2"), message("b", 3, "3")]);
        worker.write();
        assert_eq!(texts(&link), ["1", "2", "3", "gone"]);
        assert_eq!((link.end(), reason(&link)), (Some(End::Finished), Some(Reason::Deleted)));
        worker.audience.work_off_due(&worker, NOW_MSEC);
        worker.assert_empty();
    }

    /// The place of what comes next would be beyond its messages.
    #[test]
    fn a_channel_that_is_gone_before_its_old_messages_were_read_cuts_the_stream_off() {
        let worker = Solo::new();
        let rest = Some(Old::of(&[("a", 3), ("b", 3)]));
        let (token, link) = worker.open(Framing::Plain, Way::Direct, true, None, rest);
        worker.audience.put_in_order(token);
        worker.gone.borrow_mut().push(b"b".to_vec());
        worker.audience.flush(&worker, token);
        worker.write();
        assert_eq!(reason(&link), Some(Reason::Slow));
    }
}
