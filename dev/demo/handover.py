"""What ``make run`` and its page tell each other, in private files of ``.local``."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from dev.server import private

FILE = Path(".local/demo.json")
#: Present from the request for a restart of Redis until the restart is over.
RESTART = Path(".local/restart_redis")
RESTART_SECONDS = 30.0  # on a busy machine


@dataclass(frozen=True)
class Handover:
    """What ``make run`` leaves for the page.

    :ivar account: the address of the demo account
    :ivar keys: its service key for each side
    :ivar owns_redis: whether ``make run`` started Redis, and may restart it
    """

    account: str = ""
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    owns_redis: bool = False

    def leave(self) -> None:
        FILE.unlink(missing_ok=True)
        with open(FILE, "x", opener=private) as file:
            json.dump(asdict(self), file)


def read() -> Handover:
    """The last handover, or an empty one."""
    with contextlib.suppress(FileNotFoundError, ValueError, TypeError):
        return Handover(**json.loads(FILE.read_text()))
    return Handover()


def restart_redis() -> None:
    """Ask ``make run`` to restart Redis, and wait until it has.

    :raises TimeoutError: it does not
    """
    with contextlib.suppress(FileExistsError):  # Another page has asked.
        os.close(private(str(RESTART), os.O_CREAT | os.O_EXCL))
    deadline = time.monotonic() + RESTART_SECONDS
    while RESTART.exists():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.02)
