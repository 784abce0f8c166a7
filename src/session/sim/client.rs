//! A client: what it asked for, what it was owed, and what it makes of the bytes that it got.
//!
//! It parses the framing of its kind from the first byte on. Whatever happened to it, it has got whole
//! messages of its own channels, each once and in order, and then perhaps a part of one more. What it may
//! lack at the end depends on how it ended.

use core::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use super::link::{End, SimLink};
use crate::model::{Cursor, DELETED_ID, GAP_ID, Gap, PING_ID, Seconds, TIMEOUT_ID, Token};
use crate::session::departure::Reason;
use crate::session::link::{Slow, Way};
use crate::session::{Framing, Layout};
use crate::wire::frame::{self, Opcode, code};
use crate::wire::{cursor, gap};

/// How a client is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Stream(Way),
    EventSource(Way),
    WebSocket,
    /// With a callback or without.
    Poll(bool),
    LongPoll(bool),
}

impl Kind {
    pub(super) const ALL: [Self; 9] = [
        Self::Stream(Way::Direct),
        Self::Stream(Way::Filtered),
        Self::EventSource(Way::Direct),
        Self::EventSource(Way::Filtered),
        Self::WebSocket,
        Self::Poll(false),
        Self::Poll(true),
        Self::LongPoll(false),
        Self::LongPoll(true),
    ];

    pub(super) fn is_poll(self) -> bool {
        matches!(self, Self::Poll(_) | Self::LongPoll(_))
    }

    pub(super) fn way(self) -> Way {
        match self {
            Self::Stream(way) | Self::EventSource(way) => way,
            Self::WebSocket => Way::Direct,
            Self::Poll(_) | Self::LongPoll(_) => Way::Filtered,
        }
    }

    fn framing(self) -> Framing {
        match self {
            Self::Stream(_) | Self::Poll(_) | Self::LongPoll(_) => Framing::Plain,
            Self::EventSource(_) => Framing::EventSource,
            Self::WebSocket => Framing::WebSocket,
        }
    }

    /// A connection of this kind, to a location whose templates show where things begin and end.
    pub(super) fn link(self, has_cursors: bool) -> SimLink {
        let framing = self.framing();
        let message: &[u8] = match (framing, has_cursors) {
            (Framing::Plain, false) => b"[~channel~ ~id~ ~tag~ ~text~]",
            (_, false) => b"~channel~ ~id~ ~tag~ ~text~",
            (Framing::Plain, true) => b"[~channel~ ~id~ ~cursor~ ~text~]",
            (_, true) => b"~channel~ ~id~ ~cursor~ ~text~",
        };
        let layout = Layout::new(framing, HEAD, message, FOOT);
        let link = SimLink::new(if has_cursors { layout.with_cursors() } else { layout });
        link.chunks.set(self != Self::WebSocket);
        link
    }
}

const HEAD: &[u8] = b"head";
const FOOT: &[u8] = b"foot";
/// The answer to a handshake.
pub(super) const SWITCHING: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\n\r\n";

/// Names a channel that was not deleted in between: its id, and the number of its creation.
pub(super) type Name = (Vec<u8>, u64);

/// A message as it was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Published {
    pub(super) text: Vec<u8>,
    pub(super) is_stored: bool,
    /// Time and tag.
    pub(super) place: (Seconds, u64),
}

/// All that was published. The message of id n is the n-1-th of its channel.
pub(super) type Log = BTreeMap<Name, Vec<Published>>;

/// A subscription of a client.
#[derive(Clone, Debug)]
pub(super) struct Subscription {
    pub(super) channel: Name,
    /// Messages of the channel when it subscribed.
    pub(super) after: u64,
}

/// A live message, or the notice of a deletion, that the hub has handed out for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Given {
    /// The round in which it was handed out, and the place that it has there.
    pub(super) round: usize,
    pub(super) time: Seconds,
    pub(super) tag: u64,
    pub(super) is_notice: bool,
    /// Number of the subscription.
    pub(super) channel: usize,
    pub(super) id: i64,
}

