//! The bytes that a subscriber gets, taken apart into messages.

use crate::http::{self, Body, Chunks};
use crate::sys::find;

/// The form in which messages come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mode {
    /// Lines of a response that stays open.
    Streaming,
    /// Server-sent events.
    EventSource,
    /// Unmasked frames.
    WebSocket,
    /// One answer for each request.
    LongPolling,
}

impl Mode {
    pub(crate) const ALL: [Self; 4] =
        [Self::Streaming, Self::EventSource, Self::WebSocket, Self::LongPolling];

    /// As on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Streaming => "streaming",
            Self::EventSource => "eventsource",
            Self::WebSocket => "websocket",
            Self::LongPolling => "long-polling",
        }
    }
}

/// Why a connection cannot be read on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wrong {
    Malformed,
    Status(u16),
    /// The server ended the stream.
    Ended,
}

impl From<http::Malformed> for Wrong {
    fn from(_: http::Malformed) -> Self {
        Self::Malformed
    }
}

/// Gets what a decoder finds.
pub(crate) trait Sink {
    /// A message, and the id with which to resume, if it has one. In long polling the id is two request headers.
    fn message(&mut self, text: &[u8], id: &[u8]);

    /// The answer to a poll is complete.
    fn answered(&mut self);
}

#[derive(Debug, Clone)]
enum State {
    Head,
    Open { chunks: Option<Chunks> },
}

/// The decoder of one connection.
pub(crate) struct Decoder {
    mode: Mode,
    state: State,
    /// Bytes of something that is not complete.
    rest: Vec<u8>,
}

impl Decoder {
    pub(crate) fn new(mode: Mode) -> Self {
        Self { mode, state: State::Head, rest: Vec::new() }
    }

    /// Whether the head of a stream has come.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    /// Takes bytes as they come. `scratch` is memory to work in, without meaning between two calls.
    pub(crate) fn feed(
        &mut self,
        bytes: &[u8],
        scratch: &mut Vec<u8>,
        sink: &mut impl Sink,
    ) -> Result<(), Wrong> {
        if self.mode == Mode::LongPolling {
            return self.feed_polls(bytes, scratch, sink);
        }
        let held;
        let mut bytes = bytes;
        if matches!(self.state, State::Head) {
            self.rest.extend_from_slice(bytes);
            let Some(head) = http::head(&self.rest)? else { return Ok(()) };
            let wanted = if self.mode == Mode::WebSocket { 101 } else { 200 };
            if head.status != wanted {
                return Err(Wrong::Status(head.status));
            }
            let chunked = self.mode != Mode::WebSocket && head.body == Body::Chunks;
            self.state = State::Open { chunks: chunked.then(Chunks::default) };
            held = std::mem::take(&mut self.rest);
            bytes = &held[head.len..];
        }
        let State::Open { chunks } = &mut self.state else { return Ok(()) };
        if chunks.is_none() && self.rest.is_empty() {
            let used = items(self.mode, bytes, sink)?;
            self.rest.extend_from_slice(&bytes[used..]);
            return Ok(());
        }
        scratch.clear();
        scratch.append(&mut self.rest);
        let mut ended = false;
        match chunks {
            None => scratch.extend_from_slice(bytes),
            Some(chunks) => {
                chunks.decode(bytes, scratch)?;
                ended = chunks.ended();
            }
        }
        let used = items(self.mode, scratch, sink)?;
        self.rest.extend_from_slice(&scratch[used..]);
        if ended { Err(Wrong::Ended) } else { Ok(()) }
    }

