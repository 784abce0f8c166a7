//! Memory that the master and its workers share: a mapping of our own.

use core::cell::Cell;
use core::ptr::{self, NonNull};

use ngx::ffi::{
    NGX_OK, NGX_PROCESS_WORKER, ngx_int_t, ngx_process, ngx_shm_alloc, ngx_shm_free, ngx_shm_t,
    ngx_shm_zone_t, ngx_str_t, ngx_uint_t,
};

use crate::nginx::log;

/// Memory that all processes share. It goes with the last configuration that has it.
pub(crate) struct Mapping {
    shm: ngx_shm_t,
    base: NonNull<u8>,
    /// It holds the store.
    pub(super) is_made: Cell<bool>,
}

impl Mapping {
    /// Memory of this size, filled with zeroes and not used yet; `None` if there is
    /// none, and then nginx has logged why.
    pub(super) fn new(zone: &ngx_shm_zone_t, size: usize) -> Option<Self> {
        let mut shm = ngx_shm_t {
            addr: ptr::null_mut(),
            size,
            name: ngx_str_t::empty(), // The one that we have may be gone when this goes.
            log: zone.shm.log,
            exists: 0,
        };
        // SAFETY: a record of ours with all that the call reads.
        let code = unsafe { ngx_shm_alloc(&raw mut shm) };
        let base = NonNull::new(shm.addr).filter(|_| code == NGX_OK as ngx_int_t)?;
        Some(Self { shm, base, is_made: Cell::new(false) })
    }

    /// Where it begins, and how many bytes it has.
    pub(super) fn arena(&self) -> (NonNull<u8>, usize) {
        (self.base, self.shm.size)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: a static of nginx's, which says what this process is.
        if unsafe { ngx_process } == NGX_PROCESS_WORKER as ngx_uint_t {
            return; // It ends, and something else that ends with it may still look into the zone.
        }
        self.shm.log = log::cycle_log().as_ptr();
        // SAFETY: mapped by `ngx_shm_alloc`, and no configuration has it any more.
        unsafe { ngx_shm_free(&raw mut self.shm) };
    }
}
