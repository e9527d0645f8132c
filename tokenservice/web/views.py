"""Marks of a view, from which authentication and the OpenAPI document are derived."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

from flask import current_app

from tokenservice.web.problems import Problem

View = TypeVar("View", bound=Callable[..., Any])
KEY = re.compile(r"[!-~]{1,255}")


def public(view: View) -> View:
    """Serve a view without authentication. Every other view needs a caller."""
    view.is_public = True  # type: ignore[attr-defined]
    return view


def is_public(endpoint: str) -> bool:
    return has(endpoint, "is_public")


def hashing(view: View) -> View:
    """Mark a view that waits for the hash of a password, for up to two seconds.

    A server runs such views on threads of their own, or many logins would hold up every other call.
    """
    view.is_hashing = True  # type: ignore[attr-defined]
    return view


def foreign(view: View) -> View:
    """Mark a view whose body and errors another standard defines."""
    view.is_foreign = True  # type: ignore[attr-defined]
    return view


def repeatable(view: View) -> View:
    """Mark a view that an Idempotency-Key makes safe to repeat."""
    view.is_repeatable = True  # type: ignore[attr-defined]
    return view


def for_keys(limit: str, scope: str) -> Callable[[View], View]:
    """Mark a view that counts its calls under ``limit``, and that a key with ``scope`` may call."""

    def mark(view: View) -> View:
        view.limit, view.scope = limit, scope  # type: ignore[attr-defined]
        return view

    return mark


def answering(status_of: Callable[[str], int]) -> Callable[[View], View]:
    """Mark a view with the status of each problem by its code, as its clients know it."""

    def mark(view: View) -> View:
        view.status_of = status_of  # type: ignore[attr-defined]
        return view

    return mark


def has(endpoint: str | None, mark: str) -> bool:
    """Tell whether the view of ``endpoint`` carries a mark."""
    return hasattr(current_app.view_functions.get(endpoint or ""), mark)


def operation(name: str, *refusals: str) -> Callable[[View], View]:
    """Name a view's operation in the OpenAPI document, and the problem codes of its own."""

    def mark(view: View) -> View:
        view.operation, view.refusals = name, refusals  # type: ignore[attr-defined]
        return view

    return mark


def idempotency_key(key: str | None) -> str:
    """The Idempotency-Key of a call, or "" where it has none.

    :raises Problem: the key is not 1 to 255 visible ASCII characters
    """
    if key is None:
        return ""
    if not KEY.fullmatch(key):
        wrong = ["Takes 1 to 255 visible ASCII characters."]
        raise Problem("validation_failed", errors={"Idempotency-Key": wrong})
    return key
