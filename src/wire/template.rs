//! Message templates: replaces keywords by the values of a message.
//!
//! ```text
//!   ~id~ ~text~ ~size~ ~channel~ ~tag~ ~time~ ~event-id~ ~event-type~
//! ```
//!
//! Keywords are matched without regard to case. Everything else is literal, also a single `~`. A
//! template is compiled once. Rendering is one pass over its pieces, so inserted text is not
//! searched for keywords again. Nothing is escaped.
//!
//! Two templates that differ only in the case of their keywords are equal, so their locations share
//! renderings.

use crate::model::Message;
use crate::wire::date;

/// A compiled template.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Template {
    pieces: Box<[Piece]>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Piece {
    Literal(Box<[u8]>),
    Keyword(Keyword),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Keyword {
    Id,
    Text,
    Size,
    Channel,
    Tag,
    Time,
    EventId,
    EventType,
}

const KEYWORDS: [(&[u8], Keyword); 8] = [
    (b"~id~", Keyword::Id),
    (b"~text~", Keyword::Text),
    (b"~size~", Keyword::Size),
    (b"~channel~", Keyword::Channel),
    (b"~tag~", Keyword::Tag),
    (b"~time~", Keyword::Time),
    (b"~event-id~", Keyword::EventId),
    (b"~event-type~", Keyword::EventType),
];

impl Template {
    /// Finds the keywords. Any text is a template.
    pub fn compile(source: &[u8]) -> Self {
        let mut pieces = Vec::new();
        let mut literal = Vec::new();
        let mut rest = source;
        while let Some(at) = memchr::memchr(b'~', rest) {
            let (before, candidate) = rest.split_at(at);
            literal.extend_from_slice(before);
            // A `~` that begins no keyword may come before one that does.
            let taken = match keyword_at(candidate) {
                Some((len, keyword)) => {
                    push_literal(&mut pieces, &mut literal);
                    pieces.push(Piece::Keyword(keyword));
                    len
                }
                None => {
                    literal.push(b'~');
                    1
                }
            };
            rest = candidate.get(taken..).unwrap_or_default();
        }
        literal.extend_from_slice(rest);
        push_literal(&mut pieces, &mut literal);
        Self { pieces: pieces.into_boxed_slice() }
    }

    /// Does it render nothing?
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Bytes that [`Template::render`] will append.
    pub fn rendered_len(&self, message: &Message<'_>) -> usize {
        let lens = self.pieces.iter().map(|piece| match piece {
            Piece::Literal(text) => text.len(),
            Piece::Keyword(Keyword::Id) => {
                usize::from(message.id < 0) + digits(message.id.unsigned_abs())
            }
            Piece::Keyword(Keyword::Text) => message.text.len(),
            Piece::Keyword(Keyword::Size) => digits(message.text.len() as u64),
            Piece::Keyword(Keyword::Channel) => message.channel.len(),
            Piece::Keyword(Keyword::Tag) => digits(message.tag),
            Piece::Keyword(Keyword::Time) => date::HTTP_DATE_LEN,
            Piece::Keyword(Keyword::EventId) => message.event_id.map_or(0, <[u8]>::len),
            Piece::Keyword(Keyword::EventType) => message.event_type.map_or(0, <[u8]>::len),
        });
        lens.fold(0, usize::saturating_add)
    }

    /// Appends the text for one message.
    pub fn render(&self, message: &Message<'_>, out: &mut Vec<u8>) {
        out.reserve(self.rendered_len(message));
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => out.extend_from_slice(text),
                Piece::Keyword(Keyword::Id) => {
                    if message.id < 0 {
                        out.push(b'-');
                    }
                    push_decimal(message.id.unsigned_abs(), out);
                }
                Piece::Keyword(Keyword::Text) => out.extend_from_slice(message.text),
                Piece::Keyword(Keyword::Size) => push_decimal(message.text.len() as u64, out),
                Piece::Keyword(Keyword::Channel) => out.extend_from_slice(message.channel),
                Piece::Keyword(Keyword::Tag) => push_decimal(message.tag, out),
                Piece::Keyword(Keyword::Time) => {
                    out.extend_from_slice(&date::http_date(message.time));
                }
                Piece::Keyword(Keyword::EventId) => {
                    out.extend_from_slice(message.event_id.unwrap_or_default());
                }
                Piece::Keyword(Keyword::EventType) => {
                    out.extend_from_slice(message.event_type.unwrap_or_default());
                }
            }
        }
    }

    /// Appends the text for one line of a message. `~text~` is the line and `~size~` its length;
    /// all other keywords describe the whole message.
    pub fn render_line(&self, message: &Message<'_>, line: &[u8], out: &mut Vec<u8>) {
        self.render(&Message { text: line, ..*message }, out);
    }
}

fn keyword_at(text: &[u8]) -> Option<(usize, Keyword)> {
    KEYWORDS.iter().find_map(|(name, keyword)| {
        let candidate = text.get(..name.len())?;
        candidate.eq_ignore_ascii_case(name).then_some((name.len(), *keyword))
    })
}

fn push_literal(pieces: &mut Vec<Piece>, literal: &mut Vec<u8>) {
    if !literal.is_empty() {
        pieces.push(Piece::Literal(std::mem::take(literal).into_boxed_slice()));
    }
}

