//! A connection that does what a test wants, and keeps every byte that its client gets.
//!
//! ```text
//!   send ─────────────────────────┐
//!   flush ─► held (the server's   ├─► room ─► received
//!            own output) ─────────┘
//!   receive ◄─ input
//! ```
//!
//! Each call of any of its methods has a number, and at each the test may let something go wrong. No method
//! may be called after the request has ended: nginx has freed the connection by then.

use core::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use crate::model::Reached;
use crate::session::Layout;
use crate::session::departure::{Cut, Entry};
use crate::session::frames::Terms;
use crate::session::link::{Flushed, Link, Lost, Received, Slow, Way};
use crate::session::outbox::Outbox;
use crate::wire::chunked;
use crate::wire::resume::Announced;

/// What a panic carries that a test has asked for.
pub(in crate::session) struct Injected;

/// Panics, without a line on the terminal.
pub(in crate::session) fn inject() -> ! {
    std::panic::resume_unwind(Box::new(Injected))
}

thread_local! {
    static RENDERINGS_LEFT: Cell<Option<usize>> = const { Cell::new(None) };
    static PORTION: Cell<Option<(usize, usize)>> = const { Cell::new(None) };
}

/// Portions of old messages are full with so many bytes, or so many messages; `None`: as they really are.
pub(in crate::session) fn set_portion(portion: Option<(usize, usize)>) {
    PORTION.set(portion);
}

pub(in crate::session) fn portion() -> Option<(usize, usize)> {
    PORTION.get()
}

/// The rendering of a message panics, after so many that do not.
pub(in crate::session) fn fail_rendering(after: Option<usize>) {
    RENDERINGS_LEFT.set(after);
}

/// A message is being rendered.
pub(in crate::session) fn rendering() {
    match RENDERINGS_LEFT.get() {
        Some(0) => {
            RENDERINGS_LEFT.set(None);
            inject();
        }
        left => RENDERINGS_LEFT.set(left.map(|left| left - 1)),
    }
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::session) enum Fault {
    /// The socket takes nothing until the test gives it room.
    Block,
    /// The socket takes so many bytes more, and then nothing.
    Take(usize),
    /// The connection is lost, from this call on.
    Lose,
    /// The server ends the request: in this call if that may call back, else in the next one that may,
    /// and at the latest when the event is over.
    Vanish,
    /// The method panics.
    Panic,
}

/// How the server ended the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::session) enum End {
    /// With the end of the body.
    Finished,
    /// With a WebSocket's last frame.
    Closed,
    /// With this answer to a poll; `None` for 304.
    Answered(Announced, Option<Vec<u8>>),
    /// In the middle.
    Cut(Cut),
    /// On its own account.
    Vanished,
    /// It was not let in.
    Refused,
}

/// Decides what goes wrong in the call of this number.
type Plan = Box<dyn FnMut(usize) -> Option<Fault>>;
type CallBack = Box<dyn Fn(&SimLink, bool)>;

/// A connection. A clone is the same one.
#[derive(Clone)]
pub(in crate::session) struct SimLink(Rc<Connection>);

pub(in crate::session) struct Connection {
    pub(in crate::session) layout: Layout,
    pub(in crate::session) ping_text: Vec<u8>,
    pub(in crate::session) buffered_max: Cell<usize>,
    pub(in crate::session) slow: Cell<Slow>,
    /// What [`Link::is_plain`] answers, in turn.
    pub(in crate::session) plain: RefCell<VecDeque<bool>>,
    /// The server makes chunks of what goes through all its filters.
    pub(in crate::session) chunks: Cell<bool>,

    /// Bytes that the socket takes now.
    pub(in crate::session) room: Cell<usize>,
    /// Bytes that the server's own output has taken, and the socket not yet.
    held: RefCell<Vec<u8>>,
    /// Bytes that the socket has taken so far.
    pub(in crate::session) written: Cell<u64>,
    pub(in crate::session) received: RefCell<Vec<u8>>,
    pub(in crate::session) wants_room: Cell<bool>,
    /// How often the time began in which the socket may take nothing.
    pub(in crate::session) restarts: Cell<usize>,

    pub(in crate::session) input: RefCell<VecDeque<u8>>,
    pub(in crate::session) has_hung_up: Cell<bool>,
    pub(in crate::session) wants_input: Cell<bool>,
    /// Its read handler is to run anyway: `Some(true)` soon.
    pub(in crate::session) read_again: Cell<Option<bool>>,
    pub(in crate::session) reads: Cell<usize>,

