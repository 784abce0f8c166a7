//! The whole store, by a stream of operations: the input decides what several workers do and when
//! they die, a naive model says what the zone must be after each step, and audits come in between.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ngx_http_push_stream_module::hub;

fuzz_target!(|data: &[u8]| hub::fuzz_history(data));
