"""A deployment by the pages of docs/operations: their commands in one shell, as written."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import psycopg2
import redis
from dotenv import dotenv_values

import dev
from dev.postgres import find_postgres, unprivileged_account
from dev.server import BARE_ENVIRONMENT, free_port
from tests.docs.pages import FENCED, blocks, read
from tests.stage.paths import ROOT
from tests.stage.processes import ends
from tests.stage.programs import program
from tests.stage.topologies import port_of_a_node

#: The parts of the code that a deployment has, each as a link.
CODE = (
    *("tokenservice", "settings", "migrations", "deploy", "config.py", "wsgi.py"),
    *("gunicorn.conf.py", "Makefile", ".env.example"),
)
#: The pages' ports, and those of a cluster, whose nodes need a second one each.
PORTS, NODES = (6379, 6380, 8000, 8001, 8080, 8443), (7001, 7002, 7003)
#: What a machine of others needs: no limit for the callers, and patience.
QUIET = """
rate_limit_login=off
rate_limit_create=off
rate_limit_validate=off
redis_timeout_ms=5000
redis_connect_timeout_ms=5000
drain_seconds=2
web_concurrency=1
"""
#: Asked while another looks, a probe may not know; and a store of such a machine may be slow.
CURL = """
curl() {
  local answer
  for _ in {1..9}
  do
    answer=$(command curl "$@") || return
    case $answer in *'"unknown"'* | *'"unavailable"'*) command sleep 0.3 ;; *) break ;; esac
  done
  printf '%s\\n' "$answer"
}
"""
CONTAINERS = "\n## With containers\n"


def steps(page: str, heading: str = "") -> list[tuple[str, str]]:
    """The commands of a page, or of a section of it, each with the output shown below it."""
    text = read(f"docs/operations/{page}.md").partition(CONTAINERS)[0]
    if heading:
        [(level, text)] = re.findall(rf"^(#+) {heading}\n(.*)", text, re.MULTILINE | re.DOTALL)
        text = re.split(rf"^#{{1,{len(level)}}} ", text, maxsplit=1, flags=re.MULTILINE)[0]
    found = []
    for match in FENCED.finditer(text):
        language, block = match.groups()
        if language == "bash":
            below = FENCED.match(text, match.end() + len("\n\n"))
            found.append((block, below[2] if below and below[1] == "text" else ""))
    return found


def containers(page: str) -> list[str]:
    """The commands of a page for a deployment with containers."""
    return blocks(read(f"docs/operations/{page}.md").partition(CONTAINERS)[2], "bash")


def assert_shown(shown: str, output: str) -> None:
    """Compare an output with the one shown, in which "…" stands for anything."""
    parts = map(re.escape, shown.strip().split("…"))
    assert re.fullmatch(".*".join(parts), output.strip(), re.DOTALL), f"{output}\nnot\n{shown}"


class Shell:
    """A bash that runs blocks one after the other, and ends at the first that fails.

    :param more: keywords of ``subprocess.Popen``
    """

    def __init__(self, folder: Path, environment: Mapping[str, str], **more: Any) -> None:
        self._bash = subprocess.Popen(
            [program("bash"), "-eu"],
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
            start_new_session=True,
            **more,
        )

    def run(self, block: str) -> str:
        """The output of a block.

        :raises AssertionError: one of its commands failed
        """
        mark = secrets.token_hex(8)
        assert self._bash.stdin
        assert self._bash.stdout
        self._bash.stdin.write(f"{block}\nprintf '\\n{mark}\\n'\n")
        output = ""
        for line in self._bash.stdout:
            if line == f"{mark}\n":
                return output
            output += line
        raise AssertionError(f"{block}\nended with {self._bash.wait(20)}:\n{output}")

    def end(self) -> None:
        """End it and all that it started in the background."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._bash.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._bash.communicate(timeout=20)
                return


