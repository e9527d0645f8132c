"""Problems: one shape for every error, no secret in it, and no 5xx for bad input."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.stage.catalogue import PROBLEMS
from tests.stage.people import Person
from tests.stage.problems import problem_in
from tests.stage.routes import body_routes, methods
from tokenservice.web import texts

CANARY = "canary7f3a"


def test_a_problem_names_each_wrong_field(client: FlaskClient) -> None:
    response = client.post(
        "/auth/register",
        json={"nombre": "", "correo": "nobody", "admin": True},
        headers={"Accept-Language": "en"},
    )
    assert problem_in(response, 422, "validation_failed")["errors"] == {
        "nombre": ["Takes 1 to 100 characters."],
        "correo": ["Not an e-mail address."],
        "password": ["Missing data for required field."],
        "admin": ["Unknown field."],
    }


@pytest.mark.parametrize(
    ("accepted", "language", "detail"),
    [
        ({}, "es", "No hay nada en esta dirección."),
        ({"Accept-Language": "es-MX"}, "es", "No hay nada en esta dirección."),
        ({"Accept-Language": "en"}, "en", "There is nothing at this address."),
        ({"Accept-Language": "de"}, "es", "No hay nada en esta dirección."),
    ],
)
def test_a_problem_is_in_the_language_of_the_client(
    client: FlaskClient, accepted: dict[str, str], language: str, detail: str
) -> None:
    response = client.get("/nowhere", headers=accepted)
    assert problem_in(response, 404, "not_found")["detail"] == detail
    assert response.headers["Content-Language"] == language
    assert detail in response.text, "letters are not escaped"


@pytest.mark.parametrize("language", texts.LANGUAGES)
@pytest.mark.parametrize("code", PROBLEMS)
def test_the_type_of_every_problem_resolves(
    client: FlaskClient, code: str, language: texts.Language
) -> None:
    response = client.get(f"/problems/{code}", headers={"Accept-Language": language})
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/html")
    title, _ = PROBLEMS[code].text(language)
    assert title in response.text
    assert code in response.text


@pytest.mark.parametrize(
    "path",
    [
        "/nowhere",
        "/auth/login/",
        "/auth/../auth/nowhere",
        "/problems/nothing",
        "/problems/<script>",
        "/docs/assets/%00",
        "/docs/assets/..%2f..%2fsetup.cfg",
        "/docs/assets/" + "x" * 4_000,
        "/%ED%A0%80",
        "/console",
        "/.git/config",
        "/.env",
        "/token/validate?token=" + CANARY,
    ],
)
def test_an_unknown_path_is_a_problem(client: FlaskClient, path: str) -> None:
    """S33, S53, S60: no secret in a URL, no debugger, no files of the service."""
    response = client.get(path)
    problem_in(response)
    assert response.status_code in {404, 405}
    assert CANARY not in response.text


def test_the_debuggers_commands_do_nothing(client: FlaskClient) -> None:
    plain = client.get("/healthz")
    debugged = client.get("/healthz?__debugger__=yes&cmd=resource&f=debugger.js")
    assert debugged.data == plain.data


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "TRACE", "NONSENSE"])
def test_a_wrong_method_gets_a_405_with_the_allowed_ones(app: Flask, method: str) -> None:
    """S40. Red if an error handler drops the exception's own headers."""
    for path in body_routes(app):
        if method in methods(app, path):
            continue
        response = app.test_client().open(path, method=method)
        assert response.status_code == 405
        assert "POST" in response.headers["Allow"]
        if method != "HEAD":
            problem_in(response, 405, "method_not_allowed")


def test_options_needs_no_caller_and_returns_the_allowed_methods(app: Flask) -> None:
    for path in body_routes(app):
        response = app.test_client().options(path)
        assert response.status_code == 200
        assert "POST" in response.headers["Allow"]


def test_an_unexpected_exception_reveals_nothing(
    make_app: Callable[..., Flask], person: Person
) -> None:
    """S53, S54. Red without the handler of ``Exception``, the last resort."""
    service = make_app()

    @service.route("/explode")
    def explode() -> None:
        raise RuntimeError(CANARY)

    response = service.test_client().get("/explode", headers=person.headers)
    problem_in(response, 500, "internal_error")
    assert CANARY not in response.text
    assert "RuntimeError" not in response.text
