"""A VM from create to destroy, and what is left of it."""
import concurrent.futures
import os
import signal

from conftest import Server
from waiting import until


def files_below(directory):
    """All but the templates that the server makes of boots by itself, whenever it finds the time."""
    names = (str(path.relative_to(directory)) for path in directory.rglob("*"))
    return sorted(name for name in names if not name.startswith("templates/"))


def test_a_vm_answers_a_command_and_is_gone_after_destroy(client):
    made = client.create("first", labels={"purpose": "test"})
    assert made["name"] == "first" and made["state"] == "running" and made["cpus"] == 1
    assert client.exec("first", "uname", "-s")["stdout"] == "Linux\n"
    seen = client.get("/v1/vms/first").json()
    assert seen["state"] == "running" and seen["labels"] == {"purpose": "test"}
    assert seen["uptime_s"] >= 0 and seen["disk_used_bytes"] > 0 and seen["memory_used_bytes"] > 0
    client.destroy("first")
    assert client.get("/v1/vms/first").status_code == 404
    assert client.get("/v1/vms").json() == []
    client.destroy("first")  # a second time is no error


def test_a_name_is_taken_once_per_user_and_free_for_others(server, client):
    client.create("mine")
    again = client.post("/v1/vms", json={"name": "mine"})
    assert again.status_code == 409 and again.json()["error"] == "VM 'mine' already exists"
    other = server.make_user()
    try:
        other.create("mine")
        assert [vm["name"] for vm in other.get("/v1/vms").json()] == ["mine"]
    finally:
        server.command("user", "delete", other.name)
    assert client.exec("mine", "true")["exit_code"] == 0, "the other's VM went, not this one"


def test_stop_keeps_the_disk_and_start_boots_it_again(client):
    client.create("sleeper")
    assert client.exec("sleeper", "sh", "-c", "echo kept >/root/note; sync")["exit_code"] == 0
    assert client.post("/v1/vms/sleeper/stop").status_code == 200
    assert client.get("/v1/vms/sleeper").json()["state"] == "stopped"
    refused = client.post("/v1/vms/sleeper/exec", json={"command": ["true"]})
    assert refused.status_code == 409 and "stopped" in refused.json()["error"]
    assert client.post("/v1/vms/sleeper/start").status_code == 200
    assert client.exec("sleeper", "cat", "/root/note")["stdout"] == "kept\n"


def test_pause_holds_a_vm_and_resume_lets_it_go_on(client):
    client.create("paused")
    assert client.post("/v1/vms/paused/pause").status_code == 200
    assert client.get("/v1/vms/paused").json()["state"] == "paused"
    assert client.post("/v1/vms/paused/resume").status_code == 200
    assert client.exec("paused", "echo", "awake")["stdout"] == "awake\n"


def test_the_same_idempotency_key_makes_one_vm(client):
    body = {"name": "once", "mem_mib": 192}
    first = client.post("/v1/vms", json=body, headers={"Idempotency-Key": "k1"})
    second = client.post("/v1/vms", json=body, headers={"Idempotency-Key": "k1"})
    assert first.status_code == 201 and second.status_code == 201
    assert second.json()["created_at"] == first.json()["created_at"]
    other = client.post("/v1/vms", json={"name": "twice", "mem_mib": 192}, headers={"Idempotency-Key": "k1"})
    assert other.status_code == 409
    assert len(client.get("/v1/vms").json()) == 1


def test_a_create_that_fails_leaves_nothing(server_factory, tmp_path):
    broken = tmp_path / "broken.ext4"
    broken.write_bytes(b"\0" * 1024 * 1024)
    server = server_factory(paths={"rootfs": str(broken)}, guest={"boot_timeout_secs": 20}).start()
    user = server.make_user()
    before = files_below(server.data_dir)
    answer = user.post("/v1/vms", json={"name": "stillborn", "mem_mib": 192})
    assert answer.status_code >= 500, answer.text
    assert answer.json()["request_id"]
    assert user.get("/v1/vms").json() == []
    assert [path for path in files_below(server.data_dir) if "stillborn" in path] == []
    assert set(files_below(server.data_dir)) - set(before) <= {
        path for path in files_below(server.data_dir) if path.endswith(("-wal", "-shm"))}
    assert server.vmm_processes() == []


def test_twenty_creates_and_destroys_at_once_leave_nothing(server_factory):
    server = server_factory().start()
    user = server.make_user()
    user.http.headers["Connection"] = "close"  # the descriptors counted below are the server's own
    user.create("warm-up", mem_mib=128)
    user.destroy("warm-up")
    before = files_below(server.data_dir)
    descriptors = len(os.listdir(f"/proc/{server.process.pid}/fd"))
    names = [f"vm-{number}" for number in range(20)]

    def life(name):
        user.create(name, mem_mib=128)
        answer = user.exec(name, "hostname", timeout_ms=60000)
        user.destroy(name)
        return answer["stdout"]

    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        assert sorted(pool.map(life, names)) == sorted(name + "\n" for name in names)
    assert user.get("/v1/vms").json() == []
    assert server.vmm_processes() == []
    assert files_below(server.data_dir) == before
    assert len(os.listdir(f"/proc/{server.process.pid}/fd")) <= descriptors + 4


def test_a_vmm_that_is_killed_leaves_a_dead_vm_that_starts_again(server, client):
    client.create("victim")
    pids = [pid for pid in server.vmm_processes() if f"/{'victim'}" in os.readlink(f"/proc/{pid}/cwd")]
    assert len(pids) == 1
    os.kill(pids[0], signal.SIGKILL)
    dead = until(lambda: client.get("/v1/vms/victim").json(), lambda view: view["state"] == "dead")
    assert dead["reason"]
    assert client.post("/v1/vms/victim/start").status_code == 200
    assert client.exec("victim", "echo", "again")["stdout"] == "again\n"


def test_a_server_that_was_killed_takes_its_vms_over_with_their_commands(server_factory):
    from web_socket import exec_session

    server: Server = server_factory().start()
    user = server.make_user()
    user.create("survivor")
    counting = "i=0; while [ $i -lt 400 ]; do echo line $i; i=$((i+1)); sleep 0.02; done"
    stream = exec_session(user, "survivor", "sh", "-c", counting, resumable=True, on_disconnect="detach")
    stream.until(lambda: len(stream.out) > 100)
    session = stream.opened["id"]
    have = stream.out
    server.stop(signal.SIGKILL)
    stream.drop()
    server.start()
    assert user.get("/v1/vms/survivor").json()["state"] == "running"
    from web_socket import Session

    rest = Session(user, f"/v1/vms/survivor/sessions/{session}/attach?stdout={len(have)}&stderr=0")
    assert rest.to_end()["exit_code"] == 0
    expected = "".join(f"line {number}\n" for number in range(400)).encode()
    assert have + rest.out == expected
    user.destroy("survivor")
    assert server.vmm_processes() == []
