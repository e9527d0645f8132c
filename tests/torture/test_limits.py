"""Exact limits: over processes, with forged headers of clients, and without Redis."""

from __future__ import annotations

import itertools
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

import dev
from tests.stage.people import enrol, new_correo
from tests.stage.proxy import Proxy
from tests.stage.racing import Connection, race, request
from tests.stage.service import Service
from tests.stage.waiting import until
from tests.torture import ledger
from tests.torture.ledger import trials

#: Windows that outlast every test.
LIMITS = {
    "rate_limit_create": "100 per hour",
    "rate_limit_register": "5 per hour",
    "rate_limit_login": "5 per hour",
}
# A connection for each call, so that the workers take turns.
ALONE = {"Connection": "close"}
WRONG = "not the password of anyone"
#: Headers in which proxies of all kinds report the client's address.
HEADERS = (
    *("X-Forwarded-For", "Forwarded", "X-Real-IP", "X-Client-IP", "True-Client-IP"),
    *("CF-Connecting-IP", "CF-Connecting-IPv6", "Fastly-Client-IP", "X-Cluster-Client-IP"),
    *("X-Forwarded", "Forwarded-For", "X-Original-Forwarded-For", "X-Originating-IP"),
    *("X-Remote-IP", "X-Remote-Addr", "Remote-Addr", "Client-IP", "X-ProxyUser-Ip", "Via"),
    *("X_Forwarded_For", "REMOTE_ADDR", "HTTP_X_FORWARDED_FOR", "X-Azure-ClientIP"),
)


@pytest.fixture(scope="module")
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dev.Redis]:
    with dev.Redis(tmp_path_factory.mktemp("limits")) as server:
        yield server


@pytest.fixture(autouse=True)
def nothing_counted(own_redis: dev.Redis) -> None:
    with redis.Redis.from_url(own_redis.url) as client:
        client.flushall()


@pytest.fixture(scope="module")
def proxied(serve: Callable[..., Service], own_redis: dev.Redis) -> Iterator[tuple[Service, Proxy]]:
    """A service that trusts one proxy, and a proxy before its Redis."""
    with Proxy(own_redis.port) as to_redis:
        url = own_redis.url.replace(f":{own_redis.port}/", f":{to_redis.port}/")
        with serve(web_concurrency=2, trusted_proxies=1, redis_url=url, **LIMITS) as running:
            yield running, to_redis


@pytest.fixture(scope="module")
def direct(serve: Callable[..., Service], own_redis: dev.Redis) -> Iterator[Service]:
    """A service without a trusted proxy, which counts in the same Redis."""
    with serve(web_concurrency=2, redis_url=own_redis.url, **LIMITS) as running:
        yield running


numbers = itertools.count()


def address() -> dict[str, str]:
    """A header with an address in a network of its own, as the proxy sets it."""
    n = next(numbers)
    return {"X-Forwarded-For": f"{10 + (n >> 16)}.{n >> 8 & 255}.{n & 255}.1"}


def error(statuses: Counter[int], passed: int, limit: int) -> int:
    """The difference between the calls that passed and the limit.

    A stalled machine may respond 503 to a call, which then is not counted either. The full run has
    a machine to itself.
    """
    assert set(statuses) <= {passed, 429, 503}
    stalls = 0 if ledger.FULL else statuses[503]
    return max(0, statuses[passed] - limit, limit - statuses[passed] - stalls)


def sockets(service: Service) -> dict[int, int]:
    """The number of open sockets of each worker."""
    opened = {pid: service.descriptors(pid) for pid in service.workers()}
    return {pid: sum(name.startswith("socket:") for name in opened[pid]) for pid in opened}


def register(http: httpx.Client, *headers: tuple[str, str]) -> int:
    """Register with an empty body: the status is 422 where the limit passes it."""
    return http.post("/auth/register", json={}, headers=list(headers)).status_code


def create_at_once(services: Sequence[Service], calls: int) -> Counter[int]:
    """Let one account create tokens all at once, over all ``services``; count the statuses.

    A worker that is off the processor may get no connection, and then another account does it.
    """
    for _ in range(3):
        statuses, is_shared = _create_at_once(services, calls)
        if is_shared:
            return statuses
    raise AssertionError("a worker had no part in it")


def _create_at_once(services: Sequence[Service], calls: int) -> tuple[Counter[int], bool]:
    """The statuses, and whether each worker had a part in them."""
    with httpx.Client(base_url=services[0].url, timeout=60) as http:
        someone = enrol(lambda path, json: http.post(path, json=json, headers=address()))
    idle = [sockets(service) for service in services]
    opened = [Connection(services[n % len(services)].port) for n in range(calls)]
    try:
        responses = race(opened, [request("/token/create", someone, {})] * calls)
        pairs = [(sockets(service), before) for service, before in zip(services, idle, strict=True)]
        is_shared = all(after[pid] > before[pid] for after, before in pairs for pid in before)
    finally:
        for connection in opened:
            connection.close()
    # So that the next count includes none of these.
    until(lambda: all(sum(sockets(service).values()) < calls / 10 for service in services))
    return Counter(response.status for response in responses), is_shared


