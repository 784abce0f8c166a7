//! Statistics locations, and the channel info in the answers of publishers.

use ngx::ffi::{ngx_cycle, ngx_http_request_t, ngx_int_t};

use crate::hub::Refusal;
use crate::model::ChannelInfo;
use crate::nginx::answer::{self, FAILED, Sent};
use crate::nginx::request::{Method, Request};
use crate::nginx::{clock, headers, settings, worker};
use crate::wire::accept::Format;
use crate::wire::path::{self, Selector};
use crate::wire::stats::{self, Origin};

/// Bytes of one channel in a list, roughly. The memory for all of them is allocated at once.
const ITEM_LEN: usize = 112;

/// nginx calls this for a request to a location of this mode.
///
/// # Safety
///
/// `r` is a live request.
pub(crate) unsafe extern "C" fn handle(r: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: see above.
    unsafe { answer::guarded("statistics::handle", r, reply) }
}

fn reply(request: &mut Request) -> Sent {
    let Some(location) = settings::location(request.as_non_null()) else { return Ok(FAILED) };
    request.disable_not_modified();
    headers::add_no_cache(request)?;
    if let Err(code) = request.discard_body() {
        return Ok(code);
    }
    if request.method() != Method::Get {
        return answer::not_allowed(request, "GET");
    }
    headers::add(request, headers::TAG, env!("CARGO_PKG_VERSION").as_bytes())?;
    headers::add(request, headers::COMMIT, env!("PUSH_STREAM_COMMIT").as_bytes())?;
    // SAFETY: used in this handler only.
    let path = unsafe { request.channels_path(location) }?;
    match question(path) {
        None => Ok(FAILED),
        Some(Err(refusal)) => answer::refused(request, refusal),
        Some(Ok(Question::Summary)) => send_summary(request),
        Some(Ok(Question::Prefix(prefix))) => {
            let Some(found) = worker::with(|worker| worker.hub().list(prefix)) else {
                return Ok(FAILED);
            };
            send_channels(request, &found, true)
        }
        Some(Ok(Question::Channels(ids))) => {
            let found = look_up(&ids);
            if found.is_empty() {
                return Ok(answer::empty(request, 404));
            }
            send_channels(request, &found, found.len() > 1)
        }
    }
}

/// The question of a request.
enum Question<'a> {
    Summary,
    Prefix(&'a [u8]),
    Channels(Vec<&'a [u8]>),
}

/// The first pattern ends the path. An id that is too long counts only before it. `None`: the
/// worker has no seat in the zone.
fn question(path: &[u8]) -> Option<Result<Question<'_>, Refusal>> {
    let len_max = worker::with(|worker| worker.rules().channel_id_len_max)?;
    let requested = path::parse(path);
    if requested.is_empty() {
        return Some(Ok(Question::Summary));
    }
    let mut ids = Vec::with_capacity(requested.len());
    for channel in &*requested {
        if len_max.is_some_and(|max| channel.id.len() > max) {
            return Some(Err(Refusal::ChannelIdTooLarge));
        }
        match path::selector(channel.id) {
            Selector::Prefix(prefix) => return Some(Ok(Question::Prefix(prefix))),
            Selector::One(id) => ids.push(id),
        }
    }
    Some(Ok(Question::Channels(ids)))
}

/// The channels of these that exist, in this order.
pub(super) fn look_up(channels: &[&[u8]]) -> Vec<ChannelInfo> {
    let found = worker::with(|worker| {
        let hub = worker.hub();
        channels.iter().filter_map(|id| hub.info(id)).collect()
    });
    found.unwrap_or_default()
}

/// 200 with the numbers of these channels, in the format that the client accepts: all as a list, or
/// only the first.
pub(super) fn send_channels<Id: AsRef<[u8]>>(
    request: &mut Request,
    channels: &[ChannelInfo<Id>],
    as_list: bool,
) -> Sent {
    let format = Format::choose(request.header_lines(b"Accept"));
    let mut text = Vec::with_capacity(ITEM_LEN);
    match channels.first() {
        Some(channel) if !as_list => stats::render_channel(format, channel, &mut text),
        _ => {
            let now = clock::both();
            let totals = worker::with(|worker| worker.hub().totals(now)).unwrap_or_default();
            text.reserve(channels.len().saturating_mul(ITEM_LEN));
            let mut list = stats::List::begin(format, origin(), &totals, &mut text);
            for channel in channels {
                list.item(channel, &mut text);
            }
            list.end(&mut text);
        }
    }
    answer::text(request, format.content_type(), &text)
}

fn send_summary(request: &mut Request) -> Sent {
    let format = Format::choose(request.header_lines(b"Accept"));
    let now = clock::both();
    let Some(summary) = worker::with(|worker| worker.hub().summary(now)) else {
        return Ok(FAILED);
    };
    let mut text = Vec::new();
    stats::render_summary(format, origin(), &summary, &mut text);
    answer::text(request, format.content_type(), &text)
}

fn origin<'a>() -> Origin<'a> {
    // SAFETY: nginx sets `ngx_cycle` before it loads any module and keeps it set.
    let cycle = unsafe { ngx_cycle };
    // SAFETY: the current cycle; the host name is its own and as old.
    let hostname = unsafe { &(*cycle).hostname };
    Origin { hostname: hostname.as_bytes(), time: clock::now() }
}
