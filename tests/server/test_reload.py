"""Settings that change under a running service: after SIGHUP, never before, and only sane ones."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.stage.service import Service
from tests.stage.waiting import until


@pytest.fixture
def service(serve: Callable[..., Service]) -> Iterator[Service]:
    with serve(web_concurrency=2, app_name="") as running:
        yield running


def write(service: Service, **settings: str) -> None:
    lines = [f"{name}={value}\n" for name, value in settings.items()]
    (service.log.parent / ".env").write_text("".join(lines))


def names(service: Service) -> set[str]:
    """What its workers call the service."""
    pages = [httpx.get(f"{service.url}/openapi.json", timeout=30) for _ in range(12)]
    return {page.json()["info"]["title"] for page in pages}


def test_a_worker_that_is_replaced_keeps_the_settings(service: Service) -> None:
    """Guard: ``Config.in_force`` in wsgi.py. With another key than the other workers have, a
    worker would refuse whom they let in."""
    before = names(service)
    write(service, app_name="New")
    for worker in (killed := service.workers()):
        os.kill(worker, signal.SIGKILL)
    until(lambda: len(now := service.workers()) == 2 and not set(now) & set(killed))
    assert names(service) == before
    service.reload()
    assert names(service) == {"New"}


@pytest.mark.slow
def test_a_reload_with_a_mistake_goes_on_as_before(service: Service) -> None:
    """Guard: ``Config.in_force`` in gunicorn.conf.py. Without it the service would be gone."""
    before = names(service)
    write(service, app_name="New", metrics_token="not-so-long")
    service.reload()
    assert names(service) == before
    lines = [json.loads(line) for line in service.log.read_text().splitlines()]
    (said,) = [line["event"] for line in lines if "stay as they were" in line["event"]]
    assert "metrics_token" in said
    assert "not-so-long" not in said
    write(service, app_name="New")
    service.reload()
    assert names(service) == {"New"}
