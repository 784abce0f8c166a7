//! Channel paths: decoding and cutting never panics, and the result obeys the grammar.
#![no_main]

use std::collections::HashSet;

use libfuzzer_sys::fuzz_target;
use ngx_http_push_stream_module::wire::path;

fuzz_target!(|data: &[u8]| {
    let decoded = path::decode(data);
    assert!(decoded.len() <= data.len(), "decoding never makes a value longer");
    let requested = path::parse(&decoded);
    let mut ids = HashSet::new();
    for one in requested.iter() {
        assert!(!one.id.is_empty() && !one.id.contains(&b'/'), "an id has no slash and some bytes");
        assert!(ids.insert(one.id), "each channel comes once");
        assert_ne!(one.backtrack, Some(0), "no backtrack is none");
        path::selector(one.id);
    }
    // A path that is put together from the pieces is cut into the same pieces.
    let joined: Vec<u8> = requested
        .iter()
        .map(|one| {
            let mut piece = one.id.to_vec();
            // With a suffix of our own, an id that ends like a suffix stays whole.
            piece.extend_from_slice(format!(".b{}", one.backtrack.unwrap_or(0)).as_bytes());
            piece
        })
        .collect::<Vec<_>>()
        .join(&b'/');
    assert_eq!(path::parse(&joined), requested);
});
