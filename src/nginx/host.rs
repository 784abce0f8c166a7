//! The worker as its subscribers see it: the hub's answers, the next round of the loop, the logs.

use core::cell::Cell;

use crate::hub::{self, Post, Refusal, Rest};
use crate::model::{Message, Reached, Seconds, Source, Token};
use crate::nginx::client::Client;
use crate::nginx::worker::{self, Worker};
use crate::nginx::{clock, departing, faults, ffi, journal, log};
use crate::session::departure::{Departure, Entry, How};
use crate::session::fanout::Fanout;
use crate::session::link::{Host, Lagged, Read, Unpublished};

/// Batches that are taken from the hub before the subscribers are written to.
const BATCHES_MAX: usize = 16;

impl Host for Worker {
    type Link = Client;
    type Rest = Rest;

    fn leave(&self, token: Token) {
        let has_left = ffi::guard("leave", false, || {
            self.operate(|hub, rules, now| {
                faults::point("leave");
                hub.leave(token, rules, now);
            });
            true
        });
        if !has_left {
            // Its record goes: nobody else would ask for this again.
            self.staying.borrow_mut().push(token);
        }
    }

    fn read_on(
        &self,
        rest: Rest,
        each: &mut dyn FnMut(&Message<'_>) -> bool,
    ) -> Result<Read<Rest>, Lagged> {
        let mut each = |message: &Message<'_>| {
            faults::point("read_on");
            each(message)
        };
        let read = self.operate(|hub, _, now| hub.read_on(rest, now, &mut each));
        read.map(|hub::Reading { rest, gone }| Read { rest, gone })
            .map_err(|hub::Lagged { left, gone }| Lagged { left, gone })
    }

    fn park(&self, rest: &mut Rest) {
        self.operate(|hub, _, now| hub.park(rest, now));
    }

    fn channels(rest: &Rest) -> impl Iterator<Item = &[u8]> {
        rest.channels()
    }

    fn has_older(&self, token: Token, order: (Seconds, u64)) -> bool {
        faults::point("has_older");
        self.operate(|hub, _, _| hub.has_older(token, order))
    }

    fn oldest_unread(&self, token: Token, is_next: bool) -> Option<(Seconds, u64)> {
        faults::point("oldest_unread");
        self.operate(|hub, _, _| hub.oldest_unread(token, is_next))
    }

    fn resume_from(&self, token: Token) -> Reached {
        faults::point("resume_from");
        self.operate(|hub, _, now| hub.resume_from(token, now))
    }

    fn publish(
        &self,
        link: &Client,
        token: Token,
        message: &[u8],
        binary: bool,
    ) -> Result<usize, Unpublished> {
        let location = link.location();
        let post = Post {
            event_id: None,
            event_type: None,
            body: &[message],
            binary,
            may_be_empty: location.websocket_binary,
            store: location.store_messages,
            source: Source::WebSocket,
            stamp: clock::stamp(),
        };
        let published = self.operate(|hub, rules, now| {
            faults::point("websocket_publish");
            let channels = hub.channels_of(token);
            // Only the module itself publishes in the events channel.
            let ids: Vec<&[u8]> = channels
                .iter()
                .map(Vec::as_slice)
                .filter(|id| *id != rules.events_channel.as_slice())
                .collect();
            if ids.is_empty() {
                return Ok(0);
            }
            hub.publish(&ids, &post, rules, now).map(|()| ids.len())
        });
        self.after_publishing();
        published.map_err(|refusal| {
            if let Refusal::NoMemory { .. } = refusal {
                worker::report_full_zone();
                return Unpublished::NoMemory;
            }
            let explain = refusal.explain().unwrap_or("");
            Unpublished::Refused { status: refusal.status(), explain }
        })
    }

    fn deliver(&self) {
        // A panic of the hub's is not about the subscriber that asks for it.
        let more = ffi::guard("deliver", true, || self.hand_out());
        self.serve("write", || self.audience.go_on(self));
        self.count(true);
        if more {
            self.events.delivery.post_next();
        }
    }

    fn has_rounds(&self) -> bool {
        !worker::is_exiting() && !worker::is_terminating()
    }

    fn go_on_next(&self) {
        self.events.flush.post_next();
    }

