"""Addresses of clients in the spellings of proxies: who is counted with whom."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from flask.testing import FlaskClient

from tests.stage.limits import register_from
from tests.stage.service import Service
from tests.stage.waiting import until
from tokenservice.web import addresses

# Every test starts with empty counters.
pytestmark = pytest.mark.usefixtures("counters")

SPELLINGS = {
    "203.0.113.7": "203.0.113.7",
    "203.0.113.7:4711": "203.0.113.7",
    "203.0.113.7:0": "203.0.113.7",
    "[203.0.113.7]:4711": "203.0.113.7",
    "::ffff:203.0.113.7": "203.0.113.7",
    "::FFFF:CB00:7107": "203.0.113.7",
    "[::ffff:203.0.113.7]:4711": "203.0.113.7",
    "2001:db8::7": "2001:db8::7",
    "[2001:db8::7]": "2001:db8::7",
    "[2001:DB8::7]:4711": "2001:db8::7",
    "fe80::7%eth0": "fe80::7",
    "[fe80::7%eth0]:4711": "fe80::7",
    "[fe80::7%25eth0.100]:4711": "fe80::7",
}
UNREADABLE = [
    "",
    "unknown",
    "_hidden",
    "203.0.113.7:",
    "203.0.113.7:port",
    "203.0.113.7:4711:4711",
    "203.0.113.7:123456",
    "203.0.113.7:٤٧١١",
    "203.0.113.007",
    "203.0.113",
    "203.0.113.0/24",
    "[2001:db8::7",
    "2001:db8::7]:4711",
    "[[2001:db8::7]]:4711",
    "[]:4711",
    "2001:db8:0:0:0:0:0:7:4711",
    "%eth0",
    "localhost:4711",
    "a" * 4000,
]


@pytest.mark.parametrize(("spelling", "address"), SPELLINGS.items())
def test_an_address_is_read_in_every_spelling(spelling: str, address: str) -> None:
    """Guard: ``addresses.WITH_PORT``, and the zone id that is cut off."""
    assert str(addresses.read(spelling)) == address


@pytest.mark.parametrize("text", UNREADABLE)
def test_other_text_is_no_address(text: str) -> None:
    assert addresses.read(text) is None


@pytest.mark.parametrize(
    ("one", "two", "together"),
    [
        ("203.0.113.7:4711", "203.0.113.8:4711", False),
        ("203.0.113.7:4711", "203.0.113.7:4712", True),
        ("203.0.113.7:4711", "203.0.113.7", True),
        ("[2001:db8:1:2::1]", "[2001:db8:1:3::1]", False),
        ("[2001:db8:1:2::1]", "2001:db8:1:2::2", True),
        ("[2001:db8:1:2::1]:4711", "[2001:db8:1:3::1]:4711", False),
        ("[2001:db8:1:2::1]:4711", "[2001:db8:1:2::2]:4712", True),
        ("[fe80::1%eth0]:4711", "[2001:db8::1%eth0]:4711", False),
        ("[::ffff:203.0.113.7]:4711", "203.0.113.7:4712", True),
        ("[::ffff:203.0.113.7]:4711", "[::ffff:203.0.113.8]:4711", False),
    ],
)
def test_a_client_is_counted_by_its_address_and_not_by_its_spelling(
    one: str, two: str, together: bool, limited: Callable[..., FlaskClient]
) -> None:
    """Guard: ``addresses.read`` in ``limits.network``. All would share the count of "unknown"."""
    client = limited(rate_limit_register="1 per minute", trusted_proxies=1)
    assert register_from(client, "10.0.0.1", X_Forwarded_For=f"198.51.100.1:1, {one}") == 422
    assert register_from(client, "10.0.0.1", X_Forwarded_For=two) == (429 if together else 422)


def test_a_client_of_the_second_proxy_is_read_too(limited: Callable[..., FlaskClient]) -> None:
    client = limited(rate_limit_register="1 per minute", trusted_proxies=2)
    for number in (7, 8):
        chain = f"198.51.100.1, [2001:db8:{number}::1]:4711, 10.0.0.2:4711"
        assert register_from(client, "10.0.0.1", X_Forwarded_For=chain) == 422


@pytest.mark.parametrize(
    "value", ["203.0.113.{}:4711", "[2001:db8:{}::7]:4711", "[2001:db8:{}::7]"]
)
def test_without_a_trusted_proxy_no_spelling_is_believed(
    value: str, limited: Callable[..., FlaskClient]
) -> None:
    """Reading an address with a port is not believing a header."""
    client = limited(rate_limit_register="2 per minute")
    responses = [
        register_from(client, "192.0.2.1", X_Forwarded_For=value.format(number))
        for number in range(3)
    ]
    assert responses == [422, 422, 429]


@pytest.fixture
def behind_two(serve: Callable[..., Service]) -> Iterator[Service]:
    """A service of one worker that trusts two proxies."""
    with serve(web_concurrency=1, trusted_proxies=2, rate_limit_register="900 per minute") as one:
        yield one


def ask(service: Service, requests: list[dict[str, str]]) -> None:
    """Make a call with each of these headers, and wait until all of them are in the log."""
    with httpx.Client(base_url=service.url, timeout=30) as http:
        for headers in requests:
            assert http.post("/auth/register", json={}, headers=headers).status_code == 422
        http.get("/the-last-one", headers={"X-Request-ID": "the-last-one"})
    until(lambda: "the-last-one" in service.log.read_text())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("X-Forwarded-For", "nobody-{}, 10.0.0.2"),
        ("X-Forwarded-For", "203.0.113.{}"),  # The other proxy has written nothing.
        ("X-Forwarded-Prefix", "//evil-{}.example"),
    ],
)
def test_a_mistake_of_a_proxy_is_logged_once(header: str, value: str, behind_two: Service) -> None:
    """Guard: ``app.report_unreadable``. The value is the client's, and stays out of the log."""
    ask(behind_two, [{header: value.format(number)} for number in range(5)])

    def reported() -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in behind_two.log.read_text().splitlines()]
        return [line for line in lines if line["event"] == "proxy.header_unreadable"]

    [line] = reported()
    assert (line["level"], line["header"], line["trusted_proxies"]) == ("warning", header, 2)
    assert "evil" not in behind_two.log.read_text()
    assert "nobody" not in behind_two.log.read_text()


@pytest.mark.slow
def test_readable_headers_are_no_mistake(behind_two: Service) -> None:
    chains = ("203.0.113.7:4711, 10.0.0.2", "[2001:db8::7], [2001:db8::8]:1")
    readable = [{"X-Forwarded-For": chain, "X-Forwarded-Prefix": "/tokens"} for chain in chains]
    # The check of a proxy itself has no header.
    ask(behind_two, [*readable, {}])
    assert "proxy.header_unreadable" not in behind_two.log.read_text()
