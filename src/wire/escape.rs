//! Escapes channel ids for JSON, XML, YAML and plain text, and the words of messages for JSON.
//!
//! An id may hold any bytes. Text that needs no escape is printed as it is, so existing tools see
//! no difference. Quotes, markup, line breaks and bytes that are not UTF-8 are escaped or replaced,
//! so an id cannot break out of its place, and every reader of these formats can read the result.

/// Replaces bytes that a format cannot hold.
const REPLACEMENT: &str = "\u{fffd}";

/// Where a JSON string stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In a document, whose readers know JSON.
    Document,
    /// Perhaps in a script in a page.
    Script,
}

/// Appends the inside of a JSON string (RFC 8259, section 7).
pub fn json(text: &[u8], out: &mut Vec<u8>) {
    push_parts(text, Place::Document, out);
}

/// Appends a whole JSON string with its quotes, of text that a publisher chose. Bytes that are not
/// UTF-8 are replaced.
///
/// The result may also stand in a script: `<` and the two line separators of Unicode are escaped, so
/// no text can end a `<script>` element or a line of an old JavaScript.
pub fn json_string(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    push_parts(text, Place::Script, out);
    out.push(b'"');
}

/// Bytes that [`json_string`] will append.
pub fn json_string_len(text: &[u8]) -> usize {
    let mut len: usize = 2;
    each_part(text, Place::Script, |part| {
        len = len.saturating_add(match part {
            Part::Plain(run) => run.len(),
            Part::Short(_) => 2,
            Part::Unit(_) => 6,
        });
    });
    len
}

/// A part of a JSON string.
enum Part<'a> {
    /// Bytes that stand for themselves.
    Plain(&'a [u8]),
    /// A backslash and this byte.
    Short(u8),
    /// `\u` and four digits.
    Unit(u16),
}

fn push_parts(text: &[u8], place: Place, out: &mut Vec<u8>) {
    each_part(text, place, |part| match part {
        Part::Plain(run) => out.extend_from_slice(run),
        Part::Short(c) => out.extend_from_slice(&[b'\\', c]),
        Part::Unit(unit) => {
            out.extend_from_slice(b"\\u");
            for shift in [12, 8, 4, 0] {
                let digit = char::from_digit(u32::from(unit >> shift & 0xf), 16).unwrap_or('0');
                push(digit, out);
            }
        }
    });
}

fn each_part<'a>(text: &'a [u8], place: Place, mut take: impl FnMut(Part<'a>)) {
    for chunk in text.utf8_chunks() {
        let mut rest = chunk.valid().as_bytes();
        while let Some(at) = rest.iter().position(|byte| is_special(*byte, place)) {
            let (run, special) = rest.split_at(at);
            if !run.is_empty() {
                take(Part::Plain(run));
            }
            let (part, len) = match special {
                [0xe2, 0x80, 0xa8, ..] => (Part::Unit(0x2028), 3),
                [0xe2, 0x80, 0xa9, ..] => (Part::Unit(0x2029), 3),
                [b'"', ..] => (Part::Short(b'"'), 1),
                [b'\\', ..] => (Part::Short(b'\\'), 1),
                [b'\n', ..] => (Part::Short(b'n'), 1),
                [b'\r', ..] => (Part::Short(b'r'), 1),
                [b'\t', ..] => (Part::Short(b't'), 1),
                [byte @ (b'<' | ..b' '), ..] => (Part::Unit(u16::from(*byte)), 1),
                // The first byte of another character.
                _ => (Part::Plain(special.get(..1).unwrap_or_default()), 1),
            };
            take(part);
            rest = special.get(len..).unwrap_or_default();
        }
        if !rest.is_empty() {
            take(Part::Plain(rest));
        }
        if !chunk.invalid().is_empty() {
            take(Part::Plain(REPLACEMENT.as_bytes()));
        }
    }
}

/// May this byte begin something that a JSON string cannot hold as it is?
fn is_special(byte: u8, place: Place) -> bool {
    matches!(byte, ..b' ' | b'"' | b'\\') || place == Place::Script && matches!(byte, b'<' | 0xe2)
}

/// Appends text in base64 (RFC 4648, section 4).
pub fn base64(text: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for group in text.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        let digit = |shift: u32| DIGITS.get((bits >> shift & 63) as usize).copied().unwrap_or(b'=');
        let third = if group.len() > 1 { digit(6) } else { b'=' };
        let fourth = if group.len() > 2 { digit(0) } else { b'=' };
        out.extend_from_slice(&[digit(18), digit(12), third, fourth]);
    }
}

/// Bytes that [`base64`] will append for so many.
pub fn base64_len(len: usize) -> usize {
    len.div_ceil(3).saturating_mul(4)
}

