//! Bytes on the wire ⇄ values: grammars and framings, one a file.
//!
//! Nothing here keeps state between calls but the incremental parsers, and nothing knows who calls:
//! no nginx type, no clock, no I/O. Outside bytes never panic; what a parser refuses it names.

pub mod accept;
pub mod allow;
pub mod audit;
pub mod chunked;
pub mod conf;
pub mod date;
pub mod escape;
pub mod frame;
pub mod handshake;
pub mod jsonp;
pub mod padding;
pub mod path;
pub mod resume;
pub mod sse;
pub mod stats;
pub mod template;
pub mod unguarded;
pub mod utf8;
pub mod websocket;
