"""Ports of a guest as ports of the host."""
import hashlib
import os
import socket

import pytest

from waiting import until

# Answers each connection, when its client has closed its end, with the hash of all that came.
SERVER = """
import hashlib, os, socket
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", 8000))
listener.listen(16)
print("listening", flush=True)
while True:
    connection, _ = listener.accept()
    if os.fork():
        connection.close()
        continue
    digest = hashlib.sha256()
    while piece := connection.recv(65536):
        digest.update(piece)
    connection.sendall(digest.hexdigest().encode())
    os._exit(0)
"""


def serve(client, vm):
    answer = client.post(f"/v1/vms/{vm}/exec", json={"command": ["python3", "-c", SERVER], "detach": True})
    assert answer.status_code == 202, answer.text
    until(lambda: client.exec(vm, "bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8000")["exit_code"] == 0)


def hashed_by_guest(port, data):
    with socket.create_connection(("127.0.0.1", port), timeout=90) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := connection.recv(4096):
            answer += piece
    return answer.decode()


def is_closed(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=10).close()
        return False
    except ConnectionRefusedError:
        return True


def free_host_port():
    """In the range that the server publishes."""
    for port in range(29000, 29900):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port
    raise RuntimeError("no free port")


def test_a_published_port_leads_into_the_guest_through_its_whole_life(server, client):
    host = free_host_port()
    client.create("web", ports=[f"{host}:8000"])
    assert client.get("/v1/vms/web/ports").json() == [{"guest": 8000, "host": host, "url": None, "public": False}]
    serve(client, "web")
    data = os.urandom(3 << 20)
    expected = hashlib.sha256(data).hexdigest()
    assert hashed_by_guest(host, data) == expected, "more than a window, with each end closed by itself"

    taken = client.post("/v1/vms/web/ports", json={"guest": 9000, "host": host})
    assert taken.status_code == 409 and "in use" in taken.json()["error"], taken.text
    outside = client.post("/v1/vms/web/ports", json={"guest": 9000, "host": 22})
    assert outside.status_code == 400, outside.text
    stranger = server.make_user()
    for method, path, body in (("GET", "", None), ("POST", "", {"guest": 8000}), ("DELETE", "/8000", None)):
        answer = stranger.request(method, f"/v1/vms/web/ports{path}", json=body)
        assert answer.status_code == 404, "another user's VM is as unknown as none"

    second = client.post("/v1/vms/web/ports", json={"guest": 9000})
    assert second.status_code == 201 and 20000 <= second.json()["host"] <= 29999, second.text
    with pytest.raises(ConnectionError):
        with socket.create_connection(("127.0.0.1", second.json()["host"]), timeout=30) as nobody:
            assert nobody.recv(1) == b"", "nothing answers there"
            raise ConnectionResetError
    assert client.delete("/v1/vms/web/ports/9000").status_code == 204
    assert client.delete("/v1/vms/web/ports/9000").status_code == 404
    assert is_closed(second.json()["host"])

    assert client.post("/v1/vms/web/suspend").status_code == 200
    assert hashed_by_guest(host, b"wake") == hashlib.sha256(b"wake").hexdigest(), "the first connection wakes it"
    assert client.get("/v1/vms/web").json()["state"] == "running"

    server.stop()
    server.start()
    assert hashed_by_guest(host, data) == expected, "published again by the next server"

    client.destroy("web")
    assert is_closed(host)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_where_the_operator_says_so_ports_are_published_that_only_root_may_take(server_factory):
    server = server_factory(ingress={"ports": "900-1023"}).start()
    client = server.make_user()
    client.create("web")
    serve(client, "web")
    host = client.post("/v1/vms/web/ports", json={"guest": 8000}).json()["host"]
    assert 900 <= host < 1024
    assert hashed_by_guest(host, b"low") == hashlib.sha256(b"low").hexdigest()