    fn feed_polls(
        &mut self,
        bytes: &[u8],
        scratch: &mut Vec<u8>,
        sink: &mut impl Sink,
    ) -> Result<(), Wrong> {
        let held;
        let mut bytes = bytes;
        if !self.rest.is_empty() {
            self.rest.extend_from_slice(bytes);
            held = std::mem::take(&mut self.rest);
            bytes = &held;
        }
        loop {
            scratch.clear();
            let Some((head, len)) = http::answer(bytes, scratch)? else {
                self.rest.extend_from_slice(bytes);
                return Ok(());
            };
            if head.status != 200 {
                return Err(Wrong::Status(head.status));
            }
            let text = scratch.len();
            scratch.extend_from_slice(b"If-Modified-Since: ");
            scratch.extend_from_slice(&bytes[head.last_modified]);
            scratch.extend_from_slice(b"\r\nIf-None-Match: ");
            scratch.extend_from_slice(&bytes[head.etag]);
            scratch.extend_from_slice(b"\r\n");
            let (text, cursor) = scratch.split_at(text);
            let lines = text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
            lines.for_each(|line| sink.message(line, cursor));
            sink.answered();
            bytes = &bytes[len..];
        }
    }
}

/// Hands out all complete messages at the start of `bytes`, and returns the length of what is done with.
fn items(mode: Mode, bytes: &[u8], sink: &mut impl Sink) -> Result<usize, Wrong> {
    match mode {
        Mode::EventSource => Ok(events(bytes, sink)),
        Mode::WebSocket => frames(bytes, sink),
        Mode::Streaming | Mode::LongPolling => {
            let mut used = 0;
            while let Some(len) = find(b'\n', &bytes[used..]) {
                sink.message(&bytes[used..used + len], b"");
                used += len + 1;
            }
            Ok(used)
        }
    }
}

/// Events whose text is one line.
fn events(bytes: &[u8], sink: &mut impl Sink) -> usize {
    let (mut used, mut at) = (0, 0);
    let (mut text, mut id): (Option<&[u8]>, &[u8]) = (None, b"");
    while let Some(len) = find(b'\n', &bytes[at..]) {
        let line = &bytes[at..at + len];
        at += len + 1;
        if line.is_empty() {
            if let Some(text) = text.take() {
                sink.message(text, id);
            }
            id = b"";
        } else if let Some(rest) = line.strip_prefix(b"data: ") {
            text = Some(rest);
            continue;
        } else if let Some(rest) = line.strip_prefix(b"id: ") {
            id = rest;
            continue;
        } else if text.is_some() || !id.is_empty() {
            continue;
        }
        // An event ends here, or a comment outside of events.
        used = at;
    }
    used
}

