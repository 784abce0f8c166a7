//! All subscribers of this worker: a record each, found by a token that is never used twice.
//!
//! ```text
//!   hub (listener's token) ──┐
//!   request (its context) ───┼─► Token: slot + generation ─► Subscriber
//!   request's cleanup ───────┘
//! ```
//!
//! A token outlives its subscriber without harm: it then finds nobody. So whoever waits for a
//! subscriber, be it a queue, a flush or nginx, need not be told when it goes.

use core::ffi::c_void;
use core::ptr::NonNull;
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};

use ngx::ffi::ngx_http_request_t;

use crate::model::Token;
use crate::nginx::journal::{Entry, Reason};
use crate::nginx::location::Location;
use crate::nginx::module;
use crate::nginx::output::{Loans, Outbox, Way};
use crate::nginx::peer::Peer;
use crate::nginx::subscriber::backlog::Unread;
use crate::nginx::subscriber::delivery::Arrival;
use crate::nginx::subscriber::polling::Poll;
use crate::nginx::subscriber::socket::Socket;
use crate::nginx::timers::{Kind, Place, Places, Queues};
use crate::session::{Form, Framing};

/// Slots are allocated so many at a time, and never move.
const PAGE: usize = 256;

/// For nginx, which hands it back.
pub(super) fn to_data(token: Token) -> *mut c_void {
    core::ptr::without_provenance_mut(token.to_usize())
}

/// The token that [`to_data`] made this of.
pub(super) fn from_data(data: *mut c_void) -> Token {
    Token::from_usize(data.addr())
}

/// The subscriber that the request belongs to, if it has got that far.
pub(super) fn of(r: NonNull<ngx_http_request_t>) -> Token {
    // SAFETY: it is ours, and a pointer.
    from_data(unsafe { *context(r) })
}

/// Lets the handlers of the request find its subscriber.
pub(super) fn attach(token: Token, peer: Peer) {
    // SAFETY: it is ours, and a pointer.
    unsafe { *context(peer.request()) = to_data(token) };
}

/// Our place among the contexts of a live request.
fn context(r: NonNull<ngx_http_request_t>) -> *mut *mut c_void {
    // SAFETY: nginx calls handlers with live requests.
    let contexts = unsafe { r.as_ref() }.ctx;
    // SAFETY: one slot per http module, and this is our module's number.
    unsafe { contexts.add(module::ctx_index()) }
}

/// What this worker knows about one subscriber. There may be hundreds of thousands of them.
pub(super) struct Subscriber {
    pub(super) peer: Peer,
    pub(super) location: &'static Location,
    /// Index into [`Audience::forms`].
    pub(super) form: u32,
    pub(super) state: State,
    pub(super) mode: Mode,
    /// What it gets has to be put in order.
    pub(super) has_many_channels: bool,
    /// Waits in [`Audience::dirty`].
    pub(super) is_dirty: bool,
    /// The socket takes no more; nginx will tell when it does.
    pub(super) is_blocked: bool,
    /// Why it will have ended, as far as we know.
    pub(super) reason: Reason,
    /// Messages given to it, for the access log.
    pub(super) messages_sent: u32,
    pub(super) ping: Place,
    pub(super) end: Place,
}

/// How the subscriber is served.
pub(super) enum Mode {
    /// Messages as they come.
    Stream(Stream),
    /// One answer, and nothing before it.
    Poll(Box<Poll>),
}

/// A response that stays open.
pub(super) struct Stream {
    pub(super) way: Way,
    /// The response is chunked, and we do it.
    pub(super) frames_chunks: bool,
    /// It is the answer to a poll, which is over when all of it is written.
    pub(super) is_answer: bool,
    pub(super) outbox: Outbox,
    /// Old messages that are still to be read from the zone, and what comes after them.
    pub(super) unread: Option<Box<Unread>>,
    pub(super) loans: NonNull<Loans>,
    /// What a WebSocket client sends; `None` for others, and while it is being read.
    pub(super) socket: Option<Box<Socket>>,
}

/// ```text
///   Starting ──► Open ──► Ending ──► (gone)
///                 └──────► TooSlow ──┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Its header or its old messages are not on their way yet.
    Starting,
    Open,
    /// What waits is the last that it gets, but for the footer.
    Ending,
    /// More waits than it may keep us holding; it is dropped with what waits.
    TooSlow,
}

impl Subscriber {
    pub(super) fn new(
        peer: Peer,
        location: &'static Location,
        form: u32,
        has_many_channels: bool,
        mode: Mode,
    ) -> Self {
        Self {
            peer,
            location,
            form,
            state: State::Starting,
            mode,
            has_many_channels,
            is_dirty: false,
            is_blocked: false,
            reason: Reason::Refused,
            messages_sent: 0,
            ping: Place::NOWHERE,
            end: Place::NOWHERE,
        }
    }

