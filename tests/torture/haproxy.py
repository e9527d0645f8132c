"""HAProxy with the shipped configuration, before services on loopback."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dev.server import Server, free_port
from tests.stage.catalogue import PROBLEMS
from tests.stage.paths import ROOT
from tests.stage.programs import needs_program
from tests.stage.sockets import accepts

CONFIGURATION = ROOT / "deploy" / "haproxy.cfg"

needs_haproxy = needs_program("haproxy")


class HAProxy(Server):
    """HAProxy with the shipped configuration, which takes only addresses from its environment."""

    name = "haproxy"
    stop_signal = signal.SIGTERM

    def __init__(
        self,
        directory: Path,
        ports: Sequence[int],
        configuration: Path = CONFIGURATION,
        **more: str,
    ) -> None:
        """:param ports: of one service or two; ``more`` is added to the environment"""
        super().__init__(directory)
        self._servers = dict(
            zip(("SERVER_ONE", "SERVER_TWO"), (f"127.0.0.1:{port}" for port in ports), strict=False)
        )
        self._configuration = configuration
        self._more = more

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        return ["haproxy", "-db", "-f", str(self._configuration)]

    def options(self) -> dict[str, Any]:
        own = {
            "BIND": f"127.0.0.1:{self.port}",
            "INSIDE": f"127.0.0.1:{free_port()}",
            **self._servers,
            **self._more,
        }
        return {"env": {"PATH": os.environ["PATH"], **own}}

    def responds(self) -> bool:
        return accepts(self.port)

    def lines(self) -> list[dict[str, Any]]:
        """The whole lines of requests in its log, without its notices about itself and servers."""
        whole = self.log.read_text().rpartition("\n")[0].splitlines()
        return [json.loads(line) for line in whole if line.startswith("{")]


def changed(copy: Path, *changes: tuple[str, str]) -> Path:
    """Write a copy of the configuration with some text replaced."""
    text = CONFIGURATION.read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    copy.write_text(text, encoding="utf-8")
    return copy


def raw_response(
    port: int, request: bytes, address: str = "127.0.0.1", *, ends: bool = False
) -> bytes:
    """All bytes of the response to ``request`` until the connection is closed.

    :param address: of the client, on loopback
    :param ends: whether the client sends no more, and says so
    """
    there = "::1" if ":" in address else "127.0.0.1"
    with socket.create_connection((there, port), 30, (address, 0)) as connection:
        connection.sendall(request)
        if ends:
            connection.shutdown(socket.SHUT_WR)
        received = b""
        while part := connection.recv(65_536):
            received += part
        return received


def problem(response: bytes, language: str = "es") -> tuple[int, str]:
    """The status and the code of a response, which must be a problem in that language."""
    head, _, body = response.partition(b"\r\n\r\n")
    first, *lines = head.decode().lower().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    status, found = int(first.split()[1]), json.loads(body)
    assert headers["content-type"] == "application/problem+json"
    assert headers["cache-control"] == "no-store"
    assert headers["content-language"] == language
    assert "vary: accept-language" in lines
    members = {"type", "title", "status", "detail", "code", "request_id"}
    assert set(found) - ({"checks"} if found["code"] == "not_ready" else set()) == members
    assert found["request_id"] == headers["x-request-id"] != ""
    assert found["status"] == status
    assert found["type"] == f"/problems/{found['code']}"
    message = PROBLEMS[found["code"]]
    text = message.en if language == "en" else message.es
    assert found["title"] == text.title
    if message.status == status:
        assert found["detail"] == text.detail
    assert (status in {429, 502, 503, 504}) == ("retry-after" in headers)
    return status, found["code"]
