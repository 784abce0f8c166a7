//! The ledger: every publish, how it was answered, and what subscribers have seen of it.
//!
//! A publish is identified by its event id (publisher and count), or by the beginning of its body up to a
//! `|` if it has none (published over a WebSocket). Its fate is the answer that the publisher got. The first
//! subscriber that sees message `n` of a channel decides which publish that is. All others must see the same
//! bytes there, and no publish may be seen under two numbers.

use std::collections::HashMap;
use std::ops::Range;

/// Which channel, from 0.
pub(crate) type ChannelId = usize;

/// How a publish ended for its publisher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Answered 200: must be seen.
    Acknowledged,
    /// Answered by a refusal: must not be seen.
    Refused,
    /// Not answered (yet, or because the worker died): may be seen.
    Open,
}

/// A fault that a subscriber has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrong {
    Lost,
    Doubled,
    Mixed,
    Disorder,
}

/// One publish.
struct Sent {
    len: usize,
    hash: u64,
    fate: Fate,
    /// The number of publishes of the whole run when it began.
    begun: u64,
    /// The same when it was acknowledged; 0: it was not.
    ended: u64,
    /// The message id under which it was seen; 0: not seen.
    id: u64,
}

/// How many publishes ended in which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fates {
    pub(crate) acknowledged: u64,
    pub(crate) open: u64,
}

/// A message that a subscriber has seen.
struct Seen {
    publish: u32,
    time_hash: u64,
    tag: u64,
}

/// One channel's publishes and messages.
pub(crate) struct Channel {
    pub(crate) name: String,
    /// Its messages are stored: an acknowledged one that no subscriber saw is lost.
    pub(crate) kept: bool,
    /// In the order in which they began.
    sent: Vec<Sent>,
    by_event: HashMap<String, u32>,
    /// `[n]` is message `n + 1`.
    seen: Vec<Option<Seen>>,
    /// The largest number of messages that the server has reported.
    pub(crate) told: u64,
    pub(crate) acknowledged: u64,
}

/// All channels.
#[derive(Default)]
pub(crate) struct Ledger {
    pub(crate) channels: Vec<Channel>,
    begun: u64,
    /// Publishes that were acknowledged.
    pub(crate) acknowledged: u64,
    /// Messages that all subscribers have received.
    pub(crate) deliveries: u64,
}

