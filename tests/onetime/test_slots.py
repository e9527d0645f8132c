"""Slots of a cluster that move: no token is honoured twice, and no change is half written."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.stage import topologies
from tests.stage.slots import Slot
from tests.stage.topologies import Node, Topology
from tests.stage.waiting import until
from tokenservice.onetime import connection, errors
from tokenservice.onetime.keys import Keys
from tokenservice.onetime.store import TokenStore
from tokenservice.onetime.values import Party, Presented, State

pytestmark = pytest.mark.slow

LUIS, EVA = Party("luis", "luis@example.com"), Party("eva", "eva@example.com")
EPOCH = "  term_now = term_now .. ':' .. epoch .. ':'\n"
ANA = Keys.of_owner("ana", 64)


def without(store: TokenStore, *guards: str) -> TokenStore:
    """Take guards out of every script of ``store``."""
    scripts = store._shards._scripts
    for verb, script in scripts.items():
        source = script.source
        for guard in guards:
            assert guard in source
            source = source.replace(guard, "if false then" if guard.startswith("if") else "")
        scripts[verb] = script.connection.script(source)
    return store


def uses(store: TokenStore, text: str, *callers: Party) -> list[str]:
    """The result of a validate by each caller."""

    def results(caller: Party) -> str:
        try:
            store.validate(Presented(text), caller)
        except errors.TokenRefused as refusal:
            return type(refusal).__name__
        return "consumed"

    return [results(caller) for caller in callers]


@pytest.fixture
def topology(tmp_path: Path) -> Iterator[Topology]:
    # No replica promotes itself before a test does.
    with topologies.cluster(tmp_path, masters=3, replicas=1, timeout_ms=8000) as running:
        yield running


@pytest.fixture
def slot(topology: Topology) -> Slot:
    return Slot(topology, ANA.history)


def elsewhere(slot: Slot, topology: Topology) -> Node:
    """A master that does not serve the slot."""
    return next(node for node in topology.servers[:3] if node is not slot.owner)


def cut_off(replica: Node, master: Node) -> None:
    """Cut a replica off: it keeps its data, and gets no more."""
    replica.client().config_set("masterauth", "no longer")
    master.client().client_kill_filter(_type="replica")
    until(lambda: replica.client().info("replication")["master_link_status"] == "down")


def succeed(slot: Slot, replica: Node, master: Node) -> None:
    """Kill a master, and make its replica the master in its place."""
    master.kill()
    slot.leave(master)
    replica.client().execute_command("CLUSTER", "FAILOVER", "TAKEOVER")
    until(lambda: replica.client().info("replication")["role"] == "master")
    until(lambda: slot.owner is replica)


def comes_back_stale(
    store: TokenStore, later: TokenStore, slot: Slot, topology: Topology, forced: bool = False
) -> list[str]:
    """The history in which a token was once consumed twice; return the result of each call.

    The slot leaves its master, a replica that has the record falls behind, and the slot comes
    back: LUIS presents the token. The slot leaves again, the stale replica is promoted there, and
    its data come back: EVA presents the token, to ``later``.
    """
    go = slot.force if forced else slot.move
    home = slot.owner
    away, replica = next(
        (topology.servers[n], topology.servers[n + 3])
        for n in range(3)
        if topology.servers[n] is not home
    )
    text = store.create("ana", life_seconds=600).text
    slot.move(away)
    assert away.client().wait(1, 5000) == 1
    cut_off(replica, away)
    go(home)
    results = uses(store, text, LUIS)
    slot.move(away)
    results += uses(store, text, EVA)
    succeed(slot, replica, away)

    def recovers() -> bool:
        # Not by a create: that alone would make the owner's older tokens lost there.
        if not responds(store, text):
            if forced:  # Masters of one epoch may give the slot to another, or to none.
                slot.assign(replica)
            return False
        return True

    until(recovers)
    results += uses(store, text, EVA)
    go(home)
    return results + uses(later, text, EVA)


def responds(store: TokenStore, text: str) -> bool:
    try:
        store.introspect(text, LUIS)
    except errors.StoreUnavailable:
        return False
    return True


def test_a_slot_that_comes_back_honours_no_earlier_token(
    slot: Slot, topology: Topology, open_store: Callable[..., TokenStore]
) -> None:
    """Guard: the epoch in the term, in prelude.lua. A lost token stays lost."""
    store, later = (open_store(topology.url, shards=64) for _ in range(2))
    assert comes_back_stale(store, later, slot, topology) == ["TokenLost"] * 4


def test_without_the_epoch_a_token_is_consumed_twice(
    slot: Slot, topology: Topology, open_store: Callable[..., TokenStore]
) -> None:
    store, later = (without(open_store(topology.url, shards=64), EPOCH) for _ in range(2))
    results = comes_back_stale(store, later, slot, topology)
    assert results == ["consumed", "TokenAlreadyUsed", "TokenLost", "consumed"]


def test_a_slot_that_is_forced_back_is_detected_by_its_history(
    slot: Slot, topology: Topology, open_store: Callable[..., TokenStore]
) -> None:
    """The epoch of a forced move is the old one, but the store has seen more than comes back."""
    store = open_store(topology.url, shards=64)
    results = comes_back_stale(store, store, slot, topology, forced=True)
    # The masters may quarrel about a slot that was forced, and drop its keys.
    assert results[:3] == ["consumed", "TokenAlreadyUsed", "TokenLost"]
    assert results[3] in {"TokenLost", "TokenUnknown"}


def result_while_open(store: TokenStore, text: str, key: str) -> str:
    try:
        return "replayed" if store.validate(Presented(text), LUIS, key=key).replayed else "consumed"
    except errors.OneTimeError as refusal:
        return type(refusal).__name__


def test_a_call_on_an_open_slot_does_all_or_nothing(
    slot: Slot, topology: Topology, open_store: Callable[..., TokenStore]
) -> None:
    """Guard: every key of a script is in KEYS. Each is moved alone, in each order's first step.

    A consume whose key moved first got "already used"; one whose live tokens moved first was
    written without a reply; a create whose key moved first was made twice.
    """
    store = open_store(topology.url, shards=64)
    home, away = slot.owner, elsewhere(slot, topology)
    consumed, fresh = (store.create("ana", life_seconds=600) for _ in range(2))
    made = store.create("ana", life_seconds=600, key="make")
    store.validate(Presented(consumed.text), LUIS, key="spend")

    slot.open(home, away)
    for key in sorted(slot.keys(home)):
        slot.carry(home, away, [key])
        for attempt in (
            result_while_open(store, consumed.text, "spend"),
            result_while_open(store, fresh.text, "fresh"),
        ):
            assert attempt in {"StoreUnavailable", "replayed"}
        with pytest.raises(errors.StoreUnavailable):
            store.create("ana", life_seconds=600, key="another")
    assert not slot.keys(home)
    slot.assign(away)
    slot.settle(away)

    assert result_while_open(store, consumed.text, "spend") == "replayed"
    assert result_while_open(store, fresh.text, "fresh") == "TokenLost"
    # Tokens issued elsewhere are lost, and a repeated create issues a new one.
    assert store.create("ana", life_seconds=600, key="make").id != made.id
    assert store.receipt(fresh.id).state is State.LOST


def test_a_call_waits_for_a_slot_that_arrives_in_time(
    slot: Slot,
    topology: Topology,
    open_store: Callable[..., TokenStore],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Guard: MOVING in connection.py. Redis ran nothing, so the call is made again."""
    monkeypatch.setattr(connection, "MOVING_SECONDS", 20)
    store = open_store(topology.url, shards=64)
    home, away = slot.owner, elsewhere(slot, topology)
    consumed = store.create("ana", life_seconds=600)
    store.validate(Presented(consumed.text), LUIS, key="spend")
    slot.open(home, away)
    slot.carry(home, away, [ANA.history])
    with ThreadPoolExecutor(1) as other:
        repeat = other.submit(result_while_open, store, consumed.text, "spend")
        time.sleep(0.1)
        slot.carry(home, away)
        slot.assign(away)
        assert repeat.result() == "replayed"


