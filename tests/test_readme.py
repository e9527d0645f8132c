"""The READMEs say what the code does, in both languages, and their tour works as it is pasted."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
import urllib.parse
from pathlib import Path
from typing import Any

import click
import pytest
from flask import Flask
from marshmallow import Schema

from config import REDIS_SCHEMES, Config
from tests.conftest import ROOT, Service, needs, new_correo
from tests.stage.catalogue import PROBLEMS
from tokenservice.auth import login_limits
from tokenservice.auth.schemas import AccountResponse, LoginRequest, LoginResponse, RegisterRequest
from tokenservice.onetime.errors import OneTimeError
from tokenservice.token.schemas import (
    STATES,
    CreateTokenRequest,
    CreateTokenResponse,
    CreateTokensResponse,
    ListResponse,
    ReceiptResponse,
    ReservationRequest,
    ValidateRequest,
    ValidateResponse,
)
from tokenservice.web import texts

ENGLISH = (ROOT / "README.md").read_text(encoding="utf-8")
SPANISH = (ROOT / "README.es.md").read_text(encoding="utf-8")
READMES = {"README.md": ENGLISH, "README.es.md": SPANISH}
PAGES = sorted(
    str(path.relative_to(ROOT))
    for pages in ("*.md", "docs/*.md", "benchmarks/*.md")
    for path in ROOT.glob(pages)
)

FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)
TABLE = re.compile(r"(?:^\|.*\|\n)+", re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`]+)`")
Table = list[list[str]]

IN_ENGLISH = {"obligatoria": "required", "ninguno": "none", "minuto": "minute", "hora": "hour"}
either_language = pytest.mark.parametrize("readme", READMES.values(), ids=READMES.keys())


def prose(text: str) -> str:
    """All but the code blocks, whose # is no heading and whose | is no table."""
    return FENCED.sub("", text)


def tables(text: str) -> list[Table]:
    """The tables, each as its rows of cells, without the line under the header."""
    found = []
    for table in TABLE.findall(prose(text)):
        rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in table.splitlines()]
        found.append([rows[0], *rows[2:]])
    return found


def table(text: str, first: str) -> Table:
    """The rows of the one table in whose first row ``first`` stands."""
    [rows] = [rows for rows in tables(text) if first in rows[1][0] + rows[1][1]]
    return rows[1:]


def shown(default: Any) -> str:
    """How the tables write the default of a setting."""
    if default is dataclasses.MISSING:
        return "required"
    if default is None or default == ():
        return "none"
    return "true" if default is True else "false" if default is False else str(default)


@either_language
def test_settings_are_those_of_config(readme: str) -> None:
    """A setting that is added, dropped or given another default in config.py turns this red."""
    listed = []
    for names, defaults, _ in table(readme, "`app_name`"):
        values = CODE.findall(defaults) or [IN_ENGLISH.get(defaults, defaults)]
        listed += list(zip(CODE.findall(names), values, strict=True))
    fields = {field.name: shown(field.default) for field in dataclasses.fields(Config)}
    assert len(listed) == len(fields)
    assert dict(listed) == fields


@either_language
def test_endpoints_are_those_of_the_app(readme: str, app: Flask) -> None:
    """A route that is added, renamed or dropped turns this red."""
    routes = {
        f"{method} " + re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.endpoint not in {"static", "ops.docs_asset"}  # files of the page /docs
    }
    assert set(re.findall(r"`((?:GET|POST|PUT|PATCH|DELETE) /[^`]*)`", readme)) == routes


def codes(rows: Table) -> list[str]:
    """The codes of a table of problems, each beside the status that the service gives it."""
    listed = []
    for statuses, named, *_ in rows:
        actual = {PROBLEMS[code].status for code in CODE.findall(named)}
        assert actual == {int(status) for status in statuses.split(",")}
        listed += CODE.findall(named)
    return listed


