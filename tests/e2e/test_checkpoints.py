"""Checkpoints, rewind, clones and suspension of real microVMs, through the API."""
import concurrent.futures
import os
import signal
import time

import pytest

from waiting import until

KEYGEN = "/usr/bin/ssh-keygen"
COUNTER = "i=0; while true; do i=$((i+1)); echo $i > /run/counter; sleep 0.1; done"


def shell(api, vm, script):
    result = api.exec(vm, "/bin/sh", "-c", script, timeout_ms=100_000)
    assert result["exit_code"] == 0, result
    return result["stdout"].strip()


def start_counter(api, vm):
    answer = api.post(f"/v1/vms/{vm}/exec", json={"command": ["/bin/sh", "-c", COUNTER], "detach": True})
    assert answer.status_code in (200, 201, 202), answer.text
    shell(api, vm, "while [ ! -s /run/counter ]; do sleep 0.05; done")


def counter(api, vm):
    """The counter's value once it is whole; the file may be caught half-written."""
    return int(shell(api, vm, "while ! grep . /run/counter; do :; done"))


def checkpoint(api, vm, **fields):
    answer = api.post(f"/v1/vms/{vm}/checkpoints", json=fields)
    assert answer.status_code == 201, answer.text
    return answer.json()


def restore(api, vm, which, **fields):
    answer = api.post(f"/v1/vms/{vm}/restore", json={"checkpoint_id": which, **fields})
    assert answer.status_code == 200, answer.text
    return answer.json()


def state(api, vm):
    return api.get(f"/v1/vms/{vm}").json()["state"]


def test_a_rewind_brings_files_and_processes_back_and_can_be_undone(client):
    client.create("web")
    start_counter(client, "web")
    shell(client, "web", "echo first > /root/file")
    saved = checkpoint(client, "web", name="good", label="before the change")
    then = counter(client, "web")
    shell(client, "web", "pkill -f 'run/[c]ounter'")
    shell(client, "web", "echo second > /root/file; rm /run/counter")

    answer = restore(client, "web", "good")
    assert shell(client, "web", "cat /root/file") == "first"
    back = counter(client, "web")
    assert back <= then + 200
    shell(client, "web", "sleep 0.5")
    assert counter(client, "web") > back, "the process that was killed runs again"
    assert abs(int(shell(client, "web", "date +%s")) - time.time()) < 30, "the clock did not stay behind"

    restore(client, "web", answer["kept"]["id"], keep_present=False)
    assert shell(client, "web", "cat /root/file") == "second"
    listed = {one["id"]: one for one in client.get("/v1/vms/web/checkpoints").json()}
    assert listed[saved["id"]]["label"] == "before the change"
    assert len(listed) == 2


# One connection for ever: whichever end notices that it broke dies, and with it the pulse.
CONVERSATION = r"""
use IO::Socket::INET;
my $door = IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1:7000") or die;
if (!fork) {
    my $guest = $door->accept or die;
    while (<$guest>) { syswrite($guest, $_) or die }
    die;
}
my $wire = IO::Socket::INET->new("127.0.0.1:7000") or die;
for (my $i = 1; ; $i++) {
    syswrite($wire, "$i\n") or die;
    <$wire> == $i or die;
    open(my $pulse, ">", "/run/pulse.new") or die;
    print $pulse "$$ $i";
    close $pulse;
    rename "/run/pulse.new", "/run/pulse";
    select(undef, undef, undef, 0.02);
}
"""


def pulse(api, vm):
    """Process id and the number of messages that went both ways, after at least one more of them."""
    script = 'old=$(cat /run/pulse); while new=$(cat /run/pulse); [ "$new" = "$old" ]; do sleep 0.05; done; echo $new'
    process, count = shell(api, vm, script).split()
    return int(process), int(count)


def test_an_open_connection_in_the_guest_goes_on_across_checkpoint_and_rewind(client):
    client.create("web")
    command = ["/usr/bin/perl", "-e", CONVERSATION]
    answer = client.post("/v1/vms/web/exec", json={"command": command, "detach": True})
    assert answer.status_code in (200, 201, 202), answer.text
    shell(client, "web", "while [ ! -s /run/pulse ]; do sleep 0.05; done")
    process, before = pulse(client, "web")
    saved = checkpoint(client, "web")
    checkpoint(client, "web")
    same, after = pulse(client, "web")
    assert same == process and after > before
    shell(client, "web", f"kill -9 {process}; touch /root/later; sync")

    restore(client, "web", saved["id"], keep_present=False)
    back, then = pulse(client, "web")
    assert back == process and then > before, "the process that was killed is there with its connection"
    assert shell(client, "web", "ls /root/later 2>/dev/null || echo gone") == "gone"


def test_old_checkpoints_are_pruned_by_number_and_age(client):
    client.create("web")
    client.post("/v1/vms/web/stop")  # without memory they are made at once
    made = [checkpoint(client, "web")["id"] for _ in range(4)]

    def prune(**rule):
        answer = client.post("/v1/vms/web/checkpoints/prune", json=rule)
        assert answer.status_code == 200, answer.text
        return [one["id"] for one in answer.json()]

    def left():
        return {one["id"] for one in client.get("/v1/vms/web/checkpoints").json()}

    assert prune(older_than_s=3600) == [] and prune(keep=2, automatic_only=True) == []
    assert prune(keep=3) == made[:1] and left() == set(made[1:])
    time.sleep(1.1)  # their age is what is tested
    newest = checkpoint(client, "web")["id"]
    assert prune(older_than_s=1) == made[1:] and left() == {newest}
    assert client.post("/v1/vms/web/checkpoints/prune", json={}).status_code == 400


def test_a_command_loses_no_byte_across_a_checkpoint(client):
    client.create("web")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        script = "for i in $(seq 1 3000); do echo $i; [ $((i % 100)) = 0 ] && sleep 0.05; done; true"
        running = pool.submit(shell, client, "web", script)
        saver = pool.submit(lambda: [checkpoint(client, "web")["id"] for _ in range(2)])
        saver.result()
        assert running.result().split() == [str(i) for i in range(1, 3001)]


@pytest.mark.parametrize("count", [3, pytest.param(20, marks=pytest.mark.long)])
def test_clones_are_machines_of_their_own_from_their_first_command_on(client, count):
    client.create("web")
    saved = checkpoint(client, "web")
    names = [f"twin{i}" for i in range(count)]
    script = ("head -c 16 /dev/urandom | od -An -tx1; hostname; cat /etc/machine-id; "
              "cat /proc/sys/kernel/random/boot_id")

    def clone(name):
        restore(client, "web", saved["id"], new_name=name)
        return shell(client, name, script).split("\n")

    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        answers = list(pool.map(clone, names))
    for what, values in zip(("entropy", "hostname", "machine-id", "boot id"), zip(*answers)):
        assert len(set(values)) == count, what
    assert {answer[1] for answer in answers} == set(names)
    assert client.delete(f"/v1/vms/web/checkpoints/{saved['id']}").status_code == 204
    assert shell(client, names[0], "echo alive") == "alive", "it does not need the checkpoint any more"


@pytest.mark.skipif(not os.access(KEYGEN, os.X_OK), reason=f"needs {KEYGEN}, which it puts into the guest")
def test_a_clone_has_ssh_host_keys_of_its_own(client):
    client.create("web")
    with open(KEYGEN, "rb") as program:
        answer = client.put(f"/v1/vms/web/files?path={KEYGEN}&mode=755", data=program)
    assert answer.ok, answer.text
    shell(client, "web", f"mkdir -p /etc/ssh; {KEYGEN} -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key")
    saved = checkpoint(client, "web")
    restore(client, "web", saved["id"], new_name="twin")
    show = f"cat /etc/ssh/ssh_host_ed25519_key.pub; {KEYGEN} -y -f /etc/ssh/ssh_host_ed25519_key"
    keys = {vm: [line.split()[1] for line in shell(client, vm, show).split("\n")] for vm in ("web", "twin")}
    assert keys["web"][0] != keys["twin"][0]
    for public, of_private in keys.values():
        assert public == of_private


def test_a_fork_is_all_or_nothing(client):
    client.create("web")
    shell(client, "web", "echo here > /run/mark")
    answer = client.post("/v1/vms/web/fork", json={"count": 2})
    assert answer.status_code in (200, 201), answer.text
    assert [shell(client, name, "cat /run/mark") for name in ("web-1", "web-2")] == ["here", "here"]
    answer = client.post("/v1/vms/web/fork", json={"names": ["new", "web-1"]})
    assert answer.status_code == 409, answer.text
    assert {vm["name"] for vm in client.get("/v1/vms").json()} == {"web", "web-1", "web-2"}
    assert client.get("/v1/vms/web/checkpoints").json() == []


def test_a_suspended_vm_has_no_process_and_wakes_when_it_is_used(server, client):
    client.create("web")
    start_counter(client, "web")
    before = counter(client, "web")
    pids = len(server.vmm_processes())
    answer = client.post("/v1/vms/web/suspend")
    assert answer.status_code in (200, 204), answer.text
    assert state(client, "web") == "suspended"
    assert len(server.vmm_processes()) == pids - 1
    assert counter(client, "web") >= before
    assert state(client, "web") == "running"


def test_an_idle_vm_goes_to_sleep_by_itself(client):
    client.create("web")
    answer = client.put("/v1/vms/web/policy", json={"idle_suspend_s": 10})
    assert answer.status_code in (200, 204), answer.text
    assert shell(client, "web", "sleep 12; echo awake") == "awake", "never under an open session"
    until(lambda: state(client, "web"), lambda seen: seen == "suspended", within=90, every=1)
    assert shell(client, "web", "echo awake") == "awake"


def test_an_exported_checkpoint_comes_back_as_it_was(client):
    client.create("web")
    shell(client, "web", "echo treasure > /run/in-memory; echo treasure > /root/on-disk; sync")
    saved = checkpoint(client, "web")
    stream = client.get(f"/v1/vms/web/checkpoints/{saved['id']}/export", timeout=300)
    assert stream.status_code == 200
    damaged = bytearray(stream.content)
    damaged[len(damaged) // 2] ^= 1
    refused = client.post("/v1/vms/moved/checkpoints/import", data=bytes(damaged), timeout=300)
    assert refused.status_code >= 400
    assert client.get("/v1/vms/moved/checkpoints").json() == []
    client.destroy("web")

    taken = client.post("/v1/vms/moved/checkpoints/import?name=arrived", data=stream.content, timeout=300)
    assert taken.status_code == 201, taken.text
    restore(client, "moved", "arrived", new_name="again")
    assert shell(client, "again", "cat /run/in-memory /root/on-disk").split() == ["treasure", "treasure"]


def test_the_second_vm_of_a_shape_wakes_from_a_template(server, client):
    def templates():
        return {one.name for one in (server.data_dir / "templates").iterdir() if not one.name.startswith(".")}

    before = templates()
    client.create("first", mem_mib=200)
    until(lambda: templates() - before)  # it is brought to the disk after the create was answered
    second = client.create("second", mem_mib=200)
    assert second["start"] == "template"
    assert shell(client, "second", "hostname") == "second"


@pytest.mark.parametrize("during", ["checkpoint", "restore", "suspend", "fork"])
def test_a_server_that_is_killed_in_the_middle_loses_nothing(server_factory, during):
    server = server_factory(storage={"template_budget": 0}).start()
    api = server.make_user()
    api.create("web")
    shell(api, "web", "echo kept > /root/file; sync")
    checkpoint(api, "web", name="good")
    requests = {
        "checkpoint": ("/v1/vms/web/checkpoints", {}),
        "restore": ("/v1/vms/web/restore", {"checkpoint_id": "good"}),
        "suspend": ("/v1/vms/web/suspend", {}),
        "fork": ("/v1/vms/web/fork", {"count": 2}),
    }
    path, body = requests[during]
    for delay in (0.05, 0.3, 0.8):
        with concurrent.futures.ThreadPoolExecutor() as pool:
            going_on = pool.submit(api.post, path, json=body, timeout=60)
            time.sleep(delay)
            server.stop(signal.SIGKILL)
            going_on.exception()  # answered or cut off, as it may be
        server.start()
        assert shell(api, "web", "cat /root/file") == "kept"
        for one in api.get("/v1/vms/web/checkpoints").json():
            restore(api, "web", one["id"], keep_present=False)
            assert shell(api, "web", "cat /root/file") == "kept"
        for vm in api.get("/v1/vms").json():
            if vm["name"] != "web":
                api.destroy(vm["name"])
    api.destroy("web")
    assert server.vmm_processes() == []
    user = next((server.data_dir / "users").iterdir())
    assert list((user / "vms").iterdir()) == [] and list((user / "checkpoints").iterdir()) == []
