//! Templates: the announced length is the rendered one, and replaced text is never scanned again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ngx_http_push_stream_module::model::Message;
use ngx_http_push_stream_module::wire::template::Template;

fuzz_target!(|input: (&[u8], &[u8], &[u8], Option<&[u8]>, i64, i64, u64)| {
    let (text, template, channel, event, id, time, tag) = input;
    let message =
        Message { id, channel, time, tag, event_id: event, event_type: event, text, binary: false };
    let template = Template::compile(template);
    let mut out = Vec::new();
    template.render(&message, &mut out);
    assert_eq!(out.len(), template.rendered_len(&message));

    // A text full of keywords comes out as it went in.
    let plain = Template::compile(b"~text~");
    out.clear();
    plain.render(&message, &mut out);
    assert_eq!(out, text);
});
