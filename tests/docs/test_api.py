"""docs/api.md: endpoints, fields, errors and limits are those of the code, in both languages."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

import pytest
from flask import Flask

from config import Config
from tests.docs.pages import (
    CODE,
    IN_ENGLISH,
    TWINS,
    Table,
    blocks,
    either_language,
    prose,
    read,
    table,
)
from tests.stage.catalogue import PROBLEMS
from tokenservice.auth import login_limits
from tokenservice.auth.rights import SCOPES
from tokenservice.onetime.errors import OneTimeError
from tokenservice.token.sandbox import RESERVATIONS, TOKENS
from tokenservice.web import texts

PAGE = "docs/api.md"


@pytest.fixture(scope="module")
def document(app: Flask) -> dict[str, Any]:
    """The OpenAPI document, which is made from the schemas of the views."""
    return json.loads(app.test_client().get("/openapi.json").text)  # type: ignore[no-any-return]


def members(document: dict[str, Any], content: dict[str, Any]) -> set[str]:
    """The names of the members of a JSON body, given its ``content`` in the document."""
    reference = content["application/json"]["schema"]["$ref"]
    return set(document["components"]["schemas"][reference.rpartition("/")[2]]["properties"])


def request_members(document: dict[str, Any], call: str) -> set[str]:
    """The members that the request of a call may have."""
    method, path = call.split()
    return members(document, document["paths"][path][method.lower()]["requestBody"]["content"])


def response_members(document: dict[str, Any], call: str) -> set[str]:
    """The members that the successful response of a call has."""
    method, path = call.split()
    responses = document["paths"][path][method.lower()]["responses"]
    [success] = [response for status, response in responses.items() if status in ("200", "201")]
    return members(document, success["content"])


@either_language(PAGE)
def test_endpoints_are_those_of_the_app(page: str, app: Flask) -> None:
    """A route that is added, renamed or dropped turns this red."""
    routes = {
        f"{method} " + re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.endpoint not in {"static", "ops.docs_asset"}  # files of the page /docs
    }
    assert set(re.findall(r"`((?:GET|POST|PUT|PATCH|DELETE) /[^`]*)`", read(page))) == routes


def codes(rows: Table) -> list[str]:
    """The codes of a table of problems, each beside the status that the service gives it."""
    listed = []
    for statuses, named, *_ in rows:
        actual = {PROBLEMS[code].status for code in CODE.findall(named)}
        assert actual == {int(status) for status in statuses.split(",")}
        listed += CODE.findall(named)
    return listed


@either_language(PAGE)
def test_error_codes_are_those_of_the_service(page: str) -> None:
    """A problem that is added, dropped or given another status in a problems.py turns this red."""
    of_tokens = codes(table(read(page), "`token_not_for_caller`"))
    others = codes(table(read(page), "`bad_request`"))
    assert sorted(of_tokens) == sorted(OneTimeError.kinds)
    assert sorted(of_tokens + others) == sorted(PROBLEMS)


@either_language(PAGE)
def test_fields_of_a_new_token_or_key_are_those_of_the_schema(
    page: str, document: dict[str, Any]
) -> None:
    """A field that is added to the request of create or of a key, or dropped, turns this red."""
    for first, call in (("`expires_in`", "POST /token/create"), ("`name`", "POST /auth/keys")):
        listed = [name for row in table(read(page), first) for name in CODE.findall(row[0])]
        assert sorted(listed) == sorted(request_members(document, call))


#: The calls with members in braces beside them, and the source of the members in each pair.
BRACES = {
    "POST /token/create": [response_members],
    "POST /token/batch": [None, response_members],
    "POST /token/consume": [request_members, response_members],
    "POST /token/commit": [request_members],
    "GET /token/{token_id}": [response_members],
    "GET /token": [response_members],
    "POST /auth/register": [request_members, response_members],
    "POST /auth/login": [request_members, response_members],
    "POST /auth/keys": [request_members, response_members],
    "GET /auth/keys": [response_members],
    "POST /auth/token": [response_members],
}


@either_language(PAGE)
def test_members_in_braces_are_those_of_the_schemas(page: str, document: dict[str, Any]) -> None:
    """A member that a request or a response gains or loses in the schemas turns this red."""
    rows = {
        CODE.findall(calls)[0]: cell
        for calls, _, cell in table(read(page), "`POST /auth/register`")
    }
    for call, expected in BRACES.items():
        written = re.findall(r"`\{([^{}`]+)\}`", rows[call])
        assert len(written) == len(expected), call
        for text, which in zip(written, expected, strict=True):
            if which:
                names = re.findall(r"[a-z_]+", text)
                assert sorted(names) == sorted(which(document, call)), call


@either_language(PAGE)
def test_calls_that_take_an_idempotency_key_are_named(page: str, document: dict[str, Any]) -> None:
    """A call whose description gains or loses the header turns this red."""
    [sentence] = [line for line in read(page).splitlines() if line.startswith("Create, batch")]
    paths = document["paths"]
    taking = {
        path.rpartition("/")[2]
        for path, item in paths.items()
        for method, operation in item.items()
        if method != "parameters"
        for parameter in operation.get("parameters", [])
        if parameter.get("name") == "Idempotency-Key"
    }
    named = set(re.findall(r"[a-z]+", sentence.partition("`Idempotency-Key`")[0].lower()))
    verbs = {path.rpartition("/")[2] for path in paths if path.startswith("/token/")}
    # A reset stands beside sessions.
    assert taking - verbs == {"reset"}
    assert named & verbs == taking & verbs


@either_language(PAGE)
def test_scopes_and_their_calls_are_those_of_the_plans(page: str, app: Flask) -> None:
    """A scope that is added, dropped or given to another call turns this red."""
    rows = table(read(page), "`token:create`")
    assert [CODE.findall(scope)[0] for scope, _ in rows] == [*SCOPES]
    counts = Counter(view.scope for view in app.view_functions.values() if hasattr(view, "scope"))
    assert {CODE.findall(scope)[0]: calls.count(",") + 1 for scope, calls in rows} == counts


@either_language(PAGE)
def test_fixed_tokens_are_those_of_the_sandbox(page: str) -> None:
    """One that is added to the sandbox, or dropped, turns this red."""
    rows = table(read(page), "`ott_sandbox_good`")
    assert [CODE.findall(row[0])[0] for row in rows] == [*TOKENS]
    assert set(re.findall(r"otr_sandbox_\w+", read(page))) == {*RESERVATIONS}
    for row in rows:
        assert set(CODE.findall(row[1])) & {*PROBLEMS} or TOKENS[row[0].strip("`")] == "good"


@either_language(PAGE)
def test_states_are_those_of_the_engine(page: str, document: dict[str, Any]) -> None:
    [sentence] = [line for line in prose(read(page)).splitlines() if "`state` " in line]
    [state] = [
        parameter["schema"]
        for parameter in document["paths"]["/token"]["get"]["parameters"]
        if parameter["name"] == "state"
    ]
    assert set(state["enum"]) <= set(CODE.findall(sentence))


@pytest.mark.parametrize("language", texts.LANGUAGES)
def test_example_of_an_error_is_the_text_of_the_service(language: texts.Language) -> None:
    [example] = blocks(read(PAGE if language == "en" else TWINS[PAGE]), "json")
    problem = json.loads(example)
    code = problem["code"]
    assert problem["type"] == f"/problems/{code}"
    assert problem["status"] == PROBLEMS[code].status
    assert (problem["title"], problem["detail"]) == PROBLEMS[code].text(language)


@either_language(PAGE)
def test_limits_are_those_of_the_code(page: str) -> None:
    """A default of config.py or a constant of login_limits.py that changes turns this red."""
    rates = {
        **{
            name: getattr(Config, f"rate_limit_{name}")
            for name in ("register", "login", "create", "validate")
        },
        "login-address": login_limits.BY_ADDRESS,
        "login-network": login_limits.FAILURES_BY_NETWORK,
        "login-correo": login_limits.FAILURES_BY_CORREO,
    }
    listed = {}
    for name, rate, _ in table(read(page), "`register`"):
        amount, unit = re.fullmatch(r"(\d+) .*?(?:per|por) (\w+).*", rate).groups()  # type: ignore[union-attr]
        listed[name.strip("`")] = f"{amount} per {IN_ENGLISH.get(unit, unit)}"
    assert listed == rates
