//! The account of a client that resumes by cursor only: what it has, and what it was told that it lacks.
//!
//! Each channel has one publisher, which publishes one message after the other. So its publishes are in the
//! order of its messages, and a client that skips one lacks it. The message ids are the second witness: they
//! count the messages of a channel one by one, as long as it is neither removed nor lost with its zone.
//!
//! ```text
//!   had ──── lacked ──── attached, a gap was told ──── lacked ──── had
//!            is told                                  is untold
//! ```

use std::collections::HashSet;

use crate::items::Item;
use crate::ledger::{ChannelId, Fates, Ledger, Wrong};

/// What can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The client lacks a message, and nobody told it.
    Untold,
    Doubled,
    Disorder,
    /// It was told of a gap, and lacks nothing.
    Vain,
    Mixed,
    Odd,
}

impl From<Wrong> for Fault {
    fn from(wrong: Wrong) -> Self {
        match wrong {
            Wrong::Lost => Self::Untold,
            Wrong::Doubled => Self::Doubled,
            Wrong::Mixed => Self::Mixed,
            Wrong::Disorder => Self::Disorder,
        }
    }
}

/// Faults, each with a text for people.
pub(crate) type Faults = Vec<(Fault, String)>;

/// One channel of a client.
#[derive(Debug)]
struct Seat {
    channel: ChannelId,
    /// It may be removed, and made again: its ids then begin again.
    is_removable: bool,
    /// Its last publish of which the client has the message; or, if it is not exact, one after which the
    /// client's first place lies: of those before it some may come or not.
    last: u64,
    is_exact: bool,
    /// The id of that message, and which of the lives of the zone had it.
    id: u64,
    life: u64,
    /// The publish that was the last one when it was attached.
    attached: u64,
    /// The client was told that it may lack publishes up to this one.
    told: u64,
    /// How many it was told to have lost since its last message because it was slow, on this connection. `None`:
    /// what it lacks may have another reason as well.
    slow: Option<u64>,
    had: HashSet<u64>,
}

/// What a server says about a gap in a channel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Gap<'a> {
    pub(crate) channel: &'a str,
    pub(crate) reason: &'a str,
    /// How many messages it is.
    pub(crate) missed: Option<u64>,
}

impl<'a> Gap<'a> {
    /// Reads `{"channel":"news","reason":"evicted","missed":12}`; the number may be `null`.
    pub(crate) fn read(text: &'a str) -> Option<Self> {
        let rest = text.strip_prefix("{\"channel\":\"")?.strip_suffix('}')?;
        let (channel, rest) = rest.split_once("\",\"reason\":\"")?;
        let (reason, missed) = rest.split_once("\",\"missed\":")?;
        let missed = if missed == "null" { None } else { Some(missed.parse().ok()?) };
        Some(Self { channel, reason, missed })
    }
}

/// A gap that was told, until it is known what the client lacked.
#[derive(Debug)]
struct Notice {
    seat: usize,
    reason: String,
    /// The publishes up to this one are meant.
    until: u64,
    /// What did not come: before which publishes, and how many.
    holes: Vec<(u64, u64)>,
    lacked: u64,
    /// How many there are is not known exactly: some publishes were not answered, or the client's place is
    /// not known exactly.
    is_vague: bool,
    /// How many the server said there are.
    missed: Option<u64>,
    /// There may be more, of which the client was told before.
    is_part: bool,
    /// The manual allows that it is told in vain.
    may_be_vain: bool,
}

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Account {
    seats: Vec<Seat>,
    /// When the latest of the publishes began that the client has, as a mark of the ledger.
    latest: u64,
    notices: Vec<Notice>,
    /// How many numbers of missed messages were compared with those that did not come.
    pub(crate) compared: u64,
}

impl Account {
    /// Channels, and which of them may be removed.
    pub(crate) fn new(channels: &[(ChannelId, bool)]) -> Self {
        let seat = |&(channel, is_removable): &(ChannelId, bool)| Seat {
            channel,
            is_removable,
            last: 0,
            is_exact: false,
            id: 0,
            life: 0,
            attached: 0,
            told: 0,
            slow: Some(0),
            had: HashSet::new(),
        };
        let seats = channels.iter().map(seat).collect();
        Self { seats, latest: 0, notices: Vec::new(), compared: 0 }
    }

