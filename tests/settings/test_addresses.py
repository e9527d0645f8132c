"""Addresses of the stores: each word of one is honoured, or refused at the start by its name."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import flask_migrate
import pytest
from flask import Flask
from sqlalchemy import text
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2
from sqlalchemy.exc import OperationalError

import dev
from config import Config, ConfigError
from settings import addresses
from tests.stage.queries import query
from tests.stage.readiness import readiness
from tokenservice.extensions import db
from tokenservice.postgres import timeouts

SECRET_KEY = secrets.token_urlsafe(48)
#: Those of the service, before a test's own patience.
SERVER_LIMITS = timeouts.SERVER_LIMITS
#: Addresses that were accepted, and what was dropped or failed for ever; and the reason now.
REFUSED = [
    # The path.
    ("redis://h/abc", "number of a database"),
    ("redis://h/0/1", "number of a database"),
    ("redis://h/-1", "number of a database"),
    ("redis://h//", "number of a database"),
    ("redis://h/99999999999999999999", "number of a database"),
    ("redis://h?db=-1", "below 0"),
    ("redis+sentinel://h:1/s/abc", "name of a service"),
    ("redis+cluster://h:1/3", "names a database"),
    ("redis+cluster://h:1?db=3", "takes no option db"),
    ("unix://h/run/redis.sock", "a host and a socket"),
    # What redis-py reads only once.
    ("redis://h/1?db=2", "says db twice"),
    ("redis://u:p@h?username=v", "says username twice"),
    ("redis://:p@h?password=q", "says password twice"),
    ("redis://h?client_name=a&client_name=b", "says client_name twice"),
    ("rediss://h?ssl_ca_certs=", "without a value"),
    # What the engine would read otherwise, or what would do nothing.
    ("redis://h?decode_responses=true", "takes no option decode_responses"),
    ("redis://h?encoding=latin-1", "takes no option encoding"),
    ("redis://h?encoding_errors=ignore", "takes no option encoding_errors"),
    ("redis://h?protocol=3", "takes no option protocol"),
    ("redis+cluster://h:1?protocol=3", "takes no option protocol"),
    ("redis+sentinel://h:1/s?decode_responses=1", "takes no option decode_responses"),
    ("redis://h?retry_on_timeout=true", "takes no option retry_on_timeout"),
    ("redis://h?health_check_interval=5", "takes no option health_check_interval"),
    ("redis://h?max_connections=1", "takes no option max_connections"),
    ("redis://h?socket_timeout=0", "takes a socket_timeout"),
    ("redis://h?socket_timeout=nan", "takes a socket_timeout"),
    ("redis://h?socket_connect_timeout=-1", "takes a socket_connect_timeout"),
    ("redis+cluster://h:1?sentinel_password=p", "takes no option sentinel_password"),
    ("redis://h?hunter2=1", "has an unknown option"),
    # The hosts.
    ("redis://one,two/0", "several hosts"),
    ("redis://h:0/0", "not a URL"),
    ("redis://h:65536/0", "not a URL"),
    ("redis://h:٣/0", "not a URL"),
    ("redis://[::1/0", "not a URL"),
    ("redis://[one]:1/0", "not a URL"),
    ("redis://::1:6379/0", "not a URL"),
    ("redis+cluster://one:1,,two:2", "each host with its port"),
    ("redis+cluster://one:1,[::1]", "each host with its port"),
    # What urlsplit drops.
    ("redis://:hunter#2@h:1/0", "not a URL"),
    ("redis://h/0#1", "not a URL"),
    ("redis://:hun\tter@h/0", "not a URL"),
    ("redis://h/0\n", "not a URL"),
    # Postgres: what libpq reads only once, or finds out when it connects.
    ("postgresql://h/d?host=two", "says host twice"),
    ("postgresql://u@h/d?user=v", "says user twice"),
    ("postgresql://h:1/d?port=2", "says port twice"),
    ("postgresql://h/d?dbname=e", "says dbname twice"),
    ("postgresql://h/d?sslmode=require&sslmode=disable", "says sslmode twice"),
    ("postgresql://h/d?sslmode=disable&ssl=true", "says something twice"),
    ("postgresql://h/d?sslmode=", "without a value"),
    ("postgresql://h/d?options=-c%20statement_timeout%3D0", "statement_timeout in options"),
    ("postgresql://h/d?options=--lock-timeout%3D9s", "lock_timeout in options"),
    ("postgresql://h/d?connect_timeout=soon", "a number as connect_timeout"),
    ("postgresql://h/d?connect_timeout=0", "connect_timeout without an end"),
    ("postgresql://h/d?keepalives_idle=soon", "a number as keepalives_idle"),
    ("postgresql://one,two/d?target_session_attrs=standby", "target_session_attrs"),
    ("postgresql://one,two/d?target_session_attrs=prefer-standby", "target_session_attrs"),
    ("postgresql://one,two/d?port=1,2,3", "one port for each host"),
    ("postgresql://one,two/d?hostaddr=127.0.0.1", "one hostaddr for each host"),
    ("postgresql://h/d?port=65536", "a port that is not"),
    ("postgresql://h:0/d", "not a URL"),
    ("postgresql://u:p@ss@h/d", "not a URL"),
    ("postgresql://h/d\n", "not a URL"),
    ("postgresql://h/d?options=-c search_path=tenant", "is not an address that Postgres takes"),
    ("postgresql://one,[::1/d", "not a URL"),
]


def read(url: str) -> Config:
    name = "database_url" if url.startswith("postgres") else "redis_url"
    return Config.from_mapping({"secret_key": SECRET_KEY, name: url})


@pytest.mark.parametrize(("url", "reason"), REFUSED)
def test_what_would_be_dropped_is_refused_by_name(url: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(url)
    assert reason in str(caught.value)
    assert "hunter2" not in str(caught.value)


def connection_arguments(url: str) -> dict[str, Any]:
    (_, options) = PGDialect_psycopg2().create_connect_args(read(url).sqlalchemy_url)
    return options


@pytest.mark.parametrize(
    ("url", "arguments"),
    [
        ("postgresql://h/d?options=-c%20a%3Db", {"host": "h", "dbname": "d", "options": "-c a=b"}),
        ("postgresql://[::1]:1/d", {"host": "::1", "port": 1, "dbname": "d"}),
        ("postgresql://[fe80::1%25eth0]/d", {"host": "fe80::1%eth0", "dbname": "d"}),
        ("postgresql://%2Frun/d", {"host": "/run", "dbname": "d"}),
        ("postgresql:///d?host=/run&port=1", {"host": "/run", "port": "1", "dbname": "d"}),
        (
            "postgresql://u:p%40%2F%3F%23@h/d",
            {"host": "h", "user": "u", "password": "p@/?#", "dbname": "d"},
        ),
        ("postgresql://h/d?ssl=true", {"host": "h", "dbname": "d", "sslmode": "require"}),
        ("postgresql://h/d?service=s", {"host": "h", "dbname": "d", "service": "s"}),
        (
            "postgresql://one,two/d?port=3&target_session_attrs=any",
            {"host": "one,two", "port": "3,3", "dbname": "d", "target_session_attrs": "any"},
        ),
        (
            "postgresql://a,b/d?hostaddr=127.0.0.1,::1",
            {
                **{"host": "a,b", "hostaddr": "127.0.0.1,::1", "port": "5432,5432"},
                **{"dbname": "d", "target_session_attrs": "read-write"},
            },
        ),
    ],
)
def test_what_a_postgres_address_says_reaches_libpq(url: str, arguments: dict[str, Any]) -> None:
    assert connection_arguments(url) == arguments


@pytest.mark.parametrize(
    ("url", "nodes"),
    [
        ("redis+sentinel://one:6379,[::1]:6379/s", [("one", 6379), ("::1", 6379)]),
        ("redis+sentinel://[::1]:1,[::2]:2/s", [("::1", 1), ("::2", 2)]),
        ("redis+cluster://[::ffff:192.0.2.1]:1,one:2/0", [("::ffff:192.0.2.1", 1), ("one", 2)]),
        ("redis+cluster://[fe80::1%25eth0]:1", [("fe80::1%eth0", 1)]),
    ],
)
def test_a_list_of_hosts_may_have_ipv6_addresses(url: str, nodes: list[tuple[str, int]]) -> None:
    """Red where a patch release of Python reads a list of hosts by ``urlsplit``, as 3.11.2 does."""
    assert redis_arguments(url)["nodes"] == nodes


def redis_arguments(url: str) -> dict[str, Any]:
    return addresses.redis_servers(read(url).redis_address)


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("redis://h", {"host": "h"}),
        ("redis://h:/", {"host": "h"}),
        (
            "redis://u:p%40@[::1]:1/2",
            {"host": "::1", "port": 1, "db": 2, "username": "u", "password": "p@"},
        ),
        ("redis://:p@ss@h", {"host": "h", "password": "p@ss"}),
        ("redis://h?db=3&client_name=vales", {"host": "h", "db": 3, "client_name": "vales"}),
        ("redis://h?socket_timeout=0.5", {"host": "h", "socket_timeout": 0.5}),
        ("redis+sentinel://h:1/s/4?password=p", {"db": 4, "password": "p"}),
        ("redis+cluster://:p@h:1/0", {"password": "p"}),
    ],
)
def test_what_a_redis_address_says_reaches_the_client(url: str, options: dict[str, Any]) -> None:
    assert redis_arguments(url)["options"] == options


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_a_redis_host_may_be_an_ipv6_address(host: str) -> None:
    config = Config(secret_key=SECRET_KEY, redis_host=host)
    servers = addresses.redis_servers(config.redis_address)
    assert servers["options"] == {"host": "::1", "port": 6379, "db": 0}


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_a_postgres_host_may_be_an_ipv6_address(host: str) -> None:
    assert Config(secret_key=SECRET_KEY, db_host=host).sqlalchemy_url.host == "::1"


@pytest.mark.parametrize("name", ["redis_host", "db_host"])
@pytest.mark.parametrize(
    "host",
    ["h:6380", "tcp://h", "h/3", "h?db=3", "u@h", "h#", "h ", "[h]", "[::1]:1", "::g", "h/3?x=%31"],
)
def test_a_host_is_a_host_and_nothing_more(name: str, host: str) -> None:
    """It would become another part of the address, or fail at each call."""
    with pytest.raises(ConfigError, match=f"{name}: is not the name or the address of a host"):
        Config.from_mapping({"secret_key": SECRET_KEY, name: host})


@pytest.mark.parametrize("host", ["db", "db.example.com", "192.0.2.1", "::1", "fe80::1%eth0"])
@pytest.mark.parametrize("name", ["redis_host", "db_host"])
def test_a_host_may_be_a_name_or_an_address(name: str, host: str) -> None:
    config = Config.from_mapping({"secret_key": SECRET_KEY, name: host})
    assert config.sqlalchemy_url
    assert addresses.redis_servers(config.redis_address)


@pytest.mark.parametrize("host", ["one,two", "/run/postgresql", "one,::1"])
def test_postgres_may_have_several_hosts_or_a_socket(host: str) -> None:
    config = Config.from_mapping({"secret_key": SECRET_KEY, "db_host": host})
    (_, options) = PGDialect_psycopg2().create_connect_args(config.sqlalchemy_url)
    assert options["host"] == host


def test_the_schema_that_an_address_names_is_used(
    postgres: dev.Postgres, make_app: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Red where the options of the address give way to those of the service: tables of one tenant
    would be made in ``public``.
    """
    query(postgres.url, "CREATE SCHEMA tenant_a")
    app = make_app(database_url=f"{postgres.url}?options=-c%20search_path%3Dtenant_a")
    with app.app_context():
        flask_migrate.upgrade()
        monkeypatch.setattr(timeouts, "SERVER_LIMITS", SERVER_LIMITS)
        db.session.execute(text("SELECT 1"))
        assert db.session.scalar(text("SHOW statement_timeout")) == "800ms"
        with pytest.raises(OperationalError):
            db.session.execute(text("SELECT pg_sleep(5)"))
        db.session.remove()
    assert readiness(app.test_client()).status_code == 200
    found = query(postgres.url, "SELECT schemaname FROM pg_tables WHERE tablename = 'users'")
    assert ("tenant_a",) in found
    with app.app_context():
        db.engine.dispose()
