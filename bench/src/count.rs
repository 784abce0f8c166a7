//! Instructions and system calls for each unit of work, counted by valgrind's callgrind.
//!
//! nginx runs as a single process. Two runs do different amounts of the same work. The difference is what the work
//! costs; start, connecting and end cancel out. The counts do not depend on what else the machine does.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::decoder::Mode;
use crate::generator::{Failure, Generator};
use crate::measure::Bench;
use crate::peer::{Peer, Setup};
use crate::plan::{Pace, Plan};
use crate::report::{self, Values};

/// Work that is counted.
#[derive(Debug, Clone)]
pub(crate) enum Count {
    /// Messages to subscribers of one channel, one in flight, with everything that publishing costs.
    Deliveries {
        mode: Mode,
        subscribers: u32,
        messages: [u64; 2],
    },
    Publishes {
        stores: bool,
        messages: [u64; 2],
    },
    /// Subscribers that come and go.
    Subscriptions {
        subscribers: [u32; 2],
    },
}

/// nginx under valgrind is some fifty times slower.
const LIMIT: Duration = Duration::from_secs(120);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counted {
    instructions: u64,
    calls: u64,
}

impl Count {
    pub(crate) fn run(&self, bench: &Bench, peer: &Peer) -> Result<Values, Failure> {
        let units = |[less, more]: [u64; 2]| (more - less) as f64;
        let (less, more, units) = match *self {
            Self::Deliveries { mode, subscribers, messages } => {
                let stores = mode == Mode::LongPolling;
                let once = |messages| once(bench, peer, mode, subscribers, stores, messages);
                let units = units(messages) * f64::from(subscribers);
                (once(messages[0])?, once(messages[1])?, units)
            }
            Self::Publishes { stores, messages } => {
                let once = |messages| once(bench, peer, Mode::Streaming, 0, stores, messages);
                (once(messages[0])?, once(messages[1])?, units(messages))
            }
            Self::Subscriptions { subscribers } => {
                let once = |subscribers| once(bench, peer, Mode::Streaming, subscribers, false, 0);
                let units = units(subscribers.map(u64::from));
                (once(subscribers[0])?, once(subscribers[1])?, units)
            }
        };
        let of = |more: u64, less: u64| more.saturating_sub(less) as f64 / units;
        Ok(Values::from([
            (report::INSTRUCTIONS.into(), of(more.instructions, less.instructions)),
            (report::CALLS.into(), of(more.calls, less.calls)),
        ]))
    }
}

/// One run with that many subscribers of one channel, and messages.
fn once(
    bench: &Bench,
    peer: &Peer,
    mode: Mode,
    subscribers: u32,
    stores: bool,
    messages: u64,
) -> Result<Counted, Failure> {
    let valgrind = bench.valgrind.as_ref().ok_or_else(|| Failure("there is no valgrind".into()))?;
    fs::create_dir_all(&bench.places.work)?;
    let file = bench.places.work.join(format!("callgrind.{}", peer.name));
    let _ = fs::remove_file(&file);
    let under = vec![
        valgrind.display().to_string(),
        "--tool=callgrind".into(),
        "--collect-systime=yes".into(),
        format!("--callgrind-out-file={}", file.display()),
    ];
    let setup = Setup {
        cpus: bench.server_cpus(1),
        connections: 2048,
        zone: 32 << 20,
        stores,
        stored_max: 10,
        under,
        ..Setup::default()
    };
    let server = peer.start(&bench.places, &setup).map_err(Failure)?;
    let plan = Plan { subscribers, ..bench.plan(peer, &server, mode) };
    let mut generator = Generator::new(plan)?;
    generator.open_all(LIMIT)?;
    server.settle();
    generator.publish(Pace::Acknowledged, messages, LIMIT)?;
    generator.drain(LIMIT)?;
    drop(generator);
    server.settle();
    if !server.stop() {
        return Err(Failure("the server did not end".into()));
    }
    read(&file)
}

fn read(file: &Path) -> Result<Counted, Failure> {
    let text = fs::read_to_string(file)
        .map_err(|error| Failure(format!("{}: {error}", file.display())))?;
    parse(&text).ok_or_else(|| Failure(format!("{}: no counts", file.display())))
}

/// The counts of a whole run, from callgrind's file.
fn parse(text: &str) -> Option<Counted> {
    let line = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    let names = line("events:")?.split_whitespace();
    let counts = line("totals:").or(line("summary:"))?.split_whitespace();
    let pairs: Vec<_> = names.zip(counts).collect();
    let of = |name: &str| {
        let pair = pairs.iter().find(|(other, _)| *other == name);
        pair.and_then(|(_, count)| count.parse().ok())
    };
    Some(Counted { instructions: of("Ir")?, calls: of("sysCount")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_callgrind() {
        let text =
            "# callgrind format\nevents: Ir sysCount sysTime\nfn=(1)\n1 2\n\ntotals: 17 3 9\n";
        assert_eq!(parse(text), Some(Counted { instructions: 17, calls: 3 }));
        assert_eq!(parse("events: Ir\ntotals: 17\n"), None);
        assert_eq!(parse(""), None);
    }
}
