"""What the emulated host tells while the tests run: one JSON object a line, written to a serial port that the
machine around it keeps in a file. So nothing that was found out is lost when the emulated host does not come
to its end.

    {"planned": ["tests/e2e/test_exec.py::test_x", ...]}
    {"begun": "tests/e2e/test_exec.py::test_x"}
    {"test": "tests/e2e/test_exec.py::test_x", "outcome": "passed", "seconds": 1.5, "text": ""}
    {"ended": true}

Also a plugin of pytest (-p events), which tells of pytest's tests.
"""

import json
import os

LONGEST_TEXT = 20_000  # a serial port is slow


def tell(**event):
    path = os.environ.get("NOID_NESTED_EVENTS")
    if path:
        with open(path, "ab", buffering=0) as port:
            port.write(json.dumps(event).encode() + b"\n")


def tell_result(test, outcome, seconds, text=""):
    tell(test=test, outcome=outcome, seconds=round(seconds, 3), text=text[-LONGEST_TEXT:])


class _Results:
    """pytest reports a test in up to three parts; it has failed when one of them has."""

    def __init__(self):
        self.seconds = 0.0
        self.outcome = "passed"
        self.texts = []

    def pytest_collection_finish(self, session):
        tell(planned=[item.nodeid for item in session.items])

    def pytest_runtest_logstart(self, nodeid):
        self.seconds, self.outcome, self.texts = 0.0, "passed", []
        tell(begun=nodeid)

    def pytest_runtest_logreport(self, report):
        self.seconds += report.duration
        if report.failed:
            self.outcome = "failed"
            self.texts += [*(f"--- {name}\n{content}" for name, content in report.sections), report.longreprtext]
        elif report.skipped and self.outcome == "passed":
            self.outcome = "skipped"
            self.texts.append(str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr))

    def pytest_runtest_logfinish(self, nodeid):
        tell_result(nodeid, self.outcome, self.seconds, "\n".join(self.texts))

    def pytest_collectreport(self, report):
        if report.failed:
            tell(planned=[report.nodeid])
            tell_result(report.nodeid, "failed", 0.0, report.longreprtext)


def pytest_configure(config):
    config.pluginmanager.register(_Results(), "noid-nested-results")
