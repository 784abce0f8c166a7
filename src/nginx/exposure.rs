//! Publisher locations that everyone can reach: worth one warning each, and never a false one.
//!
//! Who may reach a location is the business of other modules, whose settings nginx shows to nobody.
//! So this looks only for certainty. Each of nginx's own modules that can restrict a location keeps
//! nothing but zeros where its settings begin as long as none of its directives is in effect; a
//! module that is not nginx's own may do anything, and one such is enough to say nothing at all.

use core::ffi::{CStr, c_void};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::ptr::NonNull;

#[cfg(ngx_feature = "http_ssl")]
use ngx::ffi::ngx_http_ssl_srv_conf_t;
use ngx::ffi::{
    NGX_HTTP_MODULE, ngx_http_conf_addr_t, ngx_http_conf_port_t, ngx_http_core_loc_conf_t,
    ngx_http_core_module, ngx_http_core_srv_conf_t, ngx_module_t, ngx_uint_t, sockaddr,
};

use crate::nginx::config::LocationConf;
use crate::nginx::log::Level;
use crate::nginx::parse::{Parse, Place};
use crate::nginx::{ffi, identity};

type Slots = *mut *mut c_void;

/// Modules of nginx's that decide who gets in, and how many words their settings of a location begin
/// with that are zero without a directive of theirs.
///
/// ```text
///   access        rules, rules6, rules_un   pointers, null
///   auth_basic    realm                     pointer, null
///   auth_request  uri.len                   0
///   rewrite       codes                     pointer, null: "return", "if", "set", "rewrite"
/// ```
const GATES: [(&str, usize); 4] =
    [("access", 3), ("auth_basic", 1), ("auth_request", 1), ("rewrite", 1)];

/// Modules of nginx's, by the middle of their name, that let everybody in or keep nobody out for who
/// they are. With their variables something can be decided only by a gate.
const OTHERS: &str = "core log header_count upstream v2 v3 static dav autoindex index mirror \
    try_files limit_conn limit_req realip geo map split_clients referer proxy fastcgi uwsgi scgi \
    grpc memcached empty_gif browser upstream_hash upstream_ip_hash upstream_least_conn \
    upstream_random upstream_keepalive upstream_zone upstream_sticky stub_status write_filter \
    header_filter chunked_filter v2_filter v3_filter range_header_filter gzip_filter postpone_filter \
    ssi_filter charset_filter userid_filter headers_filter copy_filter range_body_filter \
    not_modified_filter slice_filter addition_filter degradation flv geoip gunzip_filter gzip_static \
    image_filter mp4 random_index secure_link sub_filter xslt_filter perl push_stream";

/// The modules of this nginx that keep somebody out, by their numbers among the http modules.
#[derive(Default)]
struct Gates {
    /// And how many words of their settings to look at.
    by_location: Vec<(usize, usize)>,
    ssl: Option<usize>,
}

/// A location that publishes.
pub(super) struct Publisher {
    location: Slots,
    server: Slots,
    place: Place,
}

impl Publisher {
    /// The location whose directive is being read.
    pub(super) fn new(parse: &Parse) -> Self {
        let ctx = parse.ctx();
        Self { location: ctx.loc_conf, server: ctx.srv_conf, place: parse.place() }
    }
}

/// Says which publisher locations anybody in the network can use, after all levels are merged.
pub(super) fn warn(parse: &Parse) {
    let publishers = core::mem::take(&mut parse.main_conf().publishers);
    let Some(gates) = gates(parse) else { return };
    for publisher in publishers {
        if let Some(name) = open_to_everyone(parse, &publisher, &gates) {
            parse.say_at(
                Level::Warn,
                &publisher.place,
                format_args!(
                    "push stream module: the publisher location \"{name}\" is open to everyone; \
                     restrict it (allow/deny, auth_basic, auth_request, satisfy) or say \
                     \"push_stream_open_publisher on\""
                ),
            );
        }
    }
}

