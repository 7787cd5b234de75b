"""The operator's template and the script that makes one, and the examination of a data directory."""
import json
import os
import signal
import subprocess

import pytest

from conftest import BIN, GUEST_MEMORY, ROOT
from killed_at_change import killed_at_change


@pytest.fixture
def operator(server_factory, tmp_path):
    """A server, one of its users, and provision-golden.sh as its operator runs it."""
    server = server_factory().start()
    user = server.make_user("operator")

    class Operator:
        def __init__(self):
            self.server = server
            self.user = user

        def start(self, *arguments):
            environment = {**os.environ, "HOME": str(tmp_path), "NOID": str(BIN / "noid"),
                           "NOID_SERVER_PROGRAM": str(BIN / "noid-server"), "NOID_SERVER": server.url,
                           "NOID_TOKEN": user.token}
            return subprocess.Popen([ROOT / "scripts/provision-golden.sh", "--config", server.config, *arguments],
                                    env=environment, cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                    stderr=subprocess.PIPE, text=True, start_new_session=True)

        def __call__(self, *arguments, code=0):
            running = self.start(*arguments)
            out, said = running.communicate(timeout=180)
            assert running.returncode == code, said
            return out, said

        def provision(self, script, *arguments, code=0):
            file = tmp_path / "customise"
            file.write_text(script)
            return self("--mem", str(GUEST_MEMORY), "--script", str(file), *arguments, code=code)

        def golden(self):
            return server.command("golden", "status").stdout

        def nothing_is_left(self):
            return user.get("/v1/vms").json() == [] and user.get("/v1/vms/_provision/checkpoints").json() == []

    return Operator()


def test_provisioning_makes_what_new_vms_wake_from(operator, tmp_path):
    (tmp_path / "tool").write_text("#!/bin/sh\necho tool works\n")
    (tmp_path / "tool").chmod(0o755)
    out, said = operator.provision("#!/bin/sh\necho on stdout\necho customised > /root/by-script\n",
                                   "--copy", f"{tmp_path / 'tool'}:/usr/local/bin/tool")
    assert out.startswith("golden ") and "on stdout" in said and "done: creates with" in said
    assert operator.nothing_is_left()
    made = operator.user.create("child")
    assert made["start"] == "golden"
    answer = operator.user.exec("child", "sh", "-c", "tool; cat /root/by-script /etc/hostname; ls -A /root")
    assert answer["stdout"].startswith("tool works\ncustomised\nchild\n")
    assert ".noid-customise" not in answer["stdout"]
    # A checkpoint of any VM can follow; what was golden is kept.
    before = operator.golden()
    saved = operator.user.post("/v1/vms/child/checkpoints", json={}).json()["id"]
    operator("--from-checkpoint", saved)
    assert operator.golden().splitlines()[1].split()[1:] == before.splitlines()[0].split()[1:]


def test_provisioning_says_what_is_wrong_before_it_begins(operator, tmp_path):
    for arguments, code, text in (
            (("--frobnicate",), 2, "unknown option"), (("--cpus",), 2, "needs a value"),
            (("--copy", "nowhere:/x"), 1, "does not exist"), (("--copy", "relative"), 2, "SRC:/DST"),
            (("--packages", "-x"), 2, "no name of a package"), (("--script", "nowhere"), 1, "cannot read"),
            (("--data-dir", str(tmp_path / "customise" / "x")), 1, "data directory"),
            (("--from-checkpoint", "0000000000000000"), 1, "not found")):
        _, said = operator(*arguments, code=code)
        assert text in said, (arguments, said)
    assert operator.golden().startswith("No golden")
    assert operator.nothing_is_left()


@pytest.mark.long
def test_provisioning_that_does_not_end_well_changes_nothing(operator, tmp_path):
    operator.provision("touch /root/first")
    before = operator.golden()
    _, said = operator.provision("echo no >&2; exit 3", code=1)
    assert "no\n" in said and "the customisation failed" in said and "golden is as it was before" in said
    assert operator.golden() == before and operator.nothing_is_left()

    (tmp_path / "customise").write_text("echo inside now; sleep 1000")
    for number, to_all in ((signal.SIGINT, True), (signal.SIGTERM, False), (signal.SIGKILL, False)):
        running = operator.start("--mem", str(GUEST_MEMORY), "--script", str(tmp_path / "customise"))
        while "inside now" not in running.stderr.readline():
            pass
        if to_all:
            os.killpg(running.pid, number)  # as Ctrl-C at a terminal
        else:
            running.send_signal(number)
        if number == signal.SIGKILL:
            os.killpg(running.pid, number)
        running.communicate(timeout=60)
        assert operator.golden() == before
        if number == signal.SIGKILL:
            assert [vm["name"] for vm in operator.user.get("/v1/vms").json()] == ["_provision"]
        else:
            assert running.returncode == 128 + number and operator.nothing_is_left()

    # The next run removes what the killed one left, and begins with the image, not with golden.
    _, said = operator.provision("test ! -e /root/first && touch /root/second")
    assert "an interrupted run left" in said
    assert operator.nothing_is_left()
    assert operator.user.create("child")["start"] == "golden"
    assert operator.user.exec("child", "ls", "/root/second")["exit_code"] == 0


