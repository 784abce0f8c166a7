//! The shell: what nginx calls, and the only place that names nginx's types.
//!
//! Directives become a [`config::MainConf`] and one [`location::Location`] per location of ours; a
//! request finds its location with [`location::of`] and goes to the handler of its mode. Nobody
//! imports this layer.

mod config;
mod directives;
mod ffi;
mod legacy;
mod location;
mod log;
mod module;
mod parse;
mod publisher;
mod regex;
mod setters;
mod statistics;
mod subscriber;
mod validation;
mod variables;
mod wake;
mod zone;

use module::ngx_http_push_stream_module;

ngx::ngx_modules!(ngx_http_push_stream_module);
