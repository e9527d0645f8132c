"""The programs that some tests need, and the skip or failure where one is missing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Sequence
from typing import NoReturn

import pytest

from dev import find_redis
from dev.postgres import find_postgres, unprivileged_account
from tests.stage.paths import ROOT

#: Set where nothing may be missing: a test that would be skipped then fails.
COMPLETE = "COMPLETE_MACHINE" in os.environ
#: The programs besides Postgres and Redis, and the Debian package of each.
PACKAGES = {
    "apache2": "apache2-bin",
    "bash": "bash",
    "caddy": "caddy",
    "chromium": "chromium",
    "curl": "curl",
    "faketime": "faketime",
    "git": "git",
    "haproxy": "haproxy",
    "ip": "iproute2",
    "lua-socket": "lua-socket",
    "make": "make",
    "nginx": "nginx-light",
    "node": "nodejs",
    "npm": "npm",
    "openssl": "openssl",
    "pgbouncer": "pgbouncer",
    "prometheus": "prometheus",
    "redis-cli": "redis-tools",
}
#: The programs that .ci/servers unpacks from wheels, because Debian lacks them.
UNPACKED = {"envoy", "traefik"}
MISSING = " is not installed"


def needs(present: object, reason: str) -> pytest.MarkDecorator:
    """Skip where the machine lacks something."""
    return pytest.mark.skipif(not (present or COMPLETE), reason=reason)


def lacks(reason: str) -> NoReturn:
    """Skip the running test, or fail it where nothing may be missing."""
    (pytest.fail if COMPLETE else pytest.skip)(reason)


def needs_program(name: str) -> pytest.MarkDecorator:
    """Skip where a program of ``PACKAGES`` is missing."""
    assert name in PACKAGES
    return needs(shutil.which(name), name + MISSING)


def program(name: str, path: str | None = None) -> str:
    """The path of a program of ``PACKAGES`` or ``UNPACKED``, for a test that is running.

    :param path: where it is looked for, in place of ``PATH``
    """
    folder = ROOT / ".venv" / "servers" / "proxies" if name in UNPACKED else path
    return shutil.which(name, path=folder) or lacks_program(name)


def docker() -> str:
    """The path of the client of Docker, which no machine has to have: it is not in Debian."""
    return shutil.which("docker") or pytest.skip("the client of Docker is not installed")


def lacks_program(name: str) -> NoReturn:
    assert name in PACKAGES or name in UNPACKED
    lacks(name + MISSING)


def servers() -> str:
    """The servers that the tests run on, with their versions and places."""
    redis = find_redis()
    said = subprocess.run([redis, "--version"], capture_output=True, text=True, check=True).stdout
    version = re.search(r"v=([\d.]+)", said)
    folder, postgres = find_postgres(unprivileged_account())
    name = "Valkey" if said.startswith("Valkey") else "Redis"
    found = version[1] if version else "of an unknown version"
    return f"Servers: {name} {found} ({redis}), PostgreSQL {postgres} ({folder})."


def summary(reasons: Sequence[str]) -> str:
    """The number of skipped tests, and the programs that they lack.

    :param reasons: of each test that was skipped
    """
    wanted = [reason.removesuffix(MISSING) for reason in reasons if reason.endswith(MISSING)]
    count = Counter(name for name in wanted if name in PACKAGES or name in UNPACKED)
    lines = [f"{len(reasons)} test{'s were' if len(reasons) > 1 else ' was'} skipped."]
    if count:
        names = ", ".join(f"{name} ({number})" for name, number in count.most_common())
        packages = sorted(PACKAGES[name] for name in count if name in PACKAGES)
        ways = [f"apt-get install {' '.join(packages)}"] if packages else []
        if UNPACKED & set(count):
            ways.append(".ci/servers")
        lines.append(f"Not installed: {names}. On Debian: {'; '.join(ways)}")
    if others := len(reasons) - count.total():
        lines.append(f"For other reasons, listed above: {others}.")
    return "\n".join(lines) if reasons else ""
