"""How near a server is, by its last answers."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import dev
from tests.stage.connections import connect
from tests.stage.proxy import Proxy
from tests.stage.waiting import until
from tokenservice.onetime import errors, nearness
from tokenservice.onetime.nearness import NEAR_SECONDS, SLOW_SECONDS, Nearness

QUICK = NEAR_SECONDS / 4


def answered(*seconds: float) -> Nearness:
    near = Nearness()
    for each in seconds:
        near.note(each)
    return near


def test_a_server_is_near_after_some_quick_answers() -> None:
    assert not answered().is_near
    assert not answered(*[QUICK] * 4).is_near
    assert answered(*[QUICK] * 10).is_near


def test_one_slow_answer_or_failure_is_enough() -> None:
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


def test_the_bound_is_one_of_the_average() -> None:
    """A moment's delay, as by another thread, changes nothing."""
    assert answered(*[QUICK] * 20, NEAR_SECONDS * 3).is_near
    assert not answered(*[QUICK] * 20, *[NEAR_SECONDS * 3] * 8).is_near
    assert not answered(*[NEAR_SECONDS * 1.1] * 100).is_near


def test_an_old_answer_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    near = answered(*[QUICK] * 10)
    monkeypatch.setattr(nearness, "RECENT_SECONDS", 0.05)
    time.sleep(0.1)
    assert not near.is_near


def test_a_connection_learns_from_its_scripts(tmp_path: Path) -> None:
    """Guards: ``note`` and ``lose`` in ``Script``."""
    with dev.Redis(tmp_path) as server, Proxy(server.port) as proxy:
        url = server.url.replace(f":{server.port}/", f":{proxy.port}/")
        connection, direct = connect(url, read_ms=100), connect(server.url)
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
