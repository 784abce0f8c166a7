//! One client's connection as the session sees it: how bytes get onto its socket.
//!
//! ```text
//!   Outbox ──► direct:   framed by us, ──► c->send         if nothing else can be in between
//!          └─► filters:  framed by nginx ──► gzip, HTTP/2, TLS, limit_rate, ...
//! ```
//!
//! Either way all that is due leaves in one write.

use core::ffi::c_void;
use core::ptr::NonNull;

use ngx::ffi::ngx_http_request_t;

use crate::model::Token;
use crate::nginx::loans;
use crate::nginx::location::Location;
use crate::nginx::peer::{self, Filters, Peer};
use crate::nginx::{faults, identity, settings};
use crate::session::Layout;
use crate::session::frames::Terms;
use crate::session::link::{Flushed, Link, Lost, Received, Slow, Way};
use crate::session::outbox::Outbox;

/// A subscriber's request, alive as long as the subscriber is there: the cleanup of the request forgets
/// the subscriber before nginx frees anything.
#[derive(Clone, Copy)]
pub(crate) struct Client {
    peer: Peer,
    location: &'static Location,
}

impl Client {
    pub(super) fn new(peer: Peer, location: &'static Location) -> Self {
        Self { peer, location }
    }

    pub(super) fn peer(&self) -> Peer {
        self.peer
    }

    pub(super) fn location(&self) -> &'static Location {
        self.location
    }

    fn try_flush(&self, way: Way, outbox: &mut Outbox) -> Result<(), Lost> {
        let peer = self.peer;
        let filters = match way {
            Way::Direct => Filters::Write,
            Way::Filtered => Filters::All,
        };
        if peer.is_broken() {
            return Err(Lost);
        }
        if peer.is_holding() {
            loans::go_on(peer, filters)?;
            if peer.is_holding() {
                return Ok(());
            }
        } else if outbox.is_empty()
            && (peer.has_output() || peer.has_additions())
            && !peer.flush(filters)
        {
            // nginx holds the header back, or what comes before our first byte, until something
            // follows; nothing does.
            return Err(Lost);
        }
        loans::hand_over(peer, filters, outbox)?;
        if way == Way::Direct && outbox.is_empty() && !peer.is_holding() {
            loans::settle(peer);
        }
        Ok(())
    }
}

impl Link for Client {
    fn layout(&self) -> &Layout {
        faults::point("layout");
        &self.location.layout
    }

    fn ping_text(&self) -> &[u8] {
        faults::point("ping_text");
        settings::main(self.peer.request()).ping_message_text()
    }

    fn terms(&self) -> Terms {
        Terms {
            publish: self.location.websocket_allow_publish,
            binary: self.location.websocket_binary,
            message_max: self.location.websocket_max_message_size as u64,
        }
    }

    fn buffered_max(&self) -> usize {
        faults::point("buffered_max");
        self.location.subscriber_max_buffered
    }

    fn slow(&self) -> Slow {
        self.location.slow
    }

    fn is_plain(&self) -> bool {
        let peer = self.peer;
        // Not for TLS, which must be offered the same bytes again where it could not write them: nginx's
        // own filter sees to that.
        !(peer.is_broken() || peer.has_output() || peer.is_limited() || peer.is_tls())
    }

    fn is_writable(&self) -> bool {
        self.peer.is_writable()
    }

    fn send(&self, bytes: &[u8]) -> Result<usize, Lost> {
        faults::point("send");
        self.peer.send(bytes)
    }

    fn sent(&self) -> u64 {
        u64::try_from(self.peer.sent()).unwrap_or(0)
    }

    fn flush(&self, way: Way, outbox: &mut Outbox) -> Flushed {
        faults::point("flush");
        let before = self.peer.sent();
        match self.try_flush(way, outbox) {
            Err(Lost) => Flushed::Lost,
            Ok(()) if outbox.is_empty() && !self.peer.is_holding() => Flushed::All,
            Ok(()) => Flushed::Some { progress: self.peer.sent() != before },
        }
    }

    fn run_posted(&self) {
        // A body filter may have made a subrequest, whose answer comes first. nginx runs it after an event
        // of the connection; after one of ours nobody does.
        if self.peer.is_postponed() {
            // SAFETY: the subscriber is there, so the request is live, and nobody uses it after this.
            unsafe { peer::run_posted(self.peer.connection()) };
        }
    }

    fn await_writable(&self, restart: bool) -> Result<(), Lost> {
        faults::point("await_writable");
        if self.peer.await_writable(restart) { Ok(()) } else { Err(Lost) }
    }

    fn stop_waiting(&self) -> Result<(), Lost> {
        self.peer.stop_waiting();
        Ok(())
    }

    fn receive(&self, buffer: &mut [u8]) -> Received {
        faults::point("receive");
        self.peer.receive(buffer)
    }

    fn await_readable(&self) -> Result<(), Lost> {
        if self.peer.await_readable() { Ok(()) } else { Err(Lost) }
    }

    fn ignore_readable(&self) {
        self.peer.ignore_readable();
    }

    fn read_again(&self, soon: bool) {
        if soon { self.peer.post_read() } else { self.peer.post_read_next() }
    }

    fn has_hung_up(&self) -> bool {
        self.peer.has_hung_up()
    }
}

/// The subscriber that the request belongs to, if it has got that far.
pub(super) fn token_of(r: NonNull<ngx_http_request_t>) -> Token {
    // SAFETY: it is ours, and a pointer.
    token_from(unsafe { *context(r) })
}

/// Lets the handlers of the request find its subscriber.
pub(super) fn attach(token: Token, peer: Peer) {
    // SAFETY: it is ours, and a pointer.
    unsafe { *context(peer.request()) = pointer_to(token) };
}

/// A token as nginx keeps it for us.
pub(super) fn pointer_to(token: Token) -> *mut c_void {
    core::ptr::without_provenance_mut(token.to_usize())
}

/// The token that [`pointer_to`] was given.
pub(super) fn token_from(data: *mut c_void) -> Token {
    Token::from_usize(data.addr())
}

/// Our place among the contexts of a live request.
fn context(r: NonNull<ngx_http_request_t>) -> *mut *mut c_void {
    // SAFETY: nginx calls handlers with live requests.
    let contexts = unsafe { r.as_ref() }.ctx;
    // SAFETY: one slot per http module, and this is our module's number.
    unsafe { contexts.add(identity::ctx_index()) }
}
