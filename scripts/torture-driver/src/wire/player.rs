//! Plays batches against a server: connects, sends, reads and leaves as their steps say.

use std::io;
use std::mem;
use std::time::{Duration, Instant};

use crate::server::Nginx;
use crate::socket::{Heard, Manner, Poller, Socket};

use super::judge;
use super::locations::MARKED;
use super::script::{Batch, Manners, Step};

/// Time without bytes after which nothing more is expected.
const SILENCE: Duration = Duration::from_millis(2);
/// Longest time for which one step waits: some answers come by a timer, some never.
const WAIT_MAX: Duration = Duration::from_millis(20);
/// Connections that stay open during later batches.
const LINGERING_MAX: usize = 60;
/// Bytes of answers that are judged; more bytes would show nothing new.
const JUDGED_MAX: usize = 256 * 1024;
/// Receive buffer of a peer that does not read.
const DEAF_BUFFER: usize = 2048;

/// One connection, with all bytes that went over it.
struct Peer {
    socket: Option<Socket>,
    manners: Manners,
    sent: Vec<u8>,
    got: Vec<u8>,
    /// Bytes that have arrived, also those that are not kept.
    heard: u64,
}

impl Peer {
    /// Sends and reads as much as possible.
    fn pump(&mut self, scratch: &mut [u8]) {
        let Some(socket) = &mut self.socket else { return };
        // A server that has closed its side may have answered before.
        let _ = socket.flush();
        if self.manners == Manners::Deaf {
            return;
        }
        loop {
            match socket.read(scratch) {
                Heard::Bytes(count) => {
                    self.heard += count as u64;
                    let room = JUDGED_MAX - self.got.len();
                    self.got.extend_from_slice(&scratch[..count.min(room)]);
                }
                Heard::Nothing => return,
                Heard::End | Heard::Broken => return self.socket = None,
            }
        }
    }
}

/// See the file's head.
pub(crate) struct Player {
    poller: Poller,
    /// By the number of their events: those of this batch, then those that stay open.
    peers: Vec<Option<Peer>>,
    lingering: Vec<usize>,
    scratch: Vec<u8>,
    marks: u64,
    complaints: Vec<String>,
    pub(crate) connections: u64,
}

