//! What no compiler checks: layers, heads of files, where unsafe code lives, the manual.
//!
//! ```text
//!   nginx → all   session → wire, model   hub → store, wire, model   store → model   wire → model
//!   session/sim, tests only → hub
//! ```
//!
//! Comments and literals are blanked out before a rule looks at code, so it can be talked about.
//! Each finding is one line: file, line, what is wrong.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What each layer may name besides itself.
const LAYERS: [(&str, &[&str]); 7] = [
    ("lib", &["nginx", "session", "hub", "store", "wire", "model", "tidy"]),
    ("nginx", &["session", "hub", "store", "wire", "model"]),
    ("session", &["wire", "model"]),
    ("hub", &["store", "wire", "model"]),
    ("store", &["model"]),
    ("wire", &["model"]),
    ("model", &[]),
];
/// Tests of two layers together, and what they may name besides what their layer may.
const JOINT_TESTS: [(&str, &str); 1] = [("session/sim/", "hub")];
/// Layers that talk to memory or to C.
const UNSAFE_LAYERS: [&str; 2] = ["store", "nginx"];
/// What a pure layer does not do: clocks, files, sockets, terminals.
const IMPURE: [&str; 8] = [
    "SystemTime",
    "Instant",
    "std::fs",
    "std::net",
    "std::env",
    "println!",
    "eprintln!",
    "std::process",
];

struct Source {
    /// Relative to `src/`, with `/`.
    name: String,
    text: String,
    /// The text with comments and literals blanked out, of the same length and lines.
    code: String,
}

impl Source {
    fn new(name: &str, text: String) -> Self {
        Self { name: name.to_owned(), code: blank(&text), text }
    }

    /// `wire` for `wire.rs` and `wire/path.rs`.
    fn layer(&self) -> &str {
        self.name.split(['/', '.']).next().unwrap_or_default()
    }

    /// The code before the first module of tests: they stand at the foot of a file.
    fn shipped(&self) -> &str {
        let tests = self.code.match_indices("\n#[cfg(").find(|(at, _)| {
            let rest = &self.code[at + 1..];
            let mut lines = rest.lines();
            let (attribute, next) = (lines.next(), lines.find(|line| !line.starts_with("#[")));
            attribute.is_some_and(is_for_tests)
                && next.is_some_and(|line| line.contains("mod ") && line.ends_with('{'))
        });
        tests.map_or(&self.code, |(at, _)| &self.code[..at])
    }

    /// `wire::path` for `wire/path.rs`.
    fn module(&self) -> String {
        self.name.trim_end_matches(".rs").replace('/', "::")
    }

    /// What the shipped code imports from the crate, by full path, and which of its own modules it names.
    fn imports(&self) -> Vec<String> {
        let code = self.shipped();
        let module = self.module();
        let parent = module.rsplit_once("::").map_or("", |(parent, _)| parent);
        let mut found = Vec::new();
        for (at, _) in code.match_indices("crate::") {
            push_paths(&code[at + "crate::".len()..], "", &mut found);
        }
        for (at, _) in code.match_indices("super::") {
            push_paths(&code[at + "super::".len()..], parent, &mut found);
        }
        for line in code.lines().map(str::trim) {
            let child = line.split("mod ").nth(1).and_then(|rest| rest.strip_suffix(';'));
            if let Some(child) = child
                && words(code, child).any(|at| code[at + child.len()..].starts_with("::"))
            {
                found.push(format!("{module}::{child}"));
            }
        }
        found
    }

    fn finding(&self, at: usize, what: &str) -> String {
        let line = self.code.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1;
        format!("src/{}:{line}: {what}", self.name)
    }
}

