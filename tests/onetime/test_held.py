"""Histories in which a search for a second success found none.

Each consumes one of two tokens, does something to the servers, and presents both again to the
master of that time: the consumed one is never honoured, and the other at most once.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

import dev
from tests.stage.versions import DEBUG, is_valkey, needs_seven, version
from tests.stage.waiting import until
from tokenservice.onetime import errors
from tokenservice.onetime.store import TokenStore
from tokenservice.onetime.values import Party, Presented

pytestmark = pytest.mark.slow

LUIS, EVA = Party("luis", "luis@example.com"), Party("eva", "eva@example.com")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[dev.Redis]:
    with dev.Redis(tmp_path, settings={"appendonly": "yes", **DEBUG}) as running:
        yield running


class Pair:
    """Two servers with one password, either of which may follow the other."""

    def __init__(self, directory: Path, **settings: str) -> None:
        password = secrets.token_urlsafe(24)
        given = {"masterauth": password, "repl-diskless-sync-delay": "0", **DEBUG, **settings}
        self.servers = [
            dev.Redis(directory / name, None, given, password) for name in ("one", "two")
        ]
        self.clients = [redis.Redis.from_url(each.url, socket_timeout=20) for each in self.servers]

    def follow(self, which: int, leader: int) -> None:
        self.clients[which].replicaof("127.0.0.1", self.servers[leader].port)
        self.await_link(which)

    def await_link(self, which: int) -> None:
        client = self.clients[which]
        until(lambda: client.info("replication").get("master_link_status") == "up")

    def await_replica(self, leader: int) -> None:
        client = self.clients[leader]
        until(lambda: client.info("replication").get("slave0", {}).get("state") == "online")

    def role(self, which: int) -> str:
        return str(self.clients[which].info("replication")["role"])


@contextlib.contextmanager
def pair_of(directory: Path, **settings: str) -> Iterator[Pair]:
    pair = Pair(directory, **settings)
    with pair.servers[0], pair.servers[1]:
        yield pair


def results(store: TokenStore, text: str, *callers: Party) -> list[str]:
    found = []
    for caller in callers:
        try:
            store.validate(Presented(text), caller)
            found.append("consumed")
        except errors.TokenRefused as refusal:
            found.append(type(refusal).__name__)
    return found


class Tokens:
    """A consumed token and a fresh one."""

    def __init__(self, store: TokenStore) -> None:
        self.consumed, self.fresh = (
            created.text for created in store.create_many("ana", 2, life_seconds=600)
        )
        assert results(store, self.consumed, LUIS) == ["consumed"]

    def hold(self, *stores: TokenStore) -> list[str]:
        """Present both to each store; return the results of the fresh one."""
        fresh: list[str] = []
        for store in stores:
            assert "consumed" not in results(store, self.consumed, EVA, LUIS)
            fresh += results(store, self.fresh, EVA, LUIS)
        assert fresh.count("consumed") <= 1
        return fresh


def test_each_start_of_a_process_has_a_run_id_of_its_own(tmp_path: Path) -> None:
    names = set()
    with dev.Redis(tmp_path) as server:
        for _ in range(7):
            names.add(redis.Redis.from_url(server.url).info("server")["run_id"])
            server.kill()
            server.start()
    assert len(names) == 7


@pytest.mark.parametrize("command", [("DEBUG", "RELOAD"), ("DEBUG", "LOADAOF")])
def test_a_server_that_reloads_its_data_keeps_its_tokens(
    command: tuple[str, ...], server: dev.Redis, open_store: Callable[..., TokenStore]
) -> None:
    """With the log on, it reloads the consumes too."""
    store = open_store(server.url)
    tokens = Tokens(store)
    redis.Redis.from_url(server.url).execute_command(*command)
    assert tokens.hold(store) == ["consumed", "TokenAlreadyUsed"]


@pytest.mark.parametrize("how", [(), ("FORCE", "TIMEOUT", "2000")])
def test_a_coordinated_failover_and_back_twice(
    how: tuple[str, ...], tmp_path: Path, open_store: Callable[..., TokenStore]
) -> None:
    """By partial resync: the processes keep their run_id, and each mastership has a new replid."""
    with pair_of(tmp_path) as pair:
        pair.follow(1, 0)
        stores = [open_store(each.url) for each in pair.servers]
        tokens = Tokens(stores[0])
        for master, replica in ((0, 1), (1, 0), (0, 1), (1, 0)):
            pair.await_replica(master)
            target = ("TO", "127.0.0.1", str(pair.servers[replica].port), *how) if how else ()
            pair.clients[master].execute_command("FAILOVER", *target)
            until(lambda: pair.role(replica) == "master")  # noqa: B023 - at once
            until(lambda: pair.role(master) == "slave")  # noqa: B023
            pair.await_link(master)
            assert tokens.hold(stores[replica]) == ["TokenLost"] * 2


def test_an_aborted_failover_loses_nothing(
    tmp_path: Path, open_store: Callable[..., TokenStore]
) -> None:
    with pair_of(tmp_path) as pair:
        pair.follow(1, 0)
        store = open_store(pair.servers[0].url)
        tokens = Tokens(store)
        pair.clients[1].execute_command("CONFIG", "SET", "masterauth", "wrong")
        pair.clients[0].client_kill_filter(_type="replica")
        with contextlib.suppress(redis.ResponseError):
            pair.clients[0].execute_command("FAILOVER")
            pair.clients[0].execute_command("FAILOVER", "ABORT")
        assert tokens.hold(store) == ["consumed", "TokenAlreadyUsed"]


def test_an_interrupted_full_copy_and_a_promotion(
    tmp_path: Path, open_store: Callable[..., TokenStore]
) -> None:
    """A replica that keeps its old data while it loads, loses its master, and is promoted."""
    with pair_of(tmp_path, **{"repl-diskless-load": "swapdb"}) as pair:
        pair.follow(1, 0)
        stores = [open_store(each.url) for each in pair.servers]
        tokens = Tokens(stores[0])
        assert pair.clients[0].wait(1, 5000) == 1
        pair.clients[1].replicaof("NO", "ONE")
        # Enough that the copy takes a while.
        for start in range(0, 200_000, 20_000):
            pair.clients[0].mset({f"filler{n}": "x" * 200 for n in range(start, start + 20_000)})
        pair.clients[1].replicaof("127.0.0.1", pair.servers[0].port)
        time.sleep(0.15)
        pair.servers[0].kill()

        def is_promoted() -> bool:
            # While they load, some versions refuse every command.
            with contextlib.suppress(redis.BusyLoadingError):
                pair.clients[1].replicaof("NO", "ONE")
                return pair.role(1) == "master"
            return False

        until(is_promoted)
        assert "consumed" not in tokens.hold(stores[1])


def test_a_replica_of_a_writable_replica(
    tmp_path: Path, open_store: Callable[..., TokenStore]
) -> None:
    with pair_of(tmp_path, **{"replica-read-only": "no"}) as pair:
        pair.follow(1, 0)
        third = dev.Redis(
            tmp_path / "three", None, pair.servers[0].settings, pair.servers[0].password
        )
        with third:
            chained = redis.Redis.from_url(third.url)
            chained.replicaof("127.0.0.1", pair.servers[1].port)
            until(lambda: chained.info("replication").get("master_link_status") == "up")
            stores = [open_store(each.url) for each in (*pair.servers, third)]
            tokens = Tokens(stores[0])
            until(lambda: chained.dbsize() == pair.clients[0].dbsize())
            for follower in stores[1:]:
                with pytest.raises(errors.StoreUnavailable):
                    follower.validate(Presented(tokens.fresh), EVA)
            chained.replicaof("NO", "ONE")
            assert "consumed" not in results(stores[2], tokens.fresh, EVA)
            assert tokens.hold(stores[0], stores[2]).count("consumed") == 1


def test_a_copy_on_two_channels(tmp_path: Path, open_store: Callable[..., TokenStore]) -> None:
    """A feature of Valkey 8 and Redis 8: the stream of changes beside that of the copy."""
    if is_valkey():
        settings = {"dual-channel-replication-enabled": "yes"}
    elif version() >= (8,):
        settings = {"repl-rdb-channel": "yes"}
    else:
        pytest.skip("a server with replication on two channels")
    with pair_of(tmp_path, **settings) as pair:
        stores = [open_store(each.url) for each in pair.servers]
        pair.follow(1, 0)
        tokens = Tokens(stores[0])
        assert pair.clients[0].wait(1, 5000) == 1
        pair.servers[0].kill()
        pair.clients[1].replicaof("NO", "ONE")
        assert tokens.hold(stores[1]) == ["TokenLost"] * 2


def test_a_pause_of_all_writes_delays_calls_and_decides_nothing(
    server: dev.Redis, open_store: Callable[..., TokenStore]
) -> None:
    store, admin = open_store(server.url), redis.Redis.from_url(server.url)
    tokens = Tokens(store)
    admin.execute_command("CLIENT", "PAUSE", "300", "WRITE")
    began = time.monotonic()
    assert tokens.hold(store) == ["consumed", "TokenAlreadyUsed"]
    assert time.monotonic() - began > 0.1


def test_a_server_that_cannot_save_refuses_and_decides_nothing(
    tmp_path: Path, open_store: Callable[..., TokenStore]
) -> None:
    """MISCONF: a refused call succeeds once the server writes again."""
    with dev.Redis(tmp_path / "data", settings={"save": "3600 1"}) as server:
        store, admin = open_store(server.url), redis.Redis.from_url(server.url)
        tokens = Tokens(store)
        (server.directory / "dump.rdb").mkdir()  # in the way of the snapshot
        (server.directory / "dump.rdb" / "x").touch()
        with contextlib.suppress(redis.RedisError):
            admin.bgsave()
        until(lambda: admin.info("persistence")["rdb_last_bgsave_status"] == "err")
        with pytest.raises(errors.StoreUnavailable):
            store.validate(Presented(tokens.fresh), LUIS, key="k")
        admin.config_set("stop-writes-on-bgsave-error", "no")
        assert not store.validate(Presented(tokens.fresh), LUIS, key="k").replayed
        assert tokens.hold(store) == ["TokenAlreadyUsed"] * 2
        admin.config_set("save", "")  # A server that cannot save does not stop either.


@needs_seven
def test_an_aborted_shutdown_loses_nothing(
    tmp_path: Path, open_store: Callable[..., TokenStore]
) -> None:
    with pair_of(tmp_path) as pair:
        pair.follow(1, 0)
        store = open_store(pair.servers[0].url)
        tokens = Tokens(store)
        # It waits for a replica that lags, and so can be aborted.
        assert pair.servers[1].process
        pair.servers[1].process.send_signal(19)
        try:
            store.create_many("ana", 50, life_seconds=60)

            def shut_down() -> Any:
                with (
                    contextlib.suppress(redis.RedisError),
                    redis.Redis.from_url(pair.servers[0].url) as client,
                ):
                    client.execute_command("SHUTDOWN")

            def is_aborted() -> bool:
                with contextlib.suppress(redis.ResponseError):  # It has not begun.
                    pair.clients[0].execute_command("SHUTDOWN", "ABORT")
                    return True
                return False

            asking = threading.Thread(target=shut_down)
            asking.start()
            until(is_aborted)
            asking.join(10)
        finally:
            pair.servers[1].process.send_signal(18)
        assert tokens.hold(store) == ["consumed", "TokenAlreadyUsed"]
