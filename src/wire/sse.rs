//! Server-Sent Events framing: one message in, one event block out.
//!
//! Source: WHATWG HTML, "Server-sent events", event stream format.
//!
//! ```text
//!   id: <event id>\n        only if the message has an event id
//!   event: <event type>\n   only if the message has an event type
//!   data: <template>\n      once per line of the text, ~text~ being the line
//!   \n                      ends the event
//! ```
//!
//! Lines end in `\n`, `\r\n` or `\r`, and empty ones vanish. Line breaks and NUL in the event id,
//! the event type and the channel id become spaces: so nothing that a publisher sends, whatever
//! bytes it has, can forge a field. Linear in the length of the text.

use std::borrow::Cow;

use crate::model::Message;
use crate::wire::template::Template;

/// The comment that keeps a connection busy.
pub const PING: &[u8] = b": -1\n";

/// What a header template becomes, once, at load. Never empty: an empty template opens the stream
/// with an empty comment.
pub fn prepare_header(template: &[u8]) -> Vec<u8> {
    let prepared = prepare_footer(template);
    if prepared.is_empty() { b": \n".to_vec() } else { prepared }
}

/// What a footer template becomes, once, at load: comments, unless it is written as one.
pub fn prepare_footer(template: &[u8]) -> Vec<u8> {
    if template.starts_with(b": ") {
        return template.to_vec();
    }
    lines(template).flat_map(|line| [b": ", line, b"\n"]).flatten().copied().collect()
}

/// What a message template becomes, once, at load. One that is already written as a `data: ` field
/// stays as it is, and must bring its own line end; an empty one stands for the text alone.
pub fn prepare_message(template: &[u8]) -> Template {
    match template {
        b"" => Template::compile(b"data: ~text~\n"),
        _ if template.starts_with(b"data: ") => Template::compile(template),
        _ => Template::compile(&[b"data: ", template, b"\n"].concat()),
    }
}

/// Appends one event block. `template` was made by [`prepare_message`]. Returns how many of the
/// appended bytes are data lines and the blank line: what padding is measured by.
pub fn render(template: &Template, message: &Message<'_>, out: &mut Vec<u8>) -> usize {
    let event_id = message.event_id.map(one_line);
    let event_type = message.event_type.map(one_line);
    let channel = one_line(message.channel);
    let message = Message {
        event_id: event_id.as_deref(),
        event_type: event_type.as_deref(),
        channel: &channel,
        ..*message
    };

    field(b"id: ", message.event_id, out);
    field(b"event: ", message.event_type, out);
    let before = out.len();
    for line in lines(message.text) {
        template.render_line(&message, line, out);
    }
    out.push(b'\n');
    out.len() - before
}

/// The lines of a text, empty ones left out. NUL is an ordinary byte.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| matches!(byte, b'\r' | b'\n')).filter(|line| !line.is_empty())
}

fn field(name: &[u8], value: Option<&[u8]>, out: &mut Vec<u8>) {
    if let Some(value) = value {
        out.extend_from_slice(name);
        out.extend_from_slice(value);
        out.push(b'\n');
    }
}

/// Browsers drop an id with NUL in it, so NUL goes the way of the line breaks.
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

    const DEFAULT: &[u8] = b"~text~";
    const JSON: &[u8] = b"{\"id\":~id~,\"text\":\"~text~\"}";

    fn message<'a>(
        text: &'a [u8],
        event_id: Option<&'a [u8]>,
        event_type: Option<&'a [u8]>,
    ) -> Message<'a> {
        let (id, channel, time, tag, binary) = (3, b"news".as_slice(), 0, 1, false);
        Message { id, channel, time, tag, event_id, event_type, text, binary }
    }

    fn rendered(template: &[u8], message: &Message<'_>) -> String {
        let mut out = Vec::new();
        render(&prepare_message(template), message, &mut out);
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
                let block = rendered(template, &message);
                // No line end but those of the framing, and each line begins with its own field.
                assert!(!block.contains('\r') && block.ends_with("\n\n"));
                let lines: Vec<_> = block.trim_end_matches('\n').split('\n').collect();
                assert!(lines[0].starts_with("id: x") && lines[1].starts_with("event: x"));
                assert!(lines[2..].iter().all(|line| line.starts_with("data: ")), "{block:?}");
                assert!(!lines[0].contains('\0') && !lines[1].contains('\0'));
            }
        }
    }

    #[test]
    fn measures_data_and_blank_line_only() {
        let mut out = b"before".to_vec();
        let message = message(b"Ola", Some(b"e9"), Some(b"upd"));
        assert_eq!(render(&prepare_message(DEFAULT), &message, &mut out), "data: Ola\n\n".len());
    }

    #[test]
    #[cfg_attr(miri, ignore = "large input")]
    fn many_short_lines_are_one_pass() {
        let text = b"a\n".repeat(1_000_000);
        let mut out = Vec::new();
        render(&prepare_message(DEFAULT), &message(&text, None, None), &mut out);
        assert_eq!(out.len(), "data: a\n".len() * 1_000_000 + 1);
    }
}
