//! Patterns of the configuration, by the PCRE that nginx is built with.

use core::mem;
use core::ptr::NonNull;

use ngx::ffi::{
    NGX_OK, NGX_REGEX_CASELESS, ngx_int_t, ngx_pool_t, ngx_regex_compile, ngx_regex_compile_t,
    ngx_regex_exec, ngx_regex_t, ngx_str_t, ngx_uint_t,
};

use crate::nginx::ffi;

/// Longest reason that we keep of a refused pattern.
const REASON_MAX: usize = 512;

/// A compiled pattern; lives as long as the configuration that it was compiled for.
#[derive(Clone, Copy)]
pub(crate) struct Regex {
    compiled: NonNull<ngx_regex_t>,
}

impl Regex {
    /// Compiles a pattern, case-sensitive; the error is nginx's text and names the pattern.
    pub(crate) fn compile(pattern: &[u8], pool: NonNull<ngx_pool_t>) -> Result<Self, String> {
        Self::compile_with(pattern, pool, 0)
    }

    /// The same for a pattern that ignores case.
    pub(crate) fn compile_caseless(
        pattern: &[u8],
        pool: NonNull<ngx_pool_t>,
    ) -> Result<Self, String> {
        Self::compile_with(pattern, pool, NGX_REGEX_CASELESS as ngx_uint_t)
    }

    fn compile_with(
        pattern: &[u8],
        pool: NonNull<ngx_pool_t>,
        options: ngx_uint_t,
    ) -> Result<Self, String> {
        let mut reason = [0_u8; REASON_MAX];
        // nginx keeps pointing at the pattern and prints it as a C string if the JIT fails later.
        let terminated = [pattern, b"\0"].concat();
        // SAFETY: the pool is live, and the copy lives as long as it.
        let kept = unsafe { ngx_str_t::from_bytes(pool.as_ptr(), &terminated) };
        let Some(kept) = kept else { return Err("no memory for a pattern".to_owned()) };
        // SAFETY: all fields are numbers and pointers, for which zero is "nothing".
        let mut request: ngx_regex_compile_t = unsafe { mem::zeroed() };
        request.pattern = ngx_str_t { len: pattern.len(), data: kept.data };
        request.pool = pool.as_ptr();
        request.options = options;
        request.err = ngx_str_t { len: reason.len(), data: reason.as_mut_ptr() };
        // SAFETY: the room for the reason lives until the call returns, pattern and pool longer.
        let outcome = unsafe { ngx_regex_compile(&raw mut request) };
        match NonNull::new(request.regex) {
            Some(compiled) if outcome == NGX_OK as ngx_int_t => Ok(Self { compiled }),
            _ => {
                let len = request.err.len.min(reason.len());
                Err(String::from_utf8_lossy(&reason[..len]).into_owned())
            }
        }
    }

    /// Whether the pattern occurs anywhere in the text. A match that PCRE gives up counts as none.
    pub(crate) fn matches(&self, text: &[u8]) -> bool {
        let mut text = ffi::borrowed_str(text);
        // SAFETY: the pattern lives as long as its configuration; no captures are asked for, so
        // null and 0 are what nginx itself passes in that case.
        let outcome = unsafe {
            ngx_regex_exec(self.compiled.as_ptr(), &raw mut text, core::ptr::null_mut(), 0)
        };
        outcome >= 0
    }
}
