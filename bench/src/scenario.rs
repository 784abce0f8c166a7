//! All scenarios, by name.

use crate::count::Count;
use crate::decoder::Mode;
use crate::generator::Failure;
use crate::measure::{self, Bench, Burden, Check, Connect, Idle, Live, Resume, Stored, Storm};
use crate::peer::{Kind, Peer};
use crate::plan::Pace;
use crate::report::{Outcome, Run, Values};

#[derive(Debug, Clone)]
enum Work {
    Live(Live),
    Connect(Connect),
    Storm(Storm),
    Resume(Resume),
    Idle(Idle),
    Stored(Stored),
    Check(Check),
    Count(Count),
    /// The same work on servers of ours with different burdens.
    Size(Live),
}

/// Something to measure.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) unit: &'static str,
    work: Work,
}

/// Short messages to the subscribers of one channel.
const LIVE: Live = Live {
    mode: Mode::Streaming,
    channels: 1,
    subscribers: 1000,
    lanes: 1,
    window: 1,
    publishers: 1,
    size: 64,
    pace: Pace::Acknowledged,
    stores: false,
    stored_max: 100,
    stored_before: 0,
    workers: 1,
    tls: false,
};

/// Each of four publishers publishes as soon as its last message is acknowledged.
const FAST: Live = Live { lanes: 4, window: 1024, publishers: 4, ..LIVE };

const PUBLISH: Live = Live { channels: 16, subscribers: 0, window: 16, publishers: 16, ..LIVE };

const POLL: Live = Live { mode: Mode::LongPolling, stores: true, ..LIVE };

/// 1,000 channels with 10 subscribers each.
const MANY: Live = Live { channels: 1000, subscribers: 10, publishers: 64, ..LIVE };

const fn live(name: &'static str, title: &'static str, unit: &'static str, live: Live) -> Scenario {
    Scenario { name, title, unit, work: Work::Live(live) }
}

