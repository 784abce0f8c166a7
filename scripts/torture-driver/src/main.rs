//! Drives and breaks a real nginx with the module, and checks what every client got.
//!
//! `scripts/torture` and, for raw bytes, `scripts/fuzz` run it, and say how to use it.

mod account;
mod audit;
mod body;
mod crowd;
mod frames;
mod http;
mod items;
mod ledger;
mod mischief;
mod publisher;
mod random;
mod refill;
mod resume;
mod server;
mod shape;
mod socket;
mod stall;
mod statistics;
mod subscriber;
mod torture;
mod vanisher;
mod wanderer;
mod wire;
mod world;

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use server::Place;

/// `--name value` pairs, and the other words.
struct Options {
    words: Vec<String>,
    values: HashMap<String, String>,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self { words: Vec::new(), values: HashMap::new() };
        while let Some(argument) = arguments.next() {
            match argument.strip_prefix("--") {
                None => options.words.push(argument),
                Some(name) => {
                    let value = arguments.next().ok_or(format!("--{name} wants a value"))?;
                    options.values.insert(name.to_owned(), value);
                }
            }
        }
        Ok(options)
    }

    fn number(&self, name: &str, default: u64) -> Result<u64, String> {
        match self.values.get(name) {
            None => Ok(default),
            Some(text) => text.parse().map_err(|_| format!("--{name} {text}: not a number")),
        }
    }

    fn path(&self, name: &str) -> Result<PathBuf, String> {
        self.values.get(name).map(PathBuf::from).ok_or(format!("--{name} is missing"))
    }
}

fn run() -> Result<bool, String> {
    let options = Options::parse(std::env::args().skip(1))?;
    let word = options.words.first().map(String::as_str);
    let place = Place {
        binary: options.path("binary")?,
        module: options.path("module")?,
        prefix: options.path("prefix")?.join(
            word.filter(|word| ["crowd", "refill", "resume", "stall", "wire"].contains(word))
                .unwrap_or("load"),
        ),
        clock: options.path("clock").ok(),
    };
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| time.as_secs());
    let seed = options.number("seed", clock)?;
    let workers = options.number("workers", 2)?;
    match word {
        Some("crowd") => crowd::run(
            place,
            seed,
            crowd::Size {
                workers,
                subscribers: options.number("subscribers", 1000)?,
                messages: options.number("messages", 10_000)?,
                kills_max: options.number("kills", 30)?,
            },
        ),
        Some("refill") => refill::run(&place, seed, workers, options.number("rounds", 10)?),
        Some("resume") => {
            let seconds = options.words.get(1).map_or(Ok(60), |word| word.parse());
            let seconds = seconds.map_err(|_| "resume: not a number of seconds".to_owned())?;
            let clients = options.number("clients", 80)?;
            resume::run(place, seed, resume::Size { seconds, workers, clients })
        }
        Some("stall") => stall::run(place, seed, workers, options.number("seconds", 60)?),
        Some("wire") => wire::run(
            &place,
            seed,
            &wire::Task {
                seconds: options.number("seconds", 60)?,
                corpus: options.path("corpus")?,
                artifacts: options.path("artifacts")?,
                replay: options.path("replay").ok(),
            },
        ),
        word => {
            let seconds = word.unwrap_or("120");
            let seconds = seconds
                .parse()
                .map_err(|_| format!("\"{seconds}\": neither seconds nor a scenario"))?;
            let all = "all".to_owned();
            let faults = torture::Faults::parse(options.values.get("faults").unwrap_or(&all))?;
            torture::run(place, seed, &torture::Task { seconds, workers, faults })
        }
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("torture: {error}");
            ExitCode::from(2)
        }
    }
}
