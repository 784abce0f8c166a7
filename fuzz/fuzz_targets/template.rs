//! Templates: the announced length is the rendered one, and replaced text is never scanned again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ngx_http_push_stream_module::model::{Latest, Message, Stamp};
use ngx_http_push_stream_module::wire::template::Template;

fuzz_target!(|input: (&[u8], &[u8], &[u8], Option<&[u8]>, i64, i64, u64)| {
    let (text, template, channel, event, id, time, tag) = input;
    let (binary, life) = (false, 7);
    let latest = Some(Latest { channel: 9, id: 8 });
    let message = Message {
        id,
        channel,
        time,
        tag,
        life,
        latest,
        event_id: event,
        event_type: event,
        text,
        stamp: Stamp(0),
        binary,
    };
    if let Some(word) = Template::unknown_word(template) {
        assert!(word.to_ascii_lowercase().starts_with(b"~json:"));
    }
    let template = Template::compile(template);
    let mut out = Vec::new();
    template.render(&message, &mut out);
    assert_eq!(out.len(), template.rendered_len(&message));

    // A text full of keywords comes out as it went in.
    let plain = Template::compile(b"~text~");
    out.clear();
    plain.render(&message, &mut out);
    assert_eq!(out, text);

    // JSON is one line of UTF-8 that no text can leave, whatever it holds.
    for json in [
        Template::compile(b"~json:text~"),
        Template::compile(b"~json:channel~"),
        Template::compile(b"~json:event-id~"),
        Template::envelope(b"", b""),
    ] {
        out.clear();
        json.render(&message, &mut out);
        assert_eq!(out.len(), json.rendered_len(&message));
        let json = std::str::from_utf8(&out).expect("JSON is UTF-8");
        assert!(!json.contains(|c: char| c < ' ' || matches!(c, '<' | '\u{2028}' | '\u{2029}')));
        let mut inside = false;
        let mut escaped = false;
        for c in json.chars() {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => inside = !inside,
                _ => {}
            }
        }
        assert!(!inside && !escaped, "each string ends");
    }
});
