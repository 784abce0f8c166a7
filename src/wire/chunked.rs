//! Chunked transfer coding: turns bytes at the end of a buffer into one chunk.
//!
//! Source: RFC 9112, section 7.1.
//!
//! ```text
//!   chunk = 1*HEX CRLF data CRLF      never of size 0: that would end the body
//! ```

/// Bytes that a chunk has besides its data, at the most.
pub const OVERHEAD_MAX: usize = 2 * size_of::<usize>() + 4;

/// Turns what `out` holds from `from` on into one chunk. If that is empty, nothing changes.
pub fn enclose(out: &mut Vec<u8>, from: usize) {
    let len = out.len().saturating_sub(from);
    if len == 0 {
        return;
    }
    let digits = (0..hex_digits(len)).rev().map(|digit| {
        let nibble = (len >> (4 * digit)) & 0xf;
        b"0123456789abcdef".get(nibble).copied().unwrap_or(b'0')
    });
    out.splice(from..from, digits.chain(*b"\r\n"));
    out.extend_from_slice(b"\r\n");
}

fn hex_digits(len: usize) -> usize {
    len.checked_ilog2().map_or(1, |log| log as usize / 4 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(data: &[u8]) -> Vec<u8> {
        let mut out = [b"before", data].concat();
        enclose(&mut out, 6);
        assert!(out.starts_with(b"before"));
        out.split_off(6)
    }

    #[test]
    #[cfg_attr(miri, ignore = "large input")]
    fn frames_with_lower_case_sizes() {
        let cases: &[(usize, &str)] = &[
            (1, "1"),
            (9, "9"),
            (15, "f"),
            (16, "10"),
            (43, "2b"),
            (65_535, "ffff"),
            (65_536, "10000"),
        ];
        for (len, size) in cases {
            let data = vec![b'x'; *len];
            let expected = [size.as_bytes(), b"\r\n", &data, b"\r\n"].concat();
            assert_eq!(chunk(&data), expected);
        }
    }

    #[test]
    fn no_data_is_no_chunk() {
        assert_eq!(chunk(b""), b"");
        let mut out = b"ab".to_vec();
        enclose(&mut out, 3);
        assert_eq!(out, b"ab");
    }

    #[test]
    fn worked_example() {
        assert_eq!(chunk(b"HEAD"), b"4\r\nHEAD\r\n");
    }
}
