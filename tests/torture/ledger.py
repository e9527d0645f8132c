"""How long the long run is, and what each of its trials came to.

``make torture`` runs everything at full length and writes docs/reliability.md; the same tests at
a small part of it belong to every ``make test``.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

#: What part of its full length each test runs for.
LENGTH = float(os.environ.get("TORTURE_LENGTH", "0.02"))
#: Where a line about each claim is added; nowhere by default.
RESULTS = os.environ.get("TORTURE_RESULTS")


@dataclass(frozen=True)
class Entry:
    """What a number of trials of one claim came to.

    :param item: the part of docs/reliability.md that it belongs to, such as "crash"
    :param claim: what must never happen, or must always, in words a reader understands
    :param n: how many times it was tried
    :param failures: how many of them went against the claim
    :param figures: what was measured besides, in words ("p95 3.1 s")
    """

    item: str
    claim: str
    n: int
    failures: int
    figures: str = ""


def trials(full: int, least: int = 1) -> int:
    """How many trials this run makes of what the full run makes ``full`` of."""
    return max(least, round(full * LENGTH))


def record(item: str, claim: str, *, n: int, failures: int, figures: str = "") -> None:
    """Note what came of it. Call it before asserting, or a failure would not be in the table."""
    if RESULTS:
        with Path(RESULTS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(Entry(item, claim, n, failures, figures))) + "\n")
