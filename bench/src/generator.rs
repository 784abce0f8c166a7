//! The load generator: subscribers and publishers in one process, or in several that share a board.
//!
//! The first process is the one that measures. It has the publishers and its share of the subscribers. The others are
//! forks of it, which follow its orders.

use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::board::{Board, Count, Fault};
use crate::plan::{Pace, Plan};
use crate::publisher::{self, Publishers};
use crate::subscriber::Subscribers;
use crate::sys::{self, Epoll, Fork};

/// The token of the bell.
const BELL: u64 = u64::MAX;

/// How long a process waits before it looks for orders.
const LOOK_MSEC: i32 = 20;

/// Runs of this program so far. Each has source addresses of its own, so that no port is in use.
static RUNS: AtomicU32 = AtomicU32::new(0);

const OPEN_ALL: u64 = 1;
const DROP_ALL: u64 = 2;

/// One process of the generator.
struct Process {
    number: usize,
    epoll: Epoll,
    subscribers: Subscribers,
    publishers: Option<Publishers>,
}

impl Process {
    fn new(plan: &Plan, board: &Board, number: usize, run: u32) -> io::Result<Self> {
        if let Some(cpus) = plan.processes.get(number).filter(|cpus| !cpus.is_empty()) {
            sys::pin(cpus)?;
        }
        let epoll = Epoll::new()?;
        let publishers = if number == 0 {
            epoll.add(&board.bell, BELL, false)?;
            Some(Publishers::new(plan, board, &epoll, run)?)
        } else {
            None
        };
        Ok(Self { number, epoll, subscribers: Subscribers::new(plan, number, run)?, publishers })
    }

    fn carry_out(&mut self, plan: &Plan, board: &Board, order: u64) {
        match order & 3 {
            OPEN_ALL => self.subscribers.open_all(plan, board),
            DROP_ALL => self.subscribers.drop_all(board),
            _ => (),
        }
        board.counter(self.number, Count::Done).store(order, Relaxed);
    }

    /// Waits for events, no longer than that, and handles them.
    fn turn(&mut self, plan: &Plan, board: &Board, mut timeout_msec: i32) -> io::Result<()> {
        self.subscribers.open_some(plan, board, &self.epoll);
        if let Some(publishers) = &mut self.publishers
            && let Some(soon) = publishers.pump(plan, board, &self.epoll)
        {
            // The system waits for whole milliseconds. The last one is spent looking.
            timeout_msec = timeout_msec.min((soon / 1_000_000) as i32);
        }
        let count = self.epoll.wait(timeout_msec)?;
        for index in 0..count {
            let ready = self.epoll.ready(index);
            if ready.token == BELL {
                board.bell.silence();
                self.publishers.iter_mut().for_each(Publishers::unpark_all);
            } else if ready.token >= publisher::TOKENS {
                let Some(publishers) = &mut self.publishers else { continue };
                publishers.on_ready(plan, board, &self.epoll, ready);
            } else {
                self.subscribers.on_ready(plan, board, &self.epoll, ready);
            }
        }
        let completed = self.subscribers.completed.drain(..);
        match &mut self.publishers {
            Some(publishers) => completed.for_each(|channel| publishers.unpark(channel)),
            None if completed.len() > 0 => board.bell.ring(),
            None => (),
        }
        Ok(())
    }
}

/// What a generator found out.
#[derive(Debug, Clone)]
pub(crate) struct Failure(pub(crate) String);

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self(format!("generator: {error}"))
    }
}

/// A generator at work.
pub(crate) struct Generator {
    // Ended first, since they use the board.
    forks: Vec<Fork>,
    process: Process,
    pub(crate) board: Board,
    pub(crate) plan: Plan,
    orders: u64,
}

impl Generator {
    pub(crate) fn new(plan: Plan) -> Result<Self, Failure> {
        let run = RUNS.fetch_add(1, Ordering::Relaxed);
        let board = Board::new(
            plan.processes.len(),
            plan.channels as usize,
            plan.all_lanes() as usize,
            plan.window as usize,
        )?;
        let mut forks = Vec::new();
        for number in 1..plan.processes.len() {
            forks.push(Fork::start(|| {
                let parent = || follow(&plan, &board, number, run);
                match parent() {
                    Ok(()) => 0,
                    Err(error) => {
                        crate::note(&format!("process {number}: {error}"));
                        board.fault(number, Fault::Closed);
                        1
                    }
                }
            })?);
        }
        let process = Process::new(&plan, &board, 0, run)?;
        Ok(Self { forks, process, board, plan, orders: 0 })
    }

