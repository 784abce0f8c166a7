//! The WebSocket opening handshake: checks the request, and renders the 101.
//!
//! Source: RFC 6455, section 4.2. Host, origin and HTTP version are not checked, because old
//! clients use HTTP/1.0 without `Host`.

use std::collections::HashSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The value of `Sec-WebSocket-Version` that goes with [`BadHandshake::Version`].
pub const VERSIONS: &str = "8, 13";

/// The header fields of a handshake. A list may come in several lines (RFC 9110, section 5.3).
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
    /// The server does not speak this version.
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

/// Appends the whole header block of the 101. The spelling of the fields is part of the protocol;
/// nginx's own header filter would spell `Connection` in another way.
///
/// `protocol` is the result of [`choose_protocol`]. Without one the field is left out. `more` is one more
/// field, name and value.
pub fn render_response(
    key: &[u8],
    protocol: Option<&[u8]>,
    more: Option<(&str, &str)>,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\n\
          Expires: Thu, 01 Jan 1970 00:00:01 GMT\r\n\
          Cache-Control: no-cache, no-store, must-revalidate\r\n\
          Upgrade: WebSocket\r\n\
          Connection: Upgrade\r\n\
          Sec-WebSocket-Accept: ",
    );
    out.extend_from_slice(accept(key).as_bytes());
    if let Some(protocol) = protocol {
        out.extend_from_slice(b"\r\nSec-WebSocket-Protocol: ");
        out.extend_from_slice(protocol);
    }
    if let Some((name, value)) = more {
        for part in ["\r\n", name, ": ", value] {
            out.extend_from_slice(part.as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n\r\n");
}

/// The first subprotocol of the client that is known here, compared byte by byte. Both arguments
/// are lines of lists. Text that is no token is never chosen, so the result can be sent as it is.
pub fn choose_protocol<'a>(offered: &[&'a [u8]], known: &[&[u8]]) -> Option<&'a [u8]> {
    let known: HashSet<&[u8]> = items(known).collect();
    items(offered).find(|name| is_token(name) && known.contains(name))
}

/// Can this be the name of a subprotocol? A token of RFC 9110, section 5.6.2.
pub fn is_token(text: &[u8]) -> bool {
    let is_token_char =
        |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(is_token_char)
}

/// The value of `Sec-WebSocket-Accept`.
fn accept(key: &[u8]) -> String {
    STANDARD.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize())
}

/// Is `token` in the list? Without regard to case.
fn has_token(lines: &[&[u8]], token: &[u8]) -> bool {
    items(lines).any(|item| item.eq_ignore_ascii_case(token))
}

/// The items of a comma-separated list, from all its lines.
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
        render_response(b"YnJpZ2h0LWtleS0wMDAwMQ==", None, None, &mut out);
        assert_eq!(
            String::from_utf8_lossy(&out),
            "HTTP/1.1 101 Switching Protocols\r\n\
             Expires: Thu, 01 Jan 1970 00:00:01 GMT\r\n\
             Cache-Control: no-cache, no-store, must-revalidate\r\n\
             Upgrade: WebSocket\r\n\
             Connection: Upgrade\r\n\
             Sec-WebSocket-Accept: 6tNLj64yINBdUOBLM6ZPrS7akkE=\r\n\r\n"
        );
        let mut chosen = Vec::new();
        render_response(b"YnJpZ2h0LWtleS0wMDAwMQ==", Some(b"chat"), None, &mut chosen);
        let expected = [&out[..out.len() - 2], b"Sec-WebSocket-Protocol: chat\r\n\r\n"].concat();
        assert_eq!(String::from_utf8_lossy(&chosen), String::from_utf8_lossy(&expected));
        let mut more = Vec::new();
        render_response(b"YnJpZ2h0LWtleS0wMDAwMQ==", None, Some(("Name", "value")), &mut more);
        let expected = [&out[..out.len() - 2], b"Name: value\r\n\r\n"].concat();
        assert_eq!(String::from_utf8_lossy(&more), String::from_utf8_lossy(&expected));
    }

    #[test]
    fn chooses_the_first_protocol_of_the_client_that_is_known() {
        let cases: &[(&[&str], &[&str], Option<&str>)] = &[
            (&["chat"], &["chat"], Some("chat")),
            (&["b, a"], &["a", "b"], Some("b")),
            (&["x", "y ,a", "b"], &["b", "a"], Some("a")),
            (&["a"], &["x, a ,b"], Some("a")),
            (&["A"], &["a"], None),
            (&["a"], &[], None),
            (&[], &["a"], None),
            (&[""], &[""], None),
            (&[",,"], &["", ","], None),
            (&["a b"], &["a b"], None),
            (&["a\r\nX: y"], &["a\r\nX: y"], None),
            (&["\"a\"", "a"], &["\"a\"", "a"], Some("a")),
        ];
        for (offered, known, chosen) in cases {
            let bytes = |lines: &[&'static str]| {
                lines.iter().map(|line| line.as_bytes()).collect::<Vec<_>>()
            };
            let (offered, known) = (bytes(offered), bytes(known));
            assert_eq!(choose_protocol(&offered, &known), chosen.map(str::as_bytes), "{offered:?}");
        }
    }

    #[test]
    fn a_token_has_no_separators() {
        assert!(is_token(b"!#$%&'*+-.^_`|~09azAZ"));
        for bad in [
            "", " ", "a b", "a,b", "a/b", "a:b", "a\"b", "a@b", "(a)", "a=b", "a\0", "a\x7f",
            "\u{e9}",
        ] {
            assert!(!is_token(bad.as_bytes()), "{bad:?}");
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "large input")]
    fn long_lists_do_not_cost_their_product() {
        let offered: Vec<String> = (0..200_000).map(|n| format!("a{n}")).collect();
        let known: Vec<String> = (0..200_000).map(|n| format!("b{n}")).collect();
        let (offered, known) = (offered.join(","), known.join(","));
        assert_eq!(choose_protocol(&[offered.as_bytes()], &[known.as_bytes()]), None);
    }
}
