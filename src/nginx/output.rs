//! What is due for one subscriber, and how it gets onto its socket.
//!
//! ```text
//!   News ──► Rendering, one per batch and form, shared ──► Outbox of each listener
//!
//!   Outbox ──► direct:   framed by us, ──► c->send         if nothing else can be in between
//!          └─► filters:  framed by nginx ──► gzip, HTTP/2, TLS, limit_rate, ...
//! ```
//!
//! All that is due leaves in one write. What the socket does not take stays in the outbox, which
//! holds references to the shared renderings; the caller watches its size. Bytes that were handed to
//! nginx are kept in [`Loans`] until nginx has consumed them, so nothing is copied and a request's
//! pool does not grow with the number of messages.

use core::ptr::{self, NonNull};
use std::collections::VecDeque;
use std::rc::Rc;

use ngx::ffi::{ngx_buf_t, ngx_chain_t};

use crate::nginx::ffi;
use crate::nginx::module;
use crate::nginx::peer::{Filters, Peer};

/// Pieces are copied together for one write up to this size; more does not make the write cheaper.
const COALESCED_MAX: usize = 64 << 10;

/// The bytes of a batch of messages in one form, one after the other.
#[derive(Default)]
pub(super) struct Rendering {
    bytes: Vec<u8>,
    /// Where each message ends in `bytes`.
    ends: Vec<usize>,
}

impl Rendering {
    /// Appends one message; `write` appends its bytes, which may be none.
    pub(super) fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.ends.push(self.bytes.len());
    }

    /// Bytes of all messages.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// From now on all of it goes out as one message, which means one chunk.
    pub(super) fn join(&mut self) {
        self.ends = vec![self.bytes.len()];
    }

    /// Where the message of this number begins.
    fn start_of(&self, message: usize) -> usize {
        message.checked_sub(1).and_then(|last| self.ends.get(last)).copied().unwrap_or(0)
    }

    /// The end of the message that has a byte at `at`.
    fn end_after(&self, at: usize) -> usize {
        let number = self.ends.partition_point(|end| *end <= at);
        self.ends.get(number).copied().unwrap_or(self.bytes.len())
    }
}

/// A part of a rendering that waits for one subscriber.
pub(super) struct Piece {
    rendering: Rc<Rendering>,
    from: usize,
    to: usize,
}

impl Piece {
    /// The message of this number; no bytes if there is none.
    pub(super) fn one(rendering: &Rc<Rendering>, number: usize) -> Self {
        let from = rendering.start_of(number);
        let to = rendering.ends.get(number).copied().unwrap_or(from);
        Self { rendering: Rc::clone(rendering), from, to }
    }

    /// Bytes that nobody else is sent.
    pub(super) fn of(bytes: Vec<u8>) -> Self {
        let to = bytes.len();
        Self { rendering: Rc::new(Rendering { ends: vec![to], bytes }), from: 0, to }
    }

    fn bytes(&self) -> &[u8] {
        self.rendering.bytes.get(self.from..self.to).unwrap_or_default()
    }

    pub(super) fn len(&self) -> usize {
        self.to.saturating_sub(self.from)
    }
}

/// What waits for one subscriber, oldest first. Small while it is empty or holds one piece, which is
/// so for nearly all subscribers nearly all of the time.
#[derive(Default)]
pub(super) struct Outbox {
    first: Option<Piece>,
    more: Option<Box<More>>,
}

#[derive(Default)]
struct More {
    pieces: VecDeque<Piece>,
    /// Bytes in `pieces`.
    len: usize,
    /// How many of the bytes at the head are old messages, sent because the subscriber asked.
    backlog: usize,
}

impl Outbox {
    /// Adds the messages of `rendering` from number `skipped` on.
    pub(super) fn push(&mut self, rendering: &Rc<Rendering>, skipped: usize) {
        let from = rendering.start_of(skipped);
        let to = rendering.bytes.len();
        self.push_piece(Piece { rendering: Rc::clone(rendering), from, to });
    }

    /// Adds a piece after all others.
    pub(super) fn push_piece(&mut self, piece: Piece) {
        if piece.len() == 0 {
            return;
        }
        if self.first.is_none() {
            self.first = Some(piece);
        } else {
            let more = self.more.get_or_insert_default();
            more.len += piece.len();
            more.pieces.push_back(piece);
        }
    }

