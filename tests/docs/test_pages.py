"""All pages: links, translations, make targets, the length of the README, and the promise."""

from __future__ import annotations

import configparser
import json
import re
import urllib.parse
from pathlib import Path

import pytest
from flask import Flask

from tests.docs.pages import (
    ENGLISH_ONLY,
    HEADING,
    LINK,
    ROOT,
    TWINS,
    anchor,
    either_language,
    prose,
    read,
    shape,
)

PAGES = sorted(
    str(path.relative_to(ROOT))
    for pages in ("*.md", "docs/**/*.md", "deploy/*.md", "benchmarks/*.md", "clients/*/*.md")
    for path in ROOT.glob(pages)
)
#: The same page in both languages; SECURITY.md, whose last table is English only, is compared in
#: test_security.py.
SAME_SHAPE = sorted(TWINS.keys() - {"SECURITY.md"})
#: The pages that state the promise, beside the README.
PROMISED = {
    "README.md": ["SECURITY.md", "docs/engine.md"],
    "docs/es/README.md": ["docs/es/SECURITY.md"],
}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for link in LINK.findall(read(page)):
        target = urllib.parse.urlsplit(link)
        if target.scheme:
            continue
        path: Path = (ROOT / page).parent / target.path if target.path else ROOT / page
        assert path.is_file(), link
        if target.fragment:
            headings = HEADING.findall(prose(path.read_text(encoding="utf-8")))
            assert target.fragment in {anchor(heading) for _, heading in headings}, link


def test_every_page_has_a_twin() -> None:
    """A page that is added in one language alone turns this red."""
    spanish = {page for page in PAGES if page.startswith("docs/es/")}
    english = {page for page in PAGES if page.startswith("docs/")} - spanish
    assert english - ENGLISH_ONLY == TWINS.keys() - {"README.md", "SECURITY.md"}
    assert spanish == set(TWINS.values())


@pytest.mark.parametrize("page", SAME_SHAPE)
def test_both_languages_have_the_same_shape(page: str) -> None:
    """One page that is changed without the other turns this red."""
    assert shape(read(page)) == shape(read(TWINS[page]))


@pytest.mark.parametrize("page", TWINS)
def test_each_page_leads_to_its_twin(page: str) -> None:
    for one, other in ((page, TWINS[page]), (TWINS[page], page)):
        linked = [(ROOT / one).parent / link for link in LINK.findall(read(one))]
        assert (ROOT / other).resolve() in {path.resolve() for path in linked}, one


@pytest.mark.parametrize("page", PAGES)
def test_make_targets_exist(page: str) -> None:
    targets = set(re.findall(r"^([.a-z]+):", read("Makefile"), re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make ([.a-z]+)", read(page), re.MULTILINE)) <= targets


@either_language("README.md")
def test_readme_opens_with_a_small_still_of_the_demo(page: str) -> None:
    [still] = re.findall(r"^!\[.+\]\((.*demo\.png)\)$", read(page), re.MULTILINE)
    assert read(page).split("\n\n")[3].endswith(f"({still})")
    assert ((ROOT / page).parent / still).stat().st_size <= 150 * 1024


@either_language("README.md")
def test_readme_has_at_most_120_lines(page: str) -> None:
    assert len(read(page).splitlines()) <= 120


def promise(page: str) -> list[str]:
    """The first three numbered sentences of a page."""
    return re.findall(r"^[123]\. .+$", read(page), re.MULTILINE)[:3]


@pytest.mark.parametrize("readme", PROMISED)
def test_promise_is_quoted_word_for_word(readme: str) -> None:
    """A sentence of the promise that is changed in one place alone turns this red."""
    stated = promise(readme)
    assert [sentence[:3] for sentence in stated] == ["1. ", "2. ", "3. "]
    for page in PROMISED[readme]:
        assert promise(page) == stated, page


def test_short_forms_of_the_promise_agree(app: Flask) -> None:
    """The package and the OpenAPI document have no room for three sentences."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    document = json.loads(app.test_client().get("/openapi.json").text)
    for short in (
        read("README.md").split("\n\n")[2],
        setup["metadata"]["description"],
        document["info"]["description"],
    ):
        assert re.search(r"\bhonour(s|ed)\b.*\bat most once\b", short), short


@pytest.mark.parametrize("readme", PROMISED)
def test_engine_page_is_linked_beside_each_promise(readme: str) -> None:
    """The explanation of the promise is one click away from each page that makes it."""
    [section] = [
        part
        for part in read(readme).split("\n## ")
        if part.splitlines()[0] in ("The promise", "La promesa")
    ]
    folder = "docs/es/" if readme.startswith("docs/es/") else "docs/"
    others = [page for page in PROMISED[readme] if page != "docs/engine.md"]
    for text in (section, read(folder + "api.md"), *map(read, others)):
        assert any(link.partition("#")[0].endswith("engine.md") for link in LINK.findall(text))
