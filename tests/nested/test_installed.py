"""scripts/install.sh on a Debian with systemd. One story, told in this order, in the emulated host that
tests/nested/run-installed has started: dry run, installation, VMs, upgrade, restart, removal, and all of it back."""

import hashlib
import json
import os
import pathlib
import re
import shutil
import stat
import subprocess

import pytest

PAYLOAD = pathlib.Path(__file__).resolve().parents[2]
RESULTS = pathlib.Path(os.environ["NOID_TEST_RESULTS"])
PROGRAMS = ["noid", "noid-server", "noid-netd", "noid-agent"]
UNITS = ["noid-netd.service", "noid-server.service"]
VMM = json.loads((PAYLOAD / "plan.json").read_text())["vmm"]
CONFIG = pathlib.Path("/etc/noid/server.toml")
DATA = pathlib.Path("/var/lib/noid")
HOME = pathlib.Path("/run/noid-test-home")  # of the client
UPGRADE = pathlib.Path("/run/noid-test-upgrade")

# What another part of the system changes at any time.
UNSTEADY = ("/var/log", "/var/tmp", "/var/lib/systemd", "/var/cache")
# Copies that useradd and userdel leave of what was there before.
BACKUPS = ("/etc/passwd-", "/etc/shadow-", "/etc/group-", "/etc/gshadow-")
ACCOUNTS = ("/etc/passwd", "/etc/shadow", "/etc/group", "/etc/gshadow")


def run(*command, check=True, timeout=600, **options):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=timeout,
                          stdin=subprocess.DEVNULL, **options)  # fmt: skip
    assert not check or done.returncode == 0, (command, done.returncode, done.stdout, done.stderr)
    return done


def install(*arguments, programs=PAYLOAD / "bin", check=True):
    firecracker = ["--firecracker", PAYLOAD / "firecracker"] if VMM == "firecracker" else []
    return run(PAYLOAD / "scripts/install.sh", "--bin", programs, "--no-images", *firecracker, *arguments, check=check)


def uninstall(*arguments):
    return run(PAYLOAD / "scripts/install.sh", "--uninstall", *arguments).stdout


def noid(*arguments, **options):
    return run("noid", *arguments, env={**os.environ, "HOME": str(HOME)}, **options).stdout


def info(vm):
    return json.loads(noid("info", "-a", "--json", vm))


def main_pid(unit):
    return int(run("systemctl", "show", "--value", "--property=MainPID", unit).stdout)


