"""docker-compose.yml, as podman-compose reads it: with the same values as docker-compose."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.stage.paths import ROOT
from tests.stage.programs import lacks

#: The oldest that Debian 12 has, and one that reads nested defaults; with the hash of each wheel.
VERSIONS = {
    "1.0.6": "48c92e6cdac1732422c6cfa803d8a905a61be4119dc0d41f9ed42c66826e9a78",
    "1.6.0": "98e48af25d44c10ecef948163bfcca002e32aa8bbb7e66593fbd4faff7270c30",
}
SEED = {"db_user": "postgres", "db_password": "postgres", "db_host": "db"}
REQUIRED = ("secret_key", "db_password", "redis_password")
AWKWARD = "p}a:?-\"w${rd}'$$ #x"
#: The answers of a podman without containers.
PODMAN = """#!/bin/sh
case "$1" in --version) echo podman version 4.3.1;; ps) echo '[]';; esac
"""


@pytest.fixture(scope="module", params=VERSIONS)
def podman_compose(request: pytest.FixtureRequest, tmp_path_factory: Any) -> list[str]:
    """The command of one version, installed into a folder of its own."""
    folder: Path = tmp_path_factory.mktemp("podman")
    wanted = folder / "wanted"
    wanted.write_text(f"podman-compose=={request.param} --hash=sha256:{VERSIONS[request.param]}\n")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    words = ["--no-deps", "--require-hashes", "--target", folder, "-r", wanted]
    done = subprocess.run([*pip, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        lacks(f"podman-compose {request.param} cannot be installed here")
    program = folder / "bin" / "podman"
    program.write_text(PODMAN)
    program.chmod(0o755)
    return [sys.executable, str(folder / "podman_compose.py")]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the file, and with what it mounts."""
    shutil.copy(ROOT / "docker-compose.yml", tmp_path)  # Beside the link there would be no .env.
    for name in ("Dockerfile", "deploy"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def run(
    command: list[str], project: Path, *words: str, **settings: str
) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(command[-1]).parent / "bin"), os.environ["PATH"]])
    return subprocess.run(
        [*command, "-f", "docker-compose.yml", *words],
        cwd=project,
        env={"PATH": path, "PYTHONPATH": str(Path(command[-1]).parent), **settings},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def by_docker(project: Path, **settings: str) -> dict[str, Any]:
    program = Path(sys.prefix, "bin", "docker-compose")
    if not program.exists():
        lacks("docker-compose is not installed")
    done = run([str(program)], project, "config", "--format", "json", **settings)
    assert done.returncode == 0, done.stderr
    return essence(json.loads(done.stdout.replace("$$", "$"))["services"])


def by_podman(command: list[str], project: Path, **settings: str) -> dict[str, Any]:
    done = run(command, project, "config", **settings)
    assert done.returncode == 0, done.stderr
    text = done.stdout[done.stdout.index("name: token-service") :]
    return essence(yaml.safe_load(text)["services"])


def essence(services: dict[str, Any]) -> dict[str, Any]:
    """What is passed on to each container."""
    return {
        name: {
            "environment": {
                key: str(value) for key, value in service.get("environment", {}).items()
            },
            "command": service.get("command"),
            "depends_on": sorted(service.get("depends_on", {})),
            "network_mode": service.get("network_mode"),
            "restart": service["restart"],
            "user": service.get("user"),
        }
        for name, service in services.items()
    }


@pytest.mark.slow
def test_both_read_the_same_settings(podman_compose: list[str], project: Path) -> None:
    """Guard: no default of docker-compose.yml holds another, and there is no env_file."""
    required = dict.fromkeys(REQUIRED, "the-value")
    for settings in (
        required,
        dict.fromkeys(REQUIRED, AWKWARD),
        {**required, **SEED},
        {**required, "redis_url": "rediss://a:b@c:1/2", "owner_database_url": "postgresql://o@h/x"},
        {
            **required,
            "db_name": "names",
            "redis_db": "3",
            "redis_user": "ana",
            "log_level": "debug",
        },
    ):
        assert by_podman(podman_compose, project, **settings) == by_docker(project, **settings)


@pytest.mark.slow
def test_both_read_the_same_env_file(podman_compose: list[str], project: Path) -> None:
    """With quotes, as the values with blanks in .env.example."""
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    for name in REQUIRED:
        text = text.replace(f"\n{name}=\n", f"\n{name}='the value of {name}'\n")
    (project / ".env").write_text(text.replace("\n#rate_limit", "\nrate_limit"))
    seen = by_podman(podman_compose, project)
    assert seen == by_docker(project)
    assert seen["app"]["environment"]["app_name"] == "Token Service API"
    assert seen["app"]["environment"]["rate_limit_login"] == "5 per minute"


@pytest.mark.slow
@pytest.mark.parametrize("missing", REQUIRED)
def test_a_missing_secret_is_named(missing: str, podman_compose: list[str], project: Path) -> None:
    given = {name: "the-value" for name in REQUIRED if name != missing}
    done = run(podman_compose, project, "config", **given)
    assert done.returncode != 0
    assert f"{missing} is not set in .env" in done.stderr


@pytest.mark.slow
def test_every_container_can_be_described(podman_compose: list[str], project: Path) -> None:
    """A file that is read may still be refused: an env_file in the long form was."""
    given = dict.fromkeys(REQUIRED, "the-value")
    verbose = ["--verbose"] * ("--verbose" in run(podman_compose, project, "--help").stdout)
    done = run(podman_compose, project, *verbose, "--dry-run", "up", "--build", "-d", **given)
    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr
    assert "Traceback" not in said
    for name in ("db", "redis", "migrate", "app", "proxy"):
        assert f"token-service_{name}_1" in said
    assert "${" not in said
