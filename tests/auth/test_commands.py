"""The ``flask users`` commands, on a real database."""

from __future__ import annotations

import csv
import json
import resource
import secrets
import string
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click.testing
import httpx
import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select

import dev
from config import Config
from tests.stage.commands import flask, output, refusal
from tests.stage.people import PASSWORD, Person, enrol, new_correo
from tests.stage.queries import query
from tests.stage.service import Service
from tokenservice.auth.commands import users
from tokenservice.auth.models import User
from tokenservice.extensions import db

Run = Callable[..., click.testing.Result]


@pytest.fixture
def run(app: Flask) -> Run:
    """Run ``flask users …`` with ``text`` on standard input."""

    def command(*words: str | Path, text: str | bytes = "") -> click.testing.Result:
        runner = app.test_cli_runner()
        return runner.invoke(args=["users", *map(str, words)], input=text)

    return command


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    client = app.test_client()
    client.environ_base["REMOTE_ADDR"] = "10.7.0.1"
    return client


def created_by(result: click.testing.Result) -> dict[str, Any]:
    account: dict[str, Any] = json.loads(output(result))
    return account


def login(client: FlaskClient, correo: str, password: str = PASSWORD) -> int:
    return client.post("/auth/login", json={"correo": correo, "password": password}).status_code


def count(app: Flask, pattern: str) -> int:
    with app.app_context():
        matching = select(func.count()).select_from(User).where(User.correo.like(pattern))
        return db.session.scalars(matching).one()


def new_domain() -> str:
    return f"{secrets.token_hex(6)}.example.com"


def rows(domain: str, number: int) -> list[dict[str, str]]:
    return [
        {
            "nombre": f"Persona Ñandú, {n}",
            "correo": f"p{n}@{domain}",
            # Without digits, which make scoring a password several times as slow.
            "password": "".join(secrets.choice(string.ascii_letters) for _ in range(12)),
        }
        for n in range(number)
    ]