/// One request.
pub(super) struct Client {
    pub(super) kind: Kind,
    pub(super) link: SimLink,
    pub(super) worker: usize,
    /// It is told places, and nothing out of order.
    pub(super) has_cursors: bool,
    /// Why it does not get all old messages that it has asked for, if so.
    pub(super) gap: Cell<Option<Gap>>,
    /// What is told of gaps: channel, reason, and how many messages are missing.
    pub(super) missing: RefCell<Vec<Told>>,
    pub(super) token: Cell<Option<Token>>,
    pub(super) subscriptions: RefCell<Vec<Subscription>>,
    /// Old messages that the hub has handed out, by subscription and id.
    pub(super) old: RefCell<Vec<(usize, i64)>>,
    /// Subscriptions with old messages that are still to be read.
    pub(super) unread: RefCell<BTreeSet<usize>>,
    /// Those of them whose channel was deleted before.
    pub(super) lost: RefCell<BTreeSet<usize>>,
    pub(super) given: RefCell<Vec<Given>>,
    /// The next old message was gone.
    pub(super) has_lagged: Cell<bool>,
    /// So many old messages were left then, by subscription.
    pub(super) left: RefCell<BTreeMap<usize, u64>>,
    /// The last round in which it was handed out something, and what that costs at the most.
    pub(super) last_round: Cell<(usize, usize)>,
    /// It had more waiting than it may have.
    pub(super) was_overfull: Cell<bool>,
    /// Work for it has panicked.
    pub(super) has_panicked: Cell<bool>,
    /// Its time to take something was over.
    pub(super) was_timed_out: Cell<bool>,
    /// It has sent a close frame, or broken a rule.
    pub(super) has_closed: Cell<bool>,
}

/// A gap in a channel: its id, why, and how many messages are missing.
pub(super) type Told = (Vec<u8>, Gap, Option<u64>);

/// What a client has read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    Head,
    Foot,
    Ping,
    TimedOut,
    Message {
        channel: Vec<u8>,
        id: i64,
        text: Vec<u8>,
        place: Option<Cursor>,
    },
    /// An id of an event stream that is a cursor.
    Id(Cursor),
    Notice {
        channel: Vec<u8>,
    },
    /// The text of a gap that was told at the beginning.
    Gap(Vec<u8>),
    /// So many messages were skipped.
    Skipped {
        channel: Vec<u8>,
        missed: u64,
    },
    Pong(Vec<u8>),
    Close(Option<u16>),
    /// The end of a body.
    End,
}

impl Client {
    pub(super) fn new(kind: Kind, worker: usize) -> Self {
        Self::of(kind, worker, false)
    }

    /// The client of a location with cursors.
    pub(super) fn with_cursors(kind: Kind, worker: usize) -> Self {
        Self::of(kind, worker, true)
    }

    fn of(kind: Kind, worker: usize, has_cursors: bool) -> Self {
        Self {
            kind,
            link: kind.link(has_cursors),
            worker,
            has_cursors,
            gap: Cell::new(None),
            missing: RefCell::default(),
            token: Cell::new(None),
            subscriptions: RefCell::default(),
            old: RefCell::default(),
            unread: RefCell::default(),
            lost: RefCell::default(),
            given: RefCell::default(),
            has_lagged: Cell::new(false),
            left: RefCell::default(),
            last_round: Cell::new((0, 0)),
            was_overfull: Cell::new(false),
            has_panicked: Cell::new(false),
            was_timed_out: Cell::new(false),
            has_closed: Cell::new(false),
        }
    }

    /// Its messages come in one order over all its channels.
    pub(super) fn is_ordered(&self) -> bool {
        self.has_cursors && self.subscriptions.borrow().len() > 1
    }

    /// It does not get what it is too slow for, instead of being cut off.
    pub(super) fn skips(&self) -> bool {
        !self.kind.is_poll() && matches!(self.link.slow.get(), Slow::Skip { .. })
    }

