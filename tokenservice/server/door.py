"""What an application may offer to be run without WSGI, or in the thread that reads."""

from __future__ import annotations

from typing import Protocol

from tokenservice.server.request import Request
from tokenservice.server.wsgi import Headers


class Door(Protocol):
    """What an application may offer as ``extensions["Door"]``."""

    def is_quick(self, request: Request) -> bool:
        """Whether to run it in the loop, now. When in doubt, it is not quick."""

    def answer(self, request: Request) -> tuple[int, Headers, bytes] | None:
        """A response without WSGI, or None where WSGI must give it."""
