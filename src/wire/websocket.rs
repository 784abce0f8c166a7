//! Reads WebSocket frames from clients: takes bytes in any split, gives messages and control
//! frames.
//!
//! Source: RFC 6455, sections 5 and 7. [`crate::wire::frame`] is the other direction.
//!
//! Unmasked frames are accepted, because clients of the older module send them. A message is
//! refused as soon as its announced length is above the limit or its text cannot be UTF-8. The
//! decoder keeps only what it has received, so an announced length costs nothing. After the end (a
//! close frame or an error) all input is thrown away.

use crate::wire::frame::{CONTROL_MAX, Opcode, code};
use crate::wire::utf8::{NotUtf8, Validator};
use crate::wire::websocket::head::{HEAD_MAX, Head, collect_head};

mod head;

/// Options of a decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bytes of the longest message, over all its fragments.
    pub message_max: u64,
    /// Hand out messages? If not, they are checked and thrown away.
    pub collect: bool,
    /// Accept binary messages? If not, one ends the connection.
    pub binary: bool,
}

/// Something that the client has sent completely.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A text message: valid UTF-8, maybe empty. Only if messages are collected.
    Text(Vec<u8>),
    /// A binary message, maybe empty. Only if messages are collected.
    Binary(Vec<u8>),
    /// A ping with its payload.
    Ping {
        /// At most [`CONTROL_MAX`] bytes.
        payload: &'a [u8],
        /// Was the frame masked?
        masked: bool,
    },
    /// A pong.
    Pong,
    /// The client ends the connection, with a code if it gave one. This is the last event.
    Close(Option<u16>),
    /// A binary message where none is accepted, or a reserved opcode there. The connection is to be
    /// ended without a code. This is the last event.
    Unsupported,
    /// The client broke a rule. The connection is to be ended with this code. This is the last
    /// event.
    Violation(u16),
}

/// Reads the frames of one client.
#[derive(Debug)]
pub struct Decoder {
    options: Options,
    state: State,
    /// The message whose fragments are arriving; its opcode is text or binary.
    message: Option<Partial>,
    /// The payload of the control frame that is arriving; apart, because it may come between
    /// fragments.
    control: [u8; CONTROL_MAX],
}

#[derive(Debug)]
enum State {
    /// Collects the bytes before the payload.
    Head {
        bytes: [u8; HEAD_MAX],
        len: usize,
    },
    /// `left` bytes of the payload are missing.
    Payload {
        head: Head,
        left: u64,
    },
    Ended,
}

#[derive(Debug)]
struct Partial {
    opcode: Opcode,
    /// Empty if messages are not collected.
    text: Vec<u8>,
    /// Bytes that all its frames have announced.
    len: u64,
    utf8: Validator,
}

const START: State = State::Head { bytes: [0; HEAD_MAX], len: 0 };

/// The result of a step of [`Decoder::decode`], before the event borrows from the decoder.
enum Done {
    Message(Partial),
    Control(Head),
    Unsupported,
    Violation(u16),
}

impl Decoder {
    /// A decoder at the beginning of the stream.
    pub fn new(options: Options) -> Self {
        Self { options, state: START, message: None, control: [0; CONTROL_MAX] }
    }

