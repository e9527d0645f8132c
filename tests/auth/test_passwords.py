"""Passwords: the policy, the stored hash, and the cost of hashing."""

from __future__ import annotations

import os
import re
import secrets
import sys
import threading
import time
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select
from werkzeug.test import TestResponse

from config import Config
from tests.stage.people import PASSWORD, new_correo
from tests.stage.programs import needs
from tests.stage.service import Service
from tokenservice.auth.models import User
from tokenservice.auth.passwords import (
    MAX_LENGTH,
    MIN_LENGTH,
    NICE,
    Passwords,
    is_guessable,
    normalized,
)
from tokenservice.extensions import db

DEFAULTS = Config(secret_key=secrets.token_urlsafe(48))
NOMBRE = "Maximiliano Echeverría"
CORREO = "max.echeverria@example.com"


@pytest.fixture(scope="module")
def cheap() -> Passwords:
    """Argon2 at its smallest, for tests that do not depend on its cost."""
    return Passwords(memory_kib=8, workers=1)


def register(client: FlaskClient, password: str, **changed: str) -> tuple[int, str]:
    """Return the status and the address."""
    account = {"nombre": NOMBRE, "correo": new_correo(), "password": password, **changed}
    return client.post("/auth/register", json=account).status_code, account["correo"]


def login(client: FlaskClient, correo: str, password: str) -> int:
    return client.post("/auth/login", json={"correo": correo, "password": password}).status_code


def test_the_stored_hash_has_owasps_parameters_by_default(
    app: Flask, make_app: Callable[..., Flask]
) -> None:
    """S07, with the default memory: argon2id, 19 MiB, two passes, one lane."""
    service = make_app(argon2_memory_kib=DEFAULTS.argon2_memory_kib)
    status, correo = register(service.test_client(), PASSWORD)
    assert status == 201
    with service.app_context():
        stored = db.session.scalar(select(User.password_hash).where(User.correo == correo))
    assert stored
    found = re.match(r"\$argon2id\$v=19\$m=(\d+),t=(\d+),p=(\d+)\$", stored)
    assert found
    memory, passes, lanes = map(int, found.groups())
    assert memory >= 19 * 1024
    assert passes >= 2
    assert lanes == 1


def test_two_hashes_of_one_password_differ(cheap: Passwords) -> None:
    assert cheap.hash(PASSWORD) != cheap.hash(PASSWORD)


@pytest.mark.parametrize(
    ("length", "status"),
    [
        (MIN_LENGTH - 1, 422),
        pytest.param(MIN_LENGTH, 201),
        (MIN_LENGTH + 1, 201),
        (64, 201),
        (MAX_LENGTH, 201),
        (MAX_LENGTH + 1, 422),
    ],
)
def test_length_is_bounded_and_counted_in_code_points(
    client: FlaskClient, length: int, status: int
) -> None:
    """S01, S02. Each of these letters is three bytes or more."""
    password = "".join(chr(0x4E00 + 37 * number) for number in range(length))
    assert register(client, password)[0] == status


@pytest.mark.parametrize(
    "password",
    [
        "correcto caballo batería grapa",
        "пароль совсем не простой",
        "正确的马电池订书钉是密码",
        "🐘🎷🪗🥑🚲🧭🪐🍄🧵🦔",
        "  two leading, two trailing  ",
        "ñandú-Über-œuvre-straße",
        "\t tabs \t and \t such \t",
    ],
)
def test_any_script_spaces_and_emoji_are_accepted_unchanged(
    client: FlaskClient, password: str
) -> None:
    """S04: no rules of composition, and nothing is trimmed."""
    status, correo = register(client, password)
    assert status == 201
    assert login(client, correo, password) == 200
    if password != password.strip():
        assert login(client, correo, password.strip()) == 401


def test_a_password_is_neither_truncated_nor_folded(client: FlaskClient) -> None:
    """S03, against bcrypt's 72 bytes."""
    password = "Tres tristes tigres tragaban trigo en un trigal: " * 2 + "uno, dos y tres"
    status, correo = register(client, password)
    assert status == 201
    assert login(client, correo, password) == 200
    for changed in (
        password.encode()[:72].decode(),
        password[:-1],
        password[:-1] + "x",
        password + " ",
        password.lower(),
        password.swapcase(),
    ):
        assert login(client, correo, changed) == 401