def processes(*names):
    """Pids of the processes whose program or name is one of these, or begins with one of these and a dash."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            known_as = {(entry / "comm").read_text().strip(), pathlib.Path(os.readlink(entry / "exe")).name}
        except OSError:  # gone, or a thread of the kernel
            continue
        if any(each == name or each.startswith(name + "-") for each in known_as for name in names):
            found.append(int(entry.name))
    return sorted(found)


def vmms():
    return processes("qemu-system", "firecracker")


# --- what the host is like, but for what never stays the same ------------------------------------------------------


def describe_file(path):
    status = path.lstat()
    who = (stat.filemode(status.st_mode), status.st_uid, status.st_gid)
    if path.is_symlink():
        return (*who, os.readlink(path))
    if path.is_dir():
        return who
    # Programs are many and large: the moment of their last change will do.
    if not str(path).startswith("/etc/"):
        return (*who, status.st_size, status.st_mtime_ns)
    return (*who, path.read_bytes().decode(errors="replace") if str(path) in ACCOUNTS else file_hash(path))


def file_hash(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files():
    found = {}
    for top in ("/etc", "/usr", "/opt", "/srv", "/root", "/home", "/var"):
        for directory, subdirectories, names in os.walk(top):
            subdirectories[:] = [name for name in subdirectories
                                 if name != "__pycache__" and os.path.join(directory, name) not in UNSTEADY]  # fmt: skip
            for name in [*subdirectories, *names]:
                path = pathlib.Path(directory, name)
                if str(path) not in BACKUPS:
                    found[str(path)] = describe_file(path)
    return found


def host_state():
    def names_in(directory):
        return sorted(os.listdir(directory)) if os.path.isdir(directory) else None

    return {
        "files": files(),
        "units": run("systemctl", "list-unit-files", "--no-legend", "noid*", check=False).stdout,
        "processes": processes("noid", "qemu-system", "firecracker"),
        "mounts": sorted(line.split()[1] for line in pathlib.Path("/proc/self/mounts").read_text().splitlines()),
        "loop devices": run("losetup", "--all").stdout,
        "namespaces": names_in("/run/netns"),
        "interfaces": names_in("/sys/class/net"),
        "rules": run("nft", "list", "ruleset").stdout,
        "routes": run("ip", "route").stdout + run("ip", "rule").stdout,
        "forwarding": pathlib.Path("/proc/sys/net/ipv4/ip_forward").read_text(),
        "control groups": os.path.isdir("/sys/fs/cgroup/noid"),
        "run": names_in("/run/noid"),
    }


def without_what_is_kept(state):
    """The state, without what an uninstallation without --purge leaves."""
    kept = dict(state, files={})
    for path, description in state["files"].items():
        if path in ("/etc/noid", str(DATA)) or path.startswith(("/etc/noid/", f"{DATA}/")):
            continue
        if path in ACCOUNTS:
            description = (*description[:-1], re.sub(r"(?m)^noid:.*\n", "", description[-1]))
        kept["files"][path] = description
    return kept


def expect_same(before, after):
    """Fails in words that fit into a report."""
    found = []
    for key in before:
        if key == "files" or before[key] == after[key]:
            continue
        lines = [value.splitlines() if isinstance(value, str) else value or [] for value in (before[key], after[key])]
        if all(isinstance(value, list) for value in lines):
            gone, come = ([each for each in lines[one] if each not in lines[1 - one]] for one in (0, 1))
            found.append(f"{key}: gone {gone}, come {come}")
        else:
            found.append(f"{key}: {before[key]} -> {after[key]}")
    for path in sorted({*before["files"], *after["files"]}):
        one, other = before["files"].get(path), after["files"].get(path)
        if one != other:
            found.append(f"{path}: {one} -> {other}")
    if found:
        pytest.fail("the host is not what it was:\n" + "\n".join(found), pytrace=False)


# --- something in a VM that notices when it stops -------------------------------------------------------------------

COUNTER = "echo $$ >/run/counter.pid; i=0; while :; do i=$((i+1)); echo $i >/run/c; mv /run/c /run/counter; sleep 0.1; done"


def start_counter(vm):
    noid("exec", "-d", "--label", "counter", vm, "--", "sh", "-c", f"rm -f /run/counter; {COUNTER}")


def counter(vm):
    """Which process counts, since which boot, and how far it has come. The first number is waited for."""
    said = noid("exec", vm, "--", "sh", "-c",
                "until [ -s /run/counter ]; do sleep 0.1; done; cat /run/counter.pid /proc/sys/kernel/random/boot_id /run/counter; "
                "kill -0 $(cat /run/counter.pid)").split()  # fmt: skip
    return tuple(said[:2]), int(said[2])


def went_on(vm, before):
    who, number = counter(vm)
    assert who == before[0], "it is the same process"
    assert number > before[1], "and it counts on"
    return who, number


# --- the story ---------------------------------------------------------------------------------------------------

initial = {}
seen = {}


def test_a_dry_run_changes_nothing():
    # As scripts/guest/build-all leaves them, which has no network here.
    DATA.mkdir(mode=0o700)
    shutil.copytree(PAYLOAD / "images", DATA / "images")
    HOME.mkdir()
    initial.update(host_state())
    said = install("--dry-run").stdout
    for part in ("/usr/local/bin/noid-server", "useradd", CONFIG, "/etc/systemd/system/noid-netd.service",
                 "systemctl restart noid-netd.service noid-server.service"):  # fmt: skip
        assert str(part) in said
    expect_same(initial, host_state())


def test_the_units_are_sound_and_start():
    install()
    verified = run("systemd-analyze", "verify", *UNITS)
    assert verified.stdout + verified.stderr == ""
    for unit in UNITS:
        assert run("systemctl", "is-active", unit).stdout == "active\n"
        assert run("systemctl", "is-enabled", unit).stdout == "enabled\n"
        shown = run("systemctl", "show", "--value", "--property=NRestarts", unit).stdout
        assert shown == "0\n", run("journalctl", "--no-pager", "--unit", unit).stdout
    assert main_pid("noid-server.service") in processes("noid-server")
    server = pathlib.Path(f"/proc/{main_pid('noid-server.service')}/status").read_text()
    uid = run("id", "-u", "noid").stdout.strip()
    assert f"Uid:\t{uid}\t{uid}" in server and "CapEff:\t0000000000000000" in server


def test_networkd_keeps_away_from_slots():
    states = {line.split()[1]: line.split()[-1] for line in run("networkctl", "--no-legend", "list").stdout.splitlines()}
    assert {state for name, state in states.items() if name.startswith("noid")} == {"unmanaged"}
    assert "configured" in states.values(), "and does its work otherwise"


def test_doctor_is_content():
    for command in (["noid-server", "doctor", "--config", CONFIG], ["noid-netd", "doctor"]):
        said = run(*command)
        (RESULTS / f"{command[0]}-doctor.txt").write_text(said.stdout)
        assert "FAIL" not in said.stdout


def test_a_command_runs_in_a_vm():
    token = run("noid-server", "user", "create", "alice", "--config", CONFIG).stdout.strip()
    noid("auth", "setup", "--url", "http://127.0.0.1:7654", "--token", token)
    noid("create", "web", "--mem", "256")
    assert noid("exec", "web", "--", "uname", "-s") == "Linux\n"
    assert info("web")["vmm"] == VMM
    (vmm,) = vmms()
    assert os.stat(f"/proc/{vmm}").st_uid >= 2000000, "it is confined"
    run("ping", "-c", "3", "-W", "10", info("web")["address"])


def test_a_suspended_vm_has_no_process():
    noid("create", "sleeper", "--mem", "256")
    start_counter("sleeper")
    seen["sleeper"] = counter("sleeper")
    noid("suspend", "sleeper")
    assert info("sleeper")["state"] == "suspended"
    assert len(vmms()) == 1


def test_an_upgrade_leaves_vms_running():
    start_counter("web")
    before, vmm, address = counter("web"), vmms(), info("web")["address"]
    old = {unit: main_pid(unit) for unit in UNITS}
    # A program with a byte behind its end does the same and is another.
    UPGRADE.mkdir()
    for name in PROGRAMS:
        shutil.copy(PAYLOAD / "bin" / name, UPGRADE)
        with open(UPGRADE / name, "ab") as program:
            program.write(b"\n")
    # A client that stays connected hears every number, over the restart too.
    listener = subprocess.Popen(
        ["noid", "exec", "-n", "web", "--", "sh", "-c",
         "i=0; echo $i; while [ ! -e /run/stop ]; do i=$((i+1)); echo $i; sleep 0.1; done"],
        env={**os.environ, "HOME": str(HOME)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # fmt: skip
    assert listener.stdout.readline() == "0\n"

    install(programs=UPGRADE)
    for unit in UNITS:
        program = unit.removesuffix(".service")
        assert main_pid(unit) != old[unit]
        assert file_hash(f"/proc/{main_pid(unit)}/exe") == file_hash(UPGRADE / program)
    assert not list(pathlib.Path("/usr/local/bin").glob("*.new"))
    assert vmms() == vmm
    went_on("web", before)
    assert info("web")["address"] == address
    run("ping", "-c", "3", "-W", "10", address)
    noid("exec", "web", "--", "touch", "/run/stop")
    said, complaints = listener.communicate(timeout=120)
    assert listener.returncode == 0, complaints
    numbers = [0, *map(int, said.split())]
    assert numbers == list(range(len(numbers))), "nothing is lost or doubled"


def test_a_restart_of_both_units_leaves_vms_running():
    before, vmm = counter("web"), vmms()
    run("systemctl", "restart", *UNITS)
    assert vmms() == vmm
    before = went_on("web", before)
    for unit in UNITS:
        run("systemctl", "restart", unit)
        before = went_on("web", before)
    run("ping", "-c", "3", "-W", "10", info("web")["address"])
    assert info("sleeper")["state"] == "suspended"


def test_a_dry_run_of_the_removal_says_each_step():
    before, state = counter("web"), host_state()
    said = uninstall("--dry-run", "--purge")
    for step in ("disable --now --quiet noid-server.service", "noid-server stop-vms", "noid-server storage unmount",
                 "disable --now --quiet noid-netd.service", "noid-netd cleanup", "rm -f /usr/local/bin/noid-agent",
                 "rm -f /etc/systemd/system/noid-server.service", f"{DATA} /etc/noid", "userdel noid"):  # fmt: skip
        assert step in said
    after = host_state()
    for state_ in (state, after):  # VMs write
        state_["files"] = {path: what for path, what in state_["files"].items() if not path.startswith(f"{DATA}/")}
    expect_same(state, after)
    went_on("web", before)


def test_the_removal_leaves_nothing_but_what_it_says():
    # Not synced: only a guest that shuts down in order keeps it.
    noid("exec", "web", "--", "sh", "-c", "echo precious >/root/file")
    said = uninstall()
    (RESULTS / "uninstall.txt").write_text(said)
    assert f"kept: {DATA}\n" in said and "kept: /etc/noid\n" in said and "kept: the user noid" in said
    assert (DATA / "pool.btrfs").exists() and CONFIG.exists()
    expect_same(without_what_is_kept(initial), without_what_is_kept(host_state()))


def test_a_second_removal_finds_nothing_to_do():
    state = host_state()
    assert "kept" in uninstall()
    expect_same(state, host_state())


def test_what_was_kept_is_served_again():
    install()
    assert info("web")["state"] == "stopped"
    noid("start", "web")
    assert noid("exec", "web", "--", "cat", "/root/file") == "precious\n"
    went_on("sleeper", seen["sleeper"])  # wakes with its memory


def test_a_purge_leaves_nothing_at_all():
    assert len(vmms()) == 2
    said = uninstall("--purge")
    assert "kept" not in said
    assert not DATA.exists()
    expect_same(without_what_is_kept(initial), host_state())
