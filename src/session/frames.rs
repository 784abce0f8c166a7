//! The reading half of a WebSocket connection: what the server does for a client's bytes.
//!
//! ```text
//!            frames                       ┌─► Publish   a message for all its channels
//!   Open ──────────────► [`Action`] ──────┼─► Write     a pong
//!     │                                   └─► Close     close frame, then TCP close
//!     └─ Close, or the server's own close frame ─► Closed: all input is thrown away
//! ```
//!
//! [`crate::session::Layout`] is the writing half. The two do not depend on each other.

use crate::wire::frame::{self, Opcode};
use crate::wire::websocket::{Decoder, Event, Options};

/// What a location lets its clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// `push_stream_websocket_allow_publish`
    pub publish: bool,
    /// `push_stream_websocket_binary`: binary messages are accepted. Then empty messages are
    /// published too, and a reserved opcode is answered with a code, as in RFC 6455. Without it
    /// both are as in the older module.
    pub binary: bool,
    /// `push_stream_websocket_max_message_size`
    pub message_max: u64,
}

/// The server's task for a frame of the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Publish this to every channel of the connection.
    Publish {
        /// A text is valid UTF-8.
        message: Vec<u8>,
        /// It came as a binary message.
        binary: bool,
    },
    /// Send these bytes.
    Write(Vec<u8>),
    /// Send these bytes, then close the TCP connection. This is the last action.
    Close {
        /// A close frame.
        bytes: Vec<u8>,
        /// The code in it; `None`: the frame is empty.
        code: Option<u16>,
    },
}

/// One client's stream of frames.
#[derive(Debug)]
pub struct Connection {
    decoder: Decoder,
    publish_empty: bool,
}

impl Connection {
    /// A connection after its handshake.
    pub fn new(terms: Terms) -> Self {
        let Terms { publish, binary, message_max } = terms;
        let options = Options { message_max, collect: publish, binary };
        Self { decoder: Decoder::new(options), publish_empty: binary }
    }

    /// Takes bytes from the front of `input`, up to the end of the frame that makes the next
    /// action. `None`: all of `input` is taken.
    pub fn read(&mut self, input: &mut &[u8]) -> Option<Action> {
        while let Some(event) = self.decoder.decode(input) {
            match event {
                Event::Text(message) | Event::Binary(message)
                    if message.is_empty() && !self.publish_empty => {}
                Event::Text(message) => return Some(Action::Publish { message, binary: false }),
                Event::Binary(message) => return Some(Action::Publish { message, binary: true }),
                // Old clients send unmasked pings and expect an empty pong.
                Event::Ping { masked: false, .. } => return Some(pong(b"")),
                Event::Ping { payload, .. } => return Some(pong(payload)),
                Event::Pong => {}
                Event::Close(code) => return Some(close(code)),
                Event::Unsupported => return Some(close(None)),
                Event::Violation(code) => return Some(close(Some(code))),
            }
        }
        None
    }

    /// The server ends the connection with this code, one of [`frame::code`]. Appends the close
    /// frame, unless one was sent already. From now on all input is thrown away.
    pub fn fail(&mut self, code: u16, out: &mut Vec<u8>) {
        if !self.is_closed() {
            frame::encode_close(code, out);
        }
        self.end();
    }

    /// The server has sent its close frame. From now on all input is thrown away.
    pub fn end(&mut self) {
        self.decoder.end();
    }

    /// Would a new connection do the same from here on?
    pub fn is_at_rest(&self) -> bool {
        self.decoder.is_at_rest()
    }

    /// Has a close frame been sent or [`Action::Close`] been given?
    pub fn is_closed(&self) -> bool {
        self.decoder.has_ended()
    }
}

fn pong(payload: &[u8]) -> Action {
    let mut bytes = Vec::new();
    frame::encode(Opcode::Pong, payload, &mut bytes);
    Action::Write(bytes)
}

