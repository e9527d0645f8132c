"""The command line, and what is kept of a run: results.json and the chart."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import chart
from benchmarks.__main__ import KEPT_ROUNDS, PARTS, arguments, save
from benchmarks.servers import BEFORE, Burst
from tests.benchmarks.rows import row


def test_what_is_kept_has_ten_rounds() -> None:
    """Guard: the check of ``--rounds`` in ``arguments``."""
    assert arguments(["--save"]).rounds == KEPT_ROUNDS == 10
    assert arguments(["compare", "--save", "--rounds", "12"]).rounds == 12
    with pytest.raises(SystemExit):
        arguments(["compare", "--save", "--rounds", "9"])


@pytest.mark.parametrize("words", ["compare nothing", "--rounds 0", "--seconds 0"])
def test_a_wrong_word_is_refused(words: str) -> None:
    with pytest.raises(SystemExit):
        arguments(words.split())


def test_all_parts_are_measured_by_default() -> None:
    assert arguments([]).parts == list(PARTS)
    assert arguments(["--against", "HEAD"]).against == "HEAD"


def test_a_part_replaces_its_rows_and_no_other_ones(tmp_path: Path) -> None:
    kept = tmp_path / "results.json"
    save(
        {"compare": [row(1, "service")], "bursts": [Burst(1, "a", "8", 0.123456, {"200": 8})]}, kept
    )
    save({"compare": [row(1, "service", rate=7), row(2, "service")]}, kept)
    found = json.loads(kept.read_text())
    assert [one["units"] for one in found["compare"]] == [7, 100]
    assert found["bursts"][0]["statuses"] == {"200": 8}
    assert found["bursts"][0]["seconds"] == 0.1235
    lines = kept.read_text().splitlines()
    assert len([line for line in lines if "server" in line]) == 3  # a row a line


def test_the_chart_shows_all_servers_in_light_and_dark(tmp_path: Path) -> None:
    servers = ("floor", "service", "fastify_getdel", "better_auth", "fastapi_seed", BEFORE)
    rows = [row(turn, name, rate=100 * turn) for turn in (1, 2, 3) for name in servers]
    chart.write(rows, tmp_path / "pairs.svg")
    text = (tmp_path / "pairs.svg").read_text()
    shown = {element.text for element in ElementTree.fromstring(text).iter()}  # noqa: S314 - ours
    assert set(servers) - shown == {BEFORE}
    assert "prefers-color-scheme: dark" in text
    assert len(text) < 4096
