#!/usr/bin/env bash
# install.sh: makes this host a Noid host, or takes that back. Running it again upgrades: what an operator may
# have changed stays, and microVMs go on running while the server is replaced.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bin=$root/build/release/bin
prefix=''
firecracker=''
firecracker_version=''
firecracker_sha256=''
images=yes
dry_run=no
uninstall=no
purge=no

programs=(noid noid-server noid-netd noid-agent)
units=(noid-server.service noid-netd.service)

usage() {
    cat <<USAGE
usage: scripts/install.sh [options]
       scripts/install.sh --uninstall [--purge] [--dry-run]

  --bin DIR                  Noid's programs                            [build/release/bin]
  --firecracker FILE         install this Firecracker; it must be linked statically
  --firecracker-version V    download this release of Firecracker, for example 1.16.1 ...
  --firecracker-sha256 SUM   ... whose archive has this checksum
  --no-images                do not make guest kernel, initrd and image
  --root DIR                 install below DIR, and start nothing: for packages and tests
  --uninstall                stop Noid and remove it; VMs and their data stay
  --purge                    with --uninstall: remove /var/lib/noid and /etc/noid as well
  --dry-run                  say what would be done

Without Firecracker and KVM the server uses QEMU.
USAGE
}

fail() {
    echo "install.sh: $*" >&2
    exit 1
}

while [ $# -gt 0 ]; do
    case "$1" in
    --bin | --firecracker | --firecracker-version | --firecracker-sha256 | --root)
        [ $# -ge 2 ] || { usage >&2; exit 2; }
        case "$1" in
        --bin) bin=$2 ;;
        --firecracker) firecracker=$2 ;;
        --firecracker-version) firecracker_version=$2 ;;
        --firecracker-sha256) firecracker_sha256=$2 ;;
        --root) prefix=${2%/} ;;
        esac
        shift 2
        ;;
    --no-images) images=no; shift ;;
    --dry-run) dry_run=yes; shift ;;
    --uninstall) uninstall=yes; shift ;;
    --purge) purge=yes; shift ;;
    -h | --help) usage; exit 0 ;;
    *) echo "install.sh: unknown option '$1'" >&2; usage >&2; exit 2 ;;
    esac
done

# Everything that changes the host goes through here.
run() {
    if [ "$dry_run" = yes ]; then
        printf '+'
        printf ' %q' "$@"
        printf '\n'
    else
        "$@"
    fi
}

# Whether this is about the running host, and not about a tree below --root.
on_this_host() { [ -z "$prefix" ]; }
has_systemd() { on_this_host && [ -d /run/systemd/system ]; }

# put MODE SOURCE TARGET: by rename, so that a program that runs keeps its old file.
put() {
    local target=$prefix$3
    if cmp -s "$2" "$target"; then return; fi
    run install -D -m "$1" "$2" "$target.new"
    run mv "$target.new" "$target"
}

put_text() {
    local text
    text=$(mktemp)
    cat >"$text"
    put 644 "$text" "$1"
    rm -f "$text"
}

check_architecture() {
    case "$(uname -m)" in
    x86_64) ;;
    *) fail "Noid runs on x86_64 only" ;;
    esac
}

# fetch_firecracker DIRECTORY: leaves the release's program there.
fetch_firecracker() {
    local name=firecracker-v$firecracker_version-x86_64
    local address=https://github.com/firecracker-microvm/firecracker/releases/download/v$firecracker_version/$name.tgz
    [ -n "$firecracker_sha256" ] || fail "--firecracker-version needs --firecracker-sha256"
    if [ "$dry_run" = yes ]; then
        echo "+ download $address, check it against $firecracker_sha256, and unpack it"
        return
    fi
    curl --fail --silent --show-error --location --proto =https --output "$1/archive" "$address"
    echo "$firecracker_sha256  $1/archive" | sha256sum --check --status ||
        fail "$address does not have the checksum $firecracker_sha256"
    tar -xzf "$1/archive" -C "$1"
    mv "$1/release-v$firecracker_version-x86_64/$name" "$1/firecracker"
}

install_firecracker() {
    if [ -n "$firecracker_version" ]; then
        local scratch
        scratch=$(mktemp -d)
        fetch_firecracker "$scratch"
        [ "$dry_run" = yes ] || put 755 "$scratch/firecracker" /usr/local/bin/firecracker
        rm -rf "$scratch"
    elif [ -n "$firecracker" ]; then
        [ -x "$firecracker" ] || fail "$firecracker is not a program"
        # A confined VMM sees no shared libraries.
        if readelf -l "$firecracker" 2>/dev/null | grep -q INTERP; then
            fail "$firecracker is linked dynamically; Noid needs a static one, such as Firecracker's releases have"
        fi
        put 755 "$firecracker" /usr/local/bin/firecracker
    fi
}