def test_all_normal_forms_of_a_password_log_in(client: FlaskClient) -> None:
    """S06. Red without NFKC in ``normalized``."""
    typed = "camión \N{FULLWIDTH LATIN SMALL LETTER D}e ﬁera montaña"
    status, correo = register(client, unicodedata.normalize("NFC", typed))
    assert status == 201
    assert login(client, correo, unicodedata.normalize("NFD", typed)) == 200
    assert login(client, correo, unicodedata.normalize("NFKD", typed)) == 200


@given(st.text(max_size=40))
def test_normalizing_twice_changes_nothing(text: str) -> None:
    assert normalized(normalized(text)) == normalized(text)


@pytest.mark.parametrize(
    "password",
    [
        "contraseña123",
        "Contraseña1!",
        "contrasena",
        "C0ntr4señ4",
        "contraseñacontraseña",
        "teamoteamo",
        "tequiero2024",
        "password1",
        "P@ssw0rd!",
        "passwordpassword",
        "qwertyuiop",
        "12345678",
        "11111111",
        "abcdefgh",
        "19041990",
        "tokenservice",
        "maximiliano",
        "maximiliano2024",
        "Echeverría1",
        "airrevehce",
        "max.echeverria",
        CORREO,
        pytest.param("contraseñacontraseñacontraseña"),
    ],
)
def test_a_guessable_password_is_refused(password: str) -> None:
    """S05: common ones in Spanish and English, patterns, and the account's own words."""
    assert is_guessable(password, [NOMBRE, CORREO])


def test_the_accounts_own_words_count_only_for_its_owner() -> None:
    """Red without the context: another account may use the same words."""
    assert is_guessable("zxolotlqueh77", ["Zxolotlqueh", "x@example.com"])
    assert not is_guessable("zxolotlqueh77", ["Ana", "ana@example.com"])


@pytest.mark.parametrize(
    ("nombre", "password"),
    [
        ("Ñandú", "Ñandú-Ñandú"),
        ("Ñandú", "ñandú.ÑANDÚ.Ñandú!"),
        ("Ñandú", "Nandu-Nandu-Nandu"),
        ("Nandu", "Ñandú-Ñandú"),
        ("Ñandú", "údnañ údnañ"),
        ("Ñandú", "Ñ4ndú_2024_Ñ4ndú"),
        (unicodedata.normalize("NFD", "Ñandú"), "Ñandú-Ñandú"),
        ("Maximiliano Echeverría", "Echeverria;Maximiliano;1"),
        ("Li", "Li-Li-Li-Li"),
        ("\u674e\u660e", "\u674e\u660e-\u674e\u660e-2024"),
        ("Ana", "max.echeverria+max.echeverria"),
        ("Ana", "Token-Service 2024"),
        ("Ana", "example.com-ana-max"),
        ("Sen", "contraSenseña"),
    ],
)
def test_what_is_left_without_the_owners_words_is_strong(nombre: str, password: str) -> None:
    """Guard: ``without``. zxcvbn takes any three words in a row for 10^8 guesses."""
    assert is_guessable(password, [nombre, CORREO])


@pytest.mark.parametrize(
    ("nombre", "password"),
    [
        ("Ana", "anaconda verde y bicicleta"),
        ("Ñandú", "Ñandú sobre el tejado de zinc"),
        ("Li", "correcto caballo batería grapa"),
        ("A B C", "abecedario de cactus azul"),
        ("\u674e\u660e", "\u6b63\u786e\u7684\u9a6c\u7535\u6c60\u8ba2\u4e66\u9489"),
        ("\uae40", "\uac00\ub098\ub2e4\ub77c\ub9c8\ubc14\uc0ac\uc544"),
    ],
)
def test_a_strong_password_may_hold_a_word_of_its_owner(nombre: str, password: str) -> None:
    """The twin: what is left decides, and a single letter is no word."""
    assert not is_guessable(password, [nombre, CORREO])


def test_a_password_of_the_own_name_twice_is_refused(client: FlaskClient) -> None:
    assert register(client, "Ñandú-Ñandú", nombre="Ñandú")[0] == 422


