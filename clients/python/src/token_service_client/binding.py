"""The hash of an action, equal on both sides."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import rfc8785


def bind_of(action: Mapping[str, Any]) -> str:
    """The SHA-256 of ``action`` as canonical JSON (RFC 8785), in hexadecimal.

    Give it to create as ``bind``; and to consume, from the action that is about to happen. An
    amount is an integer of cents.

    :raises ValueError: it has what JSON lacks, or an integer of 2**53 or more
    """
    return hashlib.sha256(rfc8785.dumps(dict(action))).hexdigest()
