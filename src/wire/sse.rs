//! Server-sent events: renders one message as one event block.
//!
//! Source: WHATWG HTML, "Server-sent events", event stream format.
//!
//! ```text
//!   id: <event id>\n        only if the message has an event id; or its cursor, if it has a place
//!   event: <event type>\n   only if the message has an event type
//!   data: <template>\n      for each line of the text; ~text~ is the line
//!   \n                      ends the event
//! ```
//!
//! A line ends with `\n`, `\r\n` or `\r`. [`BlankLines`] says what happens to empty ones. Line
//! breaks and NUL in the event id, the event type and the channel id become spaces. So no bytes of
//! a publisher can forge a field. A template with the whole text as JSON is used once, not for each
//! line, and a plain `~text~` in it is one line in the same way. The time is linear in the length of the text.

use std::borrow::Cow;

use crate::model::{Cursor, Message};
use crate::wire::cursor;
use crate::wire::template::Template;

/// The treatment of a message's empty lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum BlankLines {
    /// They are left out, also those that a line break at the beginning or at the end makes.
    #[default]
    Drop,
    /// Each is a `data:` line. So a client joins the lines to the text that was published, with
    /// `\n` for every line break.
    Keep,
}

/// The comment that keeps a connection busy.
pub const PING: &[u8] = b": -1\n";

/// Prepares a header template when the configuration is loaded. The result is never empty: an empty
/// template becomes an empty comment, so that clients see the stream open.
pub fn prepare_header(template: &[u8]) -> Vec<u8> {
    let prepared = prepare_footer(template);
    if prepared.is_empty() { b": \n".to_vec() } else { prepared }
}

/// Prepares a footer template: each line becomes a comment, unless the template begins with one.
pub fn prepare_footer(template: &[u8]) -> Vec<u8> {
    if template.starts_with(b": ") {
        return template.to_vec();
    }
    lines(template).flat_map(|line| [b": ", line, b"\n"]).flatten().copied().collect()
}

/// Prepares a message template. One that begins with `data: ` stays as it is, and must end its line
/// itself. An empty one means the text alone.
pub fn prepare_message(template: &[u8]) -> Template {
    match template {
        b"" => Template::compile(b"data: ~text~\n"),
        _ if template.starts_with(b"data: ") => Template::compile(template),
        _ => Template::compile(&[b"data: ", template, b"\n"].concat()),
    }
}

/// Prepares the message that tells of a gap: its text is the data, whatever template others have.
pub fn prepare_gap() -> Template {
    prepare_message(b"")
}

/// Prepares messages that are one JSON object each.
pub fn prepare_envelope() -> Template {
    Template::envelope(b"data: ", b"\n")
}

/// Appends one event block. `template` comes from [`prepare_message`]. Returns how many of the
/// appended bytes are data lines and the blank line: padding is measured by these.
pub fn render(
    template: &Template,
    blank_lines: BlankLines,
    message: &Message<'_>,
    out: &mut Vec<u8>,
) -> usize {
    render_as(template, blank_lines, message, message.event_id, out)
}

/// The same, with the message's cursor as the id of the event. A message without a place has no id.
pub fn render_placed(
    template: &Template,
    blank_lines: BlankLines,
    message: &Message<'_>,
    out: &mut Vec<u8>,
) -> usize {
    let id = message.cursor().map(|place| cursor::word(&place));
    let id = id.as_ref().map(<[u8; cursor::LEN]>::as_slice);
    render_as(template, blank_lines, message, id, out)
}

/// Appends what opens a stream: how long a client waits before it connects again, and the place that it is
/// at. This is no event.
pub fn open(retry_msec: Option<u64>, place: Option<&Cursor>, out: &mut Vec<u8>) {
    let retry = retry_msec.map(|msec| msec.to_string());
    let id = place.map(cursor::word);
    field(b"retry: ", retry.as_deref().map(str::as_bytes), out);
    field(b"id: ", id.as_ref().map(<[u8; cursor::LEN]>::as_slice), out);
    if retry.is_some() || id.is_some() {
        out.push(b'\n');
    }
}

