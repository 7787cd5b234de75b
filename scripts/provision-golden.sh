#!/usr/bin/env bash
# Makes the golden snapshot, the template that new VMs wake from: a temporary VM boots, gets what every new
# VM shall have, is saved, and the checkpoint is promoted. Nothing changes until the promotion, which replaces
# golden in one step and keeps the one before it (`noid-server golden rollback`).
set -euo pipefail

# ==== customisation ==============================================================================
# Runs as root inside the VM. Edit it, or leave it alone and use --packages, --copy, --script.
customisation() {
    cat <<'GUEST'
#!/bin/sh
set -eu
# apt-get update
# apt-get install -y python3 nodejs golang
# pip3 install requests numpy
# npm install -g typescript
GUEST
}
# =================================================================================================

vm=_provision
cpus=1
memory=2048
disk=
image=
network=
from_checkpoint=
script=
packages=
copies=()
server_options=()
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

usage() {
    cat <<USAGE
usage: scripts/provision-golden.sh [OPTIONS]
       scripts/provision-golden.sh --from-checkpoint ID

Makes the template that new VMs wake from: boots a temporary VM '$vm', customises it, saves it and
promotes the checkpoint. --from-checkpoint promotes one that is there already.

  --cpus N            virtual CPUs                                    [$cpus]
  --mem MIB           memory                                          [$memory]
  --disk MIB          size of the root disk                           [the image's]
  --image NAME        root file system to start from                  [the server's default]
  --network MODE      of the temporary VM: none, egress, open         [open]
  --packages A,B      Debian packages to install; repeatable
  --copy SRC:DST      file or directory to copy to DST (absolute); repeatable
  --script FILE       program to run inside instead of the customisation block of this script
  --config FILE       server.toml of the server                       [as noid-server finds it]
  --data-dir DIR      data directory of the server                    [as server.toml says]

Only VMs with the same cpus, memory and disk wake from golden. Runs on the server's host, as a user who may
change its data directory. 'noid' must be configured (noid auth setup, or NOID_SERVER and NOID_TOKEN).
Programs are taken from NOID and NOID_SERVER_PROGRAM, build/release/bin or PATH.
USAGE
}

say() { printf 'provision-golden: %s\n' "$*" >&2; }
die() {
    say "$*"
    exit 1
}
wrong() {
    say "$*"
    usage >&2
    exit 2
}

while [ $# -gt 0 ]; do
    case "$1" in
    -h | --help)
        usage
        exit 0
        ;;
    --from-checkpoint | --cpus | --mem | --disk | --image | --network | --packages | --copy | --script | --config | --data-dir)
        [ $# -ge 2 ] || wrong "$1 needs a value"
        case "$1" in
        --from-checkpoint) from_checkpoint=$2 ;;
        --cpus) cpus=$2 ;;
        --mem) memory=$2 ;;
        --disk) disk=$2 ;;
        --image) image=$2 ;;
        --network) network=$2 ;;
        --packages) packages="$packages ${2//,/ }" ;;
        --copy) copies+=("$2") ;;
        --script) script=$2 ;;
        --config | --data-dir) server_options+=("$1" "$2") ;;
        esac
        shift 2
        ;;
    *) wrong "unknown option '$1'" ;;
    esac
done

