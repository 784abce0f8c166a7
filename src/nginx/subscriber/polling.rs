//! Long polling and polling: one answer per request, at once or when there is something to say.
//!
//! ```text
//!   old messages? ── yes ──► 200 with all of them, the first portion at once
//!        │ no
//!        ├── polling ──────► 304
//!        └── long polling ─► waits; the first of: a live message, its time is over, goodbye
//! ```
//!
//! A waiting poll has sent nothing, not even a header. It is answered by the oldest live message of
//! all its channels, by time and tag, for the client's next request asks for what is newer: an
//! answer must never announce a place beyond a message that the client has not had.

use ngx::ffi::{
    NGX_ERROR, NGX_HTTP_CLIENT_CLOSED_REQUEST, NGX_HTTP_OK, NGX_OK, ngx_http_send_header,
    ngx_int_t, ngx_uint_t,
};

use crate::hub::{Replayed, Rest, Stay, Subscribed};
use crate::model::{DELETED_ID, Message, Seconds, Token};
use crate::nginx::answer::{self, Sent};
use crate::nginx::journal::Reason;
use crate::nginx::location::{self, Delivery, Location};
use crate::nginx::output::{self, Loans, Outbox, Piece, Way};
use crate::nginx::peer::Peer;
use crate::nginx::request::{NoMemory, Request};
use crate::nginx::subscriber::audience::{self, Mode, State, Stream, Subscriber};
use crate::nginx::subscriber::backlog::{self, Unread};
use crate::nginx::subscriber::{
    Asked, EVENT_STREAM, admit, conclude, ending, keep_open, set_content_type, streaming,
};
use crate::nginx::timers::{self, Kind};
use crate::nginx::{headers, worker};
use crate::session::Framing;
use crate::session::polling::{self, Reply};
use crate::wire::jsonp::Callback;
use crate::wire::resume::Announced;

/// Polls that are answered before other connections of the worker have a turn.
const ANSWERS_MAX: usize = 1000;
/// How often the backlog is looked at because messages come faster than we look.
const ATTEMPTS_MAX: u32 = 4;

/// What a waiting poll needs for its answer.
pub(super) struct Poll {
    callback: Option<Callback>,
    found: Option<Found>,
    /// Where to ask again, noted when the poll left its channels.
    resume_from: Option<Seconds>,
}

/// The message that will answer the poll, unless an older one turns up.
struct Found {
    /// Time and tag. The notice that a channel was deleted comes after all messages, whenever that
    /// was: its answer announces the present, and the next request would not get what lies between.
    order: (Seconds, u64),
    announced: Option<Announced>,
    message: Piece,
}

impl Poll {
    /// Here is a live message. `true` if it is the first one.
    pub(super) fn offer(&mut self, message: &Message<'_>, render: impl FnOnce() -> Piece) -> bool {
        let is_notice = message.id == DELETED_ID;
        let order = if is_notice { (Seconds::MAX, 0) } else { (message.time, message.tag) };
        if self.found.as_ref().is_some_and(|found| found.order <= order) {
            return false;
        }
        let announced = (!is_notice).then(|| Announced::message(message));
        self.found.replace(Found { order, announced, message: render() }).is_none()
    }
}

/// Answers the request now, or lets it wait.
pub(super) fn start(
    request: &mut Request,
    location: &'static Location,
    asked: &Asked<'_>,
    waits: bool,
) -> Sent {
    let callback = match request.argument(b"callback").map(Callback::parse) {
        None => None,
        Some(Ok(callback)) => Some(callback),
        Some(Err(_)) => return Ok(answer::empty(request, 400)),
    };
    let peer = request.peer();
    let poll = Poll { callback, found: None, resume_from: None };
    let form = audience::with(|audience| audience.forms.number(location.layout.form()));
    let mode = Mode::Poll(Box::new(poll));
    let subscriber = Subscriber::new(peer, location, form, asked.requested.len() > 1, mode);
    let token = admit(request, subscriber)?;
    let opened = open(request, location, asked, token, form, waits);
    conclude(request, token, opened, |request| keep_open(request, token))
}

