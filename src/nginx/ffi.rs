//! The border to C: no panic crosses it, and raw pointers become values here.

use core::any::Any;
use core::cell::{Cell, RefCell};
use core::ffi::c_void;
use core::panic::AssertUnwindSafe;
use core::ptr::NonNull;
use std::panic::{self, PanicHookInfo};
use std::sync::Once;

use ngx::ffi::{
    ngx_connection_t, ngx_http_request_t, ngx_list_part_t, ngx_list_t, ngx_log_t,
    ngx_pool_cleanup_add, ngx_pool_t, ngx_str_t,
};

use crate::nginx::log;

thread_local! {
    /// How many [`guard`]s this thread is in; zero means that nobody would log a panic for us.
    static GUARDS: Cell<usize> = const { Cell::new(0) };
    /// Where the panic that is being caught happened and what it said.
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs the body of a callback that nginx made, and answers `on_panic` if it panics.
///
/// A panic is a bug of ours: it is logged once, as an alert with its place, and costs this one
/// request or event. Without the guard it would abort the worker and with it every connection.
pub(crate) fn guard<T>(name: &str, on_panic: T, body: impl FnOnce() -> T) -> T {
    GUARDS.set(GUARDS.get() + 1);
    // `AssertUnwindSafe`: whatever the body had half done belongs to the request that now fails;
    // state that others share is the store's, which undoes an unfinished section.
    let outcome = panic::catch_unwind(AssertUnwindSafe(body));
    GUARDS.set(GUARDS.get() - 1);
    outcome.unwrap_or_else(|payload| {
        report_panic(name);
        // The payload's own drop could panic, outside of any guard.
        core::mem::forget::<Box<dyn Any + Send>>(payload);
        on_panic
    })
}

/// Makes panics speak through nginx's log instead of standard error. Once per process.
pub(crate) fn install_panic_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| panic::set_hook(Box::new(remember_panic)));
}

fn remember_panic(info: &PanicHookInfo<'_>) {
    let text = info.payload();
    let text = text
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| text.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no text");
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let told = PANIC.try_with(|panic| {
        if GUARDS.get() > 0
            && let Ok(mut panic) = panic.try_borrow_mut()
        {
            *panic = format!("{text} at {place}");
            return true;
        }
        false
    });
    if told != Ok(true) {
        log::alert!(log::cycle_log(), "panic outside of a callback: {text} at {place}");
    }
}

fn report_panic(name: &str) {
    let what = PANIC.with(RefCell::take);
    log::alert!(log::cycle_log(), "panic in \"{name}\": {what}");
}

/// What an array of module settings or contexts holds for the module with this number.
///
/// # Safety
///
/// `slots` is an array of nginx's with an element per module of that kind, holding a `T` or null.
pub(crate) unsafe fn slot<T>(slots: *mut *mut c_void, index: usize) -> Option<NonNull<T>> {
    let slot = slots.wrapping_add(index);
    // SAFETY: the array has an element of this number.
    NonNull::new(unsafe { *slot }.cast::<T>())
}

/// A string for nginx to read; it must not outlive `text`, and nginx must not write to it.
pub(crate) fn borrowed_str(text: &[u8]) -> ngx_str_t {
    ngx_str_t { len: text.len(), data: text.as_ptr().cast_mut() }
}

/// Puts `value` on the heap for as long as the pool lives; its `Drop` runs with the pool's end.
///
/// `None` when memory is short.
pub(crate) fn owned_by_pool<T>(pool: NonNull<ngx_pool_t>, value: T) -> Option<NonNull<T>> {
    /// nginx calls this at the end of the pool, once.
    ///
    /// # Safety
    ///
    /// `data` is the box that `owned_by_pool` leaked.
    unsafe extern "C" fn drop_boxed<T>(data: *mut c_void) {
        guard("drop_boxed", (), || {
            // SAFETY: see above; nobody else frees it.
            drop(unsafe { Box::from_raw(data.cast::<T>()) });
        });
    }
    // SAFETY: the pool is live, its owner hands it to us; size 0 means that `data` is ours to set.
    let cleanup = unsafe { ngx_pool_cleanup_add(pool.as_ptr(), 0) };
    let cleanup = NonNull::new(cleanup)?;
    let boxed = NonNull::from(Box::leak(Box::new(value)));
    // SAFETY: nginx has just made this record, and nobody else knows it yet.
    let cleanup = unsafe { &mut *cleanup.as_ptr() };
    cleanup.data = boxed.as_ptr().cast();
    cleanup.handler = Some(drop_boxed::<T>);
    Some(boxed)
}

/// The log of the connection that the request came on.
pub(crate) fn request_log(r: &ngx_http_request_t) -> NonNull<ngx_log_t> {
    let connection: *mut ngx_connection_t = r.connection;
    // SAFETY: a request has a connection as long as it lives.
    let log = unsafe { (*connection).log };
    NonNull::new(log).expect("a connection has a log")
}

/// Walks a list of nginx's, part by part.
///
/// # Safety
///
/// The list holds elements of type `T`, lives for `'a`, and is not changed meanwhile.
pub(crate) unsafe fn list_items<'a, T: 'a>(list: &'a ngx_list_t) -> impl Iterator<Item = &'a T> {
    let mut part: *const ngx_list_part_t = &raw const list.part;
    let mut items = [].iter();
    // Not `flatten`, which compiles to ten times as much for the usual list of one part.
    core::iter::from_fn(move || {
        loop {
            if let Some(item) = items.next() {
                return Some(item);
            }
            // SAFETY: `part` is the list's first part or its successor; a list ends with null.
            let here = unsafe { part.as_ref() }?;
            part = here.next;
            // An untouched list has no elements and no array either.
            if here.nelts > 0 && !here.elts.is_null() {
                // SAFETY: a part's array holds `nelts` elements of the list's type.
                let of_part =
                    unsafe { core::slice::from_raw_parts(here.elts.cast::<T>(), here.nelts) };
                items = of_part.iter();
            }
        }
    })
}
