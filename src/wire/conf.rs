//! nginx's configuration language: splits a text into statements and blocks.
//!
//! ```text
//!   item      = word *( word ) ( ";" / "{" ) / "}"
//!   word      = plain / DQUOTE text DQUOTE / "'" text "'"
//!   comment   = "#" where a word could begin, up to the end of the line
//! ```
//!
//! Words end, and escapes work, as in nginx's `ngx_conf_read_token`: a backslash keeps the next
//! character from ending a word, and `${` does not begin a block. The reader is for texts that
//! nginx has accepted. In any other text the items end with [`Bad`]. One pass, no recursion.

/// One step through a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// `listen 80;`
    Statement(Vec<Vec<u8>>),
    /// `server {`
    Open(Vec<Vec<u8>>),
    /// `}`
    Close,
}

/// The text is no configuration. This is the last item of a [`Reader`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bad;

/// The items of a text, each with the number of the line in which it ends, from 1. That is the line
/// which nginx names in a message about a directive.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    line: usize,
}

/// How a word is quoted, which decides how it ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Quote {
    None,
    Single,
    Double,
}

impl<'a> Reader<'a> {
    /// Reads from the beginning.
    pub fn new(text: &'a [u8]) -> Self {
        Self { rest: text, line: 1 }
    }

    fn next_byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        if *first == b'\n' {
            self.line += 1;
        }
        Some(*first)
    }

    /// The next byte that is neither white space nor in a comment.
    fn next_visible(&mut self) -> Option<u8> {
        loop {
            match self.next_byte()? {
                b' ' | b'\t' | b'\r' | b'\n' => {}
                b'#' => while self.next_byte()? != b'\n' {},
                other => return Some(other),
            }
        }
    }

    fn item(&mut self) -> Result<Option<Item>, Bad> {
        let mut words = Vec::new();
        loop {
            match self.next_visible() {
                None if words.is_empty() => return Ok(None),
                None => return Err(Bad),
                Some(b';') if !words.is_empty() => return Ok(Some(Item::Statement(words))),
                Some(b'{') if !words.is_empty() => return Ok(Some(Item::Open(words))),
                Some(b'}') if words.is_empty() => return Ok(Some(Item::Close)),
                Some(b';' | b'{' | b'}') => return Err(Bad),
                Some(first) => {
                    let (word, end) = self.word(first)?;
                    words.push(word);
                    match end {
                        Some(b';') => return Ok(Some(Item::Statement(words))),
                        Some(b'{') => return Ok(Some(Item::Open(words))),
                        _ => {}
                    }
                }
            }
        }
    }

    /// A word that begins with this byte. With it comes the `;` or `{`, if one ends the item here.
    fn word(&mut self, first: u8) -> Result<(Vec<u8>, Option<u8>), Bad> {
        let quote = match first {
            b'"' => Quote::Double,
            b'\'' => Quote::Single,
            _ => Quote::None,
        };
        let mut word = Vec::new();
        let mut next = if quote == Quote::None { Some(first) } else { self.next_byte() };
        // A `{` directly behind a `$` belongs to the name of a variable.
        let mut after_dollar = false;
        loop {
            let byte = next.ok_or(Bad)?;
            let is_name = after_dollar && byte == b'{';
            after_dollar = byte == b'$';
            match (quote, byte) {
                (_, b'\\') => {
                    let escaped = self.next_byte().ok_or(Bad)?;
                    push_escaped(escaped, &mut word);
                }
                (Quote::Double, b'"') | (Quote::Single, b'\'') => {
                    return self.after_quote().map(|end| (word, end));
                }
                (Quote::None, b' ' | b'\t' | b'\r' | b'\n') => return Ok((word, None)),
                (Quote::None, b';') => return Ok((word, Some(byte))),
                (Quote::None, b'{') if !is_name => return Ok((word, Some(byte))),
                _ => word.push(byte),
            }
            next = self.next_byte();
        }
    }

    /// A quoted word is followed by white space, by the end of the item, or by a parenthesis, which
    /// begins another word.
    fn after_quote(&mut self) -> Result<Option<u8>, Bad> {
        match self.rest.first() {
            Some(b')') => Ok(None),
            Some(b' ' | b'\t' | b'\r' | b'\n') => Ok(None),
            Some(end @ (b';' | b'{')) => {
                self.next_byte();
                Ok(Some(*end))
            }
            _ => Err(Bad),
        }
    }
}

