"""The noid program against a real server and a real microVM, which most of these tests share."""
import contextlib
import fcntl
import hashlib
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import termios
import threading
import time

import pytest

from conftest import BIN, Cli, GUEST_MEMORY

VM = "cli-vm"
DEADLINE = 60


@pytest.fixture(scope="module")
def api(server):
    api = server.make_user("cli")
    yield api
    server.command("user", "delete", "cli")


@pytest.fixture(scope="module")
def noid(api, tmp_path_factory):
    """The program as the user of `api`, with the shared VM as the active one."""
    cli = Cli(tmp_path_factory.mktemp("home"), api)
    done = cli("create", VM, "--mem", str(GUEST_MEMORY), "--label", "purpose=cli", "-e", "FROM_VM=yes")
    assert done.stdout == f"VM '{VM}' created (state: running)\n"
    cli("use", VM)
    return cli


def guest(noid, script, **kwargs):
    return noid("exec", "--", "sh", "-c", script, **kwargs)


def digest(path):
    with open(path, "rb") as stream:
        sha = hashlib.sha256()
        for block in iter(lambda: stream.read(1 << 20), b""):
            sha.update(block)
    return sha.hexdigest()


class Reader:
    """What a descriptor gives, collected until something is in it."""

    def __init__(self, fd):
        self.fd = fd
        self.data = b""

    def until(self, pattern):
        """Reads on until `pattern` is found behind what was found before, and gives what is up to there."""
        limit = time.monotonic() + DEADLINE
        while not (found := re.search(pattern, self.data)):
            ready, _, _ = select.select([self.fd], [], [], max(0, limit - time.monotonic()))
            assert ready, f"no {pattern!r} in {self.data!r}"
            try:
                piece = os.read(self.fd, 65536)
            except OSError:  # a terminal whose other side is gone
                piece = b""
            assert piece, f"ended without {pattern!r}: {self.data!r}"
            self.data += piece
        taken, self.data = self.data[:found.end()], self.data[found.end():]
        return taken


# Life cycle and lists.


def test_list_shows_the_table_that_scripts_know(noid):
    lines = noid("list").stdout.splitlines()
    assert re.fullmatch(r"\+(-+\+){5}", lines[0])
    assert [cell.strip() for cell in lines[1].strip("|").split("|")] == ["name", "state", "cpus", "mem (MiB)", "created"]
    row = [cell.strip() for cell in lines[3].strip("|").split("|")]
    assert row[:4] == [VM, "running", "1", str(GUEST_MEMORY)]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", row[4])


def test_list_filters_and_other_forms(noid):
    assert noid("list", "-q").stdout == f"{VM}\n"
    assert noid("list", "-q", "--label", "purpose=cli", "--state", "running", "--prefix", "cli-").stdout == f"{VM}\n"
    for nothing in (("--label", "purpose=other"), ("--state", "stopped"), ("--prefix", "x")):
        assert noid("list", *nothing).stdout == "No VMs found.\n"
        assert json.loads(noid("list", "--json", *nothing).stdout) == []
    assert [vm["name"] for vm in json.loads(noid("list", "--json").stdout)] == [VM]


def test_info_has_five_lines_and_more_on_demand(noid):
    lines = noid("info").stdout.splitlines()
    assert lines[:4] == [f"Name:    {VM}", "State:   running", "CPUs:    1", f"Memory:  {GUEST_MEMORY} MiB"]
    assert len(lines) == 5 and lines[4].startswith("Created: ")
    everything = noid("info", "--all").stdout
    assert "Uptime:" in everything and "Label:   purpose=cli" in everything
    assert json.loads(noid("info", "--json").stdout)["labels"] == {"purpose": "cli"}


def test_whoami_and_version(noid, api):
    assert noid("whoami").stdout.splitlines()[0] == "User: cli"
    assert json.loads(noid("whoami", "--json").stdout)["name"] == "cli"
    version = json.loads(noid("version", "--json").stdout)
    assert version["server"]["version"] == version["client"]["version"]


