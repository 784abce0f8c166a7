//! Warns about publisher locations that everyone can reach; never about one that is restricted.
//!
//! Other modules decide who may reach a location, and nginx shows their settings to nobody. So this
//! file reads the configuration once more, as the administrator wrote it. It looks for a directive
//! that may keep clients out: in the location, in the locations around it, in its server, in
//! `http`.
//!
//! A directive keeps nobody out if its module keeps nobody out. nginx publishes the directives of
//! each module in the module's table of commands. [`HARMLESS`] names the modules of nginx that keep
//! nobody out. A directive of any other module may do anything, so with one of them there is no
//! warning.

use core::ffi::CStr;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::ptr::NonNull;
use std::collections::HashMap;
use std::ffi::{CString, OsStr};
use std::fs;
use std::os::unix::ffi::OsStrExt;

use ngx::ffi::{
    NGX_HTTP_MODULE, ngx_command_t, ngx_http_conf_addr_t, ngx_http_conf_port_t,
    ngx_http_core_loc_conf_t, ngx_http_core_module, ngx_http_core_srv_conf_t, ngx_module_t,
    ngx_uint_t, sockaddr,
};

use crate::nginx::config::{LocationConf, Publisher};
use crate::nginx::log::Level;
use crate::nginx::parse::{Parse, Place};
use crate::nginx::{ffi, identity};
use crate::wire::unguarded::{self, Directives, File, Found};

/// The modules of nginx whose directives keep nobody out, by the middle of their names. Exceptions
/// are in [`is_guard_by_name`]. Some of them set variables, but only another module can act on
/// these.
const HARMLESS: &str = "core log header_count upstream v2 v3 static dav autoindex index mirror \
    try_files limit_conn limit_req realip geo map split_clients referer proxy proxy_v2 fastcgi uwsgi \
    scgi grpc memcached empty_gif browser upstream_hash upstream_ip_hash upstream_least_conn \
    upstream_least_time upstream_random upstream_keepalive upstream_zone upstream_sticky stub_status \
    write_filter header_filter chunked_filter v2_filter v3_filter range_header_filter gzip_filter \
    postpone_filter ssi_filter charset_filter userid_filter headers_filter copy_filter \
    range_body_filter not_modified_filter slice_filter addition_filter degradation flv geoip \
    gunzip_filter gzip_static image_filter mp4 random_index secure_link sub_filter xslt_filter perl \
    ssl tunnel push_stream";

impl Publisher {
    /// Another machine can reach its server, and the configuration does not say that this is
    /// intended.
    fn is_exposed(&self, parse: &Parse) -> bool {
        // SAFETY: our `create_loc_conf` made what is in our slot.
        let ours = unsafe { ffi::slot::<LocationConf>(self.location, identity::ctx_index()) };
        // SAFETY: nobody writes to it during our callback.
        let is_meant = ours.is_some_and(|ours| unsafe { ours.as_ref() }.open_publisher == 1);
        // SAFETY: the core module made what is in its slot.
        let server = unsafe { ffi::slot::<ngx_http_core_srv_conf_t>(self.server, core_index()) };
        !is_meant && server.is_some_and(|server| is_in_network(parse, server))
    }

    fn name(&self) -> String {
        // SAFETY: the core module made what is in its slot.
        let core = unsafe { ffi::slot::<ngx_http_core_loc_conf_t>(self.location, core_index()) };
        // SAFETY: nobody writes to it during our callback.
        let name = core.map(|core| unsafe { core.as_ref() }.name).unwrap_or_default();
        String::from_utf8_lossy(name.as_bytes()).into_owned()
    }
}

fn core_index() -> usize {
    // SAFETY: a static of nginx's, set before any configuration is read.
    unsafe { ngx_http_core_module.ctx_index }
}

