"""The direct door: token calls of known callers, without Flask around them.

It knows only the plans that it is given, and only callers that authentication has verified a moment
ago: everything else is denied by going through Flask, which stays the reference. What a call does,
and each byte of its response, comes from the same code in both.
"""

from __future__ import annotations

import contextvars
import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import unquote_to_bytes

from flask import Flask

from config import Config
from tokenservice.auth.callers import Caller, Callers
from tokenservice.auth.jwts import VerifiedTokens
from tokenservice.onetime.connection import Connection
from tokenservice.telemetry.calls import Call, current
from tokenservice.web import addresses
from tokenservice.web.app import forwarded
from tokenservice.web.bodies import MAX_BODY_BYTES
from tokenservice.web.hooks import complete
from tokenservice.web.plans import Plan, count, perform
from tokenservice.web.problems import describe, explanations
from tokenservice.web.responses import PlainResponse

#: The header fields that a planned call reads, by the names of WSGI. Of each there may be one.
READ = {
    b"authorization": "HTTP_AUTHORIZATION",
    b"content-type": "CONTENT_TYPE",
    b"accept-language": "HTTP_ACCEPT_LANGUAGE",
    b"idempotency-key": "HTTP_IDEMPOTENCY_KEY",
    b"x-request-id": "HTTP_X_REQUEST_ID",
    b"traceparent": "HTTP_TRACEPARENT",
    b"x-forwarded-for": "HTTP_X_FORWARDED_FOR",
    b"x-forwarded-proto": "HTTP_X_FORWARDED_PROTO",
}
#: Fields of which Flask's extensions make something: CORS, and the prefix of a proxy.
CLOSING = {b"origin", b"x-forwarded-prefix"}
#: An escape that may hide an address, or a letter of the name of its field.
ESCAPED = re.compile(rb"\\u00[2-7]")


class Request(Protocol):
    """A whole request, as the worker has read it.

    :ivar target: the target of its first line, as it is
    :ivar path: the path in it, as it is
    :ivar headers: names in lower case, and values
    :ivar peer: the address and the port of the client, or of the last proxy
    """

    method: str
    target: bytes
    path: bytes
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes
    peer: tuple[str, int]
    scheme: str


class WouldWait(Exception):
    """A call that a thread must not go on with that may not wait."""


def may_name_an_account(field: bytes, body: bytes) -> bool:
    """Whether ``field`` of a body may have an address of an account. Only Postgres knows its id."""
    return (b"@" in body and field in body) or ESCAPED.search(body) is not None


class Inside(threading.local):
    """A context for each thread, in which the app is the current one.

    To push and pop a context of Flask for each call costs 6 % (30 alternating rounds).
    """

    def __init__(self, app: Flask) -> None:
        self.context = contextvars.Context()
        self.context.run(app.app_context().push)


@dataclass(slots=True)
class Entered:
    """A call that came in by the door.

    :ivar in_path: the values in its path
    :ivar is_counted: whether its limit has counted it
    """

    plan: Plan
    in_path: Mapping[str, str]
    call: Call
    body: bytes
    is_counted: bool = False


