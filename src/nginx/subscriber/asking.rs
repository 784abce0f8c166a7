//! What a subscriber's request asks for: which channels, and from where on.

use core::ptr::NonNull;

use ngx::ffi::ngx_http_complex_value_t;

use crate::hub::{Refusal, Stay, Subscribe, Subscribed};
use crate::model::{Since, Token};
use crate::nginx::faults;
use crate::nginx::location::Location;
use crate::nginx::request::{NoMemory, Request};
use crate::nginx::worker::Worker;
use crate::wire::path::Requested;
use crate::wire::resume;

/// The value of a directive, decoded; without the directive, that of the header.
pub(super) fn value(
    request: &Request,
    directive: Option<NonNull<ngx_http_complex_value_t>>,
    header: &'static [u8],
) -> Result<Option<Vec<u8>>, NoMemory> {
    match directive {
        Some(value) => request.decoded(value).map(Some),
        None => Ok(request.header(header).map(<[u8]>::to_vec)),
    }
}

/// What a client says it has received, as it says it.
pub(super) struct Received {
    time: Option<Vec<u8>>,
    tag: Option<Vec<u8>>,
    event_id: Option<Vec<u8>>,
}

impl Received {
    pub(super) fn of(request: &Request, location: &Location) -> Result<Self, NoMemory> {
        Ok(Self {
            time: value(request, location.last_received_message_time, b"If-Modified-Since")?,
            tag: value(request, location.last_received_message_tag, b"If-None-Match")?,
            event_id: value(request, location.last_event_id, b"Last-Event-Id")?,
        })
    }

    pub(super) fn since(&self) -> Since<'_> {
        resume::parse_since(self.time.as_deref(), self.tag.as_deref(), self.event_id.as_deref())
    }
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
        let requested: Vec<_> = self.requested.iter().map(|r| (r.id, r.backtrack)).collect();
        let request = Subscribe {
            requested: &requested,
            since: self.since,
            authorized_only: location.authorized_channels_only,
            wildcard_max: location.wildcard_channel_max_qtd,
            events_channel_allowed: location.allow_events_channel,
            stay,
            bounded,
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
