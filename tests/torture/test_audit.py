"""Workers are killed under load: no response is without its line in the audit trail."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import secrets
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.stage.keys import bearer, new_key
from tests.stage.people import enrol
from tests.stage.service import Service
from tests.stage.waiting import until
from tests.torture.ledger import record, trials

CLIENTS = 8
#: The least time, and the least number of responses, between two kills.
BETWEEN_SECONDS, BETWEEN_RESPONSES = 0.5, 30


class Client(threading.Thread):
    """Creates tokens and consumes each, until ``ends``.

    :ivar answered: the status of each response, by the id of its request
    :ivar unanswered: the ids of requests without one
    """

    def __init__(self, service: Service, headers: dict[str, str], ends: threading.Event) -> None:
        super().__init__()
        self._service, self._headers, self._ends = service, headers, ends
        self.answered: dict[str, int] = {}
        self.unanswered: set[str] = set()

    def run(self) -> None:
        while not self._ends.is_set():
            with (
                contextlib.suppress(OSError, http.client.HTTPException),
                contextlib.closing(
                    http.client.HTTPConnection(self._service.host, self._service.port, timeout=20)
                ) as connection,
            ):
                while not self._ends.is_set():
                    self._use_token(connection)

    def _use_token(self, connection: http.client.HTTPConnection) -> None:
        made = self._post(connection, "create", {"purpose": "pay", "expires_in": 60})
        if "token" in made:  # A stalled machine makes the service refuse some.
            self._post(connection, "consume", {"token": made["token"], "purpose": "pay"})

    def _post(
        self, connection: http.client.HTTPConnection, verb: str, body: dict[str, object]
    ) -> dict[str, str]:
        request_id = secrets.token_hex(16)
        self.unanswered.add(request_id)
        headers = {**self._headers, "X-Request-ID": request_id, "Content-Type": "application/json"}
        connection.request("POST", f"/token/{verb}", json.dumps(body), headers)
        response = connection.getresponse()
        read: dict[str, str] = json.loads(response.read())
        self.unanswered.remove(request_id)
        if read.get("code") != "busy":  # The service never began it, and writes no line.
            self.answered[request_id] = response.status
        return read


@pytest.mark.parametrize("to", ["file", "stderr"])
def test_a_killed_worker_loses_no_line_of_a_response(
    to: str, serve: Callable[..., Service], tmp_path: Path
) -> None:
    """Guard: ``write_at_once``. A queue loses the lines of 20 ms with each worker."""
    kills, settings = trials(200, 4), {"audit_log": to}
    if to == "file":
        settings["audit_path"] = str(tmp_path / "audit.log")
    ends = threading.Event()
    with serve(web_concurrency=2, max_active=1_000_000, **settings) as service:
        with httpx.Client(base_url=service.url, timeout=30) as calls:
            key = new_key(calls.post, enrol(calls.post))
        clients = [Client(service, bearer(key["key"]), ends) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        for number in range(1, kills + 1):
            time.sleep(BETWEEN_SECONDS)
            least = number * BETWEEN_RESPONSES
            until(lambda n=least: sum(len(client.answered) for client in clients) > n)
            killed = random.choice(service.workers())  # noqa: S311
            os.kill(killed, signal.SIGKILL)
            until(lambda pid=killed: pid not in (now := service.workers()) and len(now) == 2)
        ends.set()
        for client in clients:
            client.join()
    path = Path(settings.get("audit_path", service.log))
    written: dict[str, int] = {}
    for text in path.read_text().splitlines():
        with contextlib.suppress(ValueError):  # The line of a worker that died in the middle of it.
            line = json.loads(text)
            if line.get("stream") == "audit":
                written[line["request_id"]] = line["status"]
    answered = {name: status for client in clients for name, status in client.answered.items()}
    unanswered = {name for client in clients for name in client.unanswered}
    missing = [name for name in answered if written.get(name) != answered[name]]
    done_unseen = unanswered & written.keys()
    record(
        f"Workers are killed, and each response has its line in the audit trail ({to})",
        n=len(answered),
        failures=len(missing),
        figures=f"{kills} kills; {len(done_unseen)} lines of {len(unanswered)} requests without a "
        "response",
    )
    assert len(answered) > 100
    assert unanswered
    assert not missing
    assert len(done_unseen) <= kills * CLIENTS
