//! Streaming and event streams: a response that stays open.
//!
//! ```text
//!   header template, old messages ──► live messages, pings ──► footer, end of the body
//!           one write                    one write each
//! ```

use ngx::ffi::{NGX_ERROR, NGX_HTTP_CLIENT_CLOSED_REQUEST, ngx_int_t};

use crate::hub::{Missing, Stay, Subscribed};
use crate::model::{Cursor, Delivery, Token};
use crate::nginx::answer::{self, Sent};
use crate::nginx::location::Location;
use crate::nginx::peer::Peer;
use crate::nginx::request::{NoMemory, Request};
use crate::nginx::subscriber::admission::{admit, conclude, keep_open};
use crate::nginx::subscriber::asking::{Asked, read_backlog, value};
use crate::nginx::subscriber::forgetting::forget_header;
use crate::nginx::worker::{self, Worker};
use crate::nginx::{clock, departing, faults, request_pool, respond, settings};
use crate::session::departure::Reason;
use crate::session::link::{Host, Way};
use crate::session::paging::Portion;
use crate::session::stream::{Opening, Times};
use crate::session::{Framing, Padding};
use crate::wire::sse;

/// Registers the subscriber and sends what there is to send at once.
pub(super) fn start(
    worker: &Worker,
    request: &mut Request,
    location: &'static Location,
    asked: &Asked<'_>,
    delivery: Delivery,
) -> Sent {
    let peer = request.peer();
    if peer.has_hung_up() {
        return Ok(NGX_HTTP_CLIENT_CLOSED_REQUEST as ngx_int_t);
    }
    let padding = padding(request, location)?;
    let audience = &worker.audience;
    let form = match &padding {
        Some(padding) => audience.form_number(&location.layout.form().padded(padding)),
        None => worker.form_of(location),
    };
    request_pool::save_block(request);
    let token = admit(request, location, |client| {
        audience.admit_stream(client, form, asked.has_many_channels(), None)
    })?;
    if location.has_cursors {
        audience.put_in_order(token);
    }
    let opened = match asked.subscribe(worker, location, token, form, Stay::Live, false) {
        Ok(subscribed) => {
            audience.accept(token, subscribed.gap());
            audience.let_in(token, delivery);
            open(worker, request, location, padding.as_ref(), token, subscribed)
        }
        Err(refusal) => {
            audience.forget(worker, token);
            return answer::refused(request, refusal);
        }
    };
    conclude(worker, token, opened, || {
        if location.forget_request && is_direct(location, request.peer()) {
            forget_header(request);
        }
        keep_open(worker, request, token)
    })
}

/// What to return for a request that is over; `None`: it stays.
fn open(
    worker: &Worker,
    request: &mut Request,
    location: &'static Location,
    padding: Option<&Padding>,
    token: Token,
    subscribed: Subscribed,
) -> Result<Option<ngx_int_t>, NoMemory> {
    respond::tell(request, location, subscribed.gap(), None)?;
    // What nginx does with the body is known once the header is sent.
    if let Some(code) = respond::open(request, location)? {
        return Ok(Some(code));
    }
    let peer = request.peer();
    if !peer.set_no_delay() {
        return Ok(Some(NGX_ERROR as ngx_int_t));
    }
    let is_direct = is_direct(location, peer);
    let way = if is_direct { Way::Direct } else { Way::Filtered };
    let mut portion = Portion::new(is_direct && peer.is_chunked());
    portion.push_other(|out| location.layout.open(padding, out));
    begin(worker, location, token, way, portion, subscribed);
    Ok(write_first(worker, token))
}

/// No body filter has anything to do with the response. To be asked when the header has been sent.
fn is_direct(location: &Location, peer: Peer) -> bool {
    !location.force_filters && !peer.needs_filters()
}

/// Header and old messages wait to be written, and the subscriber is counted. In a worker that ends it
/// ends at once.
pub(super) fn begin(
    worker: &Worker,
    location: &Location,
    token: Token,
    way: Way,
    mut portion: Portion,
    mut subscribed: Subscribed,
) {
    let audience = &worker.audience;
    let frames_chunks = portion.is_chunked();
    let mut opening = First::of(location);
    let beginning = subscribed.beginning();
    let life = worker.hub().life();
    let rest = audience.form_of(token).and_then(|form| {
        let mut missing = subscribed.missing().to_vec();
        let mut tell = |portion: &mut Portion, first| {
            let place = || beginning.at(first).cursor(life);
            let mut gaps = missing.drain(..);
            while let Some(Missing { channel, reason, count }) = gaps.next() {
                // A client that has it has been told of all.
                let place = gaps.as_slice().is_empty().then(place);
                portion.push_other(|out| form.gap(&channel, reason, count, place, out));
            }
            opening.push(portion, place);
        };
        let replayed = read_backlog(worker, &mut subscribed, &mut |message| {
            faults::point("backlog");
            tell(&mut portion, Some(message.reached_before()));
            portion.push(&form, message)
        });
        // There is no old message.
        tell(&mut portion, None);
        replayed.rest
    });
    audience.open(token, Opening { way, frames_chunks, portion, rest });
    if worker::is_exiting() {
        worker.leave(token);
        audience.end(token, Reason::Shutdown, None);
    } else {
        // Before the header can be read: a client that has it finds itself counted.
        worker.operate(|hub, rules, now| hub.announce(token, rules, now));
        let times = Times {
            ping_interval_msec: location.ping_interval_msec,
            ttl_msec: location.connection_ttl_msec,
        };
        audience.begin_times(token, times, clock::now_msec());
    }
}

/// What an event stream begins with, before its first message.
struct First {
    retry_msec: Option<usize>,
    has_place: bool,
}

impl First {
    fn of(location: &Location) -> Self {
        let is_event_stream = location.layout.form().framing() == Framing::EventSource;
        Self {
            retry_msec: location.retry_msec.filter(|_| is_event_stream),
            has_place: location.has_cursors && is_event_stream,
        }
    }

    /// Appends it, unless that was done.
    fn push(&mut self, portion: &mut Portion, place: impl FnOnce() -> Cursor) {
        let retry_msec = self.retry_msec.take().map(|msec| {
            // Up to half of it more, so that a crowd does not come back at once.
            // SAFETY: takes nothing; nginx has seeded it for this process.
            let random = u64::from(unsafe { libc::rand() }.cast_unsigned());
            msec as u64 + random % (msec as u64 / 2 + 1)
        });
        let has_place = core::mem::take(&mut self.has_place);
        if retry_msec.is_some() || has_place {
            let place = has_place.then(place);
            portion.push_other(|out| sse::open(retry_msec, place.as_ref(), out));
        }
    }
}

/// Writes what waits, in the content handler. What to return for a request that is over; `None`: it
/// stays.
pub(super) fn write_first(worker: &Worker, token: Token) -> Option<ngx_int_t> {
    worker.audience.write_first(worker, token).map(departing::code)
}

/// The padding that the client's browser needs before it shows anything.
fn padding(request: &Request, location: &Location) -> Result<Option<Padding>, NoMemory> {
    if location.padding.is_empty() {
        return Ok(None);
    }
    let Some(agent) = value(request, location.user_agent, |r| r.header(b"User-Agent"))? else {
        return Ok(None);
    };
    if agent.is_empty() {
        return Ok(None);
    }
    let rule = location.padding.iter().find(|rule| rule.user_agent.matches(&agent));
    let largest = settings::main(request.as_non_null()).padding_max();
    Ok(rule.map(|rule| Padding {
        header_min: rule.header_min,
        message_min: rule.message_min,
        largest,
    }))
}
