"""The Flask class of the service."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

from tokenservice.web.app import Service


def view() -> str:
    return "plain"


async def coroutine() -> str:
    return "async"


def test_a_plain_view_is_called_as_it_is() -> None:
    """Guard: the flag in ``Service.ensure_sync``. Flask would inspect it 16 times a request."""
    assert Service("app").ensure_sync(view) is view


@pytest.mark.parametrize("given", [coroutine, functools.partial(coroutine)])
def test_an_async_view_is_refused_as_in_flask(given: Callable[..., Any]) -> None:
    """Without asgiref. Called as a plain view, its response would be an unawaited coroutine."""
    with pytest.raises(RuntimeError, match="async"):
        Service("app").ensure_sync(given)
