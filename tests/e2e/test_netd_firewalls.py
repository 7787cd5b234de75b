"""noid-netd beside the firewalls that a host may have: the programs themselves, in the namespace of the test's host."""
import contextlib
import os
import shutil
import signal
import subprocess

import pytest

from netd_world import INTERNET, World

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")


@pytest.fixture
def world():
    world = World()
    world.echo(world.internet, 80)
    yield world
    world.close()


@contextlib.contextmanager
def running(command, **kwargs):
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, **kwargs)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path={path}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/>
</policy></busconfig>
"""


class Firewalld:
    """The daemon on a message bus of its own, with its configuration in the test's directory."""

    def __init__(self, world, stack):
        self.world = world
        directory = world.directory
        (directory / "bus.conf").write_text(BUS.format(path=directory / "bus"))
        shutil.copytree("/etc/firewalld", directory / "firewalld")
        self.environment = {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={directory / 'bus'}"}
        log = stack.enter_context(open(directory / "firewalld.log", "wb"))
        stack.enter_context(running(["dbus-daemon", f"--config-file={directory / 'bus.conf'}", "--nofork",
                                     "--nopidfile"], stdout=log, stderr=log))
        world.wait_until((directory / "bus").exists)
        stack.enter_context(running(
            world.host.command("firewalld", "--nofork", "--nopid", "--system-config", directory / "firewalld",
                               "--log-target", "console"), env=self.environment, stdout=log, stderr=log))
        world.wait_until(lambda: self.command("--state", check=False).stdout == "running\n", limit=60)

    def command(self, *arguments, check=True):
        done = subprocess.run(["firewall-cmd", *arguments], env=self.environment, capture_output=True, text=True,
                              timeout=60)
        assert not check or done.returncode == 0, (arguments, done.stdout, done.stderr)
        return done

    def table(self):
        """Its own rules, without what depends on the interfaces that there are."""
        return self.world.host.run("nft", "-s", "list", "table", "inet", "firewalld")


def ours_in_iptables(world):
    return [line for line in world.rules()["iptables"] if "noid-netd" in line]


def test_firewalld_comes_reloads_and_goes(world):
    world.start()
    guest = world.guest()
    assert guest.can_connect(INTERNET, 80)
    ours = ours_in_iptables(world)
    own_table = [table for table in world.rules()["nft"] if "table inet noid " in table]
    assert len(ours) == 5 and len(own_table) == 1
    with contextlib.ExitStack() as stack:
        firewalld = Firewalld(world, stack)
        # As it starts it flushes iptables, whosever the rules are.
        world.wait_until(lambda: ours_in_iptables(world) == ours, limit=60)
        theirs = firewalld.table()
        doctor = world.command("doctor", check=False).stdout
        assert "firewalld is active" in doctor
        advice = "--permanent --zone=trusted --add-interface=noid+"
        assert f"firewall-cmd {advice} && firewall-cmd --reload" in doctor
        assert firewalld.table() == theirs, "what is its own is not touched"

        firewalld.command(*advice.split())
        firewalld.command("--reload")
        world.wait_until(lambda: ours_in_iptables(world) == ours, limit=60)
        assert guest.can_connect(INTERNET, 80), "the advice is enough"
        for _ in range(2):
            firewalld.command("--reload")
            world.wait_until(lambda: ours_in_iptables(world) == ours, limit=60)
        assert guest.can_connect(INTERNET, 80)
        told = firewalld.table()
        world.restart()
        assert firewalld.table() == told
        assert "they are put back" in world.log.read_text()
        assert [table for table in world.rules()["nft"] if "table inet noid " in table] == own_table
        world.stop()
        world.command("cleanup")
        assert firewalld.table() == told
        assert ours_in_iptables(world) == []


class Ufw:
    """ufw with its files in a mount namespace of its own."""

    OWN_FILES = "mount --make-rprivate / && for place in /etc/ufw /etc/default; do " \
                "copy=$(mktemp -d) && cp -a $place/. $copy && mount -t tmpfs none $place && " \
                "cp -a $copy/. $place && rm -rf $copy || exit 1; done; echo ready; exec sleep infinity"

    def __init__(self, world, stack):
        self.holder = stack.enter_context(
            running(world.host.command("unshare", "--mount", "sh", "-c", self.OWN_FILES), stdout=subprocess.PIPE))
        assert self.holder.stdout.readline() == b"ready\n"

    def __call__(self, *arguments):
        done = subprocess.run(["nsenter", "-t", str(self.holder.pid), "--mount", "--net", "ufw", *arguments],
                              capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        return done.stdout


def without(lines, ours):
    return [line for line in lines if line not in ours]


@pytest.mark.parametrize("first", ["ufw", "netd"])
def test_ufw_refuses_to_route_and_guests_pass_nevertheless(world, first):
    with contextlib.ExitStack() as stack:
        ufw = Ufw(world, stack)
        if first == "ufw":
            ufw("--force", "enable")
            theirs = world.rules()["iptables"]
            world.start()
        else:
            world.start()
            ufw("--force", "enable")
            theirs = without(world.rules()["iptables"], ours_in_iptables(world))
        assert ":FORWARD DROP [0:0]" in theirs
        ours = ours_in_iptables(world)
        assert [line for line in theirs if "ufw" in line and line not in world.rules()["iptables"]] == []
        guest = world.guest()
        assert guest.can_connect(INTERNET, 80)
        assert not guest.can_connect(guest.slot["host_ip"], 22)

        ufw("reload")
        world.wait_until(lambda: ours_in_iptables(world) == ours, limit=60)
        assert guest.can_connect(INTERNET, 80)
        ufw("allow", "4711/tcp")
        ufw("--force", "disable")
        world.wait_until(lambda: ours_in_iptables(world) == ours, limit=60)
        assert guest.can_connect(INTERNET, 80)


# As dockerd (29) leaves it with a network of its own and one published port.
DOCKER = """*nat
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80
COMMIT
*filter
:FORWARD DROP [0:0]
:DOCKER - [0:0]
:DOCKER-ISOLATION-STAGE-1 - [0:0]
:DOCKER-ISOLATION-STAGE-2 - [0:0]
:DOCKER-USER - [0:0]
-I FORWARD -o docker0 -j DOCKER
-I FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-I FORWARD -j DOCKER-ISOLATION-STAGE-1
-I FORWARD -j DOCKER-USER
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT
-A DOCKER ! -i docker0 -o docker0 -j DROP
-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-1 -j RETURN
-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
-A DOCKER-ISOLATION-STAGE-2 -j RETURN
-A DOCKER-USER -j RETURN
COMMIT
"""


def load_docker(world):
    done = subprocess.run(world.host.command("iptables-restore", "--noflush"), input=DOCKER, text=True,
                          capture_output=True, timeout=30)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("first", ["docker", "netd"])
def test_guests_pass_dockers_rules(world, first):
    world.host.ip("link", "add", "docker0", "type", "bridge")
    world.host.ip("address", "add", "172.17.0.1/16", "dev", "docker0")
    if first == "docker":
        load_docker(world)
    world.start()
    if first == "netd":
        load_docker(world)
    guest = world.guest()
    assert guest.can_connect(INTERNET, 80)
    assert not guest.can_connect("172.17.0.1", 80), "the bridge is the host's"
    theirs = without(world.rules()["iptables"], ours_in_iptables(world))
    world.restart()
    assert without(world.rules()["iptables"], ours_in_iptables(world)) == theirs
    assert guest.can_connect(INTERNET, 80)


def test_what_another_program_removes_is_put_back(world):
    world.start()
    guest = world.guest()
    # The slot that the guest took is made up for, which changes what the table holds.
    world.wait_until(lambda: " 2 ready" in world.command("doctor").stdout)
    ours = ours_in_iptables(world)
    whole = world.rules()
    for removal in (["iptables", "-t", "nat", "-F", "POSTROUTING"], ["iptables", "-F", "FORWARD"],
                    ["nft", "delete", "table", "inet", "noid"], ["nft", "flush", "chain", "inet", "noid", "from_guest"],
                    ["nft", "flush", "ruleset"]):
        world.host.run(*removal)
        world.wait_until(lambda: world.rules() == whole, limit=60)
        assert ours_in_iptables(world) == ours
        assert guest.can_connect(INTERNET, 80)
    world.command("doctor")