/// All of them, in the order in which they run.
pub(crate) fn all() -> Vec<Scenario> {
    let connect = |name, title, mode, subscribers, backlog| Scenario {
        name,
        title,
        unit: "subscription",
        work: Work::Connect(Connect { mode, subscribers, backlog }),
    };
    let count = |name, title, unit, count| Scenario { name, title, unit, work: Work::Count(count) };
    let deliveries = |mode, channels, subscribers, messages| Count::Deliveries {
        mode,
        channels,
        subscribers,
        messages,
    };
    let idle = |name, title, mode| Scenario {
        name,
        title,
        unit: "subscriber",
        work: Work::Idle(Idle { mode, subscribers: 10_000 }),
    };
    vec![
        live(
            "wide",
            "1 channel x 10,000 subscribers, as fast as acknowledged",
            "delivery",
            Live { subscribers: 10_000, ..FAST },
        ),
        live("fast", "1 x 1,000, as fast as acknowledged", "delivery", FAST),
        live("single", "1 x 1,000, one message in flight", "delivery", LIVE),
        live("many", "1,000 x 10, one message in flight for each channel", "delivery", MANY),
        live("poll", "long polling, 1 x 1,000", "cycle", POLL),
        live(
            "poll-many",
            "long polling, 1,000 x 10",
            "cycle",
            Live { mode: Mode::LongPolling, stores: true, ..MANY },
        ),
        live(
            "poll-stored",
            "long polling, 1 x 1,000, 10,000 messages stored before",
            "cycle",
            Live { stored_before: 10_000, stored_max: 20_000, ..POLL },
        ),
        live(
            "publish-stored",
            "stored publish, 16 channels, no subscriber",
            "publish",
            Live { stores: true, ..PUBLISH },
        ),
        live("publish", "publish without storing, 16 channels, no subscriber", "publish", PUBLISH),
        live(
            "publish-two",
            "stored publish, 2 workers",
            "publish",
            Live { stores: true, workers: 2, ..PUBLISH },
        ),
        connect("connect", "connecting and subscribing", Mode::Streaming, 5_000, 0),
        connect(
            "connect-backlog",
            "connecting and subscribing, with 10 old messages",
            Mode::Streaming,
            5_000,
            10,
        ),
        live(
            "rate",
            "1 x 1,000, 50 messages a second",
            "delivery",
            Live { pace: Pace::Rate(50.0), lanes: 4, publishers: 4, ..LIVE },
        ),
        live(
            "bursts",
            "1 x 1,000, bursts of 20 messages",
            "delivery",
            Live { pace: Pace::Bursts, lanes: 20, publishers: 20, window: 20, ..LIVE },
        ),
        live(
            "eventsource",
            "1 x 1,000 EventSource, one message in flight",
            "delivery",
            Live { mode: Mode::EventSource, ..LIVE },
        ),
        live(
            "websocket",
            "1 x 1,000 WebSocket, one message in flight",
            "delivery",
            Live { mode: Mode::WebSocket, ..LIVE },
        ),
        live(
            "kilobyte",
            "1 x 1,000, messages of 1 KB, as fast as acknowledged",
            "delivery",
            Live { size: 1024, window: 256, ..FAST },
        ),
        live(
            "large",
            "1 x 1,000, messages of 32 KB, 8 in flight",
            "delivery",
            Live { size: 32 * 1024, lanes: 8, window: 8, publishers: 8, ..LIVE },
        ),
        live(
            "tls",
            "1 x 1,000 over TLS, one message in flight",
            "delivery",
            Live { tls: true, ..LIVE },
        ),
        Scenario {
            name: "storm",
            title: "5,000 EventSource subscribers come back at once, 10 messages missed",
            unit: "subscription",
            work: Work::Storm(Storm { subscribers: 5_000, missed: 10 }),
        },
        Scenario {
            name: "resume",
            title: "resuming 10 messages before the end of 10,000 stored ones (EventSource)",
            unit: "subscription",
            work: Work::Resume(Resume { subscribers: 2_000, stored: 10_000, missed: 10 }),
        },
        Scenario {
            name: "resume-short",
            title: "resuming 10 messages before the end of 20 stored ones (EventSource)",
            unit: "subscription",
            work: Work::Resume(Resume { subscribers: 2_000, stored: 20, missed: 10 }),
        },
        idle("idle", "idle streaming subscriber", Mode::Streaming),
        idle("idle-eventsource", "idle EventSource subscriber", Mode::EventSource),
        idle("idle-websocket", "idle WebSocket subscriber", Mode::WebSocket),
        idle("idle-poll", "waiting long poll", Mode::LongPolling),
        Scenario {
            name: "stored-messages",
            title: "a stored message of 100 bytes, without its text",
            unit: "message",
            work: Work::Stored(Stored { channels: 1, messages: 200_000, size: 100 }),
        },
        Scenario {
            name: "channels",
            title: "a channel, without its id",
            unit: "channel",
            work: Work::Stored(Stored { channels: 100_000, messages: 0, size: 64 }),
        },
        Scenario {
            name: "check",
            title: "nginx -t with shared memory of 8 GB",
            unit: "start",
            work: Work::Check(Check { zone: 8 << 30 }),
        },
        Scenario {
            name: "size",
            title: "1 x 1,000, one message in flight, on a server that holds much else",
            unit: "delivery",
            work: Work::Size(LIVE),
        },
        count(
            "i-single",
            "instructions a delivery, 1 x 1,000",
            "delivery",
            deliveries(Mode::Streaming, 1, 1_000, [5, 25]),
        ),
        count(
            "i-single-100",
            "instructions a delivery, 1 x 100",
            "delivery",
            deliveries(Mode::Streaming, 1, 100, [20, 120]),
        ),
        count(
            "i-many",
            "instructions a delivery, 100 x 10",
            "delivery",
            deliveries(Mode::Streaming, 100, 10, [200, 2_200]),
        ),
        count(
            "i-poll",
            "instructions a long poll cycle, 1 x 100",
            "cycle",
            deliveries(Mode::LongPolling, 1, 100, [5, 25]),
        ),
        count(
            "i-publish-stored",
            "instructions a stored publish",
            "publish",
            Count::Publishes { stores: true, messages: [200, 1_200] },
        ),
        count(
            "i-publish",
            "instructions a publish without storing",
            "publish",
            Count::Publishes { stores: false, messages: [200, 1_200] },
        ),
        count(
            "i-subscribe",
            "instructions of subscribing and leaving",
            "subscription",
            Count::Subscriptions { subscribers: [100, 600] },
        ),
    ]
}

