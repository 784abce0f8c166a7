//! Long polling and polling: from the request to the answer, or to the wait for one.
//!
//! The rules stand in [`crate::session::poll`]; headers and bodies of answers in
//! [`crate::nginx::respond`].

use ngx::ffi::{NGX_ERROR, NGX_HTTP_CLIENT_CLOSED_REQUEST, ngx_int_t};

use crate::hub::{Missing, Replayed, Rest, Stay, Subscribed};
use crate::model::{Cursor, Delivery, Token};
use crate::nginx::answer::{self, Sent};
use crate::nginx::client::Client;
use crate::nginx::location::Location;
use crate::nginx::request::{NoMemory, Request};
use crate::nginx::subscriber::admission::{admit, conclude, keep_open};
use crate::nginx::subscriber::asking::{Asked, read_backlog};
use crate::nginx::subscriber::streaming;
use crate::nginx::worker::{self, Worker};
use crate::nginx::{clock, departing, faults, respond, settings};
use crate::session::link::Host;
use crate::session::outbox::Piece;
use crate::session::paging;
use crate::session::poll::{Poll, Step};
use crate::session::reply::{self, Body, Reply};
use crate::wire::jsonp::Callback;
use crate::wire::resume::Announced;

/// Answers the request now, or lets it wait.
pub(super) fn start(
    worker: &Worker,
    request: &mut Request,
    location: &'static Location,
    asked: &Asked<'_>,
    delivery: Delivery,
    waits: bool,
) -> Sent {
    let callback = match request.argument(b"callback").map(Callback::parse) {
        None => None,
        Some(Ok(callback)) => Some(callback),
        Some(Err(_)) => {
            return Ok(answer::refused_silently(request, 400, "invalid callback name"));
        }
    };
    let says_timed_out = settings::main(request.as_non_null()).timeout_with_body();
    let form = worker.form_of(location);
    let since = Announced::since(&asked.since);
    let poll = Poll::new(callback.clone(), says_timed_out, since);
    let token = admit(request, location, |client| {
        worker.audience.admit_poll(client, form, asked.has_many_channels(), poll)
    })?;
    let asking = Asking {
        worker,
        location,
        asked,
        token,
        form,
        callback: callback.as_ref(),
        delivery,
        waits,
    };
    let opened = asking.open(request);
    conclude(worker, token, opened, || keep_open(worker, request, token))
}

/// A poll that is neither answered nor waiting yet.
struct Asking<'a> {
    worker: &'a Worker,
    location: &'static Location,
    asked: &'a Asked<'a>,
    token: Token,
    form: u32,
    callback: Option<&'a Callback>,
    delivery: Delivery,
    waits: bool,
}

