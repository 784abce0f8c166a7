//! Metrics locations: what the workers count, for Prometheus.
//!
//! A scrape reads some words for each worker's seat, so it costs the same with any number of channels.

use ngx::ffi::{NGINX_VERSION, ngx_http_request_t, ngx_int_t};

use crate::nginx::answer::{self, FAILED, Sent};
use crate::nginx::request::{Method, Request};
use crate::nginx::{clock, headers, settings, visitor, worker};
use crate::wire::metrics::{self, Build, Format};

/// Bytes of all metrics, roughly. The memory for them is allocated at once.
const TEXT_LEN: usize = 32 * 1024;

/// nginx calls this for a request to a location of this mode.
///
/// # Safety
///
/// `r` is a live request.
pub(crate) unsafe extern "C" fn handle(r: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: see above.
    unsafe { answer::guarded("metrics::handle", r, reply) }
}

fn reply(request: &mut Request) -> Sent {
    let Some(location) = settings::location(request.as_non_null()) else { return Ok(FAILED) };
    request.disable_not_modified();
    headers::add_no_cache(request)?;
    if let Err(code) = request.discard_body() {
        return Ok(code);
    }
    if !visitor::may_see(request, location.metrics_allow.as_deref()) {
        return Ok(answer::refused_silently(request, 403, "the client may not see the metrics"));
    }
    if !matches!(request.method(), Method::Get | Method::Head) {
        return answer::not_allowed(request, "GET, HEAD");
    }
    let Some(worker) = worker::this() else { return Ok(FAILED) };
    let began_at = clock::nanos();
    let format = Format::choose(request.header_lines(b"Accept"));
    // What this worker has not added to its counters yet.
    worker.count(true);
    let metrics = worker.hub().metrics();
    let build = Build {
        version: env!("CARGO_PKG_VERSION"),
        commit: env!("PUSH_STREAM_COMMIT"),
        nginx: NGINX_VERSION.to_str().unwrap_or_default(),
    };
    let mut text = Vec::with_capacity(TEXT_LEN);
    metrics::render(format, build, &metrics, &mut text);
    headers::add(request, headers::VARY, b"Accept")?;
    let sent = answer::text(request, format.content_type(), &text);
    worker.hub().note_scrape(clock::nanos().saturating_sub(began_at) / 1000);
    sent
}
