//! Publisher locations: POST, PUT, GET and DELETE.
//!
//! ```text
//!   handle   headers ─ method ─ path ─ checks ─┬─ GET: channel info
//!                                              └─ read the body
//!   on_body  path ─ checks ─ publish or delete ─ answer
//! ```
//!
//! Channels are looked up after the body has arrived, because that can take minutes. Nearly always it is
//! there at once; then path and checks are those of `handle`.

use core::cell::Cell;
use core::ptr::NonNull;

use ngx::ffi::{ngx_http_finalize_request, ngx_http_request_t, ngx_int_t};

use crate::hub::Post;
use crate::model::{Few, Source};
use crate::nginx::answer::{self, FAILED, Sent};
use crate::nginx::body::{self, Body};
use crate::nginx::location::{Location, Mode};
use crate::nginx::request::{Method, Request};
use crate::nginx::{clock, cors, faults, ffi, headers, log, settings, statistics, worker};
use crate::wire::path;

thread_local! {
    /// The request whose body nginx is reading just now, and its channels, which `begin` has checked.
    /// `begin` keeps them until `body::read` has returned; then they are here no more.
    static AT_HAND: Cell<Option<(NonNull<ngx_http_request_t>, AtHand)>> = const { Cell::new(None) };
}

type AtHand = NonNull<[&'static [u8]]>;

const METHODS: &str = "GET, POST, PUT";
const ADMIN_METHODS: &str = "GET, POST, PUT, DELETE";

/// nginx calls this for a request to a location of this mode.
///
/// # Safety
///
/// `r` is a live request.
pub(crate) unsafe extern "C" fn handle(r: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: see above.
    unsafe { answer::guarded("publisher::handle", r, begin) }
}

fn begin(request: &mut Request) -> Sent {
    let Some((location, is_admin)) = publisher_location(request) else { return Ok(FAILED) };
    let methods = if is_admin { ADMIN_METHODS } else { METHODS };
    request.disable_not_modified();
    headers::add_no_cache(request)?;
    cors::add(request, &location.cors, methods)?;
    let task = match request.method() {
        Method::Post | Method::Put => Task::Publish,
        Method::Delete if is_admin => Task::Delete,
        Method::Get => Task::Inform,
        Method::Options => {
            return unread(request, |request| Ok(answer::empty(request, 200)));
        }
        _ => return unread(request, |request| answer::not_allowed(request, methods)),
    };
    // SAFETY: used in this handler only, and before it returns in `on_body`.
    let path = unsafe { request.channels_path(location) }?;
    let channels = ids(path);
    let checked = worker::with(|worker| {
        let (mut hub, rules) = (worker.hub(), worker.rules());
        hub.check_publisher(&channels, task.changes(), task.creates(), rules)
    });
    match checked {
        None => Ok(FAILED),
        Some(Err(refusal)) => unread(request, |request| answer::refused(request, refusal)),
        Some(Ok(())) if task == Task::Inform => {
            unread(request, |request| inform(request, &channels))
        }
        Some(Ok(())) => {
            AT_HAND.set(Some((request.as_non_null(), NonNull::from(&*channels))));
            let code = body::read(request, Some(on_body));
            AT_HAND.set(None);
            Ok(code)
        }
    }
}

/// The task of a request that is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    Publish,
    Delete,
    Inform,
}

impl Task {
    fn changes(self) -> bool {
        self != Self::Inform
    }

    fn creates(self) -> bool {
        self == Self::Publish
    }
}

/// nginx calls this when the whole body has arrived.
///
/// # Safety
///
/// `r` is the live request that `body::read` was called for.
unsafe extern "C" fn on_body(r: *mut ngx_http_request_t) {
    // SAFETY: see above.
    let outcome = unsafe { answer::guarded("publisher::on_body", r, act) };
    // SAFETY: the request is live; it may be gone after this, and nobody looks at it again.
    unsafe { ngx_http_finalize_request(r, outcome) };
}