/// What to return for a request that is answered; `None`: it waits.
fn open(
    request: &mut Request,
    location: &'static Location,
    asked: &Asked<'_>,
    token: Token,
    form: u32,
    waits: bool,
) -> Result<Option<ngx_int_t>, NoMemory> {
    let stay = if waits { Stay::Live } else { Stay::No };
    let callback = audience::with(|audience| match &audience.subscribers.get(token)?.mode {
        Mode::Poll(poll) => poll.callback.clone(),
        Mode::Stream(_) => None,
    });
    let mut attempts = 0;
    loop {
        attempts += 1;
        let mut subscribed = match asked.subscribe(location, token, form, stay, true) {
            Ok(Ok(subscribed)) => subscribed,
            Ok(Err(refusal)) => return answer::refused(request, refusal).map(Some),
            Err(code) => return Ok(Some(code)),
        };
        audience::with(|audience| {
            if let Some(subscriber) = audience.subscribers.get(token) {
                subscriber.reason = Reason::Client;
            }
        });
        let (body, replayed) = read(location, callback.as_ref(), &mut subscribed);
        let mut announced = Announced::since(&asked.since);
        if replayed.messages > 0 {
            let count = replayed.messages as usize;
            if let Some((time, tag)) = replayed.newest {
                announced.contribute(time, tag);
            }
            let callback = callback.as_ref();
            return match replayed.rest {
                None => {
                    audience::with(|audience| audience.answer(token, count));
                    respond(request, location, callback, &announced, [Piece::of(body)]).map(Some)
                }
                Some(rest) => {
                    audience::with(|audience| audience.count(token, count));
                    begin(request, location, token, callback, &announced, body, rest)
                }
            };
        }
        if !waits || (replayed.held_back && attempts == ATTEMPTS_MAX) {
            audience::with(|audience| audience.answer(token, 0));
            return not_modified(request, location, callback.as_ref(), &announced).map(Some);
        }
        if !replayed.held_back {
            break;
        }
        // What was published while we looked can be had now.
        worker::operate(|hub, rules, now| hub.leave(token, rules, now));
    }
    if worker::is_exiting() {
        let from = worker::operate(|hub, _, now| hub.resume_from(token, now));
        let from = from.unwrap_or_else(worker::now);
        return answer_timeout(request, location, callback.as_ref(), from).map(Some);
    }
    if request.peer().has_hung_up() {
        // nginx will not tell of that again.
        return Ok(Some(NGX_HTTP_CLIENT_CLOSED_REQUEST as ngx_int_t));
    }
    worker::operate(|hub, rules, now| hub.announce(token, rules, now));
    audience::with(|audience| {
        if let Some(subscriber) = audience.subscribers.get(token) {
            subscriber.state = State::Open;
        }
        if let Some(ttl_msec) = location.longpolling_connection_ttl_msec {
            audience.join(token, Kind::End, ttl_msec, timers::now_msec());
        }
    });
    Ok(None)
}

/// The body with all old messages, if there are any; without its end if there was no room for some.
fn read(
    location: &Location,
    callback: Option<&Callback>,
    subscribed: &mut Subscribed,
) -> (Vec<u8>, Replayed) {
    let mut body = Vec::new();
    let mut reply = Reply::open(&location.layout, callback, &mut body);
    let mut count = 0;
    let replayed = worker::operate(|hub, _, now| {
        hub.read_backlog(subscribed, now, &mut |message| {
            count += 1;
            reply.before_message(&mut body);
            location.layout.form().render(message, &mut body);
            !backlog::is_full(body.len(), count)
        })
    });
    let replayed = replayed.unwrap_or_default();
    if replayed.rest.is_none() {
        reply.close(&mut body);
    }
    (body, replayed)
}

