"""Files that are built once: skipped while what they are made of is unchanged, published by rename.

Beside FILE stands FILE.json: the inputs it was built from, facts about it, and the size and time by
which a later run recognises that FILE is still the one it built.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time


class BuildError(Exception):
    """A build that cannot go on; the text tells the user why and, where known, what to do."""


def progress(text):
    """One line about what is going on, on standard error: standard output is for results."""
    print(f"{program()}: {text}", file=sys.stderr, flush=True)


def program():
    return pathlib.Path(sys.argv[0]).name


def run(*command, **options):
    """Runs a program to its end. Its output is shown only when it fails."""
    command = [str(part) for part in command]
    try:
        source = {} if "input" in options else {"stdin": subprocess.DEVNULL}
        result = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False, **source, **options
        )
    except FileNotFoundError:
        raise BuildError(f"{command[0]} is not installed; scripts/setup-packages installs it") from None
    if result.returncode != 0:
        tail = result.stderr.decode(errors="replace").strip().splitlines()[-15:]
        raise BuildError("\n".join([f"{' '.join(command[:3])} … failed ({result.returncode}):", *tail]))
    return result.stdout


def file_hash(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def default_cache():
    root = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return pathlib.Path(root) / "noid"


@contextlib.contextmanager
def scratch_directory(parent):
    """A directory that is gone afterwards, whatever happens."""
    parent.mkdir(parents=True, exist_ok=True)
    path = pathlib.Path(tempfile.mkdtemp(prefix=".build-", dir=parent))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


class Artifact:
    """One built file and the record beside it."""

    def __init__(self, path, inputs):
        self.path = pathlib.Path(path).absolute()
        self.record_path = self.path.with_name(self.path.name + ".json")
        # The builder is an input, too: a changed script builds anew.
        self.inputs = {**inputs, "builder": file_hash(sys.argv[0])}

    def record(self):
        try:
            return json.loads(self.record_path.read_text())
        except (OSError, ValueError):
            return {}

    def is_current(self):
        record = self.record()
        try:
            stat = self.path.stat()
        except OSError:
            return False
        return record.get("inputs") == self.inputs and record.get("file") == self._fingerprint(stat)

    @contextlib.contextmanager
    def building(self):
        """Gives a path to build at and a dict for facts; publishes both when the block ends well."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        with scratch_directory(self.path.parent) as scratch:
            fresh = scratch / self.path.name
            facts = {}
            yield fresh, facts
            with open(fresh, "rb") as file:
                os.fsync(file.fileno())
            # The record goes first: if we stop in between, it does not fit the old file, and the
            # next run builds again.
            record = {"inputs": self.inputs, "facts": facts, "file": self._fingerprint(fresh.stat())}
            draft = scratch / "record"
            draft.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")
            os.replace(draft, self.record_path)
            os.replace(fresh, self.path)
        progress(f"{self.path} made in {time.monotonic() - started:.1f} s")

    @staticmethod
    def _fingerprint(stat):
        return {"size": stat.st_size, "modified_ns": stat.st_mtime_ns}


def main(build):
    """Runs a script's `build` and turns its failure into one message and an exit code."""
    os.umask(0o022)
    try:
        build()
    except BuildError as error:
        print(f"{program()}: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{program()}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0
