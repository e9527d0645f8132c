"""Sessions at full length: races over processes, lost replies, and the release before beside."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.stage.people import enrol
from tests.stage.proxy import CUT, DELAY, KINDS, SWALLOW, Proxy
from tests.stage.racing import connected
from tests.stage.service import Service
from tests.stage.session_races import SPOILT, Round, rounds_of
from tests.stage.sessions import Login, tokens_of
from tests.torture.ledger import FULL, record, trials

CLIENT_SECONDS = 0.5 if FULL else 3.0
SESSIONS = 8


@pytest.fixture(scope="module")
def pair(serve: Callable[..., Service]) -> Iterator[list[Service]]:
    with serve(web_concurrency=2) as one, serve(web_concurrency=2) as two:
        yield [one, two]


@pytest.mark.parametrize("kind", list(Round))
def test_a_race_has_one_successor_or_none(kind: Round, pair: list[Service]) -> None:
    wrong: Counter[str] = Counter()
    rounds, late = trials(500, least=10), 0
    with (
        connected(pair, 8) as connections,
        httpx.Client(base_url=pair[0].url, headers={"Connection": "close"}, timeout=30) as http,
    ):
        someone, ended = enrol(http.post), []
        log_in, spoilt = (lambda: Login.of(http.post, someone)), (0 if FULL else SPOILT)
        for login, what, outcome in rounds_of(kind, rounds, log_in, connections, spoilt):
            if what:
                wrong[what] += 1
            elif outcome == "ended":
                ended.append(login)
        time.sleep(2)
        late = sum(login.status() != 401 for login in ended for _ in range(4))
    failures = sum(wrong.values()) + late
    record(
        f"refreshes of one token and {kind} at once: one successor, told to all; after the end of "
        "the session nothing of it works 2 seconds later on any worker",
        n=rounds,
        failures=failures,
        figures=f"{len(ended)} sessions ended",
    )
    assert not wrong
    assert not late


@pytest.mark.parametrize("kind", KINDS)
def test_lost_replies_of_a_refresh_log_nobody_out(kind: str, pair: list[Service]) -> None:
    """Each session refreshes again and again, and each reply is lost once."""
    steps = trials(1000, least=16) // SESSIONS
    with Proxy(pair[0].port, late=2 * CLIENT_SECONDS) as proxy:
        with httpx.Client(base_url=pair[0].url, timeout=30) as http:
            someone = enrol(http.post)
            logins = [Login.of(http.post, someone) for _ in range(SESSIONS)]

        def live(login: Login) -> int:
            """The number of steps after which the session still lives."""
            token, done = login.refresh_token, 0
            url = f"http://127.0.0.1:{proxy.port}/auth/refresh"
            for _ in range(steps):
                body = {"refresh_token": token}
                proxy.lose(token.encode(), kind)
                try:
                    httpx.post(url, json=body, timeout=CLIENT_SECONDS)
                except httpx.TransportError:
                    repeat = httpx.post(url, json=body, timeout=30)
                    if repeat.status_code == 200:
                        done += 1
                        token = tokens_of(repeat)[0]
            return done

        with ThreadPoolExecutor(SESSIONS) as pool:
            done = sum(pool.map(live, logins))
        lost = proxy.lost[kind]
    said = {SWALLOW: "is dropped", DELAY: "is delayed", CUT: "is replaced by a reset"}
    record(
        f"the reply to a refresh {said[kind]}: a repeat returns the pair, nobody is logged out",
        n=lost,
        failures=lost - done,
    )
    assert done == lost == steps * SESSIONS
