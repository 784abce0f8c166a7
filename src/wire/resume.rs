//! Resuming: the place that a subscriber names, the stored messages that it gets for it, and the
//! place that the answer announces.
//!
//! ```text
//!   If-Modified-Since: <HTTP date>     since-time
//!   If-None-Match: W/<digits>          since-tag; "<digits>" and W/"<digits>" too
//!   Last-Event-Id: <event id>          after-event
//!
//!   Last-Modified: <HTTP date>         the next since-time
//!   Etag: W/<digits>                   the next since-tag; without quotes, so that gzip keeps it
//! ```
//!
//! [`Selection`] looks at the stored messages of one channel one by one, oldest first, and never
//! back. So it works wherever the messages are kept.

use crate::model::{Seconds, Since};
use crate::wire::{cursor, date};

/// Bytes of the longest `Etag`.
pub const ETAG_MAX: usize = 2 + 20;

/// Reads the three inputs. Where there are cursors, one as event id says all. `None`: the header is absent, and no directive replaces it.
pub fn parse_since<'a>(
    time: Option<&[u8]>,
    tag: Option<&[u8]>,
    event_id: Option<&'a [u8]>,
    has_cursors: bool,
) -> Since<'a> {
    let cursor = event_id.filter(|_| has_cursors).and_then(cursor::parse);
    if cursor.is_some() {
        return Since { cursor, ..Since::default() };
    }
    Since {
        time: time.and_then(date::parse),
        tag: tag.and_then(parse_tag),
        event_id: event_id.filter(|id| !id.is_empty()),
        cursor: None,
    }
}

/// `W/7`, `7`, `"7"` and `W/"7"` are 7. Everything else, also a list, is no tag.
pub fn parse_tag(value: &[u8]) -> Option<u64> {
    let value = value.strip_prefix(b"W/").unwrap_or(value);
    let quoted = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    let digits = quoted.unwrap_or(value);
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Chooses the stored messages of one channel that a subscriber gets.
///
/// ```text
///   Last(n) ──────────────► the last n of them
///   Since ──found──► All    from the first that was not seen yet
///   None                    nothing
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selection<'a> {
    state: State<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State<'a> {
    Nothing,
    Last(u64),
    Since(Since<'a>),
    Everything,
}

impl<'a> Selection<'a> {
    /// A backtrack comes before `since`. A tag without a time selects nothing.
    pub fn new(backtrack: Option<u64>, since: Since<'a>) -> Self {
        let state = match backtrack {
            Some(last) if last > 0 => State::Last(last),
            _ if since.time.is_some() || since.event_id.is_some() => State::Since(since),
            _ => State::Nothing,
        };
        Self { state }
    }

    /// Does it select nothing, whatever is stored?
    pub fn is_nothing(&self) -> bool {
        self.state == State::Nothing
    }

    /// Does the subscriber go on from a place that it names?
    pub fn resumes(&self) -> bool {
        matches!(self.state, State::Since(_))
    }

    /// The backtrack, if that is what selects.
    pub fn last(&self) -> Option<u64> {
        match self.state {
            State::Last(last) => Some(last),
            _ => None,
        }
    }

    /// Does it need the event ids of messages, and not their times and tags alone?
    pub fn needs_event_ids(&self) -> bool {
        matches!(self.state, State::Since(since) if since.event_id.is_some())
    }

    /// May it select a message of this time and tag, or one before it? If not, and it needs no event ids,
    /// it selects all messages that come after.
    pub fn is_reached(&self, time: Seconds, tag: u64) -> bool {
        match self.state {
            State::Since(Since { time: Some(since), tag: after, .. }) => {
                (time, tag) > (since, after.unwrap_or(u64::MAX))
            }
            _ => true,
        }
    }

    /// Is this message the starting point, if no older one is? `is_named`: it has the event id.
    pub fn starts_at(&self, time: Seconds, tag: u64, is_named: bool) -> bool {
        match self.state {
            State::Since(since) => {
                let after = since.tag.unwrap_or(u64::MAX);
                is_named || since.time.is_some_and(|since| (time, tag) >= (since, after))
            }
            _ => true,
        }
    }

    /// How many of the newest messages are enough to decide, if `total` are stored.
    pub fn span(&self, total: u64) -> u64 {
        match self.state {
            State::Nothing => 0,
            State::Last(last) => last.min(total),
            State::Since(_) | State::Everything => total,
        }
    }

    /// Does it select the next message, which is number `index` of `total`, from the oldest (0)? To
    /// be called for one message after the other. Those before the last [`Selection::span`] may be
    /// left out.
    pub fn wants(
        &mut self,
        time: Seconds,
        tag: u64,
        event_id: Option<&[u8]>,
        index: u64,
        total: u64,
    ) -> bool {
        match self.state {
            State::Nothing => false,
            State::Everything => true,
            State::Last(last) => index >= total.saturating_sub(last),
            State::Since(since) => {
                let met_event = event_id.is_some() && event_id == since.event_id;
                let same_second = since.time == Some(time);
                let met_tag = same_second && since.tag == Some(tag);
                let later = since.time.is_some_and(|since| time > since)
                    || (same_second && since.tag.is_some_and(|since| tag > since));
                if met_event || met_tag || later {
                    self.state = State::Everything;
                }
                // The subscriber has the message that it names.
                !met_event && !met_tag && later
            }
        }
    }
}

/// The place that a response announces: that of its newest message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Announced {
    /// `Last-Modified`; 0: none.
    pub time: Seconds,
    /// `Etag`; `None`: none.
    pub tag: Option<u64>,
}

