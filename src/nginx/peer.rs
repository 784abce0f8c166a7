//! A request and its connection: everything that nginx keeps in fields and flags is asked for here, so
//! that those who use it read as what they do.
//!
//! Nothing is held on to between two questions: any call
//! into nginx may change the answers.

use core::mem;
use core::ptr::{self, NonNull};

use ngx::ffi::{
    NGX_AGAIN, NGX_ERROR, NGX_HTTP_FLUSH, NGX_OK, ngx_add_timer, ngx_buf_t, ngx_chain_t,
    ngx_connection_t, ngx_del_timer, ngx_event_t, ngx_handle_read_event, ngx_handle_write_event,
    ngx_http_block_reading, ngx_http_core_loc_conf_t, ngx_http_core_module, ngx_http_output_filter,
    ngx_http_request_t, ngx_http_run_posted_requests, ngx_http_send_special, ngx_http_write_filter,
    ngx_int_t, ngx_log_t, ngx_pool_t, ngx_post_event, ngx_posted_events, ngx_posted_next_events,
    ngx_tcp_nodelay, ngx_uint_t, off_t, time_t,
};

use crate::nginx::ffi;
use crate::session::link::{Lost, Received};

const OK: ngx_int_t = NGX_OK as ngx_int_t;
const ERROR: ngx_int_t = NGX_ERROR as ngx_int_t;

/// A request that is alive.
///
/// INVARIANT: the request, its connection and its pool are live as long as the value is used.
///
/// Holds because: a value is made from the request that nginx hands to a handler, or from the
/// record of a subscriber, and the cleanup of the request removes the record before nginx frees
/// anything. Needed because: all methods follow the pointer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Peer(NonNull<ngx_http_request_t>);

/// How much of the filter chain bytes go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filters {
    /// All body filters.
    All,
    /// Only the last one, which writes to the socket.
    Write,
}

thread_local! {
    /// A buffer without bytes, which tells nginx's last filter to write what it has. That filter only reads it,
    /// so all requests have the same one.
    static FLUSH: *mut ngx_buf_t = {
        // SAFETY: all its fields are integers and nullable pointers.
        let mut buf: ngx_buf_t = unsafe { mem::zeroed() };
        buf.set_flush(1);
        Box::leak(Box::new(buf))
    };
}

impl Peer {
    /// # Safety
    ///
    /// See the invariant of the type.
    pub(super) unsafe fn new(r: NonNull<ngx_http_request_t>) -> Self {
        Self(r)
    }

    pub(super) fn as_ptr(self) -> *mut ngx_http_request_t {
        self.0.as_ptr()
    }

    pub(super) fn request(self) -> NonNull<ngx_http_request_t> {
        self.0
    }

    pub(super) fn connection(self) -> *mut ngx_connection_t {
        // SAFETY: the request is live, see the type.
        unsafe { (*self.0.as_ptr()).connection }
    }

    pub(super) fn pool(self) -> Option<NonNull<ngx_pool_t>> {
        // SAFETY: the request is live, see the type.
        NonNull::new(unsafe { (*self.0.as_ptr()).pool })
    }

    fn read_event(self) -> *mut ngx_event_t {
        // SAFETY: so is its connection.
        unsafe { (*self.connection()).read }
    }

    pub(super) fn write_event(self) -> *mut ngx_event_t {
        // SAFETY: so is its connection.
        unsafe { (*self.connection()).write }
    }

    /// nginx has found the connection broken.
    pub(super) fn is_broken(self) -> bool {
        // SAFETY: the connection is live.
        unsafe { (*self.connection()).error() != 0 }
    }

    /// The client has already closed its side.
    pub(super) fn has_hung_up(self) -> bool {
        // SAFETY: a connection's read event lives as long as it does.
        unsafe { (*self.read_event()).pending_eof() != 0 }
    }

    /// nginx has bytes of the response that it has not yet been able to write.
    pub(super) fn is_buffered(self) -> bool {
        // SAFETY: the connection is live.
        unsafe { (*self.connection()).buffered() != 0 }
    }

    /// nginx has bytes that it cannot pass on now: it will tell when it can.
    pub(super) fn is_holding(self) -> bool {
        self.is_buffered() || self.is_postponed()
    }

    /// nginx has bytes of the response, be it only because there was no reason to write them yet.
    pub(super) fn has_output(self) -> bool {
        // SAFETY: the request is live.
        let out = unsafe { (*self.0.as_ptr()).out };
        !out.is_null() || self.is_holding()
    }

