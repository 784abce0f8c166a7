//! A bare server, for comparison: it does what any server has to do with the system, and next to nothing else.
//!
//! One thread, one epoll, no limits, no time outs, and only requests of this program. It exists in two forms. The
//! *bare* one makes one `send` for each message and subscriber, at once. The *merging* one first reads all
//! publishes that have arrived and then makes one `send` for each subscriber with all that is due to it. After
//! [`SLICE`] subscribers it looks for new publishes, as the module does.

use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use crate::decoder::Mode;
use crate::sys::{self, Epoll};

/// Subscribers that the merging server writes to before it looks for publishes.
const SLICE: usize = 100;

/// Messages that a channel keeps.
const STORED_MAX: usize = 100;

/// So many bytes are kept for subscribers whose sockets are full, before the ends of all others are looked at.
const TRIMMED_FROM: usize = 8 << 20;

const LISTENER: u64 = u64::MAX;

enum Role {
    /// It has not asked for anything yet, or it publishes.
    New,
    Subscriber {
        channel: usize,
        mode: Mode,
        /// Merging: place in the channel's bytes of this mode, from their very beginning.
        place: u64,
        /// Bare: what the socket did not take.
        rest: Vec<u8>,
    },
}

struct Connection {
    stream: TcpStream,
    role: Role,
    input: Vec<u8>,
    /// We are told when it can be written.
    told: bool,
}

/// The bytes that the subscribers of one channel and mode get.
#[derive(Default)]
struct Log {
    bytes: Vec<u8>,
    /// How many bytes were removed from the front.
    base: u64,
    subscribers: Vec<RawFd>,
    /// The next one to write to, round and round, and how many of them from there may have something due.
    next: usize,
    due: usize,
    /// Merging: how many wait for room in their sockets.
    stuck: usize,
    /// Polls that wait.
    polls: Vec<RawFd>,
}

#[derive(Default)]
struct Channel {
    /// By mode, in the order of [`Mode::ALL`].
    logs: [Log; 4],
    /// The latest messages, and the number of all.
    stored: VecDeque<Vec<u8>>,
    count: u64,
}

struct Floor {
    merges: bool,
    epoll: Epoll,
    listener: OwnedFd,
    connections: Vec<Option<Connection>>,
    channels: Vec<Channel>,
    names: HashMap<Vec<u8>, usize>,
    /// Channels with something to write.
    news: VecDeque<(usize, Mode)>,
    buffer: Vec<u8>,
}

/// Serves until it is killed.
pub(crate) fn serve(at: SocketAddrV4, merges: bool) -> io::Result<()> {
    let (epoll, listener) = (Epoll::new()?, sys::listen(at, 4096)?);
    epoll.add(&listener, LISTENER, false)?;
    let mut floor = Floor {
        merges,
        epoll,
        listener,
        connections: Vec::new(),
        channels: Vec::new(),
        names: HashMap::new(),
        news: VecDeque::new(),
        buffer: vec![0; 128 * 1024],
    };
    loop {
        floor.turn()?;
    }
}

fn rendered(mode: Mode, message: &[u8], number: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(message.len() + 100);
    match mode {
        Mode::Streaming => {
            bytes.extend_from_slice(format!("{:x}\r\n", message.len() + 1).as_bytes());
            bytes.extend_from_slice(message);
            bytes.extend_from_slice(b"\n\r\n");
        }
        Mode::EventSource => {
            bytes.extend_from_slice(format!("{:x}\r\ndata: ", message.len() + 8).as_bytes());
            bytes.extend_from_slice(message);
            bytes.extend_from_slice(b"\n\n\r\n");
        }
        Mode::WebSocket => {
            match message.len() {
                len @ 0..126 => bytes.extend_from_slice(&[0x81, len as u8]),
                len @ 126..65_536 => {
                    bytes.extend_from_slice(&[0x81, 126, (len >> 8) as u8, len as u8]);
                }
                len => {
                    bytes.extend_from_slice(&[0x81, 127]);
                    bytes.extend_from_slice(&(len as u64).to_be_bytes());
                }
            }
            bytes.extend_from_slice(message);
        }
        Mode::LongPolling => {
            bytes.extend_from_slice(
                format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nEtag: {number}\r\n\r\n",
                    message.len()
                )
                .as_bytes(),
            );
            bytes.extend_from_slice(message);
        }
    }
    bytes
}

impl Floor {
    fn turn(&mut self) -> io::Result<()> {
        let count = self.epoll.wait(if self.news.is_empty() { -1 } else { 0 })?;
        for index in 0..count {
            let ready = self.epoll.ready(index);
            if ready.token == LISTENER {
                // As nginx without multi_accept: one for each event.
                if let Ok(stream) = sys::accept(&self.listener) {
                    self.admit(stream)?;
                }
                continue;
            }
            let fd = ready.token as RawFd;
            if ready.writable {
                self.resume(fd);
            }
            if ready.readable && !self.read(fd) {
                self.close(fd);
            }
        }
        self.flush();
        Ok(())
    }

