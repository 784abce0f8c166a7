//! HTTP/1.1 answers: the head, a body whose length is known, and bodies in chunks.

use std::ops::Range;

/// Longest head that is accepted.
const HEAD_MAX: usize = 16 * 1024;

/// How the body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    Length(usize),
    Chunks,
    /// With the connection.
    Open,
}

/// The head of an answer. The ranges are places in the bytes that were parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) len: usize,
    pub(crate) body: Body,
    pub(crate) last_modified: Range<usize>,
    pub(crate) etag: Range<usize>,
}

/// The answer is not HTTP/1.1.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Place just behind the empty line.
fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(found) = crate::sys::find(b'\n', &bytes[from..]) {
        from += found + 1;
        if bytes[from..].starts_with(b"\r\n") {
            return Some(from + 2);
        }
    }
    None
}

fn decimal(text: &[u8]) -> Option<usize> {
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

/// Parses a head, or returns `None` if it is not complete.
pub(crate) fn head(bytes: &[u8]) -> Result<Option<Head>, Malformed> {
    let Some(len) = end_of_head(bytes) else {
        return if bytes.len() > HEAD_MAX { Err(Malformed) } else { Ok(None) };
    };
    let status = bytes.strip_prefix(b"HTTP/1.1 ").and_then(|rest| rest.get(..3));
    let status = status.and_then(decimal).ok_or(Malformed)? as u16;
    let mut head = Head { status, len, body: Body::Open, last_modified: 0..0, etag: 0..0 };
    if matches!(status, 204 | 304) {
        head.body = Body::Length(0);
    }
    let mut from = 0;
    while from < len {
        let end = from + crate::sys::find(b'\n', &bytes[from..len]).ok_or(Malformed)?;
        let line = &bytes[from..end];
        if let Some(colon) = line.iter().position(|&byte| byte == b':') {
            let mut value = from + colon + 1..end;
            while value.start < value.end && bytes[value.start] == b' ' {
                value.start += 1;
            }
            while value.start < value.end && matches!(bytes[value.end - 1], b' ' | b'\r') {
                value.end -= 1;
            }
            let name = &line[..colon];
            if name.eq_ignore_ascii_case(b"content-length") && head.body == Body::Open {
                head.body = Body::Length(decimal(&bytes[value]).ok_or(Malformed)?);
            } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
                head.body = Body::Chunks;
            } else if name.eq_ignore_ascii_case(b"last-modified") {
                head.last_modified = value;
            } else if name.eq_ignore_ascii_case(b"etag") {
                head.etag = value;
            }
        }
        from = end + 1;
    }
    Ok(Some(head))
}

/// A complete answer: its head, and the length of head and body. The body's text is appended to `text`.
///
/// `None` if it is not complete; `text` is as before then.
pub(crate) fn answer(bytes: &[u8], text: &mut Vec<u8>) -> Result<Option<(Head, usize)>, Malformed> {
    let Some(head) = head(bytes)? else { return Ok(None) };
    let rest = &bytes[head.len..];
    let len = match head.body {
        Body::Length(len) => {
            let Some(body) = rest.get(..len) else { return Ok(None) };
            text.extend_from_slice(body);
            len
        }
        Body::Chunks => {
            let before = text.len();
            let mut chunks = Chunks::default();
            let len = chunks.decode(rest, text)?;
            if !chunks.ended() {
                text.truncate(before);
                return Ok(None);
            }
            len
        }
        Body::Open => return Err(Malformed),
    };
    let len = head.len + len;
    Ok(Some((head, len)))
}

/// Where the decoder is in a body in chunks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Place {
    /// In the line with the size; the number so far, and whether an extension has begun.
    #[default]
    Start,
    Size {
        size: usize,
        extension: bool,
    },
    /// In the data; so much is left.
    Data(usize),
    /// Before the line end behind the data.
    DataEnd,
    /// Behind the last chunk; whether the line has something in it.
    Trailer {
        empty: bool,
    },
    Ended,
}

/// Decodes a body in chunks, piece by piece.
#[derive(Debug, Clone, Default)]
pub(crate) struct Chunks(Place);

impl Chunks {
    pub(crate) fn ended(&self) -> bool {
        self.0 == Place::Ended
    }

