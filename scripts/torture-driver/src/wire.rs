//! Feeds raw bytes, HTTP and WebSocket, well formed or not, to a running nginx with the module.
//!
//! ```text
//!   seed ──► grammar ──► batch of connections ──► player ──► nginx ──► judge: what they got
//!               ▲                                              └─────► canary: is it well?
//!            seeds from t/
//! ```
//!
//! It works in rounds. Each round has its own nginx, which is stopped in the orderly way at the end and must not
//! leave an open socket. The first finding ends the run: the batches before it and the seed go to a file.

mod canary;
mod grammar;
mod judge;
mod locations;
mod player;
mod requests;
mod script;
mod sockets;

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::server::{Nginx, Place};

use canary::Canary;
use grammar::Grammar;
use player::Player;
use script::Batch;

/// The settings of a run.
pub(crate) struct Task {
    pub(crate) seconds: u64,
    /// A folder of requests to begin with.
    pub(crate) corpus: PathBuf,
    /// Directory for the file of a finding.
    pub(crate) artifacts: PathBuf,
    /// Batches of an earlier finding, to play instead of new ones.
    pub(crate) replay: Option<PathBuf>,
}

/// Workers of the server: the smallest number with deliveries between workers.
const WORKERS: usize = 2;
/// Longest time for which one nginx is fed.
const ROUND: Duration = Duration::from_secs(30);
/// Number of batches in the file of a finding: connections that stay open are not older.
const WRITTEN_MAX: usize = 200;

/// Counters of a run.
#[derive(Default)]
struct Figures {
    batches: u64,
    connections: u64,
    rounds: u64,
}

/// One nginx, and its last batches.
struct Round {
    nginx: Nginx,
    player: Player,
    canary: Canary,
    last: VecDeque<Batch>,
}

impl Round {
    fn start(place: &Place, seed: u64) -> Result<Self, String> {
        let nginx = Nginx::start(place.clone(), &locations::config())?;
        let canary = Canary::new(&nginx, seed, WORKERS)?;
        let player = Player::new().map_err(|error| error.to_string())?;
        Ok(Self { nginx, player, canary, last: VecDeque::new() })
    }

    /// Plays a batch and checks the server.
    fn play(&mut self, batch: Batch) -> Result<(), String> {
        let played = self.player.play(&self.nginx, &batch);
        self.last.push_back(batch);
        if self.last.len() > WRITTEN_MAX {
            self.last.pop_front();
        }
        // If the server is not well, that explains bad answers.
        self.canary.complaint(&self.nginx).map_or(Ok(()), Err)?;
        played?.into_iter().next().map_or(Ok(()), Err)
    }

    /// Stops it. Every second nginx is stopped while there are connections in every state.
    fn end(&mut self, early: bool) -> Result<(), String> {
        if !early {
            self.player.leave().into_iter().next().map_or(Ok(()), Err)?;
            self.canary.is_alone(&self.nginx)?;
        }
        let bad = self.nginx.stop(&[])?;
        bad.first().map_or(Ok(()), |line| Err(format!("in the log at the end: {line}")))?;
        self.player.leave().into_iter().next().map_or(Ok(()), Err)
    }

    fn write_down(&self, file: &Path, seed: u64, what: &str) -> Result<(), String> {
        let batches: String = self.last.iter().map(Batch::to_string).collect();
        let text = format!("# seed {seed}: {}\n{batches}", what.replace('\n', " "));
        let folder = file.parent().unwrap_or(Path::new("."));
        let written = fs::create_dir_all(folder).and_then(|()| fs::write(file, text));
        written.map_err(|error| format!("{what} (and {}: {error})", file.display()))
    }
}

/// Runs the fuzzer. `Ok(false)` if something was found and reported.
pub(crate) fn run(place: &Place, seed: u64, task: &Task) -> Result<bool, String> {
    let began = Instant::now();
    let mut figures = Figures::default();
    let found = match &task.replay {
        Some(file) => {
            let text =
                fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
            println!("replaying {}", file.display());
            let mut batches = script::parse(&text)?.into_iter();
            round(place, seed, task, &mut figures, &mut || batches.next())?
        }
        None => {
            println!("seed {seed}");
            let grammar = Grammar::new(seeds(&task.corpus)?);
            let end = began + Duration::from_secs(task.seconds);
            let mut number = 0;
            let mut found = false;
            while !found && Instant::now() < end {
                let round_end = end.min(Instant::now() + ROUND);
                found = round(place, seed, task, &mut figures, &mut || {
                    number += 1;
                    (Instant::now() < round_end).then(|| grammar.batch(seed, number))
                })?;
            }
            found
        }
    };
    println!(
        "{} s: {} batches, {} connections, {} nginx started; {}",
        began.elapsed().as_secs(),
        figures.batches,
        figures.connections,
        figures.rounds,
        if found { "FOUND SOMETHING" } else { "nothing found" },
    );
    // In the form that libFuzzer uses.
    println!("stat::number_of_executed_units: {}", figures.connections);
    Ok(!found)
}

/// One nginx from start to stop, fed with the batches of `next`. `Ok(true)` if something was found.
fn round(
    place: &Place,
    seed: u64,
    task: &Task,
    figures: &mut Figures,
    next: &mut dyn FnMut() -> Option<Batch>,
) -> Result<bool, String> {
    let mut round = Round::start(place, seed)?;
    figures.rounds += 1;
    let mut outcome = Ok(());
    while let Some(batch) = next().filter(|_| outcome.is_ok()) {
        figures.batches += 1;
        outcome = round.play(batch);
    }
    let outcome = outcome.and_then(|()| round.end(figures.rounds.is_multiple_of(2)));
    figures.connections += round.player.connections;
    let Err(what) = outcome else { return Ok(false) };
    let number = round.last.back().map_or(0, |batch| batch.number);
    let file = task.artifacts.join(format!("{seed}-{number}.batches"));
    round.write_down(&file, seed, &what)?;
    eprintln!("finding, seed {seed}, batch {number}: {what}");
    eprintln!("what was sent is in {}", file.display());
    Ok(true)
}

/// The requests of the corpus, in the order of their names.
fn seeds(corpus: &Path) -> Result<Vec<Vec<u8>>, String> {
    let tell = |error| format!("{}: {error}", corpus.display());
    let mut files: Vec<PathBuf> =
        fs::read_dir(corpus).map_err(tell)?.flatten().map(|entry| entry.path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).map_err(tell)).collect()
}