    fn admit(&mut self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let fd = stream.as_raw_fd() as usize;
        self.epoll.add(&stream, fd as u64, false)?;
        if self.connections.len() <= fd {
            self.connections.resize_with(fd + 1, || None);
        }
        let connection = Connection { stream, role: Role::New, input: Vec::new(), told: false };
        self.connections[fd] = Some(connection);
        Ok(())
    }

    fn close(&mut self, fd: RawFd) {
        let Some(connection) = self.connections.get_mut(fd as usize).and_then(Option::take) else {
            return;
        };
        if let Role::Subscriber { channel, mode, .. } = connection.role {
            let log = &mut self.channels[channel].logs[mode as usize];
            log.stuck = log.stuck.saturating_sub(usize::from(connection.told));
            log.polls.retain(|&other| other != fd);
            if let Some(place) = log.subscribers.iter().position(|&other| other == fd) {
                log.subscribers.swap_remove(place);
                // The order has changed.
                log.due = if log.due > 0 { log.subscribers.len() } else { 0 };
            }
        }
    }

    /// Reads and serves requests. False if the connection is to be closed.
    fn read(&mut self, fd: RawFd) -> bool {
        let Some(Some(connection)) = self.connections.get_mut(fd as usize) else { return true };
        let len = match connection.stream.read(&mut self.buffer) {
            Ok(0) => return false,
            Ok(len) => len,
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        };
        let mut input = std::mem::take(&mut connection.input);
        input.extend_from_slice(&self.buffer[..len]);
        let mut from = 0;
        while let Some(len) = self.serve(fd, &input[from..]) {
            from += len;
        }
        input.drain(..from);
        if let Some(Some(connection)) = self.connections.get_mut(fd as usize) {
            // An idle connection keeps no memory.
            connection.input = if input.is_empty() { Vec::new() } else { input };
        }
        true
    }

    /// Serves the request at the start of `bytes`. Its length, or `None` if it is not complete.
    fn serve(&mut self, fd: RawFd, bytes: &[u8]) -> Option<usize> {
        let head = bytes.windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4;
        let (line, headers) = bytes[..head].split_at(sys::find(b'\n', bytes)? + 1);
        let value = |name: &[u8]| {
            let mut lines = headers.split(|&byte| byte == b'\n');
            let line = lines.find_map(|line| line.strip_prefix(name))?;
            std::str::from_utf8(line).ok()?.trim().parse::<u64>().ok()
        };
        let id = &line[line.iter().position(|&byte| byte == b'=')? + 1..];
        let id = &id[..id.iter().position(|&byte| byte == b' ')?];
        if line.starts_with(b"POST ") {
            let len = value(b"Content-Length: ")? as usize;
            let message = bytes.get(head..head + len)?;
            let channel = self.channel(id);
            self.publish(fd, channel, message);
            return Some(head + len);
        }
        let channel = self.channel(id);
        let mode = match line.get(5)? {
            b's' => Mode::Streaming,
            b'e' => Mode::EventSource,
            b'w' => Mode::WebSocket,
            _ => Mode::LongPolling,
        };
        let place = value(b"If-None-Match: ");
        self.subscribe(fd, channel, mode, line.starts_with(b"GET /s10?"), place);
        Some(head)
    }

    fn channel(&mut self, id: &[u8]) -> usize {
        if let Some(&channel) = self.names.get(id) {
            return channel;
        }
        self.channels.push(Channel::default());
        self.names.insert(id.to_vec(), self.channels.len() - 1);
        self.channels.len() - 1
    }

    fn subscribe(
        &mut self,
        fd: RawFd,
        index: usize,
        mode: Mode,
        backlog: bool,
        place: Option<u64>,
    ) {
        let Some(Some(connection)) = self.connections.get_mut(fd as usize) else { return };
        let channel = &mut self.channels[index];
        let log = &mut channel.logs[mode as usize];
        let end = log.base + log.bytes.len() as u64;
        connection.role = Role::Subscriber { channel: index, mode, place: end, rest: Vec::new() };
        let mut bytes: Vec<u8> = match mode {
            Mode::WebSocket => {
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                  Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
                    .to_vec()
            }
            Mode::LongPolling => Vec::new(),
            _ => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(),
        };
        if mode == Mode::LongPolling {
            let newer = channel.count - place.unwrap_or(channel.count).min(channel.count);
            let stored = channel.stored.len();
            match channel.stored.get(stored.wrapping_sub(newer as usize)).filter(|_| newer > 0) {
                None => return log.polls.push(fd),
                Some(message) => bytes = rendered(mode, message, channel.count - newer + 1),
            }
        } else {
            log.subscribers.push(fd);
            if log.due > 0 {
                log.due = log.subscribers.len();
            }
            if backlog {
                for message in channel.stored.iter().rev().take(10).rev() {
                    bytes.extend_from_slice(&rendered(mode, message, 0));
                }
            }
        }
        write(&self.epoll, connection, &bytes);
    }