def test_new_vms_wake_from_what_was_promoted(server_factory):
    server = server_factory().start()
    assert "No golden" in server.command("golden", "status").stdout
    user = server.make_user()
    user.create("model")
    user.exec("model", "sh", "-c", "echo prepared >/root/by-operator; sync")
    saved = user.post("/v1/vms/model/checkpoints", json={"label": "golden"})
    assert saved.status_code == 201, saved.text
    server.command("golden", "promote", saved.json()["id"])
    assert "golden" in server.command("golden", "status").stdout
    made = user.create("child")
    assert made["start"] == "golden"
    assert user.exec("child", "cat", "/root/by-operator", "/etc/hostname")["stdout"] == "prepared\nchild\n"
    server.command("golden", "clear")
    assert user.create("plain")["start"] != "golden"
    assert user.exec("child", "echo", "untouched")["stdout"] == "untouched\n"
    server.command("golden", "rollback")
    assert user.create("again")["start"] == "golden"
    unknown = server.command("golden", "promote", "0000000000000000", check=False)
    assert unknown.returncode == 1 and "Error: " in unknown.stderr


def test_a_promotion_that_is_killed_anywhere_leaves_the_old_golden_or_the_new(server_factory):
    server = server_factory().start()
    user = server.make_user()
    user.create("model")
    ids = {}
    for name in ("one", "two"):
        user.exec("model", "sh", "-c", f"echo {name} > /root/golden; sync")
        saved = user.post("/v1/vms/model/checkpoints", json={"name": name})
        assert saved.status_code == 201, saved.text
        ids[name] = saved.json()["id"]
    places = {"golden", "golden.previous", "golden.lock"}

    def is_golden(directory):
        """What the directory was made of, once every file of it is looked at."""
        config = json.loads((server.data_dir / directory / "config.json").read_text())
        assert {path.name for path in (server.data_dir / directory).iterdir()} == {
            "config.json", "rootfs.ext4", "memory.snap", "vmstate.snap"}  # fmt: skip
        return {found: name for name, found in ids.items()}[config["id"]]

    promote = [BIN / "noid-server", "golden", "promote", ids["two"], "--config", server.config]
    environment = {**os.environ, "HOME": str(server.directory), "ASAN_OPTIONS": "detect_leaks=0"}
    server.command("golden", "promote", ids["two"])
    server.command("golden", "promote", ids["one"])
    changed_at, n = None, 0
    while killed_at_change(n, promote, env=environment):
        found = is_golden("golden")
        if found == "two" and changed_at is None:
            changed_at = n
        assert (found == "two") == (changed_at is not None), "it does not go back"
        if n in (0, changed_at) or n % 12 == 0:
            # A server that runs meanwhile uses what is there.
            assert user.create("child")["start"] == "golden"
            assert user.exec("child", "cat", "/root/golden")["stdout"] == f"{found}\n"
            user.destroy("child")
        # Whoever comes next finishes it or takes it back.
        server.command("golden", "status")
        assert {is_golden("golden"), is_golden("golden.previous")} == {"one", "two"}
        assert {path.name for path in server.data_dir.iterdir() if "golden" in path.name} == places
        if found == "two":
            server.command("golden", "rollback")
        n += 1
    assert changed_at is not None and changed_at < n - 1, "it was killed before and after the exchange"
    assert (is_golden("golden"), is_golden("golden.previous")) == ("two", "one")

    # Also with nobody to finish it but a server that starts.
    server.command("golden", "rollback")
    assert killed_at_change(changed_at, promote, env=environment)
    server.stop()
    server.start()
    assert (is_golden("golden"), is_golden("golden.previous")) == ("two", "one")
    assert {path.name for path in server.data_dir.iterdir() if "golden" in path.name} == places
    assert user.create("last")["start"] == "golden"
    assert user.exec("last", "cat", "/root/golden")["stdout"] == "two\n"
    assert user.exec("model", "cat", "/root/golden")["stdout"] == "two\n"


def test_a_data_directory_is_examined_and_put_right(server_factory):
    server = server_factory().start()
    busy = server.command("fsck", check=False)
    assert busy.returncode == 1 and "Error: " in busy.stderr
    user = server.make_user()
    user.create("kept")
    assert user.post("/v1/vms/kept/checkpoints", json={}).status_code == 201
    server.stop()
    server.command("fsck", "--repair")
    assert server.command("fsck").returncode == 0
    [memory] = (server.data_dir / "users").glob("*/checkpoints/*/*/memory.snap")
    with open(memory, "r+b") as file:
        file.seek(4096 * 100)
        file.write(b"not what was saved")
    damaged = server.command("fsck", check=False)
    assert damaged.returncode == 1 and "memory.snap" in damaged.stdout
    server.command("fsck", "--repair", check=False)
    server.start()
    assert user.exec("kept", "echo", "alive")["stdout"] == "alive\n"
