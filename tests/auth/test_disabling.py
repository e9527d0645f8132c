"""``flask users disable`` and ``enable``: in Redis and in Postgres, each of which may fail."""

from __future__ import annotations

import json
from collections.abc import Callable

import click.testing
import httpx
import pytest
import redis
from flask import Flask
from sqlalchemy import make_url

import dev
from config import Config
from tests.stage.callers import Caller
from tests.stage.commands import output, refusal
from tests.stage.people import PASSWORD, enrol
from tests.stage.problems import assert_out, problem_in
from tests.stage.proxy import Proxy
from tests.stage.service import Service
from tests.stage.waiting import until
from tokenservice.onetime.errors import OwnerDisabled
from tokenservice.onetime.store import TokenStore

REPEAT = "Repeat the command."


@pytest.fixture
def ours(make_app: Callable[..., Flask], app: Flask, own_redis: dev.Redis) -> Flask:
    """An app on a Redis that the test may stop; ``app`` has made the tables."""
    return make_app(redis_url=own_redis.url)


@pytest.fixture
def read_only(make_app: Callable[..., Flask], config: Config, own_redis: dev.Redis) -> Flask:
    """The same, on a Postgres that takes no writes."""
    url = make_url(config.database_url or "")
    options = {"options": "-cdefault_transaction_read_only=on"}
    at = url.update_query_dict(options).render_as_string(hide_password=False)
    return make_app(redis_url=own_redis.url, database_url=at)


def flask_users(app: Flask, *words: str) -> click.testing.Result:
    return app.test_cli_runner().invoke(args=["users", *words])


def caller_of(app: Flask) -> Caller:
    client = app.test_client()
    return Caller(client, enrol(client.post))


def is_active(app: Flask, caller: Caller) -> bool:
    login = {"correo": caller.person.correo, "password": PASSWORD}
    return app.test_client().post("/auth/login", json=login).status_code == 200


def test_disabling_revokes_the_unused_tokens_and_enabling_brings_none_back(ours: Flask) -> None:
    ana, luis = caller_of(ours), caller_of(ours)
    token, held = ana.create(), ana.create()
    reservation = luis.hold(held["token"])
    for _ in "ab":
        disabled = flask_users(ours, "disable", ana.person.correo)
        assert json.loads(output(disabled))["is_active"] is False
    problem_in(luis.post("validate", token=token["token"]), 410, "token_revoked")
    problem_in(luis.post("commit", reservation=reservation), 410, "token_revoked")
    assert json.loads(output(flask_users(ours, "enable", ana.person.correo)))["is_active"] is True
    problem_in(luis.post("validate", token=token["token"]), 410, "token_revoked")
    # A look at the accounts may have seen it disabled; the next one sees it enabled.
    until(lambda: bool(ana.post("create").status_code == 201))
    assert luis.post("validate", token=ana.create()["token"]).status_code == 200


def test_no_command_creates_a_token_of_a_disabled_account(
    ours: Flask, own_redis: dev.Redis
) -> None:
    """Guard: the look at the account in ``flask tokens create``, once Redis has forgotten it."""
    correo = caller_of(ours).person.correo
    create = ["tokens", "create", correo]
    runner = ours.test_cli_runner()
    assert json.loads(output(runner.invoke(args=create)))["token"]
    output(flask_users(ours, "disable", correo))
    with redis.Redis.from_url(own_redis.url) as client:
        client.flushall()
    assert refusal(runner.invoke(args=create)) == "Error: the account is disabled\n"


def test_without_redis_the_account_is_disabled_all_the_same(
    ours: Flask, own_redis: dev.Redis
) -> None:
    """The command says so, and a repeat revokes the tokens."""
    ana, luis = caller_of(ours), caller_of(ours)
    token = ana.create()
    message = without_redis(own_redis, lambda: flask_users(ours, "disable", ana.person.correo))
    assert message.startswith("Error: Redis: refused. The unused tokens of ")
    assert message.endswith(f" are not revoked, but the account is disabled. {REPEAT}\n")
    assert not is_active(ours, ana)
    repeated = flask_users(ours, "disable", ana.person.correo)
    assert json.loads(output(repeated))["is_active"] is False
    assert "was disabled already" in repeated.stderr
    assert luis.post("validate", token=token["token"]).status_code in {404, 410}


