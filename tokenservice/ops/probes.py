"""Probes of health and readiness."""

from __future__ import annotations

import math
import os
import re
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import exc as database
from sqlalchemy import text

from tokenservice.extensions import db, part, tokens
from tokenservice.onetime.errors import StoreUnavailable
from tokenservice.ops.blueprint import blueprint
from tokenservice.ops.schemas import HealthResponse, ReadinessResponse
from tokenservice.postgres import schema
from tokenservice.postgres.breaker import breaker
from tokenservice.telemetry.failures import kind
from tokenservice.telemetry.logs import log, quiet
from tokenservice.web.problems import RETRY_SOON, Problem
from tokenservice.web.views import operation, public

#: The age up to which a look at a store is reported without a new one.
LOOK_AGAIN_SECONDS = 0.25
#: The age up to which it is reported while another request looks: the longest that a look takes.
OLD_SECONDS = 1.25
#: The duration of a look from which requests without a recent one stop waiting for it.
LONG_LOOK_SECONDS = 0.1
UNKNOWN = "unknown"
#: The states in which a store serves some calls, and those that raise no alarm.
SERVING = {"ok", "read-only", "full", "evicts keys"}
RIGHT = {schema.OK, schema.NEWER}
Checks = dict[str, str]


@blueprint.route("/healthz")
@public
@quiet
@blueprint.response(200, HealthResponse())
@operation("healthz")
def healthz() -> dict[str, str]:
    """Tell that the process is alive

    Nothing else is checked.
    """
    return {"status": "alive"}


@blueprint.route("/readyz")
@public
@quiet
@blueprint.response(200, ReadinessResponse())
@operation("readyz", "not_ready")
def readyz() -> dict[str, Any]:
    """Tell whether to send requests here

    One store alone serves much, and all instances miss it alike.

    The response names each part and its state; the cause of a failure is for the log alone.
    """
    checks, is_ready = judged()
    return report(checks, ready=is_ready)


def judged() -> tuple[Checks, bool]:
    """The state of each part, and whether this instance is ready."""
    if is_stopping():
        return {"service": "stopping"}, False
    looks = (readiness.postgres, readiness.redis)
    checks = {name: state for look in looks for name, state in look.checks().items()}
    # While another request looks, its last look decides, however old.
    postgres, redis = (look.last for look in looks)
    serves = postgres["postgres"] in SERVING or redis["redis"] in SERVING
    return checks, serves and postgres["schema"] != schema.NOT_AT_HEAD


@blueprint.route("/readyz/postgres")
@public
@quiet
@blueprint.response(200, ReadinessResponse())
@operation("readyzPostgres", "not_ready")
def readyz_postgres() -> dict[str, Any]:
    """Tell whether Postgres is as it should be

    For the alarm about it.
    """
    return report(checks := readiness.postgres.checks(), ready=are_right(checks))


@blueprint.route("/readyz/redis")
@public
@quiet
@blueprint.response(200, ReadinessResponse())
@operation("readyzRedis", "not_ready")
def readyz_redis() -> dict[str, Any]:
    """Tell whether Redis is as it should be

    For the alarm about it.
    """
    return report(checks := readiness.redis.checks(), ready=are_right(checks))


def report(checks: Checks, *, ready: bool) -> dict[str, Any]:
    if not ready:
        raise Problem("not_ready", headers=RETRY_SOON, checks=checks)
    return {"status": "ready", "checks": checks}


def are_right(checks: Checks) -> bool:
    return set(checks.values()) <= RIGHT


def is_stopping() -> bool:
    """Tell whether gunicorn was told to stop; gunicorn.conf.py then removes this file."""
    directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    return directory is not None and not Path(directory, "accepting").exists()


class Look:
    """The state of one store a moment ago.

    One request looks at a time, and the others report its last look: a store that hangs holds one
    thread, however many probes come.

    :param check: looks, and returns the state of each part and the kind of failure, or ""
    :ivar last: the last look, however old
    """

    def __init__(self, check: Callable[[], tuple[Checks, str]], *parts: str) -> None:
        self._check = check
        self._looking = threading.Lock()
        self._began_at = self._seen_at = -math.inf
        self._unknown = self.last = dict.fromkeys(parts, UNKNOWN)
        self._logged = (dict.fromkeys(parts, "ok"), "")

    def checks(self) -> Checks:
        """The state of each part by its name."""
        now = time.monotonic()
        age = now - self._seen_at
        if age < LOOK_AGAIN_SECONDS:
            return self.last
        if self._looking.acquire(timeout=self._patience(now) if age > OLD_SECONDS else 0):
            try:
                if now > self._seen_at + LOOK_AGAIN_SECONDS:  # No other request looked meanwhile.
                    self._began_at = now
                    self.last, why = self._check()
                    self._seen_at = time.monotonic()
                    self._log(self.last, why)
            finally:
                self._looking.release()
        elif age > OLD_SECONDS:
            return self._unknown
        return self.last

    def _patience(self, now: float) -> float:
        """The seconds to wait for the look under way: until it takes longer than it should."""
        taken = now - self._began_at
        return max(0.0, LONG_LOOK_SECONDS - taken if taken < OLD_SECONDS else LONG_LOOK_SECONDS)

    def _log(self, checks: Checks, why: str) -> None:
        """Write a line when the state or its cause differs from the line before."""
        if (checks, why) != self._logged:
            self._logged = (checks, why)
            write = log.info if are_right(checks) else log.warning
            write("readiness.changed", **checks, **({"why": why} if why else {}))


class Readiness:
    """The looks at the stores. They are apart, so that a store that hangs delays no other's.

    :ivar masters: INFO of each master of Redis, at the last look
    """

    masters: Sequence[dict[str, Any]] = ()

    def __init__(self) -> None:
        self.postgres = Look(partial(check_postgres, schema.head()), "postgres", "schema")
        self.redis = Look(check_redis, "redis")


readiness = part(Readiness)


def check_postgres(head: str) -> tuple[Checks, str]:
    """Postgres responds, takes writes, and has the schema of this code or a newer one."""
    try:
        with db.engine.connect() as connection:
            read_only = connection.scalar(text("SHOW transaction_read_only")) == "on"
            found = connection.scalars(text("SELECT version_num FROM alembic_version")).all()
            state = schema.compare(connection, found, head)
    except database.ProgrammingError as error:
        return {"postgres": "ok", "schema": schema.NOT_AT_HEAD}, kind(error)
    except database.SQLAlchemyError as error:
        breaker.learn(error)
        return {"postgres": "unavailable", "schema": UNKNOWN}, kind(error)
    if read_only:
        # The pool may hold connections to a standby while the name already leads to the new
        # primary. A write would notice, but nobody may write for long.
        db.engine.dispose()
    return {"postgres": "read-only" if read_only else "ok", "schema": state}, ""


def check_redis() -> tuple[Checks, str]:
    try:
        return {"redis": state_of_redis()}, ""
    except StoreUnavailable as error:
        return {"redis": "unavailable"}, kind(error)


def state_of_redis() -> str:
    """Redis is a master that evicts nothing and runs every command of the engine.

    An evicted token is only refused, but an evicted counter is a limit that does not hold.
    """
    readiness.masters = tokens.masters()
    for info in readiness.masters:
        if info.get("role") != "master" or info.get("loading"):
            return "not a master"
        # What a server does not say is not taken for granted.
        if info.get("maxmemory") != 0 and info.get("maxmemory_policy") != "noeviction":
            return "evicts keys"
    try:
        tokens.probe()
    except StoreUnavailable as error:
        if re.search("OOM|OutOfMemory", str(error)):
            return "full"
        raise
    return "ok"