check_libraries() {
    local name missing
    for name in "${programs[@]}"; do
        # ldd fails for what is linked statically, and for scripts.
        missing=$({ ldd "$bin/$name" 2>/dev/null || true; } | sed -n 's/^[[:space:]]*\([^ ]*\) => not found.*/\1/p' | tr '\n' ' ')
        [ -z "$missing" ] || fail "$name needs ${missing% }; scripts/setup-packages --run-only installs what Noid runs on"
    done
}

install_programs() {
    local name
    for name in "${programs[@]}"; do
        [ -x "$bin/$name" ] || fail "no $name in $bin; build it, or name another directory with --bin"
    done
    if on_this_host; then check_libraries; fi
    for name in "${programs[@]}"; do put 755 "$bin/$name" "/usr/local/bin/$name"; done
}

# Whom the server becomes that root starts. The group may use noid-netd's socket.
make_user() {
    on_this_host || return 0
    getent group noid >/dev/null || run groupadd --system noid
    getent passwd noid >/dev/null ||
        run useradd --system --gid noid --home-dir /var/lib/noid --no-create-home --shell /usr/sbin/nologin noid
}

make_configuration() {
    run install -d -m 755 "$prefix/etc/noid"
    # The server's first start shares it with the server's user; that must stay as it is.
    [ -d "$prefix/var/lib/noid" ] || run install -d -m 700 "$prefix/var/lib/noid"
    put_text /etc/sysctl.d/60-noid.conf <<'SYSCTL'
# Packets of microVMs are routed to the internet.
net.ipv4.ip_forward = 1
SYSCTL
    if [ ! -e "$prefix/etc/noid/server.toml" ]; then
        put_text /etc/noid/server.toml <<'CONFIG'
# docs/server.md explains every key; "noid-server check-config" says what holds.
[server]
listen = "127.0.0.1:7654"

[paths]
data_dir = "/var/lib/noid"
CONFIG
    fi
    if on_this_host; then run sysctl -q -p /etc/sysctl.d/60-noid.conf; fi
}

make_images() {
    [ "$images" = yes ] || return 0
    run "$root/scripts/guest/build-all" --data-dir "$prefix/var/lib/noid" --agent "$bin/noid-agent"
}

install_units() {
    local unit
    for unit in "${units[@]}"; do
        if [ -e "$root/packaging/systemd/$unit" ]; then
            put 644 "$root/packaging/systemd/$unit" "/etc/systemd/system/$unit"
        fi
    done
    if ! has_systemd; then
        if on_this_host; then echo "systemd does not run here: start noid-netd and noid-server yourself"; fi
        return
    fi
    run systemctl daemon-reload
    for unit in "${units[@]}"; do
        [ -e "$root/packaging/systemd/$unit" ] || continue
        run systemctl enable --quiet "$unit"
        run systemctl restart "$unit"
    done
}

remove_everything() {
    local unit name
    for unit in "${units[@]}"; do
        [ -e "$prefix/etc/systemd/system/$unit" ] || continue
        if has_systemd; then run systemctl disable --now --quiet "$unit"; fi
        run rm -f "$prefix/etc/systemd/system/$unit"
    done
    if has_systemd; then run systemctl daemon-reload; fi
    for name in "${programs[@]}"; do run rm -f "$prefix/usr/local/bin/$name"; done
    run rm -f "$prefix/etc/sysctl.d/60-noid.conf"
    if [ "$purge" = yes ]; then
        run rm -rf "$prefix/var/lib/noid" "$prefix/etc/noid"
        if on_this_host && getent passwd noid >/dev/null; then run userdel noid; fi
    else
        echo "kept: $prefix/var/lib/noid and $prefix/etc/noid (--purge removes them)"
    fi
}

if on_this_host && [ "$dry_run" = no ] && [ "$(id -u)" -ne 0 ]; then fail "must run as root"; fi
if [ "$purge" = yes ] && [ "$uninstall" = no ]; then fail "--purge goes with --uninstall"; fi
if [ "$uninstall" = yes ]; then
    remove_everything
    exit
fi

check_architecture
install_programs
install_firecracker
make_user
make_configuration
make_images
install_units
echo "Noid is installed. Next: noid-server user create NAME"
