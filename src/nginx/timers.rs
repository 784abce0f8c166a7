//! When subscribers are to be pinged and when their time is over, behind one timer of nginx's.
//!
//! ```text
//!   queue (ping, 10 s)   #7 ─ #3 ─ #9 ─ …      all in order of due time, for each place is taken
//!   queue (end, 60 s)    #3 ─ #7 ─ …           at the tail, one interval from now
//! ```
//!
//! A queue per kind and interval: a configuration has a handful of them. The links are part of the
//! subscribers' own records, so joining, leaving and starting an interval again take constant time
//! and no memory, whatever the number of subscribers.

use ngx::ffi::{ngx_current_msec, ngx_msec_t};

/// No neighbour, or no queue.
const NONE: u32 = u32::MAX;

/// What happens when the interval is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The subscriber gets a ping, and a new interval begins.
    Ping,
    /// The subscriber's time is over.
    End,
}

/// A subscriber's place in one queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    at_msec: ngx_msec_t,
    before: u32,
    after: u32,
    queue: u32,
}

impl Place {
    /// In no queue.
    pub(super) const NOWHERE: Self = Self { at_msec: 0, before: NONE, after: NONE, queue: NONE };
}

/// Where the places of all subscribers are, by index.
pub(super) trait Places {
    /// The place of subscriber `index` in its queue of `kind`; the index is one that has joined.
    fn place(&mut self, kind: Kind, index: u32) -> &mut Place;
}

/// All queues of this worker.
#[derive(Default)]
pub(super) struct Queues {
    queues: Vec<Queue>,
}

struct Queue {
    kind: Kind,
    interval_msec: ngx_msec_t,
    head: u32,
    tail: u32,
}

impl Queues {
    /// Subscriber `index` joins the queue of this interval, to be due one interval from now.
    pub(super) fn join(
        &mut self,
        places: &mut impl Places,
        kind: Kind,
        interval_msec: ngx_msec_t,
        index: u32,
        now_msec: ngx_msec_t,
    ) {
        let same = |queue: &Queue| queue.kind == kind && queue.interval_msec == interval_msec;
        let number = self.queues.iter().position(same).unwrap_or_else(|| {
            self.queues.push(Queue { kind, interval_msec, head: NONE, tail: NONE });
            self.queues.len() - 1
        });
        self.append(places, number as u32, index, now_msec);
    }

    /// Its interval starts again. Nothing happens if it is in no queue of this kind.
    pub(super) fn restart(
        &mut self,
        places: &mut impl Places,
        kind: Kind,
        index: u32,
        now_msec: ngx_msec_t,
    ) {
        let queue = places.place(kind, index).queue;
        if queue != NONE {
            self.leave(places, kind, index);
            self.append(places, queue, index, now_msec);
        }
    }

    /// It is in no queue of this kind any more. May be called twice.
    pub(super) fn leave(&mut self, places: &mut impl Places, kind: Kind, index: u32) {
        let place = core::mem::replace(places.place(kind, index), Place::NOWHERE);
        let Some(queue) = self.queues.get_mut(place.queue as usize) else { return };
        match place.before {
            NONE => queue.head = place.after,
            before => places.place(kind, before).after = place.after,
        }
        match place.after {
            NONE => queue.tail = place.before,
            after => places.place(kind, after).before = place.before,
        }
    }

    /// Somebody who is due; the caller restarts or ends its interval before asking again.
    pub(super) fn due(
        &self,
        places: &mut impl Places,
        now_msec: ngx_msec_t,
    ) -> Option<(Kind, u32)> {
        // An end goes before a ping: nobody is pinged to be dismissed.
        let heads = |kind| self.queues.iter().filter(move |queue| queue.kind == kind);
        for queue in heads(Kind::End).chain(heads(Kind::Ping)) {
            if queue.head != NONE && places.place(queue.kind, queue.head).at_msec <= now_msec {
                return Some((queue.kind, queue.head));
            }
        }
        None
    }

    /// When [`Queues::due`] will have somebody; `None` if all queues are empty.
    pub(super) fn next_msec(&self, places: &mut impl Places) -> Option<ngx_msec_t> {
        let heads = self.queues.iter().filter(|queue| queue.head != NONE);
        heads.map(|queue| places.place(queue.kind, queue.head).at_msec).min()
    }

    fn append(&mut self, places: &mut impl Places, number: u32, index: u32, now_msec: ngx_msec_t) {
        let Some(queue) = self.queues.get_mut(number as usize) else { return };
        let before = core::mem::replace(&mut queue.tail, index);
        match before {
            NONE => queue.head = index,
            before => places.place(queue.kind, before).after = index,
        }
        let at_msec = now_msec.saturating_add(queue.interval_msec);
        *places.place(queue.kind, index) = Place { at_msec, before, after: NONE, queue: number };
    }
}

/// nginx's clock for timers, as it was when the worker last woke up.
pub(super) fn now_msec() -> ngx_msec_t {
    // SAFETY: written by this very thread, between the callbacks.
    unsafe { ngx_current_msec }
}
