//! The messages in the form that our templates give them, and how to read them back.
//!
//! ```text
//!   template 1:  <~id~ ~tag~ ~channel~ ~event-id~ ~size~ ~time~>~text~\n
//!   template 2:  {~size~ ~channel~ ~id~ ~event-id~ ~tag~ ~time~}~text~\n
//!   placed:      (~id~ ~tag~ ~channel~ ~event-id~ ~size~ ~cursor~ ~time~)~text~\n
//!   header:      HEAD\n        footer: FOOT\n
//! ```
//!
//! There are two, so that a reload can change them, and one with cursors; the first byte says which one it is. The size comes before
//! the text, so a text of any bytes can be read back, and a text that was cut or mixed up cannot.

/// For push_stream_message_template, by number; streaming, polling, WebSocket.
pub(crate) const TEMPLATES: [&str; 2] = [
    "<~id~ ~tag~ ~channel~ ~event-id~ ~size~ ~time~>~text~",
    "{~size~ ~channel~ ~id~ ~event-id~ ~tag~ ~time~}~text~",
];

/// With the place of the message.
pub(crate) const PLACED: &str = "(~id~ ~tag~ ~channel~ ~event-id~ ~size~ ~cursor~ ~time~)~text~";

pub(crate) const HEADER: &str = "HEAD";
pub(crate) const FOOTER: &str = "FOOT";

/// A message as a subscriber got it.
#[derive(Debug, PartialEq)]
pub(crate) struct Item<'a> {
    pub(crate) id: i64,
    pub(crate) tag: u64,
    pub(crate) channel: &'a str,
    pub(crate) event_id: &'a str,
    /// Empty if the template has none.
    pub(crate) cursor: &'a str,
    pub(crate) time: &'a str,
    pub(crate) text: &'a [u8],
}

/// The first part of some bytes.
#[derive(Debug, PartialEq)]
pub(crate) enum Piece<'a> {
    /// A message, and how many bytes it took, without the line end.
    Message(Item<'a>, usize),
    /// Not all of it is there yet.
    Partial,
    /// Nothing that our templates produce.
    Foreign,
}

/// Most bytes that our templates write before a text.
const HEAD_MAX: usize = 400;

/// Reads one message at the beginning of `bytes`.
pub(crate) fn read(bytes: &[u8]) -> Piece<'_> {
    let close = match bytes.first() {
        None => return Piece::Partial,
        Some(b'<') => b'>',
        Some(b'{') => b'}',
        Some(b'(') => b')',
        Some(_) => return Piece::Foreign,
    };
    let Some(end) = bytes.iter().take(HEAD_MAX).position(|&byte| byte == close) else {
        return if bytes.len() < HEAD_MAX { Piece::Partial } else { Piece::Foreign };
    };
    let Ok(head) = std::str::from_utf8(&bytes[1..end]) else { return Piece::Foreign };
    let is_placed = close == b')';
    let mut fields = head.splitn(if is_placed { 7 } else { 6 }, ' ');
    let mut field = || fields.next().unwrap_or_default();
    let (id, tag, channel, event_id, size);
    if close == b'}' {
        (size, channel, id, event_id, tag) = (field(), field(), field(), field(), field());
    } else {
        (id, tag, channel, event_id, size) = (field(), field(), field(), field(), field());
    }
    let cursor = if is_placed { field() } else { "" };
    let time = field();
    let (Ok(id), Ok(tag), Ok(size)) = (id.parse(), tag.parse(), size.parse::<usize>()) else {
        return Piece::Foreign;
    };
    match bytes.get(end + 1..end + 1 + size) {
        None => Piece::Partial,
        Some(text) => {
            let item = Item { id, tag, channel, event_id, cursor, time, text };
            Piece::Message(item, end + 1 + size)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_both_templates_make() {
        let want = Item {
            id: 7,
            tag: 3,
            channel: "news",
            event_id: "p1-2",
            cursor: "",
            time: "Tue, 05 May 2026 09:08:07 GMT",
            text: b"a>b",
        };
        let first = b"<7 3 news p1-2 3 Tue, 05 May 2026 09:08:07 GMT>a>b\n";
        assert_eq!(read(first), Piece::Message(want, first.len() - 1));
        let second = b"{3 news 7 p1-2 3 Tue, 05 May 2026 09:08:07 GMT}a>b\n";
        assert!(matches!(read(second), Piece::Message(Item { id: 7, tag: 3, .. }, _)));
        let placed = b"(7 3 news p1-2 3 p1-2-3 Tue, 05 May 2026 09:08:07 GMT)a>b\n";
        assert!(matches!(read(placed), Piece::Message(Item { id: 7, cursor: "p1-2-3", .. }, _)));
    }

    #[test]
    fn waits_for_the_rest() {
        let all = b"<7 3 news p1-2 3 Tue, 05 May 2026 09:08:07 GMT>a>b";
        for len in 0..all.len() {
            assert_eq!(read(&all[..len]), Piece::Partial, "{len}");
        }
        assert_eq!(read(b"nonsense"), Piece::Foreign);
    }
}
