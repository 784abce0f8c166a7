//! A worker without a hub: the unit tests of the session decide what it is asked and what it answers.

use core::cell::{Cell, RefCell};
use core::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

use super::link::{End, Injected, SimLink};
use crate::model::{DELETED_ID, Group, Listener, Message, Reached, Seconds, Token};
use crate::session::audience::{Audience, Records, State};
use crate::session::departure::{Departure, Entry, How, Reason};
use crate::session::fanout::Fanout;
use crate::session::link::{Host, Lagged, Read, Unpublished, Way};
use crate::session::outbox::Piece;
use crate::session::paging::Portion;
use crate::session::poll::Poll;
use crate::session::stream::Opening;
use crate::session::{Framing, Layout};

/// When a test begins.
pub(in crate::session) const NOW_MSEC: usize = 1_000_000;

/// The ways in which a stream goes out.
pub(in crate::session) const KINDS: [(Framing, Way); 5] = [
    (Framing::Plain, Way::Direct),
    (Framing::Plain, Way::Filtered),
    (Framing::EventSource, Way::Direct),
    (Framing::EventSource, Way::Filtered),
    (Framing::WebSocket, Way::Direct),
];

/// The old messages of one channel that are still to be read: the text of each is its number.
#[derive(Debug)]
pub(in crate::session) struct Old {
    channels: Vec<(Vec<u8>, u64, u64)>,
    is_pinned: bool,
}

impl Old {
    /// So many messages of each of these channels, to be read in this order.
    pub(in crate::session) fn of(channels: &[(&str, u64)]) -> Self {
        let all = channels.iter().map(|(id, count)| (id.as_bytes().to_vec(), 1, *count));
        Self { channels: all.rev().collect(), is_pinned: false }
    }
}

/// What the hub does when it is asked to deliver.
type Delivery = Box<dyn Fn(&Solo)>;

/// The worker. A clone is the same one.
#[derive(Clone)]
pub(in crate::session) struct Solo(Rc<Answers>);

/// What the worker answers, and what it was asked.
pub(in crate::session) struct Answers {
    pub(in crate::session) audience: Audience<Solo>,
    /// When messages are given.
    pub(in crate::session) now_msec: Cell<usize>,
    /// Bytes of each old message.
    pub(in crate::session) old_len: Cell<usize>,
    pub(in crate::session) gone: RefCell<Vec<Vec<u8>>>,
    pub(in crate::session) is_lagged: Cell<bool>,
    pub(in crate::session) pinned: Cell<usize>,
    /// Portions that were read.
    pub(in crate::session) portions: Cell<usize>,
    /// Time and tag of the oldest message that is not handed out.
    pub(in crate::session) oldest: Cell<Option<(Seconds, u64)>>,
    pub(in crate::session) resume_from: Cell<(Seconds, u64)>,
    pub(in crate::session) has_rounds: Cell<bool>,
    /// What is given is not all that there is of the channel.
    pub(in crate::session) more: Cell<bool>,
    pub(in crate::session) publishes: Cell<Result<usize, Unpublished>>,
    pub(in crate::session) published: RefCell<Vec<(Vec<u8>, bool)>>,
    pub(in crate::session) delivers: RefCell<Option<Delivery>>,
    pub(in crate::session) left: RefCell<Vec<Token>>,
    pub(in crate::session) too_slow: Cell<usize>,
    /// Messages that the log was told of as skipped.
    pub(in crate::session) skipped: Cell<usize>,
    pub(in crate::session) goes_on: Cell<bool>,
    /// The worker panics when it writes down an entry.
    pub(in crate::session) panics_writing_down: Cell<bool>,
}

impl core::ops::Deref for Solo {
    type Target = Answers;

    fn deref(&self) -> &Answers {
        &self.0
    }
}