/// Warns about publisher locations that everyone can reach, when all levels are merged.
pub(super) fn warn(parse: &Parse) {
    let publishers = core::mem::take(&mut parse.main_conf().publishers);
    if !publishers.iter().any(|publisher| publisher.is_exposed(parse)) {
        return;
    }
    let Some(found) = read_again(parse) else { return };
    // nginx has read them in the same order, unless the files have changed since.
    let is_same = |(publisher, found): (&Publisher, &Found)| {
        publisher.place == Place::new(&found.file, found.line)
    };
    if publishers.len() != found.len() || !publishers.iter().zip(&found).all(is_same) {
        return;
    }
    for (publisher, found) in publishers.iter().zip(&found) {
        if !found.is_guarded && publisher.is_exposed(parse) {
            parse.say_at(
                Level::Warn,
                &publisher.place,
                format_args!(
                    "push stream module: the publisher location \"{}\" is open to everyone; \
                     restrict it (allow/deny, auth_basic, auth_request, satisfy) or say \
                     \"push_stream_open_publisher on\"",
                    publisher.name()
                ),
            );
        }
    }
}

/// Reads the configuration files again: all publishers, each with the answer whether a directive
/// around it may keep clients out. `None`: the files cannot be read.
fn read_again(parse: &Parse) -> Option<Vec<Found>> {
    // SAFETY: the cycle that is being built, which nobody changes during our callback.
    let main = unsafe { parse.cycle().as_ref() }.conf_file;
    let main = read(main.as_bytes())?;
    unguarded::find(&main, &Known { parse, guards: guards(parse) })
}

fn read(name: &[u8]) -> Option<File> {
    let text = fs::read(OsStr::from_bytes(name)).ok()?;
    Some(File { name: name.to_vec(), text })
}

/// The directives of this nginx.
struct Known<'a> {
    parse: &'a Parse,
    /// For each name of a directive: may it keep clients out?
    guards: HashMap<&'static [u8], bool>,
}

impl Directives for Known<'_> {
    fn is_wanted(&self, words: &[Vec<u8>]) -> bool {
        words.first().is_some_and(|name| name == b"push_stream_publisher")
    }

    fn is_guard(&self, words: &[Vec<u8>]) -> bool {
        let Some(name) = words.first() else { return true };
        is_guard_by_name(name, words) || self.guards.get(name.as_slice()).copied().unwrap_or(true)
    }

    fn include(&self, argument: &[u8]) -> Option<Vec<File>> {
        let pattern = self.parse.full_name(argument)?;
        if pattern.iter().any(|byte| b"*?[".contains(byte)) {
            matching(&pattern)?.iter().map(|name| read(name)).collect()
        } else {
            Some(vec![read(&pattern)?])
        }
    }
}

/// Directives of harmless modules that keep clients out all the same.
fn is_guard_by_name(name: &[u8], words: &[Vec<u8>]) -> bool {
    match name {
        b"internal" | b"limit_except" => true,
        b"ssl_verify_client" => words.get(1).is_none_or(|word| !word.eq_ignore_ascii_case(b"off")),
        _ => false,
    }
}

/// The directives of all HTTP modules.
fn guards(parse: &Parse) -> HashMap<&'static [u8], bool> {
    // SAFETY: the cycle that is being built, which nobody changes during our callback.
    let cycle = unsafe { parse.cycle().as_ref() };
    // SAFETY: nginx's array of pointers to modules, of that length.
    let modules: &[*mut ngx_module_t] =
        unsafe { core::slice::from_raw_parts(cycle.modules, cycle.modules_n) };
    let mut guards = HashMap::new();
    for module in modules {
        // SAFETY: modules are statics.
        let Some(module) = (unsafe { module.as_ref() }) else { continue };
        if module.type_ != NGX_HTTP_MODULE as ngx_uint_t {
            continue;
        }
        // SAFETY: nginx gave each module its name before it read the configuration.
        let is_harmless = is_harmless(unsafe { CStr::from_ptr(module.name) });
        for name in command_names(module.commands) {
            // Two modules may have a directive with the same name.
            *guards.entry(name).or_insert(false) |= !is_harmless;
        }
    }
    guards
}

