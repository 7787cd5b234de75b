"""The noid program against servers of the original's protocol: no sessions, no streamed input, one result.

The server here is an imitation that answers as that one was seen to.
"""
import base64
import hashlib
import json
import os
import socketserver
import struct
import subprocess
import threading

import pytest

from conftest import BIN

VM = {"name": "old", "state": "running", "cpus": 1, "mem_mib": 2048, "created_at": "2026-01-02 03:04:05"}
TOKEN = "noid_tok_" + "a" * 64


class Connection(socketserver.StreamRequestHandler):
    """One request; what it asked is kept in `server.requests`."""

    def handle(self):
        method, target, _ = self.rfile.readline().decode().split()
        headers = {}
        while (line := self.rfile.readline().strip()):
            name, value = line.decode().split(": ", 1)
            headers[name.lower()] = value
        if headers.get("upgrade", "").lower() == "websocket":
            self.web_socket(target, headers)
            return
        body = self.rfile.read(int(headers.get("content-length", 0)))
        self.server.requests.append((method, target, json.loads(body) if body else None))
        status, answer = self.server.answers.get((method, target), (404, {"error": "not found"}))
        text = b"" if answer is None else json.dumps(answer).encode()
        head = f"HTTP/1.1 {status} Whatever\r\nX-Noid-Api-Version: {self.server.api_version}\r\n"
        if len(text) >= 32768:  # such bodies come in chunks
            text = b"".join(b"%x\r\n%s\r\n" % (len(text[i:i + 1000]), text[i:i + 1000]) for i in range(0, len(text), 1000))
            self.wfile.write(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + text + b"0\r\n\r\n")
        else:
            self.wfile.write(head.encode() + b"Content-Length: %d\r\n\r\n" % len(text) + text)

    def web_socket(self, target, headers):
        if self.server.refuse_web_sockets:
            text = b'{"error":"too many WebSocket sessions"}'
            self.wfile.write(b"HTTP/1.1 503 Whatever\r\nContent-Length: %d\r\n\r\n" % len(text) + text)
            return
        key = headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest())
        self.wfile.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
                         b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")
        opcode, payload = self.read_frame()
        assert opcode == 1
        self.server.requests.append(("WS", target, json.loads(payload)))
        for opcode, payload in self.server.frames:
            self.write_frame(opcode, payload)
        if self.server.close_web_sockets:
            self.write_frame(8, b"")
            self.read_frame()

    def read_frame(self):
        first, second = self.rfile.read(2)
        assert second & 0x80, "clients mask"
        length = second & 0x7f
        if length == 126:
            length, = struct.unpack(">H", self.rfile.read(2))
        elif length == 127:
            length, = struct.unpack(">Q", self.rfile.read(8))
        mask = self.rfile.read(4)
        return first & 0xf, bytes(byte ^ mask[i % 4] for i, byte in enumerate(self.rfile.read(length)))

    def write_frame(self, opcode, payload):
        length = bytes([len(payload)]) if len(payload) < 126 else b"\x7e" + struct.pack(">H", len(payload))
        self.wfile.write(bytes([0x80 | opcode]) + length + payload)


class Imitation(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Connection)
        self.url = "http://127.0.0.1:%d" % self.server_address[1]
        self.requests = []
        self.answers = {("GET", "/v1/whoami"): (200, {"user_id": "0-0", "name": "old user"})}
        self.frames = []
        self.api_version = "1"
        self.refuse_web_sockets = False
        self.close_web_sockets = True


