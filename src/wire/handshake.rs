//! The WebSocket opening handshake: is this request one, and the 101 that answers it.
//!
//! Source: RFC 6455, section 4.2. Hosts, origins and HTTP versions are not looked at: old clients
//! come with HTTP/1.0 and without `Host`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The value of `Sec-WebSocket-Version` that goes with [`BadHandshake::Version`].
pub const VERSIONS: &str = "8, 13";

/// The header fields that matter. A list may come in several lines (RFC 9110, section 5.3).
#[derive(Clone, Copy, Debug, Default)]
pub struct Handshake<'a> {
    /// The lines of `Upgrade`; none if it is absent.
    pub upgrade: &'a [&'a [u8]],
    /// The lines of `Connection`; none if it is absent.
    pub connection: &'a [&'a [u8]],
    /// `Sec-WebSocket-Key`; `None` if it is absent.
    pub key: Option<&'a [u8]>,
    /// `Sec-WebSocket-Version`; `None` if it is absent.
    pub version: Option<&'a [u8]>,
}

/// Why a handshake is refused, with 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadHandshake {
    /// A header field is missing, or does not say that the client wants a WebSocket.
    Headers,
    /// A version that we do not speak.
    Version,
}

impl<'a> Handshake<'a> {
    /// The key, if this is a proper handshake.
    pub fn check(&self) -> Result<&'a [u8], BadHandshake> {
        let key = self.key.map(<[u8]>::trim_ascii).filter(|key| !key.is_empty());
        let (Some(key), Some(version)) = (key, self.version) else {
            return Err(BadHandshake::Headers);
        };
        if !has_token(self.upgrade, b"websocket") || !has_token(self.connection, b"upgrade") {
            return Err(BadHandshake::Headers);
        }
        match version.trim_ascii() {
            b"8" | b"13" => Ok(key),
            _ => Err(BadHandshake::Version),
        }
    }
}

/// Appends the whole header block of the 101 answer. The spelling of the fields is part of the
/// interface; nginx's own header writer would spell `Connection` otherwise.
pub fn render_response(key: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\n\
          Expires: Thu, 01 Jan 1970 00:00:01 GMT\r\n\
          Cache-Control: no-cache, no-store, must-revalidate\r\n\
          Upgrade: WebSocket\r\n\
          Connection: Upgrade\r\n\
          Sec-WebSocket-Accept: ",
    );
    out.extend_from_slice(accept(key).as_bytes());
    out.extend_from_slice(b"\r\n\r\n");
}

/// The value of `Sec-WebSocket-Accept`.
fn accept(key: &[u8]) -> String {
    STANDARD.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize())
}

/// Is `token` in the list, in whatever case?
fn has_token(lines: &[&[u8]], token: &[u8]) -> bool {
    items(lines).any(|item| item.eq_ignore_ascii_case(token))
}

/// The items of a comma-separated list, whichever line they are in.
fn items<'a>(lines: &[&'a [u8]]) -> impl Iterator<Item = &'a [u8]> {
    lines.iter().flat_map(|line| line.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Handshake<'_> = Handshake {
        upgrade: &[b"websocket"],
        connection: &[b"Upgrade"],
        key: Some(b"YnJpZ2h0LWtleS0wMDAwMQ=="),
        version: Some(b"13"),
    };

    #[test]
    fn accepts_what_browsers_and_old_clients_send() {
        let cases = [
            GOOD,
            Handshake { version: Some(b"8"), ..GOOD },
            Handshake { upgrade: &[b"WebSocket"], ..GOOD },
            Handshake { upgrade: &[b"h2c, websocket"], ..GOOD },
            Handshake { connection: &[b"keep-alive, upgrade"], ..GOOD },
            Handshake { connection: &[b"keep-alive,UPGRADE ,x"], ..GOOD },
            Handshake { connection: &[b"keep-alive", b"Upgrade"], ..GOOD },
            Handshake { connection: &[b"", b"x, upgrade", b"y"], ..GOOD },
            Handshake { upgrade: &[b"h2c", b"websocket"], ..GOOD },
        ];
        for case in cases {
            assert_eq!(case.check(), Ok(GOOD.key.unwrap()), "{case:?}");
        }
    }

    #[test]
    fn refuses_the_rest() {
        let headers = [
            Handshake { upgrade: &[], ..GOOD },
            Handshake { connection: &[], ..GOOD },
            Handshake { key: None, ..GOOD },
            Handshake { key: Some(b" "), ..GOOD },
            Handshake { version: None, ..GOOD },
            Handshake { version: None, upgrade: &[], ..GOOD },
            Handshake { upgrade: &[b"websockets"], ..GOOD },
            Handshake { upgrade: &[b""], ..GOOD },
            Handshake { connection: &[b"keep-alive"], ..GOOD },
            Handshake { connection: &[b"keep-alive", b"close"], ..GOOD },
            Handshake { connection: &[b"up", b"grade"], ..GOOD },
            Handshake { upgrade: &[b"h2c", b""], ..GOOD },
            Handshake { connection: &[b"close"], version: Some(b"7"), ..GOOD },
            Handshake::default(),
        ];
        for case in headers {
            assert_eq!(case.check(), Err(BadHandshake::Headers), "{case:?}");
        }
        for version in ["", "0", "7", "9", "14", "113", "13.0", "13, 8", "x", "-8"] {
            let case = Handshake { version: Some(version.as_bytes()), ..GOOD };
            assert_eq!(case.check(), Err(BadHandshake::Version), "{version}");
        }
    }

    #[test]
    fn answers_with_the_accept_key() {
        assert_eq!(accept(b"YnJpZ2h0LWtleS0wMDAwMQ=="), "6tNLj64yINBdUOBLM6ZPrS7akkE=");
        // The example of RFC 6455, section 1.3.
        assert_eq!(accept(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let mut out = Vec::new();
        render_response(b"YnJpZ2h0LWtleS0wMDAwMQ==", &mut out);
        assert_eq!(
            String::from_utf8_lossy(&out),
            "HTTP/1.1 101 Switching Protocols\r\n\
             Expires: Thu, 01 Jan 1970 00:00:01 GMT\r\n\
             Cache-Control: no-cache, no-store, must-revalidate\r\n\
             Upgrade: WebSocket\r\n\
             Connection: Upgrade\r\n\
             Sec-WebSocket-Accept: 6tNLj64yINBdUOBLM6ZPrS7akkE=\r\n\r\n"
        );
    }
}
