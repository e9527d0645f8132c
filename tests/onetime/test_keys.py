"""The keys that scripts touch, and the commands that readiness tries."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

import dev
from tokenservice.onetime import errors
from tokenservice.onetime.scripts import SCRIPTS
from tokenservice.onetime.store import TokenStore
from tokenservice.onetime.values import Party, Presented

ANA, LUIS = Party("ana", "ana@example.com"), Party("luis", "luis@example.com")
COMMAND = re.compile(r"redis\.p?call\(\s*'(\w+)'")
#: Commands for a cluster alone.
OF_A_CLUSTER = {"CLUSTER"}
WITHOUT_A_KEY = {"TIME", "INFO", *OF_A_CLUSTER}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[dev.Redis]:
    with dev.Redis(tmp_path) as running:
        yield running


def every_verb(store: TokenStore) -> None:
    """Each path of each verb, with a key and without."""
    for key in ("", secrets.token_hex(4)):
        consumed, held, freed, gone = store.create_many("ana", 4, life_seconds=60, key=key)
        store.create_many("ana", 4, life_seconds=60, key=key)
        for _ in "ab":
            try:
                store.validate(Presented(consumed.text), LUIS, key=key and key + "v")
            except errors.TokenAlreadyUsed:
                assert not key
        lease = store.reserve(Presented(held.text), LUIS, lease_seconds=60, key=key and key + "r")
        store.commit(lease.text, LUIS, key=key and key + "c")
        lease = store.reserve(Presented(freed.text), LUIS, lease_seconds=60)
        store.release(lease.text, LUIS)
        store.revoke(gone.text, ANA)
        store.receipt(gone.id, ANA)
        store.introspect(freed.text, LUIS)
    store.create_many("ana", 100, life_seconds=60)
    assert len(store.list_for("ana").items) == 20
    store.revoke_all("ana", purpose="pay")
    store.revoke_all("ana", disable=True)
    store.enable("ana")
    store.probe()


def test_a_script_touches_only_the_keys_that_it_declares(
    server: dev.Redis, open_store: Callable[..., TokenStore]
) -> None:
    """As MONITOR shows: a slot that moves is then moved for all of a call, or for none."""
    store, client = open_store(server.url, max_active=10_000), redis.Redis.from_url(server.url)
    every_verb(store)
    calls, touched, declared = 0, 0, set[str]()
    with client.monitor() as monitor:
        every_verb(store)
        client.echo("end")
        for seen in monitor.listen():
            name, *args = seen["command"].split(" ")
            if name == "ECHO":
                break
            if name == "EVALSHA":
                calls += 1
                declared = set(args[2 : 2 + int(args[1])])
            elif seen["client_type"] == "lua" and name not in WITHOUT_A_KEY:
                keys = args if name == "DEL" else args[:1]
                assert set(keys) <= declared, seen["command"]
                touched += 1
    assert calls > 20
    assert touched > 100


def test_readiness_tries_every_command_that_the_scripts_use() -> None:
    used = {name for source in SCRIPTS.values() for name in COMMAND.findall(source)}
    assert len(used) > 20
    assert used == set(COMMAND.findall(SCRIPTS["probe"]))


WRITES = sorted(
    {name for source in SCRIPTS.values() for name in COMMAND.findall(source)}
    - {"DEL", "PEXPIREAT", *OF_A_CLUSTER}
)


@pytest.mark.parametrize("command", WRITES)
def test_without_the_right_to_a_command_no_change_is_half_made(
    command: str, server: dev.Redis, open_store: Callable[..., TokenStore]
) -> None:
    """A keyed call that Redis refuses succeeds at the next try, or took effect and is replayed.

    Guard: the order of the writes of a change. Readiness reports it before any call.
    """
    admin = redis.Redis.from_url(server.url)
    store = open_store(server.url, secret=b"one")
    password = secrets.token_urlsafe(12)
    rights = [f">{password}", "on", "~*", "+@all", f"-{command.lower()}"]
    admin.execute_command("ACL", "SETUSER", "service", *rights)
    limited = open_store(
        server.url.replace(f"//:{server.password}", f"//service:{password}"), secret=b"one"
    )
    with pytest.raises(errors.StoreUnavailable):
        limited.probe()

    store.create("eva", life_seconds=86_400)
    token, kept, free, gone = store.create_many("ana", 4, life_seconds=86_400)
    held = store.reserve(Presented(kept.text), LUIS, lease_seconds=60)
    calls: list[Callable[[TokenStore], object]] = [
        lambda by: by.validate(Presented(token.text), LUIS, key="k"),
        lambda by: by.commit(held.text, LUIS, key="k"),
        lambda by: by.reserve(Presented(free.text), LUIS, lease_seconds=60, key="k"),
        lambda by: by.revoke(gone.text, ANA),
        lambda by: by.revoke_all("eva", disable=True),
        lambda by: by.enable("eva"),
    ]
    for call in calls:
        try:
            call(limited)
        except errors.StoreUnavailable:
            # A hash that could not be written could not have been created either.
            if command == "HSET":
                continue
        call(store)


def test_a_full_server_fails_the_probe_as_it_fails_a_create(
    server: dev.Redis, open_store: Callable[..., TokenStore]
) -> None:
    store, admin = open_store(server.url), redis.Redis.from_url(server.url)
    store.probe()
    admin.config_set("maxmemory", "1")
    for call in (store.probe, lambda: store.create("ana", life_seconds=10)):
        with pytest.raises(errors.StoreUnavailable):
            call()
    admin.config_set("maxmemory", "0")
    store.probe()
