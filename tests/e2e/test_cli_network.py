"""What the noid program asks of a server about networks and how it shows the answers; no VM is needed for that."""
import json

from test_cli_older_server import VM, noid, server  # noqa: F401  fixtures

OPEN = {"mode": "open", "rules": [], "upload": 0, "download": 0}


def rows(table):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line.startswith("| ")]


def test_policies_are_shown(server, noid):
    server.answers["GET", "/v1/vms/old/network"] = 200, OPEN
    assert noid("policy", "old").stdout == ("Mode:      open (all but what a rule denies)\nUpload:    not limited\n"
                                            "Download:  not limited\nNo rules.\n")
    assert json.loads(noid("policy", "old", "--json").stdout) == OPEN
    assert all(method == "GET" for method, _, _ in server.requests)


def test_a_policy_is_changed_as_a_whole(server, noid):
    there = {"action": "deny", "to": "192.0.2.0/24"}
    server.answers["GET", "/v1/vms/old/network"] = 200, {**OPEN, "rules": [there], "download": 5000}
    new = [{"action": "allow", "to": "*.debian.org", "ports": ["80", "443"]}, {"action": "deny", "to": "10.0.0.0/8"},
           {"action": "allow", "to": "192.0.2.7", "protocol": "tcp", "ports": ["8000-8100"]}]
    wanted = {"mode": "egress", "rules": [there, *new], "upload": 1_000_000, "download": 5000}
    server.answers["PUT", "/v1/vms/old/network"] = 200, wanted
    options = ("--mode", "egress", "--allow", "*.debian.org:80,443", "--deny", "10.0.0.0/8",
               "--allow", "tcp:192.0.2.7:8000-8100", "--upload", "1M")
    said = noid("policy", "old", *options).stdout
    assert server.requests[-1] == ("PUT", "/v1/vms/old/network", wanted)
    assert said.startswith("Mode:      egress (only what a rule allows)\nUpload:    1000000 bytes/s\n")
    assert rows(said) == [["action", "to", "protocol", "ports"], ["deny", "192.0.2.0/24", "any", "all"],
                          ["allow", "*.debian.org", "any", "80,443"], ["deny", "10.0.0.0/8", "any", "all"],
                          ["allow", "192.0.2.7", "tcp", "8000-8100"]]
    noid("policy", "old", "--clear", "--download", "off", *options)
    assert server.requests[-1][2] == {**wanted, "rules": new, "download": 0}
    wrong = noid("policy", "old", "--mode", "closed", check=False)
    assert (wrong.returncode, wrong.stderr) == (
        1, "Error: unknown network 'closed' (expected none, isolated, egress, open)\n")


def test_a_vm_is_asked_for_with_its_policy(server, noid):
    server.answers["POST", "/v1/vms"] = 201, VM
    noid("create", "old", "--network", "egress", "--allow", "example.com:443", "--download", "2M", "--boot")
    [(_, _, body)] = server.requests
    assert (body["network"], body["boot"]) == ("egress", True)
    assert body["policy"] == {"mode": "egress", "rules": [{"action": "allow", "to": "example.com", "ports": ["443"]}],
                              "upload": 0, "download": 2_000_000}
    server.requests.clear()
    noid("create", "old")
    assert set(server.requests[0][2]) == {"name", "cpus", "mem_mib"}  # what the original knows


def test_ports_are_exposed_listed_and_taken_back(server, noid):
    by_name = {"guest": 80, "host": 40000, "url": "https://80-old-me.example.com", "public": False}
    plain = {"guest": 81, "host": 8081, "url": None, "public": True}
    server.answers["POST", "/v1/vms/old/ports"] = 201, by_name
    assert noid("expose", "old", "80").stdout == (
        "Port 80 of VM 'old' is port 40000 of 127.0.0.1, and https://80-old-me.example.com with a token\n")
    assert server.requests[-1] == ("POST", "/v1/vms/old/ports", {"guest": 80})
    server.answers["POST", "/v1/vms/old/ports"] = 201, plain
    assert json.loads(noid("expose", "old", "81", "--host", "8081", "--public", "--json").stdout) == plain
    assert server.requests[-1][2] == {"guest": 81, "host": 8081, "public": True}
    server.answers["GET", "/v1/vms/old/ports"] = 200, [by_name, plain]
    assert rows(noid("ports", "old").stdout)[1:] == [["80", "40000", by_name["url"], "token"], ["81", "8081", "-", "public"]]
    server.answers["DELETE", "/v1/vms/old/ports/80"] = 204, None
    assert noid("unexpose", "old", "80").stdout == "Port 80 of VM 'old' is no longer exposed\n"
    server.answers["GET", "/v1/vms/old/ports"] = 200, []
    assert noid("ports", "old").stdout == "No ports of VM 'old' are exposed.\n"


def test_info_shows_what_went_through(server, noid):
    traffic = {"sent_bytes": 2048, "sent_packets": 3, "received_bytes": 5, "received_packets": 1, "dropped_packets": 2,
               "denied_packets": 4, "connections": 6}
    server.answers["GET", "/v1/vms/old"] = 200, {**VM, "traffic": traffic}
    assert "Network: 2.0 KiB sent, 5 B received, 6 connections, 4 packets refused, 2 dropped\n" in noid("info", "-a", "old").stdout
    assert "Network:" not in noid("info", "old").stdout
