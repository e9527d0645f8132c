"""The page of the API documentation, in a browser, and the pages of the problems."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient
from playwright.sync_api import Browser, expect

from tests.stage.browsing import Visit, chromium, execute, sign_up
from tests.stage.catalogue import PROBLEMS
from tests.stage.problems import problem_in
from tests.stage.service import Service
from tokenservice.ops.advice import ADVICE, FATES, GROUPS, neighbours
from tokenservice.token.schemas import TOKEN_VALID
from tokenservice.web import texts

PROBLEM = "application/problem+json"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


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


@pytest.mark.parametrize("width", [390, 1280])
def test_the_dialog_of_credentials_is_whole_on_the_screen(
    browser: Browser, service: Service, width: int
) -> None:
    """Guard: the order of ``SECURITY_SCHEMES``, and so of the boxes: the smallest comes first."""
    page = Visit(browser, service.port, "es-ES").page
    page.set_viewport_size({"width": width, "height": 600})
    page.goto("/docs")
    page.locator(".auth-wrapper > .authorize").click()
    dialog = page.locator(".modal-ux")
    first = dialog.locator(".auth-container").first
    expect(first.get_by_role("heading", name="bearer")).to_be_visible()
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


def test_docs_need_no_network(client: FlaskClient) -> None:
    """Every file that the page names is served by the service; no page names another host."""
    page = client.get("/docs").text
    named = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(named) == 4
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
