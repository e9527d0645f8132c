"""The credentials of a program: a service key, or the session of a person. Nothing is sent here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from token_service_client.calls import Call

#: A session is renewed so many seconds before its access token expires.
EARLY = 30
#: The codes of an access token that a renewal replaces.
OUT = {"access_token_expired", "access_token_invalid"}


class Identity:
    """What a call sends as ``Authorization``.

    :param bearer: a service key, which lasts
    """

    def __init__(self, bearer: str = "") -> None:
        if not (bearer.isascii() and bearer.isprintable() and " " not in bearer):
            # The HTTP library would show the whole header in its error.
            raise ValueError("the key has characters that no service key has")
        self.bearer = bearer
        self._refresh_token = ""
        self._stale_at = float("inf")

    def take(self, tokens: Mapping[str, Any], now: float) -> None:
        """Take the response to a login or to a refresh."""
        life = float(tokens["expires_in"])
        self.bearer = str(tokens["access_token"])
        self._refresh_token = str(tokens.get("refresh_token") or "")
        self._stale_at = now + life - min(EARLY, life / 2)

    def refused(self, bearer: str) -> bool:
        """Note that an access token is out; whether another one may be good."""
        if self._refresh_token and bearer == self.bearer:
            self._stale_at = float("-inf")
        return bool(self._refresh_token)

    def renewal(self, now: float) -> Call[Mapping[str, Any]] | None:
        """The call that prolongs the session, where that is due."""
        if now < self._stale_at or not self._refresh_token:
            return None
        return Call("POST", "/auth/refresh", granted, {"refresh_token": self._refresh_token})


def login(email: str, password: str) -> Call[Mapping[str, Any]]:
    return Call("POST", "/auth/login", granted, {"email": email, "password": password})


def granted(body: Any) -> Mapping[str, Any]:
    """:raises KeyError, TypeError: the response is not that of a login"""
    return {**body, "access_token": body["access_token"], "expires_in": float(body["expires_in"])}