/// Appends XML character data (XML 1.0, sections 2.2 and 2.4). Control characters that XML cannot
/// hold are replaced.
pub fn xml(text: &[u8], out: &mut Vec<u8>) {
    escape(text, out, |c, out| match c {
        '&' => out.extend_from_slice(b"&amp;"),
        '<' => out.extend_from_slice(b"&lt;"),
        '>' => out.extend_from_slice(b"&gt;"),
        '"' => out.extend_from_slice(b"&quot;"),
        '\'' => out.extend_from_slice(b"&apos;"),
        '\t' => out.extend_from_slice(b"&#9;"),
        '\n' => out.extend_from_slice(b"&#10;"),
        '\r' => out.extend_from_slice(b"&#13;"),
        '\0'..='\x1f' | '\u{fffe}' | '\u{ffff}' => out.extend_from_slice(REPLACEMENT.as_bytes()),
        _ => push(c, out),
    });
}

/// Appends one line of plain text or YAML. Bytes that could begin another line are replaced.
pub fn line(text: &[u8], out: &mut Vec<u8>) {
    escape(text, out, |c, out| match c {
        '\u{2028}' | '\u{2029}' => out.extend_from_slice(REPLACEMENT.as_bytes()),
        _ if c.is_control() => out.extend_from_slice(REPLACEMENT.as_bytes()),
        _ => push(c, out),
    });
}

fn escape(text: &[u8], out: &mut Vec<u8>, mut special: impl FnMut(char, &mut Vec<u8>)) {
    for chunk in text.utf8_chunks() {
        let mut rest = chunk.valid();
        while !rest.is_empty() {
            let plain = rest.bytes().take_while(u8::is_ascii_alphanumeric).count();
            let (taken, after) = rest.split_at(plain);
            out.extend_from_slice(taken.as_bytes());
            let mut chars = after.chars();
            if let Some(c) = chars.next() {
                special(c, out);
            }
            rest = chars.as_str();
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice(REPLACEMENT.as_bytes());
        }
    }
}

fn push(c: char, out: &mut Vec<u8>) {
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(escape: fn(&[u8], &mut Vec<u8>), text: &[u8]) -> String {
        let mut out = Vec::new();
        escape(text, &mut out);
        String::from_utf8(out).expect("escaped text is UTF-8")
    }

    #[test]
    fn ordinary_ids_are_printed_as_they_are() {
        for id in ["news", "room 12.b-3_~%+", "ação", "日本", ""] {
            assert_eq!(escaped(json, id.as_bytes()), id);
            assert_eq!(escaped(xml, id.as_bytes()), id);
            assert_eq!(escaped(line, id.as_bytes()), id);
        }
    }

    #[test]
    fn nothing_leaves_its_place() {
        let sly = b"\"a\\<b>&'\r\n\t\0\x1f\xff";
        assert_eq!(escaped(json, sly), "\\\"a\\\\<b>&'\\r\\n\\t\\u0000\\u001f\u{fffd}");
        assert_eq!(
            escaped(xml, sly),
            "&quot;a\\&lt;b&gt;&amp;&apos;&#13;&#10;&#9;\u{fffd}\u{fffd}\u{fffd}"
        );
        assert_eq!(
            escaped(line, sly),
            "\"a\\<b>&'\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}"
        );
        assert_eq!(
            escaped(line, "a\u{85}b\u{2028}c\x7f".as_bytes()),
            "a\u{fffd}b\u{fffd}c\u{fffd}"
        );
    }

    #[test]
    fn a_json_string_has_quotes_and_one_line_and_ends_no_script() {
        let cases: &[(&[u8], &str)] = &[
            (b"", r#""""#),
            (b"Ola", r#""Ola""#),
            ("ação 日本 \u{20ac}\u{1f600}".as_bytes(), "\"ação 日本 \u{20ac}\u{1f600}\""),
            (b"say \"a\\b\"", r#""say \"a\\b\"""#),
            (b"a\r\n\tb\0\x1f\x7f", "\"a\\r\\n\\tb\\u0000\\u001f\x7f\""),
            (b"</script><!--", r#""\u003c/script>\u003c!--""#),
            ("\u{2027}\u{2028}\u{2029}\u{202a}".as_bytes(), "\"\u{2027}\\u2028\\u2029\u{202a}\""),
            (b"a\xffb\xe2\x80", "\"a\u{fffd}b\u{fffd}\""),
            (b"\xe2\x80\"", "\"\u{fffd}\\\"\""),
        ];
        for (text, expected) in cases {
            assert_eq!(escaped(json_string, text), *expected);
            assert_eq!(json_string_len(text), expected.len());
        }
        for byte in 0..=u8::MAX {
            assert_eq!(escaped(json_string, &[byte]).len(), json_string_len(&[byte]));
        }
    }

    #[test]
    fn base64_has_the_test_vectors() {
        // RFC 4648, section 10.
        let cases = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (text, expected) in cases {
            assert_eq!(escaped(base64, text.as_bytes()), expected);
            assert_eq!(base64_len(text.len()), expected.len());
        }
        assert_eq!(escaped(base64, b"\xff\xfe\xfb\xff"), "//77/w==");
    }
}
