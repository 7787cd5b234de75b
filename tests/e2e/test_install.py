"""scripts/install.sh, below a directory of its own."""
import os
import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAMS = ["noid", "noid-server", "noid-netd", "noid-agent"]


def install(*arguments, check=True):
    done = subprocess.run([ROOT / "scripts/install.sh", "--no-images", *map(str, arguments)],
                          capture_output=True, text=True, timeout=60)
    assert not check or done.returncode == 0, done.stderr
    return done


@pytest.fixture
def programs(tmp_path):
    directory = tmp_path / "bin"
    directory.mkdir()
    for name in PROGRAMS:
        (directory / name).write_text(f"#!/bin/sh\necho {name} 1\n")
        (directory / name).chmod(0o755)
    return directory


def files(tree):
    return sorted("/" + str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file())


def test_a_host_is_installed_and_cleared(programs, tmp_path):
    tree = tmp_path / "root"
    install("--root", tree, "--bin", programs)
    installed = files(tree)
    for name in PROGRAMS:
        assert f"/usr/local/bin/{name}" in installed
    assert "/etc/noid/server.toml" in installed and "/etc/systemd/system/noid-server.service" in installed
    assert not [name for name in installed if name.endswith(".new")]

    said = install("--root", tree, "--uninstall", "--dry-run").stdout
    assert f"{tree}/usr/local/bin/noid-agent" in said and files(tree) == installed
    said = install("--root", tree, "--uninstall").stdout
    assert f"kept: {tree}/var/lib/noid\n" in said and f"kept: {tree}/etc/noid\n" in said
    assert files(tree) == ["/etc/noid/server.toml"]
    install("--root", tree, "--uninstall")  # a second time there is nothing to do
    assert files(tree) == ["/etc/noid/server.toml"]
    said = install("--root", tree, "--uninstall", "--purge").stdout
    assert files(tree) == [] and "kept" not in said


def test_a_second_run_upgrades_and_keeps_the_configuration(programs, tmp_path):
    tree = tmp_path / "root"
    install("--root", tree, "--bin", programs)
    config = tree / "etc/noid/server.toml"
    config.write_text("# mine\n")
    running = os.stat(tree / "usr/local/bin/noid").st_ino
    untouched = os.stat(tree / "usr/local/bin/noid-agent").st_ino
    (programs / "noid").write_text("#!/bin/sh\necho noid 2\n")
    install("--root", tree, "--bin", programs)
    assert config.read_text() == "# mine\n"
    assert "noid 2" in (tree / "usr/local/bin/noid").read_text()
    assert os.stat(tree / "usr/local/bin/noid").st_ino != running, "a program that runs keeps its file"
    assert os.stat(tree / "usr/local/bin/noid-agent").st_ino == untouched


def test_what_older_versions_installed_goes(programs, tmp_path):
    tree = tmp_path / "root"
    older = tree / "etc/sysctl.d/60-noid.conf"
    older.parent.mkdir(parents=True)
    older.write_text("net.ipv4.ip_forward = 1\n")
    install("--root", tree, "--bin", programs)
    assert not older.exists()


def test_a_dry_run_changes_nothing(programs, tmp_path):
    tree = tmp_path / "root"
    said = install("--root", tree, "--bin", programs, "--dry-run").stdout
    assert f"{tree}/usr/local/bin/noid-server" in said
    assert not tree.exists()


def test_firecracker_comes_from_a_file_or_checked_from_the_net(programs, tmp_path):
    tree = tmp_path / "root"
    static = pathlib.Path("/bin/busybox")
    if static.exists():
        installed = tree / "usr/local/bin/firecracker"
        install("--root", tree, "--bin", programs, "--firecracker", static)
        assert installed.exists()
        install("--root", tree, "--uninstall")
        assert files(tree) == ["/etc/noid/server.toml"]
        # One that was there before, or was put in its place, is somebody else's.
        shutil.copy(static, installed)
        install("--root", tree, "--bin", programs, "--firecracker", static)
        install("--root", tree, "--uninstall")
        assert installed.exists()
        installed.unlink()
        install("--root", tree, "--bin", programs, "--firecracker", static)
        installed.write_text("another\n")
        install("--root", tree, "--uninstall")
        assert files(tree) == ["/etc/noid/server.toml", "/usr/local/bin/firecracker"]
    refused = install("--root", tree, "--bin", programs, "--firecracker", "/bin/ls", check=False)
    assert refused.returncode == 1 and "dynamically" in refused.stderr
    refused = install("--root", tree, "--bin", programs, "--firecracker-version", "1.16.1", check=False)
    assert refused.returncode == 1 and "--firecracker-sha256" in refused.stderr


def test_missing_programs_stop_it_before_anything_is_done(tmp_path):
    tree = tmp_path / "root"
    refused = install("--root", tree, "--bin", tmp_path, check=False)
    assert refused.returncode == 1 and "no noid in" in refused.stderr
    assert not tree.exists()
