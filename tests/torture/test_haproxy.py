"""The shipped proxy: the requests it passes, those it refuses, and its refusals."""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
import socketserver
import ssl
import struct
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from dev.server import free_port
from tests.stage.programs import needs_program, program
from tests.stage.service import Service
from tests.stage.waiting import served, until
from tests.torture.haproxy import HAProxy, changed, needs_haproxy, problem, raw_response
from tests.torture.ledger import record, trials
from tests.torture.witness import Witness

pytestmark = needs_haproxy

LIMIT = 5
POST = b"POST / HTTP/1.1\r\nHost: service\r\n"
PROXYS_OWN = {"connection", "date", "keep-alive", "server", "transfer-encoding", "x-request-id"}
FORGED = ("X-Forwarded-For", "X_Forwarded_For", "Forwarded", "X-Real-IP", "SCRIPT_NAME")


@pytest.fixture(scope="module")
def limited(serve: Callable[..., Service]) -> Iterator[Service]:
    with serve(
        web_concurrency=1, trusted_proxies=1, rate_limit_register=f"{LIMIT} per minute"
    ) as service:
        yield service


@pytest.fixture(scope="module")
def real(limited: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HAProxy]:
    """The shipped proxy, before the service."""
    with HAProxy(tmp_path_factory.mktemp("haproxy"), [limited.port]) as running:
        yield running


def client_at(address: str, url: str, **more: object) -> httpx.Client:
    """A client that calls from ``address``, one of loopback's."""
    return httpx.Client(
        base_url=url, timeout=30, transport=httpx.HTTPTransport(local_address=address), **more
    )


def passed(client: httpx.Client, forge: str) -> int:
    """The number of calls that pass, out of many with a forged address each."""
    statuses = Counter(
        client.post(
            "/auth/register", json={}, headers={forge: f"192.0.2.{secrets.randbelow(256)}"}
        ).status_code
        for _ in range(4 * LIMIT)
    )
    assert set(statuses) <= {422, 429}
    return statuses[422]


def test_a_forged_address_gains_nothing(real: HAProxy) -> None:
    """Guard: ``http-request set-header X-Forwarded-For`` in haproxy.cfg, and the lines before."""
    allowed = {}
    for number, name in enumerate(FORGED):
        with client_at(f"127.0.3.{1 + number}", real.url) as client:
            allowed[name] = passed(client, name)
    wrong = sum(count != LIMIT for count in allowed.values())
    record(
        "A client that forges addresses is limited by its own",
        n=4 * LIMIT * len(allowed),
        failures=wrong,
    )
    assert not wrong, allowed


def test_without_the_guard_a_forged_address_evades_the_limit(
    limited: Service, tmp_path: Path
) -> None:
    """The twin: the same calls pass, so the test above can fail."""
    unguarded = changed(
        tmp_path / "changed.cfg",
        ("http-request set-header X-Forwarded-For %[src]", ""),
        ("http-request del-header X-Forwarded- -m beg", ""),
    )
    with (
        HAProxy(tmp_path, [limited.port], unguarded) as proxy,
        client_at("127.0.3.100", proxy.url) as client,
    ):
        assert passed(client, "X-Forwarded-For") > LIMIT


def test_the_service_receives_no_forged_header(proxy: HAProxy) -> None:
    """It receives one hop, no header of the connection, and no name that gunicorn would rewrite."""
    forged = [
        ("X-Forwarded-For", "192.0.2.1"),
        ("X-Forwarded-For", "192.0.2.2"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "evil.example"),
        ("Forwarded", "for=192.0.2.3"),
        ("X_Forwarded_For", "192.0.2.4"),
        ("PATH_INFO", "/metrics"),
        ("SCRIPT_NAME", "/x"),
    ]
    about_the_connection = [
        ("Connection", "keep-alive, Upgrade"),
        ("Keep-Alive", "timeout=600"),
        ("Proxy-Authorization", "Basic eDp5"),
        ("Proxy-Connection", "keep-alive"),
        ("TE", "trailers"),
        ("Trailer", "Expires"),
        ("Upgrade", "h2c"),
    ]
    kept = [("Authorization", "Bearer x"), ("Idempotency-Key", "k"), ("Accept-Language", "en")]
    with client_at("127.0.3.7", proxy.url) as client:
        response = client.get("/", headers=[*forged, *about_the_connection, *kept])
    received = [(name.lower(), value) for name, value in response.json()]
    names = Counter(name for name, _ in received)
    assert not {name.lower() for name, _ in about_the_connection} & set(names)
    assert not [name for name in names if "_" in name or name == "forwarded"]
    forwarded = [pair for pair in received if pair[0].startswith("x-forwarded")]
    assert sorted(forwarded) == [("x-forwarded-for", "127.0.3.7"), ("x-forwarded-proto", "http")]
    assert {(name.lower(), value) for name, value in kept} <= set(received)
    assert max(names.values()) == 1


