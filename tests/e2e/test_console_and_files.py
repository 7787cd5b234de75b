"""The serial console and its log, and files in and out."""
import hashlib
import io
import os
import tarfile

from web_socket import Session


def test_the_console_s_log_is_kept_and_can_be_followed(shared_client, vm):
    with Session(shared_client, f"/v1/vms/{vm}/console") as console:
        shared_client.exec(vm, "sh", "-c", "echo written to the console >/dev/console")
        console.until(lambda: b"written to the console" in console.out)
    assert b"written to the console" in shared_client.get(f"/v1/vms/{vm}/logs").content
    followed = shared_client.get(f"/v1/vms/{vm}/logs?follow=true", stream=True)
    lines = followed.iter_lines()
    shared_client.exec(vm, "sh", "-c", "echo a line that comes later >/dev/console")
    assert any(b"a line that comes later" in line for line in lines)
    followed.close()


def test_a_file_goes_in_and_out_unchanged(shared_client, vm):
    data = os.urandom(5 * 1048576 + 17)
    put = shared_client.put(f"/v1/vms/{vm}/files?path=/root/blob&mode=640", data=io.BytesIO(data))
    assert put.status_code in (200, 201, 204), put.text
    stat = shared_client.exec(vm, "stat", "-c", "%s %a", "/root/blob")["stdout"]
    assert stat == f"{len(data)} 640\n"
    got = shared_client.get(f"/v1/vms/{vm}/files?path=/root/blob")
    assert hashlib.sha256(got.content).digest() == hashlib.sha256(data).digest()
    missing = shared_client.get(f"/v1/vms/{vm}/files?path=/root/missing")
    assert missing.status_code == 404 and "/root/missing" in missing.json()["error"]


def test_a_directory_goes_in_and_out_as_tar(shared_client, vm):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content in (("a/one", b"1"), ("a/b/two", b"22" * 100000)):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.mode = 0o751
            tar.addfile(member, io.BytesIO(content))
    put = shared_client.put(f"/v1/vms/{vm}/archive?path=/root/tree", data=packed.getvalue())
    assert put.status_code in (200, 201, 204), put.text
    assert shared_client.exec(vm, "cat", "/root/tree/a/one")["stdout"] == "1"
    got = shared_client.get(f"/v1/vms/{vm}/archive?path=/root/tree")
    with tarfile.open(fileobj=io.BytesIO(got.content)) as tar:
        files = {member.name.removeprefix("./").removeprefix("tree/"): member for member in tar if member.isfile()}
        assert set(files) == {"a/one", "a/b/two"} and files["a/b/two"].mode & 0o777 == 0o751
        assert tar.extractfile(files["a/b/two"]).read() == b"22" * 100000


def test_the_guest_cannot_fill_the_host_with_console_output(server, client):
    client.create("loud")
    # Each byte ends in the VMM, which takes minutes where KVM itself is emulated.
    script = "head -c 4000000 /dev/zero | tr '\\0' 'x' | fold -w 200 >/dev/console"
    done = client.post("/v1/vms/loud/exec", timeout=1500,
                       json={"command": ["sh", "-c", script], "timeout_ms": 1_400_000})
    assert done.ok and done.json()["exit_code"] == 0, done.text
    used = sum(path.stat().st_size for path in server.data_dir.rglob("loud.log*"))
    assert 0 < used < 3 * 1048576
