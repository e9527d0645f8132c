"""The blueprint /auth."""

from __future__ import annotations

from tokenservice.web.bodies import Blueprint

blueprint = Blueprint("auth", __name__, url_prefix="/auth", description="Accounts")
