//! Tells the shell which nginx it is compiled for, and the module which commit it is; refuses an nginx
//! for which the module could not be right.
//!
//! ```text
//!   cfg(ngx_feature = "…")     what nginx was configured with: "threads", "http_v2", "debug", …
//!   cfg(ngx_os = "…")          "linux", "freebsd", …
//!   cfg(nginx1_23_0)           nginx is at least that version; the list is VERSIONS
//!   env!("PUSH_STREAM_COMMIT") 40 hex digits: of the git checkout, else of the archive that git made;
//!                              all zeros outside both
//!   env!("PUSH_STREAM_NGINX")  the version that the module is for, such as "1.28.3"
//! ```
//!
//! The facts about nginx come from the build script of `nginx-sys`, as `DEP_NGINX_*`; cargo hands
//! them only to a crate that depends on it directly. Without the feature `nginx` there is no nginx
//! and nobody to ask for the commit: then only the names of the cfgs are declared.

use std::path::Path;
use std::process::Command;
use std::{env, process};

#[cfg(feature = "nginx")]
#[path = "build/layout.rs"]
mod layout;

/// The oldest nginx that the module can be compiled for: `nginx_version`, and how people write it.
const OLDEST: (u64, &str) = (1_022_000, "1.22.0");
/// The newest nginx that it was tested with.
const NEWEST_TESTED: (u64, &str) = (1_031_004, "1.31.4");

/// Versions at which something that the shell uses changed: `nginx_version`, name of the cfg.
const VERSIONS: &[(u64, &str)] = &[
    // Headers that may repeat are linked by `ngx_table_elt_t.next`, no longer kept in arrays.
    (1_023_000, "nginx1_23_0"),
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build");
    declare_cfgs();
    if env::var_os("CARGO_FEATURE_NGINX").is_some() {
        check_version();
        #[cfg(feature = "nginx")]
        check_layouts();
        set_cfgs();
        println!("cargo::rustc-env=PUSH_STREAM_COMMIT={}", commit());
        println!("cargo::rustc-env=PUSH_STREAM_NGINX={}", dotted(version()));
    }
}

/// Names the cfgs that may be asked for, so that a misspelt one is a warning.
fn declare_cfgs() {
    for (cfg, known) in
        [("ngx_feature", "DEP_NGINX_FEATURES_CHECK"), ("ngx_os", "DEP_NGINX_OS_CHECK")]
    {
        let values = env::var(known).unwrap_or_else(|_| "any()".to_owned());
        println!("cargo::rustc-check-cfg=cfg({cfg}, values({values}))");
    }
    for (_, cfg) in VERSIONS {
        println!("cargo::rustc-check-cfg=cfg({cfg})");
    }
}

fn set_cfgs() {
    for feature in fact("FEATURES").split(',').filter(|name| !name.is_empty()) {
        println!("cargo::rustc-cfg=ngx_feature=\"{}\"", feature.trim());
    }
    println!("cargo::rustc-cfg=ngx_os=\"{}\"", fact("OS"));

    let version = version();
    for (_, cfg) in VERSIONS.iter().filter(|(since, _)| version >= *since) {
        println!("cargo::rustc-cfg={cfg}");
    }
}

fn check_version() {
    let (version, nginx) = (version(), fact("VERSION"));
    if version < OLDEST.0 {
        stop(&format!("{nginx} is too old, {} or newer is needed", OLDEST.1));
    }
    if version > NEWEST_TESTED.0 {
        println!(
            "cargo::warning={nginx} is newer than any that was tested; the newest was {}",
            NEWEST_TESTED.1
        );
    }
}

/// Stops if Rust and C do not agree about nginx's records: such a module would corrupt requests.
#[cfg(feature = "nginx")]
fn check_layouts() {
    println!("cargo::rerun-if-env-changed=CC");
    if env::var("HOST") != env::var("TARGET") {
        println!("cargo::warning=cross build: the layouts of nginx's records are not compared");
        return;
    }
    // nginx-sys 0.5.0 prints `cargo:metadata=cflags=…`, which cargo takes for one named "metadata".
    let cflags = fact("METADATA");
    let cflags = cflags.trim_start_matches("cflags=");
    if let Err(difference) = layout::compare(&fact("INCLUDE"), cflags) {
        stop(&format!("records of {} as Rust and C see them: {difference}", fact("VERSION")));
    }
}

/// Ends the build with this line. A failing exit status would make cargo print much more.
fn stop(reason: &str) -> ! {
    println!("cargo::error={reason}");
    process::exit(0);
}

/// nginx's own number for its version, such as 1028003 for 1.28.3.
fn version() -> u64 {
    fact("VERSION_NUMBER").parse().expect("DEP_NGINX_VERSION_NUMBER is a number")
}

/// 1028003 as people write it: "1.28.3".
fn dotted(version: u64) -> String {
    format!("{}.{}.{}", version / 1_000_000, version / 1_000 % 1_000, version % 1_000)
}

/// What `nginx-sys` found out. Missing means that it is no direct dependency any more.
fn fact(name: &str) -> String {
    let name = format!("DEP_NGINX_{name}");
    println!("cargo::rerun-if-env-changed={name}");
    env::var(&name).unwrap_or_else(|_| panic!("{name} is not set by nginx-sys"))
}

/// The commit that is checked out. Without git, or inside somebody else's repository, the one that
/// the archive was made from; else zeros.
fn commit() -> String {
    checked_out().or_else(archived).unwrap_or_else(|| "0".repeat(40))
}

/// `git archive` replaces the contents of this file by the commit: see .gitattributes.
fn archived() -> Option<String> {
    std::fs::read_to_string("build/commit").ok().and_then(|text| hash(text.trim()))
}

fn checked_out() -> Option<String> {
    let top = git(&["rev-parse", "--show-toplevel"])?;
    let here = env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    if Path::new(&top).canonicalize().ok() != Path::new(&here).canonicalize().ok() {
        return None;
    }
    // A checkout rewrites HEAD; a commit appends to the log of HEAD or writes the branch's own
    // file. A path that does not exist would make cargo run this script every time.
    let branch = git(&["symbolic-ref", "-q", "HEAD"]);
    for name in ["HEAD", "logs/HEAD"].into_iter().chain(branch.as_deref()) {
        let path = git(&["rev-parse", "--git-path", name]);
        if let Some(path) = path.filter(|path| Path::new(path).exists()) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    git(&["rev-parse", "HEAD"]).and_then(|commit| hash(&commit))
}

/// The text, if it is the full name of a commit.
fn hash(text: &str) -> Option<String> {
    (text.len() == 40 && text.bytes().all(|b| b.is_ascii_hexdigit())).then(|| text.to_owned())
}

/// What git prints, trimmed. Build scripts run in the package's own directory.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let text = text.trim();
    (output.status.success() && !text.is_empty()).then(|| text.to_owned())
}
