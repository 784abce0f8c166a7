//! The subscribers of one process of the generator.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};

use crate::board::{Board, Count, Fault};
use crate::decoder::{Decoder, Mode, Sink, Wrong};
use crate::plan::Plan;
use crate::sys::{self, Epoll, Ready};
use crate::{histogram, payload, tls};

/// A connection of a subscriber.
enum Stream {
    Plain(TcpStream),
    Tls(tls::Connection),
}

impl Stream {
    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(connection) => connection.stream(),
        }
    }

    /// After a write that did not take all: whether it waits for room. A TLS handshake may wait for bytes instead.
    fn wants_room(&self) -> bool {
        match self {
            Self::Plain(_) => true,
            Self::Tls(connection) => connection.wants_room(),
        }
    }

    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(bytes),
            Self::Tls(connection) => connection.read(bytes),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(connection) => connection.write(bytes),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not connected.
    Away,
    /// Connecting, or waiting for the head or for old messages.
    Opening,
    Open,
}

struct Subscriber {
    channel: u32,
    state: State,
    stream: Option<Stream>,
    decoder: Decoder,
    /// The rest of a request, and whether we are told when it can be written.
    out: Vec<u8>,
    told: bool,
    /// When the connection was begun.
    since: u64,
    /// Old messages that have not come yet.
    awaited: u32,
    /// The id with which it resumes.
    id: Vec<u8>,
}

/// All subscribers of one process.
pub(crate) struct Subscribers {
    process: usize,
    list: Vec<Subscriber>,
    /// The next number of each lane of its channel, for each subscriber.
    next: Vec<u32>,
    /// Those that are to be opened.
    waiting: VecDeque<u32>,
    opening: usize,
    tls: Option<tls::Client>,
    /// The first two bytes of source addresses.
    network: [u8; 2],
    connections: u64,
    buffer: Vec<u8>,
    scratch: Vec<u8>,
    /// Channels that have had a message completed, for the publishers of the same process.
    pub(crate) completed: Vec<u32>,
}

/// Connections from one source address. The system has some 28,000 ports for each.
const FROM_ONE_ADDRESS: u64 = 5_000;

/// Connections that were begun again, for each subscriber, before it counts as a fault.
const RETRIES_MAX: u64 = 20;

impl Subscribers {
    /// The share of process number `process`. `run` tells the runs of this program apart.
    pub(crate) fn new(plan: &Plan, process: usize, run: u32) -> io::Result<Self> {
        let processes = plan.processes.len();
        let list = (process..plan.all_subscribers()).step_by(processes).map(|index| Subscriber {
            // Neighbours belong to different channels.
            channel: index as u32 % plan.channels,
            state: State::Away,
            stream: None,
            decoder: Decoder::new(plan.mode),
            out: Vec::new(),
            told: false,
            since: 0,
            awaited: 0,
            id: Vec::new(),
        });
        let list: Vec<_> = list.collect();
        Ok(Self {
            process,
            next: vec![0; list.len() * plan.lanes as usize],
            list,
            waiting: VecDeque::new(),
            opening: 0,
            tls: if plan.tls { Some(tls::Client::new()?) } else { None },
            // 127.0 has the servers.
            network: [127, 1 + (run % 250) as u8],
            connections: 0,
            buffer: vec![0; 256 * 1024],
            scratch: Vec::new(),
            completed: Vec::new(),
        })
    }

    /// The id with which the first of them would resume.
    pub(crate) fn resume_id(&self) -> Option<String> {
        String::from_utf8(self.list.first()?.id.clone()).ok()
    }

    /// Opens all subscriptions, a few at a time.
    pub(crate) fn open_all(&mut self, plan: &Plan, board: &Board) {
        let lanes = plan.lanes as usize;
        for (index, subscriber) in self.list.iter_mut().enumerate() {
            subscriber.awaited = plan.backlog;
            if plan.resume.is_some() {
                // Each time from the same place.
                subscriber.id.clear();
            }
            for lane in 0..plan.lanes {
                let number = board.number(subscriber.channel * plan.lanes + lane);
                let next = number.saturating_sub(plan.backlog);
                self.next[index * lanes + lane as usize] = next;
            }
        }
        self.waiting = (0..self.list.len() as u32).collect();
    }

    /// Ends all connections at once.
    pub(crate) fn drop_all(&mut self, board: &Board) {
        for subscriber in &mut self.list {
            if let Some(stream) = subscriber.stream.take() {
                sys::reset_on_close(stream.socket());
            }
            subscriber.state = State::Away;
        }
        self.opening = 0;
        board.counter(self.process, Count::Open).store(0, std::sync::atomic::Ordering::Relaxed);
    }