/// Appends `number` in decimal, without allocating.
pub(crate) fn push_decimal(number: u64, out: &mut Vec<u8>) {
    let digit = |number: u64| b'0' + u8::try_from(number % 10).unwrap_or(0);
    if number < 10 {
        return out.push(digit(number));
    }
    let mut buffer = [0_u8; 20];
    let mut rest = number;
    let mut from = buffer.len();
    for (place, slot) in buffer.iter_mut().enumerate().rev() {
        *slot = digit(rest);
        from = place;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(buffer.get(from..).unwrap_or_default());
}

fn digits(number: u64) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &[u8] = b"[~id~|~channel~|~text~|~size~|~tag~|~time~|~event-id~|~event-type~]";

    fn message(text: &[u8]) -> Message<'_> {
        Message {
            id: 3,
            channel: b"news",
            time: 1_777_972_087,
            tag: 2,
            event_id: None,
            event_type: None,
            text,
            binary: false,
        }
    }

    fn rendered(template: &[u8], message: &Message<'_>) -> String {
        let template = Template::compile(template);
        let mut out = Vec::new();
        template.render(message, &mut out);
        assert_eq!(out.len(), template.rendered_len(message));
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn replaces_every_keyword() {
        let date = "Tue, 05 May 2026 09:08:07 GMT";
        assert_eq!(rendered(FULL, &message(b"Ola")), format!("[3|news|Ola|3|2|{date}||]"));
        let with_event =
            Message { event_id: Some(b"e9"), event_type: Some(b"upd"), ..message(b"Ola") };
        assert_eq!(rendered(FULL, &with_event), format!("[3|news|Ola|3|2|{date}|e9|upd]"));
    }

    #[test]
    fn special_messages_have_the_epoch_and_no_tag() {
        let epoch = "Thu, 01 Jan 1970 00:00:00 GMT";
        assert_eq!(rendered(FULL, &Message::ping(b" ")), format!("[-1|| |1|0|{epoch}||]"));
        assert_eq!(
            rendered(FULL, &Message::deleted(b"news", b"Channel deleted")),
            format!("[-2|news|Channel deleted|15|0|{epoch}||]")
        );
        assert_eq!(rendered(FULL, &Message::timed_out()), format!("[-3||Timed out|9|0|{epoch}||]"));
    }

    #[test]
    fn takes_anything_else_literally() {
        let cases: &[(&[u8], &str)] = &[
            (b"", ""),
            (b"~", "~"),
            (b"~~", "~~"),
            (b"~TEXT~", "Ola"),
            (b"~Event-ID~", ""),
            (b"~~text~~", "~Ola~"),
            (b"~text~text~", "Olatext~"),
            (b"~id~~id~", "33"),
            (b"~ide~id~", "~ide3"),
            (b"~text", "~text"),
            (b"~event-id", "~event-id"),
            (b"~ text~", "~ text~"),
            (b"\0~id~\xff", "\u{0}3\u{fffd}"),
        ];
        for (template, expected) in cases {
            assert_eq!(rendered(template, &message(b"Ola")), *expected);
        }
    }

    #[test]
    fn never_scans_replaced_text() {
        let sly = Message { channel: b"~text~", ..message(b"~id~~channel~") };
        assert_eq!(rendered(b"~text~,~channel~", &sly), "~id~~channel~,~text~");
    }

    #[test]
    fn numbers_have_64_bits() {
        // Proves protocol.md: templates (the numbers).
        let large = Message { id: i64::MAX, tag: u64::MAX, ..message(b"") };
        assert_eq!(rendered(b"~id~ ~tag~", &large), "9223372036854775807 18446744073709551615");
        assert_eq!(rendered(b"~size~", &message(&[b'x'; 1000])), "1000");
        for tag in [0, 9, 10, 99, 100] {
            assert_eq!(rendered(b"~tag~", &Message { tag, ..message(b"") }), tag.to_string());
        }
    }

    #[test]
    fn a_line_stands_for_the_text() {
        let mut out = Vec::new();
        Template::compile(b"~id~:~text~:~size~").render_line(&message(b"a\nbcd"), b"bcd", &mut out);
        assert_eq!(out, b"3:bcd:3");
    }

    #[test]
    fn equal_templates_are_equal_whatever_the_case() {
        assert_eq!(Template::compile(b"a~TEXT~b"), Template::compile(b"a~text~b"));
        assert_ne!(Template::compile(b"A~text~b"), Template::compile(b"a~text~b"));
        assert!(Template::compile(b"").is_empty());
    }

    #[test]
    #[cfg_attr(miri, ignore = "large input")]
    fn a_message_full_of_keywords_is_copied_once() {
        let text = b"~text~~".repeat(111_111);
        let template = Template::compile(b"<~text~>");
        assert_eq!(template.pieces.len(), 3);
        let mut out = Vec::new();
        template.render(&message(&text), &mut out);
        assert_eq!(out.len(), text.len() + 2);
        assert_eq!(&out[1..=text.len()], &text);
    }

    #[test]
    #[cfg_attr(miri, ignore = "large input")]
    fn a_template_of_many_tildes_is_compiled_in_one_pass() {
        let source = b"~".repeat(2_000_000);
        let template = Template::compile(&source);
        assert_eq!(template.rendered_len(&message(b"")), source.len());
        let source = b"~id~".repeat(500_000);
        assert_eq!(Template::compile(&source).rendered_len(&message(b"")), 500_000);
    }
}
