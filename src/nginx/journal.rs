//! The last entry about a subscriber, in the slots of its request where the access log finds it.
//!
//! While the subscriber is there, its record gives the values ([`crate::nginx::log_variables`]).
//! When nginx writes the access log the record is gone. So the last values are written into the
//! slots of those variables that the configuration uses.

use core::ptr::{self, NonNull};

use ngx::ffi::{
    ngx_http_core_loc_conf_t, ngx_http_core_module, ngx_http_request_t, ngx_http_variable_value_t,
    ngx_pnalloc,
};

use crate::nginx::parse::Parse;
use crate::nginx::{ffi, settings};
use crate::session::departure::{Entry, Reason};

const MESSAGES_SENT: usize = 0;
const BYTES_BUFFERED: usize = 1;
const CLOSE_REASON: usize = 2;
const GAP: usize = 3;
const MESSAGES_SKIPPED: usize = 4;

/// The variables about subscribers; the constants above are their numbers.
pub(super) const NAMES: [&str; 5] = [
    "push_stream_messages_sent",
    "push_stream_bytes_buffered",
    "push_stream_close_reason",
    "push_stream_gap",
    "push_stream_messages_skipped",
];

/// After the last directive: finds out which of them the configuration uses.
pub(super) fn resolve(parse: &Parse) {
    let used = parse.used_variables();
    let index = |name: &str| used.iter().position(|v| v.name.as_bytes() == name.as_bytes());
    parse.main_conf().journal = NAMES.map(index);
}

/// Writes the last entry about a subscriber into its request, which is live and ends soon.
pub(crate) fn write_down(r: NonNull<ngx_http_request_t>, entry: Entry) {
    if !has_line(r) {
        return;
    }
    for (which, slot) in settings::main(r).journal.into_iter().enumerate() {
        let Some(index) = slot else { continue };
        // SAFETY: the request is live.
        let values = unsafe { (*r.as_ptr()).variables };
        let value = values.wrapping_add(index);
        // SAFETY: the index is one of the request's configuration.
        let value = unsafe { &mut *value };
        set(r, value, entry, which);
        // The value is final: the record is gone.
        value.set_no_cacheable(0);
    }
}

/// The request has a line of its own in the access log. A subrequest has one with `log_subrequest
/// on` only; it shares the variables of its main request.
fn has_line(r: NonNull<ngx_http_request_t>) -> bool {
    // SAFETY: the request is live, and nothing below changes it.
    let request = unsafe { r.as_ref() };
    if ptr::eq(request, request.main) {
        return true;
    }
    // SAFETY: a static of nginx's, written while it loads modules.
    let index = unsafe { ngx_http_core_module.ctx_index };
    // SAFETY: the core module made what is in its slot.
    let conf = unsafe { ffi::slot::<ngx_http_core_loc_conf_t>(request.loc_conf, index) };
    // SAFETY: configurations outlive their requests and do not change.
    conf.is_some_and(|conf| unsafe { conf.as_ref() }.log_subrequest == 1)
}

/// Serving the request has panicked: that is why it ends, whatever was written down before.
pub(super) fn write_error(r: NonNull<ngx_http_request_t>) {
    if has_line(r)
        && let Some(index) = settings::main(r).journal[CLOSE_REASON]
    {
        // SAFETY: the request is live.
        let value = unsafe { (*r.as_ptr()).variables }.wrapping_add(index);
        // SAFETY: the index is one of the request's configuration.
        fill(unsafe { &mut *value }, Reason::Error.text().as_bytes());
    }
}

/// Writes the value of the variable with this number into its slot.
pub(super) fn set(
    r: NonNull<ngx_http_request_t>,
    value: &mut ngx_http_variable_value_t,
    entry: Entry,
    which: usize,
) {
    let number = match which {
        MESSAGES_SENT => u64::from(entry.messages_sent),
        MESSAGES_SKIPPED => u64::from(entry.messages_skipped),
        BYTES_BUFFERED => entry.bytes_buffered as u64,
        CLOSE_REASON => return fill_if(value, entry.reason.map(|reason| reason.text().as_bytes())),
        _ => {
            debug_assert_eq!(which, GAP);
            return fill_if(value, entry.gap.map(|gap| gap.text().as_bytes()));
        }
    };
    let text = number.to_string();
    // SAFETY: the request is live, and so is its pool.
    let pool = unsafe { (*r.as_ptr()).pool };
    // SAFETY: as above.
    let copy = unsafe { ngx_pnalloc(pool, text.len()) }.cast::<u8>();
    if copy.is_null() {
        value.set_not_found(1);
        return;
    }
    // SAFETY: room for the text, which nobody else knows yet.
    unsafe { copy.copy_from_nonoverlapping(text.as_ptr(), text.len()) };
    // SAFETY: the copy lives as long as the request.
    fill(value, unsafe { core::slice::from_raw_parts(copy, text.len()) });
}

/// Fills a slot, or says that there is no value.
fn fill_if(value: &mut ngx_http_variable_value_t, text: Option<&'static [u8]>) {
    match text {
        Some(text) => fill(value, text),
        None => value.set_not_found(1),
    }
}

/// Fills a slot. The text lives as long as the request.
pub(super) fn fill(value: &mut ngx_http_variable_value_t, text: &[u8]) {
    value.set_len(text.len() as u32);
    value.set_valid(1);
    value.set_not_found(0);
    value.set_no_cacheable(0);
    value.data = text.as_ptr().cast_mut();
}