impl Announced {
    /// The place that the subscriber named, before any channel contributes.
    pub fn since(since: &Since<'_>) -> Self {
        Self { time: since.time.unwrap_or(0), tag: since.tag }
    }

    /// The place of the live message, of this time and tag, that answers a poll.
    pub fn message(time: Seconds, tag: u64) -> Self {
        Self { time, tag: Some(tag) }
    }

    /// The place for a poll that no message answers, or whose channel is deleted. The client said that it
    /// was here before. Within its second it does not go back, or it would get messages again.
    pub fn now(self, now: Seconds) -> Self {
        let tag = if self.time == now { self.tag } else { None };
        Self { time: now, tag: Some(tag.unwrap_or(0)) }
    }

    /// A channel of the response has its newest message at (`time`, `tag`).
    pub fn contribute(&mut self, time: Seconds, tag: u64) {
        if !self.covers(time, tag) {
            *self = Self { time, tag: Some(tag) };
        }
    }

    /// Is a message at (`time`, `tag`) not newer than the announced place?
    pub fn covers(&self, time: Seconds, tag: u64) -> bool {
        (time, tag) <= (self.time, self.tag.unwrap_or(0))
    }

    /// The value of `Last-Modified`. `None`: the header is left out.
    pub fn last_modified(&self) -> Option<[u8; date::HTTP_DATE_LEN]> {
        (self.time > 0).then(|| date::http_date(self.time))
    }

