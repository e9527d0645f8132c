"""Requests with an ambiguous end, and other malformed HTTP.

Bytes that are one request to a proxy and two to the service let an attacker put a request before
another client's (RFC 9112 section 11.2, ASVS 5.0 V4.2.1). Each case is followed on its connection
by ``VICTIM``, and has ``SMUGGLED`` in the possible body.
"""

from __future__ import annotations

VICTIM = b"GET /victim HTTP/1.1\r\nHost: service\r\nX-Request-ID: victim\r\n\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: service\r\nX-Request-ID: smuggled\r\n\r\n"
LONG = str(len(SMUGGLED))


def post(*headers: str, body: bytes = b"", line: str = "POST /auth/register HTTP/1.1") -> bytes:
    """A public call, which responds 422 to an empty object or no body."""
    fixed = ("Host: service", "Content-Type: application/json")
    return "\r\n".join([line, *fixed, *headers, "", ""]).encode("latin-1") + body


def chunked(body: bytes, *headers: str, line: str = "POST /auth/register HTTP/1.1") -> bytes:
    return post("Transfer-Encoding: chunked", *headers, body=body, line=line)


def coded(coding: str) -> bytes:
    """Chunks with a smuggled request, under a spelling of their header."""
    return post(coding, body=b"0\r\n\r\n" + SMUGGLED)


def measured(*length: str) -> bytes:
    """A body with a smuggled request, under a spelling of its length."""
    return post(*length, body=SMUGGLED)


