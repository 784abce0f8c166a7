//! Disturbances beside the checked load, each in a thread of its own: thousands of channels that are created
//! and deleted, publishes that are sent in part and held, storms of connections, a zone that is filled
//! completely.
//!
//! A broken connection is no finding, because workers are killed all the time. An answer must be right.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt;

use crate::audit;
use crate::body::{Part, Wrapping, part};
use crate::http::Response;
use crate::random::Random;
use crate::statistics::number;

/// The state that the threads share.
pub(crate) struct Shared {
    pub(crate) address: SocketAddr,
    pub(crate) stop: AtomicBool,
    pub(crate) findings: Mutex<Vec<String>>,
    pub(crate) channels: AtomicU64,
    pub(crate) deleted: AtomicU64,
    pub(crate) held: AtomicU64,
    pub(crate) stormed: AtomicU64,
    pub(crate) filled: AtomicU64,
    pub(crate) audits: AtomicU64,
    /// The zone may be full, or there may be no descriptors: refusals are allowed.
    pub(crate) may_refuse: bool,
}

impl Shared {
    pub(crate) fn new(address: SocketAddr, may_refuse: bool) -> Self {
        Self {
            address,
            stop: AtomicBool::new(false),
            findings: Mutex::new(Vec::new()),
            channels: AtomicU64::new(0),
            deleted: AtomicU64::new(0),
            held: AtomicU64::new(0),
            stormed: AtomicU64::new(0),
            filled: AtomicU64::new(0),
            audits: AtomicU64::new(0),
            may_refuse,
        }
    }

    fn stops(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Sleeps, but not past the end. False if the end has come.
    fn rest(&self, time: Duration) -> bool {
        let end = Instant::now() + time;
        while !self.stops() && Instant::now() < end {
            thread::sleep(Duration::from_millis(20).min(time));
        }
        !self.stops()
    }

    fn find(&self, text: String) {
        if let Ok(mut findings) = self.findings.lock() {
            findings.push(text);
        }
    }
}

/// Why a story did not come to its end.
enum Stopped {
    /// The connection broke, or the server had no room: there is nothing to judge.
    Excused,
    Wrong(String),
}

type Told<T> = Result<T, Stopped>;

fn wrong<T>(text: String) -> Told<T> {
    Err(Stopped::Wrong(text))
}

/// A connection with blocking reads.
struct Line {
    stream: TcpStream,
    response: Response,
    read: usize,
}

/// Longer than a worker is stopped.
const PATIENCE: Duration = Duration::from_secs(60);

impl Line {
    fn open(shared: &Shared) -> Told<Self> {
        let stream = TcpStream::connect(shared.address).map_err(|_| Stopped::Excused)?;
        // Without them it only takes longer.
        let _ = stream.set_nodelay(true);
        let _ = stream.set_read_timeout(Some(PATIENCE));
        let _ = stream.set_write_timeout(Some(PATIENCE));
        Ok(Self { stream, response: Response::new(), read: 0 })
    }

    fn send(&mut self, bytes: &[u8]) -> Told<()> {
        self.stream.write_all(bytes).map_err(|_| Stopped::Excused)
    }

    /// Waits for more bytes of the answer.
    fn more(&mut self) -> Told<()> {
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => Err(Stopped::Excused),
            Ok(count) => match self.response.feed(&buffer[..count]) {
                Ok(_) => Ok(()),
                Err(broken) => wrong(broken.to_string()),
            },
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                wrong(format!("no answer in {} s", PATIENCE.as_secs()))
            }
            Err(_) => Err(Stopped::Excused),
        }
    }

    fn ask(&mut self, method: &str, path: &str, body: &[u8]) -> Told<&Response> {
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nHost: torture\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        self.send(&request)?;
        self.answer()
    }

    fn answer(&mut self) -> Told<&Response> {
        self.response = Response::new();
        while !self.response.is_done() {
            self.more()?;
        }
        Ok(&self.response)
    }

    /// A publish that must be accepted; returns the number of messages in the answer.
    fn publish(&mut self, shared: &Shared, channel: &str, body: &[u8]) -> Told<u64> {
        let response = self.ask("POST", &format!("/pub?id={channel}"), body)?;
        match response.status {
            200 => {
                let text = String::from_utf8_lossy(&response.body).into_owned();
                let named = text.contains(&format!("\"{channel}\""));
                match number(&text, "published_messages") {
                    Some(count) if named => Ok(count),
                    _ => wrong(format!("{channel}: a publish was answered {text}")),
                }
            }
            500 if shared.may_refuse => Err(Stopped::Excused),
            status => wrong(format!("{channel}: a publish was answered {status}")),
        }
    }

    /// The next message of a stream: its id and text; `None` at the footer.
    fn message(&mut self, channel: &str) -> Told<Option<(i64, Vec<u8>)>> {
        loop {
            match part(Wrapping::Plain, &self.response.body[self.read..]) {
                (Part::Message(item), len) => {
                    let taken = (item.id, item.text.to_vec());
                    // A ping belongs to no channel.
                    let (ping, own) = (item.id == -1, item.channel == channel);
                    self.read += len;
                    if ping {
                        continue;
                    }
                    if !own {
                        return wrong(format!("{channel}: a message of another"));
                    }
                    return Ok(Some(taken));
                }
                (Part::Header, len) => self.read += len,
                (Part::Footer, _) => return Ok(None),
                (Part::Partial, _) => self.more()?,
                _ => return wrong(format!("{channel}: foreign bytes")),
            }
        }
    }

    fn reset(self) {
        let _ = sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO));
    }
}

