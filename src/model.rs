//! The words that all layers share: what a message, a cursor and the figures about them are.

use core::ops::{Deref, DerefMut};

mod metrics;

pub use metrics::{
    ChannelCounts, Discard, Histogram, HistogramKind, Metrics, Operation, Removal, Served, Source,
    Stamp, ZoneBytes,
};

/// Whole seconds. A time of day is one since 1970, UTC.
pub type Seconds = i64;

/// The two clocks of an operation, in seconds.
///
/// Somebody may set the system's clock at any time, forward and back. So it only says when a message was
/// published. Ages are measured with the other clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The system's clock: seconds since 1970, UTC.
    pub wall: Seconds,
    /// The monotonic clock, which nobody can set and which is the same in all processes. It counts from any
    /// moment. A worker knows the time of its last wake-up, so it may be a little behind other workers.
    pub steady: Seconds,
}

#[cfg(any(test, fuzzing))]
impl Now {
    /// Both clocks say this.
    pub const fn both(time: Seconds) -> Self {
        Self { wall: time, steady: time }
    }
}

#[cfg(any(test, fuzzing))]
impl core::ops::Add<Seconds> for Now {
    type Output = Self;

    fn add(self, seconds: Seconds) -> Self {
        Self { wall: self.wall + seconds, steady: self.steady + seconds }
    }
}

#[cfg(any(test, fuzzing))]
impl core::ops::AddAssign<Seconds> for Now {
    fn add_assign(&mut self, seconds: Seconds) {
        *self = *self + seconds;
    }
}

/// `~id~` of a ping.
pub const PING_ID: i64 = -1;
/// `~id~` of the notice that a channel was deleted.
pub const DELETED_ID: i64 = -2;
/// `~id~` of the answer of a long poll that timed out.
pub const TIMEOUT_ID: i64 = -3;
/// `~id~` of the message that tells a subscriber what it does not get.
pub const GAP_ID: i64 = -4;
/// Event type of that message.
pub const GAP_TYPE: &[u8] = b"gap";

/// One message as templates and framings see it. All slices borrow from the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// 1 for the first message of a channel, then counts up; negative for the special ones above.
    pub id: i64,
    /// Id of the channel, decoded; empty for pings and timeouts.
    pub channel: &'a [u8],
    /// When it was published; 0 for special messages.
    pub time: Seconds,
    /// Orders the messages of one second over all channels, from 1; 0 for special messages.
    pub tag: u64,
    /// Which zone it was published in: see [`Cursor::life`]. 0 for special messages.
    pub life: u64,
    /// Itself, as the newest message of its channel up to its place. `None` for special messages; but one that
    /// tells of a gap may have a place, and then the newest one up to there.
    pub latest: Option<Latest>,
    /// `Event-Id` of the publisher; `Some(b"")` when it was given but empty.
    pub event_id: Option<&'a [u8]>,
    /// `Event-Type` of the publisher; `Some(b"")` when it was given but empty.
    pub event_type: Option<&'a [u8]>,
    /// The payload, any bytes.
    pub text: &'a [u8],
    /// When it was published, for measuring; 0 for special messages and notices.
    pub stamp: Stamp,
    /// The publisher sent it as a binary WebSocket message.
    pub binary: bool,
}

impl<'a> Message<'a> {
    /// The message of id -1 that keeps a connection busy.
    pub const fn ping(text: &'a [u8]) -> Self {
        Self::special(PING_ID, b"", text)
    }

    /// The message of id -2 that subscribers of a deleted channel receive.
    pub const fn deleted(channel: &'a [u8], text: &'a [u8]) -> Self {
        Self::special(DELETED_ID, channel, text)
    }

    /// The message of id -3 that ends a long poll.
    pub const fn timed_out() -> Self {
        Self::special(TIMEOUT_ID, b"", b"Timed out")
    }

    /// The message of id -4 that tells of a gap in a channel. `place`: where a client is that has been told.
    pub fn gap(channel: &'a [u8], text: &'a [u8], place: Option<Cursor>) -> Self {
        let gap = Self { event_type: Some(GAP_TYPE), ..Self::special(GAP_ID, channel, text) };
        let Some(Cursor { life, time, tag, latest }) = place else { return gap };
        Self { life, time, tag, latest, ..gap }
    }

    const fn special(id: i64, channel: &'a [u8], text: &'a [u8]) -> Self {
        let (event_id, event_type) = (None, None);
        let stamp = Stamp(0);
        Self {
            id,
            channel,
            time: 0,
            tag: 0,
            life: 0,
            latest: None,
            event_id,
            event_type,
            text,
            stamp,
            binary: false,
        }
    }

