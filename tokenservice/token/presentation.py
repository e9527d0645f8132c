"""The store for the calls that present a token: in the sandbox, behind its fixed tokens.

Only these calls know fixed tokens. What presents tokens of the service itself, as a reset of a
password does, goes to the store, and so do the calls by id.
"""

from __future__ import annotations

from typing import cast

from flask import Flask, current_app
from flask_smorest import Api
from werkzeug.local import LocalProxy

from config import Config
from tokenservice.onetime.store import TokenStore
from tokenservice.token.sandbox import DESCRIPTION, Sandbox

tokens = cast(TokenStore | Sandbox, LocalProxy(lambda: current_app.extensions[__name__]))


def init_app(app: Flask, config: Config, api: Api) -> None:
    store: TokenStore = app.extensions[TokenStore.__name__]
    if config.sandbox:
        app.extensions[__name__] = Sandbox(store)
        api.spec.options["info"]["description"].append(DESCRIPTION)
    else:
        app.extensions[__name__] = store
