//! Counts in shared memory, through which the processes of the generator know of each other.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::SeqCst};

use crate::histogram;
use crate::sys::{Bell, Shared};

/// A mistake in the messages that a subscriber gets, or a connection that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A message is missing: a later one came, or none within the time.
    Lost,
    /// A message came again, or later than its successor.
    Repeated,
    /// Bytes that are no message, or one of another channel.
    Corrupt,
    /// A connection ended, or was refused.
    Closed,
    /// A publish was refused.
    Refused,
}

impl Fault {
    pub(crate) const ALL: [Self; 5] =
        [Self::Lost, Self::Repeated, Self::Corrupt, Self::Closed, Self::Refused];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Repeated => "repeated",
            Self::Corrupt => "corrupt",
            Self::Closed => "connections ended",
            Self::Refused => "publishes refused",
        }
    }
}

/// Counters of one process of the generator.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Count {
    /// Subscribers that are subscribed.
    Open,
    /// Messages that arrived.
    Deliveries,
    /// Reads that brought messages.
    Reads,
    /// The time of the latest delivery.
    Latest,
    /// The order that the process has carried out last, see [`Board::order`].
    Done,
    /// Connections that were begun again because the server did not take them.
    Retries,
}

const COUNTS: usize = 6;
const SLOT: usize = COUNTS + Fault::ALL.len() + histogram::BUCKETS;

/// The shared counters. Each process has a slot; channels and lanes have theirs.
pub(crate) struct Board {
    slots: Shared,
    /// For each channel, how many of its messages all subscribers have.
    complete: Shared,
    /// For each lane, a ring of the numbers of subscribers that have one of its latest messages.
    rings: Shared,
    ring: usize,
    /// For each lane, the number of its next message.
    numbers: Shared,
    orders: Shared,
    /// Rung when a channel has a complete message, by all processes but the first.
    pub(crate) bell: Bell,
}

impl Board {
    /// `window` messages of a lane may be on their way.
    pub(crate) fn new(
        processes: usize,
        channels: usize,
        lanes: usize,
        window: usize,
    ) -> io::Result<Self> {
        let ring = window.max(1).next_power_of_two();
        Ok(Self {
            slots: Shared::new(processes * SLOT)?,
            complete: Shared::new(channels)?,
            rings: Shared::new(lanes * ring)?,
            ring,
            numbers: Shared::new(lanes)?,
            orders: Shared::new(1)?,
            bell: Bell::new()?,
        })
    }

    fn processes(&self) -> usize {
        self.slots.len() / SLOT
    }

    pub(crate) fn counter(&self, process: usize, count: Count) -> &AtomicU64 {
        &self.slots[process * SLOT + count as usize]
    }

    /// Adds to a counter of one's own process.
    pub(crate) fn add(&self, process: usize, count: Count, more: u64) {
        let counter = self.counter(process, count);
        counter.store(counter.load(Relaxed) + more, Relaxed);
    }

