//! The text of the message that tells a subscriber of a gap: one line of JSON.
//!
//! ```text
//!   {"channel":"news","reason":"evicted","missed":12}
//! ```

use crate::model::Gap;
use crate::wire::escape;

/// What is told: why the subscriber does not get all messages of this channel, and how many. `None`: nobody
/// knows how many.
pub fn text(channel: &[u8], reason: Gap, missed: Option<u64>) -> Vec<u8> {
    let mut out = b"{\"channel\":".to_vec();
    escape::json_string(channel, &mut out);
    out.extend_from_slice(b",\"reason\":\"");
    out.extend_from_slice(reason.text().as_bytes());
    out.extend_from_slice(b"\",\"missed\":");
    match missed {
        Some(count) => out.extend_from_slice(count.to_string().as_bytes()),
        None => out.extend_from_slice(b"null"),
    }
    out.push(b'}');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_one_line_of_json() {
        let cases: &[(&[u8], Gap, Option<u64>, &str)] = &[
            (
                b"news",
                Gap::Evicted,
                Some(12),
                r#"{"channel":"news","reason":"evicted","missed":12}"#,
            ),
            (b"a", Gap::Slow, None, r#"{"channel":"a","reason":"slow","missed":null}"#),
            (
                b"\"\n<\xff",
                Gap::Unknown,
                Some(0),
                "{\"channel\":\"\\\"\\n\\u003c\u{fffd}\",\"reason\":\"unknown\",\"missed\":0}",
            ),
        ];
        for (channel, reason, missed, expected) in cases {
            assert_eq!(String::from_utf8_lossy(&text(channel, *reason, *missed)), *expected);
        }
    }
}
