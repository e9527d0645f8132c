"""The page of the API documentation, in a browser, and the pages of the problems."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from flask import Flask
from flask.testing import FlaskClient
from playwright.sync_api import Browser, Page, expect

from tests.stage import accessibility
from tests.stage.browsing import Visit, chromium, execute, sign_up
from tests.stage.catalogue import PROBLEMS
from tests.stage.problems import problem_in
from tests.stage.service import Service
from tokenservice.ops.advice import ADVICE, FATES, GROUPS, neighbours
from tokenservice.token.schemas import TOKEN_VALID
from tokenservice.web import texts

PROBLEM = "application/problem+json"
#: The texts and the names of a page that people read, and that are no code.
SAID = """() => {
  const said = [], texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const around = texts.currentNode.parentElement;
    if (!around.closest("script, pre, code, textarea")) said.push(texts.currentNode.nodeValue);
  }
  for (const name of ["aria-label", "title", "placeholder"]) {
    document.querySelectorAll(`[${name}]`).forEach((each) => said.push(each.getAttribute(name)));
  }
  return said.map((text) => text.trim());
}"""
#: Words of both pages beside those of the API: of HTTP, of JSON Schema, and names.
OF_BOTH = {"accept", "any", "array", "conflict", "curl", "error", "oas", "oauth", "unauthorized"}
OF_BOTH |= {"bearer", "delete", "get", "null", "object", "post", "false", "true"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.mark.slow
def test_newcomer_consumes_a_token_by_clicking(browser: Browser, service: Service) -> None:
    """Register, authorize, create, consume and be refused, in the page alone.

    Guards: ``PAGE_POLICY`` in web/headers.py, the wheel's assets, and web/openapi.py. The page
    violates no policy and sends no request to another host.
    """
    visit = Visit(browser, service.port, "es-ES")
    page = visit.page
    page.goto("/")
    expect(page).to_have_url(re.compile(r"/docs$"))
    sign_up(page)
    assert page.locator("html").get_attribute("lang") == "es"

    status, response = execute(page, "token-createToken", {"expires_in": 120})
    expect(status).to_have_text("201")
    token = json.loads(response.inner_text())["token"]

    status, response = execute(page, "token-consumeToken", {"token": token})
    expect(status).to_have_text("200")
    expect(response).to_contain_text(TOKEN_VALID["es"])

    page.locator("#operations-token-consumeToken button.execute").click()
    expect(status).to_have_text("409")
    expect(response).to_contain_text('"code": "token_already_used"')
    expect(response).to_contain_text(PROBLEMS["token_already_used"].es.detail)

    assert {urlsplit(url).netloc for url in visit.requested} == {urlsplit(visit.origin).netloc}
    # The browser itself reports each response of 400 and up.
    assert len(visit.complaints) == 1, visit.complaints
    assert "409" in visit.complaints[0]


@pytest.mark.slow
def test_the_calls_work_by_pressing_alone(browser: Browser, service: Service) -> None:
    """Guard: ``examples``, and docs.js, which logs in and fills in the last token."""
    visit = Visit(browser, service.port, "en-US")
    page = visit.page
    page.goto("/docs")
    expect(page.get_by_role("heading", name="Token Service API")).to_be_visible()
    for operation, statuses in (
        ("auth-register", ("201", "409")),  # Another test may have pressed it.
        ("auth-login", ("200",)),
        ("token-createToken", ("201",)),
        ("token-consumeToken", ("200",)),
    ):
        block = page.locator(f"#operations-{operation}")
        block.locator(".opblock-summary-control").click()
        block.get_by_role("button", name="Try it out").click()
        block.get_by_role("button", name="Execute").click()
        live = block.locator(".live-responses-table tbody tr").first
        expect(live.locator(".response-col_status")).to_have_text(re.compile("|".join(statuses)))
    assert all("409" in complaint for complaint in visit.complaints)


def parts(page: Page) -> Iterator[str]:
    """The parts of the page of the documentation that a reader sees, one after the other."""
    page.goto("/docs")
    page.locator(".auth-wrapper > .authorize").click()
    bearer = page.locator(".auth-container").first
    expect(bearer).to_be_visible()
    yield ".modal-ux"
    bearer.locator("input").fill("osk_x")
    bearer.locator("button.authorize").click()
    expect(bearer.locator("input")).to_have_count(0)
    yield ".modal-ux"
    bearer.locator("button.btn-done").click()
    for operation in ("start-consumeToken", "token-listTokens"):
        block = page.locator(f"#operations-{operation}")
        block.locator(".opblock-summary-control").click()
        block.locator("button.try-out__btn").click()
        if operation == "token-listTokens":
            block.get_by_placeholder("limit").fill("x")
        block.locator("button.execute").click()
        expect(block.locator(".live-responses-table, .validation-errors").first).to_be_visible()
    block.locator("[data-name=model]:visible").first.click()
    block.locator(".json-schema-2020-12-expand-deep-button:visible").first.click()
    yield "html"


@dataclass
class Reading:
    """What a reader meets on the page, and on those of the problems."""

    said: set[str] = field(default_factory=set)
    findings: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def readings(
    browser: Browser, service: Service, tmp_path_factory: pytest.TempPathFactory
) -> dict[texts.Language, Reading]:
    """Both languages read once, for two tests: the page is slow to open."""
    script = accessibility.axe(tmp_path_factory.mktemp("axe"))
    read: dict[texts.Language, Reading] = {language: Reading() for language in texts.LANGUAGES}
    for language, reading in read.items():
        page = Visit(browser, service.port, language).page
        for part in parts(page):
            reading.said |= set(page.evaluate(SAID))
            reading.findings += accessibility.serious(page, script, part)
        for path in ("/problems", "/problems/token_already_used"):
            page.goto(path)
            reading.findings += accessibility.serious(page, script)
    return read


def words(text: str) -> set[str]:
    return set(re.findall(r"[^\W\d_]{2,}", text.lower()))


def strings(value: Any) -> Iterator[str]:
    """Every string inside, at any depth, and the names of paths, properties and flows."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from inner if name in ("paths", "properties", "flows") else ()
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)
    elif isinstance(value, str):
        yield value


