//! A publisher: one publish after the other, each when the one before was answered.

use std::time::{Duration, Instant};

use crate::http::Response;
use crate::ledger::{ChannelId, Fate};
use crate::random::Random;
use crate::socket::{Heard, Manner, Socket, Token};
use crate::statistics::number;
use crate::world::{Actor, World};

/// The bytes that bodies may have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Alphabet {
    Any,
    /// No line ends, since an event stream cuts there.
    OneLine,
}

/// How a publisher behaves.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) channels: Vec<ChannelId>,
    pub(crate) alphabet: Alphabet,
    /// Lengths of most bodies, both included.
    pub(crate) lengths: (u64, u64),
    /// One of that many bodies has up to 64 KB; 0 for none.
    pub(crate) large_one_in: u64,
    /// One of that many bodies has 1 MB; 0 for none.
    pub(crate) huge_one_in: u64,
    /// Publishes that must be answered; without end, none begins any more when the world is closing.
    pub(crate) quota: u64,
    /// Pause between an answer and the next publish.
    pub(crate) rest: Duration,
    pub(crate) chunked_one_in: u64,
    /// Where it posts, each time one of these: `pub`, or `pub-live`, which does not store.
    pub(crate) locations: &'static [&'static str],
}

/// See the file's head.
pub(crate) struct Publisher {
    actor: u32,
    number: u32,
    plan: Plan,
    random: Random,
    /// Publishes begun.
    count: u64,
    answered: u64,
    socket: Option<Socket>,
    response: Response,
    open: Option<(ChannelId, u32)>,
    next_at: Instant,
}

impl Publisher {
    pub(crate) fn new(actor: u32, number: u32, plan: Plan, world: &mut World) -> Self {
        Self {
            actor,
            number,
            plan,
            random: world.random.fork(),
            count: 0,
            answered: 0,
            socket: None,
            response: Response::new(),
            open: None,
            next_at: world.now,
        }
    }

    fn body(&mut self) -> Vec<u8> {
        let (random, plan) = (&mut self.random, &self.plan);
        let length = if plan.huge_one_in > 0 && random.one_in(plan.huge_one_in) {
            1 << 20
        } else if plan.large_one_in > 0 && random.one_in(plan.large_one_in) {
            random.between(plan.lengths.1, 64 << 10)
        } else {
            random.between(plan.lengths.0, plan.lengths.1)
        };
        let mut body = vec![0; length as usize];
        random.fill(&mut body);
        if plan.alphabet == Alphabet::OneLine {
            for byte in &mut body {
                if matches!(byte, b'\r' | b'\n') {
                    *byte = b'~';
                }
            }
        }
        body
    }

    fn publish(&mut self, world: &mut World) {
        let channel = self.plan.channels[self.random.index(self.plan.channels.len())];
        let body = self.body();
        self.count += 1;
        let event_id = format!("p{}-{}", self.number, self.count);
        let name = &world.ledger.channels[channel].name;
        let location = self.plan.locations[self.random.index(self.plan.locations.len())];
        let mut request = format!(
            "POST /{location}?id={name} HTTP/1.1\r\nHost: torture\r\nEvent-Id: {event_id}\r\n"
        )
        .into_bytes();
        if self.plan.chunked_one_in > 0 && self.random.one_in(self.plan.chunked_one_in) {
            request.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
            let piece = self.random.between(1, 5000) as usize;
            for chunk in body.chunks(piece) {
                request.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                request.extend_from_slice(chunk);
                request.extend_from_slice(b"\r\n");
            }
            request.extend_from_slice(b"0\r\n\r\n");
        } else {
            request.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
            request.extend_from_slice(&body);
        }
        self.open = Some((channel, world.ledger.begin(channel, event_id, &body)));
        self.response = Response::new();
        if let Some(socket) = &mut self.socket
            && !socket.send(&request)
        {
            self.lose(world);
        }
    }

    /// The connection is gone; it is unknown whether the open publish took effect.
    fn lose(&mut self, world: &mut World) {
        self.socket = None;
        if self.open.take().is_some() {
            world.figures.broken += 1;
        }
        self.next_at = world.now + Duration::from_millis(self.random.between(1, 30));
    }

    fn answered(&mut self, world: &mut World) {
        let Some((channel, publish)) = self.open.take() else { return };
        self.answered += 1;
        match self.response.status {
            200 => {
                let text = String::from_utf8_lossy(&self.response.body);
                let told = number(&text, "published_messages").unwrap_or(0);
                world.ledger.end(channel, publish, Fate::Acknowledged);
                let channel = &mut world.ledger.channels[channel];
                channel.told = channel.told.max(told);
            }
            500 if world.may_refuse => {
                world.ledger.end(channel, publish, Fate::Refused);
                world.figures.refused += 1;
            }
            status => world.odd(&format!("publisher {}: status {status}", self.number)),
        }
        if !self.response.keeps_alive() {
            self.socket = None;
        }
        self.next_at = world.now + self.plan.rest;
        self.go_on(world);
    }

    fn wants_more(&self, world: &World) -> bool {
        self.answered < self.plan.quota && !(world.closing && self.plan.quota == u64::MAX)
    }

    fn go_on(&mut self, world: &mut World) {
        if self.open.is_some() || world.now < self.next_at || !self.wants_more(world) {
            return;
        }
        if self.socket.is_none() {
            match world.connect(self.actor, Manner::default()) {
                Ok(socket) => self.socket = Some(socket),
                Err(_) => {
                    self.next_at = world.now + Duration::from_millis(50);
                    return;
                }
            }
        }
        self.publish(world);
    }
}

impl Actor for Publisher {
    fn ready(&mut self, world: &mut World, token: Token) {
        let mut scratch = std::mem::take(&mut world.scratch);
        while let Some(socket) = self.socket.as_mut().filter(|socket| socket.token == token) {
            if !socket.flush() {
                self.lose(world);
                break;
            }
            match socket.read(&mut scratch) {
                Heard::Nothing => break,
                Heard::End | Heard::Broken => self.lose(world),
                Heard::Bytes(count) => match self.response.feed(&scratch[..count]) {
                    Ok(_) if self.open.is_none() => {
                        world.odd(&format!("publisher {}: bytes without a request", self.number));
                        self.lose(world);
                    }
                    Ok(_) if self.response.is_done() => self.answered(world),
                    Ok(_) => {}
                    Err(broken) => {
                        world.odd(&format!("publisher {}: {broken}", self.number));
                        self.lose(world);
                    }
                },
            }
        }
        world.scratch = scratch;
    }

    fn tick(&mut self, world: &mut World) {
        self.go_on(world);
    }

    fn publishes(&self) -> bool {
        true
    }

    fn is_done(&self, world: &World) -> bool {
        self.open.is_none() && !self.wants_more(world)
    }

    fn describe(&self) -> String {
        format!("publisher {}: {} of {}", self.number, self.answered, self.plan.quota)
    }
}
