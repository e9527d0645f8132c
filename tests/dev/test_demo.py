"""The page of ``make run`` without one: its calls, its words, and where it is not."""

from __future__ import annotations

import re
import socket
import threading

import httpx

from dev.demo.calls import Call, Program
from dev.demo.texts import PAGE, SAYINGS
from tests.stage.paths import ROOT
from tests.stage.service import Service

RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


def test_calls_at_once_are_all_in_flight_before_the_first_response() -> None:
    """Against a server that responds to none before it has read all of them."""
    calls = [Call(path="/token/consume", sent={"number": number}) for number in range(20)]
    with socket.create_server(("127.0.0.1", 0), backlog=20) as server:
        server.settimeout(10)

        def serve() -> None:
            begun = [server.accept()[0] for _ in calls]
            for connection in begun:
                request = b""
                while not request.endswith(b"}"):
                    request += connection.recv(4096)
            for connection in begun:
                connection.sendall(RESPONSE)
                connection.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        made = Program(server.getsockname()[1]).at_once(calls)
        thread.join(10)
    assert [call.status for call in made] == [200] * 20
    assert len({call.key for call in made}) == 20


def test_a_call_has_no_response_where_nothing_listens() -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))  # bound, not listening: no other process can take the port
        program = Program(unheard.getsockname()[1], "osk_secret")
        made = program.call(Call(path="/token/create"))
        program.lose(made)
    assert made.status is None
    assert made.tries > 1
    assert "osk_" not in repr(program)


def test_the_service_alone_has_no_such_page(service: Service) -> None:
    """What gunicorn loads by itself, and so the image, knows nothing of it."""
    for path in ("/demo", "/demo/static/demo.js"):
        assert httpx.get(service.url + path, timeout=30).status_code == 404
    assert httpx.post(f"{service.url}/demo/create", timeout=30).status_code == 404


def test_neither_the_image_nor_the_package_has_it() -> None:
    copied = re.findall(r"^COPY (.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    let_in = re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    for path in (*" ".join(copied).split(), *let_in):
        assert not path.startswith(("dev", ".")), path
    assert "include = settings, tokenservice*\n" in (ROOT / "setup.cfg").read_text()


def test_both_languages_have_the_same_words() -> None:
    for words in (PAGE, SAYINGS):
        assert words["en"].keys() == words["es"].keys()
        for name, text in words["en"].items():
            assert re.findall(r"{\w+}", text) == re.findall(r"{\w+}", words["es"][name])