@pytest.fixture
def server():
    imitation = Imitation()
    thread = threading.Thread(target=imitation.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield imitation
    imitation.shutdown()
    thread.join()
    imitation.server_close()


@pytest.fixture
def noid(server, tmp_path):
    """The program, told by variables where the imitation is."""

    def run(*arguments, check=True):
        sanitizers = {k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")}
        done = subprocess.run([BIN / "noid", *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=60,
                              stdin=subprocess.DEVNULL,
                              env={"HOME": str(tmp_path), "PATH": os.environ["PATH"], "NOID_SERVER": server.url,
                                   "NOID_TOKEN": TOKEN, **sanitizers})
        assert not check or done.returncode == 0, (done.returncode, done.stdout, done.stderr)
        return done

    return run


def result(**fields):
    return 1, json.dumps({"exit_code": 0, "timed_out": False, "truncated": False, **fields}).encode()


def test_exec_prints_the_one_chunk_and_passes_the_code_on(server, noid):
    server.frames = [(2, b"\x01some output"), result(exit_code=4)]
    done = noid("exec", "old", "-e", "A=b", "--", "ls", "-l", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (4, "some output", "")
    kind, target, request = server.requests[-1]
    assert (kind, target) == ("WS", "/v1/vms/old/exec")
    assert (request["command"], request["env"]) == (["ls", "-l"], ["A=b"])


@pytest.mark.parametrize("frames, code, stdout, stderr", [
    ([result(exit_code=None)], 0, "", ""),
    ([result(exit_code=None, timed_out=True)], 124, "", "exec timed out\n"),
    ([(2, b"\x01x"), result(truncated=True)], 0, "x", "warning: output was truncated (exceeded 1MB limit)\n"),
    ([(1, b'{"error":"VM \'old\' not found"}')], 1, "", "error: VM 'old' not found\n"),
    ([(2, b"\x01a"), (2, b""), (9, b"ping"), (2, b"\x02e"), (2, b"\x7funknown"), (1, b'{"later":1}'), (2, b"\x01b"),
      result(exit_code=2)], 2, "ab", "e"),
])
def test_exec_understands_every_end(server, noid, frames, code, stdout, stderr):
    server.frames = frames
    done = noid("exec", "old", "--", "x", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, stdout, stderr)


@pytest.mark.parametrize("close", [True, False])
def test_exec_without_a_result_is_no_success(server, noid, close):
    server.frames = [(2, b"\x01part")]
    server.close_web_sockets = close
    done = noid("exec", "old", "--", "x", check=False)
    assert (done.returncode, done.stdout) == (255, "part")
    assert "is not known" in done.stderr


def test_exec_goes_over_rest_when_web_sockets_are_refused(server, noid):
    server.refuse_web_sockets = True
    server.answers["POST", "/v1/vms/old/exec"] = (
        200, {"stdout": "over rest\n", "exit_code": 3, "timed_out": False, "truncated": False})
    done = noid("exec", "old", "--", "x", check=False)
    assert (done.returncode, done.stdout) == (3, "over rest\n")


def test_life_cycle_and_lists(server, noid):
    server.answers["POST", "/v1/vms"] = (201, VM)
    server.answers["GET", "/v1/vms"] = (200, [VM])
    server.answers["GET", "/v1/vms/old"] = (200, VM)
    server.answers["DELETE", "/v1/vms/old"] = (204, None)
    assert noid("create", "old").stdout == "VM 'old' created (state: running)\n"
    sent = server.requests[-1][2]
    assert (sent["name"], sent["cpus"], sent["mem_mib"]) == ("old", 1, 2048)
    assert "| old  | running | 1    | 2048      | 2026-01-02 03:04:05 |" in noid("list").stdout
    assert noid("info", "old").stdout == (
        "Name:    old\nState:   running\nCPUs:    1\nMemory:  2048 MiB\nCreated: 2026-01-02 03:04:05\n")
    assert noid("destroy", "old").stdout == "VM 'old' destroyed\n"


def test_a_long_list_comes_in_chunks(server, noid):
    server.answers["GET", "/v1/vms"] = (200, [{**VM, "name": f"vm-{i}"} for i in range(1000)])
    assert len(noid("list", "-q").stdout.splitlines()) == 1000


def test_checkpoints(server, noid):
    checkpoint = {"id": "0123456789abcdef", "vm_name": "old", "label": "note", "created_at": "2026-01-02 03:04:05"}
    server.answers["POST", "/v1/vms/old/checkpoints"] = (201, checkpoint)
    server.answers["GET", "/v1/vms/old/checkpoints"] = (200, [checkpoint, {**checkpoint, "label": None}])
    server.answers["POST", "/v1/vms/old/restore"] = (200, {**VM, "name": "new"})
    assert noid("checkpoint", "old", "--label", "note").stdout == (
        "Checkpoint '0123456789abcdef' created (label: note)\n")
    rows = noid("checkpoints", "old").stdout.splitlines()
    assert rows[1] == "| id               | label | created             |"
    assert rows[5] == "| 0123456789abcdef | -     | 2026-01-02 03:04:05 |"
    assert noid("restore", "old", "0123456789abcdef", "--as", "new").stdout == (
        "VM 'new' restored from checkpoint '0123456789abcdef'\n")
    assert server.requests[-1][2] == {"checkpoint_id": "0123456789abcdef", "new_name": "new"}
    server.answers["GET", "/v1/vms/old/checkpoints"] = (200, [])
    assert noid("checkpoints", "old").stdout == "No checkpoints for VM 'old'.\n"


def test_errors_are_the_servers_words(server, noid):
    server.answers["POST", "/v1/vms"] = (409, {"error": "VM 'old' already exists"})
    done = noid("create", "old", check=False)
    assert (done.returncode, done.stderr) == (1, "Error: server error (409): VM 'old' already exists\n")


def test_a_server_of_another_api_is_refused(server, noid):
    server.api_version = "2"
    done = noid("whoami", check=False)
    assert done.returncode == 1
    assert "API version 2" in done.stderr