/// A fast hash, good enough to find bytes that differ.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let mut state = 0x51_7c_c1_b7_27_22_0a_95_u64 ^ bytes.len() as u64;
    let mut chunks = bytes.chunks_exact(8);
    for chunk in &mut chunks {
        let word = u64::from_le_bytes(chunk.try_into().unwrap_or_default());
        state = (state ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }
    for &byte in chunks.remainder() {
        state = (state ^ u64::from(byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }
    state ^ (state >> 32)
}

impl Ledger {
    pub(crate) fn open(&mut self, name: String, kept: bool) -> ChannelId {
        self.channels.push(Channel {
            name,
            kept,
            sent: Vec::new(),
            by_event: HashMap::new(),
            seen: Vec::new(),
            told: 0,
            acknowledged: 0,
        });
        self.channels.len() - 1
    }

    /// How many publishes have begun: a mark in time.
    pub(crate) fn mark(&self) -> u64 {
        self.begun
    }

    /// A publish begins. Its number, for [`Ledger::end`].
    pub(crate) fn begin(&mut self, channel: ChannelId, event_id: String, body: &[u8]) -> u32 {
        self.begun += 1;
        let begun = self.begun;
        let channel = &mut self.channels[channel];
        let number = channel.sent.len() as u32;
        let fate = Fate::Open;
        channel.sent.push(Sent { len: body.len(), hash: hash(body), fate, begun, ended: 0, id: 0 });
        channel.by_event.insert(event_id, number);
        number
    }

    /// The publisher has its answer.
    pub(crate) fn end(&mut self, channel: ChannelId, publish: u32, fate: Fate) {
        let channel = &mut self.channels[channel];
        channel.sent[publish as usize].fate = fate;
        if fate == Fate::Acknowledged {
            channel.sent[publish as usize].ended = self.begun;
            channel.acknowledged += 1;
            self.acknowledged += 1;
        }
    }

    /// A subscriber received message `id` of the channel: which publish is it?
    pub(crate) fn recognise(
        &mut self,
        channel: ChannelId,
        id: u64,
        event_id: &str,
        text: &[u8],
    ) -> Result<u32, (Wrong, String)> {
        self.deliveries += 1;
        let channel = &mut self.channels[channel];
        let name = &channel.name;
        let event_id = if event_id.is_empty() { key_in(text) } else { event_id };
        let Some(&publish) = channel.by_event.get(event_id) else {
            return Err((Wrong::Mixed, format!("{name}/{id}: nobody published \"{event_id}\"")));
        };
        let sent = &mut channel.sent[publish as usize];
        if sent.len != text.len() || sent.hash != hash(text) {
            let (got, want) = (text.len(), sent.len);
            return Err((
                Wrong::Mixed,
                format!(
                    "{name}/{id} \"{event_id}\": other bytes than published ({got}, not {want})"
                ),
            ));
        }
        if sent.fate == Fate::Refused {
            return Err((Wrong::Mixed, format!("{name}/{id} \"{event_id}\": was refused")));
        }
        if sent.id == 0 {
            sent.id = id;
        } else if sent.id != id {
            let first = sent.id;
            return Err((Wrong::Doubled, format!("{name}: \"{event_id}\" is {first} and {id}")));
        }
        Ok(publish)
    }

    /// The same in a channel that is never removed, so that each id means one message.
    pub(crate) fn see(
        &mut self,
        channel: ChannelId,
        id: u64,
        (tag, time): (u64, &str),
        event_id: &str,
        text: &[u8],
    ) -> Result<(), (Wrong, String)> {
        let publish = self.recognise(channel, id, event_id, text)?;
        let channel = &mut self.channels[channel];
        let name = &channel.name;
        let Some(at) = id.checked_sub(1).and_then(|at| usize::try_from(at).ok()) else {
            return Err((Wrong::Mixed, format!("{name}: message id {id}")));
        };
        if at > channel.sent.len() {
            return Err((Wrong::Mixed, format!("{name}/{id}: more messages than publishes")));
        }
        if channel.seen.len() <= at {
            channel.seen.resize_with(at + 1, || None);
        }
        let time_hash = hash(time.as_bytes());
        match &channel.seen[at] {
            None => channel.seen[at] = Some(Seen { publish, time_hash, tag }),
            Some(seen) if (seen.publish, seen.time_hash, seen.tag) == (publish, time_hash, tag) => {
            }
            Some(_) => {
                return Err((
                    Wrong::Mixed,
                    format!("{name}/{id}: \"{event_id}\" {tag} {time} here, another elsewhere"),
                ));
            }
        }
        Ok(())
    }

    /// How many publishes to the channel have begun. Its publishes are counted from 1 in that order.
    pub(crate) fn begun_in(&self, channel: ChannelId) -> u64 {
        self.channels[channel].sent.len() as u64
    }

    /// How these publishes to the channel ended, counted from 1.
    pub(crate) fn fates(&self, channel: ChannelId, publishes: Range<u64>) -> Fates {
        let mut fates = Fates { acknowledged: 0, open: 0 };
        let sent = &self.channels[channel].sent;
        for at in publishes {
            match sent.get(at as usize - 1).map(|sent| sent.fate) {
                Some(Fate::Acknowledged) => fates.acknowledged += 1,
                Some(Fate::Open) => fates.open += 1,
                Some(Fate::Refused) | None => {}
            }
        }
        fates
    }

    /// When a publish began and when it was acknowledged (`None`: it was not), as marks.
    pub(crate) fn span(&self, channel: ChannelId, publish: u32) -> (u64, Option<u64>) {
        let sent = &self.channels[channel].sent[publish as usize];
        (sent.begun, Some(sent.ended).filter(|&ended| ended > 0))
    }

    /// The number of messages of the channel, by everything that is known.
    pub(crate) fn last_id(&self, channel: ChannelId) -> u64 {
        let channel = &self.channels[channel];
        channel.told.max(channel.seen.len() as u64)
    }

    /// The faults of a channel of which a subscriber has seen everything: acknowledged publishes that were not
    /// seen, numbers that were not seen, publishes of one publisher in another order.
    pub(crate) fn close(&self, channel: ChannelId) -> Vec<(Wrong, String)> {
        let channel = &self.channels[channel];
        let mut wrong = Vec::new();
        for (event_id, &publish) in &channel.by_event {
            let sent = &channel.sent[publish as usize];
            if channel.kept && sent.fate == Fate::Acknowledged && sent.id == 0 {
                wrong.push((
                    Wrong::Lost,
                    format!("{}: \"{event_id}\" was acknowledged, nobody saw it", channel.name),
                ));
            }
        }
        for (at, seen) in channel.seen.iter().enumerate() {
            if channel.kept && seen.is_none() {
                wrong.push((Wrong::Lost, format!("{}/{}: nobody saw it", channel.name, at + 1)));
            }
        }
        let mut last: HashMap<&str, (u64, u32)> = HashMap::new();
        let mut events: Vec<_> = channel.by_event.iter().collect();
        events.sort_by_key(|&(_, &publish)| publish);
        for (event_id, &publish) in events {
            let id = channel.sent[publish as usize].id;
            if id == 0 {
                continue;
            }
            let publisher = event_id.split('-').next().unwrap_or_default();
            let (last_id, _) = last.insert(publisher, (id, publish)).unwrap_or_default();
            if last_id > id {
                wrong.push((
                    Wrong::Disorder,
                    format!("{}: \"{event_id}\" is {id}, the one before {last_id}", channel.name),
                ));
            }
        }
        wrong
    }

    /// The latest beginning of all publishes seen as messages before `id`: a subscriber whose first
    /// message is `id` must have attached after it.
    pub(crate) fn begun_before(&self, channel: ChannelId, id: u64) -> u64 {
        let channel = &self.channels[channel];
        let end = (id.saturating_sub(1) as usize).min(channel.seen.len());
        channel.seen[..end]
            .iter()
            .flatten()
            .map(|seen| channel.sent[seen.publish as usize].begun)
            .max()
            .unwrap_or(0)
    }
}

/// The bytes before the first `|`.
fn key_in(text: &[u8]) -> &str {
    let end = text.iter().take(40).position(|&byte| byte == b'|').unwrap_or(0);
    std::str::from_utf8(&text[..end]).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        let channel = ledger.open("a".to_owned(), true);
        let first = ledger.begin(channel, "p1-1".to_owned(), b"one");
        ledger.end(channel, first, Fate::Acknowledged);
        ledger.begin(channel, "p1-2".to_owned(), b"two");
        ledger
    }

    fn see(ledger: &mut Ledger, id: u64, event_id: &str, text: &[u8]) -> Option<Wrong> {
        ledger.see(0, id, (1, "now"), event_id, text).err().map(|(wrong, _)| wrong)
    }

    #[test]
    fn the_truth_is_accepted() {
        let mut ledger = ledger();
        for _ in 0..2 {
            assert_eq!(see(&mut ledger, 1, "p1-1", b"one"), None);
            assert_eq!(see(&mut ledger, 2, "p1-2", b"two"), None);
        }
        assert_eq!(ledger.close(0), []);
        assert_eq!(ledger.begun_before(0, 2), 1);
    }

    #[test]
    fn each_kind_of_lie_is_found() {
        assert_eq!(see(&mut ledger(), 1, "p1-1", b"onf"), Some(Wrong::Mixed));
        assert_eq!(see(&mut ledger(), 1, "p2-1", b"one"), Some(Wrong::Mixed));
        let mut twice = ledger();
        assert_eq!(see(&mut twice, 1, "p1-1", b"one"), None);
        assert_eq!(see(&mut twice, 2, "p1-1", b"one"), Some(Wrong::Doubled));
        let mut other = ledger();
        assert_eq!(see(&mut other, 1, "p1-1", b"one"), None);
        assert_eq!(see(&mut other, 1, "p1-2", b"two"), Some(Wrong::Mixed));
        let mut refused = ledger();
        refused.end(0, 1, Fate::Refused);
        assert_eq!(see(&mut refused, 2, "p1-2", b"two"), Some(Wrong::Mixed));
    }

    #[test]
    fn the_end_tells_what_is_lost_or_out_of_order() {
        let mut lost = ledger();
        assert_eq!(see(&mut lost, 2, "p1-2", b"two"), None);
        assert_eq!(lost.close(0).len(), 2);
        let mut disorder = ledger();
        assert_eq!(see(&mut disorder, 2, "p1-1", b"one"), None);
        assert_eq!(see(&mut disorder, 1, "p1-2", b"two"), None);
        assert!(disorder.close(0).iter().any(|(wrong, _)| *wrong == Wrong::Disorder));
    }
}