    /// Its place in the zone. `None` for special messages, which have none, but for that of a gap.
    pub fn cursor(&self) -> Option<Cursor> {
        let Self { life, time, tag, .. } = *self;
        (life != 0).then_some(Cursor { life, time, tag, latest: self.latest })
    }

    /// How far a subscriber is that gets this message next.
    pub fn reached_before(&self) -> Reached {
        // The first tag of a second is 1.
        let place = (self.time, self.tag.saturating_sub(1));
        Reached { place, latest: self.latest.map(Latest::before) }
    }
}

/// The name of one subscriber of this worker: a slot, and a generation that is never used again.
/// The session, the hub and nginx's pointers all use this name.
///
/// A token may outlive its subscriber. It then finds nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token {
    index: u32,
    /// Counts up by one whenever the slot gets a new subscriber. 0 names nobody.
    generation: u32,
}

// A token has to fit into a pointer of nginx.
const _: () = assert!(size_of::<usize>() == 8, "only for machines of 64 bits");

impl Token {
    /// The subscriber of this generation in this slot. A generation of 0 names nobody.
    pub const fn new(index: u32, generation: u32) -> Self {
        Self { index, generation }
    }

    /// Its slot. Slots are small numbers that are used again.
    pub const fn index(self) -> u32 {
        self.index
    }

    /// Which subscriber of the slot it is.
    pub const fn generation(self) -> u32 {
        self.generation
    }

    /// The token as a number, for code that hands it back unchanged. Not 0 if it names somebody.
    pub const fn to_usize(self) -> usize {
        (self.generation as usize) << 32 | self.index as usize
    }

    /// The token of this number.
    pub const fn from_usize(number: usize) -> Self {
        Self { index: number as u32, generation: (number >> 32) as u32 }
    }
}

/// One subscriber of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its name.
    pub token: Token,
    /// Id of the channel's newest message when it subscribed. It gets only later ones.
    pub after: u64,
}

impl Listener {
    /// The part of a batch that this subscriber gets. Nearly always that is all of it.
    pub fn due<'m, 'a>(&self, messages: &'m [Message<'a>]) -> &'m [Message<'a>] {
        let has =
            |message: &Message<'_>| u64::try_from(message.id).is_ok_and(|id| id <= self.after);
        if messages.first().is_some_and(|first| !has(first)) {
            return messages;
        }
        let had = messages.iter().take_while(|message| has(message));
        messages.get(had.count()..).unwrap_or(&[])
    }
}

/// The listeners of a channel whose messages have the same form.
#[derive(Debug)]
pub struct Group {
    /// The number of the form.
    pub form: u32,
    /// The listeners, in no order.
    pub listeners: Vec<Listener>,
}

/// A list that nearly always has one element, and then needs no memory of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Few<T> {
    /// Exactly one.
    One([T; 1]),
    /// None, or several.
    Many(Vec<T>),
}

impl<T> Few<T> {
    /// Adds an element at the end.
    pub fn push(&mut self, element: T) {
        *self = match core::mem::take(self) {
            Self::One([first]) => Self::Many(vec![first, element]),
            Self::Many(elements) if elements.is_empty() => Self::One([element]),
            Self::Many(mut elements) => {
                elements.push(element);
                Self::Many(elements)
            }
        };
    }
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl<T> Deref for Few<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Self::One(element) => element,
            Self::Many(elements) => elements,
        }
    }
}

impl<T> DerefMut for Few<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match self {
            Self::One(element) => element,
            Self::Many(elements) => elements,
        }
    }
}

impl<T> FromIterator<T> for Few<T> {
    fn from_iter<I: IntoIterator<Item = T>>(elements: I) -> Self {
        let mut elements = elements.into_iter();
        let Some(first) = elements.next() else { return Self::default() };
        match elements.next() {
            None => Self::One([first]),
            Some(second) => Self::Many([first, second].into_iter().chain(elements).collect()),
        }
    }
}

/// A place in the order of all messages of a zone, and which zone that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The zone: a random number that was made with it. Never 0.
    pub life: u64,
    /// Time and tag of a message, or of a moment between two of them.
    pub time: Seconds,
    /// See there.
    pub tag: u64,
    /// The newest message of one channel up to there, if that is said.
    pub latest: Option<Latest>,
}

/// A message of one channel, by its number. From it and a later one it can be told how many lie between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Latest {
    /// Which channel of the zone: they are numbered as they are made, from 1. One that is made again has
    /// another number.
    pub channel: u32,
    /// The message's id. 0: the channel has none yet.
    pub id: u64,
}

