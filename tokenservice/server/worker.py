"""gunicorn's threaded worker, with fewer thread switches and with problem responses."""

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

#: Refusals with another status than 400.
STATUS = {
    http.LimitRequestLine: 414,
    http.ExpectationFailed: 417,
    http.LimitRequestHeaders: 431,
}
BUGS = (http.InvalidResponseHeader, http.InvalidResponseHeaderName)

#: How long a thread waits for the next request of its connection: the longest wait of the first
#: connection without a thread.
STAY_MS = 20


def has_come(conn: TConn, wait_ms: int = 0) -> bool:
    """Whether there is something to read, after a wait of at most ``wait_ms``."""
    coming = select.poll()
    coming.register(conn.sock, select.POLLIN)
    return bool(coming.poll(wait_ms))


class Worker(ThreadWorker):
    """gunicorn's threaded worker with fewer thread switches.

    A thread stays with its connection while there is one for each. gunicorn's gives the connection
    back after each request and takes it again: two threads to wake and a dozen system calls.
    Requests take turns, see :mod:`tokenservice.server.turns`.
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
        """Close overdue idle connections, but serve a request that arrived at the last moment.

        gunicorn looks for requests, serves them, and only then closes the overdue connections. A
        request may arrive in between, above all in a stopping worker: there all connections are
        overdue at once, and to close many takes long.
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
        """Respond to an unreadable request with a problem, and end the connection.

        gunicorn would respond in HTML, and log the unreadable bytes: after a Content-Length that is
        too small, the rest of a body with the password in it. An unknown transfer coding is the
        client's mistake: with gunicorn's 501 any stranger could raise the alarm.
        """
        app: Flask = self.wsgi
        # There is no request: "*" is no address of the app.
        with app.test_request_context("*", method="-"):
            app.preprocess_request()
            if isinstance(exc, http.ParseException) and not isinstance(exc, BUGS):
                logs.note("http.refused", why=type(exc).__name__)
                response = respond(Problem("bad_request"), STATUS.get(type(exc), 400))
            else:
                response = on_unexpected(exc)
            response = app.process_response(response)
        response.headers["Connection"] = "close"
        response.headers["Date"] = http_date()
        head = f"HTTP/1.1 {response.status}\r\n{response.headers}"
        with contextlib.suppress(OSError):  # the client may be gone
            util.write_nonblock(client, head.encode("latin-1") + response.get_data())
