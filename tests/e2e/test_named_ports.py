"""Ports of a guest by name, through the server itself."""
import hashlib
import http.client
import os
import socket
import urllib.parse

import pytest

from waiting import until

# HTTP as small as it can be: /echo says what came, /up changes to a protocol that repeats every byte.
SERVER = r"""
import hashlib, os, socket
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", 8000))
listener.listen(16)
while True:
    connection, _ = listener.accept()
    if os.fork():
        connection.close()
        continue
    head = b""
    while b"\r\n\r\n" not in head:
        head += connection.recv(65536) or os._exit(0)
    head, body = head.split(b"\r\n\r\n", 1)
    if head.startswith(b"GET /up"):
        connection.sendall(b"HTTP/1.1 101 Yes\r\nConnection: Upgrade\r\nUpgrade: repeat\r\n\r\n")
        while piece := connection.recv(65536):
            connection.sendall(piece)
        os._exit(0)
    length = [int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")]
    digest, left = hashlib.sha256(body), (length or [0])[0] - len(body)
    while left > 0 and (piece := connection.recv(65536)):
        digest.update(piece)
        left -= len(piece)
    answer = head + b"\n" + digest.hexdigest().encode()
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Guest: yes\r\nKeep-Alive: 5\r\nConnection: X-Hop\r\nX-Hop: 1\r\n"
                       b"Content-Length: %d\r\n\r\n" % len(answer) + answer)
    os._exit(0)
"""
DOMAIN = "vms.test"


@pytest.fixture(scope="module")
def world(request):
    """A server with a domain, and a user's VM that serves on port 8000."""
    import conftest
    import shutil
    import tempfile
    server = conftest.Server(tempfile.mkdtemp(prefix="noid-e2e-"), server={"domain": DOMAIN})
    server.start()
    client = server.make_user("ann")
    client.create("my-web")
    started = client.post("/v1/vms/my-web/exec", json={"command": ["python3", "-c", SERVER], "detach": True})
    assert started.status_code == 202, started.text
    until(lambda: client.exec("my-web", "bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8000")["exit_code"] == 0)
    yield server, client
    client.destroy("my-web")
    server.destroy_everything()
    shutil.rmtree(server.directory, ignore_errors=True)


def visit(server, host, path="/echo", method="GET", body=None, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=90)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    connection.putheader("Host", host)
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    if body is not None:
        connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body)
    answer = connection.getresponse()
    answer.text = answer.read().decode(errors="replace")
    connection.close()
    return answer


