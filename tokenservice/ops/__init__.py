"""For operators and readers: probes, metrics, pages and the terminal."""

from __future__ import annotations

from flask import Flask
from flask_smorest import Api

from tokenservice.extensions import add
from tokenservice.ops import (
    commands,
    gauges,
    metrics,  # noqa: F401 - its view, on the blueprint
    pages,
    probes,
    spanish,
    terminal,
)
from tokenservice.ops.blueprint import blueprint
from tokenservice.web import texts


def init_app(app: Flask, api: Api) -> None:
    add(app, probes.Readiness(), gauges.Gauges())
    pages.init_app(app)
    texts.register(app, {}, {}, spanish.DOCUMENT)
    terminal.init_app(app)
    app.cli.add_command(commands.capacity)
    api.register_blueprint(blueprint)
