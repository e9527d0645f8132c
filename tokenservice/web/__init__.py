"""HTTP for every domain: bodies, headers, problems, limits and the OpenAPI document."""

from __future__ import annotations

from typing import Any

from flask import Flask
from flask_smorest import Api

from config import Config
from tokenservice.web import app as service
from tokenservice.web import bodies, headers, hooks, openapi, problems, texts


def init_app(app: Flask, config: Config, traced: Any) -> Api:
    """Bind the room, and return the API on which the domains register their blueprints.

    :param traced: begins the span of each call; None where calls are not traced
    """
    hooks.init_app(app, traced)
    api = Api(app, spec_kwargs=openapi.options(config.app_name, config.public_url))
    service.init_app(app, config)
    bodies.init_app(app)
    headers.init_app(app, config)
    texts.init_app(app)
    problems.init_app(app)  # Behind Api, whose own error handlers it replaces.
    return api
