//! Message templates: replaces keywords by the values of a message.
//!
//! ```text
//!   ~id~ ~text~ ~size~ ~channel~ ~tag~ ~time~ ~event-id~ ~event-type~ ~cursor~
//!   ~json:text~ ~json:channel~ ~json:event-id~ ~json:event-type~
//! ```
//!
//! The words with `json:` give a JSON string with its quotes, or `null` for an event id or type that
//! the message does not have.
//!
//! Keywords are matched without regard to case. Everything else is literal, also a single `~`. A
//! template is compiled once. Rendering is one pass over its pieces, so inserted text is not
//! searched for keywords again. Nothing is escaped.
//!
//! Two templates that differ only in the case of their keywords are equal, so their locations share
//! renderings.

use crate::model::Message;
use crate::wire::{cursor, date, escape};

/// A compiled template.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Template {
    pieces: Box<[Piece]>,
    /// One of the pieces gives the whole text as JSON.
    has_json_text: bool,
    /// One of the pieces gives the cursor.
    has_cursor: bool,
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
    /// Nothing for a message without a place.
    Cursor,
    JsonText,
    JsonChannel,
    JsonEventId,
    JsonEventType,
    /// The cursor as a JSON string, or `null`; only in envelopes.
    JsonCursor,
    /// The time in seconds; only in envelopes.
    Seconds,
    /// `"text":"..."`, or `"base64":"..."` if the text is not UTF-8; only in envelopes.
    JsonContent,
}

/// The beginning of the words that give JSON.
const JSON: &[u8] = b"~json:";

/// The words that give JSON, for people.
pub const JSON_WORDS: &str = "~json:text~, ~json:channel~, ~json:event-id~, ~json:event-type~";

const NULL: &[u8] = b"null";
const TEXT_NAME: &[u8] = b"\"text\":";
const BASE64_NAME: &[u8] = b"\"base64\":";

const KEYWORDS: [(&[u8], Keyword); 13] = [
    (b"~id~", Keyword::Id),
    (b"~text~", Keyword::Text),
    (b"~size~", Keyword::Size),
    (b"~channel~", Keyword::Channel),
    (b"~tag~", Keyword::Tag),
    (b"~time~", Keyword::Time),
    (b"~event-id~", Keyword::EventId),
    (b"~event-type~", Keyword::EventType),
    (b"~cursor~", Keyword::Cursor),
    (b"~json:text~", Keyword::JsonText),
    (b"~json:channel~", Keyword::JsonChannel),
    (b"~json:event-id~", Keyword::JsonEventId),
    (b"~json:event-type~", Keyword::JsonEventType),
];

