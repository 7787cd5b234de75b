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
units=(noid-netd.service noid-server.service)
usual_data_dir=/var/lib/noid
configuration=/etc/noid/server.toml
network_file=/etc/systemd/network/05-noid.network
# Says which Firecracker was put there by this script: only that one is removed.
firecracker_mark=/usr/local/share/noid/firecracker.sha256
# Of versions that switched forwarding on themselves; noid-netd does it, and takes it back.
obsolete=(/etc/sysctl.d/60-noid.conf)

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
  --uninstall                stop Noid and all its VMs, and remove it; the VMs' data and the configuration stay
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

put_firecracker() {
    if cmp -s "$1" "$prefix/usr/local/bin/firecracker"; then return; fi
    put 755 "$1" /usr/local/bin/firecracker
    sha256sum <"$1" | put_text "$firecracker_mark"
}

install_firecracker() {
    if [ -n "$firecracker_version" ]; then
        local scratch
        scratch=$(mktemp -d)
        fetch_firecracker "$scratch"
        [ "$dry_run" = yes ] || put_firecracker "$scratch/firecracker"
        rm -rf "$scratch"
    elif [ -n "$firecracker" ]; then
        [ -x "$firecracker" ] || fail "$firecracker is not a program"
        # A confined VMM sees no shared libraries.
        if { ldd "$firecracker" 2>/dev/null || true; } | grep -q ld-linux; then
            fail "$firecracker is linked dynamically; Noid needs a static one, such as Firecracker's releases have"
        fi
        put_firecracker "$firecracker"
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
        run useradd --system --gid noid --home-dir "$usual_data_dir" --no-create-home --shell /usr/sbin/nologin noid
}

# Whether make_user made it, and not somebody else.
is_user_ours() { [[ $(getent passwd noid) == *:$usual_data_dir:/usr/sbin/nologin ]]; }

make_configuration() {
    run install -d -m 755 "$prefix/etc/noid"
    # The server's first start shares it with the server's user; that must stay as it is.
    [ -d "$prefix$usual_data_dir" ] || run install -d -m 700 "$prefix$usual_data_dir"
    if [ ! -e "$prefix$configuration" ]; then
        put_text "$configuration" <<'CONFIG'
# docs/server.md explains every key; "noid-server check-config" says what holds.
[server]
listen = "127.0.0.1:7654"

[paths]
data_dir = "/var/lib/noid"
CONFIG
    fi
    remove_files "${obsolete[@]}"
}

make_images() {
    [ "$images" = yes ] || return 0
    run "$root/scripts/guest/build-all" --data-dir "$prefix$usual_data_dir" --agent "$bin/noid-agent"
}

# Before the first slot is there.
keep_networkd_away() {
    put 644 "$root/packaging/systemd/$(basename "$network_file")" "$network_file"
    reload_networkd
}

reload_networkd() {
    if has_systemd && systemctl is-active --quiet systemd-networkd.service; then run networkctl reload; fi
}

install_units() {
    local unit
    for unit in "${units[@]}"; do put 644 "$root/packaging/systemd/$unit" "/etc/systemd/system/$unit"; done
    if ! has_systemd; then
        if on_this_host; then echo "systemd does not run here: start noid-netd and noid-server yourself"; fi
        return
    fi
    run systemctl daemon-reload
    run systemctl enable --quiet "${units[@]}"
    # In one go: systemd knows which comes first. VMs run on meanwhile.
    run systemctl restart "${units[@]}"
}

# remove_files PATH...: those that are there.
remove_files() {
    local path
    for path in "$@"; do
        if [ -e "$prefix$path" ]; then run rm -f "$prefix$path"; fi
    done
}

# remove_directories PATH...: those that are there and hold nothing of somebody else's.
remove_directories() {
    local path
    for path in "$@"; do
        if [ -d "$path" ]; then run rmdir --ignore-fail-on-non-empty "$path"; fi
    done
}

stop_unit() {
    if has_systemd && [ -e "/etc/systemd/system/$1" ]; then run systemctl disable --now --quiet "$1"; fi
}

# Everything that runs, and what it has made of the host. What fails here ends the script while all that a second
# try needs is still there.
stop_everything() {
    local server=/usr/local/bin/noid-server netd=/usr/local/bin/noid-netd hierarchy where=(--config "$configuration")
    [ -e "$configuration" ] || where=(--data-dir "$usual_data_dir")
    stop_unit noid-server.service
    if [ -x "$server" ]; then
        run "$server" stop-vms "${where[@]}"
        run "$server" storage unmount "${where[@]}"
    fi
    # Not before: VMs give their places on the network back.
    stop_unit noid-netd.service
    if [ -x "$netd" ]; then run "$netd" cleanup; fi
    hierarchy=$(findmnt --noheadings --first-only --output TARGET --types cgroup2 || true)
    if [ -n "$hierarchy" ]; then remove_directories "$hierarchy/noid"; fi
    remove_directories /run/noid
}

# Where the server keeps its data, as far as that can be known.
find_data_dir() {
    local server=$prefix/usr/local/bin/noid-server said=''
    if on_this_host && [ -x "$server" ] && [ -e "$configuration" ]; then
        said=$("$server" check-config --config "$configuration" | sed -n 's/^data_dir: *//p')
    fi
    echo "${said:-$prefix$usual_data_dir}"
}

remove_firecracker() {
    [ -e "$prefix$firecracker_mark" ] || return 0
    # One that was put in its place since is somebody else's.
    if [ -e "$prefix/usr/local/bin/firecracker" ] &&
        [ "$(sha256sum <"$prefix/usr/local/bin/firecracker")" = "$(cat "$prefix$firecracker_mark")" ]; then
        remove_files /usr/local/bin/firecracker
    fi
    remove_files "$firecracker_mark"
    run rmdir --ignore-fail-on-non-empty "$prefix$(dirname "$firecracker_mark")"
}

remove_user() {
    if ! getent passwd noid >/dev/null || ! is_user_ours; then return; fi
    run userdel noid
    # Where userdel does not take the group along.
    if [ "$dry_run" = no ] && getent group noid >/dev/null; then run groupdel noid; fi
}

remove_everything() {
    local data_dir unit path configured=("$prefix/etc/noid") kept=()
    # What "systemctl edit" makes is configuration too.
    for unit in "${units[@]}"; do configured+=("$prefix/etc/systemd/system/$unit.d"); done
    data_dir=$(find_data_dir)
    if on_this_host; then stop_everything; fi
    remove_files "${units[@]/#//etc/systemd/system/}"
    if has_systemd; then run systemctl daemon-reload; fi
    remove_files "${programs[@]/#//usr/local/bin/}" "$network_file" "${obsolete[@]}"
    reload_networkd
    remove_firecracker
    if [ "$purge" = yes ]; then
        run rm -rf --one-file-system "$prefix$usual_data_dir" "${configured[@]}"
        [ "$data_dir" = "$prefix$usual_data_dir" ] || kept=("$data_dir")
    else
        kept=("$data_dir" "${configured[@]}")
    fi
    for path in "${kept[@]}"; do
        if [ -e "$path" ]; then echo "kept: $path"; fi
    done
    on_this_host || return 0
    # The user's number must not become another's while files belong to it.
    if [ ${#kept[@]} -gt 0 ] && [ -e "$data_dir" ]; then
        if is_user_ours; then echo "kept: the user noid, whose files are in $data_dir"; fi
    else
        remove_user
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
keep_networkd_away
install_units
echo "Noid is installed. Next: noid-server user create NAME"
