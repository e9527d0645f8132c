"""The OpenAPI document: complete, and true to the service."""

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
OAUTH = ("/auth/token", "/auth/revoke")

#: Calls that take a POST without a body.
BODILESS = {"/auth/logout", "/auth/logout-all"}


@pytest.fixture(scope="module")
def spec(app: Flask) -> dict[str, Any]:
    found: dict[str, Any] = app.test_client().get("/openapi.json").get_json()
    return found


def operations(spec: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (method, path, each)
        for path, methods in spec["paths"].items()
        for method, each in methods.items()
        if method != "parameters"  # Shared by the methods of one path.
    ]


def references(value: Any) -> Iterator[str]:
    """Every ``$ref`` inside, at any depth."""
    if isinstance(value, dict) and "$ref" in value:
        yield value["$ref"]
    for inner in value.values() if isinstance(value, dict) else value:
        if isinstance(inner, dict | list):
            yield from references(inner)


def test_spec_is_complete(spec: dict[str, Any]) -> None:
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
        takes_body = method == "post" and path not in BODILESS
        bodies = [operation["requestBody"]] if takes_body else []
        for status, response in operation["responses"].items():
            assert response["description"], (path, status)
            bodies += [response] if status != "204" else []
        for body in bodies:
            assert body["content"], path
            assert all(media["schema"] for media in body["content"].values()), path


def test_spec_names_the_scope_of_each_call_that_takes_a_key(spec: dict[str, Any]) -> None:
    """And no key at the calls for people."""
    needs = {path: each.get("security") for _, path, each in operations(spec)}
    assert needs["/token/create"] == [{"bearer": []}, {"service_key": ["token:create"]}]
    assert needs["/auth/me"] == [{"bearer": []}]
    assert needs["/auth/login"] is None


def patterns(value: Any) -> Iterator[str]:
    """Every regular expression inside, at any depth."""
    for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
        if name == "pattern" and isinstance(inner, str):
            yield inner
        elif isinstance(inner, dict | list):
            yield from patterns(inner)


def test_spec_uses_the_regular_expressions_of_javascript(spec: dict[str, Any]) -> None:
    r"""They search anywhere in a text, and ``\Z`` is a letter. Guard: ``fields.matching``."""
    found = set(patterns(spec))
    assert len(found) >= 4
    for pattern in found:
        assert pattern.startswith("^"), pattern
        assert pattern.endswith("$"), pattern
        assert not re.search(r"\\[AZz]|\(\?P", pattern), pattern


def test_spec_allows_empty_parameters(
    client: FlaskClient, person: Person, spec: dict[str, Any]
) -> None:
    parameters = spec["paths"]["/token"]["get"]["parameters"]
    for parameter in parameters:
        assert parameter["allowEmptyValue"]
        response = client.get(f"/token?{parameter['name']}=", headers=person.headers)
        assert response.status_code == 200


def test_spec_describes_every_route_of_the_api(app: Flask, spec: dict[str, Any]) -> None:
    """A view outside the blueprints of flask-smorest would be missing here."""
    routed = {
        (method.lower(), re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        if rule.endpoint.startswith(("auth.", "token.", "lease."))
        for method in (rule.methods or set()) - {"OPTIONS", "HEAD"}
    }
    assert routed == {(method, path) for method, path, _ in operations(spec)}


def test_spec_describes_every_problem_as_returned(spec: dict[str, Any]) -> None:
    for _, path, operation in operations(spec):
        for status, response in operation["responses"].items():
            # OAuth 2 has errors of its own.
            if int(status) < 400 or (path in OAUTH and status in ("400", "401")):
                continue
            assert [*response["content"]] == [PROBLEM], (path, status)
            examples = response["content"][PROBLEM]["examples"]
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
    "not a key": {"headers": {"Authorization": "Bearer osk_x"}},
    "an old JWT": {},
}


@pytest.mark.parametrize("kind", BAD_REQUESTS)
def test_spec_describes_the_responses_to_bad_requests(
    app: Flask, client: FlaskClient, person: Person, spec: dict[str, Any], kind: str
) -> None:
    """Every refusal that a client can provoke is described at its operation."""
    headers = person.headers
    if kind == "an old JWT":
        with app.app_context():
            old = create_access_token(person.id, expires_delta=datetime.timedelta(hours=-1))
        headers = {"Authorization": f"Bearer {old}"}
    missing = []
    for method, path, operation in operations(spec):
        if path in OAUTH:
            continue
        sent = {"headers": headers, **BAD_REQUESTS[kind]}
        response = client.open(re.sub(r"{\w+}", "x" * 18, path), method=method.upper(), **sent)
        if response.status_code >= 400:
            described = operation["responses"].get(str(response.status_code))
            code = response.get_json()["code"]
            if not described or code not in described["content"][PROBLEM]["examples"]:
                missing.append(f"{method} {path}: {response.status_code} {code}")
    assert not missing