impl Solo {
    pub(in crate::session) fn new() -> Self {
        Self(Rc::new(Answers {
            audience: Audience::default(),
            now_msec: Cell::new(NOW_MSEC),
            old_len: Cell::new(4),
            gone: RefCell::default(),
            is_lagged: Cell::new(false),
            pinned: Cell::new(0),
            portions: Cell::new(0),
            oldest: Cell::new(None),
            resume_from: Cell::new((500, 0)),
            has_rounds: Cell::new(true),
            more: Cell::new(false),
            publishes: Cell::new(Ok(1)),
            published: RefCell::default(),
            delivers: RefCell::default(),
            left: RefCell::default(),
            too_slow: Cell::new(0),
            skipped: Cell::new(0),
            goes_on: Cell::new(false),
            panics_writing_down: Cell::new(false),
        }))
    }

    /// A stream of plain text that the worker frames in chunks itself.
    pub(in crate::session) fn stream(&self) -> (Token, SimLink) {
        self.open(Framing::Plain, Way::Direct, false, None, None)
    }

    /// A stream of one channel or several, with old messages that did not fit into its first portion.
    pub(in crate::session) fn open(
        &self,
        framing: Framing,
        way: Way,
        has_many_channels: bool,
        input: Option<Vec<u8>>,
        rest: Option<Old>,
    ) -> (Token, SimLink) {
        let (token, link) = self.admit(framing, way, has_many_channels, input);
        let frames_chunks = way == Way::Direct && framing != Framing::WebSocket;
        let mut portion = Portion::new(frames_chunks);
        portion.push_other(|out| out.extend_from_slice(b"<head>"));
        self.audience.open(token, Opening { way, frames_chunks, portion, rest });
        (token, link)
    }

    /// A stream whose header is not on its way.
    pub(in crate::session) fn admit(
        &self,
        framing: Framing,
        way: Way,
        has_many_channels: bool,
        input: Option<Vec<u8>>,
    ) -> (Token, SimLink) {
        let link = Self::link(framing);
        link.chunks.set(framing != Framing::WebSocket && way == Way::Filtered);
        let form = self.audience.form_number(link.layout.form());
        let token = self.audience.admit_stream(link.clone(), form, has_many_channels, input);
        self.audience.accept(token, None);
        self.calls_back(&link, token);
        (token, link)
    }

    /// A WebSocket of one channel that is open, and whose client may publish.
    pub(in crate::session) fn websocket(&self) -> (Token, SimLink) {
        self.open(Framing::WebSocket, Way::Direct, false, Some(Vec::new()), None)
    }

    /// A connection of a location with templates that show where things begin and end.
    pub(in crate::session) fn link(framing: Framing) -> SimLink {
        let template: &[u8] = match framing {
            Framing::Plain => b"[~channel~ ~id~ ~text~]",
            Framing::EventSource | Framing::WebSocket => b"~channel~ ~id~ ~text~",
        };
        SimLink::new(Layout::new(framing, b"", template, b"<foot>"))
    }

    /// A poll that waits.
    pub(in crate::session) fn poll(&self, has_many_channels: bool, poll: Poll) -> (Token, SimLink) {
        let link = Self::link(Framing::Plain);
        link.chunks.set(true);
        let form = self.audience.form_number(link.layout.form());
        let token = self.audience.admit_poll(link.clone(), form, has_many_channels, poll);
        self.audience.accept(token, None);
        self.calls_back(&link, token);
        self.audience.wait(token, (0, 0).into(), None, NOW_MSEC);
        (token, link)
    }

    fn calls_back(&self, link: &SimLink, token: Token) {
        let worker = Rc::downgrade(&self.0);
        link.calls_back(move |link, vanishes| {
            let Some(worker) = worker.upgrade().map(Solo) else { return };
            worker.audience.entry(token);
            if vanishes && !link.has_ended() {
                worker.audience.forget(&worker, token);
                link.close(End::Vanished);
            }
        });
    }