    /// The process numbers of the other processes.
    pub(crate) fn forks(&self) -> Vec<i32> {
        self.forks.iter().map(Fork::pid).collect()
    }

    /// Subscriptions that are open.
    pub(crate) fn open(&self) -> u64 {
        self.board.sum(Count::Open)
    }

    fn order(&mut self, what: u64) -> Result<(), Failure> {
        self.orders += 1;
        let order = self.orders << 2 | what;
        self.board.give_order(order);
        self.process.carry_out(&self.plan, &self.board, order);
        let everybody = self.plan.processes.len();
        self.until(Duration::from_secs(10), "following an order", |it| {
            (0..everybody).all(|it_is| it.board.counter(it_is, Count::Done).load(Relaxed) == order)
        })
    }

    /// Works until `done`. It is a failure if that takes longer than `limit`, or if anything is wrong meanwhile.
    fn until(
        &mut self,
        limit: Duration,
        doing: &str,
        mut done: impl FnMut(&mut Self) -> bool,
    ) -> Result<(), Failure> {
        let end = sys::now() + limit.as_nanos() as u64;
        loop {
            if let Some(verdict) = self.board.verdict() {
                return Err(Failure(format!("{verdict} while {doing}")));
            }
            if done(self) {
                return Ok(());
            }
            if sys::now() > end {
                return Err(Failure(format!("{doing} took longer than {} s", limit.as_secs())));
            }
            self.process.turn(&self.plan, &self.board, LOOK_MSEC)?;
        }
    }

    /// Opens all subscriptions. `tell` gets the number of open ones from time to time.
    pub(crate) fn open_all(
        &mut self,
        limit: Duration,
        mut tell: impl FnMut(u64),
    ) -> Result<(), Failure> {
        self.order(OPEN_ALL)?;
        let all = self.plan.all_subscribers() as u64;
        self.until(limit, "subscribing", |it| {
            let open = it.open();
            tell(open);
            open >= all
        })?;
        self.publishers().audience = all > 0;
        Ok(())
    }

    /// Ends all subscriptions at once.
    pub(crate) fn drop_all(&mut self) -> Result<(), Failure> {
        self.publishers().audience = false;
        self.order(DROP_ALL)
    }

    fn publishers(&mut self) -> &mut Publishers {
        // The first process always has them.
        self.process.publishers.as_mut().expect("the first process has the publishers")
    }

    /// Publishes for that long.
    pub(crate) fn publish_for(&mut self, pace: Pace, time: Duration) -> Result<(), Failure> {
        self.publishers().start(pace, u64::MAX);
        let end = sys::now() + time.as_nanos() as u64;
        self.until(time + Duration::from_secs(10), "publishing", |_| sys::now() >= end)?;
        self.publishers().stop();
        Ok(())
    }

    /// Publishes that many messages.
    pub(crate) fn publish(
        &mut self,
        pace: Pace,
        messages: u64,
        limit: Duration,
    ) -> Result<(), Failure> {
        self.publishers().start(pace, messages);
        self.until(limit, "publishing", |it| it.publishers().finished())
    }

    /// Waits until all that was published has arrived.
    pub(crate) fn drain(&mut self, limit: Duration) -> Result<(), Failure> {
        self.until(limit, "waiting for the last messages", |it| {
            let Some(publishers) = &it.process.publishers else { return true };
            publishers.drained(&it.board)
        })
    }

    /// Works for that long without publishing, to see what should not come.
    pub(crate) fn listen(&mut self, time: Duration) -> Result<(), Failure> {
        let end = sys::now() + time.as_nanos() as u64;
        self.until(time + Duration::from_secs(10), "listening", |_| sys::now() >= end)
    }

    pub(crate) fn acknowledged(&mut self) -> u64 {
        self.publishers().acknowledged()
    }

    /// The id with which the first subscriber of this process would resume.
    pub(crate) fn resume_id(&self) -> Option<String> {
        self.process.subscribers.resume_id()
    }
}

/// The life of another process than the first.
fn follow(plan: &Plan, board: &Board, number: usize, run: u32) -> io::Result<()> {
    let mut process = Process::new(plan, board, number, run)?;
    let mut last = 0;
    loop {
        let order = board.order();
        if order != last {
            last = order;
            process.carry_out(plan, board, order);
        }
        process.turn(plan, board, LOOK_MSEC)?;
    }
}
