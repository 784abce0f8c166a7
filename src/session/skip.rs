//! A subscriber that is too slow, and goes on with what is newest.
//!
//! ```text
//!   what waits:   [begun] [old messages] [live] [live] [live] [live]    + news: too much
//!                                        └──────── skipped ────────┘
//!   from then on: [begun] [old messages] gap [news]
//!                                         └─ told when the socket takes bytes again
//! ```
//!
//! All live messages are skipped that wait and of which the socket has no byte yet, so each is dropped once at
//! the most, and a message costs no more for a subscriber that skips. How many of which channel were skipped
//! is added up until it is told: the messages that tell it may be skipped as well.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::model::{Gap, Token};
use crate::session::audience::{Audience, Mode, Records, State};
use crate::session::departure::Reason;
use crate::session::link::{Host, Link, Slow};
use crate::session::outbox::{Piece, Rendering, Skip};

/// What was skipped for whom. Nearly always empty.
#[derive(Default)]
pub(super) struct Skipped {
    subscribers: BTreeMap<Token, Missed>,
    /// Messages that the log has not been told of.
    unlogged: usize,
}

/// What was skipped for one subscriber.
#[derive(Default)]
struct Missed {
    /// All messages.
    messages: u32,
    /// What it is to be told of, by channel.
    untold: BTreeMap<Rc<[u8]>, u64>,
}

impl Skipped {
    /// So many more messages of this channel, and how many are to be told of.
    fn add(&mut self, token: Token, channel: &Rc<[u8]>, messages: usize, untold: u64) {
        let missed = self.subscribers.entry(token).or_default();
        let count = u32::try_from(messages).unwrap_or(u32::MAX);
        missed.messages = missed.messages.saturating_add(count);
        self.unlogged = self.unlogged.saturating_add(messages);
        if untold > 0 {
            *missed.untold.entry(Rc::clone(channel)).or_default() += untold;
        }
    }

    /// How many messages were skipped for the subscriber.
    pub(super) fn messages(&self, token: Token) -> u32 {
        self.subscribers.get(&token).map_or(0, |missed| missed.messages)
    }

    /// The subscriber has gone.
    pub(super) fn forget(&mut self, token: Token) {
        if !self.subscribers.is_empty() {
            self.subscribers.remove(&token);
        }
    }

    /// The subscriber is given nothing more.
    pub(super) fn forget_untold(&mut self, token: Token) {
        if let Some(missed) = self.subscribers.get_mut(&token) {
            missed.untold.clear();
        }
    }

    /// Is the subscriber to be told something?
    #[cfg(test)]
    pub(super) fn is_untold(&self, token: Token) -> bool {
        self.subscribers.get(&token).is_some_and(|missed| !missed.untold.is_empty())
    }
}

impl<H: Host> Audience<H> {
    /// Tells the log how many messages were skipped.
    pub(super) fn report_skipped(&self, host: &H) {
        let skipped = core::mem::take(&mut self.records.borrow_mut().skipped.unlogged);
        if skipped > 0 {
            host.report_skipped(skipped);
        }
    }
}

impl<H: Host> Records<H> {
    /// More waits for the subscriber than may. `false`: so it gets no more.
    pub(super) fn make_room(&mut self, token: Token) -> bool {
        let Some(subscriber) = self.slots.get(token) else { return false };
        match subscriber.link.slow() {
            Slow::Disconnect => {
                subscriber.state = State::TooSlow;
                subscriber.reason = Reason::Slow;
                self.mark_dirty(token);
                false
            }
            Slow::Skip { tells } => {
                self.skip(token, tells);
                true
            }
        }
    }

