"""The goals: each has its figure in the rows of a full run, and a verdict."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import bursts, distance, goals, logins, memory, slow
from benchmarks.compare import HALF
from benchmarks.servers import BEFORE, Burst, Figure
from tests.benchmarks.rows import row

TURNS = (1, 2, 3)
PEERS = (BEFORE, "floor", "fastapi_seed", "better_auth", "fastify_getdel")


def full_run() -> dict[str, list[Any]]:
    """A run in which the service is ten times as fast as everything else."""
    found: dict[str, list[Any]] = {"compare": [], "distance": []}
    for turn in TURNS:
        found["compare"] += [
            *(row(turn, "service", kind, 1000, p99=1, server_cpu=0.1) for kind in ("pair", HALF)),
            *(
                row(turn, peer, kind, 100, p99=10, server_cpu=0.1)
                for peer in PEERS
                for kind in ("pair", HALF)
            ),
        ]
        for ms in distance.MS:
            found["distance"] += [
                row(turn, "service", distance.away(ms), 100),
                row(turn, BEFORE, distance.away(ms), 50),
            ]
    found["bursts"] = [
        made
        for turn in TURNS
        for made in (
            *(
                Burst(turn, "at login", kind, 0.5, {"200": count})
                for kind, (count, *_) in bursts.LOGINS.items()
            ),
            row(turn, "callers", bursts.ONE, 100),
            row(turn, "callers", bursts.MANY, 99),
            Figure(turn, "callers", bursts.QUERIES, 1.0),
            row(turn, "overload", "peak", requests=1000, timely=1000),
            row(turn, "overload", "times 3", requests=2500, timely=900, busy=1600),
        )
    ]
    found["logins"] = [
        made
        for turn in TURNS
        for made in (
            row(turn, "logins", logins.ALONE, p99=10),
            row(turn, "logins", logins.BESIDE, p99=11),
            Burst(turn, "logins", logins.BURST, 2.0, {"200": 90, "503": 10}),
        )
    ]
    found["slow"] = [row(turn, "slow clients", slow.ALONE, p99=10) for turn in TURNS]
    found["slow"] += [
        row(turn, "slow clients", kind, p99=11) for turn in TURNS for kind in slow.KINDS
    ]
    found["memory"] = [Figure(turn, "two workers", memory.OF_ALL, 110.0) for turn in TURNS]
    return found


def verdicts(results: dict[str, list[Any]]) -> dict[str, str]:
    return {goal.text: goal.verdict(goal.figures(results)) for goal in goals.GOALS}


def test_every_goal_is_measured_by_a_full_run_and_can_be_met() -> None:
    assert set(verdicts(full_run()).values()) == {"met"}
    for goal in goals.GOALS:
        assert len(goal.figures(full_run())) == len(TURNS)


def test_a_goal_that_was_not_measured_is_said_to_be_so_in_a_full_run_only() -> None:
    assert set(verdicts({}).values()) == {"not measured"}
    assert goals.told({}).count("not measured") == len(goals.GOALS)
    assert "not measured" not in goals.told({}, everything=False)


@pytest.mark.parametrize(
    ("part", "server", "kind", "changes", "goal"),
    [
        ("compare", "floor", "pair", {"units": 3000}, "pairs against the floor"),
        ("compare", "better_auth", "pair", {"units": 500}, "pairs against better_auth"),
        ("compare", "before", "pair", {"server_cpu": 0.01}, "CPU a request against before"),
        (
            "compare",
            "before",
            HALF,
            {"p99": 1.5},
            "p99 at half of the own peak against before",
        ),
        (
            "bursts",
            "at login",
            "8 of one account",
            {"statuses": {"200": 7, "503": 1}},
            "8, 40, 8 of one account: share of logins with 200",
        ),
        ("bursts", "at login", "40", {"seconds": 4.0}, "the same: seconds until the last"),
        (
            "bursts",
            "overload",
            "times 3",
            {"busy": 0},
            "the same: share of the rest with 503 and Retry-After",
        ),
        (
            "slow",
            "slow clients",
            "slow body",
            {"failed": 1},
            "p99 beside 1,000 slow sockets / alone, worst kind",
        ),
    ],
)
def test_a_goal_is_missed_by_its_own_figure(
    part: str, server: str, kind: str, changes: dict[str, Any], goal: str
) -> None:
    results = full_run()
    results[part] = [
        type(one)(**{**vars(one), **changes}) if (one.server, one.kind) == (server, kind) else one
        for one in results[part]
    ]
    missed = {text for text, verdict in verdicts(results).items() if verdict == "missed"}
    assert missed == {goal}


def test_one_bad_round_of_three_does_not_decide() -> None:
    """The medians are compared, and the table has the extremes."""
    results = full_run()
    results["memory"][0] = Figure(1, "two workers", memory.OF_ALL, 200.0)
    assert set(verdicts(results).values()) == {"met"}
    assert "110.00 (110.00 to 200.00)" in goals.told(results)