class Deployment:
    """The service, its proxy and its Redis, as the pages start them; a context manager.

    Ports differ from those of the pages, curl asks a probe again, and nothing else of the commands
    differs. Postgres stands there before, with a superuser that psql finds.
    """

    def __init__(self, folder: Path, postgres: dev.Postgres) -> None:
        self.folder = folder
        self._postgres = postgres
        self.ports = {port: free_port() for port in PORTS} | {5432: postgres.port}
        self.ports |= {node: port_of_a_node() for node in NODES}

    @property
    def url(self) -> str:
        return f"https://localhost:{self.ports[8443]}"

    @property
    def service(self) -> str:
        """The address of the service itself."""
        return f"http://127.0.0.1:{self.ports[8000]}"

    @property
    def authority(self) -> Path:
        return self.folder / "authority.pem"

    def __enter__(self) -> Self:
        environment = self._environment()
        place_code(self.folder)
        place_code(self.folder / "next")
        self.new_certificate()
        self.shell = Shell(self.folder, environment)
        self.shell.run(CURL)
        self.run("dropdb token_service")  # of the stage: the page creates its own
        return self

    def __exit__(self, *_: object) -> None:
        self.shell.end()
        for file in self.folder.glob("**/redis*.pid"):
            pid = int(file.read_text())
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            assert ends(pid, 20)

    def new_certificate(self) -> None:
        """Write a certificate for localhost where the pages expect it, signed by ``authority``."""
        made_by = ["-CA", "authority.pem", "-CAkey", "authority.key"]
        if not self.authority.exists():
            self._certify("authority", "authority.pem", "authority.key")
        self._certify("localhost", "fullchain.pem", "privkey.pem", *made_by)

    def _certify(self, name: str, certificate: str, key: str, *by: str) -> None:
        words = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        words += ["-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}", "-days", "1"]
        words += ["-out", certificate, "-keyout", key, *by]
        subprocess.run(
            [program("openssl"), *words], cwd=self.folder, check=True, capture_output=True
        )

    def follow(
        self, page: str, heading: str = "", since: int = 0, until: int | None = None
    ) -> None:
        """Run the steps of a page or of a section: each must end well and print what is shown."""
        for block, shown in steps(page, heading)[since:until]:
            output = self.run(block)
            if shown:
                assert_shown(self.ported(shown), output)

    def run(self, block: str) -> str:
        return self.shell.run(self.ported(block))

    def ported(self, text: str) -> str:
        return re.sub(
            r"\b(\d{4})\b", lambda found: str(self.ports.get(int(found[1]), found[1])), text
        )

    def settings(self) -> dict[str, str]:
        """Those of ``.env``."""
        return {key: value or "" for key, value in dotenv_values(self.folder / ".env").items()}

    def postgres(self, settings: dict[str, str]) -> psycopg2.extensions.connection:
        """A connection as the service has it with these settings."""
        return psycopg2.connect(
            host="127.0.0.1",
            port=self.ports[5432],
            user=settings["db_user"],
            password=settings["db_password"],
            dbname="token_service",
        )

    def redis(self, settings: dict[str, str]) -> redis.Redis:
        """A client as the service has it with these settings."""
        return redis.Redis(
            port=int(settings["redis_port"]),
            username="token_service",
            password=settings["redis_password"],
        )

    def quieten(self) -> None:
        """Give the settings the ports of the test, and no limits."""
        settings = self.folder / ".env"
        settings.write_text(self.ported(settings.read_text()) + QUIET)

    def _environment(self) -> dict[str, str]:
        places = [Path(dev.find_redis()).parent, find_postgres(unprivileged_account())[0]]
        path = os.pathsep.join([*map(str, places), os.environ["PATH"]])
        for name in ("curl", "haproxy", "make", "openssl", "redis-cli"):
            program(name, path)
        login = psycopg2.extensions.parse_dsn(self._postgres.url)
        return {
            **BARE_ENVIRONMENT,
            "PATH": path,
            "HOME": str(self.folder),
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.ports[5432]),
            "PGUSER": login["user"],
            "PGPASSWORD": login["password"],
            "PGDATABASE": "postgres",
            "BIND": f"127.0.0.1:{self.ports[8080]}",
            "BIND_TLS": f"127.0.0.1:{self.ports[8443]}",
            "INSIDE": f"127.0.0.1:{free_port()}",
            "CURL_CA_BUNDLE": str(self.authority),
        }


def place_code(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name in CODE:
        (folder / name).symlink_to(ROOT / name)
    (folder / ".venv").symlink_to(sys.prefix)


@contextlib.contextmanager
def deployment(folder: Path, postgres: dev.Postgres) -> Iterator[Deployment]:
    """A deployment by docs/operations/first-deployment.md, from the settings on.

    The packages are those of this environment: their installation takes half a minute.
    """
    with Deployment(folder, postgres) as made:
        made.follow("first-deployment", since=1, until=2)
        made.quieten()
        made.follow("first-deployment", since=2)
        yield made