    fn is_told(&self) -> bool {
        self.link.slow.get() == Slow::Skip { tells: true }
    }

    pub(super) fn number_of(&self, channel: &[u8]) -> Option<usize> {
        self.subscriptions.borrow().iter().position(|s| s.channel.0 == channel)
    }

    /// All that has come, as far as it is whole.
    pub(super) fn items(&self) -> Vec<Item> {
        match self.link.end() {
            Some(End::Answered(_, body)) => {
                assert_eq!(self.link.received(), b"", "a poll that waits gets nothing");
                let mut items = Vec::new();
                let body = body.unwrap_or_default();
                assert!(push_plain(&body, &mut items).is_empty(), "an answer is whole");
                items
            }
            _ => parse(self.kind, &self.link.received.borrow()),
        }
    }

    /// Is it right so far? `is_settled`: it has read all that there is.
    pub(super) fn check(&self, log: &Log, is_settled: bool) {
        let items = self.items();
        let mut messages = Vec::new();
        for item in &items {
            match item {
                Item::Message { channel, id, text, .. } => {
                    let number = self.number_of(channel).expect("a channel that it asked for");
                    let subscriptions = self.subscriptions.borrow();
                    let published = &log[&subscriptions[number].channel];
                    let published = &published[usize::try_from(id - 1).expect("an id")];
                    assert!(published.text == *text, "message {id} of {channel:?} is spoilt");
                    messages.push((number, *id));
                }
                Item::Notice { channel } => {
                    let number = self.number_of(channel).expect("a channel that it asked for");
                    messages.push((number, DELETED_ID));
                }
                _ => {}
            }
        }
        if self.kind.is_poll() {
            self.check_poll(&items, &messages);
        } else if self.skips() {
            self.check_skipped(&items, &messages, is_settled);
            self.check_last_items(&items);
        } else {
            self.check_stream(&messages, is_settled);
            self.check_last_items(&items);
        }
        self.check_reason(&items);
        self.check_gaps(&items);
    }

    fn check_stream(&self, messages: &[(usize, i64)], is_settled: bool) {
        let old = self.old.borrow();
        let subscriptions = self.subscriptions.borrow();
        let is_old = |(number, id): &&(usize, i64)| {
            *id != DELETED_ID && *id as u64 <= subscriptions[*number].after
        };
        let count = messages.iter().take_while(is_old).count();
        let (first, live) = messages.split_at(count);
        assert!(old.starts_with(first), "old messages {first:?} instead of {old:?}");
        assert!(!live.iter().any(|message| is_old(&message)), "an old message behind a live one");

        let due = self.due();
        assert!(due.starts_with(live), "live messages {live:?} instead of {due:?}");
        assert!(live.is_empty() || first.len() == old.len(), "live messages overtake old ones");

        let has_all = first.len() == old.len() && live.len() == due.len();
        let reason = self.reason();
        let is_orderly = match self.link.end() {
            None => is_settled,
            // Others of them may have been held.
            Some(_) if self.is_ordered() => false,
            Some(End::Finished | End::Closed) => {
                matches!(reason, Some(Reason::Ttl | Reason::Shutdown | Reason::Deleted))
            }
            Some(_) => false,
        };
        assert!(has_all || !is_orderly, "{messages:?} are not all of {old:?} and {due:?}");
    }

    /// The live messages that were handed out for it, in the order in which it gets them.
    fn due(&self) -> Vec<(usize, i64)> {
        let lost = self.lost.borrow();
        let mut due = self.given.borrow().clone();
        // Those of one place stay as they were handed out.
        let is_ordered = self.is_ordered();
        let round = |given: &Given| if is_ordered { 0 } else { given.round };
        due.sort_by_key(|given| (round(given), given.time, given.tag, given.is_notice));
        if let Some(last) = due.iter().position(|given| is_ordered && given.is_notice) {
            // That ends it.
            due.truncate(last + 1);
        }
        due.retain(|given| given.is_notice || !lost.contains(&given.channel));
        due.iter().map(|given| (given.channel, given.id)).collect()
    }

