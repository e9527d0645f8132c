"""Requests and responses of HTTP, for both clients. Nothing is sent here."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, TypeVar

import httpx

from token_service_client.calls import Call
from token_service_client.errors import Unavailable
from token_service_client.identity import Identity
from token_service_client.tries import Policy, Reply, no_response, reply_of

R = TypeVar("R")
#: The failures before a request was sent.
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class Sender:
    """What both clients know of the service, and no I/O.

    :param key: a service key (``osk_…``)
    """

    def __init__(self, url: str, key: str, policy: Policy, language: str) -> None:
        if not url.startswith(("http://", "https://")):
            raise ValueError("the URL of the service begins with http:// or https://")
        self._url = url.rstrip("/")
        self._identity = Identity(key)
        self._policy = policy
        self._language = language
        self._now: Callable[[], float] = time.monotonic

    def _request(self, call: Call[Any], bearer: str, timeout: float) -> dict[str, Any]:
        headers = {"Accept": "application/json", "Accept-Language": self._language}
        if bearer:
            headers["Authorization"] = f"Bearer {bearer}"
        if call.key:
            headers["Idempotency-Key"] = call.key
        if call.body is not None:
            headers["Content-Type"] = "application/json"
        return {
            "method": call.method,
            "url": self._url + call.path,
            "headers": headers,
            "content": None if call.body is None else json.dumps(call.body, allow_nan=False),
            "timeout": timeout,
            "follow_redirects": False,
        }


def read(response: httpx.Response) -> Reply:
    """The end of a try with a response."""
    try:
        body = response.json() if response.content else None
    except ValueError:
        body = None
    return reply_of(response.status_code, body, response.headers.get("Retry-After", ""))


def failure(error: httpx.RequestError) -> Reply:
    """The end of a try without a response, by the name of its error: the text may show headers."""
    return no_response(type(error).__name__, reached=not isinstance(error, NOT_SENT))


def result_of(call: Call[R], body: Any) -> R:
    """:raises Unavailable: the response is a success, but not one of Token Service"""
    try:
        return call.read(body)
    except (KeyError, TypeError, ValueError):
        raise Unavailable("unreadable_response") from None
