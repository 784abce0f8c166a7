# shellcheck shell=bash
# Common code of the scripts. To be sourced, not run.
#
# It turns on strict mode, changes to the project's directory, and defines
#   $root     the project's directory
#   $logs     the directory for long output
#   step      prints one line about what happens now
#   die       prints one line to stderr and ends with 1
#   quietly   runs a command with its output in a log, and shows the end of the log if the command fails
# and the functions below, each with a comment.

set -euo pipefail

called_from=$PWD
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
logs=$root/target/logs
me=scripts/${0##*/}
cd "$root"
mkdir -p "$logs"

# Build output always goes to one place, whatever the environment of the caller says, because the paths that
# the scripts print are part of their interface. A `cargo` that is called directly still obeys the caller.
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

# The target triple of this machine, which -Zbuild-std needs.
rust_host() { rustc -vV | sed -n 's/^host: //p'; }

# Selects the nginx that the module is built for, by its name (see scripts/nginx-tree) or by a directory with
# its source: sets $kind, $tree (our files), $source, $objs, $nginx, $module (which $FEATURES move), and for a
# directory $given, its full path.
use_nginx() {
    kind=$1 given=
    case $kind in
    debian | trixie | vanilla | shifted | asan) ;;
    *)
        given=$(cd "$called_from" && cd "$kind" 2>/dev/null && pwd -P) &&
            [[ -f $given/src/core/nginx.h ]] ||
            die "\"$kind\" is neither the source of an nginx nor one of: debian trixie vanilla shifted asan"
        kind=nginx-$(sed -n 's/^#define NGINX_VERSION *"\(.*\)"/\1/p' "$given/src/core/nginx.h")
        ;;
    esac
    tree=$root/target/nginx/$kind
    objs=$tree/objs
    case $kind in
    debian) source=/usr/share/nginx/src nginx=/usr/sbin/nginx ;;
    *) source=$tree/src nginx=$objs/nginx ;;
    esac
    module=$tree${FEATURES:+/${FEATURES// /-}}/ngx_http_push_stream_module.so
    export NGINX_SOURCE_DIR=$source NGINX_BUILD_DIR=$objs
}

# Builds the program behind scripts/torture and wire_bytes of scripts/fuzz: sets $driver.
build_driver() {
    step "compiling the driver"
    quietly torture-build env CARGO_TARGET_DIR="$root/target/torture-driver" \
        cargo build --locked --release --manifest-path scripts/torture-driver/Cargo.toml
    driver=$root/target/torture-driver/release/torture-driver
}

# Runs the suites of t/, or those named, with $nginx and $module.
prove_suites() {
    (($#)) || set -- t/
    TEST_NGINX_BINARY=$nginx TEST_NGINX_MODULE=$module prove -I t/lib --timer -j "$(nproc)" "$@"
}

# Runs the tests with these names (parts of them) under Miri, with $MIRIFLAGS.
#
# Tests that need other processes or real locks skip themselves there.
miri() {
    # nextest, where it is installed, uses all processors; cargo test under Miri uses one.
    local runner=(test) log=$logs/miri.log
    if cargo nextest --version >/dev/null 2>&1; then
        runner=(nextest run --no-fail-fast --status-level pass)
    fi
    # A time limit, because a loop that takes a processor no time can take Miri hours.
    timeout 1500 cargo +nightly miri "${runner[@]}" --locked --no-default-features --lib -- "$@" 2>&1 |
        tee "$log"
    # A filter that matches no test must not look like success. (nextest fails by itself.)
    [[ ${runner[0]} == nextest ]] || grep -Eq '^test result: ok\. [1-9]' "$log" || die "Miri ran no test"
}

# run_parts NAME...   (none: all of the array $all)
#
# Calls part_NAME for each; for NAME=VALUE, part_NAME with the value. A part that fails does not stop those
# after it. A part that skips itself sets $skipped to the reason. `figure` adds text to the part's line of the
# summary, which comes last. Returns 1 if a part failed.
run_parts() {
    local part began status verdict failed=0 summary=() figures
    figures=$(mktemp)
    (($#)) || set -- "${all[@]}"
    for part; do
        printf '\n=== %s\n' "$part"
        began=$SECONDS
        : >"$figures"
        # A function that is tested by `if` or `||` runs without -e, so: a subshell, and its status.
        set +e
        (
            set -e
            skipped=
            "part_${part%%=*}" "${part#*=}" </dev/null 2>&1
            [[ -z $skipped ]] || {
                printf '!!! SKIPPED: %s\n' "$skipped"
                exit 77
            }
        )
        status=$?
        set -e
        case $status in
        0) verdict=ok ;;
        77) verdict='SKIPPED' ;;
        *) verdict=FAILED failed=1 ;;
        esac
        summary+=("$(printf '%-8s %-8s %4d s  %s' "$part" "$verdict" $((SECONDS - began)) \
            "$(paste -sd , "$figures" | sed 's/,/, /g')" | sed 's/ *$//')")
    done
    rm -f "$figures"
    printf '\n=== summary\n'
    printf '%s\n' "${summary[@]}"
    return "$failed"
}

figure() { printf '%s\n' "$*" >>"$figures"; }

# Ends with 1 if one of these is not in the array $all, and is not the name in $with_value with a value.
known_parts() {
    local part
    for part; do
        [[ " ${all[*]} " == *" $part "* ]] ||
            [[ $part == *=* && ${part%%=*} == "${with_value:-}" ]] ||
            die "unknown part \"$part\"; known: ${all[*]}${with_value:+ $with_value=...}"
    done
}
