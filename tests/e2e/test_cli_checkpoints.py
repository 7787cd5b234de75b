"""Checkpoints, rewinding, clones and suspension with the noid program, on one real microVM."""
import json
import re
import signal
import socket
import subprocess
import time

import pytest

from conftest import Cli, GUEST_MEMORY

VM = "saved-vm"


@pytest.fixture(scope="module")
def noid(server, tmp_path_factory):
    """The program as a user of its own, with the VM as the active one."""
    api = server.make_user("cli-checkpoints")
    cli = Cli(tmp_path_factory.mktemp("home"), api)
    cli("create", VM, "--mem", str(GUEST_MEMORY))
    cli("use", VM)
    yield cli
    server.command("user", "delete", "cli-checkpoints")


def guest(noid, script, *vm):
    return noid("exec", *vm, "--", "sh", "-c", script).stdout


def state(noid, *vm):
    return json.loads(noid("info", "--json", *vm).stdout)["state"]


@pytest.fixture
def checkpoint(noid):
    """A checkpoint of its own for one test: its id."""
    said = noid("checkpoint", "--label", "of a test").stdout
    found = re.fullmatch(r"Checkpoint '([0-9a-f]{16})' created \(label: of a test\)\n", said)
    assert found, said
    yield found[1]
    noid("checkpoint", "delete", found[1], check=False)


def test_a_checkpoint_is_listed_shown_renamed_and_deleted(noid):
    created = json.loads(noid("checkpoint", VM, "base", "--label", "fresh", "--json").stdout)
    assert (created["name"], created["label"], created["vm_name"]) == ("base", "fresh", VM)
    assert f"| {created['id']} | fresh |" in noid("checkpoints").stdout
    assert "| base | fresh |" in noid("checkpoint", "list").stdout
    shown = noid("checkpoint", "info", "base").stdout
    assert f"ID:        {created['id']}\n" in shown
    assert f"Memory:    {GUEST_MEMORY} MiB\n" in shown
    assert noid("checkpoint", "rename", "base", "better").stdout == "Checkpoint 'base' renamed to 'better'\n"
    assert json.loads(noid("checkpoint", "info", "--json", created["id"][:6]).stdout)["name"] == "better"
    assert noid("checkpoint", "delete", "better").stdout == "Checkpoint 'better' deleted\n"
    gone = noid("checkpoint", "info", "better", check=False)
    assert (gone.returncode, gone.stderr) == (1, "Error: server error (404): checkpoint 'better' not found\n")
    assert noid("checkpoints").stdout == f"No checkpoints for VM '{VM}'.\n"


def test_restore_takes_files_and_processes_back(noid, checkpoint):
    guest(noid, "echo later > /root/later; sync")
    done = noid("restore", checkpoint)
    assert done.stdout == f"VM '{VM}' restored from checkpoint '{checkpoint}'\n"
    assert guest(noid, "test -e /root/later || echo gone") == "gone\n"
    # What was before is one more restore away.
    kept = re.search(rf"noid restore {VM} ([0-9a-f]+) goes back there", done.stderr)[1]
    noid("restore", "--discard-present", kept)
    assert guest(noid, "cat /root/later") == "later\n"
    noid("checkpoint", "delete", kept)


def test_a_stream_goes_on_over_a_checkpoint(noid):
    counter = noid.start("exec", "-n", "--", "sh", "-c", "seq 1 2000000", stdout=-1)
    first = counter.stdout.read(1000)
    saved = json.loads(noid("checkpoint", "--json").stdout)["id"]
    rest = counter.stdout.read()
    counter.stdout.close()
    assert counter.wait(60) == 0
    assert first + rest == b"".join(b"%d\n" % i for i in range(1, 2000001))
    noid("checkpoint", "delete", saved)


def test_restore_as_makes_another_vm(noid, checkpoint):
    assert noid("restore", checkpoint, "--as", "copy").stdout == f"VM 'copy' restored from checkpoint '{checkpoint}'\n"
    assert guest(noid, "hostname", "copy") == "copy\n"
    assert guest(noid, "hostname") != "copy\n"
    noid("destroy", "copy")


def test_fork_makes_clones_that_differ(noid):
    said = noid("fork", "--as", "left", "--as", "right").stdout
    assert said == f"VM 'left' created from VM '{VM}'\nVM 'right' created from VM '{VM}'\n"
    heads = {guest(noid, "head -c 16 /dev/urandom | od -An -tx1", name) for name in ("left", "right", VM)}
    assert len(heads) == 3
    for name in ("left", "right"):
        noid("destroy", name)
    clones = json.loads(noid("fork", "--count", "2", "--json").stdout)
    assert [clone["state"] for clone in clones] == ["running", "running"]
    for clone in clones:
        noid("destroy", clone["name"])


def test_pause_and_resume(noid):
    assert noid("pause").stdout == f"VM '{VM}' paused\n"
    assert state(noid) == "paused"
    assert noid("resume").stdout == f"VM '{VM}' resumed\n"
    assert guest(noid, "echo awake") == "awake\n"


