"""Fixtures of the tests of the audit trail."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flask import Flask

from tests.audit import everything as changes
from tests.audit.everything import Everything
from tests.stage.commands import output


@pytest.fixture(scope="session")
def run(app: Flask) -> Callable[..., str]:
    """Run ``flask …`` in this process; return its output."""

    def command(*words: str, text: str = "") -> str:
        return output(app.test_cli_runner().invoke(args=list(words), input=text))

    return command


# Of a module: the fixtures of the session come before ``patience``.
@pytest.fixture(scope="module")
def everything(app: Flask, tmp_path_factory: pytest.TempPathFactory) -> Everything:
    """Each call and each command that changes anything, done once."""
    return changes.everything(app, tmp_path_factory.mktemp("seeds"))