def write_csv(path: Path, lines: list[dict[str, str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["nombre", "correo", "password"])
        writer.writeheader()
        writer.writerows(lines)
    return path


def write_jsonl(path: Path, lines: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    return path


WRITERS = {"csv": write_csv, "jsonl": write_jsonl}
kinds = pytest.mark.parametrize("kind", WRITERS)


def test_create_makes_an_account_that_can_log_in(run: Run, client: FlaskClient) -> None:
    correo = new_correo()
    words = ("create", correo.upper(), "--nombre", "Íñigo", "--password-stdin")
    account = created_by(run(*words, text=PASSWORD + "\n"))
    assert account["correo"] == correo
    assert account["nombre"] == "Íñigo"
    assert "password" not in str(account)
    assert login(client, correo) == 200


def test_create_prompts_twice_for_a_missing_password(run: Run, client: FlaskClient) -> None:
    correo = new_correo()
    result = run("create", correo, "--nombre", "Ana", text=f"{PASSWORD}\n{PASSWORD}\n")
    assert result.exit_code == 0
    assert PASSWORD not in result.output
    assert login(client, correo) == 200


def test_create_without_a_terminal_names_the_option(run: Run) -> None:
    assert "use --password-stdin" in refusal(run("create", new_correo(), "--nombre", "Ana"))


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"], ids=["", "a byte order mark"])
@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\r", b"\nanother line\n"])
def test_a_password_from_standard_input_is_one_line(
    config: Config, client: FlaskClient, tmp_path: Path, start: bytes, end: bytes
) -> None:
    """As editors and shells of Windows write it: with CRLF and a mark that nobody sees.

    By the real command: the runner of click reads a CRLF as one character.
    """
    password = "  otra frase que nadie adivina  "
    correo = enrol(client.post).correo
    words = ("users", "set-password", correo, "--password-stdin")
    done = flask(config, *words, folder=tmp_path, text=start + password.encode() + end)
    assert done.returncode == 0, done.stderr
    assert login(client, correo, password) == 200


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-16-le", "utf-32"])
@pytest.mark.parametrize("words", [("create", "--nombre", "Ana"), ("set-password",)])
def test_a_password_in_another_encoding_is_refused(
    run: Run, client: FlaskClient, words: tuple[str, ...], encoding: str
) -> None:
    """UTF-16 is what PowerShell writes into a file."""
    correo = enrol(client.post).correo
    text = "una frase de ñandúes tranquilos\r\n".encode(encoding)
    message = refusal(run(words[0], correo, *words[1:], "--password-stdin", text=text))
    assert message == "Error: standard input is not in UTF-8\n"


def test_create_refuses_a_taken_address_without_if_missing(run: Run) -> None:
    words = ("create", new_correo(), "--nombre", "Ana", "--password-stdin")
    first = created_by(run(*words, text=PASSWORD))
    assert "already" in refusal(run(*words, text=PASSWORD))
    assert created_by(run(*words, "--if-missing", text=PASSWORD)) == first


@pytest.mark.parametrize(
    ("correo", "nombre", "password", "named"),
    [
        ("nobody", "Ana", PASSWORD, "correo"),
        ("ana@example.com", " ", PASSWORD, "nombre"),
        ("ana@example.com", "Ana", "short", "password"),
        ("ana@example.com", "Ana", "contraseña123", "password"),
        ("ana@example.com", "Ana", "", "password"),
    ],
)
def test_create_applies_the_rules_of_the_api_to_an_account(
    run: Run, correo: str, nombre: str, password: str, named: str
) -> None:
    message = refusal(run("create", correo, "--nombre", nombre, "--password-stdin", text=password))
    assert f"{named}: " in message
    assert not password or password not in message


@pytest.mark.parametrize("command", users.commands)
def test_no_command_takes_a_password_as_an_argument(run: Run, command: str) -> None:
    """S60: every user of the machine can read the arguments of a process."""
    assert "No such option" in refusal(run(command, "--password", "x"))
    for parameter in users.commands[command].params:
        assert "password" not in (parameter.name or "") or parameter.is_flag  # type: ignore[attr-defined]


@pytest.mark.parametrize(("kind", "number"), [("csv", 2_000), ("jsonl", 300)])
def test_seed_creates_the_accounts_of_a_file_only_once(
    run: Run, app: Flask, client: FlaskClient, tmp_path: Path, kind: str, number: int
) -> None:
    domain = new_domain()
    lines = rows(domain, number)
    file = WRITERS[kind](tmp_path / f"people.{kind}", lines)

    assert f"{number} accounts created, 0 existed already." in output(run("seed", file))
    assert count(app, f"%@{domain}") == number
    assert login(client, lines[0]["correo"], lines[0]["password"]) == 200
    assert login(client, lines[-1]["correo"], lines[-1]["password"]) == 200

    assert f"0 accounts created, {number} existed already." in output(run("seed", file))
    assert count(app, f"%@{domain}") == number


def test_seed_leaves_accounts_that_exist_as_they_are(
    run: Run, client: FlaskClient, tmp_path: Path
) -> None:
    person = enrol(client.post)
    line = {"nombre": "Otra", "correo": person.correo.upper(), "password": "otra frase muy larga"}
    file = write_jsonl(tmp_path / "one.jsonl", [line])
    assert "0 accounts created, 1 existed already." in output(run("seed", file))
    assert login(client, person.correo) == 200
    assert login(client, person.correo, line["password"]) == 401


@kinds
@pytest.mark.parametrize("options", [(), ("--dry-run",)], ids=["for real", "dry run"])
def test_a_malformed_line_is_reported_by_number_and_nothing_is_written(
    run: Run, app: Flask, tmp_path: Path, kind: str, options: tuple[str, ...]
) -> None:
    """Red if lines are written before all of them are checked."""
    domain = new_domain()
    lines = rows(domain, 300)
    lines[249]["correo"] = "nobody"
    lines[251]["password"] = "contraseña123"
    file = WRITERS[kind](tmp_path / f"people.{kind}", lines)
    header = 1 if kind == "csv" else 0

    message = refusal(run("seed", file, *options))

    assert f"line {250 + header}: correo: Not an e-mail address." in message
    assert f"line {252 + header}: password: Too easy to guess" in message
    assert message.count("line ") == 2
    assert "contraseña123" not in message
    assert count(app, f"%@{domain}") == 0


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"nombre": "Ana"\n', "line 1: "),
        ("a.jsonl", b"\n\n[1]\n", "line 3: not an object"),
        ("a.jsonl", b'{"nombre": 7, "correo": "a@example.com"}\n', "line 1: "),
        ("a.jsonl", b'{"nombre": "a", "nombre": "b"}\n', "line 1: "),
        ("a.jsonl", b"[" * 100_000 + b"\n", "line 1: nested too deeply"),
        ("a.csv", b"nombre,correo,password\nAna\n", "line 2: "),
        ("a.csv", b'nombre,correo,password\n"Ana\n', "line 2: "),
    ],
)
def test_a_malformed_file_is_refused_with_its_line(
    run: Run, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    assert message in refusal(run("seed", file))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", '{"nombre": "Íñigo"}\n'.encode("latin-1")),
        ("a.csv", "nombre,correo,password\nÍñigo,a@example.com,x\n".encode("latin-1")),
        ("a.csv", b"nombre,correo,password\n" + b"x" * 200_000 + b"\n"),
    ],
    ids=["Latin-1 JSON Lines", "Latin-1 CSV", "a huge CSV field"],
)
def test_an_unreadable_file_is_refused_with_its_reason(
    run: Run, tmp_path: Path, name: str, content: bytes
) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    message = refusal(run("seed", file))
    assert "line " in message or "UTF-8" in message


