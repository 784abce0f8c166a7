//! WebSocket frames from server to client: never masked, never fragmented, no extension.
//!
//! Source: RFC 6455, section 5.2.
//!
//! ```text
//!   0x80 + opcode | length 0-125                          | payload
//!                 | 0x7e, 2 bytes of length, big endian   | payload
//!                 | 0x7f, 8 bytes of length, big endian   | payload
//! ```

use crate::wire::escape;

/// The kind of a frame. The values are those on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// Continues the message that an earlier frame began.
    Continuation = 0x0,
    /// UTF-8 text.
    Text = 0x1,
    /// Any bytes.
    Binary = 0x2,
    /// Ends the connection.
    Close = 0x8,
    /// Asks for a pong.
    Ping = 0x9,
    /// Answers a ping.
    Pong = 0xa,
}

impl Opcode {
    /// The opcode in the low four bits of a frame's first byte. `None`: a reserved one.
    pub fn parse(first: u8) -> Option<Self> {
        Some(match first & 0x0f {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xa => Self::Pong,
            _ => return None,
        })
    }

    /// Close, ping or pong. Such a frame is short and whole, and may come between fragments.
    pub fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }
}

/// Bytes of the longest payload of a control frame.
pub const CONTROL_MAX: usize = 125;

/// Close codes that the server sends: RFC 6455, section 7.4.1, and 1013 of the IANA registry.
pub mod code {
    /// The peer broke a rule of the protocol.
    pub const PROTOCOL_ERROR: u16 = 1002;
    /// Text that is not UTF-8.
    pub const NOT_UTF8: u16 = 1007;
    /// The request was refused, for the reason that is given.
    pub const REFUSED: u16 = 1008;
    /// A message is longer than the limit.
    pub const TOO_BIG: u16 = 1009;
    /// The server failed.
    pub const INTERNAL_ERROR: u16 = 1011;
    /// The peer reads too slowly.
    pub const TRY_AGAIN_LATER: u16 = 1013;
}

/// An empty ping.
pub const PING: &[u8] = &[0x89, 0x00];
/// The close frame of an orderly end, which is empty.
pub const CLOSE: &[u8] = &[0x88, 0x00];

/// Appends a whole frame.
pub fn encode(opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
    out.reserve(HEAD_MAX + payload.len());
    encode_head(opcode, payload.len(), out);
    out.extend_from_slice(payload);
}

/// Appends the head of a frame with a payload of `len` bytes.
pub fn encode_head(opcode: Opcode, len: usize, out: &mut Vec<u8>) {
    out.push(0x80 | opcode as u8);
    if len <= CONTROL_MAX {
        out.extend(u8::try_from(len));
    } else if let Ok(len) = u16::try_from(len) {
        out.push(0x7e);
        out.extend_from_slice(&len.to_be_bytes());
    } else {
        out.push(0x7f);
        out.extend_from_slice(&(len as u64).to_be_bytes());
    }
}

/// Bytes of the longest head.
pub const HEAD_MAX: usize = 10;

/// Appends a close frame with a code and without a reason.
pub fn encode_close(code: u16, out: &mut Vec<u8>) {
    encode(Opcode::Close, &code.to_be_bytes(), out);
}

/// Appends the close frame of a refusal after the handshake. `explain` is short; what a control
/// frame has no room for is cut off.
pub fn encode_refusal(http_status: u16, explain: &str, out: &mut Vec<u8>) {
    let mut payload = code::REFUSED.to_be_bytes().to_vec();
    payload
        .extend_from_slice(format!("{{\"http_status\": {http_status}, \"explain\":\"").as_bytes());
    let mut escaped = Vec::new();
    for c in explain.chars() {
        escaped.clear();
        escape::json(c.encode_utf8(&mut [0; 4]).as_bytes(), &mut escaped);
        if payload.len() + escaped.len() + 2 > CONTROL_MAX {
            break;
        }
        payload.extend_from_slice(&escaped);
    }
    payload.extend_from_slice(b"\"}");
    encode(Opcode::Close, &payload, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "large input")]
    fn encodes_lengths() {
        let cases: &[(usize, &[u8])] = &[
            (0, &[0x81, 0]),
            (5, &[0x81, 5]),
            (15, &[0x81, 15]),
            (125, &[0x81, 125]),
            (126, &[0x81, 0x7e, 0, 126]),
            (65_535, &[0x81, 0x7e, 0xff, 0xff]),
            (65_536, &[0x81, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0]),
            (131_073, &[0x81, 0x7f, 0, 0, 0, 0, 0, 2, 0, 1]),
        ];
        for (len, head) in cases {
            let mut out = Vec::new();
            encode(Opcode::Text, &vec![b'x'; *len], &mut out);
            assert_eq!(&out[..head.len()], *head);
            assert_eq!(out.len(), head.len() + len);
        }
    }

    #[test]
    fn encodes_each_kind() {
        let cases: &[(Opcode, &[u8], &[u8])] = &[
            (Opcode::Text, b"HEAD", b"\x81\x04HEAD"),
            (Opcode::Text, b"7:news:Ola", b"\x81\x0a7:news:Ola"),
            (Opcode::Binary, b"\xff", b"\x82\x01\xff"),
            (Opcode::Ping, b"", PING),
            (Opcode::Pong, b"", b"\x8a\x00"),
            (Opcode::Close, b"", CLOSE),
        ];
        for (opcode, payload, bytes) in cases {
            let mut out = Vec::new();
            encode(*opcode, payload, &mut out);
            assert_eq!(out, *bytes);
        }
        let mut out = Vec::new();
        encode_close(code::PROTOCOL_ERROR, &mut out);
        assert_eq!(out, b"\x88\x02\x03\xea");
    }

    #[test]
    fn refusals_explain_themselves() {
        let cases: &[(u16, &str, u8)] = &[
            (403, "Channel id not authorized for this method.", 0x4e),
            (400, "Channel id is too large.", 0x3c),
            (403, "Subscriber could not create channels.", 0x49),
            (403, "Subscribers limit per channel has been exceeded.", 0x54),
            (403, "Subscription to events channel is not allowed.", 0x52),
            (403, "Subscribed too much wildcard channels.", 0x4a),
            (403, "Number of channels were exceeded.", 0x45),
            (400, "No channel id provided.", 0x3b),
            (500, "", 0x24),
        ];
        for (status, explain, len) in cases {
            let mut out = Vec::new();
            encode_refusal(*status, explain, &mut out);
            assert_eq!(out[..4], [0x88, *len, 0x03, 0xf0]);
            let json = format!("{{\"http_status\": {status}, \"explain\":\"{explain}\"}}");
            assert_eq!(String::from_utf8_lossy(&out[4..]), json);
        }
    }

    #[test]
    fn a_long_reason_still_makes_a_control_frame() {
        let mut out = Vec::new();
        encode_refusal(403, &"\"".repeat(500), &mut out);
        assert!(usize::from(out[1]) <= CONTROL_MAX && out.len() == usize::from(out[1]) + 2);
        assert!(out.ends_with(b"\\\"\"}"));
    }

    #[test]
    fn knows_its_opcodes() {
        for first in 0..=0x0f_u8 {
            let known = matches!(first, 0x0..=0x2 | 0x8..=0xa);
            assert_eq!(
                Opcode::parse(0x80 | first).map(|opcode| opcode as u8),
                known.then_some(first)
            );
            assert_eq!(Opcode::parse(first).is_some_and(Opcode::is_control), known && first >= 8);
        }
    }
}
