"""Single use is a property of concurrency: a sequential test passes on broken code."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import httpx
import pytest

from tests.stage.people import enrol
from tests.stage.racing import connected, race, request
from tests.stage.service import Service

CALLERS, TOKENS = 32, 500


def cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_of_32_callers_exactly_one_consumes_each_of_500_tokens(service: Service) -> None:
    """Guard: validate.lua is one atomic step; GET and then DELETE lets two callers win."""
    before = {pid: cpu_ticks(pid) for pid in service.workers()}
    with (
        httpx.Client(base_url=service.url, timeout=30) as http,
        connected([service], CALLERS) as connections,
    ):
        person = enrol(http.post)
        for _ in range(TOKENS):
            created = http.post("/token/create", headers=person.headers, json={"expires_in": 60})
            call = request("/token/validate", person, {"token": created.json()["token"]})
            outcome = Counter(response.kind for response in race(connections, [call] * CALLERS))
            assert outcome == {(200, None): 1, (409, "token_already_used"): CALLERS - 1}
    # Several processes raced, and none of them died.
    busy = [pid for pid, ticks in before.items() if cpu_ticks(pid) - ticks > 20]
    assert len(busy) >= 2
    assert set(before) <= set(service.workers())
