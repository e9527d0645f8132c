"""The proxy does what its commands say; otherwise the tests behind it would show nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import redis

import dev
from tests.stage.proxy import CUT, DELAY, KINDS, Proxy
from tests.stage.waiting import until

WAIT = 0.5  # seconds in which a reply does not come


@pytest.fixture
def proxy(redis_server: dev.Redis) -> Iterator[Proxy]:
    with Proxy(redis_server.port, late=2 * WAIT) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: Proxy, redis_server: dev.Redis) -> Iterator[redis.Redis]:
    """A client that sends nothing twice, on one connection."""
    url = f"redis://:{redis_server.password}@127.0.0.1:{proxy.port}/0"
    with redis.Redis.from_url(url, socket_timeout=20, single_connection_client=True) as client:
        yield client


def is_answered(client: redis.Redis, *command: str) -> bool:
    """Whether a reply to a command comes in a while. The next command has a new connection."""
    connection = client.connection
    assert connection
    connection.send_command(*command)
    try:
        return bool(connection.can_read(WAIT))
    finally:
        connection.disconnect()


@pytest.mark.parametrize("kind", KINDS)
def test_one_reply_is_lost_after_the_work_was_done(
    kind: str, proxy: Proxy, client: redis.Redis, redis_server: dev.Redis
) -> None:
    name = f"lost:{kind}"
    assert client.incr(name) == 1
    proxy.lose(name.encode(), kind)
    if kind == CUT:
        with pytest.raises(redis.ConnectionError):
            client.incr(name)
    else:
        assert not is_answered(client, "INCR", name)
    until(lambda: proxy.lost == {kind: 1})
    assert client.incr(name) == 3
    redis.Redis.from_url(redis_server.url).delete(name)


def test_a_late_reply_arrives(proxy: Proxy, redis_server: dev.Redis) -> None:
    """Otherwise DELAY would be another SWALLOW."""
    url = f"redis://:{redis_server.password}@127.0.0.1:{proxy.port}/0"
    with redis.Redis.from_url(url, socket_timeout=10) as patient:
        proxy.lose(b"PING", DELAY)
        started = time.monotonic()
        assert patient.ping()
        assert time.monotonic() - started >= 2 * WAIT


def test_an_open_connection_is_forgotten_and_a_new_one_is_not(
    proxy: Proxy, client: redis.Redis
) -> None:
    assert client.ping()
    proxy.forget()
    assert not is_answered(client, "PING")
    assert client.ping()  # on a new connection


def test_a_request_is_answered_in_place_of_the_server(proxy: Proxy, client: redis.Redis) -> None:
    proxy.answer(b"ECHO", b"+other\r\n")
    assert client.echo("same") == b"other"
    assert client.ping()


def test_a_server_is_slow_hangs_refuses_and_is_mended(proxy: Proxy, client: redis.Redis) -> None:
    assert client.ping()
    proxy.slow(0.1)
    started = time.monotonic()
    assert client.ping()
    assert time.monotonic() - started >= 0.1

    proxy.hang()
    assert not is_answered(client, "PING")

    proxy.refuse()
    with pytest.raises(redis.ConnectionError):
        client.ping()

    proxy.mend()
    assert client.ping()
