//! Dates and tags: any text from a client is a place or none, and what we print we can read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ngx_http_push_stream_module::wire::{date, resume};

fuzz_target!(|input: (&[u8], &[u8], &[u8], u32)| {
    let (time, tag, event_id, seconds) = input;
    let since = resume::parse_since(Some(time), Some(tag), Some(event_id), false);
    assert_eq!(since.event_id.is_none(), event_id.is_empty());
    if let Some(tag) = since.tag {
        assert_eq!(resume::parse_tag(format!("W/{tag}").as_bytes()), Some(tag));
    }
    let seconds = i64::from(seconds);
    assert_eq!(date::parse(&date::http_date(seconds)), Some(seconds));
});