fn close(code: Option<u16>) -> Action {
    let mut bytes = Vec::new();
    match code {
        Some(code) => frame::encode_close(code, &mut bytes),
        None => bytes.extend_from_slice(frame::CLOSE),
    }
    Action::Close { bytes, code }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLISHER: Terms = Terms { publish: true, binary: false, message_max: 1 << 24 };

    fn actions(terms: Terms, input: &[u8]) -> Vec<Action> {
        let mut connection = Connection::new(terms);
        let mut rest = input;
        let mut actions = Vec::new();
        while let Some(action) = connection.read(&mut rest) {
            actions.push(action);
        }
        assert!(rest.is_empty());
        actions
    }

    fn publish(message: &[u8], binary: bool) -> Action {
        Action::Publish { message: message.to_vec(), binary }
    }

    fn closed(bytes: &[u8], code: Option<u16>) -> Action {
        Action::Close { bytes: bytes.to_vec(), code }
    }

    #[test]
    fn publishes_complete_text() {
        let masked = b"\x81\x83\x11\x22\x33\x44\x5e\x4e\x52";
        assert_eq!(actions(PUBLISHER, masked), [publish(b"Ola", false)]);
        let fragments = b"\x01\x01a\x89\x00\x00\x01b\x80\x00\x81\x01c";
        assert_eq!(
            actions(PUBLISHER, fragments),
            [Action::Write(vec![0x8a, 0]), publish(b"ab", false), publish(b"c", false)]
        );
        assert_eq!(actions(PUBLISHER, b"\x81\x00\x01\x00\x80\x00"), []);
    }

    #[test]
    fn reads_and_ignores_text_where_publishing_is_off() {
        let reader = Terms { publish: false, ..PUBLISHER };
        assert_eq!(actions(reader, b"\x81\x01a\x89\x00"), [Action::Write(vec![0x8a, 0])]);
        assert_eq!(actions(reader, b"\x81\x01\xff"), [closed(b"\x88\x02\x03\xef", Some(1007))]);
        assert_eq!(actions(reader, b"\x82\x01a"), [closed(b"\x88\x00", None)]);
    }

    #[test]
    fn binary_is_published_only_where_it_is_on() {
        assert_eq!(actions(PUBLISHER, b"\x82\x01a\x81\x01b"), [closed(b"\x88\x00", None)]);
        let binary = Terms { binary: true, ..PUBLISHER };
        assert_eq!(actions(binary, b"\x82\x01\xff"), [publish(b"\xff", true)]);
        assert_eq!(actions(binary, b"\x81\x00"), [publish(b"", false)]);
        assert_eq!(actions(binary, b"\x83\x00"), [closed(b"\x88\x02\x03\xea", Some(1002))]);
    }

    #[test]
    fn masked_pings_are_echoed_and_others_are_not() {
        assert_eq!(actions(PUBLISHER, b"\x89\x02hi"), [Action::Write(vec![0x8a, 0])]);
        assert_eq!(
            actions(PUBLISHER, b"\x89\x82\0\0\0\0hi"),
            [Action::Write(b"\x8a\x02hi".to_vec())]
        );
        assert_eq!(actions(PUBLISHER, b"\x8a\x02hi"), []);
    }

    #[test]
    fn answers_a_close_with_its_code() {
        assert_eq!(actions(PUBLISHER, b"\x88\x00garbage"), [closed(b"\x88\x00", None)]);
        assert_eq!(
            actions(PUBLISHER, b"\x88\x05\x03\xe9bye\x81\x01a"),
            [closed(b"\x88\x02\x03\xe9", Some(1001))]
        );
        assert_eq!(actions(PUBLISHER, b"\x88\x01x"), [closed(b"\x88\x02\x03\xea", Some(1002))]);
    }

    #[test]
    fn refuses_with_a_code() {
        let small = Terms { message_max: 2, ..PUBLISHER };
        assert_eq!(actions(small, b"\x81\x03"), [closed(b"\x88\x02\x03\xf1", Some(1009))]);
        assert_eq!(actions(PUBLISHER, b"\x80\x00"), [closed(b"\x88\x02\x03\xea", Some(1002))]);
    }

    #[test]
    fn after_its_own_close_frame_the_server_hears_nothing() {
        let mut connection = Connection::new(PUBLISHER);
        let mut out = Vec::new();
        connection.fail(frame::code::INTERNAL_ERROR, &mut out);
        assert_eq!(out, b"\x88\x02\x03\xf3");
        let mut input = b"\x81\x01aGET / HTTP/1.1".as_slice();
        assert_eq!(connection.read(&mut input), None);
        assert!(input.is_empty() && connection.is_closed());
        connection.fail(frame::code::INTERNAL_ERROR, &mut out);
        assert_eq!(out.len(), 4);
    }
}
