"""The way from the kernel's first process to a running agent, in real guests.

The agent's place is taken by noid_guest_probe, which has the agent's boot code and does what a
test tells it (src/agent/guest_probe.cpp).

Needs vmlinux and debian-12.ext4 in NOID_TEST_IMAGES, as scripts/guest/build-all makes them; without
them these tests are skipped.
"""
import json
import os
import shutil
import subprocess
import time

import pytest

from conftest import BIN, IMAGES, ROOT
from guest_machine import GuestMachine

PROBE = BIN.parent / "tests" / "noid_guest_probe"
KERNEL = IMAGES / "vmlinux"

pytestmark = pytest.mark.skipif(
    not (KERNEL.exists() and PROBE.exists() and (IMAGES / "debian-12.ext4").exists()),
    reason=f"needs {PROBE} and the images in {IMAGES}: scripts/guest/build-all")


@pytest.fixture(scope="module")
def initrd(tmp_path_factory):
    facts = json.loads((IMAGES / "vmlinux.json").read_text())["facts"]
    path = tmp_path_factory.mktemp("initrd") / "initrd.cpio"
    subprocess.run([ROOT / "scripts/guest/build-initrd", "--agent", PROBE, "--modules", facts["modules"],
                    "--out", path], check=True)
    return path


@pytest.fixture
def disk(tmp_path):
    path = tmp_path / "root.ext4"
    subprocess.run(["cp", "--sparse=always", "--reflink=auto", IMAGES / "debian-12.ext4", path], check=True)
    return path


def make_image(path, tree, size_mib=64):
    with open(path, "wb") as file:
        file.truncate(size_mib << 20)
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-d", tree, path], check=True,
                   env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"})
    return path


@pytest.fixture
def busybox_tree(tmp_path):
    """An image's files: nothing but busybox."""
    tree = tmp_path / "tree"
    (tree / "bin").mkdir(parents=True)
    (tree / "etc").mkdir()
    busybox = shutil.which("busybox")
    assert busybox, "busybox-static is not installed"
    shutil.copy(busybox, tree / "bin/busybox")
    for name in ("sh", "cat", "ps", "mount", "poweroff", "reboot", "hostname", "kill", "grep", "readlink"):
        (tree / "bin" / name).symlink_to("busybox")
    return tree


def test_default_image_has_a_running_system_around_the_agent(tmp_path, initrd, disk):
    with GuestMachine(tmp_path / "vm", KERNEL, initrd, disk) as guest:
        guest.wait_ready()
        mounts = guest.shell("cat /proc/mounts")
        for target in ("/", "/dev", "/proc", "/sys", "/run", "/dev/pts", "/dev/shm", "/sys/fs/cgroup"):
            assert f" {target} " in mounts
        assert guest.shell("hostname") == "noid\n"
        assert guest.shell("cat /proc/1/comm") == "init\n"
        # Orphans become children of PID 1, which reaps them in its own time.
        orphan = guest.shell("(true & echo $!)").strip()
        assert any(guest.ask(f"sh test -d /proc/{orphan}")[0] == 1 for _ in range(100))
        # Nothing of the initrd is left in memory but the program that runs, once PID 1 had time for that.
        assert any(guest.shell("readlink /proc/1/exe").strip() == "/init (deleted)" for _ in range(100))
        assert "sudo" in guest.shell("su noid -c 'sudo -n true && echo sudo'")
        guest.tell("power-off")
        assert guest.wait_end(30) == 0


def test_agent_that_dies_is_started_again(tmp_path, initrd, disk):
    with GuestMachine(tmp_path / "vm", KERNEL, initrd, disk) as guest:
        guest.wait_ready()
        guest.shell("echo kept > /run/kept")
        guest.tell("crash")
        guest.wait_ready()
        assert guest.shell("cat /run/kept") == "kept\n"
        assert "the agent was killed by signal 6" in guest.console()