fn act(request: &mut Request) -> Sent {
    // The request keeps the configuration with which it began.
    let Some((location, _)) = publisher_location(request) else { return Ok(FAILED) };
    match AT_HAND.take() {
        Some((r, channels)) if r == request.as_non_null() => {
            // SAFETY: `begin` waits for `body::read`, which has called us, and keeps them as long.
            let channels = unsafe { channels.as_ref() };
            change(request, location, channels, true)
        }
        _ => {
            // SAFETY: used in this handler only.
            let path = unsafe { request.channels_path(location) }?;
            change(request, location, &ids(path), false)
        }
    }
}

fn change(
    request: &mut Request,
    location: &Location,
    channels: &[&[u8]],
    are_checked: bool,
) -> Sent {
    if request.method() == Method::Delete {
        delete(request, channels)
    } else {
        publish(request, location, channels, are_checked)
    }
}

/// `are_checked`: the channels were checked just now.
fn publish(
    request: &mut Request,
    location: &Location,
    channels: &[&[u8]],
    are_checked: bool,
) -> Sent {
    let published = {
        faults::point("publish");
        let Some(body) = body_of(request) else { return Ok(FAILED) };
        let post = Post {
            event_id: request.header(b"Event-Id"),
            event_type: request.header(b"Event-Type"),
            body: &body.slices(),
            binary: false,
            may_be_empty: false,
            store: location.store_messages,
            source: Source::Http,
            stamp: clock::stamp(),
        };
        worker::operate(|hub, rules, now| {
            if !are_checked {
                hub.check_publisher(channels, true, true, rules)?;
            }
            hub.publish_checked(channels, &post, rules, now)
        })
    };
    let told = match published {
        None => return Ok(FAILED),
        Some(Err(refusal)) => return answer::refused(request, refusal),
        Some(Ok(told)) => told,
    };
    worker::after_publishing();
    faults::point("published");
    if !location.channel_info_on_publish {
        return Ok(answer::empty(request, 200));
    }
    statistics::send_channels(request, &told, channels.len() > 1)
}

fn delete(request: &mut Request, channels: &[&[u8]]) -> Sent {
    let deleted = {
        let Some(body) = body_of(request) else { return Ok(FAILED) };
        let given = body.slices().concat();
        let text = if given.is_empty() {
            settings::main(request.as_non_null()).channel_deleted_message_text()
        } else {
            &given
        };
        worker::operate(|hub, rules, now| {
            hub.check_publisher(channels, true, false, rules)?;
            Ok(hub.delete(channels, text, rules, now))
        })
    };
    match deleted {
        None => Ok(FAILED),
        Some(Err(refusal)) => answer::refused(request, refusal),
        Some(Ok(0)) => Ok(answer::empty(request, 404)),
        Some(Ok(_)) => {
            worker::after_publishing();
            answer::explained(request, 200, "Channel deleted.")
        }
    }
}

fn inform(request: &mut Request, channels: &[&[u8]]) -> Sent {
    let found = statistics::look_up(channels);
    if found.is_empty() {
        return Ok(answer::empty(request, 404));
    }
    statistics::send_channels(request, &found, found.len() > 1)
}

/// Answers without the body, which nginx reads and throws away.
fn unread(request: &mut Request, send: impl FnOnce(&mut Request) -> Sent) -> Sent {
    match request.discard_body() {
        Ok(()) => send(request),
        Err(code) => Ok(code),
    }
}

fn body_of(request: &Request) -> Option<Body<'_>> {
    Body::of(request)
        .inspect_err(|error| {
            log::alert!(ffi::request_log(request.fields()), "cannot read a request body: {error}");
        })
        .ok()
}

fn publisher_location<'a>(request: &Request) -> Option<(&'a Location, bool)> {
    let location = settings::location(request.as_non_null())?;
    match location.mode {
        Mode::Publisher { admin } => Some((location, admin)),
        _ => None,
    }
}

/// The channels of a decoded path. A publisher ignores backtracks.
fn ids(path: &[u8]) -> Few<&[u8]> {
    path::parse(path).iter().map(|requested| requested.id).collect()
}
