//! A subscriber that reads what it gets, checks it, and comes back where it was.
//!
//! ```text
//!   resting ──connect, request──► asked ──head──► attached ──messages──► …
//!      ▲                            │                │
//!      └──────── broken, goodbye, answer complete ◄──┘
//! ```
//!
//! A stream's messages count as they come; a poll's when its answer is complete.

use std::time::{Duration, Instant};

use crate::body::{Part, Wrapping, part};
use crate::http::Response;
use crate::items::Item;
use crate::ledger::{ChannelId, Wrong};
use crate::random::Random;
use crate::socket::{Heard, Manner, Socket, Token};
use crate::world::{Actor, World};

/// How a subscriber listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Streaming,
    /// Streaming to an HTTP/1.0 client.
    Old,
    EventSource,
    LongPoll,
    Polling,
    /// Long polling with a callback.
    Callback,
}

impl Mode {
    pub(crate) const ALL: [Self; 6] = [
        Self::Streaming,
        Self::Old,
        Self::EventSource,
        Self::LongPoll,
        Self::Polling,
        Self::Callback,
    ];

    fn location(self) -> &'static str {
        match self {
            Self::Streaming | Self::Old => "stream",
            Self::EventSource => "events",
            Self::LongPoll | Self::Callback => "long-poll",
            Self::Polling => "poll",
        }
    }

    fn wrapping(self) -> Wrapping {
        match self {
            Self::Streaming | Self::Old | Self::LongPoll | Self::Polling => Wrapping::Plain,
            Self::EventSource => Wrapping::Events,
            Self::Callback => Wrapping::Callback,
        }
    }

    /// Messages count one by one, not by whole answers.
    fn is_stream(self) -> bool {
        matches!(self, Self::Streaming | Self::Old | Self::EventSource)
    }
}

/// Where it begins, and how it goes on after a break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resume {
    /// With the first message of each channel; on by time and tag.
    Time,
    /// With the first message; on by Last-Event-Id.
    Event,
    /// With what is published while it is there; a break is a gap.
    Never,
}

/// One subscribed channel, and how far it was read.
#[derive(Debug)]
struct Cursor {
    channel: ChannelId,
    /// The id that must come next; `None`: whatever comes first.
    next: Option<u64>,
    /// (first id since an attachment, mark at that attachment) to be judged when all is known.
    firsts: Vec<(u64, u64)>,
}

/// A place in time: of the last message, or as the server said.
#[derive(Debug, Clone, Default)]
struct Place {
    time: String,
    tag: Option<u64>,
    event_id: String,
}

/// A time before all messages that nginx takes for one.
const BEGINNING: &str = "Thu, 01 Jan 1970 00:00:01 GMT";

/// See the file's head.
pub(crate) struct Subscriber {
    actor: u32,
    mode: Mode,
    resume: Resume,
    random: Random,
    cursors: Vec<Cursor>,
    place: Option<Place>,
    /// The last answer's place may bring messages of that second again.
    may_repeat: bool,
    socket: Option<Socket>,
    response: Response,
    /// The open request was sent and its answer is not complete.
    asked: bool,
    attached: bool,
    seen_header: bool,
    seen_footer: bool,
    mark: u64,
    /// How much of the response's body was read.
    read: usize,
    worker: Option<i32>,
    next_at: Instant,
    connected: bool,
    pub(crate) received: u64,
}

impl Subscriber {
    pub(crate) fn new(
        actor: u32,
        mode: Mode,
        resume: Resume,
        channels: &[ChannelId],
        world: &mut World,
    ) -> Self {
        let next = (resume != Resume::Never).then_some(1);
        let cursors =
            channels.iter().map(|&channel| Cursor { channel, next, firsts: Vec::new() }).collect();
        Self {
            actor,
            mode,
            resume,
            random: world.random.fork(),
            cursors,
            place: None,
            may_repeat: false,
            socket: None,
            response: Response::new(),
            asked: false,
            attached: false,
            seen_header: false,
            seen_footer: false,
            mark: 0,
            read: 0,
            worker: None,
            next_at: world.now,
            connected: false,
            received: 0,
        }
    }

    fn request(&self, world: &World) -> String {
        let names: Vec<&str> = self
            .cursors
            .iter()
            .map(|cursor| world.ledger.channels[cursor.channel].name.as_str())
            .collect();
        let query = if self.mode == Mode::Callback { "?callback=cb" } else { "" };
        let version = if self.mode == Mode::Old { "1.0" } else { "1.1" };
        let mut request = format!(
            "GET /{}/{}{query} HTTP/{version}\r\nHost: torture\r\n",
            self.mode.location(),
            names.join("/"),
        );
        match (self.resume, &self.place) {
            (Resume::Never, _) => {}
            (_, None) => request.push_str(&format!("If-Modified-Since: {BEGINNING}\r\n")),
            (Resume::Time, Some(place)) => {
                request.push_str(&format!("If-Modified-Since: {}\r\n", place.time));
                if let Some(tag) = place.tag {
                    request.push_str(&format!("If-None-Match: W/{tag}\r\n"));
                }
            }
            (Resume::Event, Some(place)) => {
                request.push_str(&format!("Last-Event-Id: {}\r\n", place.event_id));
            }
        }
        request.push_str("\r\n");
        request
    }

