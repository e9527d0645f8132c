"""The service against its own OpenAPI document, by the cases of schemathesis."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.stage.people import enrol
from tests.stage.service import Service
from tests.torture import ledger

#: The longest time of a response; the short run shares its machine.
SECONDS = 1.0 if ledger.FULL else 10.0
#: Rounds of the whole document, and the cases of each for an operation, besides its boundary
#: cases. Twelve rounds of 250 are more than 50,000 cases.
ROUNDS, EXAMPLES = ledger.trials(12), ledger.trials(250, least=3)
PHASES = "examples,coverage,fuzzing" + (",stateful" if ledger.FULL else "")

# Every check of schemathesis, except two that the document cannot satisfy. A receipt outlives the
# revocation of its token, by design. A valid value of a schema may still be refused for reasons
# that no schema can express: a checksum, a password that is easy to guess, NUL.
SETTINGS = """
color = false
continue-on-failure = true
max-failures = 1000
request-timeout = 30
[checks]
max_response_time = {seconds}
use_after_free.enabled = false
negative_data_rejection.expected-statuses = [400, 401, 403, 404, 405, 409, 413, 414, 415, 422, 429]
positive_data_acceptance.expected-statuses = ["2xx", 400, 401, 403, 404, 409, 410, 422, 429]
[phases.stateful]
generation.max-examples = {stateful}
[reports.json]
path = "report.json"
"""
# To a proxy what is not about a ticket is 503, also what is wrong with its query, and its key.
GATE = """
[[operations]]
include-path = "/token/gate"
checks.not_a_server_error.enabled = false
checks.ignored_auth.enabled = false
checks.negative_data_rejection.expected-statuses = [401, 403, 503]
checks.positive_data_acceptance.expected-statuses = ["2xx", 401, 403, 503]
"""
# Schemathesis reads the value from a variable: the arguments of a process are no secret.
AUTHORIZED = 'headers = { Authorization = "${BEARER}" }\n'


@dataclass
class Explored:
    """The results of some rounds."""

    cases: int = 0
    failures: list[dict[str, Any]] = field(default_factory=list)
    output: str = ""


def explore(
    service: Service, directory: Path, *, bearer: str = "", examples: int, phases: str = PHASES
) -> Explored:
    """Run schemathesis once over the OpenAPI document of ``service``."""
    settings = SETTINGS.format(seconds=SECONDS, stateful=examples)
    (directory / "schemathesis.toml").write_text((AUTHORIZED if bearer else "") + settings + GATE)
    options = [f"--max-examples={examples}", f"--phases={phases}", "--no-shrink"]
    document = f"{service.url}/openapi.json"
    done = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", "run", document, *options],
        cwd=directory,
        env={"PATH": "", "BEARER": bearer},
        capture_output=True,
        text=True,
        timeout=3600,
        check=False,
    )
    report = json.loads((directory / "report.json").read_text())
    failures = report["failures"] + report["errors"]
    # An exit code other than "all passed" and "some failed" is no run.
    assert done.returncode in (0, 1), done.stdout + done.stderr
    assert bool(failures) == bool(done.returncode), done.stdout
    for name in (".hypothesis", ".schemathesis"):
        shutil.rmtree(directory / name, ignore_errors=True)
    return Explored(report["test_cases"]["generated"], failures, done.stdout)


@pytest.fixture(scope="module")
def exposed(serve: Callable[..., Service]) -> Iterator[Service]:
    """A service without limits, which would hide other responses, and with short-lived tokens."""
    brief = {"onetime_token_max_seconds": 60, "receipt_seconds": 60, "max_active": 10_000}
    with serve(web_concurrency=2, access_token_expire_minutes=1440, **brief) as service:
        yield service


@pytest.mark.parametrize("caller", ["an account", "nobody"])
def test_the_service_conforms_to_its_openapi_document(
    caller: str, exposed: Service, tmp_path: Path
) -> None:
    """Guards: the handlers of ``problems.py``, ``strictjson``, the schemas and ``openapi.py``."""
    with httpx.Client(base_url=exposed.url, timeout=30) as http:
        bearer = enrol(http.post).headers["Authorization"] if caller == "an account" else ""
    rounds = [explore(exposed, tmp_path, bearer=bearer, examples=EXAMPLES) for _ in range(ROUNDS)]
    cases = sum(explored.cases for explored in rounds)
    failures = [failure for explored in rounds for failure in explored.failures]
    ledger.record(
        f"Every response to {caller} is declared in the OpenAPI document",
        n=cases,
        failures=len(failures),
        figures=f"no 5xx, each within {SECONDS:g} s",
    )
    assert not ledger.FULL or cases >= 50_000
    assert not failures, "\n".join(explored.output for explored in rounds if explored.failures)


def test_a_service_without_redis_is_noticed(serve: Callable[..., Service], tmp_path: Path) -> None:
    """The twin: its 503 are declared, and still count as failures."""
    with serve(web_concurrency=1, redis_url="redis://127.0.0.1:1/0") as service:
        with httpx.Client(base_url=service.url, timeout=30) as http:
            bearer = enrol(http.post).headers["Authorization"]
        explored = explore(service, tmp_path, bearer=bearer, examples=1, phases="examples")
    assert any(failure["type"] == "ServerError" for failure in explored.failures)
