//! Finds out which statements of a configuration have no restriction around them.
//!
//! ```text
//!   http {                         a guard here closes everything below
//!       server {                   a guard here closes this server
//!           location /a {          a guard here closes this location and those in it
//!               wanted;
//!   }   }   }
//! ```
//!
//! A guard counts wherever it stands in its block, because nginx reads the whole block before it
//! uses it. Other blocks (`map`, `types`, `if`, ...) are skipped; [`Directives`] says whether the
//! block itself is a guard.

use crate::wire::conf::{Item, Reader};

/// Includes that are nested deeper than this are not followed.
const INCLUDES_MAX: usize = 32;

/// A file of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its name, as nginx writes it in the log.
    pub name: Vec<u8>,
    /// Its content.
    pub text: Vec<u8>,
}

/// A statement that was searched for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The name of the file that it is in.
    pub file: Vec<u8>,
    /// The line in which it ends, counted from 1.
    pub line: usize,
    /// There is a guard around it.
    pub is_guarded: bool,
}

/// The meaning of directives. Each method gets the words of a statement, or of the beginning of a
/// block. There is at least one word, the name.
pub trait Directives {
    /// The statement is one that is searched for.
    fn is_wanted(&self, words: &[Vec<u8>]) -> bool;
    /// The directive keeps some clients out, or may do so.
    fn is_guard(&self, words: &[Vec<u8>]) -> bool;
    /// The files that `include` with this argument reads. `None`: they cannot be read.
    fn include(&self, argument: &[u8]) -> Option<Vec<File>>;
}

/// All wanted statements, in the order in which nginx reads them. `None`: the configuration cannot be
/// read, so nothing is certain.
pub fn find(main: &File, directives: &impl Directives) -> Option<Vec<Found>> {
    let mut walk = Walk { directives, blocks: vec![Block::default()], skipped: 0 };
    walk.file(main, 0)?;
    walk.blocks.pop().map(|outermost| outermost.found)
}

struct Walk<'a, D> {
    directives: &'a D,
    /// The file level, `http`, `server` and locations; the innermost is the last.
    blocks: Vec<Block>,
    /// How many skipped blocks are open.
    skipped: usize,
}

#[derive(Default)]
struct Block {
    is_guarded: bool,
    found: Vec<Found>,
}

