"""HTTP as bytes: handmade requests and parsed responses."""

from __future__ import annotations

import socket

import httpx

from tests.stage.service import Service

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"


def raw(service: Service, request: bytes) -> bytes:
    """Send bytes as they are; return all bytes received until the connection closes."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while part := connection.recv(65_536):
            received += part
        return received


def head(*lines: str) -> bytes:
    return "\r\n".join([*lines, "Host: localhost", "", ""]).encode("latin-1")


def read(received: bytes) -> httpx.Response:
    """Parse the bytes of one response."""
    top, _, body = received.partition(b"\r\n\r\n")
    line, *lines = top.decode("latin-1").split("\r\n")
    headers = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
    return httpx.Response(int(line.split()[1]), headers=headers, content=body)
