"""A site whose Redis and Postgres can fail, and the response that each call must then have."""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import httpx

import dev
from tests.stage.catalogue import PROBLEMS
from tests.stage.people import PASSWORD, Person, enrol, new_correo
from tests.stage.proxy import Proxy
from tests.stage.service import Service
from tests.torture import ledger
from tests.torture.ledger import FULL, trials
from tokenservice.postgres.breaker import TRY_AGAIN_SECONDS

SETTINGS: dict[str, Any] = {
    **{"redis_connect_timeout_ms": 50, "redis_timeout_ms": 100},
    **{f"rate_limit_{n}": "1000000 per minute" for n in ("create", "validate", "login")},
    "rate_limit_register": "1000000 per minute",
    # Each call comes from an address of its own, so that no limit by address applies.
    "trusted_proxies": 1,
    # A full run creates many tokens, and takes a while to reach the repeats.
    "max_active": 1_000_000,
    "idempotency_window_seconds": 300,
}
#: The longest stall of a shared machine. The full run has one to itself.
STALL_SECONDS = 0.0 if FULL else 0.5
#: The most calls of a row that are made again because a store was too late in such a stall.
STALLS = 0 if FULL else 5
#: The outcomes of a call in such a stall.
STALLED = {"store_unavailable", "database_unavailable", "not_ready", "busy"}
OK = "ok"
#: Where to send requests, and the alarm about each store.
PROBES = ("readyz", "readyz/postgres", "readyz/redis")
addresses = itertools.count()


class Call(NamedTuple):
    """The outcome of a call: ``OK``, or the code of a problem."""

    outcome: str
    seconds: float
    body: dict[str, Any]


class Site:
    """A gunicorn with two workers, its Redis and its Postgres, and the proxies before those."""

    redis: dev.Redis
    postgres: dev.Postgres
    to_redis: Proxy
    to_postgres: Proxy

    def __init__(self, service: Service) -> None:
        self.service = service
        # A connection for each call, so that the workers take turns.
        alone = {"Connection": "close"}
        self.http = httpx.Client(base_url=service.url, timeout=30, headers=alone)
        self.known = self.stranger = enrol(self.http.post)

    def call(self, name: str, token: str = "", key: str = "") -> Call:
        known: Person = self.known
        account = {"nombre": "Ana", "correo": new_correo(), "password": PASSWORD}
        path, body, headers = {
            "create": ("/token/create", {"expires_in": 3600}, known.headers),
            "create by a stranger": ("/token/create", {}, self.stranger.headers),
            "validate": ("/token/validate", {"token": token}, known.headers),
            "login": ("/auth/login", {"correo": known.correo, "password": PASSWORD}, {}),
            "register": ("/auth/register", account, {}),
            "me": ("/auth/me", None, known.headers),
            # A purpose of no other call.
            "revoke all": ("/token/revoke-all", {"purpose": "outage"}, known.headers),
            **{probe: (f"/{probe}", None, {}) for probe in PROBES},
            "healthz": ("/healthz", None, {}),
        }[name]
        n = next(addresses)
        headers = {**headers, "X-Forwarded-For": f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}"}
        if key:
            headers["Idempotency-Key"] = key
        method = "GET" if body is None else "POST"
        started = time.perf_counter()
        response = self.http.request(method, path, json=body, headers=headers)
        seconds = time.perf_counter() - started
        content = response.json() if response.content else {}
        if response.is_success:
            made = 201 if name.startswith(("create", "register")) else 200
            assert response.status_code == (204 if name == "revoke all" else made)
            return Call(OK, seconds, content)
        # A refusal is a problem of the contract, and a 503 says when to try again.
        assert response.headers["Content-Type"] == "application/problem+json"
        assert response.status_code == PROBLEMS[content["code"]].status
        assert response.status_code != 503 or response.headers["Retry-After"] == "1"
        return Call(content["code"], seconds, content)

    def settled(
        self, name: str, token: str = "", key: str = "", stalled: Set[str] = STALLED
    ) -> Call:
        """Call until the outcome is none of ``stalled``, which a stalled machine may cause."""
        for _ in range(20):
            call = self.call(name, token, key)
            if call.outcome not in stalled:
                break
            time.sleep(TRY_AGAIN_SECONDS)
        return call

    def introduce(self) -> None:
        """Let each worker see ``known``, and none a new ``stranger``."""
        time.sleep(TRY_AGAIN_SECONDS)  # A worker may just have failed to reach Postgres.
        self.stranger = enrol(self.http.post)
        workers = self.service.workers()
        for worker in workers:
            others = [pid for pid in workers if pid != worker]
            for pid in others:
                os.kill(pid, signal.SIGSTOP)
            try:
                assert self.settled("create").outcome == OK
            finally:
                for pid in others:
                    os.kill(pid, signal.SIGCONT)

    def seconds_until_recovered(self) -> float:
        """The time until a call of every kind succeeds, one after the other."""
        started = time.monotonic()
        while time.monotonic() - started < 15:
            created = self.call("create")
            calls = [created, self.call("validate", created.body.get("token", ""))]
            calls += [self.call(name) for name in ("login", "register", *PROBES)]
            if {call.outcome for call in calls} == {OK}:
                return time.monotonic() - started
        raise AssertionError(f"the site did not recover: {calls}")


