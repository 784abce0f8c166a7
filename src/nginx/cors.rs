//! Cross-origin resource sharing: which pages of other origins may read answers, and what they may send.
//!
//! Source: WHATWG Fetch, "CORS protocol".

use crate::nginx::headers;
use crate::nginx::location::{Cors, Origins};
use crate::nginx::request::{Method, NoMemory, Request};

const ALLOWED_HEADERS: &str =
    "If-Modified-Since,If-None-Match,Etag,Event-Id,Event-Type,Last-Event-Id";

/// What answers of ours have that pages of other origins may read only if told so.
const EXPOSED_HEADERS: &[&str] = &["Date", "Etag", headers::CURSOR, headers::EXPLAIN, headers::GAP];

/// Adds the headers of an answer, if pages of other origins may read it.
pub(crate) fn add(request: &mut Request, cors: &Cors, methods: &str) -> Result<(), NoMemory> {
    let origin = match &cors.origins {
        None => return Ok(()),
        Some(Origins::Said(value)) => request.decoded(*value)?,
        Some(Origins::Listed(list)) => {
            // Caches must keep the answers for different origins apart.
            headers::add(request, "Vary", b"Origin")?;
            let origin = request.header(b"Origin").unwrap_or_default();
            let origin = if list.iter().any(|one| one.is(origin)) { origin } else { b"" };
            origin.to_vec()
        }
    };
    // The value may be the client's own text, decoded, and a line break in it would begin another header.
    if origin.is_empty() || origin.iter().any(u8::is_ascii_control) {
        return Ok(());
    }
    headers::add(request, "Access-Control-Allow-Origin", &origin)?;
    headers::add(request, "Access-Control-Allow-Methods", methods.as_bytes())?;
    let mut allowed = ALLOWED_HEADERS.as_bytes().to_vec();
    for name in &cors.request_headers {
        allowed.push(b',');
        allowed.extend_from_slice(name);
    }
    headers::add(request, "Access-Control-Allow-Headers", &allowed)?;
    // With any origin allowed, browsers would refuse the answer to a request with credentials.
    if cors.credentials && origin != b"*" {
        headers::add(request, "Access-Control-Allow-Credentials", b"true")?;
    }
    if request.method() == Method::Options {
        if let Some(seconds) = cors.max_age_secs {
            headers::add(request, "Access-Control-Max-Age", seconds.to_string().as_bytes())?;
        }
    } else if cors.exposes {
        add_exposed(request, EXPOSED_HEADERS)?;
    }
    Ok(())
}

/// Lets pages of other origins read these headers of an answer.
pub(crate) fn expose(request: &mut Request, cors: &Cors, names: &[&str]) -> Result<(), NoMemory> {
    // Otherwise `add` has done so, or no such page reads anything.
    if names.is_empty() || cors.exposes || cors.origins.is_none() {
        return Ok(());
    }
    add_exposed(request, names)
}

fn add_exposed(request: &mut Request, names: &[&str]) -> Result<(), NoMemory> {
    headers::add(request, "Access-Control-Expose-Headers", names.join(", ").as_bytes())
}