/// Those that `quick` measures: what they find does not depend on what else the machine does.
pub(crate) const QUICK: [&str; 10] = [
    "i-single",
    "i-single-100",
    "i-many",
    "i-poll",
    "i-publish-stored",
    "i-publish",
    "i-subscribe",
    "idle",
    "idle-websocket",
    "check",
];

/// The loads of the servers of `size`.
const BURDENS: [Burden; 4] = [
    Burden::Nothing,
    Burden::Messages(1_000_000),
    Burden::Channels(100_000),
    Burden::Subscribers(15_000),
];

impl Scenario {
    fn supports(&self, peer: &Peer) -> bool {
        let other = matches!(peer.kind, Kind::Other { .. });
        match &self.work {
            Work::Live(live) => {
                let plain = !live.tls && live.workers == 1 && live.stored_before == 0;
                measure::supports(peer, live.mode, plain && !(other && live.stores))
            }
            Work::Connect(connect) => {
                measure::supports(peer, connect.mode, connect.backlog == 0 || !other)
            }
            Work::Idle(idle) => {
                let shipped = matches!(peer.kind, Kind::Shipped { .. });
                shipped || measure::supports(peer, idle.mode, !other)
            }
            Work::Storm(_) | Work::Resume(_) => measure::supports(peer, Mode::EventSource, false),
            Work::Stored(_) => measure::supports(peer, Mode::Streaming, false),
            Work::Check(_) => peer.is_nginx(),
            Work::Count(_) => peer.is_nginx(),
            Work::Size(_) => peer.is_subject(),
        }
    }

    fn run(&self, bench: &Bench, peer: &Peer) -> Result<Values, Failure> {
        match &self.work {
            Work::Live(live) => live.run(bench, peer),
            Work::Connect(connect) => connect.run(bench, peer),
            Work::Storm(storm) => storm.run(bench, peer),
            Work::Resume(resume) => resume.run(bench, peer),
            Work::Idle(idle) => idle.run(bench, peer),
            Work::Stored(stored) => stored.run(bench, peer),
            Work::Check(check) => check.run(bench, peer),
            Work::Count(count) => count.run(bench, peer),
            Work::Size(_) => Err(Failure("this scenario has rounds of its own".into())),
        }
    }

    /// All rounds, in which the peers take turns. `tell` gets each run.
    pub(crate) fn measure(
        &self,
        bench: &Bench,
        peers: &[Peer],
        rounds: u32,
        mut tell: impl FnMut(&Run),
    ) -> Outcome {
        let able: Vec<_> = peers.iter().filter(|peer| self.supports(peer)).collect();
        let mut runs = Vec::new();
        if let Work::Size(live) = &self.work {
            // Five per cent is little: more rounds, which are short.
            for peer in able {
                runs.extend(measure::burdened(bench, peer, live, &BURDENS, rounds * 2));
            }
            runs.iter().for_each(&mut tell);
        } else {
            // Counts are the same in each round.
            let rounds = if matches!(self.work, Work::Count(_)) { 1 } else { rounds };
            for _ in 0..rounds {
                for peer in &able {
                    let (values, failure) = match self.run(bench, peer) {
                        Ok(values) => (values, None),
                        Err(failure) => (Values::new(), Some(failure.0)),
                    };
                    let run = Run { peer: peer.name.clone(), values, failure };
                    tell(&run);
                    runs.push(run);
                }
            }
        }
        let (title, unit) = (self.title.to_owned(), self.unit.to_owned());
        Outcome { scenario: self.name.to_owned(), title, unit, runs }
    }
}
