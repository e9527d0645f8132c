"""docker-compose.yml and the Dockerfile: the confinement of each container.

No container is started. test_postgres_roles.py and test_redis_users.py test the contents of the
containers on real servers.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from config import Config
from settings.addresses import redis_servers
from tests.stage.compose import SECRETS, compose
from tests.stage.paths import ROOT
from tests.torture.deployed import APP, OWNER, REDIS_USER
from tests.torture.ledger import record

ORIGINS = "https://a.example, http://[::1]:3000"
# The entry point of Postgres begins as root: it gives the volume to its user, then drops to it.
BEGINS_AS_ROOT = {"db": {"CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"}}
Service = dict[str, Any]


def read(**settings: str) -> dict[str, Service]:
    """The services, as docker-compose reads them."""
    done = compose("config", "--format", "json", **(SECRETS | settings))
    assert done.returncode == 0, done.stderr
    found: dict[str, Service] = json.loads(done.stdout)["services"]
    return found


@pytest.fixture(scope="module")
def services() -> dict[str, Service]:
    return read()


@pytest.fixture(scope="module")
def dockerfile() -> str:
    return (ROOT / "Dockerfile").read_text(encoding="utf-8")


def weaknesses(name: str, service: Service, user_of_image: str) -> list[str]:
    """The freedoms that ``service`` leaves to a compromised process."""
    mounts = service.get("volumes", [])
    root = service.get("user", user_of_image).split(":")[0] in ("", "0", "root")
    demands = {
        "its file system is writable": service.get("read_only", False),
        "it keeps default capabilities": service.get("cap_drop") == ["ALL"],
        "it adds capabilities": set(service.get("cap_add", [])) <= BEGINS_AS_ROOT.get(name, set()),
        "it may gain privileges": "no-new-privileges:true" in service.get("security_opt", []),
        "it is privileged": not service.get("privileged", False),
        "it runs as root": not root or name in BEGINS_AS_ROOT,
        "it may take all memory": int(service.get("mem_limit", 0)) > 0,
        "it may start any number of processes": 0 < service.get("pids_limit", 0) <= 1000,
        "its log may fill the disk": "max-size" in service.get("logging", {}).get("options", {}),
        "it shares the host's network": service.get("network_mode", "") != "host",
        "it shares the host's processes": "pid" not in service,
        "it can write to the host": all(
            mount["type"] != "bind" or mount.get("read_only") for mount in mounts
        ),
        "it controls the engine": not any("docker.sock" in mount["source"] for mount in mounts),
        "it has no health check": service.get("restart") == "on-failure:5"  # It ends.
        or "test" in service.get("healthcheck", {})
        or "build" in service,
    }
    return [f"{name}: {weakness}" for weakness, met in demands.items() if not met]


def test_each_container_is_locked_down(services: dict[str, Service], dockerfile: str) -> None:
    """Guard: x-locked-down in docker-compose.yml; the service's image brings its own user."""
    [user] = re.findall(r"^USER (\S+)$", dockerfile, re.MULTILINE)
    found = [
        weakness
        for name, service in services.items()
        for weakness in weaknesses(name, service, user if "build" in service else "root")
    ]
    record(
        "Each container is read-only, bounded, unprivileged and without capabilities.",
        n=len(services),
        failures=len(found),
    )
    assert len(services) >= 4
    assert found == []
    assert len(weaknesses("bare", {"privileged": True, "network_mode": "host"}, "root")) >= 9


def test_only_the_service_is_reachable(services: dict[str, Service]) -> None:
    done = compose("config", "--format", "json", **SECRETS)
    assert json.loads(done.stdout)["networks"]["back"]["internal"]
    for name in ("db", "redis"):
        assert set(services[name]["networks"]) == {"back"}
        assert "ports" not in services[name]
    assert services["migrate"]["network_mode"] == "service:db"


def test_metrics_are_for_prometheus_alone(services: dict[str, Service], tmp_path: Path) -> None:
    """It is on a network with the app only, and its page is for this host. Nobody else is there."""
    watching = {name for name, one in services.items() if "watch" in (one.get("networks") or ())}
    assert watching == {"app", "prometheus"}
    prometheus = services["prometheus"]
    assert set(prometheus["networks"]) == {"watch"}
    assert [port["host_ip"] for port in prometheus["ports"]] == ["127.0.0.1"]
    assert set(services["app"]["networks"]) == {"front", "back", "watch"}
    ran, token = tmp_path / "prometheus", tmp_path / "token"
    ran.write_text("#!/bin/sh\necho $*\n")
    ran.chmod(0o755)
    [command] = prometheus["command"]
    script = command.replace("$$", "$").replace("/tmp/metrics_token", str(token))
    environment = prometheus["environment"] | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    sh = [*prometheus["entrypoint"], script]
    done = subprocess.run(sh, env=environment, capture_output=True, text=True, check=True)
    assert SECRETS["metrics_token"] not in done.stdout
    assert token.read_text() == SECRETS["metrics_token"]
    assert token.stat().st_mode & 0o077 == 0


def test_each_container_connects_with_the_least_privileges(services: dict[str, Service]) -> None:
    app, migrate = services["app"]["environment"], services["migrate"]["environment"]
    assert (app["db_user"], app["redis_user"]) == (APP, REDIS_USER)
    assert migrate == {
        **{name: value for name, value in app.items() if name != "trusted_proxies"},
        "owner_database_url": "",
    }