    fn ask(&mut self, world: &mut World) {
        if self.socket.is_none() {
            match world.connect(self.actor, Manner::default()) {
                Ok(socket) => self.socket = Some(socket),
                Err(_) => return self.rest(world, 50),
            }
            self.worker = None;
            if std::mem::replace(&mut self.connected, true) {
                world.figures.reconnects += 1;
            }
        }
        let request = self.request(world);
        if self.place.is_some() {
            world.figures.resumed += 1;
        }
        self.response = Response::new();
        (self.asked, self.attached) = (true, false);
        (self.seen_header, self.seen_footer) = (false, false);
        self.read = 0;
        if let Some(socket) = &mut self.socket
            && !socket.send(request.as_bytes())
        {
            self.lose(world);
        }
    }

    fn rest(&mut self, world: &World, msec_max: u64) {
        self.next_at = world.now + Duration::from_millis(self.random.between(0, msec_max));
    }

    /// The connection is gone.
    fn lose(&mut self, world: &mut World) {
        self.socket = None;
        if self.asked && self.response.ends_here() && self.seen_footer {
            // HTTP/1.0: the end of the connection is the end of the body.
            return self.complete(world);
        }
        if self.asked && !self.response.is_untouched() {
            let who = self.describe();
            world.broke(self.worker, who);
        }
        if self.resume == Resume::Never {
            for cursor in &mut self.cursors {
                cursor.next = None;
            }
        }
        self.asked = false;
        self.rest(world, 50);
    }

    fn head(&mut self, world: &mut World) {
        self.attached = true;
        self.worker = self.response.header("x-worker").and_then(|pid| pid.parse().ok());
        self.mark = world.ledger.mark();
        match self.response.status {
            200 => {}
            304 if !self.mode.is_stream() => {}
            status => world.odd(&format!("{}: status {status}", self.describe())),
        }
    }

    /// The answer is complete, or the stream has said goodbye.
    fn complete(&mut self, world: &mut World) {
        self.asked = false;
        self.rest(world, 30);
        if self.mode.is_stream() {
            world.figures.goodbyes += 1;
            if !self.seen_footer {
                world.odd(&format!("{}: an end without footer", self.describe()));
            }
            if self.resume == Resume::Never {
                for cursor in &mut self.cursors {
                    cursor.next = None;
                }
            }
        } else if self.resume == Resume::Time {
            self.take_place(world);
        }
        if self.mode == Mode::Polling {
            self.rest(world, 200);
        }
        if !self.response.keeps_alive() {
            self.socket = None;
        }
    }

    /// Where the server says that the next poll should begin.
    fn take_place(&mut self, world: &mut World) {
        let time = self.response.header("last-modified");
        let tag = self.response.header("etag").and_then(|tag| tag.strip_prefix("W/")?.parse().ok());
        let Some(time) = time else {
            if self.response.status == 200 {
                world.odd(&format!("{}: no Last-Modified", self.describe()));
            }
            return;
        };
        // "W/0" is the whole second, with what this subscriber may have seen of it.
        self.may_repeat = tag == Some(0);
        self.place = Some(Place { time: time.to_owned(), tag, event_id: String::new() });
    }

    /// Reads what has come of the body.
    fn digest(&mut self, world: &mut World) {
        let mut response = std::mem::replace(&mut self.response, Response::new());
        let mut event_id = None;
        let mut at = self.read;
        loop {
            if at == response.body.len() {
                break;
            }
            let (found, len) = part(self.mode.wrapping(), &response.body[at..]);
            if self.seen_footer
                || (!self.seen_header && !matches!(found, Part::Header | Part::Partial))
            {
                let rest = &response.body[at..response.body.len().min(at + 60)];
                let text = String::from_utf8_lossy(rest).into_owned();
                world.odd(&format!("{}: before header or after footer: {text:?}", self.describe()));
            }
            match found {
                Part::Header => self.seen_header = true,
                Part::Footer => self.seen_footer = true,
                Part::Message(item) => {
                    if self.mode == Mode::EventSource
                        && event_id.take().unwrap_or_default() != item.event_id
                    {
                        world.wrong(Wrong::Mixed, &format!("{}: the id: line", self.describe()));
                    }
                    self.message(world, &item);
                }
                Part::EventId(id) => event_id = Some(id.to_owned()),
                Part::Dressing | Part::Ping => {}
                Part::Partial => break,
                Part::Foreign => {
                    let rest = &response.body[at..response.body.len().min(at + 60)];
                    let text = String::from_utf8_lossy(rest).into_owned();
                    world.wrong(Wrong::Mixed, &format!("{}: foreign: {text:?}", self.describe()));
                    at = response.body.len();
                    break;
                }
            }
            // An event is taken as a whole: its `id:` line is read again with its data.
            at += len;
            if event_id.is_none() {
                self.read = at;
            }
        }
        if event_id.is_none() {
            self.read = at;
        }
        if self.read > 64 * 1024 {
            response.body.drain(..self.read);
            self.read = 0;
        }
        self.response = response;
    }