@kinds
def test_a_dry_run_counts_and_writes_nothing(
    run: Run, app: Flask, tmp_path: Path, kind: str
) -> None:
    domain = new_domain()
    file = WRITERS[kind](tmp_path / f"people.{kind}", rows(domain, 5))
    assert output(run("seed", file, "--dry-run")).startswith("5 accounts are well formed")
    assert count(app, f"%@{domain}") == 0


def test_a_dry_run_of_made_up_accounts_checks_their_password(run: Run) -> None:
    refusal(run("seed", "--count", "3", "--password-stdin", "--dry-run", text="short"))


def test_a_spreadsheets_csv_is_read(run: Run, client: FlaskClient, tmp_path: Path) -> None:
    """With a byte order mark, CRLF, quotes and an unknown column."""
    correo = new_correo()
    file = tmp_path / "people.csv"
    text = f'password,correo,notes,nombre\r\n{PASSWORD},{correo},"a, b","Íñigo ""I"""\r\n'
    file.write_bytes(text.encode("utf-8-sig"))
    assert "1 accounts created" in output(run("seed", file))
    assert login(client, correo) == 200


@pytest.fixture
def no_made_up_accounts(app: Flask, postgres: dev.Postgres) -> None:
    # Without the time limits of the app: they are ten thousand.
    query(postgres.url, "DELETE FROM users WHERE correo LIKE 'user-%@example.com'")


@pytest.mark.usefixtures("no_made_up_accounts")
def test_seed_makes_up_ten_thousand_accounts_in_bounded_memory(
    run: Run, app: Flask, client: FlaskClient
) -> None:
    """Red if all of them are held before the first is written."""
    run("seed", "--count", "400", "--password-stdin", text=PASSWORD)  # the memory of one batch
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.monotonic()

    message = output(run("seed", "--count", "10000", "--password-stdin", text=PASSWORD))

    assert "9600 accounts created, 400 existed already." in message
    assert PASSWORD not in message
    assert time.monotonic() - started < 60
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 40 * 1024
    assert count(app, "user-%@example.com") == 10_000
    assert login(client, "user-010000@example.com") == 200