    /// The same for one who does not get all. What it got is in order, and each hole was told, and how many
    /// messages are missing there.
    fn check_skipped(&self, items: &[Item], messages: &[(usize, i64)], is_settled: bool) {
        let old = self.old.borrow();
        let subscriptions = self.subscriptions.borrow();
        let is_live =
            |number: usize, id: i64| id == DELETED_ID || id as u64 > subscriptions[number].after;
        let count = messages.iter().take_while(|(number, id)| !is_live(*number, *id)).count();
        let (first, live) = messages.split_at(count);
        assert!(old.starts_with(first), "old messages {first:?} instead of {old:?}");
        assert!(live.iter().all(|(number, id)| is_live(*number, *id)), "old behind live ones");
        assert!(live.is_empty() || first.len() == old.len(), "live messages overtake old ones");
        let due = self.due();
        let mut rest = due.iter();
        for message in live {
            assert!(rest.any(|due| due == message), "{message:?} of {live:?} is not of {due:?}");
        }

        let left = self.left.borrow();
        let left = |number: usize| left.get(&number).map_or(0, |left| *left as i64);
        let start = |number: usize| subscriptions[number].after as i64 - left(number);
        // The last one that it has had or was told of, as if old messages that are gone came last of all.
        let mut had: Vec<i64> = (0..subscriptions.len()).map(start).collect();
        let given = self.given.borrow();
        let newest = |number: usize| {
            let ids = given.iter().filter(|given| given.channel == number && !given.is_notice);
            ids.map(|given| given.id).max().unwrap_or(subscriptions[number].after as i64)
        };
        let lost = self.lost.borrow();
        for item in items {
            match item {
                Item::Skipped { channel, missed } => {
                    assert!(self.is_told(), "it is told nothing");
                    assert!(*missed > 0, "told in vain");
                    had[self.number_of(channel).expect("a channel of it")] += *missed as i64;
                }
                Item::Message { channel, id, .. } => {
                    let number = self.number_of(channel).expect("a channel of it");
                    if is_live(number, *id) {
                        let before = core::mem::replace(&mut had[number], *id);
                        assert!(
                            before + 1 == *id || !self.is_told(),
                            "{channel:?} {id} behind {before}: {items:?}"
                        );
                    }
                }
                Item::Notice { channel } => {
                    let number = self.number_of(channel).expect("a channel of it");
                    let has_all = had[number] == newest(number);
                    let is_exact = self.is_told() && !lost.contains(&number);
                    assert!(has_all || !is_exact, "a hole before the end of {channel:?}");
                }
                _ => {}
            }
        }
        let is_orderly = match self.link.end() {
            None => is_settled,
            Some(_) if self.is_ordered() => false,
            Some(End::Finished | End::Closed) => {
                matches!(self.reason(), Some(Reason::Ttl | Reason::Shutdown | Reason::Deleted))
            }
            Some(_) => false,
        };
        if is_orderly && self.is_told() {
            for number in (0..subscriptions.len()).filter(|number| !lost.contains(number)) {
                assert_eq!(had[number], newest(number), "{items:?}");
            }
        }
    }

    /// How many messages it did not get, when it has read all that there is.
    pub(super) fn missed(&self) -> u64 {
        let is_given = |item: &&Item| matches!(item, Item::Message { .. } | Item::Notice { .. });
        let got = self.items().iter().filter(is_given).count();
        let left: u64 = self.left.borrow().values().sum();
        (self.old.borrow().len() + self.due().len() - got) as u64 + left
    }

