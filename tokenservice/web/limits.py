"""The named limits: how many calls, counted by whom, and what the answers say of it.

Flask-Limiter decides, at views that are limited as a whole; this module gives it a storage that
makes one Redis round trip a limit, and writes the IETF header fields from what that round trip
already said. The limits of a login are in ``attempts.py``.
"""

from __future__ import annotations

import ipaddress
import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from flask import Flask, Response, current_app, g, request
from flask_limiter import Limiter, RateLimitExceeded, RouteLimit
from limits.storage import Storage

from tokenservice.auth.callers import caller
from tokenservice.extensions import config
from tokenservice.onetime.errors import StoreUnavailable
from tokenservice.telemetry import metrics
from tokenservice.web.counters import Counters, Verdict


def counters() -> Counters:
    """Those of the app."""
    found: Counters = current_app.extensions["counters"]
    return found


class CountersOfApp(Storage):
    """What Flask-Limiter holds: stateless, because one limiter serves every app of a process.

    It remembers, for the length of a request, what the counter said, so that headers cost no
    further round trip.
    """

    STORAGE_SCHEME = ["counters"]  # noqa: RUF012 - the library declares it so
    base_exceptions = StoreUnavailable

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        g.counted = counters().add(key, expiry)
        return int(g.counted[0])

    def get(self, key: str) -> int:
        raise NotImplementedError

    def get_expiry(self, key: str) -> float:
        raise NotImplementedError

    def check(self) -> bool:
        return True

    def reset(self) -> int | None:
        raise NotImplementedError

    def clear(self, key: str) -> None:
        raise NotImplementedError


def client(bits: int, bits_of_ipv6: int) -> str:
    """The network of so many bits that the client is in."""
    try:
        address = ipaddress.ip_address(request.remote_addr or "")
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv6Address):
        # How a socket that takes both families names an IPv4 client.
        if address.ipv4_mapped:
            address = address.ipv4_mapped
        else:
            bits = bits_of_ipv6
    return str(ipaddress.ip_network((address, bits), strict=False))


def address() -> str:
    """The client's address; an IPv6 client is its /64, of which it may use every address."""
    return client(32, 64)


def by_address() -> str:
    return counters().pseudonym(address())


def by_caller() -> str:
    return caller().id


class ViewLimiter(Limiter):
    """Flask-Limiter for limits that all stand at views.

    It looks through defaults, blueprints, exemptions and fallbacks for each request, which here
    are never there, and takes twice as long for that as Redis does to count.
    """

    def _check_request_limit(
        self, callable_name: str | None = None, in_middleware: bool = True
    ) -> None:
        if in_middleware or callable_name is None:
            return
        for limit in self.limit_manager.decorated_limits(callable_name):
            name, rate = limit.scope_for("", None), limit.limit
            passed = self.limiter.hit(rate, limit.key_func(), name)
            count, left = g.counted
            remaining = max(0, rate.amount - count)
            room_at = time.monotonic() + left
            say([Verdict(name, rate.amount, rate.get_expiry(), remaining, room_at, not passed)])
            if not passed:
                raise RateLimitExceeded(limit)


limiter = ViewLimiter(by_address, storage_uri="counters://", strategy="fixed-window")


class NamedLimit(RouteLimit):
    """A limit at a view, whose words are parsed once and not for each request."""

    def __post_init__(self, limiter: Limiter) -> None:
        super().__post_init__(limiter)
        self._parsed: dict[str, list[Any]] = {}

    def __iter__(self) -> Iterator[Any]:
        given = self.limit_provider
        words = given() if callable(given) else given
        if words not in self._parsed:
            self._parsed[words] = list(super().__iter__())
        return iter(self._parsed[words])


def limited(name: str, key: Callable[[], str]) -> Any:
    """Limit a view under ``name``, at the setting ``rate_limit_<name>``.

    Place it right under ``route``, so that a call refused for its body counts too.
    """

    def current() -> str:
        words = str(getattr(config, f"rate_limit_{name}"))
        return "" if words == "off" else words

    return NamedLimit(
        limit_provider=current, scope=name, key_function=key, shared=True, limiter=limiter
    )


def say(verdicts: Iterable[Verdict]) -> None:
    """Let the answer say it; what a limit said of this request before is out of date."""
    said: dict[str, Verdict] = g.setdefault("verdicts", {})
    said.update((verdict.name, verdict) for verdict in verdicts)


def write_headers(response: Response) -> Response:
    """Add RateLimit-Policy and RateLimit (draft-ietf-httpapi-ratelimit-headers-11)."""
    said: dict[str, Verdict] | None = g.get("verdicts")
    if not said:
        return response
    tightest = min(said.values(), key=lambda verdict: (not verdict.refused, verdict.remaining))
    left = max(1, math.ceil(tightest.room_at - time.monotonic()))
    name = tightest.name
    # Nobody else writes these: add, unlike set, does not look for them first.
    add = response.headers.add
    add("RateLimit-Policy", f'"{name}";q={tightest.quota};w={tightest.seconds}')
    add("RateLimit", f'"{name}";r={tightest.remaining};t={left}')
    if tightest.refused:
        metrics.LIMITED.labels(name).inc()
        add("Retry-After", str(left))
    return response


def init_app(app: Flask, counters: Counters) -> None:
    app.extensions["counters"] = counters
    limiter.init_app(app)
    app.after_request(write_headers)
