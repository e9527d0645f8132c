"""No page, program or recipe creates a token for anything, or consumes one of anybody."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from dev.__main__ import WELCOME
from tests.docs.pages import FENCED, ROOT, read

CALL = re.compile(r"(?:/token/|\bpost )(create|batch|consume|validate|reserve|gate\?)")
SHELL = re.compile(r"^terms='(.+)'$", re.MULTILINE)
PAGES = [
    *(str(page.relative_to(ROOT)) for page in sorted(ROOT.glob("docs/**/*.md"))),
    *("README.md", "clients/python/README.md", "clients/python/README.es.md"),
    *("clients/typescript/README.md", "clients/typescript/README.es.md"),
]
RECIPES = [str(file.relative_to(ROOT)) for file in sorted((ROOT / "deploy/gateways").iterdir())]


def calls(text: str) -> Iterator[tuple[str, str]]:
    """Each call of a text, with all that stands between it and the next one."""
    for terms in SHELL.findall(text):
        text = text.replace("$terms", terms)
    parts = CALL.split(text)[1:]
    yield from zip(parts[::2], parts[1::2], strict=True)


def nameless(text: str) -> list[str]:
    """The calls of a text that leave out the purpose, or the issuer."""
    return [
        f"{verb}{rest[:80]}"
        for verb, rest in calls(text)
        if "purpose" not in rest or (verb not in ("create", "batch") and "issued_by" not in rest)
    ]


@pytest.mark.parametrize("page", PAGES)
def test_no_page_leaves_out_the_purpose_or_the_issuer(page: str) -> None:
    for _, block in FENCED.findall(read(page)):
        assert not nameless(block)


@pytest.mark.parametrize("recipe", RECIPES)
def test_no_recipe_leaves_out_the_purpose_or_the_issuer(recipe: str) -> None:
    assert not [call for call in nameless(read(recipe)) if call.startswith("gate?")]


def test_the_greeting_leaves_out_neither() -> None:
    assert len(list(calls(WELCOME))) == 2
    assert not nameless(WELCOME)


def test_a_call_that_leaves_them_out_is_found() -> None:
    """The twin."""
    assert nameless('POST /token/create {"expires_in": 60}')
    assert nameless('POST /token/create {"purpose": "a"} POST /token/consume {"purpose": "a"}')
    assert nameless("http://gate/token/gate?purpose=a")
