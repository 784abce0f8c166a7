//! Checks UTF-8 that arrives in pieces. The first impossible byte is an error at once.
//!
//! Source: RFC 3629, section 4: no overlong forms, no surrogates, nothing above U+10FFFF.
//!
//! The standard library checks whole characters, which is fast. Only a character that the end of a
//! piece cuts is checked byte by byte.

/// The bytes are not UTF-8, whatever follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotUtf8;

/// Checks a text that arrives in pieces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Validator {
    /// Bytes that are missing of the current character; 0 between characters.
    missing: u8,
    /// The range of the next byte. Only the second byte of a character may have a special one.
    low: u8,
    high: u8,
}

impl Validator {
    /// Takes the next piece. After an error the validator cannot be used any more.
    pub fn feed(&mut self, piece: &[u8]) -> Result<(), NotUtf8> {
        let mut rest = piece;
        while self.missing > 0 {
            let Some((byte, after)) = rest.split_first() else { return Ok(()) };
            self.go_on(*byte)?;
            rest = after;
        }
        let Err(error) = std::str::from_utf8(rest) else { return Ok(()) };
        if error.error_len().is_some() {
            return Err(NotUtf8);
        }
        let tail = rest.get(error.valid_up_to()..).unwrap_or_default();
        let Some((lead, after)) = tail.split_first() else { return Ok(()) };
        self.start(*lead)?;
        after.iter().try_for_each(|byte| self.go_on(*byte))
    }

    /// Does the text end with a whole character so far?
    pub fn is_complete(&self) -> bool {
        self.missing == 0
    }

    fn start(&mut self, lead: u8) -> Result<(), NotUtf8> {
        (self.missing, self.low, self.high) = match lead {
            0xc2..=0xdf => (1, 0x80, 0xbf),
            0xe0 => (2, 0xa0, 0xbf),
            0xe1..=0xec | 0xee | 0xef => (2, 0x80, 0xbf),
            0xed => (2, 0x80, 0x9f),
            0xf0 => (3, 0x90, 0xbf),
            0xf1..=0xf3 => (3, 0x80, 0xbf),
            0xf4 => (3, 0x80, 0x8f),
            _ => return Err(NotUtf8),
        };
        Ok(())
    }

    fn go_on(&mut self, byte: u8) -> Result<(), NotUtf8> {
        if !(self.low..=self.high).contains(&byte) {
            return Err(NotUtf8);
        }
        (self.missing, self.low, self.high) = (self.missing.saturating_sub(1), 0x80, 0xbf);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Is the text valid and complete?
    fn valid(pieces: &[&[u8]]) -> bool {
        let mut validator = Validator::default();
        pieces.iter().all(|piece| validator.feed(piece).is_ok()) && validator.is_complete()
    }

    const CASES: &[(&[u8], bool)] = &[
        (b"", true),
        (b"plain", true),
        ("é ∑ 𝄞 \u{10ffff}".as_bytes(), true),
        (b"\0\x7f", true),
        (b"\xee\x80\x80\xef\xbf\xbf", true),
        (b"\x80", false),
        (b"\xc0\x80", false),
        (b"\xc1\xbf", false),
        (b"\xe0\x9f\xbf", false),
        (b"\xed\xa0\x80", false),
        (b"\xf0\x8f\xbf\xbf", false),
        (b"\xf4\x90\x80\x80", false),
        (b"\xf5\x80\x80\x80", false),
        (b"\xff", false),
        (b"a\xc3", false),
        (b"a\xc3(", false),
        (b"\xe2\x88", false),
        (b"\xf0\x9d\x84", false),
    ];

    #[test]
    fn agrees_with_the_standard_library_in_every_split() {
        for (text, expected) in CASES {
            assert_eq!(std::str::from_utf8(text).is_ok(), *expected);
            assert_eq!(valid(&[text]), *expected, "{text:x?}");
            for first in 0..=text.len() {
                for second in first..=text.len() {
                    let pieces = [&text[..first], &text[first..second], &text[second..]];
                    assert_eq!(valid(&pieces), *expected, "{pieces:x?}");
                }
            }
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "large input")]
    fn agrees_for_all_leads_and_second_bytes() {
        for lead in 0..=255_u8 {
            for second in 0..=255_u8 {
                let text = [lead, second, 0x80, 0x80];
                for len in 1..=4 {
                    let text = &text[..len];
                    let bytes: Vec<&[u8]> = text.chunks(1).collect();
                    assert_eq!(valid(&bytes), std::str::from_utf8(text).is_ok(), "{text:x?}");
                }
            }
        }
    }

    #[test]
    fn fails_at_the_first_impossible_byte() {
        let mut validator = Validator::default();
        assert_eq!(validator.feed(b"ok \xed"), Ok(()));
        assert!(!validator.is_complete());
        assert_eq!(validator.feed(b"\xa0"), Err(NotUtf8));
    }
}
