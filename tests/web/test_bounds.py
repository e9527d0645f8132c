"""The bound of request bodies: 16 KiB are read, and one byte more is a 413."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from flask.testing import FlaskClient

from tests.stage.people import PASSWORD, Person, enrol, new_correo
from tests.stage.problems import problem_in
from tests.stage.service import Service
from tests.stage.wire import FORM, JSON, head, raw, read
from tokenservice.web.bodies import MAX_BODY_BYTES

SIZES = {MAX_BODY_BYTES - 1: 200, MAX_BODY_BYTES: 200, MAX_BODY_BYTES + 1: 413}


def login(correo: str, content_type: str, size: int) -> bytes:
    """A valid login of exactly ``size`` bytes."""
    if content_type == JSON:
        return json.dumps({"correo": correo, "password": PASSWORD}).encode().ljust(size)
    form = urlencode({"username": correo, "password": PASSWORD, "scope": ""}).encode()
    return form.ljust(size, b"x")


def in_pieces(body: bytes, size: int) -> Iterator[bytes]:
    return (body[at : at + size] for at in range(0, len(body), size))


def assert_status(response: Any, status: int) -> None:
    assert response.status_code == status, response.text
    if status == 413:
        problem_in(response, 413, "payload_too_large")


@pytest.fixture(scope="module")
def caller(service: Service) -> Person:
    with httpx.Client(base_url=service.url, timeout=30) as http:
        return enrol(http.post)


@pytest.mark.parametrize("piece", [1000, 4096, MAX_BODY_BYTES, 2 * MAX_BODY_BYTES])
@pytest.mark.parametrize("content_type", [JSON, FORM])
@pytest.mark.parametrize("size", SIZES)
def test_a_chunked_body_may_take_16_kib_and_not_a_byte_more(
    service: Service, caller: Person, size: int, content_type: str, piece: int
) -> None:
    """S42. Red if a body at the limit is refused, or the bytes beyond it are not read."""
    response = httpx.post(
        f"{service.url}/auth/login",
        content=in_pieces(login(caller.correo, content_type, size), piece),
        headers={"Content-Type": content_type},
        timeout=30,
    )
    assert_status(response, SIZES[size])


@pytest.mark.parametrize("content_type", [JSON, FORM])
@pytest.mark.parametrize("size", SIZES)
def test_a_body_with_a_content_length_may_take_as_much(
    service: Service, caller: Person, size: int, content_type: str
) -> None:
    body = login(caller.correo, content_type, size)
    response = httpx.post(
        f"{service.url}/auth/login",
        content=body,
        headers={"Content-Type": content_type},
        timeout=30,
    )
    assert_status(response, SIZES[size])


@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize("content_type", [JSON, FORM])
@pytest.mark.parametrize("size", SIZES)
def test_the_app_without_gunicorn_counts_the_same(
    client: FlaskClient, person: Person, size: int, content_type: str, chunked: bool
) -> None:
    body = login(person.correo, content_type, size)
    how: dict[str, Any] = {"content_type": content_type}
    if chunked:
        # As gunicorn passes on a chunked body that it has decoded.
        how["headers"] = {"Transfer-Encoding": "chunked"}
        how["environ_overrides"] = {"wsgi.input_terminated": True}
        how["input_stream"] = io.BytesIO(body)
    else:
        how["data"] = body
    assert_status(client.post("/auth/login", **how), SIZES[size])


def test_the_framing_of_chunks_is_not_counted(service: Service, caller: Person) -> None:
    body = login(caller.correo, JSON, MAX_BODY_BYTES // 2)
    extension = b";padding=" + b"x" * 20
    chunks = b"".join(b"1" + extension + b"\r\n%c\r\n" % byte for byte in body)
    assert len(chunks) > 10 * MAX_BODY_BYTES
    assert_status(sent(service, chunks + b"0\r\n\r\n"), 200)


def test_bytes_after_the_last_that_fits_are_checked(service: Service, caller: Person) -> None:
    """The cut or malformed chunk stands at the limit."""
    body = login(caller.correo, JSON, MAX_BODY_BYTES)
    begun = b"%x\r\n" % len(body) + body
    for end in (b"", b"\r\n", b"\r\n0\r\n", b"\r\nzz\r\n", b"XX0\r\n\r\n", b"\r\n1\r\n"):
        problem_in(sent(service, begun + end), 400, "bad_request")
    assert_status(sent(service, begun + b"\r\n0\r\n\r\n"), 200)
    assert_status(sent(service, begun + b"\r\n0\r\nX-Trailer: x\r\n\r\n"), 200)
    assert_status(sent(service, begun + b"\r\n1\r\n \r\n0\r\n\r\n"), 413)


def sent(service: Service, chunks: bytes) -> httpx.Response:
    """Send a login with exactly these chunks."""
    fields = (f"Content-Type: {JSON}", "Transfer-Encoding: chunked")
    return read(raw(service, head("POST /auth/login HTTP/1.1", *fields) + chunks))


@pytest.mark.parametrize(
    ("path", "content_type"),
    [("/auth/register", JSON), ("/auth/login", JSON), ("/auth/login", FORM)],
)
def test_a_chunked_body_over_16_kib_is_refused_by_the_real_server(
    service: Service, path: str, content_type: str
) -> None:
    """S42. The request has no Content-Length: red without a limit on the stream."""

    def chunks() -> Iterator[bytes]:
        for _ in range(20):
            yield b"a" * 1024

    response = httpx.post(
        f"{service.url}{path}",
        content=chunks(),
        headers={"Content-Type": content_type},
        timeout=30,
    )
    problem_in(response, 413, "payload_too_large")


def test_a_chunked_body_is_not_cut_to_its_first_16_kib(
    service: Service,
) -> None:
    """The first 16 KiB alone would be a valid body."""
    account = {"nombre": "Ana", "correo": new_correo(), "password": PASSWORD}

    def chunks() -> Iterator[bytes]:
        yield json.dumps(account).encode().ljust(MAX_BODY_BYTES)
        yield b"and more"

    response = httpx.post(
        f"{service.url}/auth/register",
        content=chunks(),
        headers={"Content-Type": JSON},
        timeout=30,
    )
    problem_in(response, 413, "payload_too_large")