/// Runs stories until the end, and reports those that went wrong.
fn repeat(shared: &Shared, who: &str, mut story: impl FnMut() -> Told<()>) {
    while !shared.stops() {
        match story() {
            Ok(()) => {}
            Err(Stopped::Excused) => {
                shared.rest(Duration::from_millis(100));
            }
            Err(Stopped::Wrong(text)) => shared.find(format!("{who}: {text}")),
        }
    }
}

/// Channels come and go: by DELETE with a subscriber that sees all of it, or by the dozen.
pub(crate) fn churn(shared: &Shared, number: usize, mut random: Random) {
    let mut count = 0;
    repeat(shared, "churn", || {
        count += 1;
        let name = format!("churn-{number}-{count}");
        // Leave time for the other threads.
        shared.rest(Duration::from_millis(random.between(0, 60)));
        match random.one_in(4) {
            true => by_the_dozen(shared, &name, &mut random),
            false => seen_to_its_end(shared, &name, &mut random),
        }
    });
}

fn by_the_dozen(shared: &Shared, name: &str, random: &mut Random) -> Told<()> {
    let mut line = Line::open(shared)?;
    for number in 0..random.between(20, 150) {
        let channel = format!("{name}.{number}");
        let location = if random.one_in(2) { "pub" } else { "pub-live" };
        let response = line.ask("POST", &format!("/{location}?id={channel}"), b"dozen")?;
        match response.status {
            200 => {}
            500 if shared.may_refuse => return Err(Stopped::Excused),
            status => return wrong(format!("{channel}: a publish was answered {status}")),
        }
        shared.channels.fetch_add(1, Ordering::Relaxed);
        if random.one_in(2) {
            let response = line.ask("DELETE", &format!("/pub?id={channel}"), b"")?;
            if response.status != 200 {
                return wrong(format!("{channel}: DELETE was answered {}", response.status));
            }
            shared.deleted.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}

fn seen_to_its_end(shared: &Shared, name: &str, random: &mut Random) -> Told<()> {
    let mut subscriber = Line::open(shared)?;
    subscriber.send(format!("GET /stream/{name} HTTP/1.1\r\nHost: torture\r\n\r\n").as_bytes())?;
    while !subscriber.response.has_head() {
        subscriber.more()?;
    }
    match subscriber.response.status {
        200 => {}
        500 if shared.may_refuse => return Err(Stopped::Excused),
        status => return wrong(format!("{name}: a subscriber was answered {status}")),
    }
    shared.channels.fetch_add(1, Ordering::Relaxed);
    let mut publisher = Line::open(shared)?;
    for count in 1..=random.between(1, 10) {
        let mut body = vec![0; random.between(1, 3000) as usize];
        random.fill(&mut body);
        let told = publisher.publish(shared, name, &body)?;
        if told != count {
            return wrong(format!("{name}: publish {count} is message {told}"));
        }
        match subscriber.message(name)? {
            Some((id, text)) if id == count as i64 && text == body => {}
            // A reload has ended its worker.
            None => return Err(Stopped::Excused),
            Some((id, _)) => return wrong(format!("{name}: {id} or its text, {count} was due")),
        }
    }
    let text = format!("end of {name}");
    let response = publisher.ask("DELETE", &format!("/pub?id={name}"), text.as_bytes())?;
    if response.status != 200 {
        return wrong(format!("{name}: DELETE was answered {}", response.status));
    }
    shared.deleted.fetch_add(1, Ordering::Relaxed);
    match subscriber.message(name)? {
        Some((-2, got)) if got == text.as_bytes() => {}
        // If a full zone has no room for the text, the deletion still works.
        Some((-2, got)) if shared.may_refuse && got == b"Channel deleted" => {}
        None => return Err(Stopped::Excused),
        Some((id, _)) => {
            return wrong(format!("{name}: {id} or another text instead of the deletion"));
        }
    }
    if subscriber.message(name)?.is_some() {
        return wrong(format!("{name}: a message after the deletion"));
    }
    match publisher.publish(shared, name, b"again")? {
        1 => {}
        told => return wrong(format!("{name}: message {told} in a new channel")),
    }
    let response = publisher.ask("DELETE", &format!("/pub?id={name}"), b"")?;
    match response.status {
        200 => Ok(()),
        status => wrong(format!("{name}: the second DELETE was answered {status}")),
    }
}

/// Publishes of which one half is sent at once, and the other half when the channel has been removed.
pub(crate) fn hold(shared: &Shared, number: usize, mut random: Random, longer_than: Duration) {
    let mut count = 0;
    repeat(shared, "held publish", || {
        count += 1;
        let name = format!("held-{number}-{count}");
        let mut line = Line::open(shared)?;
        let existed = random.one_in(2);
        if existed {
            let response = line.ask("POST", &format!("/pub-live?id={name}"), b"before")?;
            match response.status {
                200 => {}
                500 if shared.may_refuse => return Err(Stopped::Excused),
                status => return wrong(format!("{name}: a publish was answered {status}")),
            }
        }
        let body = vec![b'h'; random.between(2, 50_000) as usize];
        let half = random.index(body.len());
        let length = body.len();
        let head = format!(
            "POST /pub?id={name} HTTP/1.1\r\nHost: torture\r\nContent-Length: {length}\r\n\r\n"
        );
        line.send(head.as_bytes())?;
        line.send(&body[..half])?;
        let time = longer_than + Duration::from_millis(random.between(0, 3000));
        if !shared.rest(time) || random.one_in(4) {
            line.reset();
            return Ok(());
        }
        line.send(&body[half..])?;
        let response = line.answer()?;
        match response.status {
            200 => {
                shared.held.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            500 if shared.may_refuse => Err(Stopped::Excused),
            status => wrong(format!("{name}: answered {status}")),
        }
    });
}

/// More connections at once than the workers may have.
pub(crate) fn storm(shared: &Shared, mut random: Random, size: u64, interval: Duration) {
    while shared.rest(interval) {
        let mut lines = Vec::new();
        for _ in 0..size {
            let stream = TcpStream::connect_timeout(&shared.address, Duration::from_millis(50));
            let Ok(mut stream) = stream else { break };
            if random.one_in(2) {
                // Neither the answer matters nor whether it is read.
                let _ = stream.set_nonblocking(true);
                let _ = stream.write(b"GET /stream/storm HTTP/1.1\r\nHost: torture\r\n\r\n");
            }
            lines.push(stream);
            shared.stormed.fetch_add(1, Ordering::Relaxed);
        }
        shared.rest(Duration::from_millis(random.between(200, 1500)));
        for stream in lines {
            let _ = sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
        }
    }
}

/// Fills the zone up to the first refusal, keeps it full for a moment, and deletes everything.
pub(crate) fn fill(shared: &Shared, mut random: Random, interval: Duration) {
    while shared.rest(interval) {
        let filled = || -> Told<()> {
            let mut line = Line::open(shared)?;
            for _ in 0..20_000 {
                if shared.stops() {
                    break;
                }
                let response = line.ask("POST", "/pub?id=ballast", &[b'b'; 30_000])?;
                if response.status != 200 {
                    shared.filled.fetch_add(1, Ordering::Relaxed);
                    break;
                }
            }
            Ok(())
        };
        // In any case, the ballast is removed.
        let _ = filled();
        shared.rest(Duration::from_millis(random.between(100, 2000)));
        for _ in 0..100 {
            let dropped = Line::open(shared)
                .and_then(|mut line| Ok(line.ask("DELETE", "/pub?id=ballast", b"")?.status));
            if matches!(dropped, Ok(200 | 404)) {
                break;
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Audits the zone again and again, under the whole load.
pub(crate) fn audit(shared: &Shared, mut random: Random) {
    repeat(shared, "audit", || {
        shared.rest(Duration::from_millis(random.between(100, 2000)));
        let mut line = Line::open(shared)?;
        let response = line.ask("GET", "/audit", b"")?;
        match response.status {
            200 => {}
            500 if shared.may_refuse => return Err(Stopped::Excused),
            status => return wrong(format!("answered {status}")),
        }
        shared.audits.fetch_add(1, Ordering::Relaxed);
        match audit::violations(&response.body) {
            None => Ok(()),
            Some(violations) => wrong(violations),
        }
    });
}
