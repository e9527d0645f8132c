"""The dashboard, the alerts and the scrape of deploy/observability, by a real Prometheus."""

from __future__ import annotations

import json
import re
import secrets
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.stage.people import WRONG_PASSWORD, enrol
from tests.stage.programs import needs_program, program
from tests.stage.prometheus import RECIPES, Prometheus
from tests.stage.service import Service
from tests.stage.waiting import served, until

pytestmark = [needs_program("prometheus"), pytest.mark.slow]
TOKEN = secrets.token_urlsafe(24)
BOARD = json.loads((RECIPES / "dashboard.json").read_text())
RULES = [
    rule
    for group in yaml.safe_load((RECIPES / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
METRIC = re.compile(r"\btoken_service_\w+")


@pytest.fixture(scope="module")
def prometheus(
    serve: Callable[..., Service], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    """It has scraped a service of two workers several times, under a small load."""
    folder = tmp_path_factory.mktemp("prometheus")
    with (
        serve(web_concurrency=2, metrics_token=TOKEN, metrics_old_names="false") as service,
        Prometheus(folder, [f"127.0.0.1:{service.port}"], TOKEN) as running,
        httpx.Client(base_url=service.url, timeout=30) as http,
    ):
        person = enrol(http.post)

        def call(path: str, **body: object) -> Any:
            keyed = {**person.headers, "Idempotency-Key": secrets.token_hex(8)}
            response = served(lambda: http.post(f"/token/{path}", headers=keyed, json=body))
            return response.json() if response.content else {}

        def work() -> bool:
            """Each kind of call once; whether that was scraped often enough."""
            terms = {"purpose": "chat", "issued_by": [person.id]}
            used, held, freed = (
                token["token"] for token in call("batch", count=3, purpose="chat")["tokens"]
            )
            call("consume", token=used, **terms)
            call("consume", token=used, **terms)
            call("commit", reservation=call("reserve", token=held, **terms)["reservation"])
            call("release", reservation=call("reserve", token=freed, **terms)["reservation"])
            call("revoke", token=freed)
            http.post("/auth/login", json={"correo": person.correo, "password": WRONG_PASSWORD})
            http.get("/auth/me", headers=person.headers)
            return bool(running.ask("count_over_time(token_service_ready[1m]) >= 6"))

        until(work)
        yield running


def targets() -> Iterator[tuple[str, str]]:
    """The title and the query of each target of the dashboard, as Grafana would send it."""
    for panel in BOARD["panels"]:
        for target in panel.get("targets", ()):
            query = target["expr"].replace("$__rate_interval", "2m").replace("$instance", ".*")
            assert "$" not in query
            yield panel["title"], query


def test_no_query_of_the_dashboard_is_empty(prometheus: Prometheus) -> None:
    """Guard: a metric or a label that is renamed turns this red."""
    asked = [*targets()]
    assert len(asked) > 40
    for _, query in asked:
        prometheus.awaited(query)


def test_the_dashboard_shows_the_load(prometheus: Prometheus) -> None:
    """A few numbers, so that a query that is always 0 would be noticed."""
    shown = {title: prometheus.awaited(query) for title, query in targets()}

    def top(title: str) -> float:
        return max(float(found["value"][1]) for found in shown[title])

    for title in ("Responses by status", "Created and consumed", "Made and ended", "Failed logins"):
        assert top(title) > 0, title
    rows = shown["Responses by status"]
    seen = {row["metric"]["status"] for row in rows if float(row["value"][1]) > 0}
    assert top("Share of 5xx") == 0 or "503" in seen  # A shared machine stalls.
    assert top("Worker processes") == 2
    assert {row["metric"]["code"] for row in shown["Refused by code"]} >= {"token_already_used"}


def test_each_alert_is_evaluated_and_silent(prometheus: Prometheus) -> None:
    """Each metric of each alert has a series, and nothing is wrong with this service."""
    for rule in RULES:
        prometheus.ask(rule["expr"])
        for name in METRIC.findall(rule["expr"]):
            prometheus.awaited(f"count({name})")

    def evaluated() -> list[dict[str, Any]]:
        url = f"http://127.0.0.1:{prometheus.port}/api/v1/rules"
        [group] = httpx.get(url, timeout=30).json()["data"]["groups"]
        return list(group["rules"])

    assert {rule["name"] for rule in evaluated()} == {rule["alert"] for rule in RULES}
    until(lambda: {rule["health"] for rule in evaluated()} <= {"ok", "unknown"})
    until(lambda: not [rule["name"] for rule in evaluated() if rule["alerts"]])


def test_without_the_token_prometheus_is_refused(prometheus: Prometheus) -> None:
    [target] = prometheus.awaited("up == 1")
    address = f"http://{target['metric']['instance']}/metrics"
    assert httpx.get(address, timeout=30).status_code == 401


def test_each_alert_fires_and_is_silent_where_it_should() -> None:
    """By promtool, over minutes that it makes up. Each alert has a case of both."""
    promtool = Path(program("prometheus")).with_name("promtool")
    for words in (("check", "rules", "alerts.yml"), ("test", "rules", "alerts_test.yml")):
        done = subprocess.run(
            [promtool, *words], cwd=RECIPES, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    subprocess.run(
        [promtool, "check", "config", "--syntax-only", "prometheus.yml"], cwd=RECIPES, check=True
    )
    cases = [
        (case["alertname"], bool(case["exp_alerts"]))
        for test in yaml.safe_load((RECIPES / "alerts_test.yml").read_text())["tests"]
        for case in test["alert_rule_test"]
    ]
    assert set(cases) == {(rule["alert"], fires) for rule in RULES for fires in (True, False)}