    /// It is told of its gaps in front of all messages, and of nothing else.
    fn check_gaps(&self, items: &[Item]) {
        let told = |item: &Item| match item {
            Item::Gap(text) => Some(text.clone()),
            _ => None,
        };
        let missing = self.missing.borrow();
        let missing =
            missing.iter().map(|(channel, reason, count)| gap::text(channel, *reason, *count));
        let missing: Vec<_> = missing.collect();
        let found: Vec<_> = items.iter().filter_map(told).collect();
        assert!(missing.starts_with(&found), "{found:?} instead of {missing:?}");
        let is_behind = |item: &Item| {
            matches!(
                item,
                Item::Id(_) | Item::Message { .. } | Item::Notice { .. } | Item::TimedOut
            )
        };
        if let Some(first) = items.iter().position(is_behind) {
            let ahead = items[..first].iter().filter_map(told).count();
            assert_eq!(ahead, missing.len(), "{items:?}");
        }
    }

    /// Header first, footer and close frame last.
    fn check_last_items(&self, items: &[Item]) {
        let reason = self.reason();
        let is_told_off = self.subscriptions.borrow().is_empty() || self.is_cut_off();
        let has_head = items.first() == Some(&Item::Head);
        assert!(has_head || items.is_empty() || is_told_off, "{items:?}");
        assert!(!items.iter().skip(1).any(|item| *item == Item::Head), "{items:?}");
        let footer = items.iter().position(|item| *item == Item::Foot);
        let last = footer.map_or(&[][..], |at| &items[at..]);
        match self.link.end() {
            Some(End::Finished) => assert_eq!(last, [Item::Foot, Item::End], "{items:?}"),
            Some(End::Closed) => {
                let close = match reason.expect("a reason") {
                    Reason::Ttl | Reason::Shutdown | Reason::Deleted => {
                        assert_eq!(last.len(), 2, "{items:?}");
                        None
                    }
                    Reason::Slow => Some(code::TRY_AGAIN_LATER),
                    Reason::Refused => Some(code::REFUSED),
                    Reason::Client => None,
                    Reason::Protocol => Some(code::PROTOCOL_ERROR),
                    other => panic!("an orderly end because of {other:?}"),
                };
                let is_full = items.last() == Some(&Item::Close(Some(code::INTERNAL_ERROR)));
                assert!(
                    items.last() == Some(&Item::Close(close))
                        || reason == Some(Reason::Refused) && is_full,
                    "{items:?}, {reason:?}"
                );
            }
            _ => assert!(last.len() <= 2, "{items:?}"),
        }
        let closes = items.iter().filter(|item| matches!(item, Item::Close(_) | Item::End)).count();
        assert!(closes <= 1, "{items:?}");
    }

    fn check_poll(&self, items: &[Item], messages: &[(usize, i64)]) {
        match self.link.end() {
            Some(End::Answered(_, None)) => assert_eq!(messages, [], "304 has no body"),
            Some(End::Answered(_, Some(_))) => {
                assert_eq!((items.first(), items.last()), (Some(&Item::Head), Some(&Item::Foot)));
            }
            Some(End::Finished) => {
                assert_eq!(messages, *self.old.borrow(), "all that the answer announces");
                let ends = items.len().checked_sub(2).map(|at| &items[at..]);
                assert_eq!(ends, Some(&[Item::Foot, Item::End][..]), "{items:?}");
            }
            _ => assert!(self.old.borrow().starts_with(messages), "{messages:?}"),
        }
    }

    /// Too much waited for it, and it is told so.
    fn is_cut_off(&self) -> bool {
        !self.skips() && (self.was_overfull.get() || self.has_lagged.get())
    }

    pub(super) fn reason(&self) -> Option<Reason> {
        self.link.entry.get()?.reason
    }

