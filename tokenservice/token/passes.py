"""Passes: signed cookies with which a browser that used a ticket comes through a gate again.

A pass stands for one consume, of one caller, purpose and list of issuers, and ends by itself. It is
no token: it is valid as often as the browser sends it, for the ranges and the images of a page.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass

from flask import Flask, Response, request

from config import Config
from tokenservice.extensions import add, part
from tokenservice.onetime.format import derived_key


@dataclass(frozen=True, slots=True)
class Pass:
    """What became of a ticket.

    :param ends_at: in seconds since 1970
    :param data: its data in base64url, where the proxy asks for them
    """

    id: str
    subject: str
    owner: str
    ends_at: int
    data: str = ""


@dataclass(frozen=True, slots=True)
class Doorway:
    """A gate as a proxy asks for it: its caller or key, the purpose, and the issuers."""

    caller: str
    purpose: str
    issuers: tuple[str, ...]

    @property
    def cookie(self) -> str:
        """The name of its cookie. The prefix binds it to the host (RFC 6265bis section 4.1.3)."""
        text = "\0".join((self.purpose, *self.issuers))
        return f"__Host-ott-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


class Passes:
    """Signs and verifies passes.

    :param secrets: those of the service; the first one signs, and each verifies
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        self._keys = [derived_key(b"passes", secret.encode()) for secret in secrets]

    def found(self, doorway: Doorway) -> Pass | None:
        """The pass of this request for a doorway, if it has one that is valid."""
        payload, _, mac = request.cookies.get(doorway.cookie, "").rpartition(".")
        given = mac.encode()
        if not any(hmac.compare_digest(given, sign(key, doorway, payload)) for key in self._keys):
            return None
        members, _, data = payload.partition(".")
        token_id, subject, owner, ends_at = json.loads(base64.urlsafe_b64decode(members))
        told = Pass(token_id, subject, owner, ends_at, data)
        return told if time.time() < told.ends_at else None

    def give(self, response: Response, doorway: Doorway, told: Pass, seconds: int) -> None:
        """Set the cookie of a pass."""
        # Browsers keep no cookie over 4,096 bytes, and a subject may have 255 of any characters. So
        # data are encoded once.
        members = [told.id, told.subject, told.owner, told.ends_at]
        text = json.dumps(members, ensure_ascii=False, separators=(",", ":"))
        payload = f"{encoded(text)}.{told.data}"
        response.set_cookie(
            doorway.cookie,
            f"{payload}.{sign(self._keys[0], doorway, payload).decode()}",
            max_age=seconds,
            path="/",
            secure=True,
            httponly=True,
            samesite="Lax",
        )


def encoded(text: str) -> str:
    """``text`` in base64url."""
    return base64.urlsafe_b64encode(text.encode()).decode()


def sign(key: bytes, doorway: Doorway, payload: str) -> bytes:
    text = "\0".join((doorway.caller, doorway.purpose, *doorway.issuers, payload))
    return base64.urlsafe_b64encode(hmac.digest(key, text.encode(), "sha256"))


passes = part(Passes)


def init_app(app: Flask, config: Config) -> None:
    add(app, Passes(config.secret_keys))