# Everything that can be wrong shows before a VM is made.
for copy in ${copies[@]+"${copies[@]}"}; do
    case "$copy" in
    ?*:/*) [ -e "${copy%:/*}" ] || die "--copy: '${copy%:/*}' does not exist" ;;
    *) wrong "--copy '$copy': expected SRC:/DST" ;;
    esac
done
for package in $packages; do
    case "$package" in
    [A-Za-z0-9]*) ;;
    *) wrong "--packages: '$package' is no name of a package" ;;
    esac
done
[ -z "$script" ] || [ -r "$script" ] || die "--script: cannot read '$script'"

find_program() {
    if [ -n "$2" ]; then
        echo "$2"
    elif [ -x "$root/build/release/bin/$1" ]; then
        echo "$root/build/release/bin/$1"
    else
        command -v "$1" || die "cannot find '$1': build it (scripts/quickstart) or put it into PATH"
    fi
}
noid=$(find_program noid "${NOID:-}")
noid_server=$(find_program noid-server "${NOID_SERVER_PROGRAM:-}")

golden() { "$noid_server" golden "$@" ${server_options[@]+"${server_options[@]}"}; }

promote() {
    say "promoting checkpoint $1"
    golden promote "$1" || die "not promoted"
}

if [ -n "$from_checkpoint" ]; then
    promote "$from_checkpoint"
    exit 0
fi

# ---- clean-up, however this ends ----
scratch=
child=
made=no

# A command that a signal to this script ends too; bash itself would wait for it to end by itself.
run() {
    "$@" <&0 &
    child=$!
    local code=0
    wait "$child" || code=$?
    child=
    return "$code"
}

# shellcheck disable=SC2317  # called by the trap
clean_up() {
    local code=$?
    trap - EXIT
    trap '' INT TERM HUP # not half a clean-up
    if [ -n "$child" ]; then
        kill -TERM "$child" 2>/dev/null || true
        wait "$child" || true
    fi
    if [ "$made" = yes ]; then
        say "removing VM '$vm'"
        "$noid" destroy "$vm" >/dev/null || say "VM '$vm' may still be there: noid destroy $vm"
    fi
    [ -z "$scratch" ] || rm -rf "$scratch"
    [ "$code" -eq 0 ] || say "not done; golden is as it was before"
    exit "$code"
}

# Two runs at once would fight for one VM.
exec 9<"${BASH_SOURCE[0]}"
flock -n 9 || die "another provisioning is running"

"$noid" whoami >/dev/null || die "'$noid' cannot talk to the server: noid auth setup --url URL --token TOKEN (or set NOID_SERVER and NOID_TOKEN)"
golden status >/dev/null || die "'$noid_server' cannot use the server's data directory: --config FILE or --data-dir DIR"

trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

scratch=$(mktemp -d)
if "$noid" info "$vm" >/dev/null 2>&1; then
    say "removing VM '$vm', which an interrupted run left"
    "$noid" destroy "$vm" >/dev/null
fi

options=(--cpus "$cpus" --mem "$memory")
[ -z "$disk" ] || options+=(--disk "$disk")
[ -z "$image" ] || options+=(--image "$image")
[ -z "$network" ] || options+=(--network "$network")
say "booting VM '$vm' ($cpus cpus, $memory MiB)"
made=yes # from here on there may be one
run "$noid" create "$vm" --boot "${options[@]}" >/dev/null

in_guest() { run "$noid" exec -n "$vm" -e DEBIAN_FRONTEND=noninteractive -- "$@"; }

# The agent answers before the image's own init has started everything.
in_guest sh -c 'if [ -d /run/systemd/system ]; then systemctl is-system-running --wait || true; fi' >&2

if [ -n "${packages// /}" ]; then
    say "installing$packages"
    # shellcheck disable=SC2086  # one word for each package
    in_guest sh -c 'command -v apt-get >/dev/null || { echo "--packages needs an image with apt-get" >&2; exit 1; }
        apt-get update && apt-get install -y --no-install-recommends -- "$@" && apt-get clean' sh $packages >&2
fi

for copy in ${copies[@]+"${copies[@]}"}; do
    say "copying ${copy%:/*} to /${copy##*:/}"
    run "$noid" cp "${copy%:/*}" "$vm:/${copy##*:/}"
done

if [ -n "$script" ]; then
    cp "$script" "$scratch/customise"
else
    customisation >"$scratch/customise"
fi
chmod 0755 "$scratch/customise"
say "customising"
run "$noid" cp "$scratch/customise" "$vm:/root/.noid-customise"
# As a program of its own where it names its interpreter, else by the shell.
# shellcheck disable=SC2016  # for the shell inside
in_guest sh -c 'f=/root/.noid-customise
    case "$(head -c 2 "$f")" in "#!") "$f" ;; *) sh "$f" ;; esac; code=$?
    rm -f "$f"; sync; exit "$code"' >&2 || die "the customisation failed"

say "saving"
run "$noid" checkpoint "$vm" golden --label "made by provision-golden.sh" >"$scratch/checkpoint"
id=$(sed -n "s/^Checkpoint '\([0-9a-f]\{16\}\)' created.*/\1/p" "$scratch/checkpoint")
[ -n "$id" ] || die "noid did not say which checkpoint it made"
promote "$id"
say "done: creates with --cpus $cpus --mem $memory${disk:+ --disk $disk} wake from it"
