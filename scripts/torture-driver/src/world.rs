//! The state that all actors share, and the loop that runs them.

use std::io;
use std::time::{Duration, Instant};

use crate::ledger::{ChannelId, Ledger, Wrong};
use crate::random::Random;
use crate::server::Nginx;
use crate::socket::{Manner, Poller, Socket, Token};

/// A client with at most one connection. It decides what to do when the connection is ready.
pub(crate) trait Actor {
    /// Its socket with this token is ready.
    fn ready(&mut self, world: &mut World, token: Token);
    /// Some time has passed.
    fn tick(&mut self, world: &mut World);
    /// It has nothing more to do and waits for nothing.
    fn is_done(&self, world: &World) -> bool;
    /// It has, or may soon have, a publish under way.
    fn publishes(&self) -> bool {
        false
    }
    /// It is a subscriber of the channel, now or soon, and counted as one.
    fn counts_in(&self, _channel: ChannelId) -> bool {
        false
    }
    /// It is attached, and the server has confirmed it.
    fn is_attached(&self) -> bool {
        false
    }
    /// The run is over and everything is known: judges what could not be judged before.
    fn finish(&mut self, _world: &mut World) {}
    /// Its kind and its state, for a report.
    fn describe(&self) -> String;
}

/// Counters of the run.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) reconnects: u64,
    pub(crate) refused: u64,
    pub(crate) resumed: u64,
    pub(crate) goodbyes: u64,
    pub(crate) vanished: u64,
    pub(crate) broken: u64,
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) mixed: u64,
    pub(crate) disorder: u64,
    pub(crate) cut: u64,
    /// Other faults: wrong status codes, bytes that are not HTTP.
    pub(crate) odd: u64,
}

impl Figures {
    pub(crate) fn findings(&self) -> u64 {
        self.lost + self.doubled + self.mixed + self.disorder + self.cut + self.odd
    }
}

/// Number of findings that are printed; the others are only counted.
const PRINTED_MAX: u64 = 30;

/// The state that actors share.
pub(crate) struct World {
    pub(crate) nginx: Nginx,
    pub(crate) ledger: Ledger,
    pub(crate) random: Random,
    pub(crate) figures: Figures,
    pub(crate) now: Instant,
    pub(crate) began: Instant,
    /// Connections that broke before their worker's death was known: (worker, actor, time).
    pub(crate) cuts: Vec<(Option<i32>, String)>,
    /// Publishers stop.
    pub(crate) closing: bool,
    /// The zone may be full, or there may be no descriptors: refusals are allowed.
    pub(crate) may_refuse: bool,
    pub(crate) scratch: Vec<u8>,
    poller: Poller,
    printed: u64,
}

impl World {
    pub(crate) fn new(nginx: Nginx, seed: u64) -> io::Result<Self> {
        let now = Instant::now();
        Ok(Self {
            nginx,
            ledger: Ledger::default(),
            random: Random::new(seed),
            figures: Figures::default(),
            now,
            began: now,
            cuts: Vec::new(),
            closing: false,
            may_refuse: false,
            scratch: vec![0; 256 * 1024],
            poller: Poller::new()?,
            printed: 0,
        })
    }

    pub(crate) fn connect(&mut self, actor: u32, manner: Manner) -> io::Result<Socket> {
        Socket::connect(&mut self.poller, actor, self.nginx.address(), manner)
    }

    /// Something is wrong with a message.
    pub(crate) fn wrong(&mut self, kind: Wrong, text: &str) {
        match kind {
            Wrong::Lost => self.figures.lost += 1,
            Wrong::Doubled => self.figures.doubled += 1,
            Wrong::Mixed => self.figures.mixed += 1,
            Wrong::Disorder => self.figures.disorder += 1,
        }
        self.print(&format!("{kind:?}"), text);
    }

    /// Something else is wrong.
    pub(crate) fn odd(&mut self, text: &str) {
        self.figures.odd += 1;
        self.print("Odd", text);
    }

    pub(crate) fn cut(&mut self, text: &str) {
        self.figures.cut += 1;
        self.print("Cut", text);
    }

    fn print(&mut self, kind: &str, text: &str) {
        self.printed += 1;
        if self.printed <= PRINTED_MAX {
            let at = self.began.elapsed().as_secs_f64();
            eprintln!("finding at {at:.3} s: {kind}: {text}");
        }
    }

    /// A connection ended without an orderly end. Judged when it is known which workers were killed.
    pub(crate) fn broke(&mut self, worker: Option<i32>, who: String) {
        self.figures.broken += 1;
        self.cuts.push((worker, who));
    }

    /// The broken connections whose workers were not killed.
    pub(crate) fn judge_cuts(&mut self) {
        for (worker, who) in std::mem::take(&mut self.cuts) {
            // The answer of a WebSocket does not name the worker.
            let excused = match worker {
                Some(pid) => self.nginx.has_killed(pid),
                None => self.nginx.kills() > 0,
            };
            if !excused {
                self.cut(&format!("{who}: no goodbye, and the worker was not killed"));
            }
        }
    }
}

/// The actors and their world.
pub(crate) struct Stage {
    pub(crate) world: World,
    pub(crate) actors: Vec<Option<Box<dyn Actor>>>,
    ticked: Instant,
}

/// How often actors look at the clock.
const TICK: Duration = Duration::from_millis(10);

impl Stage {
    pub(crate) fn new(world: World) -> Self {
        let ticked = world.now;
        Self { world, actors: Vec::new(), ticked }
    }

    /// The number that the next actor gets.
    pub(crate) fn next_actor(&self) -> u32 {
        self.actors.len() as u32
    }

    pub(crate) fn add(&mut self, actor: impl Actor + 'static) {
        self.actors.push(Some(Box::new(actor)));
    }

    /// One turn: what is ready, and the clock.
    pub(crate) fn turn(&mut self) -> io::Result<()> {
        for token in self.world.poller.wait(TICK)? {
            self.world.now = Instant::now();
            if let Some(Some(actor)) = self.actors.get_mut(token.actor as usize) {
                actor.ready(&mut self.world, token);
            }
        }
        self.world.now = Instant::now();
        if self.world.now - self.ticked >= TICK {
            self.ticked = self.world.now;
            for actor in self.actors.iter_mut().flatten() {
                actor.tick(&mut self.world);
            }
        }
        Ok(())
    }

    /// Runs turns until `done`, or until nothing has changed for `patience`, which gives false.
    pub(crate) fn run_until(
        &mut self,
        patience: Duration,
        progress: impl Fn(&Self) -> u64,
        mut done: impl FnMut(&mut Self) -> bool,
    ) -> io::Result<bool> {
        let mut last = (progress(self), Instant::now());
        loop {
            self.turn()?;
            if done(self) {
                return Ok(true);
            }
            let now = progress(self);
            if now != last.0 {
                last = (now, Instant::now());
            } else if last.1.elapsed() > patience {
                return Ok(false);
            }
        }
    }
}
