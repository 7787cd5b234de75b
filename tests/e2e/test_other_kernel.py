"""Kernels and root file systems that somebody brings, such as those of Firecracker's own quick start: the kernel
has all drivers built in and takes no modules, the image knows nothing of Noid. Noid's initrd, whose modules are
another kernel's, goes with them as it is.

NOID_TEST_SMALL_KERNEL  a kernel that scripts/guest/build-small-kernel made  (default: it is built, in minutes)
"""
import os
import pathlib
import shutil
import subprocess

import pytest

from conftest import IMAGES, ROOT


@pytest.fixture(scope="module")
def small_kernel():
    given = os.environ.get("NOID_TEST_SMALL_KERNEL")
    kernel = pathlib.Path(given) if given else ROOT / "build/check/small-kernel/vmlinux"
    if not given:
        subprocess.run([ROOT / "scripts/guest/build-small-kernel", "--out", kernel], check=True, timeout=3600)
    return kernel


@pytest.fixture
def busybox_image(tmp_path):
    """A root file system with one program."""
    tree = tmp_path / "tree"
    for name in ("bin", "etc", "root"):
        (tree / name).mkdir(parents=True)
    shutil.copy(shutil.which("busybox"), tree / "bin/busybox")
    for applet in ("sh", "cat", "uname", "head", "od", "ls"):
        (tree / "bin" / applet).symlink_to("busybox")
    image = tmp_path / "rootfs.ext4"
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", tree, image, "64M"], check=True,
                   env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"})
    return image


def serve(server_factory, paths, **settings):
    return server_factory(paths={name: str(path) for name, path in paths.items()}, **settings).start().make_user()


def shell(client, vm, script):
    done = client.exec(vm, "/bin/sh", "-c", script)
    assert done["exit_code"] == 0, done
    return done["stdout"].strip()


@pytest.mark.long
@pytest.mark.parametrize("init", ["agent", "/sbin/init"])
def test_a_kernel_that_takes_no_modules_serves_like_ours(server_factory, small_kernel, init):
    client = serve(server_factory, {"kernel": small_kernel}, guest={"init": init})
    client.create("web")
    assert not shell(client, "web", "uname -r").endswith("-cloud-amd64")
    assert shell(client, "web", "test -e /proc/modules || echo none") == "none"
    assert shell(client, "web", "echo kept >/run/mark; cat /run/mark") == "kept"
    saved = client.post("/v1/vms/web/checkpoints", json={})
    assert saved.status_code == 201, saved.text
    twin = client.post("/v1/vms/web/restore", json={"checkpoint_id": saved.json()["id"], "new_name": "twin"})
    assert twin.ok, twin.text
    assert shell(client, "twin", "cat /run/mark; hostname") == "kept\ntwin"
    random = {shell(client, vm, "head -c 16 /dev/urandom | od -An -tx1") for vm in ("web", "twin")}
    assert len(random) == 2


@pytest.mark.long
def test_an_image_with_one_program_is_enough(server_factory, small_kernel, busybox_image):
    client = serve(server_factory, {"kernel": small_kernel, "rootfs": busybox_image})
    client.create("bare")
    assert "web" not in shell(client, "bare", "ls /root; uname -a")
    assert shell(client, "bare", "echo $((6 * 7))") == "42"


def without_modules(initrd, target):
    """The initrd with an empty list of modules: empty lines, so that no offset in the archive changes."""
    data = bytearray(initrd.read_bytes())
    name = data.rindex(b"modules/order\0")  # the name of its entry; the agent has the word in it, too
    size = int(data[name - 110 + 54:name - 110 + 62], 16)
    begin = (name + len(b"modules/order\0") + 3) & ~3
    data[begin:begin + size] = b"\n" * size
    target.write_bytes(data)
    return target


def test_a_kernel_without_a_driver_for_the_disk_is_told_of(server_factory, tmp_path):
    client = serve(server_factory, {"initrd": without_modules(IMAGES / "initrd.cpio", tmp_path / "initrd.cpio")})
    refused = client.post("/v1/vms", json={"name": "web", "mem_mib": 192})
    assert refused.status_code >= 500, refused.text
    assert "there is no disk /dev/vda" in refused.text
    assert client.get("/v1/vms").json() == []