    fn message(&mut self, world: &mut World, item: &Item<'_>) {
        if item.id < 0 {
            return;
        }
        let id = item.id as u64;
        let Some(at) = self
            .cursors
            .iter()
            .position(|cursor| world.ledger.channels[cursor.channel].name == item.channel)
        else {
            let text = format!("{}: a message of \"{}\"", self.describe(), item.channel);
            return world.wrong(Wrong::Mixed, &text);
        };
        let channel = self.cursors[at].channel;
        let seen = world.ledger.see(channel, id, (item.tag, item.time), item.event_id, item.text);
        if let Err((wrong, text)) = seen {
            world.wrong(wrong, &format!("{}: {text}", self.describe()));
        }
        self.received += 1;
        match self.cursors[at].next {
            None => {
                let mark = self.mark;
                self.cursors[at].firsts.push((id, mark));
            }
            Some(next) if id == next => {}
            Some(next) if id > next => {
                let text = format!("{}: {}/{next} to {}", self.describe(), item.channel, id - 1);
                world.wrong(Wrong::Lost, &text);
            }
            Some(next) => {
                if !self.may_repeat {
                    let text =
                        format!("{}: {}/{id}, {next} was next", self.describe(), item.channel);
                    world.wrong(Wrong::Doubled, &text);
                }
                return;
            }
        }
        self.cursors[at].next = Some(id + 1);
        if self.mode.is_stream() || self.resume == Resume::Event {
            let place = self.place.get_or_insert_default();
            place.tag = Some(item.tag);
            if place.time != item.time {
                item.time.clone_into(&mut place.time);
            }
            item.event_id.clone_into(&mut place.event_id);
        }
    }

    /// Judges where live attachments began, now that all is known.
    fn judge_firsts(&mut self, world: &mut World) {
        for at in 0..self.cursors.len() {
            let channel = self.cursors[at].channel;
            for (first, mark) in std::mem::take(&mut self.cursors[at].firsts) {
                if world.ledger.begun_before(channel, first) > mark {
                    let text = format!("{}: attached, and {first} came first", self.describe());
                    world.wrong(Wrong::Lost, &text);
                }
            }
        }
    }
}

impl Actor for Subscriber {
    fn ready(&mut self, world: &mut World, token: Token) {
        let mut scratch = std::mem::take(&mut world.scratch);
        while let Some(socket) = self.socket.as_mut().filter(|socket| socket.token == token) {
            if !socket.flush() {
                self.lose(world);
                break;
            }
            let count = match socket.read(&mut scratch) {
                Heard::Nothing => break,
                Heard::End | Heard::Broken => {
                    self.lose(world);
                    break;
                }
                Heard::Bytes(count) => count,
            };
            if !self.asked {
                world.odd(&format!("{}: bytes without a request", self.describe()));
                self.lose(world);
                break;
            }
            if let Err(broken) = self.response.feed(&scratch[..count]) {
                world.odd(&format!("{}: {broken}", self.describe()));
                self.lose(world);
                break;
            }
            if self.response.has_head() && !self.attached {
                self.head(world);
            }
            if self.mode.is_stream() || self.response.is_done() {
                self.digest(world);
            }
            if self.response.is_done() {
                self.complete(world);
            }
        }
        world.scratch = scratch;
    }

    fn tick(&mut self, world: &mut World) {
        if !self.asked && world.now >= self.next_at {
            self.ask(world);
        }
    }

    fn is_done(&self, world: &World) -> bool {
        self.cursors.iter().all(|cursor| match cursor.next {
            Some(next) => next > world.ledger.last_id(cursor.channel),
            None => true,
        })
    }

    fn is_attached(&self) -> bool {
        self.attached && self.asked
    }

    fn finish(&mut self, world: &mut World) {
        self.judge_firsts(world);
    }

    fn describe(&self) -> String {
        let places: Vec<String> = self
            .cursors
            .iter()
            .map(|cursor| format!("{}:{}", cursor.channel, cursor.next.unwrap_or(0)))
            .collect();
        format!(
            "subscriber {} ({:?}, {:?}, worker {}, next {})",
            self.actor,
            self.mode,
            self.resume,
            self.worker.unwrap_or(0),
            places.join(" "),
        )
    }
}
