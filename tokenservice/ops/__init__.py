"""For operators and readers: probes, metrics, pages and the terminal."""

from __future__ import annotations

from flask import Flask

from tokenservice.extensions import add
from tokenservice.ops import pages, probes, terminal
from tokenservice.ops.blueprint import blueprint


def init_app(app: Flask) -> None:
    add(app, probes.Readiness())
    pages.init_app(app)
    terminal.init_app(app)
    app.register_blueprint(blueprint)