    pub(crate) fn fault(&self, process: usize, fault: Fault) {
        self.slots[process * SLOT + COUNTS + fault as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn histogram(&self, process: usize) -> &[AtomicU64] {
        &self.slots[process * SLOT..][COUNTS + Fault::ALL.len()..SLOT]
    }

    pub(crate) fn sum(&self, count: Count) -> u64 {
        (0..self.processes()).map(|process| self.counter(process, count).load(Relaxed)).sum()
    }

    pub(crate) fn max(&self, count: Count) -> u64 {
        let counts = (0..self.processes()).map(|it| self.counter(it, count).load(Relaxed));
        counts.max().unwrap_or(0)
    }

    pub(crate) fn faults(&self, fault: Fault) -> u64 {
        let place = COUNTS + fault as usize;
        (0..self.processes()).map(|it| self.slots[it * SLOT + place].load(Relaxed)).sum()
    }

    /// Such as "3 lost, 1 repeated", or nothing.
    pub(crate) fn verdict(&self) -> Option<String> {
        let faults = Fault::ALL.iter().map(|&fault| (self.faults(fault), fault.name()));
        let faults: Vec<_> = faults.filter(|&(count, _)| count > 0).collect();
        let text = faults.iter().map(|(count, name)| format!("{count} {name}"));
        (!faults.is_empty()).then(|| text.collect::<Vec<_>>().join(", "))
    }

    pub(crate) fn percentiles(&self, per_mille: &[u64]) -> Vec<u64> {
        let histograms: Vec<_> = (0..self.processes()).map(|it| self.histogram(it)).collect();
        histogram::percentiles(&histograms, per_mille)
    }

    /// Forgets durations and deliveries. Only while nothing is on its way.
    pub(crate) fn reset(&self) {
        for process in 0..self.processes() {
            self.histogram(process).iter().for_each(|counter| counter.store(0, Relaxed));
            for count in [Count::Deliveries, Count::Reads] {
                self.counter(process, count).store(0, Relaxed);
            }
        }
    }

    /// A subscriber has this message; `audience` subscribers are to get it. Whether it was the last of them.
    pub(crate) fn delivered(&self, channel: u32, lane: u32, number: u32, audience: u64) -> bool {
        let place = lane as usize * self.ring + (number as usize & (self.ring - 1));
        let counter = &self.rings[place];
        if counter.fetch_add(1, Relaxed) + 1 < audience {
            return false;
        }
        counter.store(0, Relaxed);
        self.complete(channel);
        true
    }

    /// A message of the channel has arrived wherever it has to.
    pub(crate) fn complete(&self, channel: u32) {
        self.complete[channel as usize].fetch_add(1, SeqCst);
    }

    pub(crate) fn completed(&self, channel: u32) -> u64 {
        self.complete[channel as usize].load(SeqCst)
    }

    /// The number of the next message of a lane.
    pub(crate) fn number(&self, lane: u32) -> u32 {
        self.numbers[lane as usize].load(SeqCst) as u32
    }

    pub(crate) fn set_number(&self, lane: u32, number: u32) {
        self.numbers[lane as usize].store(u64::from(number), SeqCst);
    }

    /// The latest order to all processes: a number that only grows.
    pub(crate) fn order(&self) -> u64 {
        self.orders[0].load(SeqCst)
    }

    pub(crate) fn give_order(&self, order: u64) {
        self.orders[0].store(order, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_complete_when_all_have_it() {
        let board = Board::new(2, 2, 4, 3).unwrap();
        // Lanes 2 and 3 belong to channel 1.
        assert!(!board.delivered(1, 2, 0, 2));
        assert!(!board.delivered(1, 3, 0, 2));
        assert!(!board.delivered(1, 2, 1, 2));
        assert!(board.delivered(1, 2, 0, 2));
        assert!(board.delivered(1, 2, 1, 2));
        // The ring has four places.
        assert!(!board.delivered(1, 2, 4, 2));
        assert!(board.delivered(1, 2, 4, 2));
        assert_eq!((board.completed(0), board.completed(1)), (0, 3));
    }

    #[test]
    fn counts_of_all_processes() {
        let board = Board::new(2, 1, 1, 1).unwrap();
        board.add(0, Count::Deliveries, 3);
        board.add(1, Count::Deliveries, 4);
        board.add(1, Count::Latest, 9);
        assert_eq!((board.sum(Count::Deliveries), board.max(Count::Latest)), (7, 9));
        assert_eq!(board.verdict(), None);
        board.fault(1, Fault::Lost);
        board.fault(0, Fault::Lost);
        assert_eq!(board.verdict().as_deref(), Some("2 lost"));
        board.reset();
        assert_eq!(board.sum(Count::Deliveries), 0);
        assert_eq!(board.verdict().as_deref(), Some("2 lost"));
    }
}
