"""Clients of a service in memory, for the tests of programs that use ``Tokens``.

    backend = FakeTokens(account="backend@example.com")
    gateway = FakeTokens(backend.service, account="gateway@example.com")

Both have the calls, tries and errors of ``Tokens``. Behind them is one ``FakeService``, with a
clock that the test moves and failures that the test asks for.
"""

from __future__ import annotations

from typing import Any, Self

import httpx

from token_service_client.client import AsyncTokens, Tokens
from token_service_client.fake_service import Clock, FakeService, account_id

URL, ACCOUNT = "http://fake", "me@example.com"


class FakeTokens(Tokens):
    """A client of a service in memory.

    :param service: that of another client; a new one without it
    :param account: the e-mail address of this program
    :param clock: that of a new service
    """

    def __init__(
        self,
        service: FakeService | None = None,
        *,
        account: str = ACCOUNT,
        clock: Clock | None = None,
        **policy: Any,
    ) -> None:
        self.service = service or FakeService(clock or Clock())
        self.account, self.account_id = account, account_id(account)
        http = httpx.Client(transport=httpx.MockTransport(self.service.answer))
        super().__init__(URL, account, http=http, **policy)
        self._now, self._sleep = self.service.clock.seconds, self.service.clock.advance

    @classmethod
    def login(cls, url: str, *, email: str, password: str, **options: Any) -> Self:
        """A client of a new service, under the account with this address."""
        return cls(account=email)


class AsyncFakeTokens(AsyncTokens):
    """The same for programs with ``await``; both kinds may share a service."""

    def __init__(
        self,
        service: FakeService | None = None,
        *,
        account: str = ACCOUNT,
        clock: Clock | None = None,
        **policy: Any,
    ) -> None:
        self.service = service or FakeService(clock or Clock())
        self.account, self.account_id = account, account_id(account)
        http = httpx.AsyncClient(transport=httpx.MockTransport(self.service.answer))
        super().__init__(URL, account, http=http, **policy)
        self._now, self._sleep = self.service.clock.seconds, self._advance

    async def _advance(self, seconds: float) -> None:
        self.service.clock.advance(seconds)

    @classmethod
    async def login(cls, url: str, *, email: str, password: str, **options: Any) -> Self:
        """A client of a new service, under the account with this address."""
        return cls(account=email)