impl Player {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            poller: Poller::new()?,
            peers: Vec::new(),
            lingering: Vec::new(),
            scratch: vec![0; 64 * 1024],
            marks: 0,
            complaints: Vec::new(),
            connections: 0,
        })
    }

    /// Plays one batch. Returns the fault in the answers, if there is one.
    pub(crate) fn play(&mut self, nginx: &Nginx, batch: &Batch) -> Result<Vec<String>, String> {
        let tell = |error: io::Error| error.to_string();
        // Where the batch's connections are among the peers.
        let mut mine: Vec<(usize, usize)> = Vec::new();
        for step in &batch.steps {
            let place =
                |at: usize| mine.iter().find(|(name, _)| *name == at).map(|(_, slot)| *slot);
            match step {
                Step::Open(at, manners) => {
                    let slot = self.open(nginx, *manners).map_err(tell)?;
                    mine.push((*at, slot));
                }
                Step::Send(at, bytes) => self.send(place(*at), bytes),
                Step::Publish(channel) => self.publish(nginx, MARKED[channel % MARKED.len()])?,
                Step::Hear(at) => self.hear(place(*at)).map_err(tell)?,
                Step::Pause => self.pause().map_err(tell)?,
                Step::Shut(at) => {
                    if let Some(peer) = self.peer(place(*at)) {
                        peer.socket.as_mut().map(Socket::finish);
                    }
                }
                Step::Reset(at) | Step::Close(at) => {
                    self.end(place(*at), matches!(step, Step::Reset(_)));
                    mine.retain(|(name, _)| name != at);
                }
                Step::Leave(at) => self.lingering.extend(place(*at)),
            }
        }
        self.pause().map_err(tell)?;
        for (_, slot) in mine {
            if !self.lingering.contains(&slot) {
                self.end(Some(slot), false);
            }
        }
        let too_many = self.lingering.len().saturating_sub(LINGERING_MAX);
        for slot in self.lingering.drain(..too_many).collect::<Vec<_>>() {
            self.end(Some(slot), false);
        }
        Ok(mem::take(&mut self.complaints))
    }

    /// Ends all connections that stayed open. Returns the faults in their answers.
    pub(crate) fn leave(&mut self) -> Vec<String> {
        for slot in mem::take(&mut self.lingering) {
            self.end(Some(slot), false);
        }
        mem::take(&mut self.complaints)
    }

    fn peer(&mut self, slot: Option<usize>) -> Option<&mut Peer> {
        self.peers.get_mut(slot?)?.as_mut()
    }

    fn open(&mut self, nginx: &Nginx, manners: Manners) -> io::Result<usize> {
        let free = self.peers.iter().position(Option::is_none);
        let slot = free.unwrap_or(self.peers.len());
        let deaf = manners == Manners::Deaf;
        let manner = Manner { receive_buffer: if deaf { DEAF_BUFFER } else { 0 } };
        let socket = Socket::connect(&mut self.poller, slot as u32, nginx.address(), manner)?;
        let (sent, got) = (Vec::new(), Vec::new());
        let peer = Peer { socket: Some(socket), manners, sent, got, heard: 0 };
        self.connections += 1;
        match free {
            Some(slot) => self.peers[slot] = Some(peer),
            None => self.peers.push(Some(peer)),
        }
        Ok(slot)
    }

    fn send(&mut self, slot: Option<usize>, bytes: &[u8]) {
        let Some(peer) = self.peer(slot) else { return };
        peer.sent.extend_from_slice(bytes);
        if let Some(socket) = &mut peer.socket {
            // If sending fails, reading will show why.
            let _ = socket.send(bytes);
        }
    }

    /// If the zone is full or a limit reached, there is one message less.
    fn publish(&mut self, nginx: &Nginx, channel: &str) -> Result<(), String> {
        self.marks += 1;
        let text = judge::mark(channel, self.marks);
        nginx.ask("POST", &format!("/pub?id={channel}"), text.as_bytes()).map(|_| ())
    }

    /// Reads what has arrived, for at most that long. False if nothing came.
    fn turn(&mut self, limit: Duration) -> io::Result<bool> {
        let tokens = self.poller.wait(limit)?;
        for token in &tokens {
            let peer = self.peers.get_mut(token.actor as usize).and_then(Option::as_mut);
            let same = |socket: &Socket| socket.token == *token;
            if let Some(peer) = peer.filter(|peer| peer.socket.as_ref().is_some_and(same)) {
                peer.pump(&mut self.scratch);
            }
        }
        Ok(!tokens.is_empty())
    }

    fn pause(&mut self) -> io::Result<()> {
        let end = Instant::now() + WAIT_MAX;
        while self.turn(SILENCE)? && Instant::now() < end {}
        Ok(())
    }

    fn hear(&mut self, slot: Option<usize>) -> io::Result<()> {
        let end = Instant::now() + WAIT_MAX;
        let before = self.peer(slot).map_or(0, |peer| peer.heard);
        let waits = |player: &mut Self| {
            let peer = player.peer(slot).filter(|peer| peer.manners != Manners::Deaf);
            peer.is_some_and(|peer| peer.socket.is_some() && peer.heard == before)
        };
        while waits(self) && Instant::now() < end {
            self.turn(SILENCE)?;
        }
        Ok(())
    }

    /// Ends a connection, and judges what came over it.
    fn end(&mut self, slot: Option<usize>, reset: bool) {
        let Some(slot) = slot else { return };
        let Some(mut peer) = self.peers.get_mut(slot).and_then(Option::take) else { return };
        peer.pump(&mut self.scratch);
        if let Some(socket) = peer.socket.take()
            && reset
        {
            socket.reset();
        }
        let complaint = judge::complaint(peer.manners, &peer.sent, &peer.got);
        self.complaints.extend(
            complaint.map(|what| format!("{what}; it had sent {}", peer.sent.escape_ascii())),
        );
    }
}
