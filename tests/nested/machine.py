"""The machine that QEMU's TCG emulates for tests/nested/run and run-installed: its CPU has SVM, so KVM works in it.
It boots a root file system that tests/nested/build-host has made, runs the tests that its payload disk brings, tells
about them over a serial port (events.py), and switches itself off."""

import os
import pathlib
import shutil
import subprocess
import tempfile

from report import read_events, results_of

PAYLOAD_MIB = 8192
RESULTS_MIB = 64


def run_tests(host, collect, keep_in, *, root, scratch_mib=0, memory, deadline, network=False, steady_ticks=False):
    """The results of all tests.

    `host` is the directory of the host's files, `root` the name of its root file system. `collect` puts everything
    that it is given below the directory that it is called with. The disks are vda the root, whose changes are thrown
    away, vdb the payload, vdc empty (with `scratch_mib`), and last one for a tar archive of results. `keep_in` gets
    events, console.log and results.
    """
    with tempfile.TemporaryDirectory(prefix="nested-", dir=host) as scratch:
        directory = pathlib.Path(scratch)
        (directory / "payload").mkdir()
        collect(directory / "payload")
        make_disk(directory / "payload.ext4", PAYLOAD_MIB, directory / "payload")
        shutil.rmtree(directory / "payload")
        make_disk(directory / "results.tar", RESULTS_MIB)
        disks = [(host / root, ",snapshot=on"), (directory / "payload.ext4", ",readonly=on"), (directory / "results.tar", "")]
        if scratch_mib:
            make_disk(directory / "scratch", scratch_mib)
            disks.insert(2, (directory / "scratch", ",discard=unmap"))
        (directory / "events").touch()
        (directory / "results").mkdir()
        try:
            ended = emulate(directory, host, disks, memory, deadline, network, steady_ticks)
        finally:
            subprocess.run(["tar", "-xf", directory / "results.tar", "-C", directory / "results", "--no-same-owner"],
                           check=False, stderr=subprocess.DEVNULL)  # fmt: skip
            keep(directory, keep_in)
        why = f"no end within {deadline} s" if ended is None else "the emulated host ended"
        return results_of(read_events(keep_in / "events"), f"the emulated host: {why}")


def copy(source, target):
    subprocess.run(["cp", "--reflink=auto", "--sparse=always", source, target], check=True)


def make_disk(path, mebibytes, tree=None):
    with open(path, "wb") as file:
        file.truncate(mebibytes << 20)
    if tree is not None:
        subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal", "-d", tree, path], check=True,
                       env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"})  # fmt: skip


def keep(directory, keep_in):
    keep_in.mkdir(parents=True, exist_ok=True)
    for name in ("events", "console.log", "results"):
        target = keep_in / name
        shutil.rmtree(target, ignore_errors=True)
        target.unlink(missing_ok=True)
        if (directory / name).exists():
            shutil.move(directory / name, target)


def tsc_khz():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("cpu MHz"):
            return round(float(line.split(":")[1]) * 1000)
    raise SystemExit("/proc/cpuinfo names no frequency")


def emulate(directory, host, disks, memory, deadline, network, steady_ticks=False):
    """Boots the emulated host and waits until it has switched itself off. `steady_ticks`: its clock interrupts
    regularly, for hours of tests; without, when it is due, for benchmarks."""
    # QEMU gives its guest a time stamp counter at the host's rate; without the words on it the kernel
    # measures it, wrongly when this machine is busy, and now and then for ever.
    arguments = (
        f"console=ttyS0 panic=-1 tsc_early_khz={tsc_khz()} tsc=reliable no_timer_check mitigations=off "
        "nokaslr audit=0 random.trust_cpu=on loglevel=2"
    )
    if steady_ticks:
        # Now and then an interrupt is lost under nested guests. After one that was set for a moment no other
        # comes, and all stands still for ever.
        arguments += " nohz=off highres=off"
    command = [
        "qemu-system-x86_64", "-M", "pc,accel=tcg", "-cpu", "max,+svm", "-m", str(memory), "-nodefaults",
        "-display", "none", "-no-reboot", "-device", "virtio-rng-pci",
        "-chardev", f"stdio,id=console,signal=off,logfile={directory}/console.log", "-serial", "chardev:console",
        "-chardev", f"file,id=events,path={directory}/events", "-serial", "chardev:events",
        "-kernel", str(host / "vmlinux"), "-initrd", str(host / "initrd.cpio"), "-append", arguments,
    ]  # fmt: skip
    for number, (path, more) in enumerate(disks):
        command += ["-drive", f"file={path},id=d{number},if=none,format=raw,cache=unsafe{more}",
                    "-device", f"virtio-blk-pci,drive=d{number}"]  # fmt: skip
    if network:
        # A way out, as every host has one, that leads nowhere.
        command += ["-netdev", "user,id=net,restrict=on", "-device", "virtio-net-pci,netdev=net,romfile="]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as qemu:
        try:
            return qemu.wait(deadline)
        except subprocess.TimeoutExpired:
            return None
        finally:
            qemu.kill()
