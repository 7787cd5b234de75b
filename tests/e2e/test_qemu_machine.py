"""QEMU's machines: booted, paused, saved, woken, adopted and ended for real (src/qemu/machine_test.cpp).

NOID_TEST_IMAGES  directory of vmlinux and vmlinux.json, as scripts/guest/build-kernel makes them
                  (default build/check/data/images); without it these tests are skipped
"""
import os
import pathlib
import subprocess

import pytest

from conftest import BIN, ROOT

IMAGES = pathlib.Path(os.environ.get("NOID_TEST_IMAGES", ROOT / "build/check/data/images"))
PROGRAM = BIN.parent / "tests" / "qemu_machine_test"


def machine_tests():
    if not PROGRAM.exists():
        return []
    listed = subprocess.run([PROGRAM, "--gtest_list_tests"], capture_output=True, text=True, check=True).stdout
    suite, names = "", []
    for line in listed.splitlines():
        if line.startswith("  "):
            names.append(suite + line.split()[0])
        elif line.endswith("."):
            suite = line
    return names


@pytest.mark.skipif(not (PROGRAM.exists() and (IMAGES / "vmlinux").exists()),
                    reason=f"needs {PROGRAM} and the kernel in {IMAGES}: scripts/guest/build-kernel")
@pytest.mark.parametrize("name", machine_tests())
def test_machine(name):
    result = subprocess.run([PROGRAM, f"--gtest_filter={name}"], capture_output=True, text=True, timeout=300,
                            env={**os.environ, "NOID_TEST_IMAGES": str(IMAGES)})
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"[       OK ] {name}" in result.stdout