#[test]
#[cfg_attr(miri, ignore = "reads files")]
fn sources_keep_the_rules() {
    let sources = sources();
    assert!(sources.len() > 20, "the sources are not where they should be");
    let found: Vec<String> = sources.iter().flat_map(|s| findings(s, &sources)).collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
#[cfg_attr(miri, ignore = "reads files")]
fn the_manual_has_every_directive() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |name: &str| fs::read_to_string(root.join(name)).expect(name);
    let (table, manual) = (read("src/nginx/directives.rs"), read("docs/directives.md"));
    let declared: BTreeSet<&str> = table
        .split("ngx_string!(\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .filter(|name| name.starts_with("push_stream_"))
        .collect();
    let described: BTreeSet<&str> =
        manual.split(|c: char| c != '_' && !c.is_alphanumeric()).collect();
    let titled: BTreeSet<&str> = manual
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .filter(|title| title.starts_with("push_stream_"))
        .collect();
    assert!(declared.len() > 30, "the command table is not where it should be");
    let missing: Vec<_> = declared.difference(&described).collect();
    assert!(missing.is_empty(), "not in the manual: {missing:?}");
    let invented: Vec<_> = titled.difference(&declared).collect();
    assert!(invented.is_empty(), "in the manual only: {invented:?}");
}

/// Which file of the shell stands on which is a question with an answer.
#[test]
#[cfg_attr(miri, ignore = "reads files")]
fn the_shell_imports_in_no_circle() {
    let sources = sources();
    let shell: Vec<&Source> = sources.iter().filter(|source| source.layer() == "nginx").collect();
    assert!(shell.len() > 20, "the shell is not where it should be");
    let found = circles(&shell);
    assert!(found.is_empty(), "files that import each other:\n{}", found.join("\n"));
}

/// Bit fields of nginx's records are read as `.field() == 1` and written by `.set_field(…)`.
#[test]
#[cfg_attr(miri, ignore = "reads files")]
fn layouts_are_compared() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("build/layout.rs");
    let compared = fs::read_to_string(path).expect("build/layout.rs");
    let compared: BTreeSet<&str> =
        compared.split_whitespace().filter_map(|word| word.strip_prefix("set_")).collect();
    let sources = sources();
    let shell: Vec<&Source> = sources.iter().filter(|source| source.layer() == "nginx").collect();
    let own: BTreeSet<&str> =
        shell.iter().flat_map(|source| source.code.split("fn ").skip(1)).map(first_word).collect();
    let mut missing = Vec::new();
    for source in shell {
        for (at, _) in source.code.match_indices('.') {
            let name = first_word(&source.code[at + 1..]);
            let rest = &source.code[at + 1 + name.len()..];
            let is_read = ["() == 0", "() == 1", "() != 0"].iter().any(|end| rest.starts_with(end));
            let field = match name.strip_prefix("set_") {
                Some(field) if rest.starts_with('(') && !own.contains(name) => field,
                // `get` is that of a cell.
                None if is_read && name != "get" => name,
                _ => continue,
            };
            if !compared.contains(field) {
                missing.push(source.finding(at, &format!("{field} is not in build/layout.rs")));
            }
        }
    }
    assert!(compared.contains("count"), "the list is not where it should be");
    assert!(missing.is_empty(), "\n{}", missing.join("\n"));
}

fn findings(source: &Source, all: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    let layer = source.layer();
    if layer == "tidy" {
        return found;
    }
    if !source.text.starts_with("//! ") {
        found.push(source.finding(0, "no //! head"));
    }
    let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == layer) else {
        found.push(source.finding(0, "belongs to no layer"));
        return found;
    };
    for (at, named) in crate_paths(&source.code) {
        let is_layer = LAYERS.iter().any(|(layer, _)| *layer == named);
        let is_joint = JOINT_TESTS
            .iter()
            .any(|(tests, other)| source.name.starts_with(tests) && named == *other);
        let is_allowed = allowed.contains(&named) || is_joint && is_test_module(source, all);
        if is_layer && named != layer && !is_allowed {
            found.push(source.finding(at, &format!("{layer} must not know {named}")));
        }
    }
    let has_unsafe = words(&source.code, "unsafe").next();
    if let Some(at) = has_unsafe {
        if !UNSAFE_LAYERS.contains(&layer) {
            found.push(source.finding(at, "unsafe outside of store and nginx"));
        } else if !source.text.contains("// SAFETY:") && !source.text.contains("# Safety") {
            found.push(source.finding(at, "unsafe without a SAFETY comment"));
        }
    }
    if layer != "nginx" && layer != "lib" && !is_test_module(source, all) {
        for name in ["ngx", "nginx_sys"] {
            found.extend(
                words(&source.code, name)
                    .map(|at| source.finding(at, &format!("{name} outside of nginx"))),
            );
        }
        for name in IMPURE {
            found.extend(
                words(source.shipped(), name)
                    .map(|at| source.finding(at, &format!("{name} in a pure layer"))),
            );
        }
    }
    found
}