def test_without_redis_an_account_is_enabled_and_the_command_ends_with_1(
    ours: Flask, own_redis: dev.Redis
) -> None:
    ana = caller_of(ours)
    output(flask_users(ours, "disable", ana.person.correo))
    message = without_redis(own_redis, lambda: flask_users(ours, "enable", ana.person.correo))
    assert message.startswith("Error: Redis: refused. ")
    assert f"{ana.person.correo} is enabled, but may create no tokens" in message
    assert message.endswith(f"{REPEAT}\n")
    assert is_active(ours, ana)
    output(flask_users(ours, "enable", ana.person.correo))


def without_redis(server: dev.Redis, run: Callable[[], click.testing.Result]) -> str:
    """The refusal of a command while Redis is stopped."""
    server.stop()
    try:
        return refusal(run())
    finally:
        server.start()


def test_without_postgres_the_tokens_are_revoked_all_the_same(
    ours: Flask, read_only: Flask
) -> None:
    ana, luis = caller_of(ours), caller_of(ours)
    token = ana.create()
    message = refusal(flask_users(read_only, "disable", ana.person.correo))
    done, failed = message.splitlines()
    assert done == (
        f"The unused tokens of {ana.person.correo} are revoked, and the account is not disabled. "
        f"{REPEAT}"
    )
    assert failed.startswith("Error: Postgres: read-only.")
    problem_in(luis.post("validate", token=token["token"]), 410, "token_revoked")
    assert is_active(ours, ana)
    assert_out(ana.post("create"), "access_token_invalid")
    output(flask_users(ours, "disable", ana.person.correo))
    assert not is_active(ours, ana)


def test_without_postgres_nothing_is_enabled(ours: Flask, read_only: Flask) -> None:
    """Guard: Postgres first. A worker that remembers the account would create for it."""
    ana = caller_of(ours)
    output(flask_users(ours, "disable", ana.person.correo))
    message = refusal(flask_users(read_only, "enable", ana.person.correo))
    assert message.splitlines()[0] == f"{ana.person.correo} is not enabled. {REPEAT}"
    assert not is_active(ours, ana)
    store: TokenStore = ours.extensions[TokenStore.__name__]
    with pytest.raises(OwnerDisabled):
        store.create(ana.id, life_seconds=60)
    output(flask_users(ours, "enable", ana.person.correo))
    assert is_active(ours, ana)


def test_without_both_the_command_names_both(
    ours: Flask, read_only: Flask, own_redis: dev.Redis
) -> None:
    ana = caller_of(ours)
    message = without_redis(own_redis, lambda: flask_users(read_only, "disable", ana.person.correo))
    first, second = message.splitlines()
    assert first.startswith("Redis: refused. The unused tokens of ")
    assert first.endswith(f"are not revoked, and the account is not disabled. {REPEAT}")
    assert second.startswith("Error: Postgres: read-only.")
    assert is_active(ours, ana)


@pytest.mark.slow
def test_a_worker_without_postgres_creates_nothing_for_a_disabled_account(
    serve: Callable[..., Service], app: Flask, config: Config, postgres: dev.Postgres
) -> None:
    """Guard: the field `off` of the cut. It remembers the account for five minutes."""
    with Proxy(postgres.port) as to_postgres:
        url = postgres.url.replace(f":{postgres.port}/", f":{to_postgres.port}/")
        with (
            serve(web_concurrency=1, database_url=url) as service,
            httpx.Client(base_url=service.url, timeout=30) as http,
        ):
            ana, luis = enrol(http.post), enrol(http.post)

            def create(by: dict[str, str]) -> httpx.Response:
                return http.post("/token/create", json={"expires_in": 60}, headers=by)

            token = create(ana.headers).json()["token"]
            assert create(luis.headers).status_code == 201
            to_postgres.refuse()
            output(flask_users(app, "disable", ana.correo))
            assert_out(create(ana.headers), "access_token_invalid")
            validated = http.post("/token/validate", json={"token": token}, headers=luis.headers)
            problem_in(validated, 410, "token_revoked")
            # The service itself is well: it has not noticed.
            assert create(luis.headers).status_code == 201
            assert http.get("/token", headers=ana.headers).status_code == 200
