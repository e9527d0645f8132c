"""The tables of results.md."""

from __future__ import annotations

from dataclasses import replace

from tests.torture.__main__ import BEGIN, END, PAGE, written
from tests.torture.ledger import Entry

CRASH = Entry("crash", 1, "no token is honoured twice", 300, 0, "")


def test_a_part_replaces_its_earlier_results() -> None:
    page = written(
        f"before\n{BEGIN}{END}after\n",
        [CRASH, replace(CRASH, part="clock", n=50), replace(CRASH, claim="it ends")],
    )
    assert page.startswith("before\n")
    assert page.endswith("after\n")
    assert page.count("### ") == 2
    assert "| no token is honoured twice | 300 | 0 | < 0.01 |  |" in page
    again = written(page, [replace(CRASH, n=30, length=0.1, failures=2)])
    assert "### crash, at 0.1 of its length\n" in again
    assert "| no token is honoured twice | 30 | 2 |  |  |" in again
    assert "it ends" not in again
    assert "| no token is honoured twice | 50 | 0 | < 0.06 |  |" in again
    assert written(again, [CRASH, replace(CRASH, claim="it ends")]) == page


def test_the_page_has_one_place_for_the_results() -> None:
    """The page has its markers once, and a run without results does not change it."""
    page = PAGE.read_text(encoding="utf-8")
    assert (page.count(BEGIN), page.count(END)) == (1, 1)
    assert written(page, []) == page