/// Files that stand, by what they import, on themselves; each with those that it shares a circle with.
fn circles(sources: &[&Source]) -> Vec<String> {
    let names: Vec<String> = sources.iter().map(|source| source.module()).collect();
    let number = |path: &str| names.iter().position(|name| name == path);
    let imports: Vec<BTreeSet<usize>> = sources
        .iter()
        .map(|source| {
            let paths = source.imports();
            let mut files: BTreeSet<usize> =
                paths.iter().filter_map(|path| prefixes(path).find_map(number)).collect();
            files.retain(|file| names[*file] != source.module());
            files
        })
        .collect();
    let reached: Vec<BTreeSet<usize>> = (0..names.len())
        .map(|from| {
            let (mut reached, mut open) = (BTreeSet::new(), vec![from]);
            while let Some(at) = open.pop() {
                open.extend(imports[at].iter().filter(|next| reached.insert(**next)));
            }
            reached
        })
        .collect();
    let circle = |file: usize| {
        let others = reached[file].iter().filter(|other| reached[**other].contains(&file));
        let others: Vec<&str> = others.map(|other| names[*other].as_str()).collect();
        (!others.is_empty()).then(|| others.join(" - "))
    };
    let found: BTreeSet<String> = (0..names.len()).filter_map(circle).collect();
    found.into_iter().collect()
}

/// `a::b::c`, `a::b`, `a`.
fn prefixes(path: &str) -> impl Iterator<Item = &str> {
    let ends = path.match_indices("::").map(|(at, _)| at).chain([path.len()]);
    let ends: Vec<usize> = ends.collect();
    ends.into_iter().rev().map(|end| &path[..end])
}

/// The full paths in the tree of names that `text` begins with: `a::{b, c::d}` has `a::b`, `a::c::d`.
fn push_paths<'a>(mut text: &'a str, prefix: &str, found: &mut Vec<String>) -> &'a str {
    let mut path = prefix.to_owned();
    loop {
        text = text.trim_start();
        if let Some(mut list) = text.strip_prefix('{') {
            loop {
                list = list.trim_start_matches(|c: char| c == ',' || c.is_whitespace());
                if let Some(after) = list.strip_prefix('}') {
                    return after;
                }
                let rest = push_paths(list, &path, found);
                if rest.len() == list.len() {
                    return rest;
                }
                list = rest;
            }
        }
        let name = first_word(text);
        path.extend([if path.is_empty() { "" } else { "::" }, name]);
        text = &text[name.len()..];
        match text.strip_prefix("::") {
            Some(after) => text = after,
            None => break,
        }
    }
    found.push(path);
    text
}

/// Is the whole file compiled for tests only? Its parent says so, or is itself.
fn is_test_module(source: &Source, all: &[Source]) -> bool {
    let stem = source.name.trim_end_matches(".rs");
    let (parent, module) = stem.rsplit_once('/').unwrap_or(("lib", stem));
    let parent = all.iter().find(|other| other.name.trim_end_matches(".rs") == parent);
    parent.is_some_and(|parent| {
        if parent.name != source.name && is_test_module(parent, all) {
            return true;
        }
        let declared = format!("mod {module};");
        let mut lines = parent.code.lines().map(str::trim);
        let mut test_only = false;
        lines.any(|line| {
            let here = test_only && line.ends_with(&declared);
            test_only = is_for_tests(line) || (test_only && line.starts_with("#["));
            here
        })
    })
}

/// `#[cfg(test)]`, `#[cfg(all(test, …))]`; and what the fuzzers share with the tests.
fn is_for_tests(attribute: &str) -> bool {
    ["#[cfg(test)", "#[cfg(all(test", "#[cfg(any(test, fuzzing))"]
        .iter()
        .any(|begin| attribute.starts_with(begin))
}

/// What follows each `crate::`, groups taken apart: `crate::{a::b, c}` names `a` and `c`.
fn crate_paths(code: &str) -> Vec<(usize, &str)> {
    let mut named = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let Some(group) = rest.trim_start().strip_prefix('{') else {
            named.push((at, first_word(rest)));
            continue;
        };
        let (mut depth, mut expect) = (0_usize, true);
        for (index, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => expect = true,
                _ if expect && !c.is_whitespace() => {
                    named.push((at, first_word(&group[index..])));
                    expect = false;
                }
                _ => {}
            }
        }
    }
    named
}

