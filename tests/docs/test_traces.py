"""The commands and the files of docs/traces.md."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import opentelemetry.environment_variables
import opentelemetry.sdk.environment_variables

from tests.docs.pages import ROOT, blocks, either_language, read
from tests.stage.programs import lacks

PAGE = "docs/traces.md"


@either_language(PAGE)
def test_the_file_of_compose_is_merged_into_that_of_the_service(page: str, tmp_path: Path) -> None:
    """The lock of both services that build the image, and the variables beside the settings."""
    program = Path(sys.prefix, "bin", "docker-compose")
    if not program.exists():
        lacks("docker-compose is not installed")
    [override] = [block for block in blocks(read(page), "yaml") if block.startswith("services:")]
    (tmp_path / "override.yml").write_text(override)
    secrets = dict.fromkeys(("secret_key", "db_password", "redis_password"), "x")
    files = [ROOT / "docker-compose.yml", tmp_path / "override.yml"]
    done = subprocess.run(
        [
            *(program, "--project-directory", ROOT, "--env-file", os.devnull),
            *("-f", files[0], "-f", files[1], "config", "--format", "json"),
        ],
        env={"PATH": os.environ["PATH"], **secrets},
        capture_output=True,
        text=True,
        check=True,
    )
    services = json.loads(done.stdout)["services"]
    for name in ("app", "migrate"):
        [(argument, lock)] = services[name]["build"]["args"].items()
        assert f"ARG {argument}=service\n" in read("Dockerfile")
        assert f"requirements/{lock}.lock " in read("Dockerfile")
        assert services[name]["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"]
        assert services[name]["environment"]["secret_key"] == "x"
    assert services["migrate"]["network_mode"] == "service:db"


@either_language(PAGE)
def test_the_page_names_variables_of_opentelemetry_alone(page: str) -> None:
    modules = [opentelemetry.environment_variables, opentelemetry.sdk.environment_variables]
    known = {name for module in modules for name in vars(module)}
    assert set(re.findall(r"OTEL_[A-Z_]+", read(page))) <= known
