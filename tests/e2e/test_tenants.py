"""Who may do what: tokens, users, and one user's things from another's hands."""
import json

import pytest

from conftest import Api
from web_socket import Session

VM_ENDPOINTS = [
    ("GET", ""), ("DELETE", ""), ("POST", "/start"), ("POST", "/stop"), ("POST", "/pause"), ("POST", "/resume"),
    ("POST", "/exec"), ("GET", "/sessions"), ("DELETE", "/sessions/0000000000000001"),
    ("POST", "/sessions/0000000000000001/signal"), ("GET", "/logs"), ("GET", "/files?path=/etc/hostname"),
    ("PUT", "/files?path=/tmp/x"), ("GET", "/archive?path=/etc"), ("PUT", "/archive?path=/tmp"),
]
PLAIN_ENDPOINTS = [("GET", "/v1/whoami"), ("GET", "/v1/capabilities"), ("GET", "/v1/vms"), ("POST", "/v1/vms"),
                   ("GET", "/metrics")]


def body_for(method, path):
    if path.endswith("/exec"):
        return {"json": {"command": ["true"]}}
    if path.endswith("/signal"):
        return {"json": {"signal": "TERM"}}
    if path == "/v1/vms":
        return {"json": {"name": "intruder"}}
    return {"data": b""} if method == "PUT" else {}


def every_endpoint(vm):
    return PLAIN_ENDPOINTS + [(method, f"/v1/vms/{vm}{rest}") for method, rest in VM_ENDPOINTS]


def error_of(answer):
    shape = answer.json()
    assert set(shape) == {"error", "code", "request_id"} and shape["request_id"] == answer.headers["X-Request-Id"]
    return shape


def test_nothing_is_told_without_a_token(server, shared_client, vm):
    anonymous = server.anonymous()
    for method, path in every_endpoint(vm) + [("GET", "/v1/no-such-thing")]:
        answer = anonymous.request(method, path, **body_for(method, path))
        assert answer.status_code == 401, (method, path, answer.text)
        assert error_of(answer)["code"] == "unauthenticated"
        assert "WWW-Authenticate" in answer.headers


def test_a_wrong_token_is_refused_everywhere(server_factory):
    # A server of its own: so many failures lock this source out, as the test after this shows.
    server = server_factory().start()
    for number, (method, path) in enumerate(every_endpoint("any")):
        wrong = Api(server.url, f"{number:02x}" * 32)
        answer = wrong.request(method, path, **body_for(method, path))
        assert answer.status_code in (401, 429), (method, path, answer.text)
        error_of(answer)


def test_too_many_failures_are_slowed_down_but_never_the_owner(server_factory):
    server = server_factory().start()
    owner = server.make_user("owner")
    guess = Api(server.url, "0" * 64)
    codes = [guess.get("/v1/whoami").status_code for _ in range(15)]
    assert codes[:10] == [401] * 10 and codes[-1] == 429
    answer = guess.get("/v1/whoami")
    assert answer.status_code == 429 and int(answer.headers["Retry-After"]) > 0


def test_another_user_s_vm_does_not_exist_for_me(server, shared_client, vm):
    stranger = server.make_user()
    try:
        for method, rest in VM_ENDPOINTS:
            path = f"/v1/vms/{vm}{rest}"
            mine = stranger.request(method, path, **body_for(method, path))
            unknown_path = f"/v1/vms/never-made{rest}"
            unknown = stranger.request(method, unknown_path, **body_for(method, unknown_path))
            assert mine.status_code == unknown.status_code, (method, path, mine.text, unknown.text)
            assert mine.status_code == (204 if (method, rest) == ("DELETE", "") else 404), (method, path, mine.text)
            if mine.status_code == 404:
                assert mine.json()["error"] == unknown.json()["error"].replace("never-made", vm)
        for endpoint in ("console", "exec", "tcp?port=22", "sessions/0000000000000001/attach"):
            try:
                with Session(stranger, f"/v1/vms/{vm}/{endpoint}", {"command": ["true"]}) as session:
                    assert "not found" in session.to_end()["error"]
            except Exception as refused:
                assert "404" in str(refused), (endpoint, refused)
        assert stranger.get("/v1/vms").json() == []
    finally:
        server.command("user", "delete", stranger.name)
    assert shared_client.exec(vm, "true")["exit_code"] == 0


