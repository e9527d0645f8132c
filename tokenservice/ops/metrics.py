"""The metrics page."""

from __future__ import annotations

import hmac

from flask import Response, request
from prometheus_client import CONTENT_TYPE_LATEST

from tokenservice.extensions import config
from tokenservice.ops.blueprint import blueprint
from tokenservice.ops.gauges import gauges
from tokenservice.telemetry.exposition import exposition
from tokenservice.telemetry.logs import quiet
from tokenservice.telemetry.processes import Processes
from tokenservice.web import addresses
from tokenservice.web.problems import Problem
from tokenservice.web.schemas import TEXT
from tokenservice.web.views import operation, public

FORWARDED = {"Forwarded", "X-Forwarded-For"}


@blueprint.route("/metrics", endpoint="metrics")
@public
@quiet
@blueprint.response(200, TEXT, content_type="text/plain")
@operation("metrics", "not_authenticated", "forbidden")
def metrics_page() -> Response:
    """Read the metrics, in the format of Prometheus

    Open to the bearer of ``metrics_token`` where one is set, else to loopback only.
    """
    if config.metrics_token:
        given = request.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {config.metrics_token}".encode()):
            raise Problem("not_authenticated")
    elif not is_local():
        raise Problem("forbidden")
    sources = gauges, Processes()
    page = exposition(sources, old_names=config.metrics_old_names)
    return Response(page, content_type=CONTENT_TYPE_LATEST)


def is_local() -> bool:
    """Tell whether the client is on this host."""
    address = addresses.of_client()
    # Behind a proxy on this host every client looks like loopback.
    is_forwarded = FORWARDED & set(request.headers.keys())
    return address is not None and address.is_loopback and not is_forwarded
