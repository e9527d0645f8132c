"""The OpenAPI document: whole, and true of what the service does."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_jwt_extended import create_access_token

from tests.stage.catalogue import PROBLEMS
from tests.stage.people import Person

PROBLEM = "application/problem+json"


@pytest.fixture(scope="module")
def spec(app: Flask) -> dict[str, Any]:
    found: dict[str, Any] = app.test_client().get("/openapi.json").get_json()
    return found


def operations(spec: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (method, path, each)
        for path, ways in spec["paths"].items()
        for method, each in ways.items()
        if method != "parameters"  # What the ways of one path share.
    ]


def references(value: Any) -> Iterator[str]:
    """Every ``$ref`` inside, at any depth."""
    if isinstance(value, dict) and "$ref" in value:
        yield value["$ref"]
    for inner in value.values() if isinstance(value, dict) else value:
        if isinstance(inner, dict | list):
            yield from references(inner)


def test_spec_is_whole(spec: dict[str, Any]) -> None:
    """OpenAPI 3.1: references resolve, operations are named, every body has a schema."""
    assert spec["openapi"].startswith("3.1.")
    assert spec["info"]["title"]
    assert spec["info"]["version"]
    for reference in references(spec):
        target = spec
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]
    names = [operation["operationId"] for _, _, operation in operations(spec)]
    assert len(names) == len(set(names))
    for method, path, operation in operations(spec):
        assert operation["summary"], path
        for need in operation.get("security", []):
            assert need.keys() <= spec["components"]["securitySchemes"].keys()
        bodies = [operation["requestBody"]] if method == "post" else []
        for status, answer in operation["responses"].items():
            assert answer["description"], (path, status)
            bodies += [answer] if status != "204" else []
        for body in bodies:
            assert body["content"], path
            assert all(media["schema"] for media in body["content"].values()), path


def patterns(value: Any) -> Iterator[str]:
    """Every regular expression inside, at any depth."""
    for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
        if name == "pattern" and isinstance(inner, str):
            yield inner
        elif isinstance(inner, dict | list):
            yield from patterns(inner)


def test_spec_speaks_the_regular_expressions_of_javascript(spec: dict[str, Any]) -> None:
    r"""They look anywhere in a text, and ``\Z`` is a letter to them. Guard: ``fields.matching``."""
    found = set(patterns(spec))
    assert len(found) >= 4
    for pattern in found:
        assert pattern.startswith("^"), pattern
        assert pattern.endswith("$"), pattern
        assert not re.search(r"\\[AZz]|\(\?P", pattern), pattern


def test_spec_says_that_a_parameter_may_be_empty(
    client: FlaskClient, person: Person, spec: dict[str, Any]
) -> None:
    parameters = spec["paths"]["/token"]["get"]["parameters"]
    for parameter in parameters:
        assert parameter["allowEmptyValue"]
        answer = client.get(f"/token?{parameter['name']}=", headers=person.headers)
        assert answer.status_code == 200


def test_spec_describes_every_route_of_the_api(app: Flask, spec: dict[str, Any]) -> None:
    """A view that is left out of the blueprints of flask-smorest would be missing here."""
    routed = {
        (method.lower(), re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        if rule.endpoint.startswith(("auth.", "token.", "lease."))
        for method in (rule.methods or set()) - {"OPTIONS", "HEAD"}
    }
    assert routed == {(method, path) for method, path, _ in operations(spec)}


def test_spec_gives_every_problem_as_the_service_answers_it(spec: dict[str, Any]) -> None:
    for _, path, operation in operations(spec):
        for status, answer in operation["responses"].items():
            if int(status) < 400:
                continue
            assert [*answer["content"]] == [PROBLEM], (path, status)
            examples = answer["content"][PROBLEM]["examples"]
            assert examples, (path, status)
            for code, example in examples.items():
                value = example["value"]
                assert value["code"] == code
                assert value["status"] == int(status)
                usual = 400 if status == "414" else int(status)
                assert PROBLEMS[code].status == usual
                assert value["type"] == f"/problems/{code}"


BAD_REQUESTS: dict[str, dict[str, Any]] = {
    "not JSON": {"data": "{", "content_type": "application/json"},
    "another media type": {"data": "a", "content_type": "text/plain"},
    "too large": {"data": "1" * 20_000, "content_type": "application/json"},
    "unknown field": {"json": {"unknown": 1}},
    "not signed in": {"headers": {}},
    "not a JWT": {"headers": {"Authorization": "Bearer x"}},
    "an old JWT": {},
}


@pytest.mark.parametrize("kind", BAD_REQUESTS)
def test_spec_holds_what_bad_requests_are_answered(
    app: Flask, client: FlaskClient, person: Person, spec: dict[str, Any], kind: str
) -> None:
    """Every refusal that anyone can provoke stands in the description of its operation."""
    headers = person.headers
    if kind == "an old JWT":
        with app.app_context():
            old = create_access_token(person.id, expires_delta=datetime.timedelta(hours=-1))
        headers = {"Authorization": f"Bearer {old}"}
    missing = []
    for method, path, operation in operations(spec):
        sent = {"headers": headers, **BAD_REQUESTS[kind]}
        answer = client.open(re.sub(r"{\w+}", "x" * 18, path), method=method.upper(), **sent)
        if answer.status_code >= 400:
            described = operation["responses"].get(str(answer.status_code))
            code = answer.get_json()["code"]
            if not described or code not in described["content"][PROBLEM]["examples"]:
                missing.append(f"{method} {path}: {answer.status_code} {code}")
    assert not missing
