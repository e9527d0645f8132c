"""Settings of a running service change after SIGHUP, never before, and only to valid ones."""

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
    """The service's name, as each worker knows it."""
    pages = [httpx.get(f"{service.url}/openapi.json", timeout=30) for _ in range(12)]
    return {page.json()["info"]["title"] for page in pages}


def test_a_replaced_worker_keeps_the_settings(service: Service) -> None:
    """Guard: ``Config.in_force`` in wsgi.py. With a key of its own, a worker would
    refuse the access tokens of the others."""
    before = names(service)
    write(service, app_name="New")
    for worker in (killed := service.workers()):
        os.kill(worker, signal.SIGKILL)
    until(lambda: len(now := service.workers()) == 2 and not set(now) & set(killed))
    assert names(service) == before
    service.reload()
    assert names(service) == {"New"}


@pytest.mark.slow
def test_a_reload_with_an_invalid_setting_changes_nothing(service: Service) -> None:
    """Guard: ``Config.in_force`` in gunicorn.conf.py. Without it the service would end."""
    before = names(service)
    write(service, app_name="New", metrics_token="not-so-long")
    service.reload()
    assert names(service) == before
    lines = [json.loads(line) for line in service.log.read_text().splitlines()]
    (message,) = [line["event"] for line in lines if "stay as they were" in line["event"]]
    assert "metrics_token" in message
    assert "not-so-long" not in message
    write(service, app_name="New", metrics_token="long enough for one")
    service.reload()
    assert names(service) == {"New"}
    # What changed, and when, is in the log; of a secret, that it did.
    lines = [json.loads(line) for line in service.log.read_text().splitlines()]
    started, *reloaded = [line for line in lines if line["event"].startswith("service.")]
    assert started["settings"]["secret_key"] == started["settings"]["database_url"] == "set"
    assert started["settings"]["drain_seconds"] == 0
    changed = {"app_name": {"from": "Token Service API", "to": "New"}, "metrics_token": "set"}
    assert [line["changed"] for line in reloaded] == [{}, changed]
    assert "long enough for one" not in service.log.read_text()


@pytest.mark.slow
def test_a_reload_with_an_unreadable_file_changes_nothing(service: Service) -> None:
    """Each kind ended the service. Guard: ``lines_of`` in environment.py."""
    before = names(service)
    file = service.log.parent / ".env"
    for text in ("app_name=Señales", "app_name=New"):
        file.write_bytes(text.encode("latin-1" if "ñ" in text else "utf-16"))
        service.reload()
    file.unlink()
    file.symlink_to(file.name)  # as unreadable to root as to anybody
    service.reload()
    assert names(service) == before
    assert service.log.read_text().count("The settings stay as they were. .env cannot be read") == 3
    file.unlink()
    write(service, app_name="New")
    service.reload()
    assert names(service) == {"New"}
