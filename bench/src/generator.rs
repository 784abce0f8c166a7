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

/// Why a run does not count.
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
                let (open, all) = (self.open(), self.plan.all_subscribers());
                return Err(Failure(format!(
                    "{doing} took longer than {} s, with {open} of {all} subscriptions open",
                    limit.as_secs()
                )));
            }
            self.process.turn(&self.plan, &self.board, LOOK_MSEC)?;
        }
    }

    /// Opens all subscriptions.
    pub(crate) fn open_all(&mut self, limit: Duration) -> Result<(), Failure> {
        self.open_all_while(limit, |_| true)
    }

    /// The same, and gives up when `go_on`, which gets the number of open ones from time to time, says no.
    pub(crate) fn open_all_while(
        &mut self,
        limit: Duration,
        mut go_on: impl FnMut(u64) -> bool,
    ) -> Result<(), Failure> {
        self.order(OPEN_ALL)?;
        let all = self.plan.all_subscribers() as u64;
        let mut stopped = false;
        self.until(limit, "subscribing", |it| {
            let open = it.open();
            stopped = !go_on(open);
            stopped || open >= all
        })?;
        if stopped {
            return Err(Failure(format!("given up with {} of {all} open", self.open())));
        }
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

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::{SocketAddr, SocketAddrV4, TcpListener, TcpStream};
    use std::sync::mpsc;
    use std::thread;

    use super::*;
    use crate::decoder::Mode;
    use crate::plan::{FROM_THE_START, Request};

    const LIMIT: Duration = Duration::from_secs(20);

    fn plan(server: SocketAddrV4, mode: Mode, location: &str) -> Plan {
        Plan {
            server,
            subscribe_at: server,
            subscribe: Request::new(&format!("/{location}?id={{channel}}")),
            mode,
            lanes: 3,
            window: 20,
            publishers: 3,
            event_ids: false,
            ..crate::plan::tests::plan(mode)
        }
    }

    fn address() -> SocketAddrV4 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        match listener.local_addr().unwrap() {
            SocketAddr::V4(address) => address,
            SocketAddr::V6(_) => unreachable!(),
        }
    }

    /// The bare servers, which never end: the test's process does.
    fn floor(merges: bool) -> SocketAddrV4 {
        let at = address();
        thread::spawn(move || crate::floor::serve(at, merges));
        while TcpStream::connect(at).is_err() {
            thread::yield_now();
        }
        at
    }

    #[test]
    fn all_modes_against_the_bare_servers() {
        for merges in [false, true] {
            let server = floor(merges);
            for (mode, location) in [
                (Mode::Streaming, "s"),
                (Mode::EventSource, "e"),
                (Mode::WebSocket, "w"),
                (Mode::LongPolling, "l"),
            ] {
                let window = if mode == Mode::LongPolling { 1 } else { 20 };
                // Each mode has channels of its own, for the numbers begin again.
                let publish = Request::new(&format!("/pub?id={location}-{{channel}}"));
                let subscribe = Request::new(&format!("/{location}?id={location}-{{channel}}"));
                let resume = (mode == Mode::LongPolling).then(|| FROM_THE_START.to_owned());
                let plan =
                    Plan { window, publish, subscribe, resume, ..plan(server, mode, location) };
                let mut generator = Generator::new(plan).unwrap();
                generator.open_all(LIMIT).unwrap();
                for pace in [Pace::Acknowledged, Pace::Rate(2000.0), Pace::Bursts] {
                    if mode == Mode::LongPolling && pace != Pace::Acknowledged {
                        continue;
                    }
                    generator.publish(pace, 120, LIMIT).unwrap();
                    generator.drain(LIMIT).unwrap();
                }
                generator.listen(Duration::from_millis(20)).unwrap();
                let published = generator.acknowledged();
                let delivered = generator.board.sum(Count::Deliveries);
                assert_eq!(delivered, published * 3, "{mode:?} {merges}");
                assert_eq!(generator.board.percentiles(&[500]).len(), 1);
            }
        }
    }

    #[test]
    fn old_messages_come_first_each_time() {
        let server = floor(true);
        let plan = Plan {
            lanes: 1,
            backlog: 10,
            channels: 1,
            subscribers: 40,
            publishers: 1,
            subscribe: Request::new("/s10?id={channel}"),
            ..plan(server, Mode::Streaming, "s")
        };
        let mut generator = Generator::new(plan).unwrap();
        generator.publish(Pace::Acknowledged, 15, LIMIT).unwrap();
        generator.drain(LIMIT).unwrap();
        for _ in 0..2 {
            generator.board.reset();
            generator.open_all(LIMIT).unwrap();
            assert_eq!(generator.board.sum(Count::Deliveries), 400);
            generator.publish(Pace::Acknowledged, 15, LIMIT).unwrap();
            generator.drain(LIMIT).unwrap();
            generator.drop_all().unwrap();
        }
    }

    /// The mistake that a faulty server makes with message number 5.
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Flaw {
        None,
        Loses,
        Repeats,
        Swaps,
        Alters,
        Ends,
        Refuses,
    }

    /// A server for one subscriber and one publisher, one request at a time.
    fn flawed(flaw: Flaw) -> SocketAddrV4 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let SocketAddr::V4(at) = listener.local_addr().unwrap() else { unreachable!() };
        let (tell, news) = mpsc::channel::<Vec<u8>>();
        let (mut tell, mut news) = (Some(tell), Some(news));
        thread::spawn(move || {
            for stream in listener.incoming().take(2) {
                let mut stream = stream.unwrap();
                // The publisher connects first.
                match tell.take() {
                    Some(tell) => thread::spawn(move || publishes(stream, flaw, &tell)),
                    None => {
                        let news = news.take().unwrap();
                        thread::spawn(move || {
                            let head = b"HTTP/1.1 200 OK\r\n\r\n";
                            let _ = stream.write_all(head);
                            for message in news {
                                let _ = stream.write_all(&message);
                            }
                        })
                    }
                };
            }
        });
        at
    }

    fn publishes(stream: TcpStream, flaw: Flaw, tell: &mpsc::Sender<Vec<u8>>) {
        let (mut input, mut output) = (BufReader::new(stream.try_clone().unwrap()), stream);
        let mut held = Vec::new();
        for number in 0.. {
            let mut line = String::new();
            while line != "\r\n" {
                line.clear();
                if input.read_line(&mut line).unwrap_or(0) == 0 {
                    return;
                }
            }
            let mut message = vec![0; 64];
            input.read_exact(&mut message).unwrap();
            message.push(b'\n');
            let mut answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
            match (flaw, number) {
                (Flaw::Loses, 5) => (),
                (Flaw::Repeats, 5) => tell.send(message.repeat(2)).unwrap(),
                (Flaw::Swaps, 5) => held = message,
                (Flaw::Swaps, 6) => tell.send([message, held.clone()].concat()).unwrap(),
                (Flaw::Alters, 5) => {
                    message[60] ^= 1;
                    tell.send(message).unwrap();
                }
                (Flaw::Ends, 5) => return,
                (Flaw::Refuses, 5) => {
                    answer = "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n";
                    tell.send(message).unwrap();
                }
                _ => tell.send(message).unwrap(),
            }
            output.write_all(answer.as_bytes()).unwrap();
        }
    }

    #[test]
    fn every_flaw_is_noticed() {
        for (flaw, found) in [
            (Flaw::None, None),
            (Flaw::Loses, Some(Fault::Lost)),
            (Flaw::Repeats, Some(Fault::Repeated)),
            (Flaw::Swaps, Some(Fault::Lost)),
            (Flaw::Alters, Some(Fault::Corrupt)),
            (Flaw::Ends, Some(Fault::Closed)),
            (Flaw::Refuses, Some(Fault::Refused)),
        ] {
            let plan = Plan {
                channels: 1,
                subscribers: 1,
                lanes: 1,
                publishers: 1,
                ..plan(flawed(flaw), Mode::Streaming, "s")
            };
            let mut generator = Generator::new(plan).unwrap();
            generator.open_all(LIMIT).unwrap();
            let result = generator
                .publish(Pace::Acknowledged, 20, LIMIT)
                .and_then(|()| generator.drain(LIMIT));
            assert_eq!(result.is_ok(), flaw == Flaw::None, "{flaw:?}: {result:?}");
            for fault in Fault::ALL {
                let noticed = generator.board.faults(fault) > 0;
                assert_eq!(noticed, found == Some(fault), "{flaw:?}: {fault:?}");
            }
        }
    }
}
