//! JSONP: the argument `callback`, and the text that it puts around the messages.
//!
//! ```text
//!   <callback>([ message , message ... ]);
//! ```
//!
//! The name is sent back as script. So only the characters of a property path are accepted:
//! letters, digits, `_` `$` `.` `[` `]`.

use crate::wire::path;

/// Bytes of the longest callback name.
pub const NAME_MAX: usize = 128;
/// Separates two messages.
pub const SEPARATOR: &[u8] = b",";

/// A callback name that is safe to send back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Callback(Box<[u8]>);

/// The argument is no callback name. The answer is 400 without a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadCallback;

impl Callback {
    /// Decodes the value of the argument once and checks it.
    pub fn parse(argument: &[u8]) -> Result<Self, BadCallback> {
        // Three bytes encode one at the most, so a longer argument is no valid name.
        if argument.len() > 3 * NAME_MAX {
            return Err(BadCallback);
        }
        let name = path::decode(argument);
        let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"_$.[]".contains(byte);
        if name.is_empty() || name.len() > NAME_MAX || !name.iter().all(allowed) {
            return Err(BadCallback);
        }
        Ok(Self(name.into_owned().into_boxed_slice()))
    }

    /// Appends what is sent before the first message.
    pub fn open(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
        out.extend_from_slice(b"([");
    }

    /// Appends what is sent after the last message.
    pub fn close(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"]);");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_property_paths_only() {
        for name in ["cb", "jQuery1_2", "a.b[0].$c", "a%5B1%5D", "%63b"] {
            assert!(Callback::parse(name.as_bytes()).is_ok(), "{name}");
        }
        for name in ["", "cb%20x", "cb(", "<script>", "a;b", "a%", "\u{e9}", "%00", "a%250"] {
            assert_eq!(Callback::parse(name.as_bytes()), Err(BadCallback), "{name}");
        }
    }

    #[test]
    fn bounds_the_name_after_decoding() {
        assert!(Callback::parse(&[b'a'; 128]).is_ok());
        assert_eq!(Callback::parse(&[b'a'; 129]), Err(BadCallback));
        assert!(Callback::parse(&b"%61".repeat(128)).is_ok());
        assert_eq!(Callback::parse(&b"%61".repeat(129)), Err(BadCallback));
    }

    #[test]
    fn wraps() {
        let callback = Callback::parse(b"cb").expect("a plain name");
        let mut out = Vec::new();
        callback.open(&mut out);
        out.extend_from_slice(b"{\"id\":1}");
        out.extend_from_slice(SEPARATOR);
        out.extend_from_slice(b"{\"id\":2}");
        callback.close(&mut out);
        assert_eq!(out, b"cb([{\"id\":1},{\"id\":2}]);");
    }
}