impl Template {
    /// Finds the keywords. Any text is a template; [`Template::unknown_word`] finds what is probably
    /// a mistake.
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
        Self::of(pieces)
    }

    /// One JSON object for each message, between these two texts.
    pub fn envelope(before: &[u8], after: &[u8]) -> Self {
        let parts: [(&[u8], Keyword); 8] = [
            (b"{\"id\":", Keyword::Id),
            (b",\"channel\":", Keyword::JsonChannel),
            (b",\"cursor\":", Keyword::JsonCursor),
            (b",\"time\":", Keyword::Seconds),
            (b",\"tag\":", Keyword::Tag),
            (b",\"event_id\":", Keyword::JsonEventId),
            (b",\"event_type\":", Keyword::JsonEventType),
            (b",", Keyword::JsonContent),
        ];
        let mut pieces = Vec::new();
        let mut literal = before.to_vec();
        for (text, keyword) in parts {
            literal.extend_from_slice(text);
            push_literal(&mut pieces, &mut literal);
            pieces.push(Piece::Keyword(keyword));
        }
        literal.extend_from_slice(b"}");
        literal.extend_from_slice(after);
        push_literal(&mut pieces, &mut literal);
        Self::of(pieces)
    }

    fn of(pieces: Vec<Piece>) -> Self {
        let is_json_text = |piece: &Piece| {
            matches!(piece, Piece::Keyword(Keyword::JsonText | Keyword::JsonContent))
        };
        let has_json_text = pieces.iter().any(is_json_text);
        let is_cursor =
            |piece: &Piece| matches!(piece, Piece::Keyword(Keyword::Cursor | Keyword::JsonCursor));
        let has_cursor = pieces.iter().any(is_cursor);
        Self { pieces: pieces.into_boxed_slice(), has_json_text, has_cursor }
    }

    /// The first word after `~json:` that does not exist.
    pub fn unknown_word(source: &[u8]) -> Option<&[u8]> {
        let mut rest = source;
        while let Some(at) = memchr::memchr(b'~', rest) {
            let candidate = rest.get(at..).unwrap_or_default();
            let taken = match keyword_at(candidate) {
                Some((len, _)) => len,
                None if has_prefix(candidate, JSON) => {
                    let word = candidate.get(1..).unwrap_or_default();
                    let end = memchr::memchr(b'~', word).map_or(candidate.len(), |at| at + 2);
                    return candidate.get(..end);
                }
                None => 1,
            };
            rest = candidate.get(taken..).unwrap_or_default();
        }
        None
    }

    /// Does it hold the whole text as JSON? Then nothing that it renders for a message has to be
    /// split into lines.
    pub fn has_json_text(&self) -> bool {
        self.has_json_text
    }

    /// Does it show a message's cursor?
    pub fn has_cursor(&self) -> bool {
        self.has_cursor
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
            Piece::Keyword(Keyword::Cursor) => message.cursor().map_or(0, |_| cursor::LEN),
            Piece::Keyword(Keyword::JsonCursor) => {
                message.cursor().map_or(NULL.len(), |_| cursor::LEN + 2)
            }
            Piece::Keyword(Keyword::JsonText) => escape::json_string_len(message.text),
            Piece::Keyword(Keyword::JsonChannel) => escape::json_string_len(message.channel),
            Piece::Keyword(Keyword::JsonEventId) => json_or_null_len(message.event_id),
            Piece::Keyword(Keyword::JsonEventType) => json_or_null_len(message.event_type),
            Piece::Keyword(Keyword::Seconds) => {
                usize::from(message.time < 0) + digits(message.time.unsigned_abs())
            }
            Piece::Keyword(Keyword::JsonContent) => content_len(message.text),
        });
        lens.fold(0, usize::saturating_add)
    }

    /// Appends the text for one message.
    pub fn render(&self, message: &Message<'_>, out: &mut Vec<u8>) {
        out.reserve(self.rendered_len(message));
        self.write(message, message, out);
    }

    /// `whole` is what the words for JSON show.
    fn write(&self, message: &Message<'_>, whole: &Message<'_>, out: &mut Vec<u8>) {
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => out.extend_from_slice(text),
                Piece::Keyword(Keyword::Id) => push_signed(message.id, out),
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
                Piece::Keyword(Keyword::Cursor) => {
                    message.cursor().iter().for_each(|place| cursor::push(place, out));
                }
                Piece::Keyword(Keyword::JsonCursor) => match message.cursor() {
                    Some(place) => {
                        // Nothing in it has to be escaped.
                        out.push(b'"');
                        cursor::push(&place, out);
                        out.push(b'"');
                    }
                    None => out.extend_from_slice(NULL),
                },
                Piece::Keyword(Keyword::JsonText) => escape::json_string(whole.text, out),
                Piece::Keyword(Keyword::JsonChannel) => escape::json_string(whole.channel, out),
                Piece::Keyword(Keyword::JsonEventId) => push_json_or_null(whole.event_id, out),
                Piece::Keyword(Keyword::JsonEventType) => {
                    push_json_or_null(whole.event_type, out);
                }
                Piece::Keyword(Keyword::Seconds) => push_signed(message.time, out),
                Piece::Keyword(Keyword::JsonContent) => push_content(whole.text, out),
            }
        }
    }

    /// Appends the text for one line of a message. `~text~` is the line and `~size~` its length;
    /// all other keywords describe the whole message. The words for JSON show it as it is in
    /// `whole`.
    pub fn render_line(
        &self,
        message: &Message<'_>,
        line: &[u8],
        whole: &Message<'_>,
        out: &mut Vec<u8>,
    ) {
        let message = Message { text: line, ..*message };
        out.reserve(self.rendered_len(&message));
        self.write(&message, whole, out);
    }
}

fn has_prefix(text: &[u8], prefix: &[u8]) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

fn json_or_null_len(value: Option<&[u8]>) -> usize {
    value.map_or(NULL.len(), escape::json_string_len)
}

fn push_json_or_null(value: Option<&[u8]>, out: &mut Vec<u8>) {
    match value {
        Some(value) => escape::json_string(value, out),
        None => out.extend_from_slice(NULL),
    }
}

fn content_len(text: &[u8]) -> usize {
    if std::str::from_utf8(text).is_ok() {
        TEXT_NAME.len().saturating_add(escape::json_string_len(text))
    } else {
        (BASE64_NAME.len() + 2).saturating_add(escape::base64_len(text.len()))
    }
}

fn push_content(text: &[u8], out: &mut Vec<u8>) {
    if std::str::from_utf8(text).is_ok() {
        out.extend_from_slice(TEXT_NAME);
        escape::json_string(text, out);
    } else {
        out.extend_from_slice(BASE64_NAME);
        out.push(b'"');
        escape::base64(text, out);
        out.push(b'"');
    }
}

fn push_signed(number: i64, out: &mut Vec<u8>) {
    if number < 0 {
        out.push(b'-');
    }
    push_decimal(number.unsigned_abs(), out);
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
    if number < 10 {
        return out.push(digit(number));
    }
    let mut room = [0; DECIMAL_MAX];
    let from = put_decimal(number, &mut room);
    out.extend_from_slice(room.get(from..).unwrap_or_default());
}

/// The most digits of a number.
pub(crate) const DECIMAL_MAX: usize = 20;

