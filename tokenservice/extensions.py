"""The extensions, not yet bound to an app, and the parts that each app has of its own."""

from __future__ import annotations

from typing import cast

from flask import current_app
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import MetaData
from sqlalchemy.orm import DeclarativeBase
from werkzeug.local import LocalProxy

from config import Config
from tokenservice.auth.passwords import Passwords
from tokenservice.onetime.store import TokenStore
from tokenservice.postgres.breaker import Breaker


class Base(DeclarativeBase):
    """Names every constraint, so that migrations and errors can tell them apart."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


# What was read or returned by an insert is not read again after the commit: it could only fail.
db = SQLAlchemy(model_class=Base, session_options={"expire_on_commit": False})
migrate = Migrate()
config = cast(Config, LocalProxy(lambda: current_app.extensions["config"]))
breaker = cast(Breaker, LocalProxy(lambda: current_app.extensions["breaker"]))
tokens = cast(TokenStore, LocalProxy(lambda: current_app.extensions["tokens"]))
passwords = cast(Passwords, LocalProxy(lambda: current_app.extensions["passwords"]))
