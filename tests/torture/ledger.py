"""The length of a run, and the results of its trials.

``make torture`` runs everything at full length and writes results.md; ``make check`` runs the same
tests at a small part of that length.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

#: The part of its full length that each test runs for.
LENGTH = float(os.environ.get("TORTURE_LENGTH", "0.015"))
#: Whether this is the full run, which has a machine to itself and holds each bound. A short run
#: shares its machine, and leaves a margin.
FULL = LENGTH >= 1
#: The file that gets a line for each claim; none by default.
RESULTS = os.environ.get("TORTURE_RESULTS")


@dataclass(frozen=True)
class Entry:
    """The result of the trials of one claim.

    :param part: the file of the test, such as "crash"
    :param length: the part of its full length that the test ran for
    :param claim: a property that must hold in each trial, in plain words
    :param n: the number of trials
    :param failures: the number of trials that violated the claim
    :param figures: further measurements, in words ("p95 3.1 s")
    """

    part: str
    length: float
    claim: str
    n: int
    failures: int
    figures: str


def trials(full: int, least: int = 1) -> int:
    """The number of trials in this run, where the full run has ``full``."""
    return max(least, round(full * LENGTH))


def record(claim: str, *, n: int, failures: int, figures: str = "", test: str = "") -> None:
    """Record the result of a claim. Call it before asserting, so that failures are recorded too.

    :param test: the node id of the test; by default the running one
    """
    if RESULTS:
        file = (test or os.environ["PYTEST_CURRENT_TEST"]).partition("::")[0]
        part = Path(file).stem.removeprefix("test_").replace("_", " ")
        entry = Entry(part, min(LENGTH, 1), claim, n, failures, figures)
        with Path(RESULTS).open("a", encoding="utf-8") as results:
            results.write(json.dumps(asdict(entry)) + "\n")