    /// Messages of one channel for these subscribers.
    pub(in crate::session) fn give(&self, tokens: &[Token], messages: &[Message<'_>]) {
        let is_notice = |message: &Message<'_>| message.id == DELETED_ID;
        let deleted_at = messages.last().filter(|last| is_notice(last)).map(|_| (Seconds::MAX, 0));
        self.give_in_order(tokens, messages, deleted_at);
    }

    /// The same; the channel was deleted when this was the newest time and tag of all messages.
    pub(in crate::session) fn give_in_order(
        &self,
        tokens: &[Token],
        messages: &[Message<'_>],
        deleted_at: Option<(Seconds, u64)>,
    ) {
        let groups: Vec<Group> = tokens
            .iter()
            .map(|token| Group {
                form: self.record(*token, |records, token| {
                    records.slots.get(token).map_or(0, |subscriber| subscriber.form)
                }),
                listeners: vec![Listener { token: *token, after: 0 }],
            })
            .collect();
        let (more, now_msec) = (self.more.get(), self.now_msec.get());
        let mut fanout = Fanout::new(&groups, messages, deleted_at, more, now_msec);
        self.serve(|| fanout.run(&self.audience));
    }

    /// Everybody is written to, and as many rounds follow as are asked for.
    pub(in crate::session) fn write(&self) {
        self.serve(|| self.audience.settle_round(self));
        self.goes_on.set(true);
        while self.goes_on.take() {
            self.serve(|| self.audience.go_on(self));
        }
    }

    /// One round.
    pub(in crate::session) fn write_once(&self) {
        self.goes_on.set(false);
        self.serve(|| self.audience.go_on(self));
    }

    /// Does it as the shell does: an injected panic costs the one that it was about.
    pub(in crate::session) fn serve(&self, mut work: impl FnMut()) {
        while let Err(panic) = catch_unwind(AssertUnwindSafe(&mut work)) {
            if !panic.is::<Injected>() {
                resume_unwind(panic);
            }
            if !self.audience.pass_over(self) {
                return;
            }
        }
    }

    /// The socket takes so many bytes more, and the session is told if it wants to be.
    pub(in crate::session) fn grant(&self, token: Token, link: &SimLink, room: usize) {
        link.room.set(link.room.get().saturating_add(room));
        if link.wants_room.get() && !link.has_ended() {
            self.serve_event(|| self.audience.flush(self, token));
        }
    }

    /// Runs the handler of an event about one subscriber, as the shell does.
    pub(in crate::session) fn serve_event(&self, work: impl FnOnce()) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(work)) {
            if !panic.is::<Injected>() {
                resume_unwind(panic);
            }
            self.audience.pass_over(self);
        }
    }

    pub(in crate::session) fn record<R>(
        &self,
        token: Token,
        look: impl FnOnce(&mut Records<Self>, Token) -> R,
    ) -> R {
        look(&mut self.audience.records.borrow_mut(), token)
    }

    pub(in crate::session) fn state(&self, token: Token) -> Option<State> {
        self.record(token, |records, token| Some(records.slots.get(token)?.state))
    }

    pub(in crate::session) fn has_left(&self, token: Token) -> bool {
        self.left.borrow().contains(&token)
    }

    /// Nobody is left, and nothing of anybody.
    pub(in crate::session) fn assert_empty(&self) {
        assert_eq!(self.audience.some_from(0, usize::MAX).0, [], "records");
        let records = &mut *self.audience.records.borrow_mut();
        assert_eq!(records.wheels.next_msec(), None, "wheels");
        assert_eq!(self.pinned.get(), 0, "pinned places");
    }
}

pub(in crate::session) fn message<'a>(channel: &'a str, id: i64, text: &'a str) -> Message<'a> {
    let (channel, text) = (channel.as_bytes(), text.as_bytes());
    let (time, tag) = (1, id.unsigned_abs());
    Message { id, channel, time, tag, ..Message::ping(text) }
}

pub(in crate::session) fn reason(link: &SimLink) -> Option<Reason> {
    link.entry.get()?.reason
}

impl Host for Solo {
    type Link = SimLink;
    type Rest = Old;

    fn leave(&self, token: Token) {
        self.left.borrow_mut().push(token);
    }

