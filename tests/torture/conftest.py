"""Mark every test here as slow, and record failed and skipped ones in the ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

import dev
from tests.stage.service import Service
from tests.torture.ledger import record
from tests.torture.outages import Site, site_of


def pytest_itemcollected(item: pytest.Item) -> None:
    """Called for the tests of this folder alone."""
    item.add_marker(pytest.mark.slow)


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
