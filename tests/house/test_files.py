"""The files of the package and of its tests: their length, and imports of test modules."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.stage.paths import ROOT

#: The most lines of a module.
MOST_LINES = {"tokenservice": 320, "clients/python": 320, "tests": 500}


def files(folder: str) -> Iterator[tuple[str, str]]:
    """The path and the text of each module."""
    for path in (ROOT / folder).rglob("*.py"):
        yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")


def imported(text: str) -> Iterator[str]:
    """Every module that is imported, and every name that may be one."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names))


def is_test_module(module: str) -> bool:
    return module.startswith("tests.") and module.rpartition(".")[2].startswith("test_")


def test_no_module_is_too_long() -> None:
    too_long = {
        name
        for folder, most in MOST_LINES.items()
        for name, text in files(folder)
        if len(text.splitlines()) > most
    }
    assert too_long == set()


def test_nothing_imports_a_test_module() -> None:
    """Shared code stands in tests/stage, or beside them under a name of its own."""
    importing = {name for name, text in files("tests") if any(map(is_test_module, imported(text)))}
    assert importing == set()


def test_an_import_of_a_test_module_would_be_noticed() -> None:
    """The counterpart of the test above."""
    for line in ("import tests.web.test_limits", "from tests.web import test_limits as a"):
        assert any(map(is_test_module, imported(line)))
    assert any(map(is_test_module, imported("from tests.web.test_limits import fields")))
    assert not any(map(is_test_module, imported("from tests.stage.limits import fields")))
