//! Several threads, each a worker in a seat of its own, at one zone and one mapping of it: what
//! ThreadSanitizer can watch. (`kills` does the same by processes, which it cannot see across.)
//!
//! The threads' locks are the real ones: a thread is to the kernel what a process is. Each sits down,
//! works, gets up and sits down again, as workers do over reloads.
//!
//! `PUSH_STREAM_THREADS_SECS` is how long (1), `PUSH_STREAM_THREADS_SEED` fixes what they do.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crate::hub::life::{AUDITOR, Life, WORKERS, ZoneFile, assert_nothing_left, env, now};
use crate::hub::sim::rng::Rng;
use crate::store::memory::SharedFile;

/// Steps of a worker from sitting down to getting up.
const STEPS: usize = 3000;

#[test]
fn workers_at_one_mapping_find_it_whole() {
    let secs = env("PUSH_STREAM_THREADS_SECS").unwrap_or(1);
    let seed = env("PUSH_STREAM_THREADS_SEED").unwrap_or_else(|| now() as u64);
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

/// One life after the other; answers how many.
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

/// What the kernel calls this thread, which is a process to those who look whether it is alive.
fn thread_id() -> u32 {
    let link = fs::read_link("/proc/thread-self").expect("the thread's place");
    let id = link.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
    id.expect("a number")
}
