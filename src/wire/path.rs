//! Channel paths: which channels a request names, and how many of their old messages it wants.
//!
//! ```text
//!   path    = piece *( "/" piece )
//!   piece   = id [ ".b" 1*DIGIT ]        the digits are the backtrack
//! ```
//!
//! The whole value is percent-decoded once ([`decode`]) and then split ([`parse`]), so `%2F`
//! separates channels too. Empty ids are skipped, because the browser client posts to `?id=/news`.
//! A channel that is named twice is requested once, with the larger backtrack.
//!
//! The time is linear in the length of the path, also with thousands of channels.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::model::Few;

/// One channel of a path. It borrows from the decoded path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requested<'a> {
    /// The id: decoded, never empty, without the suffix of the backtrack.
    pub id: &'a [u8],
    /// How many stored messages are wanted, counted from the newest. `None`: there is no suffix, or
    /// it is `.b0`. A number of more than 64 bits counts as the largest.
    pub backtrack: Option<u64>,
}

/// The meaning of an id in a statistics request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selector<'a> {
    /// All channels whose id begins with this; empty: all channels.
    Prefix(&'a [u8]),
    /// The channel of this id.
    One(&'a [u8]),
}

/// Decodes percent-encoding once. `+` is no space.
///
/// A `%` without two hexadecimal digits is an ordinary byte, so no byte is lost.
pub fn decode(encoded: &[u8]) -> Cow<'_, [u8]> {
    if !encoded.contains(&b'%') {
        return Cow::Borrowed(encoded);
    }
    let mut decoded = Vec::with_capacity(encoded.len());
    let mut rest = encoded;
    while let Some(at) = memchr::memchr(b'%', rest) {
        let (before, escape) = rest.split_at(at);
        decoded.extend_from_slice(before);
        let byte = escape.get(1).zip(escape.get(2)).and_then(|(high, low)| hex_byte(*high, *low));
        decoded.push(byte.unwrap_or(b'%'));
        rest = escape.get(if byte.is_some() { 3 } else { 1 }..).unwrap_or_default();
    }
    decoded.extend_from_slice(rest);
    Cow::Owned(decoded)
}

/// Splits a decoded path into its channels, in the order in which each is named for the first time.
pub fn parse(decoded: &[u8]) -> Few<Requested<'_>> {
    let mut requested: Few<Requested<'_>> = Few::default();
    let mut places = Places::default();
    for piece in decoded.split(|byte| *byte == b'/') {
        let channel = parse_piece(piece);
        if channel.id.is_empty() {
            continue;
        }
        match places.of(channel.id, &requested).and_then(|place| requested.get_mut(place)) {
            Some(first) => first.backtrack = first.backtrack.max(channel.backtrack),
            None => requested.push(channel),
        }
    }
    requested
}

/// A list as short as this is looked through faster than a table is made.
const LOOKED_THROUGH: usize = 8;

/// Where ids stand in a list that grows: looked through while it is short, then by a table.
#[derive(Default)]
struct Places<'a> {
    table: Option<HashMap<&'a [u8], usize>>,
}

impl<'a> Places<'a> {
    /// The place of this id in the list, if it has one. If not, it is the next to be added.
    fn of(&mut self, id: &'a [u8], list: &[Requested<'a>]) -> Option<usize> {
        if list.len() < LOOKED_THROUGH {
            return list.iter().position(|other| other.id == id);
        }
        let table = self.table.get_or_insert_with(|| {
            list.iter().enumerate().map(|(place, other)| (other.id, place)).collect()
        });
        match table.entry(id) {
            Entry::Occupied(place) => Some(*place.get()),
            Entry::Vacant(place) => {
                place.insert(list.len());
                None
            }
        }
    }
}

/// May publishers and subscribers use this id? `ALL` and `*` are refused, because they have a meaning
/// in statistics; so are control bytes, which cannot be shown in a log or a header.
pub fn is_authorised(id: &[u8]) -> bool {
    id != b"ALL" && !id.iter().any(|byte| *byte == b'*' || byte.is_ascii_control())
}

/// The meaning of this id in a statistics request. All after the first `*` is ignored.
pub fn selector(id: &[u8]) -> Selector<'_> {
    match memchr::memchr(b'*', id) {
        Some(star) => Selector::Prefix(id.get(..star).unwrap_or_default()),
        None if id == b"ALL" => Selector::Prefix(b""),
        None => Selector::One(id),
    }
}

fn parse_piece(piece: &[u8]) -> Requested<'_> {
    let digits = piece.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let (before, digits) = piece.split_at(piece.len() - digits);
    match before.strip_suffix(b".b") {
        Some(id) if !digits.is_empty() => Requested { id, backtrack: number(digits) },
        _ => Requested { id: piece, backtrack: None },
    }
}

