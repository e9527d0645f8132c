"""Slots of a loaded cluster move: by redis-cli, by hand, and around a failover."""

from __future__ import annotations

import os
import secrets
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

import dev
from tests.stage import topologies
from tests.stage.connections import connect
from tests.stage.programs import lacks_program
from tests.stage.slots import Slot
from tests.stage.topologies import Node, Topology
from tests.stage.waiting import until
from tests.torture.coins import HONOURED, UNDECIDED, Coin, Fence, verdict
from tests.torture.deployments import Cluster, cut_off, is_master
from tests.torture.ledger import record, trials
from tokenservice.onetime import errors
from tokenservice.onetime.keys import Keys
from tokenservice.onetime.store import TokenStore
from tokenservice.onetime.values import Party, Presented

LUIS, EVA = Party("luis"), Party("eva")
CALLERS = 6
AT_ONCE = 1500  # slots in one move of redis-cli
TRIES = 40


class Load:
    """Callers that create and consume without a pause, and repeat calls without a reply."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self.outcomes: Counter[str] = Counter()
        self._counting = threading.Lock()
        self._over = threading.Event()

    @contextmanager
    def running(self) -> Iterator[None]:
        with ThreadPoolExecutor(CALLERS) as pool:
            working = [pool.submit(self._work, number) for number in range(CALLERS)]
            try:
                yield
            finally:
                self._over.set()
            for ended in working:
                ended.result()

    def _work(self, number: int) -> None:
        connection = connect(self.topology.url, connect_ms=50, read_ms=100, connections=1)
        store = TokenStore(connection, secret=b"one", shards=self.topology.shards)
        while not self._over.is_set():
            owner = f"{number}.{secrets.randbelow(100)}"
            for outcome in self._life_of_a_token(store, owner):
                with self._counting:
                    self.outcomes[outcome] += 1

    def _life_of_a_token(self, store: TokenStore, owner: str) -> Iterator[str]:
        """Create and consume, each until there is a reply; then EVA's attempt must be refused."""
        make, use = secrets.token_hex(8), secrets.token_hex(8)
        created, repeats = self._reply_to(lambda: store.create(owner, life_seconds=60, key=make))
        yield from repeats
        if isinstance(created, str):
            yield f"a create ends with {created}"
            return
        given = Presented(created.text)
        first, repeats = self._reply_to(lambda: store.validate(given, LUIS, key=use))
        yield from repeats
        outcome = first if isinstance(first, str) else "consumed"
        if outcome == "TokenAlreadyUsed":
            outcome = "refused as used to its consumer"
        second, _ = self._reply_to(lambda: store.validate(given, EVA))
        if not isinstance(second, str):
            outcome = "twice" if outcome == "consumed" else "consumed by the second"
        yield outcome

    def _reply_to(self, call: object) -> tuple[object, list[str]]:
        """Repeat while the outcome is unknown; return the reply, and an entry for each repeat."""
        repeats = []
        for _ in range(TRIES):
            try:
                return call(), repeats  # type: ignore[operator]
            except errors.StoreUnavailable:
                repeats.append("repeated without a reply")
            except errors.OneTimeError as refusal:
                return type(refusal).__name__, repeats
        return "no reply at all", repeats


