//! Filling, draining and filling again: a zone takes exactly the same number of messages each time.
//!
//! Four zones at once, each filled in its own way, with and without all workers killed: while it fills, when
//! it is full, while it drains.
//!
//! A zone is drained when its trash is empty too. Before that the memory of the trash is lent: a zone full of
//! trash must take nearly as much, but not exactly, because slots and pages become free in another order.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::http::Response;
use crate::random::Random;
use crate::server::{Config, Nginx, PATIENCE, Place};
use crate::statistics::{self, Summary};

/// How a zone is filled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Pattern {
    /// Small messages, one channel.
    OneChannel,
    /// A channel for each message.
    ManyChannels,
    /// Messages of 1 to 9,000 bytes over ten channels.
    MixedSizes,
}

/// The test of one zone.
#[derive(Debug, Clone, Copy)]
struct Story {
    name: &'static str,
    pattern: Pattern,
    kills: bool,
}

const STORIES: [Story; 4] = [
    Story { name: "one-channel", pattern: Pattern::OneChannel, kills: false },
    Story { name: "one-channel-killed", pattern: Pattern::OneChannel, kills: true },
    Story { name: "many-channels-killed", pattern: Pattern::ManyChannels, kills: true },
    Story { name: "mixed-sizes-killed", pattern: Pattern::MixedSizes, kills: true },
];

const TTL: Duration = Duration::from_secs(4);
/// Time to live, idle time, time in the trash and three ticks are 27 s; the rest is for a slow machine.
const DRAIN_MAX: Duration = Duration::from_secs(45);
/// The share of an empty zone's messages that a zone full of trash must take.
const LOAN_PERCENT: u64 = 90;

fn config(workers: u64) -> Config {
    let main = format!("worker_processes {workers};\nevents {{ worker_connections 256; }}\n");
    let http = format!(
        r#"
    keepalive_requests 1000000;
    push_stream_shared_memory_size 256k;
    push_stream_message_ttl {}s;
    push_stream_channel_inactivity_time 1s;
    server {{
        listen 127.0.0.1:%PORT%;
        location /stats {{ push_stream_channels_statistics; push_stream_channels_path $arg_id; }}
        location /pub {{
            push_stream_publisher admin;
            push_stream_channels_path $arg_id;
            push_stream_store_messages on;
            push_stream_channel_info_on_publish off;
        }}
    }}
"#,
        TTL.as_secs(),
    );
    Config { main, http }
}

/// Publishes on one connection, waiting for each answer.
pub(crate) struct Filler {
    stream: Option<TcpStream>,
}

impl Filler {
    pub(crate) fn new() -> Self {
        Self { stream: None }
    }

    /// One publish, on a new connection if the old one is gone. Called only while no worker is killed.
    pub(crate) fn publish(
        &mut self,
        nginx: &Nginx,
        channel: &str,
        body: &[u8],
    ) -> Result<u16, String> {
        let tell = |error: std::io::Error| format!("publish: {error}");
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => TcpStream::connect(nginx.address()).map_err(tell)?,
        };
        stream.set_read_timeout(Some(PATIENCE)).map_err(tell)?;
        stream.set_nodelay(true).map_err(tell)?;
        let mut request = format!(
            "POST /pub?id={channel} HTTP/1.1\r\nHost: torture\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        stream.write_all(&request).map_err(tell)?;
        let mut response = Response::new();
        let mut buffer = [0; 4096];
        while !response.is_done() {
            let count = stream.read(&mut buffer).map_err(tell)?;
            if count == 0 {
                return Err("publish: cut".to_owned());
            }
            response.feed(&buffer[..count]).map_err(|error| error.to_string())?;
        }
        if response.keeps_alive() {
            self.stream = Some(stream);
        }
        Ok(response.status)
    }
}

/// The number of messages that fit until the first refusal.
pub(crate) fn fill(
    nginx: &mut Nginx,
    pattern: Pattern,
    kill_at: Option<u64>,
) -> Result<u64, String> {
    let mut filler = Filler::new();
    // The same bytes in each round.
    let mut random = Random::new(1);
    for count in 0.. {
        if kill_at == Some(count) {
            kill_all(nginx)?;
            filler = Filler::new();
        }
        let (channel, length) = match pattern {
            Pattern::OneChannel => ("fill".to_owned(), 27),
            Pattern::ManyChannels => (format!("fill{count:06}"), 27),
            Pattern::MixedSizes => {
                let limit = *[10, 100, 1000, 9000].get(random.index(4)).unwrap_or(&10);
                (format!("fill{}", count % 10), random.between(1, limit) as usize)
            }
        };
        match filler.publish(nginx, &channel, &vec![b'x'; length])? {
            200 => {}
            500 => return Ok(count),
            status => return Err(format!("a publish was answered {status}")),
        }
    }
    Err("the zone takes everything".to_owned())
}

