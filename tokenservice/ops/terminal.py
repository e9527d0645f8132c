"""Output of commands: JSON lines of plain text, whatever the database holds."""

from __future__ import annotations

import json
from typing import Any

import click
from flask.cli import AppGroup

from tokenservice.web.plaintext import escaped


class Commands(AppGroup):
    """A group of commands whose error messages may quote their input."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            lines = error.message.split("\n")
            error.message = "\n".join(map(escaped, lines))  # type: ignore[misc]
            raise


def show_line(value: dict[str, Any]) -> None:
    click.echo(escaped(json.dumps(value, ensure_ascii=False)))
