//! The body of a subscriber's response, part by part.

use crate::items::{self, FOOTER, HEADER, Item, Piece};

/// How the messages are wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrapping {
    /// One after the other, each with a line end.
    Plain,
    /// In `cb([` … `]);`.
    Callback,
    /// Server-sent events.
    Events,
}

/// The first part of some bytes.
#[derive(Debug, PartialEq)]
pub(crate) enum Part<'a> {
    Header,
    Footer,
    Message(Item<'a>),
    /// The `id:` line of an event.
    EventId(&'a str),
    /// The text of an event that tells of a gap.
    Gap(&'a str),
    /// Part of the wrapping, without a meaning of its own.
    Dressing,
    Ping,
    Partial,
    Foreign,
}

/// The first part of `bytes`, and its length.
pub(crate) fn part(wrapping: Wrapping, bytes: &[u8]) -> (Part<'_>, usize) {
    match wrapping {
        Wrapping::Events => event_part(bytes),
        Wrapping::Plain => plain_part(bytes),
        Wrapping::Callback => match word(bytes, &["cb([", ",", "]);"]) {
            Word::Is(_, len) => (Part::Dressing, len),
            Word::MayBecome => (Part::Partial, 0),
            Word::Not => plain_part(bytes),
        },
    }
}

fn plain_part(bytes: &[u8]) -> (Part<'_>, usize) {
    let (header, footer) = (format!("{HEADER}\n"), format!("{FOOTER}\n"));
    match word(bytes, &[&header, &footer]) {
        Word::Is(0, len) => (Part::Header, len),
        Word::Is(_, len) => (Part::Footer, len),
        Word::MayBecome => (Part::Partial, 0),
        Word::Not => message_line(bytes),
    }
}

fn event_part(bytes: &[u8]) -> (Part<'_>, usize) {
    let (header, footer) = (format!(": {HEADER}\n"), format!(": {FOOTER}\n"));
    match word(bytes, &[&header, &footer, ": -1\n", "\n", "id: ", GAP, "data: "]) {
        Word::Is(0, len) => (Part::Header, len),
        Word::Is(1, len) => (Part::Footer, len),
        Word::Is(2, len) => (Part::Ping, len),
        Word::Is(3, len) => (Part::Dressing, len),
        Word::Is(4, len) => line(bytes, len, Part::EventId),
        Word::Is(5, len) => line(bytes, len, Part::Gap),
        Word::Is(_, len) => match message_line(&bytes[len..]) {
            (part @ (Part::Partial | Part::Foreign), _) => (part, 0),
            (part, more) => (part, len + more),
        },
        Word::MayBecome => (Part::Partial, 0),
        Word::Not => (Part::Foreign, 0),
    }
}

const GAP: &str = "event: gap\ndata: ";

/// The rest of the line that begins at `from`.
fn line<'a>(bytes: &'a [u8], from: usize, part: fn(&'a str) -> Part<'a>) -> (Part<'a>, usize) {
    match bytes[from..].iter().position(|&byte| byte == b'\n') {
        None => (Part::Partial, 0),
        Some(len) => match std::str::from_utf8(&bytes[from..from + len]) {
            Ok(text) => (part(text), from + len + 1),
            Err(_) => (Part::Foreign, 0),
        },
    }
}

/// A message and its line end.
fn message_line(bytes: &[u8]) -> (Part<'_>, usize) {
    match items::read(bytes) {
        Piece::Partial => (Part::Partial, 0),
        Piece::Foreign => (Part::Foreign, 0),
        Piece::Message(item, len) => match bytes.get(len) {
            None => (Part::Partial, 0),
            Some(b'\n') => (Part::Message(item), len + 1),
            Some(_) => (Part::Foreign, 0),
        },
    }
}

enum Word {
    Is(usize, usize),
    MayBecome,
    Not,
}

fn word(bytes: &[u8], words: &[&str]) -> Word {
    if let Some(at) = words.iter().position(|word| bytes.starts_with(word.as_bytes())) {
        return Word::Is(at, words[at].len());
    }
    match words.iter().any(|word| word.as_bytes().starts_with(bytes)) {
        true => Word::MayBecome,
        false => Word::Not,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(wrapping: Wrapping, bytes: &[u8]) -> String {
        let mut at = 0;
        let mut all = String::new();
        while at < bytes.len() {
            let (part, len) = part(wrapping, &bytes[at..]);
            all.push_str(match part {
                Part::Header => "H",
                Part::Footer => "F",
                Part::Message(_) => "m",
                Part::EventId(_) => "i",
                Part::Gap(_) => "g",
                Part::Dressing => ".",
                Part::Ping => "p",
                Part::Partial => return all + "?",
                Part::Foreign => return all + "!",
            });
            at += len;
        }
        all
    }

    #[test]
    fn knows_all_parts() {
        let item = "<7 3 news p1-2 3 Tue, 05 May 2026 09:08:07 GMT>a>b\n";
        let plain = format!("HEAD\n{item}{item}FOOT\n");
        assert_eq!(parts(Wrapping::Plain, plain.as_bytes()), "HmmF");
        let callback = format!("HEAD\ncb([{item},{item}]);FOOT\n");
        assert_eq!(parts(Wrapping::Callback, callback.as_bytes()), "H.m.m.F");
        let events = format!(": HEAD\nid: p1-2\ndata: {item}\n: -1\n: FOOT\n");
        assert_eq!(parts(Wrapping::Events, events.as_bytes()), "Him.pF");
        assert_eq!(parts(Wrapping::Events, b": HEAD\nevent: gap\ndata: {}\n\nid: p1"), "Hg.?");
        assert_eq!(parts(Wrapping::Plain, &plain.as_bytes()[..20]), "H?");
        assert_eq!(parts(Wrapping::Plain, b"HEAD\nx"), "H!");
    }
}
