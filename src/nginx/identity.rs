//! Which module we are: what nginx has made of our record when it loaded us.
//!
//! The record names everything that nginx calls in us, so it stands above all other files
//! ([`crate::nginx::module`]). Those below ask here.

use core::ffi::c_void;
use core::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use ngx::ffi::ngx_module_t;

/// What this file is: version, commit, and the nginx that it is for.
pub(super) fn build() -> &'static str {
    BUILD.trim_matches('\0')
}

/// One text between zeroes, so that `strings` prints it as a line of its own, also of a file that
/// nobody has loaded.
static BUILD: &str = concat!(
    "\0ngx_http_push_stream_module ",
    env!("CARGO_PKG_VERSION"),
    ", commit ",
    env!("PUSH_STREAM_COMMIT"),
    ", built for nginx ",
    env!("PUSH_STREAM_NGINX"),
    "\0",
);

static MODULE: AtomicPtr<ngx_module_t> = AtomicPtr::new(ptr::null_mut());

/// Makes the record known, before anybody asks. It is a static.
pub(super) fn set(module: *mut ngx_module_t) {
    MODULE.store(module, Ordering::Relaxed);
}

/// Our number among the http modules: where our settings and our request contexts are.
pub(super) fn ctx_index() -> usize {
    let module = MODULE.load(Ordering::Relaxed);
    // SAFETY: null, or the module's record, which nginx wrote to when it loaded us.
    let module = unsafe { module.as_ref() };
    module.expect("the module has been loaded").ctx_index
}

/// Marks shared memory and buffers as ours: the same in all cycles of one loaded module.
pub(super) fn tag() -> *mut c_void {
    MODULE.load(Ordering::Relaxed).cast()
}
