//! A process is stopped inside a section: the others wait, learn who holds the lock, and go on when it
//! goes on.
//!
//! The test runs its own binary again, as the process that stops.

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use crate::hub::life::{ZoneFile, env, now, rules};
use crate::hub::{Hub, Post};
use crate::store::memory::{SharedFile, signal, stop, wait_until_stopped};
use crate::store::on_long_wait;

const ENV_ZONE: &str = "PUSH_STREAM_STOPPED_ZONE";
const ENV_INSIDE: &str = "PUSH_STREAM_STOPPED_INSIDE";
/// The process id that the test writes into its own seat. No process that stops has it.
const OWN_PID: u32 = 1;

/// After this time it is certain that the waiter will not be told.
const PATIENCE: Duration = Duration::from_secs(60);

/// The process that the waiter was told of.
static TOLD: AtomicU32 = AtomicU32::new(0);

/// The waiter is told who holds the lock, and lets that process go on.
fn wake_up(holder: Option<u32>) {
    let pid = holder.expect("the holder is known");
    TOLD.store(pid, Ordering::SeqCst);
    signal(pid, libc::SIGCONT);
}

/// A process that has stopped itself while it holds this lock.
fn stopped_inside(zone: &ZoneFile, what: &str) -> Child {
    let program = std::env::current_exe().expect("this program");
    let child = Command::new(program)
        .args(["--exact", "hub::stopped::a_process_that_stops", "--test-threads=1"])
        .env(ENV_ZONE, &zone.0)
        .env(ENV_INSIDE, what)
        .stdout(Stdio::null())
        .spawn()
        .expect("another process");
    assert!(wait_until_stopped(child.id()), "it has ended");
    child
}

#[test]
fn a_waiter_is_told_who_holds_the_lock_and_outlasts_it() {
    on_long_wait(wake_up);
    let zone = ZoneFile::new("stopped");
    let mapped = zone.map();
    for what in ["a shard", "the commons", "a tick"] {
        let mut child = stopped_inside(&zone, what);
        TOLD.store(0, Ordering::SeqCst);
        // If the waiter is never told, the test fails instead of waiting for ever.
        let pid = child.id();
        let (is_through, through) = mpsc::channel::<()>();
        let watch = thread::spawn(move || {
            if through.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                signal(pid, libc::SIGKILL);
            }
        });
        let mut hub = Hub::attach(mapped.open(1).expect("a seat"), OWN_PID, now());
        let post = Post {
            event_id: None,
            event_type: None,
            body: &[b"text"],
            binary: false,
            store: true,
            may_be_empty: false,
            ..Post::default()
        };
        hub.publish(&[b"a"], &post, &rules(), now()).expect("room");
        drop(is_through);
        watch.join().expect("it watched");
        assert_eq!(TOLD.load(Ordering::SeqCst), child.id(), "stopped inside {what}");
        assert!(child.wait().expect("its end").success());
        hub.detach(&rules(), now());
    }
    let store = mapped.open(1).expect("a seat");
    assert_eq!(store.inventory().violations, [""; 0]);
}

/// Not a test: this is what the other process runs.
#[test]
fn a_process_that_stops() {
    let Some(zone) = env::<std::path::PathBuf>(ENV_ZONE) else { return };
    let what: String = env(ENV_INSIDE).expect("where to stop");
    let file = std::fs::File::options().read(true).write(true).open(zone);
    let store = SharedFile::map(&file.expect("the zone's file")).open(0).expect("a seat");
    let mut hub = Hub::attach(store, std::process::id(), now());
    match what.as_str() {
        "a shard" => {
            let section = hub.store.section(hub.store.shard_of(hub.store.hash(b"a")));
            stop();
            section.commit();
        }
        "the commons" => {
            let section = hub.store.commons_section();
            stop();
            section.commit();
        }
        _ => hub.exclusively(|_| stop()),
    }
}
