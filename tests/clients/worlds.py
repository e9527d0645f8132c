"""Worlds in which the Python client keeps its contract: a service, a bad network, a fake."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import redis
from anyio.from_thread import BlockingPortal

import dev
from tests.stage.keys import new_key
from tests.stage.people import Person, enrol
from tests.stage.proxy import CUT, Proxy
from tests.stage.service import Service
from token_service_client import AsyncFakeTokens, AsyncTokens, Clock, FakeTokens, Tokens

#: For a busy machine; the client's own default is shorter.
PATIENT = {"deadline": 60.0, "timeout": 20.0}


class Driven:
    """An ``AsyncTokens`` with the face of ``Tokens``, so that one test runs on both."""

    def __init__(self, tokens: AsyncTokens, portal: BlockingPortal) -> None:
        self._tokens, self._portal = tokens, portal

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._tokens, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            return self._portal.call(functools.partial(method, *args, **kwargs))

        return call

    def hold(self, *args: Any, **kwargs: Any) -> Any:
        return self._portal.wrap_async_context_manager(self._tokens.hold(*args, **kwargs))


@dataclass
class World:
    """Three programs with accounts of their own.

    :ivar loses: whether the first reply to each call with a key is lost
    :ivar wait: lets so many seconds pass
    :ivar forget: makes the token with an id one that a restart has lost
    """

    backend: Tokens
    gateway: Tokens
    stranger: Tokens
    ids: tuple[str, str, str]
    loses: bool
    wait: Callable[[float], None]
    forget: Callable[[str], None]

    def ticket(self, **terms: Any) -> Any:
        """A token of the backend for the gateway."""
        given = {"purpose": "ws.connect", "audience": self.ids[1], "expires_in": 60, **terms}
        return self.backend.create(**given)

    @property
    def expected(self) -> dict[str, Any]:
        return {"purpose": "ws.connect", "issued_by": self.ids[0]}


def keyed(service: Service, people: int = 3, **fields: Any) -> list[tuple[Person, str]]:
    """Accounts, each with a service key."""
    with httpx.Client(base_url=service.url, timeout=30) as http:
        persons = [enrol(http.post) for _ in range(people)]
        return [(person, new_key(http.post, person, **fields)["key"]) for person in persons]


def losing(proxy: Proxy) -> dict[str, list[Callable[[httpx.Request], None]]]:
    """Hooks for httpx that lose the first reply under each idempotency key."""
    seen: set[str] = set()

    def lose(request: httpx.Request) -> None:
        key = request.headers.get("Idempotency-Key")
        if key and key not in seen:
            seen.add(key)
            proxy.lose(key.encode(), CUT)

    return {"request": [lose]}


def forgetting(server: dev.Redis) -> Callable[[str], None]:
    """Take a token out of the live set of its owner, where a restart leaves none."""

    def forget(token_id: str) -> None:
        with redis.from_url(server.url) as admin:
            for key in admin.scan_iter(_type="ZSET", count=1000):
                admin.zrem(key, token_id)

    return forget


@contextlib.contextmanager
def real(service: Service, server: dev.Redis, *, lossy: bool = False) -> Iterator[World]:
    """The real service, directly or behind a proxy that loses replies."""
    with contextlib.ExitStack() as closing:
        url, hooks = service.url, None
        if lossy:
            proxy = closing.enter_context(Proxy(service.port))
            url, hooks = f"http://127.0.0.1:{proxy.port}", losing(proxy)
        programs, ids = [], []
        for person, key in keyed(service):
            http = closing.enter_context(httpx.Client(event_hooks=hooks))
            programs.append(Tokens(url, key, http=http, **PATIENT))
            ids.append(person.id)
        one, two, three = programs
        who = (ids[0], ids[1], ids[2])
        yield World(one, two, three, who, lossy, time.sleep, forgetting(server))


@contextlib.contextmanager
def real_async(service: Service, server: dev.Redis, portal: BlockingPortal) -> Iterator[World]:
    programs, ids = [], []
    for person, key in keyed(service):
        programs.append(AsyncTokens(service.url, key, **PATIENT))
        ids.append(person.id)
    one, two, three = (Driven(program, portal) for program in programs)
    who = (ids[0], ids[1], ids[2])
    yield World(one, two, three, who, False, time.sleep, forgetting(server))  # type: ignore[arg-type]
    for program in programs:
        portal.call(program.aclose)


@contextlib.contextmanager
def fake(portal: BlockingPortal | None = None) -> Iterator[World]:
    """The service in memory, for both kinds of client."""
    clock = Clock()
    names = [f"{name}@example.com" for name in ("backend", "gateway", "stranger")]
    first = FakeTokens(clock=clock, account=names[0])
    service = first.service
    if portal:
        made: list[Any] = [Driven(AsyncFakeTokens(service, account=name), portal) for name in names]
    else:
        made = [FakeTokens(service, account=name) for name in names]
    ids = [FakeTokens(service, account=name).account_id for name in names]
    who = (ids[0], ids[1], ids[2])
    yield World(*made, who, False, clock.advance, lambda _: service.restart())
