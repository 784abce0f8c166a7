//! Streaming and event streams: a response that stays open.
//!
//! ```text
//!   header template, old messages ──► live messages, pings ──► footer, end of the body
//!           one write                    one write each
//! ```

use std::rc::Rc;

use ngx::ffi::{NGX_ERROR, NGX_HTTP_CLIENT_CLOSED_REQUEST, NGX_HTTP_OK, ngx_int_t, ngx_uint_t};

use crate::hub::{Stay, Subscribed};
use crate::model::Token;
use crate::nginx::answer::{self, Sent};
use crate::nginx::journal::Reason;
use crate::nginx::location::{self, Location};
use crate::nginx::output::{Loans, Outbox, Rendering, Way};
use crate::nginx::request::{NoMemory, Request};
use crate::nginx::subscriber::audience::{self, Mode, State, Stream, Subscriber};
use crate::nginx::subscriber::backlog::{self, Unread};
use crate::nginx::subscriber::delivery::{self, Written};
use crate::nginx::subscriber::{
    Asked, admit, conclude, ending, event_stream_type, keep_open, set_content_type,
};
use crate::nginx::timers::{self, Kind};
use crate::nginx::worker;
use crate::session::Padding;

/// Registers the subscriber and sends what there is to send at once.
pub(super) fn start(request: &mut Request, location: &'static Location, asked: &Asked<'_>) -> Sent {
    let peer = request.peer();
    if peer.has_hung_up() {
        return Ok(NGX_HTTP_CLIENT_CLOSED_REQUEST as ngx_int_t);
    }
    let padding = padding(request, location)?;
    let loans = Loans::of(peer).ok_or(NoMemory)?;
    // What nginx does with the body is known once the header is sent.
    let stream = Stream {
        way: Way::Filtered,
        frames_chunks: false,
        is_answer: false,
        outbox: Outbox::default(),
        unread: None,
        loans,
        socket: None,
    };
    let form = audience::with(|audience| match &padding {
        Some(padding) => audience.forms.number(&location.layout.form().padded(padding)),
        None => audience.forms.number(location.layout.form()),
    });
    let has_many = asked.requested.len() > 1;
    let subscriber = Subscriber::new(peer, location, form, has_many, Mode::Stream(stream));
    let token = admit(request, subscriber)?;
    let subscribed = match asked.subscribe(location, token, form, Stay::Live, false) {
        Ok(Ok(subscribed)) => subscribed,
        Ok(Err(refusal)) => {
            ending::forget(token);
            return answer::refused(request, refusal);
        }
        Err(code) => {
            ending::forget(token);
            return Ok(code);
        }
    };
    let opened = open(request, location, padding.as_ref(), token, subscribed);
    conclude(request, token, opened, |request| keep_open(request, token))
}

/// What to return for a request that is over; `None`: it stays.
fn open(
    request: &mut Request,
    location: &'static Location,
    padding: Option<&Padding>,
    token: Token,
    mut subscribed: Subscribed,
) -> Result<Option<ngx_int_t>, NoMemory> {
    audience::with(|audience| {
        if let Some(subscriber) = audience.subscribers.get(token) {
            subscriber.reason = Reason::Client;
        }
    });
    if let Some(code) = send_header(request, location)? {
        return Ok(Some(code));
    }
    let peer = request.peer();
    if !peer.set_no_delay() {
        return Ok(Some(NGX_ERROR as ngx_int_t));
    }
    let is_direct = !location.force_filters && !peer.needs_filters();
    let frames_chunks = is_direct && peer.is_chunked();
    let mut opening = Rendering::default();
    let rest = push_opening(&mut opening, padding, token, frames_chunks, location, &mut subscribed);
    let is_over = worker::is_exiting();
    audience::with(|audience| {
        let Some(subscriber) = audience.subscribers.get(token) else { return };
        subscriber.state = if is_over { State::Ending } else { State::Open };
        if is_over {
            subscriber.reason = Reason::Shutdown;
        }
        if let Mode::Stream(stream) = &mut subscriber.mode {
            stream.way = if is_direct { Way::Direct } else { Way::Filtered };
            stream.frames_chunks = frames_chunks;
            stream.outbox.push(&Rc::new(opening), 0);
            stream.outbox.mark_backlog();
            stream.unread = rest;
        }
    });
    if !is_over {
        // Who has read the header finds itself counted.
        settle(location, token);
    }
    Ok(write_first(token))
}

/// Writes what waits, in the content handler. What to return for a request that is over; `None`: it
/// stays.
pub(super) fn write_first(token: Token) -> Option<ngx_int_t> {
    match delivery::write(token) {
        Written::Open => return None,
        Written::Ended => {
            if let Some(subscriber) = ending::forget(token) {
                return Some(ending::close_body(&subscriber));
            }
        }
        Written::TooSlow => ending::report_too_slow(),
        Written::Gone | Written::Lost => {}
    }
    ending::give_up(token);
    Some(NGX_ERROR as ngx_int_t)
}

/// The subscriber stays: it counts, and its times begin.
pub(super) fn settle(location: &Location, token: Token) {
    worker::operate(|hub, rules, now| hub.announce(token, rules, now));
    let now_msec = timers::now_msec();
    audience::with(|audience| {
        if let Some(interval_msec) = location.ping_interval_msec {
            audience.join(token, Kind::Ping, interval_msec, now_msec);
        }
        if let Some(ttl_msec) = location.connection_ttl_msec {
            audience.join(token, Kind::End, ttl_msec, now_msec);
        }
    });
}

/// Header template and old messages: a portion of them, and what is left.
pub(super) fn push_opening(
    opening: &mut Rendering,
    padding: Option<&Padding>,
    token: Token,
    frames_chunks: bool,
    location: &Location,
    subscribed: &mut Subscribed,
) -> Option<Box<Unread>> {
    delivery::push(opening, frames_chunks, |out| location.layout.open(padding, out));
    let form = audience::with(|audience| {
        let number = audience.subscribers.get(token)?.form;
        audience.forms.get(number).cloned()
    });
    let form = form?;
    let mut count = 0;
    let replayed = worker::operate(|hub, _, now| {
        hub.read_backlog(subscribed, now, &mut |message| {
            count += 1;
            delivery::push(opening, frames_chunks, |out| form.render(message, out));
            !backlog::is_full(opening.len(), count)
        })
    });
    audience::with(|audience| audience.count(token, count as usize));
    replayed?.rest.map(|rest| Box::new(Unread::new(rest)))
}

/// Status and headers. `Some`: nginx has ended the request, and this is what to return.
fn send_header(request: &mut Request, location: &Location) -> Result<Option<ngx_int_t>, NoMemory> {
    set_content_type(request, location, event_stream_type(location))?;
    request.fields_mut().headers_out.status = NGX_HTTP_OK as ngx_uint_t;
    Ok(answer::send_header(request))
}

/// The padding that the client's browser needs before it shows anything.
fn padding(request: &Request, location: &Location) -> Result<Option<Padding>, NoMemory> {
    if location.padding.is_empty() {
        return Ok(None);
    }
    let Some(agent) = super::value(request, location.user_agent, b"User-Agent")? else {
        return Ok(None);
    };
    if agent.is_empty() {
        return Ok(None);
    }
    let rule = location.padding.iter().find(|rule| rule.user_agent.matches(&agent));
    let largest = location::main_conf(request.as_non_null()).padding_max();
    Ok(rule.map(|rule| Padding {
        header_min: rule.header_min,
        message_min: rule.message_min,
        largest,
    }))
}
