"""Races of every two calls that may meet at one token, over processes and two services.

Two gunicorns share one Redis and one Postgres, as two hosts would. The callers of a round are
spread over both, and their last bytes are sent together. Each round asserts the exact multiset of
responses, so that a 5xx or a wrong refusal is a failure too.
"""

from __future__ import annotations

import datetime
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.stage.people import Person, enrol
from tests.stage.racing import Connection, Response, connected, race, request
from tests.stage.service import Service
from tests.stage.tokens import lasting

ROUNDS = int(os.environ.get("RACE_ROUNDS", "100"))
CALLERS = 8
HALF = CALLERS // 2
CAP = 20
# The race of a lease starts within so many seconds before its end and so many after.
BEFORE_END, AFTER_END = 0.05, 0.02
# Seconds between the ends of two leases: one round is over before the next begins.
APART = 0.04

# Two thousand rounds take longer than any other test may.
pytestmark = pytest.mark.timeout(60 + ROUNDS)

Outcome = Counter[tuple[str, int, str | None]]


class Arena:
    """Callers on two services, and a client that prepares and inspects each round."""

    def __init__(self, http: httpx.Client, connections: list[Connection]) -> None:
        self.http = http
        self._connections = connections

    def enrol(self) -> Person:
        return enrol(self.http.post)

    def post(self, path: str, person: Person, **body: Any) -> dict[str, Any]:
        response = self.http.post(path, json=body, headers=person.headers)
        assert response.is_success, response.text
        found: dict[str, Any] = response.json()
        return found

    def create(self, person: Person) -> dict[str, Any]:
        return self.post("/token/create", person, expires_in=60)

    def receipt(self, person: Person, token_id: str) -> dict[str, Any]:
        response = self.http.get(f"/token/{token_id}", headers=person.headers)
        assert response.status_code == 200
        found: dict[str, Any] = response.json()
        return found

    def race(self, requests: list[bytes], at: float = 0) -> list[Response]:
        return race(self._connections[: len(requests)], requests, at)

    def contest(self, calls: dict[str, bytes], at: float = 0) -> list[tuple[str, Response]]:
        """Half of the callers make the first of two calls, and half the second."""
        verbs = [verb for verb in calls for _ in range(HALF)]
        return list(zip(verbs, self.race([calls[verb] for verb in verbs], at), strict=True))


@pytest.fixture(scope="module")
def arena(serve: Callable[..., Service]) -> Iterator[Arena]:
    settings = {"web_concurrency": 2, "max_active": CAP}
    with serve(**settings) as one, serve(**settings) as another:
        before = one.workers() + another.workers()
        with (
            httpx.Client(base_url=one.url, timeout=30) as http,
            # In turn on one and on the other, so that each half of the callers is on both.
            connected([one, another], CALLERS) as connections,
        ):
            yield Arena(http, connections)
        assert one.workers() + another.workers() == before, "a worker died"


def outcome_of(responses: list[tuple[str, Response]]) -> Outcome:
    return Counter((verb, *response.kind) for verb, response in responses)


def in_turn(calls: dict[str, bytes], number: int) -> dict[str, bytes]:
    """Alternate the call that is sent first, so that each of two calls wins some rounds."""
    return calls if number % 2 else dict(reversed(calls.items()))


def test_of_many_validates_one_succeeds(arena: Arena) -> None:
    """Guard: validate.lua looks and writes in one step."""
    ana = arena.enrol()
    for _ in range(ROUNDS):
        token = arena.create(ana)
        call = request("/token/validate", ana, {"token": token["token"]})
        outcome = Counter(response.kind for response in arena.race([call] * CALLERS))
        assert outcome == {(200, None): 1, (409, "token_already_used"): CALLERS - 1}
        assert arena.receipt(ana, token["id"])["replays"] == CALLERS - 1


def test_of_validate_and_revoke_one_succeeds(arena: Arena) -> None:
    """Guard: revoke.lua looks and writes in one step."""
    consumed = Counter(
        {
            ("validate", 200, None): 1,
            ("validate", 409, "token_already_used"): HALF - 1,
            ("revoke", 409, "token_already_used"): HALF,
        }
    )
    revoked = Counter(
        {("revoke", 204, None): HALF, ("validate", 410, "token_revoked"): HALF},
    )
    ana = arena.enrol()
    won: Counter[str] = Counter()
    for number in range(ROUNDS):
        token = arena.create(ana)
        calls = {
            verb: request(f"/token/{verb}", ana, {"token": token["token"]})
            for verb in ("validate", "revoke")
        }
        outcome = outcome_of(arena.contest(in_turn(calls, number)))
        assert outcome in (consumed, revoked)
        state = arena.receipt(ana, token["id"])["state"]
        assert state == ("consumed" if outcome == consumed else "revoked")
        won[state] += 1
    assert len(won) == 2, "one call always came first, and that is no race"


