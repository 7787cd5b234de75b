"""The noid program where no server is needed: usage, configuration, files, completion."""
import json
import os
import re
import shutil
import socket
import stat
import subprocess

import pytest

from conftest import BIN, ROOT

NOT_CONFIGURED = "Error: not configured. Run: noid auth setup --url <url> --token <token>\n"


@pytest.fixture
def home(tmp_path):
    directory = tmp_path / "home"
    directory.mkdir()
    return directory


@pytest.fixture
def noid(home, tmp_path):
    """The program with a home directory of its own, in `tmp_path` unless `cwd` says otherwise."""

    def run(*arguments, cwd=tmp_path, **environment):
        sanitizers = {k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")}
        return subprocess.run([BIN / "noid", *arguments], cwd=cwd, capture_output=True, text=True, timeout=60,
                              stdin=subprocess.DEVNULL,
                              env={"HOME": str(home), "PATH": os.environ["PATH"], **sanitizers, **environment})

    return run


def dead_url():
    """A URL on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return "http://127.0.0.1:%d" % probe.getsockname()[1]


def test_help_and_version_are_answers(noid):
    for arguments in (("--help",), ("-h",), ("help",), ("help", "exec"), ("auth", "setup", "--help")):
        done = noid(*arguments)
        assert (done.returncode, done.stderr) == (0, ""), arguments
        assert "--help" in done.stdout
    assert noid("--version").stdout.startswith("noid ")


def test_without_a_command_the_help_goes_to_stderr(noid):
    done = noid()
    assert done.returncode == 2
    assert done.stdout == ""
    assert "create" in done.stderr and "exec" in done.stderr


@pytest.mark.parametrize("arguments", [
    ("frobnicate",), ("list", "--frobnicate"), ("create",), ("create", "a", "--cpus", "x"), ("auth",),
    ("auth", "setup", "--url", "http://h"), ("completion", "tcsh"), ("run",), ("list", "surplus"),
])
def test_wrong_usage_exits_with_2(noid, arguments):
    done = noid(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")


@pytest.mark.parametrize("arguments", [
    ("whoami",), ("list",), ("create", "a"), ("info", "a"), ("exec", "a", "--", "true"), ("console", "a"),
    ("current",), ("cp", "x", "a:/x"), ("run", "--", "true"),
])
def test_without_configuration_the_error_says_what_to_run(noid, arguments):
    done = noid(*arguments)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", NOT_CONFIGURED)


def test_errors_under_json_are_objects(noid):
    done = noid("list", "--json")
    assert done.returncode == 1
    assert json.loads(done.stderr)["code"] == "invalid"


def test_a_damaged_configuration_says_where(noid, home):
    (home / ".noid").mkdir()
    (home / ".noid/config.toml").write_text("[server]\nurl =\n")
    done = noid("list")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: failed to parse config.toml\n\nCaused by:\n    ")
    assert "config.toml:2:" in done.stderr


def test_setup_saves_a_private_file_even_when_the_server_is_not_there(noid, home):
    url = dead_url()
    done = noid("auth", "setup", "--url", url + "//", "--token", "secret")
    path = home / ".noid/config.toml"
    assert done.returncode == 0
    assert done.stdout == f"Configuration saved to {path}.\nServer: {url}\n"
    assert done.stderr.startswith(f"Warning: could not verify connection to {url}: connection error: ")
    assert done.stderr.endswith("Run `noid current` to confirm the saved server URL.\n")
    assert "secret" not in done.stdout + done.stderr
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["config.toml"]
    assert noid("current").stdout.splitlines()[0] == f"Server: {url}"


@pytest.mark.parametrize("url, reason", [
    ("", "server URL cannot be empty"),
    ("host:7654", "server URL must include scheme (http:// or https://)"),
    ("ftp://host", "unsupported URL scheme 'ftp' (expected http:// or https://)"),
    ("http://", "server URL must include host"),
])
def test_setup_refuses_what_is_no_server(noid, home, url, reason):
    done = noid("auth", "setup", "--url", url, "--token", "t")
    assert (done.returncode, done.stderr) == (1, f"Error: {reason}\n")
    assert not (home / ".noid").exists()


def test_the_proxy_hint_names_the_variable(noid):
    done = noid("auth", "setup", "--url", dead_url(), "--token", "t", HTTP_PROXY="http://proxy:3128")
    assert "Hint: " in done.stderr and "NOID_USE_SYSTEM_PROXY" in done.stderr


def test_both_forms_of_the_configuration_are_read(noid, home):
    (home / ".noid").mkdir()
    config = home / ".noid/config.toml"
    config.write_text('server = "http://flat"\ntoken = "t"\n')
    assert noid("current").stdout.splitlines()[0] == "Server: http://flat"
    config.write_text('[server]\nurl = "http://table"\ntoken = "t"\n')
    assert noid("current").stdout.splitlines()[0] == "Server: http://table"
    assert noid("current", NOID_SERVER="http://variable").stdout.splitlines()[0] == "Server: http://variable"
    assert noid("--server", "http://flag", "current",
                NOID_SERVER="http://variable").stdout.splitlines()[0] == "Server: http://flag"


def test_use_and_current(noid, tmp_path):
    server = {"NOID_SERVER": "http://host"}
    assert noid("current", **server).stdout == "Server: http://host\nActive VM: (none — run `noid use <name>`)\n"
    assert noid("use", "web").stdout == "Active VM set to 'web'\n"
    assert (tmp_path / ".noid-vm").read_text() == "web\n"
    assert noid("current", **server).stdout == "Server: http://host\nActive VM: web\n"
    below = tmp_path / "a/b"
    below.mkdir(parents=True)
    assert noid("current", cwd=below, **server).stdout.endswith("Active VM: web\n")
    assert json.loads(noid("current", "--json", **server).stdout) == {"server": "http://host", "active_vm": "web"}


def test_the_older_marker_file_is_read(noid, tmp_path):
    (tmp_path / ".noid").write_text("  older \n")
    assert noid("current", NOID_SERVER="http://host").stdout.endswith("Active VM: older\n")


def test_a_command_without_a_vm_says_how_to_name_one(noid):
    done = noid("info", NOID_SERVER=dead_url(), NOID_TOKEN="t")
    assert (done.returncode, done.stderr) == (1, "Error: no VM specified. Pass a name or run: noid use <name>\n")


@pytest.mark.parametrize("name, reason", [
    ("a" * 65, "VM name too long (max 64 characters)"),
    (".a", "VM name cannot start with . or -"),
    ("a..b", "VM name cannot contain '..'"),
])
def test_names_are_checked_before_anything_is_sent(noid, name, reason):
    done = noid("info", name, NOID_SERVER=dead_url(), NOID_TOKEN="t")
    assert (done.returncode, done.stderr) == (1, f"Error: {reason}\n")


def test_environment_is_checked_before_anything_is_sent(noid):
    done = noid("exec", "a", "-e", "1A=x", "--", "true", NOID_SERVER=dead_url(), NOID_TOKEN="t")
    assert (done.returncode, done.stderr) == (1, "Error: invalid env var name: 1A\n")


def test_a_server_that_is_not_there_is_a_connection_error(noid):
    done = noid("list", NOID_SERVER=dead_url(), NOID_TOKEN="t")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: connection error: ")
    assert "refused" in done.stderr


def test_version_answers_without_a_server(noid):
    answer = json.loads(noid("version", "--json").stdout)
    assert answer["server"] is None
    assert answer["client"]["api_version"] == 1


def test_output_that_cannot_be_written_is_no_success(noid, tmp_path):
    with open("/dev/full", "w") as full:
        done = subprocess.run([BIN / "noid", "--help"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 1
    assert "cannot write" in done.stderr


SYNTAX_CHECK = {"bash": ["bash", "-n"], "zsh": ["zsh", "-n"], "fish": ["fish", "--no-execute"]}


@pytest.mark.parametrize("shell", SYNTAX_CHECK)
def test_completion_scripts_are_valid(noid, tmp_path, shell):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    script = tmp_path / "completion"
    script.write_text(noid("completion", shell).stdout)
    done = subprocess.run([*SYNTAX_CHECK[shell], str(script)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def bash_completions(noid, tmp_path, *words):
    """What bash offers for the last of `words`."""
    script = tmp_path / "completion"
    script.write_text(noid("completion", "bash").stdout)
    program = (f"source {script}; COMP_WORDS=(noid \"$@\"); COMP_CWORD=$#; _noid; "
               "printf '%s\\n' \"${COMPREPLY[@]}\"")
    done = subprocess.run(["bash", "-c", program, "bash", *words], capture_output=True, text=True, timeout=60,
                          env={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert done.stderr == ""
    return done.stdout.split()


def test_bash_completes_commands_options_and_vms(noid, tmp_path):
    stub = tmp_path / "noid"  # what the script asks for the VMs' names
    stub.write_text("#!/bin/sh\necho web\necho worker\n")
    stub.chmod(0o755)
    assert {"create", "exec", "auth"} <= set(bash_completions(noid, tmp_path, ""))
    assert bash_completions(noid, tmp_path, "cre") == ["create"]
    assert bash_completions(noid, tmp_path, "auth", "") [0] == "setup"
    assert "--cpus" in bash_completions(noid, tmp_path, "create", "x", "--c")
    assert bash_completions(noid, tmp_path, "exec", "w") == ["web", "worker"]
    assert bash_completions(noid, tmp_path, "exec", "web", "--", "w") == []


def test_fish_completes_commands_and_options(noid, tmp_path):
    if shutil.which("fish") is None:
        pytest.skip("fish is not installed")
    script = tmp_path / "completion.fish"
    script.write_text(noid("completion", "fish").stdout)

    def complete(line):
        done = subprocess.run(["fish", "--no-config", "-c", f"source {script}; complete -C '{line}'"],
                              capture_output=True, text=True, timeout=60,
                              env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)})
        return [each.split("\t")[0] for each in done.stdout.splitlines()]

    assert complete("noid cre") == ["create"]
    assert "--cpus" in complete("noid create x --c")
    assert complete("noid auth se") == ["setup"]


def test_the_manual_has_every_command_and_every_option(noid):
    manual = (ROOT / "docs/cli.md").read_text()
    described = re.findall(r"^    '(.*)'\) words='(.*)' vm=", noid("completion", "bash").stdout, re.MULTILINE)
    assert len(described) > 30
    commands = {path for path, _ in described if path}
    missing = [path for path in commands if not re.search(rf"[`\s]{path}[`\s\[]", manual)]
    for path, words in described:
        missing += [f"{path} {word}" for word in words.split()
                    if word.startswith("-") and word not in ("-h", "--help", "-V", "--version")
                    and not re.search(rf"[`\s(]{word}[`\s,]", manual)]
    assert missing == []
