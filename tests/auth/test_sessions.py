"""Sessions: refresh, log-out, and their ends."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import jwt
import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text

from tests.stage.forge import Forge
from tests.stage.people import Person, enrol
from tests.stage.problems import assert_out, problem_in
from tests.stage.queries import execute, recorded, waits_for_a_lock
from tests.stage.sessions import Login, body_of
from tests.stage.waiting import until
from tokenservice.auth.refresh_tokens import RefreshTokens
from tokenservice.auth.sessions import MOST, REPEAT_SECONDS
from tokenservice.extensions import db

FORWARD = "UPDATE sessions SET {column} = {column} - CAST(:by AS interval) WHERE id = :id"


@pytest.fixture
def session(client: FlaskClient, person: Person) -> Login:
    return Login.of(client.post, person)


def age(app: Flask, session: Login, by: timedelta, column: str = "rotated_at") -> None:
    """Let time pass for a session."""
    forward = FORWARD.format(column=column) + " RETURNING id"
    assert len(execute(app, forward, by=by, id=session.id)) == 1


def state(app: Flask, session: Login) -> str | None:
    """Why it ended; None while it has not."""
    [row] = execute(app, "SELECT ended_why FROM sessions WHERE id = :id", id=session.id)
    return row["ended_why"]  # type: ignore[no-any-return]


def refused(response: Any) -> None:
    problem_in(response, 401, "session_ended")


def test_a_login_opens_a_session_with_a_refresh_token(
    app: Flask, client: FlaskClient, person: Person
) -> None:
    response = client.post(
        "/auth/login",
        json={"correo": person.correo, "password": "tres tristes tigres en un trigal"},
        headers={"User-Agent": "Naviga\u00e7\u00e3o/1\t" + "x" * 300},
    )
    body = body_of(response)
    assert set(body) == {"access_token", "token_type", "expires_in", "refresh_token"}
    assert response.headers["Cache-Control"] == "no-store"
    session = Login(client.post, body["refresh_token"], body["access_token"])
    [row] = execute(app, "SELECT * FROM sessions WHERE id = :id", id=session.id)
    assert str(row["user_id"]) == person.id
    assert row["user_agent"].startswith("Navigao/1x")
    assert len(row["user_agent"]) == 200
    assert row["address"] == "127.0.0.1"


def test_a_refresh_gives_a_new_pair(session: Login) -> None:
    response = session.present()
    assert response.headers["Cache-Control"] == "no-store"
    further = session.refresh()
    assert further.refresh_token != session.refresh_token
    assert further.id == session.id
    assert further.status() == 201
    assert further.refresh().refresh().status() == 201


def test_a_lost_response_is_told_again(session: Login) -> None:
    """Guard: the derived successor. The JWT is a new one."""
    bodies = [body_of(session.present()) for _ in range(3)]
    assert len({body["refresh_token"] for body in bodies}) == 1
    assert len({body["access_token"] for body in bodies}) == 3


def test_a_spent_token_is_told_again_only_until_its_successor_is_presented(
    app: Flask, session: Login
) -> None:
    """Guard: the successor in ``is_repeat``, which one token alone has."""
    further = session.refresh()
    furthest = further.refresh()
    refused(session.present())
    assert state(app, session) == "reused"
    for token in (session, further, furthest):
        refused(token.present())


def test_a_spent_token_is_told_again_for_a_minute(app: Flask, session: Login) -> None:
    """Guard: ``REPEAT_SECONDS``."""
    further = session.refresh()
    age(app, session, timedelta(seconds=REPEAT_SECONDS - 10))
    assert session.refresh().refresh_token == further.refresh_token
    age(app, session, timedelta(seconds=11))
    refused(session.present())
    assert state(app, session) == "reused"
    refused(further.present())


def test_after_a_reuse_no_jwt_of_the_session_works(session: Login, person: Person) -> None:
    """And other sessions do. Guard: the session in ``Callers._read``, and its trigger."""
    other = Login.of(session.post, person)
    further = session.refresh().refresh()
    assert (session.status(), further.status(), other.status()) == (201, 201, 201)
    refused(session.present())
    until(lambda: session.status() == 401 and further.status() == 401, seconds=2)
    assert other.status() == 201
    assert_out(session.act("logout"), "access_token_invalid")


def test_a_refresh_waits_for_the_step_before_it(app: Flask, session: Login) -> None:
    """Guard: ``with_for_update``. It would undo that step otherwise."""
    spend = text("UPDATE sessions SET token_hash = 'x' WHERE id = :id")
    with app.app_context(), db.engine.connect() as step, ThreadPoolExecutor(1) as pool:
        step.execute(spend, {"id": session.id})
        waiting = pool.submit(session.present)
        until(lambda: waits_for_a_lock(app, "sessions"))
        step.commit()
        refused(waiting.result())


def test_a_made_up_token_ends_nothing_and_costs_no_query(app: Flask, session: Login) -> None:
    """Guard: the MAC, before any query."""
    stranger = RefreshTokens(["x" * 32]).first(uuid.UUID(session.id))
    with recorded(app, "SELECT sessions") as seen:
        for wrong in (str(stranger), session.refresh_token[:-1], "osr_", "x" * 9000, "\u00f1"):
            refused(session.present(wrong))
    assert not seen
    assert session.refresh().status() == 201


def test_a_token_of_a_session_that_is_gone_is_refused(app: Flask, session: Login) -> None:
    execute(app, "DELETE FROM sessions WHERE id = :id", id=session.id)
    refused(session.present())
    until(lambda: session.status() == 401, seconds=2)


@pytest.mark.parametrize(
    ("column", "days"), [("rotated_at", 14), ("created_at", 90)], ids=["idle", "max"]
)
def test_a_session_times_out(app: Flask, session: Login, column: str, days: int) -> None:
    """Guards: ``is_open``; the settings session_idle_days and session_max_days."""
    age(app, session, timedelta(days=days, minutes=-1), column)
    further = session.refresh()
    assert further.status() == 201
    age(app, session, timedelta(days=days, minutes=1), column)
    refused(further.present())


def test_the_times_are_settings(make_app: Callable[..., Flask], person: Person, app: Flask) -> None:
    short = make_app(session_idle_days=1, session_max_days=2).test_client()
    session = Login.of(short.post, person)
    age(app, session, timedelta(days=1))
    refused(session.present())
    session = Login.of(short.post, person)
    age(app, session, timedelta(days=2), "created_at")
    refused(session.present())


def test_no_jwt_outlives_its_session(app: Flask, session: Login) -> None:
    """Guard: ``life`` in ``pair``."""
    age(app, session, timedelta(days=90, minutes=-5), "created_at")
    body = body_of(session.present())
    assert 200 < body["expires_in"] <= 300
    claims = jwt.decode(body["access_token"], options={"verify_signature": False})
    assert abs(claims["exp"] - claims["iat"] - body["expires_in"]) <= 1


@pytest.mark.parametrize("path", ["logout", "logout-all"])
def test_a_log_out_ends_the_session(app: Flask, session: Login, path: str) -> None:
    """S16. Its refresh token at once, and its JWTs within two seconds."""
    further = session.refresh()
    assert session.status() == 201
    assert session.act(path).status_code == 204
    assert state(app, session) == "logout"
    for token in (session, further):
        refused(token.present())
        until(lambda token=token: token.status() == 401, seconds=2)  # type: ignore[misc]


def test_a_log_out_leaves_other_sessions_and_log_out_of_all_leaves_none(
    session: Login, person: Person, other: Person
) -> None:
    second, stranger = Login.of(session.post, person), Login.of(session.post, other)
    assert session.act("logout").status_code == 204
    second = second.refresh()
    third = Login.of(session.post, person)
    assert third.act("logout-all").status_code == 204
    refused(second.present())
    refused(third.present())
    assert stranger.refresh().status() == 201


def test_the_list_shows_the_open_sessions_of_the_caller(
    app: Flask, client: FlaskClient, session: Login, person: Person, other: Person
) -> None:
    second, timed_out = Login.of(client.post, person), Login.of(client.post, person)
    Login.of(client.post, other)
    age(app, timed_out, timedelta(days=15))
    [*items] = client.get("/auth/sessions", headers=session.headers).get_json()["items"]
    ids = [item["id"] for item in items]
    assert ids[:2] == [second.id, session.id]
    assert len(ids) == 3  # One is of the fixture's own login.
    assert [item["current"] for item in items] == [False, True, False]
    assert set(items[0]) == {"id", "created_at", "rotated_at", "user_agent", "address", "current"}
    client.delete(f"/auth/sessions/{second.id}", headers=session.headers)
    after = client.get("/auth/sessions", headers=session.headers).get_json()["items"]
    assert [item["id"] for item in after] == [ids[1], ids[2]]


def test_a_session_of_the_caller_is_ended_by_its_id(
    client: FlaskClient, session: Login, person: Person, other: Person
) -> None:
    """S38. Guard: the account in ``end_session``."""
    second = Login.of(client.post, person)
    path = f"/auth/sessions/{second.id}"
    assert client.delete(path, headers=other.headers).status_code == 404
    second = second.refresh()
    for _ in range(2):
        assert client.delete(path, headers=session.headers).status_code == 204
    refused(second.present())
    assert session.refresh().status() == 201
    for wrong in ("0" * 8, "00000000-0000-0000-0000-000000000000"):
        assert client.delete(f"/auth/sessions/{wrong}", headers=session.headers).status_code == 404


def test_the_oldest_session_goes(app: Flask, client: FlaskClient, person: Person) -> None:
    """Guard: ``MOST``. Sessions that timed out take no place."""
    logins = [Login.of(client.post, person) for _ in range(MOST)]  # The fixture's own has gone.
    for session in logins[5:10]:
        age(app, session, timedelta(days=15))
    more = [Login.of(client.post, person) for _ in range(5)]
    assert [state(app, one) for one in logins] == [None] * MOST
    more.append(Login.of(client.post, person))
    assert [state(app, one) for one in logins[:2]] == ["too many", None]
    refused(logins[0].present())
    assert more[-1].refresh().status() == 201


def test_a_disabled_account_refreshes_nothing(app: Flask, session: Login, person: Person) -> None:
    """S17."""
    execute(app, "UPDATE users SET is_active = false WHERE id = :id", id=person.id)
    refused(session.present())


def test_a_jwt_names_a_session_of_its_own_account(
    app: Flask, config: Any, client: FlaskClient, session: Login, other: Person
) -> None:
    """Whoever has the key may sign anything, and gets a plain 401."""
    forge = Forge(session.access_token, config.secret_key)

    def status(**claims: Any) -> int:
        headers = {"Authorization": f"Bearer {forge.claiming(**claims)}"}
        return client.get("/auth/me", headers=headers).status_code

    assert status() == 200
    assert status(sub=other.id) == 401
    for sid in ("", "x", 7, None, [session.id], "0" * 36, session.id.upper()):
        assert status(sid=sid) == 401, sid


def test_a_jwt_without_a_session_is_valid_until_it_expires(
    config: Any, client: FlaskClient, session: Login
) -> None:
    """As those of the release before."""
    forge = Forge(session.access_token, config.secret_key)
    headers = {"Authorization": f"Bearer {forge.without('sid')}"}
    assert client.get("/auth/me", headers=headers).status_code == 200
    assert client.post("/auth/logout", headers=headers).status_code == 204
    assert session.act("logout-all").status_code == 204
    assert client.get("/auth/me", headers=headers).status_code == 200


@pytest.fixture
def read_only(app: Flask, make_app: Callable[..., Flask], config: Any) -> Iterator[FlaskClient]:
    url = config.database_url + "?options=-c%20default_transaction_read_only%3Don"
    away = make_app(database_url=url)
    yield away.test_client()
    with away.app_context():
        db.engine.dispose()


def test_a_login_on_a_read_only_postgres_has_no_refresh_token(
    read_only: FlaskClient, session: Login, person: Person
) -> None:
    body = body_of(
        read_only.post(
            "/auth/login",
            json={"correo": person.correo, "password": "tres tristes tigres en un trigal"},
        )
    )
    assert set(body) == {"access_token", "token_type", "expires_in"}
    headers = {"Authorization": f"Bearer {body['access_token']}"}
    assert read_only.post("/token/create", headers=headers).status_code == 201
    waiting = Login(read_only.post, session.refresh_token, session.access_token)
    problem_in(waiting.present(), 503, "database_unavailable")
    assert session.refresh().status() == 201  # Nothing was spent.


def test_a_known_session_costs_no_query(app: Flask, session: Login) -> None:
    assert session.status() == 201
    time.sleep(1)
    with recorded(app, "SELECT users") as seen:
        for _ in range(20):
            assert session.status() == 201
    assert len(seen) <= 1


def test_no_hash_or_text_of_a_token_is_told(
    app: Flask, client: FlaskClient, person: Person
) -> None:
    session = Login.of(client.post, person)
    listed = client.get("/auth/sessions", headers=session.headers).text
    assert "hash" not in listed
    [stored] = execute(app, "SELECT s::text FROM sessions s WHERE id = :id", id=session.id)
    assert session.refresh_token[36:50] not in stored["s"]
    assert enrol(client.post).id not in listed