def test_of_a_thousand_calls_at_once_a_hundred_pass(
    proxied: tuple[Service, Proxy], direct: Service
) -> None:
    """Over four processes of two services. Guard: INCRBY in ``counters.COUNT``, in one step."""
    services, repeats = (proxied[0], direct), trials(50, 1)
    wrong = [error(create_at_once(services, 1000), 201, 100) for _ in range(repeats)]
    ledger.record(
        "of 1,000 calls at once over 4 processes at a limit of 100, exactly 100 pass",
        n=repeats,
        failures=len(wrong) - wrong.count(0),
    )
    assert set(wrong) == {0}


def test_counting_in_two_steps_is_noticed(
    serve: Callable[..., Service], own_redis: dev.Redis
) -> None:
    conf = Path(__file__).with_name("two_steps.conf.py")
    with serve(
        web_concurrency=4,
        redis_url=own_redis.url,
        GUNICORN_CMD_ARGS=f"-c {conf}",
        **LIMITS,
    ) as racy:
        passed = create_at_once([racy], 1000)[201]
    ledger.record(
        "of 1,000 calls at once no more than 100 pass a limit that is counted in two steps "
        "(must fail)",
        n=1,
        failures=int(passed > 100),
        figures=f"{passed} passed",
    )
    assert passed > 100


def forged(n: int) -> str:
    """A forged address, in one of its forms."""
    one = f"198.51.{n >> 8 & 255}.{n & 255}"
    forms = (one, f"for={one};proto=https", f'"{one}"', f"2001:db8::{n:x}", f"{one}, {one}")
    return (*forms, "127.0.0.1", "localhost", "unknown", "", f"{one}:80")[n % 10]


def test_forwarding_headers_of_a_client_are_ignored(direct: Service) -> None:
    """With ``trusted_proxies=0``, for any header and any number of them."""
    requests = trials(10_000, 150)
    with httpx.Client(base_url=direct.url, timeout=30, headers=ALONE) as http:
        statuses = Counter(
            register(http, *[(secrets.choice(HEADERS), forged(n)) for _ in range(1 + n % 4)])
            for n in range(requests)
        )
    ledger.record(
        "forged addresses in any header gain nothing without a trusted proxy",
        n=requests,
        failures=error(statuses, 422, 5),
        figures=f"{len(HEADERS)} headers",
    )
    assert error(statuses, 422, 5) == 0


#: Values that a client may send before the proxy's own entry.
BEFORE = (
    *("", "198.51.100.{n}", "198.51.100.{n}, 198.51.101.{n}", "unknown", "203.0.113.{n}:80"),
    *('"', '"198.51.100.{n}', '"198.51.100.{n}"', '"a", "b', "\\", '"\\"', '""", "', "=\"'"),
    *(
        ",",
        ",,, ,",
        "for=198.51.100.{n}",
        "\u00e9",
        "2001:db8::{n}",
        "[2001:db8::{n}]:80",
        "x" * 3000,
    ),
)


@pytest.mark.parametrize(
    ("source", "last"),
    [
        ("an address", ("203.0.113.9", "::ffff:203.0.113.9")),
        (
            "a network of IPv6",
            ("2001:db8:1:2::{n}", "2001:DB8:1:2:{n}::", "2001:db8:1:2:0:0:{n}:1"),
        ),
    ],
)
def test_behind_a_proxy_only_its_own_entry_counts(
    source: str, last: tuple[str, ...], proxied: tuple[Service, Proxy]
) -> None:
    """The proxy adds its entry to the client's line, or a line of its own."""
    requests = trials(10_000, 150)
    statuses: Counter[int] = Counter()
    with httpx.Client(base_url=proxied[0].url, timeout=30, headers=ALONE) as http:
        for n in range(requests):
            mine = BEFORE[n % len(BEFORE)].format(n=n % 200)
            its = last[n % len(last)].format(n=n % 200)
            lines = [f"{mine}, {its}"] if n % 3 else [mine, its]
            headers = [("X-Forwarded-For", line.encode()) for line in lines]
            statuses[register(http, *headers)] += 1
    ledger.record(
        f"behind one trusted proxy only its own entry counts, for {source}",
        n=requests,
        failures=error(statuses, 422, 5),
    )
    assert error(statuses, 422, 5) == 0