fn render_as(
    template: &Template,
    blank_lines: BlankLines,
    message: &Message<'_>,
    id: Option<&[u8]>,
    out: &mut Vec<u8>,
) -> usize {
    let id = id.map(one_line);
    let event_id = message.event_id.map(one_line);
    let event_type = message.event_type.map(one_line);
    let channel = one_line(message.channel);
    let whole = message;
    let message = Message {
        event_id: event_id.as_deref(),
        event_type: event_type.as_deref(),
        channel: &channel,
        ..*whole
    };

    field(b"id: ", id.as_deref(), out);
    field(b"event: ", message.event_type, out);
    let before = out.len();
    let mut data = |line: &[u8]| template.render_line(&message, line, whole, out);
    match blank_lines {
        _ if template.has_json_text() => data(&one_line(message.text)),
        BlankLines::Drop => lines(message.text).for_each(data),
        BlankLines::Keep => all_lines(message.text).for_each(data),
    }
    out.push(b'\n');
    out.len() - before
}

/// The lines of a text, without the empty ones. NUL is an ordinary byte.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| matches!(byte, b'\r' | b'\n')).filter(|line| !line.is_empty())
}

/// All lines of a text, one more than it has line breaks. `\r\n` is one line break.
fn all_lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(end) = memchr::memchr2(b'\r', b'\n', text) else {
            rest = None;
            return Some(text);
        };
        let (line, line_break) = text.split_at(end);
        let after = line_break.strip_prefix(b"\r\n").or_else(|| line_break.get(1..));
        rest = Some(after.unwrap_or_default());
        Some(line)
    })
}

fn field(name: &[u8], value: Option<&[u8]>, out: &mut Vec<u8>) {
    if let Some(value) = value {
        out.extend_from_slice(name);
        out.extend_from_slice(value);
        out.push(b'\n');
    }
}

