//! One worker's state: its hub, its subscribers, its events.
//!
//! ```text
//!   requests ─► operate ─► wakes of others, and our own delivery event
//!   events   ─► hub, audience ─► whatever is due
//! ```
//!
//! A worker is single-threaded; [`this`] finds its state. The hub is borrowed for one operation: what the
//! hub calls back must not ask for it again. What the worker does when no request asks for it stands in
//! [`crate::nginx::duties`]; what its subscribers ask of it in [`crate::nginx::host`].

use core::cell::{Cell, RefCell, RefMut};
use std::rc::Rc;

use ngx::ffi::{ngx_exiting, ngx_terminate};

use crate::hub::{Counting, Hub, Rules, Traffic};
use crate::model::{Cursor, Delivery, Now, Reached, Seconds, Stamp, Token};
use crate::nginx::event::Event;
use crate::nginx::location::Location;
use crate::nginx::mapping::Mapping;
use crate::nginx::{clock, faults, log, wake};
use crate::session::audience::Audience;
use crate::session::counts::{Change, Given, Published, Tally};

/// Between two reduced ticks of a worker that has published.
pub(super) const MESSAGES_TICK_MSEC: usize = 5000;

/// What one worker has for the length of its life.
pub(crate) struct Worker {
    hub: RefCell<Hub>,
    /// The memory that the hub works in: it stays mapped as long as somebody can come here.
    _memory: Rc<Mapping>,
    rules: Rules,
    pub(super) audience: Audience<Self>,
    pub(super) events: Events,
    /// The delivery event is running, and posts itself again if need be.
    pub(super) is_delivering: Cell<bool>,
    /// Subscribers get their goodbye, and then the seat is given up.
    pub(super) is_leaving: Cell<bool>,
    /// There is no next round of the loop.
    pub(super) is_stopping: Cell<bool>,
    /// The first slot whose subscriber has not got its goodbye.
    pub(super) goodbye_from: Cell<usize>,
    /// Subscribers whose requests nginx reads from, until it has forgotten their bodies.
    pub(super) unwatched: RefCell<Vec<Token>>,
    /// Subscribers that have gone and that the hub still has, because there was a panic.
    pub(super) staying: RefCell<Vec<Token>>,
    pub(super) full_zone: FullZone,
    /// When it was last said that subscribers were too slow, and how many have been since.
    pub(super) too_slow: Cell<(Seconds, usize)>,
    /// The same for messages that were skipped.
    pub(super) skipped: Cell<(Seconds, usize)>,
}

/// The worker's own events.
#[derive(Clone, Copy)]
pub(super) struct Events {
    /// Hands out what the hub has.
    pub(super) delivery: Event,
    /// Goes on writing.
    pub(super) flush: Event,
    /// A ping, or the end of a time.
    pub(super) due: Event,
    /// Goes on saying goodbye. An exiting worker waits for it.
    pub(super) goodbye: Event,
    pub(super) full_tick: Event,
    pub(super) full_tick_more: Event,
    pub(super) messages_tick: Event,
    pub(super) messages_tick_more: Event,
}

thread_local! {
    /// Of this worker; none in the master, in nginx's helpers, and in a worker without a seat.
    static WORKER: Cell<Option<&'static Worker>> = const { Cell::new(None) };
}

impl Worker {
    pub(super) fn new(hub: Hub, memory: Rc<Mapping>, rules: Rules, events: Events) -> Self {
        Self {
            hub: RefCell::new(hub),
            _memory: memory,
            rules,
            audience: Audience::default(),
            events,
            is_delivering: Cell::new(false),
            is_leaving: Cell::new(false),
            is_stopping: Cell::new(false),
            goodbye_from: Cell::new(0),
            unwatched: RefCell::default(),
            staying: RefCell::default(),
            full_zone: FullZone::default(),
            too_slow: Cell::new((0, 0)),
            skipped: Cell::new((0, 0)),
        }
    }

