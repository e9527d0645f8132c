"""Failover: a master is killed or stalls, and a replica that missed its last seconds takes over."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.stage import topologies
from tests.stage.people import enrol
from tests.stage.service import Service
from tests.stage.waiting import until
from tests.torture.coins import HONOURED, Coin, Fence, presenting, verdict
from tests.torture.deployments import Cluster, Deployment, Sentinels, cut_off, stopped
from tests.torture.ledger import FULL, trials
from tests.torture.recovery import Outage, check_recovery

# Failovers of a busy machine may take minutes; a full run has the Makefile's limit.
pytestmark = pytest.mark.timeout(trials(14_400, least=600))

STILL = 3.0  # the least time of a stall, in seconds


@pytest.fixture(scope="module")
def sentinels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sentinels]:
    with topologies.sentinel(tmp_path_factory.mktemp("sentinels"), replicas=2) as topology:
        yield Sentinels(topology)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    directory = tmp_path_factory.mktemp("cluster")
    with topologies.cluster(directory, replicas=1, timeout_ms=1000) as topology:
        yield Cluster(topology)


def lose_master(deployment: Deployment, tail: float) -> tuple[list[Coin], Outage]:
    """Kill the master, whose last ``tail`` seconds no replica received."""
    master, owner, coins = deployment.fresh_coins()
    shown = coins[::2]
    with presenting(deployment.sides(), shown, deployment.topology.shards):
        with cut_off(master, deployment.replicas_of(master)):
            time.sleep(tail)
            outage = Outage(deployment)
            master.kill()
        shown += coins[1::2]
        outage.lasts_until(lambda: deployment.service.serves(owner))
        deployment.bring_back(master)
        time.sleep(0.5)
    deployment.present_all(coins)
    return coins, outage


def tails(number: int) -> list[float]:
    """Times spread over 0 to 3 s."""
    return [3 * (n + 0.5) / number for n in range(number)]


@pytest.mark.parametrize(("kind", "full"), [("sentinels", 100), ("cluster", 30)])
def test_a_replica_that_missed_writes_honours_no_token_twice(
    request: pytest.FixtureRequest, kind: str, full: int
) -> None:
    """Guard: the fence in prelude.lua, ``record.term ~= term_now``."""
    deployment = request.getfixturevalue(kind)
    losses = [lose_master(deployment, tail) for tail in tails(trials(full))]
    verdict(f"failover, {kind}", len(losses), [coin for coins, _ in losses for coin in coins])
    check_recovery(f"failover, {kind}", [outage for _, outage in losses])


def test_a_service_recovers_by_itself(serve: Callable[..., Service], sentinels: Sentinels) -> None:
    """Over HTTP, with the limits in the same Redis, and without a restart of a worker."""
    outages, refusals = [], set()
    limits = {"redis_connect_timeout_ms": 50, "redis_timeout_ms": 100}
    with (
        serve(redis_url=sentinels.topology.url, web_concurrency=2, **limits) as service,
        httpx.Client(base_url=service.url, timeout=30) as http,
    ):
        person, workers = enrol(http.post), service.workers()

        def serves() -> bool:
            response = http.post("/token/create", headers=person.headers)
            if response.status_code == 201:
                token = {"token": response.json()["token"]}
                response = http.post("/token/validate", json=token, headers=person.headers)
                if response.status_code == 200:
                    return True
            refusals.add((response.status_code, response.json()["code"]))
            return False

        for _ in range(trials(20)):
            sentinels.settle()
            until(serves)
            master = sentinels.master()
            outages.append(Outage(sentinels))
            master.kill()
            outages[-1].lasts_until(serves)
            sentinels.bring_back(master)
        assert service.workers() == workers
    stalled = set() if FULL else {(503, "database_unavailable"), (503, "busy")}
    assert refusals <= {(503, "store_unavailable")} | stalled
    check_recovery("failover, over HTTP", outages)


def stop_master(sentinels: Sentinels) -> list[Coin]:
    """Stall the master, send it calls, have it replaced, and let it continue."""
    master, _, coins = sentinels.fresh_coins()
    # More patient than the wait for a replacement, so that each outcome is known.
    asked = sentinels.patient(master.url, read_ms=100_000)
    with (
        presenting(sentinels.sides(), coins),
        ThreadPoolExecutor(len(coins)) as pool,
    ):
        with stopped(master):
            began = time.monotonic()
            presented = [pool.submit(asked.present, coin) for coin in coins]
            sentinels.await_replacement(master)
            time.sleep(max(0, began + STILL - time.monotonic()))
        for ended in presented:
            ended.result()
        time.sleep(0.5)
    sentinels.present_all(coins)
    return coins


def test_a_zombie_honours_no_token_that_its_successor_did(sentinels: Sentinels) -> None:
    """Guard: the same line. The old master replies to the calls of the stall when it continues."""
    n = trials(50)
    verdict("zombie master", n, [coin for _ in range(n) for coin in stop_master(sentinels)])


def go_and_come_back(pair: Sentinels) -> list[Coin]:
    """Replace the issuer of some coins by a replica that missed their use, and back again."""
    issuer, _, coins = pair.fresh_coins()
    (successor,) = pair.replicas_of(issuer)
    used = pair.patient(issuer.url)
    with cut_off(issuer, [successor]):
        assert {used.present(coin) for coin in coins} == {HONOURED}
        pair.fail_over()
        pair.await_replacement(issuer)
    # Sentinels do this by themselves some seconds later.
    issuer.client().replicaof(*successor.address.split())
    pair.settle()
    pair.fail_over()
    pair.await_replacement(successor)
    pair.present_all(coins)
    successor.client().replicaof(*issuer.address.split())
    return coins


def test_a_returning_master_honours_no_older_token(tmp_path: Path) -> None:
    """Guard: master_replid in prelude.lua. The process is the same, and so is its run_id."""
    n = trials(20)
    with topologies.sentinel(tmp_path, replicas=1) as topology:
        pair = Sentinels(topology)
        coins = [coin for _ in range(n) for coin in go_and_come_back(pair)]
    verdict("demoted and promoted again", n, coins, Fence.PROCESS)
