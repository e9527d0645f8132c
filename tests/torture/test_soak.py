"""A million requests: nothing grows, and every response is logged and counted."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import redis
from prometheus_client.parser import text_string_to_metric_families

import dev
from tests.stage.people import enrol
from tests.stage.service import Service
from tests.stage.waiting import until
from tests.torture.children import child
from tests.torture.ledger import FULL, record, trials
from tests.torture.load import LoadResult, Plan, crowd

REQUESTS = 1_000_000 if FULL else trials(100_000, 2_000)
LIFE, RECEIPT = 10, 60
#: The event in the log for each path and status that a client saw.
EVENTS = {
    ("/token/create", 201): "token.created",
    ("/token/validate", 200): "token.validated",
    ("/token/validate", 409): "token.replayed",
    ("/token/validate", 410): "token.refused",  # too late
    ("/token/validate", 404): "token.refused",  # so late that its record is gone too
}


def connections_to(ports: set[int]) -> set[str]:
    """The inodes of this machine's TCP sockets that are connected to one of ``ports``."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {row[9] for row in rows if int(row[2].rpartition(":")[2], 16) in ports}


class Soaked:
    """A service with a Redis of its own, and the resources that it holds."""

    def __init__(self, service: Service, store: redis.Redis, ports: set[int]) -> None:
        """:param ports: those of its Redis and its Postgres"""
        self.service = service
        self.store = store
        self.ports = ports

    def resident(self) -> int:
        """Bytes of memory of its workers together."""
        pages = [int(Path(f"/proc/{p}/statm").read_text().split()[1]) for p in self.pids()]
        return sum(pages) * 4096

    def descriptors(self) -> int:
        """The open descriptors of its workers, except the pooled connections to the stores."""
        pooled = {f"socket:[{inode}]" for inode in connections_to(self.ports)}
        opened = [name for pid in self.pids() for name in self.service.descriptors(pid)]
        return sum(name not in pooled for name in opened)

    def pids(self) -> list[int]:
        return self.service.workers()

    def counted(self) -> Counter[str]:
        """Its counters of tokens, by name, and for refusals by code."""
        page = httpx.get(f"{self.service.url}/metrics", timeout=30).text
        found: Counter[str] = Counter()
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                if re.fullmatch(
                    r"token_service_tokens_(created|consumed|refused)_total", sample.name
                ):
                    found[sample.labels.get("code", sample.name)] += int(sample.value)
        return found

    def logged(self) -> Counter[str]:
        """The number of requests in its log by token event; a request counts once per event."""
        return self._events(trail=False)

    def audited(self) -> Counter[str]:
        """The same in its audit trail."""
        return self._events(trail=True)

    def _events(self, *, trail: bool) -> Counter[str]:
        found: Counter[str] = Counter()
        requests: set[int] = set()
        with self.service.log.open() as lines:
            for line in lines:
                entry = json.loads(line)
                if entry["event"].startswith("token.") and ("stream" in entry) == trail:
                    number = int(entry["request_id"], 16)
                    found[entry["event"]] += number not in requests
                    requests.add(number)
        return found

    def serve(self, plan: Plan) -> LoadResult:
        """Serve a plan, and let the connections of its clients end."""
        with child(crowd, plan) as clients:
            result: LoadResult = clients.result()
        time.sleep(2.5)  # gunicorn keeps an idle connection for two seconds
        return result


@pytest.fixture(scope="module")
def soaked(
    serve: Callable[..., Service],
    postgres: dev.Postgres,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Soaked]:
    settings = {
        "access_token_expire_minutes": 1440,
        "onetime_token_expire_seconds": LIFE,
        "receipt_seconds": RECEIPT,
        "idempotency_window_seconds": 1,
        "max_active": 1_000_000,
    }
    with (
        dev.Redis(tmp_path_factory.mktemp("soak")) as store,
        serve(web_concurrency=2, redis_url=store.url, **settings) as service,
    ):
        yield Soaked(service, redis.Redis.from_url(store.url), {store.port, postgres.port})