/// `None` if this nginx has a module whose doings are not known.
fn gates(parse: &Parse) -> Option<Gates> {
    let cycle = parse.cycle();
    // SAFETY: the cycle that is being built, which nobody changes during our callback.
    let cycle = unsafe { cycle.as_ref() };
    // SAFETY: nginx's array of pointers to modules, of that length.
    let modules: &[*mut ngx_module_t] =
        unsafe { core::slice::from_raw_parts(cycle.modules, cycle.modules_n) };
    let mut gates = Gates::default();
    for module in modules {
        // SAFETY: modules are statics.
        let Some(module) = (unsafe { module.as_ref() }) else { continue };
        if module.type_ != NGX_HTTP_MODULE as ngx_uint_t {
            continue;
        }
        // SAFETY: nginx gave each module its name, before it read the configuration.
        let name = unsafe { CStr::from_ptr(module.name) }.to_str().ok()?;
        let name = name.strip_prefix("ngx_http_")?.strip_suffix("_module")?;
        if let Some((_, words)) = GATES.iter().find(|(gate, _)| *gate == name) {
            gates.by_location.push((module.ctx_index, *words));
        } else if name == "ssl" {
            gates.ssl = Some(module.ctx_index);
        } else if !OTHERS.split_whitespace().any(|other| other == name) {
            return None;
        }
    }
    Some(gates)
}

/// The name of the location, if it is certain that no directive keeps anybody out of it.
fn open_to_everyone(parse: &Parse, publisher: &Publisher, gates: &Gates) -> Option<String> {
    // SAFETY: our `create_loc_conf` made what is in our slot.
    let ours = unsafe { ffi::slot::<LocationConf>(publisher.location, identity::ctx_index()) }?;
    // SAFETY: nobody writes to it during our callback.
    if unsafe { ours.as_ref() }.open_publisher == 1 {
        return None;
    }
    // SAFETY: a static of nginx's, set before any configuration is read.
    let core = unsafe { ngx_http_core_module.ctx_index };
    // SAFETY: the core module made what is in its slot.
    let location = unsafe { ffi::slot::<ngx_http_core_loc_conf_t>(publisher.location, core) }?;
    // SAFETY: as above.
    let location = unsafe { location.as_ref() };
    if location.internal != 0 || location.named() == 1 || location.limit_except != 0 {
        return None;
    }
    // SAFETY: the core module made what is in its slot.
    let server = unsafe { ffi::slot::<ngx_http_core_srv_conf_t>(publisher.server, core) }?;
    // SAFETY: as above.
    let context = unsafe { server.as_ref() }.ctx;
    // SAFETY: a server knows its own context, which lives as long.
    let of_server = unsafe { (*context).loc_conf };
    let closed = gates.by_location.iter().any(|(index, words)| {
        has_settings(publisher.location, *index, *words) || has_settings(of_server, *index, *words)
    });
    let reachable =
        !closed && !asks_for_certificates(publisher, gates.ssl) && is_in_network(parse, server);
    reachable.then(|| String::from_utf8_lossy(location.name.as_bytes()).into_owned())
}

/// A directive of this module is in effect; see [`GATES`].
fn has_settings(slots: Slots, index: usize, words: usize) -> bool {
    // SAFETY: a module of the table, whose settings begin with that many words.
    let Some(settings) = (unsafe { ffi::slot::<usize>(slots, index) }) else { return false };
    (0..words).any(|word| {
        let word = settings.as_ptr().wrapping_add(word);
        // SAFETY: as above.
        let word = unsafe { word.read() };
        word != 0
    })
}

/// The server wants a certificate of its clients.
#[cfg(ngx_feature = "http_ssl")]
fn asks_for_certificates(publisher: &Publisher, ssl: Option<usize>) -> bool {
    let Some(index) = ssl else { return false };
    // SAFETY: the ssl module of an nginx that has the signature of the one we are compiled for.
    let ssl = unsafe { ffi::slot::<ngx_http_ssl_srv_conf_t>(publisher.server, index) };
    // SAFETY: as above; nobody writes to it during our callback.
    ssl.is_some_and(|ssl| unsafe { ssl.as_ref() }.verify != 0)
}

/// Compiled without TLS: an nginx that has it could not load us, and if it could, nothing is certain.
#[cfg(not(ngx_feature = "http_ssl"))]
fn asks_for_certificates(_publisher: &Publisher, ssl: Option<usize>) -> bool {
    ssl.is_some()
}

/// Some listener of the server can be reached from another machine.
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

/// Neither a loopback address nor a file name.
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