/// 200, with the beginning of a body; its rest follows in portions, and then it ends.
fn begin(
    request: &mut Request,
    location: &'static Location,
    token: Token,
    callback: Option<&Callback>,
    announced: &Announced,
    body: Vec<u8>,
    rest: Rest,
) -> Result<Option<ngx_int_t>, NoMemory> {
    let peer = request.peer();
    let loans = Loans::of(peer).ok_or(NoMemory)?;
    if let Some(code) = send_header(request, location, callback, announced)? {
        return Ok(Some(code));
    }
    if !peer.set_no_delay() {
        return Ok(Some(NGX_ERROR as ngx_int_t));
    }
    // What the header announces must not seem to be all there if the connection ends before.
    peer.reset_when_closed(true);
    // It waits for nothing that is published from now on.
    ending::leave(token);
    let mut unread = Unread::separated(rest, polling::separator(callback));
    if let Some(callback) = callback {
        let mut end = Vec::new();
        callback.close(&mut end);
        unread.push_last(Piece::of(end));
    }
    let mut outbox = Outbox::default();
    outbox.push_piece(Piece::of(body));
    outbox.mark_backlog();
    let unread = Some(Box::new(unread));
    audience::with(|audience| {
        if let Some(subscriber) = audience.subscribers.get(token) {
            subscriber.state = State::Ending;
            subscriber.mode = Mode::Stream(Stream {
                way: Way::Filtered,
                frames_chunks: false,
                is_answer: true,
                outbox,
                unread,
                loans,
                socket: None,
            });
        }
    });
    Ok(streaming::write_first(token))
}

/// Answers the polls that have found their message. Those of several channels wait for the hub if it
/// has an older one. `true`: there are more, so call again after other connections had a turn.
pub(super) fn answer_ready() -> bool {
    let count = audience::with(|audience| audience.answered.len());
    for _ in 0..count.min(ANSWERS_MAX) {
        let Some(token) = audience::with(|audience| audience.answered.pop_front()) else { break };
        if has_older(token) {
            audience::with(|audience| audience.answered.push_back(token));
        } else {
            answer(token);
        }
    }
    count > ANSWERS_MAX
}

/// Has the hub an older message for this poll than the one it has found?
fn has_older(token: Token) -> bool {
    let found = audience::with(|audience| {
        let subscriber = audience.subscribers.get(token)?;
        match &subscriber.mode {
            Mode::Poll(poll) if subscriber.has_many_channels => Some(poll.found.as_ref()?.order),
            Mode::Poll(_) | Mode::Stream(_) => None,
        }
    });
    found.is_some_and(|order| {
        worker::operate(|hub, _, _| hub.has_older(token, order)).unwrap_or(false)
    })
}

/// The poll is about to leave its channels: notes what it has missed by then.
pub(super) fn note_place(token: Token) {
    let from = worker::operate(|hub, _, now| hub.resume_from(token, now));
    audience::with(|audience| {
        if let Some(Mode::Poll(poll)) =
            audience.subscribers.get(token).map(|subscriber| &mut subscriber.mode)
        {
            poll.resume_from = from;
        }
    });
}

/// Answers a poll that waits: with the message that it has found, else as one whose time is over.
pub(super) fn answer(token: Token) {
    audience::with(|audience| {
        let poll = audience.subscribers.get(token).map(|subscriber| &subscriber.mode);
        if matches!(poll, Some(Mode::Poll(poll)) if poll.found.is_some()) {
            audience.answer(token, 1);
        }
    });
    finish(token, |request, location, poll| {
        let from = poll.resume_from.unwrap_or_else(worker::now);
        let Some(found) = poll.found else {
            return answer_timeout(request, location, poll.callback.as_ref(), from);
        };
        let announced = found.announced.unwrap_or_else(|| Announced::now(from));
        let callback = poll.callback.as_ref();
        let body = around(location, callback, found.message);
        respond(request, location, callback, &announced, body)
    });
}