def test_a_name_leads_its_owner_into_the_guest(world):
    server, client = world
    published = client.post("/v1/vms/my-web/ports", json={"guest": 8000})
    assert published.status_code == 201, published.text
    host = f"8000-my--web-ann.{DOMAIN}"
    assert published.json()["url"] == f"http://{host}:{server.port}/"
    mine = f"Bearer {client.token}"

    seen = visit(server, host, Authorization=mine, X_Forwarded_For="6.6.6.6", X_Real_IP="6.6.6.6",
                 Forwarded="for=6.6.6.6", Connection="X-Secret", X_Secret="1", Cookie="a=b")
    assert seen.status == 200 and seen.headers["X-Guest"] == "yes", seen.text
    assert client.token not in seen.text and "authorization" not in seen.text.lower()
    assert "6.6.6.6" not in seen.text and "X-Secret" not in seen.text and "Cookie: a=b" in seen.text
    assert "X-Forwarded-For: 127.0.0.1" in seen.text and f"X-Forwarded-Host: {host}" in seen.text
    assert "X-Forwarded-Proto: http\r" in seen.text
    assert seen.headers["X-Hop"] is None and seen.headers["Keep-Alive"] is None

    data = os.urandom(5 << 20)
    sent = visit(server, host.upper(), method="POST", body=data, Authorization=mine)
    assert sent.text.endswith(hashlib.sha256(data).hexdigest()), "a body beyond every bound for JSON"
    assert visit(server, host, method="HEAD", Authorization=mine).status == 200

    stranger = server.make_user()
    unknown = [
        visit(server, host), visit(server, host, Authorization=f"Bearer {stranger.token}"),
        visit(server, host, Cookie="noid_access=" + "0" * 64), visit(server, f"8001-my--web-ann.{DOMAIN}"),
        visit(server, f"8001-my--web-ann.{DOMAIN}", Authorization=mine), visit(server, f"22-my--web-ann.{DOMAIN}"),
        visit(server, f"8000-other-ann.{DOMAIN}", Authorization=mine), visit(server, f"8000-my-web-ann.{DOMAIN}"),
        visit(server, f"8000-my--web-nobody.{DOMAIN}", Authorization=mine),
        visit(server, f"8000-...-ann.{DOMAIN}"[:8] + f".{DOMAIN}", Authorization=mine),
        visit(server, host, path=f"http://8000-my--web-ann.{DOMAIN}/echo", Authorization=mine)]
    for answer in unknown:
        assert answer.status in (404, 401) and "X-Guest" not in answer.headers, answer.text
    without_id = {answer.text.split("request_id")[0] for answer in unknown[:9]}
    assert len(without_id) == 1, "whatever is not to be seen looks the same"
    wrong = [visit(server, name, Authorization="Bearer " + "f" * 64) for name in (host, f"80-x-y.{DOMAIN}")]
    assert [answer.status for answer in wrong] == [401, 401]
    assert visit(server, host, path="/v1/whoami", Authorization=mine).headers["X-Guest"] == "yes", "never the API"


def test_a_link_gives_one_browser_a_cookie(world):
    server, client = world
    client.post("/v1/vms/my-web/ports", json={"guest": 8000})
    link = urllib.parse.urlsplit(client.post("/v1/vms/my-web/ports/8000/link").json()["url"])
    first = visit(server, link.netloc, path=f"/echo?a=1&{link.query}&b=2")
    assert first.status == 303 and first.headers["Location"] == "/echo?a=1&b=2", first.text
    cookie = first.headers["Set-Cookie"].split(";")[0]
    assert "HttpOnly" in first.headers["Set-Cookie"]
    assert visit(server, link.netloc, path=f"/echo?{link.query}").status == 404, "it is good once"
    seen = visit(server, link.netloc, Cookie=f"x=y; {cookie}; z=w")
    assert seen.status == 200 and "Cookie: x=y; z=w" in seen.text and "noid_access" not in seen.text
    for elsewhere in ({"Origin": f"http://80-evil-bob.{DOMAIN}"}, {"Sec_Fetch_Site": "same-site"}):
        assert visit(server, link.netloc, Cookie=cookie, **elsewhere).status == 404
    assert client.delete("/v1/vms/my-web/ports/8000").status_code == 204
    client.post("/v1/vms/my-web/ports", json={"guest": 8000})
    assert visit(server, link.netloc, Cookie=cookie).status == 404, "withdrawn, the port forgets its visitors"


def test_a_public_port_upgrades_and_wakes_its_vm(world):
    server, client = world
    client.post("/v1/vms/my-web/ports", json={"guest": 8000, "public": True})
    host = f"8000-my--web-ann.{DOMAIN}"
    assert visit(server, host).status == 200
    assert client.token not in visit(server, host, Authorization=f"Bearer {client.token}").text
    assert "Basic abc" in visit(server, host, Authorization="Basic abc").text, "the application's own"
    assert client.post("/v1/vms/my-web/suspend").status_code == 200
    assert visit(server, host).status == 200, "the first request wakes it"
    server.stop()
    server.start()
    assert visit(server, host).status == 200

    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(f"GET /up HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: repeat\r\n\r\n".encode())
        stream = connection.makefile("rb")
        assert b"101" in stream.readline()
        while stream.readline() != b"\r\n":
            pass
        data = os.urandom(1 << 16)
        connection.sendall(data)
        assert stream.read(len(data)) == data
        connection.shutdown(socket.SHUT_WR)
        assert stream.read() == b""