/// Kills all workers and waits until as many others serve.
pub(crate) fn kill_all(nginx: &mut Nginx) -> Result<(), String> {
    let old = nginx.workers();
    for &pid in &old {
        nginx.kill(pid);
    }
    let end = Instant::now() + PATIENCE;
    loop {
        let new = nginx.workers();
        if new.len() == old.len() && new.iter().all(|pid| !old.contains(pid)) {
            return Ok(());
        }
        if Instant::now() > end {
            return Err("killed workers are not replaced".to_owned());
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn wait_for(
    nginx: &Nginx,
    what: &str,
    limit: Duration,
    done: impl Fn(&Summary) -> bool,
) -> Result<(), String> {
    let end = Instant::now() + limit;
    loop {
        let summary = statistics::summary(nginx)?;
        if done(&summary) {
            return Ok(());
        }
        if Instant::now() > end {
            return Err(format!("{what} after {} s: {summary:?}", limit.as_secs()));
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// The counts of all rounds.
fn tell(story: Story, place: Place, seed: u64, workers: u64, rounds: u64) -> Result<Told, String> {
    let mut nginx = Nginx::start(place, &config(workers))?;
    let mut random = Random::new(seed);
    let mut told = Told { counts: Vec::new(), on_loan: Vec::new(), kills: 0 };
    for round in 0..rounds {
        let first = told.counts.first().copied().unwrap_or(0);
        let kill_at =
            (story.kills && first > 0 && round % 3 == 1).then(|| random.between(1, first - 1));
        let count = fill_in_time(&mut nginx, story.pattern, kill_at, true)?;
        told.counts.push(count);
        if story.kills && round % 3 == 2 {
            kill_all(&mut nginx)?;
        }
        if story.kills && round % 3 == 0 {
            let begun = |now: &Summary| now.stored < count;
            wait_for(&nginx, "nothing expired", DRAIN_MAX, begun)?;
            kill_all(&mut nginx)?;
        }
        if round % 4 == 1 {
            told.on_loan.push(fill_in_time(&mut nginx, story.pattern, None, false)?);
        }
    }
    wait_for(&nginx, "trash not freed", DRAIN_MAX, is_drained)?;
    told.kills = nginx.kills();
    let bad = nginx.stop(&[])?;
    match bad.first() {
        Some(line) => Err(format!("error log: {line}")),
        None => Ok(told),
    }
}

fn is_drained(now: &Summary) -> bool {
    now.stored + now.channels + now.messages_in_trash + now.channels_in_trash == 0
}

/// Waits until nothing is stored (and the trash is empty), then fills the zone. Does so again if it took so long
/// that the first messages may have expired before the last one came.
fn fill_in_time(
    nginx: &mut Nginx,
    pattern: Pattern,
    kill_at: Option<u64>,
    drained: bool,
) -> Result<u64, String> {
    for _ in 0..5 {
        wait_for(nginx, "not drained", DRAIN_MAX, |now| {
            if drained { is_drained(now) } else { now.stored + now.channels == 0 }
        })?;
        let began = Instant::now();
        let count = fill(nginx, pattern, kill_at)?;
        let stored = statistics::summary(nginx)?.stored;
        if began.elapsed() + Duration::from_secs(1) < TTL {
            return match stored == count {
                true => Ok(count),
                false => Err(format!("{count} messages were taken, {stored} are counted")),
            };
        }
    }
    Err("too slow here to fill a zone within a message's life".to_owned())
}

struct Told {
    counts: Vec<u64>,
    /// The counts of zones that were full of trash.
    on_loan: Vec<u64>,
    kills: usize,
}

/// Runs all tests at once; true if nothing was found.
pub(crate) fn run(place: &Place, seed: u64, workers: u64, rounds: u64) -> Result<bool, String> {
    let told = thread::scope(|scope| {
        let threads = STORIES.map(|story| {
            let mut place = place.clone();
            place.prefix = place.prefix.join(story.name);
            (story, scope.spawn(move || tell(story, place, seed, workers, rounds)))
        });
        threads.map(|(story, thread)| {
            let told = thread.join().unwrap_or(Err("a panic of the driver".to_owned()));
            (story, told)
        })
    });
    let mut clean = true;
    for (story, told) in told {
        let Story { name, .. } = story;
        match told {
            Err(error) => {
                clean = false;
                println!("refill: seed {seed}, {name}: {error}");
            }
            Ok(Told { counts, on_loan, kills }) => {
                let first = counts.first().copied().unwrap_or(0);
                let same = counts.iter().all(|&count| count == first)
                    && first > 0
                    && on_loan.iter().all(|&count| count * 100 >= first * LOAN_PERCENT);
                clean &= same;
                let verdict = if same {
                    format!("{first} messages each time, {on_loan:?} with the trash on loan")
                } else {
                    format!("DIFFERENT: {counts:?}, {on_loan:?} with the trash on loan")
                };
                println!(
                    "refill: seed {seed}, {name}: {} rounds, kills {kills}: {verdict}",
                    counts.len()
                );
            }
        }
    }
    Ok(clean)
}
