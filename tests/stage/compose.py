"""docker-compose on both compose files: what it reads, without a container or a daemon."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.stage.paths import ROOT
from tests.stage.programs import lacks

NAMES = ("secret_key", "db_password", "redis_password", "metrics_token")
SECRETS = {name: f"the-{name}" for name in NAMES}
FILES = ("-f", "docker-compose.yml", "-f", "deploy/observability/compose.yml")


def compose(*words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.prefix, "bin", "docker-compose")
    if not program.exists():
        lacks("docker-compose is not installed")
    return subprocess.run(
        [program, "--project-directory", ROOT, "--env-file", os.devnull, *FILES, *words],
        env={"PATH": os.environ["PATH"], **settings},
        capture_output=True,
        text=True,
        check=False,
    )