impl<D: Directives> Walk<'_, D> {
    fn file(&mut self, file: &File, depth: usize) -> Option<()> {
        let (blocks, skipped) = (self.blocks.len(), self.skipped);
        for item in Reader::new(&file.text) {
            let (item, line) = item.ok()?;
            match item {
                Item::Statement(_) if self.skipped > 0 => {}
                Item::Statement(words) if words.first()? == b"include" => {
                    if depth == INCLUDES_MAX {
                        return None;
                    }
                    for included in self.directives.include(words.get(1)?)? {
                        self.file(&included, depth + 1)?;
                    }
                }
                Item::Statement(words) if self.directives.is_wanted(&words) => {
                    let found = Found { file: file.name.clone(), line, is_guarded: false };
                    self.blocks.last_mut()?.found.push(found);
                }
                Item::Statement(words) => self.note(&words)?,
                Item::Open(words) => self.open(&words)?,
                Item::Close => self.close()?,
            }
        }
        // A block ends in the file in which it begins.
        ((blocks, skipped) == (self.blocks.len(), self.skipped)).then_some(())
    }

    fn open(&mut self, words: &[Vec<u8>]) -> Option<()> {
        let name = words.first()?.as_slice();
        let is_known = match name {
            b"http" => self.is_outermost(),
            b"server" | b"location" => !self.is_outermost(),
            _ => false,
        };
        if self.skipped == 0 && is_known {
            // Only nginx itself uses a named location.
            let has_name = words.get(1).is_some_and(|word| word.starts_with(b"@"));
            self.blocks
                .push(Block { is_guarded: name == b"location" && has_name, found: Vec::new() });
            return Some(());
        }
        if self.skipped == 0 {
            self.note(words)?;
        }
        self.skipped += 1;
        Some(())
    }

    fn close(&mut self) -> Option<()> {
        if self.skipped > 0 {
            self.skipped -= 1;
            return Some(());
        }
        let Block { is_guarded, found } = self.blocks.pop()?;
        let around = self.blocks.last_mut()?;
        around.found.extend(
            found.into_iter().map(|f| Found { is_guarded: f.is_guarded || is_guarded, ..f }),
        );
        Some(())
    }

    fn note(&mut self, words: &[Vec<u8>]) -> Option<()> {
        // Directives outside of `http` do not concern requests.
        if !self.is_outermost() && self.directives.is_guard(words) {
            self.blocks.last_mut()?.is_guarded = true;
        }
        Some(())
    }

    fn is_outermost(&self) -> bool {
        self.blocks.len() == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `pub` is searched for; `deny`, `if` and unknown directives are guards.
    struct Words<'a>(&'a [(&'a str, &'a str)]);

    impl Directives for Words<'_> {
        fn is_wanted(&self, words: &[Vec<u8>]) -> bool {
            words[0] == b"pub"
        }

        fn is_guard(&self, words: &[Vec<u8>]) -> bool {
            let harmless: [&[u8]; 6] = [b"listen", b"map", b"types", b"root", b"upstream", b"pub"];
            !harmless.contains(&words[0].as_slice())
        }

        fn include(&self, argument: &[u8]) -> Option<Vec<File>> {
            let files = self.0.iter().filter(|(name, _)| name.as_bytes().starts_with(argument));
            let files: Vec<File> = files.map(|(name, text)| file(name, text)).collect();
            (!files.is_empty()).then_some(files)
        }
    }

    fn file(name: &str, text: &str) -> File {
        File { name: name.as_bytes().to_vec(), text: text.as_bytes().to_vec() }
    }

    /// The places of statements without a guard.
    fn open(text: &str, others: &[(&str, &str)]) -> Option<Vec<String>> {
        let found = find(&file("main", text), &Words(others))?;
        let open = found.iter().filter(|found| !found.is_guarded);
        let shown =
            open.map(|open| format!("{}:{}", String::from_utf8_lossy(&open.file), open.line));
        Some(shown.collect())
    }

    #[test]
    fn finds_what_no_guard_encloses() {
        let cases: &[(&str, &[&str])] = &[
            ("http { server { location / { pub; } } }", &["main:1"]),
            (
                "user x; events { deny; } http {\nserver {\nlocation / {\npub\nadmin; } } }",
                &["main:5"],
            ),
            ("http { server { location / { deny all; pub; } } }", &[]),
            ("http { server { location / { pub; deny all; } } }", &[]),
            ("http { server { location / { pub; } deny all; } }", &[]),
            ("http { server { location / { pub; } } deny all; }", &[]),
            ("http { server { location / { pub; } # deny all;\n } }", &["main:1"]),
            ("http { server { location / { pub; if ($a) { root x; } } } }", &[]),
            ("http { map $a $b { deny 1; pub; } server { location / { pub; } } }", &["main:1"]),
            ("http { upstream u { server x; } server { location / { pub; } } }", &["main:1"]),
            ("http { server { location @p { pub; } } }", &[]),
            (
                "http { server { location /a {\npub;\nlocation /a/b { deny all;\npub; } } } }",
                &["main:2"],
            ),
            ("http { server { location /a { deny all; location /a/b { pub; } } } }", &[]),
            ("http { server { deny all; } server { location / {\npub; } } }", &["main:2"]),
            ("stream { server { pub; } } mail { server { pub; } }", &[]),
            ("http { server { location / { pub; unheard_of on; } } }", &[]),
            ("", &[]),
        ];
        for (text, expected) in cases {
            let expected = expected.iter().map(ToString::to_string).collect();
            assert_eq!(open(text, &[]), Some(expected), "{text}");
        }
    }

    #[test]
    fn gives_all_statements_in_the_order_of_the_text() {
        let text = "http { server { location /a { location /b { deny all; pub; } pub; } location @c { pub; }
            location /d { pub; location /e { pub; } } } }";
        let found = find(&file("main", text), &Words(&[])).expect("a configuration");
        let shown: Vec<_> = found.iter().map(|found| (found.line, found.is_guarded)).collect();
        assert_eq!(shown, [(1, true), (1, false), (1, true), (2, false), (2, false)]);
    }

    #[test]
    fn follows_includes() {
        let main = "http { include a; include b; }";
        let without = [
            ("a1", "root x;\n"),
            ("a2", "server { include c; }"),
            ("b", ""),
            ("c", "\nlocation / { pub; }"),
        ];
        assert_eq!(open(main, &without), Some(vec!["c:2".to_owned()]));
        let closed =
            [("a1", "root x;"), ("a2", "server { include c; }"), ("b", "deny all;"), without[3]];
        assert_eq!(open(main, &closed), Some(vec![]));
        // Includes in a skipped block are not read.
        assert_eq!(open("http { types { include mime; } }", &[]), Some(vec![]));
    }

    #[test]
    fn nothing_is_certain_of_what_cannot_be_read() {
        let loops = [("a", "include a;")];
        let halves = [("a", "server {"), ("b", "}")];
        assert_eq!(open("http { include missing; }", &[]), None);
        assert_eq!(open("http { include a; }", &loops), None);
        assert_eq!(open("http { include a; include b; }", &halves), None);
        for text in ["http {", "}", "http { } }", "http { server { pub; }", "http { \"a }"] {
            assert_eq!(open(text, &[]), None, "{text}");
        }
    }
}
