//! Very many idle subscribers, and then one message to each of them.
//!
//! A process may open only so many files, so there are many workers, and many processes of the generator. All of them
//! share all processors.

use std::time::{Duration, Instant};

use crate::board::Count;
use crate::decoder::Mode;
use crate::generator::{Failure, Generator};
use crate::measure::Bench;
use crate::peer::{Peer, Setup};
use crate::plan::{Pace, Plan};
use crate::report::{self, Outcome, Run, Values};
use crate::statistics::grouped;
use crate::{proc, sys};

/// Files of a process that are not connections: a worker has some for each other worker.
const OTHER_FILES: usize = 1_500;

/// The system spreads connections evenly, but not exactly. nginx closes connections that have sent no request when a
/// worker has few left.
fn workers(subscribers: usize, connections: usize) -> usize {
    subscribers.div_ceil(connections * 7 / 8)
}

/// So much memory is left alone.
const AVAILABLE_MIN: u64 = 512 << 20;

const CONNECTING: Duration = Duration::from_secs(1800);
const DELIVERING: Duration = Duration::from_secs(300);

fn millions(bytes: f64) -> String {
    format!("{} MB", grouped((bytes / 1e6).round() as i64))
}

/// Runs it with that many subscribers and tells how it goes.
pub(crate) fn run(bench: &Bench, peer: &Peer, subscribers: u32, files: u64) -> Outcome {
    let (values, failure) = match measured(bench, peer, subscribers, files) {
        Ok(values) => (values, None),
        Err(failure) => (Values::new(), Some(failure.0)),
    };
    Outcome {
        scenario: format!("crowd-{subscribers}"),
        title: format!("{} idle EventSource subscribers", grouped(i64::from(subscribers))),
        unit: "subscriber".into(),
        runs: vec![Run { peer: peer.name.clone(), values, failure }],
    }
}

fn measured(bench: &Bench, peer: &Peer, subscribers: u32, files: u64) -> Result<Values, Failure> {
    let connections = (files as usize).saturating_sub(OTHER_FILES).max(100);
    let workers = workers(subscribers as usize, connections).max(1);
    let processes = (subscribers as usize).div_ceil(connections).max(1);
    let setup = Setup { workers, connections, stores: true, ..Setup::default() };
    println!("  {workers} workers, {processes} processes of the generator");
    let server = peer.start(&bench.places, &setup).map_err(Failure)?;
    let plan = Plan {
        subscribers,
        // All together fewer than a listening socket's queue takes.
        opening_max: (3_000 / processes).clamp(1, 64),
        retry: true,
        processes: vec![Vec::new(); processes],
        ..bench.plan(peer, &server, Mode::EventSource)
    };
    let mut generator = Generator::new(plan)?;
    let memory = |what: &str| {
        server.memory().ok_or_else(|| Failure(format!("memory {what}: a worker has ended")))
    };
    let before = memory("before")?;
    let machine_before = proc::machine_memory().unwrap_or_default();
    let cpu_before = server.cpu();

    let began = Instant::now();
    let (mut shown, mut looked) = (0, 0);
    generator.open_all_while(CONNECTING, |open| {
        let tenth = open * 10 / u64::from(subscribers.max(1));
        if tenth > shown {
            shown = tenth;
            let seconds = began.elapsed().as_secs();
            println!("  {} are subscribed after {seconds} s", grouped(open as i64));
        }
        // Before the system ends processes for want of memory.
        let look = open / 1000 != looked;
        looked = open / 1000;
        !look || proc::machine_memory().is_none_or(|memory| memory.available >= AVAILABLE_MIN)
    })?;
    let connecting = began.elapsed().as_secs_f64();
    server.settle();
    let cpu_connecting = server.cpu().zip(cpu_before).map(|(to, from)| to - from);
    let after = memory("after")?;
    let machine_after = proc::machine_memory().unwrap_or_default();
    let used = machine_after.used.saturating_sub(machine_before.used) as f64;
    let units = f64::from(subscribers);
    let own = (after.own + after.shared).saturating_sub(before.own + before.shared) as f64;
    let kernel = machine_after.kernel.saturating_sub(machine_before.kernel) as f64;
    let retries = generator.board.sum(Count::Retries);
    println!(
        "  connected in {connecting:.0} s, {retries} connections were begun again\n  \
         nginx has {} more ({:.0} bytes each), the kernel {} ({:.0} each, both ends), the machine {}",
        millions(own),
        own / units,
        millions(kernel),
        kernel / units,
        millions(used),
    );

    generator.board.reset();
    let cpu_before = server.cpu();
    let began = sys::now();
    generator.publish(Pace::Acknowledged, 1, DELIVERING)?;
    generator.drain(DELIVERING)?;
    let seconds = (generator.board.max(Count::Latest) - began) as f64 / 1e9;
    generator.listen(Duration::from_secs(1))?;
    let delivered = generator.board.sum(Count::Deliveries);
    let cpu = server.cpu().zip(cpu_before).map(|(to, from)| to - from);
    println!("  one message: {} deliveries in {seconds:.2} s", grouped(delivered as i64));
    if delivered != u64::from(subscribers) {
        return Err(Failure(format!("{delivered} deliveries to {subscribers} subscribers")));
    }
    if let Some(line) = server.complaints().first() {
        return Err(Failure(format!("the server complains: {line}")));
    }

    let mut values = Values::from([
        (report::BYTES.into(), own / units),
        (report::KERNEL.into(), kernel / units),
        (report::SECONDS.into(), seconds),
        (report::RATE.into(), units / seconds),
        ("connecting_seconds".into(), connecting),
        ("machine_bytes".into(), used),
    ]);
    if let Some(cpu) = cpu {
        values.insert(report::CPU.into(), cpu as f64 / 1000.0 / units);
    }
    if let Some(cpu) = cpu_connecting {
        values.insert("connecting_us".into(), cpu as f64 / 1000.0 / units);
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_have_room() {
        assert_eq!(workers(16_187, 18_500), 1);
        assert_eq!(workers(16_188, 18_500), 2);
        assert_eq!(workers(500_000, 18_500), 31);
    }
}
