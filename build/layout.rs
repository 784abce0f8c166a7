//! Compares nginx's records as Rust sees them with what the C compiler makes of nginx's own headers.
//!
//! Rust's view is that of the crate `nginx-sys`, which the module is compiled with. The C view comes
//! from a program that is compiled with nginx's headers and options, and run. For each record:
//!
//! ```text
//!   size and alignment
//!   offset              of each field that src/nginx uses
//!   bytes that change   when a bit field that src/nginx uses is filled with ones
//! ```
//!
//! The test `layouts_are_compared` in src/tidy.rs finds bit fields that are used and not listed here.

use std::fmt::Write as _;
use std::mem::{MaybeUninit, align_of, offset_of, size_of};
use std::path::Path;
use std::process::Command;
use std::{env, fs, slice};

/// What Rust says of a record or of one of its members, and what C is asked about it.
struct Fact {
    /// `record` or `record.member`.
    name: String,
    rust: String,
    /// A statement that prints the same line if the two agree.
    probe: String,
}

/// `record { fields } [ setters of bit fields ]`
macro_rules! facts {
    ($($record:ident { $($field:ident)* } [ $($setter:ident)* ])*) => {{
        let mut facts = Vec::new();
        $(
            type $record = nginx_sys::$record;
            let record = stringify!($record);
            facts.push(Fact {
                name: record.to_owned(),
                rust: format!("size {} align {}", size_of::<$record>(), align_of::<$record>()),
                probe: format!("WHOLE({record})"),
            });
            $({
                // bindgen's way to spell a C name that is a word of Rust's.
                let field = stringify!($field).trim_end_matches('_');
                facts.push(Fact {
                    name: format!("{record}.{field}"),
                    rust: format!("offset {}", offset_of!($record, $field)),
                    probe: format!("FIELD({record}, {field})"),
                });
            })*
            $({
                let field = stringify!($setter).trim_start_matches("set_");
                facts.push(Fact {
                    name: format!("{record}.{field}"),
                    rust: bytes_changed_by(|record: &mut $record| record.$setter(!0)),
                    probe: format!("BITS({record}, {field})"),
                });
            })*
        )*
        facts
    }};
}

#[allow(non_camel_case_types, reason = "nginx's names")]
fn facts() -> Vec<Fact> {
    facts! {
        ngx_array_t { elts nelts } []
        ngx_buf_t { pos last file_pos file_last start end tag file } [
            set_temporary set_memory set_mmap set_in_file set_flush set_sync set_last_buf
            set_last_in_chain
        ]
        ngx_chain_t { buf next } []
        ngx_command_t { name type_ set conf offset post } []
        ngx_conf_file_t { file line } []
        ngx_conf_t { args cycle pool conf_file log ctx cmd_type } []
        ngx_connection_t { data read write fd recv send sent log pool buffer ssl } [
            set_buffered set_timedout set_error set_idle set_close
        ]
        ngx_core_conf_t { master worker_processes } []
        ngx_cycle_t { conf_ctx log modules modules_n shared_memory old_cycle conf_file } []
        ngx_event_t { data handler log timer queue } [
            set_ready set_timedout set_timer_set set_delayed set_pending_eof set_posted set_channel
            set_cancelable
        ]
        ngx_file_t { fd name } []
        ngx_http_cleanup_t { handler data } []
        ngx_http_compile_complex_value_t { cf value complex_value } []
        ngx_http_complex_value_t { value } []
        ngx_http_conf_addr_t { opt servers } []
        ngx_http_conf_ctx_t { main_conf srv_conf loc_conf } []
        ngx_http_conf_port_t { addrs } []
        ngx_http_core_loc_conf_t {
            name loc_conf handler send_lowat send_timeout tcp_nodelay log_subrequest
        } [ set_noname ]
        ngx_http_connection_t { busy } []
        ngx_http_core_main_conf_t { servers ports variables } []
        ngx_http_core_srv_conf_t { ctx request_pool_size } []
        ngx_http_headers_in_t { headers authorization user passwd server content_length_n keep_alive_n } [ set_chunked ]
        ngx_http_headers_out_t {
            headers trailers status status_line expires content_encoding cache_control override_charset
            content_type_len content_type charset content_type_lowcase content_type_hash
            content_length_n content_offset date_time last_modified_time
        } []
        ngx_http_listen_opt_t { sockaddr } []
        ngx_http_module_t { preconfiguration merge_loc_conf } []
        ngx_http_request_body_t { bufs } []
        ngx_http_request_t {
            connection ctx loc_conf read_event_handler write_event_handler pool header_in headers_in
            headers_out request_body lingering_time method http_version args out main postponed
            variables limit_rate header_size stream main_conf http_connection upstream posted_requests
            request_line uri exten unparsed_uri method_name http_protocol captures_data ncaptures
            header_name_start header_name_end header_start header_end uri_start uri_end uri_ext
            args_start request_start request_end method_end schema_start host_start host_end
        } [
            set_count set_chunked set_header_only set_keepalive set_lingering_close set_discard_body
            set_header_sent set_limit_rate_set set_filter_need_in_memory set_filter_need_temporary
            set_main_filter_need_in_memory set_preserve_body set_disable_not_modified set_background
            set_post_action
        ]
        ngx_http_variable_t { get_handler data } []
        ngx_list_part_t { elts nelts next } []
        ngx_list_t { last part nalloc } []
        ngx_log_t { log_level } []
        ngx_module_t { ctx_index index name version signature ctx commands type_ init_module } []
        ngx_pool_cleanup_t { handler data next } []
        ngx_pool_data_t { last end next } []
        ngx_pool_t { d max cleanup } []
        ngx_rbtree_node_t { key left right parent } []
        ngx_regex_compile_t { pattern pool regex err } []
        ngx_shm_t { addr size log name } []
        ngx_shm_zone_t { data shm init tag } []
        ngx_slab_page_t { next } []
        ngx_slab_pool_t { pages last start data pfree } [ set_log_nomem ]
        ngx_str_t { len data } []
        ngx_table_elt_t { hash key value lowcase_key } []
        ngx_variable_value_t { data } [ set_len set_valid set_no_cacheable set_not_found ]
    }
}

