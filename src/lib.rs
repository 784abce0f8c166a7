//! `ngx_http_push_stream_module`: publish/subscribe over HTTP inside nginx.
//!
//! Four pure layers and one shell; `docs/ARCHITECTURE.md` is the map. The pure layers name no
//! nginx type, read no clock, do no I/O and do not log, so they run under `cargo test
//! --no-default-features`, Miri and a fuzzer. The shell, `nginx`, is the only place that talks to
//! nginx.

pub mod hub;
pub mod model;
pub mod session;
pub mod store;
pub mod wire;

#[cfg(feature = "nginx")]
mod nginx;

#[cfg(test)]
mod tidy;
