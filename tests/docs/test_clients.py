"""docs/clients.md: its code works, and its tables name what the Python client has."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import token_service_client
from tests.clients.worlds import PATIENT, keyed
from tests.docs.pages import CODE, ROOT, blocks, either_language, read, tables
from tests.stage.service import Service
from token_service_client import AsyncTokens, Tokens, TokensError

PAGE = "docs/clients.md"
READMES = ["clients/python/README.md", "clients/python/README.es.md"]
SOURCE = ROOT / "clients/python/src"


def example(page: str, mark: str) -> str:
    [block] = [block for block in blocks(read(page), "python") if mark in block]
    return block


@either_language(PAGE)
def test_a_websocket_is_guarded_in_ten_lines(page: str) -> None:
    """All but the lines that an application without a guard has too; the tests serve them."""
    has_already = (
        "import os",
        "from typing",
        "from fastapi",
        "app = FastAPI",
        "@app.",
        "async def",
    )
    lines = example(page, "FastAPI()").splitlines()
    added = [line for line in lines if line and not line.startswith(has_already)]
    assert len(added) <= 10
    served = example(PAGE, "FastAPI()")
    assert [line.partition("#")[0] for line in lines] == [
        line.partition("#")[0] for line in served.splitlines()
    ]


@pytest.mark.parametrize(
    ("page", "readme"), [(PAGE, "README.md"), ("docs/es/clients.md", "README.es.md")]
)
def test_the_lines_for_express_are_those_of_the_package(page: str, readme: str) -> None:
    """Which run, in ``tests/clients/test_typescript.py``."""
    [block] = [block for block in blocks(read(page), "js") if "oneTimeSocket" in block]
    assert block in blocks(read(f"clients/typescript/{readme}"), "js")


@either_language(PAGE)
def test_the_example_of_the_fake_passes(page: str) -> None:
    found: dict[str, object] = {}
    exec(example(page, "FakeTokens("), found)  # noqa: S102 - the page's own
    test = found["test_a_late_ticket_opens_nothing"]
    assert callable(test)
    test()


@either_language(PAGE)
def test_the_calls_are_those_of_both_clients(page: str) -> None:
    [rows] = [rows for rows in tables(read(page)) if "`peek" in str(rows)]
    calls = {call.partition("(")[0] for row in rows[1:] for call in CODE.findall(row[0])}
    outside = {"bind_of", "websocket_ticket", "email_link"}
    assert outside <= calls
    for name in outside:
        assert hasattr(token_service_client, name)
    for client in (Tokens, AsyncTokens):
        public = {name for name in vars(client) if not name.startswith("_")}
        assert public - {"login", "close", "aclose"} == calls - outside


@either_language(PAGE)
def test_the_errors_are_all_there(page: str) -> None:
    [rows] = [rows for rows in tables(read(page)) if "`Unavailable`" in str(rows)]
    named = {name for row in rows[1:] for name in CODE.findall(row[0])}
    errors = {
        name
        for name, kind in vars(token_service_client).items()
        if inspect.isclass(kind) and issubclass(kind, TokensError)
    }
    assert named == errors - {"TokensError", "Refused"}


@either_language(PAGE)
def test_the_defaults_are_those_of_the_client(page: str) -> None:
    stated = dict(re.findall(r"`(retries|deadline|timeout)` \((\d+)", read(page)))
    for client in (Tokens, AsyncTokens):
        parameters = inspect.signature(client).parameters
        assert {name: int(parameters[name].default) for name in stated} == {
            name: int(value) for name, value in stated.items()
        }
    assert stated.keys() == {"retries", "deadline", "timeout"}


@pytest.mark.slow
def test_the_code_is_well_typed(tmp_path: Path) -> None:
    """Under mypy --strict: what a reader pastes raises no question."""
    for number, block in enumerate(blocks(read(PAGE), "python")):
        if "import" in block:
            (tmp_path / f"block{number}.py").write_text(block)
    given = "key = account = token = ''\ndef send(file: object) -> None: ...\n"
    readme = "\n".join(blocks(read(READMES[0]), "python"))
    (tmp_path / "readme.py").write_text(given + readme)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-incremental", "."],
        cwd=tmp_path,
        env={"MYPYPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert len(list(tmp_path.glob("*.py"))) == 5


@pytest.mark.parametrize("page", READMES)
def test_the_code_of_a_readme_runs(
    page: str, service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    [(person, key)] = keyed(service, 1)
    with Tokens(service.url, key, **PATIENT) as tokens:
        token = tokens.create(purpose="file.download", data={"file": "report.pdf"}).token
        sent: list[object] = []
        given = {"key": key, "account": person.id, "token": token, "tokens": tokens}
        first, second = blocks(read(page), "python")
        exec(first.replace("http://localhost:8000", service.url), {**given})  # noqa: S102
        exec(second, {**given, "send": sent.append})  # noqa: S102
    assert sent == [{"file": "report.pdf"}]
    assert "{'room': 7}" in capsys.readouterr().out


def test_both_readmes_have_the_same_code() -> None:
    one, two = ("\n".join(blocks(read(page), "python")) for page in READMES)
    cut = re.compile(r"#.*|\"used at\"|\"se usó en\"")
    assert cut.sub("", one) == cut.sub("", two)
