"""The OpenAPI document under linters, and clients that are generated from it."""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.stage import node
from tests.stage.people import enrol
from tests.stage.service import Service

SOURCE = Path(__file__).parent / "openapi"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The document of a service, and the packages beside it."""
    folder = node.installed(SOURCE, tmp_path_factory.mktemp("openapi"))
    (folder / "document.json").write_text(httpx.get(f"{service.url}/openapi.json", timeout=30).text)
    return folder


def test_linters_find_nothing(folder: Path) -> None:
    """Redocly and Spectral with all that they recommend, and the validator of Python."""
    validator = [sys.executable, "-m", "openapi_spec_validator"]
    assert node.ran(folder, *validator, "document.json").endswith(": OK\n")
    options = ("--format", "json", "--extends", "recommended-strict")
    linted = node.ran(folder, "redocly", "lint", "document.json", *options, REDOCLY_TELEMETRY="off")
    assert json.loads(linted)["totals"] == {"errors": 0, "warnings": 0, "ignored": 0}
    (folder / ".spectral.json").write_text('{"extends": [["spectral:oas", "recommended"]]}')
    failing = ("--quiet", "--fail-severity", "hint")
    ruled = node.ran(folder, "spectral", "lint", "-r", ".spectral.json", *failing, "document.json")
    assert ruled == ""


def generated_by_openapi_python_client(folder: Path) -> list[str]:
    """The program of Python, checked by mypy."""
    generate = [sys.executable, "-m", "openapi_python_client", "generate", "--meta", "none"]
    told = node.ran(folder, *generate, "--path", "document.json", "--output-path", "generated")
    assert "Unable to" not in told
    assert "Skipping" not in told.replace("Skipping Integration", "")
    modules = [
        str(module.relative_to(folder).with_suffix("")).replace("/", ".")
        for module in (folder / "generated").rglob("*.py")
    ]
    node.ran(folder, sys.executable, "-c", f"import {', '.join(modules)}")
    node.ran(folder, sys.executable, "-m", "mypy", "--strict", "program.py", "generated")
    return [sys.executable, "program.py"]


def generated_by_openapi_typescript(folder: Path) -> list[str]:
    """The program of TypeScript, compiled."""
    node.ran(folder, "openapi-typescript", "document.json", "--output", "document.ts")
    options = "--strict --noUncheckedIndexedAccess --module nodenext --target es2022"
    node.ran(folder, "tsc", *options.split(), "program.ts")
    return ["node", "main.mjs"]


@pytest.mark.parametrize(
    "generated", [generated_by_openapi_python_client, generated_by_openapi_typescript]
)
def test_a_generated_client_compiles_and_works(
    folder: Path, service: Service, generated: Callable[[Path], list[str]]
) -> None:
    """It creates, consumes, and is refused, with the types of each."""
    command = generated(folder)
    with httpx.Client(base_url=service.url, timeout=30) as http:
        person = enrol(http.post)
    jwt = person.headers["Authorization"].removeprefix("Bearer ")
    told = json.dumps({"url": service.url, "jwt": jwt, "issuer": person.correo})
    outcome = json.loads(node.ran(folder, *command, told=told))
    assert (outcome["room"], outcome["code"]) == (7, "token_already_used")
    since = datetime.datetime.fromisoformat(outcome["since"])
    assert abs(datetime.datetime.now(datetime.UTC) - since) < datetime.timedelta(minutes=1)