class Door:
    """The direct door of an app.

    :param engine: the connection of the engine to Redis, and ``counting`` that of the limits
    :param traced: begins the span of each call; None where calls are not traced
    """

    def __init__(
        self,
        app: Flask,
        plans: Iterable[Plan],
        config: Config,
        *,
        engine: Connection,
        counting: Connection,
        traced: Any,
    ) -> None:
        self._app = app
        self._traced = traced
        self._inside = Inside(app)
        self._trusted_proxies = config.trusted_proxies
        self._shown_addresses = config.log_addresses
        self._plans: dict[tuple[str, bytes], Plan] = {}
        self._patterns: list[tuple[str, re.Pattern[str], Plan]] = []
        self._needs: dict[str, list[Connection]] = {}
        self._both = [engine, counting]
        self._hashing = {
            rule.rule.encode()
            for rule in app.url_map.iter_rules()
            if hasattr(app.view_functions[rule.endpoint], "is_hashing")
        }
        for plan in plans:
            is_off = getattr(config, f"rate_limit_{plan.limit}") == "off"
            self._needs[plan.limit] = [engine] if is_off else self._both
            if "<" in plan.path:
                self._patterns.append((plan.method, self._pattern(plan.path), plan))
            else:
                self._plans[plan.method, plan.path.encode()] = plan

    def enter(self, request: Request) -> Entered | None:
        """Let a planned call of a known caller in; None where it has to go through Flask.

        Its credentials are verified and its account is fresh, both in memory.
        """
        found = self._find(request.method, request.target)
        if found is None or len(request.body) > MAX_BODY_BYTES:
            return None
        plan, in_path = found
        if plan.seeks_accounts and may_name_an_account(plan.seeks_accounts, request.body):
            return None
        given = self._read(request.headers)
        if given is None:
            return None
        caller = self._caller(given.get("HTTP_AUTHORIZATION", ""))
        if caller is None:
            return None
        words = given.get("HTTP_X_FORWARDED_FOR", "")
        address = addresses.behind(self._trusted_proxies, words, request.peer[0])
        if caller.key and caller.key.networks and not caller.key.admits(address):
            return None  # Flask decides.
        given["wsgi.url_scheme"] = request.scheme
        asked = Call(
            plan.method,
            plan.endpoint,
            given,
            client_address=addresses.shown(address, self._shown_addresses),
            is_audited=plan.audited,
        )
        asked.caller = caller
        return Entered(plan, in_path, asked, request.body)

    def is_quick(self, entered: Entered) -> bool:
        """Whether the call may run in a thread that must not wait: in doubt it may not."""
        caller, limit = entered.call.caller, entered.plan.limit
        has_limits = caller.key is not None and bool(caller.key.limits)
        needs = self._both if has_limits else self._needs[limit]
        return all(connection.is_near for connection in needs)

    def answer(self, entered: Entered, *, waits: bool) -> PlainResponse | None:
        """Make the call.

        :param waits: whether this thread may wait
        :returns: status, header fields in their order, and body; None where it would have to wait
            after all, and the call is to be made by a thread that may
        """
        return self._inside.context.run(self._answer, entered, waits)

    def _answer(self, entered: Entered, waits: bool) -> PlainResponse | None:
        asked = entered.call
        if self._trusted_proxies and "HTTP_X_FORWARDED_FOR" in asked.given:
            forwarded(asked.given["HTTP_X_FORWARDED_FOR"], self._trusted_proxies)
        if self._traced and not asked.span:
            self._traced.begin(asked)
        current.set(asked)
        try:
            response = self._perform(entered, waits)
            if response:
                complete(asked, response.status, response.headers)
        finally:
            current.set(None)
        return response

    def _perform(self, entered: Entered, waits: bool) -> PlainResponse | None:
        def counted() -> None:
            if not entered.is_counted:
                entered.is_counted = True
                count(entered.plan.limit, entered.call)
            if not waits and not self.is_quick(entered):
                raise WouldWait  # The count waited for a Redis that hangs: the engine would too.

        plan, asked, body = entered.plan, entered.call, entered.body
        try:
            return perform(plan, asked, entered.in_path, dict, lambda: body, counted)
        except WouldWait:
            return None
        except Exception as error:  # noqa: BLE001 - Flask makes a problem of any error too
            return describe(explanations(error))

    def is_hashing(self, request: Request) -> bool:
        """Whether the view of a request waits for the hash of a password."""
        return unquote_to_bytes(request.path) in self._hashing

    def _find(self, method: str, target: bytes) -> tuple[Plan, Mapping[str, str]] | None:
        """The plan of a target in its documented spelling, without a query."""
        if plan := self._plans.get((method, target)):
            return plan, {}
        for other, pattern, plan in self._patterns:
            if method == other and (found := pattern.fullmatch(target.decode("latin-1"))):
                return plan, found.groupdict()
        return None

    def _read(self, headers: Sequence[tuple[bytes, bytes]]) -> dict[str, str] | None:
        """The fields that a call reads; None where Flask would make something else of them."""
        given: dict[str, str] = {}
        for name, value in headers:
            if name in READ:
                if READ[name] in given:
                    return None
                given[READ[name]] = value.decode("latin-1")
            elif name in CLOSING or b"_" in name:
                return None
        return given

    def _caller(self, authorization: str) -> Caller | None:
        """The caller behind verified credentials, if it is known, fresh and may call."""
        scheme, _, credentials = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return None
        verified: VerifiedTokens = self._app.extensions[VerifiedTokens.__name__]
        callers: Callers = self._app.extensions[Callers.__name__]
        principal = verified.principal(credentials)
        caller = callers.recall(principal) if principal else None
        if caller is None or not caller.is_current:
            return None
        if caller.key:
            callers.used(caller.key)
        return caller

    def _pattern(self, path: str) -> re.Pattern[str]:
        """A rule of Flask as a regular expression, with the converters of the app."""
        converters = self._app.url_map.converters

        def group(found: re.Match[str]) -> str:
            return f"(?P<{found[2]}>{converters[found[1]].regex})"

        return re.compile(re.sub(r"<(\w+):(\w+)>", group, path))