def migrated(tmp_path: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run the command of the service ``migrate`` with a ``flask`` that prints its database."""
    flask = tmp_path / "flask"
    flask.write_text('#!/bin/sh\necho "$* $database_url $db_user@$db_host:$db_port/$db_name"\n')
    flask.chmod(0o755)
    migrate = read(**settings)["migrate"]
    return subprocess.run(
        [word.replace("$$", "$") for word in migrate["command"]],
        env=migrate["environment"] | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_owner_migrates(tmp_path: Path) -> None:
    for settings, wanted in [
        ({}, f" {OWNER}@127.0.0.1:5432/token_service"),
        ({"db_port": "6000", "db_name": "x"}, f" {OWNER}@127.0.0.1:5432/x"),
        ({"database_url": "postgresql://a@h/x"}, f" {OWNER}@127.0.0.1:5432/token_service"),
        (
            {"owner_database_url": "postgresql://o:p@h/x"},
            f"postgresql://o:p@h/x {OWNER}@127.0.0.1:5432/token_service",
        ),
    ]:
        assert migrated(tmp_path, **settings).stdout == f"db upgrade {wanted}\n"


def test_every_setting_reaches_the_service() -> None:
    """A setting of config.py that the file does not pass on turns this red."""
    names = {field.name for field in dataclasses.fields(Config)}
    given = {name: f"the-{name}" for name in names}
    app = read(**given)["app"]["environment"]
    assert app == given | {"trusted_proxies": "1"}
    # Without a value the service has its own default, or that of the containers.
    config = Config.from_mapping(
        {
            name: value
            for name, value in read(secret_key="k" * 32)["app"]["environment"].items()
            if value  # As from_env does.
        }
    )
    redis = redis_servers(config.redis_address)["options"]
    assert (redis["username"], redis["password"]) == (REDIS_USER, SECRETS["redis_password"])
    assert (redis["host"], redis["port"], redis["db"]) == ("redis", 6379, 0)
    assert (config.db_host, config.db_port, config.web_threads) == ("db", 5432, 8)


def test_the_settings_of_the_seed_get_a_clear_answer(tmp_path: Path) -> None:
    """Its .env names the superuser, whom pg_hba.conf refuses from outside of the container."""
    seed = {
        "db_user": "postgres",
        "db_password": "postgres",
        "db_host": "db",
        "redis_host": "redis",
    }
    sample = compose("config", "--quiet", secret_key="k" * 32, **seed)
    assert sample.returncode != 0
    assert "redis_password is not set in .env" in sample.stderr
    assert "make .env" in sample.stderr

    for user, host, url, migrates in [
        ("postgres", "db", "", False),
        ("ana", "db", "", False),
        (APP, "db", "", True),
        ("", "", "", True),
        ("ana", "db.example.com", "", True),
        ("postgres", "db", "postgresql://ana@elsewhere/x", True),
    ]:
        done = migrated(tmp_path, db_user=user, db_host=host, database_url=url)
        assert (done.returncode == 0, done.stdout != "") == (migrates, migrates)
        assert migrates or done.stderr.startswith("db_user in .env is not token_service_app")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"ADDRESSES": "whole", "CORS_ORIGINS": "", "DEFAULT_LANGUAGE": "es"}),
        (
            {"cors_origins": ORIGINS, "language": "en", "log_addresses": "network"},
            {"ADDRESSES": "network", "CORS_ORIGINS": ORIGINS, "DEFAULT_LANGUAGE": "en"},
        ),
    ],
)
def test_proxy_has_the_settings_that_it_shares_with_the_service(
    given: dict[str, str], expected: dict[str, str]
) -> None:
    """The service has the whole .env."""
    done = compose("config", "--format", "json", **given, **SECRETS)
    environment = json.loads(done.stdout)["services"]["proxy"]["environment"]
    assert environment == expected


def test_every_mounted_file_exists(services: dict[str, Service]) -> None:
    for service in services.values():
        for mount in service.get("volumes", []):
            if mount["type"] == "bind":
                source = Path(mount["source"])
                files = [*source.iterdir()] if source.is_dir() else [source]
                assert files
                assert all(file.is_file() for file in files)


def test_no_secret_is_an_argument_or_has_a_default(services: dict[str, Service]) -> None:
    for service in services.values():
        words = json.dumps([service.get("command"), service.get("healthcheck")])
        assert not [secret for secret in SECRETS.values() if secret in words]
    for name in SECRETS:
        left = {other: value for other, value in SECRETS.items() if other != name}
        done = compose("config", "--quiet", **left)
        assert done.returncode != 0
        assert name in done.stderr


def test_images_are_named_by_version(services: dict[str, Service], dockerfile: str) -> None:
    """By tag and not by digest: a digest would also keep out the fixes of the distribution."""
    images = re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)
    images += [service["image"] for service in services.values() if "build" not in service]
    for image in images:
        assert re.search(r":v?[\d.]+", image), image


def test_nothing_but_the_program_gets_into_the_image(dockerfile: str) -> None:
    """Guard: .dockerignore, which begins by leaving everything out."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    let_in = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile, re.MULTILINE)
    assert {name for names in copied for name in names.split()} == let_in
    assert "--require-hashes" in dockerfile
