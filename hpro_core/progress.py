"""Progress output of long stages: a redrawn line on a terminal, a line every 5 s in a log."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

LINE_EVERY_S = 5.0
T = TypeVar("T")


def track(items: Iterable[T], total: int, label: str) -> Iterator[T]:
    """Yield the items, and print the number done, the rate and the time left on standard error."""
    start = last = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - last >= LINE_EVERY_S or done == total:
            last = now
            _say(label, done, total, now - start)


def _say(label: str, done: int, total: int, elapsed_s: float) -> None:
    rate = done / max(elapsed_s, 1e-6)
    left_s = (total - done) / max(rate, 1e-6)
    share = f"{done}/{total} ({100 * done / total:.0f} %)"
    line = f"{label}: {share}, {rate:.1f}/s, {left_s:.0f} s left"
    if sys.stderr.isatty():
        end = "\n" if done == total else ""
        print(f"\r\033[K{line}", end=end, file=sys.stderr, flush=True)
    else:
        print(line, file=sys.stderr, flush=True)