    /// It ended for this reason and no other.
    fn check_reason(&self, items: &[Item]) {
        let Some(reason) = self.reason() else { return };
        let end = self.link.end();
        match reason {
            Reason::Error => assert!(self.has_panicked.get(), "cut off for a panic of others"),
            Reason::Slow => {
                let ends = self.kind.is_poll() || self.is_ordered();
                let is_gone = ends && !self.lost.borrow().is_empty();
                assert!(self.is_cut_off() || is_gone, "cut off, but not slow");
            }
            Reason::SendTimeout => assert!(self.was_timed_out.get(), "it took something"),
            Reason::Deleted => {
                let given = self.given.borrow();
                if self.is_ordered() {
                    assert!(given.iter().any(|given| given.is_notice), "all its channels live");
                    return;
                }
                for number in 0..self.subscriptions.borrow().len() {
                    let is_told = |given: &Given| given.channel == number && given.is_notice;
                    assert!(given.iter().any(is_told), "a channel of it lives");
                }
            }
            Reason::Protocol => assert!(self.has_closed.get(), "it broke no rule"),
            Reason::Answered => {
                let is_answer = matches!(end, Some(End::Answered(..) | End::Finished));
                let is_gone = matches!(end, None | Some(End::Vanished | End::Cut(_)));
                assert!(is_answer || is_gone, "{end:?}");
            }
            Reason::Client | Reason::Ttl | Reason::Shutdown | Reason::Refused => {}
        }
        let is_cut = matches!(end, Some(End::Cut(_) | End::Vanished | End::Refused));
        assert!(
            !self.has_panicked.get() || is_cut,
            "a panic ends it: {reason:?} {end:?} {items:?}"
        );
    }
}

/// All items that have come whole.
pub(super) fn parse(kind: Kind, bytes: &[u8]) -> Vec<Item> {
    let mut items = Vec::new();
    if kind == Kind::WebSocket {
        let Some(mut rest) = bytes.strip_prefix(SWITCHING) else {
            assert!(SWITCHING.starts_with(bytes), "no answer to the handshake");
            return items;
        };
        while let Some((item, after)) = parse_frame(rest) {
            items.push(item);
            rest = after;
        }
        return items;
    }
    let mut rest = bytes;
    while let Some((chunk, after)) = parse_chunk(rest) {
        if chunk.is_empty() {
            assert!(after.is_empty(), "something behind the end");
            items.push(Item::End);
        }
        let left = match kind.framing() {
            Framing::EventSource => push_events(chunk, &mut items),
            _ => push_plain(chunk, &mut items),
        };
        assert!(left.is_empty(), "a chunk with a part of a message");
        rest = after;
    }
    items
}

fn parse_chunk(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let digits = memchr::memchr(b'\r', bytes)?;
    let len = core::str::from_utf8(&bytes[..digits]).expect("digits");
    let len = usize::from_str_radix(len, 16).expect("a chunk's length");
    let data = bytes.get(digits + 2..)?;
    let (data, rest) = data.split_at_checked(len)?;
    let (end, rest) = rest.split_at_checked(2)?;
    assert_eq!(end, b"\r\n");
    Some((data, rest))
}

/// Answers what is left, because it is not whole.
fn push_plain<'a>(mut bytes: &'a [u8], items: &mut Vec<Item>) -> &'a [u8] {
    loop {
        let literal =
            [HEAD, FOOT, b"cb([", b"]);", b","].into_iter().find(|l| bytes.starts_with(l));
        if let Some(literal) = literal {
            items.extend((literal == HEAD).then_some(Item::Head));
            items.extend((literal == FOOT).then_some(Item::Foot));
            bytes = &bytes[literal.len()..];
            continue;
        }
        let Some(end) = memchr::memchr(b']', bytes) else { return bytes };
        let message = bytes[..end].strip_prefix(b"[").expect("a message begins");
        items.push(parse_message(message));
        bytes = &bytes[end + 1..];
    }
}

