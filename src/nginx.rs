//! The shell: what nginx calls, and the only place that names nginx's types.
//!
//! Directives become a [`config::MainConf`] and one [`location::Location`] per location of ours; a
//! request finds its location with [`settings::location`] and goes to the handler of its mode. Nobody
//! imports this layer.

mod answer;
mod audit;
mod body;
mod client;
mod clock;
mod config;
mod cors;
mod departing;
mod directives;
mod duties;
mod event;
mod exposure;
mod faults;
mod ffi;
mod handlers;
mod headers;
mod host;
mod identity;
mod journal;
mod legacy;
mod loans;
mod location;
mod log;
mod log_variables;
mod mapping;
mod metrics;
mod module;
mod parse;
mod peer;
mod publisher;
mod refusals;
mod regex;
mod request;
mod request_pool;
mod respond;
mod setters;
mod settings;
mod statistics;
mod subscriber;
mod validation;
mod variables;
mod visitor;
mod wake;
mod worker;
mod zone;

#[cfg(feature = "export-modules")]
use module::ngx_http_push_stream_module;

#[cfg(feature = "export-modules")]
ngx::ngx_modules!(ngx_http_push_stream_module);
