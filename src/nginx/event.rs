//! Events of our own: a timer, or "run this when the loop has handled what is at hand".

use core::mem;
use core::ptr::NonNull;

use ngx::ffi::{
    ngx_add_timer, ngx_connection_t, ngx_current_msec, ngx_del_timer, ngx_event_t, ngx_post_event,
    ngx_posted_events, ngx_posted_next_events,
};

use crate::nginx::log;

/// What nginx calls when the event is due.
pub(crate) type Handler = unsafe extern "C" fn(*mut ngx_event_t);

/// An event that lives as long as the process, so nginx can never meet it freed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event(NonNull<ngx_event_t>);

impl Event {
    /// Makes an event that does not hold up a worker that wants to exit.
    pub(crate) fn new(handler: Handler) -> Self {
        // SAFETY: numbers and pointers, for which zero is "nothing"; it is no connection of nginx's.
        let mut connection: ngx_connection_t = unsafe { mem::zeroed() };
        // nginx's debug log prints the descriptor of the connection that any timer belongs to.
        connection.fd = -1;
        // SAFETY: as above.
        let mut event: ngx_event_t = unsafe { mem::zeroed() };
        event.data = (&raw mut *Box::leak(Box::new(connection))).cast();
        event.handler = Some(handler);
        event.log = log::cycle_log().as_ptr();
        event.set_cancelable(1);
        Self(NonNull::from(Box::leak(Box::new(event))))
    }

    /// An exiting worker waits for its timer.
    pub(crate) fn holding_worker(mut self) -> Self {
        // SAFETY: the event is never freed, and only this thread touches it.
        unsafe { self.0.as_mut() }.set_cancelable(0);
        self
    }

    /// Is it going to fire by time?
    pub(crate) fn is_timer_set(self) -> bool {
        // SAFETY: the event is never freed, and only this thread touches it.
        unsafe { self.0.as_ref() }.timer_set() == 1
    }

    /// Lets it fire in so many milliseconds, instead of whenever it would have.
    pub(crate) fn fire_in(self, msec: usize) {
        // SAFETY: a whole event, which stays where it is.
        unsafe { ngx_add_timer(self.0.as_ptr(), msec) };
    }

    /// Lets it fire in so many milliseconds, unless it is going to fire earlier.
    pub(crate) fn fire_within(self, msec: usize) {
        // SAFETY: the event is never freed, and only this thread touches it.
        let event = unsafe { self.0.as_ref() };
        // SAFETY: written by this very thread, between the callbacks.
        let due = unsafe { ngx_current_msec }.saturating_add(msec);
        if event.timer_set() == 1 {
            if event.timer.key <= due {
                return;
            }
            // nginx would leave a timer alone that differs by little.
            // SAFETY: it is in the tree of timers.
            unsafe { ngx_del_timer(self.0.as_ptr()) };
        }
        self.fire_in(msec);
    }

    /// Lets it run after the events that the loop has in hand, before it sleeps. Once, however
    /// often this is called until then.
    pub(crate) fn post(self) {
        let queue = &raw mut ngx_posted_events;
        // SAFETY: a whole event, which stays where it is; the queue is nginx's own.
        unsafe { ngx_post_event(self.0.as_ptr(), queue) };
    }

    /// Lets it run in the next round of the loop, so that everybody else has a turn before.
    pub(crate) fn post_next(self) {
        let queue = &raw mut ngx_posted_next_events;
        // SAFETY: a whole event, which stays where it is; the queue is nginx's own.
        unsafe { ngx_post_event(self.0.as_ptr(), queue) };
    }
}
