"""Network partitions: a replaced master that still serves the clients on its side."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator, Sequence
from enum import Enum
from pathlib import Path

from tests.stage import topologies
from tests.stage.waiting import until
from tests.torture.coins import Coin, Side, presenting, verdict
from tests.torture.deployments import Sentinels
from tests.torture.hosts import Host, cut, network
from tests.torture.ledger import trials
from tests.torture.recovery import Outage, check_recovery

BOTH_SIDES = 1.0  # seconds with two masters, before the cut heals and after


class Partition(Enum):
    """The hosts between which packets are dropped."""

    SYMMETRIC = "the master, a sentinel and some clients on one side, all else on the other"
    WATCHERS = "the sentinels and the master; its replicas and clients notice nothing"
    MUTE = "all packets from the master are dropped"
    DEAF = "all packets to the master are dropped"


@contextlib.contextmanager
def parted(
    kind: Partition, master: Host, others: Sequence[Host], watchers: Sequence[Host]
) -> Iterator[None]:
    """Cut the network as ``kind`` has it."""
    away, rest = [master], [*others, *watchers]
    if kind is Partition.SYMMETRIC:
        away, rest = [master, watchers[0]], [*others, *watchers[1:]]
    if kind is Partition.WATCHERS:
        rest = [*watchers]
    with contextlib.ExitStack() as cuts:
        if kind is not Partition.MUTE:
            cuts.enter_context(cut(rest, away))
        if kind is not Partition.DEAF:
            cuts.enter_context(cut(away, rest))
        yield


def split(deployment: Sentinels, kind: Partition, client: Host) -> tuple[list[Coin], Outage]:
    """Cut the master off, have another appointed, and present the same coins to both.

    :returns: the coins, and the outage of ``client``, which is on the side of the majority
    """
    master, owner, coins = deployment.fresh_coins()
    others = [node.host for node in deployment.nodes if node is not master]
    watchers = [watcher.host for watcher in deployment.topology.watchers]
    service = deployment.topology.url
    sides = [Side(master.url, master.host), Side(service, master.host), Side(service, client)]
    sides += [Side(node.url, client) for node in deployment.nodes]
    shown = coins[::2]
    with presenting(sides, shown):
        outage = Outage(deployment)
        with parted(kind, master.host, [*others, client], watchers):
            with client:
                outage.lasts_until(lambda: deployment.service.serves(owner))
            until(lambda: deployment.appointed() != {master.address}, seconds=90)
            shown += coins[1::2]
            time.sleep(BOTH_SIDES)
        time.sleep(BOTH_SIDES)
    deployment.present_all(coins)
    return coins, outage


def test_two_masters_at_once_honour_no_token_twice(tmp_path: Path) -> None:
    """Guard: the fence in prelude.lua, ``record.term ~= term_now``."""
    kinds = list(itertools.islice(itertools.cycle(Partition), trials(50)))
    with (
        network(size=8) as (operator, client, *hosts),
        operator,
        topologies.sentinel(tmp_path, replicas=2, hosts=hosts) as topology,
    ):
        deployment = Sentinels(topology)
        splits = [split(deployment, kind, client) for kind in kinds]
    verdict("split brain", len(kinds), [coin for coins, _ in splits for coin in coins])
    check_recovery("split brain, for the majority", [outage for _, outage in splits])
