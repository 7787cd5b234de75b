"""What of root is left in a server that root has started, and where."""
import ctypes
import os
import pathlib
import select
import signal
import socket
import subprocess

import pytest

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

# CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, SYS_CHROOT, SYS_PTRACE, SYS_ADMIN,
# SYS_RESOURCE, MKNOD: docs/adr/0006.
KEPT = sum(1 << capability for capability in (0, 1, 3, 4, 5, 6, 7, 8, 18, 19, 21, 24, 27))
VMM_USERS = range(2_000_000, 2_016_384)


def status_of(task):
    return dict(line.split(":", 1) for line in (pathlib.Path(task) / "status").read_text().splitlines())


def privileged_part(server):
    children = pathlib.Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    found = [int(pid) for pid in children if pathlib.Path(f"/proc/{pid}/comm").read_text() == "noid-privileged\n"]
    assert len(found) == 1, children
    return found[0]


def pidfd_wait(pid, seconds=30):
    """Until that process has ended."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([pidfd], [], [], seconds)[0], f"process {pid} still runs"
    finally:
        os.close(pidfd)


def in_place_of(server, action):
    """What `action` returns in a process that has the server's user and sees what it sees."""
    status = status_of(f"/proc/{server.process.pid}")
    uid, gid = (int(status[key].split()[0]) for key in ("Uid", "Gid"))
    groups = [int(group) for group in status["Groups"].split()]
    mounts = os.open(f"/proc/{server.process.pid}/ns/mnt", os.O_RDONLY)
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            assert ctypes.CDLL(None, use_errno=True).setns(mounts, 0) == 0
            os.setgroups(groups)
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            try:
                said = repr(action())
            except OSError as error:
                said = type(error).__name__
            os.write(theirs, said.encode())
        finally:
            os._exit(0)
    os.close(theirs)
    os.close(mounts)
    with os.fdopen(ours) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


def inet_sockets(pid):
    known = set()
    for table in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6", "icmp", "packet", "netlink"):
        path = pathlib.Path(f"/proc/{pid}/net/{table}")
        if path.exists():
            for line in path.read_text().splitlines()[1:]:
                known.update(f"socket:[{word}]" for word in line.split() if word.isdigit())
    return [link for entry in os.scandir(f"/proc/{pid}/fd") if (link := os.readlink(entry)) in known]


@pytest.fixture(scope="module")
def running(server, shared_client, vm):
    return server


def test_what_talks_to_the_internet_has_nothing_of_root(running):
    for task in pathlib.Path(f"/proc/{running.process.pid}/task").iterdir():
        status = status_of(task)
        assert all(int(uid) not in (0, *VMM_USERS) for uid in status["Uid"].split()), status["Uid"]
        assert all(int(gid) not in (0, *VMM_USERS) for gid in status["Gid"].split()), status["Gid"]
        assert "0" not in status["Groups"].split()
        for capabilities in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(status[capabilities], 16) == 0, capabilities
        assert status["NoNewPrivs"].strip() == "1"
        assert status["Umask"].strip() == "0077"
    assert inet_sockets(running.process.pid), "this is the part that has them"


def test_the_privileged_part_has_no_network_and_one_thread(running):
    part = privileged_part(running)
    assert len(list(pathlib.Path(f"/proc/{part}/task").iterdir())) == 1
    status = status_of(f"/proc/{part}")
    for capabilities in ("CapPrm", "CapEff", "CapBnd"):
        assert int(status[capabilities], 16) & ~KEPT == 0, capabilities
    assert int(status["CapInh"], 16) == int(status["CapAmb"], 16) == 0
    assert status["NoNewPrivs"].strip() == "1"
    assert inet_sockets(part) == []


def test_in_the_servers_place_nothing_of_others_is_had(running, tmp_path):
    secret = pathlib.Path(running.directory) / "secret"
    secret.write_text("root's")
    secret.chmod(0o600)
    for path in ("/etc/shadow", secret, running.config, f"/proc/{privileged_part(running)}/mem"):
        assert in_place_of(running, lambda path=path: open(path).read()) in ("PermissionError", "FileNotFoundError")
    vmm = running.vmm_processes()[0]
    assert status_of(f"/proc/{vmm}")["Uid"].split()[0] != status_of(f"/proc/{running.process.pid}")["Uid"].split()[0]
    for pid in (1, privileged_part(running), vmm):
        assert in_place_of(running, lambda pid=pid: os.kill(pid, signal.SIGKILL)) == "PermissionError"
    assert in_place_of(running, lambda: open(f"/proc/{vmm}/mem").read()) == "PermissionError"
    # What root reads at the next start is not the server's to change.
    config = running.data_dir / "server.toml"
    config.write_text("")
    for attempt in (lambda: open(config, "w"), lambda: os.unlink(config), lambda: os.rename(config, f"{config}.x")):
        assert in_place_of(running, attempt) == "PermissionError"
    config.unlink()


