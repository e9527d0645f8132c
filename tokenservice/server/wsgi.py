"""A WSGI application behind a :class:`Request`: its environ, and its response (PEP 3333)."""

from __future__ import annotations

import functools
import http
import io
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Any
from urllib.parse import unquote_to_bytes
from wsgiref.types import WSGIApplication, WSGIEnvironment

from gunicorn import SERVER, SERVER_SOFTWARE
from gunicorn.http.errors import InvalidResponseHeader
from gunicorn.util import http_date

from tokenservice.server.request import Request

ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None] | None
Headers = list[tuple[str, str]]
#: Headers that belong to the server, and are not taken from the application.
OWN = {
    "connection",
    "keep-alive",
    "transfer-encoding",
    "upgrade",
    "te",
    "trailers",
    "server",
    "date",
}
#: The bytes of a file that are read at a time.
PIECE = 64 * 1024


@dataclass
class Answer:
    """A response. Its body is ``body``, or ``file`` with its ``size``."""

    status: str
    headers: Headers
    body: bytes = b""
    file: IO[bytes] | None = None
    size: int = 0


class FileWrapper:
    """A file as a response, read only as far as its client takes it."""

    def __init__(self, file: IO[bytes], size: int = PIECE) -> None:
        self.file, self.size = file, size

    def __iter__(self) -> FileWrapper:
        return self

    def __next__(self) -> bytes:
        if piece := self.file.read(self.size):
            return piece
        raise StopIteration

    def close(self) -> None:
        self.file.close()


@functools.lru_cache(maxsize=256)
def variable(name: bytes) -> str:
    """The name of a header in an environ."""
    key = name.decode("latin-1").upper().replace("-", "_")
    return key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"


def environ_of(request: Request, fixed: WSGIEnvironment) -> WSGIEnvironment:
    """The environ of a request.

    :param fixed: the variables that are the same for all requests
    """
    environ = {
        **fixed,
        "REQUEST_METHOD": request.method,
        "RAW_URI": request.target.decode("latin-1"),
        "PATH_INFO": unquote_to_bytes(request.path).decode("latin-1"),
        "QUERY_STRING": request.query.decode("latin-1"),
        "SERVER_PROTOCOL": f"HTTP/{request.version}",
        "REMOTE_ADDR": request.peer[0],
        "REMOTE_PORT": str(request.peer[1]),
        "wsgi.url_scheme": request.scheme,
        "wsgi.input": io.BytesIO(request.body),
    }
    for name, value in request.headers:
        key, text = variable(name), value.decode("latin-1")
        environ[key] = f"{environ[key]},{text}" if key in environ else text
    return environ


def fixed_environ(server: Any, errors: IO[str], *, is_one_of_many: bool) -> WSGIEnvironment:
    """The variables that are the same for all requests.

    :param server: the address of the listener, which is a path for a socket of Unix
    """
    name, port = server[:2] if isinstance(server, tuple) else ("localhost", 80)
    return {
        "SERVER_SOFTWARE": SERVER_SOFTWARE,
        "SERVER_NAME": name,
        "SERVER_PORT": str(port),
        "SCRIPT_NAME": "",
        "wsgi.version": (1, 0),
        "wsgi.errors": errors,
        "wsgi.multithread": True,
        "wsgi.multiprocess": is_one_of_many,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
        "wsgi.file_wrapper": FileWrapper,
    }


def call(app: WSGIApplication, environ: WSGIEnvironment) -> Answer:
    """Run the application to its end."""
    answer = Answer("", [])
    pieces: list[bytes] = []

    def start_response(
        status: str,
        headers: Headers,
        exc_info: ExcInfo = None,
        /,
    ) -> Callable[[bytes], object]:
        if answer.status and not exc_info:
            raise AssertionError("the response has started already")
        answer.status, answer.headers = status, headers
        return pieces.append

    returned: Iterable[bytes] = app(environ, start_response)
    size = next((text for name, text in answer.headers if name.lower() == "content-length"), None)
    if isinstance(returned, FileWrapper) and size:
        answer.file, answer.size = returned.file, int(size)
        return answer
    try:
        pieces.extend(returned)
    finally:
        if hasattr(returned, "close"):
            returned.close()
    answer.body = b"".join(pieces)
    return answer


def head(answer: Answer, method: str, version: str, *, is_last: bool) -> bytes:
    """The head of a response, with the headers that are the server's.

    :raises InvalidResponseHeader: a header of the application would be two
    """
    lines = [
        f"HTTP/{version} {answer.status}\r\nServer: {SERVER}\r\nDate: {date(int(time.time()))}",
        f"Connection: {'close' if is_last else 'keep-alive'}",
    ]
    # The application knows the length of a body that is not sent from here.
    is_known = method == "HEAD" or answer.file is not None or answer.status.startswith("304")
    for name, value in answer.headers:
        lower = name.lower()
        if lower not in OWN and (is_known or lower != "content-length"):
            lines.append(f"{name}: {value}")
    if not is_known and not answer.status.startswith(("1", "204")):
        lines.append(f"Content-Length: {len(answer.body)}")
    text = "\r\n".join(lines)
    if not text.count("\r") == text.count("\n") == len(lines) + 1:
        raise InvalidResponseHeader("")
    return text.encode("latin-1") + b"\r\n\r\n"


@functools.lru_cache(maxsize=1)
def date(second: int) -> str:
    return http_date(second)


@functools.cache
def status_line(status: int) -> str:
    """A status with its reason phrase."""
    return f"{status} {http.HTTPStatus(status).phrase}"


def answer_of(response: tuple[int, Headers, bytes]) -> Answer:
    """A response of the door."""
    status, headers, body = response
    return Answer(status_line(status), headers, body)
