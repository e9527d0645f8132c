"""Commands for operators. What they print is JSON, a line each."""

from __future__ import annotations

from flask import Flask

from tokenservice.cli.tokens import one_time
from tokenservice.cli.users import users


def init_app(app: Flask) -> None:
    app.cli.add_command(users)
    app.cli.add_command(one_time)