    /// Takes bytes from the front of `input` up to the next event. `None`: `input` is used up.
    pub fn decode(&mut self, input: &mut &[u8]) -> Option<Event<'_>> {
        let done = loop {
            match self.step(input) {
                Ok(Some(done)) => break done,
                Ok(None) if input.is_empty() => return None,
                Ok(None) => {}
                Err(done) => break done,
            }
        };
        let event = match done {
            Done::Message(Partial { opcode: Opcode::Binary, text, .. }) => Event::Binary(text),
            Done::Message(Partial { text, .. }) => Event::Text(text),
            Done::Control(head) => self.control_event(head),
            Done::Unsupported => Event::Unsupported,
            Done::Violation(code) => Event::Violation(code),
        };
        Some(event)
    }

    /// Is it where a new decoder is: between two messages, with nothing of the next one?
    pub fn is_at_rest(&self) -> bool {
        self.message.is_none() && matches!(self.state, State::Head { len: 0, .. })
    }

    /// Has the last event been given? Then all further input is thrown away.
    pub fn has_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// The server has sent its own close frame: all further input is thrown away.
    pub fn end(&mut self) {
        self.state = State::Ended;
        self.message = None;
    }

    /// Takes one head, or one piece of payload. An error is the last event.
    fn step(&mut self, input: &mut &[u8]) -> Result<Option<Done>, Done> {
        let done = match &mut self.state {
            State::Ended => {
                *input = &[];
                return Ok(None);
            }
            State::Head { bytes, len } => match collect_head(bytes, len, input) {
                Some(head) => self.begin_frame(head),
                None => return Ok(None),
            },
            State::Payload { .. } => self.take_payload(input),
        };
        if done.is_err() {
            self.end();
        }
        done
    }

    fn begin_frame(&mut self, head: Head) -> Result<Option<Done>, Done> {
        let violation = Err(Done::Violation(code::PROTOCOL_ERROR));
        if head.reserved_bits {
            return violation;
        }
        let Some(opcode) = Opcode::parse(head.opcode) else {
            // A location that accepts binary messages has modern clients: they are told what is
            // wrong.
            return if self.options.binary { violation } else { Err(Done::Unsupported) };
        };
        if opcode.is_control() {
            if !head.fin || head.len > CONTROL_MAX as u64 {
                return violation;
            }
        } else {
            let len = match (&self.message, opcode) {
                (Some(message), Opcode::Continuation) => message.len.checked_add(head.len),
                (None, Opcode::Text | Opcode::Binary) => Some(head.len),
                _ => return violation,
            };
            if opcode == Opcode::Binary && !self.options.binary {
                return Err(Done::Unsupported);
            }
            // Before the limit is checked: a length has 63 bits.
            if head.len > i64::MAX as u64 {
                return violation;
            }
            let Some(len) = len.filter(|len| *len <= self.options.message_max) else {
                return Err(Done::Violation(code::TOO_BIG));
            };
            let message = self.message.get_or_insert_with(|| Partial::new(opcode));
            message.len = len;
        }
        self.state = State::Payload { head, left: head.len };
        if head.len == 0 { self.finish_frame(head) } else { Ok(None) }
    }

    fn take_payload(&mut self, input: &mut &[u8]) -> Result<Option<Done>, Done> {
        let State::Payload { head, left } = &mut self.state else { return Ok(None) };
        let head = *head;
        let len = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
        let (piece, rest) = input.split_at(len);
        *input = rest;
        let at = head.len - *left;
        *left -= piece.len() as u64;
        let finished = *left == 0;

        let mask = head.mask_at(at);
        if head.is_control() {
            let at = usize::try_from(at).unwrap_or(CONTROL_MAX);
            let room = self.control.iter_mut().skip(at);
            for ((to, from), mask) in room.zip(piece).zip(mask.iter().cycle()) {
                *to = from ^ mask;
            }
        } else if let Some(message) = &mut self.message {
            let taken = message.take(piece, mask, self.options.collect);
            taken.map_err(|_| Done::Violation(code::NOT_UTF8))?;
        }
        if finished { self.finish_frame(head) } else { Ok(None) }
    }

    fn finish_frame(&mut self, head: Head) -> Result<Option<Done>, Done> {
        self.state = START;
        if head.is_control() {
            return Ok(Some(Done::Control(head)));
        }
        if !head.fin {
            return Ok(None);
        }
        match self.message.take() {
            Some(message) if !message.utf8.is_complete() => Err(Done::Violation(code::NOT_UTF8)),
            Some(message) if self.options.collect => Ok(Some(Done::Message(message))),
            _ => Ok(None),
        }
    }

    fn control_event(&mut self, head: Head) -> Event<'_> {
        let opcode = Opcode::parse(head.opcode);
        if opcode == Some(Opcode::Close) {
            self.end();
        }
        let len = usize::try_from(head.len).unwrap_or(CONTROL_MAX);
        let payload = self.control.get(..len).unwrap_or_default();
        match opcode {
            Some(Opcode::Ping) => Event::Ping { payload, masked: head.mask.is_some() },
            Some(Opcode::Close) => close_event(payload),
            _ => Event::Pong,
        }
    }
}

