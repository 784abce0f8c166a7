//! The head of a frame: what stands before its payload.
//!
//! ```text
//!    0               1               2 …
//!   +-+-+-+-+-------+-+-------------+-----------------------+----------+---------+
//!   |F|R|R|R| opcode|M| length (7)  | length, 2 or 8 bytes  | mask (4) | payload |
//!   |I|S|S|S|       |A|             | if the 7 bits say     | if M     | …       |
//!   |N|V|V|V|       |S|             | 126 or 127            |          |         |
//!   +-+-+-+-+-------+-+-------------+-----------------------+----------+---------+
//! ```

use crate::wire::frame::Opcode;

/// Bytes of the longest head: two, eight of length, four of mask.
pub(super) const HEAD_MAX: usize = 14;

/// What stands before a payload.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) fin: bool,
    pub(super) reserved_bits: bool,
    /// Four bits.
    pub(super) opcode: u8,
    pub(super) mask: Option<[u8; 4]>,
    pub(super) len: u64,
}

impl Head {
    pub(super) fn is_control(self) -> bool {
        Opcode::parse(self.opcode).is_some_and(Opcode::is_control)
    }

    /// The mask for the bytes of the payload from number `at` on.
    pub(super) fn mask_at(self, at: u64) -> [u8; 4] {
        let mut mask = self.mask.unwrap_or_default();
        mask.rotate_left((at & 3) as usize);
        mask
    }
}

/// Moves bytes from `input` to `bytes` until the head is complete.
pub(super) fn collect_head(
    bytes: &mut [u8; HEAD_MAX],
    len: &mut usize,
    input: &mut &[u8],
) -> Option<Head> {
    while *len < head_len(bytes, *len) {
        let (byte, rest) = input.split_first()?;
        *input = rest;
        if let Some(to) = bytes.get_mut(*len) {
            *to = *byte;
        }
        *len += 1;
    }
    let [first, second, ..] = *bytes;
    let (extended, after) = match second & 0x7f {
        0x7e => (2, 4),
        0x7f => (8, 10),
        _ => (0, 2),
    };
    let payload_len = match extended {
        0 => u64::from(second & 0x7f),
        _ => bytes.iter().skip(2).take(extended).fold(0, |n, byte| n << 8 | u64::from(*byte)),
    };
    let mask = bytes.get(after..).and_then(<[u8]>::first_chunk).copied();
    Some(Head {
        fin: first & 0x80 != 0,
        reserved_bits: first & 0x70 != 0,
        opcode: first & 0x0f,
        mask: mask.filter(|_| second & 0x80 != 0),
        len: payload_len,
    })
}

/// How many bytes the head has, as far as its first `len` bytes tell.
fn head_len(bytes: &[u8; HEAD_MAX], len: usize) -> usize {
    let [first, second, ..] = *bytes;
    // An error in the first bytes is reported before the rest of the head arrives.
    let hopeless = first & 0x70 != 0 || Opcode::parse(first).is_none();
    if len < 2 || hopeless {
        return 2;
    }
    let extended = match second & 0x7f {
        0x7e => 2,
        0x7f => 8,
        _ => 0,
    };
    2 + extended + if second & 0x80 != 0 { 4 } else { 0 }
}
