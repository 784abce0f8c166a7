//! The publishers: keep-alive connections that take the next message of any lane whose turn it is.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};

use crate::board::{Board, Fault};
use crate::payload::{self, Stamp};
use crate::plan::{Pace, Plan};
use crate::sys::{self, Epoll, Ready};
use crate::{histogram, http};

struct Publisher {
    stream: TcpStream,
    /// The lane whose message is on its way, and since when.
    lane: Option<(u32, u64)>,
    out: Vec<u8>,
    sent: usize,
    answer: Vec<u8>,
}

/// Tokens of publishers' connections, above all those of subscribers.
pub(crate) const TOKENS: u64 = 1 << 32;

/// All publishers. They are in the first process of the generator.
pub(crate) struct Publishers {
    list: Vec<Publisher>,
    idle: Vec<usize>,
    /// The next number of each lane.
    numbers: Vec<u32>,
    /// Lanes whose last message is acknowledged.
    ready: VecDeque<u32>,
    /// Lanes that wait for their channel's window, by channel.
    parked: Vec<Vec<u32>>,
    /// Messages that were published, by channel.
    published: Vec<u64>,
    pace: Pace,
    /// Messages that may still be published.
    left: u64,
    /// When the next message is due.
    due: f64,
    /// Messages of a burst that are still to be published.
    burst: usize,
    /// Whether there are subscribers that have to get each message.
    pub(crate) audience: bool,
    acknowledged: u64,
    scratch: Vec<u8>,
}

impl Publishers {
    pub(crate) fn new(plan: &Plan, board: &Board, epoll: &Epoll, run: u32) -> io::Result<Self> {
        let mut list = Vec::new();
        for index in 0..plan.publishers {
            let from = Ipv4Addr::new(127, 1 + (run % 250) as u8, 255, 1 + (index % 200) as u8);
            let stream = sys::connect(from, plan.server)?;
            stream.set_nodelay(true)?;
            epoll.add(&stream, TOKENS + u64::from(index), false)?;
            let (out, answer) = (Vec::new(), Vec::new());
            list.push(Publisher { stream, lane: None, out, sent: 0, answer });
        }
        (0..plan.all_lanes()).for_each(|lane| board.set_number(lane, plan.first));
        Ok(Self {
            idle: (0..list.len()).collect(),
            list,
            numbers: vec![plan.first; plan.all_lanes() as usize],
            // Neighbours belong to different channels.
            ready: (0..plan.lanes)
                .flat_map(|lane| (0..plan.channels).map(move |channel| (channel, lane)))
                .map(|(channel, lane)| channel * plan.lanes + lane)
                .collect(),
            parked: vec![Vec::new(); plan.channels as usize],
            published: vec![0; plan.channels as usize],
            pace: Pace::Acknowledged,
            left: 0,
            due: 0.0,
            burst: 0,
            audience: false,
            acknowledged: 0,
            scratch: Vec::new(),
        })
    }

    /// Publishes at most `messages` from now on.
    pub(crate) fn start(&mut self, pace: Pace, messages: u64) {
        (self.pace, self.left, self.due, self.burst) = (pace, messages, sys::now() as f64, 0);
    }

    /// Publishes no more.
    pub(crate) fn stop(&mut self) {
        self.left = 0;
    }

    pub(crate) fn finished(&self) -> bool {
        self.left == 0
    }

    /// Messages acknowledged so far.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Whether all that was published is acknowledged, and has arrived.
    pub(crate) fn drained(&self, board: &Board) -> bool {
        self.idle.len() == self.list.len()
            && (0..).zip(&self.published).all(|(it, &count)| board.completed(it) == count)
    }

    fn on_their_way(&self, board: &Board, channel: u32) -> u64 {
        self.published[channel as usize] - board.completed(channel)
    }

    /// A message of the channel is complete: its window may have room.
    pub(crate) fn unpark(&mut self, channel: u32) {
        self.ready.extend(self.parked[channel as usize].drain(..));
    }

    /// As [`Publishers::unpark`], for all channels.
    pub(crate) fn unpark_all(&mut self) {
        (0..self.parked.len() as u32).for_each(|channel| self.unpark(channel));
    }