fn first_word(text: &str) -> &str {
    text.split(|c: char| c != '_' && !c.is_alphanumeric()).next().unwrap_or_default()
}

/// Where `word` stands by itself.
fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let part_of_name = |c: char| c == '_' || c.is_alphanumeric();
    code.match_indices(word).map(|(at, _)| at).filter(move |at| {
        !code[..*at].ends_with(part_of_name) && !code[at + word.len()..].starts_with(part_of_name)
    })
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    let mut folders: Vec<PathBuf> = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&root).expect("below src").to_string_lossy();
                let text = fs::read_to_string(&path).expect("a source");
                sources.push(Source::new(&name.replace('\\', "/"), text));
            }
        }
    }
    sources.sort_by(|a, b| a.name.cmp(&b.name));
    sources
}

/// Blanks out comments, strings and characters; line ends stay.
fn blank(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let len = literal_len(rest, code.chars().next_back());
        let (taken, after) = rest.split_at(len.unwrap_or(c.len_utf8()));
        if len.is_some() {
            code.extend(taken.chars().map(|c| if c == '\n' { c } else { ' ' }));
        } else {
            code.push(c);
        }
        rest = after;
    }
    code
}

/// Length of the comment or literal that `text` begins with.
fn literal_len(text: &str, before: Option<char>) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if text.starts_with("/*") {
        return Some(text.find("*/").map_or(text.len(), |at| at + 2));
    }
    let in_name = before.is_some_and(|c| c == '_' || c.is_alphanumeric());
    if let Some(raw) =
        text.strip_prefix("br").or(text.strip_prefix("cr")).or(text.strip_prefix('r'))
    {
        let hashes = raw.bytes().take_while(|byte| *byte == b'#').count();
        if !in_name && raw[hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let opened = text.len() - raw.len() + hashes + 1;
            let closed = text[opened..].find(&end);
            return Some(closed.map_or(text.len(), |at| opened + at + end.len()));
        }
    }
    if text.starts_with('"') {
        return Some(quoted_len(text, '"'));
    }
    // A lifetime has no second quote right after its first character.
    let mut after = text.strip_prefix('\'')?.chars();
    let (first, second) = (after.next()?, after.next()?);
    (first == '\\' || second == '\'').then(|| quoted_len(text, '\''))
}