@pytest.mark.slow
def test_the_spanish_page_has_no_english_word(
    browser: Browser, service: Service, readings: dict[texts.Language, Reading]
) -> None:
    """Guards: ``WORDS`` in spanish.js, and its observer.

    Whatever both pages say, they say for the API, and not for people: so a word of a later Swagger
    UI is noticed that nobody has translated yet.
    """
    page = Visit(browser, service.port, "es").page
    page.goto("/docs")
    listed = page.evaluate("Object.keys(WORDS)")
    english, spanish = readings["en"].said, readings["es"].said
    assert len(english.intersection(listed)) > 50
    assert spanish.intersection(listed) == set()
    document = httpx.get(f"{service.url}/openapi.json?lang=es", timeout=30).json()
    known = words(" ".join(strings(document))) | OF_BOTH
    assert {text for text in english & spanish if not words(text) <= known} == set()


@pytest.mark.slow
def test_axe_finds_nothing_serious(readings: dict[texts.Language, Reading]) -> None:
    """Guards: docs.css, and the names in docs.js."""
    assert {language: reading.findings for language, reading in readings.items()} == {
        "es": [],
        "en": [],
    }


@pytest.mark.slow
def test_the_dialog_of_credentials_works_by_keyboard(browser: Browser, service: Service) -> None:
    """Guards: ``followDialog`` in docs.js, and the outline in docs.css."""
    page = Visit(browser, service.port, "es").page
    page.goto("/docs")
    focused, dialog = page.locator(":focus"), page.get_by_role("dialog")

    def tab_to(selector: str) -> None:
        for _ in range(10):
            page.keyboard.press("Tab")
            outline = focused.evaluate("each => getComputedStyle(each).outline")
            assert outline.endswith("solid 3px")
            if focused.evaluate("(each, selector) => each.matches(selector)", selector):
                return
        raise AssertionError(f"no way to {selector}")

    opener = page.locator(".auth-wrapper > .authorize")
    expect(opener).to_be_visible()
    tab_to(".auth-wrapper > .authorize")
    page.keyboard.press("Enter")
    expect(dialog).to_have_accessible_name("Autorizaciones disponibles")
    page.keyboard.type("osk_x")
    tab_to("button.authorize")
    page.keyboard.press("Enter")
    expect(dialog.get_by_role("button", name="Quitar")).to_be_visible()
    tab_to("button.btn-done")
    page.keyboard.press("Enter")
    expect(dialog).to_have_count(0)
    expect(opener).to_be_focused()
    page.keyboard.press("Enter")
    expect(dialog).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(opener).to_be_focused()