@either_language
def test_error_codes_are_those_of_the_service(readme: str) -> None:
    """A problem that is added, dropped or given another status in texts.py turns this red."""
    of_tokens = codes(table(readme, "`token_not_for_caller`"))
    others = codes(table(readme, "`bad_request`"))
    assert sorted(of_tokens) == sorted(OneTimeError.kinds)
    assert sorted(of_tokens + others) == sorted(PROBLEMS)


@either_language
def test_fields_of_a_new_token_are_those_of_the_schema(readme: str) -> None:
    """A field that is added to NewToken, or dropped, turns this red."""
    listed = [name for row in table(readme, "`expires_in`") for name in CODE.findall(row[0])]
    assert sorted(listed) == sorted(CreateTokenRequest().fields)


#: Bodies and answers, by the call beside which the READMEs write their members in braces.
SHAPES: dict[str, list[type[Schema] | None]] = {
    "POST /token/create": [CreateTokenResponse],
    "POST /token/batch": [None, CreateTokensResponse],
    "POST /token/validate": [ValidateRequest, ValidateResponse],
    "POST /token/commit": [ReservationRequest],
    "GET /token/{token_id}": [ReceiptResponse],
    "GET /token": [ListResponse],
    "POST /auth/register": [RegisterRequest, AccountResponse],
    "POST /auth/login": [LoginRequest, LoginResponse],
}


@either_language
def test_members_in_braces_are_those_of_the_schemas(readme: str) -> None:
    """A member that an answer gains or loses in schemas.py turns this red."""
    rows = {
        CODE.findall(calls)[0]: cell for calls, _, cell in table(readme, "`POST /auth/register`")
    }
    for call, expected in SHAPES.items():
        written = re.findall(r"`\{([^{}`]+)\}`", rows[call])
        assert len(written) == len(expected), call
        for members, schema in zip(written, expected, strict=True):
            if schema:
                names = re.findall(r"[a-z_]+", members)
                assert sorted(names) == sorted(schema().fields), call


@either_language
def test_calls_that_take_an_idempotency_key_are_named(readme: str, app: Flask) -> None:
    """A call whose description gains or loses the header turns this red."""
    [told] = [line for line in readme.splitlines() if line.startswith("Create, batch")]
    paths = json.loads(app.extensions["Document"].json)["paths"]
    taking = {
        path.rpartition("/")[2]
        for path, item in paths.items()
        for method, operation in item.items()
        if method != "parameters"
        for parameter in operation.get("parameters", [])
        if parameter.get("name") == "Idempotency-Key"
    }
    named = set(re.findall(r"[a-z]+", told.partition("`Idempotency-Key`")[0].lower()))
    verbs = {path.rpartition("/")[2] for path in paths if path.startswith("/token/")}
    assert named & verbs == taking


@either_language
def test_states_are_those_of_the_engine(readme: str) -> None:
    [told] = [line for line in prose(readme).splitlines() if "`state` " in line]
    assert set(STATES) <= set(CODE.findall(told))


@either_language
def test_addresses_of_redis_are_those_that_config_takes(readme: str) -> None:
    """A scheme that is added to REDIS_SCHEMES, or dropped, turns this red."""
    addresses = [row[0] for row in table(readme, "`redis://…`")]
    assert set(re.findall(r"`([a-z+]+)://", " ".join(addresses))) == REDIS_SCHEMES


@pytest.mark.parametrize("language", texts.LANGUAGES)
def test_example_of_an_error_is_the_text_of_the_service(language: texts.Language) -> None:
    [(_, example)] = [
        block
        for block in FENCED.findall(ENGLISH if language == "en" else SPANISH)
        if block[0] == "json"
    ]
    problem = json.loads(example)
    code = problem["code"]
    assert problem["type"] == f"/problems/{code}"
    assert problem["status"] == PROBLEMS[code].status
    assert (problem["title"], problem["detail"]) == PROBLEMS[code].text(language)


@either_language
def test_limits_are_those_of_the_code(readme: str) -> None:
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
    for name, rate, _ in table(readme, "`register`"):
        amount, unit = re.fullmatch(r"(\d+) .*?(?:per|por) (\w+).*", rate).groups()  # type: ignore[union-attr]
        listed[name.strip("`")] = f"{amount} per {IN_ENGLISH.get(unit, unit)}"
    assert listed == rates


