//! A subscriber that reads and checks its messages, and resumes after a break.
//!
//! ```text
//!   resting ──connect, request──► asked ──head──► attached ──messages──► …
//!      ▲                            │                │
//!      └──────── broken, goodbye, answer complete ◄──┘
//! ```
//!
//! The messages of a stream count as they come, those of a poll when its answer is complete.

use std::time::{Duration, Instant};

use crate::body::{Part, Wrapping, part};
use crate::frames::{self, Frames};
use crate::http::Response;
use crate::items::Item;
use crate::ledger::{ChannelId, Fate, Wrong};
use crate::random::Random;
use crate::socket::{Heard, Manner, Socket, Token};
use crate::world::{Actor, World};

/// The mode of a subscriber.
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
    WebSocket,
}

impl Mode {
    pub(crate) const ALL: [Self; 7] = [
        Self::Streaming,
        Self::Old,
        Self::EventSource,
        Self::LongPoll,
        Self::Polling,
        Self::Callback,
        Self::WebSocket,
    ];

    pub(crate) fn location(self) -> &'static str {
        match self {
            Self::Streaming | Self::Old => "stream",
            Self::EventSource => "events",
            Self::LongPoll | Self::Callback => "long-poll",
            Self::Polling => "poll",
            Self::WebSocket => "socket",
        }
    }

    pub(crate) fn wrapping(self) -> Wrapping {
        match self {
            Self::Streaming | Self::Old | Self::LongPoll | Self::Polling | Self::WebSocket => {
                Wrapping::Plain
            }
            Self::EventSource => Wrapping::Events,
            Self::Callback => Wrapping::Callback,
        }
    }

    /// Messages count one by one, not by whole answers.
    pub(crate) fn is_stream(self) -> bool {
        matches!(self, Self::Streaming | Self::Old | Self::EventSource | Self::WebSocket)
    }
}

/// How it resumes after a break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resume {
    /// By time and tag.
    Time,
    /// By Last-Event-Id.
    Event,
    /// Not at all: it gets only what is published while it is there.
    Never,
}

/// How fast it reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Everything that has arrived.
    Full,
    /// One byte from a tiny buffer, each time that long has passed.
    Drip(Duration),
    /// Nothing for that long, then everything.
    Stall(Duration),
}

/// The behaviour of a subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Habit {
    pub(crate) mode: Mode,
    pub(crate) resume: Resume,
    /// It wants each channel from its first message on, not from now on.
    pub(crate) from_first: bool,
    /// Messages may be gone when it comes back: expired, or removed for newer ones.
    pub(crate) may_miss: bool,
    pub(crate) pace: Pace,
}

impl Habit {
    pub(crate) fn new(mode: Mode, resume: Resume) -> Self {
        let from_first = resume != Resume::Never;
        Self { mode, resume, from_first, may_miss: false, pace: Pace::Full }
    }
}

/// A WebSocket subscriber that publishes too: one message, and the next when it has got that one.
struct Speaker {
    number: u32,
    count: u64,
    open: Option<(u32, String)>,
    rest: Duration,
    next_at: Instant,
}

/// One subscribed channel, and how far it was read.
#[derive(Debug)]
struct Cursor {
    channel: ChannelId,
    /// The id that must come next; `None` if any id may come first.
    next: Option<u64>,
    /// A later one may come instead, once.
    gap: bool,
    /// (first id since an attachment, mark at that attachment), to be judged at the end.
    firsts: Vec<(u64, u64)>,
}

/// A place: that of the last message, or that of the server's answer.
#[derive(Debug, Clone, Default)]
struct Place {
    time: String,
    tag: Option<u64>,
    event_id: String,
}

/// Time limit for an answer: longer than a worker is stopped, and than a poll waits.
const ANSWER_MAX: Duration = Duration::from_secs(90);

/// A time before all messages that nginx still accepts as a time.
const BEGINNING: &str = "Thu, 01 Jan 1970 00:00:01 GMT";

/// See the file's head.
pub(crate) struct Subscriber {
    actor: u32,
    habit: Habit,
    random: Random,
    cursors: Vec<Cursor>,
    place: Option<Place>,
    /// Messages of that second may come again after the last answer's place.
    may_repeat: bool,
    socket: Option<Socket>,
    response: Response,
    frames: Frames,
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
    /// The answer was a refusal.
    refused: bool,
    asked_at: Instant,
    /// When a slow reader reads again.
    read_at: Instant,
    speaker: Option<Speaker>,
}