    fn write_down(&self, link: &Client, entry: Entry) {
        ffi::guard("write_down", (), || {
            faults::point("write_down");
            journal::write_down(link.peer().request(), entry);
        });
    }

    fn report_too_slow(&self) {
        if let Some(count) = count_for_log(&self.too_slow, 1) {
            let who = if count == 1 { "subscriber was" } else { "subscribers were" };
            log::warning!(
                log::cycle_log(),
                "{count} {who} disconnected, being too slow for \"push_stream_subscriber_max_buffered\" or \
                 for old messages, which are gone"
            );
        }
    }

    fn report_skipped(&self, messages: usize) {
        if let Some(count) = count_for_log(&self.skipped, messages) {
            let which = if count == 1 { "message was" } else { "messages were" };
            log::warning!(
                log::cycle_log(),
                "{count} {which} skipped for subscribers that are too slow for \
                 \"push_stream_subscriber_max_buffered\" or for old messages, which are gone"
            );
        }
    }

    fn depart(&self, departure: Departure<Client>) {
        if matches!(departure.how, How::Closed) && worker::is_terminating() {
            // With unread input the kernel would reset the connection when the process is gone.
            self.audience.drain(&departure.link);
        }
        departing::finalize(departure);
    }
}

/// Adds so many to what was counted since this second. `Some`: the log is to be told, once a second, and all
/// that was counted since the last time.
fn count_for_log(counted: &Cell<(Seconds, usize)>, more: usize) -> Option<usize> {
    let now = clock::now();
    let (reported_at, count) = counted.get();
    let count = count.saturating_add(more);
    if reported_at == now {
        counted.set((reported_at, count));
        return None;
    }
    counted.set((now, 0));
    Some(count)
}

impl Worker {
    /// Hands out a bounded part of what the hub has for our subscribers, and writes to them. `true`:
    /// there is more, so call again after other connections had a turn.
    pub(super) fn deliver_some(&self) -> bool {
        // First those are written to who have something already. What is published meanwhile waits in
        // the zone, where it takes its room once, and then leaves in the same write as the rest.
        if self.audience.has_dirty() {
            // Nearly always the event is on its way already; not after a panic.
            self.go_on_next();
            return true;
        }
        let more = self.hand_out();
        self.serve("write", || self.audience.go_on(self));
        self.count(true);
        more
    }

    /// Takes a bounded number of batches from the hub to the subscribers. `true`: there are more.
    fn hand_out(&self) -> bool {
        let mut more = true;
        for _ in 0..BATCHES_MAX {
            let mut each = |news: hub::News<'_>| self.take(news);
            more = self.hub().deliver(self.rules(), clock::both(), &mut each);
            // Batches of several channels are worth collecting: their subscribers get one write. But
            // those who have something already are not to wait long.
            if !more || self.audience.has_full_turn() {
                break;
            }
        }
        self.serve("settle", || self.audience.settle_round(self));
        more
    }

    fn take(&self, news: hub::News<'_>) {
        match news {
            hub::News::Messages { groups, messages, more, deleted_at } => {
                let now = clock::now_msec();
                let mut fanout = Fanout::new(groups, messages, deleted_at, more, now);
                let is_done = self.serve("fan out", || {
                    faults::point("batch");
                    fanout.run(&self.audience);
                });
                if !is_done {
                    // Nobody knows which of them have it, and the hub does not hand it out again.
                    let listeners = groups.iter().flat_map(|group| &group.listeners);
                    listeners.for_each(|listener| self.audience.fail(self, listener.token));
                }
            }
            hub::News::Ended { token, left } => {
                let is_done = self.serve("unsubscribe", || {
                    faults::point("ended");
                    self.audience.unsubscribed(token, left);
                });
                if !is_done {
                    // The hub has forgotten it, so it would stay for ever.
                    self.audience.fail(self, token);
                }
            }
            hub::News::Broken { token, .. } => self.audience.fail(self, token),
        }
    }

    /// Runs work for many subscribers that goes on where it was interrupted. A panic costs the one
    /// subscriber that it was about. `false`: the work is not done, after a panic that was about nobody in
    /// particular.
    pub(super) fn serve(&self, name: &str, mut work: impl FnMut()) -> bool {
        loop {
            let is_done = ffi::guard(name, false, || {
                work();
                true
            });
            if is_done || !self.audience.pass_over(self) {
                return is_done;
            }
        }
    }
}
