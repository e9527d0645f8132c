"""The sockets of this process, and whether somebody listens."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path


def keep_alive(port: int) -> list[int]:
    """Of each connection to ``port``: the seconds after which the kernel keeps it alive, or 0."""
    found = []
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(path.name))) as one:
            if one.family == socket.AF_INET and one.getpeername()[1] == port:
                alive = one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                idle = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
                found.append(idle if alive else 0)
    return found


def accepts(port: int) -> bool:
    """Whether a connection to a port of this machine is taken."""
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    return False
