"""The two service keys of the page: one creates tokens, the other consumes them."""

from __future__ import annotations

from collections.abc import Mapping

from dev.demo.calls import Call, Program
from dev.server import CannotStart

PURPOSE = "ws.connect"
SCOPES = {"backend": "token:create", "gateway": "token:consume"}


def current_keys(
    port: int, kept: Mapping[str, str], correo: str, password: str
) -> Mapping[str, str]:
    """The key of each side: that of the last run, or a new one where the service forgot it.

    :raises CannotStart: the account gets none
    """
    if kept.keys() == SCOPES.keys() and all(is_known(port, key) for key in kept.values()):
        return kept
    login = {"correo": correo, "password": password}
    person = Program(port, received(Program(port), "/auth/login", login)["access_token"])
    return {
        side: received(
            person,
            "/auth/keys",
            {"name": f"demo: {side}", "scopes": [scope], "purposes": [PURPOSE]},
        )["key"]
        for side, scope in SCOPES.items()
    }


def is_known(port: int, key: str) -> bool:
    """Whether the service knows a key.

    Neither key may list tokens: a known one is 403, an unknown one 401.
    """
    return Program(port, key).call(Call(method="GET", path="/token")).status != 401


def received(program: Program, path: str, body: Mapping[str, object]) -> Mapping[str, str]:
    """:raises CannotStart: the service refuses the call"""
    made = program.call(Call(path=path, sent=body))
    if made.status not in (200, 201):
        why = made.received.get("detail", "no response")
        raise CannotStart(f"The page has no service keys. {path}: {why}")
    return made.received