/// Offset and value of each byte that is not zero in a record of zeros after `set`.
fn bytes_changed_by<T>(set: impl FnOnce(&mut T)) -> String {
    let mut record = MaybeUninit::<T>::zeroed();
    // SAFETY: nginx's records are numbers and pointers, for which zero is a value.
    set(unsafe { record.assume_init_mut() });
    // SAFETY: all bytes were zeroed, padding as well, and the setter has written to some.
    let bytes = unsafe { slice::from_raw_parts(record.as_ptr().cast::<u8>(), size_of::<T>()) };
    let mut text = "bits".to_owned();
    for (at, byte) in bytes.iter().enumerate().filter(|(_, byte)| **byte != 0) {
        write!(text, " {at}:{byte:02x}").expect("a string takes everything");
    }
    text
}

const HEAD: &str = r#"
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <ngx_http.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

static void changed(const unsigned char *bytes, size_t len) {
    size_t at;
    printf("bits");
    for (at = 0; at < len; at++) {
        if (bytes[at]) printf(" %zu:%02x", at, bytes[at]);
    }
    printf("\n");
}

#define WHOLE(record) printf("size %zu align %zu\n", sizeof(record), __alignof__(record));
#define FIELD(record, field) printf("offset %zu\n", offsetof(record, field));
#define BITS(record, field) { \
    static union { record r; unsigned char bytes[sizeof(record)]; } u; \
    memset(&u, 0, sizeof(u)); \
    u.r.field = ~0; \
    changed(u.bytes, sizeof(u)); \
}

int main(void) {
"#;

/// `Err`: what differs, or why that could not be found out, in one line.
///
/// `include` is a list of directories as in `PATH`, `cflags` are options with spaces between them.
pub(crate) fn compare(include: &str, cflags: &str) -> Result<(), String> {
    let facts = facts();
    let mut program = HEAD.to_owned();
    for fact in &facts {
        program.push_str(&fact.probe);
        program.push('\n');
    }
    program.push_str("return 0;\n}\n");

    let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    let (source, probe) = (Path::new(&out).join("layout.c"), Path::new(&out).join("layout"));
    fs::write(&source, program).map_err(|error| format!("cannot write a probe: {error}"))?;

    let compiler = env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let mut compile = Command::new(compiler);
    compile.arg("-w").args(cflags.split_whitespace());
    for directory in env::split_paths(include) {
        compile.arg("-I").arg(directory);
    }
    run(compile.arg("-o").arg(&probe).arg(&source))?;
    let printed = run(&mut Command::new(&probe))?;

    let mut said_by_c = printed.lines();
    let mut wrong = Vec::new();
    for Fact { name, rust, .. } in &facts {
        let c = said_by_c.next().unwrap_or("nothing");
        if rust != c {
            wrong.push(format!("{name}: Rust has \"{rust}\", C has \"{c}\""));
        }
    }
    match wrong.first() {
        None => Ok(()),
        Some(first) => Err(format!("{} of {} differ, {first}", wrong.len(), facts.len())),
    }
}

/// What the program prints; the first line of its complaint if it fails.
fn run(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("cannot run \"{name}\": {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    let line = complaint.lines().find(|line| line.contains("error")).unwrap_or("no reason given");
    Err(format!("\"{name}\" failed: {line}"))
}
