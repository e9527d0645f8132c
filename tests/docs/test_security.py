"""SECURITY.md answers every requirement with existing tests, in both languages."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, TWINS, read

TESTS = ROOT / "tests"
ENGLISH = read("SECURITY.md")
SPANISH = read(TWINS["SECURITY.md"])
REQUIREMENTS = [f"S{number:02}" for number in range(1, 63)]
ANSWERS = ("met", "limit", "not applicable")
ROWS = {
    row[0]: row[1:]
    for line in re.findall(r"^\| (S\d.*) \|$", ENGLISH, re.MULTILINE)
    if (row := [cell.strip() for cell in line.split("|")])
}


def functions(module: Path) -> set[str]:
    tree = ast.parse(module.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def missing(tests: str) -> list[str]:
    """The tests named in a cell that do not exist."""
    absent = []
    for named in re.findall(r"`([^`]+)`", tests):
        name, _, function = named.partition("::")
        module = TESTS / name
        # A file alone names no check.
        if not module.is_file() or function not in functions(module):
            absent.append(named)
    return absent


def test_every_requirement_is_answered() -> None:
    assert list(ROWS) == REQUIREMENTS


@pytest.mark.parametrize("requirement", REQUIREMENTS)
def test_an_answer_names_existing_tests(requirement: str) -> None:
    """A test that is renamed or dropped turns this red."""
    _, _, answer, tests = ROWS[requirement]
    kind, _, reason = answer.partition(": ")
    assert kind.partition(";")[0].startswith(ANSWERS)
    if not kind.startswith("met"):
        assert len(reason) > 20, "an answer other than met has a reason"
    assert re.search(r"`(?:\w+/)?test_\w+\.py::test_", tests)
    assert missing(tests) == []


def test_an_absent_test_is_noticed() -> None:
    """The check of the test above finds names that do not exist."""
    absent = ["settings/test_config.py::test_nothing", "test_nothing.py", "settings/test_config.py"]
    existing = "settings/test_config.py::test_a_weak_secret_key_is_refused"
    assert missing(" ".join(f"`{name}`" for name in (*absent, existing))) == absent


def shape(text: str) -> dict[str, object]:
    """The parts that do not depend on the language, up to the table of the requirements."""
    text = text.split("\n## ")[:-1]  # type: ignore[assignment]
    return {
        "headings": len(text),
        "points": [len(re.findall(r"^(?:-|\d\.) ", part, re.MULTILINE)) for part in text],
        "rows": [len(re.findall(r"^\|", part, re.MULTILINE)) for part in text],
        "code": [sorted(re.findall(r"`([^`]+)`", part)) for part in text],
        "numbers": [sorted(re.findall(r"\b\d+\b", part)) for part in text],
    }


def test_both_languages_say_the_same() -> None:
    """One page that is changed without the other turns this red."""
    assert shape(ENGLISH) == shape(SPANISH)
