"""Streams of bytes that are HTTP, nearly HTTP, or pieces of it, and ways to cut them."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.torture.framing import CUT, LAST, REFUSED, UNDERSTOOD, VICTIM

KNOWN = [
    *REFUSED.values(),
    *CUT.values(),
    VICTIM,
    *(request for request, _ in [*LAST.values(), *UNDERSTOOD.values()]),
]
PIECES = [
    *(b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b"0", b"2", b"{}", b"\x00", b"\xff", b"x", b";"),
    *(b"GET / HTTP/1.1\r\n", b"POST /x HTTP/1.1\r\n", b"Host: a\r\n", b"Content-Length: 2\r\n"),
    *(b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"Upgrade: h2c\r\n"),
    *(b"Connection: Upgrade\r\n", b"Expect: 100-continue\r\n", b"2\r\n{}\r\n", b"0\r\n\r\n"),
]
#: Bytes made of pieces of HTTP, or of known requests, perhaps with one byte replaced.
STREAMS = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=30).map(b"".join),
    st.builds(
        lambda requests, place, byte: b"".join(
            [(all_of := b"".join(requests))[: place % (len(all_of) + 1)], byte, all_of[place:]]
        ),
        st.lists(st.sampled_from(KNOWN), min_size=1, max_size=4),
        st.integers(0, 3000),
        st.binary(max_size=2),
    ),
)


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(stream) + 1) for place in places} | {len(stream)})
    return [stream[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]