    fn skip(&mut self, token: Token, tells: bool) {
        let Some(subscriber) = self.slots.get(token) else { return };
        let Mode::Stream(stream) = &mut subscriber.mode else { return };
        let (mut skipped, mut has_gap) = (0, false);
        let mut each = |skip: &Skip<'_>| {
            skipped += skip.messages;
            has_gap = true;
            let untold = if tells { skip.told + skip.messages as u64 } else { 0 };
            self.skipped.add(token, skip.channel, skip.messages, untold);
        };
        stream.outbox.skip(&mut each);
        self.held.skip(token, &mut each);
        match &mut stream.unread {
            Some(unread) => {
                unread.skip(&mut each);
                unread.has_gap |= has_gap;
            }
            None if has_gap => stream.outbox.mark_gap(),
            None => {}
        }
        let before = subscriber.messages_sent;
        subscriber.uncount(skipped);
        subscriber.count_buffered(token, &mut self.counts);
        self.count_taken_back(token, before);
    }

    /// So many old messages of these channels are no longer stored, and behind them it goes on.
    pub(super) fn skip_old(&mut self, token: Token, left: &[(Box<[u8]>, u64)]) {
        let Some(subscriber) = self.slots.get(token) else { return };
        let tells = matches!(subscriber.link.slow(), Slow::Skip { tells: true });
        for (channel, missed) in left {
            let messages = usize::try_from(*missed).unwrap_or(usize::MAX);
            let untold = if tells { *missed } else { 0 };
            self.skipped.add(token, &Rc::from(&**channel), messages, untold);
        }
    }

    /// What was skipped is told where it is missing, before anything behind it is written.
    pub(super) fn tell_skipped(&mut self, token: Token) {
        let Some(missed) = self.skipped.subscribers.get_mut(&token) else { return };
        if missed.untold.is_empty() {
            return;
        }
        let Some(subscriber) = self.slots.get(token) else { return };
        let Mode::Stream(stream) = &mut subscriber.mode else { return };
        if stream.unread.is_some() {
            // Behind the old messages.
            return;
        }
        let Some(form) = self.forms.get(subscriber.form) else { return };
        let as_chunk = stream.frames_chunks;
        let told = missed.untold.iter().map(|(channel, missed)| {
            let mut rendering = Rendering::of(1);
            rendering.push(as_chunk, |out| form.gap(channel, Gap::Slow, Some(*missed), None, out));
            rendering.tells(channel, *missed);
            Piece::all(rendering)
        });
        let told: Vec<Piece> = told.collect();
        missed.untold.clear();
        stream.outbox.tell(told.into_iter());
    }
}

#[cfg(test)]
mod tests {
    use crate::model::{Message, Token};
    use crate::session::Framing;
    use crate::session::audience::Mode;
    use crate::session::departure::{Entry, Reason};
    use crate::session::link::{Slow, Way};
    use crate::session::outbox::PIECE_COST;
    use crate::session::sim::link::{End, SimLink};
    use crate::session::sim::solo::{KINDS, Old, Solo, message, open, read_if_asked, reason};

    const TELLS: Slow = Slow::Skip { tells: true };
    const IS_SILENT: Slow = Slow::Skip { tells: false };

    /// What has come: channel and id of a message, or channel and how many were skipped.
    #[derive(Debug, PartialEq, Eq)]
    enum Item {
        Message(String, i64),
        Skipped(String, u64),
    }

    /// Messages have the text "text", so nothing else looks like one.
    fn items(link: &SimLink) -> Vec<Item> {
        let text = String::from_utf8_lossy(&link.received()).into_owned();
        let mut items = Vec::new();
        for (at, _) in text.match_indices(" text") {
            let mut words = text[..at].rsplitn(3, [' ', '[', '\u{fffd}', '\u{6}', '\n']);
            let id = words.next().and_then(|id| id.parse().ok()).expect("an id");
            let channel = words.next().and_then(|word| word.chars().last()).expect("a channel");
            items.push((at, Item::Message(channel.into(), id)));
        }
        for (at, _) in text.match_indices("{\"channel\":\"") {
            let channel = text[at + 12..at + 13].to_owned();
            let missed =
                text[at..].split("\"missed\":").nth(1).and_then(|rest| rest.split('}').next());
            let missed = missed.and_then(|missed| missed.parse().ok()).expect("a number");
            items.push((at, Item::Skipped(channel, missed)));
        }
        items.sort_by_key(|(at, _)| *at);
        items.into_iter().map(|(_, item)| item).collect()
    }

    /// The id of the last message of the channel, and how many were skipped. Each hole is told where it is.
    fn check(items: &[Item], channel: &str, is_told: bool) -> (i64, i64) {
        let (mut last, mut told, mut skipped) = (0, 0, 0);
        for item in items {
            match item {
                Item::Skipped(name, missed) if name == channel => told += *missed as i64,
                Item::Message(name, id) if name == channel => {
                    let missed = id - last - 1;
                    assert!(!is_told || missed == told, "{channel} {id}: {items:?}");
                    (last, told, skipped) = (*id, 0, skipped + missed);
                }
                _ => {}
            }
        }
        assert_eq!(told, 0, "a hole at the end of {channel}: {items:?}");
        (last, skipped)
    }

    fn entry(worker: &Solo, token: Token) -> Entry {
        worker.audience.entry(token).expect("it is there")
    }

    fn give(worker: &Solo, token: Token, channel: &str, ids: impl IntoIterator<Item = i64>) {
        for id in ids {
            worker.give(&[token], &[message(channel, id, "text")]);
            worker.write();
        }
    }

