//! What a subscriber's request asks for: which channels, and from where on.

use core::ptr::NonNull;
use std::borrow::Cow;

use ngx::ffi::ngx_http_complex_value_t;

use crate::hub::{Refusal, Replayed, Stay, Subscribe, Subscribed};
use crate::model::{Cursor, Few, Message, Seconds, Since, Token};
use crate::nginx::faults;
use crate::nginx::location::Location;
use crate::nginx::request::{NoMemory, Request};
use crate::nginx::worker::Worker;
use crate::wire::path;
use crate::wire::resume;

/// The value of a directive, decoded; without the directive, that of the header.
pub(super) fn value<'a>(
    request: &'a Request,
    directive: Option<NonNull<ngx_http_complex_value_t>>,
    header: impl FnOnce(&'a Request) -> Option<&'a [u8]>,
) -> Result<Option<Cow<'a, [u8]>>, NoMemory> {
    match directive {
        Some(value) => Ok(Some(Cow::Owned(request.decoded(value)?))),
        None => Ok(header(request).map(Cow::Borrowed)),
    }
}

/// What a client says it has received.
pub(super) struct Received {
    time: Option<Seconds>,
    tag: Option<u64>,
    event_id: Option<Vec<u8>>,
    cursor: Option<Cursor>,
}

impl Received {
    pub(super) fn of(request: &Request, location: &Location) -> Result<Self, NoMemory> {
        let time = value(request, location.last_received_message_time, Request::if_modified_since)?;
        let tag = value(request, location.last_received_message_tag, Request::if_none_match)?;
        let event_id = value(request, location.last_event_id, |r| r.header(b"Last-Event-Id"))?;
        let Since { time, tag, event_id, cursor } = resume::parse_since(
            time.as_deref(),
            tag.as_deref(),
            event_id.as_deref(),
            location.has_cursors,
        );
        Ok(Self { time, tag, event_id: event_id.map(<[u8]>::to_vec), cursor })
    }

    pub(super) fn since(&self) -> Since<'_> {
        let Self { time, tag, ref event_id, cursor } = *self;
        Since { time, tag, event_id: event_id.as_deref(), cursor }
    }
}

/// Hands out the selected old messages, as [`Hub::read_backlog`](crate::hub::Hub::read_backlog) does.
pub(super) fn read_backlog(
    worker: &Worker,
    subscribed: &mut Subscribed,
    each: &mut dyn FnMut(&Message<'_>) -> bool,
) -> Replayed {
    if subscribed.has_backlog() {
        worker.operate(|hub, _, now| hub.read_backlog(subscribed, now, each))
    } else {
        Replayed::default()
    }
}

/// A channel's id, and how many of its old messages are wanted.
type Requested<'a> = (&'a [u8], Option<u64>);

/// The channels that a path names.
pub(super) fn channels_of(path: &[u8]) -> Few<Requested<'_>> {
    path::parse(path).iter().map(|channel| (channel.id, channel.backtrack)).collect()
}

/// What a client asks for.
pub(super) struct Asked<'a> {
    pub(super) requested: &'a [Requested<'a>],
    pub(super) since: Since<'a>,
}

impl Asked<'_> {
    /// Validates, and registers the subscriber if it stays.
    pub(super) fn subscribe(
        &self,
        worker: &Worker,
        location: &Location,
        token: Token,
        form: u32,
        stay: Stay,
        bounded: bool,
    ) -> Result<Subscribed, Refusal> {
        let request = Subscribe {
            requested: self.requested,
            since: self.since,
            authorized_only: location.authorized_channels_only,
            wildcard_max: location.wildcard_channel_max_qtd,
            events_channel_allowed: location.allow_events_channel,
            stay,
            bounded,
            ordered: location.has_cursors,
            form,
            token,
        };
        let subscribed = worker.operate(|hub, rules, now| hub.subscribe(&request, rules, now));
        faults::point("subscribed");
        subscribed
    }

    pub(super) fn has_many_channels(&self) -> bool {
        self.requested.len() > 1
    }
}
