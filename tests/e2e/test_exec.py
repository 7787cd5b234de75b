"""Commands over REST and over WebSocket."""
import base64
import hashlib
import os
import threading

import pytest

from web_socket import STDOUT, Session, exec_session


def test_output_and_exit_code_are_exact(shared_client, vm):
    done = shared_client.exec(vm, "sh", "-c", "printf ' two words\\n\\n'; echo no >&2; exit 3", separate=True)
    assert done["stdout"] == " two words\n\n" and done["stderr"] == "no\n" and done["exit_code"] == 3
    merged = shared_client.exec(vm, "sh", "-c", "echo out; echo err >&2")
    assert sorted(merged["stdout"].split()) == ["err", "out"] and "stderr" not in merged


def test_environment_directory_user_and_input(shared_client, vm):
    done = shared_client.exec(vm, "sh", "-c", 'echo "$GREETING" $(pwd) $(id -un); cat', env=["GREETING=a 'b\""],
                              cwd="/tmp", user="nobody", stdin="line\n")
    assert done["stdout"] == "a 'b\" /tmp nobody\nline\n"


def test_bytes_that_are_no_text_travel_as_base64(shared_client, vm):
    data = bytes(range(256)) * 64
    done = shared_client.exec(vm, "cat", stdin=base64.b64encode(data).decode(), stdin_encoding="base64",
                              encoding="base64")
    assert base64.b64decode(done["stdout"]) == data


def test_a_command_past_its_time_is_killed_with_its_children(shared_client, vm):
    done = shared_client.exec(vm, "sh", "-c", "sleep 987 & sleep 987", timeout_ms=500)
    assert done["timed_out"] is True and done["exit_code"] is None
    left = shared_client.exec(vm, "sh", "-c", "ps ax | grep -c '[s]leep 987'")
    assert left["stdout"] == "0\n"


def test_output_of_a_rest_exec_is_bounded_and_says_so(shared_client, vm):
    done = shared_client.exec(vm, "sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' a")
    assert done["truncated"] is True and done["stdout"] == "a" * 1048576


def test_a_command_that_is_not_there_is_127(shared_client, vm):
    done = shared_client.exec(vm, "no-such-program")
    assert done["exit_code"] == 127 and "no-such-program" in done["stdout"]


@pytest.mark.parametrize("body, error", [
    ({"command": []}, "command cannot be empty"),
    ({}, "command"),
    ({"command": ["true"], "env": ["1A=b"]}, "invalid env var name: 1A"),
    ({"command": ["true"], "env": ["A"]}, "invalid env var (expected KEY=VALUE): A"),
    ({"command": ["a\0b"]}, "NUL"),
    ({"command": "true"}, "command"),
])
def test_a_request_that_cannot_run_says_why(shared_client, vm, body, error):
    answer = shared_client.post(f"/v1/vms/{vm}/exec", json=body)
    assert answer.status_code == 400 and error in answer.json()["error"], answer.text


def test_an_older_client_s_websocket_exec(shared_client, vm):
    with exec_session(shared_client, vm, "sh", "-c", "echo hello; exit 4") as session:
        result = session.to_end()
    assert session.out == b"hello\n"
    assert result == {"exit_code": 4, "timed_out": False, "truncated": False}
    assert session.opened is None, "control messages are for those who ask"


def test_streams_are_apart_and_input_is_streamed(shared_client, vm):
    with exec_session(shared_client, vm, "sh", "-c", "cat; echo done >&2", stream_stdin=True) as session:
        session.send_input(b"one\n")
        session.until(lambda: session.out == b"one\n")
        session.send_input(b"two\n")
        session.end_input()
        assert session.to_end()["exit_code"] == 0
    assert session.out == b"one\ntwo\n" and session.err == b"done\n"


def test_a_terminal_has_a_size_that_can_change(shared_client, vm):
    script = "trap 'stty size; exit 7' WINCH; test -t 0 && stty size; while :; do sleep 0.1; done"
    with exec_session(shared_client, vm, "sh", "-c", script, tty=True, stream_stdin=True,
                      size={"cols": 100, "rows": 30}) as session:
        session.until(lambda: b"30 100" in session.out)
        session.resize(120, 40)
        assert session.to_end()["exit_code"] == 7
    assert b"40 120" in session.out


def test_a_signal_reaches_the_command(shared_client, vm):
    with exec_session(shared_client, vm, "sh", "-c", "trap 'exit 9' USR1; echo ready; while :; do sleep 0.1; done",
                      resumable=True) as session:
        session.until(lambda: b"ready" in session.out)
        session.send(type="signal", signal="USR1")
        assert session.to_end()["exit_code"] == 9


def test_a_client_that_dies_takes_its_command_along(shared_client, vm):
    session = exec_session(shared_client, vm, "sh", "-c", "echo $$; exec sleep 654")
    session.until(lambda: session.out.endswith(b"\n"))
    pid = int(session.out)
    session.drop()
    gone = f"for i in $(seq 100); do kill -0 {pid} 2>/dev/null || exit 0; sleep 0.1; done; exit 1"
    assert shared_client.exec(vm, "sh", "-c", gone)["exit_code"] == 0


