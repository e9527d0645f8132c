"""The secret key changes: each step of the change, and two instances that change under load."""

from __future__ import annotations

import contextlib
import json
import random
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from flask import Flask
from werkzeug.test import TestResponse

from tests.stage.forge import ATTACKS, Forge
from tests.stage.people import PASSWORD, Person, enrol, new_correo
from tests.stage.problems import assert_out
from tests.stage.service import Service
from tests.stage.sessions import Login, tokens_of
from tests.stage.waiting import served, until

OLD, NEW = (secrets.token_urlsafe(48) for _ in range(2))
CALLERS = 3
#: The problems of a 503 before which nothing has run, as after a stall.
NOT_RUN = {"busy", "database_unavailable"}
Make = Callable[..., Flask]


@pytest.fixture(scope="module")
def keyed(app: Flask, make_app: Make) -> Callable[..., Flask]:
    """Make an app with a secret key and its fallbacks."""

    def make(key: str, *fallbacks: str, **changes: Any) -> Flask:
        return make_app(secret_key=key, secret_key_fallbacks=fallbacks, **changes)

    return make


def status(app: Flask, person: Person) -> int:
    return app.test_client().get("/auth/me", headers=person.headers).status_code


def test_a_jwt_is_verified_with_each_fallback(keyed: Make) -> None:
    """Guard: the loop in ``jwts.verified``. A fallback signs nothing."""
    old, new, both = keyed(OLD), keyed(NEW), keyed(NEW, secrets.token_urlsafe(48), OLD)
    by_old, by_both = (enrol(app.test_client().post) for app in (old, both))
    assert [status(app, by_old) for app in (old, both, new)] == [200, 200, 401]
    assert [status(app, by_both) for app in (old, both, new)] == [401, 200, 200]


def test_an_instance_that_waits_for_the_swap_knows_the_new_key(keyed: Make) -> None:
    waiting, swapped = keyed(OLD, NEW), keyed(NEW, OLD)
    for person in [enrol(app.test_client().post) for app in (waiting, swapped)]:
        assert [status(app, person) for app in (waiting, swapped)] == [200, 200]


def test_a_session_moves_to_the_new_key_and_a_repeat_anywhere_is_told_the_same(keyed: Make) -> None:
    """Guard: all ``successors`` are compared in ``sessions.refresh``, and the own one is told."""
    old, new, last = (
        app.test_client().post for app in (keyed(OLD, NEW), keyed(NEW, OLD), keyed(NEW))
    )
    for first, other in ((old, new), (new, old)):
        login = Login.of(first, enrol(first))
        told = first("/auth/refresh", json={"refresh_token": login.refresh_token})
        again = other("/auth/refresh", json={"refresh_token": login.refresh_token})
        assert told.status_code == again.status_code == 200
        assert told.json["refresh_token"] == again.json["refresh_token"]
        moved = new("/auth/refresh", json={"refresh_token": told.json["refresh_token"]})
        assert moved.status_code == 200
        kept = last("/auth/refresh", json={"refresh_token": moved.json["refresh_token"]})
        assert kept.status_code == 200
        assert Login(last, *tokens_of(kept)).status() == 201
        # A token of two steps before is not a repeat, whichever key it is of.
        assert (
            other("/auth/refresh", json={"refresh_token": login.refresh_token}).status_code == 401
        )
        assert Login(last, *tokens_of(kept)).present().status_code == 401


def test_a_reset_is_repeated_at_an_instance_with_the_other_key(keyed: Make) -> None:
    """Guard: ``consumed`` in new_passwords.py tries the key of each secret."""
    old, new = keyed(OLD, NEW), keyed(NEW, OLD)
    for first, other in ((old, new), (new, old)):
        person = enrol(first.test_client().post)
        done = first.test_cli_runner().invoke(args=["users", "reset-token", person.correo])
        body = {
            "token": json.loads(done.stdout)["token"],
            "password": "cuatro gatos pardos en el tejado",
        }
        for app in (first, other, first):
            for key, status in (("k", 204), ("another", 409)):
                repeat = app.test_client().post(
                    "/auth/password/reset", json=body, headers={"Idempotency-Key": key}
                )
                assert repeat.status_code == status, repeat.text


@pytest.fixture(scope="module")
def changing(keyed: Make) -> tuple[Flask, Forge]:
    """An app under a new key, and a forge of JWTs under the old one."""
    person = enrol(keyed(OLD).test_client().post)
    return keyed(NEW, OLD), Forge(person.headers["Authorization"].removeprefix("Bearer "), OLD)


def call(changing: tuple[Flask, Forge], attack: Callable[[Forge], str]) -> TestResponse:
    app, forge = changing
    headers = {"Authorization": f"Bearer {attack(forge)}"}
    return app.test_client().get("/auth/me", headers=headers)


def test_the_forge_of_a_fallback_writes_valid_tokens(changing: tuple[Flask, Forge]) -> None:
    assert call(changing, lambda forge: forge.claiming()).status_code == 200


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_a_forged_token_under_a_fallback_is_refused(
    attack: Callable[[Forge], str], changing: tuple[Flask, Forge]
) -> None:
    """A fallback verifies as strictly as the key that signs."""
    assert_out(call(changing, attack))