    /// Appends the data to `text`, and returns how many bytes belong to the body: all, unless it has ended.
    pub(crate) fn decode(&mut self, bytes: &[u8], text: &mut Vec<u8>) -> Result<usize, Malformed> {
        let mut at = 0;
        while at < bytes.len() && !self.ended() {
            if let Place::Data(left) = self.0 {
                let len = left.min(bytes.len() - at);
                text.extend_from_slice(&bytes[at..at + len]);
                at += len;
                self.0 = if len == left { Place::DataEnd } else { Place::Data(left - len) };
                continue;
            }
            let byte = bytes[at];
            at += 1;
            self.0 = match (self.0, byte) {
                (Place::Start | Place::Size { extension: false, .. }, _)
                    if byte.is_ascii_hexdigit() =>
                {
                    let size = if let Place::Size { size, .. } = self.0 { size } else { 0 };
                    if size >> 40 != 0 {
                        return Err(Malformed);
                    }
                    let digit = (byte as char).to_digit(16).unwrap_or(0) as usize;
                    Place::Size { size: size << 4 | digit, extension: false }
                }
                (Place::Size { size: 0, .. }, b'\n') => Place::Trailer { empty: true },
                (Place::Size { size, .. }, b'\n') => Place::Data(size),
                (Place::Size { .. }, b'\r') => self.0,
                (Place::Size { size, extension }, _) if extension || byte == b';' => {
                    Place::Size { size, extension: true }
                }
                (Place::DataEnd, b'\r') => Place::DataEnd,
                (Place::DataEnd, b'\n') => Place::Start,
                (Place::Trailer { empty: true }, b'\n') => Place::Ended,
                (Place::Trailer { empty }, b'\r') => Place::Trailer { empty },
                (Place::Trailer { .. }, b'\n') => Place::Trailer { empty: true },
                (Place::Trailer { .. }, _) => Place::Trailer { empty: false },
                _ => return Err(Malformed),
            };
        }
        Ok(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads() {
        let text = b"HTTP/1.1 200 OK\r\nDate: now\r\nlast-modified:  then \r\nETag: W/7\r\nContent-Length: 5\r\n\r\nhello";
        let found = head(text).unwrap().unwrap();
        assert_eq!((found.status, found.body, found.len), (200, Body::Length(5), text.len() - 5));
        assert_eq!(&text[found.last_modified], b"then");
        assert_eq!(&text[found.etag], b"W/7");
        assert_eq!(head(&text[..40]), Ok(None));
        assert_eq!(head(b"HTTP/1.0 200 OK\r\n\r\n"), Err(Malformed));
        assert_eq!(head(&[b'x'; HEAD_MAX + 1]), Err(Malformed));
        let open = head(b"HTTP/1.1 200 OK\r\n\r\n").unwrap().unwrap();
        assert_eq!(open.body, Body::Open);
        let none = head(b"HTTP/1.1 304 Not Modified\r\nEtag: 1\r\n\r\n").unwrap().unwrap();
        assert_eq!(none.body, Body::Length(0));
    }

    #[test]
    fn answers_are_taken_whole() {
        let chunked =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nHTTP/1.1";
        let sized = b"HTTP/1.1 201 Created\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1";
        for bytes in [&chunked[..], &sized[..]] {
            let whole = bytes.len() - "HTTP/1.1".len();
            for len in 0..whole {
                let mut text = b"before".to_vec();
                assert_eq!(answer(&bytes[..len], &mut text), Ok(None), "{len}");
                assert_eq!(text, b"before");
            }
            let mut text = Vec::new();
            let (_, len) = answer(bytes, &mut text).unwrap().unwrap();
            assert_eq!((len, &text[..]), (whole, &b"abc"[..]));
        }
    }

    #[test]
    fn chunks_may_be_cut_anywhere() {
        let bytes = b"5;x=y\r\nhello\r\n1a\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\nX: y\r\n\r\nrest";
        for cut in 0..bytes.len() {
            let (mut chunks, mut text) = (Chunks::default(), Vec::new());
            let mut used = chunks.decode(&bytes[..cut], &mut text).unwrap();
            used += chunks.decode(&bytes[used..], &mut text).unwrap();
            assert!(chunks.ended());
            assert_eq!(text, b"helloabcdefghijklmnopqrstuvwxyz");
            assert_eq!(used, bytes.len() - 4);
        }
    }

    #[test]
    fn no_chunks() {
        for bytes in [&b"x\r\n"[..], b"\r\n", b"1\r\nab", b"11111111111111\r\n"] {
            assert_eq!(Chunks::default().decode(bytes, &mut Vec::new()), Err(Malformed));
        }
    }
}
