"""Redis and Postgres with the users, roles and settings of deploy/, on loopback."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg2
import redis

import dev
from dev.postgres import find_postgres, unprivileged_account
from dev.server import BARE_ENVIRONMENT
from tests.stage.paths import ROOT

DEPLOY = ROOT / "deploy"
REDIS_USER = "token_service"
OWNER, APP = "token_service_owner", "token_service_app"


def acl(*files: str) -> dict[str, list[str]]:
    """The rules of each user in these files of deploy/redis."""
    lines = [line.split() for file in files for line in read(f"redis/{file}").splitlines()]
    return {user: rules for _, user, *rules in lines}


def read(path: str) -> str:
    return (DEPLOY / path).read_text(encoding="utf-8")


class Redis(dev.Redis):
    """A Redis started by deploy/redis/start.sh, as in the container."""

    @property
    def url(self) -> str:
        return f"redis://{REDIS_USER}:{self.password}@127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        here = ["--bind", "127.0.0.1", "--port", str(self.port)]
        return ["/bin/sh", str(DEPLOY / "redis" / "start.sh"), *here]

    def options(self) -> dict[str, Any]:
        path = os.pathsep.join([str(Path(dev.find_redis()).parent), BARE_ENVIRONMENT["PATH"]])
        secret = {"REDISCLI_AUTH": self.password}
        return {"cwd": self.directory, "env": {**BARE_ENVIRONMENT, **secret, "PATH": path}}

    def responds(self) -> bool:
        with contextlib.suppress(redis.RedisError):
            return bool(redis.Redis.from_url(self.url).info("server"))
        return False


class Postgres(dev.Postgres):
    """A Postgres whose database ``deployed`` has the roles of deploy/postgres, and its pg_hba.conf.

    The superuser, which uses the socket in the container, is that of ``dev.Postgres`` here, with
    one more line in pg_hba.conf.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, durable=False)
        self.app_password = secrets.token_urlsafe(24)

    def prepare(self) -> None:
        super().prepare()
        # Among its data: the user of Postgres may have no access to the folder of the tests.
        superuser = "host all token_service 127.0.0.1/32 scram-sha-256\n"
        self._hba = self._data / "deployed_hba.conf"
        self._hba.write_text(superuser + read("postgres/pg_hba.conf"), encoding="utf-8")
        self._hba.chmod(0o644)

    def command(self) -> list[str]:
        return [*super().command(), f"--hba_file={self._hba}"]

    def __enter__(self) -> Postgres:
        super().__enter__()
        with contextlib.closing(psycopg2.connect(self.url)) as connection:
            connection.autocommit = True
            connection.cursor().execute("CREATE DATABASE deployed")
        self.run_roles()
        return self

    def run_roles(self) -> None:
        """Run roles.sql with psql, as the entry point of the image does."""
        psql = find_postgres(unprivileged_account())[0] / "psql"
        server = urlsplit(self.url)
        environment = {
            **BARE_ENVIRONMENT,
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.port),
            "PGDATABASE": "deployed",
            "PGUSER": str(server.username),
            "PGPASSWORD": str(server.password),
            "db_password": self.app_password,
        }
        done = subprocess.run(
            [psql, "-X", "-v", "ON_ERROR_STOP=1", "-f", DEPLOY / "postgres" / "roles.sql"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def url_of(self, role: str) -> str:
        """The URL of ``role``; only the application's role has a password."""
        login = f"{role}:{self.app_password}" if role == APP else role
        return f"postgresql://{login}@127.0.0.1:{self.port}/deployed"

    @property
    def superuser_url(self) -> str:
        return self.url.rpartition("/")[0] + "/deployed"
