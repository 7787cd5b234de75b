"""The floor for VMs: QEMU driven by hand, with the kernel, initrd and image that the server uses."""
import pathlib
import select
import shutil
import subprocess
import time

KERNEL_ARGUMENTS = ("console=ttyS0 quiet panic=-1 no_timer_check 8250.nr_uarts=1 mitigations=off audit=0 "
                    "cryptomgr.notests random.trust_cpu=on")

MACHINE = "microvm,acpi=on,rtc=on,pit=on,pic=off,isa-serial=on,auto-kernel-cmdline=off,x-option-roms=off"


def tsc_khz():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("cpu MHz"):
            return round(float(line.split(":")[1]) * 1000)
    raise RuntimeError("/proc/cpuinfo names no frequency")


class Booted:
    """Boots on construction; `agent` is the socket that leads to the agent. `tap`: a device that is there, in the
    namespace that `wrapper` runs commands in."""

    def __init__(self, directory, images, memory, tap=None, wrapper=()):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir()
        self.agent = self.directory / "agent.sock"
        disk = self.directory / "rootfs.ext4"
        subprocess.run(["cp", "--reflink=auto", "--sparse=always", images / "debian-12.ext4", disk], check=True)
        network = [] if tap is None else [
            "-netdev", f"tap,id=network,ifname={tap},script=no,downscript=no,"
                       f"vhost={'on' if pathlib.Path('/dev/vhost-net').exists() else 'off'}",
            "-device", "virtio-net-device,netdev=network,mac=aa:fc:00:00:00:02"]
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [*wrapper, "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
             "-M", MACHINE, "-accel", "tcg,thread=multi", "-cpu", "max",
             "-smp", "1", "-m", f"{memory}M", "-kernel", images / "vmlinux", "-initrd", images / "initrd.cpio",
             "-append", f"{KERNEL_ARGUMENTS} tsc_early_khz={tsc_khz()}",
             "-chardev", f"file,id=console,path={self.directory}/console.log", "-serial", "chardev:console",
             "-chardev", f"socket,id=agent,path={self.agent},server=on,wait=off",
             "-device", "virtio-serial-device,max_ports=2", "-device", "virtserialport,chardev=agent,name=noid.agent",
             "-device", "virtio-rng-device",
             "-drive", f"id=root,file={disk},format=raw,if=none", "-device", "virtio-blk-device,drive=root",
             *network,
             "-chardev", "stdio,id=ready", "-mon", "chardev=ready,mode=control"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        # QMP's greeting: the sockets are there.
        readable, _, _ = select.select([self.process.stdout], [], [], 30)
        if not readable:
            raise RuntimeError("QEMU did not start")

    def stop(self):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
