"""What became of the tests of an emulated host, out of the events that left it (events.py)."""

import json
import xml.etree.ElementTree as ElementTree


def junit(results, path):
    """A JUnit report; `results` are (test, outcome, seconds, text)."""
    suites = ElementTree.Element("testsuites")
    suite = ElementTree.SubElement(suites, "testsuite", name="nested")
    for test, outcome, seconds, text in results:
        place, _, name = test.rpartition("::")
        case = ElementTree.SubElement(suite, "testcase", classname=place or "nested", name=name, time=f"{seconds:.3f}")
        if outcome == "skipped":
            ElementTree.SubElement(case, "skipped", message=text)
        elif outcome != "passed":
            ElementTree.SubElement(case, "failure", message=printable(summary(text))).text = printable(text)
    ElementTree.ElementTree(suites).write(path)


def summary(text):
    """The line of a failure that says most: pytest marks it."""
    lines = text.strip().splitlines() or [""]
    return next((line[1:].strip() for line in lines if line.startswith("E  ")), lines[-1])


def printable(text):
    """XML has no place for the other control characters."""
    return "".join(each if each >= " " or each in "\n\t" else "\N{REPLACEMENT CHARACTER}" for each in text)


def read_events(path):
    for line in path.read_bytes().splitlines():
        try:
            event = json.loads(line)
        except ValueError:  # the last line, when the machine was switched off in it
            continue
        if isinstance(event, dict):
            yield event


def results_of(events, why_not_ended):
    """What became of each test that was planned: a test without a result has failed."""
    planned, begun, found, ended = [], None, {}, False
    for event in events:
        planned += event.get("planned", [])
        begun = event.get("begun", begun)
        ended = ended or event.get("ended", False)
        if "test" in event:
            found[event["test"]] = (event["outcome"], event["seconds"], event["text"])
    for test in planned:
        state = "while this test ran" if test == begun else "before this test"
        found.setdefault(test, ("failed", 0.0, f"{why_not_ended} {state}"))
    if not ended:
        found["emulated_host"] = ("failed", 0.0, why_not_ended)
    elif not found:
        found["emulated_host"] = ("failed", 0.0, "no test was run")
    return [(test, *result) for test, result in found.items()]


def conclude(results, path):
    """Writes the report, says what failed, and gives how many passed, failed and were skipped."""
    junit(results, path)
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for test, outcome, _, text in results:
        counts[outcome] += 1
        if outcome == "failed":
            print(f"FAILED {test}: {summary(text)}")
    return counts