def test_a_revocation_of_all_comes_before_or_after_the_one_success(arena: Arena) -> None:
    """Guard: revoke_all.lua and validate.lua are one step each. A token of afterwards is good."""
    consumed = Counter(
        {
            ("validate", 200, None): 1,
            ("validate", 409, "token_already_used"): HALF - 1,
            ("revoke-all", 204, None): HALF,
        }
    )
    revoked = Counter(
        {("revoke-all", 204, None): HALF, ("validate", 410, "token_revoked"): HALF},
    )
    ana = arena.enrol()
    won: Counter[str] = Counter()
    for number in range(ROUNDS):
        token = arena.create(ana)
        calls = {
            "validate": request("/token/validate", ana, {"token": token["token"]}),
            "revoke-all": request("/token/revoke-all", ana, {}),
        }
        outcome = outcome_of(arena.contest(in_turn(calls, number)))
        assert outcome in (consumed, revoked)
        state = arena.receipt(ana, token["id"])["state"]
        assert state == ("consumed" if outcome == consumed else "revoked")
        won[state] += 1
        arena.post("/token/validate", ana, token=arena.create(ana)["token"])
    assert len(won) == 2, "one call always came first, and that is no race"


def test_of_reserve_and_validate_one_succeeds(arena: Arena) -> None:
    """Guard: reserve.lua looks and writes in one step. Of many reserves, one succeeds."""
    consumed = Counter(
        {
            ("validate", 200, None): 1,
            ("validate", 409, "token_already_used"): HALF - 1,
            ("reserve", 409, "token_already_used"): HALF,
        }
    )
    held = Counter(
        {
            ("reserve", 200, None): 1,
            ("reserve", 409, "token_reserved"): HALF - 1,
            ("validate", 409, "token_reserved"): HALF,
        }
    )
    ana = arena.enrol()
    won: Counter[str] = Counter()
    for number in range(ROUNDS):
        token = arena.create(ana)
        calls = {
            verb: request(f"/token/{verb}", ana, {"token": token["token"]})
            for verb in ("validate", "reserve")
        }
        responses = arena.contest(in_turn(calls, number))
        outcome = outcome_of(responses)
        assert outcome in (consumed, held)
        state = arena.receipt(ana, token["id"])["state"]
        assert state == ("consumed" if outcome == consumed else "reserved")
        won[state] += 1
        for _, response in responses:
            if "reservation" in response.body:
                arena.post("/token/commit", ana, reservation=response.body["reservation"])
    assert len(won) == 2, "one call always came first, and that is no race"


def outcomes_at_the_end_of_a_lease() -> list[Outcome]:
    """Every outcome that four commits and four validates of one held token may have."""
    allowed = []
    for early in range(HALF + 1):  # So many validates came while it was held.
        waiting = {("validate", 409, "token_reserved"): early}
        committed = {
            ("commit", 200, None): 1,
            ("commit", 409, "token_already_used"): HALF - 1,
            ("validate", 409, "token_already_used"): HALF - early,
        }
        ended = {("commit", 409, "lease_ended"): HALF}
        if early < HALF:
            ended[("validate", 200, None)] = 1
            ended[("validate", 409, "token_already_used")] = HALF - early - 1
        allowed += [+Counter({**waiting, **rest}) for rest in (committed, ended)]
    return allowed