def test_root_file_system_grows_to_its_disk(tmp_path, initrd, disk):
    with open(disk, "r+b") as file:
        file.truncate(8 << 30)
    with GuestMachine(tmp_path / "vm", KERNEL, initrd, disk) as guest:
        guest.wait_ready()
        mib = int(guest.shell("df -m --output=size / | tail -n 1"))
        assert mib > 7700
        guest.tell("power-off")
        assert guest.wait_end(30) == 0
    check = subprocess.run(["/usr/sbin/e2fsck", "-fn", disk], capture_output=True, text=True)
    assert check.returncode == 0, check.stdout
    assert disk.stat().st_blocks * 512 < 512 << 20, "growing must not fill the disk's file"


def test_image_without_init_boots_with_the_agent(tmp_path, initrd, busybox_tree):
    image = make_image(tmp_path / "root.ext4", busybox_tree)
    with GuestMachine(tmp_path / "vm", KERNEL, initrd, image) as guest:
        guest.wait_ready()
        assert guest.shell("ps | grep -c noid-agent") != "0\n"


def test_busybox_init_runs_with_the_agent_beside_it(tmp_path, initrd, busybox_tree):
    (busybox_tree / "sbin").mkdir()
    (busybox_tree / "sbin/init").symlink_to("../bin/busybox")
    (busybox_tree / "etc/inittab").write_text("::sysinit:/bin/sh -c 'echo image init runs > /dev/console'\n")
    image = make_image(tmp_path / "root.ext4", busybox_tree)
    with GuestMachine(tmp_path / "vm", KERNEL, initrd, image, "noid.init=/sbin/init") as guest:
        guest.wait_ready()
        assert guest.shell("readlink /proc/1/exe") == "/bin/busybox\n"
        assert guest.shell("cat /proc/self/cgroup") == "0::/noid-agent\n"
        assert "image init runs" in guest.console()
        guest.tell("crash")
        guest.wait_ready()
        guest.tell("power-off")
        assert guest.wait_end(30) == 0


def test_systemd_leaves_the_agent_alone(tmp_path, initrd, disk):
    with GuestMachine(tmp_path / "vm", KERNEL, initrd, disk, "noid.init=/sbin/init", memory=384) as guest:
        guest.wait_ready()
        assert guest.shell("readlink /proc/1/exe").endswith("/systemd\n")
        pid = guest.shell("echo $PPID")
        # systemctl can wait for the end of the start only once systemd and its bus listen.
        deadline = time.monotonic() + 120
        state = ""
        while state not in ("running", "degraded") and time.monotonic() < deadline:
            state = guest.ask("sh systemctl is-system-running --wait", 120)[1].strip()
        assert state in ("running", "degraded"), state
        assert guest.shell("echo $PPID") == pid
        assert guest.shell("cat /proc/self/cgroup") == "0::/noid-agent\n"
        guest.tell("power-off")
        assert guest.wait_end(60) == 0


def test_missing_init_is_said_and_the_agent_takes_its_place(tmp_path, initrd, busybox_tree):
    image = make_image(tmp_path / "root.ext4", busybox_tree)
    with GuestMachine(tmp_path / "vm", KERNEL, initrd, image, "noid.init=/sbin/init") as guest:
        guest.wait_ready()
        assert "cannot run the image's init /sbin/init: No such file or directory" in guest.console()


def test_init_that_cannot_be_executed_is_said(tmp_path, initrd, busybox_tree):
    (busybox_tree / "sbin").mkdir()
    (busybox_tree / "sbin/init").write_text("neither ELF nor script\n")
    (busybox_tree / "sbin/init").chmod(0o755)
    image = make_image(tmp_path / "root.ext4", busybox_tree)
    with GuestMachine(tmp_path / "vm", KERNEL, initrd, image, "noid.init=/sbin/init") as guest:
        guest.wait_ready()
        assert "cannot run the image's init /sbin/init: Exec format error" in guest.console()