def test_an_old_token_under_a_fallback_has_expired(changing: tuple[Flask, Forge]) -> None:
    response = call(changing, lambda forge: forge.claiming(exp=int(time.time()) - 60))
    assert_out(response, "access_token_expired")


class Caller(threading.Thread):
    """Makes calls to either of two instances in turn, each on a connection of its own.

    :ivar failed: the responses that were none of a success
    :ivar since: when its JWT was signed
    """

    def __init__(self, urls: list[str], account: dict[str, str]) -> None:
        super().__init__(daemon=True)
        self._urls, self._account = urls, account
        self.failed: list[str] = []
        self.done: Counter[str] = Counter()
        self.since = 0.0
        self.stopped = threading.Event()
        self._headers: dict[str, str] = {}
        self._session: dict[str, str] = {}
        # An idle connection of an old worker may be closed at any time.
        one_call_each = httpx.Limits(max_keepalive_connections=0)
        self._http = httpx.Client(limits=one_call_each, timeout=30)

    def run(self) -> None:
        while not self.stopped.is_set():
            here, there = random.sample(self._urls, 2)
            try:
                if time.monotonic() - self.since > 1:
                    self._renew(here, there)
                self._use_a_token(here, there)
            except (httpx.HTTPError, KeyError, AssertionError) as error:
                self.failed.append(repr(error))

    def _renew(self, here: str, there: str) -> None:
        """Log in once, and then refresh, each time at both instances: they tell the same."""
        began = time.monotonic()
        if self._session:
            told, again = (self._post(url, "/auth/refresh", self._session) for url in (here, there))
            assert again["refresh_token"] == told["refresh_token"]
        else:
            told = self._post(here, "/auth/login", self._account)
        self._session = {"refresh_token": told["refresh_token"]}
        self._headers = {"Authorization": f"Bearer {told['access_token']}"}
        self.since = began

    def _use_a_token(self, here: str, there: str) -> None:
        """Each step at the other instance than the one before, and the first one repeated there."""
        key = {"Idempotency-Key": secrets.token_hex(8)}
        created, again = (self._post(url, "/token/create", {}, key) for url in (here, there))
        assert again["token"] == created["token"]
        held = self._post(here, "/token/reserve", {"token": created["token"]})
        self._post(there, "/token/commit", {"reservation": held["reservation"]})

    def _post(
        self, url: str, path: str, body: dict[str, Any], more: dict[str, str] | None = None
    ) -> dict[str, Any]:
        headers = {**self._headers, **(more or {})}

        def call() -> httpx.Response:
            return self._http.post(f"{url}{path}", json=body, headers=headers)

        response = call()
        if response.status_code == 503 and response.json()["code"] in NOT_RUN:
            response = served(call)
        self.done[path] += 1
        assert response.status_code in (200, 201), f"{path}: {response.text}"
        found: dict[str, Any] = response.json()
        return found


def write(service: Service, key: str, *fallbacks: str) -> None:
    lines = f"secret_key={key}\nsecret_key_fallbacks={','.join(fallbacks)}\n"
    (service.log.parent / ".env").write_text(lines)


@pytest.fixture
def pair(serve: Callable[..., Service]) -> Iterator[list[Service]]:
    """Two instances with the secret key in their ``.env`` alone."""
    with contextlib.ExitStack() as running:
        pair = [serve(secret_key="", web_concurrency=1) for _ in range(2)]
        for service in pair:
            write(service, OLD)
            running.enter_context(service)
        yield pair


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_key_is_changed_at_two_instances_under_load(pair: list[Service]) -> None:
    """As docs/operations/secrets.md has it: 0 failed. Without its first step many do.

    JWTs live for minutes, so the callers refresh in place of a wait for their end.
    """
    accounts = []
    for _ in range(CALLERS):
        account = {"correo": new_correo(), "password": PASSWORD}
        response = httpx.post(
            f"{pair[0].url}/auth/register", json={"nombre": "Ana", **account}, timeout=30
        )
        assert response.status_code == 201
        accounts.append(account)
    callers = [Caller([service.url for service in pair], account) for account in accounts]
    for caller in callers:
        caller.start()
    for step in ((OLD, NEW), (NEW, OLD), (NEW,)):
        for service in pair:
            write(service, *step)
            service.reload()
        swapped = time.monotonic()
        until(lambda swapped=swapped: all(caller.since > swapped for caller in callers))
        before = [caller.done["/token/commit"] for caller in callers]
        until(
            lambda before=before: all(
                caller.done["/token/commit"] > done + 35
                for caller, done in zip(callers, before, strict=True)
            )
        )
    for caller in callers:
        caller.stopped.set()
        caller.join(60)
    assert [caller.failed for caller in callers] == [[]] * CALLERS
    assert all(caller.done["/token/commit"] > 100 for caller in callers)
