"""A microVM driven by hand: QEMU, and in the guest the agent, or noid_guest_probe in its place."""
import pathlib
import select
import socket
import subprocess
import time

KERNEL_ARGUMENTS = (
    "console=ttyS0 quiet panic=-1 no_timer_check 8250.nr_uarts=1 mitigations=off audit=0 "
    "cryptomgr.notests random.trust_cpu=on"
)


def tsc_khz():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("cpu MHz"):
            return round(float(line.split(":")[1]) * 1000)
    raise AssertionError("/proc/cpuinfo names no frequency")


class Gone(Exception):
    """The machine ended, or its probe did, while something was expected of it."""


class GuestMachine:
    """Starts on construction; stop() or leaving the `with` ends it whatever its state.

    With `agent` the guest has the agent: agent_socket is where its port is served. Otherwise it has
    the probe, which wait_ready(), ask(), tell() and shell() speak to.
    """

    def __init__(self, directory, kernel, initrd, disk, arguments="", devices=(), memory=256, agent=False):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(exist_ok=True)
        self.console_path = self.directory / "console.log"
        self.agent_socket = port_path = self.directory / "port.sock"
        port_path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        if not agent:
            self._listener.bind(str(port_path))
            self._listener.listen(1)
        self._port = None
        self._buffer = b""
        command = [
            "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
            "-M", "microvm,acpi=on,pit=on,pic=off,rtc=on,isa-serial=on", "-accel", "tcg", "-cpu", "max",
            "-m", str(memory), "-kernel", str(kernel), "-initrd", str(initrd),
            "-append", f"{KERNEL_ARGUMENTS} tsc_early_khz={tsc_khz()} {arguments}",
            "-chardev", f"file,id=console,path={self.console_path}", "-serial", "chardev:console",
            "-chardev", f"socket,id=port,path={port_path}{',server=on,wait=off' if agent else ''}",
            "-device", "virtio-serial-device,max_ports=2", "-device", "virtserialport,chardev=port,name=noid.agent",
            "-device", "virtio-rng-device",
        ]
        if disk is not None:
            command += ["-drive", f"id=root,file={disk},format=raw,if=none,discard=unmap,cache=unsafe"]
            command += ["-device", "virtio-blk-device,drive=root"]
        for device in devices:
            command += device
        self.started = time.monotonic()
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(30)
        self.process.stderr.close()
        for each in (self._port, self._listener):
            if each is not None:
                each.close()

    def console(self):
        return self.console_path.read_text(errors="replace") if self.console_path.exists() else ""

    def wait_ready(self, seconds=60):
        """Until the probe has said its first word; gives the seconds since QEMU was started."""
        if self._port is None:
            self._listener.settimeout(seconds)
            self._port, _ = self._listener.accept()
        self._answer(seconds)
        return time.monotonic() - self.started

    def ask(self, line, seconds=60):
        """(status, output) of one line, see guest_probe.cpp."""
        self._port.sendall(line.encode() + b"\n")
        return self._answer(seconds)

    def tell(self, line):
        """A line that is not answered."""
        self._port.sendall(line.encode() + b"\n")

    def shell(self, command, seconds=60):
        """The output of a command that must succeed."""
        status, output = self.ask(f"sh {command}", seconds)
        assert status == 0, f"{command}: {status}\n{output}"
        return output

    def wait_end(self, seconds=60):
        """Until QEMU has ended; gives its exit status."""
        return self.process.wait(seconds)

    def _answer(self, seconds):
        deadline = time.monotonic() + seconds
        status, length = self._read_until(deadline, lambda: b"\n" in self._buffer, self._take_line).split()
        text = self._read_until(deadline, lambda: len(self._buffer) >= int(length), lambda: self._take(int(length)))
        return int(status), text.decode(errors="replace")

    def _read_until(self, deadline, done, take):
        while not done():
            readable, _, _ = select.select([self._port], [], [], max(deadline - time.monotonic(), 0))
            data = self._port.recv(65536) if readable else b""
            if not data:
                raise Gone(f"no answer from the guest; its console:\n{self.console()[-4000:]}")
            self._buffer += data
        return take()

    def _take_line(self):
        return self._take(self._buffer.index(b"\n") + 1)

    def _take(self, size):
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken
