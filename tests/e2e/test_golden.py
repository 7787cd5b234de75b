"""The operator's template, and the examination of a data directory."""


def test_new_vms_wake_from_what_was_promoted(server_factory):
    server = server_factory().start()
    assert "No golden" in server.command("golden", "status").stdout
    user = server.make_user()
    user.create("model")
    user.exec("model", "sh", "-c", "echo prepared >/root/by-operator; sync")
    saved = user.post("/v1/vms/model/checkpoints", json={"label": "golden"})
    assert saved.status_code == 201, saved.text
    server.command("golden", "promote", saved.json()["id"])
    assert "golden" in server.command("golden", "status").stdout
    made = user.create("child")
    assert made["start"] == "golden"
    assert user.exec("child", "cat", "/root/by-operator", "/etc/hostname")["stdout"] == "prepared\nchild\n"
    server.command("golden", "clear")
    assert user.create("plain")["start"] != "golden"
    assert user.exec("child", "echo", "untouched")["stdout"] == "untouched\n"
    server.command("golden", "rollback")
    assert user.create("again")["start"] == "golden"
    unknown = server.command("golden", "promote", "0000000000000000", check=False)
    assert unknown.returncode == 1 and "Error: " in unknown.stderr


def test_a_data_directory_is_examined_and_put_right(server_factory):
    server = server_factory().start()
    busy = server.command("fsck", check=False)
    assert busy.returncode == 1 and "Error: " in busy.stderr
    user = server.make_user()
    user.create("kept")
    assert user.post("/v1/vms/kept/checkpoints", json={}).status_code == 201
    server.stop()
    server.command("fsck", "--repair")
    assert server.command("fsck").returncode == 0
    [memory] = (server.data_dir / "users").glob("*/checkpoints/*/*/memory.snap")
    with open(memory, "r+b") as file:
        file.seek(4096 * 100)
        file.write(b"not what was saved")
    damaged = server.command("fsck", check=False)
    assert damaged.returncode == 1 and "memory.snap" in damaged.stdout
    server.command("fsck", "--repair", check=False)
    server.start()
    assert user.exec("kept", "echo", "alive")["stdout"] == "alive\n"
