"""Mark every test here as slow, most as timed too, and record failed and skipped ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

import dev
from tests.stage.service import Service
from tests.torture.haproxy import HAProxy
from tests.torture.ledger import record
from tests.torture.outages import Site, site_of
from tests.torture.witness import Witness, witness

#: Modules that measure no time: other tests beside them change nothing.
UNTIMED = {
    "test_addresses",
    "test_audit",
    "test_bad_settings",
    "test_clients",
    "test_compose",
    "test_crash",
    "test_fuzz",
    "test_guessing",
    "test_haproxy",
    "test_jwt",
    "test_kubernetes",
    "test_ledger",
    "test_origins",
    "test_podman",
    "test_postgres_roles",
    "test_proxy_lines",
    "test_redis_users",
    "test_schema",
    "test_secrets",
    "test_servers",
    "test_smuggling",
    "test_supply_chain",
    "test_tls",
    "test_typescript_client",
    "test_versions",
}


def pytest_itemcollected(item: pytest.Item) -> None:
    """Called for the tests of this folder alone."""
    item.add_marker(pytest.mark.slow)
    if item.path.stem not in UNTIMED:
        item.add_marker(pytest.mark.timed)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    if report.failed:
        record(f"`{item.name}` passes", n=1, failures=1, test=item.nodeid)
    elif report.skipped:
        why = str(report.longrepr[2]).removeprefix("Skipped: ")
        record(
            f"`{item.name}` passes", n=0, failures=0, figures=f"not run: {why}", test=item.nodeid
        )
    return report


@pytest.fixture(scope="module")
def site(
    serve: Callable[..., Service], postgres: dev.Postgres, redis_server: dev.Redis
) -> Iterator[Site]:
    """A service on the servers of the session, with a proxy before each."""
    with site_of(serve, redis_server, postgres, redis_timeout_ms=2000) as running:
        yield running


@pytest.fixture(scope="module")
def seen() -> Iterator[Witness]:
    with witness() as server:
        yield server


@pytest.fixture(scope="module")
def proxy(seen: Witness, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HAProxy]:
    """The shipped proxy, before a witness."""
    with HAProxy(tmp_path_factory.mktemp("haproxy"), [seen.port]) as running:
        yield running
