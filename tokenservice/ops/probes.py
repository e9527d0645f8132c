"""Probes of health and readiness, and the metrics page."""

from __future__ import annotations

import hmac
import math
import os
import re
import threading
import time
from pathlib import Path
from typing import Any

from alembic.script import ScriptDirectory
from flask import Flask, Response, request
from prometheus_client import CONTENT_TYPE_LATEST
from sqlalchemy import exc as database
from sqlalchemy import text

from tokenservice.extensions import config, db, part, tokens
from tokenservice.onetime.errors import StoreUnavailable
from tokenservice.ops.blueprint import blueprint
from tokenservice.postgres.breaker import breaker
from tokenservice.telemetry import metrics
from tokenservice.telemetry.logs import quiet
from tokenservice.web import addresses
from tokenservice.web.problems import RETRY_SOON, Problem
from tokenservice.web.views import public

FORWARDED = {"Forwarded", "X-Forwarded-For"}
#: The age up to which a look at the stores is reported without a new one.
LOOK_AGAIN_SECONDS = 0.25
#: The age up to which it is reported while another request looks: the longest that a look takes.
OLD_SECONDS = 1.25
#: The duration of a look from which requests without a recent one stop waiting for it.
LONG_LOOK_SECONDS = 0.1
UNKNOWN = dict.fromkeys(("postgres", "schema", "redis"), "unknown")


@blueprint.route("/healthz")
@public
@quiet
def healthz() -> dict[str, str]:
    """The process is alive; nothing else is checked."""
    return {"status": "alive"}


@blueprint.route("/readyz")
@public
@quiet
def readyz() -> dict[str, Any]:
    """Name each part and its state; the cause of a failure is for the log alone."""
    if is_stopping():
        raise Problem("not_ready", headers=RETRY_SOON, checks={"service": "stopping"})
    checks = readiness.checks()
    if set(checks.values()) != {"ok"}:
        raise Problem("not_ready", headers=RETRY_SOON, checks=checks)
    return {"status": "ready", "checks": checks}


@blueprint.route("/metrics", endpoint="metrics")
@public
@quiet
def metrics_page() -> Response:
    """Open to the bearer of ``metrics_token`` where one is set, else to loopback only."""
    if config.metrics_token:
        given = request.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {config.metrics_token}".encode()):
            raise Problem("not_authenticated")
    elif not is_local():
        raise Problem("forbidden")
    return Response(metrics.exposition(), content_type=CONTENT_TYPE_LATEST)


def is_local() -> bool:
    """Tell whether the client is on this host."""
    address = addresses.of_client()
    # Behind a proxy on this host every client looks like loopback.
    is_forwarded = FORWARDED & set(request.headers.keys())
    return address is not None and address.is_loopback and not is_forwarded


def is_stopping() -> bool:
    """Tell whether gunicorn was told to stop; gunicorn.conf.py then removes this file."""
    directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    return directory is not None and not Path(directory, "accepting").exists()


class Readiness:
    """The state of the stores a moment ago.

    One request looks at a time, and the others report its last look: a store that hangs holds one
    thread, however many probes come.
    """

    def __init__(self, app: Flask) -> None:
        scripts = ScriptDirectory(app.extensions["migrate"].directory)
        self._heads = set(scripts.get_heads())
        self._looking = threading.Lock()
        self._began_at = self._seen_at = -math.inf
        self._seen = UNKNOWN

    def checks(self) -> dict[str, str]:
        """The state of each part by its name."""
        now = time.monotonic()
        age = now - self._seen_at
        if age < LOOK_AGAIN_SECONDS:
            return self._seen
        if self._looking.acquire(timeout=self._patience(now) if age > OLD_SECONDS else 0):
            try:
                if now > self._seen_at + LOOK_AGAIN_SECONDS:  # No other request looked meanwhile.
                    self._began_at = now
                    self._seen = {**check_postgres(self._heads), "redis": check_redis()}
                    self._seen_at = time.monotonic()
            finally:
                self._looking.release()
        elif age > OLD_SECONDS:
            return UNKNOWN
        return self._seen

    def _patience(self, now: float) -> float:
        """The seconds to wait for the look under way: until it takes longer than it should."""
        taken = now - self._began_at
        return max(0.0, LONG_LOOK_SECONDS - taken if taken < OLD_SECONDS else LONG_LOOK_SECONDS)


readiness = part(Readiness)


def check_postgres(heads: set[str]) -> dict[str, str]:
    """Postgres responds, takes writes, and has the schema of this code."""
    try:
        with db.engine.connect() as connection:
            read_only = connection.scalar(text("SHOW transaction_read_only")) == "on"
            found = set(connection.scalars(text("SELECT version_num FROM alembic_version")))
    except database.ProgrammingError:
        return {"postgres": "ok", "schema": "not at head"}
    except database.SQLAlchemyError as error:
        breaker.learn(error)
        return {"postgres": "unavailable", "schema": "unknown"}
    if read_only:
        # The pool may hold connections to a standby while the name already leads to the new
        # primary. A write would notice, but an instance that is not ready gets none.
        db.engine.dispose()
    return {
        "postgres": "read-only" if read_only else "ok",
        "schema": "ok" if found == heads else "not at head",
    }


def check_redis() -> str:
    """Redis is a master that evicts nothing and runs every command of the engine.

    An evicted token is only refused, but an evicted counter is a limit that does not hold.
    """
    try:
        masters = tokens.masters()
    except StoreUnavailable:
        return "unavailable"
    for info in masters:
        if info.get("role") != "master" or info.get("loading"):
            return "not a master"
        # What a server does not say is not taken for granted.
        if info.get("maxmemory") != 0 and info.get("maxmemory_policy") != "noeviction":
            return "evicts keys"
    try:
        tokens.probe()
    except StoreUnavailable as error:
        return "full" if re.search("OOM|OutOfMemory", str(error)) else "unavailable"
    return "ok"
