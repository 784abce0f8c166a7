# shellcheck shell=bash
# What the scripts share. Sourced, not run.
#
# After it: strict mode, the current directory is the project's, and
#   $root     the project's directory
#   $logs     where the long output of a step goes
#   step      prints one line about what happens now
#   die       prints one line to stderr and ends with 1
#   quietly   runs a command with its output in a log; shows the end of it if the command fails
# and the rest of what follows, each with a word on it.

set -euo pipefail

called_from=$PWD
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

# The target triple of this machine, which -Zbuild-std wants to be named.
rust_host() { rustc -vV | sed -n 's/^host: //p'; }

# The nginx that the module is built for, by its name (scripts/nginx-tree says which there are) or by a
# directory with its source: sets $kind, $tree (what we make), $source, $objs, $nginx; and for a
# directory $given, its whole path.
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

# Runs the suites of t/, or those named, with $nginx and $module.
prove_suites() {
    (($#)) || set -- t/
    TEST_NGINX_BINARY=$nginx TEST_NGINX_MODULE=$module prove -I t/lib --timer -j "$(nproc)" "$@"
}

# Runs the tests with these names (parts of them) under Miri, with $MIRIFLAGS.
#
# Tests that need other processes or real locks leave themselves out there.
miri() {
    # nextest, where it is installed, uses all processors; cargo test under Miri uses one.
    local runner=(test) log=$logs/miri.log
    if cargo nextest --version >/dev/null 2>&1; then
        runner=(nextest run --no-fail-fast --status-level pass)
    fi
    # A bound, since a loop that is nothing for a processor can take Miri hours.
    timeout 1500 cargo +nightly miri "${runner[@]}" --locked --no-default-features --lib -- "$@" 2>&1 |
        tee "$log"
    # A filter that fits no test any more must not look like success. (nextest fails by itself.)
    [[ ${runner[0]} == nextest ]] || grep -Eq '^test result: ok\. [1-9]' "$log" || die "Miri ran no test"
}

# run_parts NAME...   (none: all of the array $all)
#
# Calls part_NAME for each, of NAME=VALUE part_NAME with the value; one that fails does not stop those
# after it. A part may set $skipped to the reason why it leaves itself out, and `figure` something for its
# line of the summary, which comes last. Answers 1 if a part failed.
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

# Ends with 1 if one of these is not in the array $all, nor named in $with_value and has one.
known_parts() {
    local part
    for part; do
        [[ " ${all[*]} " == *" $part "* ]] ||
            [[ $part == *=* && ${part%%=*} == "${with_value:-}" ]] ||
            die "unknown part \"$part\"; known: ${all[*]}${with_value:+ $with_value=...}"
    done
}
