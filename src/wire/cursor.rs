//! Cursors: a subscriber's place in a zone, as one opaque word.
//!
//! ```text
//!   p<life>-<time>-<tag>      three numbers of 64 bits, hexadecimal, in lower case, without leading zeros
//!   └ version
//! ```
//!
//! At most [`LEN_MAX`] bytes of `A-Za-z0-9._-`, so a cursor can stand in a header, in an argument and in an
//! event stream as it is. Each place has one form only: all other text is no cursor.

use crate::model::{Cursor, Seconds};

/// Bytes of the longest cursor. Clients are told that no version will have more than 64.
pub const LEN_MAX: usize = 3 * (1 + DIGITS_MAX);

const DIGITS_MAX: usize = 16;
const VERSION: u8 = b'p';
const SEPARATOR: u8 = b'-';

/// Reads a cursor. `None`: the text is none.
pub fn parse(text: &[u8]) -> Option<Cursor> {
    if text.len() > LEN_MAX {
        return None;
    }
    let (version, numbers) = text.split_first()?;
    let mut numbers = numbers.split(|byte| *byte == SEPARATOR);
    let life = parse_number(numbers.next()?)?;
    let time = Seconds::try_from(parse_number(numbers.next()?)?).ok()?;
    let tag = parse_number(numbers.next()?)?;
    let is_cursor = *version == VERSION && numbers.next().is_none() && life != 0;
    is_cursor.then_some(Cursor { life, time, tag })
}

/// Bytes that [`push`] appends.
pub fn len(cursor: &Cursor) -> usize {
    3 + numbers(cursor).map(digits).iter().sum::<usize>()
}

/// Appends a cursor.
pub fn push(cursor: &Cursor, out: &mut Vec<u8>) {
    let mut before = VERSION;
    for number in numbers(cursor) {
        out.push(before);
        push_number(number, out);
        before = SEPARATOR;
    }
}

/// A cursor as text of its own.
pub fn word(cursor: &Cursor) -> Vec<u8> {
    let mut out = Vec::with_capacity(len(cursor));
    push(cursor, &mut out);
    out
}

fn numbers(cursor: &Cursor) -> [u64; 3] {
    // No zone has a time before 1970.
    [cursor.life, u64::try_from(cursor.time).unwrap_or(0), cursor.tag]
}

fn digits(number: u64) -> usize {
    number.checked_ilog2().map_or(1, |log| log as usize / 4 + 1)
}

fn push_number(number: u64, out: &mut Vec<u8>) {
    for place in (0..digits(number)).rev() {
        let digit = (number >> (4 * place) & 15) as u8;
        out.push(if digit < 10 { b'0' + digit } else { b'a' - 10 + digit });
    }
}

fn parse_number(text: &[u8]) -> Option<u64> {
    let has_leading_zero = text.len() > 1 && text.starts_with(b"0");
    if text.is_empty() || text.len() > DIGITS_MAX || has_leading_zero {
        return None;
    }
    text.iter().try_fold(0, |number: u64, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOME: Cursor = Cursor { life: 0x00c0_ffee_0000_0001, time: 0x692b_1c00, tag: 31 };

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        let all = [0, 1, 9, 10, 15, 16, 255, 256, u64::MAX / 2, u64::MAX];
        for life in all.into_iter().filter(|life| *life != 0) {
            for time in all.into_iter().filter_map(|time| Seconds::try_from(time).ok()) {
                for tag in all {
                    let cursor = Cursor { life, time, tag };
                    let text = word(&cursor);
                    assert_eq!(parse(&text), Some(cursor));
                    assert_eq!(text.len(), len(&cursor));
                    assert!(text.len() <= LEN_MAX && LEN_MAX <= 64);
                    let is_harmless = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
                    assert!(text.iter().all(is_harmless));
                }
            }
        }
        assert_eq!(word(&SOME), b"pc0ffee00000001-692b1c00-1f");
    }

    #[test]
    fn nothing_else_is_a_cursor() {
        let cases: &[&[u8]] = &[
            b"",
            b"p",
            b"7",
            b"p1",
            b"p1-",
            b"p1-2",
            b"p1-2-",
            b"p1--3",
            b"p-2-3",
            b"p1-2-3-",
            b"p1-2-3-4",
            b"q1-2-3",
            b"P1-2-3",
            b"1-2-3",
            b" p1-2-3",
            b"p1-2-3 ",
            b"p1-2-3\0",
            b"pA-2-3",
            b"p1-2-G",
            b"p01-2-3",
            b"p1-02-3",
            b"p1-2-00",
            b"p0-2-3",
            b"p+1-2-3",
            b"p1-8000000000000000-3",
            b"p1-2-10000000000000000",
        ];
        for text in cases {
            assert_eq!(parse(text), None, "{}", String::from_utf8_lossy(text));
        }
        assert_eq!(parse(&b"p1-2-3".repeat(2000)), None);
        assert_eq!(parse(b"p1-2-3"), Some(Cursor { life: 1, time: 2, tag: 3 }));
    }

    /// It is read as another place at the most, and never as one that is written in another way.
    #[test]
    fn an_altered_cursor_is_another_one_or_none() {
        let text = word(&SOME);
        for at in 0..text.len() {
            for byte in 0..=u8::MAX {
                let mut altered = text.clone();
                altered[at] = byte;
                if let Some(cursor) = parse(&altered) {
                    assert_eq!(word(&cursor), altered);
                    assert_eq!(cursor == SOME, altered == text);
                }
            }
            if let Some(cursor) = parse(&text[..at]) {
                assert_eq!(word(&cursor), &text[..at]);
            }
        }
    }
}
