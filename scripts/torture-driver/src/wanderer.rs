//! A client that is cut off at any byte, vanishes, and comes back in some mode by its cursor.
//!
//! It knows its place as programs do: from the template of each message, from the `id:` of an event, or, when
//! the answer of a poll is complete, from that answer's header. It says nothing else about what it has.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::account::{Account, Fault, Faults, Gap};
use crate::body::{Part, Wrapping, part};
use crate::frames::{self, Frames};
use crate::http::Response;
use crate::items::Item;
use crate::ledger::{ChannelId, Wrong};
use crate::random::Random;
use crate::socket::{Heard, Manner, Socket, Token};
use crate::subscriber::Mode;
use crate::world::{Actor, World};

/// What all wanderers did.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Attachments with a cursor, by mode.
    pub(crate) resumes: BTreeMap<&'static str, u64>,
    /// Gaps that were told, by reason, and of how many of them the number of messages was told.
    pub(crate) gaps: BTreeMap<String, u64>,
    pub(crate) counted: u64,
    /// How many of these numbers were compared with what did not come.
    pub(crate) compared: u64,
    /// Clients without a place.
    pub(crate) begun: u64,
    /// Connections that the client reset, and those that the server or a kill ended in the middle.
    pub(crate) cuts: u64,
    pub(crate) broken: u64,
    /// Notices of a deleted channel.
    pub(crate) deleted: u64,
    pub(crate) vain: u64,
}

/// How a wanderer behaves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Nature {
    /// Longest stay, and longest absence.
    pub(crate) stay_max_msec: u64,
    pub(crate) away_max_msec: u64,
}

/// The modes by the names of the figures.
pub(crate) const MODES: [(&str, Mode); 7] = [
    ("streaming", Mode::Streaming),
    ("http-1.0", Mode::Old),
    ("eventsource", Mode::EventSource),
    ("long-polling", Mode::LongPoll),
    ("polling", Mode::Polling),
    ("jsonp", Mode::Callback),
    ("websocket", Mode::WebSocket),
];

/// Time limit for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// One client of that many forgets its place when it leaves, and begins anew.
const FORGETFUL: u64 = 100;

/// See the file's head.
pub(crate) struct Wanderer {
    actor: u32,
    random: Random,
    nature: Nature,
    tally: Rc<RefCell<Tally>>,
    account: Account,
    cursor: String,
    /// The life of the zone that its cursor names, and that of its connection.
    cursor_life: u64,
    life: u64,
    mode: usize,
    socket: Option<Socket>,
    response: Response,
    frames: Frames,
    asked: bool,
    attached: bool,
    /// The gap in the head of the answer, and whether the body has told of one.
    gap: Option<String>,
    is_told: bool,
    /// How much of the response's body was read.
    read: usize,
    next_at: Instant,
    asked_at: Instant,
    /// When it leaves, and after how many bytes.
    leave_at: Instant,
    left: usize,
    /// A slow reader reads nothing before.
    read_at: Instant,
}

impl Wanderer {
    pub(crate) fn new(
        actor: u32,
        nature: Nature,
        channels: &[(ChannelId, bool)],
        tally: Rc<RefCell<Tally>>,
        world: &mut World,
    ) -> Self {
        Self {
            actor,
            random: world.random.fork(),
            nature,
            tally,
            account: Account::new(channels),
            cursor: String::new(),
            cursor_life: 0,
            life: 0,
            mode: actor as usize % MODES.len(),
            socket: None,
            response: Response::new(),
            frames: Frames::default(),
            asked: false,
            attached: false,
            gap: None,
            is_told: false,
            read: 0,
            next_at: world.now,
            asked_at: world.now,
            leave_at: world.now,
            left: 0,
            read_at: world.now,
        }
    }

    fn mode(&self) -> Mode {
        MODES[self.mode].1
    }