    pub(crate) fn channels(&self) -> impl Iterator<Item = ChannelId> + '_ {
        self.seats.iter().map(|seat| seat.channel)
    }

    /// The client has been attached. Without a place it is a new one.
    pub(crate) fn attach(&mut self, ledger: &Ledger, has_place: bool) {
        for notice in &mut self.notices {
            // More may be gone now.
            notice.missed = None;
        }
        if !has_place {
            self.latest = 0;
            self.notices.clear();
        }
        for seat in &mut self.seats {
            seat.attached = ledger.begun_in(seat.channel);
            seat.slow = None;
            if !has_place {
                seat.had.clear();
                (seat.is_exact, seat.last, seat.told) = (false, seat.attached, 0);
            }
        }
    }

    /// It is told that it lacks messages.
    pub(crate) fn tell(&mut self, ledger: &Ledger, gap: &Gap<'_>) -> Faults {
        let Gap { channel, reason, missed } = *gap;
        let mut faults = Vec::new();
        let own = |seat: &Seat| ledger.channels[seat.channel].name == channel;
        let Some(at) = self.seats.iter().position(own) else {
            faults.push((Fault::Mixed, format!("a gap of \"{channel}\"")));
            return faults;
        };
        let is_alone = self.seats.len() == 1;
        let seat = &mut self.seats[at];
        if reason == "slow" {
            return self.tell_slow(ledger, at, gap);
        }
        let until = seat.attached;
        // Otherwise the client's place may lie behind what it was told of before.
        let is_first = seat.told <= seat.last;
        seat.told = until;
        if reason == "restarted" {
            // It gets no old messages, and what it lacked before is gone with everything else.
            (seat.last, seat.is_exact) = (until, false);
            self.notices.retain(|notice| notice.seat != at);
            return faults;
        }
        if reason == "unknown" && !seat.is_removable {
            faults.push((Fault::Odd, format!("{channel} lives, and has a gap \"unknown\"")));
        }
        let is_known = is_alone && seat.is_exact && !seat.is_removable;
        if is_known && missed.is_none() {
            faults.push((Fault::Odd, format!("{gap:?}: its cursor has the number")));
        }
        if missed == Some(0) {
            faults.push((Fault::Vain, format!("{gap:?}")));
        }
        self.notices.push(Notice {
            seat: at,
            reason: reason.to_owned(),
            until,
            holes: Vec::new(),
            lacked: 0,
            is_vague: !seat.is_exact,
            missed,
            is_part: !is_first,
            may_be_vain: reason == "unknown" && seat.is_removable,
        });
        faults.extend(self.judge(ledger));
        faults
    }

    /// It is told that messages were skipped, because it was slow.
    fn tell_slow(&mut self, ledger: &Ledger, at: usize, gap: &Gap<'_>) -> Faults {
        let seat = &mut self.seats[at];
        seat.told = ledger.begun_in(seat.channel);
        let before = match seat.last < seat.attached {
            // Old messages may be among them, of which it was told at the beginning that they were gone.
            true => None,
            false => seat.slow,
        };
        seat.slow = before.zip(gap.missed).map(|(before, missed)| before + missed);
        for notice in self.notices.iter_mut().filter(|notice| notice.seat == at) {
            notice.is_vague = true;
        }
        match gap.missed {
            Some(1..) => Vec::new(),
            _ => vec![(Fault::Odd, format!("{gap:?}"))],
        }
    }

    /// It got a message, on a connection to that life of the zone.
    pub(crate) fn receive(&mut self, ledger: &mut Ledger, life: u64, item: &Item<'_>) -> Faults {
        let mut faults = Vec::new();
        let name = item.channel;
        let own = |seat: &Seat| ledger.channels[seat.channel].name == name;
        let Some(at) = self.seats.iter().position(own) else {
            faults.push((Fault::Mixed, format!("a message of \"{name}\"")));
            return faults;
        };
        let id = item.id.unsigned_abs();
        let channel = self.seats[at].channel;
        let publish = match ledger.recognise(channel, id, item.event_id, item.text) {
            Ok(publish) => publish,
            Err((wrong, text)) => {
                faults.push((wrong.into(), text));
                return faults;
            }
        };
        let (begun, ended) = ledger.span(channel, publish);
        let serial = u64::from(publish) + 1;
        let seat = &mut self.seats[at];
        let last = seat.last;
        if !seat.had.insert(serial) {
            faults.push((Fault::Doubled, format!("{name}/{id}, publish {serial}")));
            return faults;
        }
        if serial < last && seat.is_exact {
            let text = format!("{name}/{id}, publish {serial}, after publish {last}");
            faults.push((Fault::Disorder, text));
            return faults;
        }
        if ended.is_some_and(|ended| ended < self.latest) {
            let text = format!("{name}/{id}, publish {serial}: another began after its answer");
            faults.push((Fault::Disorder, text));
        }
        self.latest = self.latest.max(begun);
        self.skip(ledger, at, serial, id, life, &mut faults);
        let seat = &mut self.seats[at];
        (seat.last, seat.is_exact, seat.id, seat.life) = (serial, true, id, life);
        seat.slow = Some(0);
        faults.extend(self.judge(ledger));
        faults
    }

    /// Judges the publishes between the last one and this one.
    fn skip(
        &mut self,
        ledger: &Ledger,
        at: usize,
        serial: u64,
        id: u64,
        life: u64,
        faults: &mut Faults,
    ) {
        let seat = &self.seats[at];
        let (channel, first) = (seat.channel, seat.last + 1);
        let name = &ledger.channels[channel].name;
        let all = ledger.fates(channel, first..serial.max(first));
        let has_ids = seat.is_exact && seat.life == life && !seat.is_removable;
        let by_ids = has_ids.then(|| id.saturating_sub(seat.id + 1));
        if let Some(count) = by_ids
            && (id <= seat.id || count < all.acknowledged || count > all.acknowledged + all.open)
        {
            let (was, Fates { acknowledged, open }) = (seat.id, all);
            faults.push((
                Fault::Odd,
                format!("{name}/{id} after {was}: {acknowledged} to {open} publishes between"),
            ));
        }
        if let (Some(count), Some(told @ 1..)) = (by_ids, seat.slow) {
            self.compared += 1;
            if count != told {
                let fault = if count > told { Fault::Untold } else { Fault::Vain };
                faults.push((fault, format!("{name}/{id}: {count} skipped, {told} told")));
            }
        }
        let new = ledger.fates(channel, first.max(seat.told + 1)..serial.max(first));
        let open_ones_exist = by_ids.is_some_and(|count| count > all.acknowledged);
        if new.acknowledged > 0 || (open_ones_exist && new.open == all.open) {
            faults.push((
                Fault::Untold,
                format!(
                    "{name}/{id}: publishes {first} to {}, told up to {}",
                    serial - 1,
                    seat.told
                ),
            ));
        }
        for notice in self.notices.iter_mut().filter(|notice| notice.seat == at) {
            let end = notice.until + 1;
            let meant = ledger.fates(channel, first..serial.min(end).max(first));
            if serial > first {
                notice.holes.push((serial, by_ids.unwrap_or(meant.acknowledged)));
            }
            match by_ids.filter(|_| serial <= end) {
                Some(count) => notice.lacked += count,
                None => {
                    notice.lacked += meant.acknowledged;
                    notice.is_vague |= meant.open > 0;
                }
            }
        }
    }

    /// Judges the gaps of which everything is known.
    fn judge(&mut self, ledger: &Ledger) -> Faults {
        let mut faults = Vec::new();
        let seats = &self.seats;
        self.notices.retain(|notice| {
            let Notice { seat, reason, until, holes, lacked, is_vague, missed, is_part, may_be_vain } = notice;
            let seat = &seats[*seat];
            if seat.last < *until {
                return true;
            }
            let name = &ledger.channels[seat.channel].name;
            if *lacked == 0 && !is_vague && !may_be_vain {
                faults.push((Fault::Vain, format!("{name} \"{reason}\"")));
            } else if let Some(missed) = missed
                && !is_vague
            {
                self.compared += u64::from(!is_part);
                if missed > lacked || (missed < lacked && !is_part) {
                    let text = format!("{name} \"{reason}\": {missed} told, {lacked} lacked: {holes:?}, until {until}");
                    faults.push((Fault::Odd, text));
                }
            }
            false
        });
        faults
    }

    /// It has the last message of each channel, or came after it.
    pub(crate) fn is_complete(&self, ledger: &Ledger) -> bool {
        self.seats.iter().all(|seat| seat.last >= ledger.begun_in(seat.channel))
    }

    /// Its channels, for a report.
    pub(crate) fn describe(&self, ledger: &Ledger) -> String {
        let places = self.seats.iter().map(|seat| {
            let name = &ledger.channels[seat.channel].name;
            let about = if seat.is_exact { "" } else { "~" };
            format!("{name}:{about}{} told {}", seat.last, seat.told)
        });
        places.collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Fate;

    const TEXT: &[u8] = b"text";

    /// A channel with publishes that ended like this, and a client of it that has the first one.
    fn world(fates: &[Fate]) -> (Ledger, Account) {
        let mut ledger = Ledger::default();
        let channel = ledger.open("a".to_owned(), false);
        let mut account = Account::new(&[(channel, false)]);
        account.attach(&ledger, false);
        publish(&mut ledger, &[Fate::Acknowledged]);
        assert_eq!(get(&mut ledger, &mut account, 1, 1), []);
        publish(&mut ledger, fates);
        (ledger, account)
    }

    fn publish(ledger: &mut Ledger, fates: &[Fate]) {
        for &fate in fates {
            let event_id = (ledger.begun_in(0) + 1).to_string();
            let publish = ledger.begin(0, event_id, TEXT);
            ledger.end(0, publish, fate);
        }
    }

    fn get(ledger: &mut Ledger, account: &mut Account, serial: u64, id: i64) -> Vec<Fault> {
        let event_id = serial.to_string();
        let (channel, event_id, cursor, time) = ("a", event_id.as_str(), "p", "now");
        let item = Item { id, tag: 1, channel, event_id, cursor, time, text: TEXT };
        kinds(account.receive(ledger, 0, &item))
    }

    fn kinds(faults: Faults) -> Vec<Fault> {
        faults.into_iter().map(|(fault, _)| fault).collect()
    }

    fn tell(ledger: &Ledger, account: &mut Account, missed: Option<u64>) -> Vec<Fault> {
        account.attach(ledger, true);
        kinds(account.tell(ledger, &Gap { channel: "a", reason: "evicted", missed }))
    }

    #[test]
    fn a_client_that_gets_everything_has_no_complaint() {
        let (mut ledger, mut account) = world(&[Fate::Acknowledged; 3]);
        for serial in 2..=4 {
            assert_eq!(get(&mut ledger, &mut account, serial, serial as i64), []);
        }
        assert!(account.is_complete(&ledger));
    }

    #[test]
    fn reads_what_a_gap_says() {
        let gap = Gap { channel: "a-0", reason: "expired", missed: Some(12) };
        let text = r#"{"channel":"a-0","reason":"expired","missed":12}"#;
        assert_eq!(Gap::read(text), Some(gap));
        let text = r#"{"channel":"a-0","reason":"expired","missed":null}"#;
        assert_eq!(Gap::read(text), Some(Gap { missed: None, ..gap }));
        assert_eq!(Gap::read(r#"{"channel":"a-0","reason":"expired"}"#), None);
    }

    #[test]
    fn a_hole_must_be_told() {
        let (mut ledger, mut account) = world(&[Fate::Acknowledged; 3]);
        assert_eq!(get(&mut ledger, &mut account, 4, 4), [Fault::Untold]);
        let (mut ledger, mut account) = world(&[Fate::Acknowledged; 3]);
        assert_eq!(tell(&ledger, &mut account, Some(2)), []);
        assert_eq!(get(&mut ledger, &mut account, 4, 4), []);
        let (mut ledger, mut account) = world(&[Fate::Acknowledged; 3]);
        assert_eq!(tell(&ledger, &mut account, Some(3)), []);
        assert_eq!(get(&mut ledger, &mut account, 4, 4), [Fault::Odd]);
    }

    #[test]
    fn a_gap_says_nothing_about_what_was_published_after_it() {
        let (mut ledger, mut account) = world(&[Fate::Acknowledged; 2]);
        assert_eq!(tell(&ledger, &mut account, Some(1)), []);
        publish(&mut ledger, &[Fate::Acknowledged; 2]);
        assert_eq!(get(&mut ledger, &mut account, 3, 3), []);
        assert_eq!(get(&mut ledger, &mut account, 5, 5), [Fault::Untold]);
    }

    #[test]
    fn a_slow_client_is_told_exactly() {
        let slow = |missed| Gap { channel: "a", reason: "slow", missed: Some(missed) };
        for (told, fault) in [(1, vec![Fault::Untold]), (2, vec![]), (3, vec![Fault::Vain])] {
            let (mut ledger, mut account) = world(&[Fate::Acknowledged; 3]);
            assert_eq!(kinds(account.tell(&ledger, &slow(1))), []);
            if told > 1 {
                assert_eq!(kinds(account.tell(&ledger, &slow(told - 1))), []);
            }
            assert_eq!(get(&mut ledger, &mut account, 4, 4), fault);
        }
    }

    #[test]
    fn what_was_told_before_is_not_told_again() {
        let (mut ledger, mut account) = world(&[Fate::Acknowledged; 2]);
        assert_eq!(tell(&ledger, &mut account, Some(2)), []);
        publish(&mut ledger, &[Fate::Acknowledged; 2]);
        assert_eq!(tell(&ledger, &mut account, Some(1)), []);
        assert_eq!(get(&mut ledger, &mut account, 5, 5), []);
    }

    #[test]
    fn who_lacks_nothing_must_not_be_told() {
        let (mut ledger, mut account) = world(&[Fate::Acknowledged; 2]);
        assert_eq!(tell(&ledger, &mut account, Some(2)), []);
        assert_eq!(get(&mut ledger, &mut account, 2, 2), []);
        assert_eq!(get(&mut ledger, &mut account, 3, 3), [Fault::Vain]);
        assert_eq!(tell(&ledger, &mut account, Some(2)), [Fault::Vain]);
    }

    #[test]
    fn ids_tell_whether_a_publish_without_an_answer_was_made() {
        for (id, untold) in [(2, vec![]), (3, vec![Fault::Untold]), (4, vec![Fault::Odd])] {
            let (mut ledger, mut account) = world(&[Fate::Open, Fate::Acknowledged]);
            let mut faults = get(&mut ledger, &mut account, 3, id);
            faults.truncate(1);
            assert_eq!(faults, untold, "{id}");
        }
        let (mut ledger, mut account) = world(&[Fate::Open, Fate::Acknowledged]);
        tell(&ledger, &mut account, Some(1));
        assert_eq!(get(&mut ledger, &mut account, 3, 2), [Fault::Vain]);
    }

    #[test]
    fn doubled_and_disordered_messages_are_found() {
        let (mut ledger, mut account) = world(&[Fate::Acknowledged; 2]);
        assert_eq!(get(&mut ledger, &mut account, 1, 1), [Fault::Doubled]);
        tell(&ledger, &mut account, None);
        assert_eq!(get(&mut ledger, &mut account, 3, 3), []);
        assert_eq!(get(&mut ledger, &mut account, 2, 2), [Fault::Disorder]);
    }

    #[test]
    fn channels_come_in_the_order_of_publishing() {
        let mut ledger = Ledger::default();
        let channels = ["a", "b"].map(|name| ledger.open(name.to_owned(), false));
        let mut account = Account::new(&channels.map(|channel| (channel, false)));
        account.attach(&ledger, false);
        for channel in channels {
            let publish = ledger.begin(channel, "1".to_owned(), TEXT);
            ledger.end(channel, publish, Fate::Acknowledged);
        }
        let item = |channel| Item {
            id: 1,
            tag: 1,
            channel,
            event_id: "1",
            cursor: "p",
            time: "now",
            text: TEXT,
        };
        assert_eq!(account.receive(&mut ledger, 0, &item("b")), []);
        assert_eq!(kinds(account.receive(&mut ledger, 0, &item("a"))), [Fault::Disorder]);
    }
}
