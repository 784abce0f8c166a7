//! JSONP: a callback that is accepted can do nothing but name a function.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ngx_http_push_stream_module::wire::jsonp::Callback;

fuzz_target!(|data: &[u8]| {
    let Ok(callback) = Callback::parse(data) else { return };
    let mut out = Vec::new();
    callback.open(&mut out);
    let name = out.strip_suffix(b"([").expect("a call with an array");
    let harmless = |byte: &u8| byte.is_ascii_alphanumeric() || b"_$.[]".contains(byte);
    assert!((1..=128).contains(&name.len()) && name.iter().all(harmless));
});
