"""Accounts, and the authentication of callers: the blueprint /auth."""

from __future__ import annotations

from flask import Flask
from flask_smorest import Api

from config import Config
from tokenservice.auth import (
    audit_commands,
    authentication,
    callers,
    commands,
    erasure,
    jwts,
    key_commands,
    keys,
    login,
    new_passwords,
    oauth,
    problems,
    refresh,
    registration,
    rights,
    session_commands,
)
from tokenservice.auth.blueprint import blueprint
from tokenservice.auth.passwords import Passwords
from tokenservice.auth.refresh_tokens import RefreshTokens
from tokenservice.extensions import add

#: The modules whose import adds the views to the blueprint.
VIEWS = (registration, login, refresh, new_passwords, erasure, keys, oauth)
CLOSED = " Registration is closed: the operator of this service creates its accounts."


def init_app(app: Flask, config: Config, api: Api) -> None:
    add(app, Passwords(config.argon2_memory_kib, config.web_concurrency))
    add(app, RefreshTokens(config.secret_keys))
    problems.init_app(app)
    jwts.init_app(app, config)
    callers.init_app(app)
    authentication.init_app(app)
    keys.init_app(app)
    oauth.init_app(app, config)
    for name, scheme in {**jwts.SECURITY_SCHEMES, "service_key": rights.SECURITY_SCHEME}.items():
        api.spec.components.security_scheme(name, scheme)
    api.register_blueprint(blueprint)
    if config.registration == "closed":
        api.spec.options["info"]["description"].append(CLOSED)
    app.cli.add_command(commands.users)
    app.cli.add_command(key_commands.keys)
    app.cli.add_command(session_commands.sessions)
    app.cli.add_command(audit_commands.audit)