def test_settings_of_the_network_are_kept(client):
    client.create("net", network="egress")
    assert client.get("/v1/vms/net/network").json()["mode"] == "egress"
    rules = [{"action": "deny", "to": "10.0.0.0/8", "protocol": "tcp", "ports": ["80", "8000-8100"]}]
    settings = {"mode": "open", "rules": rules, "upload": 0, "download": 1000000}
    assert client.put("/v1/vms/net/network", json=settings).json() == settings
    assert client.get("/v1/vms/net/network").json() == settings
    wrong = client.put("/v1/vms/net/network", json={"mode": "open", "rulez": []})
    assert wrong.status_code == 400 and "rulez" in wrong.json()["error"], wrong.text
    assert client.get("/v1/vms/net/network").json() == settings
    client.destroy("net")


# Says hello to each connection, then gives everything back.
ECHO = """
import os, socket
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", 8000))
listener.listen(16)
while True:
    connection, _ = listener.accept()
    if os.fork():
        connection.close()
        continue
    listener.close()
    connection.sendall(b"hello\\n")
    while piece := connection.recv(65536):
        connection.sendall(piece)
    os._exit(0)
"""


def serve_echo(client, vm):
    answer = client.post(f"/v1/vms/{vm}/exec", json={"command": ["python3", "-c", ECHO], "detach": True})
    assert answer.status_code == 202, answer.text
    until(lambda: client.exec(vm, "bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8000")["exit_code"] == 0)


def greeted(port):
    """A connection that the guest has said hello to; None when it was cut before."""
    try:
        connection = socket.create_connection(("127.0.0.1", port), timeout=60)
    except ConnectionResetError:
        return None
    try:
        if connection.recv(6, socket.MSG_WAITALL) == b"hello\n":
            return connection
    except ConnectionResetError:
        pass
    connection.close()
    return None


def test_connections_are_bounded_and_end_with_their_port(server_factory):
    server = server_factory(ingress={"max_connections_per_vm": 4}).start()
    client = server.make_user()
    port = free_host_port()
    client.create("busy", ports=[f"{port}:8000"])
    serve_echo(client, "busy")
    inside = [greeted(port) for _ in range(4)]
    assert all(inside)
    assert greeted(port) is None, "one more than a VM may have"
    inside.pop().close()
    until(lambda: (fourth := greeted(port)) and not inside.append(fourth))
    for number, connection in enumerate(inside):
        connection.sendall(b"%d" % number)
        assert connection.recv(10) == b"%d" % number, "those that are inside do not notice"

    assert client.delete("/v1/vms/busy/ports/8000").status_code == 204
    for connection in inside:
        connection.settimeout(30)
        with pytest.raises(ConnectionResetError):
            assert connection.recv(10) != b"", "an end in order would pass for the end of the data"
    assert is_closed(port)
    again = client.post("/v1/vms/busy/ports", json={"guest": 8000, "host": port})
    assert again.status_code == 201, again.text
    with greeted(port) as connection:
        connection.sendall(b"again")
        assert connection.recv(10) == b"again"


def test_a_port_that_another_program_has_is_taken_when_it_is_free(server_factory):
    server = server_factory().start()
    client = server.make_user()
    port = free_host_port()
    client.create("web", ports=[f"{port}:8000"])
    serve_echo(client, "web")
    assert "obstacle" not in client.get("/v1/vms/web/ports").json()[0]
    server.stop()
    with socket.socket() as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        thief.bind(("127.0.0.1", port))
        thief.listen()
        server.start()
        until(lambda: "obstacle" in client.get("/v1/vms/web/ports").json()[0])
        listed = client.get("/v1/vms/web/ports").json()[0]
        assert listed["host"] == port and listed["obstacle"] == f"port {port} of the host is in use"
        assert any(f"port {port} of the host is in use" in w for w in client.get("/v1/vms/web").json()["warnings"])
    until(lambda: "obstacle" not in client.get("/v1/vms/web/ports").json()[0])
    with greeted(port) as connection:
        connection.sendall(b"back")
        assert connection.recv(10) == b"back"
    assert not any("in use" in w for w in client.get("/v1/vms/web").json().get("warnings", []))