@pytest.mark.slow
def test_a_commit_at_the_end_of_its_lease_succeeds_or_changes_nothing(arena: Arena) -> None:
    """Guards: the lease in state_of(), the one clock of all, and the nonce in commit.lua.

    After ``lease_ended`` the commit has consumed nothing, and after ``token_already_used`` a commit
    of this same reservation has.
    """
    allowed = outcomes_at_the_end_of_a_lease()
    ana, berta = arena.enrol(), arena.enrol()
    won: Counter[str] = Counter()
    for start in range(0, ROUNDS, CAP):
        count = min(CAP, ROUNDS - start)
        tokens = arena.post("/token/batch", ana, count=count, expires_in=60)["tokens"]
        began = time.time()
        held = []
        for number, token in enumerate(tokens):
            time.sleep(max(0, began + number * APART - time.time()))
            body = {"token": token["token"], "lease_seconds": 1}
            held.append(arena.post("/token/reserve", ana, **body))

        for number, (token, lease) in enumerate(zip(tokens, held, strict=True)):
            reservation = {"reservation": lease["reservation"]}
            calls = {
                "commit": request("/token/commit", ana, reservation),
                "validate": request("/token/validate", berta, {"token": token["token"]}),
            }
            end = datetime.datetime.fromisoformat(lease["lease_expires_at"]).timestamp()
            # In an order that keeps early and late ones on a slow machine.
            step = number * 7 % CAP / CAP
            moment = end - BEFORE_END + (BEFORE_END + AFTER_END) * step
            responses = arena.contest(in_turn(calls, number), at=moment)
            outcome = outcome_of(responses)
            assert outcome in allowed
            time.sleep(max(0, end + 0.005 - time.time()))

            (winner,) = [verb for verb, response in responses if response.status == 200] or [
                "neither"
            ]
            won[winner] += 1
            seen = arena.receipt(ana, token["id"])
            consumer = {"commit": ana.id, "validate": berta.id, "neither": None}[winner]
            assert seen["consumed_by"] == consumer
            if winner == "neither":
                assert seen["state"] == "active"
                arena.post("/token/validate", berta, token=token["token"])
            else:
                at = datetime.datetime.fromisoformat(seen["consumed_at"]).timestamp()
                assert (at < end) == (winner == "commit")
    assert won["commit"] > 0, "every commit came too late, and that is no race"
    assert won["commit"] < ROUNDS, "every commit came in time, and that is no race"


def test_creates_under_one_key_make_one_token(arena: Arena) -> None:
    """Guard: create.lua reads and writes the idempotency key in one step."""
    ana = arena.enrol()
    for number in range(ROUNDS):
        call = request("/token/create", ana, {"expires_in": 60}, key=f"round-{number}")
        responses = arena.race([call] * CALLERS)
        assert [response.kind for response in responses] == [(201, None)] * CALLERS
        token = responses[0].body
        bodies = [response.body for response in responses]
        assert [lasting(body) for body in bodies] == [lasting(token)] * CALLERS
        assert sorted(body["replayed"] for body in bodies) == [False] + [True] * (CALLERS - 1)

        page = arena.http.get("/token?state=active", headers=ana.headers).json()
        assert [item["id"] for item in page["items"]] == [token["id"]]
        arena.post("/token/validate", ana, token=token["token"])


def test_batches_fill_the_cap_and_none_in_part(arena: Arena) -> None:
    """Guard: create.lua counts and adds in one step, all of a batch or nothing."""
    size, fit = 2, 2
    ana = arena.enrol()
    arena.post("/token/batch", ana, count=CAP - size * fit - 1, expires_in=3600)
    call = request("/token/batch", ana, {"count": size, "expires_in": 60})
    for _ in range(ROUNDS):
        responses = arena.race([call] * CALLERS)
        outcome = Counter(response.kind for response in responses)
        assert outcome == {(201, None): fit, (429, "too_many_active"): CALLERS - fit}
        made = [token for response in responses for token in response.body.get("tokens", ())]
        assert len(made) == size * fit

        # One place is left: a batch of two does not fit in it, and no refused one took it.
        made.append(arena.create(ana))
        one_more = arena.http.post("/token/create", headers=ana.headers)
        assert (one_more.status_code, one_more.json()["code"]) == (429, "too_many_active")
        back = [request("/token/revoke", ana, {"token": token["token"]}) for token in made]
        assert {response.kind for response in arena.race(back)} == {(204, None)}


def test_validates_under_one_key_consume_once_and_all_succeed(
    arena: Arena,
) -> None:
    """Guard: validate.lua remembers the key in the step that consumes."""
    ana = arena.enrol()
    for number in range(ROUNDS):
        token = arena.create(ana)
        body = {"token": token["token"]}
        responses = arena.race([request("/token/validate", ana, body, f"k{number}")] * CALLERS)
        assert [response.kind for response in responses] == [(200, None)] * CALLERS
        assert Counter(response.body.pop("replayed") for response in responses) == {
            False: 1,
            True: CALLERS - 1,
        }
        assert all(response.body == responses[0].body for response in responses)
