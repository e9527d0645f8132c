"""One-time tokens over HTTP: the blueprint /token."""

from __future__ import annotations

from flask import Flask
from flask_smorest import Api
from werkzeug.routing import BaseConverter

from config import Config
from tokenservice.onetime.format import ID_PATTERN
from tokenservice.token import (
    blueprint,
    commands,
    creation,
    gate,
    passes,
    presentation,
    problems,
    receipts,
    reservations,
    revocation,
    validation,
)

#: The modules whose import adds the calls to the blueprints.
VIEWS = (creation, validation, reservations, receipts, revocation, gate)
PLANS = (*blueprint.blueprint.plans, *blueprint.reservations.plans)


class TokenId(BaseConverter):
    """A token id in a path; any other text there is no page, rather than an unknown token."""

    regex = ID_PATTERN.pattern


def init_app(app: Flask, config: Config, api: Api) -> None:
    app.url_map.converters["token_id"] = TokenId
    problems.init_app(app)
    api.register_blueprint(blueprint.blueprint)
    api.register_blueprint(blueprint.reservations)
    api.register_blueprint(blueprint.gate)
    passes.init_app(app, config)
    presentation.init_app(app, config, api)
    app.cli.add_command(commands.one_time)