def test_users_are_managed_while_the_server_runs(server):
    made = server.command("user", "create", "vera")
    token = made.stdout.strip()
    assert len(token) == 64 and "User 'vera' created" in made.stderr
    vera = Api(server.url, token)
    assert vera.get("/v1/whoami").json()["name"] == "vera"
    prefixed = Api(server.url, "noid_tok_" + token)
    assert prefixed.get("/v1/whoami").status_code == 200
    again = server.command("user", "create", "vera", check=False)
    assert again.returncode == 1 and "Error: user 'vera' already exists" in again.stderr and again.stdout == ""
    rotated = server.command("rotate-token", "vera").stdout.strip()
    assert rotated.startswith("noid_tok_")
    assert vera.get("/v1/whoami").status_code == 401
    vera = Api(server.url, rotated)
    vera.create("short-lived")
    assert "vera" in server.command("user", "list").stdout
    removed = server.command("user", "delete", "vera")
    assert "User 'vera' removed" in removed.stderr
    assert vera.get("/v1/whoami").status_code == 401
    assert "vera" not in server.command("list-users").stdout
    users = [path.name for path in (server.data_dir / "users").iterdir()]
    assert vera_id(removed) not in users, "no file of the user is left"
    assert server.command("remove-user", "vera", check=False).returncode == 1


def test_a_user_s_limits_hold_at_once(server):
    token = server.command("user", "create", "tom").stdout.strip()
    tom = Api(server.url, token)
    try:
        shown = server.command("user", "set-limits", "tom", "--max-vms", "2", "--max-memory", "256").stdout
        assert "of 256 MiB (set for this user)" in shown
        refused = tom.post("/v1/vms", json={"name": "large", "mem_mib": 512})
        assert refused.status_code in (403, 409, 422, 429) and refused.json()["code"] == "limit_exceeded"
        assert "256" in refused.json()["error"], "the error says how much there is"
        assert tom.get("/v1/vms").json() == []
        server.command("user", "set-limits", "tom", "--max-memory", "default")
        limits = json.loads(server.command("user", "show", "tom", "--json").stdout)["limits"]
        assert limits["own"] == {"max_vms": 2, "max_memory_mib": None, "max_vcpus": None, "max_disk_mib": None}
        assert server.command("user", "set-limits", "nobody", "--max-vms", "1", check=False).returncode == 1
        assert server.command("user", "set-limits", "tom", "--max-vms", "many", check=False).returncode == 2
    finally:
        server.command("user", "delete", "tom")


def vera_id(removed):
    return removed.stderr.split("(id: ")[1].split(")")[0]


def test_users_are_managed_without_a_server(server_factory):
    server = server_factory()
    assert server.command("user", "list").stdout == "No users.\n"
    token = server.command("add-user", "offline").stdout.strip()
    shown = server.command("list-users").stdout.splitlines()
    assert shown[0].split() == ["ID", "NAME", "CREATED"] and shown[1].split()[1] == "offline"
    server.start()
    assert Api(server.url, token).get("/v1/whoami").json()["name"] == "offline"


def test_no_token_is_ever_logged(server_factory):
    server = server_factory().start()
    user = server.make_user()
    user.get("/v1/vms")
    user.get("/v1/vms?token=" + user.token)
    Api(server.url, "f" * 64).get("/v1/vms")
    server.stop()
    log = server.log.read_text()
    assert "/v1/vms" in log and "request" in log
    assert user.token not in log and "f" * 64 not in log


@pytest.mark.parametrize("method, path, status", [
    ("GET", "/v1/nothing", 404), ("PATCH", "/v1/vms", 405), ("GET", "/v1/vms/..%2f..%2fetc", 400),
    ("GET", "/v1/vms/-x", 400), ("PUT", "/v1/whoami", 405), ("POST", "/v1/vms/x/exec/more", 404),
])
def test_wrong_paths_and_methods_say_why(shared_client, method, path, status):
    answer = shared_client.request(method, path)
    assert answer.status_code == status, answer.text
    error_of(answer)
    if status == 405:
        assert answer.headers["Allow"]


@pytest.mark.parametrize("body, status", [
    (b"{", 400), (b"[]", 400), (b"", 400), (b'{"name":1}', 400), (b'{"name":"a","cpus":0}', 400),
    (b'{"name":"a","cpus":null}', 400), (b'{"name":"../a"}', 400), (b'{"name":"' + b"a" * 65 + b'"}', 400),
    (b'{"name":"a","mem_mib":99999999}', 400), (b"[" * 100000, 400), (b" " * 2000000, 413),
    (b'{"name":"a","labels":{"k":1}}', 400), (b'\xff\xfe', 400),
])
def test_bodies_that_cannot_be_say_why(shared_client, body, status):
    answer = shared_client.post("/v1/vms", data=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == status, answer.text
    error_of(answer)
