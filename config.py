"""Every setting of the service: read once, typed, and all mistakes reported together.

A setting comes from the environment or from ``.env``, in lower or upper case; the
environment wins. What never takes two real values is a constant beside its use, not a
setting.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import dotenv
import limits
import sqlalchemy.engine
from marshmallow import EXCLUDE, Schema, ValidationError, fields, validate, validates_schema

SAMPLE_SECRET_KEY = "clave_super_segura_cambia_esto"  # noqa: S105 - refused below
MIN_SECRET_KEY_BYTES = 32
POSTGRES_SCHEMES = {"postgres", "postgresql", "postgresql+psycopg2"}
REDIS_SCHEMES = {"redis", "rediss", "unix", "redis+sentinel", "redis+cluster"}


class ConfigError(Exception):
    """One or more settings are missing or wrong; the text names each, never its value."""


def strong_key(key: str) -> None:
    """RFC 7518 section 3.2: an HS256 key has at least 256 bits."""
    if key == SAMPLE_SECRET_KEY:
        raise ValidationError("is the sample value of the documentation: choose your own")
    if len(key.encode()) < MIN_SECRET_KEY_BYTES:
        raise ValidationError(f"is shorter than {MIN_SECRET_KEY_BYTES} bytes")


def rate(words: str) -> None:
    try:
        if words != "off":
            limits.parse(words)
    except ValueError:
        raise ValidationError('is not a rate such as "60 per minute", nor "off"') from None


def address(*schemes: str) -> Callable[[str], None]:
    """Check a URL of one of ``schemes``, which may name several hosts."""

    def check(url: str) -> None:
        try:
            parts = urlsplit(url)
            for host in parts.netloc.rpartition("@")[2].split(","):
                _ = urlsplit(f"//{host}").port  # Reading it is what checks it.
        except ValueError:
            raise ValidationError("is not a URL") from None
        if parts.scheme not in schemes:
            raise ValidationError(f"does not begin with {schemes[0]}://")

    return check


class Origins(fields.Field[tuple[str, ...]]):
    """Exact CORS origins, comma separated.

    Flask-CORS takes a string with any of ``* \\ ] ? $ ^ [ ( )`` for a regular expression and
    matches only its beginning, so that ``https://trusted\\.com`` would let in
    ``https://trusted.com.evil.example``. Nothing but scheme, host and port passes here.
    """

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> tuple[str, ...]:
        origins = tuple(origin for part in str(value).split(",") if (origin := part.strip()))
        for origin in origins:
            if not re.fullmatch(r"https?://[A-Za-z0-9.-]+(:\d{1,5})?", origin):
                raise ValidationError("takes exact origins only, such as https://app.example.com")
        return origins


class Settings(Schema):
    """Rules that more than one setting has a part in."""

    class Meta:
        unknown = EXCLUDE

    @validates_schema
    def in_proportion(self, given: dict[str, Any], **_: Any) -> None:
        if given["onetime_token_expire_seconds"] > given["onetime_token_max_seconds"]:
            raise ValidationError(
                "is more than onetime_token_max_seconds", "onetime_token_expire_seconds"
            )
        # A repeated answer is told from the record.
        if given["idempotency_window_seconds"] > given["receipt_seconds"]:
            raise ValidationError("is more than receipt_seconds", "idempotency_window_seconds")


def setting(field: fields.Field[Any]) -> Any:
    """A dataclass field whose environment value ``field`` parses, validates and defaults."""
    if field.required:
        return dataclasses.field(metadata={"field": field})
    return dataclasses.field(default=field.load_default, metadata={"field": field})


def text(default: str | None = None, *checks: Any) -> Any:
    return setting(fields.String(load_default=default, allow_none=True, validate=list(checks)))


def whole(default: int, low: int, high: int) -> Any:
    in_range = validate.Range(low, high, error=f"is not from {low} to {high}")
    return setting(fields.Integer(load_default=default, validate=in_range))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The settings of one application.

    Times are in the unit that their name says; ``*_ms`` are milliseconds.
    """

    app_name: str = text("Token Service API")
    secret_key: str = setting(fields.String(required=True, validate=strong_key))
    access_token_expire_minutes: int = whole(15, 1, 24 * 60)
    onetime_token_expire_seconds: int = whole(10, 1, 86_400)
    onetime_token_max_seconds: int = whole(86_400, 1, 31 * 86_400)
    receipt_seconds: int = whole(300, 60, 31 * 86_400)
    idempotency_window_seconds: int = whole(60, 1, 86_400)
    max_active: int = whole(1000, 1, 1_000_000)

    database_url: str | None = text(None, address("postgresql", *POSTGRES_SCHEMES))
    db_user: str = text("postgres")
    db_password: str = text("postgres")
    db_host: str = text("localhost")
    db_port: int = whole(5432, 1, 65_535)
    db_name: str = text("token_service")

    redis_url: str | None = text(None, address("redis", *REDIS_SCHEMES))
    redis_host: str = text("localhost")
    redis_port: int = whole(6379, 1, 65_535)
    redis_db: int = whole(0, 0, 1_000_000)
    redis_connect_timeout_ms: int = whole(50, 1, 10_000)
    redis_timeout_ms: int = whole(100, 1, 10_000)
    redis_shards: int = whole(1, 1, 3844)

    rate_limit_register: str = text("5 per minute", rate)
    rate_limit_login: str = text("5 per minute", rate)
    rate_limit_create: str = text("60 per minute", rate)
    rate_limit_validate: str = text("600 per minute", rate)
    trusted_proxies: int = whole(0, 0, 10)

    cors_origins: tuple[str, ...] = setting(Origins(load_default=()))
    log_level: str = text(
        "info",
        validate.OneOf(
            ["debug", "info", "warning", "error"],
            error="is not one of debug, info, warning, error",
        ),
    )
    docs_enabled: bool = setting(fields.Boolean(load_default=True))
    metrics_token: str | None = text(
        None, validate.Length(min=16, error="is shorter than 16 characters")
    )
    argon2_memory_kib: int = whole(19_456, 19_456, 4_194_304)
    web_concurrency: int = whole(2, 1, 256)
    web_threads: int = whole(8, 1, 256)

    @classmethod
    def from_env(cls, env_file: Path = Path(".env")) -> Self:
        """Read the environment and ``.env``.

        :raises ConfigError: naming every setting that is missing or wrong
        """
        given: dict[str, str | None] = {}
        for source in (dotenv.dotenv_values(env_file, interpolate=False), os.environ):
            given |= {name.lower(): value for name, value in source.items() if value}
        return cls.from_mapping(given)

    @classmethod
    def from_mapping(cls, given: Mapping[str, str | None]) -> Self:
        """Parse text values; names in any case, unknown names ignored.

        :raises ConfigError: naming every setting that is missing or wrong
        """
        known = {field.name: field.metadata["field"] for field in dataclasses.fields(cls)}
        schema = Settings.from_dict(known)()
        try:
            return cls(**schema.load({name.lower(): value for name, value in given.items()}))
        except ValidationError as error:
            mistakes = [f"  {name}: {'; '.join(why)}" for name, why in error.messages_dict.items()]
            raise ConfigError("Settings to correct:\n" + "\n".join(sorted(mistakes))) from None

    def __repr__(self) -> str:
        # A dataclass prints its fields, and these hold secrets.
        return f"<Config {self.app_name!r}>"

    @property
    def sqlalchemy_url(self) -> sqlalchemy.engine.URL:
        """The Postgres address, with its driver named.

        A bare ``postgresql://`` means psycopg 3 since SQLAlchemy 2.1.
        """
        if self.database_url is None:
            return sqlalchemy.engine.URL.create(
                "postgresql+psycopg2",
                self.db_user,
                self.db_password,
                self.db_host,
                self.db_port,
                self.db_name,
            )
        rest = self.database_url.partition("://")[2]
        authority, slash, path = rest.partition("/")
        credentials, at, hosts = authority.rpartition("@")
        if "," not in hosts:
            return sqlalchemy.engine.make_url(f"postgresql+psycopg2://{rest}")
        # SQLAlchemy takes several hosts as parameters, and libpq then looks for the primary.
        url = sqlalchemy.engine.make_url(f"postgresql+psycopg2://{credentials}{at}{slash}{path}")
        several = {"host": hosts.split(","), "target_session_attrs": "read-write"}
        return url.set(query={**several, **url.query})

    @property
    def redis_address(self) -> str:
        """The Redis address as one URL."""
        return self.redis_url or f"redis://{self.redis_host}:{self.redis_port}/{self.redis_db}"
