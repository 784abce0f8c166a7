//! Origins of pages, as browsers send them in `Origin`.
//!
//! Source: RFC 6454, section 7, and WHATWG HTML, "Origin": `null`, or scheme, host and port without a path.

/// Can a browser send this text as its page's origin?
pub fn is_origin(text: &[u8]) -> bool {
    if text == b"null" {
        return true;
    }
    let Some(colon) = text.iter().position(|byte| *byte == b':') else { return false };
    let (scheme, rest) = text.split_at(colon);
    let Some(host) = rest.strip_prefix(b"://") else { return false };
    let is_scheme = scheme.first().is_some_and(u8::is_ascii_lowercase)
        && scheme.iter().all(|byte| byte.is_ascii_lowercase() || b"0123456789+-.".contains(byte));
    let is_host = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(byte);
    is_scheme && !host.is_empty() && host.iter().all(is_host)
}

#[cfg(test)]
mod tests {
    use super::is_origin;

    #[test]
    fn takes_what_browsers_send_and_nothing_else() {
        for text in ["null", "https://a.example", "http://127.0.0.1:8080", "http://[::1]:80"] {
            assert!(is_origin(text.as_bytes()), "{text}");
        }
        for text in [
            "",
            "*",
            "a.example",
            "https://",
            "https://a/",
            "https://a.example/x",
            "HTTPS://a",
            "http://a b",
            "$x",
            "://a",
        ] {
            assert!(!is_origin(text.as_bytes()), "{text}");
        }
    }
}
