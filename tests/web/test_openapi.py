"""The OpenAPI document: complete, and true to the service."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_jwt_extended import create_access_token

from tests.stage.catalogue import PROBLEMS
from tests.stage.people import Person

PROBLEM = "application/problem+json"
OAUTH = ("/auth/token", "/auth/revoke")

#: Pages and their files, which no program reads.
FOR_READERS = {"ops.home", "ops.docs", "ops.docs_asset"}
#: Calls that take a POST without a body.
BODILESS = {"/auth/logout", "/auth/logout-all", "/token/gate"}


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
    assert re.fullmatch(r"\d+\.\d+\.\d+", spec["info"]["version"])
    assert spec["info"].keys() >= {"title", "description", "license", "contact"}
    assert spec["servers"] == [{"url": "/"}]
    for reference in references(spec):
        target = spec
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]
    names = [operation["operationId"] for _, _, operation in operations(spec)]
    assert len(names) == len(set(names))
    for method, path, operation in operations(spec):
        assert operation["summary"], path
        assert operation["description"], path
        for need in operation["security"]:
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
    person = [{"bearer": []}, {"password": []}]
    assert needs["/token/create"] == [*person, {"service_key": ["token:create"]}]
    assert needs["/auth/me"] == person
    assert needs["/auth/login"] == needs["/healthz"] == []


def test_spec_begins_with_what_the_service_is_for(spec: dict[str, Any]) -> None:
    first = [path.split("/")[-1] for path in spec["paths"]][:5]
    assert first == ["register", "login", "create", "consume", "validate"]
    calls = operations(spec)
    starting = [each["operationId"] for _, _, each in calls if "start" in each["tags"]]
    assert starting == ["register", "login", "createToken", "consumeToken"]
    tags = [tag["name"] for tag in spec["tags"]]
    assert tags == ["start", "auth", "token", "lease", "gate", "ops"]
    assert all(tag["description"] for tag in spec["tags"])
    # Generators name a module by the first tag of a call, and that stays.
    assert {each["tags"][0] for _, _, each in calls} == {*tags[1:]}


def test_spec_says_which_members_a_response_has(spec: dict[str, Any]) -> None:
    """Guard: ``Response.on_bind_field``. Without it a generated client checks each for absence."""
    schemas = spec["components"]["schemas"]
    lacking = {
        name: set(schema["properties"]) - set(schema.get("required", ()))
        for name, schema in schemas.items()
        if name.endswith("Response")
    }
    assert len(lacking) > 15
    assert lacking.pop("LoginResponse") == {"refresh_token"}
    assert "active" not in lacking.pop("IntrospectResponse")
    assert not {name for name, members in lacking.items() if members}
    for data in ("CreateTokenRequest", "ValidateResponse", "ReserveResponse"):
        assert schemas[data]["properties"]["data"]["additionalProperties"] is True


def test_spec_has_the_codes_of_all_problems_and_their_members(spec: dict[str, Any]) -> None:
    """That a response has no other is checked wherever a test reads one, by ``problem_in``."""
    problem = spec["components"]["schemas"]["Problem"]
    assert problem["properties"]["code"]["enum"] == sorted(PROBLEMS)
    base = {"type", "title", "status", "detail", "code", "request_id"}
    assert set(problem["required"]) == base
    own = {name for message in PROBLEMS.values() for name in message.members}
    assert own == {"field", "consumed_at", "checks", "max_active"}
    assert problem["properties"].keys() == base | own | {"errors"}
    for name in own:
        codes = [code for code in PROBLEMS if name in PROBLEMS[code].members]
        assert all(f"`{code}`" in problem["properties"][name]["description"] for code in codes)


def test_spec_describes_the_headers_that_come(
    client: FlaskClient, person: Person, spec: dict[str, Any]
) -> None:
    known = spec["components"]["headers"]
    for _, path, operation in operations(spec):
        for status, response in operation["responses"].items():
            names = set(response["headers"])
            assert "X-Request-ID" in names, path
            for name, header in response["headers"].items():
                assert header.get("description") or known[name]["description"], (path, name)
            assert ("Retry-After" in names) == (status in ("429", "503")), (path, status)
    created = client.post("/token/create", headers=person.headers)
    described = spec["paths"]["/token/create"]["post"]["responses"]["201"]["headers"]
    assert described.keys() - {"RateLimit", "RateLimit-Policy"} <= set(created.headers.keys())
    refused = client.post("/token/create")
    described = spec["paths"]["/token/create"]["post"]["responses"]["401"]["headers"]
    assert "WWW-Authenticate" in described
    assert "WWW-Authenticate" in refused.headers


def examples(operation: dict[str, Any]) -> dict[str, Any]:
    """The examples of the body of an operation, by name."""
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    return {name: example["value"] for name, example in body.get("examples", {}).items()}


def test_examples_work_one_after_the_other(make_app: Callable[..., Flask]) -> None:
    """Register, log in, create, consume: with what the page fills in, but for the token."""
    http = make_app().test_client()
    paths = http.get("/openapi.json").get_json()["paths"]

    def press(path: str, name: str, status: int, **other: str) -> dict[str, Any]:
        body = examples(paths[path]["post"])[name] | other
        response = http.post(path, json=body, headers=headers)
        assert response.status_code == status, response.text
        found: dict[str, Any] = response.get_json(silent=True) or {}
        return found

    headers: dict[str, str] = {}
    account = examples(paths["/auth/register"]["post"])["smallest"]
    assert http.post("/auth/register", json=account).status_code in (201, 409)
    headers["Authorization"] = f"Bearer {press('/auth/login', 'smallest', 200)['access_token']}"
    for name in ("smallest", "bound"):
        token = press("/token/create", name, 201)["token"]
        assert press("/token/introspect", "smallest", 200, token=token)["active"]
        press("/token/consume", name, 200, token=token)
        for path in ("/token/batch", "/auth/keys"):
            press(path, name, 201)
        press("/token/reserve", name, 200, token=press("/token/create", name, 201)["token"])
    press("/token/revoke", "smallest", 204, token=press("/token/create", "smallest", 201)["token"])
    press("/token/revoke-all", "smallest", 204)


def test_no_example_leaves_out_the_purpose_or_the_issuer(spec: dict[str, Any]) -> None:
    """Else a token would be good for anything, and from anyone."""
    seen = 0
    for _, path, operation in operations(spec):
        for example in examples(operation).values():
            if path in ("/token/create", "/token/batch", "/token/consume", "/token/validate"):
                assert example["purpose"], path
                seen += 1
            if path in ("/token/consume", "/token/validate", "/token/reserve"):
                assert example["issued_by"], path
    assert seen == 8


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
        if rule.endpoint.startswith(("auth.", "token.", "lease.", "gate.", "ops."))
        and rule.endpoint not in FOR_READERS
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
                assert PROBLEMS[code].status == usual or path == "/token/gate"
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
