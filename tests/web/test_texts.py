"""Every code and every text of a response exists in both languages."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask
from marshmallow import Schema, fields

import tokenservice.auth.schemas
import tokenservice.token.schemas
from tests.stage.catalogue import FIELD_ERRORS, PROBLEMS
from tokenservice.onetime import errors as onetime
from tokenservice.web import problems, texts
from tokenservice.web.schemas import Response

PACKAGE = Path(texts.__file__).parents[1]
SOURCES = {
    str(path.relative_to(PACKAGE)): ast.parse(path.read_text()) for path in PACKAGE.rglob("*.py")
}
SCHEMAS = (tokenservice.auth.schemas, tokenservice.token.schemas)

# marshmallow's own fallback for a validator that returns False; since version 4 none may.
UNREACHABLE = {"validator_failed"}


def requests() -> list[type[Schema]]:
    """The schemas that read a body: all but the responses."""
    return [
        schema
        for module in SCHEMAS
        for _, schema in inspect.getmembers(module, inspect.isclass)
        if issubclass(schema, Schema) and not issubclass(schema, Response) and schema is not Schema
    ]


def texts_of(field: fields.Field) -> Iterator[str]:  # type: ignore[type-arg]
    """Every text that marshmallow can put under this field."""
    for reason, text in field.error_messages.items():
        if reason not in UNREACHABLE and (reason != "required" or field.required):
            yield str(text)
    for validator in field.validators:
        if inspect.isfunction(validator):
            continue  # It raises a text of its own, see raised_texts.
        error = getattr(validator, "error", None)
        assert error, f"{validator} would return marshmallow's English"
        yield str(error)
    inner = [getattr(field, name, None) for name in ("inner", "key_field", "value_field")]
    for part in filter(None, inner):
        yield from texts_of(part)
    if isinstance(field, fields.Nested):
        yield from texts_of_schema(type(field.schema))


def texts_of_schema(schema: type[Schema]) -> Iterator[str]:
    yield from map(str, schema().error_messages.values())
    for field in schema().fields.values():
        yield from texts_of(field)


def constant(node: ast.expr, module: str) -> str | None:
    """The text of a literal, or of a constant in this module or a sibling."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        module = f"{Path(module).parent}/{node.value.id}.py"
        name = node.attr
    elif isinstance(node, ast.Name):
        name = node.id
    else:
        return None
    for statement in SOURCES.get(module, ast.Module([], [])).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == name:
            return constant(statement.value, module)
    return None


def raised_texts() -> Iterator[tuple[str, str]]:
    """Every text in ``ValidationError(…)`` and in ``Problem(…, errors=…)``, with its place."""
    for module, tree in SOURCES.items():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            place = f"{module}:{node.lineno}"
            if node.func.id == "ValidationError":
                text = constant(node.args[0], module)
                assert text, f"{place}: write the text out, so that it can be translated"
                yield place, text
            if node.func.id == "Problem":
                for keyword in node.keywords:
                    if keyword.arg == "errors" and isinstance(keyword.value, ast.Dict):
                        for found in ast.walk(keyword.value):
                            if isinstance(found, ast.List):
                                for element in found.elts:
                                    text = constant(element, module)
                                    assert text, f"{place}: write the text out"
                                    yield place, text


def problem_codes_in_use() -> Iterator[tuple[str, str]]:
    """The first argument of every ``Problem("…")``, and all but that of ``operation("…", …)``."""
    for module, tree in SOURCES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                arguments = {"Problem": node.args[:1], "operation": node.args[1:]}.get(
                    node.func.id, []
                )
                for argument in arguments:
                    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                        yield f"{module}:{node.lineno}", argument.value


@pytest.mark.parametrize("code", PROBLEMS)
def test_a_problem_has_a_status_and_both_languages(code: str) -> None:
    message = PROBLEMS[code]
    assert re.fullmatch(r"[a-z][a-z_]*", code)
    assert 400 <= message.status < 600
    for text in (*message.es, *message.en):
        assert text == text.strip() != ""
    assert message.es != message.en
    assert message.es.detail.endswith(".")
    assert message.en.detail.endswith(".")


def test_every_code_of_the_error_handlers_has_a_text() -> None:
    chosen = {*problems.HTTP_CODES.values(), *onetime.OneTimeError.kinds, "bad_request"}
    assert chosen <= set(PROBLEMS)
    for status, code in problems.HTTP_CODES.items():
        assert PROBLEMS[code].status == status