/// Text and binary frames in one piece; replies to control frames are not asked for.
fn frames(bytes: &[u8], sink: &mut impl Sink) -> Result<usize, Wrong> {
    let mut used = 0;
    loop {
        let frame = &bytes[used..];
        let [first, second, ..] = *frame else { return Ok(used) };
        if second & 0x80 != 0 {
            return Err(Wrong::Malformed);
        }
        let (head, len) = match second {
            126 => match frame.get(2..4) {
                Some(len) => (4, usize::from(len[0]) << 8 | usize::from(len[1])),
                None => return Ok(used),
            },
            127 => match frame.get(2..10) {
                Some(len) => (10, len.iter().fold(0, |len, &byte| len << 8 | usize::from(byte))),
                None => return Ok(used),
            },
            len => (2, usize::from(len)),
        };
        if len > 1 << 24 {
            return Err(Wrong::Malformed);
        }
        let Some(text) = frame.get(head..head + len) else { return Ok(used) };
        match first {
            0x81 | 0x82 => sink.message(text, b""),
            0x88 => return Err(Wrong::Ended),
            0x89 | 0x8a => (),
            _ => return Err(Wrong::Malformed),
        }
        used += head + len;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default, Debug, PartialEq)]
    struct Found {
        answered: u32,
        messages: Vec<(String, String)>,
    }

    impl Sink for Found {
        fn message(&mut self, text: &[u8], id: &[u8]) {
            let string = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            self.messages.push((string(text), string(id)));
        }

        fn answered(&mut self) {
            self.answered += 1;
        }
    }

    /// Feeds `bytes` in two pieces, cut at each place, and in single bytes. The result must be the same.
    fn decoded(mode: Mode, bytes: &[u8]) -> (Found, Result<(), Wrong>) {
        let run = |pieces: &[&[u8]]| {
            let (mut decoder, mut found) = (Decoder::new(mode), Found::default());
            let mut result = Ok(());
            for piece in pieces {
                result = decoder.feed(piece, &mut Vec::new(), &mut found);
                if result.is_err() {
                    break;
                }
            }
            (found, result)
        };
        let whole = run(&[bytes]);
        for cut in 0..bytes.len() {
            assert_eq!(run(&[&bytes[..cut], &bytes[cut..]]), whole, "cut at {cut}");
        }
        assert_eq!(run(&bytes.chunks(1).collect::<Vec<_>>()), whole);
        whole
    }

    fn texts(found: &Found) -> Vec<(&str, &str)> {
        found.messages.iter().map(|(text, id)| (&text[..], &id[..])).collect()
    }

    #[test]
    fn lines_in_chunks_and_without() {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let (found, result) = decoded(
            Mode::Streaming,
            format!("{head}4\r\none\n\r\n7\r\ntwo\nthr\r\n3\r\nee\n\r\n").as_bytes(),
        );
        assert_eq!(result, Ok(()));
        assert_eq!(texts(&found), [("one", ""), ("two", ""), ("three", "")]);
        let (found, _) = decoded(Mode::Streaming, b"HTTP/1.1 200 OK\r\n\r\none\ntwo\nthr");
        assert_eq!(texts(&found), [("one", ""), ("two", "")]);
        let (_, result) = decoded(Mode::Streaming, format!("{head}0\r\n\r\n").as_bytes());
        assert_eq!(result, Err(Wrong::Ended));
        let (_, result) = decoded(Mode::Streaming, b"HTTP/1.1 404 Not Found\r\n\r\n");
        assert_eq!(result, Err(Wrong::Status(404)));
    }

    #[test]
    fn events_with_and_without_ids() {
        let (found, _) = decoded(
            Mode::EventSource,
            b"HTTP/1.1 200 OK\r\n\r\n: hi\n\nid: 7:0\ndata: one\n\n: ping\ndata: two\n\nid: 9\ndata: thr",
        );
        assert_eq!(texts(&found), [("one", "7:0"), ("two", "")]);
    }

    #[test]
    fn frames_of_all_lengths() {
        let mut bytes =
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81\x03one\x89\x00"
                .to_vec();
        bytes.extend_from_slice(b"\x81\x7e\x00\x80");
        bytes.extend_from_slice(&[b'x'; 128]);
        let (found, result) = decoded(Mode::WebSocket, &bytes);
        assert_eq!((found.messages.len(), found.messages[1].0.len(), result), (2, 128, Ok(())));
        for (end, wrong) in [
            (&b"\x88\x00"[..], Wrong::Ended),
            (b"\x81\x80", Wrong::Malformed),
            (b"\x01\x00", Wrong::Malformed),
        ] {
            let (_, result) = decoded(Mode::WebSocket, &[&bytes[..], end].concat());
            assert_eq!(result, Err(wrong));
        }
        let mut long =
            b"HTTP/1.1 101 Switching Protocols\r\n\r\n\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00"
                .to_vec();
        long.extend_from_slice(&[b'x'; 65536]);
        let mut found = Found::default();
        assert!(Decoder::new(Mode::WebSocket).feed(&long, &mut Vec::new(), &mut found).is_ok());
        assert_eq!(found.messages[0].0.len(), 65536);
    }

    #[test]
    fn polls_have_a_place_to_go_on_from() {
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\nLast-Modified: then\r\nEtag: W/3\r\n\r\none\ntwo\n";
        let (found, _) = decoded(Mode::LongPolling, answer.repeat(2).as_bytes());
        let place = "If-Modified-Since: then\r\nIf-None-Match: W/3\r\n";
        assert_eq!(texts(&found), [("one", place), ("two", place), ("one", place), ("two", place)]);
        assert_eq!(found.answered, 2);
    }
}