    /// However many bytes its socket has taken, of whatever.
    #[test]
    fn what_is_begun_is_completed_and_what_is_skipped_is_told_exactly() {
        for (kind, slow) in KINDS.into_iter().flat_map(|kind| [(kind, TELLS), (kind, IS_SILENT)]) {
            for plain in [true, false] {
                for taken in (0..120).step_by(if cfg!(miri) { 13 } else { 1 }) {
                    let worker = Solo::new();
                    let (token, link) = open(&worker, kind, None);
                    link.plain.borrow_mut().extend([plain, true]);
                    link.slow.set(slow);
                    worker.record(token, |records, _| records.has_skips = true);
                    link.room.set(taken);
                    link.buffered_max.set(100);
                    give(&worker, token, "a", 1..=9);
                    // It takes some more, and has too much again.
                    worker.grant(token, &link, 30);
                    give(&worker, token, "a", 10..=20);
                    let before = entry(&worker, token);
                    worker.grant(token, &link, usize::MAX);
                    read_if_asked(&worker, token, &link);
                    let items = items(&link);
                    let (last, skipped) = check(&items, "a", slow == TELLS);
                    let context = format!("{kind:?} {plain} {taken}: {items:?}");
                    assert_eq!(last, 20, "the newest one comes: {context}");
                    let is_told = items.iter().any(|item| matches!(item, Item::Skipped(..)));
                    assert_eq!(is_told, slow == TELLS && skipped > 0, "{context}");
                    let entry = entry(&worker, token);
                    assert_eq!(i64::from(entry.messages_skipped), skipped, "{context}");
                    assert_eq!(i64::from(entry.messages_sent), 20 - skipped, "{context}");
                    assert_eq!(entry.messages_skipped, before.messages_skipped);
                    assert_eq!(worker.skipped.get() as i64, skipped, "the log");
                    assert_eq!((worker.too_slow.get(), link.end()), (0, None));
                    assert!(skipped > 3, "{context}");
                }
            }
        }
    }

    fn waiting(worker: &Solo, token: Token) -> usize {
        worker.record(token, |records, token| {
            let subscriber = records.slots.get(token).expect("it is there");
            let Mode::Stream(stream) = &subscriber.mode else { panic!("a stream") };
            assert!(stream.waiting() >= stream.allocated());
            stream.waiting() + records.held.cost(token)
        })
    }

    fn open_many(worker: &Solo, is_ordered: bool, rest: Option<Old>) -> (Token, SimLink) {
        let (token, link) = worker.open(Framing::EventSource, Way::Direct, true, None, rest);
        link.slow.set(TELLS);
        worker.record(token, |records, _| records.has_skips = true);
        if is_ordered {
            worker.audience.put_in_order(token);
        }
        (token, link)
    }

    #[test]
    fn what_waits_is_bounded_wherever_it_waits() {
        const MAX: usize = 5000;
        for (is_ordered, is_held, has_rest) in [
            (false, false, false),
            (false, false, true),
            (true, false, false),
            (true, true, false),
            (true, false, true),
            (true, true, true),
        ] {
            let worker = Solo::new();
            let rest = has_rest.then(|| Old::of(&[("o", 3)]));
            let (token, link) = open_many(&worker, is_ordered, rest);
            link.buffered_max.set(MAX);
            link.room.set(if is_held { usize::MAX } else { 0 });
            if has_rest {
                link.room.set(0);
            }
            worker.audience.flush(&worker, token);
            let count = if cfg!(miri) { 40 } else { 200 };
            for id in 1..=count {
                worker.oldest.set(is_held.then_some((0, 1)));
                for channel in ["a", "b"] {
                    worker.give(&[token], &[message(channel, id, "text")]);
                    worker.write();
                    let waiting = waiting(&worker, token);
                    // Both places, one message more each, and two notices.
                    assert!(waiting < 2 * MAX + 4 * (2 * PIECE_COST + 500), "{waiting} wait");
                }
            }
            worker.oldest.set(None);
            give(&worker, token, "a", [count + 1]);
            give(&worker, token, "b", [count + 1]);
            worker.grant(token, &link, usize::MAX);
            worker.write();
            let items = items(&link);
            for channel in ["a", "b"] {
                let (last, skipped) = check(&items, channel, true);
                assert!(last == count + 1 && skipped > count / 2, "{channel}: {items:?}");
            }
            let entry = entry(&worker, token);
            let all = 2 * (count as u32 + 1) + 3 * u32::from(has_rest);
            assert_eq!(entry.messages_sent + entry.messages_skipped, all);
        }
    }

