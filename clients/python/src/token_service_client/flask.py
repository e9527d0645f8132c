"""A guard for the views of Flask.

app.extensions["tokens"] = Tokens(url, key=key)

@app.get("/app")
@one_time("app.open", issued_by="backend@example.com")
def page(use: Use) -> str: ...
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from flask import Response, current_app, request

from token_service_client.calls import Accounts, issuers
from token_service_client.client import Tokens
from token_service_client.errors import TokensError
from token_service_client.refusals import refusal_of
from token_service_client.tickets import ticket_of
from token_service_client.values import Use

P = ParamSpec("P")
R = TypeVar("R")


def one_time(
    purpose: str, *, issued_by: Accounts
) -> Callable[[Callable[Concatenate[Use, P], R]], Callable[P, R | Response]]:
    """Consume the token of a request before its view, which gets the ``Use`` first.

    The token comes in ``X-One-Time-Token``. Without a good one the view is not called, and the
    response is 401, 403 or 503, with ``X-Token-Code``.

    :raises ValueError: ``issued_by`` names nobody
    """
    issuers(issued_by)

    def guard(view: Callable[Concatenate[Use, P], R]) -> Callable[P, R | Response]:
        @wraps(view)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R | Response:
            tokens: Tokens = current_app.extensions["tokens"]
            if not (ticket := ticket_of(request.headers)):
                return refused(None)
            try:
                use = tokens.consume(ticket, purpose=purpose, issued_by=issued_by)
            except TokensError as error:
                return refused(error)
            page: R = current_app.ensure_sync(view)(use, *args, **kwargs)
            return page

        return guarded

    return guard


def refused(error: TokensError | None) -> Response:
    """A response that no error handler of the application replaces."""
    status, code, headers = refusal_of(error)
    return Response(code, status, headers, mimetype="text/plain")
