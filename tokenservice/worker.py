"""gunicorn's threaded worker, in less of a hurry, and with refusals that look like all others."""

from __future__ import annotations

import contextlib
import select
import socket
from typing import Any

from flask import Flask
from gunicorn import util
from gunicorn.http import errors as http
from gunicorn.workers.gthread import TConn, ThreadWorker
from werkzeug.http import http_date

from tokenservice import logs
from tokenservice.errors import Problem, on_unexpected, respond
from tokenservice.turns import turns

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


class Worker(ThreadWorker):
    """gunicorn's, with less hurry from one thread to the other.

    A thread stays with its connection while there is one for each. By itself it gives the
    connection back after each request, and then takes it again: two threads to wake and a dozen
    system calls.

    And requests take turns, see :mod:`tokenservice.turns`.
    """

    def handle(self, conn: TConn) -> Any:
        coming = select.poll()
        coming.register(conn.sock, select.POLLIN)
        is_there = bool(coming.poll(0))
        while True:
            kept = self.handle_in_turn(conn) if is_there else super().handle(conn)
            one_for_each = self.nr_conns <= self.cfg.threads and self.alive
            is_there = kept is True and one_for_each and bool(coming.poll(STAY_MS))
            if not is_there:
                return kept

    def handle_in_turn(self, conn: TConn) -> Any:
        with turns:
            return super().handle(conn)

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
