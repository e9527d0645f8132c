"""The blueprints of /token. Reservations keep a name of their own, which metrics and logs carry."""

from __future__ import annotations

from tokenservice.web import bodies
from tokenservice.web.plans import Blueprint

blueprint = Blueprint("token", __name__, url_prefix="/token", description="One-time tokens")
#: Its errors are for proxies.
gate = bodies.Blueprint("gate", __name__, url_prefix="/token", description="The gate of a proxy")
reservations = Blueprint(
    "lease", __name__, url_prefix="/token", description="Reservations of tokens"
)
