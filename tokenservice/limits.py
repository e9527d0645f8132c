"""The named limits: how many calls, counted by whom, and what happens without Redis.

Flask-Limiter decides; this module gives it a storage that makes one Redis round trip a limit,
and writes the IETF header fields from what that round trip already said.

Failure policy: while Redis cannot count, each process counts for itself, each hit weighing as
many as there are worker processes, so that all of a host together allow no more than the limit
(or one call per process, where there are more processes than the limit has calls). Never
unlimited; but a window in which Redis goes has two counts, and allows up to twice the limit.
"""

from __future__ import annotations

import hashlib
import ipaddress
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from flask import Flask, Response, current_app, g, request
from flask_limiter import Limiter, RateLimitExceeded, RequestLimit, RouteLimit
from flask_limiter._extension import LimiterContext
from flask_limiter._limits import RuntimeLimit
from limits.storage import MemoryStorage, Storage
from werkzeug.exceptions import HTTPException

from tokenservice import correo, metrics
from tokenservice.callers import caller
from tokenservice.extensions import config
from tokenservice.onetime.connection import Connection
from tokenservice.onetime.errors import StoreUnavailable
from tokenservice.schemas import FORM

KEY_PREFIX = "rate:"
ASK_AGAIN_SECONDS = 0.5
LOGIN_ATTEMPTS_BY_ADDRESS = "60 per minute"
LOGIN_FAILURES_BY_CORREO = "100 per hour"

# INCRBY starts a window where there is none; a refund (a negative amount) must not, nor leave one
# in which there is less than nothing.
COUNT = """
local counted = tonumber(redis.call('GET', KEYS[1]) or 0)
if counted + ARGV[1] < 0 then return {0, 0} end
local count = redis.call('INCRBY', KEYS[1], ARGV[1])
local left = redis.call('PTTL', KEYS[1])
if left < 0 then
  left = tonumber(ARGV[2])
  redis.call('PEXPIRE', KEYS[1], left)
end
return {count, left}
"""


class Counters:
    """Fixed windows in Redis, and in this process's memory while Redis is away."""

    def __init__(
        self,
        connection: Connection,
        workers: int,
        timed: Callable[[str], AbstractContextManager[None]],
    ) -> None:
        self._count = connection.script(COUNT)
        self._workers = workers
        self._timed = timed
        self._memory = MemoryStorage()
        self._away_until = 0.0

    def add(self, key: str, seconds: int, amount: int) -> tuple[int, float]:
        """Count ``amount`` under ``key``; give the count and the seconds left of its window."""
        if time.monotonic() >= self._away_until:
            try:
                with self._timed("limit"):
                    count, left = self._count(KEY_PREFIX + key, amount, seconds * 1000)
                return count, left / 1000
            except StoreUnavailable:
                # A Redis that hangs would otherwise cost its timeout on every call.
                self._away_until = time.monotonic() + ASK_AGAIN_SECONDS
        if self._memory.get(key) + amount < 0:
            return 0, 0.0  # What is given back was counted in Redis.
        count = self._memory.incr(key, seconds, amount=amount)
        left = max(0.0, self._memory.get_expiry(key) - time.time())
        return (count if count <= 1 else count * self._workers), left


class CountersOfApp(Storage):
    """What Flask-Limiter holds: stateless, because one limiter serves every app of a process.

    It remembers, for the length of a request, what each counter said, so that headers cost no
    further round trip.
    """

    STORAGE_SCHEME = ["counters"]  # noqa: RUF012 - the library declares it so
    base_exceptions = StoreUnavailable

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        counters: Counters = current_app.extensions["counters"]
        count, left = counters.add(key, expiry, amount)
        g.setdefault("counted", {})[key] = (count, time.time() + left)
        return count

    def get(self, key: str) -> int:
        return int(g.counted[key][0])

    def get_expiry(self, key: str) -> float:
        return float(g.counted[key][1])

    def check(self) -> bool:
        return True

    def reset(self) -> int | None:
        raise NotImplementedError

    def clear(self, key: str) -> None:
        raise NotImplementedError


def by_address() -> str:
    """The client's address; an IPv6 client is its /64, of which it may use every address."""
    try:
        address = ipaddress.ip_address(request.remote_addr or "")
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv6Address):
        # How a socket that takes both families names an IPv4 client.
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