    /// What is in it now are old messages: they do not count as waiting.
    pub(super) fn mark_backlog(&mut self) {
        let len = self.len();
        if len > 0 {
            self.more.get_or_insert_default().backlog = len;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Bytes of live messages that wait for the socket.
    pub(super) fn waiting(&self) -> usize {
        self.len() - self.more.as_ref().map_or(0, |more| more.backlog)
    }

    /// Bytes that wait for the socket.
    pub(super) fn len(&self) -> usize {
        let first = self.first.as_ref().map_or(0, Piece::len);
        first + self.more.as_ref().map_or(0, |more| more.len)
    }

    /// Drops all that waits, but for the rest of a message of which a part is gone already.
    pub(super) fn cut(&mut self) {
        self.more = None;
        self.first = self.first.take().and_then(|first| {
            let is_whole = first.from == 0 || first.rendering.ends.contains(&first.from);
            let to = first.rendering.end_after(first.from).min(first.to);
            (!is_whole).then_some(Piece { to, ..first })
        });
    }

    fn is_one_piece(&self) -> bool {
        self.more.as_ref().is_none_or(|more| more.pieces.is_empty())
    }

    /// The first `len` bytes are gone; they are all there.
    fn consume(&mut self, mut len: usize) {
        if let Some(more) = &mut self.more {
            more.backlog = more.backlog.saturating_sub(len);
        }
        while let Some(first) = &mut self.first {
            if len < first.len() {
                first.from += len;
                return;
            }
            len -= first.len();
            self.first = self.more.as_mut().and_then(|more| {
                let next = more.pieces.pop_front()?;
                more.len -= next.len();
                Some(next)
            });
        }
        self.more = None;
    }

    /// Copies what is at the head together, up to [`COALESCED_MAX`].
    fn coalesce(&self, into: &mut Vec<u8>) {
        into.clear();
        let more = self.more.iter().flat_map(|more| more.pieces.iter());
        for piece in self.first.iter().chain(more) {
            let (taken, _) = piece.bytes().split_at(piece.len().min(COALESCED_MAX - into.len()));
            into.extend_from_slice(taken);
            if into.len() == COALESCED_MAX {
                break;
            }
        }
    }
}

/// Bytes that nginx has been given and may not have consumed. Lives as long as the request's pool:
/// filters may keep a link to a buffer that has been consumed already.
#[derive(Default)]
pub(super) struct Loans {
    lent: VecDeque<Box<Loan>>,
    #[expect(clippy::vec_box, reason = "nginx may still point to a buffer that is spare")]
    spare: Vec<Box<Loan>>,
}

struct Loan {
    buf: ngx_buf_t,
    rendering: Option<Rc<Rendering>>,
}

/// The last buffer of a group tells nginx to write, the last one of all to end the response.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Hold,
    Flush,
    End,
}

impl Loans {
    /// Loans of a request; they go with its pool. `None`: no memory.
    pub(super) fn of(peer: Peer) -> Option<NonNull<Self>> {
        ffi::owned_by_pool(peer.pool()?, Self::default())
    }

    /// A buffer that shows the piece; both stay until nginx has consumed it.
    fn lend(&mut self, piece: Piece, then: Then) -> *mut ngx_buf_t {
        let mut loan = self.spare.pop().unwrap_or_else(|| {
            // SAFETY: all its fields are integers and nullable pointers.
            Box::new(Loan { buf: unsafe { core::mem::zeroed() }, rendering: None })
        });
        // SAFETY: as above.
        loan.buf = unsafe { core::mem::zeroed() };
        let bytes = piece.bytes();
        let start = bytes.as_ptr().cast_mut();
        loan.buf.pos = start;
        loan.buf.start = start;
        loan.buf.last = start.wrapping_add(bytes.len());
        loan.buf.end = loan.buf.last;
        loan.buf.tag = module::tag();
        // "memory", not "temporary": filters must not change what others are sent as well.
        loan.buf.set_memory(u32::from(!bytes.is_empty()));
        loan.buf.set_flush(u32::from(then == Then::Flush));
        loan.buf.set_last_buf(u32::from(then == Then::End));
        loan.rendering = Some(piece.rendering);
        let buf = &raw mut loan.buf;
        self.lent.push_back(loan);
        buf
    }

    /// Takes back what nginx has consumed. nginx consumes in order.
    fn reclaim(&mut self) {
        while self.lent.front().is_some_and(|loan| loan.buf.pos == loan.buf.last) {
            let Some(mut loan) = self.lent.pop_front() else { return };
            loan.rendering = None;
            self.spare.push(loan);
        }
    }
}

/// How far [`Way::flush`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flushed {
    /// Nothing waits any more.
    All,
    /// The socket takes no more now; `true` if it has taken something.
    Some(bool),
    /// The connection is lost.
    Lost,
}

/// How bytes go to one subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// What waits is framed already, and no body filter needs to see it.
    Direct,
    /// Through all body filters, a message at a time.
    Filtered,
}

impl Way {
    fn filters(self) -> Filters {
        match self {
            Self::Direct => Filters::Write,
            Self::Filtered => Filters::All,
        }
    }