fn is_harmless(module: &CStr) -> bool {
    let name = module.to_str().ok().and_then(|name| name.strip_prefix("ngx_http_"));
    name.and_then(|name| name.strip_suffix("_module"))
        .is_some_and(|name| HARMLESS.split_whitespace().any(|harmless| harmless == name))
}

/// The names in a module's table of commands.
fn command_names(table: *mut ngx_command_t) -> impl Iterator<Item = &'static [u8]> {
    let mut next = table;
    core::iter::from_fn(move || {
        // SAFETY: null without a table; a table ends with a command without a name.
        let command = unsafe { next.as_ref() }?;
        if command.name.len == 0 {
            return None;
        }
        next = next.wrapping_add(1);
        // SAFETY: tables are statics of modules that are loaded as long as the configuration is read.
        Some(unsafe { core::slice::from_raw_parts(command.name.data, command.name.len) })
    })
}

/// The files that match a pattern, in nginx's order. `None`: the system gives an error.
fn matching(pattern: &[u8]) -> Option<Vec<Vec<u8>>> {
    let pattern = CString::new(pattern).ok()?;
    // SAFETY: numbers and pointers, for which zero is "nothing".
    let mut found: libc::glob_t = unsafe { core::mem::zeroed() };
    // SAFETY: the pattern ends in a zero, and the record is ours.
    let outcome = unsafe { libc::glob(pattern.as_ptr(), 0, None, &raw mut found) };
    let mut names = Vec::new();
    if outcome == 0 {
        for number in 0..found.gl_pathc {
            // SAFETY: that many names were found.
            let name = unsafe { *found.gl_pathv.wrapping_add(number) };
            // SAFETY: each is a string of C's.
            names.push(unsafe { CStr::from_ptr(name) }.to_bytes().to_vec());
        }
    }
    // SAFETY: filled in by `glob`, and nobody keeps a name of it.
    unsafe { libc::globfree(&raw mut found) };
    (outcome == 0 || outcome == libc::GLOB_NOMATCH).then_some(names)
}

/// Another machine can reach some listener of the server.
fn is_in_network(parse: &Parse, server: NonNull<ngx_http_core_srv_conf_t>) -> bool {
    // SAFETY: null without a server, else nginx's array of ports.
    let Some(ports) = (unsafe { parse.core_main().ports.as_ref() }) else { return false };
    // SAFETY: its elements are ports.
    let ports = unsafe { ports.as_slice::<ngx_http_conf_port_t>() };
    ports.iter().any(|port| {
        // SAFETY: nginx's array of the addresses of a port.
        let addresses = unsafe { port.addrs.as_slice::<ngx_http_conf_addr_t>() };
        addresses.iter().any(|address| {
            // SAFETY: nginx's array of the servers of an address.
            let servers = unsafe { address.servers.as_slice::<*mut ngx_http_core_srv_conf_t>() };
            servers.contains(&server.as_ptr()) && leaves_the_machine(address.opt.sockaddr)
        })
    })
}

/// The address is neither a loopback address nor the name of a file.
fn leaves_the_machine(address: *const sockaddr) -> bool {
    // SAFETY: the address of a listener, as the system knows them.
    let family = unsafe { (*address).sa_family };
    let ip = match i32::from(family) {
        libc::AF_INET => {
            // SAFETY: what the family says.
            let address = unsafe { address.cast::<libc::sockaddr_in>().read_unaligned() };
            IpAddr::V4(Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr)))
        }
        libc::AF_INET6 => {
            // SAFETY: what the family says.
            let address = unsafe { address.cast::<libc::sockaddr_in6>().read_unaligned() };
            IpAddr::V6(Ipv6Addr::from(address.sin6_addr.s6_addr))
        }
        _ => return false,
    };
    !ip.to_canonical().is_loopback()
}