def by_correo() -> str:
    """The account that a login tries, hashed: Redis keeps no address of a person."""
    try:
        form = request.mimetype == FORM
        given = request.form["username"] if form else request.get_json()["correo"]
        return hashlib.sha256(correo.canonical(given).encode()).hexdigest()[:32]
    except (HTTPException, KeyError, TypeError, ValueError, AttributeError):
        return "unreadable"


def by_address_and_correo() -> str:
    return f"{by_address()}/{by_correo()}"


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
        hits = self.context.view_rate_limits = []
        refused = None
        for limit in self.limit_manager.decorated_limits(callable_name):
            identifiers = [limit.key_func(), limit.scope_for("", None)]
            hit = RequestLimit(self, limit.limit, identifiers, False, limit.shared)
            hits.append(hit)
            # Each limit counts each call, one that another limit refuses too.
            if not self.limiter.hit(limit.limit, *identifiers):
                hit.breached, refused = True, refused or limit
        if refused:
            raise RateLimitExceeded(refused)

    @property
    def context(self) -> LimiterContext:
        try:
            found: LimiterContext = g.limits_of_request
        except AttributeError:
            found = g.limits_of_request = LimiterContext()
        return found


limiter = ViewLimiter(by_address, storage_uri="counters://", strategy="fixed-window")


class NamedLimit(RouteLimit):
    """A limit at a view, whose words are parsed once and not for each request."""

    def __post_init__(self, limiter: Limiter) -> None:
        super().__post_init__(limiter)
        self._parsed: dict[str, list[RuntimeLimit]] = {}

    def __iter__(self) -> Iterator[RuntimeLimit]:
        given = self.limit_provider
        words = given() if callable(given) else given
        if words not in self._parsed:
            self._parsed[words] = list(super().__iter__())
        return iter(self._parsed[words])


def limited(name: str, key: Callable[[], str], rate: str | None = None) -> Any:
    """Limit a view under ``name``, at the setting ``rate_limit_<name>`` or a fixed ``rate``.

    Place it right under ``route``, so that a call refused for its body counts too.
    """

    def current() -> str:
        # A fixed rate goes with the setting of its call: "login-address" is off where "login" is.
        words = str(getattr(config, f"rate_limit_{name.partition('-')[0]}"))
        return "" if words == "off" else rate or words

    return NamedLimit(
        limit_provider=current, scope=name, key_function=key, shared=True, limiter=limiter
    )


def limited_login(view: Any) -> Any:
    """The three limits of a login: two count failures, one every attempt (NIST 800-63B 3.2.2)."""
    for limit in (
        limited("login", by_address_and_correo),
        limited("login-correo", by_correo, LOGIN_FAILURES_BY_CORREO),
        limited("login-address", by_address, LOGIN_ATTEMPTS_BY_ADDRESS),
    ):
        view = limit(view)
    return view


def name_of(limit: RequestLimit) -> str:
    return str(limit.request_args[-1])


def give_back_failures(response: Response) -> None:
    """Count an attempt as a failure from the start, and take that back if it was none.

    Counting only after the answer would let every guess that is under way at once pass.
    """
    if request.endpoint == "auth.login" and (
        response.status_code == 200 or response.status_code >= 500
    ):
        for limit in limiter.current_limits:
            if name_of(limit) in {"login", "login-correo"}:
                limiter.storage.incr(limit.key, limit.limit.get_expiry(), -1)


def write_headers(response: Response) -> Response:
    """Add RateLimit-Policy and RateLimit (draft-ietf-httpapi-ratelimit-headers-11)."""
    limits = limiter.current_limits
    if not limits:
        return response
    give_back_failures(response)
    tightest = min(limits, key=lambda limit: (not limit.breached, remaining(limit)))
    _, reset_at = g.counted[tightest.key]
    left = max(1, math.ceil(reset_at - time.time()))
    name, quota = name_of(tightest), tightest.limit
    # Nobody else writes these: add, unlike set, does not look for them first.
    add = response.headers.add
    add("RateLimit-Policy", f'"{name}";q={quota.amount};w={quota.get_expiry()}')
    add("RateLimit", f'"{name}";r={remaining(tightest)};t={left}')
    if tightest.breached:
        metrics.LIMITED.labels(name).inc()
        add("Retry-After", str(left))
    return response


def remaining(limit: RequestLimit) -> int:
    count, _ = g.counted[limit.key]
    return max(0, limit.limit.amount - count)


def init_app(app: Flask, counters: Counters) -> None:
    app.extensions["counters"] = counters
    limiter.init_app(app)
    app.after_request(write_headers)
