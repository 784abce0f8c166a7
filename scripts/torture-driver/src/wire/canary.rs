//! Checks whether the server is well: its workers live, it serves other clients as usual, and its zone is
//! consistent.
//!
//! The canary's channel has a name that cannot be guessed. Each worker has one subscriber of it all the time,
//! which must get every message of the channel, and nothing else.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};
use std::{mem, thread};

use crate::http::Response;
use crate::random::Random;
use crate::server::{Nginx, PATIENCE};
use crate::{audit, statistics};

use super::judge;

/// A subscriber of the canary's channel.
struct Watcher {
    stream: TcpStream,
    response: Response,
    worker: i32,
}

/// See the file's head.
pub(crate) struct Canary {
    channel: String,
    workers: Vec<i32>,
    watchers: Vec<Watcher>,
    count: u64,
    /// The part of the error log that was read.
    log_read: u64,
}

/// Makes connections until each worker has accepted one.
const ATTEMPTS_MAX: usize = 1000;

impl Canary {
    pub(crate) fn new(nginx: &Nginx, seed: u64, workers: usize) -> Result<Self, String> {
        let channel = format!("canary{:016x}", Random::new(seed).next());
        let end = Instant::now() + PATIENCE;
        while nginx.workers().len() < workers {
            if Instant::now() > end {
                return Err(format!("there are no {workers} workers"));
            }
            thread::sleep(Duration::from_millis(10));
        }
        let workers = nginx.workers();
        let mut canary = Self { channel, workers, watchers: Vec::new(), count: 0, log_read: 0 };
        for _ in 0..ATTEMPTS_MAX {
            if canary.watchers.len() == canary.workers.len() {
                return Ok(canary);
            }
            let watcher =
                Watcher::new(nginx, &canary.channel).map_err(|error| error.to_string())?;
            if !canary.watchers.iter().any(|known| known.worker == watcher.worker) {
                canary.watchers.push(watcher);
            }
        }
        Err("a worker accepts no connection".to_owned())
    }

    /// The first fault of the server.
    pub(crate) fn complaint(&mut self, nginx: &Nginx) -> Option<String> {
        // A dead worker explains all other faults, and the log explains its death.
        if !nginx.has_all(&self.workers) {
            return Some(format!("a worker died; {}", nginx.bad_lines(&[]).join("; ")));
        }
        if let Some(line) = nginx.bad_lines_since(&mut self.log_read, &[]).first() {
            return Some(format!("in the log: {line}"));
        }
        self.sing(nginx).and_then(|()| examine(nginx)).err()
    }

    /// Publishes a message; all watchers must get it.
    fn sing(&mut self, nginx: &Nginx) -> Result<(), String> {
        self.count += 1;
        let text = judge::mark(&self.channel, self.count);
        let path = format!("/pub-live?id={}", self.channel);
        let end = Instant::now() + PATIENCE;
        loop {
            let response = nginx.ask("POST", &path, text.as_bytes())?;
            match response.status {
                200 => break,
                // The zone is full until the messages in it expire.
                500 if Instant::now() < end && explains_memory(&response) => {
                    thread::sleep(Duration::from_millis(10));
                }
                status => return Err(format!("the canary is answered with {status}")),
            }
        }
        let rendered = format!(" {} {text}]", self.channel);
        self.watchers.iter_mut().try_for_each(|watcher| watcher.expect(rendered.as_bytes()))
    }

    /// When all other clients are gone, only the watchers are subscribed, and no message is being published.
    pub(crate) fn is_alone(&self, nginx: &Nginx) -> Result<(), String> {
        let end = Instant::now() + PATIENCE;
        loop {
            let left = statistics::summary(nginx)?.subscribers;
            let mut kinds = audit::remains_of(nginx, &["interests_backlog", "messages_staged"])?;
            if left != self.watchers.len() as u64 {
                kinds.push(format!("{left} subscribers"));
            }
            if kinds.is_empty() {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(format!("all have left, and there are {}", kinds.join(", ")));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

fn explains_memory(response: &Response) -> bool {
    response.header("x-nginx-pushstream-explain").is_some_and(|text| text.contains("memory"))
}

/// The statistics can be read, and the audit finds nothing.
fn examine(nginx: &Nginx) -> Result<(), String> {
    statistics::summary(nginx)?;
    let report = nginx.ask("GET", "/audit", b"")?.body;
    audit::violations(&report).map_or(Ok(()), |what| Err(format!("the audit says {what}")))
}

impl Watcher {
    fn new(nginx: &Nginx, channel: &str) -> io::Result<Self> {
        let mut stream = TcpStream::connect(nginx.address())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET /watch?id={channel} HTTP/1.1\r\nHost: fuzz\r\n\r\n")?;
        let mut watcher = Self { stream, response: Response::new(), worker: 0 };
        while !watcher.response.has_head() {
            watcher.read()?;
        }
        let worker = watcher.response.header("x-worker").and_then(|pid| pid.parse().ok());
        match worker.filter(|_| watcher.response.status == 200) {
            Some(worker) => Ok(Self { worker, ..watcher }),
            None => Err(io::Error::other(format!("watcher: {}", watcher.response.status))),
        }
    }

    fn read(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => match self.response.feed(&buffer[..count]) {
                Ok(_) => Ok(()),
                Err(error) => Err(io::Error::other(error.to_string())),
            },
        }
    }

    /// Waits for the message with this end.
    fn expect(&mut self, end: &[u8]) -> Result<(), String> {
        while !self.response.body.ends_with(b"]") {
            self.read().map_err(|error| format!("watcher of {}: {error}", self.worker))?;
        }
        let body = mem::take(&mut self.response.body);
        let messages = body.iter().filter(|byte| **byte == b'[').count();
        if messages == 1 && body.ends_with(end) {
            return Ok(());
        }
        Err(format!("watcher of {} got {}", self.worker, body.escape_ascii()))
    }
}