def test_a_client_killed_in_the_middle_of_a_stream_comes_back_and_loses_nothing(shared_client, vm):
    lines = 60000
    session = exec_session(shared_client, vm, "seq", str(lines), resumable=True, on_disconnect="detach",
                           hold_ms=60000)
    session.until(lambda: len(session.out) > 10000)
    have, opened = session.out, session.opened["id"]
    session.drop()
    for _ in range(3):
        session = Session(shared_client, f"/v1/vms/{vm}/sessions/{opened}/attach?stdout={len(have)}&stderr=0")
        wanted = len(have) + 20000
        while len(have) + len(session.out) < wanted and session.receive():
            session.acknowledge()
        have += session.out
        if session.result is not None:
            break
        session.drop()
    if session.result is None:
        session = Session(shared_client, f"/v1/vms/{vm}/sessions/{opened}/attach?stdout={len(have)}&stderr=0")
        while session.receive():
            session.acknowledge()
        have += session.out
    assert session.result["exit_code"] == 0
    expected = "".join(f"{number}\n" for number in range(1, lines + 1)).encode()
    assert len(have) == len(expected) and have == expected


def test_an_end_waits_for_a_client_that_died_before_it_had_read_it(shared_client, vm):
    session = exec_session(shared_client, vm, "seq", "10000", resumable=True, on_disconnect="detach", hold_ms=60000)
    session.until(lambda: session.opened is not None)
    ended = f"for i in $(seq 100); do kill -0 {session.opened['pid']} 2>/dev/null || exit 0; sleep 0.1; done; exit 1"
    assert shared_client.exec(vm, "sh", "-c", ended)["exit_code"] == 0
    session.drop()  # all of it lies in the kernel, unread
    again = Session(shared_client, f"/v1/vms/{vm}/sessions/{session.opened['id']}/attach?stdout=0&stderr=0")
    assert again.to_end()["exit_code"] == 0
    assert again.out == "".join(f"{number}\n" for number in range(1, 10001)).encode()


def test_a_detached_command_is_listed_attached_and_ended(shared_client, vm):
    answer = shared_client.post(f"/v1/vms/{vm}/exec", json={
        "command": ["sh", "-c", "echo started; read line; echo got $line"], "detach": True, "label": "job",
        "stream_stdin": True})
    assert answer.status_code in (200, 202), answer.text
    opened = answer.json()["session"]
    listed = {entry["id"]: entry for entry in shared_client.get(f"/v1/vms/{vm}/sessions").json()}
    assert listed[opened]["label"] == "job" and not listed[opened]["attached"]
    with Session(shared_client, f"/v1/vms/{vm}/sessions/{opened}/attach?stdout=0&stderr=0") as session:
        session.until(lambda: session.out == b"started\n")
        session.send_input(b"it\n")
        assert session.to_end()["exit_code"] == 0
        assert session.out == b"started\ngot it\n"


def random_file(size):
    digest = hashlib.sha256()
    for _ in range(size // 1048576):
        block = os.urandom(1048576)
        digest.update(block)
        yield block
    random_file.digest = digest.hexdigest()


def both_ways(client, vm, size):
    """Random bytes through `cat` in the guest and back, hashed on both sides of it."""
    received = hashlib.sha256()
    with exec_session(client, vm, "sh", "-c", "tee /dev/stderr 2>/dev/null | cat", stream_stdin=True,
                      resumable=True) as session:
        session.until(lambda: session.opened is not None)

        taken = threading.Condition()
        offsets = {"sent": 0, "acknowledged": 0}

        def feed():
            for block in random_file(size):
                for start in range(0, len(block), 65536):
                    with taken:  # at most the window beyond what the guest took
                        assert taken.wait_for(lambda: offsets["sent"] - offsets["acknowledged"] < 1000000, 60)
                    session.send_input(block[start:start + 65536])
                    offsets["sent"] += 65536
            session.end_input()

        feeder = threading.Thread(target=feed)
        feeder.start()
        count = 0
        while session.receive():
            if session.messages and session.messages[-1].get("type") == "stdin_ack":
                with taken:
                    offsets["acknowledged"] = session.messages[-1]["offset"]
                    taken.notify()
            if session.output[STDOUT]:
                received.update(session.output[STDOUT])
                count += len(session.output[STDOUT])
                session.output[STDOUT].clear()
                session.send(type="ack", stdout=count, stderr=0)
        feeder.join()
    assert session.result["exit_code"] == 0
    assert count == size and received.hexdigest() == random_file.digest


def test_random_bytes_through_exec_in_both_directions(shared_client, vm):
    both_ways(shared_client, vm, 32 * 1048576)


@pytest.mark.long
def test_a_gibibyte_of_random_bytes_through_exec_in_both_directions(shared_client, vm):
    both_ways(shared_client, vm, 1024 * 1048576)


def test_fifty_sessions_and_one_reader_that_never_reads(shared_client, vm):
    deaf = exec_session(shared_client, vm, "sh", "-c", "yes", resumable=True)
    deaf.until(lambda: deaf.opened is not None)
    others = [exec_session(shared_client, vm, "sh", "-c", f"echo {n}; cat", stream_stdin=True) for n in range(49)]
    for number, session in enumerate(others):
        session.until(lambda: session.out == f"{number}\n".encode())
    for number, session in enumerate(others):
        session.send_input(b"x" * 20000)
        session.end_input()
    for number, session in enumerate(others):
        assert session.to_end()["exit_code"] == 0
        assert session.out == f"{number}\n".encode() + b"x" * 20000
    deaf.drop()
