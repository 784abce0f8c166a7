//! The whole store: the input decides what several workers do and when they die. After each step the zone
//! is compared with a simple model, and audits come in between.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ngx_http_push_stream_module::hub;

fuzz_target!(|data: &[u8]| hub::fuzz_history(data));
