"""For operators and readers: probes, metrics, the API's description and its pages."""

from __future__ import annotations

import hmac
import json
import math
import os
import re
import threading
import time
from importlib import resources
from pathlib import Path
from typing import Any

from alembic.script import ScriptDirectory
from flask import (
    Blueprint,
    Flask,
    Response,
    current_app,
    redirect,
    render_template,
    request,
    send_from_directory,
    url_for,
)
from prometheus_client import CONTENT_TYPE_LATEST
from sqlalchemy import exc as database
from sqlalchemy import text
from werkzeug import Response as AnyResponse

from tokenservice.extensions import breaker, config, db, tokens
from tokenservice.onetime.errors import StoreUnavailable
from tokenservice.telemetry import metrics
from tokenservice.web import texts
from tokenservice.web.problems import RETRY_SOON, Problem

blueprint = Blueprint("ops", __name__)

LOOPBACK = {"127.0.0.1", "::1"}
FORWARDED = {"Forwarded", "X-Forwarded-For"}
SWAGGER_UI = Path(str(resources.files("flask_swagger_ui"))) / "dist"
#: How long what /readyz saw is good for.
LOOK_AGAIN_SECONDS = 0.25
#: How long it is told to others while one request looks again: as long as that may take.
OLD_SECONDS = 1.25
#: How long a look may have taken before requests with nothing else to tell stop waiting for it.
LONG_LOOK_SECONDS = 0.1
UNKNOWN = dict.fromkeys(("postgres", "schema", "redis"), "unknown")
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)


@blueprint.route("/")
def home() -> AnyResponse:
    if not config.docs_enabled:
        raise Problem("not_found")
    return redirect(url_for("ops.docs"))


@blueprint.route("/healthz")
def healthz() -> dict[str, str]:
    """The process is alive; nothing else is asked."""
    return {"status": "alive"}


@blueprint.route("/readyz")
def readyz() -> dict[str, Any]:
    """Name each part and whether it serves; why it does not is for the log alone."""
    if is_stopping():
        raise Problem("not_ready", headers=RETRY_SOON, checks={"service": "stopping"})
    look: Look = current_app.extensions["look"]
    checks = look.checks()
    if set(checks.values()) != {"ok"}:
        raise Problem("not_ready", headers=RETRY_SOON, checks=checks)
    return {"status": "ready", "checks": checks}


def is_stopping() -> bool:
    """Tell whether gunicorn was told to stop; gunicorn.conf.py then removes this file."""
    directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    return directory is not None and not Path(directory, "accepting").exists()


class Look:
    """What was seen of the stores a moment ago.

    One request looks at a time, and the others are told what was seen last. So a store that hangs
    holds one thread, however many ask.
    """

    def __init__(self) -> None:
        self._looking = threading.Lock()
        self._began_at = self._seen_at = -math.inf
        self._seen = UNKNOWN

    def checks(self) -> dict[str, str]:
        """Name each part, and whether it serves."""
        now = time.monotonic()
        age = now - self._seen_at
        if age < LOOK_AGAIN_SECONDS:
            return self._seen
        if self._looking.acquire(timeout=self._patience(now) if age > OLD_SECONDS else 0):
            try:
                if now > self._seen_at + LOOK_AGAIN_SECONDS:  # Nobody has looked meanwhile.
                    self._began_at = now
                    self._seen = {**check_postgres(), "redis": check_redis()}
                    self._seen_at = time.monotonic()
            finally:
                self._looking.release()
        elif age > OLD_SECONDS:
            return UNKNOWN
        return self._seen

    def _patience(self, now: float) -> float:
        """How long to wait for a look that is under way: until it takes longer than it should."""
        taken = now - self._began_at
        return max(0.0, LONG_LOOK_SECONDS - taken if taken < OLD_SECONDS else LONG_LOOK_SECONDS)


def check_postgres() -> dict[str, str]:
    """Postgres answers, takes writes, and has the schema that this code was written for."""
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
        # A standby that our connections hold on to, perhaps, while the name of Postgres leads to
        # the new primary. A write would find out; but who is not ready is sent none.
        db.engine.dispose()
    at_head = found == current_app.extensions["schema_heads"]
    return {
        "postgres": "read-only" if read_only else "ok",
        "schema": "ok" if at_head else "not at head",
    }


def check_redis() -> str:
    """Redis is a master that evicts nothing, and takes each command that a token call needs.

    An evicted token is only refused, but an evicted counter is a limit that does not hold.
    """
    try:
        masters = current_app.extensions["redis"].info()
    except StoreUnavailable:
        return "unavailable"
    for info in masters:
        if info["role"] != "master" or info["loading"]:
            return "not a master"
        if info["maxmemory"] and info["maxmemory_policy"] != "noeviction":
            return "evicts keys"
    try:
        tokens.probe()
    except StoreUnavailable as error:
        return "full" if re.search("OOM|OutOfMemory", str(error)) else "unavailable"
    return "ok"


@blueprint.route("/metrics", endpoint="metrics")
def metrics_page() -> Response:
    """Open to the bearer of ``metrics_token`` where one is set, else to loopback only."""
    if config.metrics_token:
        given = request.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {config.metrics_token}".encode()):
            raise Problem("not_authenticated")
    elif request.remote_addr not in LOOPBACK or FORWARDED & set(request.headers.keys()):
        # A proxy on this host makes the whole world look like loopback.
        raise Problem("forbidden")
    return Response(metrics.exposition(), content_type=CONTENT_TYPE_LATEST)


@blueprint.route("/openapi.json")
def openapi() -> Response:
    return Response(current_app.extensions["openapi"], mimetype="application/json")


@blueprint.route("/docs")
def docs() -> Response:
    if not config.docs_enabled:
        raise Problem("not_found")
    return page("docs.html", title=config.app_name)


@blueprint.route("/docs/assets/<path:name>")
def docs_asset(name: str) -> Response:
    """Swagger UI's own files, from its wheel: no network is needed to read the docs."""
    if not config.docs_enabled:
        raise Problem("not_found")
    response = send_from_directory(SWAGGER_UI, name, conditional=False)
    response.headers["Cache-Control"] = "public, max-age=86400"
    return response


@blueprint.route("/problems/<code>")
def problem(code: str) -> Response:
    """Explain one problem code, in the reader's language."""
    if code not in texts.PROBLEMS:
        raise Problem("not_found")
    language = texts.language()
    found = texts.PROBLEMS[code]
    response = page(
        "problem.html",
        code=code,
        status=found.status,
        language=language,
        text=texts.problem_text(code, language),
    )
    response.headers["Content-Language"] = language
    response.vary.add("Accept-Language")
    return response


def page(template: str, **values: Any) -> Response:
    response = Response(render_template(template, **values))
    response.headers["Content-Security-Policy"] = PAGE_POLICY
    return response


def init_app(app: Flask, description: dict[str, Any]) -> None:
    """Register the pages; ``description`` is the API's OpenAPI document."""
    app.register_blueprint(blueprint)
    app.extensions["look"] = Look()
    app.extensions["openapi"] = json.dumps(description, ensure_ascii=False)
    scripts = ScriptDirectory(app.extensions["migrate"].directory)
    app.extensions["schema_heads"] = set(scripts.get_heads())
