"""The bytes of a connection, cut into whole requests.

httptools (llhttp) parses, and decides where a request ends. What it lets pass and a server that
must not be smuggled through does not, is refused here: by ``REQUEST_LINE``, by the :class:`Bounds`
of each line, by ``NO_TRAILERS``, and by :func:`judge`, which reads the whole head. The errors are
gunicorn's.
"""

from __future__ import annotations

import re
from typing import Literal

from gunicorn.http import errors as http
from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from tokenservice.server.bounds import Bounds
from tokenservice.server.request import Request

#: The origin, absolute, asterisk and authority forms of a target (RFC 9112 section 3.2).
REQUEST_LINE = re.compile(
    rb"(?:OPTIONS \*|CONNECT [!-~]+|[A-Z-]{3,20} (?:/[!-~]*|[A-Za-z][A-Za-z0-9+.-]*://[!-~]+))"
    rb" HTTP/1\.[01]\r\n"
)
CHUNK = re.compile(rb"([0-9A-Fa-f]+)(?:;[^\n]*)?\r\n")
#: A length of 19 digits or more, which llhttp would call malformed.
HUGE = re.compile(rb"content-length:[\t ]*0*[1-9][0-9]{18,}[\t ]*\r\n", re.IGNORECASE)
END = b"\r\n"
#: An offer that nobody must accept. To llhttp the body would be the other protocol.
UPGRADE = re.compile(rb"(?<=\n)upgrade:[^\n]*\n", re.IGNORECASE)
#: Headers without which a request is ambiguous if they stand twice (RFC 9110 section 5.3).
SINGLE = (b"host", b"content-type", b"content-length", b"transfer-encoding", b"expect")
#: Those that no trailer may have (RFC 9110 section 6.5.1).
NO_TRAILERS = frozenset(
    (b"host", b"content-length", b"transfer-encoding", b"trailer", b"authorization", b"te")
)
#: The longest head, whatever its lines: what a slow client may keep in memory.
HEAD_BYTES = 32 * 1024
Phase = Literal["idle", "head", "body"]


class BodyTooLarge(http.ParseException):
    """The body is longer than the service takes."""


class CutBody(http.ParseException):
    """The client sent no more than the beginning of the body."""


class Overdue(http.ParseException):
    """The request was not whole in time."""


