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
    /// Messages to subscribers, one in flight for each channel, with everything that publishing costs.
    Deliveries {
        mode: Mode,
        channels: u32,
        /// For each channel.
        subscribers: u32,
        /// For all channels.
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

/// Connections that publish to many channels.
const PUBLISHERS_MAX: u32 = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counted {
    instructions: u64,
    calls: u64,
}

impl Count {
    pub(crate) fn run(&self, bench: &Bench, peer: &Peer) -> Result<Values, Failure> {
        let units = |[less, more]: [u64; 2]| (more - less) as f64;
        let once = |load: Load| once(bench, peer, &load);
        let nothing =
            Load { mode: Mode::Streaming, channels: 1, subscribers: 0, stores: false, messages: 0 };
        let (less, more, units) = match *self {
            Self::Deliveries { mode, channels, subscribers, messages } => {
                let stores = mode == Mode::LongPolling;
                let load = Load { mode, channels, subscribers, stores, ..nothing };
                let [less, more] = messages.map(|messages| once(Load { messages, ..load }));
                (less?, more?, units(messages) * f64::from(subscribers))
            }
            Self::Publishes { stores, messages } => {
                let [less, more] =
                    messages.map(|messages| once(Load { stores, messages, ..nothing }));
                (less?, more?, units(messages))
            }
            Self::Subscriptions { subscribers } => {
                let [less, more] =
                    subscribers.map(|subscribers| once(Load { subscribers, ..nothing }));
                (less?, more?, units(subscribers.map(u64::from)))
            }
        };
        let of = |more: u64, less: u64| more.saturating_sub(less) as f64 / units;
        Ok(Values::from([
            (report::INSTRUCTIONS.into(), of(more.instructions, less.instructions)),
            (report::CALLS.into(), of(more.calls, less.calls)),
        ]))
    }
}

/// The work of one run.
#[derive(Clone, Copy)]
struct Load {
    mode: Mode,
    channels: u32,
    /// For each channel.
    subscribers: u32,
    stores: bool,
    /// For all channels.
    messages: u64,
}

/// One run of nginx, from start to end.
fn once(bench: &Bench, peer: &Peer, load: &Load) -> Result<Counted, Failure> {
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
        stores: load.stores,
        stored_max: 10,
        under,
        ..Setup::default()
    };
    let server = peer.start(&bench.places, &setup).map_err(Failure)?;
    let plan = Plan {
        channels: load.channels,
        subscribers: load.subscribers,
        publishers: load.channels.min(PUBLISHERS_MAX),
        ..bench.plan(peer, &server, load.mode)
    };
    let mut generator = Generator::new(plan)?;
    generator.open_all(LIMIT)?;
    server.settle();
    generator.publish(Pace::Acknowledged, load.messages, LIMIT)?;
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
