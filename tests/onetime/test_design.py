"""Single use under failures, checked over every history of a small model (see design.py).

A checker that finds nothing proves nothing. So it must first find the known failures, also in the
built design without its fence.
"""

from __future__ import annotations

import functools

import pytest

from tests.onetime.design import (
    BOUNDS,
    SCENARIOS,
    Design,
    State,
    Verdict,
    consume,
    issue,
    search,
    steps,
)

ORDINARY = SCENARIOS["all of these"]
FAILURES = ("crash, stale snapshot", "failover", "split brain", "zombie")


@functools.cache
def verdict(design: Design, scenario: str, servers: int = 2) -> Verdict:
    return search(design, SCENARIOS[scenario], issue(design, servers, BOUNDS[servers]))


def walk(design: Design, state: State, *texts: str) -> State:
    """Take the steps that begin with ``texts``."""
    for text in texts:
        found = [step for step in steps(design, ORDINARY, state) if step.text.startswith(text)]
        assert found, text
        state = found[0].state
    return state


@pytest.mark.parametrize("scenario", FAILURES)
@pytest.mark.parametrize("design", [Design.DELETE, Design.NO_FENCE])
def test_without_a_fence_each_known_failure_consumes_twice(design: Design, scenario: str) -> None:
    """An atomic delete, or a consumed mark, is one server's knowledge."""
    history = verdict(design, scenario).history
    assert len(history) == 5
    assert history[-1].startswith("B consumes at")
    assert history[-1].endswith("first success")


def test_a_resumed_master_consumes_a_token_of_its_successor_again() -> None:
    start = walk(
        Design.DELETE,
        issue(Design.DELETE, 2, 2),
        "R applies",
        "M is paused",
        "R is promoted",
        "A consumes at R: first success",
    )
    assert search(Design.DELETE, ORDINARY, start).history == [
        "M goes on",
        "B consumes at M: first success",
    ]


@pytest.mark.parametrize(
    ("servers", "scenario", "violated"),
    [
        # The acknowledgement says received, not stored: an old snapshot takes it back.
        (2, "crash, stale snapshot", True),
        # With one replica the one that acknowledged is the one that is promoted.
        (2, "failover", False),
        (2, "split brain", False),
        (2, "zombie", False),
        # With two, the other may be.
        (3, "crash, stale snapshot", True),
        (3, "failover", True),
        (3, "split brain", True),
        (3, "zombie", True),
    ],
)
def test_waiting_for_a_replica_helps_only_if_it_alone_can_be_promoted(
    servers: int, scenario: str, violated: bool
) -> None:
    assert bool(verdict(Design.DELETE_WAIT, scenario, servers).history) == violated


@pytest.mark.parametrize("design", [Design.FENCE, Design.TERM_FENCE])
@pytest.mark.parametrize("servers", BOUNDS)
@pytest.mark.parametrize("scenario", [*FAILURES, "all of these"])
def test_with_the_fence_no_history_consumes_twice(
    scenario: str, servers: int, design: Design
) -> None:
    """``Server.fence`` makes it green: NO_FENCE above differs in nothing else."""
    assert verdict(design, scenario, servers).history == []


def test_the_search_of_the_fence_takes_every_step() -> None:
    """Every step and every reply occurs in it, or its verdict would be worth little."""
    found = verdict(Design.TERM_FENCE, "all of these")
    assert found.taken == {
        *("apply", "consume", "crash", "restart", "snapshot", "cut", "heal", "pause", "resume"),
        *("promote", "demote", "resync"),
        *("first success", "repeated", "already used", "lost", "unknown", ""),
    }
    assert len(found.states) > 20_000
    assert len(verdict(Design.TERM_FENCE, "all of these", 3).states) > 15_000
    assert all(state.budget >= 0 for state in found.states)
    assert any(state.budget == 0 for state in found.states)


def test_the_issuer_promoted_again_consumes_twice() -> None:
    """The hole of a fence by run_id alone. ``again`` in ``steps`` keeps it out of the others."""
    assert verdict(Design.FENCE, "all, and repromotion").history == [
        "R applies: token active",
        "M is cut off",
        "R is promoted",
        "M is no longer cut off",
        "A consumes at M: first success",
        "M becomes a replica of R, and copies: token active",
        "R crashes",
        "M is promoted",
        "B consumes at M: first success",
    ]


def test_a_fence_by_mastership_has_no_such_hole() -> None:
    """``term`` in ``Server.fence`` makes it green: FENCE above differs in nothing else."""
    found = verdict(Design.TERM_FENCE, "all, and repromotion")
    assert found.history == []
    assert "repromote" in found.taken


@pytest.mark.parametrize("servers", BOUNDS)
@pytest.mark.parametrize("design", Design)
def test_without_faults_a_token_can_always_be_consumed_and_only_once(
    design: Design, servers: int
) -> None:
    """A design that never says success would pass everything above."""
    found = search(design, frozenset(), issue(design, servers, 0))
    assert found.history == []
    for state in found.states:
        reachable = search(design, frozenset(), state).states
        assert {after.successes for after in reachable} >= {"A"}
        assert max(len(after.successes) for after in reachable) == 1


@pytest.mark.parametrize(
    ("design", "scenario"),
    [(Design.FENCE, "all of these"), (Design.TERM_FENCE, "all, and repromotion")],
)
def test_the_issuer_serves_its_token_and_repeats_its_reply(design: Design, scenario: str) -> None:
    """Through all faults, while that process runs and has been master all along."""
    served = 0
    for state in verdict(design, scenario).states:
        issuer = state.servers[0]
        stayed = issuer.run == "M1" and issuer.master and not issuer.demoted
        if stayed and issuer.up and not issuer.paused:
            served += 1
            reply, _ = consume(design, state, "A", 0)
            assert reply == ("repeated" if state.successes else "first success")
    assert served > 1000


def test_a_success_is_repeated_to_its_winner_alone() -> None:
    """On every server that knows of the consume, also after a failover or a restart."""
    elsewhere = 0
    for state in verdict(Design.TERM_FENCE, "all of these").states:
        for place, server in enumerate(state.servers):
            if server.record and server.record.consumer:
                elsewhere += server.run != "M1"
                assert state.successes == server.record.consumer == "A"
                assert consume(Design.TERM_FENCE, state, "A", place) == ("repeated", state)
                assert consume(Design.TERM_FENCE, state, "B", place) == ("already used", state)
    assert elsewhere > 1000