    calls: Cell<usize>,
    plan: RefCell<Plan>,
    is_lost: Cell<bool>,
    vanishes: Cell<bool>,
    /// Ends the request with `true`; else it only asks about the subscriber.
    call_back: RefCell<Option<CallBack>>,
    pub(in crate::session) entry: Cell<Option<Entry>>,
    pub(in crate::session) end: RefCell<Option<End>>,
    /// The place that the header of a poll's answer has told.
    pub(in crate::session) announced: Cell<Option<Announced>>,
    /// The exact place that an answer tells.
    pub(in crate::session) place: Cell<Option<Reached>>,
}

impl core::ops::Deref for SimLink {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.0
    }
}

impl SimLink {
    pub(in crate::session) fn new(layout: Layout) -> Self {
        Self(Rc::new(Connection {
            layout,
            ping_text: b"ping".to_vec(),
            buffered_max: Cell::new(usize::MAX),
            slow: Cell::new(Slow::Disconnect),
            plain: RefCell::default(),
            chunks: Cell::new(false),
            room: Cell::new(usize::MAX),
            held: RefCell::default(),
            written: Cell::new(0),
            received: RefCell::default(),
            wants_room: Cell::new(false),
            restarts: Cell::new(0),
            input: RefCell::default(),
            has_hung_up: Cell::new(false),
            wants_input: Cell::new(false),
            read_again: Cell::new(None),
            reads: Cell::new(0),
            calls: Cell::new(0),
            plan: RefCell::new(Box::new(|_| None)),
            is_lost: Cell::new(false),
            vanishes: Cell::new(false),
            call_back: RefCell::default(),
            entry: Cell::new(None),
            end: RefCell::default(),
            announced: Cell::new(None),
            place: Cell::new(None),
        }))
    }

    /// The methods that may call back do so.
    pub(in crate::session) fn calls_back(&self, call_back: impl Fn(&Self, bool) + 'static) {
        *self.call_back.borrow_mut() = Some(Box::new(call_back));
    }

    /// From now on `plan` decides what goes wrong in a call.
    pub(in crate::session) fn fails(&self, plan: impl FnMut(usize) -> Option<Fault> + 'static) {
        *self.plan.borrow_mut() = Box::new(plan);
    }

    /// This goes wrong in the call of this number, counted from here.
    pub(in crate::session) fn fails_at(&self, number: usize, fault: Fault) {
        let number = self.calls.get() + number;
        self.fails(move |call| (call == number).then_some(fault));
    }

    /// Calls until now.
    pub(in crate::session) fn calls(&self) -> usize {
        self.calls.get()
    }

    /// Bytes that the client has got.
    pub(in crate::session) fn received(&self) -> Vec<u8> {
        self.received.borrow().clone()
    }

    /// Bytes that the server holds for the socket.
    pub(in crate::session) fn held(&self) -> usize {
        self.held.borrow().len()
    }

    /// The same bytes, and no others from now on.
    pub(in crate::session) fn take_received(&self) -> Vec<u8> {
        self.received.take()
    }

    pub(in crate::session) fn end(&self) -> Option<End> {
        self.end.borrow().clone()
    }

    pub(in crate::session) fn has_ended(&self) -> bool {
        self.end.borrow().is_some()
    }

    pub(in crate::session) fn is_lost(&self) -> bool {
        self.is_lost.get()
    }

    /// The test wants the request to end when the event is over.
    pub(in crate::session) fn is_vanishing(&self) -> bool {
        self.vanishes.get() && !self.has_ended()
    }

    /// The server has ended the request: nothing of it may be used any more.
    pub(in crate::session) fn close(&self, end: End) {
        assert!(!self.has_ended(), "a request ends once");
        *self.end.borrow_mut() = Some(end);
    }

    /// The server's own last bytes, which it writes even if that takes a while.
    pub(in crate::session) fn finish(&self, footer: &[u8]) {
        assert!(self.held.borrow().is_empty(), "the body ends behind all that waits");
        let mut last = Vec::new();
        self.frame(Way::Filtered, footer, &mut last);
        if self.chunks.get() {
            last.extend_from_slice(b"0\r\n\r\n");
        }
        self.received.borrow_mut().extend(last);
    }

    fn frame(&self, way: Way, bytes: &[u8], out: &mut Vec<u8>) {
        let from = out.len();
        out.extend_from_slice(bytes);
        if way == Way::Filtered && self.chunks.get() {
            chunked::enclose(out, from);
        }
    }

    fn called(&self, may_call_back: bool) {
        assert!(!self.has_ended(), "a connection is used after its request");
        let number = self.calls.replace(self.calls.get() + 1);
        let fault = (self.plan.borrow_mut())(number);
        match fault {
            None => {}
            Some(Fault::Block) => self.room.set(0),
            Some(Fault::Take(len)) => self.room.set(len),
            Some(Fault::Lose) => self.is_lost.set(true),
            Some(Fault::Vanish) => self.vanishes.set(true),
            Some(Fault::Panic) => inject(),
        }
        if may_call_back && let Some(call_back) = &*self.call_back.borrow() {
            call_back(self, self.vanishes.get());
        }
    }