@contextlib.contextmanager
def site_of(
    serve: Callable[..., Service], redis: dev.Redis, postgres: dev.Postgres, **changes: Any
) -> Iterator[Site]:
    """Run a site; ``changes`` are settings."""
    with Proxy(redis.port) as to_redis, Proxy(postgres.port) as to_postgres:
        urls = {
            "redis_url": redis.url.replace(f":{redis.port}/", f":{to_redis.port}/"),
            "database_url": postgres.url.replace(f":{postgres.port}/", f":{to_postgres.port}/"),
        }
        with serve(web_concurrency=2, **(SETTINGS | urls | changes)) as service:
            site = Site(service)
            site.redis, site.postgres = redis, postgres
            site.to_redis, site.to_postgres = to_redis, to_postgres
            with contextlib.closing(site.http):
                yield site


@dataclass(frozen=True)
class Row:
    """A row of the failure policy: a fault, and the calls that it changes.

    :param fault: causes the fault during its ``with``
    :param codes: the code of each refused call
    :param seconds: the longest time of a call, at p99
    :param afterwards: the outcome of a validate repeated with its key after the fault
    :param last: the seconds between the fault and the first call
    :param back: the longest time, in seconds, until a call of each kind succeeds again
    """

    fault: Callable[[Site], AbstractContextManager[object]]
    codes: dict[str, str]
    seconds: dict[str, float] = field(default_factory=dict)
    afterwards: str = OK
    last: float = 0.0
    back: float = 1.0


def on_the_way(to: str, act: Callable[[Proxy], None]) -> Callable[[Site], Any]:
    """A fault of the proxy ``to_redis`` or ``to_postgres``."""

    @contextlib.contextmanager
    def fault(site: Site) -> Iterator[None]:
        proxy: Proxy = getattr(site, to)
        act(proxy)
        try:
            yield
        finally:
            proxy.mend()

    return fault


def percentile(calls: list[Call], part: float) -> float:
    times = sorted(call.seconds for call in calls)
    return times[min(len(times) - 1, int(part * len(times)))]


def check_row(site: Site, words: str, row: Row, full: int = 250) -> None:
    """Cause the fault, make each call, end the fault, and compare every response with the policy.

    An outage decides nothing about a token: a repeat with the same key then has the response that
    the first call would have had, and another caller has not.
    """
    site.introduce()
    tokens = [site.settled("create").body["token"] for _ in range(trials(full, 5))]
    keys = [secrets.token_hex(8) for _ in tokens]
    workers = site.service.workers()
    names = ("create", "validate", "healthz", "login", "register", "me", "revoke all", *PROBES)
    calls: dict[str, list[Call]] = {name: [] for name in (*names, *row.codes)}
    stalls = []

    def call(name: str, token: str = "", key: str = "") -> Call:
        """A call, or its repeat where the stall of a machine may have changed its outcome."""
        made = site.call(name, token, key)
        while made.outcome in STALLED - {row.codes.get(name)} and len(stalls) < STALLS:
            stalls.append(made)
            time.sleep(TRY_AGAIN_SECONDS)
            made = site.call(name, token, key)
        return made

    with row.fault(site), ThreadPoolExecutor() as threads:
        time.sleep(row.last)
        for token, key in zip(tokens, keys, strict=True):
            for name in names[:3]:
                calls[name].append(call(name, token, key))
        # A call may take a second, so they run at the same time.
        rest = [name for name in calls if not calls[name] and name not in PROBES]
        for _ in range(trials(full // 5, 2)):
            for name, made in zip(rest, threads.map(call, rest), strict=True):
                calls[name].append(made)
            # Of probes at the same time one looks, and another may report that it does not know.
            for name in PROBES:
                calls[name].append(call(name))
    back = site.seconds_until_recovered()
    repeated = [site.settled("validate", *pair).outcome for pair in zip(tokens, keys, strict=True)]
    by_another = [site.settled("validate", token, "another").outcome for token in tokens]

    wrong = [
        (name, made.outcome)
        for name, all_made in calls.items()
        for made in all_made
        if made.outcome != row.codes.get(name, OK)
    ]
    wrong += [("repeated", outcome) for outcome in repeated if outcome != row.afterwards]
    used = "token_already_used" if row.afterwards == OK else row.afterwards
    wrong += [("by another", outcome) for outcome in by_another if outcome != used]
    times = {
        name: " / ".join(f"{percentile(made, part) * 1000:.0f}" for part in (0.5, 0.99))
        for name, made in calls.items()
    }
    ledger.record(
        f"{words}: every call follows the failure policy",
        n=sum(map(len, calls.values())),
        failures=len(wrong),
        figures="median / p99 ms: "
        + ", ".join(f"{name} {both}" for name, both in times.items())
        + f"; recovered after {back:.2f} s",
    )
    assert not wrong, wrong
    assert site.service.workers() == workers
    assert back < row.back + 4 * STALL_SECONDS
    for name, bound in row.seconds.items():
        part = 0.99 if FULL else 0.5
        assert percentile(calls[name], part) < bound + STALL_SECONDS, (name, times)


def check_alive(site: Site, load: str, words: str) -> None:
    """/healthz succeeds in time while eight callers wait for a hanging store."""
    over = threading.Event()

    def wait() -> None:
        while not over.is_set():
            site.call(load)

    with ThreadPoolExecutor(8) as threads:
        waiting = [threads.submit(wait) for _ in range(8)]
        calls = [site.call("healthz") for _ in range(trials(2000, 40))]
        over.set()
        for each in waiting:
            each.result()
    median, late = (percentile(calls, part) * 1000 for part in (0.5, 0.99))
    ledger.record(
        words,
        n=len(calls),
        failures=sum(call.outcome != OK for call in calls),
        figures=f"healthz {median:.0f} ms, p99 {late:.0f} ms, under 8 callers of {load}",
    )
    assert {call.outcome for call in calls} == {OK}
    assert (late if FULL else median) < 50 + STALL_SECONDS * 1000
