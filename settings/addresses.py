"""Addresses of Postgres and Redis: one grammar of hosts, and every word is honoured or refused.

The parser of each client says what a word means. None of them is asked for a list of hosts, or says
when it drops a word.
"""

from __future__ import annotations

import inspect
import ipaddress
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qsl, unquote

import psycopg2.extensions
import redis
import sqlalchemy.engine
from marshmallow import ValidationError
from redis.connection import parse_url

#: Scheme, credentials, hosts, path and options. A "#" begins what no client reads.
URL = re.compile(r"([a-z0-9+]+)://(?:([^/?#]*)@)?([^/?#@]*)(/[^?#]*)?(?:\?([^#]*))?", re.I)
#: An IPv6 address in brackets, or a name; and a port.
HOST = re.compile(r"(?:\[([^][]+)\]|([^][:]*))(?::([0-9]{0,5}))?")

POSTGRES_SCHEMES = {"postgres", "postgresql", "postgresql+psycopg2"}
#: The service writes: libpq would find it no server, or one that refuses every write.
WRITABLE = {"any", "read-write", "primary"}
#: libpq reads these numbers only when it connects.
NUMBERS = {
    *("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count"),
    *("connect_timeout", "tcp_user_timeout"),
}
OWN_LIMITS = re.compile(r"\b(statement|lock)[_-]timeout\b", re.I)

REDIS_SCHEMES = {"redis", "rediss", "unix"} | {
    f"{scheme}+{kind}" for scheme in ("redis", "rediss") for kind in ("sentinel", "cluster")
}
#: All others change what the engine reads or how often a command is sent, or do nothing.
REDIS_OPTIONS = {
    *("username", "password", "client_name"),
    *("socket_timeout", "socket_connect_timeout", "socket_keepalive"),
    *("ssl_ca_certs", "ssl_ca_path", "ssl_ca_data", "ssl_certfile", "ssl_keyfile"),
    *("ssl_password", "ssl_cert_reqs", "ssl_check_hostname"),
}
SENTINEL_OPTIONS = {"sentinel_username", "sentinel_password"}
#: The names that may appear in a message. Any other may be a part of a password.
KNOWN_OPTIONS = {*inspect.signature(redis.Redis).parameters, "protocol", *SENTINEL_OPTIONS}
#: The database in the path of each kind of address, and before it the name of a service.
DATABASE = re.compile(r"()/?([0-9]{0,7})")
PATHS = {
    "": DATABASE,
    "sentinel": re.compile(r"/([^/]+)(?:/([0-9]{0,7}))?"),
    "cluster": re.compile(r"()/?(0?)"),
}
LONGEST_TIMEOUT_SECONDS = 3600


class Address(NamedTuple):
    """An address, taken apart."""

    scheme: str
    credentials: str
    hosts: list[tuple[str, int | None]]
    path: str
    options: list[tuple[str, str]]

    @classmethod
    def parse(cls, url: str, usual: str, schemes: Collection[str]) -> Self:
        """Take a URL of one of ``schemes`` apart.

        :raises ValidationError: it is not one, or names an option without a value
        """
        match = URL.fullmatch(url)
        # Some parsers would drop a tab or a line break without a word.
        if not match or url != url.strip() or re.search(r"[\x00-\x1f\x7f]", url):
            raise ValidationError("is not a URL")
        scheme, credentials, hosts, path, query = (part or "" for part in match.groups())
        if scheme.lower() not in schemes:
            raise ValidationError(f"does not begin with {usual}://")
        try:
            named = [host(part) for part in hosts.split(",")] if hosts else []
            options = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
        except ValueError:
            raise ValidationError("is not a URL") from None
        if not all(value for _, value in options):
            raise ValidationError("names an option without a value")
        return cls(scheme.lower(), credentials, named, path, options)

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.options]


