//! Bytes that nginx has been given and may not have consumed.
//!
//! ```text
//!   Outbox ──► Piece ──► Loan: a buffer that shows it ──► nginx's filters ──► socket
//!                          └── kept here until nginx has consumed it
//! ```
//!
//! So nothing is copied, and a request's pool does not grow with the number of messages.

use core::ffi::c_void;
use core::mem;
use core::ptr::{self, NonNull};
use std::collections::VecDeque;

use ngx::ffi::{
    ngx_buf_t, ngx_chain_t, ngx_http_request_t, ngx_pool_cleanup_add, ngx_pool_cleanup_t,
};

use crate::nginx::peer::{Filters, Peer};
use crate::nginx::{ffi, identity};
use crate::session::link::Lost;
use crate::session::outbox::{COALESCED_MAX, Outbox, Piece};

/// The loans of one request. Most subscribers never have any, so they are made when something is lent.
/// A cleanup of the request's pool owns them.
///
/// They live as long as that pool: filters may keep a link to a buffer that has been consumed already.
pub(super) struct Loans {
    /// Only its address counts. Subrequests have the pool of their main request.
    owner: *mut ngx_http_request_t,
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
    /// The loans of this request. `None`: no memory.
    pub(super) fn of(peer: Peer) -> Option<NonNull<Self>> {
        let mut keeper = match keeper_of(peer) {
            Some(keeper) => keeper,
            None => new_keeper(peer)?,
        };
        // SAFETY: it lives as long as the request's pool, and nobody else looks at it now.
        let keeper = unsafe { keeper.as_mut() };
        if keeper.data.is_null() {
            let loans = Self { owner: peer.as_ptr(), lent: VecDeque::new(), spare: Vec::new() };
            keeper.data = Box::into_raw(Box::new(loans)).cast();
        }
        NonNull::new(keeper.data.cast())
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

/// The cleanup that owns the loans of this request. It has none while its `data` is null.
fn keeper_of(peer: Peer) -> Option<NonNull<ngx_pool_cleanup_t>> {
    let pool = peer.pool()?;
    // SAFETY: the pool lives as long as the request.
    let mut next = unsafe { (*pool.as_ptr()).cleanup };
    while let Some(here) = NonNull::new(next) {
        // SAFETY: the pool's list of cleanups, which ends with null.
        let keeper = unsafe { here.as_ref() };
        let is_ours = keeper.handler.is_some_and(|handler| ptr::fn_addr_eq(handler, DROP_LOANS));
        if is_ours && owner_of(keeper).map_or(peer.is_main(), |owner| owner == peer.as_ptr()) {
            return Some(here);
        }
        next = keeper.next;
    }
    None
}

/// `None`: its loans are dropped, which happens for main requests only.
fn owner_of(keeper: &ngx_pool_cleanup_t) -> Option<*mut ngx_http_request_t> {
    let loans = NonNull::new(keeper.data.cast::<Loans>())?;
    // SAFETY: a cleanup with our handler owns them, and nobody has a reference to them now.
    Some(unsafe { (*loans.as_ptr()).owner })
}

fn new_keeper(peer: Peer) -> Option<NonNull<ngx_pool_cleanup_t>> {
    // SAFETY: the request is live, and so is its pool; size 0 means that `data` is ours to set.
    let mut keeper = NonNull::new(unsafe { ngx_pool_cleanup_add(peer.pool()?.as_ptr(), 0) })?;
    // SAFETY: nginx has just made this record, and nobody else knows it yet.
    let fields = unsafe { keeper.as_mut() };
    fields.data = ptr::null_mut();
    fields.handler = Some(DROP_LOANS);
    Some(keeper)
}

/// The handler of keepers. They are found by it.
const DROP_LOANS: unsafe extern "C" fn(*mut c_void) = drop_loans;

/// nginx calls this at the end of the pool, once.
///
/// # Safety
///
/// `data` is what a keeper owns, or null.
unsafe extern "C" fn drop_loans(data: *mut c_void) {
    ffi::guard("drop_loans", (), || {
        if let Some(loans) = NonNull::new(data.cast::<Loans>()) {
            // SAFETY: made in `Loans::of`, and the keeper was the only owner.
            drop(unsafe { Box::from_raw(loans.as_ptr()) });
        }
    });
}

/// Gives nginx what waits, for as long as it writes everything at once.
pub(super) fn hand_over(peer: Peer, filters: Filters, outbox: &mut Outbox) -> Result<(), Lost> {
    if outbox.is_empty() {
        return Ok(());
    }
    let loans = Loans::of(peer).ok_or(Lost)?;
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
pub(super) fn go_on(peer: Peer, filters: Filters) -> Result<(), Lost> {
    // SAFETY: there is no new chain.
    let went = unsafe { peer.output(filters, ptr::null_mut()) };
    if let Some(loans) = known(peer) {
        reclaim(loans);
    }
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

/// Drops loans of which nginx has consumed everything. Without other filters nobody knows a buffer that
/// was consumed, and most subscribers never need one again after their header. For main requests only.
pub(super) fn settle(peer: Peer) {
    let Some(mut keeper) = keeper_of(peer) else { return };
    // SAFETY: it lives as long as the request's pool, and nobody else looks at it now.
    let keeper = unsafe { keeper.as_mut() };
    let Some(loans) = NonNull::new(keeper.data.cast::<Loans>()) else { return };
    // SAFETY: the keeper owns them, and nobody else looks at them now.
    if unsafe { loans.as_ref() }.lent.is_empty() {
        keeper.data = ptr::null_mut();
        // SAFETY: made in `Loans::of`, and the keeper was the only owner.
        drop(unsafe { Box::from_raw(loans.as_ptr()) });
    }
}

/// The loans of this request, if it has any.
fn known(peer: Peer) -> Option<NonNull<Loans>> {
    // SAFETY: it lives as long as the request's pool, and nobody else looks at it now.
    NonNull::new(unsafe { keeper_of(peer)?.as_ref() }.data.cast())
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
