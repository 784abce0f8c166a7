# shellcheck shell=bash
# Clean systems to build packages in and to try them in. To be sourced after lib.sh; needs root and debootstrap.
#
# Each is a directory under target/chroots, made by debootstrap from the mirror of Debian that this machine's apt
# uses. A command in it runs with its own processes and mounts, which end with it: nothing stays behind, and no
# mount is ever visible outside. So a directory can be removed at any time at which no command runs in it.

chroots=$root/target/chroots
binds=() settings=()

# What is new in a base, in words: it is made again if this changes.
chroot_recipe=1

# The numbers of Debian's releases, which the versions of packages end with.
declare -A release_number=([bookworm]=12 [trixie]=13)

need_chroots() {
    ((EUID == 0)) || die "needs root, to make clean systems with debootstrap"
    command -v debootstrap ip >/dev/null || scripts/setup debootstrap iproute2
    mkdir -p "$chroots"
}

# Prints the mirror for Debian itself that this machine uses.
debian_mirror() {
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' |
        awk -v "release=$(. /etc/os-release && echo "$VERSION_CODENAME")" '
            ($2 == release || $2 ~ /stable$/) && $3 == "main" && !found++ { print $1 }'
}

# copy_system FROM TO   makes TO the same as FROM.
copy_system() {
    rm -rf "${2:?}" "$2.new"
    cp -a --reflink=auto "$1" "$2.new"
    mv "$2.new" "$2"
}

# make_system NAME SUITE PACKAGE...   makes $chroots/NAME: a minimal system with these packages.
#
# It does nothing if the system is there and was made with the same packages.
make_system() {
    local name=$1 suite=$2 base=$chroots/$2 mirror made
    shift 2
    made="$chroot_recipe $suite $*"
    exec 8>"$chroots/lock"
    flock 8
    if [[ ! -e $base/etc/made-from || $(<"$base/etc/made-from") != "$chroot_recipe" ]]; then
        mirror=$(debian_mirror)
        [[ -n $mirror ]] || die "apt's lists name no mirror of Debian"
        step "$suite: making a minimal system"
        rm -rf "$base" "$base.new"
        quietly "chroot-$suite" debootstrap --variant=minbase "$suite" "$base.new" "$mirror"
        # apt reaches the mirror there as it does here.
        apt-config dump | grep '^Acquire::' >"$base.new/etc/apt/apt.conf.d/90machine" || true
        # Debian's packages start no service.
        printf '#!/bin/sh\nexit 101\n' >"$base.new/usr/sbin/policy-rc.d"
        chmod +x "$base.new/usr/sbin/policy-rc.d"
        echo "$chroot_recipe" >"$base.new/etc/made-from"
        mv "$base.new" "$base"
    fi
    if [[ ! -e $chroots/$name/etc/made-from || $(<"$chroots/$name/etc/made-from") != "$made" ]]; then
        step "$suite: ${*:+adding }${*:-refreshing the lists of packages}"
        copy_system "$base" "$chroots/$name"
        quietly "chroot-$name-update" with_network "$name" apt-get -q update
        (($# == 0)) || quietly "chroot-$name-install" with_network "$name" apt-get -q -y install --no-install-recommends "$@"
        echo "$made" >"$chroots/$name/etc/made-from"
    fi
    flock -u 8
}

# with_network NAME COMMAND...   runs it in a system as root. It reaches the network as this machine does.
with_network() { in_system "$@"; }

# without_network NAME COMMAND...   the same, where only 127.0.0.1 answers, and no port is taken.
without_network() { in_system --net "$@"; }

# The array $binds names more directories, FROM:TO, which are there read-only; the array $settings, variables.
in_system() {
    local net=
    [[ $1 != --net ]] || { net=--net && shift; }
    local system=$chroots/$1
    shift
    # Some machines' addresses are in these files.
    cp -L /etc/resolv.conf /etc/hosts "$system/etc/" 2>/dev/null || true
    # shellcheck disable=SC2016,SC2086
    BINDS="${binds[*]:-}" SYSTEM=$system NET=$net nice unshare --mount --pid $net --fork --kill-child bash -euc '
        mount -t proc proc "$SYSTEM/proc"
        mount --bind /dev "$SYSTEM/dev"
        mount -t devpts devpts "$SYSTEM/dev/pts"
        mount -t tmpfs tmpfs "$SYSTEM/run"
        mkdir -p "$SYSTEM/run/lock"
        for bind in $BINDS; do
            mkdir -p "$SYSTEM/${bind#*:}"
            mount --bind -o ro "${bind%%:*}" "$SYSTEM/${bind#*:}"
        done
        [[ -z $NET ]] || ip link set lo up
        exec chroot "$SYSTEM" env -i "$@"' in_system \
        HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin ${http_proxy:+"http_proxy=$http_proxy"} \
        "${settings[@]}" "$@"
}
