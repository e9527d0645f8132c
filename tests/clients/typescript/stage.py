"""A service and its callers as the programs are told of them, and a proxy that loses replies."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from dev.server import free_port
from tests.stage.keys import new_key
from tests.stage.people import Person, enrol
from tests.stage.proxy import KINDS, Proxy
from tests.stage.service import Service
from tests.stage.tokens import altered


@dataclasses.dataclass
class Stage:
    """A service, and two accounts of it with keys."""

    service: Service
    backend: Person
    gateway: Person
    keys: dict[str, str]

    def created(self, **terms: object) -> str:
        """A token of the backend."""
        url, headers = f"{self.service.url}/token/create", self.backend.headers
        body = {"expires_in": 60, **terms}
        made = httpx.post(url, json=body, headers=headers, timeout=30).json()
        return str(made["token"])

    def environment(self, port: int) -> dict[str, str]:
        """What the lines of the page read of the service, which they reach through a port."""
        return {
            "TOKEN_SERVICE": f"http://127.0.0.1:{port}",
            "BACKEND_KEY": self.keys["backend"],
            "GATEWAY_KEY": self.keys["gateway"],
            "BACKEND": self.backend.correo,
        }

    def place(self, port: int, marks: list[str] | None = None) -> dict[str, Any]:
        """What the programs are told of the service, which they reach through a port."""
        created = self.created(purpose="unknown")
        return {
            "url": f"http://127.0.0.1:{port}",
            "nowhere": f"http://127.0.0.1:{free_port()}",
            "keys": self.keys,
            "issuer": self.backend.correo,
            "audience": self.gateway.correo,
            "unknown": altered(created, secret="0" * 28),
            "lost": altered(created, secret="0" * 28, epoch="0000"),
            "marks": marks or [],
            "tellsRefusals": True,
        }


def staged(service: Service) -> Stage:
    """Two new accounts of a service; one key of them may create once in an hour."""
    with httpx.Client(base_url=service.url, timeout=30) as http:
        backend, gateway = enrol(http.post), enrol(http.post)
        keys = {
            "backend": new_key(http.post, backend),
            "gateway": new_key(http.post, gateway),
            "limited": new_key(http.post, gateway, limits={"create": "1 per hour"}),
        }
    return Stage(service, backend, gateway, {name: key["key"] for name, key in keys.items()})


@contextmanager
def losing(port: int, count: int) -> Iterator[tuple[Proxy, list[str]]]:
    """A proxy before a service, and marks of so many replies that it loses, each kind in turn."""
    with Proxy(port, late=1.2) as proxy:
        marks = [f"lost-{number};" for number in range(count)]
        for mark, kind in zip(marks, itertools.cycle(KINDS), strict=False):
            proxy.lose(mark.encode(), kind)
        yield proxy, marks