/// Answers a poll that waits, and gives its request back to nginx.
fn finish(
    token: Token,
    body: impl FnOnce(&mut Request, &'static Location, Poll) -> Result<ngx_int_t, NoMemory>,
) {
    let Some(subscriber) = ending::forget(token) else { return };
    let peer = subscriber.peer;
    let Mode::Poll(poll) = subscriber.mode else { return };
    // SAFETY: its subscriber was there until now, so the request is live.
    let Some(mut request) = (unsafe { Request::new(peer.as_ptr()) }) else { return };
    let code = answer::code(body(&mut request, subscriber.location, *poll));
    ending::finalize(peer, code);
}

fn answer_timeout(
    request: &mut Request,
    location: &'static Location,
    callback: Option<&Callback>,
    from: Seconds,
) -> Result<ngx_int_t, NoMemory> {
    let announced = Announced::now(from);
    if !location::main_conf(request.as_non_null()).timeout_with_body() {
        return not_modified(request, location, callback, &announced);
    }
    let mut message = Vec::new();
    location.layout.form().render(&Message::timed_out(), &mut message);
    let body = around(location, callback, Piece::of(message));
    respond(request, location, callback, &announced, body)
}

/// Header, callback and footer for one message that others are sent as well.
fn around(location: &Location, callback: Option<&Callback>, message: Piece) -> [Piece; 3] {
    let mut before = Vec::new();
    let mut reply = Reply::open(&location.layout, callback, &mut before);
    reply.before_message(&mut before);
    let mut after = Vec::new();
    reply.close(&mut after);
    [Piece::of(before), message, Piece::of(after)]
}

/// 200, with this body.
fn respond(
    request: &mut Request,
    location: &Location,
    callback: Option<&Callback>,
    announced: &Announced,
    body: impl IntoIterator<Item = Piece>,
) -> Result<ngx_int_t, NoMemory> {
    let peer: Peer = request.peer();
    let loans = Loans::of(peer).ok_or(NoMemory)?;
    if let Some(code) = send_header(request, location, callback, announced)? {
        return Ok(code);
    }
    Ok(match output::finish(peer, body, loans) {
        Ok(()) => NGX_OK as ngx_int_t,
        Err(()) => NGX_ERROR as ngx_int_t,
    })
}

/// Status and headers of an answer with messages. `Some`: nothing may follow, and this is what to
/// return.
fn send_header(
    request: &mut Request,
    location: &Location,
    callback: Option<&Callback>,
    announced: &Announced,
) -> Result<Option<ngx_int_t>, NoMemory> {
    prepare(request, location, callback, announced)?;
    request.fields_mut().headers_out.status = NGX_HTTP_OK as ngx_uint_t;
    Ok(answer::send_header(request))
}

/// 304, without a body.
fn not_modified(
    request: &mut Request,
    location: &Location,
    callback: Option<&Callback>,
    announced: &Announced,
) -> Result<ngx_int_t, NoMemory> {
    prepare(request, location, callback, announced)?;
    let r = request.fields_mut();
    r.headers_out.status = 304;
    r.set_header_only(1);
    // SAFETY: the request is live, its header has not been sent, and nothing of it is borrowed.
    Ok(unsafe { ngx_http_send_header(request.as_ptr()) })
}

fn prepare(
    request: &mut Request,
    location: &Location,
    callback: Option<&Callback>,
    announced: &Announced,
) -> Result<(), NoMemory> {
    let is_event_stream = location.layout.form().framing() == Framing::EventSource
        && location.mode != location::Mode::Subscriber(Delivery::EventSource);
    let fixed = match callback {
        Some(_) => Some(b"application/javascript".as_slice()),
        // Old configurations: long polling with `push_stream_eventsource_support`.
        None => is_event_stream.then_some(EVENT_STREAM),
    };
    set_content_type(request, location, fixed)?;
    if let Some(date) = announced.last_modified() {
        headers::add(request, "Last-Modified", &date)?;
    }
    let mut etag = Vec::new();
    if announced.etag(&mut etag) {
        headers::add(request, "Etag", &etag)?;
    }
    Ok(())
}
