//! Padding lists: any text is accepted or refused, and padding reaches the minimum.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ngx_http_push_stream_module::wire::padding;

fuzz_target!(|input: (&[u8], u16)| {
    let (list, len) = input;
    let Ok(groups) = padding::parse(list) else { return };
    let largest = groups.iter().map(|group| group.header_min.max(group.message_min)).max();
    for group in &groups {
        for min in [group.header_min, group.message_min] {
            let len = usize::from(len);
            let added = padding::padding_len(len, min, largest.unwrap_or(0));
            assert!(len >= min || len + added >= min, "padded to the minimum");
            assert!(len < min || added == 0, "long enough already");
        }
    }
});
