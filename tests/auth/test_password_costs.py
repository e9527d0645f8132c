"""The time of a login reveals no account, even after a change of argon2's parameters.

Each process compares every password with one hash of each cost that it has seen.
"""

from __future__ import annotations

import random
import time

import pytest

from tests.stage.people import PASSWORD
from tests.stage.people import WRONG_PASSWORD as WRONG
from tests.stage.roc import areas
from tokenservice.auth.passwords import Passwords, cost_of

CHEAP, EXPENSIVE = 19_456, 65_536
#: The area under the curve over 16 calls of each kind: above chance, and below the value without
#: a stand-in.
AREA, TIMES = 0.9, 16


def made_with(memory_kib: int) -> Passwords:
    return Passwords(memory_kib=memory_kib, workers=1)


def test_each_cost_that_was_seen_gets_a_stand_in() -> None:
    """Guard: ``Passwords._remember``."""
    old, new = made_with(8), made_with(16)
    stored = old.hash(PASSWORD)
    assert set(new._stand_ins) == {cost_of(new.hash(PASSWORD))}
    assert new.verify(stored, PASSWORD)
    assert not new.verify(stored, WRONG)
    assert set(new._stand_ins) == {cost_of(stored), cost_of(new.hash(PASSWORD))}


@pytest.mark.parametrize("password", [PASSWORD, WRONG, ""])
def test_a_stand_in_matches_no_password(password: str) -> None:
    passwords = made_with(8)
    assert not passwords.verify(None, password)
    for stand_in in passwords._stand_ins.values():
        assert not passwords.verify(stand_in, password)


def test_a_stand_in_holds_no_digest_of_an_account() -> None:
    """Guard: the digest in ``Passwords._remember``."""
    old, new = made_with(8), made_with(16)
    stored = old.hash(PASSWORD)
    new.verify(stored, PASSWORD)
    digest = stored.rpartition("$")[2]
    assert not [kept for kept in new._stand_ins.values() if digest in kept]


@pytest.mark.slow
@pytest.mark.parametrize(("before", "now"), [(CHEAP, EXPENSIVE), (EXPENSIVE, CHEAP)])
def test_login_time_does_not_reveal_an_old_hash(before: int, now: int) -> None:
    """Guard: the stand-ins of ``Passwords._verify``. The test measures processor time,
    in which other work of the machine does not count."""
    passwords = made_with(now)
    stored = {"old": made_with(before).hash(PASSWORD), "new": passwords.hash(PASSWORD)}
    stored["unknown"] = ""
    times: dict[str, list[float]] = {name: [] for name in stored}
    passwords.verify(stored["old"], WRONG)  # Its cost is seen.
    for _ in range(TIMES):
        for name in random.sample(list(stored), len(stored)):
            started = time.thread_time()
            assert not passwords._verify(stored[name], WRONG)
            times[name].append(time.thread_time() - started)
    assert max(areas(times).values()) < AREA, areas(times)