    /// Writes as much of `outbox` as the socket takes, after what nginx still has.
    ///
    /// May call any body filter, so nobody must hold a reference to the request or to our state.
    pub(super) fn flush(
        self,
        peer: Peer,
        outbox: &mut Outbox,
        loans: NonNull<Loans>,
        scratch: &mut Vec<u8>,
    ) -> Flushed {
        if peer.is_broken() {
            return Flushed::Lost;
        }
        let before = peer.sent();
        if peer.is_holding() {
            // SAFETY: there is no new chain.
            if !unsafe { peer.output(self.filters(), ptr::null_mut()) } {
                return Flushed::Lost;
            }
            reclaim(loans);
            if peer.is_holding() {
                return Flushed::Some(peer.sent() != before);
            }
        } else if outbox.is_empty() && (peer.has_output() || peer.has_additions()) && !peer.flush()
        {
            // nginx holds the header back, or what is to come before our first byte, until something
            // follows; nothing does.
            return Flushed::Lost;
        }
        let is_direct =
            self == Self::Direct && !peer.has_output() && !peer.is_limited() && !peer.is_tls();
        let went = if is_direct {
            send(peer, outbox, scratch)
        } else {
            hand_over(peer, self.filters(), outbox, loans)
        };
        match went {
            Err(()) => Flushed::Lost,
            Ok(()) if outbox.is_empty() && !peer.is_holding() => {
                if self == Self::Direct && !is_direct {
                    forget_spares(loans);
                }
                Flushed::All
            }
            Ok(()) => Flushed::Some(peer.sent() != before),
        }
    }
}

/// Straight to the socket. Not for TLS, which must be offered the same bytes again where it could not
/// write them: nginx's own filter sees to that.
fn send(peer: Peer, outbox: &mut Outbox, scratch: &mut Vec<u8>) -> Result<(), ()> {
    while peer.is_writable()
        && let Some(first) = &outbox.first
    {
        let sent = if outbox.is_one_piece() || first.len() >= COALESCED_MAX {
            peer.send(first.bytes())?
        } else {
            outbox.coalesce(scratch);
            peer.send(scratch)?
        };
        outbox.consume(sent);
    }
    Ok(())
}

/// To nginx, as long as it writes everything at once.
fn hand_over(
    peer: Peer,
    filters: Filters,
    outbox: &mut Outbox,
    loans: NonNull<Loans>,
) -> Result<(), ()> {
    let mut held = 0;
    while let Some(first) = &outbox.first {
        // One call per message: each becomes a chunk of its own.
        let to = match filters {
            Filters::All => first.rendering.end_after(first.from).min(first.to),
            Filters::Write => first.to,
        };
        let piece = Piece { rendering: Rc::clone(&first.rendering), from: first.from, to };
        let len = piece.len();
        outbox.consume(len);
        held += len;
        let then =
            if outbox.is_empty() || held >= COALESCED_MAX { Then::Flush } else { Then::Hold };
        give(peer, filters, Vec::new(), piece, then, loans)?;
        if then == Then::Flush {
            held = 0;
        }
        if peer.is_holding() && then == Then::Flush {
            break;
        }
    }
    Ok(())
}

/// Ends the response with `last`, as one chunk where there are chunks. To be called when nothing
/// waits. `Err`: the connection is lost; else nginx writes what it could not write at once.
pub(super) fn finish(
    peer: Peer,
    last: impl IntoIterator<Item = Piece>,
    loans: NonNull<Loans>,
) -> Result<(), ()> {
    let mut pieces: Vec<Piece> = last.into_iter().filter(|piece| piece.len() > 0).collect();
    // nginx takes a buffer without bytes only for what its flags say.
    let end = pieces.pop().unwrap_or_else(|| Piece::of(Vec::new()));
    give(peer, Filters::All, pieces, end, Then::End, loans)
}

/// Gives nginx some pieces in one call.
fn give(
    peer: Peer,
    filters: Filters,
    pieces: Vec<Piece>,
    last: Piece,
    then: Then,
    loans: NonNull<Loans>,
) -> Result<(), ()> {
    // SAFETY: they live as long as the request's pool, and nobody else looks at them now.
    let lender = unsafe { &mut *loans.as_ptr() };
    let mut links: Vec<ngx_chain_t> = Vec::with_capacity(pieces.len() + 1);
    for piece in pieces {
        links.push(ngx_chain_t { buf: lender.lend(piece, Then::Hold), next: ptr::null_mut() });
    }
    links.push(ngx_chain_t { buf: lender.lend(last, then), next: ptr::null_mut() });
    let first = links.as_mut_ptr();
    for number in 1..links.len() {
        let next = first.wrapping_add(number);
        links[number - 1].next = next;
    }
    // SAFETY: nginx copies links that it keeps; the loans keep buffers and bytes.
    let went = unsafe { peer.output(filters, first) };
    reclaim(loans);
    if went { Ok(()) } else { Err(()) }
}

fn reclaim(loans: NonNull<Loans>) {
    // SAFETY: they live as long as the request's pool, and nobody else looks at them now.
    unsafe { &mut *loans.as_ptr() }.reclaim();
}

/// Without other filters nobody knows a buffer that was consumed, and most subscribers never need
/// one again after their header.
fn forget_spares(loans: NonNull<Loans>) {
    // SAFETY: they live as long as the request's pool, and nobody else looks at them now.
    unsafe { &mut *loans.as_ptr() }.spare = Vec::new();
}
