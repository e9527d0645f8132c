"""gunicorn's threaded worker, in less of a hurry, and with refusals that look like all others."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from typing import Any

from flask import Flask
from gunicorn import util
from gunicorn.http import errors as http
from gunicorn.workers.gthread import TConn, ThreadWorker
from werkzeug.http import http_date

from tokenservice.server.turns import turns
from tokenservice.telemetry import logs
from tokenservice.web.problems import Problem, on_unexpected, respond

#: What is refused with more than a plain 400.
STATUS = {
    http.LimitRequestLine: 414,
    http.ExpectationFailed: 417,
    http.LimitRequestHeaders: 431,
}
MISTAKES_OF_OURS = (http.InvalidResponseHeader, http.InvalidResponseHeaderName)

#: How long a thread waits for its connection's next request: as long as the first connection that
#: finds no thread may have to wait for one.
STAY_MS = 20


def has_come(conn: TConn, wait_ms: int = 0) -> bool:
    """Whether there is something to read, after waiting for it so long at most."""
    coming = select.poll()
    coming.register(conn.sock, select.POLLIN)
    return bool(coming.poll(wait_ms))


class Worker(ThreadWorker):
    """gunicorn's, with less hurry from one thread to the other.

    A thread stays with its connection while there is one for each. By itself it gives the
    connection back after each request, and then takes it again: two threads to wake and a dozen
    system calls.

    And requests take turns, see :mod:`tokenservice.turns`.
    """

    def handle(self, conn: TConn) -> Any:
        is_there = has_come(conn)
        while True:
            kept = self.handle_in_turn(conn) if is_there else super().handle(conn)
            one_for_each = self.nr_conns <= self.cfg.threads and self.alive
            is_there = kept is True and one_for_each and has_come(conn, STAY_MS)
            if not is_there:
                return kept

    def handle_in_turn(self, conn: TConn) -> Any:
        with turns:
            return super().handle(conn)

    def murder_keepalived(self, force: bool = False) -> None:
        """Close what was idle for too long, but answer what has come at the last moment.

        gunicorn looks who has asked, sees to them, and only then closes whose time is over. In
        between they may have asked too, above all in a worker that stops: there the time of all
        its connections is over at once, and closing many takes long.
        """
        now = time.monotonic()
        while self.keepalived_conns and (force or self.keepalived_conns[0].timeout <= now):
            conn = self.keepalived_conns[0]
            if not force and has_come(conn):
                self.on_client_socket_readable(conn, conn.sock)
                continue
            self.keepalived_conns.popleft()
            with contextlib.suppress(OSError, KeyError, ValueError):
                self.poller.unregister(conn.sock)
            self.nr_conns -= 1
            conn.close()

    def handle_error(
        self, req: Any, client: socket.socket, addr: tuple[str, int], exc: Exception
    ) -> None:
        """Answer a request that never became one with a problem, and the connection ends.

        gunicorn would answer in HTML, and write what it could not read into the log. After a
        Content-Length that is too small, that is the rest of a body with the password in it. And
        a transfer coding that it does not know is the client's mistake: with the 501 that it
        gives, any stranger could ring the alarm.
        """
        app: Flask = self.wsgi
        # There is no request that the app could be asked about: "*" is no address of it.
        with app.test_request_context("*", method="-"):
            app.preprocess_request()
            if isinstance(exc, http.ParseException) and not isinstance(exc, MISTAKES_OF_OURS):
                logs.note("http.refused", why=type(exc).__name__)
                answer = respond(Problem("bad_request"), STATUS.get(type(exc), 400))
            else:
                answer = on_unexpected(exc)
            answer = app.process_response(answer)
        answer.headers["Connection"] = "close"
        answer.headers["Date"] = http_date()
        head = f"HTTP/1.1 {answer.status}\r\n{answer.headers}"
        with contextlib.suppress(OSError):  # whoever asked may be gone
            util.write_nonblock(client, head.encode("latin-1") + answer.get_data())
