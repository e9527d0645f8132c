"""Who is calling: no way to forge, bend or misplace an access token is more than a plain 401."""

from __future__ import annotations

import base64
import contextlib
import hmac
import json
import secrets
import socket
import string
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import flask_migrate
import httpx
import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event, text
from werkzeug.test import TestResponse

import dev
from config import Config
from tests.conftest import PASSWORD, Person, Service, enrol
from tests.onetime.topologies import until
from tests.torture.outages import locked
from tests.torture.proxy import Proxy
from tokenservice.auth.callers import Callers
from tokenservice.auth.jwts import LEEWAY_SECONDS
from tokenservice.extensions import db

DEACTIVATE = text("UPDATE users SET is_active = false WHERE id = :id")
URL_SAFE = string.ascii_letters + string.digits + "-_"
DAY = 86_400


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


class Forge:
    """Everything that the service knows, in the hands of someone who writes tokens by hand."""

    def __init__(self, token: str, key: str) -> None:
        self.genuine = token
        self.key = key
        self.header: dict[str, Any] = json.loads(decoded(token.split(".", 1)[0]))
        self.claims: dict[str, Any] = json.loads(decoded(token.split(".")[1]))

    def signed(self, header: bytes, payload: bytes, digest: str = "sha256") -> str:
        message = f"{encoded(header)}.{encoded(payload)}"
        signature = hmac.digest(self.key.encode(), message.encode(), digest)
        return f"{message}.{encoded(signature)}"

    def under(self, digest: str = "sha256", **header: Any) -> str:
        """The genuine claims, signed with the right key, under a changed header."""
        changed = {**self.header, **header}
        return self.signed(json.dumps(changed).encode(), json.dumps(self.claims).encode(), digest)

    def saying(self, **claims: Any) -> str:
        """Changed claims, signed with the right key."""
        changed = {**self.claims, **claims}
        return self.signed(json.dumps(self.header).encode(), json.dumps(changed).encode())

    def without(self, claim: str) -> str:
        left = {name: value for name, value in self.claims.items() if name != claim}
        return self.signed(json.dumps(self.header).encode(), json.dumps(left).encode())

    def unsigned(self, algorithm: str, signature: str = "") -> str:
        header = encoded(json.dumps({**self.header, "alg": algorithm}).encode())
        return f"{header}.{self.genuine.split('.')[1]}.{signature}"

    def with_key(self, key: str) -> str:
        other = Forge(self.genuine, key)
        return other.saying()


