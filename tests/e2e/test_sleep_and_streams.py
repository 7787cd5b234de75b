"""What wakes a VM that sleeps and what keeps one awake, what a clone does not have of its parent, and checkpoint
streams that are cut, damaged or of another host."""
import json
import subprocess
import time

from test_checkpoints import checkpoint, restore, shell, state
from waiting import until
from web_socket import Session


def suspend(api, name):
    assert api.post(f"/v1/vms/{name}/suspend").status_code == 200
    assert state(api, name) == "suspended"


def test_a_suspended_vm_wakes_by_its_console_and_by_its_files(client):
    client.create("web")
    shell(client, "web", "echo kept > /run/in-memory")

    suspend(client, "web")
    got = client.get("/v1/vms/web/files?path=/run/in-memory")
    assert (got.status_code, got.text) == (200, "kept\n")
    assert state(client, "web") == "running"

    suspend(client, "web")
    assert client.put("/v1/vms/web/files?path=/root/put", data=b"put").status_code < 300
    assert shell(client, "web", "cat /root/put") == "put"

    suspend(client, "web")
    with Session(client, "/v1/vms/web/console") as console:
        shell(client, "web", "echo from the guest >/dev/console")
        console.until(lambda: b"from the guest" in console.out)

    # The console's log is there without waking anybody.
    suspend(client, "web")
    assert b"from the guest" in client.get("/v1/vms/web/logs").content
    assert state(client, "web") == "suspended"
    # Nor do lists, settings and a checkpoint.
    checkpoint(client, "web", name="asleep")
    assert state(client, "web") == "suspended"
    restore(client, "web", "asleep", new_name="twin")
    assert shell(client, "twin", "cat /run/in-memory") == "kept"


def test_a_detached_command_keeps_a_vm_awake(client):
    client.create("web")
    assert client.put("/v1/vms/web/policy", json={"idle_suspend_s": 10}).status_code == 200
    begun = client.post("/v1/vms/web/exec", json={"command": ["sleep", "25"], "detach": True})
    assert begun.status_code < 300, begun.text
    session = begun.json()["session"]
    woken_until = time.monotonic() + 24
    seen = set()
    while time.monotonic() < woken_until:
        seen.add(state(client, "web"))
        time.sleep(1)  # there is no event for what does not happen
    assert seen == {"running"}, f"session {session} was running"
    until(lambda: state(client, "web"), lambda seen: seen == "suspended", within=90, every=1)


def test_a_clone_has_none_of_its_parents_sessions(client):
    client.create("web")
    begun = client.post("/v1/vms/web/exec", json={"command": ["sh", "-c", "cat; sleep 1000"], "detach": True})
    assert begun.status_code < 300, begun.text
    session = begun.json()["session"]
    shell(client, "web", "pgrep -f '[s]leep 1000'")
    saved = checkpoint(client, "web")
    restore(client, "web", saved["id"], new_name="twin")
    assert [one for one in client.get("/v1/vms/twin/sessions").json() if not one.get("ended")] == []
    gone = client.post(f"/v1/vms/twin/sessions/{session}/signal", json={"signal": "TERM"})
    assert gone.status_code == 404, gone.text
    assert shell(client, "twin", "pgrep -f '[s]leep 1000' || echo none") == "none"
    # In the parent it goes on, also when it is rewound.
    restore(client, "web", saved["id"], keep_present=False)
    assert session in [one["id"] for one in client.get("/v1/vms/web/sessions").json()]
    assert client.post(f"/v1/vms/web/sessions/{session}/signal", json={"signal": "KILL"}).status_code < 300


class OpenedStream:
    """A stream whose description can be changed: that is its first record, and is not covered by a hash."""

    def __init__(self, stream):
        self.magic = stream[:8]
        plain = subprocess.run(["zstd", "-dc"], input=stream[8:], capture_output=True, check=True).stdout
        assert plain[:1] == b"C"
        size = int.from_bytes(plain[1:5], "little")
        self.description, self.rest = json.loads(plain[5:5 + size]), plain[5 + size:]

    def rewritten(self, **changes):
        text = json.dumps({**self.description, **changes}).encode()
        plain = b"C" + len(text).to_bytes(4, "little") + text + self.rest
        return self.magic + subprocess.run(["zstd", "-1", "-c"], input=plain, capture_output=True, check=True).stdout


def test_streams_that_are_cut_damaged_or_foreign_leave_nothing(server, client):
    client.create("web")
    shell(client, "web", "echo kept > /root/file; sync")
    saved = checkpoint(client, "web")
    stream = client.get(f"/v1/vms/web/checkpoints/{saved['id']}/export", timeout=300).content

    def taken_in(data):
        return client.post("/v1/vms/moved/checkpoints/import", data=data, timeout=300)

    def places():
        """But the source's description, in which the server notes hashes when it finds the time."""
        found = (server.data_dir / "users").glob("*/checkpoints/**/*")
        return {path for path in found if not ("web" in path.parts and path.name.startswith("config.json"))}

    before = places()
    for name, data in {
        "nothing": b"", "its beginning": stream[:8], "a half": stream[:len(stream) // 2], "all but the end": stream[:-1],
        "more than all": stream + b"x", "twice": stream + stream, "no stream": b"PK\3\4" + stream[4:],
        "a later version": stream[:7] + b"\2" + stream[8:], "text": b"hello\n" * 1000,
    }.items():  # fmt: skip
        refused = taken_in(data)
        assert refused.status_code in (400, 502), (name, refused.status_code, refused.text)
        assert refused.json()["error"], name
        assert places() == before, name
    opened = OpenedStream(stream)
    for key, value, status, text in (
        ("vmm_version", "0.1", 501, "0.1"), ("cpu_fingerprint", "another", 501, "CPU"), ("cpus", 1000, 403, "cpus"),
        ("image", "../../etc/passwd", 400, "image"), ("env", ["A=b"] * 10_000, 400, "env"), ("format", 99, 501, "99"),
        ("mem_mib", 1 << 40, 403, "MiB"), ("disk_mib", 1, 502, "size"),
    ):  # fmt: skip
        refused = taken_in(opened.rewritten(**{key: value}))
        assert refused.status_code == status and text in refused.text, (key, refused.status_code, refused.text)
        assert places() == before, key
    taken = taken_in(opened.rewritten())
    assert taken.status_code == 201, taken.text
    restore(client, "moved", taken.json()["id"], new_name="again")
    assert shell(client, "again", "cat /root/file") == "kept"
