"""docs/operations.md: the commands of ``flask``, in both languages."""

from __future__ import annotations

import re

import click
from flask import Flask

from tests.docs.pages import either_language, read, table


@either_language("docs/operations.md")
def test_commands_exist(page: str, app: Flask) -> None:
    """A command or option that is added to these groups, or dropped, turns this red."""
    rows = table(read(page), "`flask db upgrade`")
    written = " ".join(f"{called} {text}" for called, text in rows)
    known: set[str] = set()
    for name in ("users", "tokens"):
        group = app.cli.commands[name]
        assert isinstance(group, click.Group)
        assert set(re.findall(rf"flask {name} ([a-z-]+)[ `]", written)) == set(group.commands)
        for command in group.commands.values():
            known.update(*(parameter.opts for parameter in command.params))
    assert set(re.findall(r"--[a-z-]+", written)) <= known