impl Subscriber {
    pub(crate) fn new(actor: u32, habit: Habit, channels: &[ChannelId], world: &mut World) -> Self {
        let next = habit.from_first.then_some(1);
        let cursors = channels
            .iter()
            .map(|&channel| Cursor { channel, next, gap: false, firsts: Vec::new() })
            .collect();
        Self {
            actor,
            habit,
            random: world.random.fork(),
            cursors,
            place: None,
            may_repeat: false,
            socket: None,
            response: Response::new(),
            frames: Frames::default(),
            asked: false,
            attached: false,
            seen_header: false,
            seen_footer: false,
            mark: 0,
            read: 0,
            worker: None,
            next_at: world.now,
            connected: false,
            refused: false,
            asked_at: world.now,
            read_at: world.now,
            speaker: None,
        }
    }

    /// Publishes over its WebSocket as well, with this pause after each message.
    pub(crate) fn speaking(mut self, number: u32, rest: Duration, world: &World) -> Self {
        self.speaker = Some(Speaker { number, count: 0, open: None, rest, next_at: world.now });
        self
    }

    fn speak(&mut self, world: &mut World) {
        let Some(speaker) = &mut self.speaker else { return };
        let Some(socket) = &mut self.socket else { return };
        let free = self.asked && self.seen_header && speaker.open.is_none();
        if !free || world.closing || world.now < speaker.next_at {
            return;
        }
        speaker.count += 1;
        let key = format!("p{}-{}", speaker.number, speaker.count);
        let length = match self.random.one_in(30) {
            true => self.random.between(2000, 70_000),
            false => self.random.between(0, 2000),
        };
        let mut body = format!("{key}|").into_bytes();
        body.extend((0..length).map(|_| b' ' + (self.random.next() % 90) as u8));
        let publish = world.ledger.begin(self.cursors[0].channel, key.clone(), &body);
        speaker.open = Some((publish, key));
        let mask = (self.random.next() as u32).to_be_bytes();
        if !socket.send(&frames::text(&body, mask)) {
            self.lose(world);
        }
    }

    /// A message came: perhaps its own.
    fn listen(&mut self, world: &mut World, item: &Item<'_>) {
        let Some(speaker) = &mut self.speaker else { return };
        let own = speaker.open.take_if(|(_, key)| {
            item.text.strip_prefix(key.as_bytes()).is_some_and(|rest| rest.starts_with(b"|"))
        });
        if let Some((publish, _)) = own {
            world.ledger.end(self.cursors[0].channel, publish, Fate::Acknowledged);
            speaker.next_at = world.now + speaker.rest;
        }
    }

