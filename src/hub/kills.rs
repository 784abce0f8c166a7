//! Processes that share a real mapping with real robust locks are killed at any moment; nothing is lost.
//!
//! The test runs its own binary again for each worker. Each worker publishes, subscribes, delivers,
//! deletes, sweeps and audits as fast as it can, and checks what it is handed, until it gets SIGKILL.
//! Then another one takes its seat. Now and then all are killed, and the zone is checked.
//!
//! `PUSH_STREAM_KILLS` is the number of kills, `PUSH_STREAM_KILLS_SEED` fixes what the workers do
//! (though not when they die).

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::hub::life::{AUDITOR, Life, WORKERS, ZoneFile, assert_nothing_left, env, now};
use crate::hub::sim::rng::Rng;
use crate::store::memory::SharedFile;

const KILLS: u32 = 1000;
/// After so many kills, all workers die and the zone is audited.
const BATCH: u32 = 25;
/// A worker that is not in its seat after this time waits for a lock that nobody will release.
const PATIENCE: Duration = Duration::from_secs(60);

const ENV_ZONE: &str = "PUSH_STREAM_KILLS_ZONE";
const ENV_SEAT: &str = "PUSH_STREAM_KILLS_SEAT";
const ENV_SEED: &str = "PUSH_STREAM_KILLS_SEED";
const ENV_PARENT: &str = "PUSH_STREAM_KILLS_PARENT";

struct Worker {
    child: Child,
    seat: u32,
}

impl Worker {
    fn spawn(zone: &ZoneFile, seat: u32, seed: u64) -> Self {
        let program = std::env::current_exe().expect("this program");
        let child = Command::new(program)
            .args(["--exact", "hub::kills::a_worker", "--nocapture", "--test-threads=1"])
            .env(ENV_ZONE, &zone.0)
            .env(ENV_SEAT, seat.to_string())
            .env(ENV_SEED, seed.to_string())
            .env(ENV_PARENT, std::process::id().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("another process");
        Self { child, seat }
    }

    /// Waits until it has taken its seat.
    fn wait_until_seated(&mut self, auditor: &SharedFile) {
        let store = auditor.open(AUDITOR).expect("the auditor's view");
        let began = Instant::now();
        loop {
            let seat = store.seat_at(self.seat + 1).expect("its seat");
            if seat.pid.get() == self.child.id() {
                return;
            }
            self.must_be_alive();
            assert!(began.elapsed() < PATIENCE, "worker {} waits for ever", self.seat);
            std::thread::yield_now();
        }
    }

    fn must_be_alive(&mut self) {
        let ended = self.child.try_wait().expect("its state");
        assert_eq!(ended, None, "worker {} has ended by itself", self.seat);
    }

    fn kill(&mut self) {
        self.must_be_alive();
        self.child.kill().expect("a kill");
        let status = self.child.wait().expect("its end");
        assert_eq!(status.signal(), Some(libc::SIGKILL), "it died of the kill");
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn killed_workers_leave_nothing_behind() {
    let kills: u32 = env("PUSH_STREAM_KILLS").unwrap_or(KILLS);
    let seed = env(ENV_SEED).unwrap_or_else(|| now().steady as u64);
    let mut rng = Rng::seeded(seed);
    eprintln!("{kills} kills, {ENV_SEED}={seed}");
    let zone = ZoneFile::new("kills");
    let mapped = zone.map();
    let spawn = |rng: &mut Rng, seat| Worker::spawn(&zone, seat, rng.next());
    let mut workers: Vec<Worker> = (0..WORKERS).map(|seat| spawn(&mut rng, seat)).collect();
    let mut killed = 0;
    while killed < kills {
        for _ in 0..BATCH {
            let number = rng.below(workers.len());
            let worker = &mut workers[number];
            worker.wait_until_seated(&mapped);
            let moment = Instant::now() + Duration::from_micros(rng.below(4000) as u64);
            while Instant::now() < moment {
                std::hint::spin_loop();
            }
            worker.kill();
            killed += 1;
            let seat = worker.seat;
            workers[number] = spawn(&mut rng, seat);
        }
        for worker in &mut workers {
            worker.wait_until_seated(&mapped);
        }
        for worker in &mut workers {
            worker.kill();
            killed += 1;
        }
        let store = mapped.open(AUDITOR).expect("the auditor's view");
        store.settle();
        let violations = store.inventory().violations;
        assert!(violations.is_empty(), "after {killed} kills: {violations:?}");
        workers = (0..WORKERS).map(|seat| spawn(&mut rng, seat)).collect();
    }
    for worker in &mut workers {
        worker.wait_until_seated(&mapped);
        worker.kill();
    }
    drop(workers);
    assert_nothing_left(&mapped, &format!("after {killed} kills"));
}

/// Not a test: this is what the other processes run.
#[test]
fn a_worker() {
    let (Some(zone), Some(seat)) = (env::<PathBuf>(ENV_ZONE), env(ENV_SEAT)) else { return };
    let (seed, parent) = (env(ENV_SEED).unwrap_or(0), env(ENV_PARENT).unwrap_or(0));
    let file = File::options().read(true).write(true).open(zone).expect("the zone's file");
    let store = SharedFile::map(&file).open(seat).expect("a seat");
    let mut life = Life::begin(store, std::process::id(), seed);
    while std::os::unix::process::parent_id() == parent {
        for _ in 0..64 {
            life.step();
        }
    }
}
