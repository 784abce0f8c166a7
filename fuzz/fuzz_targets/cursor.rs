//! Cursors: whatever a client sends, it is read as one place that is written in just that way, or not at all.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ngx_http_push_stream_module::wire::cursor;

fuzz_target!(|data: &[u8]| {
    let Some(place) = cursor::parse(data) else { return };
    assert_eq!(cursor::word(&place), data);
    assert!(data.len() <= 64);
});
