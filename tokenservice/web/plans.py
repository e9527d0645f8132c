"""Plans of calls: data beside a plain function, from which both doors and OpenAPI are made.

A plan says what a call takes, returns and refuses. :func:`perform` carries it out and knows no
Flask. The view of Flask, and the direct door of :mod:`tokenservice.auth.door`, read a request,
perform its plan, and write the response.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Literal, NamedTuple, TypeVar

from flask import Response, request
from marshmallow import EXCLUDE, Schema, ValidationError
from werkzeug.exceptions import HTTPException

from tokenservice.telemetry.audit import audited
from tokenservice.telemetry.calls import Call, call
from tokenservice.web import bodies, limits, texts
from tokenservice.web.hooks import complete
from tokenservice.web.problems import Problem
from tokenservice.web.responses import PlainResponse, written
from tokenservice.web.views import for_keys, idempotency_key, operation

Function = TypeVar("Function", bound=Callable[..., Any])


class Plan(NamedTuple):
    """A call that needs a caller, beside the function that makes it.

    The function takes the caller; what was given, by name, where anything is; and the
    Idempotency-Key, where the call is repeatable.

    :param path: the rule of its path, below that of the blueprint
    :param limit: the name of the limit that counts its calls, by caller
    :param scope: what a key needs to make it
    :param takes: the schema of its body, or of its query
    :param is_optional: whether a call may leave out its body
    :param returns: the schema of its response; None where that has no body
    :param refusals: the codes of its own problems
    :param repeatable: whether an Idempotency-Key makes it safe to repeat
    :param consuming: whether it presents a token to use it
    :param speaks: whether its response has text in the language of the client
    :param locates: the field of its response with which Location names what it created, relative to
        the path of the call (RFC 9110 section 10.2.2): a proxy may have a prefix before that
    :param audited: whether each of its responses has a line in the audit trail
    :param seeks_accounts: the field of its body that may have addresses of accounts, which Postgres
        knows
    :param run: the function, and ``endpoint`` its view: both are known to the blueprint
    """

    name: str
    method: str
    path: str
    limit: str
    scope: str
    takes: Schema | None = None
    source: Literal["json", "query"] = "json"
    is_optional: bool = False
    returns: Schema | None = None
    status: int = 200
    refusals: tuple[str, ...] = ()
    repeatable: bool = False
    consuming: bool = False
    speaks: bool = False
    locates: str = ""
    audited: bool = False
    seeks_accounts: bytes = b""
    run: Callable[..., Any] = lambda *_: None
    endpoint: str = ""

    @property
    def is_purposed(self) -> bool:
        """Whether it creates or presents a token of a purpose, which its body names."""
        return self.source == "json" and self.takes is not None and "purpose" in self.takes.fields


def perform(
    plan: Plan,
    asked: Call,
    in_path: Mapping[str, str],
    query: Callable[[], Mapping[str, str]],
    body: Callable[[], bytes],
    counted: Callable[[], None],
) -> PlainResponse:
    """Check a call and what it gives, run it, and write its response.

    :param body: reads the body, which may be refused only then for its size
    :param counted: counts the call, unless its caller may not make it
    :raises Exception: the refusal, see :class:`~tokenservice.web.problems.Explanations`
    """
    caller = asked.caller
    given: list[Any] | None = None
    if caller.key is not None:
        caller.demand_scope(plan.scope)
        if caller.key.purposes and plan.is_purposed:
            # What is malformed counts before it is refused, and is never run.
            with suppress(Problem, HTTPException):
                given = load(plan, asked, in_path, query, body)
            if given is not None:
                caller.demand_purpose(given[0].get("purpose", ""))
    counted()
    if given is None:
        given = load(plan, asked, in_path, query, body)
    if plan.repeatable:
        given.append(idempotency_key(asked.given.get("HTTP_IDEMPOTENCY_KEY")))
    asked.is_consuming = plan.consuming
    result = plan.run(caller, *given)
    if plan.returns is not None:
        result = plan.returns.dump(result)
    response = written(plan.status, result)
    if plan.speaks:
        response.headers.extend(texts.spoken(texts.language()))
    if plan.locates:
        response.headers.append(("Location", result[plan.locates]))
    return response


def load(
    plan: Plan,
    asked: Call,
    in_path: Mapping[str, str],
    query: Callable[[], Mapping[str, str]],
    body: Callable[[], bytes],
) -> list[Any]:
    """What a call gives, if that is anything.

    :raises Problem: it is not what the plan takes
    """
    if plan.takes is None:
        return [in_path] if in_path else []
    try:
        if plan.source == "query":
            return [plan.takes.load(query(), unknown=EXCLUDE)]
        value = bodies.read_json(body(), asked.given.get("CONTENT_TYPE", ""))
        return [plan.takes.load(value)]
    except ValidationError as error:
        raise Problem("validation_failed", errors=error.messages_dict) from None


def count(limit: str, asked: Call) -> None:
    """Count a call under the limit of its key, where that has one, and under its account's.

    :raises Problem: one of them is reached
    """
    caller = asked.caller
    # First the smaller one: what it refuses counts in no other.
    if caller.key is not None and (words := caller.key.limits.get(limit)):
        limits.count_at(words, f"key-{limit}", caller.key.id)
        if caller.key.own_quota:
            return
    limits.count(limit, caller.id)


class Blueprint(bodies.Blueprint):
    """A blueprint of planned calls.

    :ivar plans: all of them
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.plans: list[Plan] = []

    def call(self, plan: Plan) -> Callable[[Function], Function]:
        """Plan a function, which stays as it is, and make its view."""

        def register(run: Function) -> Function:
            path, endpoint = f"{self.url_prefix}{plan.path}", f"{self.name}.{run.__name__}"
            planned = plan._replace(run=run, path=path, endpoint=endpoint)
            self.plans.append(planned)
            self.route(plan.path, methods=[plan.method])(self._view(planned))
            return run

        return register

    def _view(self, plan: Plan) -> Callable[..., Response]:
        # Of the decorators of flask-smorest only the document is wanted: wraps() copies it from a
        # function that is never called. What they do to a call, perform() does.
        documented = self.response(plan.status, plan.returns)(plan.run)
        if plan.takes is not None:
            required = not plan.is_optional
            takes = self.arguments(plan.takes, location=plan.source, required=required)
            documented = takes(documented)

        refusals = ("purpose_not_allowed",) if plan.is_purposed else ()

        @for_keys(plan.limit, plan.scope)
        @operation(plan.name, *refusals, *plan.refusals)
        @functools.wraps(documented)
        def view(**in_path: str) -> Response:
            asked = call()
            query, body = request.args.to_dict, request.get_data
            plain = perform(plan, asked, in_path, query, body, lambda: count(plan.limit, asked))
            complete(asked, plain.status, plain.headers)
            return Response(plain.body, plain.status, plain.headers)

        if plan.repeatable:
            view.is_repeatable = True  # type: ignore[attr-defined]
        if plan.locates:
            view.locates = True  # type: ignore[attr-defined]
        if plan.audited:
            view = audited(view)
        return view
