//! The memory that nginx keeps for each request: one block where there would be two.
//!
//! ```text
//!   nginx: 4 KB       request, headers, contexts, vari│ables  our response  ·  ·  ·  ·  ·  ·  ·  ·  ·  ·  │
//!   here: one block   request, headers, contexts, variables  our response │
//! ```
//!
//! All blocks of a request's pool are as large as its first one, 4 KB by default. nginx's own part is larger
//! than that with the usual modules, so each request begins a second block, and uses little of it. A
//! subscriber keeps both for as long as it is there.

use core::mem;

use ngx::ffi::{
    ngx_http_conf_ctx_t, ngx_http_core_main_conf_t, ngx_http_core_module, ngx_http_core_srv_conf_t,
    ngx_http_max_module, ngx_http_request_t, ngx_http_variable_value_t, ngx_pagesize, ngx_pool_t,
    ngx_table_elt_t,
};

use crate::nginx::config::MainConf;
use crate::nginx::ffi;
use crate::nginx::request::Request;

/// nginx's size of the first block where the configuration gives none.
const DEFAULT_SIZE: usize = 4096;
/// nginx puts so many headers into the first array of a request, and of a response.
const HEADERS: usize = 20;
/// nginx puts so many trailers into the first array of a response.
const TRAILERS: usize = 4;
/// nginx's sizes of pools are multiples of it.
const ALIGNMENT: usize = 16;
/// Bytes for the rest of a subscriber's request: the path, values of variables, and the response's header.
const REST: usize = 560;

/// A subscriber's response takes fewer bytes than this, unless its header is long.
const RESPONSE_MAX: usize = 480;
/// Links of chains and the like, of which there are many.
const SMALL_MAX: usize = 64;
/// Blocks below this size are too small to be a waste.
const BLOCK_MIN: usize = 2048;

/// Makes the blocks of all servers large enough, where the configuration has subscribers and leaves nginx's
/// default. To be called when the configuration is complete, and before requests come.
pub(super) fn enlarge(context: &ngx_http_conf_ctx_t, conf: &MainConf) {
    if !conf.has_subscribers {
        return;
    }
    // SAFETY: a static of nginx's, set before any configuration is read.
    let index = unsafe { ngx_http_core_module.ctx_index };
    // SAFETY: the core module made what is in its slot.
    let core = unsafe { ffi::slot::<ngx_http_core_main_conf_t>(context.main_conf, index) };
    // SAFETY: nobody writes to it after the configuration is read.
    let Some(core) = core.map(|core| unsafe { core.as_ref() }) else { return };
    let wanted = size(core.variables.nelts);
    // A connection's requests have the blocks of its address's default server, and that can be any of them.
    // SAFETY: nginx's array of its own settings, one for each server.
    for server in unsafe { core.servers.as_slice::<*mut ngx_http_core_srv_conf_t>() } {
        // SAFETY: they live as long as the cycle, and nobody else has a reference to them now.
        let server = unsafe { &mut **server };
        if server.request_pool_size == DEFAULT_SIZE {
            server.request_pool_size = wanted;
        }
    }
}

/// Bytes of a block for a subscriber's request, in a configuration with so many variables.
fn size(variables: usize) -> usize {
    // SAFETY: a static of nginx's, set before a configuration is complete.
    let modules = unsafe { ngx_http_max_module };
    // SAFETY: a static of nginx's, set when it starts.
    let page = unsafe { ngx_pagesize };
    let parts = [
        mem::size_of::<ngx_http_request_t>(),
        HEADERS * mem::size_of::<ngx_table_elt_t>(),
        HEADERS * mem::size_of::<ngx_table_elt_t>(),
        TRAILERS * mem::size_of::<ngx_table_elt_t>(),
        modules * mem::size_of::<usize>(),
        variables * mem::size_of::<ngx_http_variable_value_t>(),
    ];
    // A part as large as a page gets memory of its own.
    let parts: usize = parts.into_iter().filter(|part| *part < page).sum();
    let size = mem::size_of::<ngx_pool_t>() + parts + REST;
    size.next_multiple_of(ALIGNMENT).max(DEFAULT_SIZE)
}

/// The request is going to be a subscriber for long. If the block has no room for its response, then larger
/// parts of that get memory of their own, of their own size, and not a second block.
pub(super) fn save_block(request: &mut Request) {
    // SAFETY: the pool is the request's, and nobody has a reference to it.
    let pool = unsafe { request.pool().as_mut() };
    let size = pool.d.end.addr() - (&raw const *pool).addr();
    let room = pool.d.end.addr() - pool.d.last.addr();
    if pool.d.next.is_null() && size >= BLOCK_MIN && room < RESPONSE_MAX {
        pool.max = pool.max.min(SMALL_MAX);
    }
}
