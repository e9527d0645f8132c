"""A Prometheus on loopback that scrapes services once a second."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import yaml

from dev.server import BARE_ENVIRONMENT, Server, private
from tests.stage.paths import ROOT
from tests.stage.programs import program

RECIPES = ROOT / "deploy" / "observability"


class Prometheus(Server):
    """Prometheus with the configuration of ``deploy/``, but other targets and a shorter interval.

    :param targets: host and port of each instance of the service
    :param token: its ``metrics_token``
    """

    name = "prometheus"

    def __init__(self, directory: Path, targets: Sequence[str], token: str) -> None:
        super().__init__(directory)
        self._targets, self._token = [*targets], token

    def prepare(self) -> None:
        given = yaml.safe_load((RECIPES / "prometheus.yml").read_text())
        given["global"] = dict.fromkeys(given["global"], "1s")
        given["rule_files"] = [str(RECIPES / name) for name in given["rule_files"]]
        [job] = given["scrape_configs"]
        assert job.pop("dns_sd_configs")
        job["static_configs"] = [{"targets": self._targets}]
        job["authorization"]["credentials_file"] = str(self.directory / "token")
        with open(self.directory / "token", "w", opener=private) as file:
            file.write(self._token)
        (self.directory / "prometheus.yml").write_text(yaml.safe_dump(given))

    def command(self) -> list[str]:
        return [
            program("prometheus"),
            f"--config.file={self.directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]

    def options(self) -> dict[str, Any]:
        return {"cwd": self.directory, "env": BARE_ENVIRONMENT}

    def responds(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"http://127.0.0.1:{self.port}/-/ready", timeout=1).is_success
        return False

    def ask(self, expression: str) -> list[dict[str, Any]]:
        """The result of a query, now; empty where no series matches."""
        url = f"http://127.0.0.1:{self.port}/api/v1/query"
        body = httpx.get(url, params={"query": expression}, timeout=10).json()
        assert body["status"] == "success", (expression, body)
        found = body["data"]["result"]
        return found if isinstance(found, list) else [found]

    def awaited(self, expression: str) -> list[dict[str, Any]]:
        """The first result of a query that is not empty.

        A scrape that takes a second has failed, and its series are gone until the next one.
        """
        for _ in range(100):
            if found := self.ask(expression):
                return found
            time.sleep(0.3)
        raise AssertionError(f"no series: {expression}")