    /// nginx keeps bytes behind those of a subrequest, such as what `add_before_body` asks for.
    pub(super) fn is_postponed(self) -> bool {
        // SAFETY: the request is live.
        unsafe { !(*self.0.as_ptr()).postponed.is_null() }
    }

    /// Bytes written to the connection so far.
    pub(super) fn sent(self) -> off_t {
        // SAFETY: the connection is live.
        unsafe { (*self.connection()).sent }
    }

    /// The log of the connection.
    pub(super) fn log(self) -> NonNull<ngx_log_t> {
        // SAFETY: the request is live.
        ffi::request_log(unsafe { self.0.as_ref() })
    }

    /// The last write took everything, as far as is known.
    pub(super) fn is_writable(self) -> bool {
        // SAFETY: a connection's write event lives as long as it does.
        unsafe { (*self.write_event()).ready() != 0 }
    }

    /// nginx holds bytes back because of `limit_rate`; its timer is not ours.
    pub(super) fn is_delayed(self) -> bool {
        // SAFETY: as above.
        unsafe { (*self.write_event()).delayed() != 0 }
    }

    /// The socket has taken nothing for `send_timeout`.
    pub(super) fn is_timed_out(self) -> bool {
        // SAFETY: as above.
        unsafe { (*self.write_event()).timedout() != 0 }
    }

    /// The timer was not about what this request has to write.
    pub(super) fn forget_time_out(self) {
        // SAFETY: as above, and nobody else has a reference to it.
        unsafe { (*self.write_event()).set_timedout(0) };
    }

    /// Tells nginx what the timer has found, for its log and for how it closes the connection.
    pub(super) fn set_timed_out(self) {
        // SAFETY: the connection is live, and nobody else has a reference to it.
        unsafe { (*self.connection()).set_timedout(1) };
    }

    /// `limit_rate` applies, or may apply: nginx looks when it writes for the first time.
    pub(super) fn is_limited(self) -> bool {
        // SAFETY: the request is live, and nothing below changes it.
        let r = unsafe { self.0.as_ref() };
        r.limit_rate_set() == 0 || r.limit_rate != 0
    }

    /// The bytes on the socket are not those that are sent.
    pub(super) fn is_tls(self) -> bool {
        // SAFETY: the connection is live.
        unsafe { !(*self.connection()).ssl.is_null() }
    }

    /// The request is no subrequest.
    pub(super) fn is_main(self) -> bool {
        // SAFETY: the request is live.
        let main = unsafe { (*self.0.as_ptr()).main };
        ptr::eq(self.0.as_ptr(), main)
    }

    pub(super) fn has_sent_header(self) -> bool {
        // SAFETY: the request is live.
        unsafe { (*self.0.as_ptr()).header_sent() != 0 }
    }

    pub(super) fn is_chunked(self) -> bool {
        // SAFETY: the request is live.
        unsafe { (*self.0.as_ptr()).chunked() != 0 }
    }

    /// A body filter may want to see the bytes. To be asked when the header has been sent.
    ///
    /// Filters that change nothing that this looks at exist; for their users there is a directive.
    pub(super) fn needs_filters(self) -> bool {
        // SAFETY: the request is live, and nothing below changes it.
        let r = unsafe { &*self.0.as_ptr() };
        // SAFETY: so is its connection.
        let c = unsafe { &*r.connection };
        // HTTP/2 and HTTP/3 have numbers of 2000 and 3000.
        let is_plain_http1 = r.stream.is_null() && r.http_version < 2000 && c.ssl.is_null();
        !is_plain_http1
            || !self.is_main()
            || !r.headers_out.content_encoding.is_null()
            || r.filter_need_in_memory() != 0
            || r.main_filter_need_in_memory() != 0
            || r.filter_need_temporary() != 0
            || r.header_only() != 0
            || self.has_additions()
    }

    /// `add_before_body` or `add_after_body` applies, which leaves no other trace.
    pub(super) fn has_additions(self) -> bool {
        // SAFETY: the request is live.
        unsafe { (*self.0.as_ptr()).preserve_body() != 0 }
    }

    /// Passes the chain to nginx; null: go on with what it still has. `false`: the connection is
    /// lost.
    ///
    /// # Safety
    ///
    /// The buffers of the chain, and the bytes they show, stay until nginx has consumed them.
    pub(super) unsafe fn output(self, filters: Filters, chain: *mut ngx_chain_t) -> bool {
        let rc = match filters {
            // SAFETY: the request is live; the buffers are by this function's own contract.
            Filters::All => unsafe { ngx_http_output_filter(self.0.as_ptr(), chain) },
            // SAFETY: as above.
            Filters::Write => unsafe { ngx_http_write_filter(self.0.as_ptr(), chain) },
        };
        rc != ERROR
    }