class Framing:
    """The input of one connection.

    :param peer: the address and the port of the client of its requests
    :ivar headers: those of the request that is read, once its head is whole
    :ivar phase: the part of a request that is awaited
    """

    __slots__ = (
        *(
            "headers",
            "phase",
            "_bounds",
            "peer",
            "_buffer",
            "_parser",
            "_lines",
            "_checked",
            "_expected",
        ),
        *("_target", "_request", "_left", "_body", "_size"),
        *("_is_head", "_is_kept", "_is_chunked", "_is_trailer", "_is_whole"),
    )

    def __init__(self, bounds: Bounds, peer: tuple[str, int]) -> None:
        self._bounds, self.peer = bounds, peer
        self._buffer = bytearray()
        self._parser = HttpRequestParser(self)
        self._expected = False
        self._begin()

    def _begin(self) -> None:
        self.phase: Phase = "idle"
        self._lines = self._checked = self._left = self._size = 0
        self._target = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._request: Request | None = None
        self._is_head = self._is_chunked = self._is_trailer = self._is_whole = False

    def __len__(self) -> int:
        """The bytes that wait."""
        return len(self._buffer)

    def close(self) -> None:
        """Let go of the parser, which refers to this object."""
        del self._parser

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def next(self) -> Request | None:
        """Take the next request, or None where it is not whole.

        The outcome is the same however the bytes were cut.

        :raises http.ParseException: it is refused, and so is all that follows
        """
        request = self._request or self._read_head()
        if request is None:
            self.phase = "idle" if self._buffer in (b"", END[:1], END) else "head"
            return None
        self.phase = "body"
        if not self._read_body():
            return None
        request.body = b"".join(self._body)
        self._begin()
        return request

    def expects(self) -> bool:
        """Tell, once, whether the client awaits a 100 before it sends the body."""
        expected, self._expected = self._expected, False
        return expected

    def _read_head(self) -> Request | None:
        """Check each line as it arrives, and give the head to llhttp once it is whole."""
        buffer, bounds, line = self._buffer, self._bounds, b""
        while line != END or not self._lines:
            start = self._checked
            end = buffer.find(b"\n", start) + 1
            length = (end or len(buffer)) - start
            if not self._lines and 0 < bounds.line < length - len(END):
                raise http.LimitRequestLine(length, bounds.line)
            if (self._lines and length > bounds.field_size) or start + length > HEAD_BYTES:
                raise http.LimitRequestHeaders("")
            if not end:
                return None
            line = bytes(buffer[start:end])
            self._checked = end
            if line != END or (start and not self._lines):  # One empty line may come first.
                self._check(line)
        head = bytes(buffer[: self._checked])
        del buffer[: self._checked]
        self._feed(plain(head))
        if not self._is_head:
            raise http.InvalidHeader("")  # llhttp and the lines above must agree.
        request = self._request = Request(
            self._parser.get_method().decode(),
            self._target,
            self._parser.get_http_version(),
            self.headers,
            self.peer,
        )
        request.is_last |= not self._is_kept
        length_of_body = judge(request, self._bounds)
        self._is_chunked, self._left = length_of_body is None, length_of_body or 0
        expected = request.get(b"expect") is not None and request.version != "1.0"
        self._expected = expected and length_of_body != 0
        return request

    def _check(self, line: bytes) -> None:
        self._lines += 1
        if self._lines == 1:
            if not REQUEST_LINE.fullmatch(line):
                raise http.InvalidRequestLine("")
        elif self._lines > 1 + self._bounds.fields:
            raise http.LimitRequestHeaders("")
        elif HUGE.fullmatch(line):
            raise BodyTooLarge

    def _read_body(self) -> bool:
        """Give the rest of the request to llhttp, which decides where it ends."""
        buffer, most = self._buffer, self._bounds.body
        while not self._is_whole:
            if self._left:
                # Not beyond the first byte that is too many.
                piece = bytes(buffer[: min(self._left, most + 1 - self._size)])
                del buffer[: len(piece)]
                self._left -= len(piece)
                self._feed(piece)
                if self._size > most:
                    raise BodyTooLarge
                if not piece:
                    return False
            elif not self._is_chunked:
                raise http.InvalidHeader("")
            elif not self._read_line():
                return False
        if self._left:
            raise http.InvalidHeader("")
        return True

    def _read_line(self) -> bool:
        """Give the line of a chunk, or of a trailer, to llhttp."""
        end = self._buffer.find(b"\n") + 1
        if (end or len(self._buffer)) > self._bounds.field_size:
            raise http.LimitRequestHeaders("")
        if not end:
            return False
        line = bytes(self._buffer[:end])
        del self._buffer[:end]
        if self._is_trailer:
            if line != END:
                self._check(line)
                if line.partition(b":")[0].lower() in NO_TRAILERS:
                    raise http.InvalidHeaderName("")
        elif found := CHUNK.fullmatch(line):
            size = int(found[1], 16)
            self._is_trailer = not size
            self._left = size + len(END) if size else 0
        else:
            raise http.InvalidChunkSize(b"")
        self._feed(line)
        return True

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            pass  # CONNECT: its request is whole.
        except HttpParserError as error:
            raise http.InvalidHeader("") from error

    # llhttp calls these.

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._is_head and b"_" not in name:
            self.headers.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        self._is_head, self._is_kept = True, self._parser.should_keep_alive()

    def on_body(self, data: bytes) -> None:
        self._body.append(data)
        self._size += len(data)

    def on_message_complete(self) -> None:
        self._is_whole = True


def plain(head: bytes) -> bytes:
    """A head without what llhttp takes amiss: tabs, and the offer of another protocol."""
    head = head.replace(b"\t", b" ") if b"\t" in head else head
    return UPGRADE.sub(b"", head) if b"\nupgrade:" in head.lower() else head


def judge(request: Request, bounds: Bounds) -> int | None:
    """The length of the body, or None for chunks.

    :raises http.ParseException: the head is ambiguous, or asks for what is not done
    """
    single: dict[bytes, bytes] = {}
    schemes = set()
    for name, value in request.headers:
        if name in SINGLE:
            if name in single:
                raise http.InvalidHeader("")
            single[name] = value
        elif name in bounds.secure:
            schemes.add("https" if value == bounds.secure[name] else "http")
    if len(schemes) > 1:
        raise http.InvalidSchemeHeaders
    request.scheme = schemes.pop() if schemes else "http"
    if single.get(b"expect", b"100-continue").lower() != b"100-continue":
        raise http.ExpectationFailed("")
    if request.version == "1.1" and b"host" not in single:
        raise http.InvalidHeader("")
    length = single.get(b"content-length")
    if (coding := single.get(b"transfer-encoding")) is not None:
        if coding.lower() != b"chunked" or length is not None or request.version == "1.0":
            raise http.UnsupportedTransferCoding("")
        return None
    if length is None or request.method == "CONNECT":
        return 0
    if not length.isdigit():
        raise http.InvalidHeader("")
    if int(length) > bounds.body:
        raise BodyTooLarge
    return int(length)