def test_a_link_leads_to_the_page_in_the_other_language(browser: Browser, service: Service) -> None:
    """And calls of that page are answered in its language, whatever the browser prefers."""
    visit = Visit(browser, service.port, "es-ES")
    page = visit.page
    page.goto("/docs")
    expect(page.get_by_text("Abrir una cuenta").first).to_be_visible()
    page.get_by_role("link", name="English").click()
    status, response = execute(page, "token-consumeToken", {"token": "x"})
    expect(status).to_have_text("401")
    expect(response).to_contain_text(PROBLEMS["not_authenticated"].en.title)
    page.get_by_role("link", name="Español").click()
    expect(page.get_by_text("Abrir una cuenta").first).to_be_visible()


@pytest.mark.parametrize("language", texts.LANGUAGES)
def test_the_page_and_its_dialog_fit_on_the_screen(
    browser: Browser, service: Service, language: texts.Language
) -> None:
    """Guards: ``.responses-inner`` in docs.css; and the order of ``SECURITY_SCHEMES``, and so of
    the boxes: the smallest comes first.
    """
    page, widths = Visit(browser, service.port, language).page, (390, 1280)
    page.goto("/docs#/start/consumeToken")
    expect(page.locator("#operations-start-consumeToken .responses-table")).to_be_visible()
    for width in widths:
        page.set_viewport_size({"width": width, "height": 600})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.locator(".auth-wrapper > .authorize").click()
    dialog = page.locator(".modal-ux")
    first = dialog.locator(".auth-container").first
    expect(first.get_by_role("heading", name="bearer")).to_be_visible()
    for width in widths:
        page.set_viewport_size({"width": width, "height": 600})
        for element in (dialog, first.locator("input"), first.locator("button.authorize")):
            box = element.bounding_box()
            assert box is not None
            assert box["x"] >= 0
            assert box["y"] >= 0
            assert box["x"] + box["width"] <= width
            assert box["y"] + box["height"] <= 600


@pytest.mark.parametrize("language", ["es", "en"])
def test_problem_page_is_in_the_readers_language(
    browser: Browser, service: Service, language: texts.Language
) -> None:
    """Guards: ``PAGE_POLICY``, which allows the page its style, and ``texts.language``."""
    visit = Visit(browser, service.port, f"{language}-US")
    response = visit.page.goto("/problems/token_already_used")
    assert response is not None
    assert response.header_value("content-language") == language
    text = PROBLEMS["token_already_used"].text(language)
    expect(visit.page).to_have_title(text.title)
    expect(visit.page.get_by_role("heading", name=text.title, exact=True)).to_be_visible()
    expect(visit.page.get_by_text(text.detail, exact=True)).to_be_visible()
    assert visit.page.locator("html").get_attribute("lang") == language
    assert not visit.complaints


@pytest.mark.parametrize(("language", "files"), [("en", 5), ("es", 6)])
def test_docs_need_no_network(client: FlaskClient, language: str, files: int) -> None:
    """Every file that the page names is served by the service; no page names another host."""
    page = client.get(f"/docs?lang={language}").text
    named = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(named) == files + 1  # And the page in the other language.
    for path in named:
        assert path.startswith("/"), path
        assert not path.startswith("//"), path
        with client.get(path) as asset:
            assert asset.status_code == 200
    assert client.get("/docs/assets/../../flask_swagger_ui.py").status_code == 404