    /// Makes nginx write what it holds back. `false`: the connection is lost.
    pub(super) fn flush(self, filters: Filters) -> bool {
        if filters == Filters::Write {
            let mut link = ngx_chain_t { buf: FLUSH.with(|buf| *buf), next: ptr::null_mut() };
            // SAFETY: the buffer is never freed; nginx copies the link.
            return unsafe { self.output(filters, &raw mut link) };
        }
        // SAFETY: the request is live.
        let rc = unsafe { ngx_http_send_special(self.0.as_ptr(), NGX_HTTP_FLUSH as ngx_uint_t) };
        rc != ERROR
    }

    /// Writes to the socket what it takes now: how much, or `Err` if the connection is lost.
    pub(super) fn send(self, bytes: &[u8]) -> Result<usize, Lost> {
        let c = self.connection();
        // SAFETY: the connection is live.
        let Some(send) = (unsafe { (*c).send }) else { return Err(Lost) };
        // SAFETY: it reads that many bytes and keeps nothing.
        let sent = unsafe { send(c, bytes.as_ptr().cast_mut(), bytes.len()) };
        match usize::try_from(sent) {
            Ok(sent) => Ok(sent),
            Err(_) if sent == NGX_AGAIN as isize => Ok(0),
            Err(_) => Err(Lost),
        }
    }

    /// Asks for a call when the socket takes bytes again. `restart`: it has just taken some, so
    /// `send_timeout` counts from now. `false`: the connection is lost.
    pub(super) fn await_writable(self, restart: bool) -> bool {
        let Some(core) = self.core_conf() else { return false };
        let event = self.write_event();
        // SAFETY: a connection's write event lives as long as it does.
        let is_timed = unsafe { (*event).timer_set() != 0 };
        // Whoever writes before us has its own time.
        if !self.is_delayed() && !self.is_postponed() && (restart || !is_timed) {
            // SAFETY: as above; nginx takes the timer away when the connection ends.
            unsafe { ngx_add_timer(event, core.send_timeout) };
        }
        // SAFETY: as above.
        unsafe { ngx_handle_write_event(event, core.send_lowat) == OK }
    }

    /// Nothing waits to be written: `send_timeout` does not count.
    pub(super) fn stop_waiting(self) {
        let event = self.write_event();
        // SAFETY: a connection's write event lives as long as it does.
        let is_timed = unsafe { (*event).timer_set() != 0 };
        if is_timed && !self.is_delayed() {
            // SAFETY: it is in the tree of timers.
            unsafe { ngx_del_timer(event) };
        }
        // Poll and select report a writable socket again and again: nginx stops watching it. Nothing
        // is changed elsewhere, and these two cannot fail.
        // SAFETY: as above.
        unsafe { ngx_handle_write_event(event, 0) };
    }

    /// Small messages leave at once, unless `tcp_nodelay off`. `false`: the connection is lost.
    pub(super) fn set_no_delay(self) -> bool {
        // SAFETY: the request is live.
        let is_stream = unsafe { !(*self.0.as_ptr()).stream.is_null() };
        match self.core_conf() {
            // The connection of an HTTP/2 stream is not a socket; nginx does it for the real one.
            Some(core) if core.tcp_nodelay != 0 && !is_stream => {
                // SAFETY: the connection is live.
                unsafe { ngx_tcp_nodelay(self.connection()) == OK }
            }
            _ => true,
        }
    }

    /// Reads what has come, up to the length of `buffer`.
    pub(super) fn receive(self, buffer: &mut [u8]) -> Received {
        let c = self.connection();
        // SAFETY: the connection is live.
        let Some(recv) = (unsafe { (*c).recv }) else { return Received::Lost };
        // SAFETY: it writes at most that many bytes and keeps nothing.
        let received = unsafe { recv(c, buffer.as_mut_ptr(), buffer.len()) };
        match usize::try_from(received) {
            Ok(0) => Received::End,
            Ok(len) => Received::Bytes(len),
            Err(_) if received == NGX_AGAIN as isize => Received::Nothing,
            Err(_) => Received::Lost,
        }
    }