impl Latest {
    /// The one before.
    pub fn before(self) -> Self {
        Self { id: self.id.saturating_sub(1), ..self }
    }
}

/// How far a subscriber has got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reached {
    /// Time and tag in the zone.
    pub place: (Seconds, u64),
    /// The newest message of one channel up to there, if it is known.
    pub latest: Option<Latest>,
}

impl Reached {
    /// The same as a client can name it, in the zone of this life.
    pub fn cursor(self, life: u64) -> Cursor {
        let Self { place: (time, tag), latest } = self;
        Cursor { life, time, tag, latest }
    }
}

impl From<(Seconds, u64)> for Reached {
    fn from(place: (Seconds, u64)) -> Self {
        Self { place, latest: None }
    }
}

/// A subscriber's place in a channel, as its request states it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Since<'a> {
    /// `If-Modified-Since` or its directive; `None` if absent or unparsable.
    pub time: Option<Seconds>,
    /// `If-None-Match` or its directive; `None` if absent or not a number.
    pub tag: Option<u64>,
    /// `Last-Event-Id` or its directive; `None` if absent or empty.
    pub event_id: Option<&'a [u8]>,
    /// The same, if it is a cursor and those are on. Then there is nothing else.
    pub cursor: Option<Cursor>,
}

/// Why a subscriber does not get all messages that it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    /// Newer messages have pushed some out.
    Evicted,
    /// Their time to live was over.
    Expired,
    /// They were published without being stored.
    Unstored,
    /// Nobody knows: the event id is not there, no message of the zone has the place yet, or the channel was
    /// removed and made again.
    Unknown,
    /// The place is one in another zone: the server was started anew. No channel keeps this reason.
    Restarted,
    /// The subscriber is too slow for all of them. No channel keeps this reason.
    Slow,
}

impl Gap {
    /// What clients and logs are told.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Evicted => "evicted",
            Self::Expired => "expired",
            Self::Unstored => "unstored",
            Self::Restarted => "restarted",
            Self::Unknown => "unknown",
            Self::Slow => "slow",
        }
    }
}

/// How a subscriber is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// An open response.
    Streaming,
    /// Server-sent events.
    EventSource,
    /// Frames.
    WebSocket,
    /// One answer, when there is something to say.
    LongPolling,
    /// One answer, at once.
    Polling,
}

impl Delivery {
    /// All of them; each stands at its [number](Delivery::number).
    pub const ALL: [Self; 5] =
        [Self::Streaming, Self::EventSource, Self::WebSocket, Self::LongPolling, Self::Polling];

    /// Its place in a table with a row for each.
    pub const fn number(self) -> usize {
        self as usize
    }

    /// The response stays open until the server or the client ends it.
    pub const fn is_stream(self) -> bool {
        match self {
            Self::Streaming | Self::EventSource | Self::WebSocket => true,
            Self::Polling | Self::LongPolling => false,
        }
    }

    /// What configurations, logs and metrics call it.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Streaming => "streaming",
            Self::EventSource => "eventsource",
            Self::WebSocket => "websocket",
            Self::LongPolling => "long-polling",
            Self::Polling => "polling",
        }
    }
}

/// Why a subscriber ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It was not let in; the status says why.
    Refused,
    /// It closed the connection, or the connection broke.
    Client,
    /// A poll got its answer.
    Answered,
    /// Its time to live was over.
    Ttl,
    /// Its last channel was deleted.
    Deleted,
    /// The worker ends: reload, stop or quit.
    Shutdown,
    /// It broke a rule of the WebSocket protocol, or its message was too large.
    Protocol,
    /// More than `push_stream_subscriber_max_buffered` waited for it, or old messages were gone
    /// before it took them.
    Slow,
    /// It took nothing for `send_timeout`.
    SendTimeout,
    /// A bug of ours: serving it panicked.
    Error,
}

impl Reason {
    /// All of them; each stands at its [number](Reason::number).
    pub const ALL: [Self; 10] = [
        Self::Refused,
        Self::Client,
        Self::Answered,
        Self::Ttl,
        Self::Deleted,
        Self::Shutdown,
        Self::Protocol,
        Self::Slow,
        Self::SendTimeout,
        Self::Error,
    ];

    /// Its place in a table with a row for each.
    pub const fn number(self) -> usize {
        self as usize
    }