def host(text: str) -> tuple[str, int | None]:
    """Read one host, with or without its port.

    :raises ValueError: it is none
    """
    match = HOST.fullmatch(text)
    if not match:
        raise ValueError
    address, name, port = match.groups()
    if address:
        ipaddress.IPv6Address(unquote(address))
    if port and not in_range(port):
        raise ValueError
    return unquote(address or name), int(port) if port else None


def in_range(port: str) -> bool:
    return bool(re.fullmatch("[0-9]{1,5}", port)) and 1 <= int(port) <= 65_535


def bracketed(name: str) -> str:
    """The name of one host as it is written in a URL."""
    return f"[{name}]" if ":" in name and not name.startswith("[") else name


def lone_host(text: str) -> None:
    """Refuse what is more than one host, or less: it would become another part of an address."""
    try:
        name, port = host(bracketed(text))
    except ValueError:
        name, port = "", None
    if not name or port or re.search(r"[\s/?#@,%]", name.partition("%")[0]):
        raise ValidationError("is not the name or the address of a host")


def postgres_hosts(text: str) -> None:
    """Refuse what is no list of hosts, or of folders of a socket."""
    for part in text.split(","):
        if not part.startswith("/"):
            lone_host(part)


def once(names: Iterable[str], known: Collection[str]) -> None:
    """Refuse what is said twice: a client would drop one of the two.

    :raises ValidationError: with the name, if it is ``known``
    """
    seen = set[str]()
    for name in names:
        if name in seen:
            raise ValidationError(f"says {name if name in known else 'something'} twice")
        seen.add(name)


def postgres_url(url: str) -> sqlalchemy.engine.URL:
    """The Postgres address for SQLAlchemy, with all that libpq reads in it.

    :raises ValidationError: libpq cannot read it, drops a part of it, or would never connect
    """
    address = Address.parse(url, "postgresql", POSTGRES_SCHEMES)
    if "@" in address.credentials:
        raise ValidationError("is not a URL")  # libpq would take the password for a host.
    dsn = f"postgresql://{url.partition('://')[2]}"
    try:
        given = psycopg2.extensions.parse_dsn(dsn)
        before = psycopg2.extensions.parse_dsn(dsn.partition("?")[0])
    except psycopg2.ProgrammingError:
        raise ValidationError("is not an address that Postgres takes") from None
    once([*said(before), *address.names], given)
    if len(said(given)) != len(said(before)) + len(address.options):
        raise ValidationError("says something twice")  # ssl is another name of sslmode.
    servers = given.get("host", given.get("hostaddr", "")).split(",")
    check_postgres(given, len(servers))
    places = {"user": "username", "password": "password", "dbname": "database"}
    if len(servers) > 1:
        # SQLAlchemy takes several hosts as parameters, and libpq then looks for the primary.
        ports = [port or "5432" for port in given.get("port", "").split(",")]
        given["port"] = ",".join(ports * len(servers) if len(ports) == 1 else ports)
        given.setdefault("target_session_attrs", "read-write")
    elif "/" not in servers[0]:
        places |= {"host": "host", "port": "port"}
    parts: dict[str, Any] = {place: given.pop(name, None) for name, place in places.items()}
    if parts.get("port"):
        parts["port"] = int(parts["port"])
    return sqlalchemy.engine.URL.create("postgresql+psycopg2", **parts, query=given)


def said(given: Mapping[str, str]) -> list[str]:
    """The names of what is said: libpq reports the ports of several hosts also without any."""
    return [name for name, value in given.items() if value.strip(",")]


def check_postgres(given: Mapping[str, str], count: int) -> None:
    """Refuse what libpq finds out only when it connects, and what the service would undo."""
    for name, lengths in (("port", {1, count}), ("hostaddr", {count})):
        if name in given and given[name].count(",") + 1 not in lengths:
            raise ValidationError(f"does not name one {name} for each host")
    if not all(in_range(port) for port in given.get("port", "").split(",") if port):
        raise ValidationError("names a port that is not from 1 to 65535")
    for name in sorted(NUMBERS & given.keys()):
        if not re.fullmatch("[0-9]{1,6}", given[name]):
            raise ValidationError(f"takes a number as {name}")
    if "connect_timeout" in given and not int(given["connect_timeout"]):
        raise ValidationError("takes no connect_timeout without an end")
    if given.get("target_session_attrs", "any") not in WRITABLE:
        raise ValidationError("needs a target_session_attrs of any, read-write or primary")
    if found := OWN_LIMITS.search(given.get("options", "")):
        raise ValidationError(
            f"sets {found[1].lower()}_timeout in options: the service has its own"
        )


