"""A TCP proxy on loopback that loses replies, or is slow, hangs, refuses or forgets, on command.

    with Proxy(server.port) as proxy:
        ...                         # connect to proxy.port: everything passes
        proxy.lose(b"mark", CUT)    # one reply, to a request with these bytes in it, is lost
        proxy.slow(0.05)            # each reply comes that much later
        proxy.hang()                # connections open, and nothing passes either way
        proxy.refuse()              # connections are reset, and new ones refused
        proxy.mend()                # the end of slow, hang and refuse
    proxy.forget()              # as a firewall: nothing passes on the connections that are open
    proxy.answer(b"INFO", b"")  # each request with these bytes in it gets this reply

A command is in force when the call returns, also for open connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, Self

from dev.server import free_port

#: How a reply is lost: never passed on, passed on too late, or a reset in its place. The server
#: has replied by then, and so has done its work.
SWALLOW, DELAY, CUT = KINDS = ("swallow", "delay", "cut")
RESET = struct.pack("ii", 1, 0)
#: More turns of the loop than an accepted connection takes to become a line.
TURNS = 10


class Proxy:
    """A relay from ``port`` to ``target``, both ports of loopback; a context manager.

    It runs in a thread of its own, and any thread may command it.

    :param target: a port, or a function that chooses one for each connection
    :param late: the seconds by which ``DELAY`` delays a reply
    :param spared: no reply to a request with these bytes is lost, whatever its mark
    """

    def __init__(
        self, target: int | Callable[[], int], *, late: float = 0.25, spared: bytes = b""
    ) -> None:
        self.target, self.port = target, free_port()
        self.lost: Counter[str] = Counter()  # replies by kind
        self._late = late
        self._spared = spared
        self._to_lose: dict[bytes, str] = {}
        self._seconds = 0.0
        self._passing = asyncio.Event()
        self._listener: asyncio.Server | None = None
        self._lines: dict[asyncio.Task[Any], asyncio.StreamWriter] = {}
        self._forgotten: set[asyncio.StreamWriter] = set()
        self._answers: dict[bytes, bytes] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy")

    def lose(self, mark: bytes, kind: str) -> None:
        """Lose one reply: the next to a request that has ``mark`` in it, on any connection."""
        self._to_lose[mark] = kind

    def slow(self, seconds: float) -> None:
        self._do(self._set(seconds=seconds))

    def hang(self) -> None:
        """Hold everything back, for ``mend`` to pass on."""
        self._do(self._set(passing=False))

    def refuse(self) -> None:
        self._do(self._set(listening=False))

    def forget(self) -> None:
        """Drop whatever comes on the connections that are open, and tell neither side."""

        async def drop() -> None:
            self._forgotten.update(self._lines.values())

        self._do(drop())

    def answer(self, mark: bytes, reply: bytes) -> None:
        """Reply to each request with ``mark`` in it in place of the server, from now on."""
        self._answers[mark] = reply

    def mend(self) -> None:
        self._do(self._set())

    def __enter__(self) -> Self:
        self._thread.start()
        self.mend()
        return self

    def __exit__(self, *_: object) -> None:
        self.refuse()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, command: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(command, self._loop).result(30)

    async def _set(
        self, *, seconds: float = 0, passing: bool = True, listening: bool = True
    ) -> None:
        self._seconds = seconds
        (self._passing.set if passing else self._passing.clear)()
        if listening and not self._listener:
            self._listener = await asyncio.start_server(self._line, "127.0.0.1", self.port)
        if not listening and self._listener:
            self._listener.close()
            self._listener = None
            for _ in range(TURNS):
                await asyncio.sleep(0)
            for line, client in self._lines.items():
                reset(client)
                line.cancel()
            await asyncio.gather(*self._lines, return_exceptions=True)

    async def _line(self, asks: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        """One connection, until either side hangs up."""
        line = asyncio.current_task()
        assert line
        self._lines[line] = client
        asked = bytearray()  # since the last reply
        with contextlib.suppress(OSError, asyncio.CancelledError):
            port = self.target() if callable(self.target) else self.target
            replies, server = await asyncio.open_connection("127.0.0.1", port)
            there = asyncio.ensure_future(self._ask(asks, server, asked, client))
            back = asyncio.ensure_future(self._reply(replies, client, asked))
            try:
                await asyncio.wait((there, back), return_when=asyncio.FIRST_COMPLETED)
            finally:
                server.close()
                there.cancel()
                back.cancel()
                await asyncio.gather(there, back, return_exceptions=True)
        client.close()
        del self._lines[line]
        self._forgotten.discard(client)

    async def _ask(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        asked: bytearray,
        client: asyncio.StreamWriter,
    ) -> None:
        while part := await source.read(65536):
            await self._passing.wait()
            if client in self._forgotten:
                continue
            if replies := [reply for mark, reply in self._answers.items() if mark in part]:
                client.write(replies[0])
                continue
            asked += part
            sink.write(part)
            await sink.drain()

    async def _reply(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, asked: bytearray
    ) -> None:
        swallowing = False
        while part := await source.read(65536):
            await self._passing.wait()
            kind = self._kind(bytes(asked))
            if asked:  # or else it is more of a reply that was late already
                asked.clear()
                await asyncio.sleep(self._late if kind == DELAY else self._seconds)
            if kind == CUT:
                reset(sink)
                return
            swallowing = swallowing or kind == SWALLOW or sink in self._forgotten
            if not swallowing:
                sink.write(part)
                await sink.drain()

    def _kind(self, asked: bytes) -> str | None:
        """The kind of loss of the reply to ``asked``, or None."""
        if self._spared and self._spared in asked:
            return None
        for mark in list(self._to_lose):
            if mark in asked:
                kind = self._to_lose.pop(mark)
                self.lost[kind] += 1
                return kind
        return None


def reset(client: asyncio.StreamWriter) -> None:
    """Close the connection with a reset."""
    client.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    client.transport.abort()