def test_every_code_in_the_source_has_a_text() -> None:
    used = set(problem_codes_in_use())
    assert len(used) > 10, "the search above finds nothing any more"
    for place, code in used:
        assert code in PROBLEMS, place


def test_every_refusal_of_the_engine_has_a_code() -> None:
    """Red if a leaf of the tree in ``onetime/errors.py`` has none, or two share one."""

    def leaves(kind: type[onetime.OneTimeError]) -> Iterator[type[onetime.OneTimeError]]:
        if not kind.__subclasses__():
            yield kind
        for below in kind.__subclasses__():
            yield from leaves(below)

    assert set(leaves(onetime.OneTimeError)) == set(onetime.OneTimeError.kinds.values())


def test_every_text_of_a_schema_has_a_spanish_translation() -> None:
    found = {text for schema in requests() for text in texts_of_schema(schema)}
    assert len(found) > 5
    assert found - set(FIELD_ERRORS) == set()


def test_every_raised_text_has_a_spanish_translation() -> None:
    raised = set(raised_texts())
    assert len(raised) > 3, "the search above finds nothing any more"
    for place, text in raised:
        assert text in FIELD_ERRORS, place


def test_every_translation_differs_from_its_original() -> None:
    for english, spanish in FIELD_ERRORS.items():
        assert english != spanish
        assert spanish.endswith(".")


def test_errors_keep_their_shape_when_translated(app: Flask) -> None:
    tree = {"a": ["Unknown field."], 0: {"b": ["Not a valid string."]}, "c": ["…"]}
    assert texts.field_errors(tree, "en") == {
        "a": ["Unknown field."],
        "0": {"b": ["Not a valid string."]},
        "c": ["…"],
    }
    with app.app_context():
        assert texts.field_errors(tree, "es") == {
            "a": ["Campo desconocido."],
            "0": {"b": ["Debe ser un texto."]},
            "c": ["…"],
        }


def test_an_app_knows_the_texts_of_every_domain(app: Flask) -> None:
    """Guard: ``texts.register`` in the ``init_app`` of each domain."""
    with app.app_context():
        assert texts.catalogue.problems == PROBLEMS
        assert texts.catalogue.fields == FIELD_ERRORS


def test_only_the_first_of_many_errors_are_returned() -> None:
    """Guard: ``MOST_ERRORS``; without it a body of 16 KiB gets a response of 260."""
    wrong = {number: ["Not a valid string."] for number in range(5_000)}
    returned = texts.field_errors({f"n{number}": wrong for number in range(100)}, "en")
    assert list(returned) == [f"n{number}" for number in range(50)]
    assert all(list(inner) == [str(number) for number in range(50)] for inner in returned.values())


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        (None, "es"),
        ("", "es"),
        ("es", "es"),
        ("en", "en"),
        ("EN-gb", "en"),
        ("en-US,en;q=0.9,es;q=0.8", "en"),
        ("es-MX,es;q=0.9,en;q=0.8", "es"),
        ("fr", "es"),
        ("fr, en;q=0.5", "en"),
        ("*", "es"),
        ("en;q=0", "es"),
        ("en;q=nan", "es"),
        (";;;q=q,,=", "es"),
        ("x" * 5000, "es"),
    ],
)
def test_the_language_follows_accept_language(
    app: Flask, accepted: str | None, language: str
) -> None:
    headers = {} if accepted is None else {"Accept-Language": accepted}
    with app.test_request_context(headers=headers):
        app.preprocess_request()
        assert texts.language() == language


@pytest.mark.parametrize(
    ("accepted", "language"),
    [(None, "en"), ("fr", "en"), ("en;q=0", "en"), ("es-MX", "es"), ("en, es;q=0.1", "en")],
)
def test_the_setting_is_for_whoever_prefers_neither_language(
    make_app: Callable[..., Flask], accepted: str | None, language: str
) -> None:
    """Guard: ``config.language`` in ``texts.language``. A cache of another app's choice is none."""
    headers = {} if accepted is None else {"Accept-Language": accepted}
    response = make_app(language="en").test_client().get("/nowhere", headers=headers)
    assert response.headers["Content-Language"] == language
    assert response.get_json()["title"] == PROBLEMS["not_found"].text(language).title  # type: ignore[arg-type]


@pytest.mark.parametrize("language", texts.LANGUAGES)
def test_outside_of_a_request_the_language_is_the_setting(
    make_app: Callable[..., Flask], language: texts.Language
) -> None:
    with make_app(language=language).app_context():
        assert texts.language() == language