impl Partial {
    fn new(opcode: Opcode) -> Self {
        Self { opcode, text: Vec::new(), len: 0, utf8: Validator::default() }
    }

    /// Unmasks and checks the next bytes. Keeps them if messages are collected.
    fn take(&mut self, piece: &[u8], mask: [u8; 4], collect: bool) -> Result<(), NotUtf8> {
        if collect {
            let before = self.text.len();
            self.text.extend_from_slice(piece);
            let taken = self.text.get_mut(before..).unwrap_or_default();
            unmask(taken, mask);
            return if self.opcode == Opcode::Text { self.utf8.feed(taken) } else { Ok(()) };
        }
        if self.opcode == Opcode::Text {
            let mut scratch = [0; SCRATCH];
            for piece in piece.chunks(SCRATCH) {
                let Some(taken) = scratch.get_mut(..piece.len()) else { continue };
                taken.copy_from_slice(piece);
                unmask(taken, mask);
                self.utf8.feed(taken)?;
            }
        }
        Ok(())
    }
}

/// How many bytes are checked at a time if they are not collected; a multiple of the mask.
const SCRATCH: usize = 4096;

fn close_event(payload: &[u8]) -> Event<'static> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        let empty = payload.is_empty();
        return if empty { Event::Close(None) } else { Event::Violation(code::PROTOCOL_ERROR) };
    };
    let code = u16::from_be_bytes(*code);
    // 1004 is undefined. 1005, 1006 and 1015 stand for closings without a code.
    let allowed = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
    if !allowed {
        return Event::Violation(code::PROTOCOL_ERROR);
    }
    if std::str::from_utf8(reason).is_err() {
        return Event::Violation(code::NOT_UTF8);
    }
    Event::Close(Some(code))
}

