"""The blueprint of the probes and the pages."""

from __future__ import annotations

from flask import Blueprint

blueprint = Blueprint("ops", __name__, template_folder="templates")
