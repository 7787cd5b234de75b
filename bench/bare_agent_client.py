"""noid-bench-agent kept running, so that no floor pays for its start."""
import subprocess


class BareAgent:
    """Runs one command at the end of each agent socket that it is given."""

    def __init__(self, bench, *command):
        self.process = subprocess.Popen([bench.binaries / "noid-bench-agent", "-", "--", *command], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def run(self, *sockets):
        """Returns when the command has ended in all of them."""
        self.process.stdin.write("".join(f"{socket}\n" for socket in sockets))
        self.process.stdin.flush()
        for _ in sockets:
            answer = self.process.stdout.readline().rstrip("\n")
            if answer not in map(str, sockets):
                raise RuntimeError(f"a machine did not answer: {answer}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