    fn request(&self, world: &World) -> String {
        let names: Vec<&str> = self
            .cursors
            .iter()
            .map(|cursor| world.ledger.channels[cursor.channel].name.as_str())
            .collect();
        let Habit { mode, resume, from_first, .. } = self.habit;
        let query = if mode == Mode::Callback { "?callback=cb" } else { "" };
        let version = if mode == Mode::Old { "1.0" } else { "1.1" };
        let mut request = format!(
            "GET /{}/{}{query} HTTP/{version}\r\nHost: torture\r\n",
            mode.location(),
            names.join("/"),
        );
        match (resume, &self.place) {
            (_, None) if from_first => {
                request.push_str(&format!("If-Modified-Since: {BEGINNING}\r\n"));
            }
            (Resume::Never, _) | (_, None) => {}
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
        if mode == Mode::WebSocket {
            request.push_str(frames::UPGRADE);
        }
        request.push_str("\r\n");
        request
    }

    fn ask(&mut self, world: &mut World) {
        if self.socket.is_none() {
            let receive_buffer = if self.habit.pace == Pace::Full { 0 } else { 1 };
            match world.connect(self.actor, Manner { receive_buffer }) {
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
        for cursor in &mut self.cursors {
            cursor.gap = self.habit.may_miss;
            if self.habit.resume == Resume::Never && !self.habit.from_first {
                cursor.next = None;
            }
        }
        self.response = Response::new();
        self.frames = Frames::default();
        if let Some(speaker) = &mut self.speaker {
            // It is unknown whether it was published.
            speaker.open = None;
        }
        (self.asked, self.attached) = (true, false);
        (self.seen_header, self.seen_footer) = (false, false);
        self.read = 0;
        self.asked_at = world.now;
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
        if self.asked && !self.response.is_untouched() && self.habit.pace == Pace::Full {
            let who = self.describe();
            world.broke(self.worker, who);
        }
        self.asked = false;
        self.rest(world, 50);
    }

    fn head(&mut self, world: &mut World) {
        self.attached = true;
        self.worker = self.response.header("x-worker").and_then(|pid| pid.parse().ok());
        self.mark = world.ledger.mark();
        match self.response.status {
            101 if self.habit.mode == Mode::WebSocket => {}
            200 if self.habit.mode != Mode::WebSocket => {}
            304 if !self.habit.mode.is_stream() => {}
            500 | 503 if world.may_refuse => {
                world.figures.refused += 1;
                self.refused = true;
            }
            status => world.odd(&format!("{}: status {status}", self.describe())),
        }
    }

    /// The answer is complete, or the stream has said goodbye.
    fn complete(&mut self, world: &mut World) {
        self.asked = false;
        self.rest(world, 30);
        if std::mem::take(&mut self.refused) {
            self.rest(world, 500);
        } else if self.habit.mode.is_stream() {
            world.figures.goodbyes += 1;
            if !self.seen_footer {
                world.odd(&format!("{}: an end without footer", self.describe()));
            }
        } else if self.habit.resume == Resume::Time {
            self.take_place(world);
        }
        if self.habit.mode == Mode::Polling {
            self.rest(world, 200);
        }
        if !self.response.keeps_alive() || self.habit.mode == Mode::WebSocket {
            self.socket = None;
        }
    }

    /// The server's close frame has come.
    fn closed(&mut self, world: &mut World, code: u16) {
        match code {
            0 => {}
            // The zone was full.
            1008 if world.may_refuse && !self.seen_header => {
                world.figures.refused += 1;
                self.refused = true;
            }
            1011 if world.may_refuse && self.speaker.is_some() => self.refused = true,
            1013 if self.habit.pace != Pace::Full => self.refused = true,
            code => {
                self.refused = true;
                world.odd(&format!("{}: closed with {code}", self.describe()));
            }
        }
        self.complete(world);
    }

    /// The place where the next poll should begin, as the server says.
    fn take_place(&mut self, world: &mut World) {
        let time = self.response.header("last-modified");
        let tag = self.response.header("etag").and_then(|tag| tag.strip_prefix("W/")?.parse().ok());
        let Some(time) = time else {
            if self.response.status == 200 {
                world.odd(&format!("{}: no Last-Modified", self.describe()));
            }
            return;
        };
        // "W/0" is the whole second, including messages that this subscriber may have seen.
        self.may_repeat = tag == Some(0);
        self.place = Some(Place { time: time.to_owned(), tag, event_id: String::new() });
    }

    /// Reads the part of the body that has arrived.
    fn digest(&mut self, world: &mut World) {
        let mut response = std::mem::replace(&mut self.response, Response::new());
        let mut event_id = None;
        let mut at = self.read;
        loop {
            if at == response.body.len() {
                break;
            }
            let (found, len) = part(self.habit.mode.wrapping(), &response.body[at..]);
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
                    if self.habit.mode == Mode::EventSource
                        && event_id.take().unwrap_or_default() != item.event_id
                    {
                        world.wrong(Wrong::Mixed, &format!("{}: the id: line", self.describe()));
                    }
                    self.message(world, &item);
                }
                Part::EventId(id) => event_id = Some(id.to_owned()),
                Part::Dressing | Part::Ping => {}
                Part::Partial => break,
                Part::Foreign | Part::Gap(_) => {
                    let rest = &response.body[at..response.body.len().min(at + 60)];
                    let text = String::from_utf8_lossy(rest).into_owned();
                    world.wrong(Wrong::Mixed, &format!("{}: foreign: {text:?}", self.describe()));
                    at = response.body.len();
                    break;
                }
            }
            // An event is read as a whole: its `id:` line is read again with its data.
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
        self.listen(world, item);
        let channel = self.cursors[at].channel;
        let seen = world.ledger.see(channel, id, (item.tag, item.time), item.event_id, item.text);
        if let Err((wrong, text)) = seen {
            world.wrong(wrong, &format!("{}: {text}", self.describe()));
        }
        match self.cursors[at].next {
            // A poll shows its attachment too late, by its answer.
            None if self.habit.mode.is_stream() => {
                let mark = self.mark;
                self.cursors[at].firsts.push((id, mark));
            }
            None => {}
            Some(next) if id == next => {}
            Some(next) if id > next && self.cursors[at].gap => {}
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
        self.cursors[at].gap = false;
        if self.habit.mode.is_stream() || self.habit.resume == Resume::Event {
            let place = self.place.get_or_insert_default();
            place.tag = Some(item.tag);
            if place.time != item.time {
                item.time.clone_into(&mut place.time);
            }
            item.event_id.clone_into(&mut place.event_id);
        }
    }

    /// Judges where live attachments began, at the end, when everything is known.
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

impl Subscriber {
    fn flush(&mut self, world: &mut World) {
        if let Some(socket) = &mut self.socket
            && !socket.flush()
        {
            self.lose(world);
        }
    }

    /// Reads the bytes that have arrived, but at most that many.
    fn take_in(&mut self, world: &mut World, limit: usize) {
        let mut scratch = std::mem::take(&mut world.scratch);
        let room = scratch.len().min(limit);
        let mut left = limit;
        while left > 0
            && let Some(socket) = &mut self.socket
        {
            if !socket.flush() {
                self.lose(world);
                break;
            }
            let count = match socket.read(&mut scratch[..room]) {
                Heard::Nothing => break,
                Heard::End | Heard::Broken => {
                    self.lose(world);
                    break;
                }
                Heard::Bytes(count) => count,
            };
            left -= count;
            if let Err(text) = self.hear(world, &scratch[..count]) {
                world.odd(&format!("{}: {text}", self.describe()));
                self.lose(world);
                break;
            }
        }
        world.scratch = scratch;
    }

    /// Bytes have come.
    fn hear(&mut self, world: &mut World, bytes: &[u8]) -> Result<(), String> {
        if !self.asked {
            return Err("bytes without a request".to_owned());
        }
        let heard = frames::hear(&mut self.response, &mut self.frames, bytes);
        if self.response.has_head() && !self.attached {
            self.head(world);
        }
        heard?;
        let framed = self.response.status == 101;
        if !self.refused && (self.habit.mode.is_stream() || self.response.is_done()) {
            self.digest(world);
        }
        match self.frames.closed {
            Some(code) if framed => self.closed(world, code),
            None if !framed && self.response.is_done() => self.complete(world),
            _ => {}
        }
        Ok(())
    }
}

impl Actor for Subscriber {
    fn ready(&mut self, world: &mut World, token: Token) {
        if self.socket.as_ref().is_none_or(|socket| socket.token != token) {
            return;
        }
        match self.habit.pace {
            Pace::Stall(_) if world.now < self.read_at => self.flush(world),
            Pace::Drip(_) => self.flush(world),
            Pace::Full | Pace::Stall(_) => self.take_in(world, usize::MAX),
        }
    }

    fn tick(&mut self, world: &mut World) {
        if !self.asked {
            if world.now >= self.next_at {
                if let Pace::Stall(time) = self.habit.pace {
                    self.read_at = world.now + time;
                }
                self.ask(world);
            }
            return;
        }
        self.speak(world);
        match self.habit.pace {
            Pace::Drip(time) if world.now >= self.read_at => {
                self.read_at = world.now + time;
                self.take_in(world, 1);
            }
            Pace::Stall(_) if world.now >= self.read_at => self.take_in(world, usize::MAX),
            Pace::Full if !self.attached && world.now - self.asked_at > ANSWER_MAX => {
                world.odd(&format!("{}: no answer", self.describe()));
                self.lose(world);
            }
            _ => {}
        }
    }

    fn is_done(&self, world: &World) -> bool {
        if self.habit.pace != Pace::Full {
            return true;
        }
        !self.publishes()
            && self.cursors.iter().all(|cursor| match cursor.next {
                Some(next) => next > world.ledger.last_id(cursor.channel),
                None => true,
            })
    }

    fn publishes(&self) -> bool {
        self.speaker.as_ref().is_some_and(|speaker| speaker.open.is_some())
    }

    fn counts_in(&self, channel: ChannelId) -> bool {
        self.habit.mode != Mode::Polling
            && self.cursors.iter().any(|cursor| cursor.channel == channel)
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
            self.habit.mode,
            self.habit.resume,
            self.worker.unwrap_or(0),
            places.join(" "),
        )
    }
}
