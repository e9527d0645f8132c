"""The package of the Python client: its archives, and a program in an empty environment."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.clients.worlds import keyed
from tests.stage.paths import ROOT
from tests.stage.service import Service

SOURCE = ROOT / "clients/python"
PROGRAM = ROOT / "tests/clients/program.py"
NO_CACHE = ("--no-incremental", "--cache-dir", os.devnull)
WRONG = """
from token_service_client import Tokens

tokens = Tokens("http://localhost", key="osk_0")
tokens.create()
tokens.consume("ott_0", purpose="ws.connect")
tokens.consume("ott_0", issued_by="backend@example.com")
tokens.peek("ott_0")
tokens.hold("ott_0", purpose="file.download")
"""

pytestmark = pytest.mark.slow


def ran(*command: str | Path, told: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command that knows nothing of this repository."""
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [*map(str, command)],
        cwd="/",
        env=environment,
        input=told,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def done(*command: str | Path, told: str = "") -> str:
    finished = ran(*command, told=told)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel and the sdist, made from a copy."""
    folder = tmp_path_factory.mktemp("archives")
    ignored = shutil.ignore_patterns("__pycache__", "dist")
    shutil.copytree(SOURCE, folder / "python", ignore=ignored)
    # Without isolation, the backend is that of the lock and comes from no registry.
    build = (sys.executable, "-m", "build", "--no-isolation")
    done(*build, "--outdir", folder, folder / "python")
    return folder


def required(name: str) -> Iterator[str]:
    """A distribution that is installed here, and all that it requires."""
    yield name
    for text in metadata.requires(name) or []:
        requirement = Requirement(text)
        if not requirement.marker or requirement.marker.evaluate({"extra": ""}):
            yield from required(requirement.name)


@pytest.fixture(scope="module")
def python(archives: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the wheel and what it requires, without a registry."""
    folder = tmp_path_factory.mktemp("empty")
    venv.create(folder)
    python = folder / "bin/python"
    [wheel] = archives.glob("*.whl")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python)
    done(*pip, "install", "--no-index", "--no-deps", wheel)
    [packages] = folder.glob("lib/python*/site-packages")
    for name in {*required("httpx"), *required("anyio"), *required("rfc8785")}:
        for file in metadata.files(name) or []:
            if ".." not in file.parts:  # no program
                (packages / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file.locate(), packages / file)
    done(*pip, "check")
    return python


def test_the_archives_have_what_they_need(archives: Path) -> None:
    modules = {path.name for path in (SOURCE / "src/token_service_client").glob("*.py")}
    [wheel], [sdist] = archives.glob("*.whl"), archives.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as packed:
        names = set(packed.namelist())
        described = packed.read("token_service_client-0.1.0.dist-info/METADATA").decode()
    assert {f"token_service_client/{name}" for name in {*modules, "py.typed"}} <= names
    assert {name.partition("/")[0] for name in names} == {
        "token_service_client",
        "token_service_client-0.1.0.dist-info",
    }
    for line in ("Name: token-service-client", "License-Expression: MIT", "Provides-Extra: flask"):
        assert line in described
    with tarfile.open(sdist) as packed_source:
        found = {Path(name).name for name in packed_source.getnames()}
    assert {"README.md", "README.es.md", "LICENSE", "pyproject.toml", *modules} <= found


def test_the_installed_package_works(python: Path, service: Service) -> None:
    [(person, key)] = keyed(service, 1)
    told = json.dumps({"url": service.url, "key": key, "issuer": person.correo})
    outcome = json.loads(done(python, PROGRAM, told=told))
    assert (outcome["data"], outcome["code"]) == ({"room": 7}, "token_already_used")
    assert outcome["since"]


def test_the_core_needs_no_framework(python: Path) -> None:
    for missing in ("flask", "fastapi"):
        assert ran(python, "-c", f"import {missing}").returncode != 0
    done(python, "-c", "import token_service_client")


def test_the_types_of_the_installed_package_are_strict(python: Path, tmp_path: Path) -> None:
    """What is mandatory is so for the type checker too."""
    mypy = (sys.executable, "-m", "mypy", "--strict", *NO_CACHE, "--python-executable", python)
    done(*mypy, shutil.copy(PROGRAM, tmp_path))
    (tmp_path / "wrong.py").write_text(WRONG)
    lines = ran(*mypy, tmp_path / "wrong.py").stdout.splitlines()
    missing = [line for line in lines if "Missing named argument" in line]
    assert len(missing) == 5
    assert lines[-1].startswith("Found 5 errors")