def test_disk_without_file_system_ends_the_machine_with_the_reason(tmp_path, initrd):
    blank = tmp_path / "blank"
    with open(blank, "wb") as file:
        file.truncate(64 << 20)
    with GuestMachine(tmp_path / "vm", KERNEL, initrd, blank) as guest:
        guest.wait_end(60)
        assert "boot failed: /dev/vda holds no ext4, xfs or btrfs file system" in guest.console()


def test_missing_disk_ends_the_machine_with_the_reason(tmp_path, initrd, disk):
    with GuestMachine(tmp_path / "vm", KERNEL, initrd, disk, "noid.root=/dev/vdb") as guest:
        guest.wait_end(60)
        assert "boot failed: there is no disk /dev/vdb" in guest.console()


# An interface whose packets go nowhere.
NETWORK = [["-netdev", "hubport,id=net,hubid=0", "-device", "virtio-net-device,netdev=net"]]


def test_identity_makes_a_machine_of_its_own(tmp_path, initrd, disk):
    with GuestMachine(tmp_path / "vm", KERNEL, initrd, disk, devices=NETWORK) as guest:
        guest.wait_ready()
        first_boot_id = guest.shell("cat /proc/sys/kernel/random/boot_id")
        guest.shell("rm /etc/resolv.conf; ln -s /run/nowhere/resolv.conf /etc/resolv.conf")
        identity = ("identity entropy=x hostname=vm.example machine_id=0123456789abcdef0123456789abcdef boot_id=1 "
                    "clock_ns=1893456000000000000 mac=AA:FC:00:00:00:01 address=172.16.0.2/30 gateway=172.16.0.1 "
                    "mtu=1400 nameserver=172.16.0.1")
        assert guest.ask(identity) == (0, "")
        assert guest.shell("hostname; cat /etc/hostname") == "vm.example\nvm.example\n"
        assert "127.0.1.1" in guest.shell("getent ahosts vm")
        assert guest.shell("cat /etc/machine-id") == "0123456789abcdef0123456789abcdef\n"
        assert guest.shell("date -u +%Y-%m-%d") == "2030-01-01\n"
        second_boot_id = guest.shell("cat /proc/sys/kernel/random/boot_id")
        assert second_boot_id != first_boot_id
        link = guest.shell("ip -o link show eth0; ip -o addr show eth0; ip route; cat /etc/resolv.conf")
        for expected in ("aa:fc:00:00:00:01", "mtu 1400", "172.16.0.2/30", "default via 172.16.0.1 dev eth0",
                         "nameserver 172.16.0.1"):
            assert expected in link, link
        assert "inet6" not in link

        # Again, and with another address: nothing of the first is left.
        again = identity.replace("172.16.0.2/30", "10.0.0.2/24").replace("172.16.0.1", "10.0.0.1")
        assert guest.ask(again) == (0, "")
        link = guest.shell("ip -o addr show eth0; ip route")
        assert "10.0.0.2/24" in link and "172.16.0" not in link, link
        assert guest.shell("cat /proc/sys/kernel/random/boot_id") != second_boot_id
        assert guest.shell("grep -c boot_id /proc/mounts") == "1\n"


def test_identity_names_the_step_that_fails(tmp_path, initrd, disk):
    with GuestMachine(tmp_path / "vm", KERNEL, initrd, disk) as guest:
        guest.wait_ready()
        status, text = guest.ask("identity entropy=x address=172.16.0.2/30")
        assert (status, text) == (1, "renew network: the machine has no network device")
        assert guest.ask("identity entropy=x hostname=-")[1].startswith("renew host name: ")
        assert guest.ask("identity entropy=x machine_id=7")[1].startswith("renew machine id: ")


@pytest.mark.long
def test_twenty_boots_in_a_row(tmp_path, initrd, disk):
    for _ in range(20):
        with GuestMachine(tmp_path / "vm", KERNEL, initrd, disk) as guest:
            guest.wait_ready(30)
            guest.tell("power-off")
            assert guest.wait_end(30) == 0
