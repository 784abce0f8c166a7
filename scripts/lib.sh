# shellcheck shell=bash
# What the scripts share. Sourced, not run.
#
# After it: strict mode, the current directory is the project's, and
#   $root     the project's directory
#   $logs     where the long output of a step goes
#   step      prints one line about what happens now
#   die       prints one line to stderr and ends with 1
#   quietly   runs a command with its output in a log; shows the end of it if the command fails
# and use_nginx, nginx_version, build_driver: see there.

set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
logs=$root/target/logs
me=scripts/${0##*/}
cd "$root"
mkdir -p "$logs"

# One place for build output, whatever the caller's environment says: the paths that the scripts
# print are part of their interface. `cargo` directly still obeys the caller.
export CARGO_TARGET_DIR=$root/target

step() { printf '%s: %s\n' "$me" "$*"; }

die() {
    printf '%s: %s\n' "$me" "$*" >&2
    exit 1
}

# quietly NAME COMMAND...
quietly() {
    local log=$logs/$1.log status=0
    shift
    "$@" >"$log" 2>&1 </dev/null || status=$?
    if ((status)); then
        {
            printf '%s: failed (%d): %s\n' "$me" "$status" "$*"
            printf -- '--- the end of %s\n' "${log#"$root"/}"
            tail -n 60 "$log"
            printf -- '---\n'
        } >&2
        return "$status"
    fi
}

# Such as "nginx/1.22.1".
nginx_version() { "$nginx" -v 2>&1 | sed "s|^nginx version: ||"; }

# The nginx that the module is built for: sets $kind, $tree (what we make), $source, $objs, $nginx.
use_nginx() {
    kind=$1
    tree=$root/target/nginx/$kind
    objs=$tree/objs
    case $kind in
    debian) source=/usr/share/nginx/src nginx=/usr/sbin/nginx ;;
    vanilla) source=$tree/src nginx=$objs/nginx ;;
    *) die "unknown nginx \"$kind\"; known: debian, vanilla" ;;
    esac
    module=$tree/ngx_http_push_stream_module.so
    export NGINX_SOURCE_DIR=$source NGINX_BUILD_DIR=$objs
}

# The program behind scripts/torture and the fuzzer's wire_bytes: sets $driver.
build_driver() {
    step "compiling the driver"
    quietly torture-build env CARGO_TARGET_DIR="$root/target/torture-driver" \
        cargo build --locked --release --manifest-path scripts/torture-driver/Cargo.toml
    driver=$root/target/torture-driver/release/torture-driver
}
