"""A server behind the proxy that returns the headers it received, or fails on demand."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Witness(ThreadingHTTPServer):
    """Its response to any request is the request's headers, as pairs.

    ``/hangs-up`` gets no response and ``/takes/<seconds>`` a late one. ``connections`` counts
    connections, and ``paths`` lists the paths of the requests.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.connections = 0
        self.paths: list[str] = []

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def get_request(self) -> Any:
        self.connections += 1
        return super().get_request()

    def handle_error(self, *_: Any) -> None:
        """Ignore errors: the proxy resets the connections of its checks."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Witness

    def do_GET(self) -> None:
        if self.path != "/readyz":
            self.server.paths.append(self.path)
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/hangs-up":
            self.close_connection = True
            return
        if self.path.startswith("/takes/"):
            time.sleep(float(self.path.rpartition("/")[2]))
        body = json.dumps(self.headers.items()).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *_: Any) -> None:
        """Write no log."""


@contextmanager
def witness() -> Iterator[Witness]:
    with Witness() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
