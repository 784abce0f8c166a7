//! Waking workers: one eventfd per process slot, watched by the slot's worker.
//!
//! ```text
//!   master   prepare ──── descriptors, before the first fork
//!   worker   listen ───── watches the one of its slot
//!   others   wake(slot) ─ one write
//! ```
//!
//! The descriptors are made once and then inherited by every process, so slot numbers mean the same
//! in old and new generations and after a worker was killed and replaced. Each process has its own
//! copy of the table: a number that was added after a process was forked may be a client's socket
//! there.
//!
//! Where the event method is edge-triggered, each write is a new edge and nobody ever reads the
//! descriptor: no receiving system call, and a write that nobody reads cannot block before 2^64 - 1
//! of them. Level-triggered methods have to read.

use core::cell::{Cell, RefCell};
use core::ffi::c_int;
use core::mem;
use core::ptr::NonNull;
use std::io;

use ngx::ffi::{
    NGX_OK, NGX_USE_CLEAR_EVENT, ngx_connection_t, ngx_event_flags, ngx_event_t,
    ngx_get_connection, ngx_handle_read_event, ngx_int_t, ngx_uint_t,
};

use crate::nginx::{ffi, log};

/// What this worker wants to be told.
#[derive(Clone, Copy)]
pub(crate) struct Calls {
    /// Another worker has written to our descriptor.
    pub(crate) woken: fn(),
    /// nginx has told this worker to finish what it has.
    pub(crate) exiting: fn(),
}

thread_local! {
    static CALLS: Cell<Option<Calls>> = const { Cell::new(None) };
    /// Descriptors by slot. Made in the master; a forked process has them as they were then.
    static DESCRIPTORS: RefCell<Vec<c_int>> = const { RefCell::new(Vec::new()) };
}

/// In the master: makes the descriptors of the first `slots` slots, those that are missing.
pub(crate) fn prepare(slots: usize) -> io::Result<()> {
    DESCRIPTORS.with_borrow_mut(|descriptors| {
        while descriptors.len() < slots {
            // SAFETY: takes two numbers.
            let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
            if fd == -1 {
                return Err(io::Error::last_os_error());
            }
            descriptors.push(fd);
        }
        Ok(())
    })
}

/// Tells the worker in another slot to look at its inbox. Never blocks.
///
/// A slot beyond our table belongs to a worker that was started after a reload with more workers
/// than ever before; it looks at its inbox by time as well (`duties::on_full_tick`).
pub(crate) fn wake(slot: usize) {
    let Some(fd) = DESCRIPTORS.with_borrow(|fds| fds.get(slot).copied()) else { return };
    let one = 1_u64;
    loop {
        // SAFETY: the descriptor is an eventfd of ours, which takes 8 bytes, and `one` has them.
        let written = unsafe { libc::write(fd, (&raw const one).cast(), mem::size_of_val(&one)) };
        if written != -1 {
            return;
        }
        match io::Error::last_os_error().kind() {
            io::ErrorKind::Interrupted => {}
            // The counter is full: the descriptor is readable, and that is all we want.
            io::ErrorKind::WouldBlock => return,
            kind => {
                log::alert!(log::cycle_log(), "cannot wake the worker in slot {slot}: {kind}");
                return;
            }
        }
    }
}

/// In a worker: watches the descriptor of its own slot. `false` if that is not possible.
///
/// nginx also calls the handler once when the worker begins to exit, because the connection counts
/// as idle; so the worker learns of it before anything else happens.
pub(crate) fn listen(slot: usize, calls: Calls) -> bool {
    CALLS.set(Some(calls));
    let Some(fd) = DESCRIPTORS.with_borrow(|fds| fds.get(slot).copied()) else { return false };
    let log = log::cycle_log();
    // SAFETY: nginx's event loop is set up; the descriptor is open and nobody else watches it.
    let connection = unsafe { ngx_get_connection(fd, log.as_ptr()) };
    let Some(mut connection) = NonNull::new(connection) else { return false };
    // SAFETY: it is ours alone until we return to the event loop.
    let connection = unsafe { connection.as_mut() };
    connection.set_idle(1);
    for event in [connection.read, connection.write] {
        // SAFETY: a connection has both events, and nobody else uses them.
        let event = unsafe { &mut *event };
        event.log = log.as_ptr();
        // Like nginx's own channel: not a client's socket that somebody forgot.
        event.set_channel(1);
    }
    let read = connection.read;
    // SAFETY: as above.
    unsafe { (*read).handler = Some(on_wake) };
    // SAFETY: the event is whole; flags 0 asks for what suits the event method.
    let watched = unsafe { ngx_handle_read_event(read, 0) };
    watched == NGX_OK as ngx_int_t
}

/// nginx calls this when another worker has written to our descriptor, and once when this worker
/// begins to exit.
///
/// # Safety
///
/// `ev` is the read event that `listen` armed; it lives as long as the process.
unsafe extern "C" fn on_wake(ev: *mut ngx_event_t) {
    ffi::guard("on_wake", (), || {
        // SAFETY: nginx hands a read handler the event it was set on, and the `data` of a
        // connection's event is that connection.
        let connection = unsafe { (*ev).data }.cast::<ngx_connection_t>();
        // SAFETY: as above; no call is made while the borrow lasts.
        let connection = unsafe { &mut *connection };
        if connection.close() == 1 {
            connection.set_close(0);
            connection.set_idle(0);
            if let Some(calls) = CALLS.get() {
                (calls.exiting)();
            }
            return;
        }
        let fd = connection.fd;
        if !is_edge_triggered() {
            drain(fd);
        }
        if let Some(calls) = CALLS.get() {
            (calls.woken)();
        }
    });
}

fn is_edge_triggered() -> bool {
    // SAFETY: a static of nginx's, set when the event method was chosen.
    let flags = unsafe { ngx_event_flags };
    flags & NGX_USE_CLEAR_EVENT as ngx_uint_t != 0
}

/// Makes the descriptor unreadable until the next write.
fn drain(fd: c_int) {
    let mut count = 0_u64;
    // SAFETY: an eventfd gives 8 bytes or nothing, and does not block.
    unsafe { libc::read(fd, (&raw mut count).cast(), mem::size_of_val(&count)) };
}
