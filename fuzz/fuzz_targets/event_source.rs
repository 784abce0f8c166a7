//! Event streams: no text, id or type can forge a field or an event.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ngx_http_push_stream_module::model::{Message, Stamp};
use ngx_http_push_stream_module::wire::sse::{self, BlankLines};

fuzz_target!(|input: (&[u8], &[u8], Option<&[u8]>, Option<&[u8]>)| {
    let (text, channel, event_id, event_type) = input;
    let (binary, life) = (false, 0);
    let message = Message {
        id: 7,
        channel,
        time: 0,
        tag: 1,
        life,
        latest: None,
        event_id,
        event_type,
        text,
        stamp: Stamp(0),
        binary,
    };
    check(&message, BlankLines::Drop);
    check(&message, BlankLines::Keep);
});

fn check(message: &Message<'_>, blank_lines: BlankLines) {
    let template = sse::prepare_message(b"~channel~ ~text~");
    let mut out = Vec::new();
    sse::render(&template, blank_lines, message, &mut out);
    let block = out.strip_suffix(b"\n").expect("an event ends in an empty line");
    assert!(!block.contains(&b'\r'));
    let mut left =
        usize::from(message.event_id.is_some()) + usize::from(message.event_type.is_some());
    for line in block.split_inclusive(|byte| *byte == b'\n') {
        let is_head = line.starts_with(b"id: ") || line.starts_with(b"event: ");
        if is_head && left > 0 {
            left -= 1;
        } else {
            assert!(line.starts_with(b"data: "), "{line:?}");
        }
    }
    assert_eq!(left, 0);
}
