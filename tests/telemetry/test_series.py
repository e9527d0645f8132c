"""The number of series stays bounded, whatever strangers send, and their files have room."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from flask import Flask
from prometheus_client import REGISTRY

from config import Config
from tests.stage.paths import ROOT
from tests.stage.people import enrol
from tests.stage.scrapes import scraped
from tests.stage.service import Service

#: The most series of an instance with one shard. Some 30 endpoints have 14 series for their time,
#: and with the old names each of these is there twice.
MOST_SERIES = 2500


@pytest.mark.slow
def test_hostile_traffic_adds_no_series(serve: Callable[..., Service]) -> None:
    """Unknown paths, methods, codes, purposes, keys and accounts add nothing to the labels."""
    with (
        serve(web_concurrency=2) as service,
        httpx.Client(base_url=service.url, timeout=30) as http,
    ):
        person = enrol(http.post)

        def attack(mark: str) -> None:
            for number in range(8):
                text = f"{mark}{number}"
                headers = {**person.headers, "X-Request-ID": text, "Idempotency-Key": text}
                http.get(f"/{text}", headers=headers)
                http.get(f"/token/{secrets.token_hex(9)}", headers=headers)
                http.get(f"/problems/{text}", headers={"Origin": f"http://{text}.example"})
                http.request(f"M{mark.upper()}{number}", "/token/create", headers=headers)
                body = {"token": text, "purpose": text, "issued_by": [text]}
                http.post("/token/consume", headers=headers, json=body)
                http.post("/token/create", headers=headers, json={"purpose": text})
                http.post("/token/create", headers={"Authorization": f"Bearer {text}"})
                http.post("/token/gate", params={"purpose": text, text: text})
                http.post("/auth/login", json={"correo": f"{text}@example.com", "password": text})
                http.post("/token/revoke-all", headers=headers, json={text: text})

        attack("canary")  # Whatever can be reached at all is reached once.
        for _ in range(4):  # By each worker.
            http.get("/metrics", headers={"Connection": "close"})
        before = set(scraped(http.get("/metrics").text))
        attack("parrot")
        page = http.get("/metrics").text
        # A request that a stall of the machine makes overdue has a series of its own.
        others = {key for key in set(scraped(page)) ^ before if ("status", "503") not in key[1]}
        assert not others
        assert len(before) < MOST_SERIES
        for text in ("canary", "parrot", person.id, person.correo, "127.0.0.1", "http:"):
            assert text not in page.lower()
        assert not [labels for _, labels in before if any("/" in word for _, word in labels)]


def test_the_files_have_room_for_all_labels(config: Config, tmp_path: Path) -> None:
    """Guard: METRICS of gunicorn.conf.py. A file that grows could end its worker by SIGBUS.

    Each view with each status that it documents, with OPTIONS, and with what a bug or overload
    makes of it; and every other label.
    """
    given = {"secret_key": config.secret_key, "PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, "-c", ALL_LABELS],
        cwd=tmp_path,
        env=given,
        stdout=subprocess.PIPE,
        check=True,
        timeout=60,
    )
    used, room = json.loads(done.stdout)
    assert set(used) == set(room)
    for kind, taken in used.items():
        assert taken < room[kind] * 0.95, (kind, taken)


#: Makes every series, as a worker of gunicorn would, and prints the bytes used of each file and
#: those that there are.
ALL_LABELS = f"""
import importlib.util, json, os, re, struct, sys
from pathlib import Path

spec = importlib.util.spec_from_file_location("conf", {str(ROOT / "gunicorn.conf.py")!r})
conf = sys.modules["conf"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(conf)

from config import Config
from tokenservice import create_app
from tokenservice.onetime.scripts import SCRIPTS
from tokenservice.telemetry import metrics
from tokenservice.telemetry.metrics import labelled

app = create_app(Config.from_env())
paths = app.test_client().get("/openapi.json").get_json()["paths"]
documented = {{
    path: {{code for one in way.values() if "responses" in one for code in one["responses"]}}
    for path, way in paths.items()
}}
everywhere = {{"200", "405", "500", "503"}}
views = {{"none": set.union(everywhere, *documented.values(), {{"408", "417", "431"}})}}
for rule in app.url_map.iter_rules():
    path = re.sub("<(?:[^:<>]+:)?([^<>]+)>", r"{{\\1}}", rule.rule)
    views.setdefault(rule.endpoint, everywhere).update(documented.get(path, ()))
for view, statuses in views.items():
    labelled(metrics.LATENCY, view)
    for status in statuses:
        labelled(metrics.REQUESTS, view, status)
for call in (*SCRIPTS, "limit"):
    labelled(metrics.REDIS, call)
for gauge in (metrics.THREADS, metrics.THREADS_BUSY, metrics.THREADS_AWAITED):
    labelled(gauge, "pool"), labelled(gauge, "hashing")

folder = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
kinds = [path.name.removesuffix("_master.db") for path in folder.glob("*_master.db")]
first = {{kind: (folder / f"{{kind}}_master.db").read_bytes()[:4] for kind in kinds}}
used = {{kind: struct.unpack("i", begin)[0] for kind, begin in first.items()}}
print(json.dumps([used, conf.METRICS]))
"""


def test_failures_of_postgres_are_counted_by_kind(make_app: Callable[..., Flask]) -> None:
    """Guard: ``fail`` in metrics.py. Here nothing listens."""
    client = make_app(database_url="postgresql://127.0.0.1:1/nothing").test_client()
    labels = {"store": "postgres", "kind": "refused"}
    name = "token_service_store_errors_total"
    before = REGISTRY.get_sample_value(name, labels)
    body = {"correo": "ana@example.com", "password": "tres tristes tigres"}
    assert client.post("/auth/login", json=body).status_code == 503
    assert REGISTRY.get_sample_value(name, labels) > before
