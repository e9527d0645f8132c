"""The turns of the servers, and figures that are paired within one of them."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict

from benchmarks import turns
from tests.benchmarks.rows import row


def test_every_server_has_a_turn_in_each_round_and_the_first_is_a_warm_up() -> None:
    found = list(turns.orders("abcd", 10))
    assert [turn for turn, _ in found] == list(range(11))
    assert all(sorted(order) == list("abcd") for _, order in found)


def test_no_server_always_follows_the_same_other_one() -> None:
    """Red for a list that only rotates: there, each has one predecessor but at the start."""
    for servers in ("ab", "abc", "abcdef"):
        followed: dict[str, list[str]] = defaultdict(list)
        for _, order in turns.orders(servers, 10):
            for former, server in itertools.pairwise(order):
                followed[server].append(former)
        for server, formers in followed.items():
            most = max(formers.count(former) for former in formers)
            assert most <= 6, (server, formers)


def test_two_servers_take_the_first_place_in_turn() -> None:
    firsts = [order[0] for _, order in turns.orders("ab", 9)]
    assert abs(firsts.count("a") - firsts.count("b")) <= 2


def test_ratios_are_taken_within_a_round() -> None:
    """A machine that halves its speed changes both. Red where rows pair up by their position."""
    rows = [
        row(2, "service", rate=50),
        row(1, "service", rate=200),
        row(1, "before", rate=100),
        row(2, "before", rate=25),
        row(3, "before", rate=10),  # a round that one of them missed
    ]
    assert turns.ratios(rows, "service", "before") == [2.0, 2.0]


def test_ratios_of_cost_are_of_one_request() -> None:
    rows = [
        row(1, "service", rate=200, server_cpu=0.4),
        row(1, "before", rate=100, server_cpu=0.8),
    ]
    assert turns.ratios(rows, "service", "before", of_row=turns.cpu) == [0.25]


def test_a_server_that_did_nothing_in_a_load_ends_no_run() -> None:
    rows = [row(1, "service", rate=100), row(1, "before", rate=0)]
    assert turns.ratios(rows, "service", "before") == [math.inf]
    assert turns.ratios(rows, "before", "service") == [0.0]
    assert turns.ratios(rows, "before", "service", of_row=turns.cpu) == [math.inf]
