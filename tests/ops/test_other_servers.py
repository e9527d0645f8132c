"""Readiness before a Redis that lacks something: it is named, and never a 500."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask

import dev
from tests.stage.people import Person
from tests.stage.proxy import Proxy
from tests.stage.readiness import readiness

INFO = b"$4\r\nINFO\r\n"


def bulk(*lines: str) -> bytes:
    text = "".join(f"{line}\r\n" for line in lines).encode()
    return b"$%d\r\n%b\r\n" % (len(text), text)


@pytest.fixture
def proxy(redis_server: dev.Redis) -> Iterator[Proxy]:
    with Proxy(redis_server.port) as running:
        yield running


@pytest.mark.parametrize(
    ("reply", "state"),
    [
        (bulk("role:master", "loading:0", "maxmemory:0", "maxmemory_policy:volatile-lru"), "ok"),
        (bulk("role:master", "maxmemory:0"), "ok"),
        (bulk("role:master", "maxmemory:9", "maxmemory_policy:noeviction"), "ok"),
        (bulk("role:master", "maxmemory_policy:noeviction"), "ok"),
        (bulk("role:master", "loading:0"), "evicts keys"),
        (bulk("role:master", "maxmemory:9"), "evicts keys"),
        (bulk("role:master", "maxmemory:plenty"), "evicts keys"),
        (bulk("redis_version:7.0.0"), "not a master"),
        (bulk("role:"), "not a master"),
        (bulk("# nothing", "", "nonsense"), "not a master"),
        (bulk(), "not a master"),
        (b"$-1\r\n", "unavailable"),
        (b"*0\r\n", "unavailable"),
        (b":1\r\n", "unavailable"),
        (b"+OK\r\n", "not a master"),
        (b"-ERR unknown command\r\n", "unavailable"),
    ],
)
def test_an_info_without_some_fields_is_no_500(
    reply: bytes,
    state: str,
    proxy: Proxy,
    app: Flask,
    redis_server: dev.Redis,
    make_app: Callable[..., Flask],
) -> None:
    """Guard: ``check_redis`` takes no field for granted."""
    proxy.answer(INFO, reply)
    url = redis_server.url.replace(f":{redis_server.port}/", f":{proxy.port}/")
    response = readiness(make_app(redis_url=url).test_client())
    assert response.status_code in (200, 503)
    assert response.get_json()["checks"]["redis"] == state


@pytest.mark.parametrize("missing", ["EVALSHA", "EVAL", "TIME", "INFO", "ZRANDMEMBER", "PTTL"])
def test_a_redis_without_a_command_is_not_ready(
    missing: str, person: Person, app: Flask, make_app: Callable[..., Flask], tmp_path: Path
) -> None:
    """Guard: scripts/probe.lua. It was ready, and each call was a 503."""
    with dev.Redis(tmp_path, settings={"rename-command": f'{missing} ""'}) as server:
        client = make_app(redis_url=server.url).test_client()
        assert readiness(client).get_json()["checks"]["redis"] == "unavailable"
