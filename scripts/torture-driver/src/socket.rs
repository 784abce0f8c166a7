//! Sockets that never block, and the loop that says which of them is ready.
//!
//! Readiness is edge-triggered: an actor that is told about its socket reads until nothing is left, or does not
//! on purpose (a slow reader).

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll;
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, ipproto, sockopt};

/// The owner of a socket, and which of its sockets it is: an event of an earlier one must not reach it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Token {
    pub(crate) actor: u32,
    pub(crate) serial: u32,
}

/// Finds the sockets that are ready.
pub(crate) struct Poller {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
    serial: u32,
}

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Self { epoll, events: Vec::with_capacity(1024), serial: 0 })
    }

    /// Waits for at most `limit`. Returns the tokens of the sockets that are ready.
    pub(crate) fn wait(&mut self, limit: Duration) -> io::Result<Vec<Token>> {
        let timeout =
            Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: i64::from(limit.subsec_nanos()) };
        self.events.clear();
        match epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(&mut self.events),
            Some(&timeout),
        ) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        }
        Ok(self
            .events
            .iter()
            .map(|event| {
                let word = event.data.u64();
                Token { actor: (word >> 32) as u32, serial: word as u32 }
            })
            .collect())
    }
}

/// The result of a read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Heard {
    Bytes(usize),
    Nothing,
    /// The peer has closed its side.
    End,
    /// Reset, refused, or otherwise gone.
    Broken,
}

/// Options of a socket.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Manner {
    /// Bytes of the receive buffer; 0: the system's choice.
    pub(crate) receive_buffer: usize,
}

/// A connection to nginx, with the bytes that are still to be sent.
pub(crate) struct Socket {
    stream: TcpStream,
    pub(crate) token: Token,
    out: Vec<u8>,
    sent: usize,
}

impl Socket {
    /// Begins to connect. Bytes given to [`Socket::send`] leave when the connection is made.
    pub(crate) fn connect(
        poller: &mut Poller,
        actor: u32,
        address: SocketAddr,
        manner: Manner,
    ) -> io::Result<Self> {
        let fd = net::socket_with(
            AddressFamily::INET,
            SocketType::STREAM,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            Some(ipproto::TCP),
        )?;
        if manner.receive_buffer > 0 {
            sockopt::set_socket_recv_buffer_size(&fd, manner.receive_buffer)?;
        }
        sockopt::set_tcp_nodelay(&fd, true)?;
        match net::connect(&fd, &address) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        poller.serial = poller.serial.wrapping_add(1);
        let token = Token { actor, serial: poller.serial };
        let word = u64::from(actor) << 32 | u64::from(poller.serial);
        epoll::add(
            &poller.epoll,
            &fd,
            epoll::EventData::new_u64(word),
            epoll::EventFlags::IN
                | epoll::EventFlags::OUT
                | epoll::EventFlags::RDHUP
                | epoll::EventFlags::ET,
        )?;
        Ok(Self { stream: TcpStream::from(fd), token, out: Vec::new(), sent: 0 })
    }

    /// Queues bytes and sends what the system takes now. False if the connection is broken.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> bool {
        self.out.extend_from_slice(bytes);
        self.flush()
    }

    /// Sends queued bytes. False if the connection is broken.
    pub(crate) fn flush(&mut self) -> bool {
        while self.sent < self.out.len() {
            match self.stream.write(&self.out[self.sent..]) {
                Ok(0) => return false,
                Ok(count) => self.sent += count,
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    // The same if it is not connected yet.
                    io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected => return true,
                    _ => return false,
                },
            }
        }
        self.out.clear();
        self.sent = 0;
        true
    }

    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Heard {
        loop {
            return match self.stream.read(buffer) {
                Ok(0) => Heard::End,
                Ok(count) => Heard::Bytes(count),
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => continue,
                    io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected => Heard::Nothing,
                    _ => Heard::Broken,
                },
            };
        }
    }

    /// Closes our sending half; bytes of the peer are still read.
    pub(crate) fn finish(&mut self) {
        // Nothing to do for a connection that is gone already.
        let _ = self.flush() && self.stream.shutdown(Shutdown::Write).is_ok();
    }

    /// Ends the connection by a reset. Nothing of it stays in the system.
    pub(crate) fn reset(self) {
        // If this fails, the close is an ordinary one, and the test only proves less.
        let _ = sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO));
    }
}
