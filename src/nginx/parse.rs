//! The directive that nginx is reading right now: its words, its level, where to complain.

use core::ffi::{c_char, c_void};
use core::fmt::{self, Display};
use core::mem;
use core::ptr::{self, NonNull};
use std::ffi::CString;

use ngx::ffi::{
    NGX_HTTP_MAIN_CONF, NGX_OK, ngx_conf_full_name, ngx_conf_log_error, ngx_conf_t, ngx_cycle_t,
    ngx_http_compile_complex_value, ngx_http_compile_complex_value_t, ngx_http_complex_value_t,
    ngx_http_conf_ctx_t, ngx_http_core_loc_conf_t, ngx_http_core_main_conf_t, ngx_http_core_module,
    ngx_http_variable_t, ngx_int_t, ngx_log_t, ngx_parse_offset, ngx_pcalloc, ngx_pool_t,
    ngx_str_t, ngx_uint_t,
};

use crate::nginx::ffi;
use crate::nginx::log::{self, Level};

/// What nginx takes a `char *` for "this directive is refused, and I have said why".
pub(super) const NGX_CONF_ERROR: *mut c_char = ptr::without_provenance_mut(usize::MAX);

/// Why a directive is refused.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Refused {
    /// nginx shall say `"<directive>" directive <this>`, at level emerg.
    Because(&'static core::ffi::CStr),
    /// The reason is in the log already.
    Logged,
}

/// `"<directive>" directive is duplicate`
pub(crate) const DUPLICATE: Refused = Refused::Because(c"is duplicate");

/// Runs the body of a directive's setter and puts its outcome into nginx's words.
///
/// # Safety
///
/// `cf` is what nginx gave to the setter that calls this.
pub(crate) unsafe fn setter(
    name: &str,
    cf: *mut ngx_conf_t,
    body: impl FnOnce(&Parse) -> Result<(), Refused>,
) -> *mut c_char {
    ffi::guard(name, NGX_CONF_ERROR, || {
        let Some(cf) = NonNull::new(cf) else { return NGX_CONF_ERROR };
        // SAFETY: by this function's own contract.
        let parse = unsafe { Parse::new(cf) };
        match body(&parse) {
            Ok(()) => ptr::null_mut(),
            Err(Refused::Because(reason)) => reason.as_ptr().cast_mut(),
            Err(Refused::Logged) => NGX_CONF_ERROR,
        }
    })
}

/// A place in a configuration file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    file: String,
    line: usize,
}

impl Place {
    /// A line of a file, counted from 1.
    pub(crate) fn new(file: &[u8], line: usize) -> Self {
        Self { file: String::from_utf8_lossy(file).into_owned(), line }
    }
}

impl Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// The state of nginx's configuration parser, for the length of one callback.
pub(crate) struct Parse {
    cf: NonNull<ngx_conf_t>,
}

impl Parse {
    /// # Safety
    ///
    /// `cf` is the parser's state inside `http`, and the result does not outlive the callback.
    pub(crate) unsafe fn new(cf: NonNull<ngx_conf_t>) -> Self {
        Self { cf }
    }

    /// For nginx's own functions.
    pub(crate) fn as_ptr(&self) -> *mut ngx_conf_t {
        self.cf.as_ptr()
    }

    fn cf(&self) -> &ngx_conf_t {
        // SAFETY: valid for the callback; nobody holds it `&mut` while we read it.
        unsafe { self.cf.as_ref() }
    }

    /// The words after the directive's name.
    pub(crate) fn arguments(&self) -> &[ngx_str_t] {
        // SAFETY: while a directive is being set, `args` is the array of its words.
        let words = unsafe { &*self.cf().args };
        // SAFETY: they are strings.
        let words = unsafe { words.as_slice::<ngx_str_t>() };
        words.get(1..).unwrap_or_default()
    }

    /// The word with this number, from 0; empty if there is none.
    pub(crate) fn argument(&self, index: usize) -> &[u8] {
        self.arguments().get(index).map_or(&[], |word| word.as_bytes())
    }

    /// The first word as a number of bytes, with `k`, `m` or `g`; `None` if it is none.
    ///
    /// nginx's own sizes know no `g`, but its offsets do.
    pub(crate) fn size_argument(&self) -> Option<usize> {
        let mut word: ngx_str_t = *self.arguments().first()?;
        // SAFETY: nginx only reads the word.
        let size = unsafe { ngx_parse_offset(&raw mut word) };
        usize::try_from(size).ok()
    }

    /// A word that may hold variables, ready to be evaluated for a request. It lives as long as this
    /// configuration.
    pub(crate) fn complex_value(
        &self,
        mut word: ngx_str_t,
    ) -> Result<NonNull<ngx_http_complex_value_t>, Refused> {
        // SAFETY: the pool is live.
        let value =
            unsafe { ngx_pcalloc(self.pool().as_ptr(), size_of::<ngx_http_complex_value_t>()) };
        let value = NonNull::new(value.cast()).ok_or(Refused::Logged)?;
        // SAFETY: pointers and flags, for which zero is "none".
        let mut compile: ngx_http_compile_complex_value_t = unsafe { mem::zeroed() };
        compile.cf = self.as_ptr();
        compile.value = &raw mut word;
        compile.complex_value = value.as_ptr();
        // SAFETY: nginx copies the word and keeps what it points to, which is as old as the
        // configuration.
        let outcome = unsafe { ngx_http_compile_complex_value(&raw mut compile) };
        // nginx has said why.
        if outcome == NGX_OK as ngx_int_t { Ok(value) } else { Err(Refused::Logged) }
    }

