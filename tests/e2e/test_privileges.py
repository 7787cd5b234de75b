"""What a server that was started as root keeps of root."""
import os
import pathlib

import pytest

# CHOWN, DAC_OVERRIDE, FOWNER, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE, SYS_CHROOT, SYS_PTRACE,
# SYS_ADMIN, SYS_RESOURCE, MKNOD: docs/adr/0005.
KEPT = sum(1 << capability for capability in (0, 1, 3, 5, 6, 7, 8, 10, 18, 19, 21, 24, 27))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_server_of_roots_gives_up_what_it_does_not_need(server_factory):
    server = server_factory().start()
    for task in pathlib.Path(f"/proc/{server.process.pid}/task").iterdir():
        status = dict(line.split(":", 1) for line in (task / "status").read_text().splitlines())
        for capabilities in ("CapPrm", "CapEff", "CapBnd"):
            assert int(status[capabilities], 16) & ~KEPT == 0
        assert int(status["CapInh"], 16) == int(status["CapAmb"], 16) == 0
        assert status["NoNewPrivs"].strip() == "1"
        assert status["Umask"].strip() == "0077"
