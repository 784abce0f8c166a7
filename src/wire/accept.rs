//! Chooses the format of the statistics by the request header `Accept`.
//!
//! ```text
//!   Accept: text/html,application/xhtml+xml,application/xml;q=0.9     →  xml
//! ```
//!
//! The first known subtype decides. The type before the slash and `q` do not count. Without a known
//! subtype, or without the header, the format is JSON. The header may come in several lines, which
//! are one list.

/// A format and its media type.
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
    /// Chooses from the lines of `Accept`, which may be several or none.
    pub fn choose<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Self {
        lines.into_iter().find_map(named_in).unwrap_or_default()
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

/// The first format that a line names.
fn named_in(line: &[u8]) -> Option<Format> {
    // The text before the first slash is a type, never a subtype.
    line.split(|byte| *byte == b'/').skip(1).map(subtype).find_map(named)
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
            let format = Format::choose([accept.as_bytes()]);
            assert_eq!(format.content_type(), *content_type, "{accept}");
        }
        assert_eq!(Format::choose([]), Format::Json);
    }

    #[test]
    fn several_lines_are_one_list() {
        let choose = |lines: &[&str]| Format::choose(lines.iter().map(|line| line.as_bytes()));
        assert_eq!(choose(&["text/html", "application/xml"]), Format::Xml);
        assert_eq!(choose(&["text/yaml", "application/xml"]), Format::Yaml);
        // A line does not go on in the next one.
        assert_eq!(choose(&["text/", "xml"]), Format::Json);
        assert_eq!(choose(&["text", "xml/plain"]), Format::Plain);
    }
}