    /// Limits and times of the configuration that this worker serves.
    pub(crate) fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The hub, for reading or for several operations at once; then call [`Worker::after_operation`].
    pub(crate) fn hub(&self) -> RefMut<'_, Hub> {
        self.hub.borrow_mut()
    }

    /// This place, if the location tells places.
    pub(crate) fn cursor(&self, location: &Location, place: Reached) -> Option<Cursor> {
        location.has_cursors.then(|| place.cursor(self.hub().life()))
    }

    /// Runs one operation of the hub, and then wakes the workers that have something to deliver because
    /// of it.
    pub(crate) fn operate<R>(&self, body: impl FnOnce(&mut Hub, &Rules, Now) -> R) -> R {
        let outcome = body(&mut self.hub(), &self.rules, clock::both());
        self.after_operation();
        outcome
    }

    /// Adds what has happened to subscribers to the counters in the zone. To be called at the end of an event;
    /// `at_end`: what was to be written is.
    pub(crate) fn count(&self, at_end: bool) {
        if self.audience.has_counts() {
            let hub = self.hub();
            let mut tally = InZone { counting: hub.counting(), now: None };
            self.audience.take_counts(at_end, &mut tally);
        }
    }

    /// Bytes of an answer that the server has written for a subscriber, besides what the session has.
    pub(super) fn count_sent(&self, delivery: Delivery, bytes: i64) {
        let sent_bytes = u64::try_from(bytes).unwrap_or(0);
        self.hub().counting().traffic(delivery, &Traffic { sent_bytes, ..Traffic::default() });
    }

    /// Wakes the workers, this one included, that have news since the last operation.
    pub(crate) fn after_operation(&self) {
        self.wake_others();
        if !self.is_delivering.get() && self.hub().has_news() {
            self.events.delivery.post();
        }
    }

    /// Wakes the other workers that have news since the last operation.
    pub(super) fn wake_others(&self) {
        let wakes = self.hub().take_wakes();
        for seat in wakes {
            wake::wake(seat as usize);
        }
    }

    /// The number of the form that messages have in this location, without padding.
    pub(super) fn form_of(&self, location: &Location) -> u32 {
        *location.form.get_or_init(|| self.audience.form_number(location.layout.form()))
    }

    /// This worker has published: its reduced ticks begin.
    pub(crate) fn after_publishing(&self) {
        if !self.events.messages_tick.is_timer_set() {
            self.events.messages_tick.fire_in(MESSAGES_TICK_MSEC);
        }
    }

    /// A ping or an end may be due for somebody.
    pub(super) fn schedule(&self) {
        faults::point("schedule");
        if let Some(at_msec) = self.audience.next_due_msec() {
            self.events.due.fire_within(at_msec.saturating_sub(clock::now_msec()));
        }
    }
}

/// The counters in the zone.
struct InZone<'a> {
    counting: Counting<'a>,
    /// Asked for once, if at all.
    now: Option<Stamp>,
}

impl Tally for InZone<'_> {
    fn change(&mut self, change: Change) {
        match change {
            Change::Entered(delivery) => self.counting.entered(delivery),
            Change::Ended(delivery, reason) => self.counting.ended(delivery, reason),
        }
    }

    fn given(&mut self, delivery: Delivery, given: &Given) {
        let Given { delivered, replayed, sent_bytes } = *given;
        self.counting.traffic(delivery, &Traffic { delivered, replayed, sent_bytes });
    }

    fn buffered(&mut self, bytes: usize) {
        self.counting.buffered(bytes as u64);
    }

    fn written(&mut self, published: Published, deliveries: u64) {
        let now = *self.now.get_or_insert_with(clock::stamp);
        let secs = clock::now() - published.time;
        self.counting.delay(published.stamp, (now, secs), deliveries);
    }
}

/// Makes this the worker's state, for its whole life.
pub(super) fn set(worker: Worker) -> &'static Worker {
    let worker = Box::leak(Box::new(worker));
    WORKER.set(Some(worker));
    worker
}

/// This worker; `None` if it has no seat: the request is answered with 500.
pub(crate) fn this() -> Option<&'static Worker> {
    WORKER.get()
}

/// Looks at this worker's state, as [`this`].
pub(crate) fn with<R>(body: impl FnOnce(&'static Worker) -> R) -> Option<R> {
    this().map(body)
}

/// Runs one operation of the hub, as [`Worker::operate`].
pub(crate) fn operate<R>(body: impl FnOnce(&mut Hub, &Rules, Now) -> R) -> Option<R> {
    with(|worker| worker.operate(body))
}

/// This worker has published, as [`Worker::after_publishing`].
pub(crate) fn after_publishing() {
    with(Worker::after_publishing);
}

/// The zone refused something for lack of memory: one line a second says so.
pub(crate) fn report_full_zone() {
    with(|worker| worker.full_zone.refused(clock::now()));
}

/// This worker serves what it has and takes nothing new.
pub(crate) fn is_exiting() -> bool {
    // SAFETY: a static of nginx's, which only this thread writes.
    unsafe { ngx_exiting != 0 }
}

/// This worker ends now, or as soon as it returns to the loop.
pub(crate) fn is_terminating() -> bool {
    // SAFETY: a static of nginx's; signal handlers write to it, and any value will do.
    let is_terminated = unsafe { ngx_terminate != 0 };
    is_terminated || with(|worker| worker.is_stopping.get()).unwrap_or(true)
}

/// Sums up what the zone had no room for: one line at once, then one a second.
#[derive(Debug, Default)]
pub(super) struct FullZone {
    refused: Cell<u64>,
    reported_at: Cell<Seconds>,
}

impl FullZone {
    fn refused(&self, now: Seconds) {
        self.refused.set(self.refused.get() + 1);
        self.report(now);
    }

    pub(super) fn report(&self, now: Seconds) {
        if self.refused.get() == 0 || now == self.reported_at.get() {
            return;
        }
        self.reported_at.set(now);
        match self.refused.take() {
            1 => log::error!(log::cycle_log(), "the zone is full, 1 request was refused"),
            n => log::error!(log::cycle_log(), "the zone is full, {n} requests were refused"),
        }
    }
}