    fn request(&mut self, world: &World) -> String {
        let names: Vec<&str> = self
            .account
            .channels()
            .map(|channel| world.ledger.channels[channel].name.as_str())
            .collect();
        let version = if self.mode() == Mode::Old { "1.0" } else { "1.1" };
        let callback = if self.mode() == Mode::Callback { "&callback=cb" } else { "" };
        let (mut argument, mut header) = (String::new(), String::new());
        match self.random.one_in(2) {
            _ if self.cursor.is_empty() => {}
            true => argument = format!("&at={}", self.cursor),
            false => header = format!("Last-Event-Id: {}\r\n", self.cursor),
        }
        let upgrade = if self.mode() == Mode::WebSocket { frames::UPGRADE } else { "" };
        format!(
            "GET /{}/{}?{argument}{callback} HTTP/{version}\r\nHost: torture\r\n{header}{upgrade}\r\n",
            self.mode().location(),
            names.join("/"),
        )
    }

    /// Decides how it comes this time.
    fn plan(&mut self, world: &World) -> Manner {
        (self.leave_at, self.left) = (world.now + Duration::from_secs(1 << 20), usize::MAX);
        self.read_at = world.now;
        if world.closing {
            return Manner::default();
        }
        let stay = Duration::from_millis(self.random.between(0, self.nature.stay_max_msec));
        self.leave_at = world.now + stay;
        if self.random.one_in(3) {
            self.left = self.random.between(0, 6000) as usize;
        }
        if self.random.one_in(10) {
            self.read_at = world.now + stay.mul_f32(0.8);
            return Manner { receive_buffer: 1 };
        }
        Manner::default()
    }

