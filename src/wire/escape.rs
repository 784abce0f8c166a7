//! Escapes channel ids for JSON, XML, YAML and plain text.
//!
//! An id may hold any bytes. Text that needs no escape is printed as it is, so existing tools see
//! no difference. Quotes, markup, line breaks and bytes that are not UTF-8 are escaped or replaced,
//! so an id cannot break out of its place, and every reader of these formats can read the result.

/// Replaces bytes that a format cannot hold.
const REPLACEMENT: &str = "\u{fffd}";

/// Appends the inside of a JSON string (RFC 8259, section 7).
pub fn json(text: &[u8], out: &mut Vec<u8>) {
    if text.iter().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')) {
        return out.extend_from_slice(text);
    }
    escape(text, out, |c, out| match c {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        '\0'..='\x1f' => {
            let hex = |nibble: u32| char::from_digit(nibble & 0xf, 16).unwrap_or('0');
            out.extend_from_slice(b"\\u00");
            push(hex(c as u32 >> 4), out);
            push(hex(c as u32), out);
        }
        _ => push(c, out),
    });
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
}
