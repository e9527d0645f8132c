"""Real servers for a machine that has none: for ``make run``, the tests and the benchmarks.

Knows nothing of the service, and needs only the standard library.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from dev.postgres import Postgres
from dev.redis import Redis, find_redis
from dev.server import CannotStart, Server

__all__ = ["CannotStart", "Postgres", "Redis", "Server", "find_redis", "given", "servers"]


@contextlib.contextmanager
def servers(directory: Path, throwaway: bool) -> Iterator[dict[str, str]]:
    """Run a Postgres and a Redis for as long as the ``with`` lasts.

    One that the environment or ``.env`` already names is used as it is, and not started.

    :param throwaway: whether the data may be lost when the machine goes down
    :returns: the settings ``database_url`` and ``redis_url``
    :raises CannotStart: with a sentence for the person at the terminal
    """
    with contextlib.ExitStack() as running:
        settings = {
            "database_url": given("database_url"),
            "redis_url": given("redis_url"),
        }
        if not settings["database_url"]:
            postgres = Postgres(directory, durable=not throwaway)
            settings["database_url"] = running.enter_context(postgres).url
        if not settings["redis_url"]:
            settings["redis_url"] = running.enter_context(Redis(directory)).url
        yield settings


def given(name: str, env_file: Path = Path(".env")) -> str:
    """The value of a setting in the environment or else in ``.env``, by either case; or ""."""
    for key in (name, name.upper()):
        if value := os.environ.get(key):
            return value
    if not env_file.exists():
        return ""
    line = rf"^\s*(?:export\s+)?(?i:{name})\s*=[ \t]*('[^']*'|\"[^\"]*\"|[^#\s]*)"
    values: list[str] = re.findall(line, env_file.read_text(errors="replace"), re.MULTILINE)
    return values[-1].strip("'\"") if values else ""