def redis_servers(url: str) -> dict[str, Any]:
    """The servers of a Redis address, as arguments of the engine's ``Connection``.

    ``redis://``, ``rediss://`` and ``unix://`` as redis-py reads them, and with several hosts
    ``redis+sentinel://[user:password@]host:port,host:port/service[/db]`` and
    ``redis+cluster://[user:password@]host:port,host:port``, or ``rediss+…`` with TLS; all with
    some options of redis-py behind a "?", and for sentinels ``sentinel_username`` and
    ``sentinel_password``.

    :raises ValidationError: the client cannot read it, or drops a part of it
    """
    address = Address.parse(url, "redis", REDIS_SCHEMES)
    scheme, _, kind = address.scheme.partition("+")
    path = address.path if scheme == "unix" else ""
    match = DATABASE.fullmatch("") if path else PATHS[kind].fullmatch(address.path)
    if not match:
        raise ValidationError(
            {"": "does not end in the number of a database", "cluster": "names a database"}.get(
                kind, "does not end in the name of a service"
            )
        )
    service, database = match[1], match[2] or ""
    check_redis(address, scheme, kind, database)
    servers: dict[str, Any] = {}
    query = url.partition("?")[2]
    try:
        options = dict(parse_url(f"{scheme}://{address.credentials}@{path}?{query}"))
        servers["sentinel_options"] = {
            name.removeprefix("sentinel_"): options.pop(name)
            for name in SENTINEL_OPTIONS & options.keys()
        }
        if database and kind != "cluster":
            options["db"] = int(database)
        if kind:
            servers |= {"nodes": address.hosts, "service": unquote(service)}
        elif address.hosts:
            [(name, port)] = address.hosts
            options |= {"host": name} if name else {}
            options |= {"port": port} if port else {}
        pool = redis.ConnectionPool(**options)
        pool.connection_class(**pool.connection_kwargs)  # It connects to nothing yet.
    except (ValueError, TypeError, redis.RedisError):
        raise ValidationError("is not an address that Redis takes") from None
    for name in ("socket_timeout", "socket_connect_timeout"):
        if not 0 < options.get(name, 1) <= LONGEST_TIMEOUT_SECONDS:
            raise ValidationError(f"takes a {name} of up to {LONGEST_TIMEOUT_SECONDS} seconds")
    if options.get("db", 0) < 0:
        raise ValidationError("names a database below 0")
    return servers | {"options": options}


def check_redis(address: Address, scheme: str, kind: str, database: str) -> None:
    """Refuse what redis-py drops, and what changes the replies that the engine reads."""
    allowed = REDIS_OPTIONS | (SENTINEL_OPTIONS if kind == "sentinel" else set())
    for name in address.names:
        if name not in allowed | ({"db"} if kind != "cluster" else set()):
            known = f"takes no option {name}" if name in KNOWN_OPTIONS else "has an unknown option"
            raise ValidationError(known)
    user, _, password = address.credentials.partition(":")
    before = {"username": user, "password": password, "db": database}
    once([*(name for name, value in before.items() if value), *address.names], KNOWN_OPTIONS)
    if kind and not all(name and port for name, port in address.hosts or [("", None)]):
        raise ValidationError("does not name each host with its port")
    if not kind and len(address.hosts) > 1:
        raise ValidationError("names several hosts, and neither sentinels nor a cluster")
    if scheme == "unix" and address.hosts:
        raise ValidationError("names a host and a socket")
