"""Each guard has a test that fails without it (mutants.py; all: ``make mutants``)."""

from __future__ import annotations

import dataclasses

import pytest

from tests.house.guards import ENGINE, Mutant
from tests.house.mutants import MUTANTS, TESTS, killer
from tests.stage.paths import ROOT

# Guards of a script and of the Python around it, and the service's main one.
SAMPLE = ("fence", "purpose", "idempotency: the caller is in the key")
by_guard = pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.guard)


@by_guard
def test_a_guard_stands_where_its_mutant_breaks_it(mutant: Mutant) -> None:
    """A guard that was reworded would otherwise drop out of the list unnoticed."""
    assert mutant.broken(ROOT) != (ROOT / ENGINE / mutant.file).read_text(encoding="utf-8")


@by_guard
def test_the_tests_of_a_guard_exist(mutant: Mutant) -> None:
    assert mutant.tests
    for test in mutant.tests:
        file, _, name = test.partition("::")
        assert f"def {name}(" in (ROOT / TESTS / file).read_text(encoding="utf-8")


def test_no_two_guards_have_the_same_name() -> None:
    assert len({mutant.guard for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.slow
@pytest.mark.parametrize("guard", SAMPLE)
def test_a_broken_guard_turns_its_test_red(guard: str) -> None:
    """A sample, for time; it also shows that the script can tell red from green."""
    [mutant] = [mutant for mutant in MUTANTS if mutant.guard == guard]
    assert killer(mutant, ROOT) in mutant.tests


@pytest.mark.slow
def test_an_unbroken_guard_turns_no_test_red() -> None:
    """Were every run red, the sample above would prove nothing."""
    [expiry] = [mutant for mutant in MUTANTS if mutant.guard == "expiry"]
    same = dataclasses.replace(expiry, new=expiry.old)
    assert killer(same, ROOT) is None
