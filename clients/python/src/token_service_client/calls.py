"""The calls of the service: what each sends, and how its response is read. Nothing is sent here."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar

from token_service_client.errors import CallRefused, Malformed, Unknown
from token_service_client.values import Created, Held, Receipt, Seen, Use, value_of

R = TypeVar("R")
#: Ids or e-mail addresses of 1 to 16 accounts; a text is one of them.
Accounts = str | Sequence[str]
# Only the service knows which texts are tokens. These do no harm in a request.
SECRET, ID = re.compile(r"ot[tr]_[0-9A-Za-z]{1,250}"), re.compile(r"[0-9A-Za-z]{1,64}")
KEY = re.compile(r"[!-~]{1,255}")


@dataclass(frozen=True, slots=True)
class Call(Generic[R]):
    """A call that can be sent any number of times.

    :ivar read: makes the result of the body of its response
    :ivar key: its ``Idempotency-Key``, or "" where the call is idempotent by nature
    """

    method: str
    path: str
    read: Callable[[Any], R]
    body: dict[str, Any] | None = field(default=None, repr=False)
    key: str = ""


def create(
    *,
    purpose: str,
    audience: Accounts | None = None,
    subject: str | None = None,
    data: Mapping[str, Any] | None = None,
    bind: str | None = None,
    expires_in: int | None = None,
    require_subject: bool | None = None,
    allow_unregistered: bool | None = None,
    idempotency_key: str | None = None,
) -> Call[Created]:
    """Create a token that can be consumed once.

    :param purpose: consume must name the same
    :param audience: the only accounts that may consume it; any without it
    :param subject: the person or thing that it speaks for; the id of this account without it
    :param data: a JSON object of up to 4096 bytes, returned by consume
    :param bind: the hash of the action that it approves (``bind_of``)
    :param expires_in: its life in seconds; the service has a default
    :param require_subject: consume must name the subject
    :param allow_unregistered: the audience may name an address without an account
    """
    terms = terms_of(
        purpose=purpose,
        audience=None if audience is None else listed(audience),
        subject=subject,
        data=None if data is None else dict(data),
        bind=bind,
        expires_in=expires_in,
        require_subject=require_subject,
        allow_unregistered=allow_unregistered,
    )
    key = key_of(idempotency_key)
    return Call("POST", "/token/create", partial(value_of, Created), terms, key)


def create_many(
    count: int,
    *,
    purpose: str,
    audience: Accounts | None = None,
    subject: str | None = None,
    data: Mapping[str, Any] | None = None,
    bind: str | None = None,
    expires_in: int | None = None,
    require_subject: bool | None = None,
    allow_unregistered: bool | None = None,
    idempotency_key: str | None = None,
) -> Call[list[Created]]:
    """Create up to 100 tokens with the same terms (see ``create``), all or none."""
    one = create(
        purpose=purpose,
        audience=audience,
        subject=subject,
        data=data,
        bind=bind,
        expires_in=expires_in,
        require_subject=require_subject,
        allow_unregistered=allow_unregistered,
        idempotency_key=idempotency_key,
    )

    def read(body: Any) -> list[Created]:
        return [value_of(Created, token) for token in body["tokens"]]

    return Call("POST", "/token/batch", read, {**(one.body or {}), "count": count}, one.key)


def consume(
    token: str,
    *,
    purpose: str,
    issued_by: Accounts,
    subject: str | None = None,
    bind: str | None = None,
    idempotency_key: str | None = None,
) -> Call[Use]:
    """Consume a token: of any number of calls, one succeeds.

    :param issued_by: the only accounts whose tokens are accepted; anyone can create a token
    :param subject: where it is named, it must be that of the token
    :param bind: the hash of the action that is about to happen (``bind_of``)
    :param idempotency_key: kept by a caller that repeats the call itself, after a restart or later
    :raises Refused: the token is not good; this call consumed nothing
    """
    body = presented(token, purpose, issued_by, subject=subject, bind=bind)
    return Call("POST", "/token/consume", partial(value_of, Use), body, key_of(idempotency_key))


def reserve(
    token: str,
    *,
    purpose: str,
    issued_by: Accounts,
    subject: str | None = None,
    bind: str | None = None,
    lease: int = 30,
) -> Call[Held]:
    """Reserve a token for ``lease`` seconds, up to 60."""
    terms = {"subject": subject, "bind": bind, "lease_seconds": lease}
    body = presented(token, purpose, issued_by, **terms)
    return Call("POST", "/token/reserve", partial(value_of, Held), body, key_of(None))


def commit(held: Held) -> Call[Use]:
    """Consume the token of a reservation."""
    body = {"reservation": held.reservation}
    return Call("POST", "/token/commit", partial(value_of, Use), body, key_of(None))


def release(held: Held) -> Call[None]:
    """Give a reservation up: the token is free again."""
    return Call("POST", "/token/release", nothing, {"reservation": held.reservation})


def peek(token: str, *, issued_by: Accounts) -> Call[Seen | None]:
    """Look at a token without consuming it (RFC 7662).

    None where it is not alive, not for this program, or of another issuer.
    """

    def read(body: Any) -> Seen | None:
        return value_of(Seen, body) if body["active"] else None

    given = {"token": token, "issued_by": issuers(issued_by)}
    return Call("POST", "/token/introspect", read, given)


def receipt(token_id: str) -> Call[Receipt]:
    """Read the record of a token, by its public id, also for a while after it was consumed.

    :raises Unknown: there is no record, or this account is neither its creator nor its audience
    """
    return Call("GET", f"/token/{checked_id(token_id)}", partial(value_of, Receipt))


def revoke(token_id: str) -> Call[None]:
    """Revoke a token that this account created, by its public id; again, or for the first time."""
    return Call("DELETE", f"/token/{checked_id(token_id)}", nothing)


def revoke_token(token: str) -> Call[None]:
    """Revoke a token by its text: for its creator and for its audience."""
    return Call("POST", "/token/revoke", nothing, {"token": checked(token)})


def terms_of(**given: Any) -> dict[str, Any]:
    """The fields of a request, without those that are not given."""
    return {name: value for name, value in given.items() if value is not None}


def presented(token: str, purpose: str, issued_by: Accounts, **more: Any) -> dict[str, Any]:
    """The fields of a token that is presented; its purpose and its issuers are always sent."""
    expected = {"purpose": purpose, "issued_by": issuers(issued_by)}
    return {"token": checked(token), **expected, **terms_of(**more)}


def listed(accounts: Accounts) -> list[str]:
    return [accounts] if isinstance(accounts, str) else list(accounts)


def issuers(accounts: Accounts) -> list[str]:
    """:raises ValueError: none is named, or one by an empty text"""
    named = listed(accounts)
    if not named or not all(named):
        raise ValueError("issued_by is empty: name the accounts whose tokens are accepted")
    return named


def checked(token: str) -> str:
    """:raises Malformed: the text cannot be a token, and need not be sent"""
    if not SECRET.fullmatch(token):
        raise Malformed("token_malformed", 422, {"title": "Malformed token"})
    return token


def checked_id(token_id: str) -> str:
    """:raises Unknown: it cannot be an id, and must not become part of a path"""
    if not ID.fullmatch(token_id):
        raise Unknown("token_unknown", 404, {"title": "Unknown token"})
    return token_id


def key_of(given: str | None) -> str:
    """The key of a call: as given, or a new one, made before the first try.

    :raises CallRefused: no header can carry it
    """
    if given is None:
        return secrets.token_urlsafe(16)
    if not KEY.fullmatch(given):
        title = "idempotency_key takes 1 to 255 visible ASCII characters"
        raise CallRefused("validation_failed", 422, {"title": title})
    return given


def nothing(_: Any) -> None:
    """The result of a call without one."""
