"""Rate limits of views: named limits, client addresses, and the response headers.

Flask-Limiter's strategy decides. Its storage here counts in one Redis round trip a limit, and
remembers the count for the headers. The limits of a login are in ``auth/login_limits.py``.
"""

from __future__ import annotations

import functools
import ipaddress
import math
import time
from collections.abc import Callable, Collection, Iterable
from typing import Any

import limits
from flask import Flask
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address
from limits.storage import Storage

from tokenservice.extensions import config, part
from tokenservice.onetime.errors import StoreUnavailable
from tokenservice.telemetry import logs, metrics
from tokenservice.telemetry.calls import Call, call
from tokenservice.web import addresses
from tokenservice.web.app import report_unreadable
from tokenservice.web.counters import Counters, Verdict
from tokenservice.web.problems import Problem
from tokenservice.web.responses import Headers

counters = part(Counters)
parsed = functools.cache(limits.parse)


class CountersStorage(Storage):
    """The storage of Flask-Limiter: stateless, because one limiter serves every app of a process.

    A fixed window needs ``incr`` alone.
    """

    STORAGE_SCHEME = ["counters"]  # noqa: RUF012 - the library declares it so
    base_exceptions = StoreUnavailable

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        counting = call()
        count, left = counters.add(key, expiry, counting.quota)
        counting.counts.append((key, count, left))
        return count

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


# Bound to an app of its own: its hooks look for limits before and after each request, which costs
# 35 us, and here every limit stands at a view.
limiter = Limiter(
    get_remote_address,
    app=Flask("limits"),
    storage_uri="counters://",
    strategy="fixed-window",
)


def limited(name: str, key: Callable[[], str]) -> Callable[[Any], Any]:
    """Limit a view under ``name``, by the setting ``rate_limit_<name>``.

    Place it right under ``route``, so that a call refused for its body counts too.

    :param key: names the party whose calls are counted together
    """

    def limit(view: Any) -> Any:
        # Not by the decorators of Flask-Limiter: they look for defaults, exemptions and meta
        # limits, which costs 37 us a call; the strategy alone costs 4 us.
        @functools.wraps(view)
        def counted(*args: Any, **kwargs: Any) -> Any:
            count(name, key())
            return view(*args, **kwargs)

        counted.limit = name  # type: ignore[attr-defined]
        return counted

    return limit


def count(name: str, key: str) -> None:
    """Count a call of the party ``key`` under the limit ``name``.

    :raises Problem: the limit is reached
    """
    words = getattr(config, f"rate_limit_{name}")
    if words != "off":
        count_at(words, name, key)


def count_at(words: str, name: str, key: str) -> None:
    """The same under a limit with the rate ``words``, which is no setting."""
    rate = parsed(words)
    call().quota = rate.amount  # Flask-Limiter does not tell its storage.
    passed = limiter.limiter.hit(rate, key, name)
    _, counted, left = call().counts[-1]
    remaining, room_at = max(0, rate.amount - counted), time.monotonic() + left
    admit([Verdict(name, rate.amount, rate.get_expiry(), remaining, room_at, not passed)])


def give_back() -> None:
    """Let the next call of the same party in place of this one, under each limit that counted."""
    for counted in call().counts:
        counters.give_back_call(*counted)


def admit(verdicts: Collection[Verdict]) -> None:
    """Report ``verdicts`` in the response.

    :raises Problem: one of them is a refusal
    """
    report(verdicts)
    if refusing := [verdict.name for verdict in verdicts if verdict.refused]:
        logs.note("limit.exceeded", limit=refusing[0])
        raise Problem("rate_limited")


def report(verdicts: Iterable[Verdict]) -> None:
    """Report ``verdicts`` in the response, in place of earlier ones of the same limits."""
    call().verdicts |= {verdict.name: verdict for verdict in verdicts}


def network(bits: int, bits_of_ipv6: int) -> str:
    """The network of so many bits that the client is in."""
    address = addresses.of_client()
    if address is None:
        # All such clients share one count.
        report_unreadable("X-Forwarded-For", config.trusted_proxies)
        return "unknown"
    if address.version == 6:
        bits = bits_of_ipv6
    return str(ipaddress.ip_network((address, bits), strict=False))


def client_address() -> str:
    """The client's address; an IPv6 client is its /64, every address of which it may use."""
    return network(32, 64)


def by_address() -> str:
    return counters.pseudonym(client_address())


def header_fields(answered: Call) -> Headers:
    """RateLimit-Policy and RateLimit (draft-ietf-httpapi-ratelimit-headers-11)."""
    if not answered.verdicts:
        return []
    reported: Collection[Verdict] = answered.verdicts.values()
    tightest = min(reported, key=lambda verdict: (not verdict.refused, verdict.remaining))
    left = max(1, math.ceil(tightest.room_at - time.monotonic()))
    name = tightest.name
    fields = [
        ("RateLimit-Policy", f'"{name}";q={tightest.quota};w={tightest.seconds}'),
        ("RateLimit", f'"{name}";r={tightest.remaining};t={left}'),
    ]
    if tightest.refused:
        metrics.labelled(metrics.LIMITED, name).inc()
        fields.append(("Retry-After", str(left)))
    return fields
