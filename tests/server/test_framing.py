"""Requests out of bytes: the same however these are cut, and none that is not whole."""

from __future__ import annotations

import pytest
from gunicorn.http.errors import ParseException
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.server.streams import STREAMS, cut
from tests.torture.framing import UNDERSTOOD, VICTIM, chunked, post
from tokenservice.server.bounds import Bounds
from tokenservice.server.framing import HEAD_BYTES, BodyTooLarge, Framing
from tokenservice.server.request import Request

SECURE = {b"x-forwarded-proto": b"https", b"x-forwarded-ssl": b"on"}
BOUNDS = Bounds(line=4094, fields=100, field_size=8190, body=16 * 1024, secure=SECURE)


def outcome(pieces: list[bytes]) -> list[object]:
    """The requests, and the refusal if there is one."""
    framing, found = Framing(BOUNDS, ("127.0.0.1", 1)), list[object]()
    try:
        for piece in pieces:
            framing.feed(piece)
            while request := framing.next():
                found.append(shown(request))
                if request.is_last:
                    return found
    except ParseException as error:
        found.append(type(error))
    return found


def shown(request: Request) -> tuple[object, ...]:
    return tuple(getattr(request, name) for name in Request.__slots__)


@settings(max_examples=300)
@given(STREAMS, st.lists(st.integers(0, 5000), max_size=8))
@example(chunked(b"2;" + b"a" * 40_000 + b"\r\n{}\r\n0\r\n\r\n"), [5000])
@example(post("X: " + "a" * 9000) + VICTIM, [100, 8300])
@example(chunked(b"4001\r\n" + b"a" * 0x4001 + b"XX"), [16_590, 16_591])
def test_the_outcome_is_the_same_however_the_bytes_are_cut(
    stream: bytes, places: list[int]
) -> None:
    """Whole, at any places, and byte by byte."""
    whole = outcome([stream])
    assert outcome(cut(stream, places)) == whole
    if len(stream) < 5000:
        assert outcome([bytes([byte]) for byte in stream]) == whole


@settings(max_examples=200)
@given(st.sampled_from([request for request, _ in UNDERSTOOD.values()]), st.integers(0, 5000))
def test_no_beginning_of_a_request_is_one(request: bytes, place: int) -> None:
    """The requests of a cut stream are the first ones of the whole stream, and not one more."""
    whole = outcome([request])
    part = request[: place % len(request)]
    begun = outcome([part])
    assert begun == whole[: len(begun)]
    if not request.endswith(b"{}\r\n"):  # an empty line behind the last body
        assert len(begun) < len(whole)


def test_a_request_has_its_parts() -> None:
    framing = Framing(BOUNDS, ("10.0.0.1", 7))
    framing.feed(
        b"POST http://any.example/a%2Fb?c=d#e HTTP/1.1\r\nHost: any.example\r\nX-One:\t a \r\n"
        b"X_Two: b\r\nx-one: c\r\nX-Forwarded-Proto: https\r\nContent-Length: 2\r\n\r\n{}rest"
    )
    request = framing.next()
    assert request
    assert (request.method, request.path, request.query) == ("POST", b"/a%2Fb", b"c=d")
    assert request.target == b"http://any.example/a%2Fb?c=d#e"
    assert (request.version, request.body, request.peer) == ("1.1", b"{}", ("10.0.0.1", 7))
    assert (request.scheme, request.is_last) == ("https", False)
    assert request.headers == [
        (b"host", b"any.example"),
        (b"x-one", b"a"),
        (b"x-one", b"c"),
        (b"x-forwarded-proto", b"https"),
        (b"content-length", b"2"),
    ]
    assert request.get(b"host") == b"any.example"
    assert request.get(b"x-one") is None
    assert len(framing) == 4


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/", b"/", b""),
        (b"//a/b", b"//a/b", b""),
        (b"/a?b?c", b"/a", b"b?c"),
        (b"/a#b?c", b"/a", b""),
        (b"http://a", b"/", b""),
        (b"http://a?b", b"/", b"b"),
        (b"x://a/b/c", b"/b/c", b""),
        (b"*", b"*", b""),
    ],
)
def test_a_target_is_split_into_path_and_query(target: bytes, path: bytes, query: bytes) -> None:
    request = Request("GET", target, "1.1", [], ("", 0))
    assert (request.path, request.query) == (path, query)


def test_a_slow_client_keeps_little() -> None:
    """Guards: ``HEAD_BYTES``, and ``Bounds.body`` before the body is there."""
    framing = Framing(BOUNDS, ("127.0.0.1", 1))
    framing.feed(b"GET / HTTP/1.1\r\n")
    with pytest.raises(ParseException):  # noqa: PT012 - at some line
        while len(framing) < 2 * HEAD_BYTES:
            framing.feed(b"X: " + b"a" * 1000 + b"\r\n")
            assert framing.next() is None
    assert len(framing) < HEAD_BYTES + 2000
    framing = Framing(BOUNDS, ("127.0.0.1", 1))
    framing.feed(post(f"Content-Length: {BOUNDS.body + 1}"))
    with pytest.raises(BodyTooLarge):
        framing.next()
