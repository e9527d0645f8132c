"""One client: its requests one after another, their answers in order, and its deadlines."""

from __future__ import annotations

import selectors
import socket
from typing import IO, Protocol

from gunicorn.http import errors as http

from tokenservice.server.framing import CutBody, Framing, Overdue, Phase
from tokenservice.server.request import Fields, Request
from tokenservice.server.wsgi import PIECE, Answer, head

#: The time for a head from its first byte, and for a body from the end of the head.
REQUEST_SECONDS = 10.0
#: The time for a client to take its answer, and the bytes for which it gets a second more.
READER_SECONDS, READER_RATE = 10.0, 16 * 1024
#: The time for a client to see the end of its last answer, and to close.
LINGER_SECONDS = 2.0
#: The bytes behind a request that are read while it is answered.
MOST_AHEAD = 64 * 1024
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Loop(Protocol):
    """What a connection needs of its worker."""

    selector: selectors.BaseSelector
    alive: bool

    def idle_seconds(self) -> float: ...
    def rest(self, connection: Connection, seconds: float) -> None: ...
    def arrived(self, connection: Connection, request: Request) -> None: ...
    def refuse(self, error: Exception, headers: Fields = (), peer: str = "") -> Answer: ...
    def forget(self, connection: Connection) -> None: ...


class Connection:
    """A connection. It has one request at a time, so answers are in the order of requests.

    :ivar deadline: the time at which it is overdue, unless its request is being answered
    """

    def __init__(self, loop: Loop, client: socket.socket, framing: Framing) -> None:
        self.deadline = 0.0
        self._loop, self._socket, self._framing = loop, client, framing
        self._request: Request | None = None
        self._unsent = memoryview(b"")
        self._file: IO[bytes] | None = None
        self._responds = self._is_last = self._is_over = self._lingers = self.is_closed = False
        self._part: Phase | None = framing.phase
        self._events = 0
        loop.rest(self, REQUEST_SECONDS)
        self._watch(READ)

    def on_event(self, events: int) -> None:
        """Read or write what can be without a wait."""
        if self.is_closed:
            return
        if self._lingers:
            self._drain()
        elif events & WRITE:
            self._send()
        else:
            self._receive()

    def go_on(self) -> None:
        """Begin the next request, if it is whole."""
        if self.is_closed or self._request or self._responds or self._lingers:
            return
        request, refused = None, None
        try:
            request = self._framing.next()
        except http.ParseException as error:
            refused = error
        if self._framing.expects():
            self._write(CONTINUE)
        if refused:
            self._refuse(refused)
        elif request:
            self._request = request
            self._loop.arrived(self, request)
        elif not self._is_over:
            self._await()
        elif self._framing.phase == "body":
            self._refuse(CutBody())
        else:
            self.close()

    def answer(self, answer: Answer) -> None:
        """Send the response to the present request."""
        request, self._request = self._request, None
        if request and not self.is_closed:
            self._is_last = request.is_last or not (self._loop.alive and self._loop.idle_seconds())
            self._respond(answer, request.method, request.version)
        elif answer.file:
            answer.file.close()

    def hurry(self, deadline: float) -> None:
        """Wait for another request until then, and no longer."""
        if not self._responds and self._framing.phase == "idle":
            self.deadline = min(self.deadline, deadline)

    def expire(self) -> None:
        """Close it, but serve a request that arrived at the last moment."""
        deadline = self.deadline
        if not (self._responds or self._lingers):
            self._receive()
            if self._request or self.is_closed or self.deadline != deadline:
                return
            if self._framing.phase != "idle":
                self._refuse(Overdue())
                return
        self.close()

    def close(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            self._watch(0)
            self._loop.forget(self)
            self._framing.close()
            self._socket.close()
            if self._file:
                self._file.close()

    def _receive(self) -> None:
        try:
            data = self._socket.recv(PIECE)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        self._framing.feed(data)
        self._is_over = not data
        # What comes behind a request is read too, but not without end.
        if self._is_over or len(self._framing) > MOST_AHEAD:
            self._watch(0)
        self.go_on()

    def _await(self) -> None:
        """Set the deadline for the part of a request that is awaited now."""
        part = self._framing.phase
        if part != self._part:
            self._part = part
            idle = part == "idle"
            self._loop.rest(self, self._loop.idle_seconds() if idle else REQUEST_SECONDS)
        self._watch(READ)

    def _refuse(self, error: Exception) -> None:
        """Respond to what is no request, and read no more."""
        self._is_last = True
        self._respond(
            self._loop.refuse(error, self._framing.headers, self._framing.peer[0]), "", "1.1"
        )

    def _respond(self, answer: Answer, method: str, version: str) -> None:
        try:
            top = head(answer, method, version, is_last=self._is_last)
        except (http.InvalidResponseHeader, UnicodeError) as error:
            answer = self._loop.refuse(error)
            top = head(answer, method, version, is_last=self._is_last)
        self._responds, self._file = True, answer.file
        self._loop.rest(self, READER_SECONDS + (answer.size or len(answer.body)) / READER_RATE)
        self._write(top if method == "HEAD" else top + answer.body)

    def _write(self, data: bytes) -> None:
        self._unsent = memoryview(bytes(self._unsent) + data if self._unsent else data)
        self._send()

    def _send(self) -> None:
        """Send what the client takes at once, but of a file no more than a piece."""
        try:
            while self._unsent:
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
            if self._read_file():
                self._watch(WRITE)
                return
        except BlockingIOError:
            self._watch(WRITE)
        except OSError:
            self.close()
        else:
            if self._responds:
                self._end_response()

    def _read_file(self) -> bool:
        piece = self._file.read(PIECE) if self._file else b""
        if self._file and not piece:
            self._file.close()
            self._file = None
        self._unsent = memoryview(piece)
        return bool(piece)

    def _end_response(self) -> None:
        self._responds, self._part = False, None
        if self._is_last:
            self._linger()
        elif len(self._framing) or self._is_over:
            self.go_on()
        else:
            self._await()

    def _linger(self) -> None:
        """End the output. With unread input, a close would take the response from the client."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            self._is_over = True
        if self._is_over:
            self.close()
        else:
            self._lingers = True
            self._loop.rest(self, LINGER_SECONDS)
            self._watch(READ)

    def _drain(self) -> None:
        try:
            if not self._socket.recv(PIECE):
                self.close()
        except BlockingIOError:
            pass
        except OSError:
            self.close()

    def _watch(self, events: int) -> None:
        """Be called for these events only."""
        selector, before, self._events = self._loop.selector, self._events, events
        if events == before:
            return
        if not events:
            selector.unregister(self._socket)
        elif before:
            selector.modify(self._socket, events, self.on_event)
        else:
            selector.register(self._socket, events, self.on_event)