def test_a_refusal_gives_its_reason_and_not_the_password(client: FlaskClient) -> None:
    password = "contraseña123"
    account = {"nombre": NOMBRE, "correo": new_correo(), "password": password}
    response = client.post("/auth/register", json=account, headers={"Accept-Language": "en"})
    assert response.status_code == 422
    assert "Too easy to guess" in response.json["errors"]["password"][0]
    assert password not in response.text


def test_threads_do_not_see_each_others_context() -> None:
    """Red with zxcvbn's own entry point, which keeps the context in a module global."""
    names = [f"{letter}zxolotlqueh" for letter in "bcdfghjk"]

    def refused(turn: int) -> tuple[bool, bool]:
        own, other = names[turn % len(names)], names[(turn + 1) % len(names)]
        return is_guessable(own + "77", [own]), is_guessable(other + "77", [own])

    with ThreadPoolExecutor(len(names)) as threads:
        assert set(threads.map(refused, range(80))) == {(True, False)}


def test_no_password_takes_long_to_score() -> None:
    """S02: any client may send this, so scoring is bounded as hashing is."""
    started = time.process_time()
    is_guessable("(c{[<@4a3e69g!1|il0o$5s+7t%x2z(c{[<@4a3e", ["Ana"])
    assert time.process_time() - started < 0.5


@pytest.mark.parametrize("stored", ["", "not a hash", "$argon2id$v=19$m=8,t=1,p=1$AAAA$AAAA"])
def test_an_unreadable_hash_matches_no_password(cheap: Passwords, stored: str) -> None:
    assert not cheap.verify(stored, PASSWORD)


def test_an_unknown_account_matches_no_password(cheap: Passwords) -> None:
    assert not cheap.verify(None, PASSWORD)


def test_a_hash_with_old_parameters_needs_a_rehash(cheap: Passwords) -> None:
    assert not cheap.needs_rehash(cheap.hash(PASSWORD))
    assert Passwords(memory_kib=16, workers=1).needs_rehash(cheap.hash(PASSWORD))


@pytest.mark.usefixtures("app")
def test_logins_beyond_the_capacity_for_hashing_get_a_503(make_app: Callable[..., Flask]) -> None:
    """S08. Guard: the bound of ``_queued``.

    Sixteen hashes of 256 MiB take one core far longer than a caller waits.
    """
    service = make_app(argon2_memory_kib=262_144, web_concurrency=256, web_threads=64)

    def attempt(_: int) -> TestResponse:
        client = service.test_client()
        return client.post("/auth/login", json={"correo": new_correo(), "password": PASSWORD})

    with ThreadPoolExecutor(16) as attempts:
        responses = list(attempts.map(attempt, range(16)))

    told = [response for response in responses if response.status_code != 401]
    refused = [response for response in told if response.json["code"] == "busy"]
    assert refused
    # Sixteen new connections at once may be too many for a Postgres that stalls.
    assert {response.json["code"] for response in told} <= {"busy", "database_unavailable"}
    for response in refused:
        assert response.status_code == 503
        assert 1 <= int(response.headers["Retry-After"]) < 60


@needs(sys.platform == "linux", "only Linux gives a thread a priority")
def test_hashing_runs_at_a_lower_priority(cheap: Passwords) -> None:
    """Guard: ``give_way``. Only in the threads that hash: this one keeps its priority."""

    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    assert cheap._queued(niceness) == min(niceness() + NICE, 19)


@needs(sys.platform == "linux", "read from /proc")
def test_a_worker_does_not_keep_the_memory_of_a_hash(serve: Callable[..., Service]) -> None:
    """Guard: ``mallopt`` in gunicorn.conf.py; without it 19 MiB stay from the second hash on."""
    with (
        serve(web_concurrency=1) as service,
        httpx.Client(base_url=service.url, timeout=30) as http,
    ):
        [worker] = service.workers()

        def megabytes() -> float:
            pages = int(Path(f"/proc/{worker}/statm").read_text().split()[1])
            return pages * os.sysconf("SC_PAGESIZE") / 1e6

        def log_in() -> None:
            body = {"correo": new_correo(), "password": PASSWORD}
            assert http.post("/auth/login", json=body).status_code == 401

        http.get("/healthz")
        before = megabytes()
        for _ in range(4):
            log_in()
        assert megabytes() - before < 12
