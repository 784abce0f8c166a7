//! The command line.

use std::path::PathBuf;

use crate::decoder::Mode;

/// Options as `scripts/bench` passes them on, and the words between them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Options {
    pub(crate) words: Vec<String>,
    pub(crate) nginx: Option<PathBuf>,
    pub(crate) module: Option<PathBuf>,
    pub(crate) nchan: Option<PathBuf>,
    /// Other modules with the directives of this one, with their names.
    pub(crate) with: Vec<(String, PathBuf)>,
    /// A configuration of `nginx-conf/` for many subscribers.
    pub(crate) many: Option<PathBuf>,
    pub(crate) valgrind: Option<PathBuf>,
    /// The counts that `quick` compares with.
    pub(crate) expected: Option<PathBuf>,
    /// For configurations and logs.
    pub(crate) work: Option<PathBuf>,
    pub(crate) json: Option<PathBuf>,
    /// The peers that take part; all if empty.
    pub(crate) peers: Vec<String>,
    pub(crate) rounds: u32,
    pub(crate) seconds: f64,
    /// Processes of the generator.
    pub(crate) generators: usize,
    pub(crate) publish: Option<String>,
    pub(crate) subscribe: Option<String>,
    pub(crate) mode: Mode,
    /// The process behind the two URLs.
    pub(crate) pid: Option<i32>,
    /// Versions of the programs, by name.
    pub(crate) versions: Vec<(String, String)>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            words: Vec::new(),
            nginx: None,
            module: None,
            nchan: None,
            with: Vec::new(),
            many: None,
            valgrind: None,
            expected: None,
            work: None,
            json: None,
            peers: Vec::new(),
            rounds: 3,
            seconds: 2.0,
            generators: 1,
            publish: None,
            subscribe: None,
            mode: Mode::Streaming,
            pid: None,
            versions: Vec::new(),
        }
    }
}

fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{name} {value}: not a number"))
}

fn pair(name: &str, value: &str) -> Result<(String, String), String> {
    let (first, second) = value.split_once('=').ok_or(format!("{name} wants NAME=VALUE"))?;
    Ok((first.to_owned(), second.to_owned()))
}

impl Options {
    pub(crate) fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut options = Self::default();
        let mut arguments = arguments.iter();
        while let Some(name) = arguments.next() {
            if !name.starts_with("--") {
                options.words.push(name.clone());
                continue;
            }
            let value = arguments.next().ok_or(format!("{name} wants a value"))?;
            match name.as_str() {
                "--nginx" => options.nginx = Some(value.into()),
                "--module" => options.module = Some(value.into()),
                "--nchan" => options.nchan = Some(value.into()),
                "--many" => options.many = Some(value.into()),
                "--valgrind" => options.valgrind = Some(value.into()),
                "--expected" => options.expected = Some(value.into()),
                "--work" => options.work = Some(value.into()),
                "--json" => options.json = Some(value.into()),
                "--with" => {
                    let (name, path) = pair(name, value)?;
                    options.with.push((name, path.into()));
                }
                "--version-of" => options.versions.push(pair(name, value)?),
                "--peers" => options.peers = value.split(',').map(str::to_owned).collect(),
                "--rounds" => options.rounds = number::<u32>(name, value)?.clamp(1, 100),
                "--seconds" => options.seconds = number::<f64>(name, value)?.clamp(0.1, 60.0),
                "--generators" => options.generators = number::<usize>(name, value)?.clamp(1, 64),
                "--publish" => options.publish = Some(value.clone()),
                "--subscribe" => options.subscribe = Some(value.clone()),
                "--pid" => options.pid = Some(number(name, value)?),
                "--mode" => {
                    let mode = Mode::ALL.into_iter().find(|mode| mode.name() == value);
                    options.mode = mode.ok_or(format!("{name} {value}: unknown"))?;
                }
                _ => return Err(format!("{name}: unknown")),
            }
        }
        if options.publish.is_some() != options.subscribe.is_some() {
            return Err("--publish and --subscribe belong together".into());
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn a_command_line() {
        let options = parse(
            "fast --rounds 5 --seconds 0.5 poll --with old=/x.so --peers ours,old --mode websocket",
        )
        .unwrap();
        assert_eq!(options.words, ["fast", "poll"]);
        assert_eq!((options.rounds, options.seconds, options.mode), (5, 0.5, Mode::WebSocket));
        assert_eq!(options.with, [("old".to_owned(), PathBuf::from("/x.so"))]);
        assert_eq!(options.peers, ["ours", "old"]);
        assert_eq!(parse(""), Ok(Options::default()));
    }

    #[test]
    fn wrong_command_lines() {
        for (line, error) in [
            ("--rounds", "--rounds wants a value"),
            ("--rounds x", "--rounds x: not a number"),
            ("--nonsense 1", "--nonsense: unknown"),
            ("--with x", "--with wants NAME=VALUE"),
            ("--mode fax", "--mode fax: unknown"),
            ("--publish http://127.0.0.1:1/", "--publish and --subscribe belong together"),
        ] {
            assert_eq!(parse(line), Err(error.to_owned()), "{line}");
        }
    }
}