def test_two_copies_of_a_record_are_honoured_once(
    slot: Slot, topology: Topology, open_store: Callable[..., TokenStore]
) -> None:
    """MIGRATE COPY, or one whose reply was lost, then SETSLOT by force: both have the record."""
    store = open_store(topology.url, shards=64)
    home, away = slot.owner, elsewhere(slot, topology)
    text = store.create("ana", life_seconds=600).text
    slot.open(home, away)
    slot.carry(home, away, None, "COPY")
    slot.assign(away, away)
    slot.settle(away)
    assert uses(store, text, LUIS, EVA) == ["TokenLost"] * 2


def test_a_master_that_comes_back_without_its_slots_is_left(
    slot: Slot, topology: Topology, open_store: Callable[..., TokenStore]
) -> None:
    """Guard: look_again() in connection.py. It replies CLUSTERDOWN for ever, and another serves."""
    store = open_store(topology.url, shards=64)
    text = store.create("ana", life_seconds=600).text
    home = slot.owner
    replica = topology.servers[topology.servers.index(home) + 3]
    home.kill()
    for left in home.directory.glob("nodes*.conf"):
        left.unlink()
    home.start()
    for _ in "ab":
        with pytest.raises(errors.StoreUnavailable):
            store.validate(Presented(text), LUIS)
    slot.leave(home)
    replica.client().execute_command("CLUSTER", "FAILOVER", "TAKEOVER")
    until(lambda: slot.owner is replica)
    until(lambda: responds(store, text))
    assert uses(store, text, LUIS) == ["TokenLost"]


def test_two_masters_that_name_each_other_are_called_with_a_pause(
    slot: Slot, topology: Topology, open_store: Callable[..., TokenStore]
) -> None:
    store = open_store(topology.url, shards=64)
    home, away = slot.owner, elsewhere(slot, topology)
    store.create("bob", life_seconds=60)
    slot.assign(away, home)  # At the source alone, which has no key of the slot.
    commands = [node.client().info("stats")["total_commands_processed"] for node in (home, away)]
    with contextlib.suppress(errors.StoreUnavailable):
        store.create("ana", life_seconds=60)
    after = [node.client().info("stats")["total_commands_processed"] for node in (home, away)]
    assert sum(after) - sum(commands) < 200
