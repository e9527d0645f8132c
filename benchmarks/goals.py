"""The goals, and the figure of a run for each."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import bursts, distance, logins, memory, slow, turns
from benchmarks.compare import HALF, SERVICE, p99
from benchmarks.report import spread, table
from benchmarks.servers import BEFORE

#: The rows of each part.
Results = Mapping[str, Sequence[Any]]
AT_MOST, AT_LEAST = "≤", "≥"
#: Bursts of logins that must all succeed, and the seconds in which they must.
ALL_SUCCEED = ("8", "40", "8 of one account")
LOGIN_SECONDS = 3.0


@dataclass(frozen=True)
class Goal:
    """A bound, and how its figures are taken from the rows of a run.

    The median of the figures is compared. A goal without figures was not measured.
    """

    text: str
    sign: str
    bound: float
    figures: Callable[[Results], list[float]]

    def verdict(self, found: Sequence[float]) -> str:
        if not found:
            return "not measured"
        middle = statistics.median(found)
        met = middle <= self.bound if self.sign == AT_MOST else middle >= self.bound
        return "met" if met else "missed"


def against(other: str, of_row: Callable[[Any], float] | None = None, kind: str = "pair") -> Any:
    """Ratios of the service and ``other`` in one round of the part *compare*."""
    what = {"of_row": of_row} if of_row else {}
    return lambda results: turns.ratios(results.get("compare", ()), SERVICE, other, kind, **what)


def rows(results: Results, part: str, server: str, kind: str) -> list[Any]:
    return turns.of(results.get(part, ()), server, kind)


def succeeded(results: Results) -> list[float]:
    """The share of the logins at once that got 200: the worst burst of each round."""
    return worst(results, lambda row: row.succeeded / sum(row.statuses.values()), min)


def until_the_last(results: Results) -> list[float]:
    return worst(results, lambda row: row.seconds, max)


def worst(
    results: Results, value: Callable[[Any], float], of: Callable[[Sequence[float]], float]
) -> list[float]:
    its = [rows(results, "bursts", "at login", kind) for kind in ALL_SUCCEED]
    return [of([value(row) for row in together]) for together in zip(*its, strict=True)]


def beside_logins(results: Results) -> list[float]:
    return logins.slower(results.get("logins", ()), "logins")


def logins_a_second(results: Results) -> list[float]:
    its = rows(results, "logins", "logins", logins.BURST)
    return [row.succeeded / row.seconds for row in its]


def many_callers(results: Results) -> list[float]:
    return bursts.between(results.get("bursts", ()), "callers", bursts.MANY, bursts.ONE)


def queries(results: Results) -> list[float]:
    return [row.value for row in rows(results, "bursts", "callers", bursts.QUERIES)]


def slowest_beside(results: Results) -> list[float]:
    """Of the kinds of slow clients, the one that slows the others the most, round by round."""
    its = results.get("slow", ())
    ratios = [slow.slower(its, "slow clients", kind) for kind in slow.KINDS]
    return [max(together) for together in zip(*ratios, strict=True)]


def timely(results: Results) -> list[float]:
    return bursts.timely(results.get("bursts", ()), "overload", "times 3")


def refused_well(results: Results) -> list[float]:
    """Of what was not timely, the share that got 503 with ``Retry-After``."""
    found = []
    for row in rows(results, "bursts", "overload", "times 3"):
        rest = row.busy + row.failed + bursts.late(row)
        found.append(row.busy / rest if rest else 1.0)
    return found


def far_away(ms: int) -> Callable[[Results], list[float]]:
    return lambda results: turns.ratios(
        results.get("distance", ()), SERVICE, BEFORE, distance.away(ms)
    )


def all_processes(results: Results) -> list[float]:
    return [row.value for row in rows(results, "memory", "two workers", memory.OF_ALL)]


GOALS = (
    Goal("pairs against better_auth", AT_LEAST, 3.5, against("better_auth")),
    Goal("pairs against fastapi_seed", AT_LEAST, 5, against("fastapi_seed")),
    Goal("CPU a request against before", AT_MOST, 0.25, against(BEFORE, turns.cpu)),
    Goal("pairs against the floor", AT_LEAST, 0.4, against("floor")),
    Goal("p99 at half of the own peak against before", AT_MOST, 0.5, against(BEFORE, p99, HALF)),
    Goal("8, 40, 8 of one account: share of logins with 200", AT_LEAST, 1, succeeded),
    Goal("the same: seconds until the last", AT_MOST, LOGIN_SECONDS, until_the_last),
    Goal("p99 of token calls beside 50 logins a second / alone", AT_MOST, 1.5, beside_logins),
    Goal("of these 50 logins, successes a second", AT_LEAST, 30, logins_a_second),
    Goal("10,000 callers in turn against one: rate", AT_LEAST, 0.9, many_callers),
    Goal("the same: Postgres transactions a second and worker", AT_MOST, 2, queries),
    Goal("p99 beside 1,000 slow sockets / alone, worst kind", AT_MOST, 2, slowest_beside),
    Goal("overload, three times: share of the peak within 250 ms", AT_LEAST, 0.85, timely),
    Goal("the same: share of the rest with 503 and Retry-After", AT_LEAST, 0.99, refused_well),
    *(
        Goal(f"pairs with Redis {ms} ms away against before", AT_LEAST, 1, far_away(ms))
        for ms in distance.MS
    ),
    Goal("MB of two workers and their master (PSS)", AT_MOST, 115, all_processes),
)


def told(results: Results, everything: bool = True) -> str:
    """The table of the goals.

    :param everything: with those that were not measured
    """
    cells = []
    for goal in GOALS:
        found = goal.figures(results)
        if found or everything:
            figure = spread(found) if found else "-"
            cells.append([goal.text, f"{goal.sign} {goal.bound:g}", figure, goal.verdict(found)])
    return table("Goals (medians of the rounds)", "goal|bound|figure|", cells)