    /// Publishes what may be published now. Returns how long it takes until that changes by itself.
    pub(crate) fn pump(&mut self, plan: &Plan, board: &Board, epoll: &Epoll) -> Option<u64> {
        while self.left > 0 && !self.idle.is_empty() {
            let mut time = 0;
            match self.pace {
                Pace::Acknowledged => (),
                Pace::Rate(rate) => {
                    let now = sys::now();
                    time = self.due as u64;
                    if time > now {
                        return Some(time - now);
                    }
                    if self.ready.is_empty() {
                        return None;
                    }
                    self.due += 1e9 / rate;
                }
                Pace::Bursts if self.burst == 0 => {
                    if self.ready.len() < self.numbers.len() || !self.drained(board) {
                        return None;
                    }
                    self.burst = self.numbers.len();
                }
                Pace::Bursts => (),
            }
            let lane = self.ready.pop_front()?;
            let channel = plan.channel_of(lane);
            let window = u64::from(plan.window);
            if self.pace == Pace::Acknowledged && self.on_their_way(board, channel) >= window {
                self.parked[channel as usize].push(lane);
                continue;
            }
            self.burst = self.burst.saturating_sub(1);
            self.left -= 1;
            self.publish(plan, board, epoll, lane, time);
        }
        None
    }

    fn publish(&mut self, plan: &Plan, board: &Board, epoll: &Epoll, lane: u32, due: u64) {
        let Some(index) = self.idle.pop() else { return };
        let number = self.numbers[lane as usize];
        self.numbers[lane as usize] += 1;
        self.published[plan.channel_of(lane) as usize] += 1;
        board.set_number(lane, number + 1);
        let publisher = &mut self.list[index];
        let time = if due == 0 { sys::now() } else { due };
        publisher.lane = Some((lane, time));
        publisher.out.clear();
        publisher.sent = 0;
        publisher.out.extend_from_slice(plan.publish_head(lane, number).as_bytes());
        payload::render(&mut publisher.out, Stamp { lane, number, time }, plan.size);
        self.write(board, epoll, index);
    }

    fn write(&mut self, board: &Board, epoll: &Epoll, index: usize) {
        let publisher = &mut self.list[index];
        let rest = &publisher.out[publisher.sent..];
        let result = match publisher.stream.write(rest) {
            Ok(len) => {
                publisher.sent += len;
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        };
        let result = result.and_then(|()| {
            if publisher.sent == publisher.out.len() {
                return Ok(());
            }
            epoll.change(&publisher.stream, TOKENS + index as u64, true)
        });
        if let Err(error) = result {
            crate::note(&format!("a publisher: {error}"));
            board.fault(0, Fault::Closed);
        }
    }

    pub(crate) fn on_ready(&mut self, plan: &Plan, board: &Board, epoll: &Epoll, ready: Ready) {
        let index = (ready.token - TOKENS) as usize;
        let publisher = &mut self.list[index];
        if ready.writable && publisher.sent < publisher.out.len() {
            self.write(board, epoll, index);
            let publisher = &self.list[index];
            if publisher.sent == publisher.out.len() {
                let _ = epoll.change(&publisher.stream, ready.token, false);
            }
        }
        if ready.readable
            && let Err(error) = self.read(plan, board, index)
        {
            crate::note(&format!("a publisher: {error}"));
            board.fault(0, Fault::Closed);
            // Level-triggered events of a broken connection would come for ever.
            let _ = self.list[index].stream.shutdown(std::net::Shutdown::Both);
            let _ = epoll.remove(&self.list[index].stream);
        }
    }

    fn read(&mut self, plan: &Plan, board: &Board, index: usize) -> io::Result<()> {
        let publisher = &mut self.list[index];
        let mut bytes = [0; 4096];
        let len = match publisher.stream.read(&mut bytes) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(len) => len,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        publisher.answer.extend_from_slice(&bytes[..len]);
        self.scratch.clear();
        let answer = http::answer(&publisher.answer, &mut self.scratch)
            .map_err(|_| io::Error::other("no HTTP"))?;
        let Some((head, _)) = answer else { return Ok(()) };
        publisher.answer.clear();
        let Some((lane, time)) = publisher.lane.take() else {
            return Err(io::Error::other("an answer without a request"));
        };
        if !(200..300).contains(&head.status) {
            crate::note(&format!("a publish: status {}", head.status));
            board.fault(0, Fault::Refused);
        }
        self.acknowledged += 1;
        self.idle.push(index);
        self.ready.push_back(lane);
        if !self.audience {
            histogram::record(board.histogram(0), sys::now().saturating_sub(time));
            board.complete(plan.channel_of(lane));
        }
        Ok(())
    }
}
