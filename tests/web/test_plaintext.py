"""Plain text: no control or hidden character is stored or printed."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from typing import Any

import click.testing
import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from tests.stage.callers import Caller
from tests.stage.people import PASSWORD, Person, new_correo
from tests.stage.problems import problem_in
from tokenservice.auth.emails import canonical
from tokenservice.auth.models import User
from tokenservice.auth.schemas import RegisterRequest
from tokenservice.extensions import db
from tokenservice.onetime.values import Terms
from tokenservice.web import texts
from tokenservice.web.plaintext import escaped, is_plain

Run = Callable[..., click.testing.Result]

REFUSED = {
    "ESC": "Ana\x1b[2J",
    "DEL": "An\x7fa",
    "CSI, a C1 control": "Ana\x9b2J",
    "NEL inside": "Ana\x85Eva",
    "OSC, a C1 control": "Ana\x9d0;title\x9c",
    "a bidirectional override": "Ana\u202egpj.exe",
    "a bidirectional isolate": "Ana\u2066Eva\u2069",
    "a right-to-left mark": "Ana\u200fEva",
    "a zero-width space": "An\u200ba",
    "a word joiner": "An\u2060a",
    "a byte order mark": "An\ufeffa",
    "a soft hyphen": "An\xada",
    "a hidden text of tags": "Ana\U000e0061\U000e007f",
    "an interlinear annotation": "\ufff9Ana\ufffaEva\ufffb",
    "a line separator": "Ana\u2028Eva",
    "a paragraph separator": "Ana\u2029Eva",
    "a private character": "Ana\ue000",
    "a private character of plane 16": "Ana\U0010fffd",
    "a noncharacter": "Ana\uffff",
    "a noncharacter of the presentation forms": "Ana\ufdd0",
    "a noncharacter of plane 1": "Ana\U0001fffe",
    "a reserved invisible character": "Ana\U000e0fff",
    "a Hangul filler": "Ana\u3164",
    "a half-width Hangul filler": "Ana\uffa0",
    "an empty Braille cell": "Ana\u2800",
    "a grapheme joiner": "An\u034fa",
    "five marks on a letter": "Z" + "\u0335\u0336\u0337\u0338\u0339" + "algo",
    "ninety-nine marks on a letter": "Z" + "\u0301" * 99,
    "marks that joiners part": "Z" + "\u0301\u0302\u200d" * 20,
    "enclosing marks": "Z" + "\u20dd" * 5,
    "a mark that stands on nothing": "\u0301Ana",
}
EMPTY = {
    "nothing": "",
    "spaces": " \u3000\xa0\t",
    "joiners": "\u200c\u200d\u200c",
    "spaces and marks": "\xa0 \u0301\xa0",
    "selectors": "\ufe0f",
    "a filler": "\u3164",
    "separators": "\u2028\u2029",
}
TAKEN = {
    "Spanish": "Íñigo Muñoz de la Peña",
    "decomposed Vietnamese": unicodedata.normalize("NFD", "Nguyễn Thị Ngọc Ánh"),
    "Persian, with a non-joiner": "علی\u200cرضا می\u200cخواهم",  # noqa: RUF001
    "Sinhala, with a joiner": "ශ්\u200dරී",
    "Malayalam, with a joiner": "അവന്\u200d",
    "Hebrew with its points": "שָׁלוֹם",
    "Tibetan": "བསྒྲུབས་རྒྱུད",
    "Burmese": "ညွှန့်မြို့",
    "Thai": "น้ำผึ้ง",
    "Korean": "김민준",
    "Japanese, with a wide space": "葛\U000e0100城\u3000花子",
    "of a Unicode newer than Python's": "\U000323b0 \U0001fae8",
    "a family": "👨\u200d👩\u200d👧\u200d👦",
    "a flag of four": "🏳\ufe0f\u200d⚧\ufe0f",
    "a keycap": "1\ufe0f\u20e3",
    "a line of punctuation": 'O\'Neil-García, Jr. ("Pepe") № 7 €',
}


def field_errors(response: Any) -> Any:
    return problem_in(response, 422, "validation_failed")["errors"]


def account(nombre: str, correo: str | None = None) -> dict[str, str]:
    return {"nombre": nombre, "correo": correo or new_correo(), "password": PASSWORD}


@pytest.fixture
def ana(client: FlaskClient, person: Person) -> Caller:
    return Caller(client, person)


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("language", texts.LANGUAGES)
def test_a_name_that_is_not_plain_is_refused_with_its_reason(
    client: FlaskClient, name: str, language: texts.Language
) -> None:
    response = client.post(
        "/auth/register", json=account(REFUSED[name]), headers={"Accept-Language": language}
    )
    [message] = field_errors(response)["nombre"]
    assert ("marcas" if language == "es" else "marks") in message


@pytest.mark.parametrize("name", EMPTY)
def test_a_name_without_a_visible_character_is_refused(client: FlaskClient, name: str) -> None:
    response = client.post("/auth/register", json=account(EMPTY[name]))
    assert set(field_errors(response)) == {"nombre"}


@pytest.mark.parametrize("name", TAKEN)
def test_a_name_of_any_script_is_returned_unchanged(client: FlaskClient, name: str) -> None:
    response = client.post("/auth/register", json=account(TAKEN[name]))
    assert response.status_code == 201, response.text
    assert json.loads(response.text)["nombre"] == TAKEN[name]


@pytest.mark.parametrize("name", [*REFUSED, *(name for name in EMPTY if EMPTY[name])])
def test_a_subject_follows_the_rules_of_a_name(ana: Caller, name: str) -> None:
    """Two different subjects that look alike would be an invisible mismatch."""
    subject = {**REFUSED, **EMPTY}[name]
    token = ana.create()["token"]
    assert set(field_errors(ana.post("create", subject=subject))) == {"subject"}
    assert set(field_errors(ana.post("batch", count=1, subject=subject))) == {"subject"}
    for verb in ("validate", "reserve"):
        assert set(field_errors(ana.post(verb, token=token, subject=subject))) == {"subject"}


@pytest.mark.parametrize("name", TAKEN)
def test_a_subject_of_any_script_is_compared_unchanged(ana: Caller, name: str) -> None:
    token = ana.create(subject=TAKEN[name])["token"]
    assert ana.post("validate", token=token, subject=TAKEN[name]).status_code == 200


@pytest.mark.parametrize("name", REFUSED)
def test_an_address_follows_the_rules_of_a_name(
    client: FlaskClient, ana: Caller, name: str
) -> None:
    for correo in (f"{REFUSED[name]}@example.com", f"ana@{REFUSED[name]}.com"):
        response = client.post("/auth/register", json=account("Ana", correo))
        assert set(field_errors(response)) == {"correo"}
        assert set(field_errors(ana.post("create", audience=[correo]))) == {"audience"}
        with pytest.raises(ValueError, match=r".*"):
            canonical(correo)


@pytest.mark.parametrize("text", ["\ud800", "a\udfff", "\0"])
@pytest.mark.parametrize("field", ["nombre", "correo", "password"])
def test_a_lone_surrogate_or_nul_is_no_json(client: FlaskClient, field: str, text: str) -> None:
    response = client.post(
        "/auth/register",
        data=json.dumps({**account("Ana"), field: text}),
        content_type="application/json",
    )
    problem_in(response, 400, "not_json")


# Output of commands.


@pytest.fixture
def run(app: Flask) -> Run:
    """Run ``flask …`` with ``text`` on standard input."""

    def command(*words: str, text: str = "") -> click.testing.Result:
        return app.test_cli_runner().invoke(args=list(words), input=text)

    return command


@pytest.fixture
def older(app: Flask) -> Callable[[str], str]:
    """Store an account with an unchecked name, as earlier versions did; return its address."""

    def store(nombre: str) -> str:
        correo = new_correo()
        with app.app_context():
            db.session.add(User(nombre=nombre, correo=correo, password_hash="none"))
            db.session.commit()
        return correo

    return store


def printed(result: click.testing.Result) -> list[str]:
    """The output lines of a command, all plain and no traceback."""
    assert result.exception is None or isinstance(result.exception, SystemExit)
    lines = result.output.removesuffix("\n").split("\n")
    assert all(map(is_plain, lines)), ascii(result.output)
    return lines


@pytest.mark.parametrize("name", REFUSED)
def test_an_older_name_is_listed_as_plain_json(
    run: Run, older: Callable[[str], str], name: str
) -> None:
    correo = older(REFUSED[name])
    listed = [json.loads(line) for line in printed(run("users", "list"))]
    assert [one["nombre"] for one in listed if one["correo"] == correo] == [REFUSED[name]]
    [disabled] = printed(run("users", "disable", correo))
    assert json.loads(disabled)["nombre"] == REFUSED[name]


def test_a_plain_name_is_listed_unescaped(run: Run, older: Callable[[str], str]) -> None:
    older("Íñigo \u5c71\u3000👨\u200d👩\u200d👧")
    assert '"Íñigo \u5c71\u3000👨\u200d👩\u200d👧"' in run("users", "list").output


@pytest.mark.parametrize("name", ["CSI, a C1 control", "ninety-nine marks on a letter"])
def test_the_password_of_an_account_with_an_older_name_can_be_set(
    run: Run, client: FlaskClient, older: Callable[[str], str], name: str
) -> None:
    """The command does not check the name."""
    correo = older(REFUSED[name])
    words = ("users", "set-password", correo, "--password-stdin")
    assert "Too easy" in run(*words, text="contraseña123").output
    result = run(*words, text=PASSWORD)
    assert result.exit_code == 0
    printed(result)
    login = client.post("/auth/login", json={"correo": correo, "password": PASSWORD})
    assert login.status_code == 200


@pytest.mark.parametrize("name", REFUSED)
def test_an_older_subject_is_printed_as_plain_json(
    run: Run, app: Flask, person: Person, name: str
) -> None:
    token = app.extensions["TokenStore"].create(
        person.id, life_seconds=60, terms=Terms(subject=REFUSED[name])
    )
    for words in (("list", person.correo), ("show", token.id), ("revoke", token.id)):
        [line] = printed(run("tokens", *words))
        assert json.loads(line)["subject"] == REFUSED[name]


@pytest.mark.parametrize(
    "word", ["Ana\x9b2J", "Ana\u202e", "Ana\udc9b", "a\udc9b@example.com", "-\x9b", "\u2028"]
)
@pytest.mark.parametrize(
    "words",
    [
        ("users", "{}"),
        ("users", "list", "{}"),
        ("users", "disable", "{}"),
        ("users", "set-password", "{}", "--password-stdin"),
        ("users", "create", "{}", "--nombre", "Ana", "--password-stdin"),
        ("users", "create", "new@example.com", "--nombre", "{}", "--password-stdin"),
        ("users", "create", "{}", "{}"),
        ("users", "seed", "{}"),
        ("users", "seed", "--count", "{}"),
        ("users", "list", "--{}"),
        ("tokens", "{}"),
        ("tokens", "list", "{}"),
        ("tokens", "list", "ana@example.com", "--state", "{}"),
        ("tokens", "show", "{}"),
        ("tokens", "create", "{}"),
        ("tokens", "create", "ana@example.com", "--expires-in", "{}"),
    ],
    ids=" ".join,
)
def test_an_error_message_quotes_input_escaped(run: Run, words: tuple[str, ...], word: str) -> None:
    """A script over a list may pass on the text of another account."""
    result = run(*(part.format(word) for part in words), text=PASSWORD)
    assert result.exit_code in {1, 2}
    printed(result)


@pytest.mark.parametrize("option", ["--purpose", "--audience", "--subject"])
@pytest.mark.parametrize("word", ["Ana\x9b2J", "Ana\u202e", "Ana\udc9b"])
def test_a_token_of_a_command_follows_the_same_rules(
    run: Run, person: Person, option: str, word: str
) -> None:
    result = run("tokens", "create", person.correo, option, word)
    assert result.exit_code == 1
    assert option[2:] in printed(result)[-1]


@given(st.text())
def test_escaped_json_is_plain_and_reads_back_equal(text: str) -> None:
    line = escaped(json.dumps({"text": text}, ensure_ascii=False))
    assert is_plain(line)
    assert json.loads(line) == {"text": text}


def test_a_password_that_is_not_utf8_is_refused(app: Flask) -> None:
    """A password is text, though not plain text: it may hold anything that can be typed."""
    words = ["users", "create", new_correo(), "--nombre", "Ana", "--password-stdin"]
    result = app.test_cli_runner().invoke(args=words, input=b"tres tristes \xff tigres\n")
    assert result.exit_code == 1
    assert "UTF-8" in printed(result)[-1]
    # As Python reads the same bytes where the locale is C.
    escaped_bytes = account("Ana") | {"password": "tres tristes \udcff tigres"}
    with app.app_context():
        assert set(RegisterRequest().validate(escaped_bytes)) == {"password"}
