//! Judges the bytes that a connection got: well-formed answers if it kept the rules, and no bytes of another
//! channel.
//!
//! A marked message is `MARK-<channel>-<number>;`. Only we publish such messages, each to the channel that it
//! names. So a connection that gets one must have named that channel, plainly or percent-encoded once.

use crate::frames::Frames;
use crate::http::Response;

use super::script::Manners;

/// The text of a marked message.
pub(crate) fn mark(channel: &str, number: u64) -> String {
    format!("MARK-{channel}-{number};")
}

/// The first fault in the bytes that a connection got.
pub(crate) fn complaint(manners: Manners, sent: &[u8], got: &[u8]) -> Option<String> {
    stranger(sent, got).or_else(|| match manners {
        Manners::Sound => malformed(got).map(|what| format!("a sound connection got {what}")),
        Manners::Damaged | Manners::Deaf => bad_status(got),
    })
}

/// A marked message of a channel that was not asked for.
fn stranger(sent: &[u8], got: &[u8]) -> Option<String> {
    let asked = [sent.to_vec(), percent_decoded(sent)];
    places(got, b"MARK-").find_map(|at| {
        let rest = &got[at + 5..];
        let channel = &rest[..rest.iter().position(|byte| *byte == b'-')?];
        let named = asked.iter().any(|asked| places(asked, channel).next().is_some());
        (!named).then(|| format!("got a message of channel \"{}\" unasked", channel.escape_ascii()))
    })
}

fn places<'a>(bytes: &'a [u8], what: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    bytes.windows(what.len().max(1)).enumerate().filter(move |(_, w)| *w == what).map(|(at, _)| at)
}

fn percent_decoded(bytes: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = bytes.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
        let code = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match code.filter(|_| bytes[at] == b'%') {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    decoded
}

/// Bytes that are not HTTP, or after an upgrade not WebSocket, in the answers to well-formed requests. The
/// answers may end anywhere, because we close the connection.
fn malformed(got: &[u8]) -> Option<String> {
    let mut rest = got;
    while !rest.is_empty() {
        let mut response = Response::new();
        match response.feed(rest) {
            Err(error) => return Some(format!("{error}: {}", excerpt(rest))),
            Ok(taken) => rest = &rest[taken..],
        }
        if response.has_head() && !(100..600).contains(&response.status) {
            return Some(format!("status {}", response.status));
        }
        if response.status == 101 {
            let mut frames = Frames::with_binary();
            let error = frames.feed(rest, &mut Vec::new()).err();
            return error.map(|error| format!("{error}: {}", excerpt(rest)));
        }
    }
    None
}

/// The answer to anything: without a status line (HTTP/0.9), or with one that can be read.
fn bad_status(got: &[u8]) -> Option<String> {
    let code = got.strip_prefix(b"HTTP/1.1 ")?.get(..4)?;
    let digits = code[..3].iter().all(u8::is_ascii_digit);
    let right = digits && code[3] == b' ' && matches!(code[0], b'1'..=b'5');
    (!right).then(|| format!("no status: {}", excerpt(got)))
}

fn excerpt(bytes: &[u8]) -> String {
    bytes[..bytes.len().min(300)].escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n.";

    #[test]
    fn marks_are_for_those_who_asked() {
        let message = mark("m1", 7);
        for asked in ["GET /sub?id=a/m1.b2", "GET /sub/%6d%31"] {
            assert_eq!(complaint(Manners::Damaged, asked.as_bytes(), message.as_bytes()), None);
        }
        let asked = b"GET /sub?id=m2 HTTP/1.1\r\n\r\n";
        let got = [OK, message.as_bytes()].concat();
        assert!(complaint(Manners::Damaged, asked, &got).is_some_and(|text| text.contains("m1")));
    }

    #[test]
    fn answers_to_sound_requests_are_well_formed() {
        let upgraded = b"HTTP/1.1 101 Switching Protocols\r\n\r\n\x82\x01a\x88\x00".to_vec();
        for right in [Vec::new(), OK.to_vec(), OK.repeat(3), OK[..20].to_vec(), upgraded.clone()] {
            assert_eq!(complaint(Manners::Sound, b"", &right), None);
        }
        let late = [upgraded, b"\x81\x00".to_vec()].concat();
        for wrong in [&b"ERROR\r\n\r\n"[..], &late, b"HTTP/1.1 777 No\r\n\r\n"] {
            assert!(complaint(Manners::Sound, b"", wrong).is_some());
        }
        assert_eq!(complaint(Manners::Damaged, b"", b"<html>"), None);
        assert!(complaint(Manners::Damaged, b"", b"HTTP/1.1 2x0 OK").is_some());
    }
}