    fn publish(&mut self, fd: RawFd, index: usize, message: &[u8]) {
        let channel = &mut self.channels[index];
        channel.count += 1;
        if channel.stored.len() == STORED_MAX {
            channel.stored.pop_front();
        }
        channel.stored.push_back(message.to_vec());
        let mut told = 0;
        for mode in Mode::ALL {
            let log = &mut channel.logs[mode as usize];
            told += log.subscribers.len() + log.polls.len();
            if log.subscribers.is_empty() && log.polls.is_empty() {
                continue;
            }
            let bytes = rendered(mode, message, channel.count);
            if mode != Mode::LongPolling && self.merges {
                log.bytes.extend_from_slice(&bytes);
                if log.due == 0 {
                    self.news.push_back((index, mode));
                }
                log.due = log.subscribers.len();
                continue;
            }
            let polls = std::mem::take(&mut log.polls);
            for &fd in log.subscribers.iter().chain(&polls) {
                if let Some(Some(connection)) = self.connections.get_mut(fd as usize) {
                    write(&self.epoll, connection, &bytes);
                }
            }
        }
        let Some(Some(connection)) = self.connections.get_mut(fd as usize) else { return };
        let body = format!("{{\"published\":{},\"subscribers\":{told}}}\r\n", channel.count);
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: ";
        write(&self.epoll, connection, format!("{head}{}\r\n\r\n{body}", body.len()).as_bytes());
    }

    /// Merging: writes all that is due to the next [`SLICE`] subscribers.
    fn flush(&mut self) {
        let mut left = SLICE;
        while left > 0 {
            let Some(&(index, mode)) = self.news.front() else { return };
            let log = &mut self.channels[index].logs[mode as usize];
            while log.due > 0 && left > 0 {
                (log.due, left) = (log.due - 1, left - 1);
                log.next = if log.next + 1 < log.subscribers.len() { log.next + 1 } else { 0 };
                let Some(&fd) = log.subscribers.get(log.next) else { continue };
                if let Some(Some(connection)) = self.connections.get_mut(fd as usize) {
                    write_due(&self.epoll, connection, log);
                }
            }
            if log.due == 0 {
                self.news.pop_front();
                self.trim(index, mode);
            }
        }
    }

    /// Removes the bytes that all subscribers have.
    fn trim(&mut self, index: usize, mode: Mode) {
        let log = &mut self.channels[index].logs[mode as usize];
        let end = log.base + log.bytes.len() as u64;
        if log.stuck == 0 {
            log.base = end;
            log.bytes.clear();
        } else if log.bytes.len() > TRIMMED_FROM {
            let connections =
                log.subscribers.iter().flat_map(|&fd| self.connections.get(fd as usize));
            let places = connections.flatten().map(|connection| match connection.role {
                Role::Subscriber { place, .. } => place,
                Role::New => end,
            });
            let least = places.min().unwrap_or(end);
            log.bytes.drain(..(least - log.base) as usize);
            log.base = least;
        }
    }

    /// A socket has room again.
    fn resume(&mut self, fd: RawFd) {
        let Some(Some(connection)) = self.connections.get_mut(fd as usize) else { return };
        let _ = self.epoll.change(&connection.stream, fd as u64, false);
        connection.told = false;
        if let Role::Subscriber { channel, mode, rest, .. } = &mut connection.role {
            if self.merges {
                let log = &mut self.channels[*channel].logs[*mode as usize];
                log.stuck = log.stuck.saturating_sub(1);
                write_due(&self.epoll, connection, log);
            } else {
                let rest = std::mem::take(rest);
                write(&self.epoll, connection, &rest);
            }
        }
    }
}

/// Writes, and keeps what the socket does not take.
fn write(epoll: &Epoll, connection: &mut Connection, bytes: &[u8]) {
    if connection.told
        && let Role::Subscriber { rest, .. } = &mut connection.role
    {
        return rest.extend_from_slice(bytes);
    }
    // A broken connection is noticed when it is read.
    let sent = connection.stream.write(bytes).unwrap_or(0);
    if sent < bytes.len()
        && let Role::Subscriber { rest, .. } = &mut connection.role
    {
        rest.extend_from_slice(&bytes[sent..]);
        connection.told = true;
        let token = connection.stream.as_raw_fd() as u64;
        let _ = epoll.change(&connection.stream, token, true);
    }
}

/// Merging: writes the bytes of the log that the subscriber does not have.
fn write_due(epoll: &Epoll, connection: &mut Connection, log: &mut Log) {
    let Role::Subscriber { place, .. } = &mut connection.role else { return };
    let due = &log.bytes[(*place - log.base) as usize..];
    if due.is_empty() || connection.told {
        return;
    }
    let sent = connection.stream.write(due).unwrap_or(0);
    *place += sent as u64;
    if sent < due.len() {
        connection.told = true;
        log.stuck += 1;
        let token = connection.stream.as_raw_fd() as u64;
        let _ = epoll.change(&connection.stream, token, true);
    }
}
