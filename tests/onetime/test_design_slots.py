"""Single use while slots move, checked over every history of a model (see design_slots.py).

The search finds the failure of each design: a checker that finds nothing proves nothing.
"""

from __future__ import annotations

import functools

import pytest

from tests.onetime.design_slots import SCENARIOS, Design, Verdict, search

#: The scenarios come in order, each with one more kind of step than the one before.
FIRST_VIOLATED = {
    Design.TERM: "moves by the book",
    Design.ASKED: "and abandoned ones",
    Design.EPOCH: "and forced ones",
    Design.COUNT: None,
}
ORDER = list(SCENARIOS)


@functools.cache
def verdict(design: Design, scenario: str) -> Verdict:
    return search(design, SCENARIOS[scenario], budget=8)


@pytest.mark.parametrize("design", Design, ids=lambda design: design.name)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_design_holds_up_to_its_first_failure(design: Design, scenario: str) -> None:
    first = FIRST_VIOLATED[design]
    found = verdict(design, scenario)
    is_violated = first is not None and ORDER.index(scenario) >= ORDER.index(first)
    assert bool(found.history) is is_violated, found.history
    assert found.states > 200


def test_the_known_history_is_found() -> None:
    """The slot leaves and comes back, and comes back again from a replica that fell behind."""
    assert verdict(Design.TERM, "moves by the book").history == [
        "the slot is opened from A to B",
        "the move from A to B is closed",
        "R copies B",
        "the slot is opened from B to A",
        "A presents it at A: first success",
        "the move from B to A is closed",
        "the slot is opened from A to B",
        "the move from A to B is closed",
        "B crashes, and R is promoted",
        "the slot is opened from R to A",
        "B presents it at A: first success",
    ]


def test_a_server_reached_by_an_ask_honours_a_consumed_token() -> None:
    """Why an ASK is not followed: the epoch is fresh only once the move is closed."""
    history = verdict(Design.ASKED, "and abandoned ones").history
    assert "the move from B to A is abandoned" in history
    assert not verdict(Design.EPOCH, "and abandoned ones").history
