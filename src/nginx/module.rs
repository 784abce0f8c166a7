//! The module as nginx sees it: its contexts, and the functions that nginx calls in each process.
//!
//! ```text
//!  master  preconfiguration → directives → merge → postconfiguration → zone::on_init → init_module
//!  worker  init_process → requests, timers, wake-ups → exit_process
//! ```
//! The first line also runs for `nginx -t`, and again for each reload.

use core::ffi::{c_char, c_void};
use core::ptr::{self, NonNull};

use ngx::ffi::{
    NGX_ERROR, NGX_HTTP_MODULE, NGX_OK, NGX_PROCESS_SINGLE, NGX_PROCESS_WORKER, ngx_conf_t,
    ngx_cycle_t, ngx_http_conf_ctx_t, ngx_http_module, ngx_http_module_t, ngx_int_t, ngx_module_t,
    ngx_process, ngx_uint_t,
};

use crate::nginx::config::{LocationConf, MainConf};
use crate::nginx::log::{self, Level};
use crate::nginx::parse::{self, Parse};
use crate::nginx::{
    directives, duties, faults, ffi, identity, log_variables, request_pool, validation, variables,
};

const OK: ngx_int_t = NGX_OK as ngx_int_t;
const ERROR: ngx_int_t = NGX_ERROR as ngx_int_t;

static CONTEXT: ngx_http_module_t = ngx_http_module_t {
    preconfiguration: Some(preconfiguration),
    postconfiguration: Some(postconfiguration),
    create_main_conf: Some(create_main_conf),
    init_main_conf: Some(init_main_conf),
    create_srv_conf: None,
    merge_srv_conf: None,
    create_loc_conf: Some(create_loc_conf),
    merge_loc_conf: Some(merge_loc_conf),
};

/// The record that nginx looks for in the shared object. nginx writes the module's numbers into it.
/// Where nginx's own build writes the table of modules, it finds the record by its name.
#[used]
#[cfg_attr(not(feature = "export-modules"), unsafe(no_mangle))]
#[allow(non_upper_case_globals, reason = "the name is the module's name for users of nginx -V")]
pub(crate) static mut ngx_http_push_stream_module: ngx_module_t = ngx_module_t {
    ctx: (&raw const CONTEXT).cast_mut().cast(),
    commands: directives::table(),
    type_: NGX_HTTP_MODULE as ngx_uint_t,
    init_module: Some(init_module),
    init_process: Some(init_process),
    exit_process: Some(exit_process),
    ..ngx_module_t::default()
};

/// The settings of `http` in a cycle. `None`: its configuration has no such block.
pub(crate) fn main_conf(cycle: NonNull<ngx_cycle_t>) -> Option<NonNull<MainConf>> {
    let context = http_context(cycle)?;
    // SAFETY: our `create_main_conf` made what is in our slot.
    unsafe { ffi::slot(context.main_conf, identity::ctx_index()) }
}

/// The places of all settings of `http` in a cycle. `None`: its configuration has no such block.
fn http_context<'a>(cycle: NonNull<ngx_cycle_t>) -> Option<&'a ngx_http_conf_ctx_t> {
    // SAFETY: nginx hands out cycles that live at least as long as the callback.
    let contexts = unsafe { (*cycle.as_ptr()).conf_ctx };
    // SAFETY: a static of nginx's, set before any cycle has a configuration.
    let http = unsafe { ngx_http_module.index };
    // SAFETY: null without an `http` block, otherwise that block's context.
    let context = unsafe { ffi::slot::<ngx_http_conf_ctx_t>(contexts.cast(), http) }?;
    // SAFETY: as above; it lives as long as the cycle.
    Some(unsafe { context.as_ref() })
}

/// nginx calls this before it reads the first directive of `http`.
///
/// # Safety
///
/// `cf` is the parser's state.
unsafe extern "C" fn preconfiguration(cf: *mut ngx_conf_t) -> ngx_int_t {
    ffi::install_panic_hook();
    faults::prepare();
    identity::set(&raw mut ngx_http_push_stream_module);
    // SAFETY: nginx calls us with its parser's state, inside `http`.
    unsafe {
        configuration_step("preconfiguration", cf, |parse| {
            variables::declare(parse)?;
            log_variables::declare(parse)
        })
    }
}

/// nginx calls this when all levels are merged.
///
/// # Safety
///
/// `cf` is the parser's state.
unsafe extern "C" fn postconfiguration(cf: *mut ngx_conf_t) -> ngx_int_t {
    // SAFETY: nginx calls us with its parser's state, inside `http`.
    unsafe { configuration_step("postconfiguration", cf, validation::finish) }
}

/// # Safety
///
/// `cf` is null or the parser's state inside `http`.
unsafe fn configuration_step(
    name: &str,
    cf: *mut ngx_conf_t,
    step: impl FnOnce(&Parse) -> Result<(), parse::Refused>,
) -> ngx_int_t {
    ffi::guard(name, ERROR, || {
        let Some(cf) = NonNull::new(cf) else { return ERROR };
        // SAFETY: by this function's own contract.
        let parse = unsafe { Parse::new(cf) };
        step(&parse).map_or(ERROR, |()| OK)
    })
}

