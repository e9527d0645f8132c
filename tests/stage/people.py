"""Accounts, and the headers that authenticate them."""

from __future__ import annotations

import dataclasses
import itertools
import secrets
from collections.abc import Callable
from typing import Any

from tests.stage.waiting import served

PASSWORD = "tres tristes tigres en un trigal"
WRONG_PASSWORD = "cuatro tristes tigres en un trigal"
numbers = itertools.count()


@dataclasses.dataclass
class Person:
    """An account, and the headers that authenticate it."""

    id: str
    correo: str
    headers: dict[str, str]


def new_correo() -> str:
    return f"person{next(numbers)}.{secrets.token_hex(4)}@example.com"


def enrol(post: Callable[..., Any]) -> Person:
    """Register and log in over ``post(path, json=…)``."""
    account: dict[str, str] = {}

    def register() -> Any:
        # Each time another address: a 503 may come after the deed.
        account.update(nombre="Ana", correo=new_correo(), password=PASSWORD)
        return post("/auth/register", json=account)

    registered = served(register)
    login = served(
        lambda: post("/auth/login", json={"correo": account["correo"], "password": PASSWORD})
    )
    body = [
        response.json() if callable(response.json) else response.json
        for response in (registered, login)
    ]
    return Person(
        body[0]["id"],
        account["correo"],
        {"Authorization": f"Bearer {body[1]['access_token']}"},
    )
