"""Turns: one at a time, first come, first served, and none waits long for an overdue one."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from tokenservice.server.turns import LONG_SECONDS, Turns


def test_turns_come_one_at_a_time_and_in_order() -> None:
    turns, inside, order, alone = Turns(patience=60), threading.Lock(), [], []

    def work(number: int) -> None:
        with turns:
            alone.append(inside.acquire(blocking=False))
            order.append(number)
            time.sleep(0.001)
            inside.release()

    with ThreadPoolExecutor(8) as threads, turns:
        for number in range(8):
            threads.submit(work, number)
            while len(turns._waiting) <= number:
                time.sleep(0.001)
    assert order == list(range(8))
    assert all(alone)


def test_an_overdue_turn_is_taken_away_and_cannot_end_the_next_one() -> None:
    turns, taken, is_over = Turns(), threading.Event(), threading.Event()

    def keep() -> None:
        with turns:
            taken.set()
            is_over.wait(10)

    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(keep)
        taken.wait(10)
        asked = time.monotonic()
        with turns:
            assert time.monotonic() - asked > LONG_SECONDS
            mine = turns._current
            is_over.set()
            slow.result(10)
            assert turns._current is mine
    assert turns._current is None


def test_a_turn_passed_on_lets_the_next_begin() -> None:
    turns, began = Turns(patience=60), threading.Event()

    def work() -> None:
        with turns:
            began.set()

    with ThreadPoolExecutor(1) as threads, turns:
        threads.submit(work)
        assert not began.wait(0.05)
        turns.pass_on()
        assert began.wait(10)


def test_a_thread_without_a_turn_passes_none_on() -> None:
    turns = Turns()
    with ThreadPoolExecutor(1) as threads, turns:
        mine = turns._current
        threads.submit(turns.pass_on).result(10)
        assert turns._current is mine
