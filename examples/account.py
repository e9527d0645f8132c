"""Shared by the examples: a throw-away account, and a check that prints its result."""

import os
import secrets
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import httpx

from token_service_client import Refused, Tokens, TokensError

SERVICE = os.environ.get("TOKEN_SERVICE", "http://localhost:8000")


class Account(NamedTuple):
    """A throw-away account, logged in. A program of your own has a service key instead."""

    id: str
    tokens: Tokens


def enrol(nombre: str) -> Account:
    """Register an account and log in; wait where the service says to try again later."""
    account = {"nombre": nombre, "password": secrets.token_urlsafe(24)}
    while True:
        # Each time another address: a 503 may come after the deed.
        account["correo"] = f"{nombre}.{secrets.token_hex(8)}@example.com"
        try:
            registered = httpx.post(f"{SERVICE}/auth/register", json=account, timeout=10)
        except httpx.TransportError:
            sys.exit(f"FAILED: no answer from {SERVICE}")
        if "json" not in registered.headers.get("Content-Type", ""):
            sys.exit(f"FAILED: {SERVICE} is not the token service")
        if registered.status_code not in (429, 503):
            break
        wait = int(registered.headers["Retry-After"])
        print(f"    {registered.json()['code']}: Retry-After is {wait} s")
        time.sleep(wait)
    check(registered.status_code == 201, f"the {nombre} has an account", registered.text)
    # A slow machine takes its time to hash a password.
    patience = {"timeout": 10.0, "deadline": 60.0}
    tokens = Tokens.login(
        SERVICE, email=account["correo"], password=account["password"], **patience
    )
    print(f"ok  the {nombre} is logged in")
    return Account(registered.json()["id"], tokens)


def refusal(call: Callable[[], object]) -> Refused | None:
    """The refusal of a call that should not succeed; None where it does."""
    try:
        call()
    except Refused as error:
        return error
    return None


def check(as_expected: bool, what: str, found: object = "") -> None:
    """Print ``what`` if it is ``as_expected``, or else end the script with an error."""
    if not as_expected:
        sys.exit(f"FAILED: {what}" + (f": {found}" if found else ""))
    print("ok ", what)


def run(main: Callable[[], None]) -> None:
    """Run an example, and end it with an error where the service refuses it."""
    try:
        main()
    except TokensError as error:
        sys.exit(f"FAILED: {error}")
