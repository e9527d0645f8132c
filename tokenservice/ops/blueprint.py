"""The blueprint of the probes and the pages."""

from __future__ import annotations

from tokenservice.web.bodies import Blueprint

blueprint = Blueprint(
    "ops", __name__, template_folder="templates", description="Probes, metrics and pages"
)
