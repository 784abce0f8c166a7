//! What becomes of a connection whose subscriber has gone: its last bytes, and back to nginx, once.

use ngx::ffi::{
    NGX_ERROR, NGX_HTTP_CLIENT_CLOSED_REQUEST, NGX_HTTP_REQUEST_TIME_OUT, NGX_OK,
    ngx_http_finalize_request, ngx_int_t,
};

use crate::nginx::client::Client;
use crate::nginx::loans::Loans;
use crate::nginx::peer::{self, Peer};
use crate::nginx::request::Request;
use crate::nginx::{answer, clock, faults, ffi, journal, log, respond, worker};
use crate::session::Framing;
use crate::session::departure::{Cut, Departure, How};
use crate::session::link::Link;
use crate::session::outbox::Piece;
use crate::session::poll::Answer;

/// What a client is granted for reading the close frame and closing its own side. Short, because a
/// worker that is to exit waits for it.
const LINGERING_SECS: i64 = 2;

/// Outside of the content handler: gives the request back to nginx.
pub(super) fn finalize(departure: Departure<Client>) {
    let peer = departure.link.peer();
    let closes = matches!(departure.how, How::Closed);
    match ffi::guard("depart", None, || Some(code(departure))) {
        Some(_) if closes => hang_up(peer),
        Some(code) => end_request(peer, code),
        // Its subscriber has gone already: nobody else would end the request.
        None => {
            ffi::guard("depart", (), || journal::write_error(peer.request()));
            end_request(peer, answer::failed(peer));
        }
    }
}

/// In the content handler: what it has to return.
pub(super) fn code(departure: Departure<Client>) -> ngx_int_t {
    faults::point("depart");
    let (peer, served_as) = (departure.link.peer(), departure.served_as);
    let before = peer.sent();
    let code = last_bytes(departure);
    if let Some(worker) = worker::this()
        && let Some(delivery) = served_as
    {
        worker.count_sent(delivery, peer.sent() - before);
    }
    code
}

fn last_bytes(departure: Departure<Client>) -> ngx_int_t {
    let Departure { link, how, is_answer, .. } = departure;
    let peer = link.peer();
    match how {
        How::Closed => NGX_OK as ngx_int_t,
        How::Finished(footer) => {
            if is_answer {
                peer.reset_when_closed(false);
            }
            match Loans::of(peer) {
                Some(loans) => respond::finish(peer, [Piece::of(footer)], loans),
                None => NGX_ERROR as ngx_int_t,
            }
        }
        How::Answered(answer) => answer_poll(&link, answer),
        How::Cut(cut) => {
            if is_answer {
                // What its header announces must not seem to be all there.
                peer.set_broken();
            }
            cut_code(&link, cut)
        }
    }
}

fn cut_code(link: &Client, cut: Cut) -> ngx_int_t {
    let peer = link.peer();
    match cut {
        Cut::Lost => NGX_ERROR as ngx_int_t,
        Cut::TimedOut => {
            log::info!(peer.log(), "client timed out");
            peer.set_timed_out();
            NGX_HTTP_REQUEST_TIME_OUT as ngx_int_t
        }
        Cut::ByClient => {
            if link.layout().form().framing() == Framing::WebSocket {
                log::info!(peer.log(), "client closed a WebSocket without a close frame");
            }
            NGX_HTTP_CLIENT_CLOSED_REQUEST as ngx_int_t
        }
    }
}

fn answer_poll(link: &Client, answer: Answer) -> ngx_int_t {
    let Answer { announced, place, gap, has_callback, body } = answer;
    // SAFETY: its subscriber was there until now, so the request is live.
    let Some(mut request) = (unsafe { Request::new(link.peer().as_ptr()) }) else {
        return NGX_ERROR as ngx_int_t;
    };
    let (request, location) = (&mut request, link.location());
    let place = worker::this().and_then(|worker| worker.cursor(location, place));
    if respond::tell(request, location, gap, place).is_err() {
        return answer::FAILED;
    }
    answer::code(match body {
        Some(body) => respond::messages(request, location, has_callback, &announced, body),
        None => respond::not_modified(request, location, has_callback, &announced),
    })
}

/// All is written: gives the connection to nginx, which closes our half at once and the other half
/// when the client has closed it or has had time to.
fn hang_up(peer: Peer) {
    let connection = peer.connection();
    peer.limit_lingering(clock::now(), LINGERING_SECS);
    end_request(peer, NGX_OK as ngx_int_t);
    // SAFETY: it was live just now.
    unsafe { peer::hasten_closing(connection, LINGERING_SECS as usize * 1000) };
}

fn end_request(peer: Peer, rc: ngx_int_t) {
    let connection = peer.connection();
    // SAFETY: the request is live, its subscriber is forgotten, and nobody uses it after this.
    unsafe { ngx_http_finalize_request(peer.as_ptr(), rc) };
    // SAFETY: it was live just now.
    unsafe { peer::run_posted(connection) };
}
