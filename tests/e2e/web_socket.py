"""The WebSocket side of the API, as a client in any language would speak it."""
import json
import struct

import websocket

STDOUT, STDERR, STDIN, RESIZE = 1, 2, 3, 4


class Session:
    """One exec or attach over a WebSocket. Collects what arrives; never sends on its own."""

    def __init__(self, api, path, request=None, timeout=60):
        url = api.url.replace("http://", "ws://") + path
        header = [] if api.token is None else [f"Authorization: Bearer {api.token}"]
        self.socket = websocket.create_connection(url, header=header, timeout=timeout)
        self.output = {STDOUT: bytearray(), STDERR: bytearray()}
        self.opened = None
        self.messages = []
        self.result = None
        if request is not None:
            self.socket.send(json.dumps(request))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.drop()

    def send_input(self, data):
        self.socket.send_binary(bytes([STDIN]) + data)

    def end_input(self):
        self.send(type="stdin_eof")

    def resize(self, columns, rows):
        self.socket.send_binary(bytes([RESIZE]) + struct.pack(">HH", columns, rows))

    def send(self, **message):
        self.socket.send(json.dumps(message))

    def acknowledge(self):
        self.send(type="ack", stdout=self.position(STDOUT), stderr=self.position(STDERR))

    def position(self, stream):
        started = self.opened["stdout" if stream == STDOUT else "stderr"] if self.opened else 0
        return started + len(self.output[stream])

    def receive(self):
        """One message; False when the server closed."""
        try:
            opcode, data = self.socket.recv_data()
        except websocket.WebSocketConnectionClosedException:
            return False
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            return False
        if opcode == websocket.ABNF.OPCODE_BINARY:
            if data:
                self.output[data[0]] += data[1:]
            return True
        message = json.loads(data)
        self.messages.append(message)
        if message.get("type") == "session":
            self.opened = message
        elif "type" not in message and ("exit_code" in message or "error" in message):
            self.result = message
        return True

    def until(self, condition):
        while not condition():
            assert self.receive(), f"closed early: {self.messages} {dict(self.output)}"
        return self

    def to_end(self):
        while self.receive():
            pass
        assert self.result is not None, f"closed without a result: {self.messages}"
        return self.result

    def drop(self):
        """As a client that dies: the connection breaks without a Close frame."""
        if self.socket.sock is not None:
            self.socket.sock.close()

    @property
    def out(self):
        return bytes(self.output[STDOUT])

    @property
    def err(self):
        return bytes(self.output[STDERR])


def exec_session(api, vm, *command, **fields):
    return Session(api, f"/v1/vms/{vm}/exec", {"command": list(command), **fields})
