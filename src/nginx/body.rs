//! A request's body as one run of slices, wherever nginx has put it.
//!
//! nginx leaves it in memory, in a temporary file, or in both, in pieces. Parts in the file are
//! mapped: the one copy that is made of them is the one into the zone. The file is nginx's own, and
//! unless `client_body_in_file_only` keeps it, it has no name any more: nobody cuts it meanwhile.

use core::ffi::c_void;
use core::ptr::{self, NonNull};
use std::io;

use ngx::ffi::{
    NGX_DONE, NGX_HTTP_SPECIAL_RESPONSE, ngx_buf_t, ngx_http_client_body_handler_pt,
    ngx_http_read_client_request_body, ngx_int_t, ngx_pagesize,
};

use crate::model::Few;
use crate::nginx::request::Request;

/// Asks nginx for the whole body; `then` is called when it is there, perhaps at once. The result is
/// what the content handler must return.
pub(crate) fn read(request: &Request, then: ngx_http_client_body_handler_pt) -> ngx_int_t {
    // SAFETY: the request is live, and nothing of it is borrowed.
    let outcome = unsafe { ngx_http_read_client_request_body(request.as_ptr(), then) };
    if outcome >= NGX_HTTP_SPECIAL_RESPONSE as ngx_int_t {
        return outcome;
    }
    NGX_DONE as ngx_int_t
}

/// A body that has arrived as a whole.
pub(crate) struct Body<'r> {
    pieces: Few<Piece<'r>>,
}

enum Piece<'r> {
    Memory(&'r [u8]),
    File(Mapped),
}

impl<'r> Body<'r> {
    /// What nginx has read for the request; empty if it has no body.
    pub(crate) fn of(request: &'r Request) -> io::Result<Self> {
        let mut pieces = Few::default();
        // SAFETY: null before a body was read, otherwise the request's own record.
        let body = unsafe { request.fields().request_body.as_ref() };
        let mut link = body.map_or(ptr::null_mut(), |body| body.bufs);
        // SAFETY: a chain ends with null, and is not changed while the body is looked at.
        while let Some(here) = unsafe { link.as_ref() } {
            link = here.next;
            // SAFETY: each link of a chain has a buffer.
            let buffer = unsafe { &*here.buf };
            if let Some(piece) = Piece::of(buffer)? {
                pieces.push(piece);
            }
        }
        Ok(Self { pieces })
    }

    /// Where the bytes are, in order.
    pub(crate) fn slices(&self) -> Few<&[u8]> {
        self.pieces.iter().map(Piece::bytes).collect()
    }
}

impl<'r> Piece<'r> {
    /// `None` for a buffer without bytes, which only marks the end.
    fn of(buffer: &'r ngx_buf_t) -> io::Result<Option<Self>> {
        let in_memory = buffer.memory() == 1 || buffer.temporary() == 1 || buffer.mmap() == 1;
        if in_memory {
            let len = buffer.last.addr().saturating_sub(buffer.pos.addr());
            if len == 0 {
                return Ok(None);
            }
            // SAFETY: `pos..last` are the buffer's bytes, in the request's memory.
            let bytes = unsafe { core::slice::from_raw_parts(buffer.pos, len) };
            return Ok(Some(Self::Memory(bytes)));
        }
        if buffer.in_file() == 0 || buffer.file_last <= buffer.file_pos {
            return Ok(None);
        }
        // SAFETY: a buffer that is in a file says in which.
        let fd = unsafe { (*buffer.file).fd };
        Mapped::new(fd, buffer.file_pos, buffer.file_last).map(|mapped| Some(Self::File(mapped)))
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Memory(bytes) => bytes,
            Self::File(mapped) => mapped.bytes(),
        }
    }
}

/// A part of a file, readable as memory until this is dropped.
struct Mapped {
    base: NonNull<c_void>,
    mapped_len: usize,
    /// Where the part begins: mappings begin at pages.
    skipped: usize,
}

impl Mapped {
    /// `from < to`, both within the file.
    fn new(fd: i32, from: libc::off_t, to: libc::off_t) -> io::Result<Self> {
        // SAFETY: a number that nginx sets when it starts.
        let page = unsafe { ngx_pagesize } as libc::off_t;
        let skipped = from % page;
        let too_large = |_| io::Error::from(io::ErrorKind::FileTooLarge);
        let mapped_len = usize::try_from(to - from + skipped).map_err(too_large)?;
        // SAFETY: a fresh mapping, whose address the kernel chooses; it outlives the descriptor.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                mapped_len,
                libc::PROT_READ,
                libc::MAP_PRIVATE,
                fd,
                from - skipped,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base).ok_or_else(io::Error::last_os_error)?;
        Ok(Self { base, mapped_len, skipped: usize::try_from(skipped).map_err(too_large)? })
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: readable until `self` is dropped; nobody writes to the file any more.
        let all = unsafe {
            core::slice::from_raw_parts(self.base.as_ptr().cast::<u8>(), self.mapped_len)
        };
        all.get(self.skipped..).unwrap_or_default()
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and all borrows of it ended with `self`.
        unsafe { libc::munmap(self.base.as_ptr(), self.mapped_len) };
    }
}
