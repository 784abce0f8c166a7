//! The text of a message: where it belongs, when it was sent, and bytes that follow from both.
//!
//! ```text
//!   0         9         18                35
//!   <lane>    <number>  <time, ns>        <filler, up to the size>
//!   0000002a  00000007  0000018f3c5a7b11  ...
//! ```
//!
//! A lane is a sequence of messages of one channel. Its numbers count from 0 without a gap, so a reader of a lane
//! knows which number comes next: a greater one is a loss, a smaller one a repeat. The filler depends on
//! all three, so bytes of another message are noticed.

use std::sync::LazyLock;

/// Length of the part before the filler.
pub(crate) const HEAD: usize = 35;

/// Longest message.
pub(crate) const SIZE_MAX: usize = 64 * 1024;

/// Fillers begin at one of so many places of the pattern.
const STARTS: usize = 1 << 12;

/// Letters and digits without a visible rule, so that no two fillers are alike.
static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    const SYMBOLS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut state = 1_u64;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        SYMBOLS[(state >> 58) as usize]
    };
    (0..STARTS + SIZE_MAX).map(|_| next()).collect()
});

/// The sequence, the number and the time of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) lane: u32,
    pub(crate) number: u32,
    pub(crate) time: u64,
}

fn filler(stamp: Stamp, len: usize) -> &'static [u8] {
    // Multiplication spreads each bit over the upper ones.
    let place = u64::from(stamp.lane) << 32 | u64::from(stamp.number);
    let mixed = (place ^ place >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        ^ stamp.time.wrapping_mul(0xd6e8_feb8_6659_fd93);
    let mixed = (mixed ^ mixed >> 32).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    &PATTERN[(mixed >> 52) as usize..][..len]
}

/// Appends a message of `size` bytes, at least [`HEAD`] and at most [`SIZE_MAX`].
pub(crate) fn render(into: &mut Vec<u8>, stamp: Stamp, size: usize) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut hex = |value: u64, digits: u32| {
        into.extend((0..digits).rev().map(|digit| DIGITS[(value >> (4 * digit)) as usize & 15]));
        into.push(b' ');
    };
    hex(u64::from(stamp.lane), 8);
    hex(u64::from(stamp.number), 8);
    hex(stamp.time, 16);
    let len = size.clamp(HEAD, SIZE_MAX) - HEAD;
    into.extend_from_slice(filler(stamp, len));
}

/// Value of a hexadecimal digit, or a bit above all digits.
static VALUES: [u8; 256] = {
    let mut values = [0x80; 256];
    let mut digit = 0;
    while digit < 16 {
        values[b"0123456789abcdef"[digit as usize] as usize] = digit;
        digit += 1;
    }
    values
};

fn number(digits: &[u8]) -> Option<u64> {
    let (mut value, mut wrong) = (0, 0);
    for &digit in digits {
        let digit = VALUES[usize::from(digit)];
        wrong |= digit & 0x80;
        value = value << 4 | u64::from(digit & 15);
    }
    (wrong == 0).then_some(value)
}

/// Reads a message of `size` bytes. `None` if any byte is not as [`render`] makes it.
pub(crate) fn parse(text: &[u8], size: usize) -> Option<Stamp> {
    if text.len() != size || !(HEAD..=SIZE_MAX).contains(&size) {
        return None;
    }
    let stamp = Stamp {
        lane: number(&text[..8])? as u32,
        number: number(&text[9..17])? as u32,
        time: number(&text[18..34])?,
    };
    let spaces = text[8] == b' ' && text[17] == b' ' && text[34] == b' ';
    (spaces && text[HEAD..] == *filler(stamp, size - HEAD)).then_some(stamp)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { lane: 42, number: 7, time: 0x18f_3c5a_7b11 };

    #[test]
    fn what_is_rendered_is_read_back() {
        for size in [HEAD, 64, 1024, SIZE_MAX] {
            let mut text = Vec::new();
            render(&mut text, STAMP, size);
            assert_eq!(text.len(), size);
            assert_eq!(parse(&text, size), Some(STAMP));
        }
    }

    #[test]
    fn a_changed_byte_is_noticed() {
        let mut text = Vec::new();
        render(&mut text, STAMP, 64);
        for place in 0..64 {
            let mut wrong = text.clone();
            // A digit becomes another digit, and with that the filler is another one.
            wrong[place] ^= 1;
            assert_eq!(parse(&wrong, 64), None, "byte {place}");
        }
        assert_eq!(parse(&text[..63], 64), None);
        assert_eq!(parse(&text[..63], 63).map(|stamp| stamp.lane), Some(42));
    }
}