/// Replaces line breaks by spaces, and NUL as well, because browsers drop an id that has one.
fn one_line(text: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr3(b'\r', b'\n', b'\0', text).is_none() {
        return Cow::Borrowed(text);
    }
    let harmless = |byte: &u8| if matches!(byte, b'\r' | b'\n' | b'\0') { b' ' } else { *byte };
    Cow::Owned(text.iter().map(harmless).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Latest, Stamp};

    const DEFAULT: &[u8] = b"~text~";
    const JSON: &[u8] = b"{\"id\":~id~,\"text\":\"~text~\"}";

    fn message<'a>(
        text: &'a [u8],
        event_id: Option<&'a [u8]>,
        event_type: Option<&'a [u8]>,
    ) -> Message<'a> {
        let (id, channel, time, tag, life, binary) = (3, b"news".as_slice(), 0, 1, 0, false);
        let (latest, stamp) = (None, Stamp(0));
        Message { id, channel, time, tag, life, latest, event_id, event_type, text, stamp, binary }
    }

    fn rendered(template: &[u8], message: &Message<'_>) -> String {
        let mut out = Vec::new();
        render(&prepare_message(template), BlankLines::Drop, message, &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn frames_messages() {
        let (id, kind) = (Some(b"e9".as_slice()), Some(b"upd".as_slice()));
        let cases: &[(Message<'_>, &[u8], &str)] = &[
            (message(b"Ola", None, None), DEFAULT, "data: Ola\n\n"),
            (message(b"Ola", None, None), b"", "data: Ola\n\n"),
            (message(b"Ola", id, None), DEFAULT, "id: e9\ndata: Ola\n\n"),
            (message(b"Ola", None, kind), DEFAULT, "event: upd\ndata: Ola\n\n"),
            (
                message(b"Ola", id, kind),
                JSON,
                "id: e9\nevent: upd\ndata: {\"id\":3,\"text\":\"Ola\"}\n\n",
            ),
            (
                message(b"one\ntwo", None, None),
                JSON,
                "data: {\"id\":3,\"text\":\"one\"}\ndata: {\"id\":3,\"text\":\"two\"}\n\n",
            ),
            (message(b"a\nbcd", None, None), b"~size~", "data: 1\ndata: 3\n\n"),
            (message(b"\r\n", id, None), DEFAULT, "id: e9\n\n"),
            (message(b"Ola", Some(b""), None), DEFAULT, "id: \ndata: Ola\n\n"),
            (message(b"Ola", None, None), b"data: <~text~>\n", "data: <Ola>\n\n"),
            (Message::deleted(b"news", b"Channel deleted"), DEFAULT, "data: Channel deleted\n\n"),
        ];
        for (message, template, expected) in cases {
            assert_eq!(rendered(template, message), *expected);
        }
        assert_eq!(rendered(JSON, &message(b"one\ntwo", None, None)).len(), 57);
    }

    #[test]
    fn with_cursors_the_id_is_the_place() {
        let placed = |message: &Message<'_>| {
            let mut out = Vec::new();
            let template = prepare_message(b"~text~ ~event-id~");
            let life = if message.tag == 0 { 0 } else { 0x11fe };
            let latest = (message.tag != 0).then_some(Latest { channel: 5, id: 3 });
            let message = Message { life, latest, ..*message };
            render_placed(&template, BlankLines::Drop, &message, &mut out);
            String::from_utf8_lossy(&out).into_owned()
        };
        let with_id = message(b"Ola", Some(b"e9"), Some(b"upd"));
        let place =
            Cursor { life: 0x11fe, time: 0, tag: 1, latest: Some(Latest { channel: 5, id: 3 }) };
        let word = String::from_utf8_lossy(&cursor::word(&place)).into_owned();
        assert_eq!(placed(&with_id), format!("id: {word}\nevent: upd\ndata: Ola e9\n\n"));
        assert_eq!(placed(&message(b"Ola", None, None)), format!("id: {word}\ndata: Ola \n\n"));
        assert_eq!(placed(&Message::deleted(b"a", b"gone")), "data: gone \n\n");
    }

    #[test]
    fn a_stream_begins_with_its_place_and_no_event() {
        let place = Cursor { life: 0x11fe, time: 16, tag: 0, latest: None };
        let word = String::from_utf8_lossy(&cursor::word(&place)).into_owned();
        for (retry, place, expected) in [
            (None, None, String::new()),
            (Some(2500), None, "retry: 2500\n\n".to_owned()),
            (None, Some(&place), format!("id: {word}\n\n")),
            (Some(1), Some(&place), format!("retry: 1\nid: {word}\n\n")),
        ] {
            let mut out = Vec::new();
            open(retry, place, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), expected);
            assert!(events(&out).is_empty());
        }
    }

    #[test]
    fn splits_lines() {
        let cases: &[(&[u8], &[&str])] = &[
            (b"a\nb\rc\r\nd", &["a", "b", "c", "d"]),
            (b"a\n\nb\n", &["a", "b"]),
            (b"\n\n", &[]),
            (b"", &[]),
            (b"a\\nb", &["a\\nb"]),
            (b"a\0b\nevent: x", &["a\0b", "event: x"]),
        ];
        for (text, expected) in cases {
            let lines: Vec<_> = lines(text).map(String::from_utf8_lossy).collect();
            assert_eq!(lines, *expected);
        }
    }

    /// What a browser reads from a stream: last event id, event type and data of each event, by the
    /// rules of WHATWG HTML, "Interpreting an event stream".
    fn events(stream: &[u8]) -> Vec<(Vec<u8>, Vec<u8>, Vec<u8>)> {
        let mut found = Vec::new();
        let (mut id, mut kind, mut data) = (Vec::new(), Vec::new(), Vec::new());
        // Only a line that is ended counts.
        for line in stream.split_inclusive(|byte| *byte == b'\n') {
            let line = line.strip_suffix(b"\n").expect("a whole line");
            assert!(!line.contains(&b'\r'), "all line breaks are LF");
            if line.is_empty() {
                // Without data there is no event.
                if data.pop().is_some() {
                    found.push((id.clone(), kind.clone(), data.clone()));
                }
                (kind, data) = (Vec::new(), Vec::new());
                continue;
            }
            let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
            let (name, rest) = line.split_at(colon);
            let value = rest.strip_prefix(b":").unwrap_or(rest);
            let value = value.strip_prefix(b" ").unwrap_or(value);
            match name {
                b"id" if !value.contains(&0) => id = value.to_vec(),
                b"event" => kind = value.to_vec(),
                b"data" => {
                    data.extend_from_slice(value);
                    data.push(b'\n');
                }
                _ => {}
            }
        }
        found
    }

    /// With `\n` for every line break.
    fn normalized(text: &[u8]) -> Vec<u8> {
        String::from_utf8(text.to_vec())
            .unwrap()
            .replace("\r\n", "\n")
            .replace('\r', "\n")
            .into_bytes()
    }

    #[test]
    fn a_browser_joins_kept_lines_to_what_was_published() {
        let template = prepare_message(DEFAULT);
        // All texts of at most six of these bytes.
        let bytes = [b'\r', b'\n', b' ', b'a'];
        let mut texts = vec![Vec::new()];
        for length in 0..6 {
            let longer = texts.iter().filter(|text| text.len() == length);
            let longer: Vec<Vec<u8>> = longer
                .flat_map(|text| bytes.map(|byte| [text.as_slice(), &[byte]].concat()))
                .collect();
            texts.extend(longer);
        }
        texts.push("\u{feff}a\n\nb".as_bytes().to_vec());
        texts.push(b"data: x\n\nid: 1\n: y\n\n".to_vec());
        for text in &texts {
            let mut out = Vec::new();
            render(&template, BlankLines::Keep, &message(text, Some(b"e"), Some(b"t")), &mut out);
            let expected = (b"e".to_vec(), b"t".to_vec(), normalized(text));
            assert_eq!(events(&out), [expected], "{:?}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn a_browser_gets_no_empty_line_without_that() {
        let mut out = Vec::new();
        render(
            &prepare_message(DEFAULT),
            BlankLines::Drop,
            &message(b"\na\n\nb\n", None, None),
            &mut out,
        );
        render(
            &prepare_message(DEFAULT),
            BlankLines::Drop,
            &message(b"\r\n", None, None),
            &mut out,
        );
        assert_eq!(events(&out), [(vec![], vec![], b"a\nb".to_vec())]);
    }

    #[test]
    fn keeps_each_line_in_the_template() {
        let mut out = Vec::new();
        let template = prepare_message(b"<~text~|~size~>");
        render(&template, BlankLines::Keep, &message(b"a\r\n\rb\n", None, None), &mut out);
        assert_eq!(out, b"data: <a|1>\ndata: <|0>\ndata: <b|1>\ndata: <|0>\n\n");
        out.clear();
        let written = prepare_message(b"data: ~text~\n");
        let measured =
            render(&written, BlankLines::Keep, &message(b"\n", Some(b"e"), None), &mut out);
        assert_eq!(out, b"id: e\ndata: \ndata: \n\n");
        assert_eq!(measured, b"data: \ndata: \n\n".len());
    }

    #[test]
    fn prepares_headers_and_footers() {
        assert_eq!(prepare_header(b""), b": \n");
        assert_eq!(prepare_header(b"one\ntwo\rthree\r\nfour"), b": one\n: two\n: three\n: four\n");
        assert_eq!(prepare_header(b": ready\n"), b": ready\n");
        assert_eq!(prepare_header(b":ready"), b": :ready\n");
        assert_eq!(prepare_footer(b""), b"");
        assert_eq!(prepare_footer(b"bye"), b": bye\n");
        assert_eq!(prepare_footer(b": bye\n"), b": bye\n");
    }

    #[test]
    fn no_bytes_of_a_message_forge_a_field() {
        let template = b"~text~|~channel~|~event-id~|~event-type~";
        for first in [b'\r', b'\n', b'\0', b':'] {
            for second in [b'\r', b'\n', b'\0', b'a'] {
                let sly = [b"x".as_slice(), &[first, second], b"event: forged\r\rid: 1\n\ndata: y"];
                let sly = sly.concat();
                let message = Message { channel: &sly, ..message(&sly, Some(&sly), Some(&sly)) };
                for blank_lines in [BlankLines::Drop, BlankLines::Keep] {
                    let mut block = Vec::new();
                    render(&prepare_message(template), blank_lines, &message, &mut block);
                    let block = String::from_utf8_lossy(&block);
                    // All line ends are those of the framing, and each line begins with its own
                    // field.
                    assert!(!block.contains('\r') && block.ends_with("\n\n"));
                    let lines: Vec<_> = block.trim_end_matches('\n').split('\n').collect();
                    assert!(lines[0].starts_with("id: x") && lines[1].starts_with("event: x"));
                    assert!(lines[2..].iter().all(|line| line.starts_with("data: ")), "{block:?}");
                    assert!(!lines[0].contains('\0') && !lines[1].contains('\0'));
                }
            }
        }
    }

    #[test]
    fn measures_data_and_blank_line_only() {
        let mut out = b"before".to_vec();
        let message = message(b"Ola", Some(b"e9"), Some(b"upd"));
        assert_eq!(
            render(&prepare_message(DEFAULT), BlankLines::Drop, &message, &mut out),
            "data: Ola\n\n".len()
        );
    }

    #[test]
    #[cfg_attr(miri, ignore = "large input")]
    fn many_short_lines_are_one_pass() {
        let text = b"a\n".repeat(1_000_000);
        let mut out = Vec::new();
        render(&prepare_message(DEFAULT), BlankLines::Drop, &message(&text, None, None), &mut out);
        assert_eq!(out.len(), "data: a\n".len() * 1_000_000 + 1);
    }

    #[test]
    fn a_template_with_the_text_as_json_is_one_line() {
        let cases: &[(&[u8], &[u8], &str)] = &[
            (b"{\"t\":~json:text~}", b"a\r\n\nb", r#"data: {"t":"a\r\n\nb"}"#),
            (b"{\"t\":~json:text~}", b"", r#"data: {"t":""}"#),
            (b"~json:text~ ~text~ ~size~", b"a\nb", r#"data: "a\nb" a b 3"#),
            (b"data: ~json:text~\ndata: ~id~\n", b"a\nb", "data: \"a\\nb\"\ndata: 3"),
        ];
        for (template, text, expected) in cases {
            for blank_lines in [BlankLines::Drop, BlankLines::Keep] {
                let mut out = Vec::new();
                let len = render(
                    &prepare_message(template),
                    blank_lines,
                    &message(text, None, None),
                    &mut out,
                );
                assert_eq!(String::from_utf8_lossy(&out), format!("{expected}\n\n"));
                assert_eq!(len, out.len());
            }
        }
    }

    #[test]
    fn fields_are_one_line_but_json_words_show_what_was_published() {
        let sly = Message { channel: b"a\nb", ..message(b"x", Some(b"e\n1"), Some(b"t\r")) };
        assert_eq!(
            rendered(b"~channel~ ~json:channel~ ~json:event-id~ ~json:event-type~", &sly),
            "id: e 1\nevent: t \ndata: a b \"a\\nb\" \"e\\n1\" \"t\\r\"\n\n"
        );
        let mut out = Vec::new();
        render(&prepare_envelope(), BlankLines::Drop, &sly, &mut out);
        assert_eq!(
            String::from_utf8_lossy(&out),
            "id: e 1\nevent: t \ndata: {\"id\":3,\"channel\":\"a\\nb\",\"cursor\":null,\"time\":0,\
             \"tag\":1,\"event_id\":\"e\\n1\",\"event_type\":\"t\\r\",\"text\":\"x\"}\n\n"
        );
    }
}
