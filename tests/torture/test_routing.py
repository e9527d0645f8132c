"""The shipped proxy asks /readyz: one missing store ends no routing, and two do."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.stage.people import PASSWORD, enrol
from tests.stage.waiting import until
from tests.torture.haproxy import HAProxy, needs_haproxy
from tests.torture.outages import Site

pytestmark = needs_haproxy
#: Several checks of the proxy, also on a stalled machine.
CHECKS_SECONDS = 4


@pytest.fixture
def http(site: Site, tmp_path: Path) -> Iterator[httpx.Client]:
    """A client of the proxy before the site."""
    with (
        HAProxy(tmp_path, [site.service.port]) as proxy,
        httpx.Client(base_url=proxy.url, timeout=30) as client,
    ):
        until(lambda: client.get("/readyz").status_code == 200)
        yield client


def code(response: httpx.Response) -> str:
    return response.json().get("code", "ok") if response.content else "ok"


def test_requests_are_routed_while_one_store_is_away(site: Site, http: httpx.Client) -> None:
    """Guard: ``readyz`` in probes.py. A blink of Redis took every instance out of a Service."""
    person = enrol(http.post)
    login = {"correo": person.correo, "password": PASSWORD}
    outcomes = {
        "login": lambda: code(http.post("/auth/login", json=login)),
        "create": lambda: code(http.post("/token/create", headers=person.headers)),
    }
    for store, refused, refusal in [
        (site.to_redis, "create", "store_unavailable"),
        (site.to_postgres, "login", "database_unavailable"),
    ]:
        store.refuse()
        try:
            ends = time.monotonic() + CHECKS_SECONDS
            while time.monotonic() < ends:
                assert http.get("/readyz").status_code == 200
                assert outcomes[refused]() == refusal
                if store is site.to_redis:
                    assert outcomes["login"]() == "ok"
                time.sleep(0.4)  # A login has a limit by address.
        finally:
            store.mend()

        def is_back(name: str = refused) -> bool:
            time.sleep(0.4)  # as above
            return outcomes[name]() == "ok"

        until(is_back)


def test_nothing_is_routed_to_a_service_without_stores(site: Site, http: httpx.Client) -> None:
    """The proxy's own 503 has the shape of all errors. Guard: ``http-check`` in haproxy.cfg."""
    site.to_redis.refuse()
    site.to_postgres.refuse()
    try:
        until(lambda: code(http.get("/healthz")) == "not_ready")
        assert http.get("/healthz").headers["Retry-After"] == "1"
    finally:
        site.to_redis.mend()
        site.to_postgres.mend()
    until(lambda: http.get("/readyz").status_code == 200, seconds=10)