    /// So many messages more.
    pub(super) fn count(&mut self, messages: usize) {
        let messages = u32::try_from(messages).unwrap_or(u32::MAX);
        self.messages_sent = self.messages_sent.saturating_add(messages);
    }

    /// So many of those that were counted will not be given to it.
    pub(super) fn uncount(&mut self, messages: usize) {
        let messages = u32::try_from(messages).unwrap_or(u32::MAX);
        self.messages_sent = self.messages_sent.saturating_sub(messages);
    }

    /// What the access log can say about it now.
    pub(super) fn entry(&self) -> Entry {
        let bytes_buffered = match &self.mode {
            Mode::Stream(stream) => stream.buffered(),
            Mode::Poll(_) => 0,
        };
        Entry { messages_sent: self.messages_sent, bytes_buffered, reason: None }
    }

    /// An answer to a poll is being written.
    pub(super) fn is_answer(&self) -> bool {
        matches!(&self.mode, Mode::Stream(stream) if stream.is_answer)
    }

    /// Frames both ways, and nothing else.
    pub(super) fn is_websocket(&self) -> bool {
        matches!(self.mode, Mode::Stream(_))
            && self.location.layout.form().framing() == Framing::WebSocket
    }
}

/// All subscribers of this worker, and what is to be done for them.
#[derive(Default)]
pub(super) struct Audience {
    pub(super) subscribers: Subscribers,
    pub(super) forms: Forms,
    /// Who has something new in its outbox, or is to end; each once.
    pub(super) dirty: VecDeque<Token>,
    pub(super) queues: Queues,
    /// For copying pieces together; empty between uses.
    pub(super) scratch: Vec<u8>,
    /// What subscribers of several channels get when the hub has handed out all it has.
    pub(super) arrivals: Vec<Arrival>,
    /// Who has no subscription any more, but maybe messages among the arrivals.
    pub(super) ended: Vec<Token>,
    /// Subscribers that may have missed messages, because there was a panic.
    pub(super) broken: Vec<Token>,
    /// Whose requests nginx reads from, until it has forgotten their bodies.
    pub(super) unwatched: Vec<Token>,
    /// Whose old messages the socket takes as fast as they are read; each once.
    pub(super) reading: VecDeque<Token>,
    /// Portions of old messages that were given since those had their turn.
    pub(super) portions: usize,
    /// Polls that have their message, each once.
    pub(super) answered: VecDeque<Token>,
}

thread_local! {
    static AUDIENCE: RefCell<Audience> = RefCell::default();
}

/// Looks at the audience. `body` must not call into nginx or the hub: both may call back.
pub(super) fn with<R>(body: impl FnOnce(&mut Audience) -> R) -> R {
    AUDIENCE.with_borrow_mut(body)
}

impl Audience {
    /// Puts the subscriber on the list of those to be flushed.
    pub(super) fn mark_dirty(&mut self, token: Token) {
        if let Some(subscriber) = self.subscribers.get(token)
            && !subscriber.is_dirty
        {
            subscriber.is_dirty = true;
            self.dirty.push_back(token);
        }
    }

    /// The subscriber is given so many messages.
    pub(super) fn count(&mut self, token: Token, messages: usize) {
        if let Some(subscriber) = self.subscribers.get(token) {
            subscriber.count(messages);
        }
    }

    /// A poll gets so many messages more, and that ends it.
    pub(super) fn answer(&mut self, token: Token, messages: usize) {
        self.count(token, messages);
        if let Some(subscriber) = self.subscribers.get(token) {
            subscriber.reason = Reason::Answered;
        }
    }

    /// Takes the subscriber out of everything; its request is not told.
    pub(super) fn remove(&mut self, token: Token) -> Option<Subscriber> {
        self.subscribers.get(token)?;
        self.queues.leave(&mut self.subscribers, Kind::Ping, token.index());
        self.queues.leave(&mut self.subscribers, Kind::End, token.index());
        self.subscribers.remove(token)
    }

    /// Its interval of this kind begins now.
    pub(super) fn join(&mut self, token: Token, kind: Kind, interval_msec: usize, now_msec: usize) {
        if self.subscribers.get(token).is_some() {
            self.queues.join(&mut self.subscribers, kind, interval_msec, token.index(), now_msec);
        }
    }

    /// Its interval of this kind, if it has one, begins again.
    pub(super) fn restart(&mut self, token: Token, kind: Kind, now_msec: usize) {
        if self.subscribers.get(token).is_some() {
            self.queues.restart(&mut self.subscribers, kind, token.index(), now_msec);
        }
    }

