"""The agent in a real guest: the channel's own tests, run over the guest's virtio-serial port.

Sessions, terminals, signals, connections that break in mid-stream: whatever the tests in src/channel
ask of an agent that is a process beside them, they ask of the guest's.
"""
import json
import os
import subprocess

import pytest

from conftest import BIN, IMAGES, ROOT
from guest_machine import GuestMachine

AGENT = BIN / "noid-agent"
CHANNEL_TEST = BIN.parent / "tests" / "channel_test"

pytestmark = pytest.mark.skipif(
    not all(path.exists() for path in (AGENT, CHANNEL_TEST, IMAGES / "vmlinux", IMAGES / "debian-12.ext4")),
    reason=f"needs {AGENT}, {CHANNEL_TEST} and the images in {IMAGES}: scripts/guest/build-all")


@pytest.fixture(scope="module")
def guest(tmp_path_factory):
    directory = tmp_path_factory.mktemp("guest")
    modules = json.loads((IMAGES / "vmlinux.json").read_text())["facts"]["modules"]
    initrd = directory / "initrd.cpio"
    subprocess.run([ROOT / "scripts/guest/build-initrd", "--agent", AGENT, "--modules", modules, "--out", initrd],
                   check=True)
    disk = directory / "root.ext4"
    subprocess.run(["cp", "--sparse=always", "--reflink=auto", IMAGES / "debian-12.ext4", disk], check=True)
    with GuestMachine(directory / "vm", IMAGES / "vmlinux", initrd, disk, agent=True) as machine:
        yield machine


def run_channel_tests(guest, names, seconds):
    done = subprocess.run([CHANNEL_TEST, f"--gtest_filter={names}"], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=seconds,
                          env={**os.environ, "NOID_TEST_AGENT_SOCKET": str(guest.agent_socket)})
    assert done.returncode == 0, f"{done.stdout[-8000:]}\n{done.stderr[-4000:]}\n{guest.console()[-2000:]}"
    assert "[  PASSED  ] 0 tests" not in done.stdout


def test_commands_in_a_guest(guest):
    run_channel_tests(guest, "ExecTest.*-*Many*", 120)


def test_sessions_outlive_consumers_and_servers(guest):
    run_channel_tests(guest, "ResumeTest.*Takes*:*Steals*:*Attach*:*Abandoned*:*Waits*:*Held*:*Detached*", 120)


@pytest.mark.long
def test_sessions_outlive_connections_that_break(guest):
    run_channel_tests(guest, "ResumeTest.*Break*:*Short*:*Reconnects*:*Stalls*:ExecTest.*Many*", 600)