/// Writes `number` in decimal to the end of `room`, and answers where it begins.
pub(crate) fn put_decimal(number: u64, room: &mut [u8]) -> usize {
    let (mut rest, mut from) = (number, room.len());
    for (place, slot) in room.iter_mut().enumerate().rev() {
        *slot = digit(rest);
        from = place;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    from
}

/// The last digit of a number.
fn digit(number: u64) -> u8 {
    b'0' + u8::try_from(number % 10).unwrap_or(0)
}

fn digits(number: u64) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Cursor, Latest, Stamp};

    const FULL: &[u8] = b"[~id~|~channel~|~text~|~size~|~tag~|~time~|~event-id~|~event-type~]";

    fn message(text: &[u8]) -> Message<'_> {
        Message {
            id: 3,
            channel: b"news",
            time: 1_777_972_087,
            tag: 2,
            life: 0,
            latest: None,
            event_id: None,
            event_type: None,
            text,
            stamp: Stamp(0),
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
    fn a_cursor_is_the_place_of_the_message_and_special_ones_have_none() {
        let latest = Some(Latest { channel: 5, id: 3 });
        let placed = Message { life: 0x11fe, latest, ..message(b"") };
        let place = Cursor { life: 0x11fe, time: 1_777_972_087, tag: 2, latest };
        let word = String::from_utf8_lossy(&cursor::word(&place)).into_owned();
        assert_eq!(rendered(b"<~Cursor~>", &placed), format!("<{word}>"));
        for message in [message(b""), Message::ping(b""), Message::timed_out()] {
            assert_eq!(rendered(b"<~cursor~>", &message), "<>");
            let envelope = Template::envelope(b"", b"");
            let mut out = Vec::new();
            envelope.render(&message, &mut out);
            assert_eq!(out.len(), envelope.rendered_len(&message));
            assert!(String::from_utf8_lossy(&out).contains(",\"cursor\":null,"));
        }
        assert!(Template::compile(b"~cursor~").has_cursor());
        assert!(Template::envelope(b"", b"").has_cursor() && !Template::compile(FULL).has_cursor());
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
        Template::compile(b"~id~:~text~:~size~").render_line(
            &message(b"a\nbcd"),
            b"bcd",
            &message(b"a\nbcd"),
            &mut out,
        );
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

    #[test]
    fn json_words_are_json_whatever_a_message_holds() {
        // Proves protocol.md: templates (the words for JSON).
        const JSON: &[u8] = b"[~json:text~,~JSON:Channel~,~json:event-id~,~json:event-type~]";
        let cases: &[(&[u8], &str)] = &[
            (b"Ola", "\"Ola\""),
            (b"", "\"\""),
            (b"\"\\\r\n", r#""\"\\\r\n""#),
            (b"~id~", "\"~id~\""),
            (b"a\xff", "\"a\u{fffd}\""),
            (b"</script>", r#""\u003c/script>""#),
        ];
        for (text, string) in cases {
            let plain = rendered(JSON, &message(text));
            assert_eq!(plain, format!("[{string},\"news\",null,null]"));
            let all = Message {
                channel: text,
                event_id: Some(text),
                event_type: Some(text),
                ..message(text)
            };
            assert_eq!(rendered(JSON, &all), format!("[{string},{string},{string},{string}]"));
        }
        assert_eq!(rendered(JSON, &Message::ping(b" ")), r#"[" ","",null,null]"#);
    }

    #[test]
    fn finds_words_for_json_that_do_not_exist() {
        let cases: &[(&[u8], Option<&[u8]>)] = &[
            (b"~json:text~ ~JSON:EVENT-ID~ ~~json:channel~ ~json:event-type~", None),
            (b"~text~json:x~ json:x~ ~ json:x~ ~json~", None),
            (b"<~json:id~>", Some(b"~json:id~")),
            (b"~json:text~~Json:texts~", Some(b"~Json:texts~")),
            (b"~json:~", Some(b"~json:~")),
            (b"a~json:text", Some(b"~json:text")),
            (b"~json: text~", Some(b"~json: text~")),
        ];
        for (source, expected) in cases {
            assert_eq!(Template::unknown_word(source), *expected);
        }
    }

    #[test]
    fn an_envelope_is_one_json_object() {
        // Proves protocol.md: messages-as-json (the object).
        let envelope = |message: &Message<'_>| {
            let template = Template::envelope(b"<", b">");
            let mut out = Vec::new();
            template.render(message, &mut out);
            assert_eq!(out.len(), template.rendered_len(message));
            String::from_utf8(out).expect("UTF-8")
        };
        let head = r#"<{"id":3,"channel":"news","cursor":null,"time":1777972087,"tag":2,"#;
        assert_eq!(
            envelope(&message(b"O\"la\n")),
            format!(r#"{head}"event_id":null,"event_type":null,"text":"O\"la\n"}}>"#)
        );
        let binary = Message {
            event_id: Some(b"e\n9"),
            event_type: Some(b""),
            binary: true,
            ..message(b"\xff\0")
        };
        assert_eq!(
            envelope(&binary),
            format!(r#"{head}"event_id":"e\n9","event_type":"","base64":"/wA="}}>"#)
        );
        assert_eq!(
            envelope(&Message::timed_out()),
            r#"<{"id":-3,"channel":"","cursor":null,"time":0,"tag":0,"event_id":null,"event_type":null,"text":"Timed out"}>"#
        );
    }
}
