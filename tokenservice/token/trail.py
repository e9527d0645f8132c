"""The lines of a call that did something to a token: in the log, and in the audit trail."""

from __future__ import annotations

from typing import Any

from tokenservice.onetime.values import Named
from tokenservice.telemetry import audit, logs


def note(event: str, token: Named, **facts: Any) -> None:
    """Name the token of this call: its id in both lines, its terms in the trail alone."""
    logs.note(event, token_id=token.id, **facts)
    audit.note(purpose=token.purpose, issued_by=token.owner, issued_with=token.issued_with)
