"""For what no event tells a test: it looks again until it is so."""
import time


def until(look, holds=bool, within=60, every=0.1):
    """What `look` gives once it holds. Seconds."""
    deadline = time.monotonic() + within
    while not holds(seen := look()):
        assert time.monotonic() < deadline, f"after {within} s still {seen!r}"
        time.sleep(every)
    return seen
