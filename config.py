"""Every setting of the service: read once, typed, and all mistakes reported together.

What never takes two real values is a constant beside its use, not a setting.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self
from urllib.parse import quote

import limits
import sqlalchemy.engine
from marshmallow import EXCLUDE, Schema, ValidationError, fields, validate, validates_schema

from settings import addresses
from settings.environment import ENV_FILE, ConfigError, read

#: That of the service, as in setup.cfg, which is not in the image.
VERSION = "0.1.0"
SAMPLE_SECRET_KEY = "clave_super_segura_cambia_esto"  # noqa: S105 - refused below
MIN_SECRET_KEY_BYTES = 32
#: Settings whose values no line of the log may hold.
SECRET_SETTINGS = frozenset(
    {
        *("secret_key", "secret_key_fallbacks", "metrics_token"),
        *("database_url", "db_password", "redis_url", "redis_password"),
    }
)
LONGEST_WINDOW_SECONDS = 366 * 86_400
# A page of the web, of an app with a scheme of its own, or of a browser's extension.
ORIGIN = re.compile(
    r"https?://([a-z0-9.-]+|\[(?P<ipv6>[0-9a-f:.]+)\])(:[0-9]{1,5})?"
    r"|[a-z][a-z0-9+.-]*://localhost(:[0-9]{1,5})?"
    r"|[a-z-]+-extension://[a-z0-9-]+",
    re.IGNORECASE | re.ASCII,
)
PUBLIC_URL = re.compile(
    r"https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._~-]+)*", re.ASCII
)
# Settings of which the first must not be more than the second: a repeated answer is told from the
# record, and a token that names no life must be allowed the usual one.
PROPORTIONS = (
    ("onetime_token_expire_seconds", "onetime_token_max_seconds"),
    ("idempotency_window_seconds", "receipt_seconds"),
    ("session_idle_days", "session_max_days"),
    ("audit_address_days", "audit_days"),
)


def strong_key(key: str) -> None:
    """RFC 7518 section 3.2: an HS256 key has at least 256 bits."""
    if key == SAMPLE_SECRET_KEY:
        raise ValidationError("is the sample value of the documentation: choose your own")
    if len(key.encode()) < MIN_SECRET_KEY_BYTES:
        raise ValidationError(f"is shorter than {MIN_SECRET_KEY_BYTES} bytes")


def listed(text: str) -> tuple[str, ...]:
    """The parts of a comma separated list; blanks around them do not count."""
    return tuple(part for each in text.split(",") if (part := each.strip()))


def rate(words: str) -> None:
    """One rate and no list of them: of a list the limiter would take the first alone."""
    try:
        given = [] if words == "off" else limits.parse_many(words)
    except ValueError:
        raise ValidationError('is not a rate such as "60 per minute", nor "off"') from None
    if len(given) > 1:
        raise ValidationError("is more than one rate")
    if any(one.amount < 1 or one.get_expiry() > LONGEST_WINDOW_SECONDS for one in given):
        raise ValidationError("does not allow at least one call, within a year at most")


def base_url(text: str) -> None:
    """An address as RFC 8414 section 2 wants it, to which paths are appended."""
    if not PUBLIC_URL.fullmatch(text):
        raise ValidationError(
            "is not an address such as https://tokens.example.com, without a / at its end"
        )


def is_origin(text: str) -> bool:
    """Tell whether ``text`` is an origin as a browser writes it."""
    found = ORIGIN.fullmatch(text)
    if found is None or found["ipv6"] is None:
        return found is not None
    try:
        return str(ipaddress.IPv6Address(found["ipv6"])) == found["ipv6"].lower()
    except ValueError:
        return False


class Word(fields.String):
    """Text in lower case: ``LOG_LEVEL=INFO`` is what other programs call it."""

    def _deserialize(self, value: Any, *more: Any, **options: Any) -> Any:
        return str(super()._deserialize(value, *more, **options)).strip().lower()


class Origins(fields.Field[tuple[str, ...]]):
    """Exact CORS origins, comma separated.

    Flask-CORS takes a string with any of ``* \\ ] ? $ ^ [ ( )`` for a regular expression and
    matches only its beginning, so that ``https://trusted\\.com`` would let in
    ``https://trusted.com.evil.example``. Nothing but scheme, host and port passes here, and
    ``web/headers.py`` escapes the brackets of an IPv6 address.
    """

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> tuple[str, ...]:
        origins = listed(str(value))
        for origin in origins:
            if not is_origin(origin):
                raise ValidationError("takes exact origins only, such as https://app.example.com")
        return origins


class Keys(fields.Field[tuple[str, ...]]):
    """Secret keys, comma separated, each as strong as the one that signs."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> tuple[str, ...]:
        keys = listed(str(value))
        for key in keys:
            try:
                strong_key(key)
            except ValidationError as error:
                raise ValidationError(f"has a key that {error.messages[0]}") from None
        return keys


def absolute(path: str) -> None:
    if not path.startswith("/"):
        raise ValidationError("is no absolute path")


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


def setting(field: fields.Field[Any]) -> Any:
    """A dataclass field whose environment value ``field`` parses, validates and defaults."""
    if field.required:
        return dataclasses.field(metadata={"field": field})
    return dataclasses.field(default=field.load_default, metadata={"field": field})


def text(default: str | None = None, *checks: Any) -> Any:
    return setting(fields.String(load_default=default, allow_none=True, validate=list(checks)))


def word(default: str, check: Any) -> Any:
    return setting(Word(load_default=default, validate=check))


def whole(default: int, low: int, high: int) -> Any:
    in_range = validate.Range(low, high, error=f"is not from {low} to {high}")
    return setting(fields.Integer(load_default=default, validate=in_range))


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
