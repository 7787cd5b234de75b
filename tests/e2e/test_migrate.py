"""Taking over what a data directory of the original Noid (0.2) holds."""
import hashlib
import json
import shutil
import sqlite3
import subprocess

import pytest

from conftest import Api, BIN, GUEST_MEMORY, IMAGES

USER = "0f8fad5b-d9cb-469f-a165-70867728950e"
SECRET = "00112233445566778899aabbccddeeff" * 2
CHECKPOINT = "00000000000000a1"

SCHEMA = """
CREATE TABLE users (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, token_hash TEXT NOT NULL,
  created_at TEXT NOT NULL DEFAULT (datetime('now')));
CREATE TABLE vms (id INTEGER PRIMARY KEY AUTOINCREMENT, user_id TEXT NOT NULL REFERENCES users(id), name TEXT NOT NULL,
  pid INTEGER, socket_path TEXT, kernel TEXT, rootfs TEXT, cpus INTEGER NOT NULL, mem_mib INTEGER NOT NULL,
  state TEXT NOT NULL DEFAULT 'running', created_at TEXT NOT NULL DEFAULT (datetime('now')), net_index INTEGER,
  tap_name TEXT, guest_ip TEXT, UNIQUE(user_id, name));
CREATE TABLE checkpoints (id TEXT PRIMARY KEY, vm_name TEXT NOT NULL, user_id TEXT NOT NULL, label TEXT,
  snapshot_path TEXT NOT NULL, created_at TEXT NOT NULL DEFAULT (datetime('now')),
  FOREIGN KEY (user_id, vm_name) REFERENCES vms(user_id, name));
"""


@pytest.fixture
def original(tmp_path):
    """The original's data directory: a user, a VM with one checkpoint, a golden."""
    home = tmp_path / "original"
    place = home / "storage/users" / USER / "checkpoints/dev" / CHECKPOINT
    place.mkdir(parents=True)
    golden = home / "golden"
    golden.mkdir()
    for directory in (place, golden):
        subprocess.run(["cp", "--sparse=always", IMAGES / "debian-12.ext4", directory / "rootfs.ext4"], check=True)
        (directory / "memory.snap").write_bytes(b"memory")
        (directory / "vmstate.snap").write_bytes(b"state")
    (golden / "config.json").write_text(json.dumps({"cpus": 1, "mem_mib": 2048}))
    with sqlite3.connect(home / "noid.db") as database:
        database.executescript(SCHEMA)
        token_hash = hashlib.sha256(f"noid_tok_{SECRET}".encode()).hexdigest()
        database.execute("INSERT INTO users (id, name, token_hash) VALUES (?, 'ann', ?)", (USER, token_hash))
        database.execute("INSERT INTO vms (user_id, name, cpus, mem_mib) VALUES (?, 'dev', 1, ?)", (USER, GUEST_MEMORY))
        database.execute("INSERT INTO checkpoints (id, vm_name, user_id, label, snapshot_path) VALUES (?, 'dev', ?, 'kept', ?)",
                         (CHECKPOINT, USER, str(place)))
    database.close()
    yield home
    shutil.rmtree(home)


def stamps(directory):
    return {path: path.stat().st_mtime_ns for path in directory.rglob("*")}


def test_users_and_disks_of_the_original_come_along(server_factory, original):
    before = stamps(original)
    server = server_factory()
    migrated = server.command("migrate", "--from-original", "--from", original, check=False)
    assert migrated.returncode == 1, migrated.stderr  # the VM stays behind
    lines = migrated.stdout.splitlines()
    assert "taken    user 'ann'" in lines
    assert f"taken    disk of checkpoint '{CHECKPOINT}' of VM 'dev' of 'ann'" in lines
    assert "taken    golden's disk, as image 'original-golden'" in lines
    assert any(line.startswith("left     VM 'dev' of 'ann': ") for line in lines)
    again = server.command("migrate", "--from-original", "--from", original, check=False)
    assert "taken" not in again.stdout and again.stdout.count("present ") == 3
    assert stamps(original) == before

    server.start()
    busy = server.command("migrate", "--from-original", "--from", original, check=False)
    assert busy.returncode == 1 and "in use by" in busy.stderr
    for token in (SECRET, f"noid_tok_{SECRET}"):
        user = Api(server.url, token)
        assert user.get("/v1/whoami").json() == {"user_id": USER, "name": "ann"}
    [checkpoint] = user.get("/v1/vms/dev/checkpoints").json()
    assert (checkpoint["id"], checkpoint["label"], checkpoint["has_memory"]) == (CHECKPOINT, "kept", False)
    made = user.post("/v1/vms/dev/restore", json={"checkpoint_id": CHECKPOINT, "new_name": "dev"})
    assert made.status_code == 200, made.text
    assert user.exec("dev", "hostname")["stdout"] == "dev\n"


def test_what_is_not_the_originals_is_refused(server_factory, tmp_path):
    server = server_factory()
    nothing = server.command("migrate", "--from-original", "--from", tmp_path, check=False)
    assert nothing.returncode == 1 and "there is no " in nothing.stderr
    own = server.command("migrate", "--from-original", "--from", server.data_dir, check=False)
    assert own.returncode == 1 and "own data directory" in own.stderr
    assert server.command("migrate", check=False).returncode == 2


def test_update_says_how_and_downloads_nothing():
    done = subprocess.run([BIN / "noid-server", "update"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "") and "git pull" in done.stdout