    fn ask(&mut self, world: &mut World) {
        if self.random.one_in(2) {
            self.mode = self.random.index(MODES.len());
        }
        if self.mode().is_stream() {
            self.socket = None;
        }
        let manner = self.plan(world);
        if self.socket.is_none() {
            match world.connect(self.actor, manner) {
                Ok(socket) => self.socket = Some(socket),
                Err(_) => return self.rest(world, 50),
            }
            self.life = world.nginx.restarts;
        }
        let request = self.request(world);
        self.response = Response::new();
        self.frames = Frames::default();
        (self.asked, self.attached, self.read) = (true, false, 0);
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

    /// How long it stays away: mostly not for long.
    fn go_away(&mut self, world: &World) {
        self.asked = false;
        let longest = self.nature.away_max_msec;
        let longest =
            if world.closing || self.random.one_in(2) { longest.min(50) } else { longest };
        self.rest(world, longest);
        if !world.closing && self.random.one_in(FORGETFUL) {
            self.cursor.clear();
        }
    }

    /// It leaves without a word.
    fn leave(&mut self, world: &mut World) {
        self.tally.borrow_mut().cuts += 1;
        if let Some(socket) = self.socket.take() {
            socket.reset();
        }
        self.go_away(world);
    }

    /// The connection is gone.
    fn lose(&mut self, world: &mut World) {
        self.socket = None;
        if self.asked && self.response.ends_here() {
            return self.complete(world);
        }
        if self.asked && self.attached {
            self.tally.borrow_mut().broken += 1;
        }
        self.go_away(world);
    }

    fn head(&mut self, world: &mut World) {
        self.attached = true;
        match (self.response.status, self.mode()) {
            (101, Mode::WebSocket) => {}
            (200, mode) if mode != Mode::WebSocket => {}
            (304, mode) if !mode.is_stream() => {}
            (status, _) => world.odd(&format!("{}: status {status}", self.describe())),
        }
        self.gap = self.response.header("x-nginx-pushstream-gap").map(str::to_owned);
        self.is_told = false;
        let has_place = !self.cursor.is_empty();
        self.account.attach(&world.ledger, has_place);
        let is_restarted = has_place && self.cursor_life != self.life;
        let is_fair = match self.gap.as_deref() {
            Some("restarted") => is_restarted,
            Some(_) => has_place && !is_restarted,
            None => !is_restarted,
        };
        if !is_fair {
            let (was, is) = (self.cursor_life, self.life);
            let text = format!("{}: {:?}, life {was} and {is}", self.describe(), self.gap);
            world.odd(&text);
        }
        let mut tally = self.tally.borrow_mut();
        match has_place {
            true => *tally.resumes.entry(MODES[self.mode].0).or_default() += 1,
            false => tally.begun += 1,
        }
    }

    /// The body tells of a gap, ahead of all messages.
    fn tell(&mut self, world: &mut World, text: &[u8]) {
        let Some(gap) = std::str::from_utf8(text).ok().and_then(Gap::read) else {
            let text = String::from_utf8_lossy(text).into_owned();
            return world.odd(&format!("{}: no gap: {text}", self.describe()));
        };
        // The head has the first one of those that were there at the beginning.
        let is_slow = gap.reason == "slow";
        if !is_slow
            && !std::mem::replace(&mut self.is_told, true)
            && self.gap.as_deref() != Some(gap.reason)
        {
            let text = format!("{}: {:?} in the head, then {gap:?}", self.describe(), self.gap);
            world.odd(&text);
        }
        let faults = self.account.tell(&world.ledger, &gap);
        self.report(world, faults);
        let mut tally = self.tally.borrow_mut();
        *tally.gaps.entry(gap.reason.to_owned()).or_default() += 1;
        tally.counted += u64::from(gap.missed.is_some());
    }

    /// The body should have told of the gap in the head by now.
    fn check_told(&mut self, world: &mut World) {
        if self.gap.is_some() && !self.is_told {
            let text = format!("{}: {:?} only in the head", self.describe(), self.gap);
            world.odd(&text);
        }
    }

    fn report(&mut self, world: &mut World, faults: Faults) {
        for (fault, text) in faults {
            let text = format!("{}: {text}", self.describe_in(world));
            match fault {
                Fault::Untold => world.wrong(Wrong::Lost, &text),
                Fault::Doubled => world.wrong(Wrong::Doubled, &text),
                Fault::Disorder => world.wrong(Wrong::Disorder, &text),
                Fault::Mixed => world.wrong(Wrong::Mixed, &text),
                Fault::Odd => world.odd(&text),
                Fault::Vain => {
                    self.tally.borrow_mut().vain += 1;
                    world.odd(&format!("{text}: told in vain"));
                }
            }
        }
    }

    /// The answer is complete, or the stream has said goodbye.
    fn complete(&mut self, world: &mut World) {
        self.asked = false;
        if !self.mode().is_stream() {
            self.check_told(world);
            match self.response.header("x-nginx-pushstream-cursor") {
                Some(cursor) => self.move_to(cursor.to_owned()),
                None => world.odd(&format!("{}: no cursor", self.describe())),
            }
        }
        if !self.response.keeps_alive() || self.mode().is_stream() {
            self.socket = None;
        }
        self.rest(world, if self.mode() == Mode::Polling { 200 } else { 30 });
        if self.random.one_in(4) {
            self.go_away(world);
        }
    }

    /// The server's close frame has come.
    fn closed(&mut self, world: &mut World, code: u16) {
        // The end, a reload, and too slow.
        if ![0, 1000, 1001, 1013].contains(&code) {
            world.odd(&format!("{}: closed with {code}", self.describe()));
        }
        self.complete(world);
    }

    fn move_to(&mut self, cursor: String) {
        (self.cursor, self.cursor_life) = (cursor, self.life);
    }

    /// Reads the part of the body that has arrived. An event counts when the empty line after it has come.
    fn digest(&mut self, world: &mut World) {
        let response = std::mem::replace(&mut self.response, Response::new());
        let wrapping = self.mode().wrapping();
        let (mut at, mut place, mut open, mut gap) = (self.read, None, None, None);
        while at < response.body.len() {
            let (found, len) = part(wrapping, &response.body[at..]);
            match found {
                Part::Message(item) if wrapping == Wrapping::Events => open = Some(item),
                Part::Message(item) => self.message(world, &item),
                Part::EventId(id) => place = Some(id),
                Part::Gap(text) => gap = Some(text),
                Part::Dressing if wrapping == Wrapping::Events => {
                    if let Some(text) = gap.take() {
                        self.tell(world, text.as_bytes());
                    }
                    if let Some(item) = open.take() {
                        if place.unwrap_or_default() != item.cursor {
                            world.wrong(Wrong::Mixed, &format!("{}: the id:", self.describe()));
                        }
                        self.message(world, &item);
                    }
                    if let Some(cursor) = place.take() {
                        self.check_told(world);
                        self.move_to(cursor.to_owned());
                    }
                }
                Part::Header | Part::Footer | Part::Dressing | Part::Ping => {}
                Part::Partial => break,
                Part::Foreign => {
                    let rest = &response.body[at..response.body.len().min(at + 60)];
                    let text = String::from_utf8_lossy(rest).into_owned();
                    world.wrong(Wrong::Mixed, &format!("{}: foreign: {text:?}", self.describe()));
                    self.read = response.body.len();
                    break;
                }
            }
            at += len;
            if place.is_none() && open.is_none() && gap.is_none() {
                self.read = at;
            }
        }
        self.response = response;
    }

    fn message(&mut self, world: &mut World, item: &Item<'_>) {
        match item.id {
            -4 => self.tell(world, item.text),
            -2 => self.tally.borrow_mut().deleted += 1,
            1.. => {
                self.check_told(world);
                let faults = self.account.receive(&mut world.ledger, self.life, item);
                self.report(world, faults);
                self.move_to(item.cursor.to_owned());
            }
            _ => {}
        }
        // A gap may have one or not.
        if item.id != -4 && (item.id > 0) == item.cursor.is_empty() {
            world.odd(&format!("{}: {} at \"{}\"", self.describe(), item.id, item.cursor));
        }
    }

    fn take_in(&mut self, world: &mut World) {
        let mut scratch = std::mem::take(&mut world.scratch);
        while let Some(socket) = &mut self.socket {
            if !socket.flush() {
                self.lose(world);
                break;
            }
            let room = scratch.len().min(self.left);
            if room == 0 {
                self.leave(world);
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
            self.left -= count;
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
        if self.mode() != Mode::Callback || self.response.is_done() {
            self.digest(world);
        }
        match self.frames.closed {
            Some(code) => self.closed(world, code),
            None if self.response.status != 101 && self.response.is_done() => self.complete(world),
            None => {}
        }
        Ok(())
    }

    fn describe_in(&self, world: &World) -> String {
        format!("{} at {}", self.describe(), self.account.describe(&world.ledger))
    }
}

impl Actor for Wanderer {
    fn ready(&mut self, world: &mut World, token: Token) {
        if self.socket.as_ref().is_some_and(|socket| socket.token == token) {
            match world.now < self.read_at {
                true => {
                    let is_sent = self.socket.as_mut().is_none_or(Socket::flush);
                    if !is_sent {
                        self.lose(world);
                    }
                }
                false => self.take_in(world),
            }
        }
    }

    fn tick(&mut self, world: &mut World) {
        if !self.asked {
            if world.closing && self.next_at > world.now + Duration::from_millis(200) {
                self.rest(world, 200);
            }
            if world.now >= self.next_at {
                self.ask(world);
            }
        } else if world.now >= self.leave_at {
            self.leave(world);
        } else if world.now >= self.read_at && self.read_at > self.asked_at {
            self.take_in(world);
        } else if !self.attached && world.now - self.asked_at > ANSWER_MAX {
            world.odd(&format!("{}: no answer", self.describe()));
            self.lose(world);
        }
    }

    fn is_done(&self, world: &World) -> bool {
        self.account.is_complete(&world.ledger)
    }

    fn finish(&mut self, world: &mut World) {
        self.tally.borrow_mut().compared += self.account.compared;
        if !self.is_done(world) {
            let text = format!("{}: not all of the last messages came", self.describe_in(world));
            world.wrong(Wrong::Lost, &text);
        }
    }

    fn is_attached(&self) -> bool {
        self.attached && self.asked
    }

    fn describe(&self) -> String {
        format!("wanderer {} ({:?}, cursor \"{}\")", self.actor, self.mode(), self.cursor)
    }
}