    /// No interval of this kind any more.
    pub(super) fn quit(&mut self, token: Token, kind: Kind) {
        if self.subscribers.get(token).is_some() {
            self.queues.leave(&mut self.subscribers, kind, token.index());
        }
    }

    /// Somebody whose interval is over. It stays due until its interval begins again or ends.
    pub(super) fn due(&mut self, now_msec: usize) -> Option<(Kind, Token)> {
        let (kind, index) = self.queues.due(&mut self.subscribers, now_msec)?;
        Some((kind, self.subscribers.token_at(index)?))
    }

    /// When [`Audience::due`] will have somebody.
    pub(super) fn next_due_msec(&mut self) -> Option<usize> {
        self.queues.next_msec(&mut self.subscribers)
    }
}

/// The records, in slots that are used again.
#[derive(Default)]
pub(super) struct Subscribers {
    pages: Vec<Box<[Slot]>>,
    /// Slots without a tenant, the last one to be used next.
    free: Vec<u32>,
    /// For whom the queues ask although nobody is there; see [`Places`].
    nowhere: Option<Place>,
}

#[derive(Default)]
struct Slot {
    generation: u32,
    tenant: Option<Subscriber>,
}

impl Subscribers {
    /// A new subscriber.
    pub(super) fn add(&mut self, subscriber: Subscriber) -> Token {
        if self.free.is_empty() {
            let first = (self.pages.len() * PAGE) as u32;
            self.pages.push((0..PAGE).map(|_| Slot::default()).collect());
            self.free.extend((first..first + PAGE as u32).rev());
        }
        let index = self.free.pop().unwrap_or_default();
        let slot = self.slot(index).expect("a free slot is a slot");
        // A slot would need 2^32 tenants to repeat a generation.
        slot.generation = slot.generation.wrapping_add(1).max(1);
        slot.tenant = Some(subscriber);
        Token::new(index, slot.generation)
    }

    /// `None` if it has gone.
    pub(super) fn get(&mut self, token: Token) -> Option<&mut Subscriber> {
        let slot = self.slot(token.index())?;
        if slot.generation == token.generation() { slot.tenant.as_mut() } else { None }
    }

    fn remove(&mut self, token: Token) -> Option<Subscriber> {
        self.get(token)?;
        let tenant = self.slot(token.index())?.tenant.take();
        self.free.push(token.index());
        tenant
    }

    /// The subscribers of so many slots from `from` on, and where to go on; `None`: that was all.
    pub(super) fn some_from(&self, from: usize, slots: usize) -> (Vec<Token>, Option<usize>) {
        let to = from.saturating_add(slots);
        let indices = from..to.min(self.pages.len() * PAGE);
        let tokens = indices.filter_map(|index| self.token_at(index as u32)).collect();
        (tokens, (to < self.pages.len() * PAGE).then_some(to))
    }

    fn token_at(&self, index: u32) -> Option<Token> {
        let slot = self.pages.get(index as usize / PAGE)?.get(index as usize % PAGE)?;
        slot.tenant.as_ref()?;
        Some(Token::new(index, slot.generation))
    }

    fn slot(&mut self, index: u32) -> Option<&mut Slot> {
        self.pages.get_mut(index as usize / PAGE)?.get_mut(index as usize % PAGE)
    }
}

impl Places for Subscribers {
    fn place(&mut self, kind: Kind, index: u32) -> &mut Place {
        let tenant = self
            .pages
            .get_mut(index as usize / PAGE)
            .and_then(|page| page.get_mut(index as usize % PAGE))
            .and_then(|slot| slot.tenant.as_mut());
        match (tenant, kind) {
            (Some(tenant), Kind::Ping) => &mut tenant.ping,
            (Some(tenant), Kind::End) => &mut tenant.end,
            // Cannot be: whoever goes leaves its queues first (`Audience::remove`).
            (None, _) => self.nowhere.insert(Place::NOWHERE),
        }
    }
}

/// The forms in use, by number. Equal forms have one number, so renderings are shared by all
/// subscribers whose messages look alike. There are as many as the configuration has templates and
/// paddings, so none is ever forgotten.
#[derive(Default)]
pub(super) struct Forms {
    forms: Vec<Form>,
    numbers: HashMap<Form, u32>,
}

impl Forms {
    /// The number of this form.
    pub(super) fn number(&mut self, form: &Form) -> u32 {
        if let Some(number) = self.numbers.get(form) {
            return *number;
        }
        let number = self.forms.len() as u32;
        self.forms.push(form.clone());
        self.numbers.insert(form.clone(), number);
        number
    }

    /// The form of this number; `None` for a number that was never given.
    pub(super) fn get(&self, number: u32) -> Option<&Form> {
        self.forms.get(number as usize)
    }
}
