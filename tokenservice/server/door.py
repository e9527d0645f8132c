"""What an application may offer to be run without WSGI, or in the thread that reads."""

from __future__ import annotations

from typing import Any, Protocol

from tokenservice.server.request import Request
from tokenservice.server.wsgi import Headers


class Door(Protocol):
    """What an application may offer as ``extensions["Door"]``."""

    def enter(self, request: Request) -> Any:
        """What :meth:`answer` needs of a request, or None where WSGI must answer it."""

    def is_quick(self, entered: Any) -> bool:
        """Whether to answer it in the loop, now. When in doubt, it is not quick."""

    def answer(self, entered: Any, *, waits: bool) -> tuple[int, Headers, bytes] | None:
        """The response.

        :param waits: False in the loop, where None puts it off to a thread that may wait
        """

    def is_hashing(self, request: Request) -> bool:
        """Whether to answer it by threads of its own: it waits for the hash of a password."""