fn push_events<'a>(mut bytes: &'a [u8], items: &mut Vec<Item>) -> &'a [u8] {
    while let Some(end) = memchr::memchr(b'\n', bytes) {
        let line = &bytes[..end];
        bytes = &bytes[end + 1..];
        items.push(match line {
            b": head" => Item::Head,
            b": foot" => Item::Foot,
            b": -1" => Item::Ping,
            b"event: gap" => {
                let end = memchr::memchr(b'\n', bytes).expect("a line");
                let text = bytes[..end].strip_prefix(b"data: ").expect("its data");
                bytes = bytes[end + 1..].strip_prefix(b"\n").expect("a blank line ends the event");
                parse_gap(text)
            }
            _ if line.starts_with(b"id: ") => {
                // Alone at the beginning, and with each message.
                bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
                let Some(cursor) = cursor::parse(&line[4..]) else { continue };
                Item::Id(cursor)
            }
            _ => {
                bytes = bytes.strip_prefix(b"\n").expect("a blank line ends the event");
                parse_message(line.strip_prefix(b"data: ").expect("an event"))
            }
        });
    }
    bytes
}

fn parse_frame(bytes: &[u8]) -> Option<(Item, &[u8])> {
    let (head, rest) = bytes.split_at_checked(2)?;
    assert!(head[0] & 0xf0 == 0x80 && head[1] & 0x80 == 0, "a whole, unmasked frame");
    let (len, rest) = match head[1] {
        126 => {
            let (len, rest) = rest.split_at_checked(2)?;
            (usize::from(u16::from_be_bytes(len.try_into().ok()?)), rest)
        }
        127 => {
            let (len, rest) = rest.split_at_checked(8)?;
            (u64::from_be_bytes(len.try_into().ok()?) as usize, rest)
        }
        len => (usize::from(len), rest),
    };
    let (payload, rest) = rest.split_at_checked(len)?;
    let item = match Opcode::parse(head[0]).expect("an opcode") {
        Opcode::Ping => Item::Ping,
        Opcode::Pong => Item::Pong(payload.to_vec()),
        Opcode::Close => {
            assert!(rest.is_empty(), "something behind the close frame");
            let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
            Item::Close(code)
        }
        Opcode::Text | Opcode::Binary if payload == HEAD => Item::Head,
        Opcode::Text | Opcode::Binary if payload == FOOT => Item::Foot,
        Opcode::Text | Opcode::Binary => parse_message(payload),
        Opcode::Continuation => panic!("a fragment"),
    };
    Some((item, rest))
}

/// The event id of a message with this text: the number at its beginning.
pub(super) fn event_id(text: &[u8]) -> Option<&[u8]> {
    let end = text.iter().position(|byte| !byte.is_ascii_digit())?;
    let is_numbered = end > 0 && text.get(end) == Some(&b'x');
    text.get(..=end).filter(|_| is_numbered)
}

fn parse_message(bytes: &[u8]) -> Item {
    let mut parts = bytes.splitn(4, |byte| *byte == b' ');
    let channel = parts.next().expect("a channel").to_vec();
    let id =
        parts.next().and_then(|id| core::str::from_utf8(id).ok()?.parse().ok()).expect("an id");
    let place = cursor::parse(parts.next().expect("a tag or a cursor"));
    let text = parts.next().expect("a text").to_vec();
    match id {
        PING_ID => Item::Ping,
        TIMEOUT_ID => Item::TimedOut,
        DELETED_ID => Item::Notice { channel },
        GAP_ID => parse_gap(&text),
        id => Item::Message { channel, id, text, place },
    }
}

fn parse_gap(text: &[u8]) -> Item {
    let text = core::str::from_utf8(text).expect("JSON");
    if !text.contains("\"reason\":\"slow\"") {
        return Item::Gap(text.into());
    }
    let (channel, missed) = text
        .strip_prefix("{\"channel\":\"")
        .and_then(|rest| rest.strip_suffix('}'))
        .and_then(|rest| rest.split_once("\",\"reason\":\"slow\",\"missed\":"))
        .expect("a gap");
    Item::Skipped { channel: channel.into(), missed: missed.parse().expect("a number") }
}

/// A frame of a client, masked with zeros.
pub(super) fn frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::encode_head(opcode, payload.len(), &mut bytes);
    bytes[1] |= 0x80;
    bytes.extend([0; 4]);
    bytes.extend_from_slice(payload);
    bytes
}