def test_unknown_and_taken_names(noid):
    done = noid("info", "missing", check=False)
    assert (done.returncode, done.stderr) == (1, "Error: server error (404): VM 'missing' not found\n")
    taken = noid("create", VM, check=False)
    assert (taken.returncode, taken.stderr) == (1, f"Error: server error (409): VM '{VM}' already exists\n")
    error = json.loads(noid("info", "missing", "--json", check=False).stderr)
    assert error["code"] == "not_found"
    # Scripts rely on this.
    assert noid("destroy", "missing").stdout == "VM 'missing' destroyed\n"


def test_a_wrong_token_is_told_what_to_do(noid):
    done = noid("--token", "0" * 64, "list", check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: server error (401): invalid token")
    assert "noid auth setup" in done.stderr


# exec.


def test_exec_passes_output_on_as_it_is(noid):
    done = guest(noid, "printf 'no newline'; printf 'apart' >&2")
    assert (done.stdout, done.stderr) == ("no newline", "apart")


@pytest.mark.parametrize("script, code", [("true", 0), ("exit 7", 7), ("exit 255", 255), ("kill -TERM $$", 143)])
def test_exec_exits_as_the_command_did(noid, script, code):
    assert guest(noid, script, check=False).returncode == code


def test_exec_of_what_is_not_there_is_127(noid):
    done = noid("exec", "--", "/no/such/program", check=False)
    assert done.returncode == 127
    assert "/no/such/program" in done.stderr


def test_exec_in_a_vm_that_is_not_there(noid):
    done = noid("exec", "missing", "--", "true", check=False)
    assert done.returncode == 1
    assert "VM 'missing' not found" in done.stderr


def test_exec_sets_environment_directory_and_user(noid):
    done = noid("exec", "-e", "A=1 2", "-e", "B=", "-w", "/tmp", "-u", "1000:1000", "--",
                "sh", "-c", 'echo "$A|$B|$FROM_VM|$PWD|$(id -u):$(id -g)"')
    assert done.stdout == "1 2||yes|/tmp|1000:1000\n"


def test_exec_is_transparent_for_every_byte(noid):
    every = bytes(range(256)) * 300 + b"\x00~.\r\n~.\x04\x1a"
    done = noid("exec", "--", "cat", input=every, text=False)
    assert (done.stdout, done.stderr) == (every, b"")


def test_exec_without_input_sees_the_end_of_it(noid):
    assert noid("exec", "-n", "--", "wc", "-c", input="dropped").stdout.strip() == "0"
    assert noid("exec", "--", "wc", "-c").stdout.strip() == "0"  # /dev/null


def test_exec_reads_and_writes_files_as_well_as_pipes(noid, tmp_path):
    (tmp_path / "in").write_bytes(os.urandom(200_000))
    with open(tmp_path / "in", "rb") as source, open(tmp_path / "out", "wb") as target:
        done = subprocess.run([BIN / "noid", "exec", "--", "cat"], stdin=source, stdout=target, timeout=DEADLINE,
                              env=noid.environment, cwd=noid.home)
    assert done.returncode == 0
    assert (tmp_path / "in").read_bytes() == (tmp_path / "out").read_bytes()


def stream_both_ways(noid, tmp_path, size):
    """Random bytes into the guest and other ones out of it, with equal hashes at both ends."""
    block = os.urandom(1 << 20)
    sha = hashlib.sha256()
    into = noid.start("exec", "--", "sha256sum", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    for i in range(size >> 20):
        piece = i.to_bytes(8, "big") + block[8:]
        sha.update(piece)
        into.stdin.write(piece)
    said, _ = into.communicate(timeout=DEADLINE)
    assert (into.returncode, said.split()[0].decode()) == (0, sha.hexdigest())

    # A generator that is quick under emulation; its hash goes to stderr.
    script = (f"mkfifo /tmp/pipe.$$; sha256sum < /tmp/pipe.$$ >&2 & "
              f"head -c {size} /dev/urandom | tee /tmp/pipe.$$; wait; rm /tmp/pipe.$$")
    with open(tmp_path / "out", "wb") as target:
        out = noid.start("exec", "-n", "--", "sh", "-c", script, stdout=target, stderr=subprocess.PIPE)
        _, said = out.communicate(timeout=3600)
    assert out.returncode == 0, said
    assert os.path.getsize(tmp_path / "out") == size
    assert said.split()[0].decode() == digest(tmp_path / "out")


def test_exec_streams_megabytes_both_ways(noid, tmp_path):
    stream_both_ways(noid, tmp_path, 24 << 20)


@pytest.mark.long
def test_exec_streams_a_gibibyte_both_ways(noid, tmp_path):
    stream_both_ways(noid, tmp_path, 1 << 30)


def test_exec_keeps_its_memory_small_before_a_slow_reader(noid):
    client = noid.start("exec", "-n", "--", "head", "-c", "100000000", "/dev/zero", stdout=subprocess.PIPE)
    try:
        assert client.stdout.read(1 << 20) == bytes(1 << 20)
        # Nobody reads on: what the windows allow arrives and no more.
        stopped = noid("exec", "--json", "--", "true")
        assert json.loads(stopped.stdout)["exit_code"] == 0  # one slow reader does not stop another session
        with open(f"/proc/{client.pid}/status") as status:
            resident = int(re.search(r"VmRSS:\s+(\d+)", status.read())[1])
        assert resident < 400_000  # KiB, with the sanitizers' share
    finally:
        client.kill()
        client.wait()
        client.stdout.close()


def test_exec_times_out_with_124(noid):
    done = noid("exec", "--timeout", "500ms", "--", "sleep", "60", check=False)
    assert (done.returncode, done.stderr) == (124, "exec timed out\n")


def test_exec_ends_when_nobody_reads_its_output(noid):
    client = noid.start("exec", "--label", "endless", "-n", "--", "yes", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert client.stdout.readline() == b"y\n"
    client.stdout.close()
    assert client.wait(DEADLINE) == 128 + signal.SIGPIPE
    client.stderr.close()
    assert "endless" not in noid("ps").stdout


def test_exec_under_json_is_one_object(noid):
    done = noid("exec", "--json", "--", "sh", "-c", "echo out; echo err >&2; exit 3", check=False)
    answer = json.loads(done.stdout)
    assert done.returncode == 3
    assert (answer["stdout"], answer["stderr"], answer["exit_code"]) == ("out\n", "err\n", 3)
    echoed = noid("exec", "--json", "-i", "--", "cat", input="some input")
    assert json.loads(echoed.stdout)["stdout"] == "some input"


def test_interrupt_goes_to_the_command(noid):
    client = noid.start("exec", "-n", "--", "sh", "-c",
                        "trap 'echo caught; exit 5' INT; echo ready; while :; do sleep 0.1; done",
                        stdout=subprocess.PIPE)
    assert client.stdout.readline() == b"ready\n"
    client.send_signal(signal.SIGINT)
    assert client.stdout.read() == b"caught\n"
    assert client.wait(DEADLINE) == 5
    client.stdout.close()


def test_termination_kills_the_command(noid):
    client = noid.start("exec", "--label", "terminated", "-n", "--", "sh", "-c", "echo ready; sleep 1000",
                        stdout=subprocess.PIPE)
    assert client.stdout.readline() == b"ready\n"
    client.send_signal(signal.SIGTERM)
    assert client.wait(DEADLINE) in (128 + signal.SIGTERM, 128 + signal.SIGKILL)
    client.stdout.close()
    assert "terminated" not in noid("ps").stdout


# Terminals.


@contextlib.contextmanager
def at_terminal(noid, *arguments, size=(24, 80)):
    """The program at a terminal of its own: the terminal's other side, and the process."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    before = termios.tcgetattr(theirs)
    client = subprocess.Popen([BIN / "noid", *arguments], stdin=theirs, stdout=theirs, stderr=theirs,
                              start_new_session=True, env={**noid.environment, "TERM": "xterm"}, cwd=noid.home,
                              preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
    try:
        yield ours, client
        assert termios.tcgetattr(theirs) == before  # as it was
    finally:
        client.kill()
        client.wait()
        os.close(ours)
        os.close(theirs)


def test_a_terminal_is_a_terminal_in_the_guest_and_follows_resizing(noid):
    script = "test -t 0 && test -t 1 && stty size; trap 'stty size; exit 9' WINCH; echo ready; while :; do sleep 0.1; done"
    with at_terminal(noid, "exec", "-t", "--", "sh", "-c", script, size=(30, 100)) as (terminal, client):
        screen = Reader(terminal)
        assert b"30 100" in screen.until(rb"ready\r\n")
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        os.kill(client.pid, signal.SIGWINCH)
        screen.until(rb"40 120")
        assert client.wait(DEADLINE) == 9


def test_a_terminal_passes_control_characters_to_the_guest(noid):
    with at_terminal(noid, "exec", "-t", "--", "sh") as (terminal, client):
        screen = Reader(terminal)
        os.write(terminal, b"sh -c 'echo $((40+2)); exec sleep 1000'\r")  # says it when it is in the foreground
        screen.until(rb"[\n ]42\r\n")
        os.write(terminal, b"\x03")  # interrupts the sleep, neither the shell nor the client
        os.write(terminal, b"echo $((50+2)); exit 4\r")
        screen.until(rb"[\n ]52\r\n")
        assert client.wait(DEADLINE) == 4


def test_tilde_dot_detaches_and_attach_comes_back(noid):
    with at_terminal(noid, "exec", "-t", "--label", "kept-shell", "--", "sh") as (terminal, client):
        screen = Reader(terminal)
        os.write(terminal, b"x=$((6*7)); echo set-$x\r")
        screen.until(rb"[\n ]set-42\r\n")
        os.write(terminal, b"\r~.")
        said = screen.until(rb"come back with: noid attach \S+ ([0-9a-f]+)")
        session = said.split()[-1].decode()
        assert client.wait(DEADLINE) == 0
    assert "kept-shell" in noid("ps").stdout
    with at_terminal(noid, "attach", session[:8]) as (terminal, client):
        screen = Reader(terminal)
        os.write(terminal, b"echo still-$x\r")
        screen.until(rb"[\n ]still-42\r\n")
        os.write(terminal, b"exit 6\r")
        assert client.wait(DEADLINE) == 6


# Sessions that outlive their clients and connections.


class Cutter:
    """A TCP proxy to the server that can cut every connection through it."""

    def __init__(self, port):
        self.target = ("127.0.0.1", port)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = "http://127.0.0.1:%d" % self.listener.getsockname()[1]
        self.passed = 0
        self.cut_after = []  # by itself, when so many bytes have passed
        self.connections = []
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                server = socket.create_connection(self.target)
                self.connections += [client, server]
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=self.pump, args=(source, sink), daemon=True).start()

    def pump(self, source, sink):
        with contextlib.suppress(OSError):
            while piece := source.recv(65536):
                sink.sendall(piece)
                self.passed += len(piece)
                if self.cut_after and self.passed >= self.cut_after[0]:
                    self.cut_after.pop(0)
                    self.cut()
            sink.shutdown(socket.SHUT_WR)

    def cut(self):
        connections, self.connections = self.connections, []
        for each in connections:
            with contextlib.suppress(OSError):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # reset
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)  # closing alone would leave accept() one more connection
        self.listener.close()
        self.cut()


@pytest.fixture
def cutter(server):
    proxy = Cutter(server.port)
    yield proxy
    with contextlib.suppress(OSError):  # the test has closed it
        proxy.close()


def test_output_survives_broken_connections(noid, cutter):
    size, cuts = 12_000_000, 3
    client = noid.start("--server", cutter.url, "exec", "-n", "--", "sh", "-c", f"seq 1 100000000 | head -c {size}",
                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    received = b""
    for i in range(cuts):
        received += client.stdout.read(size // (cuts + 1))
        cutter.cut()
    received += client.stdout.read()
    said = client.stderr.read()
    assert client.wait(DEADLINE) == 0, said
    expected = subprocess.run(f"seq 1 100000000 | head -c {size}", shell=True, capture_output=True).stdout
    assert received == expected
    assert said.count(b"resumed") >= 1


def test_input_survives_broken_connections(noid, cutter):
    data = os.urandom(12_000_000)
    client = noid.start("--server", cutter.url, "exec", "--", "sha256sum",
                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    for at in range(0, len(data), 4_000_000):
        client.stdin.write(data[at:at + 4_000_000])
        client.stdin.flush()
        cutter.cut()
    said, _ = client.communicate(timeout=DEADLINE)
    assert (client.returncode, said.split()[0].decode()) == (0, hashlib.sha256(data).hexdigest())


def test_a_connection_that_is_lost_for_good_is_exit_code_255(noid, cutter):
    client = noid.start("--server", cutter.url, "exec", "-n", "--hold", "1s", "--label", "lost", "--", "sh", "-c",
                        "echo ready; sleep 1000", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert client.stdout.readline() == b"ready\n"
    cutter.close()
    assert client.wait(DEADLINE) == 255
    said = client.stderr.read().decode()
    client.stdout.close()
    client.stderr.close()
    assert "Error: " in said and f"noid attach {VM}" in said


def session_of(noid, label):
    found = [each for each in json.loads(noid("ps", "--json").stdout) if each["label"] == label]
    assert len(found) == 1, found
    return found[0]


def test_a_killed_client_comes_back_and_loses_nothing(noid):
    size = 6_000_000
    client = noid.start("exec", "-n", "--label", "survivor", "--", "sh", "-c", f"seq 1 100000000 | head -c {size}; exit 8",
                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    first = client.stdout.read(1_000_000)
    client.kill()
    # What the client had written is in the pipe: it was delivered.
    first += client.stdout.read()
    client.wait()
    client.stdout.close()
    session = session_of(noid, "survivor")["id"]
    done = noid("attach", session, "--from-stdout", str(len(first)), text=False, check=False)
    expected = subprocess.run(f"seq 1 100000000 | head -c {size}", shell=True, capture_output=True).stdout
    assert first + done.stdout == expected
    assert (done.returncode, done.stderr) == (8, b"")


def test_detached_commands_are_listed_and_attached(noid):
    session = noid("exec", "-d", "--label", "background", "--", "sh", "-c",
                   "echo begun; while [ ! -e /tmp/go ]; do sleep 0.1; done; echo ended; exit 2").stdout.strip()
    assert re.fullmatch("[0-9a-f]{16}", session)
    table = noid("ps").stdout
    assert session in table and "background" in table
    client = noid.start("attach", session, stdout=subprocess.PIPE)
    assert client.stdout.readline() == b"begun\n"
    guest(noid, "touch /tmp/go")
    assert client.stdout.read() == b"ended\n"
    assert client.wait(DEADLINE) == 2
    client.stdout.close()
    started = json.loads(noid("exec", "-d", "--json", "--", "sh", "-c", "echo out; echo err >&2; exit 3").stdout)
    assert re.fullmatch("[0-9a-f]{16}", started["session"])
    done = noid("attach", "--json", started["session"], check=False)
    ended = json.loads(done.stdout)
    assert (ended["stdout"], ended["stderr"], ended["exit_code"], done.returncode) == ("out\n", "err\n", 3, 3)


def test_attach_to_nothing_says_where_to_look(noid):
    done = noid("attach", "0123456789abcdef", check=False)
    assert done.returncode == 1
    assert f"`noid ps {VM}`" in done.stderr


# Files.


def test_cp_moves_files_both_ways_with_their_modes(noid, tmp_path):
    tool = tmp_path / "tool"
    tool.write_bytes(os.urandom(3_000_001))
    tool.chmod(0o750)
    noid("cp", str(tool), f"{VM}:/tmp/")
    assert guest(noid, "stat -c %a:%s /tmp/tool; sha256sum /tmp/tool").stdout.split()[:2] == ["750:3000001", digest(tool)]
    back = json.loads(noid("cp", "--json", ":/tmp/tool", str(tmp_path / "back")).stdout)
    assert back["bytes"] == 3_000_001
    assert digest(tmp_path / "back") == digest(tool)
    assert (tmp_path / "back").stat().st_mode & 0o777 == 0o750
    assert sorted(each.name for each in tmp_path.iterdir()) == ["back", "tool"]


def test_cp_moves_empty_files_and_odd_names(noid, tmp_path):
    name = "a b&c=ü%?"
    (tmp_path / name).touch()
    noid("cp", str(tmp_path / name), ":/tmp")
    noid("cp", f":/tmp/{name}", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == b""


def test_cp_takes_stdin_and_gives_stdout(noid):
    data = os.urandom(100_000)
    noid("cp", "-", ":/tmp/from-stdin", input=data, text=False)
    assert noid("cp", ":/tmp/from-stdin", "-", text=False).stdout == data


def test_cp_moves_directories_both_ways(noid, tmp_path):
    tree = tmp_path / "tree"
    (tree / "below/empty").mkdir(parents=True)
    (tree / "below/file").write_text("content")
    (tree / "run").write_text("#!/bin/sh\n")
    (tree / "run").chmod(0o755)
    (tree / "link").symlink_to("below/file")
    noid("cp", str(tree), ":/tmp")  # into a directory that is there
    noid("cp", str(tree), ":/tmp/renamed")  # as a new one
    assert guest(noid, "cat /tmp/tree/link; stat -c %a:%u /tmp/renamed/run").stdout == "content755:0\n"
    noid("cp", ":/tmp/tree", str(tmp_path / "new"))
    assert (tmp_path / "new/below/file").read_text() == "content"
    assert (tmp_path / "new/below/empty").is_dir()
    assert os.readlink(tmp_path / "new/link") == "below/file"
    assert os.access(tmp_path / "new/run", os.X_OK)
    into = tmp_path / "into"
    into.mkdir()
    noid("cp", ":/tmp/tree", str(into))
    assert (into / "tree/below/file").exists()


def test_cp_says_what_is_wrong(noid, tmp_path):
    for arguments, text in (
        ((":/no/such/file", str(tmp_path / "x")), "/no/such/file"),
        ((str(tmp_path / "missing"), ":/tmp/x"), "missing"),
        (("a", "b"), "neither side is in a VM"),
        ((":/a", ":/b"), "both sides are in VMs"),
        (("a", f"{VM}:b"), "begins with a slash"),
        ((":/etc/hostname", str(tmp_path / "no/dir")), "no/dir"),
    ):
        done = noid("cp", *arguments, check=False)
        assert done.returncode == 1, arguments
        assert text in done.stderr, arguments
    assert list(tmp_path.iterdir()) == []


def test_cp_goes_on_where_a_connection_broke(noid, cutter, tmp_path):
    big = tmp_path / "big"
    big.write_bytes(os.urandom(8_000_001))
    cutter.cut_after = [2_000_000, 5_000_000]
    up = noid("--server", cutter.url, "cp", str(big), ":/tmp/big")
    assert cutter.cut_after == [] and up.stderr.count("resumed") >= 1
    assert cutter.passed < 12_000_000  # it did not begin again
    assert guest(noid, "sha256sum /tmp/big; ls -A /tmp | grep -c noid || true").stdout.split()[::2] == [digest(big), "0"]
    cutter.passed, cutter.cut_after = 0, [2_000_000, 5_000_000]
    down = noid("--server", cutter.url, "cp", ":/tmp/big", str(tmp_path / "back"))
    assert cutter.cut_after == [] and down.stderr.count("resumed") >= 1
    assert cutter.passed < 12_000_000
    assert digest(tmp_path / "back") == digest(big)


def test_cp_of_directories_goes_on_where_a_connection_broke(noid, cutter, tmp_path):
    tree = tmp_path / "tree"
    tree.mkdir()
    for i in range(6):
        (tree / f"part{i}").write_bytes(os.urandom(1_000_000))
    cutter.cut_after = [1_500_000, 4_000_000]
    noid("--server", cutter.url, "cp", str(tree), ":/tmp/cut-tree")
    assert cutter.cut_after == []
    cutter.passed, cutter.cut_after = 0, [1_500_000, 4_000_000]
    noid("--server", cutter.url, "cp", ":/tmp/cut-tree", str(tmp_path / "back"))
    assert cutter.cut_after == []
    for each in tree.iterdir():
        assert digest(tmp_path / "back" / each.name) == digest(each)


def test_cp_goes_on_after_a_restart_of_the_server(noid, server):
    data = os.urandom(6_000_000)
    copying = noid.start("cp", "-", ":/tmp/over-a-restart", stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    copying.stdin.write(data[:3_000_000])
    copying.stdin.flush()
    server.stop()
    server.start()
    _, said = copying.communicate(data[3_000_000:], timeout=DEADLINE)
    assert copying.returncode == 0, said
    assert b"resumed" in said
    assert guest(noid, "sha256sum /tmp/over-a-restart").stdout.split()[0] == hashlib.sha256(data).hexdigest()


def test_cp_that_is_interrupted_leaves_nothing(noid, tmp_path):
    copying = noid.start("cp", "-", ":/tmp/interrupted", stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    copying.stdin.write(b"x" * 3_000_000)  # more than the pipe and the window hold: the guest has taken some
    copying.stdin.flush()
    copying.send_signal(signal.SIGINT)
    assert copying.wait(DEADLINE) == 128 + signal.SIGINT
    copying.stdin.close()
    copying.stderr.close()
    assert guest(noid, "ls -A /tmp | grep -c -e interrupted -e noid-", check=False).stdout == "0\n"


# Console and logs.


def test_logs_have_the_boot_and_follow_what_comes(noid):
    assert noid("logs").stdout != ""
    assert len(noid("logs", "--tail", "10", text=False).stdout) <= 10
    follower = noid.start("logs", "-f", "--tail", "0", stdout=subprocess.PIPE)
    try:
        guest(noid, "echo marker-of-logs > /dev/console")
        Reader(follower.stdout.fileno()).until(rb"marker-of-logs")
        follower.send_signal(signal.SIGINT)
        assert follower.wait(DEADLINE) == 128 + signal.SIGINT
    finally:
        follower.kill()
        follower.wait()
        follower.stdout.close()


def test_console_shows_output_and_exit_detaches(noid):
    with at_terminal(noid, "console") as (terminal, client):
        screen = Reader(terminal)
        screen.until(rf"Attached to '{VM}' serial console.\r\nType 'exit' to detach.\r\n".encode())
        guest(noid, "echo marker-of-console > /dev/console")
        screen.until(rb"marker-of-console")
        os.write(terminal, b"exit\r")
        screen.until(rb"\r\n--- Detached ---\r?\n")
        assert client.wait(DEADLINE) == 0


def test_console_with_environment_is_a_shell_that_has_it(noid):
    with at_terminal(noid, "console", "-e", "COLOUR=blue") as (terminal, client):
        screen = Reader(terminal)
        os.write(terminal, b"echo is-$COLOUR; exit\r")
        screen.until(rb"[\r\n ]is-blue\r\n")
        assert client.wait(DEADLINE) == 0


# Ports.


# One connection after the other: reads to the end and answers with the bytes in reverse.
REVERSING_SERVER = (
    "my $l = IO::Socket::INET->new(Listen => 5, LocalAddr => '127.0.0.1:7777', ReuseAddr => 1); $| = 1;"
    "print 'listening'; while (my $c = $l->accept) { local $/; my $d = <$c>; print $c scalar reverse $d; close $c }")


def test_forward_carries_connections(noid):
    serving = noid.start("exec", "-n", "--", "perl", "-MIO::Socket::INET", "-e", REVERSING_SERVER,
                         stdout=subprocess.PIPE)
    Reader(serving.stdout.fileno()).until(rb"listening")
    forward = noid.start("forward", "--json", "0:7777", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        port = json.loads(forward.stdout.readline())["port"]
        data = os.urandom(1_000_000)
        with socket.create_connection(("127.0.0.1", port), DEADLINE) as connection:
            writer = threading.Thread(target=lambda: (connection.sendall(data), connection.shutdown(socket.SHUT_WR)))
            writer.start()
            answer = b""
            while piece := connection.recv(65536):
                answer += piece
            writer.join()
        assert answer == data[::-1]
        forward.send_signal(signal.SIGTERM)
        assert forward.wait(DEADLINE) == 128 + signal.SIGTERM
    finally:
        for each in (forward, serving):
            each.kill()
            each.communicate()


# Other VMs.


def test_run_makes_a_vm_for_one_command(noid):
    done = noid("run", "--mem", str(GUEST_MEMORY), "--", "sh", "-c", "cat; exit 3", input="through", check=False)
    assert (done.returncode, done.stdout) == (3, "through")
    assert noid("list", "-q").stdout == f"{VM}\n"


def test_stop_and_start_keep_the_disk(noid):
    guest(noid, "echo kept > /root/kept; sync")
    assert noid("stop").stdout == f"VM '{VM}' stopped\n"
    assert json.loads(noid("info", "--json").stdout)["state"] == "stopped"
    refused = noid("exec", "--", "true", check=False)
    assert refused.returncode == 1 and "noid start" in refused.stderr or "stopped" in refused.stderr
    assert noid("start").stdout == f"VM '{VM}' started\n"
    assert guest(noid, "cat /root/kept").stdout == "kept\n"


def test_destroy_removes_the_vm(noid):
    assert noid("destroy").stdout == f"VM '{VM}' destroyed\n"
    assert noid("list").stdout == "No VMs found.\n"
