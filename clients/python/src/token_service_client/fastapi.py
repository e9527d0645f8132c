"""A guard for the routes of FastAPI, for HTTP and for WebSockets.

    app.state.tokens = AsyncTokens(url, key=key)

    @app.get("/app")
    async def page(use: Annotated[Use, Depends(one_time("app.open", issued_by=BACKEND))]): ...

A WebSocket is then accepted with ``await websocket.accept("ott")``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import HTTPException
from fastapi.requests import HTTPConnection

from token_service_client.calls import Accounts, issuers
from token_service_client.client import AsyncTokens
from token_service_client.errors import TokensError
from token_service_client.refusals import refusal_of
from token_service_client.tickets import ticket_of
from token_service_client.values import Use


def one_time(purpose: str, *, issued_by: Accounts) -> Callable[[HTTPConnection], Awaitable[Use]]:
    """A dependency that consumes the token of a request, or of the handshake of a WebSocket.

    The token comes in ``X-One-Time-Token``, or in ``Sec-WebSocket-Protocol`` behind ``ott``.
    Without a good one the route is not called, and the response is 401, 403 or 503, with
    ``X-Token-Code``.

    :raises ValueError: ``issued_by`` names nobody
    """

    issuers(issued_by)

    async def consume(connection: HTTPConnection) -> Use:
        tokens: AsyncTokens = connection.app.state.tokens
        if not (ticket := ticket_of(connection.headers)):
            raise refused(None)
        try:
            return await tokens.consume(ticket, purpose=purpose, issued_by=issued_by)
        except TokensError as error:
            raise refused(error) from None

    return consume


def refused(error: TokensError | None) -> HTTPException:
    status, code, headers = refusal_of(error)
    return HTTPException(status, detail=code, headers=headers)