TRACE = f"00-{'ab' * 16}-{'cd' * 8}-01"
ONE_ID = [
    ([("X-Request-ID", "mine-1")], "mine-1"),
    ([("X-Request-ID", "  mine-1 ")], "mine-1"),
    ([("x-request-id", "x" * 128)], "x" * 128),
    ([("traceparent", TRACE)], "ab" * 16),
    ([("X-Request-ID", "mine 1"), ("traceparent", TRACE)], "ab" * 16),
    ([("X-Request-ID", "mine-1"), ("traceparent", "00-x-y-01")], "mine-1"),
]
NO_ID = [
    [],
    [("X-Request-ID", "")],
    [("X-Request-ID", "x" * 129), ("traceparent", "00-x-y-01")],
    [("X-Request-ID", 'good, x", "code": "token_lost')],
    [("X-Request-ID", 'x", "code": "token_lost, good')],
    [("X-Request-ID", "good,")],
    [("X-Request-ID", "good, better")],
    [("X-Request-ID", "good"), ("X-Request-ID", "better")],
    [("X-Request-ID", "good"), ("X-Request-ID", 'x"')],
    [("X-Request-ID", "good\xff")],
    [("X-Request-ID", "good\tx")],
    [("X-Request-ID", f"ott_{'0' * 58}")],
    [("X-Request-ID", f"otr_{'a' * 20}")],
    [("X-Request-ID", f"osk_{'0' * 58}")],
    [("X-Request-ID", f"x.osr_{'a' * 20}")],
    [("X-Request-ID", f"eyJ{'a' * 30}.{'b' * 30}.{'c' * 30}")],
    [("X_Request_ID", "good")],
    [("traceparent", f'{TRACE}, x-e"vil-y')],
    [("traceparent", f'x-e"vil-y, {TRACE}')],
    [("traceparent", TRACE), ("traceparent", TRACE.replace("ab", "ef"))],
    [("traceparent", TRACE.replace("ab", "00"))],
    [("traceparent", TRACE.replace("cd", "00"))],
    [("traceparent", TRACE.replace("ab", "AB"))],
    [("traceparent", f"{TRACE}-more")],
    [("traceparent", TRACE.replace("00-", "ff-"))],
]


