//! Cursors: a subscriber's place in a zone, as one opaque word.
//!
//! ```text
//!   p <44 characters of A-Za-z0-9_->      base64url of 33 bytes, the first byte of a number first
//!   └ version
//!      life 8 │ time 5 │ tag 4 │ channel 4 │ id 6 │ check 6
//!                                └────────────┴─ the newest message of one channel up to there; 0: not said
//! ```
//!
//! A cursor can stand in a header, in an argument and in an event stream as it is. Each place has one form
//! only, and all have one length. The check tells what was cut off or altered on its way from a cursor; it
//! is no secret, and nothing is trusted because of it.

use crate::model::{Cursor, Latest, Seconds};

/// Bytes of each cursor. Clients are told that no version will have more than 64.
pub const LEN: usize = 1 + BYTES / 3 * 4;

const VERSION: u8 = b'p';
const BYTES: usize = 33;
const TIME_BITS: u32 = 40;
const ID_BITS: u32 = 48;
const CHECK_BITS: u32 = 48;
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Reads a cursor. `None`: the text is none.
pub fn parse(text: &[u8]) -> Option<Cursor> {
    let digits = text.strip_prefix(&[VERSION]).filter(|_| text.len() == LEN)?;
    let mut bytes = [0; BYTES];
    for (part, digits) in bytes.chunks_exact_mut(3).zip(digits.chunks_exact(4)) {
        let mut group = 0;
        for digit in digits {
            group = group << 6 | u32::from(value_of(*digit)?);
        }
        part.copy_from_slice(group.to_be_bytes().get(1..)?);
    }
    let mut rest = &bytes[..];
    let mut take = |len: usize| {
        let (part, after) = rest.split_at(len);
        rest = after;
        part.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    };
    let life = take(8);
    let time = take(5);
    let tag = take(4);
    let (channel, id) = (take(4), take(6));
    let is_cursor = life != 0
        && (channel != 0 || id == 0)
        && take(6) == check(life, time, tag << 32 | channel, id);
    let latest = (channel != 0).then_some(Latest { channel: channel as u32, id });
    is_cursor.then_some(Cursor { life, time: Seconds::try_from(time).ok()?, tag, latest })
}

/// Appends a cursor.
pub fn push(cursor: &Cursor, out: &mut Vec<u8>) {
    out.extend_from_slice(&word(cursor));
}

/// A cursor as text of its own.
///
/// No zone has a time before 1970, tags beyond 32 bits, or ids beyond 48. A place that only a client has
/// named may have such a tag: then it is at the end of its second.
pub fn word(cursor: &Cursor) -> [u8; LEN] {
    let Cursor { life, time, tag, latest } = *cursor;
    let time = u64::try_from(time).unwrap_or(0).min((1 << TIME_BITS) - 1);
    let tag = tag.min(u64::from(u32::MAX));
    let latest = latest.filter(|latest| latest.channel != 0 && latest.id >> ID_BITS == 0);
    let (channel, id) = latest.map_or((0, 0), |latest| (u64::from(latest.channel), latest.id));
    let check = check(life, time, tag << 32 | channel, id);

    // Eleven groups of three bytes, from four words.
    let words =
        [life, time << 24 | tag >> 8, tag << 56 | channel << 24 | id >> 24, id << 40 | check >> 8];
    let mut bytes = [0; BYTES];
    for (part, word) in bytes.chunks_exact_mut(8).zip(words) {
        part.copy_from_slice(&word.to_be_bytes());
    }
    bytes[BYTES - 1] = check as u8;
    let mut text = [VERSION; LEN];
    let digits = text.split_at_mut(1).1;
    for (digits, part) in digits.chunks_exact_mut(4).zip(bytes.chunks_exact(3)) {
        let group = part.iter().fold(0, |group, byte| group << 8 | u32::from(*byte));
        for (digit, shift) in digits.iter_mut().zip([18, 12, 6, 0]) {
            *digit = DIGITS[(group >> shift & 63) as usize];
        }
    }
    text
}

fn value_of(digit: u8) -> Option<u8> {
    Some(match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'-' => 62,
        b'_' => 63,
        _ => return None,
    })
}

