"""``flask users seed``: the files that people have."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import click.testing
import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from config import Config
from tests.stage.commands import flask, output, refusal
from tests.stage.people import PASSWORD, new_correo
from tokenservice.auth.models import User
from tokenservice.extensions import db

Seed = Callable[..., click.testing.Result]
EXPECTED = "expected nombre, correo and password, with commas, semicolons or tabs between them"


@pytest.fixture
def seed(app: Flask, tmp_path: Path) -> Seed:
    """Run ``flask users seed`` with a file of ``content``."""

    def command(content: bytes, *options: str, name: str = "people.csv") -> click.testing.Result:
        file = tmp_path / name
        file.write_bytes(content)
        return app.test_cli_runner().invoke(args=["users", "seed", str(file), *options])

    return command


def nombre_of(app: Flask, correo: str) -> str | None:
    with app.app_context():
        return db.session.scalar(select(User.nombre).where(User.correo == correo))


def table(separator: str, correo: str, header: str = "nombre,correo,password") -> str:
    lines = [header, f"Íñigo Ñandú,{correo},{PASSWORD}"]
    return "".join(line.replace(",", separator) + "\r\n" for line in lines)


@pytest.mark.parametrize(
    "form",
    [
        {"separator": ";"},
        {"separator": "\t"},
        {"separator": ", "},
        {"separator": "; "},
        {"separator": ",", "header": "Nombre,CORREO,PassWord"},
        {"separator": ",", "header": " Nombre , Correo , Password "},
        {"separator": ";", "header": '"Nombre","Correo","Password"'},
        {"separator": ", ", "header": '"Nombre","Correo","Password"'},
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["people.csv", "PEOPLE.CSV", "people.txt", "people"])
def test_a_table_is_read_as_its_header_says(
    seed: Seed, app: Flask, client: FlaskClient, form: dict[str, str], name: str
) -> None:
    correo = new_correo()
    assert output(seed(table(correo=correo, **form).encode(), name=name)).startswith("1 accounts c")
    assert nombre_of(app, correo) == "Íñigo Ñandú"
    login = client.post("/auth/login", json={"correo": correo, "password": PASSWORD})
    assert login.status_code == 200


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("kind", ["table", "json"])
def test_a_byte_order_mark_names_the_encoding(
    seed: Seed, app: Flask, encoding: str, kind: str
) -> None:
    """UTF-16 with tabs is the "Unicode text" of Excel."""
    correo = new_correo()
    line = {"nombre": "Íñigo Ñandú", "correo": correo, "password": PASSWORD}
    text = table("\t", correo) if kind == "table" else json.dumps(line, ensure_ascii=False)
    assert "1 accounts created" in output(seed(text.encode(encoding)))
    assert nombre_of(app, correo) == "Íñigo Ñandú"


def test_windows_1252_is_offered_and_not_guessed(seed: Seed, app: Flask) -> None:
    correo = new_correo()
    content = table(";", correo).encode("windows-1252")
    message = refusal(seed(content))
    assert "is not in UTF-8; nothing was written" in message
    assert "--encoding windows-1252" in message
    assert nombre_of(app, correo) is None
    assert "1 accounts created" in output(seed(content, "--encoding", "windows-1252"))
    assert nombre_of(app, correo) == "Íñigo Ñandú"


@pytest.mark.parametrize(
    ("content", "options"),
    [
        (b"nombre;correo;password\r\n\x81;a@example.com;x\r\n", ("--encoding", "windows-1252")),
        ("nombre;correo;password".encode("utf-16-le"), ()),
        ("nombre;correo;password".encode("utf-32"), ()),
        ("nombre;correo;password".encode("utf-16")[:-1], ()),
        (b"nombre;correo;password\r\nAna\0;a@example.com;x\r\n", ()),
    ],
    ids=["not in Windows-1252", "no mark", "UTF-32", "half a character", "NUL"],
)
def test_a_file_in_no_known_encoding_is_refused(
    seed: Seed, content: bytes, options: tuple[str, ...]
) -> None:
    message = refusal(seed(content, *options))
    assert "the file is not in " in message
    assert "nothing was written" in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize(
    ("header", "named"),
    [
        ("name,mail,password", 'the header is "name, mail, password"'),
        ("Nombre;E-Mail;Clave", 'the header is "Nombre, E-Mail, Clave"'),
        ("nombre,correo,password,Correo", 'the header is "nombre, correo, password, Correo"'),
        ("nombre,correo", 'the header is "nombre, correo"'),
        ("nombre|correo|password", "the first line is not a header"),
        ("sep=;", 'the header is "sep=, "'),
        # Where a header is missing, the first line holds a password.
        (f"Ana,ana@example.com,{PASSWORD}", "the first line is not a header"),
        (f"Ana;ana.example.com;{PASSWORD}7", "the first line is not a header"),
        (PASSWORD, "the first line is not a header"),
    ],
)
def test_another_header_is_one_message(seed: Seed, header: str, named: str) -> None:
    """It was one message for each line, and none of them spoke of the header."""
    lines = [header, *(f"Ana,ana{number}@example.com,{PASSWORD}" for number in range(40))]
    message = refusal(seed("\n".join(lines).encode()))
    assert message == f"Error: {named}; {EXPECTED}. Nothing was written.\n"


def test_an_address_twice_is_named_with_both_lines(seed: Seed, app: Flask) -> None:
    """Also in another spelling, and where one of the lines has another mistake."""
    one, two = new_correo(), new_correo()
    lines = [
        "nombre,correo,password",
        f"Ana,{one},{PASSWORD}",
        f"Eva,{two},short",
        f"Ana,{one.upper()},{PASSWORD}",
        f"Eva, {two},{PASSWORD}",
    ]
    message = refusal(seed("\n".join(lines).encode()))
    assert f"line 4: correo: {one} stands on line 2 too." in message
    assert "line 3: password: " in message
    assert f"line 5: correo: {two} stands on line 3 too." in message
    assert nombre_of(app, one) is None


def test_lines_of_separators_alone_are_no_accounts(seed: Seed) -> None:
    """Spreadsheets write them below the last row."""
    content = "\r\n\r\n" + table(";", new_correo()) + ";;\r\n ; ;\r\n\r\n"
    assert "1 accounts created" in output(seed(content.encode()))


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("Ana,{},tres tristes tigres,en un trigal", "more cells than the header has"),
        ("Ana, López,{},tres tristes tigres", "more cells than the header has"),
        ("Ana,{}, tres tristes tigres", "password: a blank before or after it"),
        ("Ana,{},tres tristes tigres ", "password: a blank before or after it"),
    ],
)
def test_a_password_is_never_cut_or_padded_in_silence(seed: Seed, row: str, reason: str) -> None:
    """A comma without quotes, and a blank that may belong to the table."""
    content = "nombre,correo,password\n" + row.format(new_correo())
    message = refusal(seed(content.encode()))
    assert f"line 2: {reason}" in message
    assert "tristes" not in message


def test_a_password_in_json_lines_may_have_blanks_around_it(
    seed: Seed, client: FlaskClient
) -> None:
    account = {"nombre": "Ana", "correo": new_correo(), "password": f" {PASSWORD} "}
    assert "1 accounts created" in output(seed(json.dumps(account).encode()))
    del account["nombre"]
    assert client.post("/auth/login", json=account).status_code == 200


def test_a_mark_between_two_joined_files_is_named(seed: Seed) -> None:
    """As ``cat a.jsonl b.jsonl`` leaves it."""
    line = json.dumps({"nombre": "Ana", "correo": new_correo(), "password": PASSWORD})
    content = f"{line}\n".encode("utf-8-sig") * 2
    assert "line 2: begins with a byte order mark" in refusal(seed(content))


@pytest.mark.parametrize("file", ["-", "/dev/stdin"])
def test_standard_input_is_read(config: Config, app: Flask, tmp_path: Path, file: str) -> None:
    """From a pipe, which can be read once only, and by the real command."""
    correo = new_correo()
    content = table(";", correo).encode()
    done = flask(config, "users", "seed", file, folder=tmp_path, text=content)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "1 accounts created, 0 existed already.\n"
    assert nombre_of(app, correo) == "Íñigo Ñandú"


def test_a_named_pipe_is_read(config: Config, app: Flask, tmp_path: Path) -> None:
    """As ``seed <(gpg -d people.gpg)`` gives one: its accounts were "existing already"."""
    pipe, correo = tmp_path / "pipe", new_correo()
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=[table("\t", correo).encode()])
    writer.start()
    done = flask(config, "users", "seed", "pipe", folder=tmp_path)
    writer.join()
    assert done.stdout == "1 accounts created, 0 existed already.\n", done.stderr
    assert nombre_of(app, correo)


def test_standard_input_is_not_both_file_and_password(config: Config, tmp_path: Path) -> None:
    done = flask(config, "users", "seed", "-", "--password-stdin", folder=tmp_path)
    assert done.returncode == 2
    assert "--password-stdin is for --count" in done.stderr
