//! Chunked transfer coding: bytes in, one chunk out.
//!
//! Source: RFC 9112, section 7.1.
//!
//! ```text
//!   chunk = 1*HEX CRLF data CRLF      never of size 0: that would end the body
//!   last  = "0" CRLF CRLF
//! ```

/// Ends a chunked body.
pub const LAST: &[u8] = b"0\r\n\r\n";

/// Appends `data` as one chunk; nothing at all if it is empty.
pub fn encode(data: &[u8], out: &mut Vec<u8>) {
    if data.is_empty() {
        return;
    }
    out.reserve(encoded_len(data.len()));
    encode_head(data.len(), out);
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

/// Appends the size line only, for data that is written from where it lies; `\r\n` must follow the
/// data. `len` is not 0.
pub fn encode_head(len: usize, out: &mut Vec<u8>) {
    debug_assert!(len > 0);
    for digit in (0..hex_digits(len)).rev() {
        let nibble = (len >> (4 * digit)) & 0xf;
        out.extend(b"0123456789abcdef".get(nibble));
    }
    out.extend_from_slice(b"\r\n");
}

/// Bytes that [`encode`] appends for `len` bytes.
pub fn encoded_len(len: usize) -> usize {
    if len == 0 { 0 } else { hex_digits(len) + 2 + len + 2 }
}

fn hex_digits(len: usize) -> usize {
    len.checked_ilog2().map_or(1, |log| log as usize / 4 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

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
            let mut out = Vec::new();
            encode(&data, &mut out);
            assert_eq!(out.len(), encoded_len(*len));
            let expected = [size.as_bytes(), b"\r\n", &data, b"\r\n"].concat();
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn no_data_is_no_chunk() {
        let mut out = Vec::new();
        encode(b"", &mut out);
        assert!(out.is_empty());
        assert_eq!(encoded_len(0), 0);
    }

    #[test]
    fn worked_example() {
        let mut out = Vec::new();
        encode(b"HEAD", &mut out);
        out.extend_from_slice(LAST);
        assert_eq!(out, b"4\r\nHEAD\r\n0\r\n\r\n");
    }
}