def test_a_suspended_vm_wakes_by_resume_and_by_use(noid):
    guest(noid, "echo before > /run/in-memory")
    assert noid("suspend").stdout == f"VM '{VM}' suspended\n"
    assert state(noid) == "suspended"
    assert noid("resume").stdout == f"VM '{VM}' resumed\n"
    assert state(noid) == "running"
    noid("suspend")
    assert guest(noid, "cat /run/in-memory") == "before\n"
    assert state(noid) == "running"


def test_the_servers_timer_is_set_and_ended(noid):
    assert noid("checkpoint", "--every", "1h", "--keep", "3").stdout == f"VM '{VM}' is saved every 3600 s from now on\n"
    policy = json.loads(noid("suspend", "--idle", "2h", "--json").stdout)
    assert (policy["checkpoint_every_s"], policy["checkpoint_keep"], policy["idle_suspend_s"]) == (3600, 3, 7200)
    assert noid("checkpoint", "--every", "off").stdout == f"VM '{VM}' is no longer saved by itself\n"
    assert noid("suspend", "--idle", "off").stdout == f"VM '{VM}' is no longer suspended by itself\n"
    assert state(noid) == "running"


def test_the_servers_timer_saves_and_keeps_the_newest(noid):
    noid("checkpoint", "--every", "10s", "--keep", "1")
    try:
        seen = []
        limit = time.monotonic() + 90
        while len(seen) < 2:
            assert time.monotonic() < limit, seen
            guest(noid, "sleep 0.5")
            saved = json.loads(noid("checkpoints", "--json").stdout)
            assert len(saved) <= 2, saved  # the newest is there before the oldest goes
            assert all(each["automatic"] for each in saved)
            seen += [each["id"] for each in saved if each["id"] not in seen]
    finally:
        noid("checkpoint", "--every", "off")
    noid("checkpoint", "prune", "--keep", "0", "--automatic")


def test_a_vm_that_is_made_with_an_idle_time_suspends_itself(noid):
    noid("create", "dozing", "--mem", str(GUEST_MEMORY), "--idle-suspend", "10s")
    try:
        policy = json.loads(noid("suspend", "dozing", "--idle", "10s", "--json").stdout)
        assert policy["idle_suspend_s"] == 10
        guest(noid, "echo kept > /run/in-memory", "dozing")
        limit = time.monotonic() + 60
        while state(noid, "dozing") != "suspended":
            assert time.monotonic() < limit, "it did not suspend itself"
            guest(noid, "sleep 0.5")  # in the other VM
        assert guest(noid, "cat /run/in-memory", "dozing") == "kept\n"
    finally:
        noid("destroy", "dozing")


def test_forward_wakes_a_suspended_vm(noid):
    server = ("my $l = IO::Socket::INET->new(Listen => 5, LocalAddr => '127.0.0.1:7070', ReuseAddr => 1);"
              "print 'listening'; $| = 1; print qq(\n); while (my $c = $l->accept) { print $c 'served'; close $c }")
    noid("exec", "-d", "--", "perl", "-MIO::Socket::INET", "-e", server)
    # The second of two sessions sees what the first has done.
    guest(noid, "until perl -MIO::Socket::INET -e 'exit !IO::Socket::INET->new(\"127.0.0.1:7070\")'; do sleep 0.1; done")
    forward = noid.start("forward", "--json", "0:7070", stdout=subprocess.PIPE)
    try:
        port = json.loads(forward.stdout.readline())["port"]
        noid("suspend")
        assert state(noid) == "suspended"
        with socket.create_connection(("127.0.0.1", port), 60) as connection:
            assert connection.recv(100) == b"served"
        assert state(noid) == "running"
    finally:
        forward.send_signal(signal.SIGTERM)
        forward.communicate()


def test_prune_keeps_the_newest(noid):
    ids = [json.loads(noid("checkpoint", "--json").stdout)["id"] for _ in range(3)]
    said = noid("checkpoint", "prune", "--keep", "1").stdout
    assert all(f"Checkpoint '{each}' deleted\n" in said for each in ids[:2])
    assert [each["id"] for each in json.loads(noid("checkpoints", "--json").stdout)] == ids[2:]
    assert noid("checkpoint", "prune", "--older-than", "1h").stdout == "No checkpoint had to go.\n"
    assert noid("checkpoint", "prune", check=False).returncode == 1
    noid("checkpoint", "delete", ids[2])


@pytest.mark.long
def test_export_and_import(noid, checkpoint, tmp_path):
    file = tmp_path / "saved.noid"
    assert noid("checkpoint", "export", checkpoint, "-o", str(file)).stdout.startswith(
        f"Checkpoint '{checkpoint}' exported to {file} (")
    imported = json.loads(noid("checkpoint", "import", "-i", str(file), "--name", "back", "--json").stdout)
    assert (imported["name"], imported["id"] == checkpoint) == ("back", False)
    noid("restore", "back", "--as", "imported")
    assert guest(noid, "echo works", "imported") == "works\n"
    noid("destroy", "imported")
    noid("checkpoint", "delete", "back")
    file.write_bytes(file.read_bytes()[:-1000])
    broken = noid("checkpoint", "import", "-i", str(file), check=False)
    assert broken.returncode == 1
