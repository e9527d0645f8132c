"""A connection to Redis that a middlebox forgot while it was idle costs no response."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import dev
from tests.stage import topologies
from tests.stage.connections import connect
from tests.stage.proxy import Proxy
from tests.stage.sockets import keep_alive
from tests.stage.waiting import until
from tokenservice.onetime import connection as connections
from tokenservice.onetime.errors import StoreUnavailable


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections count as idle for long after a moment."""
    monkeypatch.setattr(connections, "RENEW_SECONDS", 0.05, raising=False)


@pytest.fixture
def proxy(redis_server: dev.Redis) -> Iterator[Proxy]:
    with Proxy(redis_server.port) as running:
        yield running


@pytest.fixture
def url(proxy: Proxy, redis_server: dev.Redis) -> str:
    return redis_server.url.replace(f":{redis_server.port}/", f":{proxy.port}/")


def forgotten(*proxies: Proxy) -> None:
    time.sleep(0.1)
    for proxy in proxies:
        proxy.forget()


def test_a_forgotten_connection_of_one_server(soon: None, url: str, proxy: Proxy) -> None:
    """Guard: ``connection.RENEW_SECONDS``."""
    opened = connect(url)
    assert opened.script("return 1")(["ott:a"]) == 1
    opened.info()
    forgotten(proxy)
    assert opened.script("return 2")(["ott:a"]) == 2
    assert opened.info()


def test_a_connection_in_use_is_kept(url: str, proxy: Proxy) -> None:
    opened = connect(url)
    numbers = {opened.ask("ott:a", "CLIENT", "ID") for _ in range(3)}
    assert len(numbers) == 1
    assert keep_alive(proxy.port) == [15]


def test_an_address_may_ask_for_no_keep_alive(url: str, proxy: Proxy) -> None:
    opened = connect(f"{url}?socket_keepalive=no")
    opened.info()
    assert keep_alive(proxy.port) == [0]


def test_a_socket_of_unix_needs_no_keep_alive(tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    with dev.Redis(tmp_path / "redis", settings={"unixsocket": str(path)}) as server:
        assert connect(f"unix://:{server.password}@{path}?db=1").info()


@pytest.mark.slow
def test_a_forgotten_connection_of_a_cluster(soon: None, tmp_path: Path) -> None:
    """Guard: one way to ask for one server and for the nodes of a cluster."""
    with topologies.cluster(tmp_path, masters=1) as whole, contextlib.ExitStack() as running:
        [server] = whole.servers
        proxy = running.enter_context(Proxy(server.port))
        server.settings["cluster-announce-port"] = str(proxy.port)
        server.kill()
        server.start()
        until(lambda: server.client().cluster("info")["cluster_state"] == "ok")
        opened = connect(whole.url.replace(f":{server.port}", f":{proxy.port}"))
        assert opened.script("return 1")(["ott:a"]) == 1
        opened.info()
        assert keep_alive(proxy.port)[-1] == 15
        forgotten(proxy)
        assert opened.script("return 2")(["ott:a"]) == 2
        assert opened.info()


@pytest.mark.slow
def test_a_forgotten_connection_to_the_sentinels(soon: None, tmp_path: Path) -> None:
    """A renewed connection asks them for the master. Guard: ``Connection._open``."""
    with topologies.sentinel(tmp_path) as whole, Proxy(whole.watchers[0].port) as proxy:
        url = re.sub(r"@.*/", f"@127.0.0.1:{proxy.port}/", whole.url)
        opened = connect(url)
        assert opened.script("return 1")(["ott:a"]) == 1
        forgotten(proxy)
        assert opened.script("return 2")(["ott:a"]) == 2


def test_a_connection_that_is_forgotten_in_use_is_unavailable(url: str, proxy: Proxy) -> None:
    """The outcome is unknown, so nothing is repeated: the bound of the promise above."""
    opened = connect(url, read_ms=1000)
    assert opened.script("return 1")(["ott:a"]) == 1
    proxy.forget()
    with pytest.raises(StoreUnavailable):
        opened.script("return 2")(["ott:a"])
    assert opened.script("return 2")(["ott:a"]) == 2
