"""The extensions, not yet bound to an app, and the one object of a kind that each app has."""

from __future__ import annotations

from typing import TypeVar, cast

from flask import Flask, current_app
from flask_cors import CORS
from flask_jwt_extended import JWTManager
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import MetaData
from sqlalchemy.orm import DeclarativeBase
from werkzeug.local import LocalProxy

from config import Config
from tokenservice.onetime.store import TokenStore

Part = TypeVar("Part")


class Base(DeclarativeBase):
    """Name every constraint, so that migrations and errors can tell them apart."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


# A row that was read or inserted is not read again after the commit: that could only fail.
db = SQLAlchemy(model_class=Base, session_options={"expire_on_commit": False})
jwt = JWTManager()
cors = CORS()


def add(app: Flask, *parts: object) -> None:
    """Give ``app`` its one object of each kind."""
    for part in parts:
        app.extensions[type(part).__name__] = part


def part(kind: type[Part]) -> Part:
    """A proxy of the current app's object of ``kind``, in the manner of ``current_app``."""
    return cast(Part, LocalProxy(lambda: current_app.extensions[kind.__name__]))


config = part(Config)
tokens = part(TokenStore)