    fn read_on(
        &self,
        mut rest: Old,
        each: &mut dyn FnMut(&Message<'_>) -> bool,
    ) -> Result<Read<Old>, Lagged> {
        self.portions.set(self.portions.get() + 1);
        self.park(&mut rest);
        if self.is_lagged.get() {
            let channels = rest.channels.into_iter();
            let left = channels.map(|(id, next, until)| (id.into(), until + 1 - next)).collect();
            return Err(Lagged { left, gone: Vec::new() });
        }
        let mut has_room = true;
        let mut gone = Vec::new();
        while let Some((channel, next, until)) = rest.channels.last_mut() {
            if self.gone.borrow().contains(channel) {
                gone.push(channel.as_slice().into());
            } else {
                while has_room && next <= until {
                    let text = format!("{next:0len$}", len = self.old_len.get());
                    let (id, tag) = (*next as i64, *next);
                    let text = text.as_bytes();
                    *next += 1;
                    let message = Message { id, channel, time: 1, tag, ..Message::ping(text) };
                    has_room = each(&message);
                }
                if next <= until {
                    break;
                }
            }
            rest.channels.pop();
        }
        let rest = (!rest.channels.is_empty()).then(|| {
            rest.is_pinned = true;
            self.pinned.set(self.pinned.get() + 1);
            rest
        });
        Ok(Read { rest, gone })
    }

    fn park(&self, rest: &mut Old) {
        if mem::take(&mut rest.is_pinned) {
            self.pinned.set(self.pinned.get() - 1);
        }
    }

    fn channels(rest: &Old) -> impl Iterator<Item = &[u8]> {
        rest.channels.iter().map(|(channel, ..)| channel.as_slice())
    }

    fn has_older(&self, _: Token, order: (Seconds, u64)) -> bool {
        self.oldest.get().is_some_and(|oldest| oldest < order)
    }

    fn oldest_unread(&self, _: Token, _: bool) -> Option<(Seconds, u64)> {
        self.oldest.get()
    }

    fn resume_from(&self, _: Token) -> Reached {
        self.resume_from.get().into()
    }

    fn publish(
        &self,
        _: &SimLink,
        _: Token,
        message: &[u8],
        binary: bool,
    ) -> Result<usize, Unpublished> {
        self.published.borrow_mut().push((message.to_vec(), binary));
        self.publishes.get()
    }

    fn deliver(&self) {
        if let Some(deliver) = &*self.delivers.borrow() {
            deliver(self);
        }
    }

    fn has_rounds(&self) -> bool {
        self.has_rounds.get()
    }

    fn go_on_next(&self) {
        self.goes_on.set(true);
    }

    fn write_down(&self, link: &SimLink, entry: Entry) {
        assert!(link.entry.replace(Some(entry)).is_none(), "an entry is the last");
        if self.panics_writing_down.take() {
            super::link::inject();
        }
    }

    fn report_too_slow(&self) {
        self.too_slow.set(self.too_slow.get() + 1);
    }

    fn report_skipped(&self, messages: usize) {
        assert!(messages > 0, "nothing was skipped");
        self.skipped.set(self.skipped.get() + messages);
    }

    fn depart(&self, departure: Departure<SimLink>) {
        depart(departure);
    }
}

/// What the server does with a connection that it is given back.
pub(in crate::session) fn depart(departure: Departure<SimLink>) {
    let Departure { link, how, .. } = departure;
    let end = match how {
        How::Finished(footer) => {
            link.finish(&footer);
            End::Finished
        }
        How::Closed => End::Closed,
        How::Answered(answer) => {
            let body = answer.body.map(|body| {
                let (copied, len) = (body.parts().concat(), body.len());
                let pieces: Vec<_> = body.into_pieces().collect();
                let shown: Vec<_> = pieces.iter().map(Piece::bytes).collect();
                assert_eq!((copied.len(), &copied), (len, &shown.concat()), "both ways to send it");
                copied
            });
            link.place.set(Some(answer.place));
            End::Answered(answer.announced, body)
        }
        How::Cut(cut) => End::Cut(cut),
    };
    link.close(end);
}

/// A stream of such a kind.
pub(in crate::session) fn open(
    worker: &Solo,
    (framing, way): (Framing, Way),
    rest: Option<Old>,
) -> (Token, SimLink) {
    let socket = (framing == Framing::WebSocket).then(Vec::new);
    worker.open(framing, way, false, socket, rest)
}

/// What nginx does once a WebSocket has its last frame.
pub(in crate::session) fn read_if_asked(worker: &Solo, token: Token, link: &SimLink) {
    if !link.has_ended() && link.read_again.take().is_some() {
        worker.audience.read(worker, token);
    }
}