    /// Begins as many connections as may be opened at the same time.
    pub(crate) fn open_some(&mut self, plan: &Plan, board: &Board, epoll: &Epoll) {
        while self.opening < plan.opening_max {
            let Some(index) = self.waiting.pop_front() else { return };
            self.opening += 1;
            if let Err(error) = self.open(plan, epoll, index as usize) {
                crate::note(&format!("connecting: {error}"));
                self.fail(plan, board, index as usize, Fault::Closed);
            }
            self.check_open(plan, board, index as usize);
        }
    }

    fn open(&mut self, plan: &Plan, epoll: &Epoll, index: usize) -> io::Result<()> {
        let block = self.connections / FROM_ONE_ADDRESS;
        self.connections += 1;
        let [first, second] = self.network;
        // Up to 256 processes with 254 addresses each.
        let from = Ipv4Addr::new(first, second, self.process as u8, 1 + (block % 254) as u8);
        let socket = sys::connect(from, plan.subscribe_at)?;
        epoll.add(&socket, index as u64, false)?;
        let subscriber = &mut self.list[index];
        subscriber.since = sys::now();
        subscriber.state = State::Opening;
        subscriber.decoder = Decoder::new(plan.mode);
        let own = std::str::from_utf8(&subscriber.id).ok().filter(|id| !id.is_empty());
        let request = plan.subscription(subscriber.channel, own.or(plan.resume.as_deref()));
        subscriber.out = request.into_bytes();
        subscriber.told = false;
        subscriber.stream = Some(match &self.tls {
            Some(client) => Stream::Tls(client.connection(socket)?),
            None => Stream::Plain(socket),
        });
        self.list[index].flush(epoll, index as u64)
    }

    pub(crate) fn on_ready(&mut self, plan: &Plan, board: &Board, epoll: &Epoll, ready: Ready) {
        let index = ready.token as usize;
        let Some(subscriber) = self.list.get_mut(index) else { return };
        if !subscriber.out.is_empty() && subscriber.flush(epoll, ready.token).is_err() {
            return self.fail(plan, board, index, Fault::Closed);
        }
        self.check_open(plan, board, index);
        if ready.readable {
            self.read(plan, board, epoll, index);
            // Reading may have ended the TLS handshake for which the request waits.
            let subscriber = &mut self.list[index];
            if !subscriber.out.is_empty() && subscriber.flush(epoll, ready.token).is_err() {
                return self.fail(plan, board, index, Fault::Closed);
            }
            self.check_open(plan, board, index);
        }
    }

    /// Counts a subscription as open if it is: it has its head and its old messages. A poll is open when its request
    /// is written.
    fn check_open(&mut self, plan: &Plan, board: &Board, index: usize) {
        let subscriber = &mut self.list[index];
        let there = match plan.mode {
            Mode::LongPolling => subscriber.out.is_empty(),
            _ => subscriber.awaited == 0 && subscriber.decoder.is_open(),
        };
        if subscriber.state != State::Opening || !there {
            return;
        }
        subscriber.state = State::Open;
        self.opening -= 1;
        board.add(self.process, Count::Open, 1);
        if plan.mode != Mode::LongPolling {
            let took = sys::now().saturating_sub(subscriber.since);
            histogram::record(board.histogram(self.process), took);
        }
    }

    fn read(&mut self, plan: &Plan, board: &Board, epoll: &Epoll, index: usize) {
        loop {
            let subscriber = &mut self.list[index];
            let Some(stream) = &mut subscriber.stream else { return };
            let len = match stream.read(&mut self.buffer) {
                Ok(0) => return self.fail(plan, board, index, Fault::Closed),
                Ok(len) => len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => {
                    crate::note(&format!("reading: {error}"));
                    return self.fail(plan, board, index, Fault::Closed);
                }
            };
            let tls = matches!(stream, Stream::Tls(_));
            let lanes = plan.lanes as usize;
            let mut arrival = Arrival {
                plan,
                board,
                process: self.process,
                now: sys::now(),
                channel: subscriber.channel,
                next: &mut self.next[index * lanes..][..lanes],
                awaited: &mut subscriber.awaited,
                id: &mut subscriber.id,
                completed: &mut self.completed,
                deliveries: 0,
                answers: 0,
                fault: None,
            };
            let result =
                subscriber.decoder.feed(&self.buffer[..len], &mut self.scratch, &mut arrival);
            let Arrival { now, deliveries, answers, fault, .. } = arrival;
            if deliveries > 0 {
                board.add(self.process, Count::Reads, 1);
                board.add(self.process, Count::Deliveries, deliveries);
                let latest = board.counter(self.process, Count::Latest);
                latest.store(now, std::sync::atomic::Ordering::Relaxed);
            }
            if let Some((fault, text)) = fault {
                crate::note(&text);
                return self.fail(plan, board, index, fault);
            }
            if let Err(wrong) = result {
                let fault = if wrong == Wrong::Malformed { Fault::Corrupt } else { Fault::Closed };
                crate::note(&format!("a stream: {wrong:?}"));
                return self.fail(plan, board, index, fault);
            }
            self.check_open(plan, board, index);
            if answers > 0 && self.poll(plan, epoll, index).is_err() {
                return self.fail(plan, board, index, Fault::Closed);
            }
            // Less than there was room for: the socket is empty. TLS may hold more that the socket does not show.
            if !tls && len < self.buffer.len() {
                return;
            }
        }
    }