@pytest.mark.usefixtures("no_made_up_accounts")
def test_seed_shows_a_generated_password_that_works(run: Run, client: FlaskClient) -> None:
    message = output(run("seed", "--count", "2"))
    password = message.split("Their password: ")[1].strip()
    assert len(password) >= 16
    assert login(client, "user-000002@example.com", password) == 200


@pytest.mark.parametrize("words", [(), ("people.csv", "--count", "3"), ("--count", "0")])
def test_seed_requires_a_file_or_a_count(
    run: Run, tmp_path: Path, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_csv(tmp_path / "people.csv", [])
    monkeypatch.chdir(tmp_path)
    assert refusal(run("seed", *words))


def test_list_writes_one_json_object_a_line_oldest_first(run: Run, client: FlaskClient) -> None:
    first, second = enrol(client.post), enrol(client.post)
    accounts = [json.loads(line) for line in output(run("list")).splitlines()]
    listed = [account["id"] for account in accounts]
    assert listed.index(first.id) < listed.index(second.id)
    assert {frozenset(account) for account in accounts} == {
        frozenset({"id", "nombre", "correo", "is_active", "created_at"})
    }


def test_disable_locks_an_account_and_enable_unlocks_it(run: Run, client: FlaskClient) -> None:
    person = enrol(client.post)
    assert created_by(run("disable", person.correo.upper()))["is_active"] is False
    assert login(client, person.correo) == 401
    assert created_by(run("enable", person.correo))["is_active"] is True
    assert login(client, person.correo) == 200


def test_a_change_that_changes_nothing_says_so(run: Run, client: FlaskClient) -> None:
    correo = enrol(client.post).correo
    for command, state in (("enable", "enabled"), ("disable", "disabled")):
        run(command, correo)
        again = run(command, correo.upper())
        assert created_by(again)["is_active"] is (command == "enable")
        assert again.stderr == f"{correo} was {state} already.\n"
    assert run("enable", correo).stderr == ""


def test_set_password_replaces_the_old_one(run: Run, client: FlaskClient) -> None:
    person = enrol(client.post)
    new = "otra frase que nadie adivina"
    assert new not in output(run("set-password", person.correo, "--password-stdin", text=new))
    assert login(client, person.correo, new) == 200
    assert login(client, person.correo) == 401


def test_set_password_applies_the_policy(run: Run, client: FlaskClient) -> None:
    person = enrol(client.post)
    message = refusal(run("set-password", person.correo, "--password-stdin", text="contraseña123"))
    assert "Too easy to guess" in message
    assert login(client, person.correo) == 200


@pytest.mark.parametrize("command", ["disable", "enable", "set-password"])
@pytest.mark.parametrize("correo", ["nobody@example.com", "no address"])
def test_an_unknown_account_is_named(run: Run, command: str, correo: str) -> None:
    assert f"no account has the address {correo}" in refusal(run(command, correo))


@pytest.mark.slow
def test_disabling_stops_the_jwt_on_every_worker_within_two_seconds(
    run: Run, service: Service
) -> None:
    """S17. Guard: ``Callers._learn``."""

    def statuses(person: Person, path: str = "/auth/me") -> list[int]:
        """The statuses of many connections, so that every worker serves some."""
        responses = [
            httpx.get(f"{service.url}{path}", headers=person.headers, timeout=30) for _ in range(24)
        ]
        return [response.status_code for response in responses]

    with httpx.Client(base_url=service.url, timeout=30) as http:
        person = enrol(http.post)
        other = enrol(http.post)
        assert set(statuses(person)) == {200}

        output(run("disable", person.correo))
        time.sleep(2)

        assert set(statuses(person)) == {401}
        assert set(statuses(other)) == {200}
        for path in ("/token/create", "/token/validate"):
            assert http.post(path, json={}, headers=person.headers).status_code == 401