    /// The value of `Etag`, written into `room`. `None`: the header is left out.
    pub fn etag<'a>(&self, room: &'a mut [u8; ETAG_MAX]) -> Option<&'a [u8]> {
        let mut rest = self.tag?;
        let mut from = ETAG_MAX;
        for place in room.iter_mut().rev() {
            *place = b'0' + (rest % 10) as u8;
            rest /= 10;
            from -= 1;
            if rest == 0 {
                break;
            }
        }
        for byte in [b'/', b'W'] {
            from -= 1;
            room[from] = byte;
        }
        room.get(from..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Cursor;

    type Stored = (Seconds, u64, Option<&'static [u8]>);

    const PLAIN: &[Stored] = &[(100, 1, None), (100, 2, None), (101, 1, None)];
    const EVENTS: &[Stored] =
        &[(100, 1, Some(b"e1")), (100, 2, Some(b"e2")), (100, 3, None), (101, 1, Some(b"e3"))];

    fn selected(stored: &[Stored], backtrack: Option<u64>, since: Since<'_>) -> Vec<usize> {
        let mut selection = Selection::new(backtrack, since);
        let total = stored.len() as u64;
        let chosen: Vec<usize> = (0..stored.len())
            .filter(|n| {
                let (time, tag, event_id) = stored[*n];
                selection.wants(time, tag, event_id, *n as u64, total)
            })
            .collect();
        let first = Selection::new(backtrack, since).span(total);
        assert!(chosen.iter().all(|n| (*n as u64) >= total - first), "span is too short");
        chosen
    }

    fn since(time: Option<Seconds>, tag: Option<u64>, event_id: Option<&[u8]>) -> Since<'_> {
        Since { time, tag, event_id, cursor: None }
    }

    #[test]
    fn replays_as_the_table_says() {
        let cases: &[(&[Stored], Since<'_>, &[usize])] = &[
            (PLAIN, since(Some(100), None, None), &[2]),
            (PLAIN, since(Some(100), Some(0), None), &[0, 1, 2]),
            (PLAIN, since(Some(100), Some(1), None), &[1, 2]),
            (PLAIN, since(Some(100), Some(2), None), &[2]),
            (PLAIN, since(Some(100), Some(9), None), &[2]),
            (PLAIN, since(Some(99), Some(7), None), &[0, 1, 2]),
            (PLAIN, since(Some(0), None, None), &[0, 1, 2]),
            (PLAIN, since(Some(101), None, None), &[]),
            (PLAIN, since(Some(101), Some(1), None), &[]),
            (PLAIN, since(None, Some(1), None), &[]),
            (PLAIN, since(None, None, None), &[]),
            (EVENTS, since(None, None, Some(b"e2")), &[2, 3]),
            (EVENTS, since(None, None, Some(b"e3")), &[]),
            (EVENTS, since(None, None, Some(b"zz")), &[]),
            (EVENTS, since(Some(100), Some(2), Some(b"e1")), &[1, 2, 3]),
            (EVENTS, since(Some(100), Some(1), Some(b"e2")), &[1, 2, 3]),
            (EVENTS, since(Some(100), None, Some(b"zz")), &[3]),
            (&[], since(Some(0), None, Some(b"e1")), &[]),
        ];
        for (stored, since, expected) in cases {
            assert_eq!(selected(stored, None, *since), *expected, "{since:?}");
        }
    }

    #[test]
    fn the_oldest_message_with_the_event_id_decides() {
        let stored: &[Stored] = &[(1, 1, Some(b"e")), (1, 2, Some(b"e")), (1, 3, None)];
        assert_eq!(selected(stored, None, since(None, None, Some(b"e"))), [1, 2]);
    }

    #[test]
    fn an_absent_tag_of_a_lost_message_starts_with_the_next() {
        let stored: &[Stored] = &[(100, 2, None), (100, 5, None)];
        assert_eq!(selected(stored, None, since(Some(100), Some(3), None)), [1]);
    }

    #[test]
    fn a_backtrack_overrules_the_rest() {
        let cases: &[(Option<u64>, &[usize])] = &[
            (Some(1), &[2]),
            (Some(2), &[1, 2]),
            (Some(3), &[0, 1, 2]),
            (Some(u64::MAX), &[0, 1, 2]),
        ];
        for (backtrack, expected) in cases {
            assert_eq!(selected(PLAIN, *backtrack, since(Some(101), Some(1), None)), *expected);
        }
        assert_eq!(selected(PLAIN, Some(0), since(Some(100), None, None)), [2]);
        assert_eq!(selected(PLAIN, Some(0), Since::default()), [] as [usize; 0]);
        assert!(Selection::new(None, since(None, Some(3), None)).is_nothing());
        assert!(!Selection::new(Some(1), Since::default()).is_nothing());
    }

    #[test]
    fn reads_tags() {
        let cases: &[(&[u8], Option<u64>)] = &[
            (b"7", Some(7)),
            (b"W/7", Some(7)),
            (b"W/\"7\"", Some(7)),
            (b"\"7\"", Some(7)),
            (b"0", Some(0)),
            (b"18446744073709551615", Some(u64::MAX)),
            (b"18446744073709551616", None),
            (b"", None),
            (b"W/", None),
            (b"\"\"", None),
            (b"\"", None),
            (b"*", None),
            (b"+7", None),
            (b"-7", None),
            (b"7 ", None),
            (b"w/7", None),
            (b"7, 8", None),
            (b"\"7", None),
        ];
        for (value, tag) in cases {
            assert_eq!(parse_tag(value), *tag, "{}", String::from_utf8_lossy(value));
        }
    }

    #[test]
    fn reads_all_inputs() {
        let read =
            parse_since(Some(b"Thu, 01 Jan 1970 00:01:40 GMT"), Some(b"W/2"), Some(b"e1"), false);
        assert_eq!(read, since(Some(100), Some(2), Some(b"e1")));
        let unreadable =
            parse_since(Some(b"Thu, 1 Jan 1970 00:00:00 GMT"), Some(b"x"), Some(b""), false);
        assert_eq!(unreadable, Since::default());
        assert_eq!(parse_since(None, None, None, false), Since::default());
        let date = b"Thu, 01 Jan 1970 00:01:40 GMT".as_slice();
        let with = |event_id, has_cursors| {
            parse_since(Some(date), Some(b"W/2"), Some(event_id), has_cursors)
        };
        let cursor = Cursor { life: 1, time: 2, tag: 3, latest: None };
        let word = cursor::word(&cursor);
        let mut altered = word;
        altered[7] ^= 1;
        let cursor = Some(cursor);
        assert_eq!(with(&word, true), Since { cursor, ..Since::default() });
        for (event_id, has_cursors) in [(&word, false), (&altered, true)] {
            let since = with(event_id, has_cursors);
            assert_eq!((since.time, since.cursor), (Some(100), None));
            assert_eq!(since.event_id, Some(event_id.as_slice()));
        }
    }

    #[test]
    fn announces_the_newest_contribution() {
        let mut announced = Announced::since(&Since::default());
        assert_eq!((announced.last_modified(), announced.etag(&mut [0; ETAG_MAX])), (None, None));
        announced.contribute(100, 2);
        announced.contribute(100, 1);
        announced.contribute(99, 9);
        assert_eq!(announced, Announced { time: 100, tag: Some(2) });
        announced.contribute(101, 1);
        assert_eq!(announced, Announced { time: 101, tag: Some(1) });
        assert!(announced.covers(101, 1) && announced.covers(100, 7) && !announced.covers(101, 2));

        for (tag, etag) in
            [(1, &b"W/1"[..]), (0, b"W/0"), (10, b"W/10"), (u64::MAX, b"W/18446744073709551615")]
        {
            let announced = Announced { tag: Some(tag), ..announced };
            assert_eq!(announced.etag(&mut [b'x'; ETAG_MAX]), Some(etag));
        }
        assert_eq!(announced.last_modified().as_ref(), Some(b"Thu, 01 Jan 1970 00:01:41 GMT"));
    }

    #[test]
    fn without_news_the_input_is_echoed() {
        let echoed = Announced::since(&since(Some(100), Some(3), None));
        assert_eq!(echoed, Announced { time: 100, tag: Some(3) });
        assert_eq!(Announced::since(&since(Some(0), None, None)).last_modified(), None);
        assert_eq!(Announced::default().now(7), Announced { time: 7, tag: Some(0) });
        assert_eq!(echoed.now(100), echoed);
        assert_eq!(echoed.now(101), Announced { time: 101, tag: Some(0) });
    }
}