fn quoted_len(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &str, text: &str) -> Vec<String> {
        let source = Source::new(name, format!("//! Head.\n{text}"));
        findings(&source, &[Source::new("hub.rs", "#[cfg(test)]\nmod sim;".to_owned())])
    }

    #[test]
    fn finds_wrong_imports() {
        assert_eq!(found("wire/a.rs", "use crate::model::Message;\nuse crate::wire::b;"), [""; 0]);
        assert_eq!(
            found("wire/a.rs", "\nuse crate::store::Zone;"),
            ["src/wire/a.rs:3: wire must not know store"]
        );
        assert_eq!(
            found(
                "session.rs",
                "use crate::{\n    model::{Message, hub},\n    hub::Roster, wire};"
            ),
            ["src/session.rs:2: session must not know hub"]
        );
        assert_eq!(found("hub/a.rs", "fn f() { crate::session::f() }").len(), 1);
        let tests = Source::new("session/sim/a.rs", "//! Head.\nuse crate::hub::Hub;".to_owned());
        for (parent, count) in [("#[cfg(test)]\nmod a;", 0), ("mod a;", 1)] {
            let parent = Source::new("session/sim.rs", parent.to_owned());
            assert_eq!(findings(&tests, &[parent]).len(), count);
        }
        assert_eq!(found("nginx/a.rs", "use crate::{hub, session, store, wire};"), [""; 0]);
        assert_eq!(found("model.rs", "use crate::wire;").len(), 1);
        assert_eq!(
            found("wire/a.rs", "// use crate::store;\nconst A: &str = \"crate::hub\";"),
            [""; 0]
        );
        assert_eq!(found("utils.rs", ""), ["src/utils.rs:1: belongs to no layer"]);
    }

    #[test]
    fn finds_circles() {
        let found = |files: &[(&str, &str)]| {
            let sources: Vec<Source> =
                files.iter().map(|(name, text)| Source::new(name, (*text).to_owned())).collect();
            circles(&sources.iter().collect::<Vec<_>>())
        };
        let below = ("nginx/b.rs", "use crate::nginx::{\n    c,\n    d,\n};\nfn f() {}");
        assert_eq!(
            found(&[("nginx/a.rs", "use crate::nginx::{c, b::{self, d}};"), below]),
            [""; 0]
        );
        let back = ("nginx/b.rs", "fn f() { crate::nginx::a::g() }");
        let circle = ["nginx::a - nginx::b"];
        assert_eq!(found(&[("nginx/a.rs", "use crate::nginx::{c, b::{self, d}};"), back]), circle);
        assert_eq!(found(&[("nginx/a.rs", "use super::{c::d, b::e};"), back]), circle);
        let parent = ("nginx/a.rs", "mod b;\nfn f() { b::f() }");
        assert_eq!(found(&[parent, ("nginx/a/b.rs", "use super::g;")]), ["nginx::a - nginx::a::b"]);
        assert_eq!(found(&[parent, ("nginx/a/b.rs", "fn f() {}")]), [""; 0]);
        let tests = "\n#[cfg(test)]\nmod tests {\n use crate::nginx::a;\n}";
        assert_eq!(
            found(&[("nginx/a.rs", "use crate::nginx::b;"), ("nginx/b.rs", tests)]),
            [""; 0]
        );
    }

    #[test]
    fn finds_unsafe_code_where_it_must_not_be() {
        assert_eq!(found("wire/a.rs", "fn f() { unsafe { g() } }").len(), 1);
        assert_eq!(found("store/a.rs", "fn f() { unsafe { g() } }").len(), 1);
        assert_eq!(found("store/a.rs", "// SAFETY: so.\nfn f() { unsafe { g() } }"), [""; 0]);
        assert_eq!(
            found("wire/a.rs", "// unsafe\nfn unsafely() { \"unsafe\"; r#\"\"unsafe\"#; }"),
            [""; 0]
        );
    }

    #[test]
    fn finds_impure_code() {
        assert_eq!(found("hub/a.rs", "use std::time::Instant;").len(), 1);
        assert_eq!(
            found("hub/a.rs", "#[cfg(test)]\nmod tests {\n use std::time::Instant;\n}"),
            [""; 0]
        );
        assert_eq!(found("hub/a.rs", "#[cfg(test)]\nfn f() {\n}\nfn g() { println!() }").len(), 1);
        assert_eq!(
            found("hub/a.rs", "#[cfg(all(test, unix))]\n#[path]\nmod kills {\n println!() }"),
            [""; 0]
        );
        assert_eq!(found("hub/sim.rs", "use std::time::Instant;"), [""; 0]);
        let parent = Source::new("hub.rs", "#[cfg(any(test, fuzzing))]\nmod model;".to_owned());
        let model = Source::new("hub/model.rs", "//! Head.\nuse std::time::Instant;".to_owned());
        assert_eq!(findings(&model, &[parent]), [""; 0]);
        assert_eq!(found("store/a.rs", "use ngx::core::Pool;").len(), 1);
        assert_eq!(found("nginx/a.rs", "use ngx::core::Pool;"), [""; 0]);
    }

    #[test]
    fn finds_files_without_a_head() {
        let source = Source::new("wire/a.rs", "use std::fmt;".to_owned());
        assert_eq!(findings(&source, &[]), ["src/wire/a.rs:1: no //! head"]);
    }

    #[test]
    fn blanks_out_comments_and_literals_only() {
        let cases = [
            ("a // b\nc", "a     \nc"),
            ("a /* b\n */ c", "a     \n    c"),
            ("f(\"x\\\"y\") z", "f(      ) z"),
            ("'a' 'b: loop", "    'b: loop"),
            ("'\\'' x '\"' y", "     x     y"),
            ("r#\"a\"b\"# c", "         c"),
            ("for r in x", "for r in x"),
            ("b\"a\" br\"\\\" d", "b          d"),
        ];
        for (text, code) in cases {
            assert_eq!(blank(text), code);
        }
    }
}