#: Cases with one refusal, after which nothing more is read from the connection.
REFUSED: dict[str, bytes] = {
    # Two declared ends of the body.
    "CL.TE": post("Content-Length: 6", "Transfer-Encoding: chunked", body=b"0\r\n\r\nG" + SMUGGLED),
    "TE.CL": post("Transfer-Encoding: chunked", "Content-Length: 4", body=b"2\r\n{}\r\n0\r\n\r\n"),
    "TE.0": post("Transfer-Encoding: chunked", "Content-Length: 0", body=b"0\r\n\r\n" + SMUGGLED),
    "CL.CL": measured("Content-Length: 0", f"Content-Length: {LONG}"),
    "CL.CL, the same": post("Content-Length: 2", "Content-Length: 2", body=b"{}"),
    "CL in a list": post("Content-Length: 2, 2", body=b"{}"),
    "TE.TE": post("Transfer-Encoding: chunked", "Transfer-Encoding: x", body=b"0\r\n\r\n"),
    "TE twice": post("Transfer-Encoding: chunked", "Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "chunked in HTTP/1.0": chunked(b"0\r\n\r\n" + SMUGGLED, line="POST /auth/register HTTP/1.0"),
    # Codings.
    "TE xchunked": coded("Transfer-Encoding: xchunked"),
    "TE chunked twice in one": coded("Transfer-Encoding: chunked, chunked"),
    "TE identity alone": coded("Transfer-Encoding: identity"),
    "TE identity last": coded("Transfer-Encoding: chunked, identity"),
    "TE gzip alone": coded("Transfer-Encoding: gzip"),
    "TE gzip last": coded("Transfer-Encoding: chunked, gzip"),
    "TE gzip first": coded("Transfer-Encoding: gzip, chunked"),
    "TE with a parameter": coded("Transfer-Encoding: chunked;q=1"),
    "TE in quotes": coded('Transfer-Encoding: "chunked"'),
    "TE empty": coded("Transfer-Encoding: "),
    "TE with an empty member": coded("Transfer-Encoding: ,chunked"),
    "TE after a vertical tab": coded("Transfer-Encoding: \x0bchunked"),
    "TE before a form feed": coded("Transfer-Encoding: chunked\x0c"),
    "TE before NUL": coded("Transfer-Encoding: chunked\x00"),
    "TE with a no-break space": coded("Transfer-Encoding:\xa0chunked"),
    "TE with a long s": coded("Transfer-Encoding: chunked\xdf"),
    "a space before TE's colon": coded("Transfer-Encoding : chunked"),
    "a tab before TE's colon": coded("Transfer-Encoding\t: chunked"),
    "a space before TE": coded(" Transfer-Encoding: chunked"),
    "a folded TE": coded("Transfer-Encoding:\r\n chunked"),
    "TE in a folded line": coded("X-Any: x\r\n Transfer-Encoding: chunked"),
    "TE after a bare LF": coded("X-Any: x\nTransfer-Encoding: chunked"),
    "TE after a bare CR": coded("X-Any: x\rTransfer-Encoding: chunked"),
    "TE after LF CR": coded("X-Any: x\n\rTransfer-Encoding: chunked"),
    "TE with a NUL in its name": coded("Transfer\x00-Encoding: chunked"),
    # Lengths.
    "CL +": measured(f"Content-Length: +{LONG}"),
    "CL -": measured(f"Content-Length: -{LONG}"),
    "CL 0x": measured("Content-Length: 0x10"),
    "CL with an underscore": measured("Content-Length: 1_0"),
    "CL with a fraction": measured("Content-Length: 1.0"),
    "CL empty": measured("Content-Length: "),
    "CL two": measured("Content-Length: 1 0"),
    "CL in a text": measured(f'Content-Length: "{LONG}"'),
    "CL with a superscript": measured("Content-Length: \xb2"),
    "CL with NUL": measured("Content-Length: 10\x00"),
    "CL with a comment": measured("Content-Length: 10;x"),
    "CL of 5000 digits": measured("Content-Length: " + "9" * 5000),
    "a space before CL's colon": measured(f"Content-Length : {LONG}"),
    "a folded CL": measured(f"Content-Length:\r\n {LONG}"),
    "CL after a bare CR": measured(f"X-Any: x\rContent-Length: {LONG}"),
    # Chunks.
    "a chunk 0x2": chunked(b"0x2\r\n{}\r\n0\r\n\r\n"),
    "a chunk +2": chunked(b"+2\r\n{}\r\n0\r\n\r\n"),
    "a chunk -2": chunked(b"-2\r\n{}\r\n0\r\n\r\n"),
    "a chunk of 2_0": chunked(b"2_0\r\n{}\r\n0\r\n\r\n"),
    "a chunk after a space": chunked(b" 2\r\n{}\r\n0\r\n\r\n"),
    "a chunk before a space": chunked(b"2 \r\n{}\r\n0\r\n\r\n"),
    "a chunk without a size": chunked(b"\r\n{}\r\n0\r\n\r\n"),
    "a chunk of words": chunked(b"zz\r\n{}\r\n0\r\n\r\n"),
    "a chunk size that ends in LF": chunked(b"2\n{}\r\n0\r\n\r\n"),
    "a chunk size that ends in CR": chunked(b"2\r{}\r\n0\r\n\r\n"),
    "a chunk that ends in LF": chunked(b"2\r\n{}\n0\r\n\r\n"),
    "a chunk longer than its size": chunked(b"1\r\n{}\r\n0\r\n\r\n" + SMUGGLED),
    "a chunk shorter than its size": chunked(b"4\r\n{}\r\n0\r\n\r\n" + SMUGGLED),
    "a chunk extension with LF": chunked(b"2;\nxx\r\n{}\r\n0\r\n\r\n" + SMUGGLED),
    "a chunk extension with CR": chunked(b"2;a\rb\r\n{}\r\n0\r\n\r\n"),
    "a chunk extension with NUL": chunked(b"2;\x00\r\n{}\r\n0\r\n\r\n"),
    "a chunk extension that stays open": chunked(b'2;a="b\r\n{}\r\n0\r\n\r\n'),
    "a chunk extension of 40 KB": chunked(b"2;" + b"a" * 40_000 + b"\r\n{}\r\n0\r\n\r\n"),
    "a last chunk with a body": chunked(b"0\r\n" + SMUGGLED),
    # Trailers.
    **{
        f"a trailer {field.partition(':')[0]}": chunked(f"0\r\n{field}\r\n\r\n".encode() + SMUGGLED)
        for field in (
            "Content-Length: 5",
            "Transfer-Encoding: chunked",
            "Host: evil.example",
            "Authorization: Bearer x",
            " folded: x",
            "no colon",
        )
    },
    "a trailer with a bare LF": chunked(b"0\r\nX-Any: x\nX: y\r\n\r\n" + SMUGGLED),
    # Lines and headers.
    "nothing but LF": post().replace(b"\r\n", b"\n"),
    "nothing but CR": post().replace(b"\r\n", b"\r"),
    "a head that ends in LF": post()[:-2] + b"\n",
    "a header without a colon": post("X-Any"),
    "a header without a name": post(": x"),
    "a header with a space in its name": post("X Any: x"),
    "a header with NUL": post("X-Any: a\x00b"),
    "a header with DEL": post("X-Any: a\x7fb"),
    "a folded header": post("X-Any: a\r\n b"),
    "a folded first header": post().replace(b"\r\nHost", b"\r\n Host"),
    "a header of 9 KB": post("X-Any: " + "a" * 9000),
    "a hundred and one headers": post(*(f"X-{n}: x" for n in range(101))),
    "two hosts": post("Host: evil.example"),
    "two content types": post("Content-Type: text/plain"),
    "an expectation of its own": post("Expect: 200-ok", "Content-Length: 2", body=b"{}"),
    "a scheme and its contrary": post("X-Forwarded-Proto: https", "X-Forwarded-Ssl: off"),
    # Request lines.
    **{
        f"the line {line.encode('unicode_escape').decode()[:40]}": post(line=line)
        for line in (
            "GET /",
            "GET /nowhere",
            "GET  /nowhere HTTP/1.1",
            "GET /nowhere  HTTP/1.1",
            "GET /nowhere HTTP/1.1 ",
            " GET /nowhere HTTP/1.1",
            "GET\t/nowhere\tHTTP/1.1",
            "GET /no where HTTP/1.1",
            "GET /nowhere HTTP/1.1 HTTP/1.1",
            "GET /nowhere http/1.1",
            "GET /nowhere HTTP/1.10",
            "GET /nowhere HTTP/2.0",
            "GET /nowhere HTTP/0.9",
            "GET /nowhere ICAP/1.0",
            "GET HTTP/1.1",
            "GET nowhere HTTP/1.1",
            "get /nowhere HTTP/1.1",
            "GE(T /nowhere HTTP/1.1",
            "GET\x00 /nowhere HTTP/1.1",
            "GET /\x00 HTTP/1.1",
            "GET /\x7f HTTP/1.1",
            "GET /\xe9 HTTP/1.1",
            "GET /" + "a" * 5000 + " HTTP/1.1",
            "PRI * HTTP/2.0",
            "PROXY TCP4 10.0.0.1 10.0.0.2 1 2",
        )
    },
    "two empty lines first": b"\r\n\r\n" + post(),
    "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200,
}

#: Cases with the statuses of their responses, after which the connection ends.
LAST: dict[str, tuple[bytes, list[int]]] = {
    "Connection: close": (post("Connection: close"), [422]),
    "HTTP/1.0": (post(line="POST /auth/register HTTP/1.0"), [422]),
    "a tunnel": (post(line="CONNECT service:80 HTTP/1.1"), [404]),
    "a length of 2^64 and more": (measured("Content-Length: 18446744073709551621"), [413]),
    "a length over the limit": (post("Content-Length: 20000", body=b" " * 19_000), [413]),
}

#: Cases with the statuses of their responses, followed by the victim's 404.
UNDERSTOOD: dict[str, tuple[bytes, list[int]]] = {
    "no body": (post(), [422]),
    "a body": (post("Content-Length: 2", body=b"{}"), [422]),
    "a length of zeros": (post("Content-Length: 0002", body=b"{}"), [422]),
    "no body of a length": (post("Content-Length: 0"), [422]),
    "a body that looks like a request": (measured(f"Content-Length: {LONG}"), [400]),
    "a GET with a body": (
        post(f"Content-Length: {LONG}", body=SMUGGLED, line="GET /nowhere HTTP/1.1"),
        [404],
    ),
    "a HEAD with a body": (
        post(f"Content-Length: {LONG}", body=SMUGGLED, line="HEAD /nowhere HTTP/1.1"),
        [404],
    ),
    "a DELETE with chunks": (
        chunked(b"2\r\n{}\r\n0\r\n\r\n", line="DELETE /auth/register HTTP/1.1"),
        [405],
    ),
    "an unread body": (post("Content-Length: 2", body=b"{}", line="POST /nowhere HTTP/1.1"), [404]),
    "chunks": (chunked(b"1\r\n{\r\n1\r\n}\r\n0\r\n\r\n"), [422]),
    "chunks in another case": (post("tRANSFER-eNCODING: CHUNKED", body=b"0\r\n\r\n"), [422]),
    "chunks after a tab": (post("Transfer-Encoding:\tchunked\t", body=b"0\r\n\r\n"), [422]),
    "a last chunk of many zeros": (chunked(b"2\r\n{}\r\n00000\r\n\r\n"), [422]),
    "a chunk extension": (chunked(b'2;a=b;c="d;e"\r\n{}\r\n0;f\r\n\r\n'), [422]),
    "a trailer": (chunked(b"2\r\n{}\r\n0\r\nX-Request-ID: smuggled\r\n\r\n"), [422]),
    "an empty line first": (b"\r\n" + post(), [422]),
    "an empty line behind a body": (post("Content-Length: 2", body=b"{}\r\n"), [422]),
    "an underscore in a name": (post(f"Content_Length: {LONG}", "Transfer_Encoding: x"), [422]),
    "a path from a header": (post("SCRIPT_NAME: /auth", "PATH_INFO: /smuggled"), [422]),
    "an expectation": (post("Expect: 100-continue", "Content-Length: 2", body=b"{}"), [100, 422]),
    "an upgrade": (
        post("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"),
        [422],
    ),
    "the absolute form": (post(line="POST http://evil.example/auth/register HTTP/1.1"), [422]),
    "the asterisk form": (post(line="OPTIONS * HTTP/1.1"), [404]),
    "a path with two slashes": (post(line="GET //evil.example/nowhere HTTP/1.1"), [404]),
    "a fragment": (post(line="GET /nowhere#/smuggled HTTP/1.1"), [404]),
    "an escaped line break": (post(line="GET /nowhere%0d%0aX:%20y HTTP/1.1"), [404]),
    "HTTP/1.0 kept alive": (
        post("Connection: keep-alive", line="POST /auth/register HTTP/1.0"),
        [422],
    ),
    "ten in a row": (post("Content-Length: 2", body=b"{}") * 10, [422] * 10),
    "bodies of all kinds in a row": (
        post("Content-Length: 2", body=b"{}") + chunked(b"0\r\n\r\n") + post(),
        [422] * 3,
    ),
}

#: Truncated requests of a client that closes the connection: one refusal at most.
CUT: dict[str, bytes] = {
    "a line": b"POST /auth/reg",
    "a head": post()[:-2],
    "a header": post()[:-10],
    "a body": post("Content-Length: 10", body=b"{}"),
    "a body before its first byte": post("Content-Length: 10"),
    "a chunk size": chunked(b"2"),
    "a chunk": chunked(b"5\r\n{}"),
    "a chunk without its end": chunked(b"2\r\n{}"),
    "a last chunk": chunked(b"2\r\n{}\r\n0\r\n"),
    "a trailer": chunked(b"0\r\nX-Any: x\r\n"),
    "a chunk of 2^64": chunked(b"FFFFFFFFFFFFFFFF\r\n" + SMUGGLED),
    "an expected body": post("Expect: 100-continue", "Content-Length: 2"),
}