impl Asking<'_> {
    /// What to return for a request that is answered; `None`: it waits.
    fn open(&self, request: &mut Request) -> Result<Option<ngx_int_t>, NoMemory> {
        let Self { worker, location, asked, token, form, waits, .. } = *self;
        let audience = &worker.audience;
        let has_callback = self.callback.is_some();
        let stay = if waits { Stay::Live } else { Stay::No };
        let mut looks = 0;
        let asked_at = loop {
            looks += 1;
            let mut subscribed = match asked.subscribe(worker, location, token, form, stay, true) {
                Ok(subscribed) => subscribed,
                Err(refusal) => return answer::refused(request, refusal).map(Some),
            };
            let gap = subscribed.gap();
            audience.accept(token, gap);
            audience.let_in(token, self.delivery);
            let told = self.gaps(&subscribed, Some(subscribed.place().cursor(worker.hub().life())));
            let (body, replayed) = self.read(&mut subscribed, &told);
            let mut announced = Announced::since(&asked.since);
            // A client that names an event id only may do so again. It waits, so as not to ask at once.
            let goes_on = !waits || asked.since.time.is_some() || asked.since.cursor.is_some();
            let is_told = goes_on && !told.is_empty();
            match Step::after(looks, replayed.messages, replayed.held_back, waits, is_told) {
                Step::Answer => {
                    // It has all messages up to there, whatever channel they are of.
                    let place = replayed.newest.unwrap_or(subscribed.place());
                    respond::tell(request, location, gap, worker.cursor(location, place))?;
                    let (time, tag) = place.place;
                    match replayed.newest {
                        Some(_) => announced.contribute(time, tag),
                        // The gap alone is told.
                        None => announced = Announced::message(time, tag),
                    }
                    let count = replayed.messages as usize;
                    let Some(rest) = replayed.rest else {
                        audience.answered(token, count);
                        let body = Body::of(body);
                        return self.measured(request, |request| {
                            respond::messages(request, location, has_callback, &announced, body)
                        });
                    };
                    audience.count(token, count);
                    return self.begin(request, &announced, body, rest);
                }
                Step::NotModified => {
                    let place = subscribed.place();
                    respond::tell(request, location, gap, worker.cursor(location, place))?;
                    if asked.since.cursor.is_some() {
                        let (time, tag) = place.place;
                        announced = Announced::message(time, tag);
                    }
                    audience.answered(token, 0);
                    return self.measured(request, |request| {
                        respond::not_modified(request, location, has_callback, &announced)
                    });
                }
                Step::LookAgain => worker.leave(token),
                Step::Wait => {
                    if !told.is_empty() {
                        audience.tell(token, told);
                    }
                    break subscribed.place();
                }
            }
        };
        let ttl_msec = location.longpolling_connection_ttl_msec;
        audience.wait(token, asked_at, ttl_msec, clock::now_msec());
        if worker::is_exiting() {
            return Ok(audience.answer_now(worker, token).map(departing::code));
        }
        if request.peer().has_hung_up() {
            // nginx will not tell of that again.
            return Ok(Some(NGX_HTTP_CLIENT_CLOSED_REQUEST as ngx_int_t));
        }
        worker.operate(|hub, rules, now| hub.announce(token, rules, now));
        Ok(None)
    }

    /// The messages that tell of gaps. `place`: where the client is then, if no message behind them says it.
    fn gaps(&self, subscribed: &Subscribed, place: Option<Cursor>) -> Vec<u8> {
        let missing = subscribed.missing().iter();
        let missing =
            missing.map(|Missing { channel, reason, count }| (&**channel, *reason, *count));
        reply::gaps(&self.location.layout, self.callback, missing, place)
    }

    /// Counts the bytes of an answer.
    fn measured(
        &self,
        request: &mut Request,
        answer: impl FnOnce(&mut Request) -> Sent,
    ) -> Result<Option<ngx_int_t>, NoMemory> {
        let peer = request.peer();
        let before = peer.sent();
        let sent = answer(request);
        self.worker.count_sent(self.delivery, peer.sent() - before);
        sent.map(Some)
    }

    /// The body with all old messages, if there are any; without its end if there was no room for some. `told`
    /// comes before it if there are none.
    fn read(&self, subscribed: &mut Subscribed, told: &[u8]) -> (Vec<u8>, Replayed) {
        let layout = &self.location.layout;
        let mut body = Vec::new();
        let mut reply = Reply::open(layout, self.callback, &mut body);
        let before_messages = self.gaps(subscribed, None);
        let mut count = 0;
        let replayed = read_backlog(self.worker, subscribed, &mut |message| {
            faults::point("backlog");
            if count == 0 {
                reply.tell(&before_messages, &mut body);
            }
            count += 1;
            reply.before_message(&mut body);
            layout.form().render(message, &mut body);
            !paging::is_full(body.len(), count)
        });
        if count == 0 {
            reply.tell(told, &mut body);
        }
        if replayed.rest.is_none() {
            reply.close(&mut body);
        }
        (body, replayed)
    }

    /// 200, with the beginning of a body; its rest follows in portions, and then it ends.
    fn begin(
        &self,
        request: &mut Request,
        announced: &Announced,
        body: Vec<u8>,
        rest: Rest,
    ) -> Result<Option<ngx_int_t>, NoMemory> {
        let Self { worker, location, token, callback, .. } = *self;
        let peer = request.peer();
        if let Some(code) = respond::open_poll(request, location, callback.is_some(), announced)? {
            return Ok(Some(code));
        }
        if !peer.set_no_delay() {
            return Ok(Some(NGX_ERROR as ngx_int_t));
        }
        // What the header announces must not seem to be all there if the connection ends before.
        peer.reset_when_closed(true);
        // It waits for nothing that is published from now on.
        worker.leave(token);
        let end = callback.map(|callback| {
            let mut end = Vec::new();
            callback.close(&mut end);
            Piece::of(end)
        });
        let client = Client::new(peer, location);
        let separator = reply::separator(callback);
        worker.audience.begin_answer(token, client, Piece::of(body), rest, separator, end);
        Ok(streaming::write_first(worker, token))
    }
}
