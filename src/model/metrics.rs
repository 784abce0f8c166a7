//! The figures that are shown as metrics, and the words that tell their parts apart.

use crate::model::{Delivery, Reason, Seconds};

/// Makes the methods that every enum of labels has.
macro_rules! labels {
    ($name:ident: $count:literal { $($variant:ident => $text:literal,)+ }) => {
        impl $name {
            /// All of them; each stands at its [number](Self::number).
            pub const ALL: [Self; $count] = [$(Self::$variant),+];

            /// Its place in a table with a row for each.
            pub const fn number(self) -> usize {
                self as usize
            }

            /// What metrics call it.
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }
    };
}

/// Where a message comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// A request to a publisher location.
    #[default]
    Http,
    /// A WebSocket's client.
    WebSocket,
}

labels!(Source: 2 { Http => "http", WebSocket => "websocket", });

/// What a request wants that may be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// To publish.
    Publish,
    /// To subscribe, and be it for one poll.
    Subscribe,
    /// To delete channels.
    Delete,
}

labels!(Operation: 3 { Publish => "publish", Subscribe => "subscribe", Delete => "delete", });

/// Why a stored message is let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discard {
    /// Its time to live was over.
    Ttl,
    /// Its channel stores no more than `push_stream_max_messages_stored_per_channel`.
    Limit,
    /// Its channel was deleted.
    Deleted,
}

labels!(Discard: 3 { Ttl => "ttl", Limit => "limit", Deleted => "deleted", });

/// Why a channel goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// Nobody has used it for `push_stream_channel_inactivity_time`, or ever.
    Idle,
    /// A request has deleted it.
    Deleted,
}

labels!(Removal: 2 { Idle => "idle", Deleted => "deleted", });

/// A moment of the steady clock, in units of 16 microseconds, modulo 2^20: it comes round every 16.7 s. All
/// processes have the same. 0 is no moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp(pub u32);

/// Microseconds of a unit.
const UNIT_USEC: u64 = 16;
/// Delays of so many seconds are not told by stamps.
const COARSE_SECS: Seconds = 8;

impl Stamp {
    /// The bits that it has.
    pub const BITS: u32 = 20;
    const MAX: u32 = (1 << Self::BITS) - 1;

    /// So many nanoseconds after any fixed moment.
    pub const fn of_nanos(nanos: u64) -> Self {
        let unit = (nanos / (1000 * UNIT_USEC)) as u32 & Self::MAX;
        Self(if unit == 0 { 1 } else { unit })
    }

    /// Microseconds from an earlier moment to this one. `secs`: the same in seconds, roughly, by another clock;
    /// if they are many, they are all there is to say. `None` if one of the moments is none.
    pub const fn usec_since(self, earlier: Self, secs: Seconds) -> Option<u64> {
        if self.0 == 0 || earlier.0 == 0 {
            return None;
        }
        if secs >= COARSE_SECS {
            return Some(secs.cast_unsigned().saturating_mul(1_000_000));
        }
        let units = self.0.wrapping_sub(earlier.0) & Self::MAX;
        // The earlier one is the later one, by a unit or so.
        Some(if units > Self::MAX / 8 * 7 { 0 } else { units as u64 * UNIT_USEC })
    }
}

/// Which values a histogram counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistogramKind {
    /// Microseconds from a publish to its write.
    Delay,
    /// Bytes of a message's text.
    Size,
}

impl HistogramKind {
    /// The largest value of each bucket, and how it is written; the last bucket has no limit.
    pub const fn limits(self) -> &'static [(u64, &'static str)] {
        match self {
            Self::Delay => &[
                (100, "0.0001"),
                (250, "0.00025"),
                (500, "0.0005"),
                (1000, "0.001"),
                (2500, "0.0025"),
                (5000, "0.005"),
                (10_000, "0.01"),
                (25_000, "0.025"),
                (50_000, "0.05"),
                (100_000, "0.1"),
                (250_000, "0.25"),
                (500_000, "0.5"),
                (1_000_000, "1.0"),
                (2_500_000, "2.5"),
                (5_000_000, "5.0"),
                (10_000_000, "10.0"),
            ],
            Self::Size => &[
                (64, "64.0"),
                (256, "256.0"),
                (1024, "1024.0"),
                (4096, "4096.0"),
                (16_384, "16384.0"),
                (65_536, "65536.0"),
                (262_144, "262144.0"),
                (1_048_576, "1048576.0"),
            ],
        }
    }

    /// How many buckets it has, the one without a limit included.
    pub const fn buckets(self) -> usize {
        self.limits().len() + 1
    }

    /// The number of the bucket of a value.
    pub fn bucket(self, value: u64) -> usize {
        self.limits().iter().take_while(|(limit, _)| value > *limit).count()
    }
}

/// A histogram: how many values each bucket has, and their sum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    /// Which values.
    pub kind: HistogramKind,
    /// As many as the kind has, not summed up.
    pub counts: Vec<u64>,
    /// Of all values.
    pub sum: u64,
}

impl Histogram {
    /// An empty one.
    pub fn new(kind: HistogramKind) -> Self {
        Self { kind, counts: vec![0; kind.buckets()], sum: 0 }
    }
}

