"""How long the long run is, and what each of its trials came to.

``make torture`` runs everything at full length and writes docs/reliability.md; the same tests at
a small part of it belong to every ``make check``.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

#: What part of its full length each test runs for.
LENGTH = float(os.environ.get("TORTURE_LENGTH", "0.02"))
#: Whether this is the long run. It holds each bound; a short one shares its machine, and leaves a
#: margin.
FULL = LENGTH >= 1
#: Where a line about each claim is added; nowhere by default.
RESULTS = os.environ.get("TORTURE_RESULTS")


@dataclass(frozen=True)
class Entry:
    """What a number of trials of one claim came to.

    :param part: the file of the test, such as "crash"
    :param length: what part of its full length it ran for
    :param claim: what must never happen, or must always, in words a reader understands
    :param n: how many times it was tried
    :param failures: how many of them went against the claim
    :param figures: what was measured besides, in words ("p95 3.1 s")
    """

    part: str
    length: float
    claim: str
    n: int
    failures: int
    figures: str


def trials(full: int, least: int = 1) -> int:
    """How many trials this run makes of what the full run makes ``full`` of."""
    return max(least, round(full * LENGTH))


def record(claim: str, *, n: int, failures: int, figures: str = "", test: str = "") -> None:
    """Note what came of it. Call it before asserting, or its figures would not be in the table.

    :param test: the node id of the test; by default the one that is running
    """
    if RESULTS:
        file = (test or os.environ["PYTEST_CURRENT_TEST"]).partition("::")[0]
        part = Path(file).stem.removeprefix("test_").replace("_", " ")
        entry = Entry(part, min(LENGTH, 1), claim, n, failures, figures)
        with Path(RESULTS).open("a", encoding="utf-8") as results:
            results.write(json.dumps(asdict(entry)) + "\n")