fn unmask(bytes: &mut [u8], mask: [u8; 4]) {
    if mask == [0; 4] {
        return;
    }
    // Blocks of the size of a vector, so that the compiler uses vector instructions.
    let wide = [mask; 4];
    let mut blocks = bytes.chunks_exact_mut(16);
    for block in &mut blocks {
        for (byte, mask) in block.iter_mut().zip(wide.as_flattened()) {
            *byte ^= mask;
        }
    }
    for (byte, mask) in blocks.into_remainder().iter_mut().zip(wide.as_flattened()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: [u8; 4] = [0x11, 0x22, 0x33, 0x44];
    const ECHO: Options = Options { message_max: 1 << 24, collect: true, binary: true };
    const STRICT: Options = Options { binary: false, ..ECHO };
    const DISCARD: Options = Options { collect: false, ..ECHO };

    /// An event without borrows, for comparisons.
    #[derive(Debug, PartialEq)]
    enum Seen {
        Text(String),
        Binary(Vec<u8>),
        Ping(Vec<u8>, bool),
        Pong,
        Close(Option<u16>),
        Unsupported,
        Violation(u16),
    }

    fn text(text: &str) -> Seen {
        Seen::Text(text.to_owned())
    }

    fn drain(decoder: &mut Decoder, mut input: &[u8]) -> Vec<Seen> {
        let mut seen = Vec::new();
        while let Some(event) = decoder.decode(&mut input) {
            seen.push(match event {
                Event::Text(text) => Seen::Text(String::from_utf8(text).expect("checked")),
                Event::Binary(bytes) => Seen::Binary(bytes),
                Event::Ping { payload, masked } => Seen::Ping(payload.to_vec(), masked),
                Event::Pong => Seen::Pong,
                Event::Close(code) => Seen::Close(code),
                Event::Unsupported => Seen::Unsupported,
                Event::Violation(code) => Seen::Violation(code),
            });
        }
        assert!(input.is_empty());
        seen
    }

    fn frame(first: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
        let mut out = vec![first];
        let flag = if mask.is_some() { 0x80 } else { 0 };
        match payload.len() {
            len @ ..=125 => out.push(flag | len as u8),
            len @ ..=0xffff => {
                out.push(flag | 0x7e);
                out.extend((len as u16).to_be_bytes());
            }
            len => {
                out.push(flag | 0x7f);
                out.extend((len as u64).to_be_bytes());
            }
        }
        out.extend(mask.unwrap_or_default().iter().take(if mask.is_some() { 4 } else { 0 }));
        let mask = mask.unwrap_or_default();
        out.extend(payload.iter().enumerate().map(|(n, byte)| byte ^ mask[n % 4]));
        out
    }

    /// Reads the frames, masked and unmasked, each in one piece, byte by byte, and in two pieces.
    fn check(options: Options, frames: &[(u8, &[u8])], expected: &[Seen]) {
        for mask in [None, Some(MASK)] {
            let bytes: Vec<u8> =
                frames.iter().flat_map(|(first, payload)| frame(*first, payload, mask)).collect();
            let masked = |seen: Vec<Seen>| {
                seen.into_iter().map(|seen| match seen {
                    Seen::Ping(payload, masked) => {
                        assert_eq!(masked, mask.is_some());
                        Seen::Ping(payload, true)
                    }
                    other => other,
                })
            };
            let whole = drain(&mut Decoder::new(options), &bytes);
            assert!(masked(whole).eq(expected.iter().map(same)), "{frames:x?}");

            let mut decoder = Decoder::new(options);
            let single = bytes.iter().flat_map(|byte| drain(&mut decoder, &[*byte])).collect();
            assert!(masked(single).eq(expected.iter().map(same)), "byte by byte: {frames:x?}");

            for at in 0..bytes.len().min(300) {
                let mut decoder = Decoder::new(options);
                let (first, second) = bytes.split_at(at);
                let mut seen = drain(&mut decoder, first);
                seen.extend(drain(&mut decoder, second));
                assert!(masked(seen).eq(expected.iter().map(same)), "at {at}: {frames:x?}");
            }
        }
    }

    fn same(seen: &Seen) -> Seen {
        match seen {
            Seen::Text(text) => Seen::Text(text.clone()),
            Seen::Binary(bytes) => Seen::Binary(bytes.clone()),
            Seen::Ping(payload, masked) => Seen::Ping(payload.clone(), *masked),
            Seen::Pong => Seen::Pong,
            Seen::Close(code) => Seen::Close(*code),
            Seen::Unsupported => Seen::Unsupported,
            Seen::Violation(code) => Seen::Violation(*code),
        }
    }

    #[test]
    fn reads_the_example_of_the_manual() {
        let bytes = [0x81, 0x83, 0x11, 0x22, 0x33, 0x44, 0x5e, 0x4e, 0x52];
        assert_eq!(drain(&mut Decoder::new(STRICT), &bytes), [text("Ola")]);
    }

    #[test]
    #[cfg_attr(miri, ignore = "large input")]
    fn reads_messages_in_any_split() {
        check(ECHO, &[(0x81, b"Ola")], &[text("Ola")]);
        check(ECHO, &[(0x81, b"")], &[text("")]);
        check(ECHO, &[(0x82, b"\xff\0")], &[Seen::Binary(b"\xff\0".to_vec())]);
        check(
            ECHO,
            &[(0x81, b"a"), (0x81, b"b"), (0x82, b"")],
            &[text("a"), text("b"), Seen::Binary(Vec::new())],
        );
        for len in [125, 126, 127, 200] {
            let long = "x".repeat(len);
            check(ECHO, &[(0x81, long.as_bytes())], &[text(&long)]);
        }
        check(ECHO, &[(0x81, "é∑𝄞".as_bytes())], &[text("é∑𝄞")]);
    }

    #[test]
    #[cfg_attr(miri, ignore = "large input")]
    fn reads_all_length_encodings() {
        for len in [65_535, 65_536, 131_073] {
            let long = "y".repeat(len);
            for mask in [None, Some(MASK)] {
                let bytes = frame(0x81, long.as_bytes(), mask);
                assert_eq!(drain(&mut Decoder::new(ECHO), &bytes), [text(&long)]);
            }
        }
    }

    #[test]
    fn joins_fragments_with_control_frames_between() {
        check(ECHO, &[(0x01, b"a"), (0x00, b"b"), (0x80, b"c")], &[text("abc")]);
        check(ECHO, &[(0x01, b"a"), (0x80, b"")], &[text("a")]);
        check(ECHO, &[(0x01, b""), (0x00, b""), (0x80, b"")], &[text("")]);
        check(ECHO, &[(0x02, b"\xff"), (0x80, b"\xfe")], &[Seen::Binary(b"\xff\xfe".to_vec())]);
        check(
            ECHO,
            &[(0x01, b"a"), (0x89, b"one"), (0x00, b"b"), (0x8a, b"x"), (0x80, b"c"), (0x89, b"")],
            &[Seen::Ping(b"one".to_vec(), true), Seen::Pong, text("abc"), Seen::Ping(vec![], true)],
        );
        // A character in two fragments.
        check(ECHO, &[(0x01, b"\xc3"), (0x80, b"\xa9")], &[text("é")]);
        let ping = [b'p'; 125];
        check(ECHO, &[(0x89, &ping)], &[Seen::Ping(ping.to_vec(), true)]);
    }

    #[test]
    fn refuses_broken_sequences_and_heads() {
        let broken: &[&[(u8, &[u8])]] = &[
            &[(0x80, b"x")],
            &[(0x00, b"x")],
            &[(0x01, b"a"), (0x81, b"b")],
            &[(0x01, b"a"), (0x82, b"b")],
            &[(0x01, b"a"), (0x01, b"b")],
            &[(0xc1, b"x")],
            &[(0xa1, b"x")],
            &[(0x91, b"x")],
            &[(0xf9, b"")],
            &[(0x09, b"")],
            &[(0x08, b"")],
            &[(0x0a, b"x")],
            &[(0x89, &[0; 126])],
            &[(0x8a, &[0; 126])],
            &[(0x88, &[0; 126])],
            &[(0x83, b"")],
            &[(0x8b, b"")],
            &[(0x8f, b"x")],
            &[(0x87, b"x"), (0x81, b"never")],
        ];
        for frames in broken {
            check(ECHO, frames, &[Seen::Violation(code::PROTOCOL_ERROR)]);
        }
        check(
            ECHO,
            &[(0x81, b"ok"), (0xc1, b"x"), (0x81, b"never")],
            &[text("ok"), Seen::Violation(code::PROTOCOL_ERROR)],
        );
    }

    #[test]
    fn binary_messages_end_where_they_are_not_taken() {
        check(STRICT, &[(0x82, b"x"), (0x81, b"never")], &[Seen::Unsupported]);
        check(STRICT, &[(0x02, b"x")], &[Seen::Unsupported]);
        check(STRICT, &[(0x83, b"x")], &[Seen::Unsupported]);
        check(STRICT, &[(0x8b, b"x")], &[Seen::Unsupported]);
        check(STRICT, &[(0xc2, b"x")], &[Seen::Violation(code::PROTOCOL_ERROR)]);
    }

    #[test]
    fn closes_with_the_codes_that_may_be_sent() {
        check(ECHO, &[(0x88, b""), (0x81, b"never")], &[Seen::Close(None)]);
        check(ECHO, &[(0x88, b"x")], &[Seen::Violation(code::PROTOCOL_ERROR)]);
        check(ECHO, &[(0x01, b"a"), (0x88, b"\x03\xe8bye")], &[Seen::Close(Some(1000))]);
        check(ECHO, &[(0x88, b"\x03\xe8\xff")], &[Seen::Violation(code::NOT_UTF8)]);
        for code in [1000, 1001, 1002, 1003, 1007, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999] {
            check(ECHO, &[(0x88, &u16::to_be_bytes(code))], &[Seen::Close(Some(code))]);
        }
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
            let payload = u16::to_be_bytes(code);
            check(ECHO, &[(0x88, &payload)], &[Seen::Violation(code::PROTOCOL_ERROR)]);
        }
    }

    #[test]
    fn refuses_text_that_is_not_utf8_as_soon_as_it_shows() {
        let bad: &[&[(u8, &[u8])]] = &[
            &[(0x81, b"\xff")],
            &[(0x81, b"a\xc3")],
            &[(0x81, b"\xed\xa0\x80")],
            &[(0x01, b"\xc3"), (0x80, b"(")],
            &[(0x01, b"\xf4"), (0x00, b"\x90"), (0x80, b"\x80\x80")],
            &[(0x01, b"\xc3"), (0x80, b"")],
        ];
        for frames in bad {
            check(ECHO, frames, &[Seen::Violation(code::NOT_UTF8)]);
            check(DISCARD, frames, &[Seen::Violation(code::NOT_UTF8)]);
        }
        // The rest of the frame is not needed.
        let mut decoder = Decoder::new(ECHO);
        assert_eq!(
            drain(&mut decoder, &frame(0x81, b"ok\xff and a lot more", None)[..5]),
            [Seen::Violation(code::NOT_UTF8)]
        );
        // Pings and binary messages may have any bytes.
        check(ECHO, &[(0x89, b"\xff")], &[Seen::Ping(b"\xff".to_vec(), true)]);
    }

    #[test]
    fn announced_lengths_cost_nothing() {
        let announced = |len: u64| [&[0x81, 0x7f][..], &len.to_be_bytes()].concat();
        for options in [ECHO, DISCARD] {
            for (len, code) in [
                (1 << 62, code::TOO_BIG),
                (i64::MAX as u64, code::TOO_BIG),
                (1 << 63, code::PROTOCOL_ERROR),
                (u64::MAX, code::PROTOCOL_ERROR),
                ((1 << 24) + 1, code::TOO_BIG),
            ] {
                let seen = drain(&mut Decoder::new(options), &announced(len));
                assert_eq!(seen, [Seen::Violation(code)], "{len}");
            }
        }
        // Without a limit: the decoder keeps only what has arrived.
        let unlimited = Options { message_max: u64::MAX, ..ECHO };
        let mut decoder = Decoder::new(unlimited);
        assert_eq!(drain(&mut decoder, &announced(1 << 62)), []);
        assert_eq!(drain(&mut decoder, &[b'x'; 1000]), []);
        let held = decoder.message.as_ref().map(|message| message.text.capacity());
        assert!(held.is_some_and(|held| (1000..4096).contains(&held)));
    }

    #[test]
    fn the_limit_holds_over_all_fragments() {
        let small = Options { message_max: 4, ..ECHO };
        check(small, &[(0x81, b"1234")], &[text("1234")]);
        check(small, &[(0x81, b"12345")], &[Seen::Violation(code::TOO_BIG)]);
        check(
            small,
            &[(0x01, b"12"), (0x89, b"abcdef"), (0x80, b"345")],
            &[Seen::Ping(b"abcdef".to_vec(), true), Seen::Violation(code::TOO_BIG)],
        );
        // Each message may use the whole limit.
        check(small, &[(0x81, b"1234"), (0x81, b"5678")], &[text("1234"), text("5678")]);
    }

    #[test]
    #[cfg_attr(miri, ignore = "large input")]
    fn discarded_messages_are_not_kept() {
        let mut decoder = Decoder::new(DISCARD);
        let bytes = frame(0x01, &[b'x'; 100_000], Some(MASK));
        assert_eq!(drain(&mut decoder, &bytes), []);
        assert_eq!(decoder.message.as_ref().map(|message| message.text.capacity()), Some(0));
        check(
            DISCARD,
            &[(0x81, b"a"), (0x82, b"b"), (0x89, b"p")],
            &[Seen::Ping(b"p".to_vec(), true)],
        );
    }

    #[test]
    #[cfg_attr(miri, ignore = "large input")]
    fn many_tiny_fragments_are_one_pass() {
        let mut decoder = Decoder::new(ECHO);
        let mut bytes = frame(0x01, b"", Some(MASK));
        for _ in 0..500_000 {
            bytes.extend_from_slice(&frame(0x00, b"x", Some(MASK)));
        }
        bytes.extend_from_slice(&frame(0x80, b"", Some(MASK)));
        assert_eq!(drain(&mut decoder, &bytes), [text(&"x".repeat(500_000))]);
    }

    #[test]
    fn swallows_everything_after_the_end() {
        let mut decoder = Decoder::new(ECHO);
        decoder.end();
        assert_eq!(drain(&mut decoder, b"GET / HTTP/1.1\r\n\r\n"), []);
        assert!(decoder.has_ended());
    }
}