    /// The next poll, which goes on where the last answer ended.
    fn poll(&mut self, plan: &Plan, epoll: &Epoll, index: usize) -> io::Result<()> {
        let subscriber = &mut self.list[index];
        let id = std::str::from_utf8(&subscriber.id).unwrap_or("");
        subscriber.out = plan.subscription(subscriber.channel, Some(id)).into_bytes();
        subscriber.flush(epoll, index as u64)
    }

    fn fail(&mut self, plan: &Plan, board: &Board, index: usize, fault: Fault) {
        let subscriber = &mut self.list[index];
        let state = std::mem::replace(&mut subscriber.state, State::Away);
        if let Some(stream) = subscriber.stream.take() {
            sys::reset_on_close(stream.socket());
        }
        if state == State::Opening {
            self.opening -= 1;
            let retries = board.counter(self.process, Count::Retries);
            let most = RETRIES_MAX * self.list.len() as u64;
            if plan.retry && retries.load(std::sync::atomic::Ordering::Relaxed) < most {
                board.add(self.process, Count::Retries, 1);
                self.waiting.push_back(index as u32);
                return;
            }
        }
        board.fault(self.process, fault);
    }
}

impl Subscriber {
    /// Writes what is left of a request.
    fn flush(&mut self, epoll: &Epoll, token: u64) -> io::Result<()> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        match stream.write(&self.out) {
            Ok(len) => drop(self.out.drain(..len)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => (),
            Err(error) => return Err(error),
        }
        if self.out.is_empty() {
            self.out = Vec::new();
        }
        let tell = !self.out.is_empty() && stream.wants_room();
        if tell != self.told {
            self.told = tell;
            epoll.change(stream.socket(), token, tell)?;
        }
        Ok(())
    }
}

/// Takes the messages of one read.
struct Arrival<'a> {
    plan: &'a Plan,
    board: &'a Board,
    process: usize,
    now: u64,
    channel: u32,
    next: &'a mut [u32],
    awaited: &'a mut u32,
    id: &'a mut Vec<u8>,
    completed: &'a mut Vec<u32>,
    deliveries: u64,
    answers: u32,
    fault: Option<(Fault, String)>,
}

impl Sink for Arrival<'_> {
    fn answered(&mut self) {
        self.answers += 1;
    }

    fn message(&mut self, text: &[u8], id: &[u8]) {
        if self.fault.is_some() {
            return;
        }
        let plan = self.plan;
        let stamp = payload::parse(text, plan.size);
        let Some(stamp) = stamp.filter(|stamp| stamp.lane / plan.lanes == self.channel) else {
            let text = String::from_utf8_lossy(&text[..text.len().min(80)]);
            self.fault = Some((Fault::Corrupt, format!("no message of this channel: {text}")));
            return;
        };
        let next = &mut self.next[(stamp.lane % plan.lanes) as usize];
        if stamp.number != *next {
            let text = format!("lane {}: {} instead of {next}", stamp.lane, stamp.number);
            let fault = if stamp.number > *next { Fault::Lost } else { Fault::Repeated };
            self.fault = Some((fault, text));
            return;
        }
        *next += 1;
        self.deliveries += 1;
        if !id.is_empty() {
            self.id.clear();
            self.id.extend_from_slice(id);
        }
        if *self.awaited > 0 {
            *self.awaited -= 1;
            return;
        }
        histogram::record(self.board.histogram(self.process), self.now.saturating_sub(stamp.time));
        let audience = u64::from(plan.subscribers);
        if self.board.delivered(self.channel, stamp.lane, stamp.number, audience) {
            self.completed.push(self.channel);
        }
    }
}
