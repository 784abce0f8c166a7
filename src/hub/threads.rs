//! Several threads, each a worker in its own seat, share one mapping of a zone, so that ThreadSanitizer
//! can watch them. (`kills` does the same with processes, which it cannot watch together.)
//!
//! The locks are the real ones: to the kernel, a thread is like a process. Each thread takes its seat,
//! works, leaves it and takes it again, as workers do over reloads.
//!
//! `PUSH_STREAM_THREADS_SECS` is how long (1), `PUSH_STREAM_THREADS_SEED` fixes what they do.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crate::hub::life::{AUDITOR, Life, WORKERS, ZoneFile, assert_nothing_left, env, now};
use crate::hub::sim::rng::Rng;
use crate::store::memory::SharedFile;

/// So many steps from taking a seat to leaving it.
const STEPS: usize = 3000;

#[test]
fn workers_at_one_mapping_find_it_whole() {
    let secs = env("PUSH_STREAM_THREADS_SECS").unwrap_or(1);
    let seed = env("PUSH_STREAM_THREADS_SEED").unwrap_or_else(|| now().steady as u64);
    eprintln!("{secs} s, PUSH_STREAM_THREADS_SEED={seed}");
    let mut rng = Rng::seeded(seed);
    let zone = ZoneFile::new("threads").map();
    let end = Instant::now() + Duration::from_secs(secs);
    let lives: usize = thread::scope(|scope| {
        let zone = &zone;
        let threads: Vec<_> = (0..WORKERS)
            .map(|seat| {
                let seed = rng.next();
                scope.spawn(move || work(zone, seat, seed, end))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("a worker's end")).sum()
    });
    eprintln!("{lives} lives of {STEPS} steps");
    let store = zone.open(AUDITOR).expect("the auditor's view");
    let violations = store.inventory().violations;
    assert!(violations.is_empty(), "after all: {violations:?}");
    assert_nothing_left(&zone, "after all threads");
}

/// Lives one life after the other. Answers how many.
fn work(zone: &SharedFile, seat: u32, seed: u64, end: Instant) -> usize {
    let mut rng = Rng::seeded(seed);
    let mut lives = 0;
    while Instant::now() < end {
        let mut life = Life::begin(zone.open(seat).expect("a seat"), thread_id(), rng.next());
        for _ in 0..STEPS {
            life.step();
        }
        life.end();
        lives += 1;
    }
    lives
}

/// The kernel's number for this thread. The others use it as a process id, to see whether it is alive.
fn thread_id() -> u32 {
    let link = fs::read_link("/proc/thread-self").expect("the thread's place");
    let id = link.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
    id.expect("a number")
}
