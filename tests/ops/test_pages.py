"""The pages that show the API and explain its problems, as a newcomer meets them."""

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
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, expect, sync_playwright

from tests.stage.catalogue import PROBLEMS
from tests.stage.people import PASSWORD, new_correo
from tests.stage.programs import program
from tests.stage.service import Service
from tokenservice.token.schemas import TOKEN_VALID
from tokenservice.web import texts

PROBLEM = "application/problem+json"
# A name, because Swagger UI holds back some requests where the address is loopback.
HOST = "docs.test"
WAIT_MS = 20_000  # Only a broken page takes it all; a busy machine takes some.
FLAGS = [
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # There is no network but the service: whatever else is asked for cannot be found.
    f"--host-resolver-rules=MAP {HOST} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
# A violation of the policy is an event of the page; this makes a console error of each.
REPORT_VIOLATIONS = """
document.addEventListener("securitypolicyviolation",
  (event) => console.error("policy:", event.violatedDirective, event.blockedURI));
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = program("chromium")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield running
        running.close()


class Visit:
    """One page of a fresh browser profile, what it asked for and what it complained of."""

    def __init__(self, browser: Browser, service: Service, language: str) -> None:
        self.origin = f"http://{HOST}:{service.port}"
        self.requested: list[str] = []
        self.complaints: list[str] = []
        context = browser.new_context(
            base_url=self.origin, locale=language, viewport={"width": 1200, "height": 900}
        )
        context.add_init_script(REPORT_VIOLATIONS)
        context.set_default_timeout(WAIT_MS)
        expect.set_options(timeout=WAIT_MS)
        context.on("request", lambda request: self.requested.append(request.url))
        context.on("weberror", lambda error: self.complaints.append(str(error.error)))
        context.on("console", self._on_console)
        self.page: Page = context.new_page()

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)


def execute(page: Page, operation: str, body: dict[str, Any]) -> tuple[Locator, Locator]:
    """Try an operation out; give where its status and its body are shown.

    Swagger UI writes "Undocumented" beside a status that the description does not hold.
    """
    block = page.locator(f"#operations-{operation}")
    block.locator(".opblock-summary-control").click()
    block.get_by_role("button", name="Try it out").click()
    block.locator("textarea.body-param__text").fill(json.dumps(body))
    block.get_by_role("button", name="Execute").click()
    live = block.locator(".live-responses-table tbody tr").first
    return live.locator(".response-col_status"), live.locator(".highlight-code code")


def test_newcomer_uses_a_token_up_by_clicking(browser: Browser, service: Service) -> None:
    """Register, authorize, create, validate and be refused, in the page alone.

    Green by PAGE_POLICY (ops.py), the wheel's assets and what openapi.py describes: the page
    breaks nothing of its policy and asks nobody but the service.
    """
    visit = Visit(browser, service, "es-ES")
    page = visit.page
    page.goto("/")
    expect(page).to_have_url(re.compile(r"/docs$"))
    expect(page.get_by_role("heading", name="Token Service API")).to_be_visible()

    correo = new_correo()
    account = {"nombre": "Ana", "correo": correo, "password": PASSWORD}
    status, _ = execute(page, "auth-register", account)
    expect(status).to_have_text("201")

    page.locator(".auth-wrapper > .authorize").click()
    dialog = page.locator(".modal-ux")
    dialog.get_by_label("username").fill(correo)
    dialog.get_by_label("password").fill(PASSWORD)
    dialog.locator("button.authorize").click()
    expect(dialog.get_by_role("heading", name="Authorized")).to_be_visible()
    dialog.locator("button.btn-done").click()

    status, answer = execute(page, "token-createToken", {"expires_in": 120})
    expect(status).to_have_text("201")
    token = json.loads(answer.inner_text())["token"]

    status, answer = execute(page, "token-validateToken", {"token": token})
    expect(status).to_have_text("200")
    expect(answer).to_contain_text(TOKEN_VALID["es"])

    page.locator("#operations-token-validateToken button.execute").click()
    expect(status).to_have_text("409")
    expect(answer).to_contain_text('"code": "token_already_used"')
    expect(answer).to_contain_text(PROBLEMS["token_already_used"].es.detail)

    assert {urlsplit(url).netloc for url in visit.requested} == {urlsplit(visit.origin).netloc}
    # The browser itself notes each answer of 400 and up.
    assert len(visit.complaints) == 1, visit.complaints
    assert "409" in visit.complaints[0]


@pytest.mark.parametrize("language", ["es", "en"])
def test_problem_page_speaks_the_readers_language(
    browser: Browser, service: Service, language: texts.Language
) -> None:
    """Green by PAGE_POLICY, which allows the page its style, and by texts.language()."""
    visit = Visit(browser, service, f"{language}-US")
    answer = visit.page.goto("/problems/token_already_used")
    assert answer is not None
    assert answer.header_value("content-language") == language
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
    """Green by the look at ``docs_enabled`` in each view of ops.py."""
    answer = make_app(docs_enabled=False).test_client().get(path)
    assert answer.status_code == 404
    assert answer.mimetype == PROBLEM
    assert answer.get_json()["code"] == "not_found"


def test_the_front_door_leads_to_the_docs(client: FlaskClient) -> None:
    answer = client.get("/")
    assert answer.status_code == 302
    assert answer.headers["Location"] == "/docs"


def test_without_docs_there_is_no_page(make_app: Callable[..., Flask]) -> None:
    client = make_app(docs_enabled=False).test_client()
    for path in ("/", "/docs", "/docs/assets/swagger-ui.css"):
        answer = client.get(path)
        assert answer.status_code == 404
        assert answer.get_json()["code"] == "not_found"


@pytest.mark.parametrize("language", texts.LANGUAGES)
@pytest.mark.parametrize("code", PROBLEMS)
def test_every_problem_has_a_page_in_every_language(
    code: str, language: texts.Language, client: FlaskClient
) -> None:
    answer = client.get(f"/problems/{code}", headers={"Accept-Language": language})
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.headers["Content-Language"] == language
    assert "Accept-Language" in answer.headers["Vary"]
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    page = html.unescape(answer.text)
    assert f'lang="{language}"' in page
    for part in (code, str(PROBLEMS[code].status)):
        assert part in page
    for part in PROBLEMS[code].text(language):
        assert part in page


@pytest.mark.parametrize(
    ("asked", "given"),
    [(None, "es"), ("", "es"), ("fr", "es"), ("en-GB", "en"), ("es-MX", "es"), ("*", "es")],
)
def test_spanish_is_the_language_of_those_who_ask_for_none(
    asked: str | None, given: str, client: FlaskClient
) -> None:
    headers: dict[str, Any] = {} if asked is None else {"Accept-Language": asked}
    assert client.get("/problems/busy", headers=headers).headers["Content-Language"] == given


@pytest.mark.parametrize("code", ["nothing", "<script>alert(1)</script>", "..%2fdocs", "%00"])
def test_a_problem_that_is_none_has_no_page(code: str, client: FlaskClient) -> None:
    answer = client.get(f"/problems/{code}")
    assert answer.status_code == 404
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert "<script" not in answer.text
