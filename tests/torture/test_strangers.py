"""Postgres hangs under a load of strangers, and known callers are served as before."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

import dev
from tests.stage.people import PASSWORD, enrol, new_correo
from tests.stage.proxy import Proxy
from tests.stage.service import Service
from tests.torture import ledger
from tests.torture.children import child
from tests.torture.load import Plan, during
from tests.torture.outages import STALL_SECONDS, Site, on_the_way, site_of
from tests.torture.strangers import Load, send

SECONDS = ledger.trials(60, least=4)
hangs = on_the_way("to_postgres", Proxy.hang)


@pytest.fixture(scope="module")
def site(
    serve: Callable[..., Service], redis_server: dev.Redis, postgres: dev.Postgres
) -> Iterator[Site]:
    # The time limit of Redis is another test's.
    settings = {"rate_limit_login": "off", "redis_timeout_ms": 2000}
    with site_of(serve, redis_server, postgres, **settings) as running:
        yield running


def strangers(site: Site) -> list[Load]:
    """32 connections on a probe, 20 logins a second, and callers that no worker has seen."""
    login = {"correo": new_correo(), "password": PASSWORD}
    unseen = [enrol(site.http.post).headers for _ in range(4)]
    return [
        Load(32, 0.05, "/readyz/postgres"),
        Load(20, 1.0, "/auth/login", login),
        *(Load(1, 0.1, "/token/create", {}, headers) for headers in unseen),
    ]


def test_strangers_take_no_thread_from_known_callers_while_postgres_hangs(site: Site) -> None:
    """Guards: the places and the refusal of ``Breaker``, and one probe at a time in ``ops``."""
    loads = strangers(site)
    site.introduce()
    known = Plan(
        site.service.port, site.known.headers["Authorization"], rate=40, connections=32, life=3600
    )
    time.sleep(1.6)  # The cached accounts have expired.
    with hangs(site), child(send, site.service.port, loads) as attack:
        served = during(known, SECONDS)
        received = attack.end()
    back = site.seconds_until_recovered()
    failures = served.total - served.successes()
    rate = sum(received.responses.values()) / SECONDS
    ledger.record(
        "Postgres hangs under a load of strangers: calls of known callers succeed",
        n=served.total,
        failures=failures,
        figures=f"median / p99 ms {served.percentile(0.5) * 1000:.0f} / "
        f"{served.percentile(0.99) * 1000:.0f}, under {rate:.0f} "
        f"calls a second that need Postgres (median {received.percentile(0.5) * 1000:.0f} ms); "
        f"recovered after {back:.2f} s",
    )
    assert not failures, (served.responses, served.failed)
    assert {status for _, status in received.responses} == {503}, received.responses
    assert served.percentile(0.9 if ledger.FULL else 0.5) < 0.1 + STALL_SECONDS
    assert received.percentile(0.5) < 0.1 + STALL_SECONDS
    assert back < 1 + 4 * STALL_SECONDS