    /// The directive stands directly in `http`.
    pub(crate) fn in_http(&self) -> bool {
        self.cf().cmd_type == NGX_HTTP_MAIN_CONF as ngx_uint_t
    }

    /// Tells one block from another: no two of a configuration have the same.
    pub(crate) fn block(&self) -> usize {
        self.cf().ctx.addr()
    }

    /// Lives as long as this configuration.
    pub(crate) fn pool(&self) -> NonNull<ngx_pool_t> {
        NonNull::new(self.cf().pool).expect("a configuration has a pool")
    }

    /// The cycle that is being built.
    pub(crate) fn cycle(&self) -> NonNull<ngx_cycle_t> {
        NonNull::new(self.cf().cycle).expect("a configuration belongs to a cycle")
    }

    /// The log of the cycle before this one, or of the start.
    pub(crate) fn log(&self) -> NonNull<ngx_log_t> {
        NonNull::new(self.cf().log).expect("a configuration has a log")
    }

    /// File and line of the directive.
    pub(crate) fn place(&self) -> Place {
        // SAFETY: null, or the file that the parser is reading.
        let Some(file) = (unsafe { self.cf().conf_file.as_ref() }) else { return Place::default() };
        Place::new(file.file.name.as_bytes(), file.line)
    }

    /// A path as nginx's own directives take it: relative to the directory of the configuration. `None`
    /// if memory is short, or for a path with a zero in it.
    pub(crate) fn full_name(&self, path: &[u8]) -> Option<Vec<u8>> {
        // nginx looks at the byte behind the name.
        let path = CString::new(path).ok()?;
        let mut name = ffi::borrowed_str(path.as_bytes());
        // nginx does not write to the path, but lets `name` point to the absolute one in the cycle's
        // pool.
        // SAFETY: the cycle is the one that is being built; 1 asks for the configuration's directory.
        let found = unsafe { ngx_conf_full_name(self.cycle().as_ptr(), &raw mut name, 1) };
        (found == NGX_OK as ngx_int_t).then(|| name.as_bytes().to_vec())
    }

    /// Writes a line to which nginx adds ` in <file>:<line>`.
    pub(crate) fn say(&self, level: Level, text: impl Display) {
        self.say_errno(level, 0, text);
    }

    /// The same, with the meaning of a system error before the place; 0 is none.
    pub(crate) fn say_errno(&self, level: Level, errno: i32, text: impl Display) {
        let text = text.to_string();
        // SAFETY: `%*s` takes a length and that many bytes; both live until the call returns.
        unsafe {
            ngx_conf_log_error(
                level as ngx_uint_t,
                self.as_ptr(),
                errno,
                c"%*s".as_ptr(),
                text.len(),
                text.as_ptr(),
            );
        }
    }

    /// Writes a line that ends in another place than the parser's, such as that of a location whose
    /// settings are only known at the end.
    pub(crate) fn say_at(&self, level: Level, place: &Place, text: impl Display) {
        log::write(level, self.log(), format_args!("{text} in {place}"));
    }

    /// Where the modules' settings of the block are that the directive stands in.
    pub(super) fn ctx(&self) -> &ngx_http_conf_ctx_t {
        let ctx: *mut c_void = self.cf().ctx;
        // SAFETY: inside `http`, nginx's parser keeps the block's context here.
        unsafe { &*ctx.cast::<ngx_http_conf_ctx_t>() }
    }

    /// All variables that something in the configuration reads by index, so far.
    pub(crate) fn used_variables(&self) -> &[ngx_http_variable_t] {
        // SAFETY: nginx's array of variables.
        unsafe { self.core_main().variables.as_slice::<ngx_http_variable_t>() }
    }

    /// nginx's own settings of `http`.
    pub(super) fn core_main(&self) -> &ngx_http_core_main_conf_t {
        // SAFETY: a static of nginx's, set before any configuration is read.
        let index = unsafe { ngx_http_core_module.ctx_index };
        // SAFETY: the core module made what is in its slot.
        let conf = unsafe { ffi::slot::<ngx_http_core_main_conf_t>(self.ctx().main_conf, index) };
        let conf = conf.expect("every http block has the core module's settings");
        // SAFETY: nobody writes to it during our callback.
        unsafe { conf.as_ref() }
    }

    /// nginx's own settings of the location; the caller must hold one of them at a time.
    #[allow(clippy::mut_from_ref, reason = "nginx owns it; see above")]
    pub(crate) fn core_location(&self) -> &mut ngx_http_core_loc_conf_t {
        // SAFETY: a static of nginx's, set before any configuration is read.
        let index = unsafe { ngx_http_core_module.ctx_index };
        // SAFETY: the core module made what is in its slot.
        let conf = unsafe { ffi::slot::<ngx_http_core_loc_conf_t>(self.ctx().loc_conf, index) };
        let mut conf = conf.expect("every block has the core module's settings");
        // SAFETY: one thread reads the configuration; see above.
        unsafe { conf.as_mut() }
    }
}
