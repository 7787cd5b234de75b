"""The OpenAPI document against the server that serves it. That it has every route is a unit test."""
import http.client
import json
import socket

import jsonschema
import pytest

METHODS = ("get", "put", "post", "patch", "delete")
SAMPLES = {  # what makes an operation work on a VM that runs
    "getFile": "?path=/etc/hostname", "putFile": "?path=/tmp/openapi", "getArchive": "?path=/etc/apt",
    "signalSession": "", "tcpStream": "?port=22",
    "transferStream": "?operation=read-file&path=/etc/hostname",
}
BODIES = {
    "createVm": {"name": "-"}, "exec": {"command": ["true"]}, "signalSession": {"signal": "TERM"},
    "createUser": {"name": "openapi"}, "restore": {"checkpoint_id": "00000000000000ff"},
    "pruneCheckpoints": {"keep": 5}, "changeCheckpoint": {"label": "x"}, "fork": {"names": ["-"]},
    "putNetwork": {"mode": "open"}, "publishPort": {"guest": 80}, "changeVm": {"balloon_mib": 0},
    "putLimits": {"max_vms": 3, "max_disk_mib": None},
    "putPolicy": {"checkpoint_every_s": None, "checkpoint_keep": 5, "idle_suspend_s": None},
}


@pytest.fixture(scope="module")
def document(server):
    answer = server.anonymous().get("/openapi.json")
    assert answer.status_code == 200 and answer.headers["Content-Type"] == "application/json"
    return answer.json()


def operations(document):
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item:
                yield method, path, item[method], "servers" in item


def resolved(document, value):
    while "$ref" in value:
        target = document
        for part in value["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        value = target
    return value


def check(document, method, path, operation, status, headers, body):
    """The answer is one that the document promises, and has the shape that it says."""
    where = f"{method} {path}: {status} {body[:300]}"
    assert str(status) in operation["responses"], where
    response = resolved(document, operation["responses"][str(status)])
    content = response.get("content", {})
    if not content:
        assert body == b"", where
        return
    kind = headers["Content-Type"].split(";")[0]
    assert kind in content, where
    if kind == "application/json":
        schema = {"components": document["components"], **content[kind]["schema"]}
        jsonschema.validate(json.loads(body), schema, cls=jsonschema.Draft202012Validator)
    for name in response.get("headers", {}):
        if status in (401, 429, 308, 426) or name == "X-Noid-File-Mode":
            assert name in headers, where


def filled(path, vm):
    for part, value in (("{name}", vm), ("{id}", "00000000000000ff"), ("{which}", "00000000000000ff"), ("{rest}", vm),
                        ("{guest}", "80")):
        path = path.replace(part, value)
    return path


def serves(pattern, path):
    """Whether a request for `path` can be one for `pattern`: {which} takes every word."""
    pairs = list(zip(pattern.split("/"), path.split("/")))
    return pattern.count("/") == path.count("/") and all(a in (b, "{which}") for a, b in pairs)


def ask(api, document, method, path, operation, vm):
    url = filled(path, vm) + SAMPLES.get(operation["operationId"], "")
    body = BODIES.get(operation["operationId"])
    data = json.dumps(body).encode() if body is not None else b""
    answer = api.request(method.upper(), url, data=data if method != "get" else None, allow_redirects=False)
    check(document, method, path, operation, answer.status_code, answer.headers, answer.content)
    return answer


def test_it_is_a_whole_openapi_document(document):
    assert document["openapi"].startswith("3.1.") and document["info"]["version"] != "@VERSION@"
    names = [operation["operationId"] for _, _, operation, _ in operations(document)]
    assert len(names) == len(set(names))
    for method, path, operation, _ in operations(document):
        declared = [resolved(document, parameter)["name"] for parameter in operation.get("parameters", [])]
        for part in path.split("/"):
            if part.startswith("{"):
                assert part[1:-1] in declared, (method, path)
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_every_operation_answers_as_documented_for_a_running_vm(document, client):
    client.create("described")
    for method, path, operation, local in operations(document):
        if local or operation["operationId"] in ("deleteVm", "stopVm", "startVm", "pauseVm", "resumeVm", "suspendVm"):
            continue
        answer = ask(client, document, method, path, operation, "described")
        if method == "get" and not {"101", "308"} & set(operation["responses"]) and "{which}" not in path:
            assert answer.status_code == 200, (path, answer.text)
    by_id = {operation["operationId"]: (method, path, operation) for method, path, operation, _ in operations(document)}
    for name, status in (("startVm", 409), ("pauseVm", 200), ("resumeVm", 200), ("suspendVm", 200), ("resumeVm", 200),
                         ("stopVm", 200), ("startVm", 200), ("deleteVm", 204), ("deleteVm", 204)):
        method, path, operation = by_id[name]
        assert ask(client, document, method, path, operation, "described").status_code == status, name


def test_every_operation_answers_as_documented_for_an_unknown_vm(document, client):
    for method, path, operation, local in operations(document):
        if not local and "{name}" in path:
            answer = ask(client, document, method, path, operation, "nobody")
            listed = operation["operationId"] in ("listCheckpoints", "pruneCheckpoints", "importCheckpoint", "fork")
            assert listed or answer.status_code in (204, 308, 404, 426), (method, path)


def test_every_operation_answers_as_documented_without_a_token(server, document):
    anonymous = server.anonymous()
    for method, path, operation, local in operations(document):
        if local:
            continue
        answer = ask(anonymous, document, method, path, operation, "any")
        assert answer.status_code == (200 if operation.get("security") == [] else 401), (method, path)


def test_every_path_knows_the_documented_methods_and_no_other(document, client):
    for path, item in document["paths"].items():
        if "servers" in item:
            continue
        here = [other for pattern, other in document["paths"].items() if serves(pattern, path)]
        documented = {method.upper() for other in here for method in METHODS if method in other} | {"OPTIONS"}
        if any({"200", "308"} & set(other.get("get", {"responses": {}})["responses"]) for other in here):
            documented.add("HEAD")
        answer = client.request("OPTIONS", filled(path, "any"))
        assert answer.status_code == 204, path
        assert set(answer.headers["Allow"].split(", ")) == documented, path
        for method in ("PATCH", "PUT", "POST", "DELETE"):
            if method not in documented:
                assert client.request(method, filled(path, "any")).status_code == 405, (method, path)


class LocalConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path):
        super().__init__("local")
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self.path))


def test_administration_answers_as_documented(server, document):
    order = {"createUser": 0, "listUsers": 1, "putLimits": 2, "getLimits": 3, "rotateToken": 4, "deleteUser": 5}
    local = [entry for entry in operations(document) if entry[3]]
    assert set(order) <= {operation["operationId"] for _, _, operation, _ in local}
    statuses = []
    for method, path, operation, _ in sorted(local, key=lambda entry: order.get(entry[2]["operationId"], 6)):
        connection = LocalConnection(server.data_dir / "admin.sock")
        body = BODIES.get(operation["operationId"])
        connection.request(method.upper(), filled(path, "openapi"), body=json.dumps(body) if body else None)
        answer = connection.getresponse()
        check(document, method, path, operation, answer.status, answer.headers, answer.read())
        statuses.append(answer.status)
        connection.close()
    assert statuses[:6] == [201, 200, 200, 200, 200, 200]