    /// Whoever is not to miss a message finds its connection ended, as without the directive.
    #[test]
    fn others_of_the_same_channel_get_all_or_are_cut_off() {
        let worker = Solo::new();
        let links: Vec<_> = [Slow::Disconnect, TELLS, Slow::Disconnect]
            .into_iter()
            .map(|slow| {
                let (token, link) = worker.stream();
                link.slow.set(slow);
                link.buffered_max.set(1000);
                (token, link)
            })
            .collect();
        worker.record(links[0].0, |records, _| records.has_skips = true);
        links[0].1.room.set(0);
        links[1].1.room.set(0);
        worker.write();
        let tokens: Vec<Token> = links.iter().map(|(token, _)| *token).collect();
        for id in 1..=20 {
            worker.give(&tokens, &[message("a", id, "text")]);
            worker.write();
        }
        assert_eq!(reason(&links[0].1), Some(Reason::Slow));
        worker.grant(tokens[1], &links[1].1, usize::MAX);
        assert_eq!(check(&items(&links[1].1), "a", true).0, 20);
        assert_eq!(check(&items(&links[2].1), "a", true), (20, 0));
    }

    #[test]
    fn the_notice_of_a_deletion_is_never_skipped() {
        for is_ordered in [false, true] {
            let worker = Solo::new();
            let (token, link) = open_many(&worker, is_ordered, None);
            link.buffered_max.set(1000);
            link.room.set(0);
            worker.audience.flush(&worker, token);
            give(&worker, token, "a", 1..=20);
            let notice = Message::deleted(b"a", b"gone");
            let last = [message("a", 21, "text"), notice];
            worker.give_in_order(&[token], &last, Some((1, 21)));
            worker.oldest.set(is_ordered.then_some((0, 1)));
            worker.write();
            if !is_ordered {
                give(&worker, token, "b", 1..=20);
            }
            worker.oldest.set(None);
            worker.write();
            worker.grant(token, &link, usize::MAX);
            let text = String::from_utf8_lossy(&link.received()).into_owned();
            assert_eq!(text.matches("a -2 gone").count(), 1, "{text}");
            let behind = text.split("a -2 gone").nth(1).expect("what comes behind it");
            assert!(!behind.contains("{\"channel\":\"a\""), "it is told before: {text}");
            if is_ordered {
                assert_eq!(
                    (link.end(), reason(&link)),
                    (Some(End::Finished), Some(Reason::Deleted))
                );
            } else {
                assert_eq!(check(&items(&link), "b", true).0, 20);
            }
        }
    }

    #[test]
    fn old_messages_that_are_gone_are_told_and_the_live_ones_follow() {
        for (slow, is_ordered) in [(TELLS, false), (TELLS, true), (IS_SILENT, false)] {
            let worker = Solo::new();
            let rest = Old::of(&[("a", 30), ("b", 40)]);
            let (token, link) = open_many(&worker, is_ordered, Some(rest));
            link.slow.set(slow);
            link.room.set(0);
            worker.audience.flush(&worker, token);
            give(&worker, token, "a", [31, 32]);
            worker.is_lagged.set(true);
            worker.grant(token, &link, usize::MAX);
            worker.write();
            give(&worker, token, "b", [41]);
            let items = items(&link);
            let message = |channel: &str, id| Item::Message(channel.into(), id);
            let skipped = |channel: &str, missed| Item::Skipped(channel.into(), missed);
            let mut expected = vec![message("a", 31), message("a", 32), message("b", 41)];
            if slow == TELLS {
                expected.splice(0..0, [skipped("a", 30), skipped("b", 40)]);
            }
            assert_eq!(items, expected);
            assert_eq!((entry(&worker, token).messages_skipped, worker.skipped.get()), (70, 70));
            assert_eq!((worker.too_slow.get(), link.end()), (0, None));
        }
    }

    /// An orderly end comes behind what is to be told, and a WebSocket's close frame behind that.
    #[test]
    fn what_was_skipped_is_told_before_the_end() {
        for kind in KINDS {
            let worker = Solo::new();
            let (token, link) = open(&worker, kind, None);
            link.slow.set(TELLS);
            worker.record(token, |records, _| records.has_skips = true);
            link.room.set(0);
            link.buffered_max.set(100);
            worker.audience.flush(&worker, token);
            give(&worker, token, "a", 1..=9);
            worker.audience.dismiss(&worker, token, Reason::Ttl);
            worker.grant(token, &link, usize::MAX);
            read_if_asked(&worker, token, &link);
            let (last, skipped) = check(&items(&link), "a", true);
            assert!(last == 9 && skipped > 3, "{kind:?}");
            let text = String::from_utf8_lossy(&link.received()).into_owned();
            assert!(text.find("<foot>") > text.find("a 9 text"), "{text}");
            assert_eq!(
                link.entry.get().map(|entry| i64::from(entry.messages_skipped)),
                Some(skipped)
            );
            worker.assert_empty();
            assert!(worker.record(token, |records, token| !records.skipped.is_untold(token)));
        }
    }
}