/// Each step is one to one, so a change of one of the numbers always changes the sum, and all others nearly
/// always.
fn check(life: u64, time: u64, tag_and_channel: u64, id: u64) -> u64 {
    let step = |sum: u64, number: u64| {
        let sum = (sum ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        sum ^ sum >> 32
    };
    let sum = [life, time, tag_and_channel, id].into_iter().fold(u64::from(VERSION), step);
    sum & ((1 << CHECK_BITS) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOME: Cursor = Cursor {
        life: 0x00c0_ffee_0000_0001,
        time: 0x692b_1c00,
        tag: 31,
        latest: Some(Latest { channel: 7, id: 12 }),
    };

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        let all =
            [0, 1, 9, 255, 256, (1 << 32) - 1, 1 << 32, (1 << 40) - 1, (1 << 48) - 1, u64::MAX];
        for life in all.into_iter().filter(|life| *life != 0) {
            for time in all.into_iter().filter(|time| *time < 1 << 40) {
                for tag in all.into_iter().filter(|tag| *tag < 1 << 32) {
                    for (channel, id) in [(0, 0), (1, 0), (1, 1), (u32::MAX, (1 << 48) - 1)] {
                        let latest = (channel != 0).then_some(Latest { channel, id });
                        let cursor = Cursor { life, time: time.cast_signed(), tag, latest };
                        let text = word(&cursor);
                        assert_eq!(parse(&text), Some(cursor));
                        let is_harmless =
                            |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
                        assert!(text.iter().all(is_harmless) && text.len() <= 64);
                    }
                }
            }
        }
        assert_eq!(
            String::from_utf8_lossy(&word(&SOME)),
            "pAMD_7gAAAAEAaSscAAAAAB8AAAAHAAAAAAAMMprjHrb0"
        );
    }

    #[test]
    fn what_no_zone_has_is_written_as_something_that_is_as_good() {
        let written = |cursor: &Cursor| parse(&word(cursor)).expect("a cursor");
        let second = Cursor { tag: u64::MAX, ..SOME };
        assert_eq!(written(&second), Cursor { tag: u32::MAX.into(), ..SOME });
        let before = Cursor { time: -1, ..SOME };
        assert_eq!(written(&before), Cursor { time: 0, ..SOME });
        for latest in [Latest { channel: 0, id: 1 }, Latest { channel: 1, id: 1 << 48 }] {
            let cursor = Cursor { latest: Some(latest), ..SOME };
            assert_eq!(written(&cursor), Cursor { latest: None, ..SOME });
        }
    }

    /// A client may make a cursor with its check: it has one form only all the same.
    #[test]
    fn numbers_that_no_cursor_has_are_none() {
        let text = |life: u64, channel: u64, id: u64| {
            let sum = check(life, 1, 1 << 32 | channel, id);
            let bytes = [
                &life.to_be_bytes()[..],
                &1_u64.to_be_bytes()[3..],
                &1_u32.to_be_bytes(),
                &channel.to_be_bytes()[4..],
                &id.to_be_bytes()[2..],
                &sum.to_be_bytes()[2..],
            ]
            .concat();
            let mut text = vec![VERSION];
            for part in bytes.chunks(3) {
                let group = part.iter().fold(0, |group, byte| group << 8 | usize::from(*byte));
                text.extend([18, 12, 6, 0].map(|shift| DIGITS[group >> shift & 63]));
            }
            text
        };
        assert!(parse(&text(1, 0, 0)).is_some() && parse(&text(1, 1, 1)).is_some());
        assert_eq!(parse(&text(0, 1, 1)), None);
        assert_eq!(parse(&text(1, 0, 1)), None);
    }

    #[test]
    fn nothing_else_is_a_cursor() {
        let text = word(&SOME);
        for len in 0..LEN {
            assert_eq!(parse(&text[..len]), None);
            assert_eq!(parse(&text[LEN - len..]), None);
        }
        for at in 0..LEN {
            for byte in (0..=u8::MAX).filter(|byte| *byte != text[at]) {
                let mut altered = text;
                altered[at] = byte;
                assert_eq!(parse(&altered), None, "{}", String::from_utf8_lossy(&altered));
            }
            let mut more = text.to_vec();
            more.insert(at, b'A');
            assert_eq!(parse(&more), None);
            for other in at + 1..LEN {
                let mut swapped = text;
                swapped.swap(at, other);
                assert!(parse(&swapped).is_none() || swapped == text);
            }
        }
        assert_eq!(parse(&text.repeat(200)), None);
        assert_eq!(parse(&text.to_ascii_lowercase()), None);
    }
}