def redis_cli(topology: Topology, *words: object) -> subprocess.CompletedProcess[str]:
    cli = Path(dev.find_redis()).with_name("redis-cli")
    if not cli.exists():
        lacks_program("redis-cli")
    return subprocess.run(
        [str(cli), "--cluster", *map(str, words)],
        env={"PATH": os.environ["PATH"], "REDISCLI_AUTH": topology.servers[0].password},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def name_of(node: Node) -> str:
    return str(node.client().execute_command("CLUSTER", "MYID").decode())


def reshard(topology: Topology, source: Node, target: Node) -> int:
    where = f"127.0.0.1:{source.port}"
    nodes = ("--cluster-from", name_of(source), "--cluster-to", name_of(target))
    how_many = ("--cluster-slots", AT_ONCE, "--cluster-yes")
    moved = redis_cli(topology, "reshard", where, *nodes, *how_many)
    checked = redis_cli(topology, "check", where)
    return moved.returncode or checked.returncode


def test_a_loaded_cluster_is_resharded(tmp_path: Path) -> None:
    """Guards: every key of a script is in KEYS; MOVING in connection.py.

    A round is one call of redis-cli, and four slots by hand.
    """
    with topologies.cluster(tmp_path) as topology:
        load, codes, by_hand = Load(topology), [], 0
        with load.running():
            for n in range(trials(20, least=2)):
                source, target = (topology.servers[(n + k) % 3] for k in (0, 1))
                codes.append(reshard(topology, source, target))
                for number in range(n, n + 4):
                    keys = Keys.of_owner(f"{number % CALLERS}.{number}", topology.shards)
                    slot = Slot(topology, keys.history)
                    slot.move(next(node for node in topology.servers if node is not slot.owner))
                    by_hand += 1
    outcomes = load.outcomes
    wrong = {"twice", "refused as used to its consumer", "consumed by the second"}
    expected = {"consumed", "TokenLost", "repeated without a reply"}
    strange = sum(n for outcome, n in outcomes.items() if outcome not in wrong | expected)
    record(
        "slots of a loaded cluster move: no token is honoured twice or refused to its consumer",
        n=outcomes["consumed"],
        failures=sum(outcomes[outcome] for outcome in wrong),
        figures=f"{len(codes)} calls of redis-cli --cluster reshard of {AT_ONCE} slots, "
        f"{sum(code != 0 for code in codes)} of them failed; {by_hand} slots by hand; "
        f"{outcomes['TokenLost']} tokens lost, {outcomes['repeated without a reply']} calls "
        f"repeated, {strange} with another outcome",
    )
    assert set(codes) == {0}
    assert not wrong & set(outcomes), outcomes
    assert strange == 0, outcomes
    assert outcomes["consumed"] > 100


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    directory = tmp_path_factory.mktemp("cluster")
    with topologies.cluster(directory, replicas=1, timeout_ms=1000) as topology:
        yield Cluster(topology)


def leave_and_come_back(cluster: Cluster) -> list[Coin]:
    """Coins whose slot leaves their issuer and returns, once from a stale replica."""
    cluster.settle()
    masters = [node for node in cluster.nodes if is_master(node)]
    # A killed node returns as a replica of the master with the fewest.
    away = next(node for node in masters if cluster.replicas_of(node))
    home = next(node for node in masters if node is not away)
    replicas = cluster.replicas_of(away)
    owner, coins = cluster.coins_on(home)
    slot = Slot(cluster.topology, Keys.of_owner(owner, cluster.topology.shards).history)

    def present(some: list[Coin]) -> None:
        # New stores each time: without the epoch, counts seen before would reveal the change.
        stores = cluster.patient(cluster.topology.url)
        for coin in some:
            until(lambda coin=coin: stores.present(coin) not in UNDECIDED)  # type: ignore[misc]

    slot.move(away)
    assert away.client().wait(len(replicas), 5000) == len(replicas)
    with cut_off(away, replicas):
        slot.move(home)
        present(coins)
        slot.move(away)
        away.kill()
        replicas[0].client().execute_command("CLUSTER", "FAILOVER", "TAKEOVER")
        slot.leave(away)
        until(lambda: is_master(replicas[0]) and slot.owner is replicas[0])
    present(coins[::2])
    slot.move(home)
    present(coins)
    away.start()
    cluster.settle()
    return coins


def test_a_slot_returns_from_a_stale_replica(cluster: Cluster) -> None:
    """Guard: the epoch in the term, in prelude.lua."""
    n = trials(20)
    coins = [coin for _ in range(n) for coin in leave_and_come_back(cluster)]
    assert not any(coin.outcomes[HONOURED] for coin in coins if coin.fence is Fence.BUILT)
    verdict("a slot leaves and returns", n, coins, Fence.SERVER)
