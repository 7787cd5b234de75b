"""noid-server as an administrator meets it before anything runs."""
import os
import re
import socket
import subprocess

import pytest

from conftest import BIN


@pytest.fixture
def noid_server(tmp_path):
    """The program, with a home directory and a working directory of its own."""

    def run(*arguments, **environment):
        sanitizers = {k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")}
        return subprocess.run([BIN / "noid-server", *arguments], cwd=tmp_path, capture_output=True, text=True,
                              timeout=60, stdin=subprocess.DEVNULL,
                              env={"HOME": str(tmp_path), "PATH": os.environ["PATH"], **sanitizers, **environment})

    return run


def test_usage_errors_exit_with_2(noid_server):
    for arguments in (("user",), ("no-such-command",), ("doctor", "--no-such-flag"), ("serve", "too much")):
        done = noid_server(*arguments)
        assert done.returncode == 2
        assert done.stderr.startswith("error: ")
        assert done.stdout == ""


def test_version_and_help_exit_with_0(noid_server):
    assert noid_server("--version").stdout.startswith("noid-server ")
    assert "check-config" in noid_server("--help").stdout


def test_check_config_says_what_holds(noid_server, tmp_path):
    (tmp_path / "server.toml").write_text('[server]\nlisten = "127.0.0.1:1"\n[paths]\ndata_dir = "~/d"\n')
    done = noid_server("check-config", NOID_LISTEN="127.0.0.1:2")
    assert done.returncode == 0, done.stderr
    assert "127.0.0.1:2" in done.stdout
    assert str(tmp_path / "d/images/vmlinux") in done.stdout
    done = noid_server("check-config", "--listen", "127.0.0.1:3", NOID_LISTEN="127.0.0.1:2")
    assert "127.0.0.1:3" in done.stdout


@pytest.mark.parametrize("toml, expected", [
    ("[server]\nworker = 4\n", ":2:10: unknown key 'worker'"),
    ("[server]\nworkers = 0\n", "expected a whole number"),
    ("[server\n", "failed to parse config file"),
])
def test_a_bad_configuration_exits_with_2_and_says_where(noid_server, tmp_path, toml, expected):
    (tmp_path / "server.toml").write_text(toml)
    for command in ("check-config", "doctor"):
        done = noid_server(command)
        assert done.returncode == 2
        assert expected in done.stderr
        assert done.stdout == ""


def test_a_configuration_that_is_not_there_exits_with_2(noid_server):
    done = noid_server("check-config", "--config", "absent.toml")
    assert done.returncode == 2
    assert "no such file" in done.stderr


def test_doctor_tries_what_it_reports(noid_server, tmp_path):
    images = tmp_path / "d/images"
    images.mkdir(parents=True)
    (images / "vmlinux").write_bytes(b"\x7fELF" + bytes(14) + b"\x3e\x00")
    (images / "initrd.cpio").write_bytes(b"070701")
    (images / "debian-12.ext4").write_bytes(bytes(1024 + 56) + b"\x53\xef")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = noid_server("doctor", "--data-dir", str(tmp_path / "d"), "--listen", address)
    assert done.returncode == 0, done.stdout
    assert re.search(f"^warn  listen +{address} is in use$", done.stdout, re.MULTILINE)
    assert "FAIL" not in done.stdout
    tried = {line[6:22].strip(): line[23:] for line in done.stdout.splitlines() if line[:4] in ("ok  ", "warn")}
    assert re.search(r"^(qemu|firecracker) \d+\.\d+\.\d+ with (kvm|tcg): ", tried["VMM"])
    assert (" with kvm" in tried["VMM"]) == bool(re.search(r"^ok    KVM ", done.stdout, re.MULTILINE))

    done = noid_server("doctor", "--data-dir", str(tmp_path / "d"), "--listen", "127.0.0.1:0",
                       "--vmm-kind", "firecracker", "--vmm-firecracker", "/nowhere/firecracker")
    assert done.returncode == 1
    assert re.search(r"^FAIL  VMM .*firecracker", done.stdout, re.MULTILINE)

    (images / "vmlinux").write_bytes(b"not a kernel at all, but long enough")
    (images / "debian-12.ext4").unlink()
    done = noid_server("doctor", "--data-dir", str(tmp_path / "d"), "--listen", "127.0.0.1:0")
    assert done.returncode == 1
    assert "not an uncompressed x86-64 ELF kernel" in done.stdout
    assert "debian-12.ext4 cannot be read" in done.stdout


def test_doctor_beside_its_server_does_not_take_it_for_another_program(server):
    done = server.command("doctor", check=False)
    assert re.search(f"^ok    listen +127.0.0.1:{server.port} is in use, and the server runs$", done.stdout, re.MULTILINE)
