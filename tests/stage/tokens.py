"""The fields and the forms of tokens in responses."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from tokenservice.onetime.format import Token

ACTION = "0f" * 32
OTHER_ACTION = "f0" * 32
TOKEN = re.compile(r"ott_[0-9A-Za-z]{56}")
RESERVATION = re.compile(r"otr_[0-9A-Za-z]{70}")
PUBLIC_ID = re.compile(r"[0-9A-Za-z]{18}")
INACTIVE = b'{"active":false}\n'
CREATED = {
    *("token", "id", "expires_in", "expires_at", "server_time", "purpose", "audience", "subject"),
    *("state", "replayed"),
}
VALIDATED = {
    *("message", "valid", "id", "subject", "purpose", "data", "issued_by", "created_at"),
    *("consumed_at", "replayed", "issued_with", "consumed_with"),
}
HELD = {
    *("reservation", "lease_expires_at", "id", "subject", "purpose", "data", "issued_by"),
    *("created_at", "issued_with"),
}
RECEIPT = {
    *("id", "state", "purpose", "subject", "created_at", "expires_at", "consumed_at"),
    *("consumed_by", "replays", "issued_with", "consumed_with"),
}


def lasting(token: dict[str, Any]) -> dict[str, Any]:
    """The fields of a new token that a repeat has as well."""
    passing = {"expires_in", "server_time", "state", "replayed"}
    return {name: value for name, value in token.items() if name not in passing}


def altered(token: str, **parts: str) -> str:
    """A token with other parts, and the right checksum."""
    return str(dataclasses.replace(Token.parse(token), **parts))