# A token for the header "Authorization: Bearer …". Each is refused by the one decode in
# jwts.claims_of, with its list of one algorithm and its required claims.
ATTACKS: dict[str, Callable[[Forge], str]] = {
    # Algorithms (ASVS 5.0 V9.1.2, RFC 8725 sections 3.1 and 3.2).
    **{
        f"alg {name!r} with {how}": lambda f, n=name, s=signature: f.unsigned(n, s)
        for name in ("none", "None", "nOnE", "NONE", "")
        for how, signature in {"no signature": "", "some signature": "AAAA"}.items()
    },
    "alg none with the genuine signature": lambda f: f.unsigned("none", f.genuine.split(".")[2]),
    "HS384 with the right key": lambda f: f.under("sha384", alg="HS384"),
    "HS512 with the right key": lambda f: f.under("sha512", alg="HS512"),
    "HS512 named, HS256 done": lambda f: f.under(alg="HS512"),
    "HS256 named, HS512 done": lambda f: f.under("sha512"),
    "RS256 named, HS256 done": lambda f: f.under(alg="RS256"),
    "ES256 named, HS256 done": lambda f: f.under(alg="ES256"),
    "EdDSA named, HS256 done": lambda f: f.under(alg="EdDSA"),
    "hs256 in lower case": lambda f: f.under(alg="hs256"),
    "alg is a list": lambda f: f.under(alg=["HS256"]),
    "alg is null": lambda f: f.under(alg=None),
    "alg is a number": lambda f: f.under(alg=256),
    "no alg": lambda f: f.signed(b'{"typ":"JWT"}', json.dumps(f.claims).encode()),
    "alg twice, none last": lambda f: f.signed(
        b'{"alg":"HS256","alg":"none"}', json.dumps(f.claims).encode()
    ),
    # Signatures.
    "empty signature": lambda f: f.genuine.rsplit(".", 1)[0] + ".",
    "no signature part": lambda f: f.genuine.rsplit(".", 1)[0],
    "half a signature": lambda f: f.genuine[:-22],
    "signature of zeros": lambda f: f.genuine.rsplit(".", 1)[0] + "." + "A" * 43,
    "signature of another token": lambda f: (
        f.saying(jti="x").rsplit(".", 1)[0] + "." + f.genuine.rsplit(".", 1)[1]
    ),
    "doubled signature": lambda f: f.genuine + f.genuine.rsplit(".", 1)[1],
    "wrong key": lambda f: f.with_key(secrets.token_urlsafe(48)),
    "empty key": lambda f: f.with_key(""),
    "the key, cut": lambda f: f.with_key(f.key[:-1]),
    "the key, stretched": lambda f: f.with_key(f.key + "\0"),
    # Keys that the token itself brings, unsigned by ours (V9.1.3).
    **{
        f"{name} and a key of its own": lambda f, h={name: value}: Forge(
            f.genuine, "attacker's own key, long enough to pass"
        ).under(**h)
        for name, value in {
            "kid": "../../../../dev/null",
            "kid with SQL": "' UNION SELECT 'key' --",
            "jku": "https://evil.example/jwks.json",
            "x5u": "https://evil.example/cert.pem",
            "jwk": {"kty": "oct", "k": encoded(b"attacker's own key, long enough to pass")},
            "x5c": ["MIIB"],
        }.items()
    },
    "unknown critical extension": lambda f: f.under(crit=["b64"], b64=False),
    # Claims (V9.2.1 to V9.2.4).
    **{
        f"without {claim}": lambda f, c=claim: f.without(c)
        for claim in ("iss", "aud", "exp", "iat", "jti", "sub", "type")
    },
    **{
        f"{claim} null": lambda f, c=claim: f.saying(**{c: None})
        for claim in ("iss", "aud", "exp", "iat", "jti", "sub", "type")
    },
    "wrong iss": lambda f: f.saying(iss="another-service"),
    "iss with a tail": lambda f: f.saying(iss="token-service.evil.example"),
    "iss a list": lambda f: f.saying(iss=["token-service"]),
    "wrong aud": lambda f: f.saying(aud="another-service"),
    "aud a list without us": lambda f: f.saying(aud=["another-service"]),
    "aud an empty list": lambda f: f.saying(aud=[]),
    "aud an object": lambda f: f.saying(aud={"token-service": True}),
    "expired": lambda f: f.saying(exp=int(time.time()) - LEEWAY_SECONDS - 1),
    "expired long ago": lambda f: f.saying(exp=1),
    "exp before 1970": lambda f: f.saying(exp=-DAY),
    "exp a text": lambda f: f.saying(exp="tomorrow"),
    "exp a number in a text": lambda f: f.saying(exp=str(int(time.time()) + DAY)),
    "exp a list": lambda f: f.saying(exp=[int(time.time()) + DAY]),
    "exp an object": lambda f: f.saying(exp={}),
    "exp infinite": lambda f: f.saying(exp=float("inf")),
    "exp not a number": lambda f: f.saying(exp=float("nan")),
    "nbf in the future": lambda f: f.saying(nbf=int(time.time()) + 60),
    "nbf a text": lambda f: f.saying(nbf="now"),
    "iat in the future": lambda f: f.saying(iat=int(time.time()) + 60),
    "iat a list": lambda f: f.saying(iat=[1]),
    "iat infinite": lambda f: f.saying(iat=float("inf")),
    "type refresh": lambda f: f.saying(type="refresh"),
    "type ACCESS": lambda f: f.saying(type="ACCESS"),
    "type a list": lambda f: f.saying(type=["access"]),
    "sub a number": lambda f: f.saying(sub=1),
    "sub true": lambda f: f.saying(sub=True),
    "sub a list": lambda f: f.saying(sub=[f.claims["sub"]]),
    "sub an object": lambda f: f.saying(sub={"id": f.claims["sub"]}),
    "sub empty": lambda f: f.saying(sub=""),
    "sub not a UUID": lambda f: f.saying(sub="admin"),
    "sub with SQL": lambda f: f.saying(sub="' OR 1=1 --"),
    "sub with NUL": lambda f: f.saying(sub="\0"),
    "sub a lone surrogate": lambda f: f.saying(sub="\ud800"),
    "sub of nobody": lambda f: f.saying(sub=str(uuid.uuid4())),
    "jti a number": lambda f: f.saying(jti=7),
    "jti a list": lambda f: f.saying(jti=["a"]),
    # Shapes.
    "payload a list": lambda f: f.signed(json.dumps(f.header).encode(), b"[]"),
    "payload a text": lambda f: f.signed(json.dumps(f.header).encode(), b'"x"'),
    "payload null": lambda f: f.signed(json.dumps(f.header).encode(), b"null"),
    "payload not JSON": lambda f: f.signed(json.dumps(f.header).encode(), b"{"),
    "payload not UTF-8": lambda f: f.signed(json.dumps(f.header).encode(), b'{"sub":"\xff"}'),
    "payload nested deep": lambda f: f.signed(
        json.dumps(f.header).encode(), b'{"sub":' + b"[" * 100_000
    ),
    "payload with a number of 5000 digits": lambda f: f.signed(
        json.dumps(f.header).encode(), b'{"exp":' + b"9" * 5000 + b"}"
    ),
    "header a list": lambda f: f.signed(b"[]", json.dumps(f.claims).encode()),
    "header not JSON": lambda f: f.signed(b"{", json.dumps(f.claims).encode()),
    "header nested deep": lambda f: f.signed(b"[" * 100_000, b"{}"),
    "cut at the front": lambda f: f.genuine[1:],
    "cut in half": lambda f: f.genuine[: len(f.genuine) // 2],
    "one part": lambda f: f.genuine.replace(".", ""),
    "four parts": lambda f: f.genuine + ".AAAA",
    "five parts, as if encrypted": lambda f: f.genuine + ".AAAA.AAAA",
    "only dots": lambda f: "..",
    "a huge token": lambda f: "A" * 1_000_000,
    "a huge claim": lambda f: Forge(f.genuine, "x" * 40).saying(junk="j" * 500_000),
    "a one-time token": lambda f: "ott_" + "0" * 56,
}


@pytest.fixture(scope="module")
def known(app: Flask) -> Person:
    return enrol(app.test_client().post)


@pytest.fixture(scope="module")
def forge(known: Person, config: Config) -> Forge:
    return Forge(known.headers["Authorization"].removeprefix("Bearer "), config.secret_key)


def assert_out(answer: TestResponse | httpx.Response, *codes: str) -> None:
    """A 401 problem that challenges, and blames the token only if it read one (RFC 6750)."""
    assert answer.status_code == 401, answer.text
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    body = answer.json() if callable(answer.json) else answer.json
    assert body is not None
    assert body["code"] in (codes or ("access_token_invalid", "access_token_expired"))
    challenge = "Bearer" if body["code"] == "not_authenticated" else 'Bearer error="invalid_token"'
    assert answer.headers["WWW-Authenticate"] == challenge


def test_the_forge_writes_tokens_that_pass(client: FlaskClient, forge: Forge) -> None:
    """Else every refusal below could be a mistake of the forge."""
    for token in (forge.genuine, forge.saying(), forge.saying(aud=["x", "token-service"])):
        answer = client.get("/auth/me", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 200


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_a_forged_token_is_refused(
    attack: Callable[[Forge], str], client: FlaskClient, forge: Forge
) -> None:
    """Guard: the decode in ``jwts.claims_of``."""
    answer = client.post(
        "/token/create", headers={"Authorization": f"Bearer {attack(forge)}"}, json={}
    )
    assert_out(answer)


@pytest.mark.parametrize("claim", ["iat", "nbf"])
def test_a_token_of_a_host_whose_clock_is_ahead_is_taken(
    claim: str, client: FlaskClient, forge: Forge
) -> None:
    """Guard: LEEWAY_SECONDS. Clocks that differ by a millisecond are enough for a 401."""
    token = forge.saying(**{claim: int(time.time()) + LEEWAY_SECONDS - 1})
    answer = client.get("/auth/me", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 200


def test_a_key_named_in_the_header_is_never_looked_up(client: FlaskClient, forge: Forge) -> None:
    """With the right signature such headers change nothing: the key comes from the settings."""
    asked: list[str] = []

    def note(what: str, arguments: tuple[Any, ...]) -> None:
        if what in {"open", "socket.getaddrinfo", "socket.connect", "urllib.Request"}:
            asked.append(repr(arguments))

    sys.addaudithook(note)  # It stays for as long as this process does.
    token = forge.under(
        kid="../../dev/null", jku="https://evil.example", x5u="https://evil.example"
    )
    answer = client.get("/auth/me", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 200
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", 1))
    assert "127.0.0.1" in asked[-1]
    assert not [what for what in asked if "evil" in what or "null" in what]


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer \t",
        "{0}",
        "Basic {0}",
        "Token {0}",
        "DPoP {0}",
        "Bearer: {0}",
        "Bearer={0}",
        "Bearer{0}",
        "bearer{0}",
        "Bearer {0} {0}",
        "Bearer Bearer {0}",
        "Bearer {0}, Bearer {0}",
        "Bearer {0},Bearer {0}",
        "Bearer x, Bearer {0}",
        "Basic eDp4, Bearer {0}",
        "Bearer {0}, Basic eDp4",
        "Bearer {0},",
        ",Bearer {0}",
        ",,,",
        "a,,b",
        "Bearer token={0}",
        'Bearer "{0}"',
        "\u00e9 {0}",
        "Bearer \u00e9\u00f1.\u00e9.\u00e9",
        "Bearer\u00a0{0}",
    ],
)
def test_a_header_that_is_not_one_bearer_is_refused(
    header: str, client: FlaskClient, forge: Forge
) -> None:
    """One scheme, one space, one token, and nothing else, however genuine the token is."""
    answer = client.get("/auth/me", headers={"Authorization": header.format(forge.genuine)})
    assert_out(answer, "not_authenticated", "access_token_invalid")


def test_two_authorization_headers_are_refused(client: FlaskClient, forge: Forge) -> None:
    line = ("Authorization", f"Bearer {forge.genuine}")
    assert_out(client.get("/auth/me", headers=[line, line]), "access_token_invalid")


@pytest.mark.parametrize(
    "place",
    [
        lambda t: {"query_string": {"access_token": t, "jwt": t, "token": t}},
        lambda t: {"json": {"access_token": t, "token": t}},
        lambda t: {"data": {"access_token": t}},
        lambda t: {"headers": {"Cookie": f"access_token={t}; access_token_cookie={t}"}},
        lambda t: {"headers": {"X-Authorization": f"Bearer {t}"}},
        lambda t: {"headers": {"Proxy-Authorization": f"Bearer {t}"}},
        lambda t: {"auth": ("Bearer", t)},
        lambda t: {},
    ],
    ids=["query", "json", "form", "cookie", "x-authorization", "proxy", "basic", "nowhere"],
)
def test_a_token_anywhere_else_is_not_read(
    place: Callable[[str], dict[str, Any]], client: FlaskClient, forge: Forge
) -> None:
    """A JWT counts in the Authorization header alone (RFC 6750 section 5.3, ASVS V14.2.1)."""
    assert_out(client.post("/token/create", **place(forge.genuine)), "not_authenticated")


def test_a_changed_character_anywhere_is_refused(client: FlaskClient, forge: Forge) -> None:
    """Every flip that changes what is signed, or the signature, is out (ASVS 5.0 V9.1.1)."""
    token = forge.genuine

    def status(changed: str) -> int:
        answer = client.get("/auth/me", headers={"Authorization": f"Bearer {changed}"})
        return answer.status_code

    assert status(token) == 200
    for place, character in enumerate(token):
        # Position 32 of the alphabet away differs in the highest of a character's six bits,
        # which is never a spare one. A dot becomes a letter.
        at = URL_SAFE.find(character)
        changed = token[:place] + URL_SAFE[(at + 32) % 64] + token[place + 1 :]
        assert status(changed) == 401, place
        assert status(token[:place] + token[place + 1 :]) == 401, place


def test_a_token_has_one_spelling_only(client: FlaskClient, forge: Forge) -> None:
    """43 characters of base64url hold 258 bits and a signature 256: two bits are spare.

    So four last characters decode to the same signature. PyJWT takes only the one whose spare
    bits are zero, and no flip of a last character passes, whether it changes the bytes or not.
    In the header and the payload the spelling itself is signed.
    """
    parts = forge.genuine.split(".")
    alike = 0
    for number, part in enumerate(parts):
        for last in URL_SAFE.replace(part[-1], ""):
            bent = part[:-1] + last
            token = ".".join([*parts[:number], bent, *parts[number + 1 :]])
            assert_out(client.get("/auth/me", headers={"Authorization": f"Bearer {token}"}))
            alike += number == 2 and decoded(bent) == decoded(part)
    assert alike == 3


def test_a_deactivated_user_is_out_within_two_seconds(
    app: Flask, client: FlaskClient, person: Person
) -> None:
    """Guard: ``callers.FRESH_SECONDS``."""
    assert client.post("/token/create", headers=person.headers).status_code == 201
    with app.app_context(), db.engine.begin() as connection:
        connection.execute(DEACTIVATE, {"id": person.id})
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        client.post("/token/create", headers=person.headers)
        time.sleep(0.05)
    assert_out(client.post("/token/create", headers=person.headers), "access_token_invalid")
    assert_out(client.get("/auth/me", headers=person.headers), "access_token_invalid")


def test_a_deactivated_user_is_out_within_two_seconds_on_every_worker(
    app: Flask, service: Service
) -> None:
    """What one worker remembers of a caller never outlives the two seconds on another."""

    # A connection of its own for each call, so that any worker may answer.
    with httpx.Client(base_url=service.url, headers={"Connection": "close"}) as http:
        someone = enrol(http.post)
        for _ in range(30):
            assert http.post("/token/create", headers=someone.headers).status_code == 201
        with app.app_context(), db.engine.begin() as connection:
            connection.execute(DEACTIVATE, {"id": someone.id})
        time.sleep(2)
        for _ in range(30):
            answer = http.post("/token/create", headers=someone.headers)
            assert_out(answer, "access_token_invalid")


def test_a_warm_token_call_asks_postgres_nothing(
    app: Flask, client: FlaskClient, person: Person
) -> None:
    """No query and not even a connection checked out. Guard: the memory of ``Callers.find``."""
    seen: list[str] = []

    def query(*told: Any) -> None:
        seen.append(told[2])

    def checkout(*_: Any) -> None:
        seen.append("checkout")

    with app.app_context():
        engine = db.engine
    event.listen(engine, "before_cursor_execute", query)
    event.listen(engine, "checkout", checkout)
    try:
        token = client.post("/token/create", headers=person.headers).get_json()["token"]
        assert seen  # The first call does ask, so the listeners hear.
        seen.clear()
        assert client.post("/token/create", headers=person.headers).status_code == 201
        validated = client.post("/token/validate", headers=person.headers, json={"token": token})
        assert validated.status_code == 200
        assert seen == []
    finally:
        event.remove(engine, "before_cursor_execute", query)
        event.remove(engine, "checkout", checkout)


@pytest.fixture
def own_postgres(tmp_path: Path) -> Iterator[dev.Postgres]:
    with dev.Postgres(tmp_path, durable=False) as server:
        yield server


def test_me_is_told_that_the_accounts_are_locked(
    postgres: dev.Postgres, client: FlaskClient
) -> None:
    """The caller is known, so the request goes on, and then the breaker refuses it."""
    person = enrol(client.post)
    assert client.get("/auth/me", headers=person.headers).status_code == 200
    time.sleep(1.6)  # By now he is asked about again.
    with locked(SimpleNamespace(postgres=postgres)):
        answer = client.get("/auth/me", headers=person.headers)
    assert (answer.status_code, answer.get_json()["code"]) == (503, "database_unavailable")
    until(lambda: client.get("/auth/me", headers=person.headers).status_code == 200, seconds=2)


def test_postgres_away_and_back(own_postgres: dev.Postgres, make_app: Callable[..., Flask]) -> None:
    """Callers seen lately go on; others, and logins, get a 503 until Postgres is back.

    Guards: the ``except`` of ``Callers.find`` and its ``known``, and ``errors.on_database``.
    """
    app = make_app(database_url=own_postgres.url)
    app.extensions["Callers"] = Callers(stale_seconds=6)
    with app.app_context():
        flask_migrate.upgrade()
    client = app.test_client()
    seen, unseen = enrol(client.post), enrol(client.post)
    credentials = {"correo": seen.correo, "password": PASSWORD}
    assert client.post("/token/create", headers=seen.headers).status_code == 201

    own_postgres.stop()
    for pause in (0, 1.6):  # At once, and when the caller is no longer fresh.
        time.sleep(pause)
        created = client.post("/token/create", headers=seen.headers)
        assert created.status_code == 201
        token = created.get_json()["token"]
        validated = client.post("/token/validate", headers=seen.headers, json={"token": token})
        assert validated.status_code == 200
    refused = [
        client.post("/token/create", headers=unseen.headers),
        client.post("/token/validate", headers=unseen.headers, json={"token": token}),
        client.post("/auth/login", json=credentials),
        client.get("/auth/me", headers=seen.headers),
    ]
    time.sleep(6)  # What was known of him is too old by now.
    refused.append(client.post("/token/create", headers=seen.headers))
    for answer in refused:
        assert answer.status_code == 503
        assert answer.get_json()["code"] == "database_unavailable"
        assert int(answer.headers["Retry-After"]) >= 1
        assert "WWW-Authenticate" not in answer.headers

    own_postgres.start()
    deadline = time.monotonic() + 10
    while client.post("/token/create", headers=unseen.headers).status_code != 201:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert client.post("/auth/login", json=credentials).status_code == 200
    assert client.get("/auth/me", headers=seen.headers).status_code == 200

    # What was known during the outage does not outlive it.
    with app.app_context(), db.engine.begin() as connection:
        connection.execute(DEACTIVATE, {"id": seen.id})
    time.sleep(2)
    assert_out(client.post("/token/create", headers=seen.headers), "access_token_invalid")
    with app.app_context():
        db.engine.dispose()


def test_one_caller_pays_for_all_while_postgres_hangs(
    app: Flask, postgres: dev.Postgres, make_app: Callable[..., Flask]
) -> None:
    """Who asks waits for most of a second, and the others are served from memory.

    Guard: the trial of ``Breaker``, and ``callers.PATIENT_SECONDS``.
    """
    with Proxy(postgres.port) as proxy:
        url = postgres.url.replace(f":{postgres.port}/", f":{proxy.port}/")
        away = make_app(database_url=url)
        people = [enrol(away.test_client().post) for _ in range(6)]

        def seconds(someone: Person) -> float:
            started = time.monotonic()
            created = away.test_client().post("/token/create", headers=someone.headers)
            assert created.status_code == 201
            return time.monotonic() - started

        for someone in people:
            seconds(someone)
        proxy.hang()
        time.sleep(1.6)
        assert seconds(people[0]) > 0.5  # It finds out for the first time.
        for pause in (0, 1, 2):
            time.sleep(pause)
            with ThreadPoolExecutor() as threads:
                slow = [took for took in threads.map(seconds, people) if took > 0.8]
            assert len(slow) == (1 if pause == 2 else 0)
        proxy.mend()
        with away.app_context():
            db.engine.dispose()