@pytest.mark.parametrize("victim", ["server", "privileged part"])
def test_when_one_half_is_killed_the_other_ends_and_vms_run_on(server_factory, victim):
    server = server_factory().start()
    client = server.make_user("ann")
    client.create("web")
    client.exec("web", "sh", "-c", "echo kept > /dev/shm/mark")
    vmm = server.vmm_processes()
    part = privileged_part(server)
    if victim == "server":
        server.stop(signal.SIGKILL)
        pidfd_wait(part)
    else:
        os.kill(part, signal.SIGKILL)
        assert server.process.wait(60) == 1
        server.process = None
        assert "the privileged part of this server has ended" in server.log.read_text()
    assert server.vmm_processes() == vmm
    server.start()
    assert client.exec("web", "cat", "/dev/shm/mark")["stdout"] == "kept\n"
    assert server.vmm_processes() == vmm
    answer = client.post("/v1/vms/web/checkpoints", json={"label": "later"})
    assert answer.status_code == 201, answer.text
    client.destroy("web")
    assert server.vmm_processes() == []


def test_what_a_vmm_has_closed_to_the_server_goes_with_its_vm(server_factory):
    """Directories as a Firecracker makes them that its guest has taken over: the server's user may not enter."""
    server = server_factory().start()
    client = server.make_user("ann")
    client.create("web")
    vmm = int(status_of(f"/proc/{server.vmm_processes()[0]}")["Uid"].split()[0])
    assert vmm in VMM_USERS
    (directory,) = server.data_dir.glob("users/*/vms/web")
    closed = directory / "closed"
    (closed / "inside").mkdir(parents=True)
    (closed / "inside" / "file").write_text("x")
    for path in (closed / "inside" / "file", closed / "inside", closed):
        os.chown(path, vmm, vmm)
        path.chmod(0)
    assert in_place_of(server, lambda: os.listdir(closed)) == "PermissionError"
    client.destroy("web")
    assert list(directory.parent.iterdir()) == []


def owners(server):
    """Who has what the server keeps: uids, without those of VMMs."""
    found = {}
    for name in ("noid.db", "users", "templates", "golden", "lock", "server-id"):
        place = server.data_dir / name
        for path in [place, *place.rglob("*")] if place.is_dir() else [place] if place.exists() else []:
            uid = path.lstat().st_uid
            if uid not in VMM_USERS:
                found.setdefault(uid, []).append(str(path))
    return found


def test_vms_of_a_server_that_was_root_are_taken_over(server_factory):
    server = server_factory(vmm={"jail": "never"}).start()
    client = server.make_user("ann")
    client.create("web")
    client.exec("web", "sh", "-c", "echo kept > /dev/shm/mark")
    assert status_of(f"/proc/{server.process.pid}")["Uid"].split()[0] == "0", "without confinement it stays root"
    vmm = server.vmm_processes()
    server.stop()
    assert list(owners(server)) == [0]

    text = server.config.read_text()
    server.config.write_text(text.replace('jail = "never"\n', ""))
    server.start()
    uid = int(status_of(f"/proc/{server.process.pid}")["Uid"].split()[0])
    assert uid != 0 and list(owners(server)) == [uid], owners(server)
    assert client.exec("web", "cat", "/dev/shm/mark")["stdout"] == "kept\n"
    assert server.vmm_processes() == vmm
    saved = client.post("/v1/vms/web/checkpoints", json={"label": "later"})
    assert saved.status_code == 201, saved.text
    answer = client.post("/v1/vms/web/restore", json={"checkpoint_id": saved.json()["id"]})
    assert answer.status_code == 200, answer.text
    assert client.exec("web", "cat", "/dev/shm/mark")["stdout"] == "kept\n"
    client.destroy("web")


def test_roots_commands_leave_the_server_nothing_that_it_cannot_use(server_factory):
    server = server_factory()
    server.make_user("before")
    server.start().stop()
    ann = server.make_user("ann")
    server.command("fsck", "--repair")
    server.command("golden", "status")
    assert 0 not in owners(server), owners(server)[0]
    server.start()
    assert ann.get("/v1/vms").status_code == 200
    uid = int(status_of(f"/proc/{server.process.pid}")["Uid"].split()[0])
    assert list(owners(server)) == [uid]
    # Nothing is left of what the commands made two of.
    assert subprocess.run(["pgrep", "-c", "-f", str(server.config)], capture_output=True,
                          text=True).stdout.strip() == "2"


def test_a_port_below_1024_is_bound_before_root_is_given_up(server_factory):
    for port in range(1023, 600, -1):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                break
    server = server_factory(server={"listen": f"127.0.0.1:{port}"}).start()
    server.url = f"http://127.0.0.1:{port}"
    assert server.anonymous().get("/health").status_code == 200
    assert int(status_of(f"/proc/{server.process.pid}")["Uid"].split()[0]) != 0


def test_a_user_that_is_not_there_is_named(server_factory):
    server = server_factory(server={"user": "nobody-called-so"})
    done = server.command("serve", check=False)
    assert done.returncode == 1 and "nobody-called-so" in done.stderr
    server = server_factory(server={"user": "root"})
    assert "must not be root" in server.command("serve", check=False).stderr
