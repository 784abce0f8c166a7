//! Padding lists: how many bytes a browser needs before it shows anything.
//!
//! ```text
//!   list  = group *( ":" group )          may end with one more ":"
//!   group = pattern "," header-min "," message-min
//! ```
//!
//! The pattern is a regular expression without `:`, which the caller compiles. The last two fields
//! are decimal. [`padding_len`] says how many bytes are added.

use std::fmt;

/// The largest minimum that a list may ask for. Browsers need a few KiB, and every message to every
/// subscriber carries that much.
pub const MIN_MAX: usize = 16 << 20;

/// One group of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AgentGroup<'a> {
    /// A regular expression, not empty, to be searched for in the user agent.
    pub pattern: &'a [u8],
    /// Bytes that the header template must have at least; 0: none.
    pub header_min: usize,
    /// Bytes that each message must have at least; 0: none.
    pub message_min: usize,
}

/// Why a list is refused, with the text from the wrong place on. `Display` gives the text of the
/// configuration error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadList<'a> {
    /// This text has no group.
    NoGroup(&'a [u8]),
    /// This text has a group, but something else comes before it.
    NotFirst(&'a [u8]),
}

impl fmt::Display for BadList<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, rest) = match self {
            Self::NoGroup(rest) => ("padding pattern not match the value", rest),
            Self::NotFirst(rest) => ("error applying padding pattern to", rest),
        };
        write!(f, "{what} {}", String::from_utf8_lossy(rest))
    }
}

/// Splits a list into its groups. The empty list has none.
pub fn parse(list: &[u8]) -> Result<Vec<AgentGroup<'_>>, BadList<'_>> {
    let mut groups = Vec::new();
    let mut rest = list;
    while !rest.is_empty() {
        let end = memchr::memchr(b':', rest).unwrap_or(rest.len());
        let (text, after) = rest.split_at(end);
        let Some(group) = parse_group(text) else {
            let later = after.split(|byte| *byte == b':').any(|text| parse_group(text).is_some());
            return Err(if later { BadList::NotFirst(rest) } else { BadList::NoGroup(rest) });
        };
        groups.push(group);
        rest = after.strip_prefix(b":").unwrap_or(after);
    }
    Ok(groups)
}

/// How many bytes to add to a text of `len` bytes that must have `min`, in steps of 100. `largest`
/// is the largest minimum of all lists in the configuration.
pub fn padding_len(len: usize, min: usize, largest: usize) -> usize {
    match min.saturating_sub(len) {
        0 => 0,
        missing if missing / 100 == largest / 100 => largest,
        missing => (missing / 100 + 1).saturating_mul(100),
    }
}

/// Appends `len` bytes of CRLF pairs. An odd length begins with LF.
pub fn push_line_ends(len: usize, out: &mut Vec<u8>) {
    out.reserve(len);
    if len % 2 == 1 {
        out.push(b'\n');
    }
    for _ in 0..len / 2 {
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends `len` bytes that are a comment of an event stream: colons, and LF at the end.
pub fn push_comment(len: usize, out: &mut Vec<u8>) {
    if let Some(colons) = len.checked_sub(1) {
        out.resize(out.len() + colons, b':');
        out.push(b'\n');
    }
}

fn parse_group(text: &[u8]) -> Option<AgentGroup<'_>> {
    let (before, message_min) = split_number(text)?;
    let (pattern, header_min) = split_number(before)?;
    (!pattern.is_empty()).then_some(AgentGroup { pattern, header_min, message_min })
}

/// `x,12` → (`x`, 12)
fn split_number(text: &[u8]) -> Option<(&[u8], usize)> {
    let comma = memchr::memrchr(b',', text)?;
    let digits = text.get(comma + 1..)?;
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: usize = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (number <= MIN_MAX).then_some((text.get(..comma)?, number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(pattern: &str, header_min: usize, message_min: usize) -> AgentGroup<'_> {
        AgentGroup { pattern: pattern.as_bytes(), header_min, message_min }
    }

    #[test]
    fn splits_groups() {
        let cases: &[(&str, &[AgentGroup<'_>])] = &[
            ("", &[]),
            ("ua,10,0", &[group("ua", 10, 0)]),
            (
                "[T|t]est 1,1024,508:[T|t]est 2,4097,0",
                &[group("[T|t]est 1", 1024, 508), group("[T|t]est 2", 4097, 0)],
            ),
            ("a{1,2},3,4", &[group("a{1,2}", 3, 4)]),
            ("1,2,3,4", &[group("1,2", 3, 4)]),
            ("ua,10,0:", &[group("ua", 10, 0)]),
        ];
        for (list, groups) in cases {
            assert_eq!(parse(list.as_bytes()).as_deref(), Ok(*groups), "{list}");
        }
    }

    #[test]
    fn names_the_text_it_cannot_read() {
        let cases = [
            ("ua,as,df", "padding pattern not match the value ua,as,df"),
            ("ua;10;0", "padding pattern not match the value ua;10;0"),
            (
                "ua,10,0:other;20;0:more,30,0",
                "error applying padding pattern to other;20;0:more,30,0",
            ),
            ("ua,10,0:other;20;0", "padding pattern not match the value other;20;0"),
            (",10,0", "padding pattern not match the value ,10,0"),
            ("10,0", "padding pattern not match the value 10,0"),
            ("ua,10,", "padding pattern not match the value ua,10,"),
            ("ua,-1,0", "padding pattern not match the value ua,-1,0"),
            (
                "ua,99999999999999999999,0",
                "padding pattern not match the value ua,99999999999999999999,0",
            ),
            (":ua,1,2", "error applying padding pattern to :ua,1,2"),
        ];
        for (list, text) in cases {
            assert_eq!(parse(list.as_bytes()).expect_err(list).to_string(), text);
        }
    }

    #[test]
    fn pads_in_steps_of_100() {
        let cases = [
            (4097, 1024, 10, 1100),
            (4097, 4097, 10, 4097),
            (508, 508, 10, 500),
            (545, 545, 1, 545),
            (545, 545, 105, 500),
            (545, 545, 502, 100),
            (545, 545, 550, 0),
            (545, 545, 545, 0),
            (1024, 1024, 10, 1024),
            (1024, 0, 0, 0),
        ];
        for (largest, min, len, padding) in cases {
            assert_eq!(padding_len(len, min, largest), padding, "{largest} {min} {len}");
        }
    }

    #[test]
    fn padding_has_the_length_asked_for() {
        let cases: &[(usize, &[u8], &[u8])] = &[
            (0, b"", b""),
            (1, b"\n", b"\n"),
            (2, b"\r\n", b":\n"),
            (3, b"\n\r\n", b"::\n"),
            (4, b"\r\n\r\n", b":::\n"),
        ];
        for (len, ends, comment) in cases {
            let mut out = Vec::new();
            push_line_ends(*len, &mut out);
            assert_eq!(out, *ends);
            out.clear();
            push_comment(*len, &mut out);
            assert_eq!(out, *comment);
        }
    }
}
