//! WebSocket frames: those of a server, and those that a client sends back (RFC 6455, section 5).

use crate::http::Response;

/// The header lines of a request for a WebSocket.
pub(crate) const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: YnJpZ2h0LWtleS0wMDAwMQ==\r\n";

/// Takes bytes of an answer in, which goes on in frames if its status is 101.
pub(crate) fn hear(
    response: &mut Response,
    frames: &mut Frames,
    bytes: &[u8],
) -> Result<(), String> {
    let taken = response.feed(bytes).map_err(|broken| broken.to_string())?;
    if response.status == 101 {
        frames.feed(&bytes[taken..], &mut response.body)?;
    } else if taken < bytes.len() {
        return Err("bytes after the answer".to_owned());
    }
    Ok(())
}

/// Reads a server's frames as their bytes arrive.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    pending: Vec<u8>,
    /// Payload bytes of the open frame that are still to come. They belong to a message.
    left: u64,
    may_be_binary: bool,
    /// The code of the server's close frame, if it has sent one; 0 for none.
    pub(crate) closed: Option<u16>,
}

impl Frames {
    /// For a server that also sends binary messages.
    pub(crate) fn with_binary() -> Self {
        Self { may_be_binary: true, ..Self::default() }
    }

    /// Appends the payload of messages to `body`. Ignores pings.
    pub(crate) fn feed(
        &mut self,
        mut bytes: &[u8],
        body: &mut Vec<u8>,
    ) -> Result<(), &'static str> {
        while !bytes.is_empty() {
            if self.closed.is_some() {
                return Err("bytes after a close frame");
            }
            if self.left > 0 {
                let taken = bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
                body.extend_from_slice(&bytes[..taken]);
                self.left -= taken as u64;
                bytes = &bytes[taken..];
                continue;
            }
            self.pending.push(bytes[0]);
            bytes = &bytes[1..];
            self.head()?;
        }
        Ok(())
    }

    /// Is `pending` a whole frame head, with its payload if it is a control frame?
    fn head(&mut self) -> Result<(), &'static str> {
        let &[first, second, ref rest @ ..] = self.pending.as_slice() else { return Ok(()) };
        if second & 0x80 != 0 {
            return Err("a masked frame from the server");
        }
        let (length, payload) = match second {
            126 if rest.len() < 2 => return Ok(()),
            127 if rest.len() < 8 => return Ok(()),
            126 => (rest[..2].iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte)), &rest[2..]),
            127 => (rest[..8].iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte)), &rest[8..]),
            short => (u64::from(short), rest),
        };
        match first {
            0x81 => self.left = length,
            0x82 if self.may_be_binary => self.left = length,
            0x88..=0x8a if length > 125 => return Err("a long control frame"),
            0x88..=0x8a if (payload.len() as u64) < length => return Ok(()),
            0x88 => {
                let code = payload.get(..2).map(|code| u16::from_be_bytes([code[0], code[1]]));
                self.closed = Some(code.unwrap_or(0));
            }
            0x89 | 0x8a => {}
            _ => return Err("an unknown frame"),
        }
        self.pending.clear();
        Ok(())
    }
}

/// A text frame as a client sends it.
pub(crate) fn text(payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    frame(0x81, payload, mask)
}

/// A frame as a client sends it; `first` has the opcode and the bit for the last frame of a message.
pub(crate) fn frame(first: u8, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..=125 => frame.push(0x80 | length as u8),
        length @ 126..=65535 => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_frames_in_any_split() {
        let mut bytes = b"\x81\x03abc\x89\x00\x81\x7e\x00\x80".to_vec();
        bytes.extend([b'x'; 128]);
        bytes.extend(b"\x88\x02\x03\xe9");
        for split in 1..bytes.len() {
            let (mut frames, mut body) = (Frames::default(), Vec::new());
            for part in bytes.chunks(split) {
                frames.feed(part, &mut body).expect("well formed");
            }
            assert_eq!(body.len(), 131);
            assert_eq!(frames.closed, Some(1001));
        }
    }

    #[test]
    fn masks_what_it_sends() {
        assert_eq!(text(b"Ola", [0x11, 0x22, 0x33, 0x44]), b"\x81\x83\x11\x22\x33\x44\x5e\x4e\x52");
    }
}