    /// Asks for a call when there is something to read, after there was nothing. `false`: the
    /// connection is lost.
    pub(super) fn await_readable(self) -> bool {
        // SAFETY: a connection's read event lives as long as it does.
        unsafe { ngx_handle_read_event(self.read_event(), 0) == OK }
    }

    /// What is there to read stays there for now.
    pub(super) fn ignore_readable(self) {
        // SAFETY: the request is live.
        unsafe { ngx_http_block_reading(self.0.as_ptr()) };
    }

    /// Calls the request's read handler after the events that the loop has in hand.
    pub(super) fn post_read(self) {
        let queue = &raw mut ngx_posted_events;
        // SAFETY: nginx takes a connection's events out of the queue when it closes it.
        unsafe { ngx_post_event(self.read_event(), queue) };
    }

    /// Calls the request's read handler in the next round of the loop, so that everybody else has
    /// a turn before.
    pub(super) fn post_read_next(self) {
        let queue = &raw mut ngx_posted_next_events;
        // SAFETY: nginx takes a connection's events out of the queue when it closes it.
        unsafe { ngx_post_event(self.read_event(), queue) };
    }

    /// If the connection ends, for whatever reason, before this is taken back, and nothing else tells
    /// the client that the body has not come to its end, it sees a reset.
    pub(super) fn reset_when_closed(self, resets: bool) {
        // SAFETY: the request is live, and nothing below changes it.
        let r = unsafe { self.0.as_ref() };
        // SAFETY: the main request is live as long as its subrequests; nothing below changes it.
        let main = unsafe { &*r.main };
        // Without a header nothing was promised: nginx keeps the answer to a subrequest in memory.
        // HTTP/2 and HTTP/3 have numbers of 2000 and 3000.
        if main.header_sent() == 0
            || main.chunked() != 0
            || !r.stream.is_null()
            || r.http_version >= 2000
        {
            return;
        }
        // SAFETY: the connection is live.
        let fd = unsafe { (*self.connection()).fd };
        let how = libc::linger { l_onoff: resets.into(), l_linger: 0 };
        let how = &raw const how;
        let len = size_of::<libc::linger>() as libc::socklen_t;
        // SAFETY: the option is of that type.
        unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_LINGER, how.cast(), len) };
    }

    /// nginx is to take the connection for broken. Over TLS it then says no goodbye.
    pub(super) fn set_broken(self) {
        // SAFETY: the connection is live, and nobody else has a reference to it.
        unsafe { (*self.connection()).set_error(1) };
    }

    /// When the request is over, nginx closes our half at once and swallows what the client still
    /// sends for so many seconds at the most, instead of for `lingering_time`.
    pub(super) fn limit_lingering(self, now: time_t, secs: time_t) {
        // SAFETY: the request is live, and nobody else has a reference to it.
        unsafe { (*self.0.as_ptr()).lingering_time = now + secs };
    }

    fn core_conf<'a>(self) -> Option<&'a ngx_http_core_loc_conf_t> {
        // SAFETY: the request is live.
        let slots = unsafe { (*self.0.as_ptr()).loc_conf };
        // SAFETY: a static of nginx's, written while it loads modules.
        let index = unsafe { ngx_http_core_module.ctx_index };
        // SAFETY: one slot per http module; the core module is always there.
        let conf = unsafe { ffi::slot::<ngx_http_core_loc_conf_t>(slots, index) }?;
        // SAFETY: configurations outlive their requests and do not change.
        Some(unsafe { conf.as_ref() })
    }
}

/// A connection that nginx keeps to swallow what comes is not kept longer than this.
///
/// # Safety
///
/// The connection was live before its request was finished.
pub(super) unsafe fn hasten_closing(connection: *mut ngx_connection_t, msec: usize) {
    // SAFETY: the structures of connections are never unmapped.
    if unsafe { (*connection).fd } == -1 {
        return;
    }
    // SAFETY: as above.
    let read = unsafe { (*connection).read };
    // SAFETY: the connection is live, and its events with it.
    if unsafe { (*read).timer_set() != 0 } {
        // SAFETY: as above.
        unsafe { ngx_add_timer(read, msec) };
    }
}

/// Runs what nginx has put off until the end of the event, for the connection that just had a
/// request finished outside of its own events.
///
/// # Safety
///
/// `connection` was live before the request was finished; nginx marks it if it is gone now.
pub(super) unsafe fn run_posted(connection: *mut ngx_connection_t) {
    // SAFETY: the structures of connections are never unmapped, and `destroyed` is looked at first.
    unsafe { ngx_http_run_posted_requests(connection) };
}