def test_nothing_grows_and_every_response_is_accounted_for(soaked: Soaked) -> None:
    with httpx.Client(base_url=soaked.service.url, timeout=30) as http:
        person = enrol(http.post)
    plan = Plan(
        soaked.service.port, person.headers["Authorization"], connections=16, again=0.1, life=LIFE
    )
    warm = soaked.serve(replace(plan, requests=REQUESTS // 5))
    memory, descriptors, workers = soaked.resident(), soaked.descriptors(), soaked.pids()
    result = soaked.serve(replace(plan, requests=REQUESTS))
    grown = soaked.resident() / memory - 1
    assert soaked.pids() == workers
    more = soaked.descriptors() - descriptors

    responses = warm.responses + result.responses
    expected: Counter[str] = Counter()
    for call, event in EVENTS.items():
        expected[event] += responses[call]
    wrong, unaudited = (
        sum(abs(count) for count in _difference(found, +expected).values())
        for found in (soaked.logged(), soaked.audited())
    )
    counters = Counter(
        {
            "token_service_tokens_created_total": responses["/token/create", 201],
            "token_service_tokens_consumed_total": responses["/token/validate", 200],
            "token_already_used": responses["/token/validate", 409],
            "token_expired": responses["/token/validate", 410],
            "token_unknown": responses["/token/validate", 404],
        }
    )
    wrong_counters = sum(abs(count) for count in _difference(soaked.counted(), +counters).values())
    lasting = [key for key in keys_of_tokens(soaked) if soaked.store.pttl(key) == -1]
    record(
        "Each response about a token is one line of the log and of the audit trail, and one count",
        n=warm.total + result.total,
        failures=wrong + unaudited + wrong_counters,
        figures=f"{result.total / (result.ended - result.began):.0f} requests/s",
    )
    record(
        "The workers' memory grows by less than 5 %, and no descriptor stays open",
        n=result.total,
        failures=int(grown >= 0.05) + int(more > 0),
        figures=f"{grown:+.1%} of {memory / 2**20:.0f} MiB, {more:+d} descriptors",
    )
    assert not warm.failed
    assert not result.failed
    # A request that waited through a stall is shed; it was never begun, and has no event.
    shed = sum(count for (_, status), count in responses.items() if status == 503)
    assert {call for call in responses if call[1] != 503} <= set(EVENTS)
    assert shed <= (0 if FULL else 0.02 * responses.total()), responses
    assert not wrong, (soaked.logged(), expected)
    assert not unaudited, (soaked.audited(), expected)
    assert not wrong_counters, (soaked.counted(), counters)
    assert grown < (0.05 if FULL else 0.15)
    assert more <= 0
    assert not lasting
    assert all_keys_go(soaked)


def _difference(one: Counter[str], other: Counter[str]) -> dict[str, int]:
    return {name: one[name] - other[name] for name in {*one, *other}}


def keys_of_tokens(soaked: Soaked) -> list[bytes]:
    """All keys except the few of a shard that last for longer."""
    keys = soaked.store.scan_iter(count=1000)
    lasting = (b":history", b":owners", b":held")
    return [key for key in keys if not key.endswith(lasting) and b":probe:" not in key]


def all_keys_go(soaked: Soaked) -> bool:
    """Whether all tokens expire within twice a record's life; in a short run, whether each key is
    due to expire by then."""
    record_life = LIFE + RECEIPT
    held = soaked.store.dbsize()
    if FULL:
        until(lambda: not keys_of_tokens(soaked), seconds=2 * record_life)
        late = 0
    else:
        keys = keys_of_tokens(soaked)
        late = sum(soaked.store.pttl(key) > record_life * 1000 for key in keys)
    record(
        "Within twice a record's life Redis has no key of a token",
        n=held,
        failures=late,
        figures=f"{2 * record_life} s",
    )
    return not late