@either_language
def test_commands_exist(readme: str, app: Flask) -> None:
    """A command or option that is added to our groups, or dropped, turns this red."""
    written = " ".join(f"{called} {text}" for called, text in table(readme, "`flask db upgrade`"))
    known: set[str] = set()
    for name in ("users", "tokens"):
        group = app.cli.commands[name]
        assert isinstance(group, click.Group)
        assert set(re.findall(rf"flask {name} ([a-z-]+)[ `]", written)) == set(group.commands)
        for command in group.commands.values():
            known.update(*(parameter.opts for parameter in command.params))
    assert set(re.findall(r"--[a-z-]+", written)) <= known
    targets = set(re.findall(r"^([.a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make ([.a-z]+)", readme, re.MULTILINE)) <= targets


@either_language
def test_map_names_the_rooms_that_there_are(readme: str) -> None:
    """A room that is added, renamed or dropped turns this red."""
    [(_, drawn)] = [block for block in FENCED.findall(readme) if block[0] == "text"]
    folders: list[str] = []
    rooms = set()
    for indent, folder in re.findall(r"^( *)(\w+)/", drawn, re.MULTILINE):
        folders = [*folders[: len(indent) // 2], folder]
        assert ROOT.joinpath(*folders).is_dir(), folder
        rooms.add("/".join(folders))
    package = {str(path.parent.relative_to(ROOT)) for path in ROOT.glob("tokenservice/**/*.py")}
    assert package <= rooms
    modules = {path.name for path in [*ROOT.glob("*.py"), *ROOT.glob("tokenservice/*.py")]}
    assert set(re.findall(r"[\w.]+\.py", drawn)) - {"store.py"} == modules


def shape(text: str) -> dict[str, Any]:
    blocks = FENCED.findall(text)
    return {
        "headings": [len(marks) for marks, _ in HEADING.findall(prose(text))],
        "blocks": [(language, len(block.splitlines())) for language, block in blocks],
        "commands": [block for language, block in blocks if language == "bash"],
        "tables": [[len(row) for row in rows] for rows in tables(text)],
        "bullets": len(re.findall(r"^(?:-|\d\.) ", text, re.MULTILINE)),
        "code": sorted(set(CODE.findall(prose(text)))),
    }


def test_both_languages_have_the_same_shape() -> None:
    """One README that is changed without the other turns this red."""
    assert shape(ENGLISH) == shape(SPANISH)


def anchor(heading: str) -> str:
    """The anchor that a heading gets where the page is shown."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for link in LINK.findall((ROOT / page).read_text(encoding="utf-8")):
        target = urllib.parse.urlsplit(link)
        if target.scheme:
            continue
        path: Path = (ROOT / page).parent / target.path if target.path else ROOT / page
        assert path.is_file(), link
        if target.fragment:
            headings = HEADING.findall(prose(path.read_text(encoding="utf-8")))
            assert target.fragment in {anchor(heading) for _, heading in headings}, link


@needs(shutil.which("curl"), "the tour is made of curl")
def test_tour_has_one_success_one_refusal_and_the_success_again(
    service: Service, tmp_path: Path
) -> None:
    """Guards: the state "consumed" in validate.lua, and recall() in prelude.lua."""
    tour = next(block for language, block in FENCED.findall(ENGLISH) if language == "bash")
    assert tour.count("http://localhost:8000") == 1
    tour = tour.replace("http://localhost:8000", service.url)
    tour = tour.replace("ana@example.com", new_correo())  # a new one, on servers that are shared
    bash = shutil.which("bash")
    assert bash
    done = subprocess.run(
        [bash, "-eu"],
        input=tour,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if line]
    assert lines[1::2] == ["201", "200", "409", "200"]
    _, first, second, again = (json.loads(line) for line in lines[::2])
    assert (first["valid"], first["replayed"]) == (True, False)
    assert second["code"] == "token_already_used"
    assert again == {**first, "replayed": True}
    assert done.stderr == ""
