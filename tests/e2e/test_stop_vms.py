"""noid-server stop-vms: every VM ends while no server runs, as an uninstallation wants it."""
import signal


def state_of(api, name):
    return api.get(f"/v1/vms/{name}").json()["state"]


def test_guests_shut_down_in_order_and_those_that_sleep_sleep_on(server_factory):
    server = server_factory().start()
    api = server.make_user()
    for name in ("runs", "stands", "sleeps"):
        api.create(name)
    refused = server.command("stop-vms", check=False)
    assert refused.returncode == 1 and "in use by noid-server" in refused.stderr
    assert api.post("/v1/vms/stands/pause").status_code == 200
    assert api.post("/v1/vms/sleeps/suspend").status_code == 200
    # Not synced: only a guest that shuts down in order keeps it.
    assert api.exec("runs", "sh", "-c", "echo kept >/root/note")["exit_code"] == 0
    server.stop(signal.SIGKILL)
    assert len(server.vmm_processes()) == 2

    said = server.command("stop-vms").stdout
    assert "stopped runs\n" in said and "stopped stands\n" in said and "sleeps" not in said
    assert server.vmm_processes() == []
    assert server.command("stop-vms").stdout == "", "a second time there is nothing to do"

    server.start()
    assert [state_of(api, name) for name in ("runs", "stands", "sleeps")] == ["stopped", "stopped", "suspended"]
    assert api.post("/v1/vms/runs/start").status_code == 200
    assert api.exec("runs", "cat", "/root/note")["stdout"] == "kept\n"
    assert api.exec("sleeps", "true")["exit_code"] == 0, "it wakes"


def test_what_cannot_be_asked_is_ended(server_factory):
    server = server_factory().start()
    api, other = server.make_user(), server.make_user()
    api.create("lost")
    other.create("fine")
    user = api.get("/v1/whoami").json()["user_id"]
    server.stop()
    (server.data_dir / "users" / user / "noid.db").write_bytes(b"no database")
    done = server.command("stop-vms")
    assert "stopped fine\n" in done.stdout and f"ended what ran in users/{user}/vms/lost\n" in done.stdout
    assert server.vmm_processes() == []


def test_vms_end_also_where_no_vmm_works_any_more(server_factory):
    server = server_factory().start()
    api = server.make_user()
    api.create("web")
    server.stop()
    server.write_config({"vmm": {"qemu": "/no/qemu", "firecracker": "/no/firecracker"}})
    done = server.command("stop-vms")
    assert "guests are not asked" in done.stderr and "/vms/web\n" in done.stdout
    assert server.vmm_processes() == []
    server.write_config({})
    server.start()
    assert state_of(api, "web") == "dead"
    assert api.post("/v1/vms/web/start").status_code == 200
