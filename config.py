"""Every setting of the service: read once, typed, and all mistakes reported together.

What never takes two real values is a constant beside its use, not a setting.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self
from urllib.parse import quote

import sqlalchemy.engine
from marshmallow import EXCLUDE, Schema, ValidationError, fields, validate, validates_schema

from settings import addresses
from settings.environment import ENV_FILE, ConfigError, read
from settings.fields import (
    Keys,
    Origins,
    absolute,
    base_url,
    rate,
    setting,
    strong_key,
    text,
    whole,
    word,
)

#: That of the service, as in setup.cfg, which is not in the image.
VERSION = "0.1.0"
#: Settings with values that no line of the log may hold.
SECRET_SETTINGS = frozenset(
    {
        *("secret_key", "secret_key_fallbacks", "metrics_token"),
        *("database_url", "db_password", "redis_url", "redis_password"),
    }
)
# Settings of which the first must not be more than the second: a repeated answer is told from the
# record, and a token that names no life must be allowed the usual one.
PROPORTIONS = (
    ("onetime_token_expire_seconds", "onetime_token_max_seconds"),
    ("idempotency_window_seconds", "receipt_seconds"),
    ("session_idle_days", "session_max_days"),
    ("audit_address_days", "audit_days"),
)


class Settings(Schema):
    """Rules that more than one setting has a part in."""

    class Meta:
        unknown = EXCLUDE

    # Also where other settings are wrong: all mistakes are reported together.
    @validates_schema(skip_on_field_errors=False)
    def in_proportion(self, given: dict[str, Any], **_: Any) -> None:
        wrong = {
            smaller: [f"is more than {larger}"]
            for smaller, larger in PROPORTIONS
            if smaller in given and larger in given and given[smaller] > given[larger]
        }
        if given.get("audit_log") == "file" and not given.get("audit_path"):
            wrong["audit_path"] = ["is missing, and audit_log is file"]
        if wrong:
            raise ValidationError(wrong)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The settings of one application.

    Times are in the unit that their name says; ``*_ms`` are milliseconds.

    :cvar in_force: what a server that starts workers has read for all of them. One that starts
        later, in place of one that died, must not read what has been written meanwhile.
    """

    in_force: ClassVar[Config | None] = None

    app_name: str = text("Token Service API")
    secret_key: str = setting(fields.String(required=True, validate=strong_key))
    secret_key_fallbacks: tuple[str, ...] = setting(Keys(load_default=()))
    access_token_expire_minutes: int = whole(15, 1, 24 * 60)
    session_idle_days: int = whole(14, 1, 366)
    session_max_days: int = whole(90, 1, 3660)
    onetime_token_expire_seconds: int = whole(10, 1, 86_400)
    onetime_token_max_seconds: int = whole(86_400, 1, 31 * 86_400)
    receipt_seconds: int = whole(300, 60, 31 * 86_400)
    idempotency_window_seconds: int = whole(60, 1, 86_400)
    max_active: int = whole(1000, 1, 1_000_000)

    database_url: str | None = text(None, addresses.postgres_url)
    db_user: str = text("postgres")
    db_password: str = text("postgres")
    db_host: str = text("localhost", addresses.postgres_hosts)
    db_port: int = whole(5432, 1, 65_535)
    db_name: str = text("token_service")

    redis_url: str | None = text(None, addresses.redis_servers)
    redis_host: str = text("localhost", addresses.lone_host)
    redis_port: int = whole(6379, 1, 65_535)
    redis_db: int = whole(0, 0, 1_000_000)
    redis_user: str | None = text(None)
    redis_password: str | None = text(None)
    redis_connect_timeout_ms: int = whole(50, 1, 10_000)
    redis_timeout_ms: int = whole(100, 1, 10_000)
    redis_shards: int = whole(1, 1, 3844)

    registration: str = word(
        "open", validate.OneOf(["open", "closed"], error="is neither open nor closed")
    )
    rate_limit_register: str = word("5 per minute", rate)
    rate_limit_login: str = word("5 per minute", rate)
    rate_limit_create: str = word("60 per minute", rate)
    rate_limit_validate: str = word("600 per minute", rate)
    sandbox: bool = setting(fields.Boolean(load_default=False))
    sandbox_public: bool = setting(fields.Boolean(load_default=False))
    trusted_proxies: int = whole(0, 0, 10)
    local_domains: bool = setting(fields.Boolean(load_default=False))

    public_url: str | None = text(None, base_url)
    cors_origins: tuple[str, ...] = setting(Origins(load_default=()))
    language: Literal["es", "en"] = word(
        "es", validate.OneOf(["es", "en"], error="is neither es nor en")
    )
    log_level: str = word(
        "info",
        validate.OneOf(
            ["debug", "info", "warning", "error"],
            error="is not one of debug, info, warning, error",
        ),
    )
    log_addresses: str = word(
        "whole",
        validate.OneOf(["whole", "network", "none"], error="is not one of whole, network, none"),
    )
    audit_log: str = word(
        "stderr",
        validate.OneOf(["stderr", "file", "off"], error="is not one of stderr, file, off"),
    )
    audit_path: str | None = text(None, absolute)
    docs_enabled: bool = setting(fields.Boolean(load_default=True))
    # A year, as PCI DSS 4.0 (10.5.1) asks of an audit trail, and a month to look back on it; of it
    # three months at hand, the time in which an attack is mostly noticed. The trigger of migration
    # 0006 keeps every event for 28 days.
    audit_days: int = whole(400, 30, 3660)
    audit_address_days: int = whole(90, 1, 3660)
    metrics_token: str | None = text(
        None, validate.Length(min=16, error="is shorter than 16 characters")
    )
    metrics_old_names: bool = setting(fields.Boolean(load_default=True))
    argon2_memory_kib: int = whole(19_456, 19_456, 4_194_304)
    web_concurrency: int = whole(2, 1, 256)
    web_threads: int = whole(8, 1, 256)
    drain_seconds: int = whole(3, 0, 300)

    @classmethod
    def from_env(cls, env_file: Path = ENV_FILE) -> Self:
        """Read the environment and ``.env``.

        :raises ConfigError: naming every setting that is missing or wrong
        """
        return cls.from_mapping(*read(cls.names(), env_file))

    @classmethod
    def names(cls) -> list[str]:
        return [field.name for field in dataclasses.fields(cls)]

    @classmethod
    def from_mapping(
        cls, given: Mapping[str, str | None], mistakes: Mapping[str, list[str]] | None = None
    ) -> Self:
        """Parse text values; names in any case, unknown names ignored.

        :param mistakes: of settings that are not among them
        :raises ConfigError: naming every setting that is missing or wrong
        """
        wrong: dict[str, list[str]] = dict(mistakes or {})
        known = {field.name: field.metadata["field"] for field in dataclasses.fields(cls)}
        schema = Settings.from_dict(known)()
        try:
            values = schema.load({name.lower(): value for name, value in given.items()})
        except ValidationError as error:
            wrong = error.messages_dict | wrong
        if wrong:
            lines = sorted(f"  {name}: {'; '.join(why)}" for name, why in wrong.items())
            raise ConfigError("Settings to correct:\n" + "\n".join(lines))
        return cls(**values)

    def __repr__(self) -> str:
        # A dataclass prints its fields, and these hold secrets.
        return f"<Config {self.app_name!r}>"

    def shown(self, before: Config | None = None) -> dict[str, Any]:
        """The settings that differ from ``before``, or from the defaults; of a secret, that it is.

        The log tells with it what changed, and when.
        """
        found: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            other = getattr(before, field.name) if before else field.default
            if value == other:
                continue
            if field.name in SECRET_SETTINGS:
                found[field.name] = "set"
            else:
                found[field.name] = {"from": other, "to": value} if before else value
        return found

    @property
    def secret_keys(self) -> tuple[str, ...]:
        """All keys that are accepted. The first signs."""
        return (self.secret_key, *self.secret_key_fallbacks)

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
                re.sub(r"[][]", "", self.db_host),
                self.db_port,
                self.db_name,
            )
        return addresses.postgres_url(self.database_url)

    @property
    def redis_address(self) -> str:
        """The Redis address as one URL."""
        if self.redis_url:
            return self.redis_url
        login = ":".join(quote(part or "", "") for part in (self.redis_user, self.redis_password))
        login = "" if login == ":" else f"{login}@"
        host = addresses.bracketed(self.redis_host)
        return f"redis://{login}{host}:{self.redis_port}/{self.redis_db}"