@pytest.mark.parametrize("path", ["/", "/docs", "/docs/assets/swagger-ui.css"])
def test_docs_can_be_turned_off(make_app: Callable[..., Flask], path: str) -> None:
    """Guard: the check of ``docs_enabled`` in each view of ops/pages.py."""
    response = make_app(docs_enabled=False).test_client().get(path)
    assert response.status_code == 404
    assert response.mimetype == PROBLEM
    assert response.get_json()["code"] == "not_found"


def test_the_root_redirects_to_the_docs(client: FlaskClient) -> None:
    response = client.get("/")
    assert response.status_code == 302
    assert response.headers["Location"] == "/docs"


def test_disabled_docs_have_no_page(make_app: Callable[..., Flask]) -> None:
    client = make_app(docs_enabled=False).test_client()
    for path in ("/", "/docs", "/docs/assets/swagger-ui.css"):
        response = client.get(path)
        assert response.status_code == 404
        assert response.get_json()["code"] == "not_found"


@pytest.mark.parametrize("language", texts.LANGUAGES)
@pytest.mark.parametrize("code", PROBLEMS)
def test_every_problem_has_a_page_in_every_language(
    code: str, language: texts.Language, client: FlaskClient
) -> None:
    response = client.get(f"/problems/{code}", headers={"Accept-Language": language})
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert response.headers["Content-Language"] == language
    assert "Accept-Language" in response.headers["Vary"]
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    page = html.unescape(response.text)
    assert f'lang="{language}"' in page
    for part in (code, str(PROBLEMS[code].status)):
        assert part in page
    for part in PROBLEMS[code].text(language):
        assert part in page
    assert ADVICE[code].text(language) in page
    assert FATES[ADVICE[code].fate][language] in page
    links = re.findall(r'href="/problems/(\w+)"', page)
    assert links == [*neighbours(code)]
    assert links
    assert len(links) < 12


def test_every_problem_has_advice() -> None:
    assert ADVICE.keys() == PROBLEMS.keys()
    assert {code for group in GROUPS for code in group} == PROBLEMS.keys()


def test_the_index_leads_to_each_problem(client: FlaskClient) -> None:
    for language in texts.LANGUAGES:
        page = client.get("/problems", headers={"Accept-Language": language})
        assert page.headers["Content-Language"] == language
        assert set(re.findall(r'href="/problems/(\w+)"', page.text)) == PROBLEMS.keys()
        for message in PROBLEMS.values():
            assert html.escape(message.text(language).title) in page.text


def test_an_unknown_problem_is_a_page_for_a_browser_and_a_problem_for_a_program(
    client: FlaskClient,
) -> None:
    accepted = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
    page = client.get("/problems/token_gone", headers={"Accept": accepted})
    assert (page.status_code, page.mimetype) == (404, "text/html")
    assert "token_gone" in page.text
    assert set(re.findall(r'href="/problems/(\w+)"', page.text)) == PROBLEMS.keys()
    for accepted in ("*/*", "application/json", "application/problem+json", ""):
        problem_in(client.get("/problems/token_gone", headers={"Accept": accepted}), 404)


@pytest.mark.parametrize(
    ("asked", "given"),
    [(None, "es"), ("", "es"), ("fr", "es"), ("en-GB", "en"), ("es-MX", "es"), ("*", "es")],
)
def test_spanish_is_the_default_language(
    asked: str | None, given: str, client: FlaskClient
) -> None:
    headers: dict[str, Any] = {} if asked is None else {"Accept-Language": asked}
    assert client.get("/problems/busy", headers=headers).headers["Content-Language"] == given


@pytest.mark.parametrize("code", ["nothing", "<script>alert(1)</script>", "..%2fdocs", "%00"])
def test_an_unknown_problem_has_no_page(code: str, client: FlaskClient) -> None:
    response = client.get(f"/problems/{code}")
    assert response.status_code == 404
    assert response.headers["Content-Type"] == "application/problem+json"
    assert "<script" not in response.text