def spelling(correo: str, n: int) -> str:
    """Another spelling of the same mailbox."""

    def letter(character: str) -> str:
        ways = [character, character.upper()]
        if character.isascii() and character.isalnum():
            ways.append(chr(ord(character) + 0xFEE0))
        return secrets.choice(ways)

    local_part, _, domain = correo.partition("@")
    domain = domain.replace(
        "b\u00fccher", secrets.choice(["b\u00fccher", "BU\u0308CHER", "xn--bcher-kva"])
    )
    text = (
        "".join(map(letter, local_part)) + secrets.choice("@\uff20") + "".join(map(letter, domain))
    )
    return secrets.choice(["", " ", "\t", "\u00a0"]) + text + secrets.choice(["", " ", "\n"])


def guess(http: httpx.Client, correo: str, n: int, **headers: str) -> int:
    """Log in with a wrong password, as JSON or as the form of OAuth 2; 401 where it was checked."""
    body: dict[str, Any] = (
        {"json": {"correo": correo, "password": WRONG}}
        if n % 2
        else {"data": {"username": correo, "password": WRONG}}
    )
    return http.post("/auth/login", headers=headers, **body).status_code


def test_a_window_with_a_redis_outage_has_two_counts(proxied: tuple[Service, Proxy]) -> None:
    """Two counts at most, at any time of the outage: the limit may be reached twice."""
    service, to_redis = proxied
    windows, most = trials(20, 1), 0
    with httpx.Client(base_url=service.url, timeout=30, headers=ALONE) as http:
        for window in range(windows):
            person, source = new_correo(), address()
            statuses = [guess(http, person, n, **source) for n in range(window % 6)]
            to_redis.refuse()
            try:
                statuses += [guess(http, person, n, **source) for n in range(10)]
            finally:
                to_redis.mend()
            time.sleep(1)
            statuses += [guess(http, person, n, **source) for n in range(10)]
            passed = statuses.count(401)
            assert passed >= 5
            most = max(most, passed)
    ledger.record(
        "a window with an outage of Redis allows at most twice the limit of 5",
        n=windows,
        failures=int(most > 10),
        figures=f"{most} at most",
    )
    assert most <= 10


@pytest.mark.parametrize(
    ("limit", "from_many"), [(5, False), (100, True)], ids=["one address", "many addresses"]
)
def test_no_spelling_of_a_correo_gains_a_guess(
    limit: int, from_many: bool, proxied: tuple[Service, Proxy]
) -> None:
    if from_many and trials(100) < 10:
        pytest.skip("hashes a hundred passwords: for longer runs")
    guesses = trials(2000, 160) if from_many else 55
    correo = f"ksenia.{secrets.token_hex(6)}@b\u00fccher.example.com"
    here = address()
    with (
        httpx.Client(base_url=proxied[0].url, timeout=60, headers=ALONE) as http,
        ThreadPoolExecutor(8) as threads,
    ):
        statuses = Counter(
            threads.map(
                lambda n: guess(http, spelling(correo, n), n, **(address() if from_many else here)),
                range(guesses),
            )
        )
    source = "from many addresses" if from_many else "from one address"
    ledger.record(
        f"spellings of one correo gain no guess at its password, {source}",
        n=guesses,
        failures=error(statuses, 401, limit),
    )
    assert error(statuses, 401, limit) == 0


@pytest.mark.parametrize(("how", "tell"), [("refuses", Proxy.refuse), ("hangs", Proxy.hang)])
def test_without_redis_a_guesser_gets_no_more_than_the_limit(
    how: str, tell: Callable[[Proxy], None], proxied: tuple[Service, Proxy], own_redis: dev.Redis
) -> None:
    """50 guesses a second, on as many connections: each of two workers passes two of five.

    Guard: ``counters.Memory._weight``. Normal limits are back within 2 s.
    """
    service, to_redis = proxied
    seconds = trials(60, 2)
    with (
        httpx.Client(base_url=service.url, timeout=30, headers=ALONE | address()) as http,
        ThreadPoolExecutor(16) as threads,
    ):

        def attack(correo: str, guesses: int, a_second: float) -> Counter[int]:
            begun = time.monotonic()

            def one(n: int) -> int:
                time.sleep(max(0, begun + n / a_second - time.monotonic()))
                return guess(http, correo, n)

            return Counter(threads.map(one, range(guesses)))

        tell(to_redis)
        try:
            away = attack(new_correo(), seconds * 50, 50)
        finally:
            to_redis.mend()
        time.sleep(2)
        back = attack(new_correo(), 30, 1000)
    ledger.record(
        f"while Redis {how}, 50 guesses a second pass no more than the limit of 5",
        n=away.total(),
        failures=max(0, away[401] - 4),
        figures=f"{away[401]} guesses in {seconds} s",
    )
    ledger.record(
        f"2 s after Redis {how}, exactly the limit passes again",
        n=back.total(),
        failures=error(back, 401, 5),
    )
    assert set(away) <= {401, 429, 503}
    assert 1 <= away[401] <= 4
    assert error(back, 401, 5) == 0
