"""Every call while Redis is down, slow, full or no master: its response and its time.

Each row is one of the failure policy.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import dev
from tests.stage import topologies
from tests.stage.faults import admin, configured, orphan_replica
from tests.stage.proxy import Proxy
from tests.stage.service import Service
from tests.stage.waiting import until
from tests.torture.ledger import trials
from tests.torture.outages import Row, Site, check_alive, check_row, on_the_way, site_of

#: A write as in the append-only file.
WRITE = b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$1\r\n1\r\n"


class Redis(dev.Redis):
    """A Redis that counts as started while it still loads its data."""

    def responds(self) -> bool:
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection,
        ):
            connection.sendall(f"AUTH {self.password}\r\nPING\r\n".encode())
            with connection.makefile("rb") as replies:
                return replies.readline() == b"+OK\r\n" and replies.readline()[:5] in {
                    b"+PONG",
                    b"-LOAD",
                }
        return False


@pytest.fixture(scope="module")
def site(
    serve: Callable[..., Service],
    postgres: dev.Postgres,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    with (
        Redis(tmp_path_factory.mktemp("redis")) as server,
        site_of(serve, server, postgres) as running,
    ):
        yield running


@contextlib.contextmanager
def without_master(site: Site) -> Iterator[None]:
    """A replica without a master, which refuses reads too."""
    with configured("replica-serve-stale-data", "no")(site), orphan_replica(site):
        yield


@contextlib.contextmanager
def loads(site: Site) -> Iterator[None]:
    """Redis loads an append-only file, for longer than all the calls take."""
    server = site.redis
    server.kill()
    log = server.directory / "appendonly.aof"
    log.write_bytes(WRITE * (200_000 + trials(4_000_000)))
    before = server.settings
    # A short sleep at each write; Redis serves clients at each thousandth.
    server.settings = {**before, "appendonly": "yes", "key-load-delay": "20"}
    server.start()
    try:
        yield
        with admin(site) as client:
            assert client.info("persistence")["loading"]
    finally:
        server.kill()
        log.unlink(missing_ok=True)
        # Redis 7 has moved it there.
        shutil.rmtree(server.directory / "appendonlydir", ignore_errors=True)
        server.settings = before
        server.start()


@contextlib.contextmanager
def restarted(site: Site) -> Iterator[None]:
    site.redis.kill()
    site.redis.start()
    yield


ALARM = {"readyz/redis": "not_ready"}
AWAY = dict.fromkeys(("create", "validate", "revoke all"), "store_unavailable") | ALARM
NO_ROOM = {"create": "store_unavailable"} | ALARM
LOST = "token_lost"
SOON = {"create": 0.25, "validate": 0.25, "login": 1.0, "healthz": 0.05}
ROWS = {
    "Redis refuses": Row(on_the_way("to_redis", Proxy.refuse), AWAY, SOON),
    "Redis hangs": Row(
        on_the_way("to_redis", Proxy.hang), AWAY, SOON | {"create": 0.4, "validate": 0.4}
    ),
    "Redis is 50 ms slow": Row(on_the_way("to_redis", lambda proxy: proxy.slow(0.05)), {}, SOON),
    "Redis is full": Row(configured("maxmemory", "1"), NO_ROOM, SOON),
    "Redis evicts keys": Row(configured("maxmemory-policy", "allkeys-lru"), ALARM, SOON),
    "Redis is read-only": Row(orphan_replica, AWAY, SOON, LOST),
    "Redis has no master": Row(without_master, AWAY, SOON, LOST),
    "Redis is loading": Row(loads, AWAY, SOON | {"create": 0.4, "validate": 0.4}, LOST),
    "Redis restarted": Row(restarted, {"validate": LOST}, SOON, LOST),
}


@pytest.mark.parametrize("words", ROWS)
def test_every_call_follows_the_failure_policy(words: str, site: Site) -> None:
    check_row(site, words, ROWS[words])


def test_the_process_is_alive_while_redis_hangs(site: Site) -> None:
    with on_the_way("to_redis", Proxy.hang)(site):
        check_alive(site, "create", "healthz succeeds while Redis hangs")


def test_sentinels_without_a_master(
    serve: Callable[..., Service], postgres: dev.Postgres, tmp_path: Path
) -> None:
    if trials(100) < 10:
        pytest.skip("needs a gunicorn and a sentinel of its own: for longer runs")
    with (
        topologies.Node(tmp_path / "master", secrets.token_urlsafe(24), {}) as master,
        topologies.Watcher(tmp_path / "sentinel", master) as watcher,
        site_of(
            serve,
            master,
            postgres,
            redis_url=f"redis+sentinel://:{master.password}@127.0.0.1:{watcher.port}/tokens",
        ) as site,
    ):

        @contextlib.contextmanager
        def killed(_: Site) -> Iterator[None]:
            master.kill()
            try:
                yield
            finally:
                master.start()

        check_row(site, "Sentinels know no master", Row(killed, AWAY, SOON, LOST, last=2, back=2.0))


def test_a_replica_is_no_judge(site: Site, tmp_path: Path) -> None:
    """The proxy leads to a replica, which has every record and would call them all lost.

    Guard: ``role:master`` in prelude.lua.
    """
    follow = {"replicaof": f"127.0.0.1 {site.redis.port}", "masterauth": site.redis.password}
    with dev.Redis(tmp_path, None, follow, site.redis.password) as replica, admin(site) as master:

        @contextlib.contextmanager
        def redirected(site: Site) -> Iterator[None]:
            assert master.wait(1, 5000) == 1
            redirect(site.to_redis, replica.port)
            try:
                yield
            finally:
                redirect(site.to_redis, site.redis.port)

        until(lambda: master.wait(1, 100) == 1)
        check_row(site, "Redis is a replica that has all the data", Row(redirected, AWAY, SOON))


def redirect(proxy: Proxy, port: int) -> None:
    proxy.target = port
    proxy.refuse()
    proxy.mend()
