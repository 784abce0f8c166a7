//! WebSocket frames: the same bytes give the same events however they are split, and memory grows with
//! what has arrived, not with what was announced.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ngx_http_push_stream_module::wire::websocket::{Decoder, Event, Options};

/// An event as text, so that it can outlive the decoder's buffers.
fn decode(data: &[u8], step: usize, options: Options) -> Vec<String> {
    let mut decoder = Decoder::new(options);
    let mut events = Vec::new();
    for part in data.chunks(step) {
        let mut rest = part;
        while let Some(event) = decoder.decode(&mut rest) {
            match &event {
                Event::Text(text) => {
                    assert!(text.len() as u64 <= options.message_max && options.collect);
                    assert!(std::str::from_utf8(text).is_ok());
                }
                Event::Binary(bytes) => {
                    assert!(bytes.len() as u64 <= options.message_max);
                    assert!(options.collect && options.binary);
                }
                Event::Ping { payload, .. } => assert!(payload.len() <= 125),
                _ => {}
            }
            events.push(format!("{event:?}"));
            assert!(events.len() <= data.len(), "an event needs bytes");
        }
        assert!(rest.is_empty(), "what came is used up");
    }
    events
}

fuzz_target!(|input: (&[u8], u8, bool, bool, u16)| {
    let (data, step, collect, binary, message_max) = input;
    let options = Options { message_max: u64::from(message_max), collect, binary };
    let whole = decode(data, data.len().max(1), options);
    let split = decode(data, usize::from(step).max(1), options);
    assert_eq!(whole, split);
});
