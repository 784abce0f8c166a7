//! A client that resets its connection at any point of its request or of the answer.

use std::time::{Duration, Instant};

use crate::frames::UPGRADE;
use crate::ledger::ChannelId;
use crate::random::Random;
use crate::socket::{Manner, Socket, Token};
use crate::world::{Actor, World};

/// See the file's head.
pub(crate) struct Vanisher {
    actor: u32,
    random: Random,
    channels: Vec<ChannelId>,
    count: u64,
    socket: Option<Socket>,
    /// It reads its answer until it leaves.
    reads: bool,
    next_at: Instant,
}

impl Vanisher {
    pub(crate) fn new(actor: u32, channels: &[ChannelId], world: &mut World) -> Self {
        Self {
            actor,
            random: world.random.fork(),
            channels: channels.to_vec(),
            count: 0,
            socket: None,
            reads: false,
            next_at: world.now,
        }
    }

    fn request(&mut self, world: &mut World) -> Vec<u8> {
        let channel = self.channels[self.random.index(self.channels.len())];
        let name = world.ledger.channels[channel].name.clone();
        let get = |path: &str, more: &str| {
            format!("GET /{path}/{name}.b3 HTTP/1.1\r\nHost: torture\r\n{more}\r\n").into_bytes()
        };
        match self.random.index(8) {
            0..=2 => {
                self.count += 1;
                let event_id = format!("v{}.{}-1", self.actor, self.count);
                let length = match self.random.one_in(5) {
                    true => self.random.between(1000, 200_000),
                    false => self.random.between(1, 1000),
                };
                let mut body = vec![0; length as usize];
                self.random.fill(&mut body);
                for byte in body.iter_mut().filter(|byte| matches!(**byte, b'\r' | b'\n')) {
                    *byte = b'~';
                }
                let mut request = format!(
                    "POST /pub?id={name} HTTP/1.1\r\nHost: torture\r\nEvent-Id: {event_id}\r\n\
                     Content-Length: {length}\r\n\r\n"
                )
                .into_bytes();
                request.extend_from_slice(&body);
                world.ledger.begin(channel, event_id, &body);
                request
            }
            3 => get("stream", ""),
            4 => get("events", ""),
            5 => get("long-poll", "If-Modified-Since: Thu, 01 Jan 1970 00:00:01 GMT\r\n"),
            6 => get("socket", UPGRADE),
            _ => b"GET /stats?id=ALL HTTP/1.1\r\nHost: torture\r\n\r\n".to_vec(),
        }
    }
}

impl Actor for Vanisher {
    fn ready(&mut self, world: &mut World, token: Token) {
        let reads = self.reads;
        let Some(socket) = self.socket.as_mut().filter(|socket| socket.token == token) else {
            return;
        };
        if socket.flush() && reads {
            // A single read, so that some bytes are unread when the reset comes.
            let _ = socket.read(&mut world.scratch);
        }
    }

    fn tick(&mut self, world: &mut World) {
        if world.now < self.next_at {
            return;
        }
        self.next_at = world.now + Duration::from_millis(self.random.between(0, 200));
        if let Some(socket) = self.socket.take() {
            world.figures.vanished += 1;
            return socket.reset();
        }
        if world.closing {
            return;
        }
        self.reads = self.random.one_in(2);
        let request = self.request(world);
        let end = match self.random.one_in(3) {
            true => request.len(),
            false => self.random.index(request.len() + 1),
        };
        if let Ok(mut socket) = world.connect(self.actor, Manner::default()) {
            socket.send(&request[..end]);
            self.socket = Some(socket);
        }
    }

    fn is_done(&self, _world: &World) -> bool {
        self.socket.is_none()
    }

    fn describe(&self) -> String {
        format!("vanisher {}: {}", self.actor, self.count)
    }
}