    /// What logs and metrics call it.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Client => "client",
            Self::Answered => "answered",
            Self::Ttl => "ttl",
            Self::Deleted => "deleted",
            Self::Shutdown => "shutdown",
            Self::Protocol => "protocol",
            Self::Slow => "slow",
            Self::SendTimeout => "send_timeout",
            Self::Error => "error",
        }
    }
}

/// The figures of one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelInfo<Id = Vec<u8>> {
    /// Channel id, raw bytes.
    pub id: Id,
    /// Id of its last message.
    pub published: u64,
    /// Messages now stored in it.
    pub stored: u64,
    /// Its subscriptions, in all workers.
    pub subscribers: u64,
    /// Counts up with each channel created in the zone: lists are in this order.
    pub created: u64,
}

/// The figures at the head of a list of channels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Live channels that are not wildcard channels, the events channel included.
    pub channels: u64,
    /// Live wildcard channels.
    pub wildcard_channels: u64,
    /// Seconds since the zone was created.
    pub uptime: u64,
}

/// The figures of the summary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The figures that lists show too.
    pub totals: Totals,
    /// Messages published since the zone was created, the events channel's excluded.
    pub published: u64,
    /// Messages now stored, the events channel's excluded.
    pub stored: u64,
    /// Discarded messages whose memory is not free yet.
    pub messages_in_trash: u64,
    /// Channels deleted and not yet in the trash.
    pub channels_in_delete: u64,
    /// Channels whose memory is not free yet.
    pub channels_in_trash: u64,
    /// Open subscriber connections of all workers.
    pub subscribers: u64,
    /// One entry a live worker, in the order of their seats.
    pub workers: Vec<WorkerInfo>,
}

/// The figures of one worker in the summary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkerInfo {
    /// Process id.
    pub pid: u32,
    /// Its open subscriber connections.
    pub subscribers: u64,
    /// Seconds since it started.
    pub uptime: u64,
}

/// The result of an audit of the zone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// Nothing changed during the walk, so counters and lists could be compared too.
    pub compared: bool,
    /// Bytes of the store.
    pub bytes: u64,
    /// Bytes of its fixed tables.
    pub table_bytes: u64,
    /// Bytes of a page.
    pub page_bytes: u64,
    /// All pages after the tables.
    pub pages: u32,
    /// Pages that are free.
    pub free_pages: u32,
    /// Pages that are kept for interests.
    pub reserve_pages: u32,
    /// Pages that hold seats.
    pub seat_pages: u32,
    /// By kind of record, in slots.
    pub kinds: Vec<(&'static str, Amount)>,
    /// Bytes at the ends of pages, too few for a slot.
    pub page_overhead_bytes: u64,
    /// The seats that a process has taken.
    pub seats: Vec<SeatState>,
    /// Names of the rules that were broken, and how often.
    pub violations: Vec<(&'static str, u64)>,
}

/// A number of records, and the bytes of their slots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Records.
    pub count: u64,
    /// Bytes of their slots.
    pub bytes: u64,
}

/// The state of a worker's seat in an audit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SeatState {
    /// Number of the seat; the master's is 0.
    pub seat: u32,
    /// Process id.
    pub pid: u32,
    /// It was woken and has not looked for news since.
    pub is_woken: bool,
    /// Words in its undo log.
    pub log_words: u32,
    /// The locks that it holds, one bit each.
    pub holds: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_have_a_row_for_each() {
        assert!(Delivery::ALL.iter().enumerate().all(|(row, one)| one.number() == row));
        assert!(Reason::ALL.iter().enumerate().all(|(row, one)| one.number() == row));
    }

    #[test]
    fn a_token_survives_as_a_number() {
        for (index, generation) in [(0, 0), (0, 1), (7, u32::MAX), (u32::MAX, 1)] {
            let token = Token::new(index, generation);
            assert_eq!(Token::from_usize(token.to_usize()), token);
            assert_eq!((token.index(), token.generation()), (index, generation));
            assert_eq!(token.to_usize() == 0, (index, generation) == (0, 0));
        }
    }

    #[test]
    fn a_listener_gets_what_is_newer_than_its_subscription() {
        let message = |id| Message { id, ..Message::ping(b"text") };
        let messages = [message(4), message(5), message(6), message(DELETED_ID)];
        let due = |after| {
            let listener = Listener { token: Token::new(0, 1), after };
            listener.due(&messages).iter().map(|message| message.id).collect::<Vec<_>>()
        };
        assert_eq!(due(0), [4, 5, 6, DELETED_ID]);
        assert_eq!(due(5), [6, DELETED_ID]);
        assert_eq!(due(9), [DELETED_ID], "the notice is for everybody");
    }
}
