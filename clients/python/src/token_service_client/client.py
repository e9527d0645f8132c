"""The two clients: the same calls, tries and errors, sent with and without ``await``."""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import update_wrapper
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import anyio
import httpx

from token_service_client import calls
from token_service_client.calls import Accounts, Call
from token_service_client.errors import CallRefused, TokensError
from token_service_client.identity import OUT, login
from token_service_client.tries import Policy, Reply, tries
from token_service_client.values import Held
from token_service_client.wire import Sender, failure, read, result_of

P = ParamSpec("P")
R = TypeVar("R")
M = TypeVar("M", bound=Callable[..., Any])


def blocking(make: Callable[P, Call[R]]) -> Callable[Concatenate[Tokens, P], R]:
    """Make a method of ``Tokens`` from a function of calls.py."""

    def method(self: Tokens, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._call(make(*args, **kwargs))

    return described(method, make)


def awaited(make: Callable[P, Call[R]]) -> Callable[Concatenate[AsyncTokens, P], Awaitable[R]]:
    """Make a method of ``AsyncTokens`` from a function of calls.py."""

    async def method(self: AsyncTokens, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await self._call(make(*args, **kwargs))

    return described(method, make)


def described(method: M, make: Callable[..., Any]) -> M:
    """Give a method the docstring and the signature that ``help`` shows, with its ``self``."""
    update_wrapper(method, make)
    shown = inspect.signature(make)
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    result = str(shown.return_annotation).removeprefix("Call[").removesuffix("]")
    parameters = [own, *shown.parameters.values()]
    told = shown.replace(parameters=parameters, return_annotation=result)
    method.__signature__ = told  # type: ignore[attr-defined]
    return method


class Tokens(Sender):
    """A client of one service; any thread may use it.

    :param key: a service key (``osk_…``); a person has ``Tokens.login``
    :param retries: the most tries after the first one
    :param deadline: the seconds after which no further try of a call begins
    :param timeout: the seconds that one try waits for a connection or a response
    :param language: that of ``title`` and ``detail`` in errors: ``en`` or ``es``
    :param http: a client of httpx with settings of its own, which its maker closes
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        retries: int = 3,
        deadline: float = 10.0,
        timeout: float = 3.0,
        language: str = "en",
        http: httpx.Client | None = None,
    ) -> None:
        super().__init__(url, key, Policy(retries, deadline, timeout), language)
        self._http, self._owned = http or httpx.Client(), http is None
        self._renewing = threading.Lock()
        self._sleep: Callable[[float], None] = time.sleep

    @classmethod
    def login(cls, url: str, *, email: str, password: str, **options: Any) -> Self:
        """A client for a person, who logs in now; it renews the session by itself.

        :param options: those of the class
        """
        client = cls(url, "", **options)
        try:
            client._identity.take(client._send(login(email, password), ""), client._now())
        except BaseException:
            client.close()
            raise
        return client

    create = blocking(calls.create)
    create_many = blocking(calls.create_many)
    consume = blocking(calls.consume)
    peek = blocking(calls.peek)
    receipt = blocking(calls.receipt)
    revoke = blocking(calls.revoke)
    revoke_token = blocking(calls.revoke_token)

    @contextmanager
    def hold(
        self,
        token: str,
        *,
        purpose: str,
        issued_by: Accounts,
        subject: str | None = None,
        bind: str | None = None,
        lease: int = 30,
    ) -> Iterator[Held]:
        """Reserve a token for the time of a block; consume it at its end, release it on an error.

        :param lease: the seconds for which it is held, up to 60, however long the block takes
        :raises LeaseEnded: at the end of the block, which took longer than the lease
        """
        terms: dict[str, Any] = {"subject": subject, "bind": bind, "lease": lease}
        held = self._call(calls.reserve(token, purpose=purpose, issued_by=issued_by, **terms))
        try:
            yield held
        except BaseException:
            with suppress(TokensError):  # Where it fails, the lease ends by itself.
                self._call(calls.release(held))
            raise
        self._call(calls.commit(held))

    def _call(self, call: Call[R]) -> R:
        bearer = self._bearer()
        try:
            return self._send(call, bearer)
        except CallRefused as error:
            if error.code not in OUT or not self._identity.refused(bearer):
                raise
        return self._send(call, self._bearer())

    def _bearer(self) -> str:
        with self._renewing:
            if renewal := self._identity.renewal(self._now()):
                self._identity.take(self._send(renewal, ""), self._now())
            return self._identity.bearer

    def _send(self, call: Call[R], bearer: str) -> R:
        planned = tries(self._policy, self._now)
        reply: Reply | None = None
        while True:
            try:
                wait, timeout = planned.send(reply) if reply else next(planned)
            except StopIteration as done:
                return result_of(call, done.value)
            if wait:
                self._sleep(wait)
            try:
                reply = read(self._http.request(**self._request(call, bearer, timeout)))
            except httpx.RequestError as error:
                reply = failure(error)

    def close(self) -> None:
        """Close the connections."""
        if self._owned:
            self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncTokens(Sender):
    """The same client with ``await``; see ``Tokens``."""

    def __init__(
        self,
        url: str,
        key: str,
        *,
        retries: int = 3,
        deadline: float = 10.0,
        timeout: float = 3.0,
        language: str = "en",
        http: httpx.AsyncClient | None = None,
    ) -> None:
        super().__init__(url, key, Policy(retries, deadline, timeout), language)
        self._http, self._owned = http or httpx.AsyncClient(), http is None
        self._renewing = anyio.Lock()
        self._sleep: Callable[[float], Awaitable[None]] = anyio.sleep

    @classmethod
    async def login(cls, url: str, *, email: str, password: str, **options: Any) -> Self:
        """A client for a person, who logs in now; see ``Tokens.login``."""
        client = cls(url, "", **options)
        try:
            client._identity.take(await client._send(login(email, password), ""), client._now())
        except BaseException:
            await client.aclose()
            raise
        return client

    create = awaited(calls.create)
    create_many = awaited(calls.create_many)
    consume = awaited(calls.consume)
    peek = awaited(calls.peek)
    receipt = awaited(calls.receipt)
    revoke = awaited(calls.revoke)
    revoke_token = awaited(calls.revoke_token)

    @asynccontextmanager
    async def hold(
        self,
        token: str,
        *,
        purpose: str,
        issued_by: Accounts,
        subject: str | None = None,
        bind: str | None = None,
        lease: int = 30,
    ) -> AsyncIterator[Held]:
        """Reserve a token for the time of a block; see ``Tokens.hold``."""
        terms: dict[str, Any] = {"subject": subject, "bind": bind, "lease": lease}
        held = await self._call(calls.reserve(token, purpose=purpose, issued_by=issued_by, **terms))
        try:
            yield held
        except BaseException:
            with suppress(TokensError):  # Where it fails, the lease ends by itself.
                await self._call(calls.release(held))
            raise
        await self._call(calls.commit(held))

    async def _call(self, call: Call[R]) -> R:
        bearer = await self._bearer()
        try:
            return await self._send(call, bearer)
        except CallRefused as error:
            if error.code not in OUT or not self._identity.refused(bearer):
                raise
        return await self._send(call, await self._bearer())

    async def _bearer(self) -> str:
        async with self._renewing:
            if renewal := self._identity.renewal(self._now()):
                self._identity.take(await self._send(renewal, ""), self._now())
            return self._identity.bearer

    async def _send(self, call: Call[R], bearer: str) -> R:
        planned = tries(self._policy, self._now)
        reply: Reply | None = None
        while True:
            try:
                wait, timeout = planned.send(reply) if reply else next(planned)
            except StopIteration as done:
                return result_of(call, done.value)
            if wait:
                await self._sleep(wait)
            try:
                reply = read(await self._http.request(**self._request(call, bearer, timeout)))
            except httpx.RequestError as error:
                reply = failure(error)

    async def aclose(self) -> None:
        """Close the connections."""
        if self._owned:
            await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
