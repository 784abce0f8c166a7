//! Which layout the statistics take, from `Accept`.
//!
//! ```text
//!   Accept: text/html,application/xhtml+xml,application/xml;q=0.9     →  xml
//! ```
//!
//! The first known subtype decides; the type before the slash and `q` do not count. Nothing known,
//! or no header: JSON.

/// A layout and the media type it is sent as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `text/plain`
    Plain,
    /// `application/json`
    #[default]
    Json,
    /// `application/yaml`
    Yaml,
    /// `application/xml`
    Xml,
    /// `text/x-json`: JSON under its older name.
    XJson,
    /// `text/x-yaml`: YAML under its older name.
    XYaml,
}

const SUBTYPES: [(&[u8], Format); 6] = [
    (b"plain", Format::Plain),
    (b"json", Format::Json),
    (b"yaml", Format::Yaml),
    (b"xml", Format::Xml),
    (b"x-json", Format::XJson),
    (b"x-yaml", Format::XYaml),
];

impl Format {
    /// Chooses from the value of `Accept`; `None` if the client sent none.
    pub fn choose(accept: Option<&[u8]>) -> Self {
        // What stands before the first slash is a type, never a subtype.
        let after_slashes = accept.unwrap_or_default().split(|byte| *byte == b'/').skip(1);
        after_slashes.map(subtype).find_map(named).unwrap_or_default()
    }

    /// The value of `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Plain => "text/plain",
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
            Self::Xml => "application/xml",
            Self::XJson => "text/x-json",
            Self::XYaml => "text/x-yaml",
        }
    }
}

fn subtype(text: &[u8]) -> &[u8] {
    let len = text.iter().take_while(|byte| !matches!(byte, b',' | b';' | b' ' | b'\t')).count();
    text.get(..len).unwrap_or_default()
}

fn named(subtype: &[u8]) -> Option<Format> {
    let known =
        |(name, format): &(&[u8], Format)| name.eq_ignore_ascii_case(subtype).then_some(*format);
    SUBTYPES.iter().find_map(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_known_subtype_decides() {
        let cases: &[(&str, &str)] = &[
            ("text/plain", "text/plain"),
            ("application/json", "application/json"),
            ("application/yaml", "application/yaml"),
            ("application/xml", "application/xml"),
            ("text/x-json", "text/x-json"),
            ("text/x-yaml", "text/x-yaml"),
            ("text/html", "application/json"),
            ("*/*", "application/json"),
            ("", "application/json"),
            ("xml", "application/json"),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "application/xml"),
            ("application/jsonp, text/plain", "text/plain"),
            ("text/html;q=1, Text/PLAIN ;q=0.5, application/xml", "text/plain"),
            ("a/xml/plain", "application/xml"),
            ("/", "application/json"),
        ];
        for (accept, content_type) in cases {
            let format = Format::choose(Some(accept.as_bytes()));
            assert_eq!(format.content_type(), *content_type, "{accept}");
        }
        assert_eq!(Format::choose(None), Format::Json);
    }
}
