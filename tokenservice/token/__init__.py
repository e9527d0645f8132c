"""One-time tokens over HTTP: the blueprint /token."""

from __future__ import annotations

from flask import Flask
from flask_smorest import Api
from werkzeug.routing import BaseConverter

from tokenservice.onetime.format import ID_PATTERN
from tokenservice.token import (
    blueprint,
    commands,
    creation,
    problems,
    receipts,
    reservations,
    revocation,
    validation,
)

#: The modules whose import adds the calls to the blueprints.
VIEWS = (creation, validation, reservations, receipts, revocation)
PLANS = (*blueprint.blueprint.plans, *blueprint.reservations.plans)


class TokenId(BaseConverter):
    """A token id in a path; any other text there is no page, rather than an unknown token."""

    regex = ID_PATTERN.pattern


def init_app(app: Flask, api: Api) -> None:
    app.url_map.converters["token_id"] = TokenId
    problems.init_app(app)
    api.register_blueprint(blueprint.blueprint)
    api.register_blueprint(blueprint.reservations)
    app.cli.add_command(commands.one_time)