/// `None` for zero; the largest number if it has more than 64 bits.
fn number(digits: &[u8]) -> Option<u64> {
    let number = digits.iter().fold(0_u64, |number, digit| {
        number.saturating_mul(10).saturating_add(u64::from(digit.wrapping_sub(b'0')))
    });
    (number > 0).then_some(number)
}

fn hex_byte(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
    Some((digit(high)? << 4) | digit(low)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(path: &str) -> Vec<(String, u64)> {
        parse(&decode(path.as_bytes()))
            .iter()
            .map(|r| (String::from_utf8_lossy(r.id).into_owned(), r.backtrack.unwrap_or(0)))
            .collect()
    }

    #[test]
    fn cuts_paths_as_the_grammar_says() {
        let cases: &[(&str, &[(&str, u64)])] = &[
            ("news", &[("news", 0)]),
            ("news.b5", &[("news", 5)]),
            ("news.b5/tech/misc.b2", &[("news", 5), ("tech", 0), ("misc", 2)]),
            ("news/", &[("news", 0)]),
            ("news.b", &[("news.b", 0)]),
            ("news.b0", &[("news", 0)]),
            ("news.B5", &[("news.B5", 0)]),
            ("room.b18.beautiful.b3", &[("room.b18.beautiful", 3)]),
            ("news.b2.b3", &[("news.b2", 3)]),
            ("news.b3x", &[("news.b3x", 0)]),
            ("a%2Fb", &[("a", 0), ("b", 0)]),
            ("n.b99999999999999999999999", &[("n", u64::MAX)]),
            ("n.b18446744073709551615", &[("n", u64::MAX)]),
            ("/news", &[("news", 0)]),
            ("a//b", &[("a", 0), ("b", 0)]),
            (".b3", &[]),
            ("/", &[]),
            ("", &[]),
            ("123", &[("123", 0)]),
            ("b3", &[("b3", 0)]),
            ("news/news", &[("news", 0)]),
            ("a.b2/b/a.b7/a.b3/a", &[("a", 7), ("b", 0)]),
            ("a/a.b1", &[("a", 1)]),
        ];
        for (path, expected) in cases {
            let expected: Vec<_> = expected.iter().map(|(id, b)| (id.to_string(), *b)).collect();
            assert_eq!(parsed(path), expected, "{path}");
        }
    }

    #[test]
    fn decodes_the_whole_value_once() {
        let cases: &[(&[u8], &[u8])] = &[
            (b"a%20b", b"a b"),
            (b"dz%3Fx", b"dz?x"),
            (b"%2520", b"%20"),
            (b"a+b", b"a+b"),
            (b"%", b"%"),
            (b"%4", b"%4"),
            (b"%4x", b"%4x"),
            (b"%zz%41", b"%zzA"),
            (b"%%41", b"%A"),
            (b"%00%ff%FF", b"\0\xff\xff"),
            (b"", b""),
        ];
        for (encoded, decoded) in cases {
            assert_eq!(decode(encoded).as_ref(), *decoded);
        }
        assert!(matches!(decode(b"plain"), Cow::Borrowed(_)));
    }

    #[test]
    fn refuses_ids_with_a_meaning_elsewhere() {
        for id in ["ALL", "*", "a*b", "a*", "a\0", "a\nb", "\x7f"] {
            assert!(!is_authorised(id.as_bytes()), "{id:?}");
        }
        for id in ["all", "ALL2", "ch 1", "\"quoted\"", "ação", "a.b~%", "a+b"] {
            assert!(is_authorised(id.as_bytes()), "{id:?}");
        }
    }

    #[test]
    fn reads_selectors_of_statistics() {
        assert_eq!(selector(b"ALL"), Selector::Prefix(b""));
        assert_eq!(selector(b"*"), Selector::Prefix(b""));
        assert_eq!(selector(b"ch*"), Selector::Prefix(b"ch"));
        assert_eq!(selector(b"ch*x*"), Selector::Prefix(b"ch"));
        assert_eq!(selector(b"ch"), Selector::One(b"ch"));
    }

    #[test]
    #[cfg_attr(miri, ignore = "large input")]
    fn many_channels_do_not_cost_their_square() {
        // 200,000 ids, each twice: a quadratic merge would take 4e10 comparisons.
        let mut path = Vec::new();
        for round in 0..2 {
            for n in 0..200_000 {
                path.extend_from_slice(format!("channel-{n}.b{round}/").as_bytes());
            }
        }
        let requested = parse(&path);
        assert_eq!(requested.len(), 200_000);
        assert!(requested.iter().all(|r| r.backtrack == Some(1)));
        assert_eq!(requested[7].id, b"channel-7");
    }
}
