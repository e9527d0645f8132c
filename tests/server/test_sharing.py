"""The memory of the processes of one service, most of which they share."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.stage.people import enrol
from tests.stage.programs import needs
from tests.stage.service import Service

CONF = Path(__file__).with_name("collecting.conf.py")
#: Megabytes of two workers and their master: 138, and 177 without the guard.
MOST = 150


def megabytes(pid: int) -> float:
    """The proportional set size of a process: its own memory, and its part of what it shares."""
    [kib] = re.findall(r"^Pss: +(\d+) kB$", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)
    return int(kib) / 1000


@pytest.mark.slow
@needs(sys.platform == "linux", "read from /proc")
def test_two_workers_and_their_master_share_most_of_their_memory(
    serve: Callable[..., Service],
) -> None:
    """Also when the garbage collector has run. Guard: ``share_memory`` in gunicorn.conf.py."""
    with (
        serve(web_concurrency=2, GUNICORN_CMD_ARGS=f"-c {CONF}") as service,
        httpx.Client(base_url=service.url) as http,
    ):
        person = enrol(http.post)
        for _ in range(300):
            assert http.post("/token/create", headers=person.headers).status_code == 201
        used = [megabytes(pid) for pid in (service.process.pid, *service.workers())]
    assert sum(used) < MOST, used