@pytest.mark.parametrize(("given", "id_"), [*ONE_ID, *((given, "") for given in NO_ID)])
def test_proxy_and_service_agree_on_the_request_id(
    given: list[tuple[str, str]], id_: str, real: HAProxy, limited: Service, proxy: HAProxy
) -> None:
    """Only a whole valid line gives the caller's id, or that of its trace; else the id is new."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in given).encode("latin-1")
    ask = b"GET %s HTTP/1.1\r\nHost: service\r\nConnection: close\r\n" + lines + b"\r\n"

    def ids_and_body(port: int, path: bytes) -> tuple[list[str], bytes]:
        """The ids in the headers of a response, and its body."""
        head, _, body = raw_response(port, ask % path).partition(b"\r\n\r\n")
        found = [line.split(": ", 1) for line in head.decode().split("\r\n")[1:]]
        return [value for name, value in found if name.lower() == "x-request-id"], body

    def right(found: str) -> bool:
        return found == id_ if id_ else len(found) == 36 and "x" not in found

    # The service's responses, short and long, and the headers that it receives.
    for path in (b"/auth/me", b"/nothing"):
        (found,), body = ids_and_body(real.port, path)
        assert right(found)
        assert json.loads(body)["request_id"] == found
        until(lambda: f'"{found}"' in limited.log.read_text())  # noqa: B023 - at once
    _, body = ids_and_body(proxy.port, b"/auth/me")
    received = Counter((name.lower(), value) for name, value in json.loads(body))
    (found,) = [value for name, value in received if name == "x-request-id"]
    assert right(found)
    trace = [value for name, value in received if name == "traceparent"]
    assert trace == ([TRACE] if ("traceparent", TRACE) in given and id_ else [])
    # The proxy's own response, and its log line.
    (found,), body = ids_and_body(proxy.port, b"/metrics")
    assert right(found)
    assert set(problem_of(body)) == {"type", "title", "status", "detail", "code", "request_id"}
    assert problem_of(body)["request_id"] == found
    assert problem_of(body)["code"] == "not_found"
    until(lambda: f'"{found}"' in proxy.log.read_text())


def problem_of(body: bytes) -> dict[str, str]:
    def members(pairs: list[tuple[str, str]]) -> dict[str, str]:
        assert len(pairs) == len(dict(pairs))
        return dict(pairs)

    found: dict[str, str] = json.loads(body, object_pairs_hook=members)
    return found


@pytest.mark.parametrize("method", [f"ott_{'7' * 58}", "A" * 9000, "%x|'!#", "get"])
def test_an_unknown_method_is_not_logged(method: str, proxy: HAProxy) -> None:
    """Guard: ``txn.method`` in haproxy.cfg. The proxy logs its own responses."""
    ask = f"{method} /metrics HTTP/1.1\r\nHost: service\r\nX-Request-ID: m{len(method)}\r\n"
    raw_response(proxy.port, f"{ask}Connection: close\r\n\r\n".encode())
    until(lambda: f'"m{len(method)}"' in proxy.log.read_text())
    assert f'"{method[:20]}' not in proxy.log.read_text()
    assert '"method": "-"' in proxy.log.read_text()


def test_responses_lose_nothing_in_the_proxy(real: HAProxy, limited: Service) -> None:
    """Status and headers are those of a direct call to gunicorn."""
    calls = [("GET", "/auth/me"), ("POST", "/auth/register"), ("PUT", "/token/create")]
    for method, path in calls:
        with client_at("127.0.3.8", real.url) as there, httpx.Client(base_url=limited.url) as here:
            through, direct = (client.request(method, path) for client in (there, here))
        assert through.status_code == direct.status_code
        assert set(direct.headers) - set(through.headers) <= PROXYS_OWN
    with client_at("127.0.3.8", real.url) as client:
        for _ in range(LIMIT):
            response = client.post("/auth/register", json={})
    assert response.status_code == 429
    assert {"ratelimit", "ratelimit-policy", "retry-after", "x-request-id"} <= set(response.headers)


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (POST + b"A: " + b"a" * 9000 + b"\r\n\r\n", (400, "bad_request")),
        (POST.replace(b"/ ", b"/" + b"a" * 5000 + b" "), (400, "bad_request")),
        (POST + b"Content-Length: 16385\r\n\r\n" + b"a" * 16_385, (413, "payload_too_large")),
        (POST + b"Content-Length: 999999\r\n\r\n" + b"a" * 40_000, (413, "payload_too_large")),
        (
            POST + b"Transfer-Encoding: chunked\r\n\r\n4e20\r\n" + b"a" * 20_000 + b"\r\n0\r\n\r\n",
            (413, "payload_too_large"),
        ),
        *(
            (f"GET {path} HTTP/1.1\r\nHost: service\r\n".encode(), (404, "not_found"))
            for path in ("/metrics", "//metrics", "/%6detrics", "/x/../metrics", "/metrics?x=1")
        ),
        (b"GET /hangs-up HTTP/1.1\r\nHost: service\r\n", (502, "internal_error")),
    ],
)
def test_refusals_of_the_proxy_are_problems(
    request_: bytes, expected: tuple[int, str], proxy: HAProxy, seen: Witness
) -> None:
    before = len(seen.paths)
    if b"\r\n\r\n" not in request_:
        request_ += b"Connection: close\r\n\r\n"
    head, _, body = request_.partition(b"\r\n\r\n")
    closing = head.replace(b"Host: service", b"Host: service\r\nConnection: close", 1)
    assert problem(raw_response(proxy.port, closing + b"\r\n\r\n" + body)) == expected
    assert len(seen.paths) - before == (expected[0] == 502)


@pytest.mark.parametrize(
    ("default", "accepted", "expected"),
    [
        ("es", "en", "en"),
        ("es", "en-GB,es;q=0.5", "en"),
        ("es", "fr, es;q=0.4, en;q=0.6", "en"),
        ("es", "fr", "es"),
        ("es", "en;q=0.2, es", "es"),
        ("en", "", "en"),
        ("en", "es-AR", "es"),
    ],
)
def test_refusals_of_the_proxy_are_in_the_language_of_the_caller(
    default: str, accepted: str, expected: str, seen: Witness, tmp_path: Path
) -> None:
    with HAProxy(tmp_path, [seen.port], DEFAULT_LANGUAGE=default) as proxy:
        for path in (b"/metrics", b"/hangs-up"):
            head = b"GET " + path + b" HTTP/1.1\r\nHost: service\r\nConnection: close\r\n"
            head += f"Accept-Language: {accepted}\r\n".encode() if accepted else b""
            problem(raw_response(proxy.port, head + b"\r\n"), expected)


def test_a_body_at_the_limit_passes(proxy: HAProxy) -> None:
    assert httpx.post(proxy.url, content=b"a" * 16_384).status_code == 200


def test_a_late_server_is_504_and_an_absent_one_503(seen: Witness, tmp_path: Path) -> None:
    """504 and 502 mean an unknown outcome, 503 that nothing happened."""
    hasty = changed(tmp_path / "changed.cfg", ("timeout server 10s", "timeout server 300ms"))
    ask = b"GET /takes/1 HTTP/1.1\r\nHost: service\r\nConnection: close\r\n\r\n"
    with HAProxy(tmp_path / "late", [seen.port], hasty) as late:
        assert problem(raw_response(late.port, ask)) == (504, "internal_error")
    with HAProxy(tmp_path / "away", [free_port()]) as away:
        # At first the proxy tries to connect; later its health checks have found nobody there.
        assert problem(raw_response(away.port, ask)) in {(503, "busy"), (503, "not_ready")}
        until(lambda: problem(raw_response(away.port, ask)) == (503, "not_ready"))


class Names(socketserver.BaseRequestHandler):
    """A name server (RFC 1035) with one address for every name."""

    address: str

    def handle(self) -> None:
        asked, way_back = self.request
        question = asked[12 : asked.index(b"\0", 12) + 5]
        found = question.endswith(b"\0\1\0\1")  # an address of IPv4, on the internet
        head = struct.pack("!2sHHHHH", asked[:2], 0x8180, 1, found, 0, 0)
        answer = struct.pack("!HHHIH", 0xC00C, 1, 1, 0, 4) + socket.inet_aton(self.address)
        way_back.sendto(head + question + answer * found, self.client_address)


def test_a_service_with_a_new_address_is_found(seen: Witness, tmp_path: Path) -> None:
    """Guard: ``resolvers`` in haproxy.cfg. Without it a name is resolved once."""
    Names.address = "127.0.0.3"  # without a server
    with socketserver.UDPServer(("127.0.0.1", 0), Names) as names, ThreadPoolExecutor(1) as thread:
        thread.submit(names.serve_forever, 0.02)
        here = f"nameserver here 127.0.0.1:{names.server_address[1]}"
        own = changed(tmp_path / "changed.cfg", ("parse-resolv-conf", here))
        try:
            with HAProxy(
                tmp_path / "moves", [], own, SERVER_ONE=f"service.test:{seen.port}"
            ) as moves:
                assert httpx.get(moves.url, timeout=30).status_code == 503
                Names.address = "127.0.0.1"
                until(lambda: httpx.get(moves.url, timeout=30).status_code == 200)
        finally:
            names.shutdown()


def test_an_address_has_a_limit_of_requests(proxy: HAProxy) -> None:
    asked = 2_100
    requests = b"GET /metrics HTTP/1.1\r\nHost: service\r\n\r\n" * asked
    last = b"GET /metrics HTTP/1.1\r\nHost: service\r\nConnection: close\r\n\r\n"
    responses = raw_response(proxy.port, requests + last, "127.0.3.10").split(b"HTTP/1.1 ")[1:]
    statuses = Counter(response[:3] for response in responses)
    assert statuses[b"404"] == 2_000
    assert problem(b"HTTP/1.1 " + responses[-1]) == (429, "rate_limited")
    assert b"404" in raw_response(proxy.port, last, "127.0.3.11")


def is_open(connection: socket.socket) -> bool:
    """Whether the other side has kept an unused connection open."""
    connection.setblocking(False)
    try:
        return connection.recv(1) != b""
    except BlockingIOError:
        return True
    except ConnectionError:
        return False


def test_an_address_has_a_limit_of_connections(proxy: HAProxy) -> None:
    """Other addresses still can connect."""
    here, there = ("127.0.3.12", 0), ("127.0.3.13", 0)
    with contextlib.ExitStack() as opened:
        connections = []
        for _ in range(160):
            with contextlib.suppress(ConnectionError):
                connection = socket.create_connection(("127.0.0.1", proxy.port), 5, here)
                connections.append(opened.enter_context(connection))
        # The proxy may be late to close those beyond the limit.
        until(lambda: sum(map(is_open, connections)) <= 128, seconds=3)
        assert sum(map(is_open, connections)) == 128
        other = socket.create_connection(("127.0.0.1", proxy.port), 5, there)
        opened.enter_context(other).sendall(b"GET / HTTP/1.1\r\nHost: service\r\n\r\n")
        assert other.recv(100).startswith(b"HTTP/1.1 200")


def test_connections_to_the_service_are_reused(proxy: HAProxy, seen: Witness) -> None:
    with httpx.Client(base_url=proxy.url) as client:
        client.get("/")
        before = seen.connections
        for _ in range(50):
            assert client.get("/").status_code == 200
    # The health checks have some of their own.
    assert seen.connections - before < 10


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
@needs_program("openssl")
def test_the_tls_block_works_and_refuses_old_versions(seen: Witness, tmp_path: Path) -> None:
    """The commented lines work without their #, and refuse TLS before 1.2."""
    pair = tmp_path / "pair.pem"
    made = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"]
    where = ["-keyout", tmp_path / "key", "-out", tmp_path / "certificate"]
    subprocess.run(
        [program("openssl"), "req", *made, *names, *where], check=True, capture_output=True
    )
    pair.write_text((tmp_path / "certificate").read_text() + (tmp_path / "key").read_text())
    tls = changed(
        tmp_path / "changed.cfg",
        ("# bind ", "bind "),
        ("# http-request redirect", "http-request redirect"),
        ("# http-response set-header Strict", "http-response set-header Strict"),
    )
    port = free_port()
    own = {"BIND_TLS": f"127.0.0.1:{port}", "CERTIFICATE": str(pair)}
    trusting = ssl.create_default_context(cafile=tmp_path / "certificate")
    with HAProxy(tmp_path / "tls", [seen.port], tls, **own) as running:
        response = httpx.get(f"https://localhost:{port}/", verify=trusting)
        assert ["x-forwarded-proto", "https"] in response.json()
        assert int(response.headers["Strict-Transport-Security"].removeprefix("max-age=")) > 10**7
        plain = httpx.post(f"{running.url}/token/create?a=b")
        assert plain.status_code == 308
        assert plain.headers["Location"].startswith("https://")
        old = ssl.create_default_context(cafile=tmp_path / "certificate")
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
        old.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.raises((httpx.ConnectError, ssl.SSLError)):
            httpx.get(f"https://localhost:{port}/", verify=old)
        until(lambda: running.lines()[-1]["event"] == "proxy.refused")
        good, *_, bad = running.lines()
    assert good["tls"] in ("TLSv1.2", "TLSv1.3")
    assert bad["handshake"] == "SSL handshake failure"


def test_a_large_document_arrives_whole(real: HAProxy) -> None:
    """Documents have a backend of their own, which serves a few at a time."""
    with ThreadPoolExecutor(8) as threads:
        urls = [f"{real.url}/docs/assets/swagger-ui-bundle.js"] * trials(400, 8)
        responses = threads.map(lambda url: served(lambda: httpx.get(url, timeout=30)), urls)
        sizes = {len(response.content) for response in responses}
    assert len(sizes) == 1
    assert sizes.pop() > 10**6