impl Iterator for Reader<'_> {
    type Item = Result<(Item, usize), Bad>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.item().transpose()?;
        if item.is_err() {
            self.rest = &[];
        }
        Some(item.map(|item| (item, self.line)))
    }
}

fn push_escaped(byte: u8, word: &mut Vec<u8>) {
    match byte {
        b'"' | b'\'' | b'\\' => word.push(byte),
        b't' => word.push(b'\t'),
        b'r' => word.push(b'\r'),
        b'n' => word.push(b'\n'),
        other => word.extend_from_slice(&[b'\\', other]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `1 listen|80 ;` for each item.
    fn items(text: &str) -> Vec<String> {
        let words = |words: Vec<Vec<u8>>| {
            String::from_utf8_lossy(&words.join(b"|".as_slice())).into_owned()
        };
        let reader = Reader::new(text.as_bytes());
        let shown = reader.map(|item| match item {
            Ok((Item::Statement(found), line)) => format!("{line} {};", words(found)),
            Ok((Item::Open(found), line)) => format!("{line} {}{{", words(found)),
            Ok((Item::Close, line)) => format!("{line} }}"),
            Err(Bad) => "bad".to_owned(),
        });
        shown.collect()
    }

    #[test]
    fn splits_as_nginx_does() {
        let cases: &[(&str, &[&str])] = &[
            ("", &[]),
            ("  # all; of { this\n", &[]),
            ("#", &[]),
            ("user  nobody ;", &["1 user|nobody;"]),
            ("a;b;c{d;}e;", &["1 a;", "1 b;", "1 c{", "1 d;", "1 }", "1 e;"]),
            ("a\nb\n\n;", &["4 a|b;"]),
            ("a # b; {\n c;", &["2 a|c;"]),
            ("a#b c#;", &["1 a#b|c#;"]),
            ("a \"b; {c}\" '# d';", &["1 a|b; {c}|# d;"]),
            ("a \"it's\" 'say \"x\"';", &["1 a|it's|say \"x\";"]),
            (r#"a "b\"c" d\;e f\{ \#g;"#, &[r#"1 a|b"c|d\;e|f\{|\#g;"#]),
            (r"a b\\c \t\r\n \d\.;", &["1 a|b\\c|\t\r\n|\\d\\.;"]),
            ("a ${b}c $d{ e", &["1 a|${b}c|$d{", "bad"]),
            ("a \"${b\";", &["1 a|${b;"]),
            ("if ($a = \"b\") {", &["1 if|($a|=|b|){"]),
            ("a \"\"{}", &["1 a|{", "1 }"]),
            ("}", &["1 }"]),
            ("location ~ ^/a{2}$ {", &["1 location|~|^/a{", "1 2}${"]),
            ("location ~ \"^/a{2}$\" {", &["1 location|~|^/a{2}${"]),
        ];
        for (text, expected) in cases {
            assert_eq!(items(text), *expected, "{text}");
        }
    }

    #[test]
    fn ends_at_what_is_no_configuration() {
        for text in ["a", "a;b", "a \"b", "a 'b;", ";", "{", "a }", "a \"b\"c;", "a \\", "a {};"] {
            assert_eq!(items(text).last().map(String::as_str), Some("bad"), "{text}");
            assert!(items(text).iter().filter(|item| *item == "bad").count() == 1);
        }
    }
}
