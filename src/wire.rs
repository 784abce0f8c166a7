//! Bytes ⇄ values: grammars and framings, one a file. Most are those of the wire; `conf` is that of
//! nginx's configuration files.
//!
//! Only the incremental parsers keep state between calls. Nothing here knows an nginx type, a clock
//! or I/O, or who calls it. Bytes from outside never cause a panic; a parser names what it refuses.

pub mod accept;
pub mod allow;
pub mod audit;
pub mod chunked;
pub mod conf;
pub mod cursor;
pub mod date;
pub mod escape;
pub mod frame;
pub mod gap;
pub mod handshake;
pub mod jsonp;
pub mod metrics;
pub mod origin;
pub mod padding;
pub mod path;
pub mod resume;
pub mod sse;
pub mod stats;
pub mod template;
pub mod unguarded;
pub mod utf8;
pub mod websocket;
