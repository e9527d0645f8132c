"""Service keys: create, list and revoke them. These calls are for people: no key makes keys."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from flask import Flask
from sqlalchemy import func, or_, select, update
from werkzeug.routing import BaseConverter

from tokenservice.audit import events
from tokenservice.auth.authentication import caller
from tokenservice.auth.blueprint import blueprint
from tokenservice.auth.models import ServiceKey, User
from tokenservice.auth.rights import KeyText
from tokenservice.auth.schemas import KeyRequest, KeyResponse, KeysResponse, NewKeyResponse
from tokenservice.extensions import db
from tokenservice.onetime.format import ID_PATTERN
from tokenservice.postgres.breaker import asking
from tokenservice.telemetry import logs
from tokenservice.web.limits import limited
from tokenservice.web.problems import Problem
from tokenservice.web.views import operation

#: The most keys of an account that are neither revoked nor expired.
MOST = 100
KEY = KeyResponse()


class KeyId(BaseConverter):
    """The id of a key in a path."""

    regex = ID_PATTERN.pattern


def current_keys(user_id: str) -> tuple[Any, ...]:
    """The condition of an account's keys that can be used."""
    lasts = or_(ServiceKey.expires_at.is_(None), ServiceKey.expires_at > datetime.now(UTC))
    return ServiceKey.user_id == uuid.UUID(user_id), ServiceKey.revoked_at.is_(None), lasts


def open_key(user_id: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Make a key of an account; return its fields with its text, which is kept nowhere.

    :raises Problem: the account is disabled, or has as many keys as it may have
    """
    text, now = KeyText.new(), datetime.now(UTC)
    life = given.get("expires_in")
    key = ServiceKey(
        id=text.id,
        user_id=uuid.UUID(user_id),
        name=given["name"],
        secret_hash=text.verifier,
        scopes=tuple(dict.fromkeys(given["scopes"])),
        purposes=tuple(dict.fromkeys(given["purposes"])),
        cidrs=tuple(dict.fromkeys(given["cidrs"])),
        limit_create=given["limits"].get("create"),
        limit_validate=given["limits"].get("validate"),
        created_at=now,
        expires_at=now + timedelta(seconds=life) if life else None,
    )
    with asking():
        # One at a time for each account: else two at once would both find room for the last.
        alone = select(User.id).where(User.id == key.user_id, User.is_active)
        if db.session.scalar(alone.with_for_update(key_share=True)) is None:
            raise Problem("access_token_invalid")
        held = select(func.count()).select_from(ServiceKey).where(*current_keys(user_id))
        if (db.session.scalar(held) or 0) >= MOST:
            raise Problem("too_many_keys")
        db.session.add(key)
        events.record("key.created", key=key.id, account=key.user_id, scopes=key.scopes)
        db.session.commit()
    return {"key": str(text), **{name: getattr(key, name) for name in KEY.fields}}


def end_key(key_id: str, *conditions: Any) -> bool:
    """Revoke a key, now or before; False where there is none that meets the conditions."""
    named = (ServiceKey.id == key_id, *conditions)
    end = update(ServiceKey).where(*named, ServiceKey.revoked_at.is_(None))
    with asking():
        owner = db.session.scalar(end.values(revoked_at=func.now()).returning(ServiceKey.user_id))
        if owner is None:
            return db.session.scalar(select(ServiceKey.id).where(*named)) is not None
        events.record("key.revoked", key=key_id, account=owner)
        db.session.commit()
    return True


@blueprint.route("/keys", methods=["POST"])
@limited("create", lambda: caller().id)
@blueprint.arguments(KeyRequest())
@blueprint.response(201, NewKeyResponse())
@operation("createKey", "too_many_keys")
def create_key(given: dict[str, Any]) -> dict[str, Any]:
    """Make a service key, for a program

    The response shows it once. Of the key only a hash is kept.
    """
    key = open_key(caller().id, given)
    logs.note("key.created", key_id=key["id"])
    return key


@blueprint.route("/keys")
@blueprint.response(200, KeysResponse())
@operation("listKeys")
def list_keys() -> dict[str, Any]:
    """List one's own keys that can be used, oldest first, without their secrets

    Revoked and expired ones are not among them.
    """
    mine = select(ServiceKey).where(*current_keys(caller().id))
    with asking():
        found = db.session.scalars(mine.order_by(ServiceKey.created_at, ServiceKey.id)).all()
    return {"items": found}


@blueprint.route("/keys/<key_id:key_id>", methods=["DELETE"])
@blueprint.response(204)
@operation("revokeKey", "not_found")
def revoke_key(key_id: str) -> None:
    """Revoke a key of one's own

    Every worker refuses it within two seconds, and its JWTs too. A repeat is 204 as well.
    """
    if not end_key(key_id, ServiceKey.user_id == uuid.UUID(caller().id)):
        raise Problem("not_found")
    logs.note("key.revoked", key_id=key_id)


def init_app(app: Flask) -> None:
    app.url_map.converters["key_id"] = KeyId
