"""How near a server is, by its last answers."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import redis

import dev
from tests.stage.connections import connect
from tests.stage.proxy import Proxy
from tests.stage.waiting import until
from tokenservice.onetime import errors, nearness
from tokenservice.onetime.nearness import (
    CROWDED_SECONDS,
    NEAR_SECONDS,
    SLOW_SECONDS,
    TRIAL_SECONDS,
    Nearness,
)

QUICK = NEAR_SECONDS / 4


@pytest.fixture
def untried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The average alone decides."""
    monkeypatch.setattr(nearness, "TRIAL_SECONDS", 0.0)


def answered(*seconds: float) -> Nearness:
    near = Nearness()
    for each in seconds:
        near.note(each)
    return near


def test_a_server_is_near_after_some_quick_answers() -> None:
    assert not answered().is_near
    assert not answered(*[QUICK] * 4).is_near
    assert answered(*[QUICK] * 10).is_near


def test_one_very_slow_answer_or_failure_is_enough() -> None:
    slow = answered(*[QUICK] * 100, SLOW_SECONDS)
    assert not slow.is_near
    lost = answered(*[QUICK] * 100)
    lost.lose()
    assert not lost.is_near
    for near in (slow, lost):
        for _ in range(4):
            near.note(QUICK)
        assert not near.is_near
        for _ in range(6):
            near.note(QUICK)
        assert near.is_near


def test_the_bound_is_one_of_the_average(untried: None) -> None:
    """A moment's delay changes nothing, as where others have the processor. Guard: the parts."""
    assert answered(*[QUICK] * 20, *[NEAR_SECONDS * 10] * 2).is_near
    assert not answered(*[QUICK] * 20, *[NEAR_SECONDS * 3] * 20).is_near
    assert not answered(*[NEAR_SECONDS * 1.1] * 100).is_near


def test_a_server_that_only_looks_far_is_tried_now_and_then() -> None:
    """Threads that wait for each other take their answers late, for as long as there are many."""
    near, crowded = Nearness(), CROWDED_SECONDS / 2
    opened, started = 0, time.monotonic()
    while time.monotonic() - started < 1.5:
        near.note(crowded)
        opened += near.is_near
        time.sleep(TRIAL_SECONDS / 4)
    assert 1 <= opened < 60  # Three trials of 20 ms, and not all of 1.5 s.

    def is_tried() -> bool:
        near.note(crowded)
        return near.is_near

    until(is_tried, 2)
    for _ in range(10):
        near.note(QUICK)  # One thread alone gets quick answers.
    time.sleep(TRIAL_SECONDS * 2)
    assert near.is_near


def test_a_trial_ends_with_a_failure_or_a_slow_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that hangs costs one call its time limit. One that is far is not tried."""
    monkeypatch.setattr(nearness, "TRIAL_SECONDS", 20)
    for end in (Nearness.lose, lambda near: near.note(SLOW_SECONDS)):
        tried = answered(*[CROWDED_SECONDS / 2] * 20)
        assert tried.is_near
        end(tried)
        assert not tried.is_near
    assert not answered(*[CROWDED_SECONDS * 1.1] * 100).is_near


def test_an_old_answer_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    near = answered(*[QUICK] * 10)
    monkeypatch.setattr(nearness, "RECENT_SECONDS", 0.05)
    time.sleep(0.1)
    assert not near.is_near


def test_a_connection_learns_from_its_scripts(tmp_path: Path, untried: None) -> None:
    """Guards: ``note`` and ``lose`` in ``Script``."""
    with dev.Redis(tmp_path) as server, Proxy(server.port) as proxy:
        url = server.url.replace(f":{server.port}/", f":{proxy.port}/")
        connection, direct = connect(url), connect(server.url)
        script, other = (each.script("return 1") for each in (connection, direct))
        assert not connection.is_near
        until(lambda: other(["a"]) == 1 and direct.is_near)
        proxy.slow(0.001)
        for _ in range(20):
            script(["a"])
            assert not connection.is_near
        server.stop()
        with pytest.raises(errors.StoreUnavailable):
            other(["a"])
        assert not direct.is_near


def test_a_full_server_stays_near_and_connected(
    tmp_path: Path, untried: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its refusals are quick. Guard: ``is_full``. No stall makes an answer slow here."""
    for name, seconds in (("LOST_SECONDS", 99.0), ("NEAR_SECONDS", 49.0), ("SLOW_SECONDS", 99.0)):
        monkeypatch.setattr(nearness, name, seconds)
    with dev.Redis(tmp_path) as server:
        connection, admin = connect(server.url), redis.from_url(server.url)
        write = connection.script("return redis.call('INCR', KEYS[1])")
        until(lambda: write(["a"]) > 0 and connection.is_near)
        admin.config_set("maxmemory", "1")
        before = admin.info("stats")["total_connections_received"]
        for _ in range(20):
            with pytest.raises(errors.StoreUnavailable):
                write(["a"])
            assert connection.is_near
        assert admin.info("stats")["total_connections_received"] == before
        admin.config_set("maxmemory", "0")
        assert write(["a"]) > 0


def test_a_cluster_is_never_near() -> None:
    """A call may wait there for a slot that moves. Guard: ``Connection.is_near``."""
    for url, is_near in (
        ("redis://localhost:1/0", True),
        ("redis+sentinel://localhost:1/mymaster", True),
        ("redis+cluster://localhost:1", False),
    ):
        connection = connect(url)
        for _ in range(10):
            connection.nearness.note(QUICK)
        assert connection.is_near is is_near