    fn use_or_lose(&self) -> Result<(), Lost> {
        if self.is_lost.get() { Err(Lost) } else { Ok(()) }
    }

    /// Gives the socket what the server holds.
    fn write_held(&self) {
        let mut held = self.held.borrow_mut();
        let len = held.len().min(self.room.get());
        self.take_room(len);
        self.note_written(len);
        self.received.borrow_mut().extend_from_slice(&held[..len]);
        held.drain(..len);
    }

    fn note_written(&self, len: usize) {
        self.written.set(self.written.get() + len as u64);
    }

    fn take_room(&self, len: usize) {
        if self.room.get() != usize::MAX {
            self.room.set(self.room.get() - len);
        }
    }
}

impl Link for SimLink {
    fn layout(&self) -> &Layout {
        self.called(false);
        &self.layout
    }

    fn ping_text(&self) -> &[u8] {
        self.called(false);
        &self.ping_text
    }

    fn terms(&self) -> Terms {
        self.called(false);
        Terms { publish: true, binary: true, message_max: 1 << 20 }
    }

    fn buffered_max(&self) -> usize {
        self.called(false);
        self.buffered_max.get()
    }

    fn slow(&self) -> Slow {
        self.called(false);
        self.slow.get()
    }

    fn is_plain(&self) -> bool {
        self.called(false);
        // What the server holds comes first.
        let mut plain = self.plain.borrow_mut();
        let next = plain.pop_front().unwrap_or(true);
        plain.push_back(next);
        next && self.held.borrow().is_empty()
    }

    fn is_writable(&self) -> bool {
        self.called(false);
        self.room.get() > 0
    }

    fn send(&self, bytes: &[u8]) -> Result<usize, Lost> {
        self.called(false);
        self.use_or_lose()?;
        assert!(self.held.borrow().is_empty(), "these bytes overtake others");
        let len = bytes.len().min(self.room.get());
        self.take_room(len);
        self.note_written(len);
        self.received.borrow_mut().extend_from_slice(&bytes[..len]);
        Ok(len)
    }

    fn sent(&self) -> u64 {
        self.written.get()
    }

    fn flush(&self, way: Way, outbox: &mut Outbox) -> Flushed {
        self.called(true);
        if self.has_ended() || self.is_lost.get() {
            return Flushed::Lost;
        }
        let before = self.received.borrow().len();
        self.write_held();
        while self.held.borrow().is_empty()
            && let Some(piece) = outbox.take(way == Way::Direct)
        {
            let mut framed = Vec::new();
            self.frame(way, piece.bytes(), &mut framed);
            self.held.borrow_mut().extend(framed);
            self.write_held();
        }
        if outbox.is_empty() && self.held.borrow().is_empty() {
            Flushed::All
        } else {
            Flushed::Some { progress: self.received.borrow().len() > before }
        }
    }

    fn run_posted(&self) {
        self.called(true);
    }

    fn await_writable(&self, restart: bool) -> Result<(), Lost> {
        self.called(false);
        self.wants_room.set(true);
        self.restarts.set(self.restarts.get() + usize::from(restart));
        self.use_or_lose()
    }

    fn stop_waiting(&self) -> Result<(), Lost> {
        self.called(false);
        self.wants_room.set(false);
        self.use_or_lose()
    }

    fn receive(&self, buffer: &mut [u8]) -> Received {
        self.called(false);
        self.reads.set(self.reads.get() + 1);
        if self.is_lost.get() {
            return Received::Lost;
        }
        let mut input = self.input.borrow_mut();
        let len = input.len().min(buffer.len());
        for (place, byte) in buffer.iter_mut().zip(input.drain(..len)) {
            *place = byte;
        }
        match len {
            0 if self.has_hung_up.get() => Received::End,
            0 => Received::Nothing,
            len => Received::Bytes(len),
        }
    }

    fn await_readable(&self) -> Result<(), Lost> {
        self.called(false);
        self.wants_input.set(true);
        self.use_or_lose()
    }

    fn ignore_readable(&self) {
        self.called(false);
        self.wants_input.set(false);
    }

    fn read_again(&self, soon: bool) {
        self.called(false);
        self.read_again.set(Some(soon || self.read_again.get() == Some(true)));
    }

    fn has_hung_up(&self) -> bool {
        self.called(false);
        self.has_hung_up.get()
    }
}
