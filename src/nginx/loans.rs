//! Bytes that nginx has been given and may not have consumed.
//!
//! ```text
//!   Outbox ──► Piece ──► Loan: a buffer that shows it ──► nginx's filters ──► socket
//!                          └── kept here until nginx has consumed it
//! ```
//!
//! So nothing is copied, and a request's pool does not grow with the number of messages.

use core::mem;
use core::ptr::{self, NonNull};
use std::collections::VecDeque;

use ngx::ffi::{ngx_buf_t, ngx_chain_t};

use crate::nginx::peer::{Filters, Peer};
use crate::nginx::{ffi, identity};
use crate::session::link::Lost;
use crate::session::outbox::{COALESCED_MAX, Outbox, Piece};

/// The loans of one request. They live as long as its pool: filters may keep a link to a buffer that has
/// been consumed already.
#[derive(Default)]
pub(super) struct Loans {
    /// In the order in which nginx consumes them.
    lent: VecDeque<NonNull<Loan>>,
    spare: Vec<NonNull<Loan>>,
}

/// A buffer that nginx may point to at any time, so nobody holds a reference to it over a call of nginx's.
/// Each is a box of its own, which [`Loans`] frees.
struct Loan {
    buf: ngx_buf_t,
    piece: Option<Piece>,
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

    /// A buffer that shows the piece; both stay until nginx has consumed it. `is_main`: the response is
    /// not part of another one.
    fn lend(&mut self, piece: Piece, then: Then, is_main: bool) -> *mut ngx_buf_t {
        // SAFETY: all its fields are integers and nullable pointers.
        let mut buf: ngx_buf_t = unsafe { mem::zeroed() };
        let bytes = piece.bytes();
        let start = bytes.as_ptr().cast_mut();
        buf.pos = start;
        buf.start = start;
        buf.last = start.wrapping_add(bytes.len());
        buf.end = buf.last;
        buf.tag = identity::tag();
        // "memory", not "temporary": filters must not change what others are sent as well.
        buf.set_memory(u32::from(!bytes.is_empty()));
        buf.set_flush(u32::from(then == Then::Flush));
        buf.set_last_buf(u32::from(then == Then::End && is_main));
        buf.set_last_in_chain(u32::from(then == Then::End));
        // nginx takes a buffer without bytes only for what its flags say.
        buf.set_sync(u32::from(then == Then::End && !is_main && bytes.is_empty()));
        let loan = Loan { buf, piece: Some(piece) };
        let place = match self.spare.pop() {
            Some(place) => {
                // SAFETY: a box of ours, which nginx is done with; it holds no piece.
                unsafe { place.write(loan) };
                place
            }
            None => NonNull::from(Box::leak(Box::new(loan))),
        };
        self.lent.push_back(place);
        // SAFETY: a live box; no reference is made.
        unsafe { &raw mut (*place.as_ptr()).buf }
    }

    /// Takes back what nginx has consumed. nginx consumes in order.
    fn reclaim(&mut self) {
        while let Some(first) = self.lent.front().copied() {
            // SAFETY: a live box, and nginx is not running now.
            let loan = unsafe { &mut *first.as_ptr() };
            if loan.buf.pos != loan.buf.last {
                return;
            }
            loan.piece = None;
            self.lent.pop_front();
            self.spare.push(first);
        }
    }

    fn free_spares(&mut self) {
        for spare in mem::take(&mut self.spare) {
            // SAFETY: made by `Box::leak` in `lend`, and in no other list.
            drop(unsafe { Box::from_raw(spare.as_ptr()) });
        }
    }
}

impl Drop for Loans {
    fn drop(&mut self) {
        self.spare.extend(self.lent.drain(..));
        self.free_spares();
    }
}

/// Gives nginx what waits, for as long as it writes everything at once.
pub(super) fn hand_over(
    peer: Peer,
    filters: Filters,
    outbox: &mut Outbox,
    loans: NonNull<Loans>,
) -> Result<(), Lost> {
    let mut held = 0;
    // One call for each message where filters make a chunk of each call.
    while let Some(piece) = outbox.take(filters == Filters::Write) {
        held += piece.len();
        let is_group = outbox.is_empty() || held >= COALESCED_MAX;
        let then = if is_group { Then::Flush } else { Then::Hold };
        give(peer, filters, Vec::new(), piece, then, loans)?;
        if is_group {
            held = 0;
            if peer.is_holding() {
                break;
            }
        }
    }
    Ok(())
}

/// Lets nginx go on with what it has already.
pub(super) fn go_on(peer: Peer, filters: Filters, loans: NonNull<Loans>) -> Result<(), Lost> {
    // SAFETY: there is no new chain.
    let went = unsafe { peer.output(filters, ptr::null_mut()) };
    reclaim(loans);
    if went { Ok(()) } else { Err(Lost) }
}

/// Ends the response with `last`, as one chunk where there are chunks. To be called when nothing waits.
/// Without an error nginx writes later what it could not write at once.
pub(super) fn finish(
    peer: Peer,
    last: impl IntoIterator<Item = Piece>,
    loans: NonNull<Loans>,
) -> Result<(), Lost> {
    let mut pieces: Vec<Piece> = last.into_iter().filter(|piece| !piece.is_empty()).collect();
    let end = pieces.pop().unwrap_or_else(|| Piece::of(Vec::new()));
    give(peer, Filters::All, pieces, end, Then::End, loans)
}

/// Without other filters nobody knows a buffer that was consumed, and most subscribers never need one
/// again after their header.
pub(super) fn forget_spares(loans: NonNull<Loans>) {
    // SAFETY: they live as long as the request's pool, and nobody else looks at them now.
    unsafe { &mut *loans.as_ptr() }.free_spares();
}

/// Gives nginx some pieces in one call.
fn give(
    peer: Peer,
    filters: Filters,
    pieces: Vec<Piece>,
    last: Piece,
    then: Then,
    loans: NonNull<Loans>,
) -> Result<(), Lost> {
    let mut links = lend_all(pieces, last, then, peer.is_main(), loans);
    let first = links.as_mut_ptr();
    for (number, link) in links.iter_mut().rev().skip(1).rev().enumerate() {
        link.next = first.wrapping_add(number + 1);
    }
    // SAFETY: nginx copies links that it keeps; the loans keep buffers and bytes.
    let went = unsafe { peer.output(filters, first) };
    reclaim(loans);
    if went { Ok(()) } else { Err(Lost) }
}

/// A link for each piece; they do not know each other yet.
fn lend_all(
    pieces: Vec<Piece>,
    last: Piece,
    then: Then,
    is_main: bool,
    loans: NonNull<Loans>,
) -> Vec<ngx_chain_t> {
    // SAFETY: they live as long as the request's pool, and nobody else looks at them now.
    let lender = unsafe { &mut *loans.as_ptr() };
    let mut link =
        |piece, then| ngx_chain_t { buf: lender.lend(piece, then, is_main), next: ptr::null_mut() };
    let mut links: Vec<ngx_chain_t> =
        pieces.into_iter().map(|piece| link(piece, Then::Hold)).collect();
    links.push(link(last, then));
    links
}

fn reclaim(loans: NonNull<Loans>) {
    // SAFETY: they live as long as the request's pool, and nobody else looks at them now.
    unsafe { &mut *loans.as_ptr() }.reclaim();
}