/// The numbers about one way of being served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// Subscribers that are there now.
    pub open: u64,
    /// Subscribers let in so far.
    pub entered: u64,
    /// Those of them that have ended, by reason.
    pub ended: [u64; Reason::ALL.len()],
    /// Those whose worker has died.
    pub died: u64,
    /// Messages given to them, old ones included.
    pub delivered: u64,
    /// Old messages among those.
    pub replayed: u64,
    /// Bytes written to their sockets.
    pub sent_bytes: u64,
}

/// The numbers about the channels of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChannelCounts {
    /// Live ones.
    pub live: u64,
    /// Made so far.
    pub created: u64,
    /// Gone, by reason.
    pub removed: [u64; Removal::ALL.len()],
}

/// How the zone's bytes are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ZoneBytes {
    /// All bytes of the store.
    pub size: u64,
    /// Neither used nor overhead.
    pub free: u64,
    /// Messages that are stored, read or under construction.
    pub messages: u64,
    /// Live channels, and deleted ones that are not in the trash yet.
    pub channels: u64,
    /// The workers' stakes in channels.
    pub interests: u64,
    /// Discarded messages and channels.
    pub trash: u64,
    /// Tables of a fixed size, and the workers' seats.
    pub tables: u64,
    /// The ends of pages, too small for a record.
    pub overhead: u64,
}

/// All that is shown as metrics. Counters count from the making of the zone on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// When the zone was made.
    pub start_time: Seconds,
    /// Each worker's slot, and its open subscriber connections.
    pub workers: Vec<(u32, u64)>,
    /// Workers that have died without leaving their seat.
    pub worker_deaths: u64,
    /// Ordinary channels, then wildcard channels.
    pub channels: [ChannelCounts; 2],
    /// Deleted channels that are not in the trash yet.
    pub deleting_channels: u64,
    /// Channels in the trash.
    pub trash_channels: u64,
    /// By [`Delivery`].
    pub served: [Served; Delivery::ALL.len()],
    /// Open subscriptions.
    pub subscriptions: u64,
    /// Bytes that wait for subscribers' sockets.
    pub buffered_bytes: u64,
    /// Requests refused: what they wanted, why not, how many.
    pub refusals: Vec<(Operation, &'static str, u64)>,
    /// Messages published, and the bytes of their texts, by [`Source`].
    pub published: [(u64, u64); Source::ALL.len()],
    /// Messages now stored.
    pub stored_messages: u64,
    /// Discarded messages that are not freed.
    pub trash_messages: u64,
    /// Stored messages that were let go, by [`Discard`].
    pub discarded: [u64; Discard::ALL.len()],
    /// Bytes.
    pub zone: ZoneBytes,
    /// Sizes of published messages.
    pub sizes: Histogram,
    /// Delays of deliveries.
    pub delays: Histogram,
    /// What the previous scrape took.
    pub scrape_usec: u64,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            start_time: 0,
            workers: Vec::new(),
            worker_deaths: 0,
            channels: Default::default(),
            deleting_channels: 0,
            trash_channels: 0,
            served: Default::default(),
            subscriptions: 0,
            buffered_bytes: 0,
            refusals: Vec::new(),
            published: Default::default(),
            stored_messages: 0,
            trash_messages: 0,
            discarded: Default::default(),
            zone: ZoneBytes::default(),
            sizes: Histogram::new(HistogramKind::Size),
            delays: Histogram::new(HistogramKind::Delay),
            scrape_usec: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_tells_times_until_it_comes_round() {
        let at = |usec: u64| Stamp::of_nanos(usec * 1000);
        for (earlier, later, secs, usec) in [
            (1_000_000, 1_000_000, 0, 0),
            (1_000_000, 1_000_160, 0, 160),
            (1_000_000, 1_000_160, 1, 160),
            (1_000_000, 8_900_000, 7, 7_899_984),
            (1_000_000, 10_000_000, 8, 8_000_000),
            (1_000_000, 100_000_000, 99, 99_000_000),
            // The units are counted modulo 2^20.
            ((1 << 24) - 1_600, (1 << 24) + 1_600, 0, 3_200),
            ((1 << 40) - 1_600, (1 << 40) + 1_600, 0, 3_200),
            (1_000_016, 1_000_000, 0, 0),
            (1_000_000, 1_000_160, -3, 160),
        ] {
            let found = at(later).usec_since(at(earlier), secs).expect("two moments");
            assert!(found.abs_diff(usec) <= UNIT_USEC, "{earlier} to {later}: {found}");
        }
        assert_ne!(at(0), Stamp::default(), "a moment is not none");
        assert_eq!(at(7).usec_since(Stamp::default(), 0), None);
        assert_eq!(Stamp::default().usec_since(at(7), 9), None);
    }

    #[test]
    fn a_bucket_has_what_is_at_most_its_limit() {
        for (value, bucket) in [(0, 0), (64, 0), (65, 1), (256, 1), (1_048_576, 7), (1 << 40, 8)] {
            assert_eq!(HistogramKind::Size.bucket(value), bucket, "{value}");
        }
        for kind in [HistogramKind::Size, HistogramKind::Delay] {
            let limits = kind.limits();
            assert!(limits.windows(2).all(|two| two[0].0 < two[1].0));
            let scale = if kind == HistogramKind::Delay { 1e-6 } else { 1.0 };
            for (limit, text) in limits {
                let written: f64 = text.parse().expect("a number");
                assert!((written - *limit as f64 * scale).abs() < 1e-12, "{text}");
            }
        }
    }
}