/// nginx calls this for each `http` block.
///
/// # Safety
///
/// `cf` is the parser's state.
unsafe extern "C" fn create_main_conf(cf: *mut ngx_conf_t) -> *mut c_void {
    // SAFETY: nginx calls us with its parser's state.
    unsafe { create(cf, MainConf::default) }
}

/// nginx calls this for each `http`, `server`, `location`, `if` and `limit_except`.
///
/// # Safety
///
/// `cf` is the parser's state.
unsafe extern "C" fn create_loc_conf(cf: *mut ngx_conf_t) -> *mut c_void {
    // SAFETY: nginx calls us with its parser's state.
    unsafe { create(cf, LocationConf::default) }
}

/// # Safety
///
/// `cf` is null or the parser's state.
unsafe fn create<T>(cf: *mut ngx_conf_t, make: impl FnOnce() -> T) -> *mut c_void {
    ffi::guard("create conf", ptr::null_mut(), || {
        // SAFETY: by this function's own contract.
        let Some(pool) = (unsafe { cf.as_ref() }).and_then(|cf| NonNull::new(cf.pool)) else {
            return ptr::null_mut();
        };
        ffi::owned_by_pool(pool, make()).map_or(ptr::null_mut(), |conf| conf.as_ptr().cast())
    })
}

/// nginx calls this when it has read `http`, before it merges the levels in it.
///
/// # Safety
///
/// `conf` is what `create_main_conf` returned.
unsafe extern "C" fn init_main_conf(cf: *mut ngx_conf_t, _conf: *mut c_void) -> *mut c_char {
    // SAFETY: nginx calls us with its parser's state.
    unsafe {
        parse::setter("init_main_conf", cf, |parse| {
            parse.main_conf().apply_defaults();
            Ok(())
        })
    }
}

/// nginx calls this for each level, outer ones first.
///
/// # Safety
///
/// `previous` and `conf` are what `create_loc_conf` returned for the outer and the inner level.
unsafe extern "C" fn merge_loc_conf(
    cf: *mut ngx_conf_t,
    previous: *mut c_void,
    conf: *mut c_void,
) -> *mut c_char {
    let body = |parse: &Parse| {
        // SAFETY: see above; the two are different objects.
        let outer = unsafe { &*previous.cast::<LocationConf>() };
        // SAFETY: as above, and nobody else looks at it now.
        let inner = unsafe { &mut *conf.cast::<LocationConf>() };
        inner.merge(outer, parse);
        Ok(())
    };
    // SAFETY: nginx calls us with its parser's state.
    unsafe { parse::setter("merge_loc_conf", cf, body) }
}

/// nginx calls this in the master, or the only process, when a configuration has been accepted.
///
/// # Safety
///
/// `cycle` is the new cycle.
unsafe extern "C" fn init_module(cycle: *mut ngx_cycle_t) -> ngx_int_t {
    ffi::guard("init_module", ERROR, || {
        let Some(cycle) = NonNull::new(cycle) else { return ERROR };
        // SAFETY: see above.
        let log = unsafe { cycle.as_ref() }.log;
        let log = NonNull::new(log).expect("a cycle has a log");
        let Some(conf) = active(cycle) else {
            log::write(
                Level::Notice,
                log,
                format_args!(
                    "ngx_http_push_stream_module will not be used with this configuration."
                ),
            );
            return OK;
        };
        log::notice!(log, "{}", identity::build());
        // The error log is not open yet while the configuration is read.
        for note in &conf.notes {
            log::write(Level::Info, log, format_args!("{note}"));
        }
        if let Some(context) = http_context(cycle) {
            request_pool::enlarge(context, conf);
        }
        duties::init_master(cycle, conf).map_or(ERROR, |()| OK)
    })
}

/// nginx calls this in each worker, and also in the cache manager and the cache loader.
///
/// # Safety
///
/// `cycle` is the worker's cycle.
unsafe extern "C" fn init_process(cycle: *mut ngx_cycle_t) -> ngx_int_t {
    ffi::guard("init_process", ERROR, || {
        if let Some(conf) = working(cycle) {
            duties::start(conf);
        }
        OK
    })
}

/// nginx calls this when a worker ends in an orderly way.
///
/// # Safety
///
/// `cycle` is the worker's cycle.
unsafe extern "C" fn exit_process(cycle: *mut ngx_cycle_t) {
    ffi::guard("exit_process", (), || {
        if working(cycle).is_some() {
            duties::stop();
        }
    });
}

/// The settings of the cycle, if this process serves requests and the module is in use.
fn working<'a>(cycle: *mut ngx_cycle_t) -> Option<&'a MainConf> {
    // SAFETY: a static of nginx's, set before the process runs its modules.
    let kind = unsafe { ngx_process };
    let serves =
        kind == NGX_PROCESS_WORKER as ngx_uint_t || kind == NGX_PROCESS_SINGLE as ngx_uint_t;
    active(NonNull::new(cycle)?).filter(|_| serves)
}

/// The settings of a cycle that has a location of the module.
fn active<'a>(cycle: NonNull<ngx_cycle_t>) -> Option<&'a MainConf> {
    let conf = main_conf(cycle)?;
    // SAFETY: it lives as long as the cycle, and is not written to once it has been read.
    let conf = unsafe { conf.as_ref() };
    conf.is_active().then_some(conf)
}
